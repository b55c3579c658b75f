#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Machines that share an IOMMUFD through the service, with the ledger and the guard: what one can do
to another, what is counted, what is refused, what is left, and what a restart changes.

    tests/lab/lab run tests/lab/guarded.py [late|limits|...]...
"""

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tenant import (MIB, EVERYTHING, PAGE, Machine, Refused, check, equal, errno_of, finish,  # noqa: E402
                    get, iommuctl, manager, pinned_pages, run, status_bytes, tenant, wait_for)

SIZE = 16 * MIB
DEVICES = [f"0000:{bus:02x}:00.0" for bus in range(1, 7)]
SYS_PIDFD_GETFD = 438
tenant_file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tenant.py")


def title(text):
    print(f"\n# {text}", flush=True)


class Signals:
    """What the manager says on the bus, from now on."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["busctl", "--json=short", "monitor", "--match",
             "type='signal',interface='org.iommud1.Manager'"],
            stdout=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.text = ""
        time.sleep(1)

    def find(self, member):
        try:
            self.text += os.read(self.process.stdout.fileno(), 1 << 20).decode()
        except BlockingIOError:
            pass
        for line in self.text.splitlines():
            try:
                message = json.loads(line)
            except json.JSONDecodeError:
                continue
            if message.get("member") == member:
                yield message["payload"]["data"]

    def wait(self, member, fits=lambda data: True):
        return wait_for(30, lambda: next((data for data in self.find(member) if fits(data)), None))

    def end(self):
        self.process.kill()
        self.process.wait()


def journal(**fields):
    """Whether the service has written such an entry."""
    answer = run("journalctl", "-u", "iommud", "-o", "json", "--no-pager",
                 *(f"{key}={value}" for key, value in fields.items()))
    return [json.loads(line) for line in answer.stdout.splitlines()]


def objects(ident):
    return iommuctl("objects", ident) or []


def is_counted(machine):
    """The ledger has what the kernel has counted for the process."""
    pinned = status_bytes(machine.pid, "VmPin")
    return equal(f"{machine.name}: the ledger is what the kernel has counted",
                 machine.figure("PinnedBytes"), pinned)


def nothing_left(ident, before):
    def look():
        return not objects(ident) and not tenant(ident, "PinnedBytes") and pinned_pages() <= before
    check(f"nothing is left of {ident}", wait_for(2, look), objects(ident),
          tenant(ident, "PinnedBytes"), pinned_pages() - before)


# ---- one against another ----

def trespass(victim, attacker):
    """Every way to name an object; none may reach another machine's."""
    them = (victim.space, victim.table, victim.bound)
    mine = attacker.space
    tries = [
        ("IOMMU_IOAS_COPY", attacker.copy, mine, victim.space, victim.iova, SIZE),
        ("IOMMU_IOAS_COPY", attacker.copy, victim.space, mine, attacker.iova, SIZE),
        ("IOMMU_IOAS_UNMAP", attacker.unmap, victim.space, 0, EVERYTHING),
        ("IOMMU_IOAS_MAP", attacker.map, victim.space, PAGE),
        ("IOMMU_IOAS_ALLOW_IOVAS", attacker.allow_iovas, victim.space),
        ("IOMMU_IOAS_IOVA_RANGES", attacker.iova_ranges, victim.space),
        ("IOMMU_HWPT_ALLOC", attacker.hwpt, attacker.bound, victim.space),
        ("IOMMU_HWPT_ALLOC", attacker.hwpt, victim.bound, mine),
        ("IOMMU_HWPT_INVALIDATE", attacker.invalidate, victim.table),
        ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", attacker.attach, 0, victim.table),
        *(("IOMMU_DESTROY", attacker.destroy, ident) for ident in them),
    ]
    for what, function, *arguments in tries:
        number = errno_of(function, *arguments)
        equal(f"{what} {arguments} is refused", errno.errorcode.get(number, number), "EACCES")


