# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine's life and death: whatever happens, nothing of it is left two seconds later, and nothing
is destroyed from under a machine that lives."""

import os
import sys
import time
import unittest

import harness
from harness import GIB, MACHINE, MIB, TENANT, GLib, address, new_uuid

LOCKS_A_MEGABYTE = """
import ctypes, mmap, time
memory = mmap.mmap(-1, 1 << 20)
ctypes.CDLL(None).mlock(ctypes.byref(ctypes.c_char.from_buffer(memory)), ctypes.c_size_t(1 << 20))
time.sleep(1000)
"""


class Life(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.create_tenant()

    def count(self, tenant="acme"):
        """How many objects of each type there are."""
        types = [row[1] for row in self.objects(tenant)]
        return {type_: types.count(type_) for type_ in set(types)}

    def test_running(self):
        machine, leader = self.run_machine(size=GIB, devices=[address(1)], reserve=2 * GIB)
        row = self.machines()[machine]
        self.assertEqual(row[2:7], ("running", 2 * GIB, GIB, 0, leader.pid))
        self.assertEqual(self.tenant_get("PinnedBytes"), GIB)
        self.assertEqual(self.tenant_get("PeakBytes"), GIB)
        self.assertEqual(self.tenant_get("ReservedBytes"), 2 * GIB)
        # All of the tenant's objects are known to be the machine's, its bytes counted once.
        objects = self.objects()
        self.assertEqual(self.count(), {"device": 1, "ioas": 1, "hwpt": 1})
        self.assertEqual({row[2:4] for row in objects}, {(machine, leader.pid)})
        self.assertEqual(sum(row[4] for row in objects), GIB)

    def test_legacy(self):
        """VFIO's own containers count what they pin as locked memory."""
        machine = new_uuid()
        path = self.admit(machine, devices=[address(1)], Iommufd=GLib.Variant("b", False))
        leader = self.new_leader(sys.executable, "-c", LOCKS_A_MEGABYTE)
        self.start(machine, leader)
        harness.wait_until(lambda: self.caller.get(path, MACHINE, "PinnedBytes") == MIB)
        self.assertEqual(self.tenant_get("PinnedBytes"), MIB)
        self.kill(leader)
        harness.wait_until(lambda: machine not in self.machines())
        self.assertEqual(self.tenant_get("PinnedBytes"), 0)

    def test_killed_leader_leaves_nothing(self):
        signals = harness.Signals(self.caller)
        machine, leader = self.run_machine(devices=[address(1), address(2)])
        self.kill(leader)
        self.assert_clean()
        reaped = signals.wait("Reaped")
        self.assertEqual(reaped[3], ("acme", machine, 2, GIB))
        signals.wait("MachineRemoved")
        self.assert_refused("NoSuchMachine", self.release, machine)
        self.assertEqual(self.tenant_get("PeakBytes"), GIB)

    def test_many_lives_end_where_they_began(self):
        for _ in range(20):
            _, leader = self.run_machine(size=256 * MIB, devices=[address(1)])
            self.kill(leader)
            self.assert_clean()

    def test_killed_before_it_was_started(self):
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.play(leader, devices=[address(1)])
        self.kill(leader)
        # The kernel keeps all of it: nobody has said yet that the start has failed.
        self.assertEqual(self.describe()["host"]["reserved_bytes"], GIB)
        self.release(machine, "failed")
        self.assert_clean(seconds=0)

    def test_release_answers_when_nothing_is_left(self):
        machine, leader = self.run_machine(devices=[address(1)])
        message = self.assert_refused("MachineExists", self.release, machine)
        self.assertIn(str(leader.pid), message)
        self.kill(leader)
        try:
            self.release(machine)
        except harness.BusError as error:  # reaped before we asked
            self.assertEqual(error.name, "NoSuchMachine")
        self.assert_clean(seconds=0)

    def test_released_once(self):
        machine = new_uuid()
        path = self.admit(machine)
        self.caller.call(path, MACHINE, "Release")
        self.assert_refused("NoSuchMachine", self.release, machine)
        self.assert_refused("NoSuchMachine", self.release, new_uuid())
        self.assert_refused("InvalidArgument", self.release, "nonsense")

    def test_others_live_on(self):
        first, first_leader = self.run_machine(devices=[address(1)])
        second, second_leader = self.run_machine(devices=[address(2)])
        self.kill(first_leader)
        harness.wait_until(lambda: first not in self.machines(), 2, "the reap")
        self.assertEqual({row[2] for row in self.objects()}, {second})
        self.assertEqual(self.machines()[second][4], GIB)
        self.kill(second_leader)
        self.assert_clean()

    def test_two_start_at_once_and_one_dies(self):
        first, second = new_uuid(), new_uuid()
        leaders = [self.new_leader(), self.new_leader()]
        self.admit(first, devices=[address(1)])
        self.admit(second, devices=[address(2)])
        self.play(leaders[0], devices=[address(1)])
        self.play(leaders[1], devices=[address(2)])
        # They have shown whose they are before anybody has named them.
        self.assertEqual({row[2] for row in self.objects()}, {first, second})
        self.kill(leaders[0])
        self.release(first, "failed")
        self.assertEqual(list(self.machines()), [second])
        self.assertEqual(self.count(), {"device": 1, "ioas": 1, "hwpt": 1})
        self.start(second, leaders[1])
        self.assertEqual(self.machines()[second][4], GIB)
        self.kill(leaders[1])
        self.assert_clean()

    def test_two_started_at_once_die_one_by_one(self):
        machines = [new_uuid(), new_uuid()]
        leaders = [self.new_leader(), self.new_leader()]
        for i, machine in enumerate(machines):
            self.admit(machine, devices=[address(i + 1)])
        for i, leader in enumerate(leaders):
            self.play(leader, devices=[address(i + 1)])
        for machine, leader in zip(machines, leaders):
            self.start(machine, leader)
        self.kill(leaders[0])
        harness.wait_until(lambda: machines[0] not in self.machines(), 2, "the reap")
        self.assertEqual(self.count(), {"device": 1, "ioas": 1, "hwpt": 1})
        self.kill(leaders[1])
        self.assert_clean()

    def test_one_dies_while_another_starts(self):
        old, old_leader = self.run_machine(devices=[address(1)])
        new, new_leader = new_uuid(), self.new_leader()
        self.admit(new, devices=[address(2)])
        # The young one has an address space and a page table with nothing attached: destroying
        # them would succeed.
        self.play(new_leader, devices=[], size=512 * MIB)
        self.kill(old_leader)
        harness.wait_until(lambda: old not in self.machines(), 2, "the reap")
        self.assertEqual(self.count(), {"ioas": 1, "hwpt": 1})
        self.start(new, new_leader)
        self.assertEqual(self.machines()[new][4], 512 * MIB)
        self.assertEqual({row[2] for row in self.objects()}, {new})
        # Nor is it swept now: it is known whose they are.
        self.assertEqual(self.tenant_call("Reap"), (0, 0))
        self.assertEqual(self.count(), {"ioas": 1, "hwpt": 1})
        self.kill(new_leader)
        self.assert_clean()

    def test_dies_while_another_is_admitted_and_never_starts(self):
        _, leader = self.run_machine(devices=[address(1)])
        lost = new_uuid()
        self.admit(lost)
        self.kill(leader)
        harness.wait_until(lambda: list(self.machines()) == [lost], 2, "the reap")
        self.assertEqual(self.objects(), [])
        self.release(lost)

    def test_iommufd_of_each_tenant_is_its_own(self):
        self.create_tenant("umbrella")
        machine, leader = self.run_machine(devices=[address(1)])
        other, _ = self.run_machine(tenant="umbrella", devices=[address(2)])
        self.kill(leader)
        harness.wait_until(lambda: machine not in self.machines(), 2, "the reap")
        self.assertEqual(len(self.objects("umbrella")), 3)
        self.assertEqual(self.state(other), "running")

    def test_reap_on_demand(self):
        self.assertEqual(self.tenant_call("Reap"), (0, 0))
        stray = self.new_leader()
        self.play(stray, size=256 * MIB)
        self.assertEqual(self.tenant_call("Reap"), (0, 0))
        self.assertEqual(len(self.objects()), 2)
        self.kill(stray)
        self.assertEqual(self.tenant_get("OrphanedBytes"), 256 * MIB)
        self.assertEqual(self.tenant_call("Reap"), (2, 256 * MIB))
        self.assertEqual(self.objects(), [])
        self.assertEqual(self.tenant_get("OrphanedBytes"), 0)

    def test_stranger_does_not_keep_what_is_a_machines(self):
        machine, leader = self.run_machine(devices=[])
        stray = self.new_leader()
        self.play(stray, size=256 * MIB)
        self.assertEqual(self.count(), {"ioas": 2, "hwpt": 2})
        self.kill(leader)
        harness.wait_until(lambda: machine not in self.machines(), 2, "the reap")
        self.assertEqual([row[2:4] for row in self.objects()], [("", stray.pid)] * 2)

    def test_what_can_not_be_destroyed_is_tried_again(self):
        machine, leader = self.run_machine(devices=[address(1)])
        self.set_fault("failing-destroy", 3)
        self.kill(leader)
        self.assert_clean(seconds=5)

    def test_orphaned_until_it_can_be_destroyed(self):
        machine, leader = self.run_machine(devices=[address(1)])
        self.set_fault("failing-destroy", 1 << 32)
        self.kill(leader)
        harness.wait_until(lambda: self.state(machine) == "reaping", 2)
        # Unmapped it is at once: nothing of it is pinned any more.
        harness.wait_until(lambda: self.tenant_get("PinnedBytes") == 0, 2)
        self.assertEqual(self.count(), {"ioas": 1, "hwpt": 1})
        self.assertEqual(self.tenant_get("ReservedBytes"), GIB)
        self.assert_refused("TenantBusy", self.caller.manager, "DeleteTenant", "s", "acme")
        path = self.caller.manager("GetMachine", "s", machine)
        self.assert_refused("NoSuchMachine", self.caller.call, path, MACHINE, "SetReservation",
                            "ta{sv}", 1, {})
        self.set_fault("failing-destroy", 0)
        self.tenant_call("Reap")
        self.assert_clean()

    def test_hotplug(self):
        machine, leader = self.run_machine(devices=[address(1)])
        path = self.caller.manager("GetMachine", "s", machine)
        self.caller.call(path, MACHINE, "AddDevice", "s", address(2))
        self.play(leader, devices=[], size=128 * MIB)
        # QEMU has allocated and not attached yet; a reap must leave it alone.
        self.assertEqual(self.tenant_call("Reap"), (0, 0))
        self.assertEqual(self.count(), {"device": 1, "ioas": 2, "hwpt": 2})
        self.kill(leader)
        self.assert_clean()

    def test_caller_that_waits_and_leaves(self):
        machine, leader = self.run_machine()
        self.set_fault("slow-destroy", 500)
        self.kill(leader)
        harness.wait_until(lambda: self.state(machine) == "reaping", what="the reap")
        leaver = self.new_caller()
        leaver.start_call(harness.ROOT, harness.MANAGER, "ReleaseMachine", "ss", machine, "")
        # This one waits, too, for its turn to be admitted again, and stays.
        again = self.start_admit(machine)
        leaver.close()
        again.result()
        self.assertEqual(self.state(machine), "admitted")


