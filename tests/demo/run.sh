#!/usr/bin/env bash
# A tour in half a minute: a throw-away clauded with the process supervisor, a small git repository, three instances with a
# worktree each, and tasks that succeed, fail and exceed a limit. AGENT=claude uses the real Claude Code CLI, with the
# key or token of your environment. Called by `make demo`, which builds first.
set -euo pipefail

bin=${BIN:-target/debug}
bin=$(cd "$bin" && pwd)
world=$(mktemp -d "${TMPDIR:-/tmp}/clauded-demo-XXXXXX")
export CLAUDED_SOCKET=$world/run/api.sock PATH=$bin:$PATH

bold() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi; }
show() { printf '$ %s\n' "$*"; "$@"; }

# held STATES: what has to have become of the tasks, one a line: its number, its state, the reason of a failure.
held() {
    local shown
    shown=$(claudectl task list --all | sed -nE 's/^([0-9]+) +([a-z]+( \([a-z-]+\))?) .*/\1 \2/p' | sort -n)
    [ "$shown" = "$1" ] || { printf 'these are not the outcomes that were meant:\n%s\n' "$shown" >&2; exit 1; }
}

finish() {
    local status=$?
    trap - EXIT
    if [ -S "$CLAUDED_SOCKET" ]; then
        # shellcheck disable=SC2086 # three words
        claudectl stop $names >/dev/null 2>&1 || true
    fi
    [ -z "${daemon:-}" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; } || true
    if [ "$status" != 0 ]; then
        echo "the demo failed; the end of clauded's log:" >&2
        tail -n 20 "$world/clauded.log" >&2 || true
    fi
    rm -rf "$world"
    exit "$status"
}
trap finish EXIT

# Instances have a CLAUDE_CONFIG_DIR of their own and nothing of our environment, so a key has to be handed to them. A copy of
# your login would not do: whichever is renewed first makes the others invalid.
log_in() {
    local variable
    # As root the CLI works without asking only where it is told that it may.
    [ "$(id -u)" != 0 ] || environment+=('IS_SANDBOX = "1"')
    [ -z "${ANTHROPIC_BASE_URL:-}" ] || environment+=("ANTHROPIC_BASE_URL = \"$ANTHROPIC_BASE_URL\"")
    for variable in ANTHROPIC_API_KEY CLAUDE_CODE_OAUTH_TOKEN; do
        [ -n "${!variable:-}" ] || continue
        (umask 077 && printf '%s\n' "${!variable}" >"$world/credential")
        profile="credential-file = \"$world/credential\""$'\n'"credential-variable = \"$variable\""
        return
    done
    echo "AGENT=claude: set ANTHROPIC_API_KEY, or CLAUDE_CODE_OAUTH_TOKEN to what \`claude setup-token\` prints" >&2
    exit 1
}
environment=() profile=

case ${AGENT:-scripted} in
    scripted) agent=$bin/scripted-agent ;;
    claude)
        agent=$(command -v claude) || { echo "AGENT=claude: there is no claude on the PATH; install it with: npm install -g @anthropic-ai/claude-code" >&2; exit 1; }
        log_in ;;
    *) echo "AGENT is \"scripted\" or \"claude\", not \"$AGENT\"" >&2; exit 1 ;;
esac

names="parser docs greedy" wanted=
mkdir "$world/worktrees" "$world/run" "$world/state" "$world/instances"
if command -v git >/dev/null; then
    bold "A git repository with three worktrees"
    git init -q -b main "$world/repo"
    git -C "$world/repo" -c user.name=demo -c user.email=demo@localhost commit -q --allow-empty -m "the beginning"
    for name in $names; do git -C "$world/repo" worktree add -q -b "$name" "$world/worktrees/$name"; done
else
    bold "Three directories (there is no git here to make worktrees with)"
    for name in $names; do mkdir "$world/worktrees/$name"; done
fi
ls -d "$world"/worktrees/*

cat > "$world/clauded.toml" <<TOML
[fleet]
supervisor = "process"
worktree-root = "$world/worktrees"
[api]
listen = "off"
token-file = "$world/state/token"
[store]
path = "$world/state/clauded.db"
[profiles.claude]
command = "$agent"
kill-grace = "2s"
environment = { $(IFS=,; echo "${environment[*]-}") }
$profile
[instances.parser]
[instances.docs]
[instances.greedy]
limits = { memory = "128M", memory-high = "infinity", swap = "0" }
TOML

bold "clauded, without systemd"
clauded --config "$world/clauded.toml" --state-directory "$world/state" --runtime-directory "$world/run" \
    --instances-directory "$world/instances" 2>"$world/clauded.log" & daemon=$!
for _ in {1..100}; do
    claudectl metrics >/dev/null 2>&1 && break
    kill -0 "$daemon" 2>/dev/null || exit 1
    sleep 0.05
done
# shellcheck disable=SC2086 # three words
show claudectl start $names

bold "Tasks on three instances"
add() { claudectl task add "$@"; }
if [ "${AGENT:-scripted}" = claude ]; then
    tasks="$(add --instance parser --type feature --title "Write hello.txt" "Create the file hello.txt with one line: hello")
$(add --instance docs --type docs --title "Say one word" --max-turns 1 "Answer with the one word: fine")
$(add --instance greedy --type bugfix --title "Too little time" --timeout 2s "Write a long essay about cgroups into essay.txt")"
else
    tasks="$(add --instance parser --type feature --title "Write hello.txt" $'write hello.txt hello\ncost 0.02\nturns 2\nsay hello.txt is written')
$(add --instance docs --type docs --title "Take a second" $'sleep 1s\ncost 0.01\nsay done')
$(add --any --type feature --title "Whoever is free" $'write any.txt free\ncost 0.01\nsay done')"
    wanted=$'1 succeeded\n2 succeeded\n3 succeeded\n4 failed'
    if claudectl status greedy -o json | grep -q '"memory_max": *[0-9]'; then
        tasks="$tasks
$(add --instance greedy --type bugfix --title "Takes more memory than it may" $'alloc 512M\nsay never said')"
        wanted+=' (oom)'
    else
        echo "(no writable cgroup with a memory controller here: the limit that is exceeded is the time)"
        tasks="$tasks
$(add --instance greedy --type bugfix --title "Takes more time than it may" --timeout 2s "hang")"
        wanted+=' (timeout)'
    fi
fi
# Some of them are meant to fail, which is what `task wait` says with status 1.
# shellcheck disable=SC2086 # a number a task
claudectl task wait --timeout 120s $tasks || [ $? = 1 ]

if [ -n "$wanted" ]; then
    bold "An agent without a login"
    # Its account is paused, and the task waits: nothing of that account would do better.
    show claudectl task add --instance docs --type bugfix --title "Not logged in" "fail auth"
    grep -m1 -q '"account-paused"' < <(exec timeout 60 claudectl events -f --after 0 -o json)
    claudectl task show 5 | grep -E '^ *(Title|State|Detail):'
    # The operator mends the login; here the task is given up instead.
    show claudectl task cancel 5
    show claudectl resume --account claude
    wanted+=$'\n5 cancelled'
fi
bold "What became of them"
show claudectl task list --all
[ -z "$wanted" ] || held "$wanted"
bold "The instances"
show claudectl status
bold "What Prometheus would see"
claudectl metrics | grep -E '^clauded_(tasks_finished_total|cost_usd_total|tokens_total|instance_state\{.*\} 1)'
