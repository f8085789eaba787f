# Read by run.py before each case: what the cases have in common. Everything that waits has a deadline and waits for an event
# where there is one; times are generous, since a machine under emulation is 2 to 30 times slower than a real one.
# shellcheck shell=bash disable=SC2034
AGAIN=${AGAIN:-}
LEFT=/var/tmp/case # what a case keeps over a reboot
STATE=/var/lib/claude-code

die() { echo "FAILED: $*" >&2; exit 1; }

trap 'echo "FAILED: line $LINENO of ${BASH_SOURCE[0]##*/}: $BASH_COMMAND" >&2' ERR

# check DESCRIPTION COMMAND...
check() { local what=$1; shift; "$@" || die "$what ($*)"; echo "  $what"; }

# refute DESCRIPTION COMMAND...
refute() { local what=$1; shift; if "$@"; then die "$what ($*)"; fi; echo "  $what"; }

# same DESCRIPTION GIVEN WANTED
same() { [ "$2" = "$3" ] || die "$1: $2, not $3"; echo "  $1: $2"; }

# between DESCRIPTION NUMBER LOW HIGH
between() { awk -v n="$2" -v l="$3" -v h="$4" 'BEGIN { exit !(n >= l && n <= h) }' || die "$1: $2, not from $3 to $4"; echo "  $1: $2"; }

# property UNIT NAME
property() { systemctl show -p "$2" "$1" | cut -d= -f2-; }

# cgroup NAME: the directory of an instance's service;  slice NAME: of its slice
cgroup() { echo "/sys/fs/cgroup$(property "claude-code@$1.service" ControlGroup)"; }
slice() { echo "/sys/fs/cgroup$(property "claude-code-$1.slice" ControlGroup)"; }

# metric SERIES: the value of a series of /metrics, named with its labels as they stand there
metric() { curl -sf http://127.0.0.1:8888/metrics | awk -v s="$1" 'substr($0, 1, length(s) + 1) == s " " { print $NF }'; }

# events FILTER: jq on the array of all events
events() { claudectl events -o json | jq "$1"; }

# stat_of FILE KEY: the value behind a key of a flat-keyed cgroup file
stat_of() { awk -v k="$2" '$1 == k { print $2 }' "$1"; }

# wait_journal SECONDS PATTERN [journalctl's options]: until a line of this boot's journal matches, past ones included
wait_journal() {
  local seconds=$1 pattern=$2; shift 2
  grep -m1 -qE -- "$pattern" < <(exec timeout "$seconds" journalctl -b -f -n all -o cat "$@") || die "no line like '$pattern' in the journal within $seconds s"
}

# wait_event SECONDS PATTERN [AFTER]: until an event of clauded, as a line of JSON, matches
wait_event() {
  grep -m1 -E -- "$2" < <(exec timeout "$1" claudectl events -f --after "${3:-0}" -o json) || die "no event like '$2' within $1 s"
}

# wait_until SECONDS DESCRIPTION COMMAND...: for counters and files that announce nothing
wait_until() {
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@"; do [ $SECONDS -lt $end ] || die "not within its time: $what"; sleep 0.2; done
  echo "  $what"
}

# instance NAME...: makes the directory of each and starts it
instance() {
  local n
  for n; do
    install -d -o claude-code -g claude-code "$STATE/worktrees/$n"
    systemctl start "claude-code@$n" || { systemctl status --no-pager "claude-code@$n" >&2; die "claude-code@$n does not start"; }
  done
}

# add NAME PROMPT [claudectl's options]: queues a task, prints its number
add() { local name=$1 prompt=$2; shift 2; claudectl task add --instance "$name" "$@" -- "$prompt"; }

# of ID FILTER: a field of a task, by jq
of() { claudectl task show "$1" -o json | jq -r "$2"; }

# wait_running ID: until the task's agent runs
wait_running() { wait_event 60 "\"kind\":\"task-started\".*\"task\":$1[,}]|\"task\":$1[,}].*\"kind\":\"task-started\"" >/dev/null; }

# ended ID STATE [REASON]: waits for the task's end and holds it to that
ended() {
  claudectl task wait "$1" --timeout 5min >/dev/null || [ $? = 1 ] || die "task $1 does not end: $(of "$1" .state)"
  same "task $1" "$(of "$1" .state)" "$2"
  [ -z "${3:-}" ] || same "its reason" "$(of "$1" .reason)" "$3"
}

# agent_pids DIRECTORY...: the processes of the tasks in these slices
agent_pids() { find "$@" -path '*/task-*/cgroup.procs' -exec cat {} + 2>/dev/null; }

# pids NAME: the processes of an instance, its tasks' included
pids() { find "$(cgroup "$1")" -name cgroup.procs -exec cat {} +; }
