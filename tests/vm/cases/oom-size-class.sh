# A task that has run out of memory is tried once more with the next size class, where the slices around its instance allow it; the
# instance gets its own limit back after that, also if clauded is killed meanwhile.
# lanes: vm
# vm-releases: bookworm trixie bullseye
# timeout: 600

configure() {
  cat >/etc/clauded/clauded.toml.d/60-case.toml <<TOML
[queue]
size-classes = ["300M", "900M"]
[instances.x.limits]
memory = "150M"
memory-high = "150M"
swap = "0"
$1
TOML
  systemctl daemon-reload
  systemctl reload clauded
}
configure ''
instance x
limited() { [ "$(cat "$(slice x)/memory.max")" = $(($1 << 20)) ]; }
told() { claudectl status x -o json | jq -r '.history[].kind' | grep -c "$1" || true; }
check 'its own limit' limited 150
runner=$(property claude-code@x.service MainPID)

# Twice its limit is enough.
id=$(add x $'alloc 200M\nawait seen')
wait_until 120 'the limit while it is tried again' limited 300
same 'memory.high goes with it' "$(cat "$(slice x)/memory.high")" $((300 << 20))
same 'the task view' "$(of "$id" .memory_limit_bytes)" $((300 << 20))
kill -9 "$(property clauded.service MainPID)"
touch "$STATE/worktrees/x/seen"
ended "$id" succeeded
same 'attempts' "$(of "$id" .attempts)" 2
check 'the first attempt says so' grep -q 'tried again with 300M' <<<"$(of "$id" '.history[0].detail')"
wait_until 60 'its own limit again' limited 150
same 'memory.high as well' "$(cat "$(slice x)/memory.high")" $((150 << 20))
same 'raised, as told' "$(told limits-raised)" 1
back() { [ "$(told limits-restored)" = 1 ]; }
wait_until 30 'set back, as told' back
same 'the runner' "$(property claude-code@x.service MainPID)" "$runner"

# Once and no more.
id=$(add x 'alloc 500M')
ended "$id" failed oom
same 'attempts' "$(of "$id" .attempts)" 2
check 'it says why' grep -q 'it has been tried with 300M already' <<<"$(of "$id" .detail)"
wait_until 60 'its own limit again' limited 150

# clauded is killed when the attempt is over; the next one sets the limit back.
id=$(add x $'alloc 200M\nawait stopped')
wait_until 120 'the limit while it is tried again' limited 300
systemctl stop clauded.socket clauded
touch "$STATE/worktrees/x/stopped"
over() { ! ls -d "$(cgroup x)"/task-* >/dev/null 2>&1; }
wait_until 60 'the attempt is over' over
check 'nobody has set it back' limited 300
systemctl start clauded
ended "$id" succeeded
wait_until 60 'its own limit again' limited 150

# What somebody sets meanwhile stays.
id=$(add x $'alloc 200M\nawait set')
wait_until 120 'the limit while it is tried again' limited 300
claudectl limit x --memory 400M --memory-high 400M
touch "$STATE/worktrees/x/set"
ended "$id" succeeded
wait_event 60 '"kind":"limits-left"' >/dev/null
check 'it stays' limited 400
claudectl limit x --memory 150M --memory-high 150M

# Not past what the fleet has.
configure $'[fleet.limits]\nmemory = "250M"\nmemory-high = "250M"'
# systemd sets the limits of what runs some time after a daemon-reload has returned; 257 with the next unit that starts beside it.
instance y
bounded() { [ "$(cat "$(dirname "$(slice x)")/memory.max")" = $((250 << 20)) ]; }
wait_until 60 'the fleet has its limit' bounded
id=$(add x 'alloc 200M')
ended "$id" failed oom
same 'attempts' "$(of "$id" .attempts)" 1
check 'it says what keeps it' grep -q 'not tried again with more memory: the next size class is 300M, and claude-code.slice has 250M' <<<"$(of "$id" .detail)"
check 'its own limit' limited 150
