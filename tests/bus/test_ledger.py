# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel knows whose everything is: trespass, limits, deaths that nobody told of, what it has
missed, and what it can't do."""

import os
import unittest

import harness
from harness import (GIB, MACHINE, MANAGER, MIB, ROOT, TENANT, GLib, address, new_uuid,
                     nvme)


class LedgerCase(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.create_tenant("acme", 4 * GIB)
        self.signals = harness.Signals(self.caller)

    def manager(self, name):
        return self.caller.get(ROOT, MANAGER, name)

    def machine_get(self, machine, name):
        return self.caller.get(self.caller.manager("GetMachine", "s", machine), MACHINE, name)

    def first(self, machine, type_="ioas"):
        """Id of the machine's first object of the type."""
        return next(row[0] for row in self.objects() if row[1] == type_ and row[2] == machine)


class Guard(LedgerCase):
    def test_is_there(self):
        self.assertEqual(self.manager("LedgerState"), "active")
        self.assertEqual(self.manager("GuardState"), "enforcing")
        self.assertLessEqual({"ledger", "guard"}, set(self.manager("Features")))

    def test_another_machines_object(self):
        victim, victims_leader = self.run_machine(devices=[address(1)])
        intruder, leader = self.run_machine(devices=[address(2)])
        objects, target = self.objects(), self.first(victim)
        for i, ioctl in enumerate(("IOMMU_IOAS_UNMAP", "IOMMU_DESTROY", "IOMMU_IOAS_MAP")):
            message = self.assert_refused("KernelRefused", self.ioctl, leader, ioctl, target, MIB)
            self.assertIn("Permission denied", message)
            refused = self.signals.wait("Refused", lambda seen: seen[3][2] == ioctl)[3]
            self.assertEqual(refused, ("acme", intruder, ioctl, "Permission denied", {
                "Pid": leader.pid, "Command": "sleep", "Ioctl": ioctl, "Ids": [target],
                "Owner": victim}))
            self.assertEqual(self.machine_get(intruder, "Refusals"), i + 1)
        self.assertEqual(self.objects(), objects)
        self.assertIn(f"the object is machine {victim}'s", self.log_text())
        self.assertEqual(self.machine_get(victim, "Refusals"), 0)
        self.assertEqual(self.tenant_get("Refusals"), 3)
        # Its own it may destroy.
        self.ioctl(victims_leader, "IOMMU_DESTROY", self.ioctl(victims_leader, "IOMMU_IOAS_ALLOC"))

    def test_what_is_the_whole_iommufds(self):
        _, leader = self.run_machine(devices=[address(1)])
        self.assert_refused("KernelRefused", self.ioctl, leader, "IOMMU_OPTION")
        self.signals.wait("Refused", lambda seen: seen[3][2] == "IOMMU_OPTION" and
                          seen[3][3] == "Operation not permitted")
        # QEMU asks for this at each of its starts: nobody is told.
        self.assert_refused("KernelRefused", self.ioctl, leader, "IOMMU_IOAS_CHANGE_PROCESS")
        self.assert_refused("KernelRefused", self.ioctl, leader, "IOMMU_OPTION")
        self.signals.wait("Refused", lambda seen: len([one for one in self.signals.seen
                                                       if one[1] == "Refused"]) == 2)
        self.assertFalse(self.signals.has("Refused", lambda seen: "CHANGE_PROCESS" in seen[3][2]))
        self.assertEqual(self.tenant_get("Refusals"), 2)

    def test_device_of_another_machine(self):
        owner, machine, leader = new_uuid(), new_uuid(), self.new_leader()
        self.admit(owner, devices=[address(1)])
        self.admit(machine, devices=[address(2)])
        self.play(leader, devices=[address(2)])
        reserved, objects = self.machines(), self.objects()
        self.assert_refused("KernelRefused", self.play, leader, devices=[address(1)])
        refused = self.signals.wait("Refused")[3]
        self.assertEqual(refused[:4], ("acme", machine, "VFIO_DEVICE_BIND_IOMMUFD",
                                       "Permission denied"))
        self.assert_refused("KernelRefused", self.play, self.new_leader(), devices=[address(3)])
        self.assertEqual(self.objects(), objects)
        self.assertEqual(self.machines(), reserved)

    def test_process_of_another_tenant(self):
        self.create_tenant("globex")
        machine, leader = self.run_machine(tenant="globex", devices=[address(1)])
        self.assert_refused("KernelRefused", self.play, leader, "acme")
        refused = self.signals.wait("Refused")[3]
        self.assertEqual(refused[:4], ("acme", machine, "", "Permission denied"))
        self.assertIn(f"process {leader.pid} (\"sleep\"), was refused the IOMMUFD of tenant acme: it is no "
                      "machine of the tenant.", self.log_text())
        self.assertEqual(self.objects(), [])

    def test_usurper(self):
        machine, usurper, leader = new_uuid(), self.new_leader(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.play(usurper, devices=[address(1)])
        self.play(leader)
        before = self.describe()
        message = self.assert_refused("InvalidArgument", self.start, machine, leader)
        self.assertIn(f"process {usurper.pid} (sleep)", message)
        self.assertEqual(self.describe(), before)
        self.start(machine, usurper)

    def test_limit(self):
        machine, leader = self.run_machine(devices=[address(1)])
        ioas = self.first(machine)
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, GIB)
        self.assertEqual(self.machine_get(machine, "PinnedBytes"), 2 * GIB)
        self.assert_refused("LimitExceeded", self.ioctl, leader, "IOMMU_IOAS_MAP", ioas, 3 * GIB)
        self.assertEqual(self.signals.wait("LimitExceeded")[3], (
            "acme", machine, 3 * GIB, 2 * GIB,
            {"Pid": leader.pid, "Command": "sleep", "Ioctl": "IOMMU_IOAS_MAP"}))
        self.assertEqual(self.machine_get(machine, "PinnedBytes"), 2 * GIB)
        self.tenant_call("SetLimit", "t", 5 * GIB)
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, 3 * GIB)
        self.assertEqual(self.tenant_get("PinnedBytes"), 5 * GIB)
        # Who plays is refused as a whole, and leaves nothing but what the refusal counts.
        stray, objects = self.new_leader(), self.objects()
        self.assert_refused("LimitExceeded", self.play, stray, size=MIB)
        self.assertEqual(self.objects(), objects)
        self.kill(leader)
        harness.wait_until(lambda: not self.machines(), 2, "the reap")
        self.play(stray, size=5 * GIB)

    def test_too_many_refusals_are_not_told_one_by_one(self):
        machine, leader = self.run_machine(devices=[address(1)])
        for _ in range(100):
            self.assert_refused("KernelRefused", self.ioctl, leader, "IOMMU_OPTION")
        self.assertEqual(self.machine_get(machine, "Refusals"), 100)
        told = [one for one in self.signals.seen if one[1] == "Refused"]
        self.assertLess(len(told), 100)


