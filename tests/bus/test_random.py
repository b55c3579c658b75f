# SPDX-License-Identifier: LGPL-2.1-or-later
"""Any order of what can happen, against a model: what is reserved is what was promised, limits hold,
no machine loses anything while it lives, and at the end nothing is left.

SEED=N in the environment repeats a run.
"""

import os
import random
import time
import unittest

import harness
from harness import GIB, MIB, address, new_uuid

STEPS = 120
TENANTS = ("red", "blue")
LIMIT = 4 * GIB
SLOTS = range(1, 9)


class Model:
    """A machine as the test knows it."""

    def __init__(self, tenant, size, slot):
        self.tenant = tenant
        self.size = size
        self.slot = slot
        self.leader = None  # once it plays
        self.running = False


class Random(harness.TestCase):
    def setUp(self):
        super().setUp()
        seed = int(os.environ.get("SEED", time.time_ns() % 1000000))
        print(f"SEED={seed}")
        self.random = random.Random(seed)
        self.model = {}
        self.dying = set()  # slots whose machine is being reaped
        for tenant in TENANTS:
            self.create_tenant(tenant, LIMIT)

    # ---- what can happen ----

    def free_slots(self):
        return [slot for slot in SLOTS if slot not in self.dying
                and slot not in {machine.slot for machine in self.model.values()}]

    def reserved(self, tenant):
        return sum(machine.size for machine in self.model.values() if machine.tenant == tenant)

    def do_admit(self):
        if not self.free_slots():
            return
        uuid, tenant = new_uuid(), self.random.choice(TENANTS)
        size = self.random.choice((256 * MIB, GIB, 2 * GIB))
        slot = self.random.choice(self.free_slots())
        fits = self.reserved(tenant) + size <= LIMIT
        try:
            self.admit(uuid, tenant, size, [address(slot)])
            self.assertTrue(fits or self.dying)
            self.model[uuid] = Model(tenant, size, slot)
        except harness.BusError as error:
            # One that is being reaped is charged, too.
            self.assertEqual(error.name, "LimitExceeded")
            self.assertTrue(not fits or self.dying)

    def pick(self, condition):
        found = [uuid for uuid, machine in self.model.items() if condition(machine)]
        return self.random.choice(found) if found else None

    def do_play(self):
        uuid = self.pick(lambda machine: not machine.leader)
        if uuid:
            machine = self.model[uuid]
            machine.leader = self.new_leader()
            self.play(machine.leader, machine.tenant, [address(machine.slot)], machine.size)

    def do_start(self):
        uuid = self.pick(lambda machine: machine.leader and not machine.running)
        if uuid:
            self.start(uuid, self.model[uuid].leader)
            self.model[uuid].running = True

    def do_kill(self):
        uuid = self.pick(lambda machine: machine.running)
        if uuid:
            machine = self.model.pop(uuid)
            self.dying.add(machine.slot)
            self.kill(machine.leader)

    def do_fail(self):
        """A start that does not come to its end."""
        uuid = self.pick(lambda machine: not machine.running)
        if uuid:
            machine = self.model.pop(uuid)
            self.dying.add(machine.slot)
            if machine.leader:
                self.kill(machine.leader)
            self.start_release(uuid)

    def start_release(self, uuid):
        """Its answer may have to wait for another machine's start, or get lost in a restart."""
        self.caller.start_call(harness.ROOT, harness.MANAGER, "ReleaseMachine", "ss", uuid, "")
        harness.wait_until(lambda: self.state(uuid) != "admitted", what="the release")

    def do_restart(self):
        """Whose process has shown itself runs with it from then on."""
        self.restart_service()
        for machine in self.model.values():
            machine.running = machine.leader is not None

    def do_reap(self):
        self.tenant_call("Reap", tenant=self.random.choice(TENANTS))

    # ---- what must be true ----

    def check(self):
        rows = self.machines()
        for uuid, machine in self.model.items():
            name, tenant, state, reserved, pinned, orphaned, leader, _ = rows[uuid]
            self.assertEqual((tenant, reserved, orphaned), (machine.tenant, machine.size, 0), name)
            self.assertEqual(state, "running" if machine.running else "admitted")
            if machine.running:
                self.assertEqual((pinned, leader), (machine.size, machine.leader.pid))
        held = {device for uuid in rows if uuid not in self.model
                for device in self.devices_of(uuid)}
        self.dying = {slot for slot in SLOTS if address(slot) in held}
        for tenant in TENANTS:
            reserved = self.tenant_get("ReservedBytes", tenant)
            self.assertLessEqual(reserved, LIMIT)
            self.assertGreaterEqual(reserved, self.reserved(tenant))
            # Each that plays has an address space and a page table, which nobody takes away.
            types = [row[1] for row in self.objects(tenant)]
            playing = [m for m in self.model.values() if m.tenant == tenant and m.leader]
            for type_ in ("device", "ioas", "hwpt"):
                self.assertGreaterEqual(types.count(type_), len(playing), type_)

    def devices_of(self, uuid):
        try:
            path = self.caller.manager("GetMachine", "s", uuid)
            return self.caller.get(path, harness.MACHINE, "Devices")
        except harness.BusError:
            return []  # reaped just now

    def test_any_order(self):
        steps = [self.do_admit] * 4 + [self.do_play] * 4 + [self.do_start] * 4 + \
                [self.do_kill] * 2 + [self.do_fail, self.do_reap, self.do_restart]
        for _ in range(STEPS):
            self.random.choice(steps)()
            self.check()
        for machine in self.model.values():
            if machine.leader:
                self.kill(machine.leader)
        for uuid in [uuid for uuid, machine in self.model.items() if not machine.running]:
            self.start_release(uuid)
        harness.wait_until(lambda: not self.machines(), 5, "the end of all machines")
        for tenant in TENANTS:
            self.assertEqual(self.objects(tenant), [])
            self.assertEqual(self.tenant_get("ReservedBytes", tenant), 0)
        self.assertEqual(self.describe()["host"]["pinned_bytes"], 0)
        self.assertEqual(self.service_manager.names(), [f"tenant-{t}" for t in sorted(TENANTS)])
        self.assertEqual(os.listdir(self.path("run/machines")), [])


if __name__ == "__main__":
    unittest.main()
