#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# iommud on a real kernel, with a real libvirt and QEMU: everything that goes wrong on a host.
#
#   tests/lab/lab run tests/lab/real-host.sh [--nightly]      --nightly: races and starts more often
# shellcheck disable=SC2317 # functions are called through check
set -uo pipefail
# shellcheck source=tests/lab/lib.sh
. "${IOMMUD_LAB_DIR:?run this in the lab}/tests/lab/lib.sh"

races=2 starts=2
[ "${1:-}" != --nightly ] || races=10 starts=30
mapfile -t nvme < <(nvme_addresses)
acme_1=11111111-1111-4111-8111-111111111111
acme_2=22222222-2222-4222-8222-222222222222
globex_1=33333333-3333-4333-8333-333333333333
memory=$((256 * 1024 * 1024))
before=$pinned_before
stop_all() {
    local name
    for name in acme-1 acme-2 globex-1; do
        virsh destroy "$name" >/dev/null 2>&1
    done
    all_back acme && all_back globex
}

part "the host"
check "iommuctl doctor finds nothing failed" iommuctl doctor
confine_by none
check "the real kernel passes the conformance tests" \
    /usr/libexec/iommud/tests/iommud-conformance --host=linux --device="${nvme[3]}"

part "a busctl session"
call() { # INTERFACE-SUFFIX PATH METHOD ARGS...
    busctl call org.iommud1 "$2" "org.iommud1.$1" "${@:3}"
}
check "busctl creates a tenant" call Manager /org/iommud1 CreateTenant 'sa{sv}' busy 1 \
    LimitBytes t 1073741824
check "busctl opens its IOMMUFD" call Tenant /org/iommud1/tenant/busy Open
check "busctl allocates an address space" call Tenant /org/iommud1/tenant/busy AllocateIoas
check "busctl lists it" grep -q '"ioas"' \
    <(call Tenant /org/iommud1/tenant/busy ListObjects)
check "busctl deletes the tenant" call Manager /org/iommud1 DeleteTenant s busy

# ledger_equals NAME: a machine's firmware maps memory anew while it runs, also between two reads.
ledger_equals() {
    local vmpin pinned
    pinned=$(machine_number "$1" pinned_bytes)
    vmpin=$(($(status_kb "$(domain_pid "$1")" VmPin) * 1024))
    echo "in the ledger $pinned, VmPin $vmpin"
    [ "$pinned" = "$vmpin" ]
}

part "two machines of one tenant, one of another"
iommuctl tenant create acme --limit 2G && iommuctl tenant create globex --limit 2G
define_domain acme-1 $acme_1 256 acme "${nvme[0]}"
define_domain acme-2 $acme_2 256 acme "${nvme[1]}"
firmware=bios # which finds the devices, and maps and unmaps
define_domain globex-1 $globex_1 256 globex "${nvme[2]}"
firmware=halt
for uuid in $acme_1 $acme_2 $globex_1; do
    check "the agent associates $uuid" wait_for 20 iommuctl libvirt associate "$uuid"
done
virsh start acme-1 &
first=$!
virsh start acme-2 &
second=$!
joined "two machines of a tenant start at once" $first $second
check "a machine of another tenant starts" virsh start globex-1
for name in acme-1 acme-2 globex-1; do
    check "iommud has $name as running" test "$(machine_state $name)" = running
    check "$name: the ledger equals VmPin" wait_for 5 ledger_equals $name || ledger_equals $name
    vmpin=$(($(status_kb "$(domain_pid $name)" VmPin) * 1024))
    reserved=$(machine_number $name reserved_bytes)
    check "$name pins no more than was reserved ($reserved)" test "$reserved" -ge $vmpin
done
objects=$(iommuctl objects acme --no-legend)
check "acme's objects are listed" test "$(wc -l <<<"$objects")" -ge 6
check "a device of a running machine is not assignable" \
    refused_with "acme-1" iommuctl device bind "${nvme[0]}" nvme
check "a tenant with machines can't be deleted" \
    refused_with "acme" iommuctl tenant delete acme

part "SIGKILL while running"
held=$(pinned_pages)
kill -KILL "$(domain_pid acme-1)"
check "within two seconds its memory is back" \
    wait_for 2 eval "[ \$(pinned_pages) -le $((held - memory / 4096)) ]"
check "its charge is given back" wait_for 2 eval \
    "[ \"\$(tenant_number acme machines)\" != 2 ] && [ -z \"\$(machine_state acme-1)\" ]"
check "its sibling runs on" is_running acme-2
check "it starts again" virsh start acme-1
check "all stop, and nothing is left" stop_all

part "SIGKILL during the start"
for delay in 0 0.2 0.5 1 2; do
    virsh start acme-2 >/dev/null 2>&1 &
    starter=$!
    wait_for 20 pgrep -f guest=acme-2
    sleep $delay
    pkill -KILL -f guest=acme-2
    wait $starter
    check "killed $delay s after its process began: libvirt has it off" wait_for 20 is_off acme-2
    check "killed $delay s after its process began: nothing is left" all_back acme
