#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# two-machines.sh: what iommud is for. Two machines share one IOMMUFD by libvirt alone, with nobody to look after it:
# each stop of a machine, orderly or not, leaves its whole memory pinned. Runs in the lab, without iommud:
#
#   tests/lab/lab run --no-project tests/lab/two-machines.sh

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

memory=256                # MiB of each machine
pages=$((memory * 256))   # of 4 KiB
slack=1024                # for the machines' firmware, and for whatever else the host pins

tell() { # tell HOLDER-COMMAND...: asks hold-iommufd, prints its answer
	local answer
	echo "$*" >&"${holder[1]}"
	read -r answer <&"${holder[0]}"
	echo "$answer"
	[[ $answer != error* ]]
}

start() {
	virsh --quiet start "$1" && domain_is "$1" running
}

gone() {
	! pgrep --full "guest=$1," >/dev/null && domain_is "$1" 'shut off'
}

pinned_for() { # pinned_for N: as much as N machines' memory, more than at the beginning
	between "$(($1 * pages))" "$(($(pinned_pages) - before))" "$(($1 * pages + slack))"
}

process_pins_its_memory() {
	local pid
	pid=$(domain_pid "$1")
	between "$((memory * 1024))" "$(status_kb "$pid" VmPin)" "$((memory * 1024 + slack))" &&
		[[ $(status_kb "$pid" VmPin) == "$(status_kb "$pid" VmLck)" ]]
}

confined() { # by libvirt's AppArmor profile, as Debian ships it
	grep -q '^libvirt-.*(enforce)$' "/proc/$(domain_pid "$1")/attr/current"
}

check "the modules load" modprobe --all iommufd vfio-pci
check "the kernel offers /dev/iommu" test -c /dev/iommu
mapfile -t nvme < <(nvme_addresses)
check "there are four NVMe devices with a group each" test "${#nvme[@]}" -ge 4

coproc holder { exec "$IOMMUD_LAB_DIR/tests/lab/lab.d/guest/hold-iommufd"; }
before=$(pinned_pages)
define_domain one 11111111-1111-1111-1111-111111111111 "$memory" '' "${nvme[0]}"
define_domain two 22222222-2222-2222-2222-222222222222 "$memory" '' "${nvme[1]}"
check "libvirt takes one IOMMUFD for machine one" tell associate one
check "libvirt takes the same IOMMUFD for machine two" tell associate two

check "machine one starts on it" start one
check "machine two starts on it" start two
check "machine one is confined by AppArmor" confined one
check "machine one's process is charged for its memory" process_pins_its_memory one
check "machine two's process is charged for its memory" process_pins_its_memory two
check "the memory of two machines is pinned" pinned_for 2

kill -KILL "$(domain_pid one)"
check "machine one dies of SIGKILL" wait_for 20 gone one
sleep 2
check "its memory stays pinned: that of two machines still is" pinned_for 2
check "machine one starts again" start one
check "its memory is pinned twice over: as much as three machines'" pinned_for 3

check "machine one is destroyed in an orderly way" virsh --quiet destroy one
check "machine two is destroyed in an orderly way" virsh --quiet destroy two
wait_for 20 gone one && wait_for 20 gone two
sleep 2
check "no machine runs, and the memory of three stays pinned" pinned_for 3

check "destroying what is left in the IOMMUFD, highest id first, finds something" \
	grep -qx 'destroyed [1-9][0-9]*' <(tell destroy)
check "all memory is released by that" wait_for 10 pinned_for 0
check "nothing is left in the IOMMUFD" grep -qx 'destroyed 0' <(tell destroy)
virsh --quiet undefine one
virsh --quiet undefine two
finish
