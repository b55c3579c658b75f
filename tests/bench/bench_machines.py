#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A simulated host with very many machines: what it costs to admit, start, show and reap one of them,
against the same with few. MACHINES says how many (10000)."""

import os
import resource
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../bus"))
import harness
from harness import MIB, OBJECTS, new_uuid

MACHINES = int(os.environ.get("MACHINES", "10000"))
STEP = 100 # machines whose time is taken together


def clock(function):
    """What the call takes, in ms."""
    since = time.monotonic()
    function()
    return (time.monotonic() - since) * 1000


class Many(harness.TestCase):
    config = "[Host]\nBudget=infinity\n"
    devices = ""
    host = harness.HOST.replace("MemoryMiB=65536", "MemoryMiB=1048576")

    def setUp(self):
        # A pidfd of each leader, twice, and both ends of the bus.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        super().setUp()
        self.create_tenant()
        self.children = []
        self.addCleanup(self.kill_children)

    def kill_children(self):
        for child in self.children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def new_child(self):
        """Stands for QEMU, and costs less than a program."""
        child = os.fork()
        if child == 0:
            os.closerange(0, 4096)
            while True:
                signal.pause()
        self.children.append(child)
        return child

    def add(self):
        machine, child = new_uuid(), self.new_child()
        self.admit(machine, size=MIB)
        self.caller.call(harness.ROOT, harness.SIMULATION, "Play", "usast", child, "acme", [], MIB)
        self.caller.manager("StartMachine", "sv", machine, harness.GLib.Variant("u", child))

    def kill_one(self):
        child = self.children.pop()
        left = len(self.children)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        harness.wait_until(lambda: len(self.caller.manager("ListMachines")) == left, 60)

    def service_time(self):
        """What the service itself has worked, in ms: the rest is the bus and the client."""
        with open(f"/proc/{self.service.pid}/stat", encoding="utf-8") as file:
            user, system = file.read().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) * 1000 / os.sysconf("SC_CLK_TCK")

    def look(self, what):
        worked = self.service_time()
        everything = clock(lambda: self.caller.call("/org/iommud1", OBJECTS, "GetManagedObjects", seconds=120))
        worked = self.service_time() - worked
        figures = clock(lambda: self.caller.call("/org/iommud1", harness.PROPERTIES, "GetAll", "s", harness.MANAGER))
        rows = clock(lambda: self.caller.manager("ListMachines", seconds=120))
        print(f"{what}: all objects {everything:.0f} ms (the service {worked:.0f}), the manager {figures:.0f} ms, "
              f"ListMachines {rows:.0f} ms, one dies {clock(self.kill_one):.0f} ms", file=sys.stderr)

    def test_many(self):
        while len(self.children) < MACHINES:
            since = time.monotonic()
            for _ in range(STEP):
                self.add()
            n = len(self.children)
            if n in (STEP, MACHINES // 2, MACHINES):
                print(f"{n} machines: {(time.monotonic() - since) * 1000 / STEP:.1f} ms to add one", file=sys.stderr)
                self.look(f"{n} machines")
                self.add()
        took = clock(lambda: self.restart_service())
        print(f"restart {took:.0f} ms", file=sys.stderr)


if __name__ == "__main__":
    unittest.main()
