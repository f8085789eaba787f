# The daemon's sandbox scores below a threshold (0 is closed, 10 open), and an agent's unit keeps what it has.
# lanes: container

exposure() { systemd-analyze security --no-pager "$1" | sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p'; }
between 'exposure of clauded.service' "$(exposure clauded.service)" 0 2.0
between 'exposure of an agent' "$(exposure claude-code@x.service)" 0 6.0
