# SPDX-License-Identifier: LGPL-2.1-or-later
"""State that can't be written: what is refused for it leaves no trace, and all works again when
there is room."""

import os
import unittest

import harness
from harness import DEVICE, GIB, MACHINE, MIB, ROOT, TENANT, GLib, address, new_uuid


class NoRoom(harness.TestCase):
    tenants = {"globex": "Limit=8G\n", "umbrella": "Limit=8G\n"}

    def setUp(self):
        super().setUp()
        self.create_tenant("acme", 8 * GIB)

    # ---- what can't be written ----

    def block(self, folder="run"):
        """A file in place of the folder: nothing in it can be written or read."""
        os.rename(self.path(folder), self.path(folder + ".aside"))
        self.write(folder, "")

    def unblock(self, folder="run"):
        os.unlink(self.path(folder))
        os.rename(self.path(folder + ".aside"), self.path(folder))

    def everything(self):
        """What a refused call must not have changed."""
        return (self.describe(), self.objects(), self.service_manager.names(), self.machines(),
                self.caller.call(ROOT, harness.OBJECTS, "GetManagedObjects"))

    def assert_no_trace(self, function, *arguments, folder="run", restart=True, **more):
        before = self.everything()
        signals = harness.Signals(self.caller)
        self.block(folder)
        message = self.assert_refused("KernelRefused", function, *arguments, **more)
        self.assertRegex(message, "could not be written|can't be written")
        after = self.everything()
        self.unblock(folder)
        self.assertEqual(after, before)
        self.assertEqual([one for one in signals.seen if one[0] == harness.MANAGER], [])
        signals.close()
        self.assertEqual(self.everything(), before)
        if not restart:
            return
        # Nor has one that would be seen by the next run.
        self.restart_service()
        self.assertEqual(self.describe(), before[0])
        # By another process what the service made was made.
        self.assertEqual([row[:3] for row in self.objects()], [row[:3] for row in before[1]])

    def assert_not_admitted(self, leader, device):
        """The kernel lets nobody bind it."""
        self.assert_refused("KernelRefused", self.play, leader, devices=[device], size=MIB)

    # ---- machines ----

    def test_admission(self):
        machine, stray = new_uuid(), self.new_leader()
        self.assert_no_trace(self.admit, machine, devices=[address(1)])
        self.assert_refused("NoSuchMachine", self.caller.manager, "GetMachine", "s", machine)
        self.assertEqual(os.listdir(self.path("run/machines")), [])
        self.assert_not_admitted(stray, address(1))
        self.kill(stray)
        self.tenant_call("Reap")
        self.run_machine(machine, devices=[address(1)])

    def test_admission_anew(self):
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.assert_no_trace(self.admit, machine, size=2 * GIB, devices=[address(2)])
        self.assert_not_admitted(leader, address(2))
        self.play(leader, devices=[address(1)])
        self.start(machine, leader)
        self.kill(leader)
        self.assert_clean()

    def test_admission_anew_for_another_tenant(self):
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.assert_no_trace(self.admit, machine, "globex", devices=[address(1)])
        self.play(leader, devices=[address(1)])
        self.start(machine, leader)

    def test_start(self):
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.play(leader, devices=[address(1)])
        self.assert_no_trace(self.start, machine, leader, restart=False)
        self.assertEqual(self.state(machine), "admitted")
        # It is not watched: who dies now is not its leader.
        self.kill(leader)
        self.assertEqual(self.state(machine), "admitted")
        # It has shown itself as the machine: another start is another admission.
        self.admit(machine, devices=[address(1)])
        other = self.new_leader()
        self.play(other, devices=[address(1)])
        self.start(machine, other)
        self.kill(other)
        self.assert_clean()

    def test_start_of_legacy(self):
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)], Iommufd=GLib.Variant("b", False))
        self.assert_no_trace(self.start, machine, leader)
        self.start(machine, leader)

    def test_devices_of_a_machine(self):
        machine, leader = self.run_machine(devices=[address(1)])
        path = self.caller.manager("GetMachine", "s", machine)
        self.assert_no_trace(self.caller.call, path, MACHINE, "AddDevice", "s", address(2))
        self.assert_not_admitted(leader, address(2))
        self.caller.call(path, MACHINE, "AddDevice", "s", address(2))
        self.assert_no_trace(self.caller.call, path, MACHINE, "RemoveDevice", "s", address(2))
        self.play(leader, devices=[address(2)], size=MIB)
        self.kill(leader)
        self.assert_clean()

    def test_reservation(self):
        machine, leader = self.run_machine(size=GIB, reserve=2 * GIB)
        path = self.caller.manager("GetMachine", "s", machine)
        for size in (3 * GIB, GIB, 0):
            self.assert_no_trace(self.caller.call, path, MACHINE, "SetReservation", "ta{sv}", size,
                                 {})
        self.caller.call(path, MACHINE, "SetReservation", "ta{sv}", 8 * GIB, {})
        self.assert_refused("LimitExceeded", self.admit, new_uuid(), size=1)
        self.kill(leader)
        self.assert_clean()

    def test_end(self):
        """What dies is reaped all the same; it comes back as dead if its record can't go."""
        machine, leader = self.run_machine(devices=[address(1)])
        self.block()
        self.kill(leader)
        self.assert_clean()
        self.unblock()
        self.restart_service()
        self.assert_clean()
        self.run_machine(machine, devices=[address(1)])

    # ---- tenants ----

    def test_tenant(self):
        for folder in ("run", "lib"):
            self.assert_no_trace(self.create_tenant, "initech", GIB, folder=folder)
            self.assert_refused("NoSuchTenant", self.tenant_path, "initech")
        # What a process maps before it is known to be the machine counts beside what is promised to that.
        self.create_tenant("initech", 2 * GIB)
        self.run_machine(tenant="initech")

    def test_limit(self):
        _, leader = self.run_machine()
        ioas = next(row[0] for row in self.objects() if row[1] == "ioas")
        self.assert_no_trace(self.tenant_call, "SetLimit", "t", GIB, folder="lib")
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, GIB)
        # What is not written down is not asked for: a limit is no state of this boot.
        self.block()
        self.tenant_call("SetLimit", "t", 3 * GIB)
        self.ioctl(leader, "IOMMU_IOAS_MAP", ioas, GIB)
        self.assert_refused("LimitExceeded", self.ioctl, leader, "IOMMU_IOAS_MAP", ioas, 1 * GIB)
        self.unblock()

    def test_limits_of_a_reload(self):
        for tenant in ("globex", "umbrella"):
            self.write(f"etc/tenants.d/{tenant}.conf", "[Tenant]\nLimit=1G\n")
        self.block()
        self.caller.manager("Reload")
        for tenant in ("globex", "umbrella"):
            self.assertEqual(self.tenant_get("LimitBytes", tenant), GIB)
        self.unblock()
        for tenant in ("globex", "umbrella"):
            self.assert_refused("LimitExceeded", self.play, self.new_leader(), tenant,
                                size=GIB + MIB)
            self.play(self.new_leader(), tenant, size=GIB)

    # ---- what clients make ----

    def test_open(self):
        """Who passes the IOMMUFD on names it by its id, after a restart, too."""
        self.assert_no_trace(self.caller.call_fds, self.tenant_path(), TENANT, "OpenWithId")
        (_, number), fds = self.caller.call_fds(self.tenant_path(), TENANT, "OpenWithId")
        os.close(fds[0])
        self.restart_service()
        (_, again), fds = self.caller.call_fds(self.tenant_path(), TENANT, "OpenWithId")
        os.close(fds[0])
        self.assertEqual(again, number)

    def test_ioas(self):
        self.assert_no_trace(self.tenant_call, "AllocateIoas")
        ioas = self.tenant_call("AllocateIoas")
        self.assert_no_trace(self.tenant_call, "AllocateIoas")
        memfd = os.memfd_create("test")
        self.addCleanup(os.close, memfd)
        os.ftruncate(memfd, MIB)
        mapping = ("MapFile", "uhttts", ioas, 0, 0, MIB, harness.ANY, "rw")
        self.assert_no_trace(self.tenant_call, *mapping, fds=(memfd,))
        self.tenant_call(*mapping, fds=(memfd,))
        self.assertEqual(self.tenant_get("ReservedBytes"), MIB)
        self.tenant_call("Destroy", "u", ioas)
        self.assertEqual(self.tenant_get("ReservedBytes"), 0)

    def test_bind(self):
        path = self.caller.manager("GetDevice", "s", address(1))
        self.assert_no_trace(self.caller.call, path, DEVICE, "Bind", "s", "nvme")
        self.assertEqual(self.caller.get(path, DEVICE, "Driver"), "vfio-pci")