class Unique(LedgerCase):
    def setUp(self):
        super().setUp()
        self.create_tenant("unique", 2 * GIB, Count=GLib.Variant("s", "unique"))

    def test_memory_that_is_mapped_twice_counts_once(self):
        machine, leader = self.run_machine(tenant="unique", devices=[address(1)])
        ioas = next(row[0] for row in self.objects("unique") if row[1] == "ioas")
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, GIB, tenant="unique")
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, GIB, tenant="unique")
        self.assertEqual(self.machine_get(machine, "PinnedBytes"), 3 * GIB)
        other = self.new_leader()
        self.play(other, tenant="unique")
        self.assert_refused("LimitExceeded", self.play, self.new_leader(), "unique", size=MIB)
        self.kill(leader)
        harness.wait_until(lambda: not self.machines(), 2, "the reap")
        self.play(self.new_leader(), tenant="unique")


class Owners(LedgerCase):
    def test_objects(self):
        made = self.tenant_call("AllocateIoas")
        machine, leader = self.run_machine(devices=[address(1), address(2)])
        stray = self.new_leader()
        self.play(stray, size=256 * MIB)
        rows = {(row[1], row[2], row[3]): row[4] for row in self.objects()}
        self.assertEqual(rows, {
            ("ioas", "", self.service.pid): 0, ("device", machine, leader.pid): 0,
            ("ioas", machine, leader.pid): GIB, ("hwpt", machine, leader.pid): 0,
            ("ioas", "", stray.pid): 256 * MIB, ("hwpt", "", stray.pid): 0})
        self.kill(stray)
        self.assertEqual(self.tenant_get("OrphanedBytes"), 256 * MIB)
        self.assertEqual(self.tenant_get("PinnedBytes"), GIB + 256 * MIB)
        # The next death finds what it has left, too.
        self.kill(leader)
        harness.wait_until(lambda: [row[0] for row in self.objects()] == [made], 2, "the reap")

    def test_figures(self):
        machine, leader = self.run_machine(devices=[address(1)])
        ioas = self.first(machine)
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, MIB)
        figures = {name: self.machine_get(machine, name) for name in (
            "PinnedBytes", "MappedBytes", "UniqueBytes", "PeakBytes", "Maps", "Unmaps")}
        figures.pop("UniqueBytes")  # as of the last comparison
        self.assertEqual(figures, {"PinnedBytes": GIB + MIB, "MappedBytes": GIB + MIB,
                                   "PeakBytes": GIB + MIB, "Maps": 2, "Unmaps": 0})
        self.ioctl(leader, "IOMMU_IOAS_UNMAP", ioas)
        self.assertEqual(self.machine_get(machine, "PinnedBytes"), 0)
        self.assertEqual(self.machine_get(machine, "Unmaps"), 2)
        self.assertEqual(self.tenant_get("PeakBytes"), GIB + MIB)


