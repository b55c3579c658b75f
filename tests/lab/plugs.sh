#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# plugs.sh: memory is plugged into running machines without any other step, and what there is no room for is refused where
# libvirt can undo it: no guest is lost, whatever is refused and however often.
#
#   tests/lab/lab run tests/lab/plugs.sh
# shellcheck disable=SC2317 # functions are called through check

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

mapfile -t nvme < <(nvme_addresses)
first=11111111-1111-4111-8111-111111111111
second=22222222-2222-4222-8222-222222222222
mib=$((1024 * 1024))
memory=256 dimm=128 # MiB

# A machine with slots for DIMMs.
define_growing() { # define_growing NAME UUID ADDRESS
	write_domain "<maxMemory slots='4' unit='MiB'>2048</maxMemory><features><acpi/></features>
		<cpu><numa><cell id='0' cpus='0' memory='$memory' unit='MiB'/></numa></cpu>
		<iommufd enabled='yes' fdgroup='iommud'/>" '' '' "$1" "$2" $memory acme "$3"
}
echo "<memory model='dimm'><target><size unit='MiB'>$dimm</size><node>0</node></target></memory>" >/root/dimm.xml

plug() { # plug NAME
	timeout 60 virsh attach-device "$1" /root/dimm.xml --live
}
reserved() { # reserved NAME MIB
	echo "reserved: $(machine_number "$1" reserved_bytes)"
	[[ $(machine_number "$1" reserved_bytes) == $(($2 * mib)) ]]
}
ledger_equals() {
	local vmpin
	vmpin=$(($(status_kb "$(domain_pid "$1")" VmPin) * 1024))
	echo "VmPin $vmpin, in the ledger $(machine_number "$1" pinned_bytes)"
	[[ $(machine_number "$1" pinned_bytes) == "$vmpin" ]]
}
# The limit is a page below what libvirt has set, so that it asks the next time.
asks_next_time() {
	local limit
	limit=$(awk '/^Max locked memory/ { print $4 }' "/proc/$(domain_pid "$1")/limits")
	echo "the limit is $limit"
	((limit % mib == mib - 4096))
}
tells() { # tells TEXT: in the journal
	journalctl --unit iommud.service --output cat | grep -F "$1"
}

confine_by none
start=$((memory + 4)) # and firmware
iommuctl tenant create acme --limit $((start + 2 * dimm + dimm / 2))M
define_growing grows $first "${nvme[0]}"
wait_for 20 iommuctl libvirt associate $first
check "a machine starts" virsh start grows
check "with what its memory needs" wait_for 5 reserved grows $start
check "libvirt will ask" wait_for 5 asks_next_time grows

part "within the limit"
check "a DIMM is plugged in, without any other step" plug grows
check "and promised" wait_for 5 reserved grows $((start + dimm))
check "it is pinned, and the ledger equals VmPin" wait_for 10 ledger_equals grows || ledger_equals grows
check "libvirt will ask again" wait_for 5 asks_next_time grows
check "a second one" plug grows
check "and promised" wait_for 5 reserved grows $((start + 2 * dimm))
check "libvirt will ask again" wait_for 5 asks_next_time grows

part "beyond it"
for round in 1 2 3; do
	check "a third is refused, round $round" refused_with "quota" plug grows
	check "and the guest runs on" is_running grows
done
check "the journal says what lacks" wait_for 5 tells "Something was not plugged into machine grows"
check "nothing more is promised" reserved grows $((start + 2 * dimm))
check "the ledger equals VmPin" wait_for 10 ledger_equals grows || ledger_equals grows
iommuctl tenant set-limit acme $((start + 3 * dimm))M
check "with a larger limit it is plugged in" plug grows
check "and promised" wait_for 5 reserved grows $((start + 3 * dimm))

part "without iommud"
systemctl kill --signal KILL iommud.service
check "a fourth is refused by the kernel alone" refused_with "quota" plug grows
check "and the guest runs on" is_running grows
wait_for 30 busctl get-property org.iommud1 /org/iommud1 org.iommud1.Manager Version
check "the next iommud knows what is promised" wait_for 10 reserved grows $((start + 3 * dimm))
check "libvirt will ask" wait_for 5 asks_next_time grows
check "another machine can't have what is promised" eval \
	'define_growing other $second "${nvme[1]}" && wait_for 20 iommuctl libvirt associate $second &&
	refused_with limit virsh start other'

part "the end"
check "it stops" virsh destroy grows
check "nothing is left" all_back acme
check "it starts with what its definition has" virsh start grows
check "as at first" wait_for 5 reserved grows $start
virsh destroy grows >/dev/null
virsh undefine grows >/dev/null
virsh undefine other >/dev/null
confine_by apparmor
check "nothing is left" wait_for 20 all_back acme
check "the tenant can be deleted" iommuctl tenant delete acme
check "the kernel did not complain" fails grep -E 'WARNING:|BUG:|refcount' <(dmesg)
echo "# $SECONDS s"
finish
