#!/bin/bash
# `make lint`: what is checked without running anything. Every check runs; the exit status is 1 if one of them failed.
# cargo-deny takes minutes to build, so it is kept under target/tools; without it (no network) that check is reported as skipped.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
failed=()
run() { local name=$1; shift; echo "-- $name"; "$@" || failed+=("$name"); }

deny() {
  local tool=target/tools/deny/bin/cargo-deny
  [ -x $tool ] || tool=$(command -v cargo-deny) ||
    { tool=target/tools/deny/bin/cargo-deny; cargo install --quiet --locked --root target/tools/deny cargo-deny@0.20.2; } ||
    { echo "skipped: cargo-deny cannot be installed"; [ "${CI:-}" != true ]; return; }
  "$tool" --log-level error --offline --locked check licenses bans sources
}

# In a directory with the programs where the units expect them, so that systemd-analyze finds all it asks for.
units() {
  command -v systemd-analyze >/dev/null || { echo "skipped: no systemd-analyze"; [ "${CI:-}" != true ]; return; }
  local root out=0
  root=$(mktemp -d) || return
  mkdir -p "$root/usr/lib/systemd/system" "$root/usr/bin" "$root/usr/lib/clauded" "$root/bin"
  cp units/*.service units/*.socket units/*.slice /lib/systemd/system/{sysinit,basic,network-online,multi-user,sockets,shutdown,slices,paths,timers,local-fs,local-fs-pre,network}.target /lib/systemd/system/dbus.socket "$root/usr/lib/systemd/system/" 2>/dev/null
  for program in usr/bin/clauded usr/lib/clauded/clauded-runner bin/kill; do install -m 755 /bin/true "$root/$program"; done
  systemd-analyze verify --man=no --root="$root" clauded.service clauded.socket clauded-tcp.socket claude-code@x.service claude-code.slice claude.slice 2>&1 | grep -E 'claude' && out=1
  rm -rf "$root"
  return $out
}

run rustfmt cargo fmt --check
run clippy cargo clippy --locked --all-targets --quiet -- -D warnings
run rustdoc env RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --lib --quiet --document-private-items
run licenses deny
run units units
if command -v shellcheck >/dev/null; then
  run scripts shellcheck -x packaging/*.sh tests/*.sh tests/vm/*.sh tests/demo/*.sh .ci/run
  run cases shellcheck -s bash -e SC2016,SC2034,SC2154 tests/vm/cases/*.sh
else
  echo "skipped: no shellcheck"
  [ "${CI:-}" != true ] || failed+=(scripts)
fi
run python python3 -m py_compile tests/vm/run.py tests/vm/tbvm.py
run configuration cargo run --locked --quiet --bin claudectl -- config check config/clauded.toml

if [ ${#failed[@]} = 0 ]; then echo "lint: all clean"; else echo "lint: failed: ${failed[*]}"; exit 1; fi