class Restarts(LedgerCase):
    def test_everything_is_remembered(self):
        machine, leader = self.run_machine(devices=[address(1)])
        other, others_leader = self.run_machine(devices=[address(2)])
        self.assert_refused("KernelRefused", self.ioctl, leader, "IOMMU_DESTROY", self.first(other))
        stray = self.new_leader()
        self.play(stray, size=MIB)
        before, objects = self.describe(), self.objects()
        for _ in range(2):
            self.restart_service()
            self.assertEqual(self.describe(), before)
            self.assertEqual(self.objects(), objects)
        # And goes on: limits, owners, devices.
        self.assert_refused("KernelRefused", self.ioctl, leader, "IOMMU_DESTROY", self.first(other))
        self.assertEqual(self.machine_get(machine, "Refusals"), 2)
        self.assert_refused("LimitExceeded", self.ioctl, leader, "IOMMU_IOAS_MAP",
                            self.first(machine), 4 * GIB)
        self.assert_refused("KernelRefused", self.play, stray, devices=[address(3)])

    def test_deaths_in_between(self):
        machines = [self.run_machine(devices=[address(i)]) for i in (1, 2, 3)]
        starting, early = new_uuid(), self.new_leader()
        self.admit(starting, size=MIB, devices=[address(4)])
        self.play(early, devices=[address(4)], size=MIB)
        stray = self.new_leader()
        self.play(stray, size=MIB)
        self.kill_service()
        for leader in (machines[0][1], machines[2][1], early, stray):
            self.kill(leader)
        self.start_service()
        survivor, leader = machines[1]
        harness.wait_until(lambda: {row[2] for row in self.objects()} == {survivor}, 2, "the reap")
        self.assertEqual({uuid: row[2] for uuid, row in self.machines().items()},
                         {survivor: "running", starting: "admitted"})
        self.assertEqual(self.tenant_get("PinnedBytes"), GIB)
        self.assertEqual(self.manager("DriftBytes"), 0)
        self.release(starting)
        self.kill(leader)
        self.assert_clean()

    def test_lost_ledger_begins_with_what_there_is(self):
        machine, leader = self.run_machine(devices=[address(1)])
        other, _ = self.run_machine(devices=[address(2)])
        self.kill_service()
        self.service_manager.forget("ledger")
        self.start_service()
        self.assertEqual({row[2] for row in self.objects()}, {machine, other})
        self.assertEqual(self.tenant_get("PinnedBytes"), 2 * GIB)
        self.assert_refused("LimitExceeded", self.ioctl, leader, "IOMMU_IOAS_MAP",
                            self.first(machine), 3 * GIB)
        self.assert_refused("KernelRefused", self.ioctl, leader, "IOMMU_DESTROY", self.first(other))
        self.kill(leader)
        harness.wait_until(lambda: machine not in self.machines(), 2, "the reap")

    def test_stored_ledger_that_is_none(self):
        self.kill_service()
        self.service_manager.forget("ledger")
        self.service_manager.add("ledger", os.open("/dev/null", os.O_RDONLY))
        self.start_service()
        self.assertEqual(self.manager("LedgerState"), "active")
        self.run_machine(devices=[address(1)])


