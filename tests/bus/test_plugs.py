# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is plugged into running machines: libvirt sets the lock limit of their process before, and is let
or refused that."""

import mmap
import unittest

import harness
from harness import GIB, MACHINE, MIB, SIMULATION, GLib, address

PAGE = mmap.PAGESIZE
LIMIT = 2 * GIB  # that libvirt has set at the start


class TestCase(harness.TestCase):
    tenants = {"acme": f"Limit={3 * GIB}\n", "unique": f"Limit={3 * GIB}\nCount=unique\n"}

    def run_followed(self, tenant="acme", size=GIB, follow=True, device=address(1)):
        """A machine that has been started by libvirt. Its UUID and its leader."""
        uuid, leader = harness.new_uuid(), self.new_leader()
        self.set_limit(leader, LIMIT)
        self.admit(uuid, tenant, size, devices=[device], FollowLimit=GLib.Variant("b", follow))
        self.play(leader, tenant, [device], size // 2)
        self.start(uuid, leader)
        return uuid, leader

    def set_limit(self, leader, size):
        self.caller.call("/org/iommud1", SIMULATION, "SetLockLimit", "ut", leader.pid, size)

    def limit(self, leader):
        return self.caller.call("/org/iommud1", SIMULATION, "GetLockLimit", "u", leader.pid)

    def plug(self, leader, size):
        """What libvirt does: it sets the limit that the machine needs then, unless it has that."""
        if self.limit(leader) < size:
            self.set_limit(leader, size)

    def reserved(self, uuid):
        return self.caller.get(self.caller.manager("GetMachine", "s", uuid), MACHINE, "ReservedBytes")

    def assert_reserved(self, uuid, size):
        harness.wait_until(lambda: self.reserved(uuid) == size, what=f"a reservation of {size}")

    def assert_asks(self, leader, size):
        """The limit is a page below what was set: whoever plugs in something next asks."""
        harness.wait_until(lambda: self.limit(leader) == size - PAGE, what="a lower limit")


class Plugs(TestCase):
    def test_more_memory(self):
        uuid, leader = self.run_followed()
        self.assert_asks(leader, LIMIT)
        for more in (MIB, 128 * MIB, GIB):
            self.plug(leader, LIMIT + more)
            self.assert_reserved(uuid, GIB + more)
            self.assert_asks(leader, LIMIT + more)
        self.assertEqual(self.tenant_get("ReservedBytes"), 2 * GIB)

    def test_refused(self):
        uuid, leader = self.run_followed()
        self.assert_asks(leader, LIMIT)
        for _ in range(3):
            message = self.assert_refused("LimitExceeded", self.plug, leader, LIMIT + 2 * GIB + PAGE)
        self.assertIn(str(leader.pid), message)
        self.assertEqual(self.reserved(uuid), GIB)
        self.assertEqual(self.limit(leader), LIMIT - PAGE)
        self.plug(leader, LIMIT + 2 * GIB)
        self.assert_reserved(uuid, 3 * GIB)
        self.assert_refused("LimitExceeded", self.admit, harness.new_uuid(), size=1)

    def test_two_for_the_last_bytes(self):
        one, first = self.run_followed()
        two, second = self.run_followed(device=address(2))
        self.assert_asks(first, LIMIT)
        self.assert_asks(second, LIMIT)
        self.plug(first, LIMIT + GIB)
        self.assert_refused("LimitExceeded", self.plug, second, LIMIT + PAGE)
        self.assert_reserved(one, 2 * GIB)
        self.assert_reserved(two, GIB)

    def test_nothing_is_asked_twice(self):
        """A device without an IOMMU of its own needs no more than there is; and what was unplugged is
        taken from the start, not from the limit that libvirt has left."""
        uuid, leader = self.run_followed()
        self.assert_asks(leader, LIMIT)
        self.plug(leader, LIMIT)
        self.assert_asks(leader, LIMIT)
        self.assertEqual(self.reserved(uuid), GIB)
        self.plug(leader, LIMIT + 128 * MIB)
        self.assert_reserved(uuid, GIB + 128 * MIB)
        path = self.caller.manager("GetMachine", "s", uuid)
        self.caller.call(path, MACHINE, "SetReservation", "ta{sv}", GIB, {})
        self.assert_asks(leader, LIMIT + 128 * MIB)
        self.plug(leader, LIMIT + 128 * MIB)
        self.assert_reserved(uuid, GIB + 128 * MIB)

    def test_promised_beforehand(self):
        uuid, leader = self.run_followed()
        self.assert_asks(leader, LIMIT)
        path = self.caller.manager("GetMachine", "s", uuid)
        self.caller.call(path, MACHINE, "SetReservation", "ta{sv}", 2 * GIB, {})
        self.plug(leader, LIMIT + 128 * MIB)
        self.assert_asks(leader, LIMIT + 128 * MIB)
        self.assertEqual(self.reserved(uuid), 2 * GIB)

    def test_restart(self):
        uuid, leader = self.run_followed()
        self.assert_asks(leader, LIMIT)
        self.plug(leader, LIMIT + 128 * MIB)
        self.assert_reserved(uuid, GIB + 128 * MIB)
        self.restart_service()
        self.assert_reserved(uuid, GIB + 128 * MIB)
        self.assert_asks(leader, LIMIT + 128 * MIB)
        self.plug(leader, LIMIT + 256 * MIB)
        self.assert_reserved(uuid, GIB + 256 * MIB)
        self.assert_asks(leader, LIMIT + 256 * MIB)

    def test_not_followed(self):
        """<hard_limit> and the like say what the limit is; unique pages can't be told from it."""
        for options in ({"follow": False}, {"tenant": "unique", "device": address(2)}):
            uuid, leader = self.run_followed(**options)
            self.assertEqual(self.limit(leader), LIMIT)
            self.plug(leader, LIMIT + 2 * GIB + PAGE)
            self.assertEqual(self.reserved(uuid), GIB)
            self.assertEqual(self.limit(leader), LIMIT + 2 * GIB + PAGE)

    def test_death(self):
        uuid, leader = self.run_followed()
        self.assert_asks(leader, LIMIT)
        self.plug(leader, LIMIT + GIB)
        self.assert_reserved(uuid, 2 * GIB)
        self.kill(leader)
        harness.wait_until(lambda: self.tenant_get("ReservedBytes") == 0)


if __name__ == "__main__":
    unittest.main()
