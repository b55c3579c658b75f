# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# The story's stage on a real host: libvirt, QEMU, NVMe devices. Sourced by story.
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?the story is played in the lab}/tests/lab/lib.sh"

stage_devices() {
    nvme_addresses
}

# As an operator would: define it, then give it to its tenant.
machine_define() {
    define_plain_domain "$1" "$(cat /proc/sys/kernel/random/uuid)" 256 "$3" >/dev/null &&
        iommuctl libvirt enable "$1" --tenant "$2"
}

machine_start() {
    virsh start "$1"
}

machine_kill() {
    kill -KILL "$(domain_pid "$1")"
}

machine_stop() {
    virsh destroy "$1"
}

kernel_pinned() {
    echo $(($(pinned_pages) * 4096))
}
