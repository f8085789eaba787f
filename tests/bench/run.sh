#!/bin/bash
# `make bench`: builds, fetches the peers that can be had, measures. The table goes to standard output, target/bench.json has
# every number. BENCH_TASKS=N sets how many short tasks the last row takes. As root, and after `make deb`, what needs the kernel's
# memory controller is measured in the virtual machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=target/tools

# The virtual machine's part. What cannot be had is a line of the report.
[ "$(id -u)" != 0 ] || tests/vm/prerequisites.sh >/dev/null || true

cargo build --release --locked --bins --example bench-queue --example bench-scrape --example bench-locks --example bench-stamp

mkdir -p $tools
if ! command -v pueued >/dev/null && [ ! -x $tools/bin/pueued ]; then
    cargo install --quiet --locked --root $tools --target-dir $tools/build pueue || echo "pueue cannot be had: its column stays empty" >&2
fi
for package in prometheus-node-exporter prometheus-process-exporter conmon; do
    [ -d $tools/$package ] || command -v $package >/dev/null && continue
    # Unpacked beside us: nothing is installed, no service starts.
    (cd $tools && apt-get download $package >/dev/null 2>&1 && dpkg-deb -x ${package}_*.deb $package) || echo "$package cannot be had: its column stays empty" >&2
done

exec python3 tests/bench/bench.py
