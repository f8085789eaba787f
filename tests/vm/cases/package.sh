# A fresh installation, removal, and purge: what is there, what is gone, what is kept.
# lanes: container vm
# vm-releases: bookworm
# fresh: yes
# files: deb
# timeout: 500

apt-get install -y -q ./deb/clauded.deb
same 'the user' "$(getent passwd claude-code | cut -d: -f5-)" 'Claude Code agents:/var/lib/claude-code:/usr/sbin/nologin'
same 'the group' "$(id -gn claude-code)" claude-code
for d in '/var/lib/claude-code 755 root:root' '/var/lib/claude-code/instances 755 root:root' '/var/lib/claude-code/worktrees 3770 root:claude-code'; do
  same "${d%% *}" "$(stat -c '%a %U:%G' "${d%% *}")" "${d#* }"
done
same /etc/clauded "$(stat -c '%a %U:%G' /etc/clauded)" '755 root:root'
for u in clauded.service clauded.socket clauded-tcp.socket; do check "$u is enabled" systemctl -q is-enabled $u; done
for u in clauded.socket clauded-tcp.socket; do check "$u is active" systemctl -q is-active $u; done
same 'the API socket' "$(stat -c '%a %U:%G' /run/clauded/api.sock)" '660 root:claude-code'
same 'instances that the installation started' "$(systemctl list-units --all --no-legend 'claude-code@*')" ''
check 'the programs run' claudectl --help >/dev/null

dpkg -r clauded
refute 'no program is left' test -e /usr/bin/clauded
refute 'no runner is left' test -e /usr/lib/clauded
refute 'no socket is left' test -e /run/clauded/api.sock
same 'units that are left' "$(systemctl list-units --all --no-legend --plain 'clauded*' 'claude-code*' claude.slice | grep -v not-found || true)" ''
check 'the state is kept' test -d /var/lib/claude-code/instances
check 'the configuration is kept' test -e /etc/clauded/clauded.toml

dpkg -i deb/clauded.deb
install -d /var/lib/claude-code/worktrees/work /var/lib/claude-code/instances/work /var/lib/clauded
dpkg -P clauded 2>&1 | tee /tmp/purge
check 'the purge says what it keeps' grep -q 'worktrees is not empty and is kept' /tmp/purge
check 'work is kept' test -d /var/lib/claude-code/worktrees/work
for d in /var/lib/clauded /var/lib/claude-code/instances /etc/clauded /run/clauded; do refute "$d is gone" test -e $d; done
rmdir /var/lib/claude-code/worktrees/work

dpkg -i deb/clauded.deb
dpkg -P clauded
refute '/var/lib/claude-code is gone' test -e /var/lib/claude-code
same 'links that are left' "$(find /etc/systemd/system -name '*claude*')" ''
same 'failed units' "$(systemctl list-units --failed --no-legend --plain | grep -i claude || true)" ''

# /usr/share/man is not unpacked in the machine, so that is asked of the package
dpkg-deb -c deb/clauded.deb >/tmp/contents
for f in ./usr/share/man/man1/claudectl.1.gz ./usr/share/man/man5/clauded.toml.5.gz ./usr/share/doc/clauded/examples/three-agents.toml ./usr/share/doc/clauded/examples/clauded-task.yml; do check "$f" grep -qF "$f" /tmp/contents; done
check 'a completion' grep -qE '[1-9][0-9]* [^ ]+ [^ ]+ ./usr/share/bash-completion/completions/claudectl$' /tmp/contents
