# SPDX-License-Identifier: LGPL-2.1-or-later
"""For scripts in the lab: machines that `iommuctl run` starts, and that issue the ioctls they are
told to, as whoever has taken over a VMM could.

Run with --machine this file is the machine: it gets the IOMMUFD and its devices by LISTEN_FDS, and
one JSON request per line on stdin. With --legacy it is one that needs no IOMMUFD.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import time

PAGE = 4096
MIB = 1 << 20
EVERYTHING = (1 << 64) - 1
MAP_ANYWHERE = 6  # readable and writeable

checks = {"ok": 0, "not ok": 0}


def check(what, fine, *told):
    """One assertion; what was told is shown when it fails."""
    result = "ok" if fine else "not ok"
    checks[result] += 1
    print(f"{result} - {what}", flush=True)
    if not fine:
        for line in told:
            print(f"#   {line}", flush=True)
    return fine


def equal(what, value, expected, *told):
    return check(what, value == expected, f"{value!r} should be {expected!r}", *told)


def finish():
    print(f"{checks['ok']} passed, {checks['not ok']} failed", flush=True)
    sys.exit(0 if checks["ok"] and not checks["not ok"] else 1)


def wait_for(seconds, condition):
    """What the condition says at last: it is asked until it is true, or the time is up."""
    until = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < until:
        time.sleep(0.05)
    return value


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def iommuctl(*arguments):
    """What it says as JSON."""
    answer = run("iommuctl", *arguments, "--json=short")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout) if answer.stdout.strip() else None


def get(path, interface, name):
    answer = run("busctl", "--json=short", "get-property", "org.iommud1", path,
                 "org.iommud1." + interface, name)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)["data"]


def manager(name):
    return get("/org/iommud1", "Manager", name)


def tenant(ident, name):
    return get(f"/org/iommud1/tenant/{ident}", "Tenant", name)


def status_bytes(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


def pinned_pages():
    """Pages pinned for DMA in the whole host."""
    with open("/proc/sys/vm/stat_refresh", "w", encoding="ascii") as refresh:
        refresh.write("1")
    with open("/proc/vmstat", encoding="ascii") as counters:
        values = dict(line.split() for line in counters)
    return int(values["nr_foll_pin_acquired"]) - int(values["nr_foll_pin_released"])


class Refused(Exception):
    """An ioctl failed in the machine."""

    def __init__(self, number):
        super().__init__(errno.errorcode.get(number, str(number)))
        self.number = number


class Machine:
    """A process of its own, as `iommuctl run` starts it."""

    def __init__(self, tenant_id, name, *devices, memory="64M"):
        self.name = name
        self.tenant = tenant_id
        self.runner = subprocess.Popen(
            ["iommuctl", "run", tenant_id, *(f"--device={device}" for device in devices),
             f"--memory={memory}", f"--name={name}", "--", sys.executable, __file__, "--machine"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.read()

    def read(self):
        line = self.runner.stdout.readline()
        if not line:
            raise EOFError(f"{self.name} is gone")
        answer = json.loads(line)
        if answer["errno"]:
            raise Refused(answer["errno"])
        return answer["value"]

    def call(self, what, *arguments):
        self.runner.stdin.write(json.dumps([what, *arguments]) + "\n")
        self.runner.stdin.flush()
        return self.read()

    def __getattr__(self, what):
        return lambda *arguments: self.call(what, *arguments)

    def start(self, size):
        """What QEMU does: binds its device, makes an address space, maps and attaches."""
        self.bound = self.call("bind", 0)
        self.space = self.call("ioas")
        self.table = self.call("hwpt", self.bound, self.space)
        self.call("attach", 0, self.table)
        self.iova = self.call("map", self.space, size)
        return self

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def end(self):
        """Ends it and returns the exit status of iommuctl."""
        self.runner.stdin.close()
        return self.runner.wait(60)

    def find(self):
        rows = [row for row in iommuctl("machines") if row["name"] == self.name]
        return rows[0] if rows else None

    def path(self):
        return "/org/iommud1/machine/" + self.find()["uuid"].replace("-", "_")

    def figure(self, name):
        return get(self.path(), "Machine", name)


def errno_of(function, *arguments):
    """0, or what the machine's ioctl said."""
    try:
        function(*arguments)
    except Refused as refusal:
        return refusal.number
    return 0


# ---- the machine ----

