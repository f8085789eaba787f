# A fork bomb stops at TasksMax; the runner lives, the neighbour forks on, and no process is left.
# lanes: vm
# timeout: 240

instance bomb neighbour
claudectl limit bomb --tasks 60
id=$(add bomb $'fork 500\nsleep 600s' --timeout 10min)
# Kernels before 6.11 count a refusal where the fork was tried, later ones where the limit is.
refused() { find "$(slice bomb)" -name pids.events -exec cat {} + | awk '$1 == "max" { n += $2 } END { exit n == 0 }'; }
wait_until 60 'forks are refused' refused
between 'processes' "$(cat "$(slice bomb)/pids.current")" 1 60
beside=$(add neighbour $'fork 20\nsay fine')
ended "$beside" succeeded
claudectl task cancel "$id" >/dev/null
claudectl task wait "$id" >/dev/null || true
alone() { [ "$(pids bomb | wc -l)" = 1 ]; }
wait_until 20 'the runner alone is left' alone
same 'restarts' "$(property claude-code@bomb.service NRestarts)" 0
claudectl limit bomb --tasks 500
next=$(add bomb 'say again')
ended "$next" succeeded
