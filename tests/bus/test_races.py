# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many at once, and the service killed in between: who waits is answered, nothing is lost, and
nothing is left."""

import os
import random
import signal
import time
import unittest

import harness
from harness import GIB, MANAGER, MIB, ROOT, TENANT, GLib, address, new_uuid, run_parallel


def open_files(pid):
    """How many descriptors the process has, less those that come and go."""
    folder = f"/proc/{pid}/fd"
    links = []
    for fd in os.listdir(folder):
        try:
            links.append(os.readlink(f"{folder}/{fd}"))
        except FileNotFoundError:
            pass
    return len(links)


class RaceCase(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.create_tenant("acme", 8 * GIB)

    def assert_no_descriptor_is_lost(self, before):
        harness.wait_until(lambda: open_files(self.service.pid) <= before,
                           what="the number of open descriptors as before")

    def assert_works(self):
        """After whatever was: limits, groups and accounting."""
        machine, leader = self.run_machine(size=4 * GIB, devices=[address(1)])
        self.assertEqual(self.machines()[machine][2:5], ("running", 4 * GIB, 4 * GIB))
        self.assert_refused("LimitExceeded", self.admit, new_uuid(), size=4 * GIB + 1)
        self.assert_refused("DeviceBusy", self.admit, new_uuid(), size=0, devices=[address(1)])
        self.kill(leader)
        self.assert_clean()


class AtOnce(RaceCase):
    def race(self, machine, leader, caller):
        """One client's calls, in an order of its own; refusals are answers, too."""
        calls = [
            lambda: caller.manager("AdmitMachine", "ssstasa{sv}", machine, "vm", "acme", GIB,
                                   [address(1)], {}),
            lambda: caller.manager("StartMachine", "sv", machine, GLib.Variant("u", leader.pid)),
            lambda: caller.manager("ReleaseMachine", "ss", machine, "race"),
            lambda: caller.manager("Reload"),
            lambda: caller.manager("ListMachines"),
        ]
        allowed = {"MachineExists", "NoSuchMachine", "InvalidArgument", "DeviceBusy"}
        for call in random.sample(calls * 3, k=len(calls) * 3):
            try:
                call()
            except harness.BusError as error:
                assert error.name in allowed, error

    def test_calls_of_two_clients(self):
        callers = [self.new_caller() for _ in range(3)]
        machine = new_uuid()
        self.assert_works()
        files = open_files(self.service.pid)
        for _ in range(6):
            leaders = [self.new_leader() for _ in callers]
            results = run_parallel([lambda i=i: self.race(machine, leaders[i], callers[i])
                                    for i in range(len(callers))])
            self.assertEqual(results, [None] * len(callers))
            for leader in leaders:
                self.kill(leader)
            if self.state(machine) in ("admitted", "reaping"):
                self.release(machine)
            self.assert_clean()
        self.assert_works()
        self.assert_no_descriptor_is_lost(files)

    def test_one_of_many_admissions_gets_the_device(self):
        callers = [self.new_caller() for _ in range(6)]
        wanted = [new_uuid() for _ in callers]
        results = run_parallel([
            lambda i=i: callers[i].manager("AdmitMachine", "ssstasa{sv}", wanted[i], "vm", "acme",
                                           GIB, [address(1)], {}) for i in range(len(callers))])
        refused = [one for one in results if isinstance(one, harness.BusError)]
        self.assertEqual({one.name for one in refused}, {"DeviceBusy"})
        self.assertEqual(len(refused), len(callers) - 1)
        self.assertEqual(len(self.machines()), 1)


