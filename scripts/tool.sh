#!/usr/bin/env bash
# tool.sh NAME ROOT: installs a cargo tool below ROOT unless it is there or on the PATH already.
set -euo pipefail
name=$1 root=$2
if command -v "$name" >/dev/null || [[ -x $root/bin/$name ]]; then
  exit 0
fi
# Unoptimised: the tool runs for seconds, and optimising it would take minutes.
echo "setup: installing $name into $root"
cargo install --quiet --locked --debug --root "$root" "$name"
