# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration: taken over as a whole, or not at all."""

import os
import signal
import unittest

import harness
from harness import GIB, MANAGER, ROOT, address, new_uuid


class Reload(harness.TestCase):
    config = "[Host]\nBudget=32G\n"
    tenants = {"acme": "Limit=8G\n", "old": ""}

    def reload(self):
        self.caller.manager("Reload")

    def limits(self):
        return {row[0]: row[1] for row in self.caller.manager("ListTenants")}

    def test_all_of_it(self):
        signals = harness.Signals(self.caller)
        self.write("etc/iommud.conf",
                   "[Host]\nBudget=16G\n[Tenants]\nDefault=new\n[Machines]\nAdmissionTimeout=5\n")
        self.write("etc/tenants.d/acme.conf", "[Tenant]\nLimit=9G\n")
        self.write("etc/tenants.d/new.conf", "[Tenant]\nLimit=infinity\n")
        os.unlink(self.path("etc/tenants.d/old.conf"))
        self.reload()
        self.assertEqual(self.limits(), {"acme": 9 * GIB, "new": harness.INFINITY})
        self.assertEqual(self.caller.get(ROOT, MANAGER, "HostBudgetBytes"), 16 * GIB)
        self.assertEqual(self.caller.get(ROOT, MANAGER, "DefaultTenant"), "new")
        self.admit(new_uuid(), "")
        for member, tenant in (("TenantNew", "new"), ("TenantRemoved", "old"),
                               ("InterfacesAdded", "new"), ("InterfacesRemoved", "old")):
            signals.wait(member, lambda seen, name=tenant: name in str(seen[3]))
        signals.wait("PropertiesChanged", lambda seen: "LimitBytes" in seen[3][1])

    def test_nothing_of_it(self):
        self.run_machine(tenant="old", devices=[address(1)])
        before = self.describe()
        mistakes = {
            "iommud.conf": ("[Host]\nBudget=much\n", "[Hots]\n", "[Host]\nLimit=1G\n", "rubbish",
                            "[Machines]\nAdmissionTimeout=-1\n", "[Host]\nBudget=101%\n"),
            "tenants.d/new.conf": ("[Tenant]\nLimit=1X\n", "[Tenant]\nId=../x\n",
                                   "[Tenant]\nIsolation=none\n", "[Tenant]\nDevices=zz;\n"),
        }
        for file, texts in mistakes.items():
            for text in texts:
                self.write("etc/tenants.d/acme.conf", "[Tenant]\nLimit=1G\n")
                self.write("etc/" + file, text)
                message = self.assert_refused("InvalidArgument", self.reload)
                self.assertIn(os.path.basename(file), message)
                self.assertEqual(self.describe(), before)
            os.unlink(self.path("etc/" + file))
        os.unlink(self.path("etc/tenants.d/old.conf"))
        self.assert_refused("TenantBusy", self.reload)
        self.assertEqual(self.describe(), before)

    def test_by_signal(self):
        self.write("etc/tenants.d/acme.conf", "[Tenant]\nLimit=9G\n")
        self.service.send_signal(signal.SIGHUP)
        harness.wait_until(lambda: self.limits()["acme"] == 9 * GIB, what="the reload")
        self.write("etc/tenants.d/acme.conf", "[Tenant]\nLimit=lots\n")
        self.service.send_signal(signal.SIGHUP)
        harness.wait_until(lambda: "not taken over" in self.log_text(), what="the complaint")
        self.assertEqual(self.limits()["acme"], 9 * GIB)

    def test_removed_tenant_leaves_nothing(self):
        self.run_machine(tenant="acme", devices=[address(1)])
        _, leader = self.run_machine(tenant="old", devices=[address(2)])
        self.assertIn("tenant-old", self.service_manager.names())
        self.kill(leader)
        harness.wait_until(lambda: len(self.machines()) == 1, 2, "the reap")
        os.unlink(self.path("etc/tenants.d/old.conf"))
        self.reload()
        self.assertNotIn("tenant-old", self.service_manager.names())
        self.assertEqual(os.listdir(self.path("run/tenants")), ["acme"])

    def test_changed_isolation_closes_the_iommufd(self):
        self.tenant_call("Reap", tenant="acme")
        (iommufd,) = self.caller.call_fds(self.tenant_path("acme"), harness.TENANT, "Open")[1]
        os.close(iommufd)
        self.assertEqual(self.service_manager.names(), ["tenant-acme"])
        self.write("etc/tenants.d/acme.conf", "[Tenant]\nIsolation=machine\n")
        self.reload()
        self.assertEqual(self.service_manager.names(), [])

    def test_file_does_not_start_with_a_mistake(self):
        self.end_service()
        self.write("etc/iommud.conf", "[Host]\nBudget=much\n")
        self.start_service(wait=False)
        self.assertEqual(self.service.wait(harness.PATIENCE), 1)
        self.assertIn("iommud.conf", self.log_text())
        self.log.close()


if __name__ == "__main__":
    unittest.main()
