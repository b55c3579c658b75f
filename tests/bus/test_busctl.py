# SPDX-License-Identifier: LGPL-2.1-or-later
"""The first client anybody has: busctl."""

import json
import subprocess
import unittest
import xml.etree.ElementTree as ET

import harness
from harness import GIB, MANAGER, NAME, ROOT, TENANT, address


class Busctl(harness.TestCase):
    def busctl(self, *arguments):
        done = subprocess.run(["busctl", "--address=" + self.bus.address, *arguments], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def call(self, path, interface, member, *arguments):
        text = self.busctl("--json=short", "call", NAME, path, interface, member, *arguments)
        return json.loads(text)["data"] if text.strip() else None

    def test_session(self):
        self.call(ROOT, MANAGER, "CreateTenant", "sa{sv}", "acme", "2", "LimitBytes", "t",
                  str(8 * GIB), "Devices", "as", "1", "0000:0?:00.0")
        path = self.call(ROOT, MANAGER, "GetTenant", "s", "acme")[0]
        self.assertEqual(self.call(path, TENANT, "AllocateIoas"), [1])
        self.assertEqual(self.call(path, TENANT, "ListObjects"), 
                         [[[1, "ioas", "", self.service.pid, 0]]])
        self.busctl("call", NAME, path, TENANT, "Open")
        uuid, leader = harness.new_uuid(), self.new_leader()
        self.call(ROOT, MANAGER, "AdmitMachine", "ssstasa{sv}", uuid, "vm", "acme", str(GIB), "1",
                  address(1), "0")
        self.play(leader, devices=[address(1)])
        self.call(ROOT, MANAGER, "StartMachine", "sv", uuid, "u", str(leader.pid))
        self.assertEqual(self.busctl("get-property", NAME, path, TENANT, "PinnedBytes"),
                         f"t {GIB}\n")
        tree = self.busctl("tree", NAME)
        for part in ("/org/iommud1/tenant/acme", "/org/iommud1/machine/" + uuid.replace("-", "_"),
                     "/org/iommud1/device/0000_01_00_0"):
            self.assertIn(part, tree)
        self.assertIn(".Describe", self.busctl("introspect", NAME, ROOT))

    def test_introspection_is_complete(self):
        self.create_tenant()
        self.admit(harness.new_uuid())
        for path, interface in ((ROOT, MANAGER), (self.tenant_path(), TENANT),
                                (self.caller.get(self.tenant_path(), TENANT, "Machines")[0],
                                 harness.MACHINE),
                                (ROOT + "/device/0000_01_00_0", harness.DEVICE)):
            node = ET.fromstring(self.busctl("--xml-interface", "introspect", NAME, path))
            (found,) = [entry for entry in node if entry.get("name") == interface]
            self.assertTrue(found.findall("method"))
            for argument in found.iter("arg"):
                self.assertTrue(argument.get("name"))


if __name__ == "__main__":
    unittest.main()
