#!/bin/bash
# Installs the package, the scripted agent and the tests' configuration; the machine is saved after it, once per release.
set -euo pipefail
dpkg -i deb/clauded.deb
if [ -e scripted-agent ]; then
  install -m 755 scripted-agent /usr/local/bin/scripted-agent
  install -d /etc/clauded/clauded.toml.d
  cat >/etc/clauded/clauded.toml.d/90-test.toml <<'TOML'
[defaults]
profile = "scripted"
[profiles.scripted]
agent = "claude"
command = ["/usr/local/bin/scripted-agent"]
TOML
  systemctl daemon-reload
  systemctl reload-or-restart clauded.service
fi
sync
