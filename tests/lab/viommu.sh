#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# viommu.sh: machines with an IOMMU of their own share their tenant's IOMMUFD under the guard: the memory of one is
# charged once for each of its devices, and pinned once.
# shellcheck disable=SC2317 # functions are called through check

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

mapfile -t nvme < <(nvme_addresses)
first=11111111-1111-4111-8111-111111111111
second=22222222-2222-4222-8222-222222222222
memory=$((256 * 1024 * 1024))

refusals() { # refusals: what the guard refused so far, without what QEMU always asks for
	journalctl --unit iommud.service --output cat | grep 'refused' | grep -vc CHANGE_PROCESS
}
books_equal_vmpin() { # books_equal_vmpin NAME
	local vmpin
	vmpin=$(($(status_kb "$(domain_pid "$1")" VmPin) * 1024))
	echo "VmPin $vmpin, in the books $(machine_number "$1" pinned_bytes)"
	[[ $(machine_number "$1" pinned_bytes) == "$vmpin" ]]
}
all_books_equal() {
	books_equal_vmpin viommu-1 && books_equal_vmpin viommu-2
}

iommuctl tenant create acme --limit 4G
check "the guard is enforcing" test "$(iommud_property GuardState)" = enforcing

part "an address space for each device"
define_viommu_domain viommu-1 $first 256 acme "${nvme[0]}" "${nvme[1]}"
define_viommu_domain viommu-2 $second 256 acme "${nvme[2]}"
iommuctl libvirt associate $first
iommuctl libvirt associate $second
virsh start viommu-1 &
one=$!
virsh start viommu-2 &
two=$!
joined "two machines with an IOMMU start at once on one IOMMUFD" $one $two
check "the books equal VmPin" wait_for 5 all_books_equal || all_books_equal
pinned=$(machine_number viommu-1 pinned_bytes)
unique=$(machine_number viommu-1 unique_bytes)
check "two devices: the memory is charged twice ($pinned)" test "$pinned" -ge $((2 * memory))
check "and pinned once ($unique)" between $memory "$unique" $((memory * 5 / 4))
check "one device: charged once" between $memory "$(machine_number viommu-2 pinned_bytes)" $((memory * 5 / 4))
check "the reservation holds it" test "$(machine_number viommu-1 reserved_bytes)" -ge "$pinned"
check "QEMU asked for the accounting of all, was refused, and went on" \
	grep -q CHANGE_PROCESS <(journalctl --unit iommud.service)
check "nothing else was refused" test "$(refusals)" = 0

part "the end"
check "both stop" eval 'virsh destroy viommu-1 && virsh destroy viommu-2'
check "nothing is left" wait_for 2 nothing_left acme
check "the books were never off" test "$(iommud_property DriftBytes)" = 0
check "no event was missed" test "$(iommud_property MissedEvents)" = 0
virsh undefine viommu-1 >/dev/null
virsh undefine viommu-2 >/dev/null
check "the tenant can be deleted" iommuctl tenant delete acme
check "the kernel did not complain" fails grep -E 'WARNING:|BUG:|refcount' <(dmesg)
echo "# $SECONDS s"
finish
