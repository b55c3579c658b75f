# SPDX-License-Identifier: LGPL-2.1-or-later
"""iommuctl doctor: what it finds, and what it says to do."""

import json
import unittest

import harness
from harness import GLib
from iommuctl import FakeCase, TestCase


class Doctor(TestCase):
    def check(self, *arguments):
        done = self.run_ctl("doctor", "--json=short", *arguments)
        self.assertEqual(done.stderr, "")
        return {row["check"]: row for row in json.loads(done.stdout)}, done.returncode

    def test_simulated_host(self):
        checks, status = self.check()
        self.assertEqual(status, 0)
        self.assertEqual({name for name, row in checks.items() if row["result"] == "ok"},
                         {"bus", "service", "iommu", "iommufd", "vfio-cdev", "map-file", "guard",
                          "ledger", "drift", "ioctls", "budget", "orphans"})
        self.assertEqual({name for name, row in checks.items() if row["result"] == "warning"},
                         {"agent"})
        for row in checks.values():
            self.assertRegex(row["message"], r"^.*\.$")

    def test_text(self):
        text = self.ctl("doctor")
        self.assertRegex(text, r"\Aok       bus  ")
        self.assertIn("ok       guard", text)
        self.assertTrue(text.endswith("\n12 ok, 1 warnings, 0 failed\n"))
        quiet = self.ctl("doctor", "-q")
        self.assertNotIn("ok  ", quiet)
        self.assertIn("warning  agent", quiet)

    def test_service_stopped(self):
        self.end_service()
        checks, status = self.check()
        self.assertEqual(status, 1)
        self.assertEqual(checks["bus"]["result"], "ok")
        self.assertEqual((checks["service"]["result"], checks["service"]["remedy"]),
                         ("failed", "systemctl enable --now iommud"))
        self.assertIn("iommufd", checks)
        self.assertIn("modules", checks)

    def test_no_bus(self):
        checks, status = self.check("--bus=unix:path=/nonexistent")
        self.assertEqual(status, 1)
        self.assertEqual(checks["bus"]["result"], "failed")
        self.assertIn("iommufd", checks)


class DoctorWithoutLedger(TestCase):
    host = harness.HOST.replace("ledger;guard;", "")

    def test_text(self):
        text = self.ctl("doctor")
        self.assertIn("warning  guard", text)
        self.assertIn("The simulated host has no ledger", text)
        self.assertIn("Machines share no IOMMUFD", text)
        self.assertTrue(text.endswith("\n8 ok, 3 warnings, 0 failed\n"))
        quiet = self.ctl("doctor", "-q")
        self.assertNotIn("ok  ", quiet)
        self.assertIn("warning  guard", quiet)


class DoctorOfTheLedger(FakeCase):
    def setUp(self):
        super().setUp()
        self.features = self.service.manager["Features"].unpack() + ["ledger", "guard"]
        self.service.manager["Features"] = GLib.Variant("as", self.features + ["guard-recheck"])
        self.service.start()

    def checks(self):
        return {row["check"]: row for row in json.loads(self.run_ctl("doctor", "--json").stdout)}

    def test_well(self):
        checks = self.checks()
        for name in ("guard", "ledger", "drift", "ioctls"):
            self.assertEqual((checks[name]["result"], checks[name]["remedy"]), ("ok", None))

    def test_not_exact(self):
        self.service.manager["Features"] = GLib.Variant("as", self.features)
        self.assertEqual(self.checks()["guard"]["result"], "warning")

    def test_drift(self):
        self.service.manager["DriftBytes"] = GLib.Variant("t", 12288)
        drift = self.checks()["drift"]
        self.assertEqual(drift["result"], "warning")
        self.assertIn("off by 12K", drift["message"])

    def test_unknown_ioctls(self):
        self.service.manager["UnknownIoctls"] = GLib.Variant("t", 7)
        ioctls = self.checks()["ioctls"]
        self.assertEqual(ioctls["result"], "warning")
        self.assertIn("used 7 ioctls", ioctls["message"])
        self.assertIn("Guard=strict", ioctls["remedy"])

    def test_missing(self):
        why = "The kernel has no BTF: it must be built with it."
        self.service.manager["Features"] = GLib.Variant("as", self.features[:-2])
        for name in ("Guard", "Ledger"):
            self.service.manager[name + "State"] = GLib.Variant("s", "unavailable")
            self.service.manager[name + "Reason"] = GLib.Variant("s", why)
        checks = self.checks()
        self.assertNotIn("drift", checks)
        for name in ("guard", "ledger"):
            self.assertEqual(checks[name]["result"], "warning")
            self.assertTrue(checks[name]["message"].endswith(f"the {name} is unavailable: {why}"))


class LackingHost(Doctor):
    """A kernel without IOMMUFD and VFIO character devices."""

    host = harness.HOST.replace("iommufd;vfio-cdev;map-file;iommu;", "iommu;")

    def test_simulated_host(self):
        checks, status = self.check()
        self.assertEqual(status, 1)
        self.assertEqual({name for name, row in checks.items() if row["result"] == "failed"},
                         {"iommufd", "vfio-cdev"})
        self.assertEqual(checks["map-file"]["result"], "warning")

    def test_text(self):
        done = self.run_ctl("doctor")
        self.assertEqual(done.returncode, 1)
        self.assertIn(", 2 failed\n", done.stdout)
        self.assertRegex(done.stdout, r"failed   iommufd .*\n {17}-> \w")


if __name__ == "__main__":
    unittest.main()