done
check "then it starts" virsh start acme-2

part "SIGKILL while being destroyed"
for delay in 0.1 0.3; do
    pid=$(domain_pid acme-2)
    virsh destroy acme-2 >/dev/null 2>&1 & # fails when libvirt sees the death first
    destroyer=$!
    sleep $delay
    kill -KILL "$pid" 2>/dev/null
    wait $destroyer
    check "killed $delay s into its end: nothing is left" all_back acme
    wait_for 20 is_off acme-2
    check "and it starts again" virsh start acme-2
done
check "and stops" stop_all

part "SIGKILL of one while its sibling starts"
virsh start acme-1 >/dev/null
virsh start acme-2 >/dev/null &
starter=$!
sleep 0.7
kill -KILL "$(domain_pid acme-1)"
joined "the sibling's start succeeds" $starter
check "the dead one's memory is back" \
    wait_for 2 eval "[ \$(pinned_pages) -lt $((before + 2 * memory / 4096)) ]"
check "the sibling runs" is_running acme-2
check "all stop, and nothing is left" stop_all

part "libvirtd and the agent restart in between"
virsh start acme-1 >/dev/null
systemctl restart libvirtd
check "the machine runs on" wait_for 20 is_running acme-1
check "iommud still has it" test "$(machine_state acme-1)" = running
systemctl restart iommud-libvirt
check "the agent is connected again" wait_for 20 iommuctl libvirt associate $acme_1
check "a machine that was off starts" virsh start acme-2
virsh destroy acme-1 >/dev/null
check "the one that ran starts again" virsh start acme-1
systemctl kill -s KILL iommud
check "iommud comes back after kill -9 and knows both machines" wait_for 20 eval \
    '[ "$(machine_state acme-1)$(machine_state acme-2)" = runningrunning ]'
check "both run on" eval 'is_running acme-1 && is_running acme-2'
check "all stop, and nothing is left" stop_all
check "and it starts with the new iommud" virsh start acme-1
check "and stops" stop_all

part "limits"
virsh start acme-1 >/dev/null
needs=$(tenant_number acme reserved_bytes)
virsh destroy acme-1 >/dev/null
all_back acme
iommuctl tenant set-limit acme $((needs - 4096))
check "over the limit by one page: refused" refused_with "limit" virsh start acme-1
check "a refusal leaves nothing" nothing_left acme
iommuctl tenant set-limit acme "$needs"
check "exactly at the limit: starts" virsh start acme-1
virsh destroy acme-1 >/dev/null
all_back acme
for round in $(seq $races); do
    virsh start acme-1 >/dev/null 2>&1 &
    first=$!
    virsh start acme-2 >/dev/null 2>&1 &
    second=$!
    won=0
    wait $first && won=$((won + 1))
    wait $second && won=$((won + 1))
    check "race $round for the last bytes: exactly one wins" test $won = 1
    virsh destroy acme-1 >/dev/null 2>&1
    virsh destroy acme-2 >/dev/null 2>&1
    all_back acme
done
iommuctl tenant set-limit acme 2G

part "who may start"
define_domain nobody-1 44444444-4444-4444-8444-444444444444 256 "" "${nvme[3]}"
check "a domain that names no tenant is refused" fails virsh start nobody-1
define_domain stranger-1 55555555-5555-4555-8555-555555555555 256 nosuch "${nvme[3]}"
iommuctl libvirt associate stranger-1 2>/dev/null
check "a domain of an unknown tenant is refused" fails virsh start stranger-1
virsh undefine nobody-1 >/dev/null
virsh undefine stranger-1 >/dev/null
mapfile -t trio < <(bridge_addresses)
define_domain acme-3 66666666-6666-4666-8666-666666666666 256 acme "${trio[1]}"
iommuctl libvirt associate acme-3
check "one device of a group that the host uses is refused" \
    refused_with "group" virsh start acme-3
virsh undefine acme-3 >/dev/null

part "iommud stopped"
systemctl stop iommud
systemctl mask --runtime iommud >/dev/null 2>&1
check "prepare fails closed, and names iommud" refused_with "iommud" virsh start acme-1
define_plain_domain plain-1 77777777-7777-4777-8777-777777777777 64
check "a domain that has nothing to do with it starts" virsh start plain-1
virsh destroy plain-1 >/dev/null
virsh undefine plain-1 >/dev/null
check "reconnect exits 0" eval \
    'virsh dumpxml acme-1 | /etc/libvirt/hooks/qemu.d/50-iommud acme-1 reconnect begin -'
systemctl unmask --runtime iommud >/dev/null 2>&1
systemctl start iommud
check "with iommud back it starts" wait_for 20 virsh start acme-1
# scopes: how many cgroups the kernel takes for machines; those of relays have the highest number.
scopes() {
    bpftool -j map dump name cgroups |
        python3 -c 'import json, sys
print(sum(entry["formatted"]["value"] != 0xffffffff for entry in json.load(sys.stdin)))'
}
check "its scope is known" test "$(scopes)" = 1
systemctl stop iommud
kill -KILL "$(domain_pid acme-1)"
systemctl start iommud
check "it died without iommud: nothing is left" wait_for 20 nothing_left acme
check "its scope neither" wait_for 5 eval '[ "$(scopes)" = 0 ]'
check "it starts again" wait_for 20 virsh start acme-1
check "and stops" stop_all

