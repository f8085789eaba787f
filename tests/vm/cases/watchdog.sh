# A runner that hangs in the middle of a task misses its watchdog: it is ended and started again, the cause says so, and the
# task goes on in the same session. So is a clauded that hangs, and its agents go on.
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

# clauded too, and nobody else notices. In the time that this takes, both have lived longer than their watchdogs allow.
first=$(property claude-code@a.service InvocationID)
id=$(add a $'await go\nsay done')
wait_running "$id"
before=$(pids a | sort)
same 'restarts of clauded before' "$(property clauded.service NRestarts)" 0
main=$(property clauded.service MainPID)
lived() { [ "$(ps -o etimes= -p "$main")" -gt 40 ]; }
wait_until 60 'it has lived longer than its watchdog allows a silent one' lived
same 'restarts of clauded' "$(property clauded.service NRestarts)" 0
kill -STOP "$main"
wait_journal 200 "Failed with result 'watchdog'" -u clauded.service
back() { [ "$(property clauded.service SubState)" = running ] && claudectl status -o json 2>/dev/null | jq -e '.[] | select(.name == "a" and .connected)' >/dev/null; }
wait_until 60 'it is back, with the instance' back
same 'restarts of clauded' "$(property clauded.service NRestarts)" 1
same 'the invocation of the instance' "$(property claude-code@a.service InvocationID)" "$first"
same 'its processes' "$(pids a | sort)" "$before"
touch "$STATE/worktrees/a/go"
ended "$id" succeeded
same 'attempts' "$(of "$id" .attempts)" 1