class Waiting(RaceCase):
    def die_slowly(self, slow=300):
        machine, leader = self.run_machine(devices=[address(1)])
        self.set_fault("slow-destroy", slow)
        self.kill(leader)
        harness.wait_until(lambda: self.state(machine) == "reaping", what="the death")
        return machine

    def start_release(self, machine, caller=None):
        return (caller or self.caller).start_call(ROOT, MANAGER, "ReleaseMachine", "ss", machine,
                                                  "test")

    def test_release_of_one_that_dies_just_now(self):
        for delay in (0, 0.0005, 0.002):
            machine, leader = self.run_machine(devices=[address(1)])
            leader.kill()
            time.sleep(delay)
            answers = [self.start_release(machine) for _ in range(3)]
            for answer in answers:
                try:
                    answer.result()
                except harness.BusError as error:
                    # It runs still, or is gone by now.
                    self.assertIn(error.name, ("MachineExists", "NoSuchMachine"))
            self.kill(leader)
            self.assert_clean()

    def test_all_who_wait_are_answered(self):
        files = open_files(self.service.pid)
        machine = self.die_slowly()
        leavers = [self.new_caller() for _ in range(3)]
        self.start_release(machine, leavers[0])
        self.start_admit(machine, caller=leavers[1])
        answers = [self.start_release(machine), self.start_admit(machine, devices=[address(1)]),
                   self.start_release(machine), self.start_admit(machine, devices=[address(2)])]
        self.start_admit(machine, size=7 * GIB, caller=leavers[2])
        for leaver in leavers:
            leaver.close()
        for answer in answers:
            answer.result()
        # The last of those who asked and stayed has it.
        path = self.caller.manager("GetMachine", "s", machine)
        self.assertEqual(self.caller.get(path, harness.MACHINE, "Devices"), [address(2)])
        self.assertEqual(self.tenant_get("ReservedBytes"), GIB)
        self.set_fault("slow-destroy", 0)
        self.release(machine)
        self.assert_clean()
        self.assert_works()
        self.assert_no_descriptor_is_lost(files + 1)  # the tenant's IOMMUFD

    def test_who_waits_may_be_refused(self):
        machine = self.die_slowly()
        answer = self.start_admit(machine, size=9 * GIB)
        other = self.start_admit(machine, tenant="nobody")
        self.assertEqual(self.assert_refused("LimitExceeded", answer.result)[:7], "Machine")
        self.assert_refused("NoSuchTenant", other.result)
        self.assert_clean()

    def test_service_ends_while_somebody_waits(self):
        machine = self.die_slowly(3000)
        answers = [self.start_release(machine), self.start_admit(machine),
                   self.caller.start_call(self.tenant_path(), TENANT, "Reap")]
        since = time.monotonic()
        self.end_service()
        self.assertLess(time.monotonic() - since, 6)
        for answer in answers:
            with self.assertRaises(harness.BusError):
                answer.result()
        self.start_service()
        self.assert_clean()
        self.assert_works()


class Deleted(RaceCase):
    def leave_orphans(self):
        stray = self.new_leader()
        self.play(stray, size=GIB)
        self.set_fault("slow-destroy", 400)
        self.kill(stray)

    def start_reap(self):
        return self.caller.start_call(self.tenant_path(), TENANT, "Reap")

    def test_while_reap_waits(self):
        self.leave_orphans()
        first, second = self.start_reap(), self.start_reap()
        time.sleep(0.1)
        third = self.start_reap()
        self.caller.manager("DeleteTenant", "s", "acme")
        for answer in (first, second, third):
            self.assertEqual(len(answer.result()), 2)
        self.assertEqual(self.service_manager.names(), [])
        self.assertEqual(self.describe()["host"]["reserved_bytes"], 0)

    def test_while_reap_has_not_begun(self):
        reap = self.start_reap()
        self.caller.manager("DeleteTenant", "s", "acme")
        self.assertEqual(reap.result(), (0, 0))

    def test_and_created_again_while_it_is_reaped(self):
        for wait in (0, 0.1):
            self.leave_orphans()
            reap = self.start_reap()
            time.sleep(0.1)
            self.caller.manager("DeleteTenant", "s", "acme")
            time.sleep(wait)
            self.create_tenant("acme", 8 * GIB)
            # The ids in its new IOMMUFD are those of the old one.
            machine, leader = self.run_machine(devices=[address(1)])
            objects = self.objects()
            again = self.start_reap()
            reap.result()
            again.result()
            self.set_fault("slow-destroy", 0)
            self.assertEqual(self.objects(), objects)
            self.assertEqual(self.tenant_get("PinnedBytes"), GIB)
            self.kill(leader)
            self.assert_clean()
        self.assert_works()

    def test_reaped_at_once_although_its_predecessor_is_slow(self):
        self.leave_orphans()
        time.sleep(0.05)
        self.caller.manager("DeleteTenant", "s", "acme")
        self.create_tenant("acme", 8 * GIB)
        self.set_fault("slow-destroy", 0)
        for _ in range(3):
            _, leader = self.run_machine(devices=[address(1)])
            self.kill(leader)
            self.assert_clean()


class Ended(RaceCase):
    def assert_ends(self, slow, seconds):
        machine, leader = self.run_machine(devices=[address(1)])
        survivor, _ = self.run_machine(devices=[address(2)])
        self.set_fault("slow-destroy", slow)
        self.kill(leader)
        harness.wait_until(lambda: self.state(machine) == "reaping", what="the death")
        since = time.monotonic()
        self.end_service()
        self.assertLess(time.monotonic() - since, seconds)
        self.start_service()
        harness.wait_until(lambda: list(self.machines()) == [survivor], 2, "the reap")
        self.assertEqual({row[2] for row in self.objects()}, {survivor})
        self.assertEqual(self.tenant_get("PinnedBytes"), GIB)

    def test_while_the_worker_is_busy(self):
        self.assert_ends(100, 2)

    def test_while_the_worker_hangs(self):
        self.assert_ends(60000, 5)

    def test_when_the_worker_comes_back_as_the_service_goes(self):
        self.assert_ends(2005, 6)

    def test_by_hangup_in_between(self):
        for _ in range(5):
            self.service.send_signal(signal.SIGHUP)
            _, leader = self.run_machine(devices=[address(1)])
            self.service.send_signal(signal.SIGHUP)
            self.kill(leader)
            self.assert_clean()


