#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# starts.sh: no start hangs libvirtd. Whatever happens before and meanwhile, a machine is started, or refused in words,
# within seconds, and libvirtd answers afterwards.
#
#   tests/lab/lab run tests/lab/starts.sh [--nightly]      --nightly: more starts at once, and in more gaps
# shellcheck disable=SC2317 # functions are called through check

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

at_once=8 gaps=(0.0 0.7 1.5)
[[ ${1-} != --nightly ]] || at_once=30 gaps=(0.0 0.2 0.4 0.6 0.8 1.0 1.3 1.6 2.0 2.5 3.0)
mapfile -t nvme < <(nvme_addresses)
first=11111111-1111-4111-8111-111111111111
second=22222222-2222-4222-8222-222222222222

# It answers whoever waits for no domain, and for this one's lock.
libvirtd_answers() { # libvirtd_answers NAME
	timeout 20 virsh list --all >/dev/null && timeout 20 virsh domstate "$1"
}

# start NAME: started, or refused in words, in time. A start that hangs would hold libvirtd for ever.
start() {
	local status=0
	output=$(timeout 60 virsh start "$1" 2>&1) || status=$?
	echo "$output"
	((status != 124))
}
# decided NAME: so it is, and libvirtd answers.
decided() {
	local output=''
	start "$1" && [[ $output == *" started"* || $output == *"iommud: "* ]] && libvirtd_answers "$1"
}
# refused NAME TEXT
refused() {
	local output=''
	start "$1" && [[ $output == *"iommud: "*"$2"* ]] && libvirtd_answers "$1" && is_off "$1"
}
associated() { # associated UUID
	timeout 20 iommuctl libvirt associate "$1"
}
works() { # works NAME: it starts, and stops
	timeout 60 virsh start "$1" && timeout 60 virsh destroy "$1"
}

confine_by none
iommuctl tenant create acme --limit 4G
iommuctl tenant create globex --limit 4G
iommuctl tenant create alone --limit 4G --isolation machine
define_domain acme-1 $first 256 acme "${nvme[0]}"

part "before it is associated"
systemctl stop iommud-libvirt.service
check "no agent: refused" refused acme-1 "systemctl status iommud-libvirt"
systemctl start iommud-libvirt.service
check "the agent associates what is defined" wait_for 20 associated $first
check "it starts and stops" works acme-1
systemctl kill --signal STOP iommud-libvirt.service
check "an agent that hangs: refused" refused acme-1 "did not answer in time"
systemctl kill --signal CONT iommud-libvirt.service
check "then it starts and stops" wait_for 20 works acme-1

part "another domain of that UUID"
virsh dumpxml acme-1 >/root/acme-1.xml
check "undefined, defined and started in one breath: decided" eval \
	'virsh "undefine acme-1; define /root/acme-1.xml" && decided acme-1'
virsh destroy acme-1 >/dev/null 2>&1
check "and associated" wait_for 20 associated $first
check "it starts and stops" works acme-1
virsh undefine acme-1 >/dev/null
check "a transient domain: refused" eval \
	'! timeout 60 virsh create /root/acme-1.xml 2>/root/refusal; grep "iommud: .*virsh define" /root/refusal'
check "libvirtd answers" timeout 20 virsh list
virsh define /root/acme-1.xml >/dev/null
check "defined again, it is associated" wait_for 20 associated $first
check "and starts" timeout 60 virsh start acme-1
check "undefined while it runs, it is transient" virsh undefine acme-1
check "and stops" virsh destroy acme-1
check "as a transient one it is refused" eval \
	'! timeout 60 virsh create /root/acme-1.xml 2>/root/refusal; grep "iommud: .*virsh define" /root/refusal'
virsh define /root/acme-1.xml >/dev/null
wait_for 20 associated $first