def test_trespass():
    title("One machine against another")
    before = pinned_pages()
    signals = Signals()
    one = Machine("acme", "one", DEVICES[0]).start(SIZE)
    two = Machine("acme", "two", DEVICES[1]).start(SIZE)
    is_counted(one)
    is_counted(two)
    equal("a tenant has what its machines have", tenant("acme", "PinnedBytes"),
          one.figure("PinnedBytes") + two.figure("PinnedBytes"))
    trespass(one, two)
    trespass(two, one)
    is_counted(one)
    check("the machine still reaches its own", errno_of(one.map, one.space, PAGE) == 0)
    refused = signals.wait("Refused", lambda data: data[2] == "IOMMU_IOAS_COPY")
    check("a signal says who, what and whose", refused and refused[0] == "acme" and
          refused[1] == two.find()["uuid"] and refused[4]["Pid"]["data"] == two.pid and
          refused[4]["Ids"]["data"] == [one.space] and
          refused[4]["Owner"]["data"] == one.find()["uuid"], refused)
    check("so does the journal", wait_for(30, lambda: journal(
        IOMMUD_IOCTL="IOMMU_IOAS_COPY", IOMMUD_PID=two.pid,
        IOMMUD_MACHINE=two.find()["uuid"], IOMMUD_OBJECT=one.space)))
    check("refusals are counted", two.figure("Refusals") >= 10, two.figure("Refusals"))

    title("What is the whole context's")
    equal("IOMMU_IOAS_CHANGE_PROCESS", errno_of(two.change_process), errno.EPERM)
    equal("IOMMU_OPTION_RLIMIT_MODE", errno_of(two.rlimit_mode, 0), errno.EPERM)

    title("A dead machine, and one that goes on")
    theirs = {row["id"] for row in objects("acme") if row["machine_name"] == "one"}
    two.kill()
    check("what it left is gone within two seconds",
          wait_for(2, lambda: {row["id"] for row in objects("acme")} == theirs), objects("acme"))
    is_counted(one)
    equal("iommuctl run says how it ended", two.runner.wait(60), 128 + signal.SIGKILL)
    check("the other's memory is still mapped", one.unmap(one.space, one.iova, SIZE) == SIZE)
    equal("iommuctl run ends as its command", one.end(), 0)
    nothing_left("acme", before)
    signals.end()


# ---- limits ----

def test_limits():
    title("The limit holds in the kernel")
    before = pinned_pages()
    signals = Signals()
    iommuctl("tenant", "set-limit", "acme", str(2 * SIZE))
    one = Machine("acme", "greedy", DEVICES[0], memory="8M").start(SIZE)
    number = errno_of(one.map, one.space, SIZE + PAGE)
    equal("one page above it is refused", errno.errorcode.get(number, number), "EDQUOT")
    equal("nothing was pinned for it", one.figure("PinnedBytes"), SIZE)
    check("to the last page it is granted", errno_of(one.map, one.space, SIZE) == 0)
    equal("not a page more", errno_of(one.map, one.space, PAGE), errno.EDQUOT)
    told = signals.wait("LimitExceeded", lambda data: data[2] == SIZE + PAGE)
    check("a signal says who asked for how much", told and told[:4] == [
        "acme", one.find()["uuid"], SIZE + PAGE, SIZE] and told[4]["Pid"]["data"] == one.pid and
          told[4]["Ioctl"]["data"] == "IOMMU_IOAS_MAP", told)
    equal("a peak is kept", one.figure("PeakBytes"), 2 * SIZE)
    one.unmap(one.space, one.iova, SIZE)
    check("what is given back can be had again", errno_of(one.map, one.space, SIZE) == 0)
    is_counted(one)
    one.end()
    iommuctl("tenant", "set-limit", "acme", "256M")
    nothing_left("acme", before)
    signals.end()

    title("A tenant that counts unique bytes")
    for ident, count in (("charges", "charged"), ("pages", "unique")):
        iommuctl("tenant", "create", ident, f"--limit={2 * SIZE}", f"--count={count}")
        machine = Machine(ident, "twice", DEVICES[0], memory="8M").start(SIZE)
        again = machine.ioas()
        check(f"{ident}: the same memory in another address space",
              errno_of(machine.map, again, SIZE, 0) == 0)
        # That it is the same is found by a look, which a refusal sets off.
        granted = wait_for(60 if count == "unique" else 2, lambda m=machine, a=again: errno_of(m.map, a, SIZE) == 0)
        equal(f"{ident}: other memory beside it", bool(granted), count == "unique")
        check(f"{ident}: and no more", errno_of(machine.map, again, SIZE) == errno.EDQUOT)
        machine.end()
        nothing_left(ident, before)


