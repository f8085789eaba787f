# What clauded and the runner say reaches the journal with its true priority, and claudectl logs shows it.
# lanes: container

instance a
id=$(add a 'say hi')
ended "$id" succeeded
kill -9 "$(property claude-code@a.service MainPID)"
wait_event 90 '"kind":"instance-restarted"' >/dev/null
journalctl --sync
priorities() { journalctl -b -o json -u "$1" _COMM="$2" | jq -rs '[.[].PRIORITY] | unique | join(" ")'; }
check 'the runner says something' test -n "$(priorities claude-code@a clauded-runner)"
check 'clauded warns of the restart' jq -es 'any(.[]; .PRIORITY == "4" and (.MESSAGE | test("restarted")))' <(journalctl -b -o json -u clauded _COMM=clauded)
check 'and informs of the rest' jq -es 'any(.[]; .PRIORITY == "6")' <(journalctl -b -o json -u clauded _COMM=clauded)
check 'fields name the instance' jq -es 'any(.[]; .INSTANCE == "a")' <(journalctl -b -o json -u clauded)
check 'claudectl logs shows the runner' grep -q clauded-runner <(claudectl logs a)
check 'nobody else' jq -es 'all(.[]; ._SYSTEMD_UNIT == "claude-code@a.service" or .UNIT == "claude-code@a.service")' <(claudectl logs a -o json)
