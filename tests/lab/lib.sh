# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# lib.sh: what test scripts in the lab share. A script begins with
#
#   . "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"
#
# then has lines of `check DESCRIPTION COMMAND...`, and ends with `finish`.

checks_passed=0
checks_failed=0

# check DESCRIPTION COMMAND...: one assertion. What the command prints is shown when it fails. Fails with it.
check() {
	local description=$1 output
	shift
	if output=$("$@" 2>&1); then
		checks_passed=$((checks_passed + 1))
		echo "ok - $description"
		return 0
	fi
	checks_failed=$((checks_failed + 1))
	echo "not ok - $description"
	printf '#   command: %s\n' "$*"
	[[ ! $output ]] || printf '#   %s\n' "${output//$'\n'/$'\n'#   }"
	return 1
}

# finish: the script's last line and its exit status.
finish() {
	echo "$checks_passed passed, $checks_failed failed"
	[[ $checks_failed -eq 0 && $checks_passed -gt 0 ]]
	exit
}

# wait_for SECONDS COMMAND...: until the command succeeds; fails when it has not within that time.
wait_for() {
	local until=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
	shift
	until "$@" >/dev/null 2>&1; do
		((${EPOCHREALTIME/[.,]/} < until)) || return 1
		sleep 0.1
	done
}

# pinned_pages: pages pinned for DMA in the whole host, to the page: the kernel's counters for each CPU are summed first.
pinned_pages() {
	echo 1 >/proc/sys/vm/stat_refresh
	awk '$1 == "nr_foll_pin_acquired" { n += $2 } $1 == "nr_foll_pin_released" { n -= $2 } END { print n }' /proc/vmstat
}

# between LOW VALUE HIGH: for checks of figures.
between() {
	echo "$2 should be between $1 and $3"
	(($1 <= $2 && $2 <= $3))
}

