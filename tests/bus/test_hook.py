# SPDX-License-Identifier: LGPL-2.1-or-later
"""The libvirt hook, end to end: domain XML in, iommud on a simulated host and an agent behind it."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from fake_agent import FakeAgent
from harness import MIB, address

HOOK = os.environ.get("IOMMUD_HOOK", "")

UUID = "11111111-1111-1111-1111-111111111111"
FDGROUP = "<iommufd enabled='yes' fdgroup='iommud'/>"


def tenant(name):
    return (f"<metadata><iommud:tenant xmlns:iommud='urn:iommud:domain:1' id='{name}'/>"
            "</metadata>")


def hostdev(bus):
    return ("<devices><hostdev mode='subsystem' type='pci' managed='yes'><source><address "
            f"domain='0x0000' bus='0x0{bus}' slot='0x00' function='0x0'/></source></hostdev>"
            "</devices>")


def domain(inside, mib=256, uuid=UUID, name="vm"):
    return (f"<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid>"
            f"<memory unit='MiB'>{mib}</memory>{inside}</domain>")


OURS = domain(FDGROUP + tenant("acme") + hostdev(1))
LEGACY = domain(tenant("acme") + hostdev(1))
ANONYMOUS = domain(hostdev(1))
PLAIN = domain("<devices/>")


class HookCalls:
    """For test cases that have self.bus_address and self.folder."""

    def hook(self, operation, sub_operation, xml, extra="-", name="vm", deadline=None):
        """The status and what stands on stderr. xml is text, bytes, or a file to read."""
        if not HOOK:
            self.fail("IOMMUD_HOOK must say which program to test")
        environment = {"IOMMUD_BUS_ADDRESS": self.bus_address,
                       "IOMMUD_LIBVIRT_PID_DIR": self.folder,
                       "IOMMUD_LIBVIRT_NETWORK_DIR": self.folder,
                       **{key: value for key, value in os.environ.items()
                          if key.endswith("SAN_OPTIONS")}}
        if deadline:
            environment["IOMMUD_HOOK_DEADLINE"] = str(deadline)
        if isinstance(xml, int):
            source = {"stdin": xml}
        else:
            source = {"input": xml if isinstance(xml, bytes) else xml.encode()}
        done = subprocess.run([HOOK, name, operation, sub_operation, extra], capture_output=True,
                              env=environment, timeout=60, check=False, **source)
        # Anything on stdout would replace the domain's XML in some operations.
        self.assertEqual(done.stdout, b"")
        return done.returncode, done.stderr.decode()

    def start_qemu(self, uuid=UUID, name="vm"):
        """A process with QEMU's command line and libvirt's pid file."""
        leader = self.new_leader("sh", "-c", "kill -STOP $$", "-uuid", uuid)
        harness.wait_until(lambda: f"-uuid\0{uuid}" in self.command_line(leader))
        with open(os.path.join(self.folder, name + ".pid"), "w", encoding="utf-8") as file:
            file.write(str(leader.pid))
        return leader

    @staticmethod
    def command_line(process):
        with open(f"/proc/{process.pid}/cmdline", encoding="utf-8") as file:
            return file.read()

    def assert_passes(self, operation, sub_operation, xml, **options):
        status, text = self.hook(operation, sub_operation, xml, **options)
        self.assertEqual(status, 0, text)
        return text

    def assert_fails(self, why, operation, sub_operation, xml, **options):
        status, text = self.hook(operation, sub_operation, xml, **options)
        self.assertEqual(status, 1, text)
        self.assertTrue(text.startswith("iommud: "), text)
        self.assertEqual(text.count("\n"), 1, text)
        self.assertIn(why, text)


class TestCase(HookCalls, harness.TestCase):
    tenants = {"acme": "Limit=1G\n"}
    tenant = "acme"  # that the agent has associated the domain with; None: none

    def setUp(self):
        super().setUp()
        self.agent = FakeAgent(self.bus.address)
        self.addCleanup(lambda: self.agent and self.agent.close())
        if self.tenant:
            self.agent.associate(UUID, self.tenant)

    @property
    def bus_address(self):
        return self.bus.address

    def accounted(self):
        """UUID -> (tenant, state, reserved MiB)."""
        return {machine: (row[1], row[2], row[3] // MIB)
                for machine, row in self.machines().items()}

    def start_machine(self):
        """What libvirt and QEMU do, hooks and all."""
        self.assert_passes("prepare", "begin", OURS)
        qemu = self.start_qemu()
        self.play(qemu, "acme", [address(1)], 64 * MIB)
        self.assert_passes("started", "begin", OURS)
        return qemu


class SmallLimit(TestCase):
    tenants = {"acme": "Limit=260M\n"}

    def test_limit(self):
        self.assert_fails("acme", "prepare", "begin", OURS.replace("256<", "257<"))
        self.assertEqual(self.accounted(), {})
        self.assert_passes("prepare", "begin", OURS)

    def test_reconnect_refused(self):
        self.start_qemu()
        self.assert_passes("reconnect", "begin", OURS.replace("256<", "257<"))
        self.assertEqual(self.accounted(), {})


class DefaultTenant(TestCase):
    config = "[Tenants]\nDefault=acme\n"

    def test_default_tenant(self):
        self.assert_passes("prepare", "begin", ANONYMOUS)
        self.assertEqual(self.accounted(), {UUID: ("acme", "admitted", 260)})
        self.assert_fails("acme", "prepare", "begin",
                                    ANONYMOUS.replace("256<", "99999<"))

    def test_plain_domain(self):
        self.assert_passes("prepare", "begin", PLAIN)
        self.assertEqual(self.accounted(), {})


class WithIommud(TestCase):
    def test_life(self):
        qemu = self.start_machine()
        self.assertEqual(self.accounted(), {UUID: ("acme", "running", 260)})
        self.kill(qemu)
        self.assert_passes("stopped", "end", OURS, extra="shutdown")
        self.assert_passes("release", "end", OURS, extra="shutdown")
        self.assertEqual(self.accounted(), {})

    def test_failed_start_gives_back(self):
        self.assert_passes("prepare", "begin", OURS)
        self.assertEqual(self.accounted(), {UUID: ("acme", "admitted", 260)})
        self.assert_passes("release", "end", OURS, extra="failed")
        self.assertEqual(self.accounted(), {})

    def test_no_such_tenant(self):
        for xml in (OURS, LEGACY):
            self.assert_fails("globex", "prepare", "begin", xml.replace("acme", "globex"))

    def test_no_tenant(self):
        ours = domain(FDGROUP)
        self.assert_fails("tenant", "prepare", "begin", ours)
        self.assert_passes("prepare", "begin", ANONYMOUS)
        self.assertEqual(self.accounted(), {})

    def test_no_such_device(self):
        self.assert_fails("0000:09:00.0", "prepare", "begin",
                          domain(FDGROUP + tenant("acme") + hostdev(9)))

    def test_device_known_at_start_only(self):
        """libvirt takes a device out of a network's pool after prepare."""
        interface = ("<devices><interface type='hostdev'><source><address type='pci' bus='2'/>"
                     "</source></interface></devices>")
        self.assert_passes("prepare", "begin", domain(tenant("acme")))
        self.assertEqual(self.accounted(), {})
        self.assert_passes("start", "begin", domain(tenant("acme") + interface))
        self.assertEqual(self.accounted(), {UUID: ("acme", "admitted", 260)})

    def test_wrong_process(self):
        """It is said, and nobody is killed for it: libvirt would kill the machine."""
        self.assert_passes("prepare", "begin", OURS)
        self.assertIn("can't be found", self.assert_passes("started", "begin", OURS))
        self.start_qemu(uuid="22222222-2222-2222-2222-222222222222")
        self.assertIn(f"-uuid {UUID}", self.assert_passes("started", "begin", OURS))
        self.start_qemu()
        self.assertIn("does not hold the IOMMUFD", self.assert_passes("started", "begin", OURS))
        self.assertEqual(self.accounted(), {UUID: ("acme", "admitted", 260)})

    def test_started_never_fails(self):
        for xml in ("", "<domain", OURS, LEGACY, domain(FDGROUP)):
            self.assert_passes("started", "begin", xml)

    def test_legacy_started(self):
        self.start_qemu()
        self.assert_passes("started", "begin", LEGACY)
        self.assert_passes("prepare", "begin", LEGACY)
        self.assert_passes("started", "begin", LEGACY)
        self.assertEqual(self.accounted(), {UUID: ("acme", "running", 260)})

    def test_reconnect(self):
        self.start_machine()
        self.assert_passes("reconnect", "begin", OURS)
        self.assertEqual(self.accounted(), {UUID: ("acme", "running", 260)})

    def test_reconnect_unknown(self):
        self.start_qemu()
        self.assert_passes("reconnect", "begin", LEGACY)
        self.assertEqual(self.accounted(), {UUID: ("acme", "running", 260)})

    def test_restart_is_waited_for(self):
        self.kill_service()
        thread = threading.Thread(target=self.assert_passes, args=("prepare", "begin", OURS))
        thread.start()
        time.sleep(0.5)
        self.start_service()
        thread.join()
        self.assertEqual(self.accounted(), {UUID: ("acme", "admitted", 260)})

    def test_silent_iommud(self):
        """One that hangs: the deadline ends it, closed for what uses iommud."""
        self.service.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        self.assert_fails("did not answer in time", "prepare", "begin", OURS, deadline=1)
        self.assertIn("did not answer in time",
                      self.assert_passes("prepare", "begin", LEGACY, deadline=1))
        self.start_qemu()
        self.assert_passes("started", "begin", OURS, deadline=1)
        self.assert_passes("reconnect", "begin", OURS, deadline=1)
        self.assert_passes("release", "end", OURS, deadline=1)
        self.assertLess(time.monotonic() - begin, 15)
        self.service.send_signal(signal.SIGCONT)


