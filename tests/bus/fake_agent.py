# SPDX-License-Identifier: LGPL-2.1-or-later
"""An agent for tests of those who ask it."""

import os
import socket
import threading

import harness
from harness import Gio, GLib

AGENT = """
<node>
  <interface name="org.iommud1.Libvirt">
    <method name="Associate"><arg type="s" direction="in"/></method>
    <method name="BeginStart">
      <arg type="s" direction="in"/>
      <arg type="s" direction="out"/><arg type="t" direction="out"/><arg type="t" direction="out"/>
    </method>
    <method name="Enable"><arg type="s" direction="in"/><arg type="s" direction="in"/></method>
    <property name="Connected" type="b" access="read"/>
    <property name="LibvirtVersion" type="s" access="read"/>
    <property name="State" type="s" access="read"/>
    <property name="Uri" type="s" access="read"/>
    <property name="Domains" type="a(sss)" access="read"/>
  </interface>
</node>
"""


class FakeAgent:
    """org.iommud1.Libvirt with what the test says of libvirt. The process that runs the test is at the
    other end of its connection to libvirt."""

    def __init__(self, bus_address):
        self.calls = []
        self.starts = {}  # UUID -> (tenant, id of the IOMMUFD) that libvirt would hand to a start
        self.ends = socket.socketpair()
        self.socket = os.fstat(self.ends[0].fileno()).st_ino
        self.error = None
        self.hang = False  # answers nothing
        self.properties = {
            "Connected": GLib.Variant("b", True),
            "LibvirtVersion": GLib.Variant("s", "12.8.0"),
            "State": GLib.Variant("s", "connected"),
            "Uri": GLib.Variant("s", "qemu:///system"),
            "Domains": GLib.Variant("a(sss)", [("uuid-1", "web 1", "acme")]),
        }
        self.address = bus_address
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.ready.wait()

    def _run(self):
        self.context = GLib.MainContext()
        self.context.push_thread_default()
        self.loop = GLib.MainLoop(self.context)
        caller = harness.Caller(self.address)
        interface = Gio.DBusNodeInfo.new_for_xml(AGENT).interfaces[0]
        caller.connection.register_object("/org/iommud1/libvirt", interface, self._on_call,
                                          self._on_get, None)
        caller.connection.call_sync("org.freedesktop.DBus", "/org/freedesktop/DBus",
                                    "org.freedesktop.DBus", "RequestName",
                                    GLib.Variant("(su)", ("org.iommud1.Libvirt", 0)), None,
                                    Gio.DBusCallFlags.NONE, -1, None)
        self.ready.set()
        self.loop.run()
        caller.close()
        self.context.pop_thread_default()

    def _on_call(self, _connection, _sender, _path, _interface, member, arguments, invocation):
        self.calls.append((member, *arguments.unpack()))
        if self.hang:
            self.hanging = invocation
        elif self.error:
            invocation.return_dbus_error(*self.error)
        elif member == "BeginStart":
            self._begin_start(invocation, *arguments.unpack())
        else:
            invocation.return_value(None)

    def _begin_start(self, invocation, uuid):
        if uuid in self.starts:
            invocation.return_value(GLib.Variant("(stt)", (*self.starts[uuid], self.socket)))
        else:
            invocation.return_dbus_error("org.iommud1.Error.NotAssociated",
                                         f"libvirt has no IOMMUFD for {uuid}.")

    def associate(self, uuid, tenant):
        """What the real one does for a domain that is defined; returns the IOMMUFD's id."""
        caller = harness.Caller(self.address)
        (_handle, number), fds = caller.call_fds(f"/org/iommud1/tenant/{tenant}", harness.TENANT,
                                                 "OpenWithId")
        caller.close()
        os.close(fds[0])
        self.starts[uuid] = (tenant, number)
        return number

    def _on_get(self, _connection, _sender, _path, _interface, name):
        return self.properties[name]

    def close(self):
        for end in self.ends:
            end.close()
        # In the loop: one that has not begun yet can't be told to end.
        end = GLib.idle_source_new()
        end.set_callback(lambda _data: self.loop.quit())
        end.attach(self.context)
        self.thread.join()
