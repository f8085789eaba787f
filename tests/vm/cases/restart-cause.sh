# The runner is killed: its agent goes with it, systemd starts it again, the cause is recorded and counted, and the task resumes.
# By the kernel, for want of memory, is another cause. A restart by hand is none, and no failure of the task.
# lanes: vm container
# timeout: 240

instance a
id=$(add a $'sleep 20s\nsay done')
wait_running "$id"
old=$(pids a)
kill -9 "$(property claude-code@a.service MainPID)"
event=$(wait_event 90 '"kind":"instance-restarted"')
same 'the cause' "$(jq -r .cause <<<"$event")" signal
for p in $old; do refute "process $p is gone" test -d "/proc/$p"; done
ended "$id" succeeded
between 'attempts' "$(of "$id" .attempts)" 2 2
same 'sessions' "$(of "$id" '[.history[].session] | unique | length')" 1
same 'restarts that status counts' "$(claudectl status a -o json | jq .restarts)" 1
check 'the history names it' jq -e '.history[] | select(.cause == "signal")' <(claudectl status a -o json)
same 'and /metrics' "$(metric 'clauded_instance_restarts_total{instance="a",result="signal"}')" 1

if [ "$TB_MODE" = vm ]; then
  # Not its agent: the runner's own cgroup is given less than it has.
  id=$(add a $'sleep 20s\nsay done')
  wait_running "$id"
  seen=$(events '[.[].id] | max')
  echo 1 >"$(cgroup a)/runner/memory.max" || true
  event=$(wait_event 90 '"kind":"instance-restarted"' "$seen")
  same 'the cause' "$(jq -r .cause <<<"$event")" oom-kill
  ended "$id" succeeded
  same 'and /metrics' "$(metric 'clauded_instance_restarts_total{instance="a",result="oom-kill"}')" 1
fi

restarts=$(claudectl status a -o json | jq .restarts)
id=$(add a $'once sleep 600s\nsay done')
wait_running "$id"
claudectl restart a
ended "$id" succeeded
same 'attempts' "$(of "$id" .attempts)" 2
same 'sessions' "$(of "$id" '[.history[].session] | unique | length')" 1
same 'failures' "$(of "$id" '[.history[] | select(.reason)] | length')" 0
same 'restarts that status counts' "$(claudectl status a -o json | jq .restarts)" "$restarts"
