# SPDX-License-Identifier: LGPL-2.1-or-later
"""The libvirt agent on libvirt's test driver, as far as that goes: it can't take descriptors and has
no events of devices. What needs a real libvirt is tested in the lab."""

import os
import subprocess
import time
import unittest

import harness
from harness import MIB, Gio, GLib, address
from test_hook import UUID, HookCalls, hostdev, tenant

AGENT = os.environ.get("IOMMUD_LIBVIRT", "")
NAME, PATH = "org.iommud1.Libvirt", "/org/iommud1/libvirt"

RUNNING = f"""<node><domain xmlns:test='http://libvirt.org/schemas/domain/test/1.0' type='test'>
<name>vm</name><uuid>{UUID}</uuid><memory unit='MiB'>256</memory><os><type>hvm</type></os>
{{}}<test:runstate>1</test:runstate></domain></node>"""


class TestCase(HookCalls, harness.TestCase):
    tenants = {"acme": "Limit=1G\n"}
    uri = "test:///default"

    def start_agent(self):
        if not AGENT:
            self.fail("IOMMUD_LIBVIRT must say which program to test")
        self.agent_log = open(self.path("agent.log"), "ab")
        self.addCleanup(self.agent_log.close)
        self.agent = subprocess.Popen(
            [AGENT, "--uri=" + self.uri, "--bus=" + self.bus.address], stderr=self.agent_log,
            env={"RUNTIME_DIRECTORY": self.path("agent"), "IOMMUD_LIBVIRT_PID_DIR": self.folder,
                 **{key: value for key, value in os.environ.items()
                    if key.endswith("SAN_OPTIONS")}})
        self.addCleanup(self.end_agent)

    def end_agent(self):
        if self.agent.poll() is None:
            self.agent.terminate()
        self.assertEqual(self.agent.wait(20), 0)

    def write_node(self, inside):
        self.write("node.xml", RUNNING.format(inside))
        self.uri = "test://" + self.path("node.xml")

    def ask(self, member, signature, *values, interface=NAME):
        """The agent's answer, or the BusError that it is."""
        try:
            return self.caller.connection.call_sync(
                NAME, PATH, interface, member, GLib.Variant(f"({signature})", values), None,
                Gio.DBusCallFlags.NONE, 20000, None).unpack()
        except GLib.Error as error:
            raise harness.BusError(error) from None

    def property(self, name):
        return self.ask("Get", "ss", NAME, name, interface="org.freedesktop.DBus.Properties")[0]

    def is_connected(self):
        try:
            return self.property("Connected")
        except harness.BusError:
            return False

    def accounted(self):
        """UUID -> (tenant, state, reserved MiB)."""
        return {machine: (row[1], row[2], row[3] // MIB)
                for machine, row in self.machines().items()}


class Interface(TestCase):
    def setUp(self):
        super().setUp()
        self.start_agent()
        harness.wait_until(self.is_connected, what="the connection")

    def test_properties(self):
        self.assertRegex(self.property("LibvirtVersion"), r"^\d+\.\d+\.\d+$")
        self.assertEqual(self.property("Uri"), self.uri)
        self.assertEqual(self.property("Domains"), [])
        self.assertRegex(self.property("State"), "connected|has no fdgroup")

    def test_begin_start(self):
        """The test driver answers at once; that it takes no descriptors is said as the reason."""
        for _ in range(2):
            with self.assertRaisesRegex(harness.BusError, f"NotAssociated: .*{UUID}.*virsh define"):
                self.ask("BeginStart", "s", UUID)

    def test_errors(self):
        with self.assertRaisesRegex(harness.BusError, "LibvirtFailed: .*no-such-domain"):
            self.ask("Associate", "s", "no-such-domain")
        # Which of the two depends on the version of libvirt.
        with self.assertRaisesRegex(harness.BusError, "InvalidArgument: .*fdgroup|NotSupported"):
            self.ask("Associate", "s", "test")
        with self.assertRaisesRegex(harness.BusError, "NoSuchTenant|NotSupported"):
            self.ask("Enable", "ss", "test", "nobody")

    @unittest.skipUnless(os.geteuid() == 0, "needs another user")
    def test_others_may_only_read(self):
        busctl = ["setpriv", "--reuid=65534", "--clear-groups", "busctl",
                  "--address=" + self.bus.address]
        done = subprocess.run([*busctl, "call", NAME, PATH, NAME, "Associate", "s", "test"],
                              capture_output=True, text=True, check=False)
        self.assertIn("Access denied", done.stderr)
        done = subprocess.run([*busctl, "call", NAME, PATH, NAME, "BeginStart", "s", UUID],
                              capture_output=True, text=True, check=False)
        self.assertIn("Access denied", done.stderr)
        done = subprocess.run([*busctl, "get-property", NAME, PATH, NAME, "Connected"],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.stdout, "b true\n")


class Adoption(TestCase):
    """A machine that runs already when the agent comes."""

    def start_running(self, inside):
        self.write_node(inside)
        self.start_qemu()
        self.start_agent()

    def restart_agent(self):
        self.end_agent()
        self.start_agent()
        harness.wait_until(self.is_connected, what="the connection")

    def await_jobs(self):
        """What the agent does about a domain comes one after the other, and this is done about it, too."""
        for _ in range(3):
            with self.assertRaises(harness.BusError):
                self.ask("Associate", "s", UUID)

    def test_is_admitted(self):
        self.start_running(tenant("acme") + hostdev(1))
        harness.wait_until(lambda: self.accounted() == {UUID: ("acme", "running", 260)})

    def test_is_admitted_when_iommud_comes(self):
        self.kill_service()
        self.start_running(tenant("acme") + hostdev(1))
        harness.wait_until(self.is_connected, what="the connection")
        self.start_service()
        harness.wait_until(lambda: self.accounted() == {UUID: ("acme", "running", 260)})

    def test_what_was_promised_stays(self):
        """By whoever has called AddDevice and SetReservation for what he plugs in next."""
        self.start_running(tenant("acme") + hostdev(1))
        harness.wait_until(lambda: self.accounted() == {UUID: ("acme", "running", 260)})
        path = self.caller.manager("GetMachine", "s", UUID)
        self.caller.call(path, harness.MACHINE, "AddDevice", "s", address(2))
        self.caller.call(path, harness.MACHINE, "SetReservation", "ta{sv}", 300 * MIB, {})
        # The agent looks at what runs when iommud comes, and when it comes itself.
        for restart in (self.restart_service, self.restart_service, self.restart_agent):
            restart()
            self.await_jobs()
            self.assertEqual(self.accounted(), {UUID: ("acme", "running", 300)})
            self.assertEqual(self.caller.get(path, harness.MACHINE, "Devices"),
                             [address(1), address(2)])

    def test_leader_that_could_not_be_named(self):
        """iommud did not answer when the machine started: the agent tries it again."""
        self.caller.manager("AdmitMachine", "ssstasa{sv}", UUID, "vm", "acme", 260 * MIB,
                            [address(1)], {"Iommufd": GLib.Variant("b", False)})
        self.write_node(tenant("acme") + hostdev(1))
        self.start_agent()
        harness.wait_until(self.is_connected, what="the connection")
        time.sleep(1)
        self.assertEqual(self.accounted(), {UUID: ("acme", "admitted", 260)})
        self.start_qemu()
        harness.wait_until(lambda: self.accounted() == {UUID: ("acme", "running", 260)}, seconds=45)

    def test_nobodys_is_left_alone(self):
        self.start_running(hostdev(1))
        harness.wait_until(self.is_connected, what="the connection")
        self.restart_service()
        self.assertEqual(self.accounted(), {})
        with open(self.path("agent.log"), encoding="utf-8") as log:
            self.assertNotIn("without being admitted", log.read())

    def test_refusal_is_reported(self):
        self.start_running(tenant("globex") + hostdev(1))

        def reported():
            with open(self.path("agent.log"), encoding="utf-8") as log:
                return "runs without being admitted" in log.read()

        harness.wait_until(reported)
        self.assertEqual(self.accounted(), {})


class Reconnect(TestCase):
    def test_waits_for_libvirt(self):
        self.uri = "test://" + self.path("node.xml")
        self.start_agent()
        harness.wait_until(lambda: not self.is_connected() and self.agent.poll() is None)
        self.assertIn("waiting for libvirt", harness.wait_until(
            lambda: self.property("State") if self.has_name() else None))
        with self.assertRaisesRegex(harness.BusError, "LibvirtFailed: .*not connected"):
            self.ask("Associate", "s", "vm")
        with self.assertRaisesRegex(harness.BusError, f"LibvirtFailed: .*{UUID}.*waiting for"):
            self.ask("BeginStart", "s", UUID)
        self.write_node("")
        harness.wait_until(self.is_connected, what="the connection")

    def has_name(self):
        try:
            return bool(self.property("Uri"))
        except harness.BusError:
            return False


if __name__ == "__main__":
    unittest.main()