class Agent(TestCase):
    """A start that has no IOMMUFD when libvirt has opened its first device hangs libvirt for ever."""
    tenants = {"acme": "Limit=1G\n", "globex": "Limit=1G\n", "alone": "Isolation=machine\n"}
    tenant = None

    def assert_refused(self, why, xml=OURS, **options):
        before = time.monotonic()
        self.assert_fails(why, "prepare", "begin", xml, **options)
        self.assertLess(time.monotonic() - before, 5)
        self.assertEqual(self.accounted(), {})

    def test_not_associated(self):
        self.assert_refused("libvirt has no IOMMUFD for " + UUID)
        self.agent.associate(UUID, "acme")
        self.assert_passes("prepare", "begin", OURS)
        self.assertEqual(self.agent.calls, [("BeginStart", UUID)] * 2)

    def test_only_who_uses_iommud_is_asked_about(self):
        for xml in (LEGACY, ANONYMOUS, PLAIN, domain(FDGROUP.replace("yes", "no"))):
            self.assert_passes("prepare", "begin", xml)
        self.assertEqual(self.agent.calls, [])

    def test_no_agent(self):
        self.agent.close()
        self.agent = None
        self.assert_refused("systemctl status iommud-libvirt")
        self.assert_passes("prepare", "begin", LEGACY)

    def test_agent_without_libvirt(self):
        self.agent.error = ("org.iommud1.Error.LibvirtFailed", "waiting for libvirt.")
        self.assert_refused("waiting for libvirt.")

    def test_silent_agent(self):
        self.agent.hang = True
        self.assert_refused("did not answer in time", deadline=1)

    def test_another_libvirt(self):
        """The agent's connection is to a libvirtd, but not to the one that runs this hook."""
        self.agent.associate(UUID, "acme")
        for end in socket.socketpair():
            self.agent.socket = os.fstat(end.fileno()).st_ino
            end.close()
            self.assert_refused("socket")
        ours, theirs = socket.socketpair()
        self.agent.socket = os.fstat(ours.fileno()).st_ino
        other = subprocess.Popen(["sleep", "infinity"], pass_fds=[theirs.fileno()])
        self.addCleanup(self.kill, other)
        theirs.close()
        self.assert_refused("connected to another libvirt")
        self.agent.socket = 0
        self.assert_refused("connected to another libvirt")
        ours.close()

    def test_another_tenant(self):
        """Its definition was changed since."""
        self.agent.associate(UUID, "globex")
        self.assert_refused("iommuctl libvirt associate " + UUID)
        harness.wait_until(lambda: ("Associate", UUID) in self.agent.calls)

    def test_tenant_made_anew(self):
        self.caller.manager("CreateTenant", "sa{sv}", "other", {})
        xml = OURS.replace("acme", "other")
        self.agent.associate(UUID, "other")
        self.caller.manager("DeleteTenant", "s", "other")
        self.caller.manager("CreateTenant", "sa{sv}", "other", {})
        self.assert_refused("not the one that its tenant's machines share", xml)
        self.agent.associate(UUID, "other")
        self.assert_passes("prepare", "begin", xml)

    def test_restart_of_iommud(self):
        self.agent.associate(UUID, "acme")
        self.kill_service()
        self.start_service()
        self.assert_passes("prepare", "begin", OURS)

    def test_one_for_each_start(self):
        xml = OURS.replace("acme", "alone")
        self.agent.associate(UUID, "alone")
        self.assert_passes("prepare", "begin", xml)
        self.assert_passes("start", "begin", xml)
        self.assert_passes("release", "end", xml, extra="failed")
        self.assert_refused("not a new one for it alone", xml)
        self.agent.associate(UUID, "alone")
        self.assert_passes("prepare", "begin", xml)

    def test_refused_start_takes_none(self):
        """What was refused before libvirt could hand it over is new still."""
        xml = domain(FDGROUP + tenant("alone") + hostdev(9))
        self.agent.associate(UUID, "alone")
        self.assert_refused("0000:09:00.0", xml)
        self.assert_passes("prepare", "begin", OURS.replace("acme", "alone"))

    def test_device_of_a_networks_pool(self):
        """With <iommufd> libvirt itself crashes then."""
        self.agent.associate(UUID, "acme")
        for name, forward in (("pool", "hostdev"), ("nat", "nat"), ("isolated", None)):
            network = f"<name>{name}</name>" + (f"<forward mode='{forward}'/>" if forward else "")
            self.write(f"{name}.xml", f"<networkstatus><network>{network}</network></networkstatus>")
        self.write("odd.xml", "<networkstatus>")

        def on(network):
            return (f"<devices><interface type='network'><source network='{network}'/></interface>"
                    "</devices>")

        self.assert_refused("network pool", domain(FDGROUP + tenant("acme") + on("pool")))
        own = FDGROUP.replace(" fdgroup='iommud'", "")
        self.assert_refused("network pool", domain(own + on("pool")))
        self.assert_passes("prepare", "begin", domain(tenant("acme") + on("pool")))
        for network in ("nat", "isolated", "odd", "none", "../pool", ""):
            self.assert_passes("prepare", "begin", domain(FDGROUP + tenant("acme") + on(network)))


