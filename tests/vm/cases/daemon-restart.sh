# clauded is restarted, killed and upgraded under a running agent: the agent is not touched, the task runs once, no event is lost.
# lanes: vm container
# files: next
# timeout: 300

instance a b
unit=claude-code@a.service
id=$(add a $'await go\nsay done')
wait_running "$id"
first=$(property $unit InvocationID) before=$(pids a | sort)
undisturbed() {
  same "$1: the invocation" "$(property $unit InvocationID)" "$first"
  same "$1: the processes" "$(pids a | sort)" "$before"
}
systemctl restart clauded
undisturbed restart
kill -9 "$(property clauded.service MainPID)"
back() { claudectl status -o json 2>/dev/null | jq -e '[.[] | select(.connected)] | length == 2' >/dev/null; }
wait_until 60 'it is back, with both instances' back
undisturbed 'kill -9'
quick=$(add b 'say while it was away')
dpkg -i next/clauded.deb
undisturbed upgrade
wait_until 60 'the new one has both instances' back
ended "$quick" succeeded
same 'the task' "$(of "$id" .state)" running
touch "$STATE/worktrees/a/go"
ended "$id" succeeded
same 'attempts' "$(of "$id" .attempts)" 1
same 'ends that were told' "$(events "[.[] | select(.kind == \"task-finished\" and .task == $id)] | length")" 1
same 'automatic restarts of the instance' "$(property $unit NRestarts)" 0
# What happens while clauded is away is told when it is back, and once.
unit_b=claude-code@b.service
systemctl stop clauded
kill -9 "$(property $unit_b MainPID)"
restarted() { [ "$(property $unit_b NRestarts)" = 1 ] && [ "$(property $unit_b SubState)" = running ]; }
wait_until 60 'systemd has started b again' restarted
systemctl start clauded
wait_until 60 'it is back again, with both instances' back
told() { events "[.[] | select(.kind == \"$1\" and .instance == \"$2\")] | length"; }
# It serves when it has seen all units, or after 5 s.
seen() { [ "$(claudectl status b -o json | jq .restarts)" = 1 ]; }
wait_until 60 'the restart of b is shown' seen
same 'restarts of b that were told' "$(told instance-restarted b)" 1
same 'starts of b that were told' "$(told instance-started b)" 2
same 'starts of a that were told' "$(told instance-started a)" 1
same 'the version' "$(dpkg-query -W -f '${Version}' clauded | grep -o next)" next
