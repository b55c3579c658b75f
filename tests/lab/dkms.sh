#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dkms.sh: the DKMS package iommud-vfio, as `lab build` has installed it for both kernels with dkms alone.
#
#   tests/lab/lab run --no-project tests/lab/dkms.sh

set -u
# shellcheck source=/dev/null
. "${IOMMUD_LAB_DIR:?runs in the lab only}/tests/lab/lib.sh"

modules=(iommufd vfio vfio_iommu_type1 vfio-pci-core vfio-pci)
mapfile -t kernels <"$IOMMUD_LAB_DIR/kernels"
version=$(dkms status iommud-vfio | sed -n '1s|^iommud-vfio/\([^,]*\),.*|\1|p')
work=$(mktemp -d)

installed() { # installed KERNEL
	dkms status "iommud-vfio/$version" -k "$1" | grep -q ': installed'
}

is_ours() { # is_ours KERNEL MODULE: it's the one that modprobe would take, and says who built it
	[[ $(modinfo -k "$1" -n "$2") == "/lib/modules/$1/updates/dkms/"* &&
		$(modinfo -k "$1" -F built_by "$2") == iommud-vfio* ]]
}

has_btf() { # has_btf KERNEL MODULE
	xz --decompress --stdout "$(modinfo -k "$1" -n "$2")" >"$work/module.ko"
	readelf --section-headers --wide "$work/module.ko" | grep -q ' \.BTF '
}

has_running_btf() {
	local module
	for module in "${modules[@]}"; do
		[[ -s /sys/kernel/btf/${module//-/_} ]] || return
	done
}

# headers OPTION...: the headers of a kernel that nobody has, with that configuration
headers() {
	rm -rf "$work/headers"
	mkdir -p "$work/headers/include/config"
	printf '%s\n' "$@" >"$work/headers/include/config/auto.conf"
}

vfio=(CONFIG_VFIO=m CONFIG_VFIO_IOMMU_TYPE1=m CONFIG_VFIO_PCI_CORE=m CONFIG_VFIO_PCI=m)
unknown=9.9.1-nobody

# dkms_says STATUS TEXT: `dkms build` for that kernel ends so, has TEXT in what the administrator sees, and builds nothing.
dkms_says() {
	local status=0 output
	output=$(dkms build "iommud-vfio/$version" -k "$unknown" --kernelsourcedir "$work/headers" 2>&1) || status=$?
	echo "exit status $status: $output"
	[[ $status -eq $1 && $output == *"$2"* ]] && ! dkms status -k "$unknown" | grep -q built
}

check "there are two kernels" test "${#kernels[@]}" -eq 2
for kernel in "${kernels[@]}"; do
	check "$kernel: dkms has installed the package" installed "$kernel"
	for module in "${modules[@]}"; do
		check "$kernel: $module is this package's" is_ours "$kernel" "$module"
		check "$kernel: $module has BTF" has_btf "$kernel" "$module"
	done
	check "$kernel: nothing stands in the way of another build" \
		"/usr/src/iommud-vfio-$version/prepare" --check "$kernel"
done

check "the running kernel loads them" modprobe --all vfio-pci vfio_iommu_type1
check "there is /dev/iommu" test -c /dev/iommu
check "the running modules have BTF" has_running_btf

# The kernel's own vfio-pci thinks that struct vfio_device is smaller than it is; dkms has kept it aside.
original=$(find /var/lib/dkms/iommud-vfio/original_module/"$(uname -r)" -name vfio-pci.ko.xz)
xz --decompress --stdout "$original" >"$work/vfio-pci.ko"
rmmod vfio-pci
if insmod "$work/vfio-pci.ko" 2>"$work/refusal"; then
	echo loaded >"$work/refusal"
fi
check "the kernel's own VFIO drivers are refused beside them" grep -q 'Unknown symbol' "$work/refusal"
check "and the kernel's log says for which symbol" \
	grep -q 'Unknown symbol _vfio_alloc_device ' <(dmesg --level=warn,err,notice,info)

headers CONFIG_IOMMUFD=m CONFIG_VFIO_DEVICE_CDEV=y "${vfio[@]}"
check "a kernel with IOMMUFD: dkms builds nothing, and says why" \
	dkms_says 77 "kernel $unknown has /dev/iommu of its own (CONFIG_IOMMUFD): it needs no other modules"
headers CONFIG_IOMMUFD=y "${vfio[@]}"
check "a kernel with IOMMUFD but without VFIO character devices: it says that, too" \
	dkms_says 77 "no VFIO character devices (CONFIG_VFIO_DEVICE_CDEV)"
headers "${vfio[@]}"
check "no linux-source: dkms names the package to install" dkms_says 1 "install the package linux-source-9.9."
headers "${vfio[@]/CONFIG_VFIO=m/CONFIG_VFIO=y}"
check "a kernel with VFIO built in: it can't be done, and why" dkms_says 1 "doesn't have CONFIG_VFIO as a module"
check "no headers: the package to install" \
	grep -qF "install the package linux-headers-$unknown." <("/usr/src/iommud-vfio-$version/prepare" --check "$unknown" 2>&1)
rm -rf "$work"
finish
