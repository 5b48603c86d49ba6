#!/usr/bin/env bash
# fetch-kernel.sh VERSION DIR: puts Debian's newest stock kernel of VERSION into DIR, unless it is there:
# DIR/vmlinuz, DIR/release and DIR/lib/modules. The package system of this machine is not touched.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
version=$1 dir=$2
mirror=${DEBIAN_MIRROR:-http://deb.debian.org}
[[ ! -e $dir/release ]] || exit 0

case $version in
  5.10) suite=bullseye ;;
  6.1) suite=bookworm ;;
  6.12) suite=trixie ;;
  *)
    echo "fetch-kernel: no Debian release with kernel $version is known: 5.10, 6.1 or 6.12" >&2
    exit 1
    ;;
esac

mkdir -p "$(dirname "$dir")"
work=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/apt/{lists/partial,archives/partial}
cat >"$work/apt/debian.sources" <<SOURCES
Types: deb
URIs: $mirror/debian
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: $mirror/debian-security
Suites: $suite-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
: >"$work/apt/status"
options=(
  -o APT::Architecture=amd64 -o APT::Architectures=amd64
  -o Dir::Etc::SourceList="$work/apt/debian.sources" -o Dir::Etc::SourceParts=-
  -o Dir::State::Lists="$work/apt/lists" -o Dir::State::Status="$work/apt/status"
  -o Dir::Cache::Archives="$work/apt/archives" -o Dir::Cache::PkgCache= -o Dir::Cache::SrcPkgCache=
  -o APT::Sandbox::User= -o Acquire::Languages=none
)

echo "fetch-kernel: fetching $version of Debian $suite"
apt-get "${options[@]}" update -qq
package=$(apt-cache "${options[@]}" depends --no-recommends --no-suggests linux-image-cloud-amd64 |
  awk '$1 == "Depends:" { print $2; exit }')
if [[ $package != linux-image-"$version".* ]]; then
  echo "fetch-kernel: Debian $suite has ${package:-none} and not $version" >&2
  exit 1
fi
(cd "$work" && apt-get "${options[@]}" download -qq "$package")
dpkg-deb -x "$work/$package"_*.deb "$work/tree"
release=${package#linux-image-}
mkdir "$work/kernel" "$work/kernel/lib"
mv "$work/tree/boot/vmlinuz-$release" "$work/kernel/vmlinuz"
# From Debian 13 on, /lib is below /usr in packages too.
for lib in "$work"/tree/{lib,usr/lib}; do
  [[ ! -d $lib/modules ]] || mv "$lib/modules" "$work/kernel/lib/"
done
depmod -b "$work/kernel" "$release"
echo "$release" >"$work/kernel/release"
mv "$work/kernel" "$dir"
