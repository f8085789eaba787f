#!/bin/bash
# Installs what the tests need from the distribution (Debian or Ubuntu, as root), and unpacks Prometheus, which nobody wants
# installed as a service, below target/tools. Answers 0 if all of it is there afterwards.
set -euo pipefail
cd "$(dirname "$0")/../.."
PROMETHEUS=target/tools/prometheus
PACKAGES=(mmdebstrap systemd-container gcc libc6-dev cpio xz-utils zstd e2fsprogs jq debhelper dpkg-dev lintian binutils python3 python3-venv shellcheck man-db systemd git)
PROGRAMS=(mmdebstrap systemd-nspawn gcc cpio xz zstd mke2fs jq dh lintian objdump python3 shellcheck man systemd-analyze git qemu-system-x86_64 qemu-img)

missing() { local p; for p in "${PROGRAMS[@]}"; do command -v "$p" >/dev/null || echo "$p"; done; }

prometheus() {
  [ ! -x $PROMETHEUS/usr/bin/promtool ] || return 0
  local d; d=$(mktemp -d)
  mkdir -p $PROMETHEUS
  (cd "$d" && apt-get download -q -o APT::Sandbox::User=root prometheus) && dpkg-deb -x "$d"/prometheus_*.deb $PROMETHEUS
  rm -r "$d"
}

# tests/cli takes the real Claude Code CLI from npm, whoever npm came from.
command -v npm >/dev/null || { PACKAGES+=(nodejs npm) PROGRAMS+=(npm); }

if [ -z "$(missing)" ]; then prometheus; exit; fi
[ "$(id -u)" = 0 ] || { echo "missing, and only root can install it: $(missing | tr '\n' ' ')" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "missing, and there is no apt-get: $(missing | tr '\n' ' ')" >&2; exit 1; }

export DEBIAN_FRONTEND=noninteractive
get() { apt-get install -y -q --no-install-recommends "$@"; }
apt-get update -q
get "${PACKAGES[@]}"

# Where a part of qemu is already installed from backports, the release's own qemu does not fit beside it.
if ! command -v qemu-system-x86_64 >/dev/null || ! command -v qemu-img >/dev/null; then
  get qemu-system-x86 qemu-utils || {
    # shellcheck disable=SC2016 # the format is apt's
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Component: main' | awk '$1 ~ /\/debian\/?$/ { print $1; exit }')
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    [ -n "$mirror" ] || { echo "qemu cannot be installed, and apt names no Debian mirror to take backports from" >&2; exit 1; }
    echo "deb $mirror $codename-backports main" >/etc/apt/sources.list.d/clauded-test-backports.list
    apt-get update -q
    get -t "$codename-backports" qemu-system-x86 qemu-utils
  }
fi
[ -z "$(missing)" ] || { echo "still missing: $(missing | tr '\n' ' ')" >&2; exit 1; }
prometheus
