#!/usr/bin/env bash
# bpf.sh: builds the eBPF programs into policy-ebpf/object/policy.o, where policy-ebpf/build.rs looks for them.
# With Debian's compiler, which has a core library for BPF, or with a nightly toolchain of rustup.
# Instant when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${XDG_CACHE_HOME:-$HOME/.cache}/routerd-tools
export PATH=$PATH:$tools/bin
target=$PWD/${CARGO_TARGET_DIR:-target}/bpf
[[ ${CARGO_TARGET_DIR:-} != /* ]] || target=$CARGO_TARGET_DIR/bpf

flags=(--cfg="bpf_target_arch=\"$(uname -m)\"" -Cdebuginfo=2 -Clink-arg=--btf -Clinker=bpf-linker)
export CARGO_ENCODED_RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$(printf '\x1f%s' "${flags[@]}")
CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS:1}
# What builds for this machine must not spill over.
unset RUSTFLAGS RUSTUP_TOOLCHAIN CARGO_BUILD_TARGET RUSTC RUSTC_WRAPPER
build=(build --quiet --release --locked --target bpfel-unknown-none --target-dir "$target")

if ! command -v bpf-linker >/dev/null; then
  echo "bpf: no bpf-linker: run: make setup" >&2
  exit 1
fi
cd policy-ebpf/programs
if [[ -x /usr/bin/rustc && -x /usr/bin/cargo && -d $(/usr/bin/rustc --print sysroot)/lib/rustlib/bpfel-unknown-none ]]; then
  # The core library is there, so nothing unstable is needed but the target itself.
  RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc /usr/bin/cargo "${build[@]}"
elif rustup run nightly rustc --print sysroot >/dev/null 2>&1 &&
  [[ -d $(rustup run nightly rustc --print sysroot)/lib/rustlib/src/rust/library ]]; then
  rustup run nightly cargo "${build[@]}" -Z build-std=core
else
  cat >&2 <<'HELP'
bpf: no compiler that can build for BPF. Install one of:
  Debian 12 or newer:  apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf
  anywhere:            rustup toolchain install nightly --component rust-src
HELP
  exit 1
fi
# Written only where it differs: what embeds it is not built anew for nothing.
object=../object/policy.o
if ! cmp -s "$target/bpfel-unknown-none/release/policy" "$object"; then
  cp "$target/bpfel-unknown-none/release/policy" "$object.new"
  mv "$object.new" "$object"
fi