# nvme_addresses: the NVMe devices that are alone in their IOMMU group, one address a line.
nvme_addresses() {
	local device members
	for device in /sys/bus/pci/devices/*; do
		[[ $(cat "$device/class") == 0x010802 && -d $device/iommu_group ]] || continue
		members=("$device"/iommu_group/devices/*)
		[[ ${#members[@]} -ne 1 ]] || basename "$device"
	done
}

# bridge_addresses: the bridge and the two e1000 that share one group.
bridge_addresses() {
	local group members member
	for group in /sys/kernel/iommu_groups/*; do
		members=("$group"/devices/*)
		[[ ${#members[@]} -eq 3 && -d ${members[0]}/pci_bus ]] || continue
		for member in "${members[@]}"; do
			basename "$member"
		done
	done
}

# define_domain NAME UUID MEMORY_MIB TENANT ADDRESS...: the smallest nested machine that gets these devices, on the shared
# IOMMUFD "iommud"; nothing boots in it (see $firmware). An empty TENANT means no metadata.
define_domain() {
	write_domain "<iommufd enabled='yes' fdgroup='iommud'/>" '' '' "$@"
}

# define_viommu_domain NAME UUID MEMORY_MIB TENANT ADDRESS...: one with an IOMMU of its own, which gives each device an
# address space of its own, and with slots for more devices. Once $guest names a kernel (see bare-guest.c), it boots that;
# what it says is in guest_console NAME.
define_viommu_domain() {
	local elements devices
	elements="<iommufd enabled='yes' fdgroup='iommud'/><features><acpi/><apic/></features>"
	devices="<iommu model='intel'><driver caching_mode='on'/></iommu>
		<serial type='file'><source path='$(guest_console "$1")'/></serial>
		<controller type='pci' model='pcie-root'/>"
	devices+=$(printf "<controller type='pci' model='pcie-root-port'/>%.0s" 1 2 3 4 5 6)
	write_domain "$elements" "${guest:+<kernel>$guest</kernel>}" "$devices" "$@"
}

# guest_console NAME: the file.
guest_console() {
	echo "/var/log/libvirt/qemu/$1.console"
}

# define_plain_domain NAME UUID MEMORY_MIB ADDRESS...: one that knows nothing of iommud.
define_plain_domain() {
	write_domain '' '' '' "$1" "$2" "$3" '' "${@:4}"
}

# hostdev ADDRESS: the XML of a device to pass through.
hostdev() {
	[[ $1 =~ ^(....):(..):(..)\.(.)$ ]] || return
	echo "<hostdev mode='subsystem' type='pci' managed='yes'><source><address" \
		"domain='0x${BASH_REMATCH[1]}' bus='0x${BASH_REMATCH[2]}' slot='0x${BASH_REMATCH[3]}'" \
		"function='0x${BASH_REMATCH[4]}'/></source></hostdev>"
}

# What runs in a machine that boots nothing: "halt" stops its processor with the first instructions, "bios" is QEMU's own.
# In the lab a BIOS costs more than all the rest of a start, for it is emulated by what is itself emulated.
firmware=halt

# halting_firmware: the file. A processor begins 16 bytes before the end: cli; hlt; and once more.
halting_firmware() {
	local file=/var/lib/libvirt/images/halt.rom
	if [[ ! -e $file ]]; then
		mkdir -p "${file%/*}"
		{
			head -c $((65536 - 16)) /dev/zero
			printf '\xfa\xf4\xeb\xfc'
			head -c 12 /dev/zero
		} >"$file"
	fi
	echo "$file"
}

write_domain() { # write_domain ELEMENTS BOOT DEVICES NAME UUID MEMORY_MIB TENANT ADDRESS...
	local elements=$1 boot=$2 devices=$3 name=$4 uuid=$5 memory=$6 tenant=$7 address file
	shift 7
	[[ $boot || $firmware != halt ]] || boot="<loader readonly='yes' type='rom'>$(halting_firmware)</loader>"
	file=$(mktemp)
	{
		echo "<domain type='qemu'>"
		echo "  <name>$name</name><uuid>$uuid</uuid>"
		[[ ! $tenant ]] ||
			echo "  <metadata><iommud:tenant xmlns:iommud='urn:iommud:domain:1' id='$tenant'/></metadata>"
		echo "  <memory unit='MiB'>$memory</memory><vcpu>1</vcpu>"
		echo "  <os><type arch='x86_64' machine='q35'>hvm</type>$boot</os>"
		echo "  $elements"
		echo "  <devices>"
		echo "    <controller type='usb' model='none'/><memballoon model='none'/><video><model type='none'/></video>"
		echo "    $devices"
		for address; do
			echo "    $(hostdev "$address")"
		done
		echo "  </devices>"
		echo "</domain>"
	} >"$file"
	virsh --quiet define --validate "$file"
	local status=$?
	rm "$file"
	return "$status"
}

# domain_pid NAME: of its QEMU.
domain_pid() {
	cat "/run/libvirt/qemu/$1.pid"
}

# domain_is NAME STATE: as virsh names it, "running" or "shut off".
domain_is() {
	[[ $(virsh domstate "$1") == "$2"* ]]
}

# status_kb PID FIELD: of /proc/PID/status, as VmPin.
status_kb() {
	awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"
}

# confine_by DRIVER: what libvirt confines machines by from now on, while none runs: apparmor, as on any Debian host, or
# none. Under TCG most of a start is the making of its AppArmor profile, so tests with many starts do without after some.
confine_by() {
	sed -i '/^security_driver/d' /etc/libvirt/qemu.conf
	echo "security_driver = \"$1\"" >>/etc/libvirt/qemu.conf
	systemctl restart libvirtd.service
}

# ---- with iommud ----

# Every start of a test begins from here.
pinned_before=$(pinned_pages)

# number_of KEY JSON: a number of one of iommuctl's answers.
number_of() {
	sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" <<<"$2"
}

# tenant_number TENANT KEY, machine_number NAME KEY
tenant_number() {
	number_of "$2" "$(iommuctl tenant show "$1" --json=short)"
}
machine_number() {
	number_of "$2" "$(iommuctl machine show "$1" --json=short)"
}

# machine_state NAME: admitted, running or reaping; nothing if iommud does not know it.
machine_state() {
	iommuctl machine show "$1" --json=short 2>/dev/null | sed -n 's/.*"state":"\([a-z]*\)".*/\1/p'
}

# iommud_property NAME: of the manager.
iommud_property() {
	busctl get-property org.iommud1 /org/iommud1 org.iommud1.Manager "$1" | sed -E 's/^[a-z]+ //; s/^"(.*)"$/\1/'
}

is_running() {
	domain_is "$1" running
}
is_off() {
	domain_is "$1" "shut off"
}
nothing_pinned() {
	[[ $(pinned_pages) -le $pinned_before ]]
}

# nothing_left TENANT: no HWPT and no IOAS in its IOMMUFD, and the ledger has nothing of it.
nothing_left() {
	nothing_pinned && [[ $(tenant_number "$1" pinned_bytes) == 0 && $(tenant_number "$1" reserved_bytes) == 0 &&
		! $(iommuctl objects "$1" --no-legend) ]]
}

# all_back TENANT: its memory within two seconds, and soon after that there is nothing of it in the ledger.
all_back() {
	wait_for 2 nothing_pinned && wait_for 20 nothing_left "$1"
}

fails() {
	! "$@"
}

# joined DESCRIPTION PID...: these jobs of this shell end well. (check runs its command in another.)
joined() {
	local description=$1 pid status=0
	shift
	for pid; do
		wait "$pid" || status=$?
	done
	check "$description" test $status = 0
}

# refused_with TEXT COMMAND...: the command fails, and its output holds TEXT.
refused_with() {
	local text=$1 output
	shift
	if output=$("$@" 2>&1); then
		echo "succeeded: $*"
		return 1
	fi
	grep -qF -- "$text" <<<"$output" || {
		echo "it said: $output"
		return 1
	}
}

# part TITLE: of a long test.
part() {
	printf '\n# %s (%d s)\n' "$*" "$SECONDS"
}
