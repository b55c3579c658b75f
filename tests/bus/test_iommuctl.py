# SPDX-License-Identifier: LGPL-2.1-or-later
"""iommuctl: every verb, as text and as JSON, its errors and exit statuses, and its completion."""

import json
import os
import re
import shlex
import subprocess
import unittest

import harness
from fake_agent import FakeAgent
from fake_service import FakeService
from harness import GIB, MIB, Gio, GLib, address, nvme
from iommuctl import FakeCase, IOMMUCTL, TestCase

COMPLETION = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                          "../../dbus/iommuctl/iommuctl.bash-completion")


class Tenants(TestCase):
    tenants = {"fixed": "Limit=4G\n"}

    def test_create_show_list_delete(self):
        self.assertEqual(self.ctl("tenant", "create", "acme", "--limit", "1.5G",
                                  "--isolation=machine", "--accounting=user", "--count=unique",
                                  "--device=10de:*", "--device=0000:81:00.*"), "")
        described = self.describe()["tenants"][0]
        self.assertEqual((described["limit_bytes"], described["isolation"],
                          described["accounting_mode"], described["device_patterns"]),
                         (1536 * MIB, "machine", "user", ["10de:*", "0000:81:00.*"]))
        self.assertEqual(self.ctl("tenant", "list"),
                         "TENANT  LIMIT  RESERVED  PINNED  ORPHANED\n"
                         "acme     1.5G        0B      0B        0B\n"
                         "fixed      4G        0B      0B        0B\n")
        self.assertEqual(self.ctl("tenant", "list", "--no-legend").split()[0], "acme")
        self.assert_says(self.ctl_json("tenant", "list")[0], id="acme", limit_bytes=1536 * MIB,
                         reserved_bytes=0, pinned_bytes=0)
        self.assertIn("Isolation: machine\n", self.ctl("tenant", "show", "acme"))
        self.assertEqual(self.ctl_json("tenant", "show", "acme")["count"], "unique")
        self.assertEqual(self.ctl("tenant", "delete", "acme"), "")
        self.assertEqual(len(self.ctl_json("tenant", "list")), 1)

    def test_show(self):
        machine = self.admit(harness.new_uuid(), "fixed", MIB, [address(1)]).rsplit("/", 1)[1]
        self.assert_says(self.ctl_json("tenant", "show", "fixed"),
                         id="fixed", limit_bytes=4 * GIB, reserved_bytes=MIB, pinned_bytes=0,
                         count="charged", isolation="tenant", accounting_mode="process",
                         device_patterns=["*"], devices=[address(1)],
                         machines=[machine.replace("_", "-")],
                         source=self.path("etc/tenants.d/fixed.conf"))

    def test_set_limit(self):
        for size, expected in (("512M", 512 * MIB), ("infinity", None), ("4096", 4096)):
            self.assertEqual(self.ctl("tenant", "set-limit", "fixed", size), "")
            self.assertEqual(self.ctl_json("tenant", "show", "fixed")["limit_bytes"], expected)
        self.ctl("tenant", "set-limit", "fixed", "infinity")
        self.assertIn("   Limit: infinity\n", self.ctl("tenant", "show", "fixed"))

    def test_refusals_are_the_services_sentences(self):
        self.assertIn("fixed", self.ctl_fails("tenant", "create", "fixed"))
        self.assertIn("no tenant", self.ctl_fails("tenant", "show", "nobody"))
        self.assertIn("nobody", self.ctl_fails("tenant", "set-limit", "nobody", "1G"))
        self.assertIn("nobody", self.ctl_fails("tenant", "delete", "nobody"))
        self.assertIn("nobody", self.ctl_fails("machines", "nobody"))
        self.assertIn("nobody", self.ctl_fails("objects", "nobody"))
        self.assertIn("nobody", self.ctl_fails("reap", "nobody"))
        self.assertIn("nobody", self.ctl_fails("status", "nobody"))
        self.assertIn("Isolation", self.ctl_fails("tenant", "create", "x", "--isolation=vm"))

    def test_reload(self):
        self.write("etc/tenants.d/new.conf", "[Tenant]\nLimit=1G\n")
        self.assertEqual(self.ctl("reload"), "")
        self.assertEqual([row["id"] for row in self.ctl_json("tenant", "list")],
                         ["fixed", "new"])
        self.write("etc/iommud.conf", "[Host]\nBudged=1G\n")
        self.assertIn("Budged", self.ctl_fails("reload"))