part "another tenant"
sed "s/id='acme'/id='globex'/; s/id=\"acme\"/id=\"globex\"/" /root/acme-1.xml >/root/globex.xml
check "moved to another tenant and started in one breath: decided" eval \
	'virsh define /root/globex.xml && decided acme-1'
virsh destroy acme-1 >/dev/null 2>&1
check "it is the other tenant's then" wait_for 20 eval "associated $first && works acme-1"
virsh define /root/acme-1.xml >/dev/null
wait_for 20 associated $first

part "the agent restarts"
for gap in "${gaps[@]}"; do
	systemctl restart iommud-libvirt.service
	sleep "$gap"
	check "$gap s after that: decided" decided acme-1
	virsh destroy acme-1 >/dev/null 2>&1
done
check "it starts and stops" wait_for 20 works acme-1

part "libvirtd restarts"
for gap in "${gaps[@]}"; do
	systemctl restart libvirtd.service
	sleep "$gap"
	check "$gap s after that: decided" decided acme-1
	virsh destroy acme-1 >/dev/null 2>&1
done
check "it starts and stops" wait_for 20 works acme-1
timeout 60 virsh start acme-1 >/dev/null 2>&1 &
sleep 0.7
systemctl restart libvirtd.service
check "during a start: it answers" wait_for 30 libvirtd_answers acme-1
wait
virsh destroy acme-1 >/dev/null 2>&1
check "nothing is left" wait_for 20 all_back acme
check "it starts and stops" wait_for 30 works acme-1

# libvirt has opened the machine's devices by then, and takes them from their driver before it closes them.
part "a start that fails late, for whatever reason"
virsh define /root/acme-1.xml >/dev/null
wait_for 20 associated $first
fails_late() { # fails_late TEXT XML: with that in <devices>, it fails, and libvirt says why
	sed "s|</devices>|$2$(hostdev "${nvme[2]}")</devices>|" /root/acme-1.xml >/root/late.xml
	virsh define /root/late.xml >/dev/null
	local output=''
	start acme-1 && [[ $output == *"$1"* ]] && libvirtd_answers acme-1 && is_off acme-1
}
check "a disk that is not there" fails_late no-such-disk \
	"<disk type='file'><source file='/no-such-disk'/><target dev='vda'/></disk>"
check "a bridge that is not there" fails_late no-such-bridge \
	"<interface type='bridge'><source bridge='no-such-bridge'/></interface>"
check "a log that can't be written" fails_late no-such-folder \
	"<serial type='file'><source path='/no-such-folder/log'/></serial>"
virsh define /root/acme-1.xml >/dev/null
check "nothing is left" wait_for 20 all_back acme
check "then it starts and stops" wait_for 20 works acme-1
check "and its device is the host's again" \
	eval '[[ $(readlink /sys/bus/pci/devices/${nvme[0]}/driver) == */nvme ]]'

part "an IOMMUFD for each start"
define_domain alone-1 $second 256 alone "${nvme[1]}"
wait_for 20 associated $second
for round in 1 2; do
	check "round $round: started and stopped" wait_for 20 works alone-1
	check "round $round: started in the same breath: decided" decided alone-1
	virsh destroy alone-1 >/dev/null 2>&1
done
virsh undefine alone-1 >/dev/null

part "$at_once at once"
small() { # small N: a domain without a device, which could be given one
	define_domain "small-$1" "$(printf '44444444-4444-4444-8444-%012d' "$1")" 16 acme
}
for ((i = 1; i <= at_once; i++)); do
	small $i >/dev/null
done
for ((i = 1; i <= at_once; i++)); do
	wait_for 20 associated "$(printf '44444444-4444-4444-8444-%012d' $i)"
done
starts=()
for ((i = 1; i <= at_once; i++)); do
	timeout 300 virsh start "small-$i" >/dev/null &
	starts+=($!)
