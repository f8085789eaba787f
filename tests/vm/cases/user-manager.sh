# clauded of one user, under her own systemd: its directories are where claudectl looks, a task runs in a cgroup of its own below
# her manager, limits reach the kernel, and a restart of clauded disturbs nobody.
# lanes: vm
# vm-releases: bookworm bullseye
# timeout: 300

useradd -m alice
uid=$(id -u alice) home=/home/alice
alice() { (cd $home && exec runuser -u alice -- env HOME=$home XDG_RUNTIME_DIR="/run/user/$uid" DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$uid/bus" "$@"); }
claude() { alice claudectl --user "$@"; }
told() { alice systemctl --user show -p "$2" "$1" | cut -d= -f2-; }
loginctl enable-linger alice
wait_until 60 'her manager runs' test -S "/run/user/$uid/bus"
alice mkdir -p $home/.config/clauded $home/.local/state/claude-code/worktrees/a
alice tee $home/.config/clauded/clauded.toml >/dev/null <<'TOML'
[defaults]
profile = "scripted"
[profiles.scripted]
command = ["/usr/local/bin/scripted-agent"]
TOML

alice systemctl --user start clauded.socket clauded.service claude-code@a.service
id=$(claude task add --instance a $'write done.txt finished\nawait go\nsay hi')
written() { test -e $home/.local/state/claude-code/worktrees/a/done.txt; }
wait_until 60 'the agent works in her worktree' written
at=/sys/fs/cgroup$(told claude-code@a.service ControlGroup)
check 'below her manager' grep -q "/user@$uid.service/claude.slice/claude-code.slice/claude-code-a.slice/claude-code@a.service$" <<<"$at"
same 'cgroups of tasks' "$(find "$at" -maxdepth 1 -name 'task-*' -printf '%f\n')" "task-$id"
same 'whose processes are in it' "$(ps -o user= -p "$(find "$at" -name cgroup.procs -exec cat {} + | paste -sd,)" | sort -u)" alice
claude limit a --memory 300M
same memory.max "$(cat "${at%/*}/memory.max")" $((300 << 20))

first=$(told claude-code@a.service InvocationID) before=$(find "$at" -name cgroup.procs -exec cat {} + | sort)
alice systemctl --user restart clauded.service
back() { claude status -o json | jq -e '.[] | select(.name == "a" and .connected and .task)' >/dev/null; }
wait_until 60 'clauded has it back after a restart' back
same 'the invocation' "$(told claude-code@a.service InvocationID)" "$first"
same 'the processes' "$(find "$at" -name cgroup.procs -exec cat {} + | sort)" "$before"
alice touch $home/.local/state/claude-code/worktrees/a/go
claude task wait "$id" --timeout 2min
same "task $id" "$(claude task show "$id" -o json | jq -r '"\(.state) \(.attempts)"')" 'succeeded 1'
check 'its log is found' grep -q hi <(claude task log "$id")

# What clauded and the runner have written is where claudectl looks for it, which holds before systemd 254 too.
code=0; claude doctor >/tmp/doctor || code=$?
cat /tmp/doctor
same "doctor's exit code, and its problems: the scripted agent has no login" "$code $(sed -n 's/^problem *\([^ ]*\) .*/\1/p' /tmp/doctor)" '1 login'
for d in clauded claude-code/instances/a; do same "$d" "$(stat -c '%a %U' $home/.local/state/$d)" '700 alice'; done
check 'doctor finds the state' grep -q "$home/.local/state/clauded" /tmp/doctor
same 'what is in her configuration' "$(find $home/.config -type f)" $home/.config/clauded/clauded.toml
alice systemctl --user stop claude-code@a.service clauded.service clauded.socket
same 'what is left of it' "$(pgrep -u alice clauded || true)" ''
