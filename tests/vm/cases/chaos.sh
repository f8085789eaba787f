# Everything is killed, twelve times: no acknowledged task is lost, none runs twice at once, every process is accounted for.
# lanes: vm
# vm-releases: bookworm
# timeout: 420

# tests/it/chaos.rs does the same a hundred times under the process supervisor. Here systemd restarts what was killed.
marks=$STATE/worktrees/marks
install -d -o claude-code -g claude-code "$marks"
cat >/etc/clauded/clauded.toml.d/91-chaos.toml <<'TOML'
[profiles.sh]
agent = "command"
command = ["/bin/sh", "-s"]
kill-grace = "1s"
[instances.a]
profile = "sh"
[instances.b]
profile = "sh"
[instances.c]
profile = "sh"
TOML
systemctl reload clauded.service
names=(a b c)
instance "${names[@]}"

# Each task holds a lock named after it: one that finds it taken runs twice at once.
script="t=$marks/\$CLAUDED_TASK; exec 9>\$t.lock; until flock -n -E 99 9; do [ \$? != 99 ] || { echo twice >>$marks/violations; exit 1; }; done; sleep 0.5; echo done >>\$t.done"
tasks=()
kill_agent() { local pid; pid=$(agent_pids "${groups[@]}" | head -n 1); [ -n "$pid" ] && kill -9 "$pid" 2>/dev/null; }
# Each group of a task that has processes belongs to the task that clauded has placed there.
accounted() {
  local n group placed
  while read -r n placed; do
    for group in "$(slice "$n")/claude-code@$n.service"/task-*; do
      [ "${group##*/}" = "task-$placed" ] || ! grep -qs '^populated 1' "$group/cgroup.events" || return 1
    done
  done < <(claudectl status -o json | jq -r '.[] | "\(.name) \(.task)"')
}
groups=()
for n in "${names[@]}"; do groups+=("$(slice "$n")"); done
next=0
for victim in agent clauded runner agent agent clauded runner agent agent clauded runner agent; do
  for _ in 1 2; do tasks+=("$(claudectl task add --any -- "$script")"); done
  case $victim in
    agent) wait_until 60 'an agent is killed' kill_agent ;;
    # Each once: one that waits for its restart has no process.
    runner) n=${names[next++]}; kill -9 "$(property "claude-code@$n.service" MainPID)" ;;
    clauded) kill -9 "$(property clauded.service MainPID)" ;;
  esac
  wait_until 60 "after the end of $victim all processes are accounted for" accounted
  refute 'no task runs twice at once' test -e "$marks/violations"
  check 'no task is lost' jq -e --argjson all "[$(IFS=,; echo "${tasks[*]}")]" '$all - [.[].id] == []' <(claudectl task list --all -o json) >/dev/null
done
claudectl task wait "${tasks[@]}" --timeout 3min >/dev/null || [ $? = 1 ] || die "they do not end: $(claudectl task list --all)"
while read -r id outcome; do
  case $outcome in
    succeeded) check "task $id ran to its end" test -s "$marks/$id.done" ;;
    'failed lost') ;;
    *) die "task $id: $(claudectl task show "$id")" ;;
  esac
done < <(claudectl task list --all -o json | jq -r '.[] | "\(.id) \(.state) \(.reason // "")"')
refute 'no task has run twice at once' test -e "$marks/violations"
same 'ends that were told' "$(events '[.[] | select(.kind == "task-finished") | .task] | unique | length')" "${#tasks[@]}"
told() { [ "$(events '[.[] | select(.kind == "instance-restarted")] | length')" = 3 ]; }
wait_until 60 'three restarts were told' told
for n in "${names[@]}"; do systemctl stop "claude-code@$n"; done
same 'processes that are left' "$(agent_pids "${groups[@]}" | wc -l)" 0