class Faults(LedgerCase):
    def test_what_was_missed_is_found(self):
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.set_fault("missed-event", 10)
        self.play(leader, devices=[address(1)])
        self.set_fault("missed-event", 0)
        self.start(machine, leader)
        self.assertGreater(self.manager("UntrackedEvents"), 0)
        harness.wait_until(lambda: self.tenant_get("PinnedBytes") == GIB, what="the comparison")
        self.assertEqual(self.manager("DriftBytes"), GIB)
        self.assertIn(f"The ledger was off by {GIB} bytes", self.log_text())
        self.assertEqual({row[2] for row in self.objects()}, {machine})
        self.assertEqual(len(self.objects()), 3)

    def test_end_that_was_missed_is_found(self):
        machine, leader = self.run_machine(devices=[address(1)])
        self.set_fault("missed-event", 2)
        self.ioctl(leader, "IOMMU_IOAS_UNMAP", self.first(machine))
        self.set_fault("missed-event", 0)
        harness.wait_until(lambda: self.tenant_get("PinnedBytes") == 0, what="the comparison")
        self.assertEqual(self.manager("DriftBytes"), GIB)

    def test_no_room(self):
        _, leader = self.run_machine(devices=[address(1)])
        self.set_fault("full-table", 1)
        self.assertIn("Cannot allocate memory", self.assert_refused(
            "KernelRefused", self.ioctl, leader, "IOMMU_IOAS_ALLOC"))
        harness.wait_until(lambda: "Raise MaxObjects= in iommud.conf" in self.log_text())
        self.ioctl(leader, "IOMMU_IOAS_ALLOC")

    def test_process_that_nobody_knows(self):
        stray = self.new_leader()
        self.set_fault("lost-owner", 2)
        self.assert_refused("KernelRefused", self.play, stray)
        self.assertEqual(self.objects(), [])
        self.play(stray)

    def test_ledger_that_takes_nothing(self):
        machine, _ = self.run_machine(devices=[address(1)])
        before = self.describe()
        self.set_fault("failing-call", 1 << 32)
        message = self.assert_refused("KernelRefused", self.admit, new_uuid(), devices=[address(2)])
        self.assertIn("Raise MaxProcesses=", message)
        path = self.caller.manager("GetMachine", "s", machine)
        self.assert_refused("KernelRefused", self.caller.call, path, MACHINE, "AddDevice", "s",
                            address(3))
        self.set_fault("failing-call", 0)
        self.assertEqual(self.describe(), before)
        self.run_machine(devices=[address(2)])

    def test_it_can_not_be_compared(self):
        self.set_fault("failing-reconcile", 1)
        self.set_fault("missed-event", 1)
        _, leader = self.run_machine()
        harness.wait_until(lambda: self.tenant_get("PinnedBytes") and
                           "could not be compared" in self.log_text(), what="the failure")
        # It is tried again.
        harness.wait_until(lambda: self.tenant_get("PinnedBytes") and len(self.objects()) == 2,
                           what="the comparison")

    def test_slow_kernel_holds_nobody_up(self):
        machine, leader = self.run_machine(devices=[address(1)])
        self.set_fault("slow-destroy", 1000)
        self.kill(leader)
        harness.wait_until(lambda: self.state(machine) == "reaping")
        other, _ = self.run_machine(devices=[address(2)])
        self.assertEqual(self.state(machine), "reaping")
        self.set_fault("slow-destroy", 0)
        harness.wait_until(lambda: list(self.machines()) == [other], what="the reap")


class OwnIommufd(LedgerCase):
    tenants = {"alone": "Isolation=machine\nLimit=2G\n"}

    def open(self):
        (iommufd,) = self.caller.call_fds(self.tenant_path("alone"), TENANT, "Open")[1]
        return iommufd

    def run_alone(self, device):
        machine, iommufd = new_uuid(), self.open()
        leader = self.new_leader(keep=[iommufd])
        self.admit(machine, "alone", devices=[device])
        self.play_own(leader, iommufd, devices=[device])
        os.close(iommufd)
        self.start(machine, leader)
        return machine, leader

    def test_life(self):
        machine, leader = self.run_alone(address(1))
        other, _ = self.run_alone(address(2))
        self.assertEqual(self.machines()[machine][2:5], ("running", GIB, GIB))
        self.assertEqual(self.tenant_get("PinnedBytes", "alone"), 2 * GIB)
        self.restart_service()
        self.assertEqual(self.machines()[machine][2:5], ("running", GIB, GIB))
        self.assertEqual(self.tenant_get("PinnedBytes", "alone"), 2 * GIB)
        # The kernel itself frees what was in it.
        self.kill(leader)
        harness.wait_until(lambda: list(self.machines()) == [other], 2, "the end")
        self.assertEqual(self.tenant_get("PinnedBytes", "alone"), GIB)
        self.assertEqual(self.tenant_get("OrphanedBytes", "alone"), 0)

    def test_guarded_as_any_other(self):
        machine, iommufd = new_uuid(), self.open()
        self.addCleanup(os.close, iommufd)
        leader = self.new_leader()
        self.admit(machine, "alone", devices=[address(1)])
        self.assert_refused("KernelRefused", self.play_own, leader, iommufd, devices=[address(2)])
        self.assert_refused("LimitExceeded", self.play_own, leader, iommufd, devices=[address(1)],
                            size=3 * GIB)
        null = os.open("/dev/null", os.O_RDWR)
        self.addCleanup(os.close, null)
        self.assert_refused("InvalidArgument", self.play_own, leader, null)


