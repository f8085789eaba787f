# A runner that hangs in the middle of a task misses its watchdog: it is ended and started again, the cause says so, and the
# task goes on in the same session.
# lanes: warp
# timeout: 240

instance a
id=$(add a $'sleep 300s\nsay done')
wait_running "$id"
old=$(pids a)
kill -STOP "$(property claude-code@a.service MainPID)"
event=$(wait_event 300 '"kind":"instance-restarted"')
same 'the cause' "$(jq -r .cause <<<"$event")" watchdog
for p in $old; do refute "process $p is gone" test -d "/proc/$p"; done
check 'status names it' jq -e '.history[] | select(.cause == "watchdog")' <(claudectl status a -o json)
claudectl task wait "$id" >/dev/null || true
same "task $id" "$(of "$id" .state)" succeeded
same 'attempts' "$(of "$id" .attempts)" 2
same 'sessions' "$(of "$id" '[.history[].session] | unique | length')" 1
