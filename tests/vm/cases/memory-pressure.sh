# A task that the kernel slows down past its MemoryHigh, and that would stand still for hours, is ended with that reason.
# lanes: vm
# timeout: 300

printf '[profiles.scripted]\npressure-percent = 40\npressure-time = "5s"\n' >/etc/clauded/clauded.toml.d/91-pressure.toml
systemctl reload clauded.service
instance slow
claudectl limit slow --memory 2G --memory-high 40M --swap 0
id=$(add slow 'alloc 600M')
ended "$id" failed memory-pressure
check 'the sentence says what to do' grep -q 'raise the limit' <<<"$(of "$id" .detail)"
same 'kills by the kernel' "$(stat_of "$(slice slow)/memory.events" oom_kill)" 0
check 'the kernel slowed it down' test "$(stat_of "$(slice slow)/memory.events" high)" -gt 0
next=$(add slow 'say still here')
ended "$next" succeeded
