# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may: everybody may look, only root and the agent may change anything or get a descriptor."""

import json
import os
import subprocess
import sys
import unittest

import harness
from harness import DENIED, DEVICE, GIB, MACHINE, MANAGER, ROOT, SIMULATION, TENANT, address

NOBODY = 65534

# What an unprivileged process does: calls on stdin, one JSON array each, answers on stdout.
CLIENT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import harness
caller = harness.Caller(sys.argv[2])
for line in sys.stdin:
    path, interface, member, signature, values = json.loads(line)
    # Not call_fds(): the interface may be missing.
    message = harness.Gio.DBusMessage.new_method_call(harness.NAME, path, interface, member)
    if signature:
        message.set_body(harness.GLib.Variant(f"({signature})", tuple(values)))
    reply, _ = caller.connection.send_message_with_reply_sync(
        message, harness.Gio.DBusSendMessageFlags.NONE, 20000, None)
    answer = reply.get_error_name() or "done"
    print(answer, flush=True)
"""


@unittest.skipUnless(os.getuid() == 0, "needs root to become somebody else")
class Unprivileged(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.tenant = self.create_tenant()
        self.uuid, _ = self.run_machine(devices=[address(1)])
        self.machine = self.caller.manager("GetMachine", "s", self.uuid)
        self.device = self.caller.manager("GetDevice", "s", address(2))
        # The tests may lie where nobody but root can read: the client gets a copy.
        with open(harness.__file__, encoding="utf-8") as file:
            self.write("harness.py", file.read())
        self.client = subprocess.Popen(
            ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
             sys.executable, "-c", CLIENT, self.folder, self.bus.address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.end_client)

    def end_client(self):
        self.client.stdin.close()
        self.client.wait()
        self.client.stdout.close()

    def ask(self, path, interface, member, signature="", *values):
        self.client.stdin.write(json.dumps([path, interface, member, signature, values]) + "\n")
        self.client.stdin.flush()
        return self.client.stdout.readline().strip()

    def test_may_look(self):
        for call in (
            (ROOT, MANAGER, "ListTenants"),
            (ROOT, MANAGER, "ListMachines"),
            (ROOT, MANAGER, "ListDevices"),
            (ROOT, MANAGER, "Describe"),
            (ROOT, MANAGER, "GetTenant", "s", "acme"),
            (ROOT, MANAGER, "GetMachine", "s", self.uuid),
            (ROOT, MANAGER, "GetDevice", "s", address(1)),
            (self.tenant, TENANT, "ListObjects"),
            (ROOT, harness.OBJECTS, "GetManagedObjects"),
            (self.tenant, harness.PROPERTIES, "GetAll", "s", TENANT),
            (self.machine, harness.PROPERTIES, "Get", "ss", MACHINE, "State"),
            (self.device, "org.freedesktop.DBus.Introspectable", "Introspect"),
            (ROOT, "org.freedesktop.DBus.Peer", "Ping"),
        ):
            self.assertEqual(self.ask(*call), "done", call)

    def test_may_not_change_or_open(self):
        before = self.describe()
        fds = self.service_manager.names()
        for call in (
            (ROOT, MANAGER, "CreateTenant", "sa{sv}", "evil", {}),
            (ROOT, MANAGER, "DeleteTenant", "s", "acme"),
            (ROOT, MANAGER, "AdmitMachine", "ssstasa{sv}", harness.new_uuid(), "x", "acme", 1, [],
             {}),
            (ROOT, MANAGER, "ReleaseMachine", "ss", self.uuid, ""),
            (ROOT, MANAGER, "Reload"),
            (ROOT, SIMULATION, "Play", "usast", os.getpid(), "acme", [], 1),
            (self.tenant, TENANT, "SetLimit", "t", 1),
            (self.tenant, TENANT, "Open"),
            (self.tenant, TENANT, "Reap"),
            (self.tenant, TENANT, "AllocateIoas"),
            (self.tenant, TENANT, "Unmap", "utt", 1, 0, 1),
            (self.tenant, TENANT, "Copy", "uuttts", 1, 1, 0, 1, 0, "r"),
            (self.tenant, TENANT, "AllowIovas", "ua(tt)", 1, []),
            (self.tenant, TENANT, "Destroy", "u", 1),
            (self.machine, MACHINE, "AddDevice", "s", address(2)),
            (self.machine, MACHINE, "RemoveDevice", "s", address(1)),
            (self.machine, MACHINE, "SetReservation", "ta{sv}", GIB, {}),
            (self.machine, MACHINE, "Release"),
            (self.device, DEVICE, "Bind", "s", "nvme"),
            (self.device, DEVICE, "Restore"),
            # Nor what there is not, or not by that name, or with no interface given.
            (ROOT, MANAGER, "Anything"),
            (ROOT, "org.example.Other", "ListTenants"),
            (ROOT, None, "ListTenants"),
            (self.tenant, None, "Open"),
        ):
            self.assertEqual(self.ask(*call), DENIED, call)
        self.assertEqual(self.describe(), before)
        self.assertEqual(self.service_manager.names(), fds)


if __name__ == "__main__":
    unittest.main()