# ---- who may have it ----

def test_circle():
    title("Who may receive an IOMMUFD")
    before = pinned_pages()
    one = Machine("acme", "holder", DEVICES[0]).start(SIZE)
    path = "/tmp/stranger"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    one.send(path)
    connection, _ = listener.accept()
    _, received, flags, _ = socket.recv_fds(connection, 1, 4)
    check("a stranger does not get what a machine sends it",
          not received and flags & socket.MSG_CTRUNC, received, flags)
    os.unlink(path)
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(one.pid)
    fd = libc.syscall(SYS_PIDFD_GETFD, pidfd, 3, 0)
    equal("nor what it takes", ctypes.get_errno() if fd < 0 else 0, errno.EACCES)
    os.close(pidfd)
    check("the journal names it", wait_for(30, lambda: journal(IOMMUD_PID=os.getpid())))
    one.end()
    nothing_left("acme", before)


# ---- restarts ----

def restart():
    def main_pid():
        return run("systemctl", "show", "--property=MainPID", "--value", "iommud").stdout.strip()

    before = main_pid()
    run("systemctl", "reset-failed", "iommud")
    run("systemctl", "kill", "--signal=KILL", "iommud")
    return wait_for(60, lambda: main_pid() not in (before, "0") and run(
        "busctl", "status", "org.iommud1").returncode == 0)


def test_restart():
    title("iommud is killed while its machines map and unmap")
    before = pinned_pages()
    one = Machine("acme", "busy", DEVICES[0]).start(SIZE)
    two = Machine("acme", "doomed", DEVICES[1]).start(SIZE)
    one.runner.stdin.write(json.dumps(["churn", one.space, 8]) + "\n")
    one.runner.stdin.flush()
    for _ in range(3):
        check("it comes back", restart())
    two.kill()
    check("it comes back once more", restart())
    rounds = one.read()
    check("the machine went on meanwhile", rounds > 0, rounds)
    check("who died is reaped", wait_for(5, lambda: not two.find()), iommuctl("machines"))
    is_counted(one)
    check("the ledger was off by no more than is coming and going",
          manager("DriftBytes") <= MIB, manager("DriftBytes"))
    check("the mappings were counted all along", one.figure("Maps") >= rounds,
          one.figure("Maps"), rounds)
    one.end()
    two.runner.wait(60)
    nothing_left("acme", before)


def programs():
    return [line for line in run("bpftool", "prog", "list").stdout.splitlines()
            if "name ledger_" in line or "name guard_" in line]


