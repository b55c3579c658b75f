# SPDX-License-Identifier: LGPL-2.1-or-later
"""iommuctl run: a command that is a machine, and what is left when it ends or never starts."""

import json
import os
import pty
import signal
import subprocess
import sys
import unittest

import harness
from harness import DEVICE, GIB, MIB, address, nvme
from iommuctl import IOMMUCTL, TestCase

# What a command finds: its environment, and what its descriptors are.
LOOK = """
import json, os
fds = {}
for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
    try:
        fds[fd] = os.readlink(f"/proc/self/fd/{fd}") if fd > 2 else ""
    except FileNotFoundError:
        pass  # that of the folder itself
listen = {name: value for name, value in os.environ.items() if name.startswith("LISTEN_")}
print(json.dumps({"pid": os.getpid(), "fds": fds, "listen": listen}))
"""


class RunCase(TestCase):
    tenants = {"acme": "Limit=2G\nDevices=0000:0[1-4]:*\n"}
    devices = (nvme(1, "nvme") + nvme(2) + nvme(3, "nvme", group=30) + nvme(4, "nvme", group=30)
               + nvme(5, "nvme"))

    def setUp(self):
        super().setUp()
        self.running = []
        self.addCleanup(self.end_running)

    def end_running(self):
        for process in self.running:
            process.kill()
            process.communicate()

    def run_command(self, *command, tenant="acme", options=(), status=0):
        """What the command and iommuctl print; all is as before."""
        before = self.describe()
        done = self.run_ctl("run", tenant, *options, "--", *command)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(self.describe(), before)
        self.assertEqual(self.objects("acme"), [])
        return done

    def start_command(self, *command, options=(), **more):
        """iommuctl while its command runs, which writes one line when it does."""
        process = subprocess.Popen(
            [IOMMUCTL, "run", "acme", *options, "--", *command], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment(),
            **more)
        self.running.append(process)
        process.line = process.stdout.readline().strip()
        return process

    def finish(self, process, text=None):
        """Its exit status and what it printed on stderr."""
        process.stdout.flush()
        _, stderr = process.communicate(text, timeout=60)
        return process.returncode, stderr

    def driver(self, slot):
        return self.caller.get(self.caller.manager("GetDevice", "s", address(slot)), DEVICE,
                               "Driver")

    def assert_sentence(self, done, text):
        self.assertEqual(done.stdout, "")
        self.assertRegex(done.stderr, r"\Aiommuctl: [^\n]*\.\n\Z")
        self.assertIn(text, done.stderr)


