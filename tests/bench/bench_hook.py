# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the libvirt hook costs: side by side with /bin/true as a hook, in one run, with iommud on a
simulated host behind it. Prints medians and ratios; the goal is that no operation adds 30 ms."""

import os
import statistics
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../bus"))

import harness  # noqa: E402
from test_hook import HOOK, OURS, PLAIN, UUID  # noqa: E402

ROUNDS = 100


class Bench(harness.TestCase):
    tenants = {"acme": ""}

    def run_ms(self, program, *operation, xml):
        """One run of a hook, with its input, as libvirt does it."""
        begin = time.perf_counter()
        subprocess.run([program, "vm", *operation, "-"], input=xml, check=True,
                       env={"IOMMUD_BUS_ADDRESS": self.bus.address})
        return (time.perf_counter() - begin) * 1000

    def compare(self, title, *operation, xml, before=None):
        """Both in turn, so that whatever else the machine does slows down both."""
        xml, hook, true = xml.encode(), [], []
        for _ in range(ROUNDS):
            true.append(self.run_ms("/bin/true", *operation, xml=xml))
            if before:
                before()
            hook.append(self.run_ms(HOOK, *operation, xml=xml))
        hook, true = statistics.median(hook), statistics.median(true)
        print(f"{title:32} {hook:7.2f} ms   /bin/true {true:6.2f} ms   x {hook / true:5.2f}   "
              f"+ {hook - true:6.2f} ms", flush=True)

    def test_hook(self):
        def release():
            if self.machines():
                self.release(UUID)

        def admit():
            release()
            self.admit(UUID, "acme", harness.MIB, [harness.address(1)])

        print(f"\nmedians of {ROUNDS} runs each")
        self.compare("stopped: nothing to do", "stopped", "end", xml=OURS)
        self.compare("prepare: a domain without devices", "prepare", "begin", xml=PLAIN)
        self.compare("prepare: admits a machine", "prepare", "begin", xml=OURS, before=release)
        self.compare("release: releases it", "release", "end", xml=OURS, before=admit)


if __name__ == "__main__":
    unittest.main()