class Killed(RaceCase):
    """SIGKILL while a call is under way, with deaths while nobody looks."""

    def restart_in(self, call, rng, leader=None):
        pending = call()
        time.sleep(rng.random() ** 2 * 0.004)
        self.kill_service()
        if leader:
            self.kill(leader)
        self.start_service()
        harness.wait_until(pending.poll, what="an answer, or that there will be none")

    def start_call(self, member, signature, *values):
        return self.caller.start_call(ROOT, MANAGER, member, signature, *values)

    def test_in_any_gap(self):
        seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
        print(f"SEED={seed}")
        rng = random.Random(seed)
        bystander, _ = self.run_machine(devices=[address(8)])
        figures = self.machines()[bystander]
        for _ in range(7):
            machine, leader = new_uuid(), self.new_leader()
            self.restart_in(lambda: self.start_admit(machine, devices=[address(1)]), rng)
            self.assertIn(self.state(machine), (None, "admitted"))
            self.admit(machine, devices=[address(1)])
            self.play(leader, devices=[address(1)])
            start = GLib.Variant("u", leader.pid)
            dies = rng.random() < 0.4
            self.restart_in(lambda: self.start_call("StartMachine", "sv", machine, start), rng,
                            leader if dies else None)
            if not dies:
                self.start(machine, leader)
                self.assertEqual(self.machines()[machine][2:5], ("running", GIB, GIB))
            leader.kill()
            self.restart_in(lambda: self.start_call("ReleaseMachine", "ss", machine, ""), rng)
            self.kill(leader)
            if self.state(machine) == "admitted":
                self.release(machine)
            harness.wait_until(lambda: list(self.machines()) == [bystander], 2, "the end")
            self.assertEqual({row[2] for row in self.objects()}, {bystander})
            self.assertEqual(self.machines()[bystander], figures)
            self.assertEqual(self.tenant_get("ReservedBytes"), GIB)
            self.assertEqual(self.service_manager.names(), ["leader-" + bystander, "tenant-acme"])
        self.assertEqual(sorted(os.listdir(self.path("run/machines"))), [bystander])

    def test_tenants_in_any_gap(self):
        rng = random.Random()
        for _ in range(4):
            self.restart_in(lambda: self.start_call("CreateTenant", "sa{sv}", "globex", {}), rng)
            ids = {row[0] for row in self.caller.manager("ListTenants")}
            self.assertLessEqual(ids, {"acme", "globex"})
            if "globex" not in ids:
                self.create_tenant("globex")
            self.run_and_end("globex")
            self.restart_in(lambda: self.start_call("DeleteTenant", "s", "globex"), rng)
            if len(self.caller.manager("ListTenants")) == 2:
                self.caller.manager("DeleteTenant", "s", "globex")
            self.assertEqual(self.service_manager.names(), [])
        self.assertEqual(os.listdir(self.path("run/tenants")), ["acme"])

    def run_and_end(self, tenant):
        _, leader = self.run_machine(tenant=tenant, devices=[address(1)])
        self.kill(leader)
        self.assert_clean(tenant)

    def test_numbers_are_never_given_out_again(self):
        """Not even when the file of them is lost: what lives keeps what is its own."""
        machine, leader = self.run_machine(devices=[address(1)])
        self.kill_service()
        os.unlink(self.path("run/numbers"))
        self.start_service()
        self.create_tenant("globex", GIB)
        other, others_leader = self.run_machine(tenant="globex", devices=[address(2)])
        self.assertEqual({row[2] for row in self.objects()}, {machine})
        self.assertEqual({row[2] for row in self.objects("globex")}, {other})
        self.assertEqual(self.tenant_get("PinnedBytes"), GIB)
        self.assertEqual(self.tenant_get("PinnedBytes", "globex"), GIB)
        self.kill(others_leader)
        harness.wait_until(lambda: list(self.machines()) == [machine], 2, "the reap")
        self.assertEqual({row[2] for row in self.objects()}, {machine})
        self.kill(leader)
        self.assert_clean()

    def test_machine_of_whose_leader_little_is_known(self):
        """Neither its pidfd nor when it began: whoever has the pid by now is not taken for it."""
        machine, leader = self.run_machine(devices=[address(1)])
        other = self.new_leader()
        self.kill_service()
        self.service_manager.forget("leader-" + machine)
        path = self.path("run/machines/" + machine)
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if not line.startswith("Leader")]
        self.write("run/machines/" + machine, "".join(lines) + f"Leader={other.pid}\n")
        self.kill(leader)
        self.start_service()
        self.assert_clean()
        self.assertEqual(self.service_manager.names(), ["tenant-acme"])


if __name__ == "__main__":
    unittest.main()
