# systemd is re-executed: clauded catches up, sees what happened meanwhile, and goes on giving orders.
# lanes: vm container

instance a
systemctl daemon-reexec
instance b
systemctl stop claude-code@a
state() { [ "$(claudectl status -o json | jq -r ".[] | select(.name == \"$1\") | .active")" = "$2" ]; }
wait_until 60 'it saw the start' state b active
refute 'a is not active' state a active
claudectl start a
check 'its own start works' state a active
id=$(add a 'say hi')
ended "$id" succeeded
