#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# guard.sh: one machine of a tenant against another, on real devices, and the ledger against the kernel. Runs in the
# lab, after `modprobe`s only: iommud itself is stopped if it is there.
#
#   tests/lab/lab run tests/lab/guard.sh [FOLDER-OF-THE-PROGRAMS]

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

programs=${1:-/usr/libexec/iommud/tests}
systemctl stop iommud.service 2>/dev/null
modprobe iommufd
modprobe vfio-pci

# cdev ADDRESS: gives the device to vfio-pci and prints its character device.
cdev() {
	local device=/sys/bus/pci/devices/$1 names
	echo vfio-pci >"$device/driver_override"
	[[ ! -e $device/driver ]] || echo "$1" >"$device/driver/unbind"
	echo "$1" >/sys/bus/pci/drivers_probe
	udevadm settle
	names=("$device"/vfio-dev/vfio*)
	echo "/dev/vfio/devices/${names[0]##*/}"
}

mapfile -t nvme < <(nvme_addresses)
check "there are three NVMe devices, each in a group of its own" test "${#nvme[@]}" -ge 3
devices=()
for address in "${nvme[@]:0:3}"; do
	devices+=("$(cdev "$address")")
done
"$programs/guard-attack" --tries="${GUARD_TRIES:-20000}" "${devices[@]}"
check "no machine reaches another" test $? = 0
"$programs/ledger-check" --operations="${LEDGER_OPERATIONS:-10000}" "${devices[@]:0:2}"
check "the ledger, the iterator and VmPin agree" test $? = 0
check "the kernel did not complain" test -z "$(dmesg | grep -E 'WARNING:|BUG:|refcount')"
finish