class OtherRefusals(harness.TestCase):
    """Refused by others than policy, after something was made."""

    def test_open_by_a_process_of_another_tenant(self):
        for tenant in ("acme", "globex"):
            self.create_tenant(tenant)
        os.close(self.caller.call_fds(self.tenant_path(), TENANT, "Open")[1][0])
        before = self.describe()
        message = self.assert_refused("NotSupported", self.caller.call_fds,
                                      self.tenant_path("globex"), TENANT, "Open")
        self.assertIn(f"Process {os.getpid()} ", message)
        self.assertEqual(self.service_manager.names(), ["tenant-acme"])
        self.assertEqual(self.describe(), before)

    def test_start_that_the_kernel_refuses(self):
        self.create_tenant()
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.play(leader, devices=[address(1)])
        before, names = self.describe(), self.service_manager.names()
        self.set_fault("failing-call", 1)
        self.assert_refused("KernelRefused", self.start, machine, leader)
        self.assertEqual(self.describe(), before)
        self.assertEqual(self.service_manager.names(), names)
        # The next run finds it by itself.
        self.restart_service()
        self.assertEqual(self.machines()[machine][2:7], ("running", GIB, GIB, 0, leader.pid))
        self.start(machine, leader)

    def test_admission_that_the_kernel_refuses(self):
        """At each of the things that it is told."""
        self.create_tenant("acme", 4 * GIB)
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1), address(2)])
        before, names = self.describe(), self.service_manager.names()
        for wanted in (machine, new_uuid()):
            devices = [address(3), address(4)] + ([address(1)] if wanted == machine else [])
            self.set_fault("failing-call", 1)
            self.assert_refused("KernelRefused", self.admit, wanted, size=2 * GIB, devices=devices)
            self.set_fault("failing-call", 0)
            self.assertEqual(self.describe(), before)
            self.assertEqual(self.service_manager.names(), names)
        self.restart_service()
        self.assertEqual(self.describe(), before)
        self.assert_refused("KernelRefused", self.play, leader, devices=[address(3)])
        self.play(leader, devices=[address(1), address(2)])
        self.start(machine, leader)


if __name__ == "__main__":
    unittest.main()
