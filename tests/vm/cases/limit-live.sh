# claudectl limit shows in the cgroup files at once, disturbs nobody, and with --persist holds after a reload.
# lanes: vm
# vm-releases: bookworm trixie bullseye

instance a
first=$(property claude-code@a.service InvocationID)
id=$(add a 'sleep 300s')
wait_running "$id"
same 'a task is killed as a whole' "$(cat "$(cgroup a)"/task-*/memory.oom.group)" 1
at=$(slice a)
same 'the default of the service' "$(cat "$(cgroup a)/memory.max")" $((4 << 30))
claudectl limit a --memory 6G
same 'memory.max, raised' "$(cat "$at/memory.max")" $((6 << 30))
for f in memory.max memory.high; do same "$f of the service, which would bind before" "$(cat "$(cgroup a)/$f")" max; done
claudectl limit a --memory 200M --memory-high 150M --swap 50M --cpu 150% --cpu-weight 40 --io-weight 30 --tasks 77
same memory.max "$(cat "$at/memory.max")" $((200 << 20))
same memory.high "$(cat "$at/memory.high")" $((150 << 20))
same memory.swap.max "$(cat "$at/memory.swap.max")" $((50 << 20))
same cpu.max "$(cat "$at/cpu.max")" '150000 100000'
same cpu.weight "$(cat "$at/cpu.weight")" 40
same pids.max "$(cat "$at/pids.max")" 77
same IOWeight "$(property claude-code-a.slice IOWeight)" 30
same 'the limit in /metrics' "$(metric 'clauded_instance_memory_limit_bytes{instance="a"}')" $((200 << 20))
[ ! -e "$at/io.weight" ] || same io.weight "$(sed -n 's/^default //p' "$at/io.weight")" 30
cap() { [ "$(claudectl status a -o json | jq -r '.caps[] | select(.unit == "claude-code-a.slice") | .memory_max')" = $((200 << 20)) ]; }
check 'status shows it' cap
same 'the invocation' "$(property claude-code@a.service InvocationID)" "$first"
same 'the task' "$(of "$id" .state)" running
claudectl limit a --memory 210M --persist
# What was set at run time would hide whether the configuration has it.
rm -r /run/systemd/system.control/claude-code-a.slice.d
systemctl daemon-reload
same 'memory.max after a reload' "$(cat "$at/memory.max")" $((210 << 20))
claudectl config check
claudectl task cancel "$id"
