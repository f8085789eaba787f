# systemd-analyze verify finds nothing in the shipped units, on every release.
# lanes: container

verify() { systemd-analyze "$@" 2>&1 | grep -iE 'claude' || true; }
same 'system units' "$(verify verify --man=no clauded.service clauded.socket clauded-tcp.socket claude.slice claude-code.slice claude-code@x.service)" ''
same 'user units' "$(XDG_RUNTIME_DIR=/run/user/0 verify --user verify --man=no /usr/lib/systemd/user/clauded.service /usr/lib/systemd/user/clauded.socket /usr/lib/systemd/user/claude-code.slice /usr/lib/systemd/user/claude-code@.service)" ''
# and it would find something
cp /lib/systemd/system/clauded.service /run/systemd/system/clauded-wrong.service
sed -i 's/^WatchdogSec=.*/WatchdogSec=never/' /run/systemd/system/clauded-wrong.service
refute 'a wrong unit is found' test -z "$(verify verify --man=no clauded-wrong.service)"
