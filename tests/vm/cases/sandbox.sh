# What the agents' unit lets its tools do and what not, asked by a shell in the runner's place.
# lanes: vm container

install -d -o claude-code "$STATE/worktrees/x" /run/systemd/system/claude-code@x.service.d
cat >/usr/local/bin/ask <<'ASK'
#!/bin/bash
cd /var/lib/claude-code/worktrees/x
tell() { local n=$1; shift; if "$@" 2>/dev/null; then echo "$n yes"; else echo "$n no"; fi; }
tell worktree touch file
tell state touch "$STATE_DIRECTORY/file"
tell setgid sh -c 'mkdir d && chmod g+s d'
tell namespaces unshare --user true
tell usr touch /usr/file
tell etc touch /etc/file
tell sysctl sh -c 'echo 1 >/proc/sys/kernel/panic'
tell tmp test -e /tmp/of-others
tell group sh -c 'id -Gn | grep -qw claude-code'
tell privileges grep -q 'NoNewPrivs:.0' /proc/self/status
here=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
tell delegated mkdir "$here/runner"
echo "$here"
ASK
chmod 755 /usr/local/bin/ask
touch /tmp/of-others
printf '[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nExecStart=\nExecStart=/usr/local/bin/ask\nStandardOutput=file:/run/answers\n' >/run/systemd/system/claude-code@x.service.d/ask.conf
systemctl daemon-reload
systemctl start claude-code@x
cat /run/answers
for can in worktree state setgid namespaces group delegated; do check "it can: $can" grep -qx "$can yes" /run/answers; done
for cannot in usr etc sysctl tmp privileges; do check "it cannot: $cannot" grep -qx "$cannot no" /run/answers; done
check 'the cgroup is in the slices' grep -qE '/claude\.slice/claude-code\.slice/claude-code-x\.slice/claude-code@x\.service' /run/answers
