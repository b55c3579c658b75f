#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# killed.sh: iommud is killed in the middle of everything. The kernel goes on counting and guarding, and the next iommud
# takes over what it counted.
#
#   tests/lab/lab run tests/lab/killed.sh [--nightly]      --nightly: at more moments
# shellcheck disable=SC2317 # functions are called through check

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

delays=(0.0 0.6 1.5 3.0)
[[ ${1-} != --nightly ]] || delays=(0.0 0.3 0.6 1.0 1.5 2.0 2.5 3.0 4.0)
mapfile -t nvme < <(nvme_addresses)
uuids=('' 11111111-1111-4111-8111-111111111111 22222222-2222-4222-8222-222222222222
	33333333-3333-4333-8333-333333333333)
memory=$((256 * 1024 * 1024))

confine_by none
iommuctl tenant create acme --limit 4G
for i in 1 2 3; do
	define_domain "acme-$i" "${uuids[i]}" 256 acme "${nvme[i]}"
	wait_for 20 iommuctl libvirt associate "${uuids[i]}"
done

answers() {
	busctl get-property org.iommud1 /org/iommud1 org.iommud1.Manager Version
}

# ledger_right: of all that runs, pinned bytes equal VmPin, of what does not, nothing is known; and together they are the
# tenant's.
ledger_right() {
	local i vmpin sum=0
	for i in 1 2 3; do
		if is_running "acme-$i"; then
			vmpin=$(($(status_kb "$(domain_pid "acme-$i")" VmPin) * 1024))
			sum=$((sum + vmpin))
			echo "acme-$i: VmPin $vmpin, in the ledger $(machine_number "acme-$i" pinned_bytes)"
			[[ $(machine_number "acme-$i" pinned_bytes) == "$vmpin" ]] || return
		else
			echo "acme-$i: $(machine_state "acme-$i")"
			[[ ! $(machine_state "acme-$i") ]] || return
		fi
	done
	echo "acme: $(tenant_number acme pinned_bytes), of these orphaned $(tenant_number acme orphaned_bytes)"
	[[ $(tenant_number acme pinned_bytes) == "$sum" ]]
}

guards() {
	echo "the ledger is $(iommud_property LedgerState), the guard is $(iommud_property GuardState)"
	[[ $(iommud_property LedgerState) == active && $(iommud_property GuardState) == enforcing ]]
}

kill_iommud() {
	systemctl kill --signal KILL iommud.service
	sleep 0.3
}

part "before"
check "the ledger counts and the guard checks" guards
check "a machine starts" virsh start acme-1
check "the ledger is right" wait_for 5 ledger_right || ledger_right

part "killed while one starts and another stops"
virsh start acme-3 >/dev/null
runs=acme-3
starts=acme-2
for delay in "${delays[@]}"; do
	virsh start $starts >/dev/null 2>&1 &
	one=$!
	virsh destroy $runs >/dev/null 2>&1 &
	two=$!
	sleep "$delay"
	kill_iommud
	wait $one && started=yes || started=no
	wait $two && stopped=yes || stopped=no
	check "after $delay s: iommud comes back" wait_for 30 answers
	check "after $delay s: $runs has stopped" test $stopped = yes
	check "after $delay s ($starts started: $started): the ledger is right" wait_for 10 ledger_right || ledger_right
	check "after $delay s: the guard is there" guards
	echo "# the ledger was off by $(iommud_property DriftBytes) bytes"
	check "after $delay s: acme-1 was not touched" is_running acme-1
	# What could not start without iommud can now; the next time they change places.
	[[ $started == yes ]] || check "after $delay s: $starts starts now" virsh start $starts
	[[ $runs == acme-3 ]] && runs=acme-2 starts=acme-3 || runs=acme-3 starts=acme-2
done
virsh destroy $runs >/dev/null
check "it leaves nothing" wait_for 5 ledger_right || ledger_right
virsh start acme-3 >/dev/null

part "killed again and again while machines start and stop"
(for round in 1 2 3; do
	virsh start acme-2
	virsh destroy acme-2
done) >/dev/null 2>&1 &
churn=$!
for round in 1 2 3 4; do
	sleep 2
	kill_iommud
	wait_for 30 answers
done
wait $churn
virsh destroy acme-2 >/dev/null 2>&1
check "the ledger is right" wait_for 15 ledger_right || ledger_right
check "the guard is there" guards

part "away"
virsh start acme-2 >/dev/null
check "all three run" wait_for 5 ledger_right || ledger_right
pinned=$(tenant_number acme pinned_bytes)
held=$(pinned_pages)
systemctl mask --runtime iommud.service >/dev/null 2>&1
kill_iommud
check "no iommud answers" fails answers
check "machines run on" eval 'is_running acme-1 && is_running acme-2 && is_running acme-3'
kill -KILL "$(domain_pid acme-2)"
wait_for 20 is_off acme-2
check "what was killed meanwhile stays pinned" \
	eval "[[ \$(pinned_pages) -gt $((held - memory / 4096)) ]]"
check "no new one starts" fails virsh start acme-2
systemctl unmask --runtime iommud.service >/dev/null 2>&1
systemctl reset-failed iommud.service 2>/dev/null
check "iommud starts" systemctl start iommud.service
check "the dead one's memory is given back" wait_for 5 eval "[[ \$(pinned_pages) -le $((held - memory / 4096)) ]]"
check "the ledger is right, without what it had ($pinned before)" wait_for 5 ledger_right || ledger_right
check "it starts again" virsh start acme-2
check "the ledger is right" wait_for 5 ledger_right || ledger_right

part "the end"
for i in 1 2 3; do
	virsh destroy "acme-$i" >/dev/null 2>&1
done
check "nothing is left" wait_for 5 nothing_left acme
echo "# $(iommud_property UntrackedEvents) events were missed, the ledger was off by $(iommud_property DriftBytes) bytes"
for i in 1 2 3; do
	virsh undefine "acme-$i" >/dev/null
done
confine_by apparmor
check "the tenant can be deleted" iommuctl tenant delete acme
check "the kernel did not complain" fails grep -E 'WARNING:|BUG:|refcount' <(dmesg)
echo "# $SECONDS s"
finish
