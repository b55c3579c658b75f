# SPDX-License-Identifier: LGPL-2.1-or-later
"""The story that the README tells newcomers to play, on the simulated host."""

import os
import subprocess
import unittest

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


class Story(unittest.TestCase):
    def test_simulated(self):
        # IOMMUD is .../dbus/iommud of the build.
        build = os.path.dirname(os.path.dirname(os.environ["IOMMUD"]))
        done = subprocess.run([os.path.join(TOP, "examples", "story"), "simulate"], text=True,
                              capture_output=True, timeout=120, check=False,
                              env={**os.environ, "BIN": build})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("quickstart: passed: 4 machines, 2 tenants, 0 bytes orphaned", done.stdout)
        self.assertRegex(done.stdout, "web-3.*acme.*limit")


if __name__ == "__main__":
    unittest.main()
