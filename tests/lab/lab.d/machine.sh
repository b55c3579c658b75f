# shellcheck shell=bash
# shellcheck disable=SC2054,SC2154 # the commas are QEMU's; checkout, rootfs, image, kernel ... are the lab's
# machine.sh: boots the lab's machine and talks to it. Sourced by ../lab.

# A folder of this run's own. One whose lab was killed is removed by the next lab.
make_scratch() {
	local folder
	for folder in "${TMPDIR:-/tmp}"/iommud-lab.*/; do
		if [[ -O $folder && -e $folder/lock ]] && flock --nonblock "$folder/lock" true; then
			rm -rf --one-file-system "$folder"
		fi
	done
	# It gets its name when it is locked, so that no other lab takes it for one of a dead lab.
	scratch=$(mktemp -d "${TMPDIR:-/tmp}/new-iommud-lab.XXXXXXXX")
	exec {scratch_lock}>"$scratch/lock"
	flock "$scratch_lock"
	folder=${scratch/new-iommud-lab/iommud-lab}
	mv -T "$scratch" "$folder"
	scratch=$folder
}

# What the guest gets as its disk "lab-run": guest/run and guest/install, their parameters, and the checkout's tests and
# examples. A script from these runs at its place there, so that it finds what lies beside it; any other is copied.
pack_run() {
	local mode=$1 install=$2 script=${3-} place=() terminal=()
	mkdir "$scratch/run"
	if [[ $mode == run ]]; then
		case $script in
		"$checkout"/tests/* | "$checkout"/examples/*) place=("/usr/share/iommud-lab/${script#"$checkout"/}") ;;
		*)
			mkdir "$scratch/run/script"
			cp -L "$script" "$scratch/run/script/"
			place=("/usr/share/iommud-lab/script/${script##*/}")
			;;
		esac
		shift 3
		place+=("$@")
	else
		terminal=("$(tput lines)" "$(tput cols)" "${TERM:-vt100}")
	fi
	cp "$here/lab.d/guest"/{run,install} "$scratch/run/"
	{
		echo "mode=$mode"
		echo "install=$install"
		echo "command=(${place[*]@Q})"
		echo "terminal=(${terminal[*]@Q})"
	} >"$scratch/run/parameters"
	# Somebody may be working in the checkout: tar's status 1 is for files that change or vanish meanwhile.
	local folders=(tests)
	[[ ! -d $checkout/examples ]] || folders+=(examples)
	tar -c -f "$scratch/run.tar" --owner=0 --group=0 --ignore-failed-read --warning=none \
		-C "$scratch/run" . -C "$checkout" "${folders[@]}" || [[ $? -eq 1 ]]
}

# Everything about the machine's hardware. The disks and what the lab talks through sit on the root bus, away from the
# devices under test, which are, in the guest:
#   0000:01:00.0 ... 0000:06:00.0   six NVMe, each in an IOMMU group of its own
#   0000:07:00.0                    e1000e
#   0000:08:00.0                    igb, with seven virtual functions to be had
#   0000:09:00.0, 0a:01.0, 0a:02.0  a PCI bridge and two e1000: one group of three
#   0000:00:10.0                    edu
hardware() {
	local i port=0 processor=max,la57=off,svm=off
	machine=(
		-M q35,accel=tcg,kernel-irqchip=split,sata=off,smbus=off,i8042=off -m 4G
		-nodefaults -no-user-config -display none -no-reboot
		-device intel-iommu,intremap=on,device-iotlb=on
		-drive "if=none,id=root,file=$image/disk,format=raw,snapshot=on,cache=unsafe"
		-device virtio-blk-pci,bus=pcie.0,addr=2,drive=root
		-drive "if=none,id=run,file=$scratch/run.tar,format=raw,readonly=on"
		-device virtio-blk-pci,bus=pcie.0,addr=3,drive=run,serial=lab-run
		-device virtio-serial-pci,bus=pcie.0,addr=4
		-device virtio-rng-pci,bus=pcie.0,addr=5
		-device edu,bus=pcie.0,addr=10
	)
	# TCG does "rep movsb" byte by byte: without the promise that it's fast, copying and clearing take a fraction of the
	# time. What is counted is counted on a processor as they are.
	if [[ $count_instructions ]]; then
		machine+=(-cpu "$processor" -smp 1 -icount shift=0,sleep=off)
	else
		machine+=(-cpu "$processor,erms=off,fsrm=off,fzrm=off,fsrs=off,fsrc=off" -smp 2)
	fi
	if [[ -e $scratch/project.tar ]]; then
		machine+=(-drive "if=none,id=project,file=$scratch/project.tar,format=raw,readonly=on"
			-device virtio-blk-pci,bus=pcie.0,addr=6,drive=project,serial=lab-project)
	fi
	if [[ $with_selftests == yes ]]; then
		machine+=(-drive "if=none,id=selftests,file=$selftests/selftests.tar,format=raw,readonly=on"
			-device virtio-blk-pci,bus=pcie.0,addr=7,drive=selftests,serial=lab-selftests)
	fi
	# in_port DEVICE: behind a root port of its own
	in_port() {
		port=$((port + 1))
		printf -v i '%x' $((16 + port))
		machine+=(-device "pcie-root-port,id=port$port,bus=pcie.0,addr=$i,chassis=$port"
			-device "$1,bus=port$port")
	}
	for i in 1 2 3 4 5 6; do
		truncate -s 64M "$scratch/nvme$i"
		machine+=(-drive "if=none,id=nvme$i,file=$scratch/nvme$i,format=raw,cache=unsafe")
		in_port "nvme,drive=nvme$i,serial=lab-nvme$i"
	done
	in_port e1000e
	in_port igb
	in_port pcie-pci-bridge,id=bridge
	machine+=(-device e1000,bus=bridge,addr=1 -device e1000,bus=bridge,addr=2)
}

