# The runner is killed: its agent goes with it, systemd starts it again, the cause is recorded and counted, and the task resumes.
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