class Machines(TestCase):
    tenants = {"acme": "Limit=2G\n", "globex": ""}

    def setUp(self):
        super().setUp()
        self.machine, self.leader = self.run_machine(size=GIB, devices=[address(1)],
                                                     reserve=1280 * MIB)
        self.waiting = harness.new_uuid()
        self.admit(self.waiting, "globex", 512 * MIB, [address(2)], name="db 1")

    def test_status(self):
        lines = self.ctl("status").splitlines()
        self.assertEqual([line[:12].rstrip() for line in lines[2:]],
                         ["|-acme", "| `-vm-" + self.machine[:5], "|   `-0000:0", "`-globex",
                          "  `-db 1", "    `-0000:0"])
        self.assertRegex(lines[0], r"STATE +RESERVED +PINNED +LIMIT +ORPHANED +REFUSED$")
        self.assertRegex(lines[1], r" 1\.7G +1G +64G +0B +0  simulated$")
        self.assertRegex(lines[2], r"^\|-acme +1\.2G +1G +2G +0B +0$")
        self.assertRegex(lines[3], r"^\| `-vm-.* running +1\.2G +1G +0B +0  process "
                         + str(self.leader.pid) + "$")
        self.assertRegex(lines[4], r"^\|   `-0000:01:00\.0 +1b36:0010 class 010802, driver "
                         "vfio-pci$")
        self.assertRegex(lines[5], r"^`-globex +512M +0B +infinity +0B +0$")
        self.assertRegex(lines[6], r"^  `-db 1 +admitted +512M +0B +0B +0$")
        self.assertEqual(self.ctl(), self.ctl("status"))

    def test_status_of_one_tenant(self):
        text = self.ctl("status", "globex")
        self.assertIn("`-globex", text)
        self.assertNotIn("acme", text)
        self.ctl_fails("status", "globex", "--json", status=2)

    def test_status_in_a_locale(self):
        self.assertIn("└─globex", self.ctl("status", LC_ALL="C.UTF-8"))

    def test_status_without_headings(self):
        self.assertEqual(self.ctl("status", "--no-legend").split(),
                         self.ctl("status").split("\n", 1)[1].split())

    def test_status_json_is_what_the_service_says(self):
        """It is made of the properties of all objects, Describe() by the service itself."""
        self.assertEqual(self.ctl_json("status"), self.describe())

    def test_status_json_has_all_properties(self):
        """One that is added on the bus is a figure of iommuctl, too."""
        status = self.ctl_json("status")
        shown = {"Manager": {"version", *status["host"]}, "Tenant": set(status["tenants"][0]),
                 "Machine": set(status["tenants"][0]["machines"][0]),
                 "Device": set(status["devices"][0])}
        # In other words, or said by where it stands.
        elsewhere = {"Manager": {"host_budget_bytes"}, "Tenant": {"devices"},
                     "Machine": {"tenant"}, "Device": {"group_members"}}
        for interface, keys in shown.items():
            properties = self.caller.get_all(*self.one_of_each()[interface])
            names = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in properties}
            self.assertEqual(names - keys, elsewhere[interface], interface)

    def one_of_each(self):
        """An object of each interface."""
        return {"Manager": (harness.ROOT, harness.MANAGER),
                "Tenant": (self.tenant_path("acme"), harness.TENANT),
                "Machine": (self.caller.manager("GetMachine", "s", self.machine),
                            harness.MACHINE),
                "Device": (self.caller.manager("GetDevice", "s", address(1)), harness.DEVICE)}

    def test_no_colours_but_on_a_terminal(self):
        self.assertNotIn("\033", self.ctl("status", TERM="xterm"))
        for variables, coloured in (("", True), ("NO_COLOR=1 ", False), ("TERM=dumb ", False)):
            command = (f"IOMMUD_BUS_ADDRESS={shlex.quote(self.bus.address)} TERM=xterm "
                       f"{variables}{shlex.quote(IOMMUCTL)} status")
            done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True,
                                  text=True, timeout=60, check=True, stdin=subprocess.DEVNULL)
            self.assertEqual("\033[32mrunning" in done.stdout, coloured, done.stdout)

    def test_machines(self):
        rows = {row["name"]: row for row in self.ctl_json("machines")}
        self.assert_says(rows["db 1"], uuid=self.waiting, name="db 1", tenant="globex",
                         state="admitted", reserved_bytes=512 * MIB, leader=None)
        self.assertEqual([row["uuid"] for row in self.ctl_json("machines", "acme")],
                         [self.machine])
        lines = self.ctl("machines", "acme").splitlines()
        self.assertEqual(lines[0].split(), ["UUID", "NAME", "TENANT", "STATE", "RESERVED",
                                            "PINNED", "ORPHANED", "LEADER"])
        self.assertEqual(lines[1].split(), [self.machine, "vm-" + self.machine[:8], "acme",
                                            "running", "1.2G", "1G", "0B", str(self.leader.pid)])

    def test_machine_show(self):
        self.assert_says(self.ctl_json("machine", "show", self.machine.upper()),
                         name="vm-" + self.machine[:8], uuid=self.machine, tenant="acme",
                         state="running", leader=self.leader.pid, iommufd=True,
                         reserved_bytes=1280 * MIB, pinned_bytes=GIB, mapped_bytes=GIB, maps=1,
                         orphaned_bytes=0, devices=[address(1)])
        self.assertEqual(self.ctl_json("machine", "show", "db 1")["uuid"], self.waiting)
        self.assertIn("Reserved: 512M\n", self.ctl("machine", "show", "db 1"))
        self.assertIn("no machine 'db'", self.ctl_fails("machine", "show", "db"))

    def test_name_of_two_machines(self):
        self.admit(harness.new_uuid(), "globex", MIB, name="db 1")
        self.assertIn("More than one", self.ctl_fails("machine", "show", "db 1"))
        self.assertEqual(self.ctl_json("machine", "show", self.waiting)["uuid"], self.waiting)

    def test_machine_release(self):
        self.assertEqual(self.ctl("machine", "release", "db 1"), "")
        self.assertIsNone(self.state(self.waiting))
        self.assertIn(str(self.leader.pid), self.ctl_fails("machine", "release", self.machine))
        self.kill(self.leader)
        harness.wait_until(lambda: self.state(self.machine) is None)

    def test_objects_and_reap(self):
        objects = self.ctl_json("objects", "acme")
        self.assertEqual(sorted(row["type"] for row in objects), ["device", "hwpt", "ioas"])
        self.assertEqual({row["machine"] for row in objects}, {self.machine})
        self.assertEqual(sum(row["pinned_bytes"] for row in objects), GIB)
        self.assertEqual({(row["machine_name"], row["pid"], row["orphan"]) for row in objects},
                         {("vm-" + self.machine[:8], self.leader.pid, False)})
        self.assertRegex(self.ctl("objects", "acme"),
                         r"\AID +TYPE +PINNED +PID +MACHINE +UUID +ORPHAN\n")
        self.assertEqual(self.ctl_json("reap", "acme"), {"objects": 0, "unpinned_bytes": 0})
        self.assertEqual(self.ctl("reap", "acme", "-q"), "")

    def test_orphans_stand_out(self):
        """Until the kernel has unpinned what a dead machine has left, which can take long."""
        dead, leader = self.run_machine(tenant="globex", size=GIB, devices=[address(3)])
        self.set_fault("slow-destroy", 3000)
        self.kill(leader)
        harness.wait_until(lambda: self.state(dead) == "reaping")
        text = self.ctl("status")
        self.assertRegex(text, r"reaping +1G +0B +1G")
        self.assertIn("\n1G of tenant globex are pinned for no living process: try 'iommuctl reap "
                      "globex'.\n", text)
        self.assertNotIn("no living process", self.ctl("status", "-q"))
        self.assertNotIn("no living process", self.ctl("status", "acme"))
        self.assertEqual(self.ctl_json("machine", "show", dead)["orphaned_bytes"], GIB)
        doctor = self.run_ctl("doctor", "-q")
        self.assertEqual(doctor.returncode, 1)
        self.assertIn("failed   orphans    1G are pinned for dead processes.", doctor.stdout)

        self.set_fault("slow-destroy", 0)
        harness.wait_until(lambda: self.state(dead) is None)
        self.assertEqual(self.ctl_json("objects", "globex"), [])
        self.assertNotIn("no living process", self.ctl("status"))


