# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# The story's stage on the simulated host: a private bus, iommud --simulate, and processes that
# stand for QEMU. What libvirt's hook asks iommud is asked by busctl. Sourced by story; BIN is where
# the programs were built.
: "${BIN:?BIN names the folder of the build}" "${here:?sourced by story}"
stage=$(mktemp -d)
# Bash's own word on each process that ends by a signal is no part of the story.
trap 'stage_end 2>/dev/null' EXIT
# An orderly end also after Ctrl-C.
trap 'exit 130' INT TERM

stage_end() {
    local pid
    for pid in "$stage"/*.pid; do
        [ -e "$pid" ] && kill -KILL "$(cat "$pid")"
    done
    # Nothing that was started here outlives it, and its folder goes last.
    wait
    rm -rf "$stage"
}

cat >"$stage/bus.conf" <<EOF_BUS
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=$stage/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
EOF_BUS
dbus-daemon --config-file="$stage/bus.conf" --nofork --nopidfile 2>"$stage/dbus.log" &
echo $! >"$stage/dbus.pid"
export IOMMUD_BUS_ADDRESS="unix:path=$stage/bus"
mkdir "$stage/etc" "$stage/var" "$stage/run"
mkfifo "$stage/fifo"

iommuctl() {
    "$BIN/dbus/iommuctl/iommuctl" "$@"
}

stage_wait() { # COMMAND...
    local _
    for _ in $(seq 100); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    echo "stage: '$*' did not succeed within ten seconds." >&2
    return 1
}

stage_wait test -S "$stage/bus" || return 1
"$BIN/dbus/iommud" --simulate="$here/simulated-host.conf" --bus="$IOMMUD_BUS_ADDRESS" \
    --config-dir="$stage/etc" --state-dir="$stage/var" --runtime-dir="$stage/run" \
    2>"$stage/iommud.log" &
echo $! >"$stage/iommud.pid"
stage_wait iommuctl status || return 1

stage_devices() {
    printf '0000:0%d:00.0\n' 1 2 3 4
}

manager() { # METHOD SIGNATURE ARG...
    busctl --address="$IOMMUD_BUS_ADDRESS" call org.iommud1 /org/iommud1 org.iommud1.Manager "$@"
}

# What libvirt does with a managed device when the machine starts is done once, here.
machine_define() {
    iommuctl device bind "$3" vfio-pci || return 1
    echo "$(cat /proc/sys/kernel/random/uuid) $2 $3" >"$stage/$1.machine"
}

# What libvirt's hook calls, and QEMU does meanwhile.
machine_start() {
    local uuid tenant device
    read -r uuid tenant device <"$stage/$1.machine"
    # Its memory, and its firmware's.
    manager AdmitMachine 'ssstasa{sv}' "$uuid" "$1" "$tenant" $((260 * 1024 * 1024)) 1 "$device" 0 \
        >/dev/null || return 1
    # Stands for QEMU: it has its command line's -uuid, and waits for a writer who never comes.
    bash -c 'read -r _ <"$0"' "$stage/fifo" -uuid "$uuid" &
    echo $! >"$stage/$1.pid"
    # What QEMU does at its start: binds its device, maps and pins its memory.
    busctl --address="$IOMMUD_BUS_ADDRESS" call org.iommud1 /org/iommud1 org.iommud1.Simulation \
        Play usast $! "$tenant" 1 "$device" $((256 * 1024 * 1024 + 256 * 1024)) >/dev/null &&
        manager StartMachine sv "$uuid" u $! >/dev/null
}

machine_kill() {
    kill -KILL "$(cat "$stage/$1.pid")"
    # Bash is the parent: without this the process stays a zombie and bash tells of its death.
    wait "$(cat "$stage/$1.pid")" 2>/dev/null
    rm "$stage/$1.pid"
}

machine_stop() {
    local uuid
    machine_kill "$1"
    read -r uuid _ <"$stage/$1.machine"
    # It may be gone by now: its death is seen without this.
    manager ReleaseMachine ss "$uuid" destroyed >/dev/null 2>&1 || return 0
}

kernel_pinned() {
    iommuctl status --json=short | sed -n 's/.*"kernel_pinned_bytes":\([0-9]*\).*/\1/p'
}
