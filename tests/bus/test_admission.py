# SPDX-License-Identifier: LGPL-2.1-or-later
"""AdmitMachine: who gets bytes and devices, and that a refusal leaves no trace."""

import time
import unittest

import harness
from harness import GIB, MACHINE, MIB, ROOT, GLib, address, new_uuid, nvme


class Admission(harness.TestCase):
    config = "[Host]\nBudget=32G\n[Tenants]\nDefault=acme\n"
    devices = (
        "".join(nvme(slot) for slot in range(1, 5))
        # One group of two, and one that the host uses a member of.
        + nvme(5, group=50) + nvme(6, group=50)
        + nvme(7, group=60) + nvme(8, "nvme", group=60)
    )

    def setUp(self):
        super().setUp()
        self.create_tenant("acme", 8 * GIB)
        self.create_tenant("umbrella", Devices=GLib.Variant("as", [address(2)]))

    def test_promises_bytes_and_devices(self):
        machine = new_uuid()
        path = self.admit(machine.upper(), "acme", 3 * GIB, ["1:0.0", address(2)], "web-1")
        self.assertEqual(path, ROOT + "/machine/" + machine.replace("-", "_"))
        self.assert_says(self.caller.get_all(path, MACHINE), Uuid=machine, Name="web-1",
                         Tenant=ROOT + "/tenant/acme", Leader=0, State="admitted",
                         ReservedBytes=3 * GIB, PinnedBytes=0, OrphanedBytes=0,
                         Devices=[address(1), address(2)], Iommufd=True)
        self.assertEqual(self.machines()[machine],
                         ("web-1", "acme", "admitted", 3 * GIB, 0, 0, 0, path))
        self.assertEqual(self.tenant_get("ReservedBytes"), 3 * GIB)
        self.assertEqual(self.tenant_get("Devices"), [address(1), address(2)])
        self.release(machine)
        self.assert_clean()

    def test_default_tenant(self):
        self.admit(new_uuid(), "")
        self.assertEqual(self.tenant_get("ReservedBytes"), GIB)

    def test_to_the_last_byte(self):
        self.admit(new_uuid(), size=5 * GIB)
        message = self.assert_refused("LimitExceeded", self.admit, new_uuid(), size=3 * GIB + 1)
        self.assertIn("set-limit", message)
        self.admit(new_uuid(), size=3 * GIB)
        self.assert_refused("LimitExceeded", self.admit, new_uuid(), size=1)
        self.admit(new_uuid(), size=0)

    def test_unique_bytes(self):
        """Two devices with address spaces of their own: the same memory is charged twice."""
        self.create_tenant("counts-pages", 4 * GIB, Count=GLib.Variant("s", "unique"))
        options = {"UniqueBytes": GLib.Variant("t", 3 * GIB)}
        for tenant, reserved in (("acme", 6 * GIB), ("counts-pages", 3 * GIB)):
            self.caller.manager("AdmitMachine", "ssstasa{sv}", new_uuid(), "web", tenant, 6 * GIB,
                                [], options)
            self.assertEqual(self.tenant_get("ReservedBytes", tenant), reserved)

    def test_host_budget(self):
        self.admit(new_uuid(), "umbrella", 30 * GIB)
        self.assert_refused("HostBudgetExceeded", self.admit, new_uuid(), size=3 * GIB)
        self.admit(new_uuid(), size=2 * GIB)

    def test_limit_exceeded_is_announced(self):
        signals = harness.Signals(self.caller)
        machine = new_uuid()
        self.assert_refused("LimitExceeded", self.admit, machine, size=9 * GIB)
        seen = signals.wait("LimitExceeded")
        self.assertEqual(seen[3], ("acme", machine, 9 * GIB, 8 * GIB, {}))

    def test_devices(self):
        self.admit(new_uuid(), devices=[address(1)])
        refused = self.assert_refused
        refused("DeviceBusy", self.admit, new_uuid(), devices=[address(1)])
        refused("DeviceDenied", self.admit, new_uuid(), "umbrella", devices=[address(3)])
        refused("DeviceDenied", self.admit, new_uuid(), devices=["0000:00:1c.0"])
        refused("NoSuchDevice", self.admit, new_uuid(), devices=["0000:77:00.0"])
        refused("InvalidArgument", self.admit, new_uuid(), devices=["nonsense"])
        refused("InvalidArgument", self.admit, new_uuid(), devices=[address(2), "2:0.0"])
        refused("GroupShared", self.admit, new_uuid(), devices=[address(7)])
        self.admit(new_uuid(), devices=[address(5)])
        self.caller.manager("CreateTenant", "sa{sv}", "third", {})
        refused("GroupShared", self.admit, new_uuid(), "third", devices=[address(6)])
        refused("GroupShared", self.admit, new_uuid(), devices=[address(6)],
                Iommufd=GLib.Variant("b", False))

    def test_refused_calls_leave_no_trace(self):
        self.admit(new_uuid(), size=GIB, devices=[address(1)])
        before = self.describe()
        fds = self.service_manager.names()
        machine = new_uuid()
        for name, arguments in (
            ("InvalidArgument", {"machine": "no-uuid"}),
            ("InvalidArgument", {"machine": ""}),
            ("InvalidArgument", {"machine": machine, "name": "a\nb"}),
            ("InvalidArgument", {"machine": machine, "name": "x" * 256}),
            ("InvalidArgument", {"machine": machine, "size": harness.INFINITY}),
            ("NoSuchTenant", {"machine": machine, "tenant": "nobody"}),
            ("LimitExceeded", {"machine": machine, "size": 9 * GIB}),
            ("LimitExceeded", {"machine": machine, "size": 2**64 - 2}),
            ("LimitExceeded", {"machine": machine, "size": 9 * GIB, "devices": [address(2)]}),
            ("DeviceBusy", {"machine": machine, "devices": [address(2), address(1)]}),
            ("NoSuchDevice", {"machine": machine, "devices": [address(2), "0000:99:00.0"]}),
            ("InvalidArgument", {"machine": machine, "Iommufd": GLib.Variant("s", "yes")}),
            ("InvalidArgument", {"machine": machine, "iommufd": GLib.Variant("b", True)}),
        ):
            with self.subTest(name, **arguments):
                self.assert_refused(name, self.admit, **arguments)
                self.assertEqual(self.describe(), before)
        self.assertEqual(self.service_manager.names(), fds)
        self.restart_service()
        self.assertEqual(self.describe(), before)

    def test_racing_for_the_last_bytes_exactly_one_wins(self):
        callers = [self.new_caller() for _ in range(4)]
        for _ in range(30):
            calls = [self.start_admit(new_uuid(), "acme", 5 * GIB, caller=caller)
                     for caller in callers]
            won = []
            for call in calls:
                try:
                    won.append(call.result())
                except harness.BusError as error:
                    self.assertEqual(error.name, "LimitExceeded")
            self.assertEqual(len(won), 1)
            self.assertEqual(self.tenant_get("ReservedBytes"), 5 * GIB)
            self.caller.call(won[0], MACHINE, "Release")
            self.assertEqual(self.tenant_get("ReservedBytes"), 0)

    def test_admitted_anew_in_place_of_the_old(self):
        machine = new_uuid()
        self.admit(machine, "acme", 6 * GIB, [address(1)], "old")
        self.admit(machine, "acme", 7 * GIB, [address(2)], "new")
        self.assertEqual([row[:4] for row in self.machines().values()],
                         [("new", "acme", "admitted", 7 * GIB)])
        # Also by another tenant, and when the new one is refused the old one stays.
        before = self.describe()
        self.assert_refused("DeviceDenied", self.admit, machine, "umbrella", GIB, [address(1)])
        self.assert_refused("LimitExceeded", self.admit, machine, "acme", 9 * GIB)
        self.assertEqual(self.describe(), before)
        self.admit(machine, "umbrella", GIB, [address(2)])
        self.assertEqual(self.tenant_get("ReservedBytes"), 0)
        self.assertEqual(self.tenant_get("ReservedBytes", "umbrella"), GIB)
        self.restart_service()
        self.assertEqual(self.machines()[machine][1:4], ("umbrella", "admitted", GIB))

    def test_what_a_lost_start_left_is_reaped_when_it_is_admitted_anew(self):
        machine = new_uuid()
        leader = self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.play(leader, devices=[address(1)], size=512 * MIB)
        self.kill(leader)
        self.admit(machine, devices=[address(1)])
        harness.wait_until(lambda: self.objects() == [], 2, "the reap")

    def test_one_that_runs_is_not_admitted_again(self):
        machine, leader = self.run_machine()
        message = self.assert_refused("MachineExists", self.admit, machine)
        self.assertIn(str(leader.pid), message)
        self.kill(leader)
        # Its leader is dead: whether that was noticed or not, this waits for the reap.
        self.admit(machine, size=2 * GIB)
        self.assertEqual(self.machines()[machine][2:4], ("admitted", 2 * GIB))
        self.assertEqual(self.objects(), [])

    def test_reservation_of_a_machine(self):
        machine = new_uuid()
        path = self.admit(machine, size=GIB)
        set_reservation = self.caller.call
        set_reservation(path, MACHINE, "SetReservation", "ta{sv}", 8 * GIB, {})
        self.assertEqual(self.tenant_get("ReservedBytes"), 8 * GIB)
        self.assert_refused("LimitExceeded", set_reservation, path, MACHINE, "SetReservation",
                            "ta{sv}", 8 * GIB + 1, {})
        self.assertEqual(self.tenant_get("ReservedBytes"), 8 * GIB)
        set_reservation(path, MACHINE, "SetReservation", "ta{sv}", 0, {})
        self.assertEqual(self.tenant_get("ReservedBytes"), 0)

    def test_devices_of_a_machine(self):
        machine = new_uuid()
        path = self.admit(machine, devices=[address(1)])
        call = self.caller.call
        call(path, MACHINE, "AddDevice", "s", "2:0.0")
        self.assertEqual(self.caller.get(path, MACHINE, "Devices"), [address(1), address(2)])
        self.assert_refused("DeviceBusy", self.admit, new_uuid(), devices=[address(2)])
        for name, device in (("NoSuchDevice", "0000:99:00.0"), ("InvalidArgument", ""),
                             ("GroupShared", address(7)), ("DeviceDenied", "0000:00:1c.0")):
            self.assert_refused(name, call, path, MACHINE, "AddDevice", "s", device)
        self.assert_refused("NoSuchDevice", call, path, MACHINE, "RemoveDevice", "s", address(3))
        call(path, MACHINE, "RemoveDevice", "s", address(1))
        self.assertEqual(self.caller.get(path, MACHINE, "Devices"), [address(2)])
        self.admit(new_uuid(), devices=[address(1)])


