# A busy loop is throttled to its quota; the kernel's own counters say so.
# lanes: vm
# vm-releases: bookworm trixie bullseye
# timeout: 200

instance busy
claudectl limit busy --cpu 20%
same cpu.max "$(cat "$(slice busy)/cpu.max")" '20000 100000'
id=$(add busy 'spin 60s' --timeout 20s)
wait_running "$id"
at=$(slice busy)/cpu.stat
u0=$(stat_of "$at" usage_usec) n0=$(stat_of "$at" nr_throttled) t0=$(date +%s%N)
claudectl task wait "$id" >/dev/null || true
u1=$(stat_of "$at" usage_usec) n1=$(stat_of "$at" nr_throttled) t1=$(date +%s%N)
between 'CPU used, per cent' "$(awk -v u=$((u1 - u0)) -v t=$((t1 - t0)) 'BEGIN { print u * 1000 / t * 100 }')" 8 24
between 'throttled periods' $((n1 - n0)) 30 100000
same 'why it ended' "$(of "$id" .reason)" timeout
