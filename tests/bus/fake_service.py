# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bus with an org.iommud1 that says what the test wants: the figures of a ledger, which a
simulated host has not, and what is hard to bring about."""

import threading

import harness
from harness import GIB, MANAGER, OBJECTS, ROOT, TENANT, MACHINE, Gio, GLib

# What iommuctl calls. test_iommuctl.py compares all of this with the real service.
METHODS = {
    MANAGER: {"GetTenant": ("s", "o")},
    TENANT: {"ListObjects": ("", "a(ussut)")},
    OBJECTS: {"GetManagedObjects": ("", "a{oa{sa{sv}}}")},
}


def numbers(**values):
    return {name: GLib.Variant("t", value) for name, value in values.items()}


def _interface(name, properties):
    methods = "".join(
        f'<method name="{member}">'
        + (f'<arg type="{types[0]}" direction="in"/>' if types[0] else "")
        + f'<arg type="{types[1]}" direction="out"/></method>'
        for member, types in METHODS.get(name, {}).items())
    attributes = "".join(
        f'<property name="{member}" type="{value.get_type_string()}" access="read"/>'
        for member, value in properties.items())
    xml = f'<node><interface name="{name}">{methods}{attributes}</interface></node>'
    return Gio.DBusNodeInfo.new_for_xml(xml).interfaces[0]


class FakeService:
    """path -> interface -> properties in self.objects, and what ListObjects says, may be changed at
    any time."""

    def __init__(self, folder):
        self.bus = harness.PrivateBus(folder)
        self.manager = {
            "Version": GLib.Variant("s", "0"),
            "Features": GLib.Variant("as", ["iommufd", "vfio-cdev", "map-file", "iommu"]),
            "GuardState": GLib.Variant("s", "enforcing"),
            "GuardReason": GLib.Variant("s", ""),
            "LedgerState": GLib.Variant("s", "active"),
            "LedgerReason": GLib.Variant("s", ""), "RequireGuard": GLib.Variant("b", False),
            "DefaultTenant": GLib.Variant("s", ""),
            **numbers(MemoryBytes=128 * GIB, KernelPinnedBytes=0, HostBudgetBytes=64 * GIB,
                      ReservedBytes=0, PinnedBytes=0, OrphanedBytes=0, DriftBytes=0,
                      UntrackedEvents=0, UnknownIoctls=0),
        }
        self.objects = {}
        self.tenant_objects = []
        self.calls = 0  # of GetManagedObjects
        self.afterwards = []  # what happens after each of them, one by one
        self.thread = None

    def add_tenant(self, name, **figures):
        path = f"{ROOT}/tenant/{name}"
        self.objects[path] = {TENANT: {
            "Id": GLib.Variant("s", name), "Count": GLib.Variant("s", "charged"),
            "Isolation": GLib.Variant("s", "tenant"),
            "Shared": GLib.Variant("b", True),
            "AccountingMode": GLib.Variant("s", "process"), "Source": GLib.Variant("s", ""),
            "Machines": GLib.Variant("ao", []), "Devices": GLib.Variant("as", []),
            "DevicePatterns": GLib.Variant("as", ["*"]),
            **numbers(LimitBytes=harness.INFINITY, ReservedBytes=0, PinnedBytes=0,
                      OrphanedBytes=0, PeakBytes=0, UniqueBytes=0, MappedBytes=0, Maps=0,
                      Unmaps=0, Refusals=0), **numbers(**figures)}}
        return path

    def add_machine(self, name, tenant, state="running", leader=0, **figures):
        uuid = harness.new_uuid()
        path = f"{ROOT}/machine/" + uuid.replace("-", "_")
        self.objects[path] = {MACHINE: {
            "Uuid": GLib.Variant("s", uuid), "Name": GLib.Variant("s", name),
            "Tenant": GLib.Variant("o", f"{ROOT}/tenant/{tenant}"),
            "State": GLib.Variant("s", state), "Leader": GLib.Variant("u", leader),
            "Iommufd": GLib.Variant("b", True), "Devices": GLib.Variant("as", []),
            **numbers(ReservedBytes=0, PinnedBytes=0, OrphanedBytes=0, PeakBytes=0,
                      UniqueBytes=0, MappedBytes=0, Maps=0, Unmaps=0, Refusals=0),
            **numbers(**figures)}}
        return path

    def change(self, path, **figures):
        for properties in self.objects[path].values():
            properties.update(numbers(**figures))

    # ---- the service ----

    def start(self):
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,))
        self.thread.start()
        ready.wait()

    def _register(self, connection, path, interface, properties):
        connection.register_object(
            path, _interface(interface, properties), self._on_call,
            lambda _connection, _sender, path, interface, name: self._get(path, interface)[name],
            None)

    def _run(self, ready):
        context = GLib.MainContext()
        context.push_thread_default()
        self.loop = GLib.MainLoop(context)
        caller = harness.Caller(self.bus.address)
        self._register(caller.connection, ROOT, MANAGER, self.manager)
        self._register(caller.connection, ROOT, OBJECTS, {})
        for path, interfaces in self.objects.items():
            for interface, properties in interfaces.items():
                self._register(caller.connection, path, interface, properties)
        caller.connection.call_sync(
            "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
            "RequestName", GLib.Variant("(su)", (harness.NAME, 0)), None,
            Gio.DBusCallFlags.NONE, -1, None)
        ready.set()
        self.loop.run()
        caller.close()
        context.pop_thread_default()

    def _get(self, path, interface):
        return self.manager if path == ROOT else self.objects[path][interface]

    def _on_call(self, _connection, _sender, _path, interface, member, arguments, invocation):
        if member == "GetManagedObjects":
            self.calls += 1
        replies = {
            "GetManagedObjects": lambda: self.objects,
            "GetTenant": lambda: f"{ROOT}/tenant/{arguments.unpack()[0]}",
            "ListObjects": lambda: self.tenant_objects,
        }
        types = METHODS[interface][member][1]
        reply = GLib.Variant(f"({types})", (replies[member](),))
        if member == "GetManagedObjects" and self.afterwards:
            self.afterwards.pop(0)()
        invocation.return_value(reply)

    def stop(self):
        """It may be started again."""
        self.loop.quit()
        self.thread.join()
        self.thread = None

    def close(self):
        if self.thread:
            self.stop()
        self.bus.close()
