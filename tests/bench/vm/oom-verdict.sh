# How long from the kernel's out-of-memory kill to the verdict in the hands of a subscriber to the events, ms; $TB_OUT/figures.json.
# lanes: vm
# vm-releases: bookworm
# timeout: 300

instance victim
claudectl limit victim --memory 150M --memory-high 150M --swap 0
offset=$(awk -v real="$EPOCHREALTIME" '/^now at/ { printf "%.6f", real - $3 / 1e9 }' /proc/timer_list)
times=()
for _ in 1 2 3 4 5 6 7; do
  last=$(events '.[-1].id')
  coproc FEED { exec timeout 60 claudectl events -f --after "$last" -o json; }
  feed=$FEED_PID
  id=$(add victim 'alloc 400M')
  while read -r line <&"${FEED[0]}"; do
    heard=$EPOCHREALTIME
    case $line in *task-finished*) break ;; esac
  done
  kill "$feed"; wait "$feed" || true
  same 'its reason' "$(of "$id" .reason)" oom
  # The kernel's own stamp of the line; of several kills the last, which left nothing of the task.
  killed=$(journalctl -b -k -o json --no-pager | jq -r 'select(.MESSAGE | tostring | test("^Memory cgroup out of memory: Killed")) | ._SOURCE_MONOTONIC_TIMESTAMP' | tail -n 1)
  times+=("$(awk -v heard="$heard" -v killed="$killed" -v offset="$offset" 'BEGIN { printf "%.1f", (heard - killed / 1e6 - offset) * 1000 }')")
done
echo "${times[*]}"
between 'verdicts that came before their kill' "$(printf '%s\n' "${times[@]}" | grep -c '^-' || true)" 0 0
printf '%s\n' "${times[@]}" | jq -s '{oom_verdict_ms: .}' >"$TB_OUT/figures.json"
