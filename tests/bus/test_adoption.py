# SPDX-License-Identifier: LGPL-2.1-or-later
"""StartMachine does not come: a machine that lives is adopted or left alone, whenever its admission
ends, whoever wants to end it, and however often the service is away meanwhile."""

import os
import resource
import signal
import time
import unittest

import harness
from harness import GIB, MACHINE, MIB, TENANT, address, new_uuid

# As QEMU's: a command line that names the machine.
NAMED = ("sh", "-c", "kill -STOP $$", "-uuid")


class Adoption(harness.TestCase):
    config = "[Machines]\nAdmissionTimeout=1\n"

    def setUp(self):
        super().setUp()
        self.create_tenant("acme", 16 * GIB)

    def begin(self, device=1, leader=None):
        """A machine whose process has bound its device and mapped its memory."""
        machine, leader = new_uuid(), leader or self.new_leader()
        self.admit(machine, size=2 * GIB, devices=[address(device)])
        self.play(leader, devices=[address(device)])
        return machine, leader

    def stop(self, seconds=0.0):
        self.service.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.service.send_signal(signal.SIGCONT)

    def wait_for(self, machine, state, seconds=4):
        harness.wait_until(lambda: self.state(machine) == state, seconds, f"{machine} {state}")

    def assert_adopted(self, machine, leader, objects=None):
        self.wait_for(machine, "running")
        self.assertEqual(self.machines()[machine][2:7], ("running", 2 * GIB, GIB, 0, leader.pid))
        mine = [row for row in self.objects() if row[2] == machine]
        self.assertEqual(len(mine), 3)
        if objects is not None:
            self.assertEqual(mine, objects)

    def assert_logged(self, text):
        harness.wait_until(lambda: text in self.log_text(), what=text)

    # ---- the clock ----

    def test_by_the_clock(self):
        signals = harness.Signals(self.caller)
        machine, leader = self.begin()
        objects = self.objects()
        self.assert_adopted(machine, leader, objects)
        self.assert_logged(f"({machine}) of tenant acme was adopted: it runs as process {leader.pid}, "
                         "but StartMachine did not come.")
        for name, value in (("State", "running"), ("Leader", leader.pid)):
            signals.wait("PropertiesChanged", lambda one, n=name, v=value: one[3][1].get(n) == v)
        self.assertIn("leader-" + machine, self.service_manager.names())
        # StartMachine that comes in the end says nothing new; with another process it is refused.
        self.start(machine, leader)
        other = self.new_leader()
        self.play(other)
        self.assert_refused("MachineExists", self.start, machine, other)
        self.kill(other)
        # It is watched, and survives the service.
        self.restart_service()
        self.assert_adopted(machine, leader, objects)
        self.kill(leader)
        self.assert_clean()

    def test_the_dead_are_not_adopted(self):
        machine, leader = self.begin()
        self.kill(leader)
        harness.wait_until(lambda: machine not in self.machines(), 4, "the end of the admission")
        self.assert_clean()
        self.assertNotIn("adopted", self.log_text())
        self.assertIn("no process that lives has anything of it", self.log_text())

    def test_each_its_own(self):
        first, first_leader = self.begin(1)
        lost = new_uuid()
        self.admit(lost, devices=[address(3)])
        second, second_leader = self.begin(2)
        self.assert_adopted(first, first_leader)
        self.assert_adopted(second, second_leader)
        harness.wait_until(lambda: lost not in self.machines(), 4, "the end of the admission")
        self.admit(new_uuid(), devices=[address(3)])

    def test_who_comes_as_it_ends_is_adopted_or_refused(self):
        """Never reaped alive: a device is bound in time, or nobody may bind it any more."""
        rounds = [(new_uuid(), self.new_leader(), slot) for slot in range(1, 9)]
        for machine, _, slot in rounds:
            self.admit(machine, devices=[address(slot)])
        time.sleep(0.9)
        alive = []
        for machine, leader, slot in rounds:
            try:
                self.play(leader, devices=[address(slot)], size=MIB)
                alive.append(machine)
            except harness.BusError as error:
                self.assertEqual(error.name, "KernelRefused")
            time.sleep(0.04)
        time.sleep(1.2)
        self.assertEqual({uuid: row[2] for uuid, row in self.machines().items()},
                         dict.fromkeys(alive, "running"))
        self.assertEqual({row[2] for row in self.objects()} - {""}, set(alive))
        self.assertEqual(self.tenant_get("PinnedBytes"), len(alive) * MIB)

    # ---- the service is away ----

    def test_stopped_for_longer_than_the_clock(self):
        machine, leader = self.begin()
        objects = self.objects()
        self.stop(2.5)
        self.assert_adopted(machine, leader, objects)
        self.kill(leader)
        self.assert_clean()

    def test_stopped_before_anybody_came(self):
        """Its start goes on when the service does: it has all its time again."""
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, size=2 * GIB, devices=[address(1)])
        self.stop(2.5)
        time.sleep(0.3)
        self.assertEqual(self.state(machine), "admitted")
        self.play(leader, devices=[address(1)])
        self.assert_adopted(machine, leader)

    def test_killed(self):
        machine, leader = self.begin()
        objects = self.objects()
        self.kill_service()
        time.sleep(1.5)
        self.start_service()
        # At once: who was to say it may have come while nobody listened.
        self.assert_adopted(machine, leader, objects)
        self.restart_service()
        self.assert_adopted(machine, leader, objects)
        self.start(machine, leader)
        self.kill_service()
        self.kill(leader)
        self.start_service()
        self.assert_clean()

    def test_restart_restarts_the_clock(self):
        machine = new_uuid()
        self.admit(machine, devices=[address(1)])
        time.sleep(0.5)
        for _ in range(2):
            self.kill_service()
            time.sleep(1.2)
            self.start_service()
            time.sleep(0.4)
            self.assertEqual(self.state(machine), "admitted")
        harness.wait_until(lambda: machine not in self.machines(), 4, "the end of the admission")

    def test_iommufd_that_the_service_manager_has_lost(self):
        """Its process has it: it is taken back from there."""
        (iommufd,) = self.caller.call_fds(self.tenant_path(), TENANT, "Open")[1]
        machine, leader = self.begin(leader=self.new_leader(keep=[iommufd]))
        os.close(iommufd)
        objects = self.objects()
        self.kill_service()
        self.service_manager.forget("tenant-acme")
        self.start_service()
        self.assertIn("tenant-acme", self.service_manager.names())
        self.assert_adopted(machine, leader, objects)
        self.kill(leader)
        self.assert_clean()

    # ---- whoever wants to end it ----

    def test_release(self):
        for release in (lambda machine, path: self.release(machine, "its domain does not run"),
                        lambda machine, path: self.caller.call(path, MACHINE, "Release")):
            machine, leader = self.begin()
            path = self.caller.manager("GetMachine", "s", machine)
            message = self.assert_refused("MachineExists", release, machine, path)
            self.assertIn(str(leader.pid), message)
            self.assert_adopted(machine, leader)
            self.kill(leader)
            self.assert_clean()

    def test_release_of_a_start_that_has_failed(self):
        machine, leader = self.begin()
        self.kill(leader)
        self.release(machine, "failed")
        self.assert_clean(seconds=0)

    def test_admission_of_the_same_machine(self):
        machine, leader = self.begin()
        objects = self.objects()
        message = self.assert_refused("MachineExists", self.admit, machine, devices=[address(1)])
        self.assertIn(str(leader.pid), message)
        self.assert_adopted(machine, leader, objects)
        self.kill(leader)
        self.admit(machine, devices=[address(1)])
        self.assertEqual(self.state(machine), "admitted")

    def test_end_of_its_tenant(self):
        machine, leader = self.begin()
        self.assert_refused("TenantBusy", self.caller.manager, "DeleteTenant", "s", "acme")
        self.assertEqual(self.tenant_call("Reap"), (0, 0))
        self.assert_adopted(machine, leader)

    # ---- who leads it can't be told ----

    def test_error_is_not_a_death(self):
        machine, leader = self.begin()
        objects = self.objects()
        limits = resource.prlimit(self.service.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.service.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        self.assert_logged("is kept for another 1 seconds")
        resource.prlimit(self.service.pid, resource.RLIMIT_NOFILE, limits)
        self.assert_adopted(machine, leader, objects)

    def test_another_machines_process(self):
        """What it has is not touched, and it is not taken for the leader either."""
        usurper = self.new_leader(*NAMED, new_uuid())
        machine, _ = self.begin(leader=usurper)
        objects = self.objects()
        self.assert_logged("is kept for another 1 seconds: Process")
        message = self.assert_refused("MachineExists", self.release, machine)
        self.assertIn("its command line says -uuid", message)
        self.assert_refused("MachineExists", self.admit, machine)
        time.sleep(1.5)
        self.assertEqual(self.state(machine), "admitted")
        self.assertEqual(self.objects(), objects)
        self.kill(usurper)
        harness.wait_until(lambda: machine not in self.machines(), 4, "the end of the admission")
        self.assert_clean()

    def test_without_devices(self):
        """It can't show itself, but says who it is, which is good for waiting."""
        machine, stranger = new_uuid(), self.new_leader()
        self.admit(machine)
        self.play(stranger, size=MIB)
        leader = self.new_leader(*NAMED, machine)
        self.play(leader, size=MIB)
        self.assert_logged("is kept for another 1 seconds: Machine")
        message = self.assert_refused("MachineExists", self.release, machine)
        self.assertIn("name it with StartMachine", message)
        self.start(machine, leader)
        self.assertEqual(self.state(machine), "running")

    def test_strangers_keep_nothing(self):
        machine, stranger = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.play(stranger, size=MIB)
        harness.wait_until(lambda: machine not in self.machines(), 4, "the end of the admission")
        self.assertEqual([row[3] for row in self.objects()], [stranger.pid] * 2)

    def test_ledger_that_was_lost(self):
        machine = new_uuid()
        leader = self.new_leader(*NAMED, machine)
        self.admit(machine, size=2 * GIB, devices=[address(1)])
        self.play(leader, devices=[address(1)])
        self.kill_service()
        self.service_manager.forget("ledger")
        self.start_service()
        self.assert_logged("is kept for another 1 seconds")
        self.assertEqual(len(self.objects()), 3)
        self.start(machine, leader)
        self.assert_adopted(machine, leader)


class Elsewhere(harness.TestCase):
    """Hosts and tenants where less is known."""

    config = "[Machines]\nAdmissionTimeout=1\n"
    tenants = {"alone": "Isolation=machine\n"}

    def run_alone(self, machine, *command):
        (iommufd,) = self.caller.call_fds(self.tenant_path("alone"), TENANT, "Open")[1]
        leader = self.new_leader(*command, keep=[iommufd])
        self.admit(machine, "alone", devices=[address(1)])
        self.play_own(leader, iommufd, devices=[address(1)])
        os.close(iommufd)
        return leader


class LedgerThatIsLostMeanwhile(harness.TestCase):
    """Nobody can tell then whether anybody lives, and the release is believed."""

    def restart_with(self, features):
        self.kill_service()
        self.write("host.conf", (self.host + self.devices).replace("ledger;guard;", features))
        self.start_service()

    def test_when_it_comes_back_nothing_that_lives_is_destroyed(self):
        self.create_tenant()
        running, last = self.run_machine(devices=[address(1)])
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(2)])
        self.play(leader, devices=[address(2)])
        objects = self.objects()
        self.restart_with("")
        # It could be, for all that is known, but it waits until nobody shares the IOMMUFD.
        self.assertEqual(self.state(machine), "admitted")
        self.caller.start_call(harness.ROOT, harness.MANAGER, "ReleaseMachine", "ss", machine, "")
        harness.wait_until(lambda: self.state(machine) == "reaping", what="the release")
        for _ in range(2):
            self.restart_with("ledger;guard;")
            self.assertEqual(self.tenant_call("Reap"), (0, 0))
            self.assertEqual(self.objects(), objects)
            self.assertEqual(self.tenant_get("PinnedBytes"), 2 * GIB)
        self.kill(leader)
        harness.wait_until(lambda: list(self.machines()) == [running], 4, "the reap")
        self.assertEqual({row[2] for row in self.objects()}, {running})
        self.kill(last)
        self.assert_clean()


