# A team is one name for systemctl and claudectl: its target starts and stops its members, its slice caps them together, a
# second team beside it is another world, and what is too much ends first. At boot it comes by itself.
# lanes: vm
# again: reboot
# timeout: 600

members() { claudectl team status "$1" -o json | jq -r ".members[] | select(.active == \"active\") | .name" | sort | tr '\n' ' '; }
state() { systemctl is-active "$1" || true; }
# The classic gemini is any command here.
cat >/etc/clauded/clauded.toml.d/60-case.toml <<'TOML'
[profiles.gemini]
command = ["/bin/sh", "-s"]
TOML
root=$STATE/worktrees

if [ -z "$AGAIN" ]; then
  systemctl reload clauded
  install -d -o claude-code -g claude-code "$root/red" "$root/blue"

  # One line each.
  check 'red comes up' claudectl team up red
  check 'blue beside it' claudectl team up blue --worker 1
  same 'red' "$(members red)" 'red-boss red-gemini red-worker-1 red-worker-2 red-worker-3 '
  same 'blue' "$(members blue)" 'blue-boss blue-gemini blue-worker-1 '
  same 'the target' "$(state claude-code-red.target)" active
  same 'a member is in its team' "$(property claude-code@red-worker-2.service ControlGroup)" \
    /claude.slice/claude-code.slice/claude-code-red.slice/claude-code-red-worker.slice/claude-code-red-worker-2.slice/claude-code@red-worker-2.service
  same 'and works there' "$(property claude-code@red-worker-2.service Environment | tr ' ' '\n' | grep ^CLAUDED_DIRECTORY)" "CLAUDED_DIRECTORY=$root/red"
  invocation=$(property claude-code@red-boss.service InvocationID)
  check 'up again' claudectl team up red
  same 'disturbs nobody' "$(property claude-code@red-boss.service InvocationID)" "$invocation"

  # The team's cap is the kernel's, and holds for all together.
  printf '[teams.red]\nlimits = { memory = "200M", tasks = 400 }\nautostart = true\n[teams.red.members.worker]\nrole-limits = { memory = "150M" }\n' >/etc/clauded/clauded.toml.d/70-case.toml
  systemctl reload clauded
  at() { cat "/sys/fs/cgroup/claude.slice/claude-code.slice/claude-code-red.slice/$1"; }
  capped() { [ "$(at memory.max)" = $((200 << 20)) ] && [ "$(at claude-code-red-worker.slice/memory.max)" = $((150 << 20)) ] && [ "$(at pids.max)" = 400 ]; }
  wait_until 30 'the caps of team and role are in force' capped
  same 'and measured' "$(metric 'clauded_team_memory_limit_bytes{team="red"}')" $((200 << 20))
  same 'and shown' "$(claudectl team status red -o json | jq .memory_limit_bytes)" $((200 << 20))

  # Work in both; systemctl takes red down and up again, and blue does not notice.
  id=$(add blue-worker-1 'sleep 600s')
  wait_running "$id"
  blue=$(property claude-code@blue-worker-1.service InvocationID)
  check 'systemctl stop' systemctl stop claude-code-red.target
  # The target is what this waits for; its members are stopped after it (After=, systemd.unit(5)).
  down() { [ "$(state "claude-code@red-$1")" = inactive ]; }
  for m in boss gemini worker-1 worker-2 worker-3; do wait_until 60 "red-$m is stopped" down "$m"; done
  check 'systemctl start' systemctl start claude-code-red.target
  for m in boss gemini worker-1 worker-2 worker-3; do same "red-$m" "$(state "claude-code@red-$m")" active; done
  check 'one is stopped by hand' systemctl stop claude-code@red-boss
  same 'the target stays' "$(state claude-code-red.target)" active
  check 'and starts it again' systemctl start claude-code-red.target
  same 'red-boss' "$(state claude-code@red-boss)" active
  same 'blue-worker-1 went on' "$(property claude-code@blue-worker-1.service InvocationID)" "$blue"
  same 'its task too' "$(of "$id" .state)" running

  # Fewer: the idle one goes, the busy one ends its task; more: the new one is in the team at once.
  id=$(add red-worker-3 'sleep 5s')
  wait_running "$id"
  check 'scale down' claudectl team scale red worker=1
  ended "$id" succeeded
  gone() { [ "$(members red)" = 'red-boss red-gemini red-worker-1 ' ]; }
  wait_until 60 'those that are too many are gone' gone
  check 'scale up' claudectl team scale red worker=2
  same 'red' "$(members red)" 'red-boss red-gemini red-worker-1 red-worker-2 '
  same 'the new one belongs to the target' "$(property claude-code@red-worker-2.service PartOf)" claude-code-red.target

  # Down is down, and what is removed leaves no unit; its worktree stays.
  check 'blue goes down' claudectl team down blue
  same 'its target' "$(state claude-code-blue.target)" inactive
  for t in $(claudectl task list --all -o json | jq -r '.[] | select(.state == "pending" or .state == "running") | .id'); do claudectl task cancel "$t"; done
  check 'and away' claudectl team down blue --remove
  same 'its target is gone' "$(property claude-code-blue.target LoadState)" not-found
  check 'its worktree stays' test -d "$root/blue"
  refute 'it is no team any more' claudectl team status blue
  same 'red does not notice' "$(members red)" 'red-boss red-gemini red-worker-1 red-worker-2 '
fi

[ -n "$AGAIN" ] || exit 0
# At boot the target brings its members.
up() { [ "$(members red)" = 'red-boss red-gemini red-worker-1 red-worker-2 ' ]; }
wait_until 120 'red is up after the boot' up
same 'with its target' "$(state claude-code-red.target)" active
same 'wanted at boot' "$(property claude-code-red.target WantedBy)" multi-user.target
