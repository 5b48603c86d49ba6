#!/usr/bin/env bash
# test-kernels.sh [VERSION…]: runs tests that need features of the kernel under stock Debian kernels, each
# in a virtual machine without hardware help. Default: 6.1. Known: 5.10, 6.1, 6.12.
# Kernels are kept below ~/.cache/routerd-tools/kernels; remove one there to have it fetched anew.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
tools=${XDG_CACHE_HOME:-$HOME/.cache}/routerd-tools

# package:test target:modules that it needs, separated by commas; with a `?` where not every kernel has it
# as a module
tests=(
  wireguard:kernel:wireguard
  policy-ebpf:kernel:veth,sch_ingress?,cls_bpf?
  integration:kernel_tunnel:wireguard,veth,bridge,nf_tables,nft_counter?
)
# What the tests run: of the workspace, and of this machine. Not routerd-tunnel: the kernel is to do its work.
programs=(routerd routerctl routerd-cni)
others=(ip tc wg etcd)
# Seconds for one machine, from its start to its end.
patience=${KERNEL_TEST_PATIENCE:-1200}
(($#)) || set -- 6.1

if [[ $(uname -m) != x86_64 ]]; then
  echo "test-kernels: only x86_64 is supported, this is $(uname -m)" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tests" "$work/programs" "$work/others"
cargo build --quiet --locked --workspace
for program in "${programs[@]}"; do
  strip -o "$work/programs/$program" "${CARGO_TARGET_DIR:-target}/debug/$program"
done
for program in "${others[@]}"; do
  cp -L "$(type -P "$program")" "$work/others/"
done
for test in "${tests[@]}"; do
  IFS=: read -r package target _ <<<"$test"
  # Of the whole workspace, or the dependencies are built once more with fewer features.
  binary=$(cargo test --quiet --locked --workspace --test "$target" --no-run --message-format=json-render-diagnostics |
    jq -r --arg manifest "/$package/Cargo.toml" \
      'select(.executable != null and .target.kind == ["test"] and (.manifest_path | endswith($manifest))).executable')
  strip -o "$work/tests/$package-$target" "$binary"
done

# The file system of the machine, in memory: busybox, tests and programs with their libraries, the modules.
pack() { # KERNEL_DIR INITRD
  local root=$work/root modules
  rm -rf "$root"
  mkdir -p "$root"/{bin,usr/bin,dev,proc,sys,tmp,run,etc,modules}
  cp /bin/busybox "$root/bin/"
  cp -r "$work/tests" "$work/programs" "$root/"
  cp "$work"/others/* "$root/usr/bin/"
  { ldd "$root"/{tests,programs,usr/bin}/* || true; } | grep -o '/[^ ]*\.so[^ ]*' | sort -u |
    while read -r library; do install -D "$library" "$root$library"; done
  modules=$(printf '%s\n' "${tests[@]##*:}" | tr , '\n' | sort -u)
  for module in $modules; do
    if ! modprobe -d "$1" -S "$(<"$1/release")" --show-depends "${module%\?}" 2>"$work/missing"; then
      [[ $module == *\? ]] || { cat "$work/missing" >&2; return 1; }
    fi
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$work/modules"
  while read -r file; do
    cp "$file" "$root/modules/"
    echo "/modules/${file##*/}"
  done <"$work/modules" >"$root/modules/order"
  install -m755 scripts/test-kernels-init.sh "$root/init"
  (cd "$root" && find . | cpio --quiet -o -H newc) >"$2"
}

failed=0
summary=()
for version; do
  kernel=$tools/kernels/$version
  scripts/fetch-kernel.sh "$version" "$kernel"
  pack "$kernel" "$work/initrd"
  log=$work/$version.log
  : >"$log"
  started=$SECONDS
  # The second serial line is for the tests, the first for the kernel. A panic ends the machine.
  timeout "$patience" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max,-avx,-avx2 -smp 2 -m 1G \
    -kernel "$kernel/vmlinuz" -initrd "$work/initrd" -no-reboot -nic none -display none -monitor none \
    -append "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable random.trust_cpu=1" \
    -serial "file:$work/console" -serial "file:$log" || true
  tr -d '\r' <"$log" >"$log.text"
  if [[ $(tail -n1 "$log.text") == "all passed" ]]; then
    verdict=passed
  else
    verdict=FAILED
    failed=1
    cat "$log.text"
    echo "test-kernels: the kernel's own last words:"
    tail -n40 "$work/console" | tr -d '\r'
  fi
  counts=$(grep -oE '[0-9]+ passed; [0-9]+ failed' "$log.text" | paste -sd, || true)
  summary+=("test-kernels: $version ($(<"$kernel/release")): $verdict in $((SECONDS - started)) s: ${counts:-no result}")
done
printf '%s\n' "${summary[@]}"
exit "$failed"