class Starting(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.create_tenant()
        self.machine = new_uuid()
        self.admit(self.machine, devices=[address(1)])

    def start_with(self, variant, fds=()):
        self.caller.call_fds(harness.ROOT, harness.MANAGER, "StartMachine", "sv",
                             (self.machine, variant), fds)

    def test_by_pidfd(self):
        leader = self.new_leader()
        self.play(leader, devices=[address(1)])
        pidfd = os.pidfd_open(leader.pid)
        self.addCleanup(os.close, pidfd)
        self.start_with(GLib.Variant("h", 0), [pidfd])
        self.assertEqual(self.machines()[self.machine][6], leader.pid)
        # The same once more is no news.
        self.start(self.machine, leader)

    def test_refusals_leave_no_trace(self):
        holder, dead, stranger = self.new_leader(), self.new_leader(), self.new_leader()
        self.play(holder, devices=[address(1)])
        self.kill(dead)
        other_uuid = self.new_leader("sh", "-c", "kill -STOP $$", "-uuid", new_uuid())
        self.play(other_uuid)
        before = self.describe()
        folder = os.open("/", os.O_RDONLY)
        self.addCleanup(os.close, folder)
        for variant, fds in (
            (GLib.Variant("u", dead.pid), ()),
            (GLib.Variant("u", stranger.pid), ()),  # does not hold the IOMMUFD
            (GLib.Variant("u", other_uuid.pid), ()),
            (GLib.Variant("u", 0), ()),
            (GLib.Variant("u", 2**32 - 1), ()),
            (GLib.Variant("i", holder.pid), ()),
            (GLib.Variant("s", str(holder.pid)), ()),
            (GLib.Variant("h", 0), (folder,)),  # not a pidfd
        ):
            with self.assertRaises(harness.BusError) as caught:
                self.start_with(variant, fds)
            self.assertEqual(caught.exception.name, "InvalidArgument")
            self.assertEqual(self.describe(), before)
        self.start(self.machine, holder)

    def test_only_the_named_process(self):
        ours = self.new_leader("sh", "-c", "kill -STOP $$", "-uuid", self.machine.upper())
        self.play(ours, devices=[address(1)])
        self.start(self.machine, ours)

    def test_one_leader_one_machine(self):
        leader, other = self.new_leader(), self.new_leader()
        self.play(leader, devices=[address(1)])
        self.play(other)
        self.start(self.machine, leader)
        second = new_uuid()
        self.admit(second)
        self.assert_refused("InvalidArgument", self.start, second, leader)
        self.assert_refused("MachineExists", self.start, self.machine, other)
        self.assert_refused("NoSuchMachine", self.start, new_uuid(), other)

    def test_too_late(self):
        # It is being reaped, and what its first process left can't be destroyed yet.
        first, leader = self.new_leader(), self.new_leader()
        self.play(first, devices=[address(1)])
        self.play(leader)
        # Before it dies: what a dead process left is destroyed at once.
        self.set_fault("failing-destroy", 1 << 32)
        self.kill(first)
        self.caller.start_call(harness.ROOT, harness.MANAGER, "ReleaseMachine", "ss",
                               self.machine, "")
        harness.wait_until(lambda: self.state(self.machine) == "reaping", what="the release")
        self.assert_refused("NoSuchMachine", self.start, self.machine, leader)


class IsolatedMachines(harness.TestCase):
    tenants = {"alone": "Isolation=machine\n"}

    def test_each_open_gives_a_fresh_iommufd(self):
        path = self.tenant_path("alone")
        (first,), (second,) = (self.caller.call_fds(path, TENANT, "Open")[1] for _ in range(2))
        self.addCleanup(os.close, first)
        self.addCleanup(os.close, second)
        self.assertNotEqual(os.fstat(first).st_ino, os.fstat(second).st_ino)
        self.assertEqual(self.service_manager.names(), [])
        self.assert_refused("NotSupported", self.tenant_call, "AllocateIoas", tenant="alone")

    def test_life(self):
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, "alone", devices=[address(1)])
        self.assert_refused("InvalidArgument", self.start, machine, leader)
        self.release(machine)
        self.assert_clean("alone", seconds=0)


if __name__ == "__main__":
    unittest.main()