def test_late():
    title("The ledger starts late")
    before = pinned_pages()
    one = Machine("acme", "early", DEVICES[0]).start(SIZE)
    two = Machine("acme", "other", DEVICES[1]).start(SIZE)
    refused = run("iommud", "--unload")
    check("--unload is refused while iommud runs",
          refused.returncode != 0 and "systemctl stop iommud" in refused.stderr, refused)
    equal("and the guard is on", errno_of(two.unmap, one.space, 0, EVERYTHING), errno.EACCES)
    run("systemctl", "stop", "iommud")
    equal("while iommud is away, the guard is on", errno_of(two.unmap, one.space, 0, EVERYTHING),
          errno.EACCES)
    equal("limits hold", errno_of(two.map, two.space, 256 * MIB), errno.EDQUOT)
    equal("and machines do what is theirs", errno_of(two.map, two.space, PAGE), 0)
    equal("--unload leaves nothing", run("iommud", "--unload").returncode, 0)
    check("no program of ours is in the kernel", wait_for(20, lambda: not programs()), programs())
    check("nor a folder", not os.path.exists("/sys/fs/bpf/iommud"))
    one.map(one.space, SIZE)
    run("systemctl", "start", "iommud")
    equal("the ledger is there again", manager("LedgerState"), "active")
    check("it says by how much it was off", manager("DriftBytes") >= 3 * SIZE,
          manager("DriftBytes"))
    is_counted(one)
    is_counted(two)
    owners = {row["id"]: row["machine_name"] for row in objects("acme")}
    for machine in (one, two):
        equal(f"{machine.name}: its objects are known as its own",
              [owners.get(ident) for ident in (machine.space, machine.table, machine.bound)],
              [machine.name] * 3, objects("acme"))
    equal("and guarded", errno_of(two.unmap, one.space, 0, EVERYTHING), errno.EACCES)
    two.kill()
    check("what a dead one left is found",
          wait_for(10, lambda: {row["machine_name"] for row in objects("acme")} == {"early"}),
          objects("acme"))
    one.end()
    nothing_left("acme", before)


# ---- configuration ----

def configure(text):
    with open("/etc/iommud/iommud.conf", "w", encoding="ascii") as file:
        file.write(text)
    run("systemctl", "restart", "iommud")


def test_configuration():
    title("An ioctl that nobody knows, and /dev/iommu itself")
    one = Machine("acme", "curious", DEVICES[0])
    unknown = manager("UnknownIoctls")
    equal("Guard=known: the kernel answers", errno_of(one.unknown), errno.ENOTTY)
    equal("and it is counted", manager("UnknownIoctls"), unknown + 1)
    equal("DirectOpen=yes: it may open /dev/iommu", errno_of(one.open_iommu), 0)
    one.end()
    configure("[Kernel]\nGuard=strict\nDirectOpen=no\n")
    one = Machine("acme", "curious", DEVICES[0]).start(SIZE)
    equal("Guard=strict: it is refused", errno_of(one.unknown), errno.EPERM)
    equal("DirectOpen=no: so is /dev/iommu", errno_of(one.open_iommu), errno.EACCES)
    one.end()

    title("Room for so many mappings, and no more")
    configure("[Kernel]\nMaxMappings=64\n")
    one = Machine("acme", "hungry", DEVICES[0]).start(SIZE)
    mapped = 1
    while mapped < 64 and not (number := errno_of(one.map, one.space, PAGE)):
        mapped += 1
    equal("who has half of them gets no more", (mapped, number), (32, errno.ENOMEM))
    check("the journal says what to do", wait_for(30, lambda: "Raise MaxMappings=" in run(
        "journalctl", "--unit=iommud.service", "--output=cat", "--lines=20").stdout))
    is_counted(one)
    one.end()

    title("And for so many machines")
    configure("[Kernel]\nMaxProcesses=64\n")
    uuids = []
    answer = None
    while len(uuids) < 80 and (not answer or answer.returncode == 0):
        uuids.append(f"00000000-0000-4000-8000-{len(uuids):012d}")
        answer = run("busctl", "call", "org.iommud1", "/org/iommud1", "org.iommud1.Manager",
                     "AdmitMachine", "ssstasa{sv}", uuids[-1], f"many-{len(uuids)}", "acme",
                     str(PAGE), "0", "0")
    check("who finds no room is not admitted, and is told what to do",
          len(uuids) == 65 and "Raise MaxProcesses=" in answer.stderr, len(uuids), answer)
    for uuid in uuids[:-1]:
        call("ReleaseMachine", "ss", uuid, "test")
    equal("nobody is left", iommuctl("machines"), [])

    title("No guard, no sharing")
    configure("[Kernel]\nGuard=off\n")
    equal("the guard is off", manager("GuardState"), "off")
    one = Machine("acme", "alone", DEVICES[0]).start(SIZE)
    two = Machine("acme", "apart", DEVICES[1]).start(SIZE)
    check("each machine has an IOMMUFD of its own", one.space == two.space and one.bound ==
          two.bound, (one.space, two.space))
    equal("and is counted", one.figure("PinnedBytes"), SIZE)
    one.end()
    two.end()
    configure("")
    equal("the guard is on again", manager("GuardState"), "enforcing")


