#!/usr/bin/env bash
# The same tour as run.sh under a real systemd: a virtual machine with the package installed, instances started by systemctl,
# and a task that the kernel ends at its memory limit. Called by `make demo-vm`, which builds the package first.
# With GUEST=1 it is the part that runs in the machine.
set -euo pipefail

if [ "${GUEST:-}" != 1 ]; then
    top=$(cd "$(dirname "$0")/../.." && pwd)
    deb=$(find "$top/dist" -name 'clauded_*_amd64.deb' | sort | tail -n 1)
    agent=$top/target/x86_64-unknown-linux-gnu/release/scripted-agent
    if [ -z "$deb" ] || [ ! -x "$agent" ]; then echo "there is no package: make deb" >&2; exit 1; fi
    [ "$(id -u)" = 0 ] || { echo "the virtual machine is built as root: sudo make demo-vm" >&2; exit 1; }
    "$top/tests/vm/prerequisites.sh" >/dev/null
    share=$(mktemp -d)
    trap 'rm -rf "$share"' EXIT
    mkdir "$share/deb"
    cp "$deb" "$share/deb/clauded.deb"
    cp "$agent" "$top/tests/vm/install.sh" "$top/tests/demo/vm.sh" "$share/"
    "$top/tests/vm/tbvm.py" run "${RELEASE:-bookworm}" --share "$share" --timeout 300 -- 'GUEST=1 bash vm.sh'
    exit
fi

show() { printf '$ %s\n' "$*"; "$@"; }
bold() { printf '\n== %s\n' "$*"; }

# held STATES: what has to have become of the tasks, one a line: its number, its state, the reason of a failure.
held() {
    local shown
    shown=$(claudectl task list --all | sed -nE 's/^([0-9]+) +([a-z]+( \([a-z-]+\))?) .*/\1 \2/p' | sort -n)
    [ "$shown" = "$1" ] || { printf 'these are not the outcomes that were meant:\n%s\n' "$shown" >&2; exit 1; }
}

bold "$(. /etc/os-release && echo "$PRETTY_NAME"), $(systemctl --version | head -n 1), Linux $(uname -r): apt install ./clauded.deb"
bash install.sh
bold "A git repository with three worktrees"
cd /var/lib/claude-code/worktrees
as() { runuser -u claude-code -- "$@"; }
as git init -q -b main repo
as git -C repo -c user.name=demo -c user.email=demo@localhost commit -q --allow-empty -m "the beginning"
for name in parser docs greedy; do as git -C repo worktree add -q -b "$name" "$PWD/$name"; echo "$PWD/$name"; done

bold "Three instances"
show systemctl start claude-code@parser claude-code@docs claude-code@greedy
show claudectl limit greedy --memory 128M --memory-high infinity --swap 0

bold "Four tasks"
add() { claudectl task add "$@"; }
tasks="$(add --instance parser --type feature --title "Write hello.txt" $'write hello.txt hello\ncost 0.02\nturns 2\nsay hello.txt is written')
$(add --instance docs --type docs --title "Take a second" $'sleep 1s\ncost 0.01\nsay done')
$(add --any --type feature --title "Whoever is free" $'write any.txt free\ncost 0.01\nsay done')
$(add --instance greedy --type bugfix --title "Takes more memory than it may" $'alloc 512M\nsay never said')"
# Some of them are meant to fail, which is what `task wait` says with status 1.
# shellcheck disable=SC2086 # numbers, one a word
claudectl task wait --timeout 240s $tasks || [ $? = 1 ]

bold "An agent without a login"
# Its account is paused, and the task waits: nothing of that account would do better.
show claudectl task add --instance docs --type bugfix --title "Not logged in" "fail auth"
grep -m1 -q '"account-paused"' < <(exec timeout 60 claudectl events -f --after 0 -o json)
claudectl task show 5 | grep -E '^ *(Title|State|Detail):'
# The operator mends the login; here the task is given up instead.
show claudectl task cancel 5
show claudectl resume --account claude

bold "What became of them"
show claudectl task list --all
held $'1 succeeded\n2 succeeded\n3 succeeded\n4 failed (oom)\n5 cancelled'
bold "The instances"
show claudectl status
show systemctl status --no-pager --lines=0 claude-code@greedy
bold "What the kernel counted in greedy's slice"
cat "/sys/fs/cgroup$(systemctl show -p ControlGroup --value claude-code-greedy.slice)/memory.events"
bold "What Prometheus would see"
curl -sf http://127.0.0.1:8888/metrics | grep -E '^clauded_(tasks_finished_total|cost_usd_total|tokens_total|instance_state\{.*\} 1|instance_memory_events_total\{.*greedy.*oom)'