class Fake(TestCase):
    """What stands for the service in other tests has its properties, and none but its methods."""

    tenants = {"acme": ""}

    def setUp(self):
        super().setUp()
        os.mkdir(self.path("fake"))
        self.fake = FakeService(self.path("fake"))
        self.addCleanup(self.fake.close)
        self.paths = {harness.ROOT: harness.ROOT,
                      self.fake.add_tenant("acme"): self.tenant_path("acme"),
                      self.fake.add_machine("web-1", "acme"): self.admit(harness.new_uuid())}
        self.fake.start()

    def test_members(self):
        caller = harness.Caller(self.fake.bus.address)
        self.addCleanup(caller.close)
        for path, real_path in self.paths.items():
            for interface, members in caller.introspect(path).items():
                real = self.caller.introspect(real_path)[interface]
                self.assertEqual(members["Properties"], real["Properties"], interface)
                self.assertEqual(members.get("Methods", set()) - real["Methods"], set(), interface)


class Refusals(FakeCase):
    """What the guard has refused."""

    def test_status_and_show(self):
        self.service.add_tenant("acme", Refusals=7, UniqueBytes=GIB, Maps=12)
        self.service.add_tenant("globex", Refusals=2)
        self.service.add_machine("web-1", "acme", Refusals=5, MappedBytes=2 * GIB, Unmaps=3)
        self.service.start()
        refused = {line.lstrip("|`- ").split()[0]: line.split()[-1]
                   for line in self.ctl("status").splitlines()[2:]}
        self.assertEqual(refused, {"acme": "7", "globex": "2", "web-1": "5"})
        self.assertRegex(self.ctl("status").splitlines()[1], r" 0B +9$")
        self.assertIn(" Refused: 7\n", self.ctl("tenant", "show", "acme"))
        self.assertIn("  Unique: 1G\n", self.ctl("tenant", "show", "acme"))
        shown = self.ctl_json("machine", "show", "web-1")
        self.assertEqual((shown["refusals"], shown["mapped_bytes"], shown["unmaps"]),
                         (5, 2 * GIB, 3))


