# Removing the package ends running agents in order, and leaves no process, unit or cgroup.
# lanes: vm container

instance a b
id=$(add a 'sleep 600s')
wait_running "$id"
dpkg -r clauded
same 'processes of the user' "$(pgrep -u claude-code || true)" ''
same 'units' "$(systemctl list-units --all --no-legend --plain 'clauded*' 'claude-code*' claude.slice | grep -v not-found || true)" ''
refute 'the cgroup is gone' test -e /sys/fs/cgroup/claude.slice
check 'the worktrees are kept' test -d "$STATE/worktrees/a"
