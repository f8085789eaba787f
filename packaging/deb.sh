#!/bin/bash
# Builds dist/clauded_VERSION_amd64.deb: the programs against glibc 2.31 (Debian 11, Ubuntu 20.04 and newer) with cargo
# zigbuild from a virtual environment cached under target/, then debhelper, then what must hold of the result.
# Environment: EXTRA, more for cargo to build in the same go (`--test contract`, for the tests); DIST, where the package goes.
set -euo pipefail
cd "$(dirname "$0")/.."
GLIBC=2.31 TARGET=x86_64-unknown-linux-gnu TOOLS=target/tools/zig
OUT=${CARGO_TARGET_DIR:-target}/$TARGET/release
export DIST=${DIST:-dist}

die() { echo "make deb: $*" >&2; exit 1; }
need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null || die "$1 is missing: apt-get install $2 (as root, \`make test\` does it)"
}
need cargo 'rust, from https://rustup.rs'
need python3 'python3 python3-venv'
need dh debhelper
need objdump binutils
need lintian lintian

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
[ "$(dpkg-parsechangelog -S Version)" = "$version" ] || die "debian/changelog says $(dpkg-parsechangelog -S Version), Cargo.toml $version"

if ! [ -x $TOOLS/bin/cargo-zigbuild ]; then
  rm -rf $TOOLS
  if ! { python3 -m venv $TOOLS && $TOOLS/bin/pip install --quiet cargo-zigbuild==0.24.0 ziglang==0.14.1; }; then
    rm -rf $TOOLS
    die "cargo-zigbuild cannot be installed into a virtual environment: python3-venv and a reachable Python package index are needed"
  fi
fi
rustup target list --installed 2>/dev/null | grep -qx $TARGET || [ "$(rustc -vV | sed -n 's/^host: //p')" = $TARGET ] || die "rustup target add $TARGET"
# shellcheck disable=SC2086 # words of EXTRA
PATH=$PWD/$TOOLS/bin:$PATH cargo zigbuild --release --locked --bins ${EXTRA:-} --target $TARGET.$GLIBC

for program in clauded claudectl clauded-runner clauded-generator; do
  wanted=$(objdump -T "$OUT/$program" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
  [ -n "$wanted" ] || die "$OUT/$program names no glibc version: not the program that was meant"
  strange=$(objdump -p "$OUT/$program" | sed -n 's/^ *NEEDED *//p' | grep -vxE 'lib(c|m|dl|pthread|rt)\.so\.[0-9]+|ld-linux-x86-64\.so\.2' | tr '\n' ' ') || true
  [ -z "$strange" ] || die "$OUT/$program needs $strange, which debian/control does not name"
  [ "$(printf '%s\n' "GLIBC_$GLIBC" "$wanted" | sort -V | tail -n 1)" = "GLIBC_$GLIBC" ] || die "$OUT/$program needs $wanted, more than $GLIBC"
done

mkdir -p "$DIST"
rm -f "$DIST"/clauded_*.deb
DEB_RULES_REQUIRES_ROOT=no debian/rules clean binary BIN="$OUT" >target/deb.log 2>&1 || { tail -n 40 target/deb.log >&2; die "debhelper failed; all of it is in target/deb.log"; }
package=$DIST/clauded_${version}_amd64.deb
[ -e "$package" ] || die "no $package; see target/deb.log"
lintian --fail-on error --suppress-tags no-manual-page,initial-upload-closes-no-bugs "$package"
echo "$package: $(du -h "$package" | cut -f1), needs glibc $GLIBC or newer"