class WithoutIommud(HookCalls, unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="iommud-test-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.bus_address = f"unix:path={self.folder}/bus"

    def start_bus(self):
        self.addCleanup(harness.PrivateBus(self.folder).close)

    def start_agent(self):
        """One whose domain is associated, although there is no iommud any more."""
        agent = FakeAgent(self.bus_address)
        self.addCleanup(agent.close)
        agent.starts[UUID] = ("acme", 1)

    def new_leader(self, *arguments):
        leader = subprocess.Popen(arguments)
        self.addCleanup(harness.TestCase.kill, leader)
        return leader

    def assert_closed_and_open(self, closed="iommud-libvirt.service"):
        self.assert_fails(closed, "prepare", "begin", OURS, deadline=1)
        for xml in (LEGACY, ANONYMOUS, PLAIN):
            self.assert_passes("prepare", "begin", xml)
        for operation in (("stopped", "end"), ("release", "end"), ("reconnect", "begin")):
            self.assert_passes(*operation, OURS)

    def test_no_bus(self):
        self.assert_closed_and_open()

    def test_no_service(self):
        self.start_bus()
        self.assert_closed_and_open()
        self.start_agent()
        self.assert_closed_and_open("iommud.service")

    def test_started_is_left_to_the_agent(self):
        self.start_bus()
        self.start_qemu()
        self.assertIn("not watched yet",
                      self.assert_passes("started", "begin", OURS, deadline=1))

    def test_silent_bus(self):
        """A socket that takes connections and says nothing."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.folder + "/bus")
        listener.listen()
        begin = time.monotonic()
        self.assert_fails("did not answer in time", "prepare", "begin", OURS, deadline=1)
        self.assert_passes("release", "end", OURS, deadline=1)
        self.assertLess(time.monotonic() - begin, 10)
        listener.close()

    def test_silent_libvirt(self):
        """Domain XML that never ends."""
        reader, writer = os.pipe()
        begin = time.monotonic()
        self.assert_fails("did not come in time", "prepare", "begin", reader, deadline=1)
        self.assertLess(time.monotonic() - begin, 10)
        os.close(reader)
        os.close(writer)

    def test_other_operations(self):
        for operation in ("stopped", "migrate", "restore", "attach", "whatever", ""):
            for sub_operation in ("begin", "end", "-"):
                self.assert_passes(operation, sub_operation, "no XML at all")
        for operation in ("release", "reconnect"):
            for xml in ("", "<domain", OURS):
                self.assert_passes(operation, "begin", xml)
                self.assert_passes(operation, "end", xml)

    def test_options(self):
        for option in ("--help", "-h", "--version"):
            result = subprocess.run([HOOK, option], capture_output=True, check=False)
            self.assertEqual(result.returncode, 0)
            self.assertTrue(result.stdout)
        self.assertEqual(subprocess.run([HOOK], capture_output=True, check=False).returncode, 1)


class HostileXml(TestCase):
    def test_hostile(self):
        laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
        two = ("<metadata>" + "<iommud:tenant xmlns:iommud='urn:iommud:domain:1' id='a'/>" * 2 +
               "</metadata>")
        cases = {
            "empty": "",
            "50 MB": "<domain>" + "<a/>" * 12_500_000 + "</domain>",
            "50 MB of nothing": b" " * 50_000_000,
            "billion laughs": f'<!DOCTYPE d [<!ENTITY l0 "lol">{laughs}]><domain>&l9;</domain>',
            "external entity":
                "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain>&x;</domain>",
            "two owners": domain(FDGROUP + two),
            "two metadata": domain(FDGROUP + tenant("acme") * 2),
            "absurd memory": OURS.replace("<memory unit='MiB'>256",
                                          "<memory unit='EiB'>99999999999999999999"),
            "negative memory": OURS.replace("256<", "-256<"),
            "no memory": OURS.replace("<memory unit='MiB'>256</memory>", ""),
            "deep nesting": "<domain>" + "<a>" * 100_000 + "</a>" * 100_000 + "</domain>",
            "NUL bytes": OURS.encode().replace(b"<name>vm", b"<name>v\0m"),
            "UTF-16": OURS.encode("utf-16"),
            "no domain": "<network/>",
            "a control character": OURS.replace("<name>vm", "<name>v&#10;m"),
            "Nova without project":
                domain(FDGROUP + "<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/"
                       "libvirt/nova/1.1'><nova:owner/></nova:instance></metadata>"),
        }
        for name, xml in cases.items():
            with self.subTest(name):
                begin = time.monotonic()
                self.assert_fails("", "prepare", "begin", xml)
                self.assertLess(time.monotonic() - begin, 10)
                self.assert_passes("reconnect", "begin", xml)
                self.assert_passes("release", "end", xml)
        self.assertEqual(self.accounted(), {})

    def test_terminal_escapes(self):
        """A domain's name can't play with the terminal of who reads the refusal."""
        status, text = self.hook("prepare", "begin", "<", name="v\033[31mm\nok")
        self.assertEqual(status, 1)
        self.assertIn("v?[31mm?ok", text)
        self.assertNotIn("\033", text)
        self.assertEqual(text.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
