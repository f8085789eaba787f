# Without systemd as the supervisor, on a kernel that gives it the controllers: its contract suite, whose files are all checked
# here, and a task that the kernel ends at a limit that clauded itself has written.
# lanes: vm
# vm-releases: bookworm
# files: contract
# timeout: 400

install -m 755 contract/contract /usr/local/bin/contract
delegated() { systemd-run --quiet --property=Delegate=yes "$@"; }
check 'the contract of supervisors' delegated --wait --pipe --setenv=CLAUDED_TEST_SUPERVISOR=process --setenv=CLAUDED_TEST_CONTROLLERS=1 /usr/local/bin/contract

world=/var/tmp/process
mkdir -p $world/worktrees/{victim,beside} $world/run $world/state
cat >$world/clauded.toml <<TOML
[fleet]
supervisor = "process"
worktree-root = "$world/worktrees"
[defaults]
profile = "scripted"
[profiles.scripted]
command = ["/usr/local/bin/scripted-agent"]
[api]
listen = "off"
token-file = "$world/state/token"
[store]
path = "$world/state/clauded.db"
[instances.victim]
limits = { memory = "150M", memory-high = "infinity", swap = "0" }
[instances.beside]
TOML
delegated --unit=other-clauded --property=Type=notify clauded --config $world/clauded.toml --state-directory $world/state \
  --runtime-directory $world/run --instances-directory $world/instances
export CLAUDED_SOCKET=$world/run/api.sock
claudectl start victim beside
at=$(find /sys/fs/cgroup/system.slice/other-clauded.service -type d -path '*/clauded-*/victim')
same memory.max "$(cat "$at/memory.max")" $((150 << 20))
claudectl limit victim --tasks 77
same 'pids.max, changed while it runs' "$(cat "$at/pids.max")" 77
before=$(cat "$at/runner/cgroup.procs")
beside=$(add beside $'await go\nsay done')
wait_running "$beside"
id=$(add victim 'alloc 400M')
ended "$id" failed oom
check 'the kernel counted it' test "$(stat_of "$at/memory.events" oom_kill)" -gt 0
same 'the runner' "$(cat "$at/runner/cgroup.procs")" "$before"
same "the neighbour's task" "$(of "$beside" .state)" running
next=$(add victim 'say still here')
ended "$next" succeeded
