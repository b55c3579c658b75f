#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# selftests.sh: the kernel's own selftests of iommufd and VFIO, once on /dev/iommu and once, as a machine of a tenant, on
# IOMMUFDs that iommud gave out with the guard on. They may see no difference. Runs in the lab with iommufd's mock
# devices.
#
#   tests/lab/lab run --selftests tests/lab/selftests.sh [--nightly]
#
# --nightly: all of VFIO's on both devices.

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

tests=/root/selftests
programs=/usr/libexec/iommud/tests
mkdir -p "$tests"
tar -x -f /dev/disk/by-id/virtio-lab-selftests -C "$tests" --no-same-owner

systemctl stop iommud-libvirt.service iommud.service
iommud --unload
modprobe irqbypass
# What held the module goes when the kernel has seen the last of its readers.
for module in vfio_pci vfio_pci_core vfio_iommu_type1 vfio iommufd; do
	check "$module without mock devices is unloaded" wait_for 10 rmmod "$module" || finish
done
for module in iommufd vfio vfio_iommu_type1 vfio-pci-core vfio-pci; do
	check "$module with mock devices is loaded" insmod "$tests/modules/$module.ko" || finish
done
echo 64 >/proc/sys/vm/nr_hugepages
udevadm settle
check "iommud starts" systemctl start iommud.service
check "the ledger counts" test "$(iommud_property LedgerState)" = active
check "the guard is enforcing" test "$(iommud_property GuardState)" = enforcing
# Each call of Open() gives a new IOMMUFD, in the accounting mode that the kernel gives to new ones.
iommuctl tenant create selftests --isolation machine --accounting user

# give_to_vfio ADDRESS: gives the device to vfio-pci.
give_to_vfio() {
	local device=/sys/bus/pci/devices/$1
	echo vfio-pci >"$device/driver_override"
	[[ ! -e $device/driver ]] || echo "$1" >"$device/driver/unbind"
	echo "$1" >/sys/bus/pci/drivers_probe
	udevadm settle
}

# results FILE: test by test, without what changes from run to run.
results() {
	sed -nE 's/^(ok|not ok) [0-9]+ /\1 /p' "$1"
}

# count RESULT FILE
count() {
	case $1 in
	passed) results "$2" | grep '^ok' | grep -vc '# SKIP' ;;
	failed) results "$2" | grep -c '^not ok' ;;
	skipped) results "$2" | grep -c '^ok.*# SKIP' ;;
	esac
}

# numbers FILE
numbers() {
	echo "$(count passed "$1") passed, $(count failed "$1") failed, $(count skipped "$1") skipped"
}

# differences REFUSED PLAIN GIVEN: between the results, other than that tests which the pattern names fail on what iommud
# gave out. None is wanted.
differences() {
	local found
	found=$(diff <(results "$2" | sed -E "s/^ok ($1)$/not &/") <(results "$3") | grep '^[<>]')
	[[ $found ]] || return 0
	head -n 40 <<<"$found"
	grep -B 4 "^not ok" "$3" | head -n 60
	return 1
}

# as_machine ADDRESS PROGRAM [ARGUMENT...]: runs it as a machine of the tenant with that device.
as_machine() {
	iommuctl run selftests "--device=$1" --memory=64M -- env "LD_PRELOAD=$programs/fd-taker.so" \
		FD_TAKER_TENANT=/org/iommud1/tenant/selftests timeout 900 "${@:2}"
}

# refusals SINCE: as iommud has logged them, each kind once.
refusals() {
	journalctl --unit iommud.service --since "@$1" --output cat | sed -n 's/.*was refused/refused/p' | sort | uniq -c
}

ledger_is_empty() {
	busctl get-property org.iommud1 /org/iommud1/tenant/selftests org.iommud1.Tenant \
		PinnedBytes MappedBytes UniqueBytes ReservedBytes
	[[ $(tenant_number selftests pinned_bytes) == 0 && $(tenant_number selftests reserved_bytes) == 0 ]]
}

# paired NAME REFUSED ADDRESS PROGRAM [ARGUMENT...]
paired() {
	local name=$1 refused=$2 device=$3 plain=$tests/plain.log given=$tests/given.log since started=$SECONDS
	shift 3
	part "$name"
	timeout 900 "$@" >"$plain" 2>&1
	echo "# it took $((SECONDS - started)) s on /dev/iommu"
	since=$(date +%s)
	as_machine "$device" "$programs/admit-mocks" "$device" "$@" >"$given" 2>&1
	echo "# $name on /dev/iommu: $(numbers "$plain")"
	echo "# $name on IOMMUFDs of iommud: $(numbers "$given")"
	refusals "$since"
	check "$name: some tests pass" test "$(count passed "$plain")" -gt 0 || cat "$plain"
	[[ $(count passed "$given") -gt 0 ]] || head -n 40 "$given"
	check "$name: the same results, test by test" differences "$refused" "$plain" "$given"
	check "$name: nothing is left in the ledger" wait_for 5 ledger_is_empty || ledger_is_empty
}

# An ioctl that the guard does not know, and that binds what is not the machine's.
given=$tests/given.log
as_machine 0000:00:10.0 "$tests/iommufd" -f vfio_compat_mock_domain >"$given" 2>&1
check "mock devices that are not the machine's are refused to it" test "$(count passed "$given")" = 0 -a \
	"$(count failed "$given")" -gt 0
check "and nobody is killed for that" fails grep -n 'signal' "$given"

# The one thing that the guard keeps from everybody is to set the accounting mode of the whole IOMMUFD.
paired iommufd 'iommufd\.(cmd_length|global_options)|change_process\.account_(user|mm)\.basic' \
	0000:00:10.0 "$tests/iommufd"

mapfile -t nvme < <(nvme_addresses)
all_tests=(iommufd_setup dma_mapping dma_mapping_mmio pci_device pci_device_init_perf)
vfio_tests=("${all_tests[@]}")
# What depends on the device is tried on both.
[[ ${1-} == --nightly ]] || vfio_tests=(pci_device)
for device in 0000:00:10.0 "${nvme[0]}"; do
	give_to_vfio "$device"
	for test in "${vfio_tests[@]}"; do
		paired "vfio_$test of $device" '' "$device" "$tests/vfio_${test}_test" "$device"
	done
	vfio_tests=("${all_tests[@]}")
done
# A look that comes while a hook is at work may take that for an error.
drift=$(iommud_property DriftBytes)
echo "# $(iommud_property UntrackedEvents) events were missed, the ledger was off by $drift bytes"
sleep 11
iommuctl status >/dev/null
check "the ledger is right in the end" test "$(iommud_property DriftBytes)" = "$drift"
check "the tenant can be deleted" iommuctl tenant delete selftests
check "the kernel did not complain" test -z "$(dmesg | grep -E 'WARNING:|BUG:|refcount')"
finish