def test_isolation():
    title("A machine alone in its IOMMUFD")
    before = pinned_pages()
    iommuctl("tenant", "create", "apart", "--isolation=machine", f"--limit={2 * SIZE}")
    one = Machine("apart", "hermit", DEVICES[0], memory="8M").start(SIZE)
    is_counted(one)
    equal("the limit holds there, too", errno_of(one.map, one.space, SIZE + PAGE), errno.EDQUOT)
    number = errno_of(one.change_process)
    # Kernels before 6.13 have no such ioctl.
    check("it may change its process", number in (0, errno.EINVAL, errno.ENOTTY), number)
    one.kill()
    check("nothing is left of it", wait_for(2, lambda: pinned_pages() <= before),
          pinned_pages() - before)
    one.runner.wait(60)


def call(member, *arguments):
    answer = run("busctl", "call", "org.iommud1", "/org/iommud1", "org.iommud1.Manager", member,
                 *arguments)
    assert answer.returncode == 0, answer.stderr


def test_legacy():
    title("A machine with a container of VFIO's own")
    uuid = "77777777-7777-4777-8777-777777777777"
    device = f"/sys/bus/pci/devices/{DEVICES[5]}"
    group = os.path.basename(os.readlink(device + "/iommu_group"))
    iommuctl("tenant", "create", "old", "--limit=256M")
    call("AdmitMachine", "ssstasa{sv}", uuid, "elder", "old", str(SIZE), "1", DEVICES[5],
         "1", "Iommufd", "b", "false")
    run("iommuctl", "device", "bind", DEVICES[5], "vfio-pci")
    elder = subprocess.Popen([sys.executable, tenant_file, "--legacy", group, str(SIZE)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    equal("it maps", elder.stdout.readline(), "mapped\n")
    call("StartMachine", "sv", uuid, "u", str(elder.pid))
    path = "/org/iommud1/machine/" + uuid.replace("-", "_")
    for name in ("PinnedBytes", "MappedBytes", "UniqueBytes"):
        equal(f"{name} is what it has mapped", get(path, "Machine", name), SIZE)
    equal("in one mapping", get(path, "Machine", "Maps"), 1)
    equal("as the kernel says", status_bytes(elder.pid, "VmLck"), SIZE)
    elder.stdin.close()
    elder.wait(60)
    check("it is gone when it has ended",
          wait_for(10, lambda: not any(row["name"] == "elder" for row in iommuctl("machines"))))


def main():
    equal("the guard is enforcing", manager("GuardState"), "enforcing")
    equal("the ledger is active", manager("LedgerState"), "active")
    before = pinned_pages()
    iommuctl("tenant", "create", "acme", "--limit=256M")
    tests = [test_trespass, test_limits, test_circle, test_legacy, test_restart, test_late,
             test_isolation, test_configuration]
    for test in tests:
        if not sys.argv[1:] or test.__name__.removeprefix("test_") in sys.argv[1:]:
            test()
    for ident in [row["id"] for row in iommuctl("tenant", "list")]:
        equal(f"tenant {ident} can be deleted", run("iommuctl", "tenant", "delete", ident).returncode, 0)
    equal("nothing is pinned at the end", max(0, pinned_pages() - before), 0)
    warnings = run("dmesg").stdout
    check("the kernel did not complain", not any(
        word in warnings for word in ("WARNING:", "BUG:", "refcount")))
    finish()


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whatever it is, it is a failure and not the end of the report
        import traceback
        traceback.print_exc()
        check(f"{type(error).__name__}: {error}", False, run("journalctl", "-u", "iommud", "-o", "cat",
                                                            "--no-pager", "-n", "30").stdout)
        finish()
