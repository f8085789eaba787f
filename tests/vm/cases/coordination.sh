# Four instances in worktrees of one repository, twenty tasks on the same files, and everything is killed: each task ends once, no
# lock has two holders, what was written is on a ref that its task names, no worktree is left dirty and unnamed.
# lanes: vm
# vm-releases: bookworm
# timeout: 1200

# tests/it/coordination.rs does the same with eight and a hundred under the process supervisor. Here systemd restarts what was killed.
origin=$STATE/origin.git papers=$STATE/papers store=$STATE/worktrees/.repositories/shop.git
as_agent() { runuser -u claude-code -- env -i PATH="$PATH" HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null "$@"; }
git_in() { local d=$1; shift; as_agent git -C "$d" -c user.name=Ada -c user.email=ada@example.org "$@"; }
install -d -o claude-code -g claude-code "$papers" "$STATE/seed" "$origin"
git_in "$origin" init --quiet --bare --initial-branch=main
git_in "$STATE/seed" init --quiet --initial-branch=main
as_agent bash -c 'for f; do echo base >$f; done' - "$STATE"/seed/f{0,1,2,3}
git_in "$STATE/seed" add --all
git_in "$STATE/seed" commit --quiet --message base
git_in "$STATE/seed" push --quiet "$origin" main
names=(a b c d)
{
  cat <<TOML
[repositories.shop]
url = "file://$origin"
push = "origin"
lock-policy = "refuse"
[repositories.shop.verify]
command = ["/bin/sh", "-c", "cat /sys/fs/cgroup\$(sed -n s/^0:://p /proc/self/cgroup)/memory.max >>$papers/bounds"]
memory = "64M"
[profiles.sh]
agent = "command"
command = ["/bin/bash", "-s"]
kill-grace = "1s"
TOML
  for n in "${names[@]}"; do printf '[instances.%s]\nprofile = "sh"\nrepository = "shop"\n' "$n"; done
} >/etc/clauded/clauded.toml.d/91-case.toml
systemctl daemon-reload
systemctl reload clauded.service
for n in "${names[@]}"; do systemctl start "claude-code@$n"; done