class Objects(FakeCase):
    """As the ledger knows them: each has an owner, dead or alive."""

    def test_orphans(self):
        leader = subprocess.Popen(["sleep", "1000"])
        self.addCleanup(leader.wait)
        self.addCleanup(leader.kill)
        dead = subprocess.Popen(["true"])
        dead.wait()
        self.service.add_tenant("acme")
        paths = [self.service.add_machine("web-1", "acme"),
                 self.service.add_machine("web-2", "acme", state="reaping")]
        one, two = [path.rsplit("/", 1)[1].replace("_", "-") for path in paths]
        self.service.tenant_objects = [
            (1, "ioas", one, leader.pid, GIB), (2, "hwpt-nested", one, dead.pid, 0),
            (7, "ioas", two, dead.pid, 2 * GIB), (8, "viommu", "", leader.pid, 0),
            (9, "ioas", "", dead.pid, GIB // 2), (300, "other", "", 0, 0)]
        self.service.start()
        self.assertEqual(self.ctl_json("objects", "acme"), [
            {"id": number, "type": kind, "pinned_bytes": pinned, "pid": pid, "machine_name": name,
             "machine": uuid, "orphan": orphan} for number, kind, pinned, pid, name, uuid, orphan in
            ((1, "ioas", GIB, leader.pid, "web-1", one, False),
             # Another of the machine's processes has made it.
             (2, "hwpt-nested", 0, dead.pid, "web-1", one, False),
             (7, "ioas", 2 * GIB, dead.pid, "web-2", two, True),
             (8, "viommu", 0, leader.pid, None, None, False),
             (9, "ioas", GIB // 2, dead.pid, None, None, True),
             (300, "other", 0, None, None, None, False))])
        text = self.ctl("objects", "acme")
        self.assertRegex(text, rf"\n  7  ioas +2G +{dead.pid}  web-2    {two}  yes\n")
        self.assertRegex(text, r"\n300  other +0B +-  - +- +no\n")
        self.assertTrue(text.endswith(
            "\n2 of 6 are orphans, with 2.5G pinned: try 'iommuctl reap acme'.\n"))
        self.assertNotIn("try", self.ctl("objects", "acme", "-q"))


class Devices(TestCase):
    tenants = {"acme": ""}
    devices = (nvme(1, driver="nvme") + nvme(2) + nvme(3, driver="e1000", group=40)
               + nvme(4, driver="e1000", group=40) + nvme(5, driver="", group=41)
               + nvme(6, driver="", group=41) + nvme(7, driver="", group=41))

    def rows(self):
        return {row["address"]: row for row in self.ctl_json("devices")}

    def test_devices(self):
        machine = harness.new_uuid()
        self.admit(machine, devices=[address(2)], name="web-1")
        rows = self.rows()
        self.assert_says(rows[address(1)], group=101, group_members=[address(1)], driver="nvme",
                         tenant=None, machine_name=None, machine=None,
                         description="1b36:0010 class 010802", assignable=True, reason=None)
        self.assertEqual((rows[address(2)]["tenant"], rows[address(2)]["machine"],
                          rows[address(2)]["machine_name"], rows[address(2)]["assignable"]),
                         ("acme", machine, "web-1", False))
        self.assertIn("e1000", rows[address(3)]["reason"])
        text = self.ctl("devices")
        self.assertRegex(text, r"0000:03:00\.0 +40  0000:04:00\.0 +e1000 .* no +Device")
        self.assertRegex(text, r"0000:05:00\.0 +41  0000:06:00\.0 \+1 ")
        self.assertRegex(text, r"0000:02:00\.0 .* acme +web-1 ")

    def test_bind_and_restore(self):
        self.assertEqual(self.ctl("device", "bind", "1:0.0", "vfio-pci"), "")
        self.assertEqual(self.rows()[address(1)]["driver"], "vfio-pci")
        self.assertEqual(self.ctl("device", "restore", address(1)), "")
        self.assertEqual(self.rows()[address(1)]["driver"], "nvme")
        self.assertIn("0000:55:00.0", self.ctl_fails("device", "bind", "0000:55:00.0", "vfio-pci"))
        self.assertIn("e1000", self.ctl_fails("device", "bind", address(3), "vfio-pci"))


class CommandLine(TestCase):
    def test_help(self):
        text = self.ctl("--help")
        self.assertEqual(text, self.ctl("-h"))
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        for line in self.ctl("--list-verbs").splitlines():
            self.assertIn("\n  " + line.split("\t")[0] + " ", text)

    def test_version(self):
        self.assertEqual(self.ctl("--version"),
                         "iommuctl " + self.caller.get(harness.ROOT, harness.MANAGER, "Version")
                         + "\n")

    def test_bus_option_wins(self):
        done = self.run_ctl("--bus=" + self.bus.address, "tenant", "list",
                            IOMMUD_BUS_ADDRESS="unix:path=/nonexistent")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_taken_for_habit(self):
        self.assertEqual(self.ctl("--no-pager", "machines", "--no-legend"), "")

    def test_usage(self):
        for arguments in (["tenant"], ["tenant", "create"], ["tenant", "list", "x"], ["x"],
                          ["machines", "a", "b"], ["--nonsense"], ["status", "--bus"],
                          ["machines", "--limit=1G"], ["tenant", "create", "a", "--limit=1Q"],
                          ["tenant", "set-limit", "a", "-1"], ["--json=yaml"],
                          ["libvirt", "enable", "vm"]):
            self.ctl_fails(*arguments, status=2)

    def test_service_stopped(self):
        self.end_service()
        for arguments in (["status"], ["tenant", "list"], ["machines"], ["devices"], ["reload"]):
            self.assertIn("systemctl start iommud", self.ctl_fails(*arguments))

    def test_no_bus(self):
        self.assertIn("message bus", self.ctl_fails("status", "--bus=unix:path=/nonexistent"))

    def test_plugin_missing(self):
        """The rest of iommuctl works without it, and its verbs say what lacks."""
        for arguments in (["status"], ["associate", "vm"], ["enable", "vm", "--tenant=acme"]):
            done = self.run_ctl("libvirt", *arguments, IOMMUCTL_PROGRAMS="/nonexistent")
            self.assertEqual((done.stdout, done.returncode), ("", 1))
            self.assertRegex(done.stderr, r"\Aiommuctl: [^\n]*/nonexistent/iommuctl-libvirt[^\n]*No such file"
                                          r"[^\n]*install[^\n]*\.\n\Z")
        done = self.run_ctl("libvirt", "status", "x", IOMMUCTL_PROGRAMS="/nonexistent")
        self.assertEqual(done.returncode, 2)

    def test_agent_stopped(self):
        for arguments in (["status"], ["associate", "vm"], ["enable", "vm", "--tenant=acme"]):
            self.assertIn("iommud-libvirt", self.ctl_fails("libvirt", *arguments))

    @unittest.skipIf(os.geteuid() != 0, "needs root to be somebody else")
    def test_others_may_read_only(self):
        def become_nobody():
            os.setgid(65534)
            os.setuid(65534)

        def run(*arguments):
            return subprocess.run([IOMMUCTL, "--bus=" + self.bus.address, *arguments],
                                  capture_output=True, text=True, timeout=60, check=False,
                                  preexec_fn=become_nobody)

        done = run("status")
        if "Permission denied" in done.stderr or done.returncode == 126:
            self.skipTest("the build folder is not open to others")
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        done = run("tenant", "create", "acme")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Aiommuctl: .*root.*\.\n\Z")


class Libvirt(TestCase):
    def setUp(self):
        super().setUp()
        self.agent = FakeAgent(self.bus.address)
        self.addCleanup(self.agent.close)

    def test_associate_and_enable(self):
        self.assertEqual(self.ctl("libvirt", "associate", "web 1"), "")
        self.assertEqual(self.ctl("libvirt", "enable", "web 1", "--tenant=acme"), "")
        self.assertEqual(self.agent.calls, [("Associate", "web 1"), ("Enable", "web 1", "acme")])
        # Options may stand anywhere, and what looks like one behind "--" is a domain.
        self.agent.calls.clear()
        self.assertEqual(self.ctl("--tenant", "acme", "libvirt", "-q", "enable", "a", "--json"), "")
        self.assertEqual(self.ctl("libvirt", "--no-pager", "associate", "--", "--tenant"), "")
        self.assertEqual(self.agent.calls, [("Enable", "a", "acme"), ("Associate", "--tenant")])
        self.agent.calls.clear()
        self.agent.error = ("org.iommud1.Error.LibvirtFailed", "libvirt does not know web 1.")
        self.assertEqual(self.ctl_fails("libvirt", "associate", "web 1"),
                         "iommuctl: libvirt does not know web 1.\n")

    def test_disable(self):
        """Asks libvirt itself, also when nobody else is there."""
        domain = ("<domain type='test'><name>{0}</name><uuid>{1}</uuid><memory>1024</memory><os><type>"
                  "hvm</type></os><metadata>{2}</metadata></domain>")
        tenant = "<iommud:tenant xmlns:iommud='urn:iommud:domain:1' id='acme'/>"
        self.write("node.xml", "<node>" + "".join(
            domain.format(name, harness.new_uuid(), inside)
            for name, inside in (("ours", tenant), ("also", tenant), ("other", ""))) + "</node>")
        uri = {"IOMMUD_LIBVIRT_URI": "test://" + self.path("node.xml")}
        self.kill_service()

        def disable(*arguments):
            done = self.run_ctl("libvirt", "disable", "--bus=unix:path=/nonexistent", *arguments, **uri)
            return done.stdout, done.stderr, done.returncode

        self.assertEqual(disable("ours"), ("ours\n", "", 0))
        self.assertEqual(disable("ours", "--quiet"), ("", "", 0))
        names, *rest = disable("--all")
        self.assertEqual((sorted(names.split()), rest), (["also", "ours"], ["", 0]))
        for arguments, why in ((["other"], "not under iommud"), (["nobody"], "nobody")):
            out, error, status = disable(*arguments)
            self.assertEqual((out, status), ("", 1))
            self.assertRegex(error, rf"\Aiommuctl: [^\n]*{why}[^\n]*\n\Z")
        for arguments in ([], ["ours", "--all"], ["ours", "other"]):
            self.assertEqual(disable(*arguments)[2], 2, arguments)
        uri["IOMMUD_LIBVIRT_URI"] = "test:///nonexistent"
        self.assertIn("libvirt can't be reached", disable("ours")[1])

    def test_status(self):
        self.assertEqual(self.ctl_json("libvirt", "status"), {
            "connected": True, "state": "connected", "libvirt_version": "12.8.0",
            "uri": "qemu:///system",
            "domains": [{"uuid": "uuid-1", "name": "web 1", "tenant": "acme"}]})
        self.assertEqual(self.ctl("libvirt", "status"),
                         " Connected: yes\n"
                         "     State: connected\n"
                         "   libvirt: 12.8.0\n"
                         "       URI: qemu:///system\n"
                         "Associated: 1\n"
                         "\n"
                         "UUID    DOMAIN  TENANT\n"
                         "uuid-1  web 1   acme\n")

    def doctor(self):
        done = self.run_ctl("doctor", "--json")
        return {row["check"]: row for row in json.loads(done.stdout)}, done.returncode

    def test_doctor(self):
        checks, status = self.doctor()
        self.assertEqual((checks["agent"]["result"], checks["libvirt"]["result"], status),
                         ("ok", "ok", 0))

    def test_doctor_finds_an_old_libvirt(self):
        self.agent.properties["LibvirtVersion"] = GLib.Variant("s", "12.1.9")
        checks, status = self.doctor()
        self.assertEqual((checks["libvirt"]["result"], status), ("warning", 0))

    def test_doctor_finds_an_agent_without_connection(self):
        self.agent.properties["Connected"] = GLib.Variant("b", False)
        self.agent.properties["State"] = GLib.Variant("s", "waiting for libvirt: it is away")
        self.agent.properties["LibvirtVersion"] = GLib.Variant("s", "")
        checks, status = self.doctor()
        self.assertEqual((checks["agent"]["result"], status), ("failed", 1))
        self.assertIn("it is away", checks["agent"]["message"])


class Completion(TestCase):
    tenants = {"acme": "", "zeta": ""}
    devices = nvme(1) + nvme(2)

    def complete(self, line):
        """What bash offers at the end of the line."""
        script = (f". {shlex.quote(COMPLETION)}; compopt() {{ :; }}; "
                  f"iommuctl() {{ {shlex.quote(IOMMUCTL)} \"$@\"; }}; "
                  'COMP_LINE=$1 COMP_POINT=${#1}; _iommuctl; printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "--norc", "-c", script, "bash", line], check=True,
                              capture_output=True, text=True, timeout=60,
                              env={"IOMMUD_BUS_ADDRESS": self.bus.address,
                                   "PATH": "/usr/bin:/bin", "LC_ALL": "C"})
        self.assertEqual(done.stderr, "")
        return done.stdout.split("\n")[:-1] if done.stdout != "\n" else []

    def test_verbs(self):
        self.assertEqual(self.complete("iommuctl tenant s"), ["set-limit", "show"])
        self.assertEqual(self.complete("iommuctl lib"), ["libvirt"])
        self.assertEqual(self.complete("iommuctl machine"), ["machine", "machines"])
        verbs = {line.split("\t")[0].split()[0]
                 for line in self.ctl("--list-verbs").splitlines()}
        self.assertEqual(set(self.complete("iommuctl ")), verbs)

    def test_names(self):
        self.admit(harness.new_uuid(), name="my vm")
        self.assertEqual(self.complete("iommuctl tenant show "), ["acme", "zeta"])
        self.assertEqual(self.complete("iommuctl status acme z"), ["zeta"])
        self.assertEqual(self.complete("iommuctl tenant show acme "), [])
        self.assertIn("my\\ vm", self.complete("iommuctl machine show "))
        self.assertEqual(self.complete("iommuctl device bind 0000:02"), ["02:00.0"])

    def test_options(self):
        self.assertEqual(self.complete("iommuctl tenant create x --iso"), ["--isolation="])
        self.assertEqual(self.complete("iommuctl tenant create x --isolation="),
                         ["machine", "tenant"])
        self.assertEqual(self.complete("iommuctl machines --iso"), [])
        self.assertEqual(self.complete("iommuctl --json=s"), ["short"])
        self.assertEqual(self.complete("iommuctl libvirt enable x --tenant=z"), ["zeta"])
        self.assertEqual(self.complete("iommuctl run acme --device=0000:02"), ["02:00.0"])
        self.assertEqual(self.complete("iommuctl run acme --u"), ["--uuid="])
        self.assertEqual(self.complete("iommuctl top --sort=m"), ["maps"])
        self.assertEqual(self.complete("iommuctl top --ten"), ["--tenants"])
        self.assertEqual(self.complete("iommuctl tenant create x --count="), ["charged", "unique"])

    def test_command(self):
        """Behind "--" a command is completed, and then files."""
        self.assertIn("dirname", self.complete("iommuctl run acme -- dirn"))
        self.assertEqual(self.complete("iommuctl run acme -- ls --uu"), [])
        self.assertEqual(self.complete("iommuctl run acme -- ls " + self.path("host.c")),
                         [self.path("host.conf")])


if __name__ == "__main__":
    unittest.main()
