# SPDX-License-Identifier: LGPL-2.1-or-later
"""iommuctl top: its figures, its order, its keys, and the terminal that it leaves behind."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import unittest

import harness
from harness import GIB, MIB
from iommuctl import FakeCase, IOMMUCTL, TestCase


class Case(FakeCase):
    def setUp(self):
        super().setUp()
        self.acme = self.service.add_tenant("acme", LimitBytes=8 * GIB, PinnedBytes=4 * GIB,
                                            PeakBytes=5 * GIB, Maps=100, Unmaps=90, Refusals=3)
        self.globex = self.service.add_tenant("globex", PinnedBytes=6 * GIB)
        self.one = self.service.add_machine("web-1", "acme", ReservedBytes=4 * GIB,
                                            PinnedBytes=GIB, PeakBytes=2 * GIB, Maps=60,
                                            Unmaps=60, Refusals=3)
        self.two = self.service.add_machine("web-2", "acme", ReservedBytes=2 * GIB,
                                            PinnedBytes=3 * GIB, Maps=40, Unmaps=30)
        self.three = self.service.add_machine("a-long name of a machine that goes on", "globex",
                                              state="reaping", PinnedBytes=6 * GIB)


class Top(Case):
    def start(self):
        self.service.start()

    def rows(self, *arguments):
        """The names in the order of the rows."""
        lines = self.ctl("top", "--no-legend", *arguments).splitlines()
        return [re.split("  +", line)[0] for line in lines]

    # ---- figures ----

    def test_machines(self):
        self.start()
        self.assertEqual(self.ctl("top"),
                         "TENANT/MACHINE                                PINNED  RESERVED    %  "
                         "MAPS/S  UNMAPS/S  REFUSED  PEAK\n"
                         "globex/a-long name of a machine that goes on      6G        0B    -  "
                         "     -         -        0    0B\n"
                         "acme/web-2                                        3G        2G  150  "
                         "     -         -        0    0B\n"
                         "acme/web-1                                        1G        4G   25  "
                         "     -         -        3    2G\n")
        self.assertEqual(self.ctl("top"), self.ctl("top", "--machines", "--once"))

    def test_tenants(self):
        self.start()
        self.assertEqual(self.ctl("top", "--tenants"),
                         "TENANT  PINNED     LIMIT   %  MAPS/S  UNMAPS/S  REFUSED  PEAK\n"
                         "globex      6G  infinity   -       -         -        0    0B\n"
                         "acme        4G        8G  50       -         -        3    5G\n")

    def test_json(self):
        self.start()
        machine = self.ctl_json("top", "--sort=name")[0]
        self.assert_says(machine, tenant="acme", name="web-1", state="running", pinned_bytes=GIB,
                         reserved_bytes=4 * GIB, percent=25, maps_per_second=None, refusals=3,
                         peak_bytes=2 * GIB)
        self.assert_says(self.ctl_json("top", "--tenants")[0], id="globex", pinned_bytes=6 * GIB,
                         limit_bytes=None, percent=None)

    def test_order(self):
        self.start()
        one, two = "acme/web-1", "acme/web-2"
        three = "globex/a-long name of a machine that goes on"
        for key, order in (("name", [one, two, three]), ("pinned", [three, two, one]),
                           ("limit", [one, two, three]), ("share", [two, one, three]),
                           ("refused", [one, two, three]), ("peak", [one, two, three]),
                           ("maps", [one, two, three])):
            self.assertEqual(self.rows("--sort", key), order, key)
        self.assertEqual(self.rows("--tenants", "--sort=limit"), ["globex", "acme"])

    def test_rates(self):
        """They are those of the time between two looks; a counter that went back tells nothing."""
        self.service.afterwards = [
            lambda: self.service.change(self.one, Maps=60 + 5000, Unmaps=60 + 400),
            lambda: self.service.change(self.one, Maps=10)]
        self.start()
        text = self.ctl("top", "-n", "3", "--delay=0.5", "--json=short")
        samples = [json.loads(line) for line in text.splitlines()]
        rates = [[(row["maps_per_second"], row["unmaps_per_second"]) for row in sample
                  if row["name"] == "web-1"][0] for sample in samples]
        self.assertEqual(rates[0], (None, None))
        maps, unmaps = rates[1]
        # Half a second or, on a busy machine, more.
        self.assertTrue(0 < maps <= 11000, rates)
        self.assertAlmostEqual(maps / unmaps, 12.5, delta=1)
        self.assertEqual(rates[2], (None, 0))

    # ---- batch ----

    def test_batch(self):
        self.start()
        text = self.ctl("top", "-b", "-n2", "-d", "0.1", "--tenants")
        blocks = text.split("\n\n")
        self.assertEqual([block.splitlines()[0].split()[0] for block in blocks],
                         ["TENANT", "TENANT"])
        self.assertRegex(blocks[1], r"acme +4G +8G +50 +0 +0 +3 +5G")
        self.assertEqual(self.service.calls, 2)

    def test_batch_goes_on(self):
        self.start()
        process = subprocess.Popen([IOMMUCTL, "top", "-b", "-d0.1"], stdout=subprocess.PIPE,
                                   text=True, env=self.environment())
        for _ in range(20):
            self.assertNotEqual(process.stdout.readline(), "")
        process.terminate()
        process.stdout.close()
        self.assertEqual(process.wait(), -signal.SIGTERM)

    def test_usage(self):
        for arguments in (["--sort=size"], ["--delay=0"], ["--delay=x"], ["-d", "1e9"],
                          ["--iterations=-1"], ["-n", "x"], ["--tenants", "--machines"], ["acme"],
                          ["--limit=1G"]):
            self.ctl_fails("top", *arguments, status=2)
        self.ctl_fails("status", "-b", status=2)

    def test_service_stopped(self):
        self.assertIn("systemctl start iommud", self.ctl_fails("top"))


class Terminal:
    """iommuctl top on a terminal of its own."""

    def __init__(self, environment, *arguments, lines=20, columns=80):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # Not before the terminal has its size.
            os.read(0, 1)
            os.execve(IOMMUCTL, [IOMMUCTL, "top", *arguments], environment)
        self.text = ""
        self.resize(lines, columns)
        self.settings = termios.tcgetattr(self.fd)
        os.write(self.fd, b"\n")

    def resize(self, lines, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def _read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                self.text += os.read(self.fd, 65536).decode()
            except OSError:
                pass  # It is gone.

    def page(self):
        """The last page that was shown whole, without what is for the terminal alone."""
        self._read(0.05)
        pages = self.text.split("\033[H")
        whole = [page for page in pages if page.endswith("\033[J") or "\033[J" in page]
        return re.sub(r"\033\[[?0-9;]*[a-zA-Z]", "", whole[-1]).replace("\r", "") if whole else ""

    def wait_for(self, pattern):
        try:
            harness.wait_until(lambda: re.search(pattern, self.page(), re.MULTILINE))
        except AssertionError:
            raise AssertionError(f"{pattern!r} is not on the page:\n{self.page()}") from None

    def is_as_before(self):
        return termios.tcgetattr(self.fd) == self.settings

    def state(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    def wait(self):
        """Its exit status, negative for a signal."""
        result = harness.wait_until(lambda: self._read(0.05) or self._try_wait(),
                                    what="the end of iommuctl top")
        self.pid = 0
        return os.waitstatus_to_exitcode(result[0])

    def _try_wait(self):
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return (status,) if pid else None

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


class Interactive(Case):
    def setUp(self):
        super().setUp()
        self.service.start()

    def open(self, *arguments, **more):
        terminal = Terminal(self.environment(TERM="xterm"), *arguments, **more)
        self.addCleanup(terminal.close)
        return terminal

    def assert_restored(self, terminal):
        """Settings, cursor and wrapping are as they were."""
        self.assertTrue(terminal.is_as_before())
        self.assertEqual(terminal.text.count("\033[?25l"), terminal.text.count("\033[?25h"))
        self.assertEqual(terminal.text.count("\033[?7l"), terminal.text.count("\033[?7h"))

    def test_keys(self):
        terminal = self.open("--delay=3600")
        terminal.wait_for(r"^globex/.*\nacme/web-2.*\nacme/web-1")
        self.assertFalse(terminal.is_as_before())
        self.assertIn("[p pinned]", terminal.page())
        self.assertRegex(terminal.page(), r"3 machines of 2 tenants, 3 calls refused; every 3600 s")
        for key, pattern in (("n", r"^acme/web-1.*\nacme/web-2.*\nglobex/"),
                             ("s", r"^acme/web-2.*\nacme/web-1.*\nglobex/"),
                             ("t", r"^TENANT +PINNED +LIMIT.*\nacme .*\nglobex "),
                             ("p", r"^globex .*\nacme "),
                             ("t", r"^globex/.*\nacme/web-2"),
                             ("-", r"every 3599 s")):
            terminal.type(key)
            terminal.wait_for(pattern)
        self.service.change(self.one, PinnedBytes=7 * GIB)
        terminal.type("x")
        self.assertEqual(self.service.calls, 1)
        terminal.type(" ")
        terminal.wait_for(r"^acme/web-1 +7G +4G +175 +0 +0 ")
        self.assertEqual(self.service.calls, 2)
        terminal.type("q")
        self.assertEqual(terminal.wait(), 0)
        self.assert_restored(terminal)

    def test_goes_on(self):
        terminal = self.open("-d", "0.1")
        harness.wait_until(lambda: terminal.page() and self.service.calls > 3)
        terminal.type("+")
        terminal.wait_for(r"every 0\.35 s")
        terminal.type("q")
        self.assertEqual(terminal.wait(), 0)

    def test_iterations(self):
        terminal = self.open("-d", "0.1", "-n", "2")
        self.assertEqual(terminal.wait(), 0)
        self.assertEqual(self.service.calls, 2)
        self.assert_restored(terminal)

    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            terminal = self.open()
            terminal.wait_for("TENANT/MACHINE")
            os.kill(terminal.pid, number)
            self.assertEqual(terminal.wait(), -number)
            self.assert_restored(terminal)

    def test_interrupt_key(self):
        terminal = self.open()
        terminal.wait_for("TENANT/MACHINE")
        terminal.type("\x03")
        self.assertEqual(terminal.wait(), -signal.SIGINT)
        self.assert_restored(terminal)

    def test_stop_and_go_on(self):
        terminal = self.open("-d", "3600")
        terminal.wait_for("TENANT/MACHINE")
        os.kill(terminal.pid, signal.SIGTSTP)
        harness.wait_until(lambda: terminal.state() == "T")
        terminal.page()
        self.assert_restored(terminal)
        terminal.text = ""
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.wait_for("TENANT/MACHINE")
        self.assertFalse(terminal.is_as_before())
        terminal.type("q")
        self.assertEqual(terminal.wait(), 0)
        self.assertTrue(terminal.is_as_before())

    def test_size(self):
        """What does not fit is not shown; names give way to figures."""
        terminal = self.open("-d", "3600", lines=6, columns=80)
        terminal.wait_for(r"^globex/a-lo\.\.\. +6G")
        self.assertNotIn("web-2", terminal.page())
        self.assertEqual(len(terminal.page().splitlines()), 6)
        terminal.resize(7, 120)
        terminal.wait_for(r"^globex/a-long name of a machine that goes on +6G.*\nacme/web-2")
        self.assertNotIn("web-1", terminal.page())

    def test_service_away(self):
        terminal = self.open("-d", "0.1")
        terminal.wait_for("TENANT/MACHINE")
        self.service.stop()
        terminal.wait_for("The iommud service is not running.*\n.*TENANT/MACHINE")
        self.service.change(self.one, Refusals=42)
        self.service.start()
        terminal.wait_for(r"^acme/web-1 .* 42 +2G")
        self.assertNotIn("not running", terminal.page())
        terminal.type("q")
        self.assertEqual(terminal.wait(), 0)

    def test_gone(self):
        """Whose terminal is closed ends."""
        terminal = self.open()
        terminal.wait_for("TENANT/MACHINE")
        process = terminal.pid
        os.close(terminal.fd)
        terminal.fd = os.open("/dev/null", os.O_RDONLY)
        os.waitpid(process, 0)
        terminal.pid = 0


class Simulated(TestCase):
    tenants = {"acme": "Limit=2G\n"}

    def test_running_machine(self):
        self.run_machine(size=512 * MIB, devices=[harness.address(1)])
        row, = self.ctl_json("top")
        self.assertEqual((row["tenant"], row["state"], row["pinned_bytes"], row["percent"]),
                         ("acme", "running", 512 * MIB, 100))
        self.assertEqual(self.ctl_json("top", "--tenants")[0]["percent"], 25)


if __name__ == "__main__":
    unittest.main()