class Ioctls:
    """Each method is a request; ids and addresses are numbers."""

    def __init__(self):
        self.iommufd = 3
        self.memory = []
        self.count = int(os.environ.get("LISTEN_FDS", "0"))

    @staticmethod
    def ioctl(fd, number, layout, *values):
        size = struct.calcsize("=I" + layout)
        argument = bytearray(struct.pack("=I" + layout, size, *values))
        fcntl.ioctl(fd, 0x3b00 | number, argument, True)
        return struct.unpack("=I" + layout, argument)

    def bind(self, index):
        return self.ioctl(4 + index, 0x76, "IiI", 0, self.iommufd, 0)[3]

    def attach(self, index, page_table):
        self.ioctl(4 + index, 0x77, "II", 0, page_table)

    def detach(self, index):
        self.ioctl(4 + index, 0x78, "I", 0)

    def destroy(self, ident):
        self.ioctl(self.iommufd, 0x80, "I", ident)

    def ioas(self):
        return self.ioctl(self.iommufd, 0x81, "II", 0, 0)[2]

    def allow_iovas(self, ioas):
        self.ioctl(self.iommufd, 0x82, "IIIQ", ioas, 0, 0, 0)

    def copy(self, to, source, iova, length):
        return self.ioctl(self.iommufd, 0x83, "IIIQQQ", MAP_ANYWHERE, to, source, length, 0,
                          iova)[5]

    def iova_ranges(self, ioas):
        self.ioctl(self.iommufd, 0x84, "IIIQQ", ioas, 0, 0, 0, 0)

    def map(self, ioas, length, again=None):
        """Maps new memory, or that of an earlier mapping once more."""
        if again is None:
            memory = mmap.mmap(-1, length)
            for page in range(0, length, PAGE):
                memory[page] = 1
            self.memory.append(memory)
        else:
            memory = self.memory[again]
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        return self.ioctl(self.iommufd, 0x85, "IIIQQQ", MAP_ANYWHERE, ioas, 0, address, length,
                          0)[6]

    def unmap(self, ioas, iova, length):
        return self.ioctl(self.iommufd, 0x86, "IQQ", ioas, iova, length)[3]

    def rlimit_mode(self, value):
        self.ioctl(self.iommufd, 0x87, "IHHIQ", 0, 0, 0, 0, value)

    def hwpt(self, device, parent):
        return self.ioctl(self.iommufd, 0x89, "IIIIIIIQII", 0, device, parent, 0, 0, 0, 0, 0, 0,
                          0)[4]

    def invalidate(self, hwpt):
        self.ioctl(self.iommufd, 0x8d, "IQIIII", hwpt, 0, 0, 0, 0, 0)

    def change_process(self):
        self.ioctl(self.iommufd, 0x92, "I", 0)

    def unknown(self):
        """A number that no kernel knows yet."""
        self.ioctl(self.iommufd, 0xff, "I", 0)

    def open_iommu(self):
        os.close(os.open("/dev/iommu", os.O_RDWR | os.O_CLOEXEC))

    def send(self, path):
        """Hands the IOMMUFD to whoever listens there."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            socket.send_fds(connection, [b"x"], [self.iommufd])

    def churn(self, ioas, seconds):
        """Maps and unmaps for so long; how often it did."""
        until = time.monotonic() + seconds
        length = 16 * PAGE
        rounds = 0
        memory = mmap.mmap(-1, length)
        self.memory.append(memory)
        while time.monotonic() < until:
            iova = self.map(ioas, length, len(self.memory) - 1)
            self.unmap(ioas, iova, length)
            rounds += 1
        return rounds

    def environment(self):
        return {key: value for key, value in os.environ.items() if key.startswith("LISTEN_")}

    def leave(self, status):
        os._exit(status)


def serve():
    """The machine's main program."""
    ioctls = Ioctls()

    def answer(value, number=0):
        print(json.dumps({"value": value, "errno": number}), flush=True)

    answer(os.getpid())
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        try:
            answer(getattr(ioctls, what)(*arguments))
        except OSError as error:
            answer(None, error.errno)


def serve_legacy(group, size):
    """Maps memory through a container of VFIO's own, and stays until stdin is closed."""
    container = os.open("/dev/vfio/vfio", os.O_RDWR | os.O_CLOEXEC)
    fd = os.open(f"/dev/vfio/{group}", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, 0x3b68, struct.pack("=i", container))
    fcntl.ioctl(container, 0x3b66, 1)
    memory = mmap.mmap(-1, size)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(container, 0x3b71, struct.pack("=IIQQQ", 32, 3, address, 0, size))
    print("mapped", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1:] == ["--machine"]:
        serve()
    elif sys.argv[1:2] == ["--legacy"]:
        serve_legacy(sys.argv[2], int(sys.argv[3]))