class OwnIommufd(Elsewhere):
    def test_it_is_adopted(self):
        machine = new_uuid()
        leader = self.run_alone(machine)
        harness.wait_until(lambda: self.state(machine) == "running", 4, "the adoption")
        self.assertEqual(self.machines()[machine][2:7], ("running", GIB, GIB, 0, leader.pid))
        self.kill(leader)
        harness.wait_until(lambda: not self.machines(), 2, "the end")


class WithoutLedger(Elsewhere):
    """Nobody can tell whose anything is, and so nothing is destroyed."""

    host = harness.HOST.replace("ledger;guard;", "")

    def test_nothing_of_it_is_touched(self):
        machine = new_uuid()
        leader = self.run_alone(machine)
        harness.wait_until(lambda: machine not in self.machines(), 4, "the end of the admission")
        # What it has is its own: the books follow when it is admitted and named again.
        self.admit(machine, "alone", devices=[address(1)])
        self.start(machine, leader)
        self.assertEqual(self.machines()[machine][2:7], ("running", GIB, GIB, 0, leader.pid))

    def test_stopped_for_longer_than_the_clock(self):
        machine = new_uuid()
        leader = self.run_alone(machine)
        self.service.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        self.service.send_signal(signal.SIGCONT)
        self.start(machine, leader)
        self.assertEqual(self.state(machine), "running")


class WithoutGuard(Elsewhere):
    host = harness.HOST.replace("guard;", "")
    config = Elsewhere.config + "[Kernel]\nRequireGuard=no\n"

    def setUp(self):
        super().setUp()
        self.create_tenant()

    def test_its_word_is_believed(self):
        machine = new_uuid()
        leader = self.new_leader(*NAMED, machine)
        self.admit(machine, devices=[address(1)])
        self.play(leader, devices=[address(1)])
        harness.wait_until(lambda: self.state(machine) == "running", 4, "the adoption")
        self.assertEqual(self.machines()[machine][2:7], ("running", GIB, GIB, 0, leader.pid))

    def test_one_that_says_nothing_may_be_any(self):
        machine, leader = new_uuid(), self.new_leader()
        self.admit(machine, devices=[address(1)])
        self.play(leader, devices=[address(1)])
        time.sleep(1.5)
        self.assertEqual(self.state(machine), "admitted")
        self.assert_refused("MachineExists", self.release, machine)
        self.start(machine, leader)
        self.assertEqual(self.state(machine), "running")


if __name__ == "__main__":
    unittest.main()
