# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the service costs with a hundred machines."""

import unittest

import harness
from harness import MIB, address, nvme

MACHINES = 100
LIMIT_KIB = 8 * 1024


class Memory(harness.TestCase):
    devices = "".join(nvme(slot) for slot in range(1, MACHINES + 1))

    def peak(self):
        with open(f"/proc/{self.service.pid}/status", encoding="utf-8") as file:
            return int(next(line for line in file if line.startswith("VmHWM:")).split()[1])

    def test_hundred_machines(self):
        with open(f"/proc/{self.service.pid}/maps", encoding="utf-8") as file:
            if "libasan" in file.read():
                self.skipTest("a sanitizer needs memory of its own")
        for i in range(4):
            self.create_tenant(f"tenant{i}")
        leaders = [
            self.run_machine(tenant=f"tenant{i % 4}", size=64 * MIB, devices=[address(i + 1)])[1]
            for i in range(MACHINES)
        ]
        for _ in range(3):
            self.describe()
            self.caller.call(harness.ROOT, harness.OBJECTS, "GetManagedObjects")
            self.caller.manager("ListMachines")
            self.caller.manager("ListDevices")
            for i in range(4):
                self.objects(f"tenant{i}")
        running = self.peak()
        self.restart_service()
        restarted = self.peak()
        for leader in leaders:
            self.kill(leader)
        harness.wait_until(lambda: not self.machines(), 5, "the reap")
        print(f"VmHWM with {MACHINES} machines: {running} KiB, "
              f"after a restart and {MACHINES} reaps: {self.peak()} KiB")
        self.assertLess(max(running, restarted, self.peak()), LIMIT_KIB)


if __name__ == "__main__":
    unittest.main()
