# systemd is re-executed: clauded catches up, sees what happened meanwhile, and goes on giving orders.
# lanes: vm container

instance a
systemctl daemon-reexec
instance b
systemctl stop claude-code@a
state() { [ "$(claudectl status -o json | jq -r ".[] | select(.name == \"$1\") | .active")" = "$2" ]; }
stopped() { ! state a active; }
wait_until 60 'it saw the start' state b active
wait_until 60 'and the stop' stopped
for i in 1 2 3; do
  claudectl start a
  check "its own start works, and is known ($i)" state a active
  claudectl stop a
  check "its own stop likewise ($i)" stopped
done
claudectl start a
id=$(add a 'say hi')
ended "$id" succeeded
