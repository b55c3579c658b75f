#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# adopted.sh: the leader of a machine is never named, because iommud was stopped, killed or restarted while libvirt started
# it, or because nobody asked: what lives keeps its memory, and is adopted.
#
#   tests/lab/lab run tests/lab/adopted.sh
# shellcheck disable=SC2016,SC2317 # scripts are written; functions are called through check

set -u
# shellcheck source=tests/lab/lib.sh
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

mapfile -t nvme < <(nvme_addresses)
acme_1=11111111-1111-4111-8111-111111111111
alone_1=22222222-2222-4222-8222-222222222222
timeout=8
hook=/etc/libvirt/hooks/qemu.d/50-iommud
own_hook=/etc/libvirt/hooks/iommud-own-hook

# In the place of the hook: "started" does nothing, as if nobody had listened. And what runs before QEMU does.
at_start=/etc/libvirt/hooks/qemu.d/60-at-start
cp --preserve=all --dereference "$hook" "$own_hook"
rm "$hook"
printf '#!/bin/sh\n[ "$2" != started ] || exit 0\nexec %s "$@"\n' "$own_hook" >"$hook"
chmod +x "$hook"

signal() { # signal NAME UNIT
	systemctl kill --kill-whom main --signal "$1" "$2.service"
}

# starts NAME [SIGNAL]: at the beginning of its start, when it is admitted, the agent is stopped, which would name the
# leader, too, and iommud gets that signal.
starts() {
	local status=0
	wait_for 20 iommuctl libvirt associate "$1"
	journal_from=$(date +%s)
	{
		printf '#!/bin/sh\n[ "$2" = start ] || exit 0\n'
		echo "systemctl kill --kill-whom main --signal STOP iommud-libvirt.service"
		[[ ! ${2-} ]] || echo "systemctl kill --kill-whom main --signal $2 iommud.service"
	} >"$at_start"
	chmod +x "$at_start"
	virsh --quiet start "$1" || status=$?
	rm "$at_start"
	return "$status"
}

confine_by none
sed -i "s/^#AdmissionTimeout=.*/AdmissionTimeout=$timeout/" /etc/iommud/iommud.conf
systemctl restart iommud
iommuctl tenant create acme --limit 2G
iommuctl tenant create alone --limit 2G --isolation machine
define_domain acme-1 $acme_1 256 acme "${nvme[0]}"
define_domain alone-1 $alone_1 256 alone "${nvme[1]}"

vmpin() {
	status_kb "$(domain_pid "$1")" VmPin
}

runs_as() { # runs_as NAME: as the process that libvirt has for it
	echo "it is $(machine_state "$1") as $(machine_number "$1" leader), not $(domain_pid "$1")"
	[[ $(machine_state "$1") == running && $(machine_number "$1" leader) == "$(domain_pid "$1")" ]]
}

begins() { # begins DESCRIPTION NAME [SIGNAL]
	# Not by check, which is a shell of its own.
	starts "${@:2}"
	local status=$?
	check "$1" test "$status" = 0 || finish
	pages=$(vmpin "$2")
}

# It runs, as iommud sees it too, with all of its memory.
adopted() { # adopted NAME TENANT HOW PAGES UUID
	check "$3: iommud has it as running, with its leader" wait_for $((timeout + 6)) runs_as "$1" || runs_as "$1"
	check "$3: the guest runs" is_running "$1"
	check "$3: it has as many pages pinned as before" test "$(vmpin "$1")" = "$4"
	check "$3: the ledger says so" test "$(machine_number "$1" pinned_bytes)" = $((1024 * $4))
	check "$3: the journal says why" grep -q "($5) of tenant $2 was adopted" \
		<(journalctl --unit iommud --since "@$journal_from")
	signal CONT iommud-libvirt
	check "$3: naming it in the end is no news" busctl call org.iommud1 /org/iommud1 org.iommud1.Manager \
		StartMachine sv "$5" u "$(domain_pid "$1")"
	virsh destroy "$1" >/dev/null
	check "$3: it leaves nothing" all_back "$2"
}

part "nobody names it"
begins "it starts" acme-1
check "it has pinned its memory" test "$pages" -ge $((256 * 1024))
adopted acme-1 acme "never named" "$pages" $acme_1

part "an IOMMUFD of its own"
begins "it starts" alone-1
adopted alone-1 alone "alone" "$pages" $alone_1

part "iommud is stopped for longer than AdmissionTimeout"
begins "it starts while iommud is stopped" acme-1 STOP
sleep $((timeout + 2))
check "iommud goes on" signal CONT iommud
adopted acme-1 acme "stopped" "$pages" $acme_1

part "iommud is killed, and restarted twice"
begins "it starts while iommud is killed" acme-1 KILL
check "iommud comes back" wait_for 20 iommuctl status
for _ in 1 2; do
	check "iommud is restarted" systemctl restart iommud
	check "the machine runs" runs_as acme-1
done
adopted acme-1 acme "killed" "$pages" $acme_1

part "somebody wants to end it"
begins "it starts" acme-1
check "a release is refused" refused_with "runs already as process $(domain_pid acme-1)" iommuctl machine release acme-1
check "another admission is refused" refused_with "runs already as process $(domain_pid acme-1)" \
	busctl call org.iommud1 /org/iommud1 org.iommud1.Manager AdmitMachine 'ssstasa{sv}' $acme_1 acme-1 acme 0 0 0
adopted acme-1 acme "released" "$pages" $acme_1

part "the end"
rm "$hook"
cp --preserve=all "$own_hook" "$hook"
confine_by apparmor
sed -i 's/^AdmissionTimeout=/#&/' /etc/iommud/iommud.conf
systemctl restart iommud
check "a start as always" eval "wait_for 20 iommuctl libvirt associate $acme_1 && virsh start acme-1"
virsh destroy acme-1 >/dev/null
check "leaves nothing" all_back acme
virsh undefine acme-1 >/dev/null
virsh undefine alone-1 >/dev/null
for tenant in acme alone; do
	check "tenant $tenant can be deleted" iommuctl tenant delete $tenant
done
finish
