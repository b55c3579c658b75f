#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# guard.sh: what ledger and guard cost. Runs in the lab; iommud itself is stopped. With --count-instructions every
# nanosecond it prints is an instruction that the machine has executed, however busy the host is:
#
#   tests/lab/lab run [--count-instructions] tests/bench/guard.sh [--small] [--rounds=N]

set -eu

systemctl stop iommud.service 2>/dev/null || :
iommud --unload
modprobe iommufd
modprobe vfio-pci
chmod 0666 /dev/iommu
echo 528 >/proc/sys/vm/nr_hugepages
address=0000:01:00.0
device=/sys/bus/pci/devices/$address
echo vfio-pci >"$device/driver_override"
[[ ! -e $device/driver ]] || echo "$address" >"$device/driver/unbind"
echo "$address" >/sys/bus/pci/drivers_probe
udevadm settle
names=("$device"/vfio-dev/vfio*)
exec /usr/libexec/iommud/tests/bench-guard "$@" "/dev/vfio/devices/${names[0]##*/}"
