#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# missing.sh: kernels that lack something. iommud says what, with the remedy, and what can still work, works.
#
#   tests/lab/lab run --append lsm=landlock,lockdown,yama,apparmor tests/lab/missing.sh
#
# Without "bpf" in lsm= the guard hangs on other functions. Further cases are made in the same boot.
# shellcheck disable=SC2317 # functions are called through check

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

mapfile -t nvme < <(nvme_addresses)
first=11111111-1111-4111-8111-111111111111
second=22222222-2222-4222-8222-222222222222
third=33333333-3333-4333-8333-333333333333
limit=600M # two machines of 256 MiB, and not three
memory=$((256 * 1024 * 1024))
modules=/lib/modules/$(uname -r)/updates/dkms

confine_by none
define_domain acme-1 $first 256 acme "${nvme[0]}"
define_domain acme-2 $second 256 acme "${nvme[1]}"
define_domain acme-3 $third 256 acme "${nvme[2]}"

starts_with() {
	echo "it is: $2"
	[[ $2 == "$1"* ]]
}

# says TEXT COMMAND...: whatever its exit status
says() {
	local text=$1 output
	shift
	output=$("$@" 2>&1)
	echo "$output"
	grep -qF -- "$text" <<<"$output"
}

pinned_equals_vmpin() {
	local machine=$1 pinned vmpin
	pinned=$(machine_number "$machine" pinned_bytes)
	vmpin=$(($(status_kb "$(domain_pid "$machine")" VmPin) * 1024))
	echo "pinned $pinned, VmPin $vmpin"
	[[ $pinned == "$vmpin" && $vmpin -ge $memory ]]
}

# ledger_right DESCRIPTION MACHINE: QEMU may map and unmap at its start, also between two reads.
ledger_right() {
	check "$1" wait_for 5 pinned_equals_vmpin "$2" || pinned_equals_vmpin "$2"
}

# main_job: two machines start on the tenant's one IOMMUFD, a third is above the limit, one dies and leaves nothing.
main_job() {
	local one two held
	iommuctl tenant create acme --limit $limit
	for uuid in $first $second $third; do
		wait_for 30 iommuctl libvirt associate "$uuid"
	done
	virsh start acme-1 >/dev/null &
	one=$!
	virsh start acme-2 >/dev/null &
	two=$!
	joined "two machines of a tenant start at once" $one $two
	ledger_right "the ledger equals VmPin of the one" acme-1
	ledger_right "and of the other" acme-2
	check "a third is refused by the limit" refused_with limit virsh start acme-3
	held=$(pinned_pages)
	kill -KILL "$(domain_pid acme-1)"
	check "one is killed: within two seconds its memory is back" \
		wait_for 2 eval "[[ \$(pinned_pages) -le $((held - memory / 4096)) ]]"
	check "its sibling runs on" is_running acme-2
	ledger_right "and what the ledger has of it is as it was" acme-2
	wait_for 20 is_off acme-1
	check "the other stops" virsh destroy acme-2
	check "nothing is left" all_back acme
	check "and the tenant can be deleted" iommuctl tenant delete acme
}

# without_iommud COMMAND...: does that while nothing of iommud is loaded, and starts it again.
without_iommud() {
	systemctl stop iommud-libvirt.service iommud.service
	iommud --unload
	"$@"
	check "iommud starts" systemctl start iommud.service
	check "and so does its agent" systemctl start iommud-libvirt.service
}

unload_modules() {
	local device module
	for device in /sys/bus/pci/drivers/vfio-pci/0000:*; do
		[[ ! -e $device ]] || basename "$device" >/sys/bus/pci/drivers/vfio-pci/unbind
	done
	for module in vfio_pci vfio_pci_core vfio_iommu_type1 vfio iommufd; do
		check "the module $module can be unloaded" wait_for 10 rmmod "$module"
	done
}

part "a kernel without bpf in lsm= ($(cat /sys/kernel/security/lsm))"
check "bpf is not a security module here" fails grep -qw bpf /sys/kernel/security/lsm
check "the ledger is active all the same" test "$(iommud_property LedgerState)" = active
check "and so is the guard" test "$(iommud_property GuardState)" = enforcing
check "iommuctl doctor has nothing to say against it" iommuctl doctor
check "but says what 'bpf' in lsm= would add" says "bpf is not among the kernel's security modules" iommuctl doctor
main_job