# A task locks its files, all or none, and holds a lock of the kernel's own for each beside clauded's, and one for itself: one that
# finds such a lock taken has been given what another holds, or runs twice. A question is asked again while clauded is away (5), when
# its time is over (6), when claudectl is killed (137).
cat >"$papers/work" <<WORK
papers=$papers
WORK
cat >>"$papers/work" <<'WORK'
t=$CLAUDED_TASK a=$CLAUDED_ATTEMPT
witness() { until flock -n -E 99 $1; do [ $? != 99 ] || { echo "$2: $t, attempt $a" >>$papers/violations; exit 1; }; done; }
ask() { while :; do claudectl lock "$@" >/dev/null 2>>$papers/asked; s=$?; case $s in 5|6|137) sleep 0.2;; *) return $s;; esac; done; }
append() { echo "task $t attempt $a $1" >>$1 && echo "$t task $t attempt $a $1" >>$papers/writes; }
exec 3>>$papers/task-$t.lock; witness 3 task-$t
until n=4; for f in "$@"; do ask acquire --wait=20s --reason "task $t" $f && eval "exec $n>>$papers/$f.lock" && witness $n $f && n=$((n+1)) || break; done
  [ $n = $((4 + $#)) ]; do exec 4>&- 5>&-; ask release --all; sleep 0.$((RANDOM % 9 + 1)); done
for f in "$@"; do append $f; sleep 1; done
ask acquire new-$t; append new-$t
[ $((t % 2)) = 0 ] || { git add --all && git -c user.name=agent -c user.email=agent@example.org commit --quiet --message "task $t"; } || exit 1
sleep 1
WORK
chmod -R a+rX "$papers"

kill_agent() { local pid; pid=$(agent_pids "${groups[@]}" | shuf -n 1); [ -n "$pid" ] && kill -9 "$pid" 2>/dev/null; }
# One that has an agent, so that an attempt is hit.
kill_runner() {
  local n pid
  for n in $(shuf -e "${names[@]}"); do
    [ -n "$(agent_pids "$(slice "$n")")" ] || continue
    pid=$(property "claude-code@$n.service" MainPID)
    [ "$pid" = 0 ] || { kill -9 "$pid"; return; }
  done
  return 1
}
groups=()
for n in "${names[@]}"; do groups+=("$(slice "$n")"); done
# Between the blows some work gets done, so that they hit it in the middle.
lines() { wc -l <"$papers/writes" 2>/dev/null || echo 0; }
grown() { [ "$(lines)" -gt $((seen + 2)) ]; }
tasks=()
for victim in agent clauded runner agent runner clauded agent runner agent runner; do
  for _ in 1 2; do
    mapfile -t files < <(shuf -n 2 -e f0 f1 f2 f3)
    # Every third comes after the one before it, however that ends.
    order=(); [ $((${#tasks[@]} % 3)) != 2 ] || order=(--after "${tasks[-1]}" --after-failed release)
    tasks+=("$(claudectl task add --repository shop "${order[@]}" -- "set -- ${files[*]}; . $papers/work")")
  done
  seen=$(lines)
  wait_until 240 'something is written' grown
  case $victim in
    agent) wait_until 120 'an agent, a shell, a git or a claudectl is killed' kill_agent ;;
    runner) wait_until 120 'a runner is killed, and its agent with it' kill_runner ;;
    clauded) kill -9 "$(property clauded.service MainPID)" ;;
  esac
done
claudectl task wait "${tasks[@]}" --timeout 8min >/dev/null || [ $? = 1 ] || die "they do not end: $(claudectl task list --all)"

refute 'no lock had two holders, no task ran twice' test -e "$papers/violations"
claudectl task list --all -o json >"$TB_OUT/tasks.json"
claudectl audit -n 10000 -o json >"$TB_OUT/audit.json"
same 'ends by the audit, each one once' "$(jq -r '[.[] | select(.what | test("^task-(succeeded|failed|cancelled)$")) | .task] | sort | unique as $u | "\(length) \($u | length)"' "$TB_OUT/audit.json")" "${#tasks[@]} ${#tasks[@]}"
same 'how they ended' "$(jq -r '[.[] | "\(.state) \(.reason // "")" | select(. != "succeeded " and . != "failed lost" and . != "failed agent-error")] | join(",")' "$TB_OUT/tasks.json")" ''
# Eight blows can fail a task, those to clauded none.
succeeded=$(jq '[.[] | select(.state == "succeeded")] | length' "$TB_OUT/tasks.json")
between 'that succeeded' "$succeeded" 12 20
git_in "$store" fsck --connectivity-only --no-dangling
written=0
for id in "${tasks[@]}"; do
  claudectl task show "$id" -o json >"$TB_OUT/task-$id.json"
  mapfile -t refs < <(jq -r '.history[].work | select(.) | (.branch | select(.) | "refs/heads/" + .), (.rescue | select(.))' "$TB_OUT/task-$id.json" | sort -u)
  [ ${#refs[@]} = 0 ] || git_in "$store" log -p -m --format= "${refs[@]}" --not "$(git_in "$origin" rev-parse main)" -- >"$TB_OUT/task-$id.diff"
  while read -r _ line; do
    grep -qxF -- "+$line" "$TB_OUT/task-$id.diff" || die "'$line' is on none of ${refs[*]}, the refs that task $id names"
    written=$((written + 1))
  done < <(grep "^$id " "$papers/writes" || true)
  [ "$(jq -r .state "$TB_OUT/task-$id.json")" = succeeded ] || continue
  branch=$(jq -r '.history[-1].work.branch' "$TB_OUT/task-$id.json")
  [ "$(git_in "$origin" rev-parse "refs/heads/$branch")" = "$(git_in "$store" rev-parse "refs/heads/$branch")" ] || die "$branch of task $id is not pushed"
done
same 'the memory of each check' "$(sort -u "$papers/bounds")" $((64 << 20))
between 'lines that were written and are on refs' "$written" $((3 * succeeded)) 400
# Each killed runner costs an attempt; two may have been at its very end.
between 'attempts that were interrupted or hit' "$(jq '[.[].attempts - 1] | add' "$TB_OUT/tasks.json")" 1 40
rescued=$(git_in "$store" for-each-ref '--format=%(tree)' refs/clauded/rescue)
for n in "${names[@]}"; do
  tree=$STATE/worktrees/$n
  [ -z "$(git_in "$tree" status --porcelain)" ] && continue
  git_in "$tree" add --all
  grep -qxF "$(git_in "$tree" write-tree)" <<<"$rescued" || die "the worktree of $n is dirty, and no rescue ref has it"
done
same 'locks that are left' "$(claudectl lock list -o json | jq '(.locks | length) + (.waiting | length)')" 0
same 'locks of git that are left' "$(find "$store" -name '*.lock' ! -name clauded.lock | wc -l)" 0
check 'the audit is intact' grep -q '^The audit is intact' <(claudectl audit verify)
for n in "${names[@]}"; do systemctl stop "claude-code@$n"; done
same 'processes that are left' "$(agent_pids "${groups[@]}" | wc -l)" 0
same 'clauded was killed' "$(property clauded.service NRestarts)" 2
