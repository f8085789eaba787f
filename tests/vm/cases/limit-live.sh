# claudectl limit shows in the cgroup files at once, disturbs nobody, and with --persist holds after a reload.
# lanes: vm

instance a
first=$(property claude-code@a.service InvocationID)
id=$(add a 'sleep 300s')
wait_running "$id"
claudectl limit a --memory 200M --memory-high 150M --swap 50M --cpu 150% --cpu-weight 40 --io-weight 30 --tasks 77
at=$(slice a)
same memory.max "$(cat "$at/memory.max")" $((200 << 20))
same memory.high "$(cat "$at/memory.high")" $((150 << 20))
same memory.swap.max "$(cat "$at/memory.swap.max")" $((50 << 20))
same cpu.max "$(cat "$at/cpu.max")" '150000 100000'
same cpu.weight "$(cat "$at/cpu.weight")" 40
same pids.max "$(cat "$at/pids.max")" 77
[ ! -e "$at/io.weight" ] || same io.weight "$(sed -n 's/^default //p' "$at/io.weight")" 30
cap() { claudectl status a -o json | jq -r '.caps[] | select(.unit == "claude-code-a.slice") | .memory_max'; }
same 'status shows it' "$(cap)" $((200 << 20))
same 'the invocation' "$(property claude-code@a.service InvocationID)" "$first"
same 'the task' "$(of "$id" .state)" running
claudectl limit a --memory 210M --persist
systemctl daemon-reload
same 'memory.max after a reload' "$(cat "$at/memory.max")" $((210 << 20))
claudectl config check
claudectl task cancel "$id"