class SharedBus(LedgerCase):
    """Two devices in groups of their own, on one bus: a hot reset of either resets both."""

    beside = "0000:01:00.1"
    devices = nvme(1) + nvme(1, group=201).replace(address(1), beside) + nvme(2)

    def reset(self, leader, machine):
        self.ioctl(leader, "VFIO_DEVICE_PCI_HOT_RESET", self.first(machine, "device"))

    def assert_no_reset(self, leader, machine):
        self.assert_refused("KernelRefused", self.reset, leader, machine)
        refused = self.signals.wait("Refused")[3]
        self.assertEqual(refused[:4], ("acme", machine, "VFIO_DEVICE_PCI_HOT_RESET",
                                       "Permission denied"))

    def test_neighbours_are_told(self):
        machine, leader = self.run_machine(devices=[address(1)])
        self.reset(leader, machine)
        other = new_uuid()
        self.admit(other, devices=[self.beside])
        self.assert_no_reset(leader, machine)
        # Admitted anew, without it.
        self.admit(other, devices=[address(2)])
        self.reset(leader, machine)
        path = self.caller.manager("GetMachine", "s", other)
        self.caller.call(path, MACHINE, "AddDevice", "s", self.beside)
        self.assert_no_reset(leader, machine)
        self.caller.call(path, MACHINE, "RemoveDevice", "s", self.beside)
        self.reset(leader, machine)
        self.caller.call(path, MACHINE, "AddDevice", "s", self.beside)
        self.assert_no_reset(leader, machine)
        self.restart_service()
        self.assert_no_reset(leader, machine)
        self.release(other)
        self.reset(leader, machine)

    def test_the_latecomer_too(self):
        first, leader = self.run_machine(devices=[address(1)])
        second, others_leader = self.run_machine(devices=[self.beside])
        self.assert_no_reset(others_leader, second)
        self.kill(leader)
        harness.wait_until(lambda: first not in self.machines(), 2, "the reap")
        self.reset(others_leader, second)

    def test_both_are_its_own(self):
        machine, leader = self.run_machine(devices=[address(1), self.beside])
        self.reset(leader, machine)


class WithoutLedger(LedgerCase):
    host = harness.HOST.replace("ledger;guard;", "")

    def test_each_start_has_its_own_iommufd(self):
        for what in ("Ledger", "Guard"):
            self.assertEqual(self.manager(what + "State"), "unavailable")
            self.assertRegex(self.manager(what + "Reason"), "^[A-Z].*no ledger.*\\.$")
        self.assertNotIn("ledger", self.manager("Features"))
        self.assertFalse(self.tenant_get("Shared"))
        fds = [self.caller.call_fds(self.tenant_path(), TENANT, "Open")[1][0] for _ in range(2)]
        self.assertNotEqual(os.fstat(fds[0]).st_ino, os.fstat(fds[1]).st_ino)
        self.assertEqual(self.service_manager.names(), [])
        machine, leader = new_uuid(), self.new_leader(keep=[fds[0]])
        self.admit(machine, devices=[address(1)])
        self.play_own(leader, fds[0], devices=[address(1)])
        for fd in fds:
            os.close(fd)
        self.start(machine, leader)
        self.assertEqual(self.machines()[machine][2:5], ("running", GIB, GIB))
        self.kill(leader)
        harness.wait_until(lambda: not self.machines(), 2, "the end")
        self.assertEqual(self.describe()["host"]["reserved_bytes"], 0)


class WithoutGuard(LedgerCase):
    host = harness.HOST.replace("guard;", "")
    config = "[Kernel]\nRequireGuard=no\n"

    def test_counts_and_does_not_refuse(self):
        self.assertEqual(self.manager("LedgerState"), "active")
        self.assertEqual(self.manager("GuardState"), "unavailable")
        self.assertRegex(self.manager("GuardReason"), "^[A-Z].*no guard.*\\.$")
        machine, leader = self.run_machine(devices=[address(1)])
        other, others_leader = self.run_machine(devices=[address(2)])
        self.assertEqual({row[2] for row in self.objects()}, {machine, other})
        self.ioctl(leader, "IOMMU_IOAS_UNMAP", self.first(other))
        self.assertEqual(self.machine_get(other, "PinnedBytes"), 0)
        self.kill(leader)
        harness.wait_until(lambda: machine not in self.machines(), 2, "the reap")
        self.assertEqual({row[2] for row in self.objects()}, {other})


if __name__ == "__main__":
    unittest.main()
