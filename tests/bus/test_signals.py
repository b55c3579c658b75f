# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a client sees that only listens: ObjectManager, PropertiesChanged, the manager's signals."""

import unittest

import harness
from harness import DEVICE, GIB, MACHINE, MANAGER, OBJECTS, ROOT, TENANT, address, new_uuid


class Listening(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.signals = harness.Signals(self.caller)

    def managed(self):
        return self.caller.call(ROOT, OBJECTS, "GetManagedObjects")

    def changed(self, path, name, value):
        self.signals.wait("PropertiesChanged", lambda seen: seen[2] == path and
                          seen[3][1].get(name) == value)

    def test_managed_objects(self):
        tenant = self.create_tenant("acme", GIB)
        machine = self.admit(new_uuid(), devices=[address(1)])
        objects = self.managed()
        self.assertEqual(objects[tenant][TENANT]["LimitBytes"], GIB)
        self.assertEqual(objects[machine][MACHINE]["Devices"], [address(1)])
        device = objects[ROOT + "/device/0000_01_00_0"][DEVICE]
        self.assert_says(device, Address=address(1), Vendor=0x1b36, Product=0x0010, Class=0x010802,
                         Driver="vfio-pci", Group=101, GroupMembers=[address(1)], Tenant="acme",
                         Machine=machine[-36:].replace("_", "-"), Assignable=False, Bridge=False)
        self.assertRegex(device["Reason"], r"^.+\.$")
        bridge = objects[ROOT + "/device/0000_00_1c_0"][DEVICE]
        self.assert_says(bridge, Assignable=False, Bridge=True)
        free = objects[ROOT + "/device/0000_02_00_0"][DEVICE]
        self.assertEqual((free["Assignable"], free["Reason"]), (True, ""))

    def test_added_and_removed(self):
        tenant = self.create_tenant()
        self.signals.wait("InterfacesAdded", lambda seen: seen[3][0] == tenant and
                          seen[3][1][TENANT]["Id"] == "acme")
        self.assertEqual(self.signals.wait("TenantNew")[3], ("acme", tenant))
        uuid = new_uuid()
        machine = self.admit(uuid)
        self.signals.wait("InterfacesAdded", lambda seen: seen[3][0] == machine and
                          seen[3][1][MACHINE]["State"] == "admitted")
        self.assertEqual(self.signals.wait("MachineNew")[3], (uuid, machine))
        self.release(uuid)
        self.signals.wait("InterfacesRemoved", lambda seen: seen[3][0] == machine and
                          MACHINE in seen[3][1])
        self.assertEqual(self.signals.wait("MachineRemoved")[3], (uuid, machine))
        self.caller.manager("DeleteTenant", "s", "acme")
        self.signals.wait("InterfacesRemoved", lambda seen: seen[3][0] == tenant)
        self.assertEqual(self.signals.wait("TenantRemoved")[3], ("acme", tenant))
        self.assertEqual({path for path in self.managed() if "device" not in path}, set())

    def test_changes(self):
        tenant = self.create_tenant()
        self.tenant_call("SetLimit", "t", 4 * GIB)
        self.changed(tenant, "LimitBytes", 4 * GIB)
        uuid, leader = new_uuid(), self.new_leader()
        machine = self.admit(uuid)
        self.changed(tenant, "ReservedBytes", GIB)
        self.changed(ROOT, "ReservedBytes", GIB)
        self.caller.call(machine, MACHINE, "SetReservation", "ta{sv}", 2 * GIB, {})
        self.changed(machine, "ReservedBytes", 2 * GIB)
        self.caller.call(machine, MACHINE, "AddDevice", "s", address(1))
        self.changed(machine, "Devices", [address(1)])
        self.play(leader, devices=[address(1)])
        self.start(uuid, leader)
        self.changed(machine, "State", "running")
        self.changed(machine, "Leader", leader.pid)
        self.kill(leader)
        self.changed(machine, "State", "reaping")
        self.changed(tenant, "ReservedBytes", 0)

    def test_looking_changes_nothing(self):
        self.create_tenant()
        self.run_machine(devices=[address(1)])
        self.signals.wait("PropertiesChanged", lambda seen: "Leader" in seen[3][1])
        seen = len(self.signals.seen)
        for _ in range(3):
            self.managed()
            self.describe()
            self.objects()
            self.caller.get_all(ROOT, MANAGER)
        self.assertFalse(self.signals.has("Nothing"))
        self.assertEqual(len(self.signals.seen), seen)


if __name__ == "__main__":
    unittest.main()
