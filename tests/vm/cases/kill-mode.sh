# The unit's kill mode, with a shell in the runner's place: SIGTERM reaches the main process alone, the rest is killed as
# soon as that has ended, on a stop as after a crash; nothing is left, not even what left its session.
# lanes: vm container

install -d -o claude-code "$STATE/worktrees/x" /run/systemd/system/claude-code@x.service.d
cat >/usr/local/bin/fake-runner <<'FAKE'
#!/bin/bash
cd /var/lib/claude-code/instances/x
setsid bash -c 'trap "echo child >>log" TERM; echo $BASHPID >child; while :; do read -rt 5 <> <(:); done' &
trap 'echo main >>log; exit 0' TERM
while :; do read -rt 1 <> <(:); done
FAKE
chmod 755 /usr/local/bin/fake-runner
printf '[Service]\nType=exec\nWatchdogSec=0\nRestartSec=1\nExecStart=\nExecStart=/usr/local/bin/fake-runner\n' >/run/systemd/system/claude-code@x.service.d/fake.conf
systemctl daemon-reload
at=$STATE/instances/x

systemctl start claude-code@x
wait_until 20 'the child runs' test -s "$at/child"
child=$(cat "$at/child")
systemctl stop claude-code@x
same 'who got SIGTERM' "$(cat "$at/log")" main
refute 'the child is gone' test -d "/proc/$child"
same 'the result' "$(property claude-code@x.service Result)" success

rm "$at/child"
systemctl start claude-code@x
wait_until 20 'the child runs' test -s "$at/child"
child=$(cat "$at/child") first=$(property claude-code@x.service InvocationID)
kill -9 "$(property claude-code@x.service MainPID)"
again() { [ "$(property claude-code@x.service NRestarts)" = 1 ] && [ "$(property claude-code@x.service SubState)" = running ] && [ "$(property claude-code@x.service InvocationID)" != "$first" ]; }
wait_until 30 'it is restarted' again
refute 'the old child is gone' test -d "/proc/$child"
same 'who got SIGTERM' "$(cat "$at/log")" main
