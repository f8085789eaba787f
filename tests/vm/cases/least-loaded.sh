# A task for a team goes to the member whose slice is the least loaded, by the kernel's own count.
# lanes: vm
# vm-releases: bookworm bullseye
# timeout: 300

cat >/etc/clauded/clauded.toml.d/60-case.toml <<'TOML'
[teams.t]
policy = "least-loaded"
[teams.t.members.dev]
profile = "scripted"
replicas = 2
limits = { memory = "400M", memory-high = "400M" }
TOML
systemctl daemon-reload
systemctl reload clauded
instance t-dev-1 t-dev-2

# What is in memory files stays charged to who made them, with nobody running.
load() { # NAME
  local id
  # The slices are looked at once a second, so each task lasts longer.
  id=$(add "$1" $'run dd if=/dev/zero of=/dev/shm/load bs=1M count=150 status=none\nsleep 2s')
  ended "$id" succeeded
  [ "$(cat "$(slice "$1")/memory.current")" -gt $((150 << 20)) ] || die "$1 is not loaded: $(cat "$(slice "$1")/memory.current")"
}
for pair in 't-dev-1 t-dev-2' 't-dev-2 t-dev-1'; do
  read -r loaded free <<<"$pair"
  load "$loaded"
  for _ in 1 2 3; do
    id=$(claudectl task add --team t -- 'sleep 2s')
    ended "$id" succeeded
    same 'who got it' "$(of "$id" .placed_on)" "$free"
  done
  rm -f /dev/shm/load
done