# start_machine OUTPUT ARGUMENT...: QEMU is the root file system's (it has igb, and is known), run by that system's loader: nothing is mounted for it.
start_machine() {
	local root=$rootfs/root libraries output=$1
	shift
	libraries=$root/usr/lib/x86_64-linux-gnu
	env --chdir="$scratch" TMPDIR="$scratch" QEMU_MODULE_DIR="$libraries/qemu" \
		setpriv --pdeathsig KILL -- "$here/lab.d/short-slices" \
		"$root/usr/lib64/ld-linux-x86-64.so.2" --inhibit-cache --library-path "$libraries" \
		"$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" "$@" \
		<&0 >"$output" 2>"$scratch/qemu.log" &
	child=$!
}

# The machine's last words, when it didn't do what it was started for. What a kernel says first when it goes down tells
# why; a long trace follows.
show_console() {
	local first
	first=$(grep -a -n -m 1 -E 'BUG:|Oops|Kernel panic|general protection fault|unable to handle' "$scratch/console" 2>/dev/null) || :
	if [[ $first ]]; then
		say "the machine's kernel went down:"
		sed -n "$((${first%%:*} > 3 ? ${first%%:*} - 3 : 1)),+25p" "$scratch/console" | sed 's/\r$//; s/^/  | /' >&2
	fi
	say "the end of the machine's console:"
	tail -n "${1:-40}" "$scratch/console" 2>/dev/null | sed 's/\r$//; s/^/  | /' >&2
	grep -v 'has no peer' "$scratch/qemu.log" | sed 's/^/  | /' >&2 || : # the network cards' warning
}

# run_machine MODE LIMIT: boots it, streams what comes out of it, and puts the script's exit status into $status.
run_machine() {
	local mode=$1 limit=$2 since=$SECONDS reader readers=() port control line='' piece='' word='' rest started='' gone='' ended=0 output
	local qemu_stdout=/dev/null
	# no_timer_check: on a busy host the kernel's test of its timer interrupt would give up, and panic.
	local boot=(
		-kernel "$rootfs/root/boot/vmlinuz-$kernel" -initrd "$rootfs/root/boot/initrd-$kernel"
		-append "root=/dev/vda rw console=ttyS0 loglevel=5 panic=-1 mitigations=off init_on_alloc=0 nowatchdog
 systemd.getty_auto=no no_timer_check intel_iommu=on iommu=nopt lsm=landlock,lockdown,yama,apparmor,bpf $append"
		-chardev "file,id=console,path=$scratch/console" -serial chardev:console
	)
	mkfifo "$scratch/control"
	exec {control}<>"$scratch/control"
	boot+=(-chardev "file,id=control,path=$scratch/control,append=on"
		-device virtserialport,chardev=control,name=lab.control)
	if [[ $mode == shell ]]; then
		qemu_stdout=/dev/tty
		boot+=(-chardev stdio,id=shell,mux=on,signal=off -device virtconsole,chardev=shell)
		say "Ctrl-A X switches the machine off at any time."
	fi
	for port in stdout stderr; do
		mkfifo "$scratch/$port"
		boot+=(-chardev "file,id=$port,path=$scratch/$port,append=on"
			-device "virtserialport,chardev=$port,name=lab.$port")
		if [[ $port == stdout ]]; then output=1; else output=2; fi
		setpriv --pdeathsig KILL cat "$scratch/$port" >&"$output" &
		readers+=($!)
	done
	hardware
	start_machine "$qemu_stdout" "${machine[@]}" "${boot[@]}"

	status=
	while [[ ! $status ]]; do
		# A read whose second is over has what came until then.
		if IFS= read -r -t 1 -u "$control" piece; then
			read -r word rest <<<"$line$piece"
			line=
			case $word in
			starting)
				started=$((SECONDS - since))
				# Both ends are open. Who reads all files below /tmp must not get what is the script's.
				rm "$scratch/"{stdout,stderr,control}
				[[ ! $verbose ]] || say "the machine was ready after $started s."
				;;
			failed) status=$LAB_FAILED ;;
			exit) status=$rest ;;
			esac
			continue
		fi
		line+=$piece
		if [[ $gone ]]; then
			wait "$child" || ended=$? # 0: the guest has stopped, as in a panic; above 128: a signal to QEMU
			status=$LAB_FAILED
			rest="the machine went down before the script had ended; QEMU's exit status was $ended."
			show_console
		elif ! kill -0 "$child" 2>/dev/null; then
			gone=1 # its last word may have come since: read once more
		elif [[ ! $started ]] && ((SECONDS - since >= boot_limit)); then
			status=$LAB_FAILED rest="the machine was not ready within $boot_limit s."
			show_console
		elif ((SECONDS - since >= limit)); then
			status=$LAB_TIMEOUT rest="the script had not ended after $limit s (the boot included) and was stopped."
			show_console 15
		fi
	done

	# After its last word it switches itself off; if not, nothing is lost with it. The readers end with it.
	[[ $word != exit && $word != failed ]] || timeout 10 tail --pid="$child" -s 0.1 -f /dev/null || :
	stop_child
	for reader in "${readers[@]}"; do
		wait "$reader" || :
	done
	[[ ! $verbose ]] || say "the machine was off after $((SECONDS - since)) s."
	exec {control}>&-
	case $status in
	"$LAB_FAILED" | "$LAB_TIMEOUT") [[ ! $rest ]] || say "$rest" ;;
	esac
}
