# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tenants: made, listed, changed, deleted."""

import os
import unittest

import harness
from harness import GIB, INFINITY, ROOT, TENANT, GLib


class Tenants(harness.TestCase):
    tenants = {"fixed": "Limit=4G\n"}

    def names(self):
        return [row[0] for row in self.caller.manager("ListTenants")]

    def test_create_list_delete(self):
        path = self.create_tenant("acme", 8 * GIB)
        self.assertEqual(path, ROOT + "/tenant/acme")
        self.assertEqual(self.tenant_path("acme"), path)
        self.assertEqual(self.caller.manager("ListTenants"),
                         [("acme", 8 * GIB, 0, 0, 0, path),
                          ("fixed", 4 * GIB, 0, 0, 0, ROOT + "/tenant/fixed")])
        self.caller.manager("DeleteTenant", "s", "acme")
        self.assertEqual(self.names(), ["fixed"])
        self.assert_refused("NoSuchTenant", self.caller.manager, "GetTenant", "s", "acme")

    def test_properties(self):
        path = self.create_tenant("my.team-1", Isolation=GLib.Variant("s", "machine"),
                                  AccountingMode=GLib.Variant("s", "user"),
                                  Count=GLib.Variant("s", "unique"),
                                  Devices=GLib.Variant("as", ["10de:*"]))
        properties = self.caller.get_all(path, TENANT)
        self.assert_says(properties, Id="my.team-1", LimitBytes=INFINITY, ReservedBytes=0,
                         PinnedBytes=0, Count="unique", Isolation="machine", AccountingMode="user",
                         Source="", Machines=[], Devices=[], DevicePatterns=["10de:*"])
        self.assertEqual(self.tenant_get("DevicePatterns", "fixed"), ["*"])
        self.assertEqual(self.tenant_get("Source", "fixed"),
                         self.path("etc/tenants.d/fixed.conf"))

    def test_is_there_after_a_restart(self):
        self.create_tenant("acme", 8 * GIB, Devices=GLib.Variant("as", []))
        self.tenant_call("SetLimit", "t", 3 * GIB)
        before = self.describe()
        self.restart_service()
        self.assertEqual(self.describe(), before)
        self.caller.manager("DeleteTenant", "s", "acme")
        self.restart_service()
        self.assertEqual(self.names(), ["fixed"])

    def test_limit_of_a_configured_tenant_holds_until_reload(self):
        self.tenant_call("SetLimit", "t", 3 * GIB, tenant="fixed")
        self.assertEqual(self.tenant_get("LimitBytes", "fixed"), 3 * GIB)
        self.caller.manager("Reload")
        self.assertEqual(self.tenant_get("LimitBytes", "fixed"), 4 * GIB)

    def test_refusals(self):
        self.create_tenant("acme")
        create = self.create_tenant
        self.assert_refused("TenantExists", create, "acme")
        self.assert_refused("TenantExists", create, "fixed")
        for bad in ("", ".", "-x", "a/b", "a b", "ä", "x" * 65, "../../etc", "a\nb"):
            self.assert_refused("InvalidArgument", create, bad)
        self.assert_refused("InvalidArgument", create, "b", Isolation=GLib.Variant("s", "both"))
        self.assert_refused("InvalidArgument", create, "b", Isolation=GLib.Variant("u", 1))
        self.assert_refused("InvalidArgument", create, "b",
                            AccountingMode=GLib.Variant("s", "PROCESS"))
        self.assert_refused("InvalidArgument", create, "b", Devices=GLib.Variant("as", ["zz"]))
        self.assert_refused("InvalidArgument", create, "b", Limit=GLib.Variant("t", 1))
        self.assert_refused("NoSuchTenant", self.caller.manager, "DeleteTenant", "s", "nobody")
        self.assert_refused("NoSuchTenant", self.caller.manager, "DeleteTenant", "s", "")
        message = self.assert_refused("InvalidArgument", self.caller.manager, "DeleteTenant", "s",
                                      "fixed")
        self.assertIn("fixed.conf", message)
        self.assertEqual(self.names(), ["acme", "fixed"])
        self.assertEqual(os.listdir(self.path("lib/tenants.d")), ["acme.conf"])

    def test_busy_while_it_has_machines(self):
        self.create_tenant()
        machine = harness.new_uuid()
        self.admit(machine)
        self.assert_refused("TenantBusy", self.caller.manager, "DeleteTenant", "s", "acme")
        self.assertEqual(self.tenant_get("Machines"),
                         [ROOT + "/machine/" + machine.replace("-", "_")])
        self.release(machine)
        self.caller.manager("DeleteTenant", "s", "acme")

    def test_iommufd_goes_with_the_tenant(self):
        self.create_tenant()
        self.tenant_call("AllocateIoas")
        self.assertEqual(self.service_manager.names(), ["tenant-acme"])
        self.caller.manager("DeleteTenant", "s", "acme")
        self.assertEqual(self.service_manager.names(), [])
        self.assertEqual(self.describe()["host"]["reserved_bytes"], 0)

    def test_state_that_can_not_be_written(self):
        self.write("lib", "a file where a folder should be")
        before = self.describe()
        self.assert_refused("KernelRefused", self.create_tenant, "acme")
        self.assertEqual(self.describe(), before)


if __name__ == "__main__":
    unittest.main()
