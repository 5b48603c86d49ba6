#!/usr/bin/env bash
# setup.sh [kernels]: installs what building and testing routerd needs; also what `make test-kernels` needs.
# Idempotent; instant when nothing is missing.
# Debian 12+ and Ubuntu 22.04+. Never starts a system service.
set -euo pipefail
tools=${XDG_CACHE_HOME:-$HOME/.cache}/routerd-tools

# command (or file) that shows a package is there : package
needs=(
  cc:gcc
  make:make
  protoc:protobuf-compiler
  /usr/include/google/protobuf/empty.proto:libprotobuf-dev
  etcd:etcd-server
  etcdctl:etcd-client
  containerd:containerd
  ctr:containerd
  runc:runc
  podman:podman
  /bin/busybox:busybox-static
  /usr/lib/cni/bridge:containernetworking-plugins
  nft:nftables
  ip:iproute2
  iperf3:iperf3
  ping:iputils-ping
  strip:binutils
  tcpdump:tcpdump
  conntrack:conntrack
  ethtool:ethtool
  jq:jq
  openssl:openssl
  wg:wireguard-tools
  dpkg-deb:dpkg
  systemd-analyze:systemd
  wireguard-go:wireguard-go
  setpriv:util-linux
  bird:bird2
  /usr/lib/frr/bgpd:frr
  gobgpd:gobgpd
  bgpctl:openbgpd
  exabgp:exabgp
)
# A compiler with a core library for BPF, unless rustup has a nightly one, and an LLVM as new as its own.
nightly() {
  local root
  root=$(rustup run nightly rustc --print sysroot 2>/dev/null) && [[ -d $root/lib/rustlib/src/rust/library ]]
}
llvm=/usr/lib/llvm-22
bpf=()
if [[ ! -e /usr/lib/rustlib/bpfel-unknown-none ]] && ! nightly; then
  bpf+=(rustc-web cargo-web libstd-rust-web-dev-bpf)
fi
if [[ ! -x $llvm/bin/llvm-config ]] && ! command -v bpf-linker >/dev/null &&
  [[ ! -x $tools/bin/bpf-linker ]]; then
  bpf+=(llvm-22-dev libpolly-22-dev zlib1g-dev libzstd-dev)
fi
if [[ ${1:-} == kernels ]]; then
  needs+=(
    qemu-system-x86_64:qemu-system-x86
    cpio:cpio
    /sbin/depmod:kmod
    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
  )
fi

missing=("${bpf[@]}")
for need in "${needs[@]}"; do
  what=${need%%:*}
  case $what in
    /*) [[ -e $what ]] || missing+=("${need#*:}") ;;
    *) command -v "$what" >/dev/null || missing+=("${need#*:}") ;;
  esac
done

if ((${#missing[@]})); then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  if [[ $(id -u) != 0 ]]; then
    echo "setup: these packages are missing and only root can install them: ${missing[*]}" >&2
    echo "setup: run: sudo make setup" >&2
    exit 1
  fi
  if ! command -v apt-get >/dev/null; then
    echo "setup: install these by hand, this is not Debian or Ubuntu: ${missing[*]}" >&2
    exit 1
  fi
  echo "setup: installing ${missing[*]}"
  # Packages of daemons start them; 101 from policy-rc.d says no. An existing policy is the admin's.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # Some releases have one package `etcd` in place of server and client.
  if ! apt-cache show etcd-server >/dev/null 2>&1; then
    missing=("${missing[@]/etcd-server/etcd}")
  fi
  # Debian 12 has them in bookworm-security. Elsewhere scripts/bpf.sh says what to install by hand.
  if ((${#bpf[@]})) && ! apt-cache show "${bpf[@]}" >/dev/null 2>&1; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | grep -vxF -f <(printf '%s\n' "${bpf[@]}"))
  fi
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null; then
  echo "setup: no cargo: install Rust first, see https://rustup.rs" >&2
  exit 1
fi
"$(dirname "$0")/tool.sh" cargo-nextest "$tools"
"$(dirname "$0")/tool.sh" boringtun-cli "$tools" boringtun-cli@0.7.1
if [[ -x $llvm/bin/llvm-config ]]; then
  LLVM_PREFIX=$llvm "$(dirname "$0")/tool.sh" bpf-linker "$tools" \
    bpf-linker@0.13.0 --debug --no-default-features --features llvm-22
elif nightly; then
  "$(dirname "$0")/tool.sh" bpf-linker "$tools"
fi
