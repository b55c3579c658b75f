#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# viommu.sh: machines with an IOMMU of their own share their tenant's IOMMUFD under the guard. Their guests really do DMA
# through it, and devices come and go while they run.
# shellcheck disable=SC2317 # functions are called through check

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

mapfile -t nvme < <(nvme_addresses)
first=11111111-1111-4111-8111-111111111111
second=22222222-2222-4222-8222-222222222222
memory=$((256 * 1024 * 1024))
extra=${nvme[3]}
hostdev "$extra" >/root/extra.xml
hostdev "${nvme[4]}" >/root/stray.xml

call() { # call UUID METHOD SIGNATURE ARG...: of a machine
	local path
	path=$(busctl call org.iommud1 /org/iommud1 org.iommud1.Manager GetMachine s "$1" | cut -d '"' -f 2)
	busctl call org.iommud1 "$path" org.iommud1.Machine "${@:2}"
}
guest_says() { # guest_says NAME TEXT
	grep -F "guest: $2" "$(guest_console "$1")"
}
refusals() { # refusals: what the guard refused so far, without what QEMU always asks for
	journalctl --unit iommud.service --output cat | grep 'refused' | grep -vc CHANGE_PROCESS
}
ledger_equals_vmpin() { # ledger_equals_vmpin NAME
	local vmpin
	vmpin=$(($(status_kb "$(domain_pid "$1")" VmPin) * 1024))
	echo "VmPin $vmpin, in the ledger $(machine_number "$1" pinned_bytes)"
	[[ $(machine_number "$1" pinned_bytes) == "$vmpin" ]]
}
pinned_once() { # pinned_once NAME
	between $memory "$(machine_number "$1" unique_bytes)" $((memory * 5 / 4))
}
ledger_equals_all() {
	ledger_equals_vmpin viommu-1 && ledger_equals_vmpin viommu-2
}

iommuctl tenant create acme --limit 4G
refused_before=$(refusals)
missed_before=$(iommud_property UntrackedEvents)
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
check "the ledger equals VmPin" wait_for 5 ledger_equals_all || ledger_equals_all
pinned=$(machine_number viommu-1 pinned_bytes)
check "two devices: the memory is charged twice ($pinned)" test "$pinned" -ge $((2 * memory))
# That it is the same is known from the next look on, which is not older than ten seconds.
check "and pinned once" wait_for 15 pinned_once viommu-1 || pinned_once viommu-1
check "one device: charged once" between $memory "$(machine_number viommu-2 pinned_bytes)" $((memory * 5 / 4))
check "the reservation holds it" test "$(machine_number viommu-1 reserved_bytes)" -ge "$pinned"
check "QEMU asked for the accounting of all, was refused, and went on" \
	grep -q CHANGE_PROCESS <(journalctl --unit iommud.service)
check "nothing else was refused" test "$(refusals)" = "$refused_before"
check "both stop" eval 'virsh destroy viommu-1 && virsh destroy viommu-2'
check "nothing is left" all_back acme
virsh undefine viommu-1 >/dev/null
virsh undefine viommu-2 >/dev/null

part "guests that use it"
guest=/var/lib/libvirt/images/guest
check "the guest is built" gcc -Wall -Werror -m32 -march=i686 -mgeneral-regs-only -O2 -ffreestanding -fno-pic -no-pie \
	-static -nostdlib -fno-stack-protector -fcf-protection=none -Wl,-Ttext=0x101000,--build-id=none \
	-o $guest "$IOMMUD_LAB_DIR/tests/lab/bare-guest.c"
define_viommu_domain viommu-1 $first 256 acme "${nvme[0]}" "${nvme[1]}"
define_viommu_domain viommu-2 $second 256 acme "${nvme[2]}"
iommuctl libvirt associate $first
iommuctl libvirt associate $second
virsh start viommu-1 &
one=$!
virsh start viommu-2 &
two=$!
joined "two machines start at once" $one $two
check "a guest writes to its first device and reads it back" \
	wait_for 300 guest_says viommu-1 "lab-nvme1 holds what was written" || tail "$(guest_console viommu-1)"
check "and to its second" wait_for 60 guest_says viommu-1 "lab-nvme2 holds what was written"
check "and the other guest to its own" wait_for 300 guest_says viommu-2 "lab-nvme3 holds what was written" ||
	tail "$(guest_console viommu-2)"
check "each request was mapped and unmapped ($(machine_number viommu-1 maps) and $(machine_number viommu-1 unmaps))" \
	test "$(machine_number viommu-1 maps)" -gt 100 -a "$(machine_number viommu-1 unmaps)" -gt 100
check "the ledger equals VmPin" wait_for 5 ledger_equals_all || ledger_equals_all
check "what is pinned is what the guests use now" test "$(machine_number viommu-1 pinned_bytes)" -lt $memory

part "a device is plugged into a running machine"
check "it is promised" call $second AddDevice s "$extra"
check "it is plugged in" virsh attach-device viommu-2 /root/extra.xml
check "the guest uses it" wait_for 120 guest_says viommu-2 "lab-nvme4 holds what was written"
check "the ledger equals VmPin" wait_for 5 ledger_equals_all || ledger_equals_all
check "the sibling can't have it" fails call $first AddDevice s "$extra"
check "it is unplugged" virsh detach-device viommu-2 /root/extra.xml
check "the guest lets it go" wait_for 120 guest_says viommu-2 "lab-nvme4 is gone"
check "it is nobody's" wait_for 20 call $first AddDevice s "$extra"
check "and then its sibling's" virsh attach-device viommu-1 /root/extra.xml
check "whose guest uses it" wait_for 120 guest_says viommu-1 "lab-nvme4 holds what was written"
check "the ledger equals VmPin" wait_for 5 ledger_equals_all || ledger_equals_all
check "nothing of all that was refused" test "$(refusals)" = "$refused_before"

part "one that was not promised"
# QEMU 11.1 does not survive a second attempt: it keeps the file descriptor of the first.
check "is refused" fails virsh attach-device viommu-1 /root/stray.xml
check "by the guard" wait_for 5 eval '[[ $(refusals) -gt $refused_before ]]'
check "the machine runs on" is_running viommu-1
check "the ledger equals VmPin" wait_for 5 ledger_equals_all || ledger_equals_all

part "one dies"
kill -KILL "$(domain_pid viommu-1)"
check "within two seconds all of its objects are gone, and none of its sibling's" wait_for 2 eval \
	"! iommuctl objects acme --no-legend | grep -q viommu-1" || iommuctl objects acme
check "the ledger of its sibling equals VmPin" wait_for 5 ledger_equals_vmpin viommu-2
wait_for 20 is_off viommu-1
check "its device goes to its sibling" wait_for 20 call $second AddDevice s "$extra"
check "and is plugged in" virsh attach-device viommu-2 /root/extra.xml
check "and used" wait_for 120 eval \
	'[[ $(guest_says viommu-2 "lab-nvme4 holds what was written" | wc -l) == 2 ]]'

part "the end"
check "the other stops" virsh destroy viommu-2
check "nothing is left" all_back acme
missed=$(($(iommud_property UntrackedEvents) - missed_before))
echo "# $missed events were missed"
check "the ledger is off only after that" test "$missed" -gt 0 -o "$(iommud_property DriftBytes)" = 0
virsh undefine viommu-1 >/dev/null
virsh undefine viommu-2 >/dev/null
check "the tenant can be deleted" iommuctl tenant delete acme
check "the kernel did not complain" fails grep -E 'WARNING:|BUG:|refcount' <(dmesg)
echo "# $SECONDS s"
finish
