#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# guard.sh: one machine of a tenant against another, on real devices, and the ledger against the kernel. Runs in the
# lab, after `modprobe`s only: iommud itself is stopped if it is there.
#
#   tests/lab/lab run tests/lab/guard.sh [--tries=N] [--operations=N] [--looks=SECONDS] [--hooks=no] [--only=PROGRAM]
#   tests/lab/lab run --append lsm=landlock,lockdown,yama,apparmor tests/lab/guard.sh
#
# --hooks=no: with an iommufd as distributions have it, which BPF can only watch. The other line: without the BPF LSM.

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

programs=/usr/libexec/iommud/tests
folder=/sys/fs/bpf/iommud-test
tries=20000 operations=5000 looks=10 hooks=yes only=
for option; do
	case $option in
	--tries=*) tries=${option#*=} ;;
	--operations=*) operations=${option#*=} ;;
	--looks=*) looks=${option#*=} ;;
	--hooks=*) hooks=${option#*=} ;;
	--only=*) only=${option#*=} ;;
	*) echo "There is no option $option." && exit 2 ;;
	esac
done
systemctl stop iommud.service 2>/dev/null
[[ ! -x /usr/sbin/iommud ]] || /usr/sbin/iommud --unload

# prove DESCRIPTION PROGRAM ARGUMENT...: the program's own checks are shown as they come.
prove() {
	local description=$1 program=$2 since=$SECONDS
	shift 2
	[[ ! $only || $only == *"$program"* ]] || return 0
	"$programs/$program" "$@"
	check "$description" test $? = 0
	echo "# $program took $((SECONDS - since)) s"
}

# reason PATTERN [OPTION]: there is no ledger, and it says so.
reason() {
	local said
	said=$("$programs/guard-life" --reason ${2+"$2"})
	[[ $said == "ledger: "$1* ]] || { echo "$said" && return 1; }
}

# Also what is in the kernel but has no name in a file system. What was let go of is freed a little later.
nothing_loaded() {
	wait_for 10 is_nothing_loaded || is_nothing_loaded
}

is_nothing_loaded() {
	! bpftool prog list | grep -E 'name (ledger|guard|hook|probe|control|walk)_' &&
		! bpftool map list | grep -E 'name (contexts|objects|pages|extents|owners|accounts|tenants|records|loaded)' &&
		! bpftool link list | grep -E 'iommufd|iopt_|bpf_lsm_file_ioctl'
}

# Programs that were let go of hold them for a moment.
no_modules() {
	wait_for 10 modprobe -r vfio_pci vfio_iommu_type1 vfio iommufd || modprobe -r vfio_pci vfio_iommu_type1 vfio iommufd
}

if [[ ! $only || $only == *reasons* ]]; then
	check "the modules can be removed" no_modules
	check "without iommufd there is no ledger, and it says what to do" reason "iommufd is not there"
	module=$(modinfo -F filename iommufd)
	xz -dc "$module" >/run/iommufd.ko
	objcopy -R .BTF -R .BTF.base /run/iommufd.ko
	insmod /run/iommufd.ko
	check "nor without the types of iommufd" reason "iommufd is not there, or has no BTF"
	no_modules
	modprobe iommufd
	check "nor without vfio" reason "vfio is not there, or has no BTF: load it with 'modprobe vfio-pci'"
	modprobe vfio-pci
	check "nor without privileges" reason "The kernel does not let this process load BPF programs" --unprivileged
	mount -t tmpfs none /sys/kernel/btf
	mount --bind /dev/null "/lib/modules/$(uname -r)/build/vmlinux"
	check "nor without the kernel's types" reason "The kernel has no BTF"
	umount "/lib/modules/$(uname -r)/build/vmlinux" /sys/kernel/btf
	mount -t tmpfs -o ro none /sys/fs/bpf
	check "nor without a place to pin it" reason "$folder can't be made (Read-only file system): a bpffs must be mounted"
	umount /sys/fs/bpf
	check "and with all of them there is" reason active
fi
if [[ $hooks == no ]]; then
	no_modules
	modprobe iommufd guard_hooks=0
	check "iommufd is one that BPF can only watch" grep -qx N /sys/module/iommufd/parameters/guard_hooks
fi
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
# The two behind the bridge, without the bridge itself.
together=()
for address in $(bridge_addresses); do
	[[ $(cat "/sys/bus/pci/devices/$address/class") == 0x0604* ]] || together+=("$(cdev "$address")")
done
check "there are two devices on one bus" test "${#together[@]}" = 2

prove "no machine reaches another" guard-attack "${devices[@]}"
prove "nor on a less trodden path" guard-corner "${devices[@]}" "${together[@]}"
prove "nor while the programs are replaced, or the service is killed" guard-life --seconds="$looks" "${devices[@]:0:2}"
prove "nor by changing an argument while the kernel reads it" guard-race --tries="$tries" "${devices[@]}"
prove "what was promised may always be mapped" guard-promise --tries="$tries" "${devices[@]}"
prove "the ledger, the iterator and VmPin agree" ledger-check --operations="$operations" "${devices[@]}"
prove "memory that is mapped twice counts once where it is to" ledger-unique --tries="$tries" "${devices[0]}"
prove "a full map is refused, and shared" ledger-full
if [[ ! $only || $only == *reasons* ]]; then
	# It stays so until the next boot.
	echo confidentiality >/sys/kernel/security/lockdown
	check "a kernel that is locked down has no ledger, and says so" reason "The kernel is locked down"
fi
check "nothing of all that is left in the kernel" nothing_loaded
check "the kernel did not complain" test -z "$(dmesg | grep -E 'WARNING:|BUG:|refcount')"
finish
