# Slices nest by dashes under the fleet's, the fleet and its share of the machine are capped, and a unit without
# configuration has the defaults. As the kernel has them, not only systemd.
# lanes: vm

install -d /run/systemd/system/claude-code@team-role.service.d
printf '[Service]\nType=exec\nUser=root\nWatchdogSec=0\nExecStart=\nExecStart=/bin/sleep infinity\n' >/run/systemd/system/claude-code@team-role.service.d/fake.conf
systemctl daemon-reload
systemctl start claude-code@team-role
same 'the cgroup' "$(property claude-code@team-role.service ControlGroup)" /claude.slice/claude-code.slice/claude-code-team.slice/claude-code-team-role.slice/claude-code@team-role.service
at=$(cgroup team-role)
same memory.max "$(cat "$at/memory.max")" $((4 << 30))
same memory.high "$(cat "$at/memory.high")" $((3584 << 20))
same memory.swap.max "$(cat "$at/memory.swap.max")" $((1 << 30))
same pids.max "$(cat "$at/pids.max")" 1024
same 'weight of claude.slice' "$(cat /sys/fs/cgroup/claude.slice/cpu.weight)" 50
total=$(awk '/^MemTotal/ { print $2 * 1024 }' /proc/meminfo)
between 'the fleet of the memory, in per cent' $((100 * $(cat /sys/fs/cgroup/claude.slice/claude-code.slice/memory.max) / total)) 88 91
check 'it counts I/O' test -e "$(slice team-role)/io.stat"
systemctl stop claude-code@team-role
check 'the slice outlives it' test -d "$(slice team-role)"
for bad in 'a--b' '-a' 'a-'; do refute "the name $bad is refused" systemctl start -- "claude-code@$bad.service"; done
