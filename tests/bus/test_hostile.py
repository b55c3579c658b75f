# SPDX-License-Identifier: LGPL-2.1-or-later
"""Arguments that nobody should send: each is refused by a sentence, and nothing has changed."""

import unittest

import harness
from harness import DEVICE, GIB, MACHINE, MANAGER, ROOT, TENANT, GLib, address, new_uuid

INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"
UNKNOWN_OBJECT = "org.freedesktop.DBus.Error.UnknownObject"
UNKNOWN_METHOD = "org.freedesktop.DBus.Error.UnknownMethod"
HUGE = "x" * (4 << 20)


class Hostile(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.tenant = self.create_tenant("acme", GIB)
        self.machine = self.admit(new_uuid(), size=1, devices=[address(1)])

    def refused(self, *calls):
        before = self.describe()
        for names, call in calls:
            with self.assertRaises(harness.BusError, msg=str(call)[:200]) as caught:
                self.caller.call(*call)
            self.assertIn(caught.exception.name, names.split(), str(call)[:200])
            self.assertLess(len(caught.exception.message), 1000)
            self.assertEqual(self.describe(), before)

    def test_strings(self):
        strings = ("", "/", "..", "%s%n", "\x01\x02", "\u202e", "'; DROP", "a" * 300, HUGE)
        for text in strings:
            self.refused(
                ("InvalidArgument", (ROOT, MANAGER, "CreateTenant", "sa{sv}", text, {})),
                ("NoSuchTenant", (ROOT, MANAGER, "GetTenant", "s", text)),
                ("NoSuchTenant", (ROOT, MANAGER, "DeleteTenant", "s", text)),
                ("InvalidArgument", (ROOT, MANAGER, "GetMachine", "s", text)),
                ("InvalidArgument", (ROOT, MANAGER, "ReleaseMachine", "ss", text, text)),
                ("InvalidArgument", (ROOT, MANAGER, "GetDevice", "s", text)),
                ("InvalidArgument", (ROOT, MANAGER, "StartMachine", "sv", text,
                                     GLib.Variant("u", 1))),
                ("InvalidArgument", (ROOT, MANAGER, "AdmitMachine", "ssstasa{sv}", text, "vm",
                                     "acme", 1, [], {})),
                ("InvalidArgument", (ROOT, MANAGER, "AdmitMachine", "ssstasa{sv}", new_uuid(),
                                     "vm", "acme", 1, [text], {})),
                ("InvalidArgument", (self.machine, MACHINE, "AddDevice", "s", text)),
                ("InvalidArgument", (self.caller.manager("GetDevice", "s", address(2)), DEVICE,
                                     "Bind", "s", text)),
            )
        for text in strings[1:]:
            self.refused(("NoSuchTenant", (ROOT, MANAGER, "AdmitMachine", "ssstasa{sv}",
                                           new_uuid(), "vm", text, 1, [], {})))

    def test_names_of_machines(self):
        for text in ("", "a\nb", "\x7f", "a" * 256, HUGE):
            self.refused(("InvalidArgument", (ROOT, MANAGER, "AdmitMachine", "ssstasa{sv}",
                                              new_uuid(), text, "acme", 1, [], {})))
        # What is no control character is a name.
        self.admit(new_uuid(), size=1, name="‮ <b>&\"'\\ %s 🙂")
        self.describe()

    def test_many_devices(self):
        self.refused(("InvalidArgument NoSuchDevice",
                      (ROOT, MANAGER, "AdmitMachine", "ssstasa{sv}", new_uuid(), "vm", "acme", 1,
                       [f"{n >> 8:04x}:{n & 255:02x}:00.0" for n in range(20000)], {})))

    def test_options(self):
        variant = GLib.Variant
        for options in (
            {"": variant("t", 1)},
            {"limitbytes": variant("t", 1)},
            {HUGE: variant("t", 1)},
            {"LimitBytes": variant("u", 1)},
            {"LimitBytes": variant("v", variant("t", 1))},
            {"LimitBytes": variant("(t)", (1,))},
            {"Isolation": variant("s", "")},
            {"Isolation": variant("s", HUGE)},
            {"Isolation": variant("as", [])},
            {"Devices": variant("s", "*")},
            {"Devices": variant("as", [""])},
            {"Devices": variant("as", [HUGE])},
            {"Devices": variant("a{sv}", {})},
            {f"Option{n}": variant("t", n) for n in range(5000)},
        ):
            self.refused(("InvalidArgument",
                          (ROOT, MANAGER, "CreateTenant", "sa{sv}", "evil", options)))

    def test_an_option_twice(self):
        # A dictionary of Python can't say this.
        builder = GLib.VariantBuilder(GLib.VariantType("a{sv}"))
        for value in (1, 2):
            builder.add_value(GLib.Variant.new_dict_entry(
                GLib.Variant("s", "LimitBytes"), GLib.Variant("v", GLib.Variant("t", value))))
        arguments = GLib.Variant.new_tuple(GLib.Variant("s", "evil"), builder.end())
        with self.assertRaises(GLib.Error) as caught:
            self.caller.connection.call_sync(harness.NAME, ROOT, MANAGER, "CreateTenant", arguments,
                                             None, harness.Gio.DBusCallFlags.NONE, -1, None)
        self.assertEqual(harness.BusError(caught.exception).name, "InvalidArgument")

    def test_wrong_signatures(self):
        self.refused(
            (INVALID_ARGS, (ROOT, MANAGER, "CreateTenant", "s", "evil")),
            (INVALID_ARGS, (ROOT, MANAGER, "CreateTenant", "ss", "evil", "")),
            (INVALID_ARGS, (ROOT, MANAGER, "ListTenants", "s", "x")),
            (INVALID_ARGS, (self.tenant, TENANT, "SetLimit", "u", 1)),
            (INVALID_ARGS, (self.tenant, TENANT, "MapFile", "uuttts", 1, 1, 0, 1, 0, "r")),
            (INVALID_ARGS, (self.machine, MACHINE, "SetReservation", "xa{sv}", -1, {})),
            (UNKNOWN_METHOD, (ROOT, MANAGER, "Nothing")),
        )

    def test_paths(self):
        for path in ("/org/iommud1/tenant/nobody", "/org/iommud1/tenant", "/org/iommud1/tenant/_",
                     "/org/iommud1/tenant/acme/deeper", "/org/iommud1/machine/_",
                     "/org/iommud1/machine/00000000_0000_0000_0000_000000000000",
                     "/org/iommud1/device/0000", "/org/iommud1/device/_",
                     "/org/iommud1/device/0000_77_00_0", "/org/iommud1/device/1_0_0", "/", "/org"):
            for interface, member in ((TENANT, "Open"), (MACHINE, "Release"), (DEVICE, "Restore")):
                self.refused((f"{UNKNOWN_OBJECT} {UNKNOWN_METHOD}", (path, interface, member)))

    def test_numbers(self):
        for bytes_ in (GIB + 1, 2**63, 2**64 - 2, 2**64 - 1):
            self.refused(("LimitExceeded InvalidArgument",
                          (self.machine, MACHINE, "SetReservation", "ta{sv}", bytes_, {})))

    def test_missing_file_descriptor(self):
        ioas = self.tenant_call("AllocateIoas")
        before = self.describe()
        # The message says that there is a descriptor, and there is none.
        with self.assertRaises(harness.BusError):
            self.tenant_call("MapFile", "uhttts", ioas, 0, 0, 4096, harness.ANY, "rw")
        with self.assertRaises(harness.BusError):
            self.caller.manager("StartMachine", "sv", list(self.machines())[0],
                                GLib.Variant("h", 7))
        # Some libraries notice that and end the connection; the service does not end.
        self.caller = self.new_caller()
        self.assertEqual(self.describe(), before)


if __name__ == "__main__":
    unittest.main()
