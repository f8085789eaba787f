# Configuration becomes drop-ins at daemon-reload, without the daemon; a wrong one stops instances with its own words, never
# with defaults in its place, and a reload of a wrong one is refused while the old one stays.
# lanes: vm container

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
check 'the drop-ins' ls /run/systemd/generator/claude-code-x.slice.d/50-clauded.conf /run/systemd/generator/claude-code@x.service.d/50-clauded.conf
check 'it starts without the daemon' systemctl start claude-code@x
same 'in its directory' "$(readlink "/proc/$(property claude-code@x.service MainPID)/cwd" | sed 's,^/$,/srv/x,')" /srv/x
systemctl stop claude-code@x

echo '[instances.x]
memroy = "1G"' | put
systemctl daemon-reload
install -d -o claude-code -g claude-code "$STATE/worktrees/y"
for n in x y; do
  refute "$n does not start" systemctl start "claude-code@$n"
  same 'its exit status' "$(property "claude-code@$n.service" ExecMainStatus)" 78
done
check 'the journal names the key' grep -q memroy <(journalctl -b -o cat -u claude-code@x)
refute 'the daemon does not start either' systemctl start clauded.service
systemctl stop clauded.service; systemctl reset-failed

put </dev/null
systemctl daemon-reload
systemctl start clauded.socket clauded-tcp.socket clauded.service
echo '[fleet]
wrong = 1' | put
systemctl reload clauded.service || true
wait_journal 30 'wrong' -u clauded
check 'the old configuration serves on' claudectl status >/dev/null
refute 'config check says so' claudectl config check
put </dev/null
chmod 666 /etc/clauded/clauded.toml.d/60-case.toml
refute 'a file that anyone may write is refused' claudectl config check
