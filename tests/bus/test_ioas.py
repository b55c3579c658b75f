# SPDX-License-Identifier: LGPL-2.1-or-later
"""/dev/iommu for clients that can't issue ioctls: address spaces made over D-Bus."""

import os
import tempfile
import unittest

import harness
from harness import ANY, GIB, MIB, TENANT, address

PAGE = 4096


class Ioas(harness.TestCase):
    def setUp(self):
        super().setUp()
        self.path_ = self.create_tenant("acme", GIB)
        self.memfd = os.memfd_create("memory")
        self.addCleanup(os.close, self.memfd)
        os.ftruncate(self.memfd, 2 * GIB)
        self.ioas = self.tenant_call("AllocateIoas")

    def map(self, length, ioas=None, offset=0, iova=ANY, access="rw", fd=None):
        return self.tenant_call("MapFile", "uhttts", self.ioas if ioas is None else ioas, 0, offset,
                                length, iova, access, fds=[self.memfd if fd is None else fd])

    def unmap(self, iova, length, ioas=None):
        return self.tenant_call("Unmap", "utt", self.ioas if ioas is None else ioas, iova, length)

    def copy(self, target, source, iova, length, to=ANY, access="rw"):
        return self.tenant_call("Copy", "uuttts", target, source, iova, length, to, access)

    def reserved(self):
        return self.tenant_get("ReservedBytes")

    def test_allocate_and_destroy(self):
        self.assertEqual(self.objects(), [(self.ioas, "ioas", "", self.service.pid, 0)])
        second = self.tenant_call("AllocateIoas")
        self.assertNotEqual(second, self.ioas)
        self.tenant_call("Destroy", "u", self.ioas)
        self.assertEqual(self.objects(), [(second, "ioas", "", self.service.pid, 0)])
        self.assert_refused("InvalidArgument", self.tenant_call, "Destroy", "u", self.ioas)

    def test_ranges(self):
        ranges = self.tenant_call("IovaRanges", "u", self.ioas)
        self.assertTrue(ranges)
        for first, last in ranges:
            self.assertLess(first, last)
        allow = [(16 * MIB, 32 * MIB - 1)]
        self.tenant_call("AllowIovas", "ua(tt)", self.ioas, allow)
        iova = self.map(MIB)
        self.assertTrue(allow[0][0] <= iova and iova + MIB - 1 <= allow[0][1])
        self.tenant_call("AllowIovas", "ua(tt)", self.ioas, [])
        self.assert_refused("InvalidArgument", self.tenant_call, "AllowIovas", "ua(tt)", self.ioas,
                            [(2, 1)])

    def test_mapping_is_charged_and_given_back(self):
        first = self.map(256 * MIB)
        self.assertEqual(self.reserved(), 256 * MIB)
        self.assertEqual(self.map(512 * MIB, iova=64 * GIB), 64 * GIB)
        self.assertEqual(self.reserved(), 768 * MIB)
        self.assertEqual(self.unmap(first, 256 * MIB), 256 * MIB)
        self.assertEqual(self.reserved(), 512 * MIB)
        other = self.tenant_call("AllocateIoas")
        copied = self.copy(other, self.ioas, 64 * GIB, 256 * MIB)
        self.assertEqual(self.reserved(), 768 * MIB)
        self.assertEqual(self.unmap(copied, 256 * MIB, other), 256 * MIB)
        self.map(MIB)
        self.assertEqual(self.unmap(0, harness.INFINITY), 513 * MIB)
        self.assertEqual(self.reserved(), 0)

    def test_destroy_gives_back(self):
        self.map(256 * MIB)
        self.tenant_call("Destroy", "u", self.ioas)
        self.assertEqual(self.reserved(), 0)

    def test_limit(self):
        signals = harness.Signals(self.caller)
        self.map(GIB - PAGE)
        self.assert_refused("LimitExceeded", self.map, 2 * PAGE)
        self.assertEqual(signals.wait("LimitExceeded")[3], ("acme", "", 2 * PAGE, PAGE, {}))
        self.map(PAGE)
        self.assertEqual(self.reserved(), GIB)
        # Machines and mappings draw on the same limit.
        self.assert_refused("LimitExceeded", self.admit, harness.new_uuid(), size=1)

    def test_refusals_leave_no_trace(self):
        mapped = self.map(MIB, iova=GIB)
        machine, _ = self.run_machine(size=64 * MIB, devices=[address(1)])
        theirs = next(row[0] for row in self.objects() if row[1] == "ioas" and row[2] == machine)
        before = self.describe()
        folder = os.open("/", os.O_RDONLY)
        reader, writer = os.pipe()
        with tempfile.TemporaryFile() as file:
            file.truncate(GIB)
            sealed = os.memfd_create("sealed")
            for call in (
                lambda: self.map(0),
                lambda: self.map(PAGE + 1),
                lambda: self.map(PAGE, offset=1),
                lambda: self.map(PAGE, iova=1),
                lambda: self.map(PAGE, iova=mapped),
                lambda: self.map(PAGE, offset=2 * GIB),
                lambda: self.map(2**64 - 1),
                lambda: self.map(2**63, offset=2**63),
                lambda: self.map(PAGE, access=""),
                lambda: self.map(PAGE, access="x"),
                lambda: self.map(PAGE, access="rwx"),
                lambda: self.map(PAGE, ioas=0),
                lambda: self.map(PAGE, ioas=9999),
                lambda: self.map(PAGE, ioas=theirs),
                lambda: self.map(PAGE, fd=folder),
                lambda: self.map(PAGE, fd=reader),
                lambda: self.map(PAGE, fd=file.fileno()),
                lambda: self.map(PAGE, fd=sealed),  # empty
                lambda: self.unmap(0, PAGE),
                lambda: self.unmap(mapped, PAGE),  # would cut it in two
                lambda: self.unmap(mapped, 0),
                lambda: self.unmap(0, harness.INFINITY, theirs),
                lambda: self.copy(self.ioas, theirs, 0, MIB),
                lambda: self.copy(theirs, self.ioas, mapped, MIB),
                lambda: self.copy(self.ioas, self.ioas, 0, MIB),
                lambda: self.copy(self.ioas, self.ioas, mapped, MIB, mapped),
                lambda: self.copy(self.ioas, self.ioas, mapped, 0),
                lambda: self.tenant_call("Destroy", "u", theirs),
                lambda: self.tenant_call("IovaRanges", "u", theirs),
                lambda: self.tenant_call("AllowIovas", "ua(tt)", theirs, []),
            ):
                with self.assertRaises(harness.BusError) as caught:
                    call()
                self.assertIn(caught.exception.name, ("InvalidArgument", "LimitExceeded"))
                self.assertEqual(self.describe(), before, caught.exception)
            os.close(sealed)
        for fd in (folder, reader, writer):
            os.close(fd)
        self.assertEqual(self.unmap(0, harness.INFINITY), MIB)

    def test_read_only_file(self):
        read_only = os.open(f"/proc/self/fd/{self.memfd}", os.O_RDONLY)
        self.addCleanup(os.close, read_only)
        self.assert_refused("InvalidArgument", self.map, PAGE, fd=read_only)
        self.assertEqual(self.reserved(), 0)
        self.map(PAGE, access="r", fd=read_only)

    def test_survives_sweeps_and_restarts(self):
        iova = self.map(256 * MIB)
        self.assertEqual(self.tenant_call("Reap"), (0, 0))
        _, leader = self.run_machine(size=64 * MIB, devices=[address(1)])
        self.kill(leader)
        harness.wait_until(lambda: not self.machines(), 2, "the reap")
        self.assertEqual([row[:2] for row in self.objects()], [(self.ioas, "ioas")])
        self.restart_service()
        self.assertEqual(self.tenant_call("Reap"), (0, 0))
        self.assertEqual(self.reserved(), 256 * MIB)
        self.assertEqual(self.unmap(iova, 256 * MIB), 256 * MIB)
        self.assertEqual(self.reserved(), 0)

    def test_one_made_in_a_start_is_not_the_machines(self):
        machine, leader = harness.new_uuid(), self.new_leader()
        self.admit(machine, size=64 * MIB, devices=[address(1)])
        made = self.tenant_call("AllocateIoas")
        self.play(leader, devices=[address(1)], size=64 * MIB)
        self.start(machine, leader)
        self.kill(leader)
        harness.wait_until(lambda: not self.machines(), 2, "the reap")
        self.assertEqual([row[0] for row in self.objects()], [self.ioas, made])

    def test_calls_in_flight_keep_their_order(self):
        start = lambda member, signature, *values: self.caller.start_call(
            self.path_, TENANT, member, signature, *values)
        iova = self.map(MIB)
        calls = [start("Unmap", "utt", self.ioas, iova, MIB), start("Destroy", "u", self.ioas),
                 start("Destroy", "u", self.ioas), start("AllocateIoas", "")]
        self.assertEqual(calls[0].result(), MIB)
        calls[1].result()
        self.assert_refused("InvalidArgument", calls[2].result)
        self.assertEqual([row[0] for row in self.objects()], [calls[3].result()])


class WithoutMapFile(harness.TestCase):
    host = harness.HOST.replace("map-file;", "")

    def test_says_so(self):
        self.create_tenant()
        ioas = self.tenant_call("AllocateIoas")
        memfd = os.memfd_create("memory")
        self.addCleanup(os.close, memfd)
        os.ftruncate(memfd, MIB)
        message = self.assert_refused("NotSupported", self.tenant_call, "MapFile", "uhttts", ioas,
                                      0, 0, MIB, ANY, "rw", fds=[memfd])
        self.assertIn("6.13", message)
        self.assertEqual(self.tenant_get("ReservedBytes"), 0)


if __name__ == "__main__":
    unittest.main()
