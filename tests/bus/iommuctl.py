# SPDX-License-Identifier: LGPL-2.1-or-later
"""iommuctl as its tests run it: asking iommud on a simulated host, or a service of the test's."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

import harness
from fake_service import FakeService

IOMMUCTL = os.environ.get("IOMMUCTL", "")


class Running:
    """How iommuctl is run on self.bus."""

    def environment(self, **environment):
        return {"IOMMUD_BUS_ADDRESS": self.bus.address, "LC_ALL": "C", "PATH": "/usr/bin:/bin",
                **{key: value for key, value in os.environ.items()
                   if key.endswith("SAN_OPTIONS") or key == "IOMMUCTL_PROGRAMS"}, **environment}

    def run_ctl(self, *arguments, **environment):
        """The finished process."""
        return subprocess.run(
            [IOMMUCTL, *arguments], capture_output=True, text=True, timeout=60, check=False,
            env=self.environment(**environment))

    def ctl(self, *arguments, **environment):
        """What it prints; it must succeed and complain of nothing."""
        done = self.run_ctl(*arguments, **environment)
        self.assertEqual((done.stderr, done.returncode), ("", 0), arguments)
        return done.stdout

    def ctl_json(self, *arguments):
        """The same from --json, in both layouts."""
        pretty = self.ctl(*arguments, "--json")
        short = self.ctl(*arguments, "--json=short")
        self.assertEqual(short.count("\n"), 1)
        self.assertEqual(json.loads(pretty), json.loads(short))
        return json.loads(short)

    def ctl_fails(self, *arguments, status=1):
        """The sentence on stderr; nothing is on stdout."""
        done = self.run_ctl(*arguments)
        self.assertEqual((done.stdout, done.returncode), ("", status), arguments)
        self.assertRegex(done.stderr, r"\Aiommuctl: [^\n]*\.\n\Z")
        return done.stderr


class TestCase(Running, harness.TestCase):
    def setUp(self):
        if not IOMMUCTL:
            self.fail("IOMMUCTL must say which program to test")
        super().setUp()


class FakeCase(Running, harness.Assertions, unittest.TestCase):
    """A test that says itself what the service answers; it calls self.service.start()."""

    def setUp(self):
        if not IOMMUCTL:
            self.fail("IOMMUCTL must say which program to test")
        self.folder = tempfile.mkdtemp(prefix="iommud-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.service = FakeService(self.folder)
        self.addCleanup(self.service.close)
        self.bus = self.service.bus
