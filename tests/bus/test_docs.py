# SPDX-License-Identifier: LGPL-2.1-or-later
"""The man pages name all there is and nothing else: on the bus, on command lines, in files. What other
pages name is there."""

import glob
import os
import re
import signal
import subprocess
import sys
import unittest

import harness
from harness import GIB, MANAGER, ROOT, SIMULATION, address

IOMMUCTL = os.environ.get("IOMMUCTL", "")
AGENT = os.environ.get("IOMMUD_LIBVIRT", "")
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
sys.path.append(os.path.join(TOP, "tests/unit"))
AGENT_NAME = "org.iommud1.Libvirt"


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        return file.read()


def terms(text):
    """The terms of a page's definition lists: lines that are nothing but literals."""
    return [line[2:-2] for line in text.splitlines() if re.fullmatch(r"``.*``", line)]


def types(arguments):
    """'s id, a{sv} options' -> 'sa{sv}'"""
    return "".join(argument.split()[0] for argument in arguments.split(", ") if argument)


def member_of_term(kind, term):
    """(name, signature) of a documented member."""
    if kind == "Properties":
        return tuple(term.split(" "))
    match = re.fullmatch(r"(\w+)\((.*?)\)(?: -> (.*))?", term)
    return match[1], types(match[2]) + "->" + types(match[3] or "")


def documented():
    """interface -> kind -> {(name, signature)} of org.iommud1(5)."""
    found = {}
    interface = kind = None
    lines = read("docs/org.iommud1.5.rst").splitlines()
    for line, below in zip(lines, lines[1:] + [""]):
        if below and re.fullmatch(r"=+|-+", below):
            interface = line if line.startswith("org.iommud1.") else None
        elif re.fullmatch(r"~+", below):
            kind = line
        elif interface and terms(line):
            members = found.setdefault(interface, {}).setdefault(kind, set())
            members.add(member_of_term(kind, terms(line)[0]))
    return found


class Bus(harness.TestCase):
    tenants = {"acme": ""}

    def test_members_are_those_on_the_bus(self):
        machine = self.admit(harness.new_uuid(), size=GIB)
        device = self.caller.manager("GetDevice", "s", address(1))
        live = {}
        for path in (ROOT, self.tenant_path(), machine, device):
            live.update(self.caller.introspect(path))
        self.assertIn(MANAGER, live)
        self.assertIn(SIMULATION, live)
        pages = documented()
        pages.pop(AGENT_NAME)
        self.assertEqual(pages, live)

    def test_errors(self):
        page = read("docs/org.iommud1.5.rst")
        section = page[page.index("\nERRORS\n"):page.index("\nSIMULATION\n")]
        pages = set(re.findall(r"^\*(\w+)\*$", section, re.MULTILINE))
        code = set(re.findall(r'ERROR_PREFIX "(\w+)"', read("dbus/base/errors.c")))
        self.assertGreater(len(code), 10)
        self.assertEqual(pages - {"LibvirtFailed"}, code)

    def test_agent(self):
        if not AGENT:
            self.skipTest("IOMMUD_LIBVIRT does not say which agent to test")
        process = subprocess.Popen([AGENT, "--uri=test:///default", "--bus=" + self.bus.address],
                                   stderr=subprocess.DEVNULL,
                                   env={"RUNTIME_DIRECTORY": self.folder, "PATH": "/usr/bin"})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

        def ask():
            try:
                return self.caller.introspect("/org/iommud1/libvirt", AGENT_NAME)
            except harness.GLib.Error:
                return None

        live = harness.wait_until(ask, what="the agent's name on the bus")
        self.assertEqual({AGENT_NAME: documented()[AGENT_NAME]}, live)


