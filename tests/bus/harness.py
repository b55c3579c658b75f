# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the bus tests stand on: a private bus, a small service manager, iommud on a simulated host,
and processes that stand for QEMU.

Each test has all of this to itself, and nothing of it outlives the test.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import uuid
import xml.etree.ElementTree as ET

from gi.repository import Gio, GLib

NAME = "org.iommud1"
ROOT = "/org/iommud1"
MANAGER = "org.iommud1.Manager"
TENANT = "org.iommud1.Tenant"
MACHINE = "org.iommud1.Machine"
DEVICE = "org.iommud1.Device"
SIMULATION = "org.iommud1.Simulation"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECTS = "org.freedesktop.DBus.ObjectManager"
ERROR = "org.iommud1.Error."
DENIED = "org.freedesktop.DBus.Error.AccessDenied"

MIB = 1 << 20
GIB = 1 << 30
INFINITY = ANY = 2**64 - 1
# Whoever runs the tests may have these ignored, and that is handed down to what they start.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

PATIENCE = 20  # seconds until a test gives up on something that should take no time

IOMMUD = os.environ.get("IOMMUD", "")

HOST = """
[Host]
MemoryMiB=65536
Features=iommufd;vfio-cdev;map-file;iommu;ledger;guard;

[Device 0000:00:1c.0]
Vendor=0x8086
Product=0x3420
Class=0x060400
Group=3
Driver=pcieport
Bridge=true
"""


def nvme(slot, driver="vfio-pci", group=0):
    """A device for a simulated host's file: 0000:SLOT:00.0, in a group of its own, in the group
    that is named, or (-1) in none."""
    return f"""
[Device 0000:{slot:02x}:00.0]
Vendor=0x1b36
Product=0x0010
Class=0x010802
Driver={driver}
""" + ("" if group < 0 else f"Group={group or 100 + slot}\n")


def address(slot):
    return f"0000:{slot:02x}:00.0"


def new_uuid():
    return str(uuid.uuid4())


