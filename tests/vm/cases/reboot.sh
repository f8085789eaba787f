# After an orderly reboot: enabled and autostarted instances run, and the interrupted and the waiting task are done.
# lanes: vm
# again: reboot
# timeout: 300

if [ -z "$AGAIN" ]; then
  install -d "$LEFT"
  # A stopped instance that no configuration names is not known any more, and would be given no task.
  printf '[instances.idle]\n[instances.auto]\nautostart = true\n' >/etc/clauded/clauded.toml.d/50-auto.toml
  systemctl reload clauded.service
  instance auto by-hand idle
  systemctl enable claude-code@by-hand.service
  add auto $'sleep 5s\nsay resumed' >"$LEFT/resumed"
  wait_running "$(cat "$LEFT/resumed")"
  claudectl stop idle
  add idle 'say later' >"$LEFT/waiting"
else
  for n in auto by-hand; do check "$n runs" systemctl -q is-active "claude-code@$n"; done
  refute 'idle does not' systemctl -q is-active claude-code@idle
  ended "$(cat "$LEFT/resumed")" succeeded
  same 'the waiting task' "$(of "$(cat "$LEFT/waiting")" .state)" pending
  claudectl start idle
  ended "$(cat "$LEFT/waiting")" succeeded
fi