# attack PROGRAM [OPTION]: with three devices, which it gives to vfio-pci.
attack() {
	local address device cdevs=()
	for address in "${nvme[@]:0:3}"; do
		device=/sys/bus/pci/devices/$address
		echo vfio-pci >"$device/driver_override"
		[[ ! -e $device/driver ]] || echo "$address" >"$device/driver/unbind"
		echo "$address" >/sys/bus/pci/drivers_probe
		udevadm settle
		cdevs+=("/dev/vfio/devices/$(basename "$device"/vfio-dev/vfio*)")
	done
	check "the guard holds against $*" "/usr/libexec/iommud/tests/$1" "${@:2}" "${cdevs[@]}"
}
# Then nothing can be refused any more once it was copied.
attack_without_hooks() {
	unload_modules
	modprobe iommufd guard_hooks=0
	modprobe vfio-pci
	check "iommufd is as distributions have it" grep -qx N /sys/module/iommufd/parameters/guard_hooks
	attack guard-attack
	attack guard-race --tries=500
	unload_modules
	modprobe -a iommufd vfio-pci
}
without_iommud attack guard-attack
without_iommud attack_without_hooks

part "modules without BTF"
strip_btf() {
	local module
	unload_modules
	for module in "$modules"/{iommufd,vfio}.ko*; do
		case $module in
		*.xz) unxz "$module" ;;
		*.zst) unzstd -q --rm "$module" ;;
		esac
		objcopy --remove-section .BTF --remove-section .BTF.base "${module%.ko*}.ko"
	done
	depmod
	modprobe -a iommufd vfio-pci
	check "iommufd is loaded and has no BTF" test -e /dev/iommu -a ! -e /sys/kernel/btf/iommufd
}
without_iommud strip_btf
check "LedgerReason says it" starts_with iommufd "$(iommud_property LedgerReason)"
check "with the remedy" says CONFIG_DEBUG_INFO_BTF_MODULES iommud_property LedgerReason
check "GuardState says it" test "$(iommud_property GuardState)" = unavailable
check "iommuctl doctor says it" says BTF iommuctl doctor
main_job

part "a kernel without BTF"
hide_btf() {
	mount --bind /dev/null /sys/kernel/btf/vmlinux
}
without_iommud hide_btf
check "LedgerReason says it, with the remedy" says CONFIG_DEBUG_INFO_BTF iommud_property LedgerReason
check "GuardState says it" test "$(iommud_property GuardState)" = unavailable
check "iommuctl doctor says it" says BTF iommuctl doctor
main_job

part "a kernel without iommufd"
remove_modules() {
	local version
	unload_modules
	umount /sys/kernel/btf/vmlinux
	version=$(dkms status iommud-vfio | sed -n '1s|^iommud-vfio/\([^,]*\),.*|\1|p')
	check "the modules of iommud-vfio are uninstalled" dkms uninstall "iommud-vfio/$version" -k "$(uname -r)"
	rm -rf "$modules" # what has changed since
	depmod
	modprobe vfio-pci
	check "there is no /dev/iommu" test ! -e /dev/iommu
}
without_iommud remove_modules
check "LedgerReason says it" starts_with iommufd "$(iommud_property LedgerReason)"
check "GuardState says it" starts_with iommufd "$(iommud_property GuardReason)"
check "iommuctl doctor says it" says /dev/iommu iommuctl doctor
iommuctl tenant create acme --limit $limit
check "a machine that wants it is refused, with that reason" refused_with /dev/iommu virsh start acme-1
check "and leaves nothing" wait_for 2 eval '[[ $(tenant_number acme reserved_bytes) == 0 ]]'
virsh undefine acme-1 >/dev/null
write_domain '' '' '' acme-1 $first 256 acme "${nvme[0]}"
check "one with VFIO of the old kind starts" virsh start acme-1
check "and is accounted" test "$(machine_number acme-1 pinned_bytes)" -ge $memory
check "and stops" virsh destroy acme-1
check "nothing is left" wait_for 2 eval '[[ $(tenant_number acme reserved_bytes) == 0 ]] && nothing_pinned'
check "the tenant can be deleted" iommuctl tenant delete acme

check "the kernel did not complain" fails grep -E 'WARNING:|BUG:|refcount' <(dmesg)
echo "# $SECONDS s"
finish