class Example(harness.TestCase):
    """The session in org.iommud1(5), typed as it stands there."""

    def setUp(self):
        super().setUp()
        self.end_service()  # the session starts its own

    @staticmethod
    def session():
        """The commands of the page, and the lines that they are said to print."""
        page = read("docs/org.iommud1.5.rst")
        block = page[page.index("**busctl**\\(1)::"):page.index("\nSEE ALSO\n")]
        script = []
        printed = []
        document = False  # "<<END" until "END"
        for line in re.findall(r"^    (.*)$", block, re.MULTILINE):
            if line.startswith("$ "):
                script.append(line.removeprefix("$ "))
                document = line.endswith("<<END")
            elif document or script[-1].endswith("\\"):
                script.append(line)
                document = document and line != "END"
            else:
                printed.append(line)
        return script, printed

    @staticmethod
    def prepare(command):
        """The command as it is run here: on the test's bus, and waiting for the service."""
        if "dbus-run-session" in command or "DBUS_SESSION" in command:
            return ""
        if command.startswith("ask()"):
            return command + "\nuntil ask status org.iommud1; do sleep 0.05; done &>/dev/null"
        return command

    def test_session(self):
        script, printed = self.session()
        self.assertGreater(len(printed), 2)
        script = "\n".join(map(self.prepare, script)) + "\nkill $(jobs -p); wait"
        work = self.path("session")
        os.mkdir(work)
        path = ":".join([os.path.dirname(harness.IOMMUD), os.path.dirname(IOMMUCTL),
                         "/usr/bin:/bin"])
        shell = subprocess.Popen(["bash", "-c", script], cwd=work, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 start_new_session=True,
                                 env={"PATH": path, "IOMMUD_BUS_ADDRESS": self.bus.address,
                                      "LC_ALL": "C"})
        try:
            stdout, stderr = shell.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            raise
        for line in printed:
            self.assertIn(line + "\n", stdout, stderr)
        self.assertRegex(stdout, r"web-1 +running")
        self.assertNotIn("failed", stderr)


class CommandLines(unittest.TestCase):
    def run_program(self, *command):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def test_iommuctl_verbs(self):
        lines = self.run_program(IOMMUCTL, "--help").splitlines()
        verbs = lines[lines.index("Verbs:") + 1:lines.index("Options:") - 1]
        verbs = {re.sub(r" --.*", "", line[2:30]).strip() for line in verbs}
        self.assertIn("status [TENANT...]", verbs)
        section = read("docs/iommuctl.1.rst").split("\nVERBS\n")[1].split("\nOPTIONS\n")[0]
        pages = {re.sub(r" \[--.*| --.*", "", term) for term in terms(section)}
        self.assertEqual(pages, verbs)

    def test_iommuctl_options(self):
        page = read("docs/iommuctl.1.rst").split("\nOPTIONS\n")[1].split("\nENVIRONMENT\n")[0]
        pages = set(re.findall(r"^``.*?(--[a-z-]+\S*?)``$", page, re.MULTILINE))
        shown = set(re.findall(r"^  (?:-\w|  ) (--\S+)", self.run_program(IOMMUCTL, "--help"),
                               re.MULTILINE))
        self.assertIn("--json[=pretty|short]", shown)
        self.assertEqual(pages, shown)

    def test_options_of_single_verbs(self):
        """Those that --list-verbs has beyond what every verb takes stand in the verb's term."""
        verbs = [line.split("\t") for line in
                 self.run_program(IOMMUCTL, "--list-verbs").splitlines()]
        common = set.intersection(*(set(verb[2].split()) for verb in verbs))
        page = terms(read("docs/iommuctl.1.rst"))
        for name, _, options in verbs:
            term = [text for text in page if text == name or text.startswith(name + " ")][0]
            pages = set(re.findall(r"--[a-z]+=?", term.split(" -- ")[0]))
            options = {re.match(r"--[a-z-]+=?", option)[0]
                       for option in set(options.split()) - common}
            self.assertEqual(pages, options, name)

    def assert_options(self, program, page, end):
        section = read(page).split("\nOPTIONS\n")[1].split("\n" + end + "\n")[0]
        pages = set(re.findall(r"--[a-z-]+", "\n".join(terms(section))))
        shown = set(re.findall(r"^ .*?(--[a-z-]+)", self.run_program(program, "--help"),
                               re.MULTILINE))
        self.assertIn("--bus", shown)
        self.assertEqual(pages, shown)

    def test_iommud_options(self):
        self.assert_options(harness.IOMMUD, "docs/iommud.8.rst", "SIGNALS")

    @unittest.skipUnless(AGENT, "IOMMUD_LIBVIRT does not say which agent to test")
    def test_agent_options(self):
        self.assert_options(AGENT, "docs/iommud-libvirt.8.rst", "ENVIRONMENT")


