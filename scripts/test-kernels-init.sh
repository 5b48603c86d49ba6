#!/bin/busybox sh
# The first and only program of a test machine: runs every test, tells the second serial line.
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
# As service managers have it.
mount --make-rshared /
# Where tests look for the programs of the workspace, and where those look for others'.
export ROUTERD_BIN_DIR=/programs PATH=/usr/bin:/bin ROUTERD_LAB_PATIENCE=3 POLICY_FRAMES=1500
exec >/dev/ttyS1 2>&1
while read -r module; do insmod "$module"; done </modules/order
ip link set lo up
failed=0
for test in /tests/*; do
  echo "== ${test##*/}"
  "$test" --test-threads=1 || failed=1
done
[ "$failed" = 0 ] && echo "all passed"
sync
poweroff -f
