# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ledger is lost while machines share, and comes back: they run on, new starts get an IOMMUFD of
their own, what the dead leave waits and is shown, and is gone in the end."""

import os
import unittest

import harness
from harness import GIB, MACHINE, MANAGER, MIB, ROOT, TENANT, address, new_uuid


class LostLedger(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.create_tenant("acme", 8 * GIB)

    def restart_with(self, features):
        self.kill_service()
        self.write("host.conf", (self.host + self.devices).replace("ledger;guard;", features))
        self.start_service()

    def lose(self):
        self.restart_with("")
        self.assertEqual(self.caller.get(ROOT, MANAGER, "LedgerState"), "unavailable")

    def find(self):
        self.restart_with("ledger;guard;")
        self.assertEqual(self.caller.get(ROOT, MANAGER, "LedgerState"), "active")

    def open(self):
        (iommufd,) = self.caller.call_fds(self.tenant_path(), TENANT, "Open")[1]
        self.addCleanup(os.close, iommufd)
        return iommufd

    def run_alone(self, device, size=GIB):
        """A machine in a fresh IOMMUFD."""
        machine, iommufd = new_uuid(), self.open()
        leader = self.new_leader(keep=[iommufd])
        self.admit(machine, size=size, devices=[device])
        self.play_own(leader, iommufd, devices=[device], size=size)
        self.start(machine, leader)
        return machine, leader

    def figures(self, machine):
        """State, reserved, pinned, orphaned."""
        return self.machines()[machine][2:6]

    def assert_no_ledger(self, function, *arguments):
        message = self.assert_refused("NotSupported", function, *arguments)
        self.assertIn("ledger", message)

    def test_life(self):
        first, first_leader = self.run_machine(devices=[address(1)])
        second, second_leader = self.run_machine(size=2 * GIB, devices=[address(2)])
        names = self.service_manager.names()
        self.lose()
        # They run on, where they are.
        self.assertEqual(self.service_manager.names(), names)
        self.assertEqual(self.figures(first), ("running", GIB, GIB, 0))
        self.assertEqual(self.figures(second), ("running", 2 * GIB, 2 * GIB, 0))
        self.assertEqual(self.tenant_get("PinnedBytes"), 3 * GIB)
        self.assert_no_ledger(self.objects)
        # A fresh one for each that opens now, of which nobody keeps a copy.
        opened = [self.open() for _ in range(3)]
        self.assertEqual(len({os.fstat(fd).st_ino for fd in opened}), 3)
        self.assertEqual(self.service_manager.names(), names)
        self.assert_no_ledger(self.tenant_call, "AllocateIoas")
        # Orphans wait, as long as one lives that shares the IOMMUFD, and are shown.
        self.kill(first_leader)
        harness.wait_until(lambda: self.state(first) == "reaping", what="the death")
        self.assertEqual(self.figures(first), ("reaping", GIB, 0, GIB))
        self.assertEqual(self.tenant_get("OrphanedBytes"), GIB)
        self.assertEqual(self.tenant_get("PinnedBytes"), 3 * GIB)
        self.assertEqual(self.tenant_call("Reap"), (0, 0))
        self.assertEqual(self.state(first), "reaping")
        # New ones come and go beside them.
        for _ in range(2):
            third, third_leader = self.run_alone(address(3), 4 * GIB)
            self.assertEqual(self.figures(third), ("running", 4 * GIB, 4 * GIB, 0))
            self.assert_refused("LimitExceeded", self.admit, new_uuid(), size=GIB + 1)
            self.kill(third_leader)
            harness.wait_until(lambda: third not in self.machines(), 2, "the end")
        self.assertEqual(self.state(first), "reaping")
        # What is waited for is still promised: bytes and devices.
        self.assert_refused("DeviceBusy", self.admit, new_uuid(), size=0, devices=[address(1)])
        # The last one takes everything along.
        self.kill(second_leader)
        harness.wait_until(lambda: not self.machines(), 2, "the end of all")
        self.assertEqual(self.service_manager.names(), [])
        host = self.describe()["host"]
        self.assertEqual((host["reserved_bytes"], host["pinned_bytes"], host["orphaned_bytes"]),
                         (0, 0, 0))
        self.run_alone(address(1), 8 * GIB)

    def test_death_in_the_restart(self):
        first, first_leader = self.run_machine(devices=[address(1)])
        second, second_leader = self.run_machine(devices=[address(2)])
        self.kill_service()
        self.kill(first_leader)
        self.write("host.conf", (self.host + self.devices).replace("ledger;guard;", ""))
        self.start_service()
        self.assertEqual(self.state(first), "reaping")
        self.restart_service()
        self.assertEqual(self.state(first), "reaping")
        self.assertEqual(self.state(second), "running")
        self.kill_service()
        self.kill(second_leader)
        self.start_service()
        harness.wait_until(lambda: not self.machines(), 2, "the end of all")
        self.assertEqual(self.service_manager.names(), [])

    def test_it_comes_back(self):
        first, first_leader = self.run_machine(devices=[address(1)])
        second, second_leader = self.run_machine(devices=[address(2)])
        self.lose()
        third, third_leader = self.run_alone(address(3))
        self.kill(first_leader)
        harness.wait_until(lambda: self.state(first) == "reaping", what="the death")
        self.find()
        # What waited goes, what lives is known again.
        harness.wait_until(lambda: first not in self.machines(), 2, "the reap")
        self.assertEqual({row[2] for row in self.objects()}, {second})
        self.assertEqual(self.figures(second), ("running", GIB, GIB, 0))
        # The simulated kernel does not find an IOMMUFD in the hands of others, as a real one does.
        self.assertEqual(self.figures(third)[:2], ("running", GIB))
        self.assertEqual(self.tenant_get("ReservedBytes"), 2 * GIB)
        # The guard holds, limits hold, and who is new shares.
        ioas = next(row[0] for row in self.objects() if row[1] == "ioas")
        fourth, fourth_leader = self.run_machine(devices=[address(1)])
        self.assertEqual({row[2] for row in self.objects()}, {second, fourth})
        self.assert_refused("KernelRefused", self.ioctl, fourth_leader, "IOMMU_DESTROY", ioas)
        self.assert_refused("LimitExceeded", self.ioctl, second_leader, "IOMMU_IOAS_MAP", ioas,
                            7 * GIB)
        self.assert_refused("KernelRefused", self.play, fourth_leader, devices=[address(4)])
        for leader in (second_leader, third_leader, fourth_leader):
            self.kill(leader)
        self.assert_clean()

    def test_admitted_before_and_started_after(self):
        """An admission keeps what it was promised: the IOMMUFD that it found."""
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.play(leader, devices=[address(1)])
        self.lose()
        self.start(machine, leader)
        self.assertEqual(self.figures(machine), ("running", GIB, GIB, 0))
        self.kill(leader)
        harness.wait_until(lambda: not self.machines(), 2, "the end")
        self.assertEqual(self.service_manager.names(), [])
        other = new_uuid()
        iommufd = self.open()
        self.admit(other, devices=[address(1)])
        self.find()
        leader = self.new_leader(keep=[iommufd])
        self.play_own(leader, iommufd, devices=[address(1)])
        self.start(other, leader)
        self.assertEqual(self.figures(other), ("running", GIB, GIB, 0))
        self.assertEqual(self.tenant_get("PinnedBytes"), GIB)
        self.kill(leader)
        self.assert_clean()

    def test_devices_that_were_given_back_meanwhile(self):
        """Others than machines of ours may have them: the guard has nothing against it."""
        machine, leader = self.run_machine(devices=[address(1)])
        self.lose()
        self.kill(leader)
        harness.wait_until(lambda: not self.machines(), 2, "the end")
        iommufd = self.open()
        self.find()
        stranger = self.new_leader()
        self.play_own(stranger, iommufd, devices=[address(1)])

    def test_released_before_it_ran(self):
        machine = new_uuid()
        self.admit(machine, devices=[address(1)])
        self.lose()
        self.release(machine)
        self.assertEqual(self.machines(), {})
        self.assertEqual(self.service_manager.names(), [])

    def test_what_clients_made_keeps_it_open(self):
        """An IOAS of AllocateIoas is somebody's: when it is destroyed the rest goes, too."""
        ioas = self.tenant_call("AllocateIoas")
        machine, leader = self.run_machine(devices=[address(1)])
        self.lose()
        self.kill(leader)
        harness.wait_until(lambda: self.state(machine) == "reaping", what="the death")
        self.assertEqual(self.tenant_call("Reap"), (0, 0))
        self.assertEqual(self.figures(machine), ("reaping", GIB, 0, GIB))
        self.tenant_call("Destroy", "u", ioas)
        harness.wait_until(lambda: not self.machines(), 2, "the end")
        self.assertEqual(self.service_manager.names(), [])
        self.assertEqual(self.describe()["host"]["reserved_bytes"], 0)

    def test_waiting_callers(self):
        """Who waits for the end of one that waits for others is answered when they are gone."""
        first, first_leader = self.run_machine(devices=[address(1)])
        _, second_leader = self.run_machine(devices=[address(2)])
        self.lose()
        self.kill(first_leader)
        harness.wait_until(lambda: self.state(first) == "reaping", what="the death")
        release = self.caller.start_call(ROOT, MANAGER, "ReleaseMachine", "ss", first, "test")
        admit = self.start_admit(first, devices=[address(1)])
        # Both have come before this is answered: what one connection sends stays in order.
        self.assertEqual(self.state(first), "reaping")
        self.assertFalse(release.poll() or admit.poll())
        self.kill(second_leader)
        release.result()
        admit.result()
        self.assertEqual(self.state(first), "admitted")

    def test_reload_and_limits(self):
        _, leader = self.run_machine(size=2 * GIB, devices=[address(1)])
        self.lose()
        self.tenant_call("SetLimit", "t", GIB)
        self.caller.manager("Reload")
        self.assertEqual(self.tenant_get("LimitBytes"), GIB)
        self.assert_refused("LimitExceeded", self.admit, new_uuid(), size=MIB)
        self.assert_refused("TenantBusy", self.caller.manager, "DeleteTenant", "s", "acme")
        self.kill(leader)
        harness.wait_until(lambda: not self.machines(), 2, "the end")
        path = self.caller.manager("AdmitMachine", "ssstasa{sv}", new_uuid(), "vm", "acme", GIB,
                                   [], {})
        self.assertEqual(self.caller.get(path, MACHINE, "State"), "admitted")


if __name__ == "__main__":
    unittest.main()