class Journal(unittest.TestCase):
    def page(self):
        return read("docs/iommud.8.rst").split("\nJOURNAL\n")[1].split("\nREMOVAL\n")[0]

    def test_messages(self):
        ids = re.findall(r'#define MESSAGE_\w+ "(\w+)"', read("dbus/base/message-ids.h"))
        self.assertGreater(len(ids), 20)
        self.assertEqual(terms(self.page()), ids)

    def test_fields(self):
        fields = re.findall(r'"(IOMMUD_\w+)"', read("dbus/base/journal.c"))
        self.assertEqual(re.findall(r"\*(IOMMUD_\w+)\*", self.page()), fields)


class Configuration(unittest.TestCase):
    def test_keys(self):
        rules = re.findall(r'\{"(\w+)", "(\w+)", parse_', read("policy/config.c"))
        self.assertGreater(len(rules), 5)
        pages = []
        group = None
        for line in read("docs/iommud.conf.5.rst").split("\nEXAMPLE\n")[0].splitlines():
            if re.fullmatch(r"\[\w+\]", line):
                group = line[1:-1]
            elif terms(line):
                pages.append((group, terms(line)[0].removesuffix("=")))
        self.assertEqual(sorted(pages), sorted(rules))

    def test_example_file(self):
        """The installed file shows every key of the main file, with its default."""
        rules = re.findall(r'\{"(?!Tenant")(\w+)", "(\w+)", parse_', read("policy/config.c"))
        shown = []
        group = None
        for line in read("dbus/iommud.conf").splitlines():
            if re.fullmatch(r"\[\w+\]", line):
                group = line[1:-1]
            elif match := re.match(r"#(\w+)=", line):
                shown.append((group, match[1]))
        self.assertEqual(sorted(shown), sorted(rules))
        page = read("docs/iommud.conf.5.rst")
        for key in ("Budget", "Guard", "RequireGuard", "DirectOpen", "AdmissionTimeout", "MaxMappings",
                    "MaxObjects", "MaxIommufds", "MaxProcesses"):
            default = re.search(rf"^#{key}=(.*)$", read("dbus/iommud.conf"), re.MULTILINE)[1]
            text = page.split(f"\n``{key}=``\n")[1].split("\n``")[0]
            self.assertEqual(re.findall(r"Default:\s+(?:``)?(\w+%?)", text), [default], key)


class Pages(unittest.TestCase):
    """What is written for readers of the source."""

    @staticmethod
    def pages():
        found = ["README.md"]
        for pattern in ("docs/*.md", "tests/*/README.md"):
            found += [os.path.relpath(path, TOP) for path in glob.glob(os.path.join(TOP, pattern))]
        return sorted(found)

    @staticmethod
    def paths(text):
        """Those of the tree that stand between backticks, less what follows them on a command line."""
        words = re.findall(r"`([^`\s]+)[^`]*`", text)
        folders = tuple(name + "/" for name in ("dbus", "docs", "examples", "kernel", "plugin", "policy", "tests"))
        return [word for word in words if word.startswith(folders) and not re.search(r"[*<>]", word)]

    def test_paths(self):
        self.assertGreater(len(self.pages()), 5)
        for page in self.pages():
            for path in self.paths(read(page)):
                self.assertTrue(os.path.exists(os.path.join(TOP, path)), f"{page}: {path}")

    def test_lab_scripts(self):
        page = read("tests/lab/README.md").split("\n## Scripts here\n")[1]
        names = re.findall(r"`([\w.-]+\.(?:sh|py))", page)
        there = [os.path.basename(path) for pattern in ("*.sh", "*.py")
                 for path in glob.glob(os.path.join(TOP, "tests/lab", pattern))]
        self.assertEqual(sorted(set(names)), sorted(set(there) - {"lib.sh"}))

    def test_rooms(self):
        import test_house

        table = read("docs/architecture.md").split("| room |")[1].split("\n\n")[0]
        self.assertEqual(re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE), list(test_house.ROOMS))

    def test_functions(self):
        """A function is in one of the files that its row or paragraph names."""
        text = read("docs/architecture.md").split("\n## Where is what\n")[1]
        functions = 0
        for block in re.split(r"\n(?=\||- |\n)", text):
            sources = "".join(read(path) for path in self.paths(block) if path.endswith((".c", ".h")))
            for name in re.findall(r"`(\w+)\(\)`", block):
                self.assertTrue(re.search(rf"(?m)^[A-Za-z_][\w *]*\b{name}\(", sources), f"{name}(): {block}")
                functions += 1
        self.assertGreater(functions, 20)


if __name__ == "__main__":
    unittest.main()