done
joined "all start" "${starts[@]}"
check "libvirtd answers" libvirtd_answers small-1
check "a saved one is restored" eval 'timeout 60 virsh managedsave small-1 && timeout 60 virsh start small-1'
check "and by 'virsh restore'" eval 'timeout 60 virsh save small-1 /root/small-1 && timeout 60 virsh restore /root/small-1'
for ((i = 1; i <= at_once; i++)); do
	virsh destroy "small-$i" >/dev/null 2>&1
	virsh undefine --managed-save "small-$i" >/dev/null
done
check "nothing is left" wait_for 20 all_back acme

part "a device from a network's pool"
echo 1 >/sys/bus/pci/devices/0000:08:00.0/sriov_numvfs
udevadm settle
function=$(basename "$(readlink /sys/bus/pci/devices/0000:08:00.0/virtfn0)")
echo "<network><name>pool</name><forward mode='hostdev' managed='yes'>$(hostdev "$function" |
	grep -o "<address[^>]*>" | sed "s/<address/<address type='pci'/")</forward></network>" >/root/pool.xml
check "there is a network with a pool" eval \
	'virsh net-define /root/pool.xml >/dev/null && virsh net-start pool >/dev/null'
sed "s|</devices>|<interface type='network'><source network='pool'/></interface></devices>|" /root/acme-1.xml \
	>/root/pool-1.xml
virsh define /root/pool-1.xml >/dev/null
wait_for 20 associated $first
check "with <iommufd>: refused, for libvirt would crash" refused acme-1 "network pool"
virsh net-destroy pool >/dev/null
virsh net-undefine pool >/dev/null
echo 0 >/sys/bus/pci/devices/0000:08:00.0/sriov_numvfs
virsh define /root/acme-1.xml >/dev/null
wait_for 20 associated $first

part "virtqemud"
if [[ -x /usr/sbin/virtqemud ]]; then
	systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
	systemctl start virtqemud.socket
	check "the agent associates" wait_for 30 associated $first
	check "it starts and stops" wait_for 20 works acme-1
	systemctl restart virtqemud.service
	check "restarted, and a start in that breath: decided" decided acme-1
	virsh destroy acme-1 >/dev/null 2>&1
	check "it starts and stops" wait_for 20 works acme-1
	systemctl stop virtqemud.socket virtqemud-ro.socket virtqemud-admin.socket virtqemud.service
	systemctl start libvirtd.socket libvirtd.service
	check "back with libvirtd" wait_for 30 works acme-1
else
	echo "# not tried: Debian has no virtqemud, but libvirtd with the same drivers"
fi

part "out of iommud, also when it is broken"
define_domain acme-2 $second 256 acme "${nvme[1]}"
systemctl stop iommud-libvirt.service iommud.service
check "a machine of ours does not start" fails timeout 60 virsh start acme-1
check "one is taken out" eval '[[ $(iommuctl libvirt disable acme-1) == acme-1 ]]'
check "and starts" timeout 60 virsh start acme-1
check "all are, whatever else there is" grep -qx acme-2 <(iommuctl libvirt disable --all)
check "nothing of it is left in the definition" fails grep -q iommud <(virsh dumpxml --inactive acme-2)
check "the other one starts, too" timeout 60 virsh start acme-2
systemctl start iommud.service iommud-libvirt.service
check "they run on" eval 'is_running acme-1 && is_running acme-2'
check "and stop" eval 'virsh destroy acme-1 && virsh destroy acme-2'
virsh undefine acme-2 >/dev/null
check "one is put back" iommuctl libvirt enable acme-1 --tenant acme
check "and starts with iommud" wait_for 20 works acme-1

part "the end"
virsh undefine acme-1 >/dev/null
confine_by apparmor
for tenant in acme globex alone; do
	check "$tenant: nothing is left" wait_for 20 all_back $tenant
	check "$tenant can be deleted" iommuctl tenant delete $tenant
done
check "the kernel did not complain" fails grep -E 'WARNING:|BUG:|refcount' <(dmesg)
echo "# $SECONDS s"
finish
