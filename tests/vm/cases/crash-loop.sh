# A runner that always crashes is given up after five starts, with the reason shown, and is not started for ever.
# lanes: warp
# timeout: 240

install -d -o claude-code -g claude-code "$STATE/worktrees/loop"
install -d /run/systemd/system/claude-code@loop.service.d
printf '[Service]\nExecStart=\nExecStart=/bin/sh -c "exit 9"\n' >/run/systemd/system/claude-code@loop.service.d/crash.conf
systemctl daemon-reload
systemctl start claude-code@loop || true
wait_journal 300 'Start request repeated too quickly' -u claude-code@loop
same 'its state' "$(property claude-code@loop.service ActiveState)" failed
between 'restarts' "$(property claude-code@loop.service NRestarts)" 4 5
gave_up() { claudectl status loop -o json | jq -e '.active == "failed" and (.status | test("9"))' >/dev/null; }
wait_until 60 'status says failed, and why' gave_up
event=$(wait_event 60 '"kind":"instance-gave-up"')
same 'an event tells it, and why' "$(jq -r '"\(.instance) \(.cause)"' <<<"$event")" 'loop exit-code'
