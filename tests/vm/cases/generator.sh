# Configuration becomes drop-ins at daemon-reload, without the daemon; a wrong one stops instances with its own words, never
# with defaults in its place, and a reload of a wrong one is refused while the old one stays.
# lanes: container

systemctl stop clauded.service clauded.socket clauded-tcp.socket
put() { cat >/etc/clauded/clauded.toml.d/60-case.toml; }
put <<'TOML'
[instances.x]
directory = "/srv/x"
[instances.x.limits]
memory = "300M"
tasks = "99"
cpu = "50%"
TOML
install -d -o claude-code -g claude-code /srv/x
systemctl daemon-reload
same MemoryMax "$(property claude-code-x.slice MemoryMax)" $((300 << 20))
same TasksMax "$(property claude-code-x.slice TasksMax)" 99
same CPUQuota "$(property claude-code-x.slice CPUQuotaPerSecUSec)" 500ms
check 'the drop-ins' ls /run/systemd/generator/claude-code-x.slice.d/40-clauded.conf /run/systemd/generator/claude-code@x.service.d/40-clauded.conf
check 'it starts without the daemon' systemctl start claude-code@x
same 'in its directory' "$(readlink "/proc/$(property claude-code@x.service MainPID)/cwd" | sed 's,^/$,/srv/x,')" /srv/x
waits() { [[ "$(property "claude-code@$1.service" StatusText)" == *'waits for clauded'* ]]; }
wait_until 20 'and says whom it waits for' waits x
systemctl stop claude-code@x
instance unconfigured
wait_until 20 'one without configuration likewise' waits unconfigured

# Broken while the host runs: what was said last stays in force.
echo '[instances.x]
memroy = "1G"' | put
systemctl daemon-reload
same 'MemoryMax stays' "$(property claude-code-x.slice MemoryMax)" $((300 << 20))
check 'x starts as before' systemctl start claude-code@x
systemctl stop claude-code@x
refute 'the daemon does not start' systemctl start clauded.service
same 'its exit status' "$(property clauded.service ExecMainStatus)" 78
same 'and is not tried again' "$(property clauded.service NRestarts)" 0
systemctl stop clauded.service clauded.socket clauded-tcp.socket; systemctl reset-failed

# Broken at boot, where nothing was said before: nobody starts, and is told why.
rm -r /run/clauded-generator
systemctl daemon-reload
install -d -o claude-code -g claude-code "$STATE/worktrees/y"
for n in x y; do
  refute "$n does not start" systemctl start "claude-code@$n"
  same 'its exit status' "$(property "claude-code@$n.service" ExecMainStatus)" 78
done
journalctl --sync
check 'the journal names the key' grep -q memroy <(journalctl -b -o cat -u claude-code@x)

put </dev/null
systemctl daemon-reload
systemctl reset-failed
systemctl start clauded.socket clauded-tcp.socket clauded.service
linked() { claudectl status -o json | jq -e '.[] | select(.name == "unconfigured" and .connected)' >/dev/null; }
wait_until 60 'who was started without clauded has found it' linked
echo '[fleet]
wrong = 1' | put
refute 'the reload fails' systemctl reload clauded.service
wait_journal 30 'wrong' -u clauded
check 'the old configuration serves on' claudectl status >/dev/null
refute 'config check says so' claudectl config check
put </dev/null
chmod 666 /etc/clauded/clauded.toml.d/60-case.toml
refute 'a file that anyone may write is refused' claudectl config check
chmod 644 /etc/clauded/clauded.toml.d/60-case.toml

# Another address of the API reaches the socket unit, and "off" closes it.
answers() { curl -sf -o /dev/null "http://$1/health"; }
check 'the API answers where it did' answers 127.0.0.1:8888
echo '[api]
listen = "127.0.0.1:9999"' | put
systemctl daemon-reload
systemctl restart clauded.service
check 'the API answers at the new address' answers 127.0.0.1:9999
refute 'it does not at the old one' answers 127.0.0.1:8888
systemctl stop clauded.service clauded-tcp.socket
systemctl start clauded-tcp.socket
same 'who listens there after the next boot' "$(property clauded-tcp.socket Listen)" '127.0.0.1:9999 (Stream)'
check 'a connection starts clauded' answers 127.0.0.1:9999
echo '[api]
listen = "off"' | put
systemctl stop clauded-tcp.socket
systemctl daemon-reload
systemctl restart clauded.service
same 'the TCP side is masked' "$(property clauded-tcp.socket LoadState)" masked
refute 'nobody answers' answers 127.0.0.1:9999
check 'the Unix socket does' claudectl status >/dev/null
