#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The house of docs/architecture.md, by what includes what: a room knows those below it, no two
files know each other, and a room can be looked through."""

import os
import re
import sys
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))

# Each room, and the rooms whose headers it may include; what is not listed it may not. From the bottom up.
ROOMS = {
    "kernel/uapi": [],
    "kernel/base": ["kernel/uapi"],
    "kernel/bpf": ["kernel/uapi"],
    "kernel/ledger": ["kernel/base", "kernel/uapi", "kernel/bpf"],
    "kernel/ledger/audit": ["kernel/base", "kernel/bpf", "kernel/ledger"],
    "kernel/host": ["kernel/base", "kernel/uapi", "kernel/bpf", "kernel/ledger", "kernel/ledger/audit"],
    "kernel/simulated": ["kernel/base", "kernel/uapi", "kernel/ledger", "kernel/host"],
    "policy": ["kernel/base", "kernel/host"],
    "dbus/base": ["kernel/base", "policy"],
    "dbus/state": ["kernel/base", "policy", "dbus/base"],
    "dbus/accounting": ["kernel/base", "kernel/uapi", "kernel/ledger", "kernel/host", "policy", "dbus/base", "dbus/state"],
    "dbus/core": ["kernel/base", "kernel/uapi", "kernel/ledger", "kernel/host", "kernel/simulated", "policy", "dbus/base",
                  "dbus/state", "dbus/accounting"],
    "dbus/reaper": ["kernel/base", "kernel/ledger", "kernel/host", "policy", "dbus/base", "dbus/state",
                    "dbus/accounting", "dbus/core"],
    "dbus/bus": ["kernel/base", "kernel/ledger", "kernel/host", "kernel/simulated", "policy", "dbus/base",
                 "dbus/state", "dbus/accounting", "dbus/core", "dbus/reaper"],
    # The service's main(): it puts the rooms together.
    "dbus": ["kernel/base", "kernel/ledger", "kernel/host", "policy", "dbus/base", "dbus/state",
             "dbus/accounting", "dbus/core", "dbus/reaper", "dbus/bus"],
    "dbus/client": ["kernel/base", "dbus/base"],
    "dbus/iommuctl/base": ["kernel/base", "policy", "dbus/base", "dbus/client"],
    "dbus/iommuctl/doctor": ["kernel/base", "policy", "dbus/base", "dbus/client", "dbus/iommuctl/base"],
    "dbus/iommuctl": ["kernel/base", "policy", "dbus/base", "dbus/client", "dbus/iommuctl/base",
                      "dbus/iommuctl/doctor"],
    "plugin/libvirt/domain": ["kernel/base"],
    "plugin/libvirt/service": ["kernel/base", "dbus/base", "dbus/client", "plugin/libvirt/domain"],
    "plugin/libvirt/agent": ["kernel/base", "dbus/base", "dbus/client", "plugin/libvirt/domain",
                             "plugin/libvirt/service"],
    "plugin/libvirt": ["kernel/base", "dbus/base", "dbus/client", "dbus/iommuctl", "dbus/iommuctl/base",
                       "plugin/libvirt/domain",
                       "plugin/libvirt/service"],
}
FILES_MAX = 15 # .c files of a room
LINES_MAX = 600


def sources(top=("kernel", "policy", "dbus", "plugin"), endings=(".c", ".h")):
    for folder in top:
        for path, folders, names in os.walk(os.path.join(TOP, folder)):
            for name in names:
                if name.endswith(endings) and "kernel/modules" not in path:
                    yield os.path.relpath(os.path.join(path, name), TOP)


def room_of(path):
    return os.path.dirname(path)


def includes(path):
    """What the file includes of the tree; BPF programs name files of their own folder."""
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        for name in re.findall(r'^#\s*include "([^"]+)"', file.read(), re.M):
            beside = os.path.join(os.path.dirname(path), name)
            for found in (name, beside):
                if os.path.exists(os.path.join(TOP, found)):
                    yield found
                    break


def definitions(path):
    """Functions that the file defines for others."""
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        text = file.read()
    found = re.findall(r"^(?!static|typedef|extern|G_DEFINE)[A-Za-z]\w*[\w *]*?\b(\w+)\((?:[^;{}]*?)\)\n\{", text, re.M)
    return set(found)


def calls(path):
    """All functions that the file calls, or names to have them called, less its own."""
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        text = re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', "", file.read(), flags=re.S)
    own = set(re.findall(r"^static [\w *]*?\b(\w+)\(", text, re.M))
    called = re.findall(r"(?<![.>\w])([a-z]\w*)\(", text) + re.findall(r"[=,(?:{&] ?([a-z]\w*_\w+)(?=[,;)\s}])", text)
    return set(called) - own


def module_of(path):
    """A .c file and its header are one thing."""
    return re.sub(r"(\.bpf)?\.[ch]$", "", path)


def circles(graph):
    """Groups of files each of which reaches the others (Tarjan's algorithm)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


class House(unittest.TestCase):
    def test_every_file_is_in_a_room(self):
        self.assertEqual(sorted({room_of(path) for path in sources()} - set(ROOMS)), [])

    def test_no_arrow_points_up(self):
        arrows = []
        for path in sorted(sources()):
            room = room_of(path)
            for other in includes(path):
                if room_of(other) != room and room_of(other) not in ROOMS[room]:
                    arrows.append(f"{path} includes {other}")
        self.assertEqual(arrows, [])

    def test_rooms_are_in_order(self):
        """The table itself makes no circle: each room names rooms above it in the table only."""
        seen = []
        for room, below in ROOMS.items():
            self.assertEqual(sorted(set(below) - set(seen)), [], room)
            seen.append(room)

    def test_no_circle(self):
        """By includes, and by who calls whom: a header that declares what others define hides a circle."""
        # The programs in kernel/bpf are one, whose parts are included as text.
        paths = [path for path in sources() if not path.startswith("kernel/bpf/")]
        owners = {name: module_of(path) for path in paths if path.endswith(".c") for name in definitions(path)}
        owners.pop("main", None)
        graph = {}
        for path in paths:
            targets = {module_of(other) for other in includes(path)}
            if path.endswith(".c"):
                targets |= {owners[name] for name in calls(path) & owners.keys()}
            graph.setdefault(module_of(path), set()).update(targets - {module_of(path)})
        found = circles(graph)
        self.assertEqual(found, [])

    def test_rooms_can_be_looked_through(self):
        rooms = {}
        for path in sources():
            if path.endswith(".c"):
                rooms[room_of(path)] = rooms.get(room_of(path), 0) + 1
        self.assertEqual({room: n for room, n in rooms.items() if n > FILES_MAX}, {})

    def test_files_can_be_read(self):
        long = {}
        for path in [*sources(), *sources(["tests"], (".c", ".h", ".py", ".sh"))]:
            with open(os.path.join(TOP, path), encoding="utf-8") as file:
                lines = sum(1 for _ in file)
            if lines > LINES_MAX:
                long[path] = lines
        self.assertEqual(long, {})


if __name__ == "__main__":
    unittest.main()
