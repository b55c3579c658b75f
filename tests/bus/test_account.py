# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's account: what is promised may be mapped, what is not comes out of what is left, and
the account has the last word on a promise."""

import unittest

import harness
from harness import GIB, MACHINE, MIB, GLib, address, new_uuid, nvme


class Account(harness.TestCase):
    config = "[Host]\nBudget=32G\n"
    devices = nvme(1) + nvme(2)

    def setUp(self):
        super().setUp()
        self.create_tenant("acme", 8 * GIB)

    def ioas(self, leader):
        """A further address space of the process."""
        return self.ioctl(leader, "IOMMU_IOAS_ALLOC")

    def set_reservation(self, machine, size):
        path = harness.ROOT + "/machine/" + machine.replace("-", "_")
        self.caller.call(path, MACHINE, "SetReservation", "ta{sv}", size, {})

    def stray(self, size):
        """A process that is no machine, and maps what nobody was promised."""
        leader = self.new_leader()
        self.play(leader, size=size)
        return leader

    def test_promise_holds_below_the_limit(self):
        machine, leader = self.run_machine(devices=[address(1)], size=GIB, reserve=3 * GIB)
        ioas = self.ioas(leader)
        self.tenant_call("SetLimit", "t", MIB)
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, 2 * GIB)
        self.assert_refused("LimitExceeded", self.ioctl, leader, "IOMMU_IOAS_MAP", ioas, MIB)
        self.assert_refused("LimitExceeded", self.set_reservation, machine, 3 * GIB + MIB)
        # What is mapped stays promised, and what is not is given back.
        self.set_reservation(machine, GIB)
        self.tenant_call("SetLimit", "t", 3 * GIB)
        self.assert_refused("LimitExceeded", self.set_reservation, machine, 3 * GIB + MIB)
        self.set_reservation(machine, 3 * GIB)
        self.assertEqual(self.machines()[machine][3], 3 * GIB)

    def test_siblings_leave_it_alone(self):
        _, leader = self.run_machine(devices=[address(1)], size=GIB, reserve=5 * GIB)
        stray = self.stray(2 * GIB)
        own = self.ioas(leader)
        self.assert_refused("LimitExceeded", self.ioctl, stray, "IOMMU_IOAS_MAP", self.ioas(stray),
                            2 * GIB)
        self.ioctl(leader, "IOMMU_IOAS_MAP", own, 4 * GIB)
        # Beyond the promise, as long as nobody was promised it.
        self.ioctl(leader, "IOMMU_IOAS_MAP", own, GIB)
        self.assert_refused("LimitExceeded", self.ioctl, leader, "IOMMU_IOAS_MAP", own, MIB)

    def test_admission_asks_the_account(self):
        stray = self.stray(6 * GIB)
        machine = new_uuid()
        before = self.describe()
        message = self.assert_refused("LimitExceeded", self.admit, machine, size=3 * GIB,
                                      devices=[address(1)])
        self.assertIn("needs 3G of pinned memory, but tenant acme has 2G left of its limit of 8G",
                      message)
        self.assertEqual(self.describe(), before)
        self.admit(machine, size=2 * GIB, devices=[address(1)])
        message = self.assert_refused("LimitExceeded", self.set_reservation, machine, 3 * GIB)
        self.assertIn("needs 1G more of pinned memory, but tenant acme has 0B left", message)
        # Anew it takes its own place, and a refusal leaves it as it was.
        self.assert_refused("LimitExceeded", self.admit, machine, size=3 * GIB,
                            devices=[address(2)])
        self.assertEqual(self.machines()[machine][3], 2 * GIB)
        leader = self.new_leader()
        self.play(leader, devices=[address(1)], size=2 * GIB)
        self.start(machine, leader)
        self.kill(stray)

    def test_host_budget(self):
        self.create_tenant("globex")
        self.tenant_call("SetLimit", "t", 40 * GIB)
        stray = self.new_leader()
        self.play(stray, "globex", size=30 * GIB)
        message = self.assert_refused("HostBudgetExceeded", self.admit, new_uuid(), size=3 * GIB)
        self.assertIn("but the host has 2G left of its budget of 32G", message)
        _, leader = self.run_machine(devices=[address(1)], size=GIB, reserve=2 * GIB)
        ioas = self.ioas(leader)
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, GIB)
        self.assert_refused("LimitExceeded", self.ioctl, leader, "IOMMU_IOAS_MAP", ioas, MIB)
        # A new budget is the kernel's, too.
        self.write("etc/iommud.conf", "[Host]\nBudget=64G\n")
        self.caller.manager("Reload")
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, MIB)

    def test_restart_reads_the_account(self):
        machine, leader = self.run_machine(devices=[address(1)], size=GIB, reserve=3 * GIB)
        ioas = self.ioas(leader)
        self.stray(5 * GIB)
        self.restart_service()
        self.assertEqual(self.machines()[machine][3], 3 * GIB)
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, 2 * GIB)
        self.assert_refused("LimitExceeded", self.ioctl, leader, "IOMMU_IOAS_MAP", ioas, MIB)
        self.assert_refused("LimitExceeded", self.admit, new_uuid(), size=MIB)


if __name__ == "__main__":
    unittest.main()