class AdmissionTimeout(harness.TestCase):
    config = "[Machines]\nAdmissionTimeout=1\n"

    def test_unstarted_machine_gives_back(self):
        self.create_tenant()
        late, in_time = new_uuid(), new_uuid()
        self.admit(late, size=GIB, devices=[address(1)])
        time.sleep(0.5)
        self.assertEqual(self.state(late), "admitted")
        leader = self.new_leader()
        self.admit(in_time)
        self.play(leader)
        self.start(in_time, leader)
        harness.wait_until(lambda: late not in self.machines(), 2, "the end of the admission")
        time.sleep(1)
        self.assertEqual(self.state(in_time), "running")
        self.assertEqual(self.tenant_get("ReservedBytes"), GIB)


class NoIommufd(harness.TestCase):
    host = harness.HOST.replace("iommufd;vfio-cdev;map-file;", "")

    def test_what_can_not_work_says_so_and_the_rest_works(self):
        self.create_tenant()
        self.assertEqual(self.caller.get(ROOT, harness.MANAGER, "Features"),
                         ["iommu", "simulated"])
        self.assertIn("This host has no /dev/iommu", self.log_text())
        before = self.describe()
        for call in (
            lambda: self.tenant_call("Open"),
            lambda: self.tenant_call("AllocateIoas"),
            lambda: self.admit(new_uuid(), devices=[address(1)]),
        ):
            self.assertIn("iommufd", self.assert_refused("NotSupported", call))
        self.assertEqual(self.describe(), before)
        # Legacy VFIO is admitted and accounted.
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)], Iommufd=GLib.Variant("b", False))
        self.start(machine, leader)
        self.assertEqual(self.state(machine), "running")
        self.kill(leader)
        self.assert_clean()


if __name__ == "__main__":
    unittest.main()
