#!/usr/bin/env bash
# deb.sh BIN_DIR OUT_DIR: packs the binaries of BIN_DIR into OUT_DIR/routerd_VERSION_ARCH.deb.
# Needs dpkg-deb and binutils only. The same input gives the same bytes.
# DEB_ARGS: further arguments of dpkg-deb, such as "-Zgzip -z1" for speed.
set -euo pipefail
bin=$(realpath "$1") out=$(realpath "$2")
cd "$(dirname "$0")/.."

for name in routerd routerd-tunnel routerctl routerd-cni; do
  if [[ ! -x $bin/$name ]]; then
    echo "deb: $bin/$name is missing: build it first (make release)" >&2
    exit 1
  fi
done

version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' Cargo.toml)
arch=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1)}
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

install -d "$root"/usr/{sbin,bin,lib/cni,lib/systemd/system} "$root/etc/routerd"
install -m755 "$bin/routerd" "$bin/routerd-tunnel" "$root/usr/sbin/"
install -m755 "$bin/routerctl" "$root/usr/bin/"
install -m755 "$bin/routerd-cni" "$root/usr/lib/cni/"
strip --strip-unneeded "$root"/usr/sbin/* "$root"/usr/bin/routerctl "$root"/usr/lib/cni/routerd-cni
install -m644 packaging/routerd.service "$root/usr/lib/systemd/system/"
install -m644 packaging/routerd.toml "$root/etc/routerd/"

share=$root/usr/share
install -d "$share"/man/man{1,8} "$root/man"
"$bin/routerd" man "$root/man"
"$bin/routerctl" man "$root/man"
for page in "$root"/man/*; do
  case ${page##*/} in
    routerd*) install -m644 "$page" "$share/man/man8/$(basename "${page%.*}").8" ;;
    *) install -m644 "$page" "$share/man/man1/$(basename "${page%.*}").1" ;;
  esac
done
rm -r "$root/man"
find "$share/man" -type f -exec gzip -9n {} +

install -d "$share"/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
"$bin/routerctl" completion bash >"$share/bash-completion/completions/routerctl"
"$bin/routerctl" completion zsh >"$share/zsh/vendor-completions/_routerctl"
"$bin/routerctl" completion fish >"$share/fish/vendor_completions.d/routerctl.fish"

doc=$share/doc/routerd
install -d "$doc/examples"
install -m644 packaging/debian/copyright "$doc/"
install -m644 README.md docs/kernel-objects.md "$doc/"
gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
install -m644 packaging/10-routerd.conflist "$doc/examples/"
find "$root/usr/share" -type f -exec chmod 644 {} +

glibc=$(objdump -T "$root"/usr/sbin/* "$root"/usr/bin/routerctl "$root"/usr/lib/cni/routerd-cni |
  grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
install -d "$root/DEBIAN"
install -m755 packaging/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
install -m644 packaging/debian/conffiles "$root/DEBIAN/"
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@GLIBC@/${glibc#GLIBC_}/" \
  -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f1)/" \
  packaging/debian/control.in >"$root/DEBIAN/control"
chmod -R g-w,o-w "$root"

# shellcheck disable=SC2086 # several arguments
dpkg-deb ${DEB_ARGS:-} --root-owner-group --build "$root" "$out/routerd_${version}_$arch.deb"
