#!/usr/bin/env bash
# tool.sh NAME ROOT [CRATE@VERSION [OPTION…]]: installs a program below ROOT unless it is there or on the PATH
# already.
set -euo pipefail
name=$1 root=$2
if command -v "$name" >/dev/null || [[ -x $root/bin/$name ]]; then
  exit 0
fi
echo "setup: installing $name into $root"
if [[ -n ${3:-} ]]; then
  # Just this version, optimised unless an option says otherwise.
  cargo install --quiet --locked --root "$root" "${@:3}"
else
  # Unoptimised: the tool runs for seconds, and optimising it would take minutes.
  cargo install --quiet --locked --debug --root "$root" "$name"
fi
