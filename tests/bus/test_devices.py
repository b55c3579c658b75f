# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices: what is told of them, and their drivers."""

import os
import unittest

import harness
from harness import DEVICE, address, new_uuid, nvme


class Devices(harness.TestCase):
    devices = (nvme(1, "nvme") + nvme(2) + nvme(3, "nvme", group=30) + nvme(4, "nvme", group=30)
               + nvme(5, "nvme", group=-1))

    def path_of(self, slot):
        return self.caller.manager("GetDevice", "s", address(slot))

    def get(self, slot, name):
        return self.caller.get(self.path_of(slot), DEVICE, name)

    def bind(self, slot, driver="vfio-pci"):
        self.caller.call(self.path_of(slot), DEVICE, "Bind", "s", driver)

    def restore(self, slot):
        self.caller.call(self.path_of(slot), DEVICE, "Restore")

    def test_list(self):
        self.create_tenant()
        machine = new_uuid()
        self.admit(machine, devices=[address(2)])
        rows = {row[0]: row[1:] for row in self.caller.manager("ListDevices")}
        self.assertEqual(sorted(rows), sorted(["0000:00:1c.0"] + [address(n) for n in range(1, 6)]))
        group, driver, tenant, uuid, assignable, reason, description, path = rows[address(2)]
        self.assertEqual((group, driver, tenant, uuid, assignable, description, path),
                         (102, "vfio-pci", "acme", machine, False, "1b36:0010 class 010802",
                          self.path_of(2)))
        self.assertIn("vm-" + machine[:8], reason)
        self.assertEqual(rows[address(1)][4:6], (True, ""))
        for other in (address(3), address(5), "0000:00:1c.0"):
            self.assertFalse(rows[other][4])
            self.assertRegex(rows[other][5], r"^.+\.$")
        self.assertEqual(self.get(3, "GroupMembers"), [address(3), address(4)])
        self.assertEqual(self.get(5, "Group"), -1)
        self.assertEqual(self.get(5, "GroupMembers"), [])

    def test_bind_and_restore(self):
        self.bind(1)
        self.assertEqual(self.get(1, "Driver"), "vfio-pci")
        self.assertNotEqual(self.get(1, "Cdev"), "")
        # What it had before is remembered over a second Bind() and a restart of the service.
        self.bind(1)
        self.restore(1)
        self.assertEqual(self.get(1, "Driver"), "nvme")
        self.assertEqual(self.get(1, "Cdev"), "")
        self.assertEqual(os.listdir(self.path("run/devices")), [])

    def test_refusals_leave_no_trace(self):
        self.create_tenant()
        self.admit(new_uuid(), devices=[address(2)])
        before = self.describe()
        for name, call in (
            ("DeviceBusy", lambda: self.bind(2, "nvme")),
            ("DeviceBusy", lambda: self.restore(2)),
            ("GroupShared", lambda: self.bind(3)),
            ("NotSupported", lambda: self.bind(1, "no-such-driver")),
            ("InvalidArgument", lambda: self.bind(1, "../nvme")),
            ("InvalidArgument", lambda: self.bind(1, "")),
        ):
            self.assert_refused(name, call)
            self.assertEqual(self.describe(), before)
        self.assertEqual(os.listdir(self.path("run/devices")), [])

    def test_bind_for_an_admitted_machine(self):
        """Its devices may be bound for VFIO until it starts, also both of a group."""
        self.create_tenant()
        machine = new_uuid()
        self.admit(machine, devices=[address(3), address(4)])
        self.assert_refused("DeviceBusy", self.bind, 3, "nvme")
        self.bind(3)
        self.bind(4)
        self.assertEqual(self.get(3, "Driver"), "vfio-pci")
        leader = self.new_leader()
        self.play(leader, devices=[address(3), address(4)])
        self.start(machine, leader)
        self.assert_refused("DeviceBusy", self.bind, 4)
        self.assert_refused("DeviceBusy", self.restore, 4)

    def test_in_use_by_a_process(self):
        self.create_tenant()
        self.bind(1)
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.play(leader, devices=[address(1)])
        self.assert_refused("DeviceBusy", self.bind, 1, "nvme")
        self.assert_refused("DeviceBusy", self.restore, 1)
        self.kill(leader)
        self.release(machine)
        self.restore(1)
        self.assertEqual(self.get(1, "Driver"), "nvme")


if __name__ == "__main__":
    unittest.main()
