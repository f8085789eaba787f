# A task that allocates past its limit is killed, and nothing else is: not its runner, not its neighbour, not its neighbour's task.
# lanes: vm
# vm-releases: bookworm trixie bullseye
# timeout: 300

instance victim neighbour
# With memory.high as high as the limit, or the kernel slows it down on the way there; memory-pressure.sh has that case.
claudectl limit victim --memory 150M --memory-high 150M --swap 0
same 'the limit' "$(cat "$(slice victim)/memory.max")" $((150 << 20))
runner=$(property claude-code@victim.service MainPID)
beside=$(add neighbour 'sleep 600s')
wait_running "$beside"
before=$(pids neighbour | sort)
id=$(add victim 'alloc 400M')
ended "$id" failed oom
check 'the sentence names the peak, the limit and who took it' grep -qE 'peak [0-9]+ MiB, limit 150 MiB; .*scripted-agent with [0-9]+ MiB' <<<"$(of "$id" .detail)"
between 'kills' "$(stat_of "$(slice victim)/memory.events" oom_kill)" 1 10
between 'from the start to the verdict, s' "$(of "$id" '.history[0] | def t: sub("\\.[0-9]+"; "") | fromdate; (.finished | t) - (.started | t)')" 0 60
same 'the runner' "$(property claude-code@victim.service MainPID)" "$runner"
same 'restarts' "$(property claude-code@victim.service NRestarts)" 0
same "the neighbour's processes" "$(pids neighbour | sort)" "$before"
same "the neighbour's task" "$(of "$beside" .state)" running
next=$(add victim 'say still here')
ended "$next" succeeded
claudectl task cancel "$beside"
