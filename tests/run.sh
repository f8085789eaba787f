#!/bin/bash
# `make test`: every layer, one after the other, and a closing line that sums them up. As root it installs what it needs;
# otherwise it says what it skipped. With CI=true a skipped layer is a failure. TEST_LAYERS="rust deb vm" picks some.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
LOG=target/test PASSED=0 FAILED=0 SKIPPED=()
mkdir -p $LOG
# Where tests/skip writes what a test left out; libtest shows nothing of a test that passes.
export CLAUDED_TEST_SKIPS=$PWD/$LOG/skips
rm -f "$CLAUDED_TEST_SKIPS"

say() { printf '\n== %s (%s)\n' "$*" "$(date +%T)"; }
wanted() { [[ " ${TEST_LAYERS:-rust demo lint deb vm} " == *" $1 "* ]]; }
count() { PASSED=$((PASSED + $1)) FAILED=$((FAILED + $2)); }
skip() {
  echo "skipped: $*"
  SKIPPED+=("$1")
  if [ "${CI:-}" = true ]; then echo "a skipped layer is a failure in CI"; count 0 1; fi
}
as_one() { # NAME COMMAND...: counts as a single test
  local name=$1; shift
  if "$@"; then count 1 0; else echo "not ok $name"; count 0 1; fi
}

say prerequisites
tests/vm/prerequisites.sh >$LOG/prerequisites.log 2>&1
ready=$?
[ $ready = 0 ] || tail -n 5 $LOG/prerequisites.log

promtool=$PWD/target/tools/prometheus/usr/bin/promtool
[ ! -x "$promtool" ] || export PROMTOOL=$promtool

if wanted rust; then
  say 'unit and integration tests'
  cargo test --locked --no-fail-fast 2>&1 | tee $LOG/rust.log | grep -E '^(test result|test .*FAILED|error|warning: unused|     Running|failures:|---- |thread .*panicked)'
  status=${PIPESTATUS[0]}
  read -r passed failed < <(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' $LOG/rust.log)
  # a crate that does not compile has no results
  if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; tail -n 30 $LOG/rust.log; fi
  if [ "$status" != 0 ]; then
    awk '/^---- .* stdout ----/ { p = 1 } /^stack backtrace:|^note:|^failures:/ { p = 0 } p' $LOG/rust.log | head -n 100
    grep -E '^FAIL ' $LOG/rust.log
    echo "all of it: $LOG/rust.log"
  fi
  count "$passed" "$failed"
fi

if wanted demo; then
  say 'the demonstration, which says itself what has to come of each task'
  if cargo build --locked --quiet --bins; then as_one demo timeout 120 tests/demo/run.sh; else count 0 1; fi
fi

if wanted lint; then
  say lint
  as_one lint tests/lint.sh
fi

if wanted deb || wanted vm; then
  say 'the package'
  if [ $ready = 0 ]; then as_one package env EXTRA='--test contract' packaging/deb.sh; else skip deb 'the package: see the prerequisites above'; fi
fi

if wanted vm; then
  say 'real systemd: containers and virtual machines'
  if [ $ready != 0 ]; then skip vm 'the machines: see the prerequisites above'
  elif [ "$(id -u)" != 0 ]; then skip vm 'the machines: they need root'
  elif ! ls dist/clauded_*.deb >/dev/null 2>&1; then skip vm 'the machines: there is no package'
  else
    tests/vm/run.py | tee $LOG/vm.log
    status=${PIPESTATUS[0]}
    read -r passed failed < <(sed -nE 's/^vm: ([0-9]+) passed, ([0-9]+) failed.*/\1 \2/p' $LOG/vm.log | tail -n 1; echo 0 0)
    [ "$status" = 0 ] || [ "$failed" != 0 ] || failed=1
    count "$passed" "$failed"
    say 'the demonstration in a virtual machine'
    if tests/demo/vm.sh >$LOG/demo-vm.log 2>&1; then count 1 0; else echo 'not ok demo-vm'; tail -n 20 $LOG/demo-vm.log; count 0 1; fi
  fi
fi

say 'all layers'
[ ${#SKIPPED[@]} = 0 ] || echo "skipped: ${SKIPPED[*]}"
[ ! -s "$CLAUDED_TEST_SKIPS" ] || sort "$CLAUDED_TEST_SKIPS" | uniq -c | sed -E 's/^ *([0-9]+) /skipped tests: \1 × /'
printf 'in %d min %d s\n' $((SECONDS / 60)) $((SECONDS % 60))
echo "$PASSED passed, $FAILED failed"
[ $FAILED = 0 ]