part "autostart"
virsh undefine globex-1 >/dev/null
# A UUID that has not been running in this boot.
define_domain auto-1 aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa 256 globex "${nvme[2]}"
virsh autostart auto-1 >/dev/null
systemctl restart libvirtd iommud-libvirt
wait_for 20 iommuctl libvirt associate auto-1
check "what libvirtd has not tried is not started" is_off auto-1
# As after a boot, with an agent that is late.
systemctl stop iommud-libvirt
rm /run/libvirt/qemu/autostarted
systemctl restart libvirtd
check "libvirtd tries to start it at boot" wait_for 20 test -e /run/iommud-libvirt/refused/aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa
systemctl start iommud-libvirt
check "the agent starts what libvirtd could not" wait_for 60 is_running auto-1
virsh destroy auto-1 >/dev/null
systemctl restart libvirtd iommud-libvirt
wait_for 20 iommuctl libvirt associate auto-1
check "what an operator stopped stays stopped" is_off auto-1
virsh undefine auto-1 >/dev/null

part "Isolation=machine"
iommuctl tenant create alone --limit 2G --isolation machine
define_domain alone-1 88888888-8888-4888-8888-888888888888 256 alone "${nvme[2]}"
define_domain alone-2 99999999-9999-4999-8999-999999999999 256 alone "${nvme[3]}"
iommuctl libvirt associate alone-1
iommuctl libvirt associate alone-2
for round in 1 2; do
    check "alone-1 starts, round $round" virsh start alone-1
    check "alone-2 starts, round $round" virsh start alone-2
    sleep 1
    kill -KILL "$(domain_pid alone-1)"
    check "alone-1 killed: its memory is back" \
        wait_for 2 eval "[ \$(pinned_pages) -lt $((before + 2 * memory / 4096)) ]"
    virsh destroy alone-2 >/dev/null
    check "nothing is pinned" wait_for 2 nothing_pinned
    wait_for 10 is_off alone-1
done
# QEMU has mapped everything when a hook refuses its start; libvirt sends no event of that.
late=/etc/libvirt/hooks/qemu.d/60-late
printf '#!/bin/sh\n[ "$2" != started ]\n' >"$late"
chmod +x "$late"
check "a start that fails late fails" eval '! virsh start alone-1'
check "and leaves nothing pinned in what libvirt holds" wait_for 10 nothing_pinned
rm "$late"
check "the next start works" wait_for 10 virsh start alone-1
virsh destroy alone-1 >/dev/null
check "and leaves nothing, either" wait_for 2 nothing_pinned
virsh undefine alone-1 >/dev/null
virsh undefine alone-2 >/dev/null

part "hostile XML in the hook"
hook=/etc/libvirt/hooks/qemu.d/50-iommud
hostile() { # WHAT: writes XML to stdout
    case $1 in
    huge)
        echo "<domain type='kvm'><name>x</name><description>"
        head -c 50M /dev/zero | tr '\0' x
        echo "</description><iommufd enabled='yes' fdgroup='iommud'/></domain>"
        ;;
    bomb)
        echo '<!DOCTYPE domain [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
        echo '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]>'
        echo '<domain><name>&d;</name></domain>'
        ;;
    owners)
        virsh dumpxml acme-1 | sed 's|<iommud:tenant|<iommud:tenant xmlns:iommud="urn:iommud:domain:1" id="globex"/>&|'
        ;;
    absurd) virsh dumpxml acme-1 | sed "s|<memory unit='KiB'>[0-9]*|<memory unit='TiB'>99999999999999|" ;;
    esac
}
xml=$(mktemp)
for what in huge bomb owners absurd; do
    hostile $what >"$xml"
    output=$(timeout 20 $hook acme-1 prepare begin - <"$xml" 2>&1)
    status=$?
    check "$what: refused, with one sentence" test $status -eq 1 -a -n "$output" \
        -a "$(wc -l <<<"$output")" -eq 1
    check "$what: reconnect exits 0" eval "$hook acme-1 reconnect begin - <$xml 2>/dev/null"
done
rm "$xml"
check "nothing of it is left" nothing_left acme

part "$starts starts and stops"
for round in $(seq $starts); do
    virsh start acme-1 >/dev/null || check "start $round" false
    virsh destroy acme-1 >/dev/null || check "stop $round" false
done
check "after $starts starts and stops nothing is left" all_back acme

part "the end"
confine_by apparmor
virsh undefine acme-1 >/dev/null
virsh undefine acme-2 >/dev/null
for tenant in acme globex alone; do
    check "tenant $tenant can be deleted" iommuctl tenant delete $tenant
done
check "the kernel pins no more than at the beginning" nothing_pinned
check "the kernel did not complain" fails grep -E 'WARNING:|BUG:|refcount' <(dmesg)
echo "# $SECONDS s"
finish