class BusError(Exception):
    """An error reply: its name, less our prefix, and its sentence."""

    def __init__(self, error):
        name = Gio.DBusError.get_remote_error(error) or "local"
        self.name = name.removeprefix(ERROR)
        self.message = error.message.removeprefix(f"GDBus.Error:{name}: ")
        super().__init__(f"{self.name}: {self.message}")


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def wait_until(condition, seconds=PATIENCE, what="it"):
    """Polls condition() until it is true, and returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen in {seconds} s")
        time.sleep(0.01)


class PrivateBus:
    """A dbus-daemon of our own, on which everybody may everything: iommud's checks are tested."""

    def __init__(self, folder):
        path = os.path.join(folder, "bus.conf")
        self.address = "unix:path=" + os.path.join(folder, "bus")
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                f"""<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>{self.address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*" eavesdrop="true"/>
  </policy>
</busconfig>
"""
            )
        self.process = subprocess.Popen(
            ["dbus-daemon", "--nofork", "--config-file=" + path, "--print-address=1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        self.process.stdout.readline()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class ServiceManager:
    """What systemd does for iommud: takes its notifications and keeps its file descriptors."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.bind(self.path)
        self.fds = []  # (name, fd)
        self.seen = []
        self.lock = threading.Lock()
        self.closing = False
        # The socket holds ten messages; the sender of an eleventh has to wait.
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.closing:
            select.select([self.socket], [], [], 0.05)
            self.pump()

    def pump(self):
        """Takes what has been sent by now."""
        with self.lock:
            while select.select([self.socket], [], [], 0)[0]:
                data, fds, _, _ = socket.recv_fds(self.socket, 65536, 16)
                for fd in fds:
                    os.set_inheritable(fd, False)
                self._note(data.decode().splitlines(), fds)

    def _note(self, lines, fds):
        self.seen += lines
        fields = dict(line.split("=", 1) for line in lines)
        name = fields.get("FDNAME", "")
        if "FDSTOREREMOVE" in fields:
            self._forget(name)
        if "FDSTORE" in fields:
            assert fields["FDPOLL"] == "0", "a stored fd must not be polled"
            self.fds += [(name, fd) for fd in fds]
        else:
            assert not fds

    def _forget(self, name):
        for stored in [entry for entry in self.fds if entry[0] == name]:
            os.close(stored[1])
            self.fds.remove(stored)

    def names(self):
        """What it keeps for iommud; what the simulated ledger lives in belongs to the kernel."""
        self.pump()
        with self.lock:
            return sorted(name for name, _ in self.fds if name != "ledger")

    def add(self, name, fd):
        with self.lock:
            self.fds.append((name, fd))

    def forget(self, name):
        """Loses what it keeps by that name."""
        self.pump()
        with self.lock:
            self._forget(name)

    def close(self):
        self.closing = True
        self.thread.join()
        for _, fd in self.fds:
            os.close(fd)
        self.socket.close()


def arguments_of(member, direction):
    return "".join(argument.get("type") for argument in member.findall("arg")
                   if argument.get("direction", "in") == direction)


def members_of(interface):
    """kind -> {(name, signature)} of an introspected interface."""
    found = {
        "Methods": {(m.get("name"), arguments_of(m, "in") + "->" + arguments_of(m, "out"))
                    for m in interface.findall("method")},
        "Properties": {(p.get("name"), p.get("type")) for p in interface.findall("property")},
        "Signals": {(s.get("name"), "".join(a.get("type") for a in s.findall("arg")) + "->")
                    for s in interface.findall("signal")},
    }
    return {kind: members for kind, members in found.items() if members}


class Caller:
    """A connection to the bus."""

    def __init__(self, bus_address):
        self.connection = Gio.DBusConnection.new_for_address_sync(
            bus_address,
            Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
            | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION,
            None,
            None,
        )
        self.connection.set_exit_on_close(False)

    @staticmethod
    def _arguments(signature, values):
        return GLib.Variant(f"({signature})", tuple(values)) if signature else None

    def call_fds(self, path, interface, member, signature="", values=(), fds=(), seconds=PATIENCE):
        """Values of the reply, and its file descriptors, which the caller closes."""
        fd_list = Gio.UnixFDList.new()
        for fd in fds:
            fd_list.append(fd)
        try:
            reply, out = self.connection.call_with_unix_fd_list_sync(
                NAME, path, interface, member, self._arguments(signature, values), None,
                Gio.DBusCallFlags.NONE, seconds * 1000, fd_list, None,
            )
        except GLib.Error as error:
            raise BusError(error) from None
        return reply.unpack(), out.steal_fds() if out else []

    def call(self, path, interface, member, signature="", *values, fds=(), seconds=PATIENCE):
        """The reply's value, or a tuple of them."""
        reply, _ = self.call_fds(path, interface, member, signature, values, fds, seconds)
        return reply[0] if len(reply) == 1 else reply

    def start_call(self, path, interface, member, signature="", *values, seconds=PATIENCE):
        """A call whose answer is not waited for here."""
        return PendingCall(self, path, interface, member, self._arguments(signature, values),
                           seconds)

    def manager(self, member, signature="", *values, **more):
        return self.call(ROOT, MANAGER, member, signature, *values, **more)

    def get(self, path, interface, name):
        return self.call(path, PROPERTIES, "Get", "ss", interface, name)

    def introspect(self, path, name=NAME):
        """Our interfaces of an object: name -> kind -> {(member, signature)}."""
        reply = self.connection.call_sync(
            name, path, "org.freedesktop.DBus.Introspectable", "Introspect", None, None,
            Gio.DBusCallFlags.NONE, -1, None)
        return {interface.get("name"): members_of(interface)
                for interface in ET.fromstring(reply.unpack()[0]).findall("interface")
                if interface.get("name").startswith("org.iommud1.")}

    def get_all(self, path, interface):
        return self.call(path, PROPERTIES, "GetAll", "s", interface)

    def close(self):
        if not self.connection.is_closed():
            self.connection.close_sync(None)


class PendingCall:
    def __init__(self, caller, path, interface, member, arguments, seconds):
        self.reply = None
        self.error = None
        self.done = False
        caller.connection.call(
            NAME, path, interface, member, arguments, None, Gio.DBusCallFlags.NONE,
            seconds * 1000, None, self._finish,
        )

    def _finish(self, connection, result):
        try:
            self.reply = connection.call_finish(result).unpack()
        except GLib.Error as error:
            self.error = BusError(error)
        self.done = True

    def poll(self):
        """Whether it has been answered by now."""
        while not self.done and GLib.MainContext.default().iteration(False):
            pass
        return self.done

    def result(self):
        wait_until(self.poll, what="the answer")
        if self.error:
            raise self.error
        return self.reply[0] if len(self.reply) == 1 else self.reply


class Signals:
    """What iommud announces, as (interface, member, path, values)."""

    def __init__(self, caller):
        self.seen = []
        self.connection = caller.connection
        self.subscription = self.connection.signal_subscribe(
            NAME, None, None, None, None, Gio.DBusSignalFlags.NONE, self._note
        )

    def _note(self, _connection, _sender, path, interface, member, values):
        self.seen.append((interface, member, path, values.unpack()))

    def _find(self, member, match):
        while GLib.MainContext.default().iteration(False):
            pass
        for signal_ in self.seen:
            if signal_[1] == member and match(signal_):
                return signal_
        return None

    def wait(self, member, match=lambda signal_: True):
        return wait_until(lambda: self._find(member, match), what=f"the signal {member}")

    def has(self, member, match=lambda signal_: True):
        return self._find(member, match) is not None

    def close(self):
        self.connection.signal_unsubscribe(self.subscription)


class Assertions:
    def assert_says(self, values, **expected):
        """What the test is about; there may be more."""
        self.assertEqual({key: values.get(key) for key in expected}, expected)


class TestCase(Assertions, unittest.TestCase):
    """A test with a bus, a service manager and iommud. Class attributes say what host it has."""

    devices = "".join(nvme(slot) for slot in range(1, 9))
    host = HOST
    config = ""  # iommud.conf
    tenants = {}  # id -> the group [Tenant] of CONFIG_DIR/tenants.d/ID.conf

    def setUp(self):
        if not IOMMUD:
            self.fail("IOMMUD must say which program to test")
        self.folder = tempfile.mkdtemp(prefix="iommud-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o755)  # others connect to the bus, too
        self.write("host.conf", self.host + self.devices)
        os.makedirs(self.path("etc/tenants.d"))
        self.write("etc/iommud.conf", self.config)
        for name, text in self.tenants.items():
            self.write(f"etc/tenants.d/{name}.conf", "[Tenant]\n" + text)
        self.bus = PrivateBus(self.folder)
        self.addCleanup(self.bus.close)
        self.service_manager = ServiceManager(self.folder)
        self.addCleanup(self.service_manager.close)
        self.service = None
        self.addCleanup(self.end_service)
        self.start_service()
        self.caller = self.new_caller()
        self.leaders = []
        self.addCleanup(self.kill_leaders)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    # ---- the service ----

    def start_service(self, wait=True):
        fds = list(self.service_manager.fds)
        self.service_manager.seen.clear()

        def prepare():
            _die_with_parent()
            # Out of the way first: the target numbers may be the sources of others.
            copies = [os.dup(fd) for _, fd in fds]
            spare = [os.dup2(copy, 200 + i, inheritable=False)
                     for i, copy in enumerate(copies)]
            for i, fd in enumerate(spare):
                os.dup2(fd, 3 + i, inheritable=True)

        environment = {
            "PATH": os.environ["PATH"],
            "NOTIFY_SOCKET": self.service_manager.path,
            "LISTEN_FDS": str(len(fds)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in fds),
            **{key: value for key, value in os.environ.items() if key.endswith("SAN_OPTIONS")},
        }
        self.log = open(self.path("log"), "ab")
        self.service = subprocess.Popen(
            ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", IOMMUD,
             "--simulate=" + self.path("host.conf"), "--bus=" + self.bus.address,
             "--config-dir=" + self.path("etc"), "--state-dir=" + self.path("lib"),
             "--runtime-dir=" + self.path("run")],
            env=environment, stderr=self.log, close_fds=False, preexec_fn=prepare,
        )
        if wait:
            wait_until(self.is_ready, what="the service's READY=1")

    def is_ready(self):
        self.service_manager.pump()
        if self.service.poll() is not None:
            raise AssertionError("the service ended:\n" + self.log_text())
        return "READY=1" in self.service_manager.seen

    def log_text(self):
        with open(self.path("log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def kill_service(self):
        """SIGKILL; what it sent before is taken."""
        self.service.kill()
        self.service.wait()
        self.log.close()
        self.service_manager.pump()

    def restart_service(self):
        self.kill_service()
        self.start_service()

    def end_service(self):
        if self.service is None or self.log.closed:
            return
        self.service.terminate()
        try:
            status = self.service.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.service.kill()
            self.service.wait()
            status = "it did not end"
        self.log.close()
        self.assertEqual(status, 0, "the service's exit:\n" + self.log_text())

    def new_caller(self):
        caller = Caller(self.bus.address)
        self.addCleanup(caller.close)
        return caller

    # ---- leaders ----

    def new_leader(self, *arguments, keep=()):
        """A process that stands for QEMU, and holds these descriptors."""
        leader = subprocess.Popen(arguments or ["sleep", "1000"], preexec_fn=_die_with_parent,
                                  pass_fds=keep)
        self.leaders.append(leader)
        return leader

    @staticmethod
    def kill(leader):
        leader.kill()
        leader.wait()

    def kill_leaders(self):
        for leader in self.leaders:
            self.kill(leader)

    # ---- what tests do again and again ----

    def assert_refused(self, error_name, function, /, *arguments, **more):
        """The call is answered with this error, by a sentence."""
        with self.assertRaises(BusError) as caught:
            function(*arguments, **more)
        self.assertEqual(caught.exception.name, error_name, caught.exception.message)
        if "." not in error_name:
            self.assertRegex(caught.exception.message, r"^[A-Z\"0-9].* .*\.$")
        return caught.exception.message

    def create_tenant(self, tenant="acme", limit=INFINITY, **options):
        options = {"LimitBytes": GLib.Variant("t", limit), **options}
        return self.caller.manager("CreateTenant", "sa{sv}", tenant, options)

    def admit(self, machine, tenant="acme", size=GIB, devices=(), name=None, **options):
        return self.caller.manager("AdmitMachine", "ssstasa{sv}", machine,
                                   name or "vm-" + machine[:8], tenant, size, list(devices),
                                   options)

    def start_admit(self, machine, tenant="acme", size=GIB, devices=(), caller=None):
        return (caller or self.caller).start_call(
            ROOT, MANAGER, "AdmitMachine", "ssstasa{sv}", machine, "vm-" + machine[:8], tenant,
            size, list(devices), {})

    def play(self, leader, tenant="acme", devices=(), size=GIB):
        self.caller.call(ROOT, SIMULATION, "Play", "usast", leader.pid, tenant, list(devices),
                         size)

    def play_own(self, leader, iommufd, devices=(), size=GIB):
        """The same in an IOMMUFD that is the process's own."""
        self.caller.call(ROOT, SIMULATION, "PlayOwn", "uhast", leader.pid, 0, list(devices), size,
                         fds=(iommufd,))

    def ioctl(self, leader, name, obj=0, size=0, tenant="acme"):
        """One ioctl of the process on the tenant's IOMMUFD; the object's id."""
        return self.caller.call(ROOT, SIMULATION, "Ioctl", "ussut", leader.pid, tenant, name, obj,
                                size)

    def set_fault(self, fault, value):
        """What goes wrong in the simulated kernel, as often as value says."""
        self.caller.call(ROOT, SIMULATION, "SetFault", "st", fault, value)

    def start(self, machine, leader):
        self.caller.manager("StartMachine", "sv", machine, GLib.Variant("u", leader.pid))

    def release(self, machine, reason="test"):
        self.caller.manager("ReleaseMachine", "ss", machine, reason)

    def run_machine(self, machine=None, tenant="acme", size=GIB, devices=(), reserve=None):
        """A machine from admission to running: its UUID and its leader."""
        machine = machine or new_uuid()
        leader = self.new_leader()
        self.admit(machine, tenant, reserve or size, devices)
        self.play(leader, tenant, devices, size)
        self.start(machine, leader)
        return machine, leader

    def tenant_path(self, tenant="acme"):
        return self.caller.manager("GetTenant", "s", tenant)

    def tenant_get(self, name, tenant="acme"):
        return self.caller.get(self.tenant_path(tenant), TENANT, name)

    def tenant_call(self, member, signature="", *values, tenant="acme", **more):
        return self.caller.call(self.tenant_path(tenant), TENANT, member, signature, *values,
                                **more)

    def objects(self, tenant="acme"):
        return self.tenant_call("ListObjects", tenant=tenant)

    def machines(self):
        """UUID -> (name, tenant, state, reserved, pinned, orphaned, leader, path)."""
        return {row[0]: row[1:] for row in self.caller.manager("ListMachines")}

    def state(self, machine):
        row = self.machines().get(machine)
        return row[2] if row else None

    def describe(self):
        return json.loads(self.caller.manager("Describe"))

    def assert_clean(self, tenant="acme", seconds=2):
        """So soon after a death nothing is left: no object, no pinned byte, no charge."""
        end = time.monotonic() + seconds
        wait_until(lambda: not self.machines() or time.monotonic() > end, what="the reap")
        self.assertEqual(self.machines(), {})
        self.assertEqual(self.objects(tenant), [])
        host = self.describe()["host"]
        self.assertEqual((host["reserved_bytes"], host["pinned_bytes"], host["orphaned_bytes"]),
                         (0, 0, 0))


def run_parallel(functions):
    """Each on a thread of its own; what they return, or the BusError they raise, in order."""
    results = [None] * len(functions)

    def run(i):
        try:
            results[i] = functions[i]()
        except BusError as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
