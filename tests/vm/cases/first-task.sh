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
fi
check 'the limits of the service of an instance without configuration' grep -qE '^clauded_instance_pids_limit\{instance="feature-x"\} 1024$' <(curl -sf http://127.0.0.1:8888/metrics)
check 'metrics' grep -qE '^clauded_[a-z_]+.*feature-x' <(curl -sf http://127.0.0.1:8888/metrics)
claudectl stop feature-x
same 'processes of the user' "$(pgrep -u claude-code || true)" ''