class Run(RunCase):
    # ---- what the command sees ----

    def look(self, **more):
        return json.loads(self.run_command(sys.executable, "-c", LOOK, **more).stdout)

    def test_descriptors(self):
        seen = self.look()
        self.assertEqual(seen["listen"], {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "iommufd",
                                          "LISTEN_PID": str(seen["pid"])})
        self.assertEqual(list(seen["fds"]), ["0", "1", "2", "3"])
        self.assertIn("memfd:", seen["fds"]["3"])

    def test_devices(self):
        seen = self.look(options=["--device", address(1), "--device=2:0.0"])
        self.assertEqual((seen["listen"]["LISTEN_FDS"], seen["listen"]["LISTEN_FDNAMES"]),
                         ("3", "iommufd:0000_01_00.0:0000_02_00.0"))
        self.assertEqual(list(seen["fds"]), ["0", "1", "2", "3", "4", "5"])
        self.assertEqual((self.driver(1), self.driver(2)), ("nvme", "vfio-pci"))

    def test_group_given_whole(self):
        seen = self.look(options=["--device", address(4), "--device", address(3)])
        self.assertEqual(seen["listen"]["LISTEN_FDNAMES"], "iommufd:0000_04_00.0:0000_03_00.0")
        self.assertEqual((self.driver(3), self.driver(4)), ("nvme", "nvme"))

    def test_arguments_are_its_own(self):
        done = self.run_command("echo", "--name", "-n", "--", "--help")
        self.assertEqual(done.stdout, "--name -n -- --help\n")

    # ---- while it runs ----

    def test_machine(self):
        uuid = harness.new_uuid()
        process = self.start_command(
            "sh", "-c", "echo $$; read line", options=["--name=dpdk 1", f"--uuid={uuid}",
                                                       "--memory", "512M", "--device", address(1)])
        name, tenant, state, reserved, _, _, leader, _ = self.machines()[uuid]
        self.assertEqual((name, tenant, state, reserved, leader),
                         ("dpdk 1", "acme", "running", 512 * MIB, int(process.line)))
        self.assertEqual(self.driver(1), "vfio-pci")
        self.assertEqual(self.ctl_json("machine", "show", uuid)["devices"], [address(1)])
        self.caller.call(harness.ROOT, harness.SIMULATION, "Play", "usast", leader, "acme",
                         [address(1)], 256 * MIB)
        self.assertEqual(sorted(row[1] for row in self.objects()), ["device", "hwpt", "ioas"])
        self.assertEqual(self.finish(process, "\n"), (0, ""))
        self.assert_clean()
        self.assertEqual(self.driver(1), "nvme")

    def test_defaults(self):
        process = self.start_command("sh", "-c", "echo; read line")
        (uuid, machine), = self.machines().items()
        self.assertRegex(uuid, r"\A[0-9a-f]{8}-[0-9a-f]{4}-4")
        self.assertEqual((machine[0], machine[3]), ("sh", GIB))
        self.assertEqual(self.finish(process, "\n"), (0, ""))

    # ---- how it ends ----

    def test_exit_status(self):
        self.run_command("true")
        self.run_command("sh", "-c", "exit 7", status=7)
        self.run_command("sh", "-c", "kill -KILL $$", status=128 + 9)
        self.run_command("sh", "-c", "kill -TERM $$", options=["--device", address(1)],
                         status=128 + 15)

    def test_exit_status_where_children_are_ignored(self):
        process = self.start_command(
            "sh", "-c", "echo; exit 7",
            preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        self.assertEqual(self.finish(process), (7, ""))

    def test_signals_reach_the_command(self):
        for name in ("INT", "TERM", "HUP", "QUIT"):
            process = self.start_command(
                "sh", "-c", f"trap 'exit 5' {name}; echo; while :; do sleep 0.05; done")
            process.send_signal(getattr(signal, "SIG" + name))
            self.assertEqual(self.finish(process), (5, ""), name)
        self.assert_clean()

    def test_ignored_signals_stay_ignored(self):
        process = self.start_command(
            "sh", "-c", "echo; read line; exit 6",
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(process, "\n"), (6, ""))

    def test_interrupt_from_a_terminal_comes_once(self):
        script = ("import signal, sys, time\n"
                  "n = []\n"
                  "signal.signal(signal.SIGINT, lambda *_: n.append(1))\n"
                  "print('up', flush=True)\n"
                  "while not n: time.sleep(0.01)\n"
                  "time.sleep(0.3)\n"
                  "sys.exit(10 + len(n))\n")
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(IOMMUCTL, [IOMMUCTL, "run", "acme", "--", sys.executable, "-c", script],
                      self.environment())
        self.addCleanup(os.close, terminal)
        self.assertIn(b"up", os.read(terminal, 1000))
        os.write(terminal, b"\x03")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 11)
        self.assert_clean()

    def test_killed_itself(self):
        """The command goes on, and iommud reaps it; its device is not given back."""
        process = self.start_command("sh", "-c", "echo $$; read line", "sh",
                                     options=["--device", address(1)])
        leader = int(process.line)
        process.kill()
        process.wait()
        (uuid, machine), = self.machines().items()
        self.assertEqual((machine[2], machine[6]), ("running", leader))
        process.stdin.write("\n")
        process.stdin.flush()
        harness.wait_until(lambda: self.state(uuid) is None)
        self.assertEqual(self.driver(1), "vfio-pci")
        self.ctl("device", "restore", address(1))
        self.assertEqual(self.driver(1), "nvme")

    # ---- when it can't be ----

    def test_no_such_command(self):
        done = self.run_command("no-such-command", status=127)
        self.assert_sentence(done, "'no-such-command'")
        self.assertNotIn("Admitted", self.log_text())
        self.assert_sentence(self.run_command(self.path("host.conf"), status=126), "host.conf")

    def test_command_that_does_not_start(self):
        """It is found out only when the machine has been started."""
        self.write("script", "#!/no/such/interpreter\n")
        os.chmod(self.path("script"), 0o755)
        done = self.run_command(self.path("script"), options=["--device", address(1)], status=127)
        self.assert_sentence(done, "No such file")
        self.assertIn("runs as process", self.log_text())

    def test_refusals(self):
        for text, more in (
            ("limit", {"options": ["--memory=3G"]}),
            ("nobody", {"tenant": "nobody"}),
            ("0000:55:00.0", {"options": ["--device=0000:55:00.0"]}),
            ("0000:05:00.0", {"options": ["--device", address(1), "--device", address(5)]}),
            ("0000:04:00.0", {"options": ["--device", address(3)]}),
            ("UUID", {"options": ["--uuid=x"]}),
        ):
            self.assert_sentence(self.run_command("true", status=125, **more), text)
        self.assertNotIn("Bound", self.log_text())

    def test_refused_without_a_size(self):
        """Who has not said how much is told that it can be said."""
        self.ctl("tenant", "set-limit", "acme", "512M")
        done = self.run_command("true", status=125)
        self.assert_sentence(done, "needs 1G")
        self.assertIn("--memory", done.stderr)
        done = self.run_command("true", options=["--memory=1G"], status=125)
        self.assertNotIn("--memory", done.stderr)
        self.run_command("true", options=["--memory=512M"])

    def test_uuid_of_a_running_machine(self):
        uuid, leader = self.run_machine(devices=[address(2)])
        done = self.run_ctl("run", "acme", "--uuid", uuid, "--", "true")
        self.assertEqual(done.returncode, 125)
        self.assert_sentence(done, uuid)
        self.assertEqual(self.state(uuid), "running")
        self.kill(leader)

    def test_usage(self):
        for arguments in (["acme"], ["acme", "true"], ["--", "acme"],
                          ["acme", "--memory=x", "--", "true"],
                          ["acme", "--limit=1G", "--", "true"]):
            self.ctl_fails("run", *arguments, status=2)

    def test_interrupted_before_it_starts(self):
        self.service.send_signal(signal.SIGSTOP)
        process = subprocess.Popen(
            [IOMMUCTL, "run", "acme", "--device", address(1), "--", "true"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment())
        self.running.append(process)

        def holds_signals():
            with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                blocked = [line.split()[1] for line in file if line.startswith("SigBlk:")][0]
            return int(blocked, 16) & 1 << signal.SIGTERM - 1

        harness.wait_until(holds_signals)
        process.terminate()
        self.service.send_signal(signal.SIGCONT)
        status, stderr = self.finish(process)
        self.assertEqual(status, 128 + signal.SIGTERM)
        self.assertIn("not started", stderr)
        self.assert_clean()
        self.assertEqual(self.driver(1), "nvme")

    def test_service_stopped(self):
        process = self.start_command("sh", "-c", "echo; read line; exit $line")
        failing = self.start_command("sh", "-c", "echo; read line; exit $line")
        self.kill_service()
        status, stderr = self.finish(process, "0\n")
        self.assertEqual(status, 125)
        self.assertRegex(stderr, r"\Aiommuctl: Machine sh \(.*\) is not released: The iommud "
                         r"service is not running: .*\.\n\Z")
        self.assertEqual(self.finish(failing, "3\n")[0], 3)
        done = self.run_ctl("run", "acme", "--", "true")
        self.assertEqual(done.returncode, 125)
        self.assert_sentence(done, "systemctl start iommud")
        self.start_service()
        harness.wait_until(lambda: not self.machines())

    def test_no_bus(self):
        done = self.run_ctl("run", "acme", "--bus=unix:path=/nonexistent", "--", "true")
        self.assertEqual(done.returncode, 125)
        self.assert_sentence(done, "message bus")


class WithoutCharacterDevices(RunCase):
    """A kernel whose VFIO has none: the last thing to be found out."""

    host = harness.HOST.replace("vfio-cdev;", "")

    def test_device_without_file(self):
        done = self.run_command("true", options=["--device", address(1)], status=125)
        self.assert_sentence(done, "character device")


if __name__ == "__main__":
    unittest.main()
