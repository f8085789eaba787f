# A task that the fleet's slice has no memory for waits, and says so; it starts when there is room, and nothing was killed.
# lanes: vm
# vm-releases: bookworm bullseye
# timeout: 400

cat >/etc/clauded/clauded.toml.d/60-case.toml <<'TOML'
[fleet.limits]
memory = "450M"
memory-high = "450M"
[instances.a]
[instances.b]
TOML
systemctl daemon-reload
systemctl reload clauded
instance a b
fleet=$(dirname "$(slice a)")
same 'what the fleet has' "$(cat "$fleet/memory.max")" $((450 << 20))

# What tasks like it need is learned from three of them.
for _ in 1 2 3; do
  id=$(add a 'alloc 250M')
  ended "$id" succeeded
done
first=$(add a $'alloc 250M\nawait go')
wait_running "$first"
second=$(add b 'alloc 250M')
small=$(add b 'say small' --type small)
ended "$small" succeeded
same 'the second' "$(of "$second" .state)" pending
same 'what it waits for' "$(of "$second" .waits_for)" memory
check 'it says how much' grep -qE 'waits for memory: tasks like it need 2[0-9]{2} MiB, and the fleet has [0-9]+ MiB left of 450 MiB' <<<"$(of "$second" .detail)"
same 'as the metric' "$(metric 'clauded_tasks_waiting{cause="memory"}')" 1
touch "$STATE/worktrees/a/go"
ended "$first" succeeded
ended "$second" succeeded
same 'processes that the kernel killed' "$(stat_of "$fleet/memory.events" oom_kill)" 0
