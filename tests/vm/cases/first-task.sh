# The main job: start an unconfigured instance by its directory's name, give it a task, wait, look at what is known of it.
# lanes: vm container
# vm-releases: bookworm trixie bullseye

check 'clauded runs' systemctl -q is-active clauded.service
instance feature-x
check 'its status is in words' test -n "$(property claude-code@feature-x.service StatusText)"
id=$(add feature-x $'write done.txt finished\nsay hi' --type feature --title 'First task')
ended "$id" succeeded
same 'the file' "$(cat "$STATE/worktrees/feature-x/done.txt")" finished
same 'attempts' "$(of "$id" .attempts)" 1
same 'the agent said' "$(of "$id" '.history[0].text')" hi
same 'its instance' "$(of "$id" .placed_on)" feature-x
check 'the log has it' grep -q hi <(claudectl task log "$id")
check 'status has the instance' jq -e '.[] | select(.name == "feature-x" and .active == "active" and .connected)' <(claudectl status -o json)
any=$(claudectl task add --any 'say two')
ended "$any" succeeded
if [ "$TB_MODE" = vm ]; then
  between 'CPU seconds' "$(of "$id" '.history[0] | .cpu_user_seconds + .cpu_system_seconds')" 0.001 60
  between 'peak memory' "$(of "$id" '.history[0].memory_peak_bytes // 100000')" 50000 200000000
  # What the disk has written is counted as it gets there, so an agent that waits for that.
  cat >/etc/clauded/clauded.toml.d/60-case.toml <<'TOML'
[profiles.writer]
agent = "command"
command = ["/bin/dd", "if=/dev/zero", "of=big", "bs=1M", "count=4", "conv=fsync"]
[instances.writer]
profile = "writer"
TOML
  systemctl reload clauded.service
  instance writer
  written=$(add writer 'write')
  ended "$written" succeeded
  between 'bytes written' "$(of "$written" '.history[0].io_write_bytes')" $((4 << 20)) $((6 << 20))
  for r in cpu memory io; do between "seconds stalled on $r" "$(of "$written" ".history[0].${r}_stall_seconds // -1")" 0 60; done
  claudectl stop writer
  x='instance="feature-x"'
  between 'its memory in /metrics' "$(metric "clauded_instance_memory_current_bytes{$x}")" 100000 1e9
  between 'its CPU seconds' "$(metric "clauded_instance_cpu_seconds_total{$x,mode=\"user\"}")" 0.001 60
  same 'the limit of its service, since it has no configuration' "$(metric "clauded_instance_pids_limit{$x}")" 1024
  between 'its processes' "$(metric "clauded_instance_pids_current{$x}")" 1 50
  between 'its seconds stalled on CPU' "$(metric "clauded_instance_pressure_stall_seconds_total{$x,resource=\"cpu\",kind=\"some\"}")" 0.000001 60
  between "the fleet's memory" "$(metric clauded_fleet_memory_current_bytes)" "$(metric "clauded_instance_memory_current_bytes{$x}")" 1e9
  code=0; claudectl doctor >/tmp/doctor || code=$?
  cat /tmp/doctor
  for s in systemd cgroups "TCP port"; do check "doctor is content with $s" grep -qE "^ok +$s " /tmp/doctor; done
  check 'it asks the agent of those alone that have it' grep -qE '^problem +login +not logged in: feature-x$' /tmp/doctor
  same 'its exit code, and its problems: the scripted agent has no login' "$code $(sed -n 's/^problem *\([^ ]*\) .*/\1/p' /tmp/doctor)" '1 login'
fi
claudectl stop feature-x
same 'processes of the user' "$(pgrep -u claude-code || true)" ''
