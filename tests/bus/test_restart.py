# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 of iommud: machines run on, descriptors come back from the service manager, nothing is
lost and nothing is counted twice."""

import os
import re
import signal
import time
import unittest

import harness
from harness import GIB, MACHINE, MIB, TENANT, GLib, address, new_uuid


class Restart(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.create_tenant("acme", 16 * GIB)

    def test_all_is_as_it_was(self):
        running, leader = self.run_machine(devices=[address(1)], reserve=2 * GIB)
        admitted = new_uuid()
        self.admit(admitted, size=3 * GIB, devices=[address(2)], name="waits")
        legacy, legacy_leader = new_uuid(), self.new_leader()
        self.admit(legacy, size=GIB, devices=[address(3)], Iommufd=GLib.Variant("b", False))
        self.start(legacy, legacy_leader)
        before, objects = self.describe(), self.objects()
        names = sorted(["leader-" + running, "leader-" + legacy, "tenant-acme"])
        self.assertEqual(self.service_manager.names(), names)
        for _ in range(3):
            self.restart_service()
            self.assertEqual(self.describe(), before)
            self.assertEqual(self.objects(), objects)
            self.assertEqual(self.service_manager.names(), names)
        # And goes on as if nothing had been.
        self.kill(leader)
        self.kill(legacy_leader)
        self.release(admitted)
        self.assert_clean()
        self.assertEqual(self.service_manager.names(), ["tenant-acme"])

    def test_orderly_stop_keeps_machines(self):
        self.run_machine(devices=[address(1)])
        before = self.describe()
        self.end_service()
        self.start_service()
        self.caller = self.new_caller()
        self.assertEqual(self.describe(), before)

    def test_leader_that_died_meanwhile(self):
        machine, leader = self.run_machine(devices=[address(1)])
        survivor, _ = self.run_machine(devices=[address(2)])
        self.kill_service()
        self.kill(leader)
        self.start_service()
        harness.wait_until(lambda: machine not in self.machines(), 2, "the reap")
        self.assertEqual({row[2] for row in self.objects()}, {survivor})
        self.assertEqual(self.tenant_get("ReservedBytes"), GIB)
        self.assertEqual(self.service_manager.names(), ["leader-" + survivor, "tenant-acme"])

    def test_killed_in_the_middle_of_a_start(self):
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.play(leader, devices=[address(1)])
        self.restart_service()
        # It is still admitted: what it has made before the restart is the machine's when it starts.
        self.start(machine, leader)
        self.assertEqual({row[2] for row in self.objects()}, {machine})
        self.assertEqual(len(self.objects()), 3)
        self.kill(leader)
        self.assert_clean()

    def test_killed_while_it_reaps(self):
        for delay in (0, 0.001, 0.003, 0.01, 0.03):
            _, leader = self.run_machine(devices=[address(1)])
            self.kill(leader)
            time.sleep(delay)
            self.restart_service()
            self.assert_clean()

    def test_killed_at_any_point_of_many_lives(self):
        """A client works on while the service is killed again and again."""
        machine = new_uuid()
        for i in range(12):
            leader = self.new_leader()
            steps = [
                lambda: self.admit(machine, devices=[address(1)]),
                lambda: self.play(leader, devices=[address(1)], size=64 * MIB),
                lambda: self.start(machine, leader),
            ]
            for number, step in enumerate(steps):
                step()
                if i % len(steps) == number:
                    self.restart_service()
            self.assertEqual(self.machines()[machine][2:5], ("running", GIB, 64 * MIB))
            self.kill(leader)
            self.assert_clean()

    def test_unknown_descriptors_are_closed_and_removed(self):
        machine, _ = self.run_machine(devices=[address(1)])
        files = self.open_files()
        for name in ("tenant-nobody", "leader-nobody", "something", "leader-" + new_uuid()):
            self.service_manager.add(name, os.open("/dev/null", os.O_RDONLY))
        self.restart_service()
        self.assertEqual(self.service_manager.names(), ["leader-" + machine, "tenant-acme"])
        # A message to the service manager or to the journal has a socket of its own for a moment.
        harness.wait_until(lambda: self.open_files() == files, what="the set of open files as before")

    def open_files(self):
        folder = f"/proc/{self.service.pid}/fd"
        links = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
        return sorted(re.sub(r"\d+", "N", link) for link in links)

    def test_stored_descriptor_that_is_no_iommufd(self):
        self.tenant_call("AllocateIoas")
        self.service_manager.forget("tenant-acme")
        self.service_manager.add("tenant-acme", os.open("/dev/null", os.O_RDONLY))
        self.restart_service()
        self.assertEqual(self.service_manager.names(), [])
        self.assertEqual(self.objects(), [])
        self.assertEqual(self.describe()["host"]["reserved_bytes"], 0)

    def test_leaders_are_found_again_without_the_store(self):
        machine, leader = self.run_machine(devices=[address(1)])
        dead, dead_leader = self.run_machine(devices=[address(2)])
        self.kill_service()
        self.service_manager.forget("leader-" + machine)
        self.service_manager.forget("leader-" + dead)
        self.kill(dead_leader)
        self.start_service()
        harness.wait_until(lambda: dead not in self.machines(), 2, "the reap")
        self.assertEqual(self.machines()[machine][2], "running")
        self.assertEqual(self.service_manager.names(), ["leader-" + machine, "tenant-acme"])
        self.kill(leader)
        self.assert_clean()

    def test_stored_descriptor_that_is_not_its_leader(self):
        """That says nothing of the leader: it is not dead, and not another process."""
        machine, leader = self.run_machine(devices=[address(1)])
        before, objects = self.describe(), self.objects()
        other = self.new_leader()
        for wrong in (lambda: os.open("/dev/null", os.O_RDONLY), lambda: os.pidfd_open(other.pid)):
            self.kill_service()
            self.service_manager.forget("leader-" + machine)
            self.service_manager.add("leader-" + machine, wrong())
            self.start_service()
            self.assertEqual(self.describe(), before)
            self.assertEqual(self.objects(), objects)
        self.kill(leader)
        self.assert_clean()

    def test_lost_iommufd_is_taken_back_from_a_leader(self):
        (iommufd,) = self.caller.call_fds(self.tenant_path(), TENANT, "Open")[1]
        machine = new_uuid()
        self.admit(machine, devices=[address(1)])
        # This leader really holds the descriptor, as QEMU does.
        leader = self.new_leader(keep=[iommufd])
        os.close(iommufd)
        self.play(leader, devices=[address(1)])
        self.start(machine, leader)
        before, objects = self.describe(), self.objects()
        self.kill_service()
        self.service_manager.forget("tenant-acme")
        self.start_service()
        self.assertEqual(self.objects(), objects)
        self.assertEqual(self.describe(), before)
        self.assertIn("tenant-acme", self.service_manager.names())
        self.kill(leader)
        self.assert_clean()

    def test_lost_for_good(self):
        machine, leader = self.run_machine(devices=[address(1)])
        self.kill_service()
        self.service_manager.forget("tenant-acme")
        self.start_service()
        # It runs on, accounted for; what it will leave goes with its process.
        self.assertEqual(self.machines()[machine][2:4], ("running", GIB))
        self.assertIn("is lost", self.log_text())
        self.kill(leader)
        self.assert_clean()

    def lose_guard(self):
        self.write("host.conf", (self.host + self.devices).replace("guard;", ""))

    def test_iommufd_that_would_be_shared_no_more(self):
        """Where there is no guard nothing new is shared (RequireGuard=yes is the default)."""
        machine, leader = self.run_machine(devices=[address(1)])
        survivor, last = self.run_machine(devices=[address(2)])
        before, objects = self.describe()["tenants"], self.objects()
        self.kill_service()
        self.lose_guard()
        self.start_service()
        self.assertIn("tenant-acme", self.service_manager.names())
        after = self.describe()["tenants"]
        self.assertEqual([tenant.pop("shared") for tenant in after], [False])
        self.assertEqual([tenant.pop("shared") for tenant in before], [True])
        self.assertEqual(after, before)
        self.assertEqual(self.objects(), objects)
        self.kill(leader)
        harness.wait_until(lambda: machine not in self.machines(), 2, "the reap")
        self.assertEqual({row[2] for row in self.objects()}, {survivor})
        self.kill(last)
        self.assert_clean()
        self.restart_service()
        self.assertEqual(self.service_manager.names(), [])
        self.assertIn("Closed the shared IOMMUFD of tenant acme", self.log_text())

    def test_iommufd_of_its_own_is_not_taken_for_the_tenants(self):
        self.kill_service()
        self.lose_guard()
        self.start_service()
        (iommufd,) = self.caller.call_fds(self.tenant_path(), TENANT, "Open")[1]
        machine, leader = new_uuid(), self.new_leader(keep=[iommufd])
        self.admit(machine, devices=[address(2)])
        self.play_own(leader, iommufd, devices=[address(2)])
        os.close(iommufd)
        self.start(machine, leader)
        self.kill_service()
        self.write("host.conf", self.host + self.devices)
        self.start_service()
        self.assertEqual(self.machines()[machine][2:5], ("running", GIB, GIB))
        self.assertNotIn("tenant-acme", self.service_manager.names())
        self.assertNotIn("IOMMUFD of tenant acme", self.log_text())
        self.kill(leader)
        self.assert_clean()

    def test_record_of_a_version_that_did_not_say_who_shares(self):
        machine, leader = self.run_machine(devices=[address(1)])
        survivor, last = self.run_machine(devices=[address(2)])
        self.kill_service()
        for name in (machine, survivor):
            path = os.path.join(self.folder, "run/machines", name)
            with open(path, encoding="utf-8") as file:
                lines = [line for line in file if not line.startswith("Shares=")]
            self.write("run/machines/" + name, "".join(lines))
        self.start_service()
        self.kill(leader)
        harness.wait_until(lambda: machine not in self.machines(), 2, "the reap")
        self.assertEqual({row[2] for row in self.objects()}, {survivor})
        self.kill(last)
        self.assert_clean()

    def test_records_that_can_not_be_read(self):
        machine, _ = self.run_machine(devices=[address(1)])
        self.kill_service()
        bad = [new_uuid(), new_uuid()]
        self.write("run/machines/" + bad[0], "garbage")
        self.write("run/machines/" + bad[1], "[Machine]\nName=x\n")
        self.write("run/machines/nonsense", "[Machine]\n")
        self.write(f"run/machines/{machine}.A1B2C3", "half a rec")
        self.write("run/tenants/acme.A1B2C3", "half a rec")
        self.start_service()
        self.assertEqual(list(self.machines()), [machine])
        # What is damaged is kept for whoever wants to know why; half a file is of no use to anybody.
        self.assertEqual(sorted(os.listdir(self.path("run/machines"))),
                         sorted([machine] + [name + ".bad" for name in bad]))
        self.assertEqual(os.listdir(self.path("run/tenants")), ["acme"])
        self.assertIn(bad[0] + " is damaged", self.log_text())
        self.kill_service()
        self.start_service()
        self.assertEqual(list(self.machines()), [machine])

    def test_tenant_that_is_configured_no_more(self):
        machine, leader = self.run_machine(devices=[address(1)])
        self.kill_service()
        os.unlink(self.path("lib/tenants.d/acme.conf"))
        self.start_service()
        self.assertEqual(self.machines()[machine][1:4], ("acme", "running", GIB))
        self.assertEqual(self.tenant_get("LimitBytes"), 0)
        self.assert_refused("LimitExceeded", self.admit, new_uuid())
        self.kill(leader)
        self.assert_clean()
        self.caller.manager("Reload")
        self.assertEqual(self.caller.manager("ListTenants"), [])
        self.assertEqual(self.service_manager.names(), [])

    def test_lowered_limits_keep_what_was_promised(self):
        machine, _ = self.run_machine(devices=[address(1)])
        self.kill_service()
        self.write("lib/tenants.d/acme.conf", "[Tenant]\nLimit=1M\nDevices=\n")
        self.write("etc/iommud.conf", "[Host]\nBudget=2M\n")
        self.start_service()
        self.assertEqual(self.machines()[machine][2:4], ("running", GIB))
        self.assertEqual(self.tenant_get("ReservedBytes"), GIB)
        self.assert_refused("LimitExceeded", self.admit, new_uuid(), size=1)

    def test_peak_is_remembered(self):
        machine, leader = self.run_machine(size=3 * GIB, devices=[address(1)])
        path = self.caller.manager("GetMachine", "s", machine)
        self.assertEqual(self.caller.get(path, MACHINE, "PinnedBytes"), 3 * GIB)
        self.kill(leader)
        self.assert_clean()
        self.restart_service()
        self.assertEqual(self.tenant_get("PeakBytes"), 3 * GIB)

    def test_second_service_does_not_start(self):
        first, self.service = self.service, None
        with self.assertRaises(AssertionError):
            self.start_service()
        self.assertIn("already", self.log_text())
        self.service = first
        first.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    unittest.main()
