"""C{twistd virnet} and C{twist virnet} as processes: how they start, what they leave, how they end."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Timer

from twisted.trial.unittest import SynchronousTestCase

from virnet.limits import DESCRIPTORS_RESERVED

ROOT = Path(__file__).resolve().parents[2]

#: Seconds after which a process hangs.
PATIENCE = 60.0

#: Root's default socket is one for the whole machine: the tests give it another place.
TWISTD = """\
import os
from virnet.transport import defaults
defaults.ROOT_DIRECTORY = os.environ["XDG_RUNTIME_DIR"] + "/virnet"
from twisted.scripts.twistd import run
run()
"""
#: Says what becomes of a hard limit that is too low.
HARD_LIMIT = """\
import resource, sys
from twisted.logger import globalLogBeginner, textFileLogObserver
from virnet.daemon.descriptors import allowDescriptors
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 500))
allowDescriptors(400)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
RUNNERS = {
    "twistd": ("-c", TWISTD, "--nodaemon", "--pidfile="),
    "twist": ("-m", "twisted", "--log-format=text"),
}


class Running:
    """
    A daemon that was started and is killed when the test ends.
    """

    def __init__(self, case: ProcessCase, arguments: tuple[str, ...], runner: str) -> None:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, *RUNNERS[runner], "virnet", *arguments],
            cwd=case.directory,
            env={**os.environ, "XDG_RUNTIME_DIR": str(case.directory), "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        case.addCleanup(self.kill)
        # A process that hangs ends by this, and the test with it.
        self.timer = Timer(PATIENCE, self.process.kill)
        self.timer.start()

    def command(self) -> str:
        """
        Wait until it says how to connect to one more of its sockets.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = re.search(r"virsh .*", line)
            if found is not None:
                return found[0]
        raise AssertionError(f"it ended: {self.end()}")

    def end(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """
        Wait for its end.

        @return: its status, and what is left of what it printed.
        """
        if number is not None:
            self.process.send_signal(number)
        output, errors = self.process.communicate()
        self.timer.cancel()
        return self.process.returncode, output, errors

    def kill(self) -> None:
        self.timer.cancel()
        self.process.kill()
        self.process.communicate()


class ProcessCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.default = self.directory / "virnet" / "virnet-sock"

    def start(self, *arguments: str, runner: str = "twistd") -> Running:
        return Running(self, arguments, runner)

    def connect(self, path: Path) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.connect(str(path))
        return connection


class Serving(ProcessCase):
    def test_says_how_to_connect_to_each_socket(self) -> None:
        path = self.directory / "s"
        running = self.start("--listen", f"unix:{path}", "--listen", "tcp:0:interface=127.0.0.1")
        commands = [running.command(), running.command()]
        self.assertIn(f"virsh -c 'test+unix:///default?socket={path}'", commands)
        ports = [found[1] for each in commands if (found := re.search(r"127\.0\.0\.1:(\d+)/default$", each))]
        self.connect(path)
        socket.create_connection(("127.0.0.1", int(ports[0]))).close()

    def test_sockets_have_the_modes_they_were_given(self) -> None:
        running = self.start("--listen", "unix:a", "--listen-readonly", "unix:b:mode=666")
        running.command()
        modes = [stat.S_IMODE((self.directory / name).stat().st_mode) for name in "ab"]
        self.assertEqual([0o600, 0o666], modes)

    def test_ends_with_status_0_and_leaves_nothing(self) -> None:
        """
        Whichever runner runs it, whichever signal ends it, and while a client is connected.
        """
        for runner in RUNNERS:
            for number in (signal.SIGTERM, signal.SIGINT):
                running = self.start("--listen", "unix:s", "--listen", "unix:t", runner=runner)
                running.command()
                running.command()
                self.connect(self.directory / "s")
                status, output, errors = running.end(number)
                self.assertEqual((0, ""), (status, errors), (runner, number))
                self.assertNotIn("Traceback", output)
                self.assertEqual([], os.listdir(self.directory))


class DefaultSocket(ProcessCase):
    def test_is_its_owners_alone(self) -> None:
        self.assertIn(f"socket={self.default}'", self.start().command())
        self.assertEqual(0o600, stat.S_IMODE(self.default.stat().st_mode))
        self.assertEqual(0o700, stat.S_IMODE(self.default.parent.stat().st_mode))

    def test_of_a_living_server_is_refused(self) -> None:
        self.start().command()
        status, _, errors = self.start().end()
        self.assertEqual(
            (1, f"virnet: cannot listen on {self.default}: a server is running there\n"), (status, errors)
        )
        self.connect(self.default)

    def test_of_a_dead_server_is_replaced(self) -> None:
        running = self.start()
        running.command()
        running.end(signal.SIGKILL)
        self.assertTrue(self.default.exists())
        self.start().command()
        self.connect(self.default)

    def test_needs_a_directory_that_others_cannot_enter(self) -> None:
        self.default.parent.mkdir()
        self.default.parent.chmod(0o755)
        status, _, errors = self.start().end()
        self.assertEqual(1, status)
        self.assertEqual(
            f"virnet: the directory {self.default.parent} lets others in (mode 0755): "
            f"chmod 700 {self.default.parent}\n",
            errors,
        )


class NotStarting(ProcessCase):
    """
    One clear line on standard error, a status that is not 0, nothing left behind.
    """

    def check(self, expected: int, line: str, *arguments: str) -> None:
        for runner in RUNNERS:
            status, output, errors = self.start(*arguments, runner=runner).end()
            self.assertEqual((expected, f"virnet: {line}\n"), (status, errors), runner)
            self.assertNotIn("Traceback", output)
            self.assertEqual([], os.listdir(self.directory))

    def test_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            endpoint = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
            self.check(
                1,
                f"cannot listen on {endpoint}: Address already in use",
                *("--listen", f"unix:{self.directory}/s", "--listen", endpoint),
            )

    def test_path_too_long(self) -> None:
        path = "/tmp/" + "x" * 103
        self.check(
            1,
            f"{path} is too long for a UNIX socket: 108 bytes, the system allows 107",
            *("--listen", f"unix:{path}"),
        )

    def test_directory_missing(self) -> None:
        self.check(
            1, "cannot listen on /nonexistent/s: No such file or directory", "--listen", "unix:/nonexistent/s"
        )

    def test_no_endpoint(self) -> None:
        self.check(
            1,
            "'frob:1' is no server endpoint like unix:/run/x or tcp:16509: Unknown endpoint type: 'frob'",
            *("--listen", "frob:1"),
        )

    def test_wrong_options(self) -> None:
        self.check(2, "option --frob not recognized; see 'twistd virnet --help'", "--frob")

    def test_as_a_daemon(self) -> None:
        """
        The process that daemonizes says what its child says, and no pid file is left.
        """
        done = subprocess.run(
            [sys.executable, "-c", TWISTD, "virnet", "--listen", "unix:/nonexistent/s"],
            cwd=self.directory,
            env={**os.environ, "XDG_RUNTIME_DIR": str(self.directory), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual(1, done.returncode)
        self.assertIn("cannot listen on /nonexistent/s", done.stderr)
        self.assertEqual(["twistd.log"], os.listdir(self.directory))
        log = (self.directory / "twistd.log").read_text()
        self.assertIn("cannot listen on /nonexistent/s: No such file or directory", log)


class Descriptors(ProcessCase):
    """How many files the daemon may have open: a soft limit is no limit for who knows what it needs."""

    def limited(self, soft: int) -> None:
        """Start what is started from now on with this soft limit."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))

    def test_the_soft_limit_is_raised_to_what_its_clients_need(self) -> None:
        self.limited(300)
        running = self.start("--listen", f"unix:{self.directory / 's'}", "--max-clients", "400")
        running.command()
        soft, _ = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)
        self.assertEqual(soft, 400 + DESCRIPTORS_RESERVED)

    def test_one_that_is_high_enough_stays(self) -> None:
        self.limited(900)
        running = self.start("--listen", f"unix:{self.directory / 's'}", "--max-clients", "40")
        running.command()
        self.assertEqual(resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)[0], 900)

    def test_what_the_hard_limit_forbids_is_said(self) -> None:
        # In a process of its own: a hard limit that was lowered stays so.
        done = subprocess.run(
            [sys.executable, "-c", HARD_LIMIT], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
        )
        self.assertIn("the system allows 500 open files, max_clients 400 can need 656", done.stdout)
        self.assertIn("(500, 500)", done.stdout)


class Explaining(ProcessCase):
    def test_help(self) -> None:
        for runner in RUNNERS:
            status, output, errors = self.start("--help", runner=runner).end()
            self.assertEqual((0, ""), (status, errors))
            for word in ("--listen=", "--listen-readonly=", "--min-workers=", "--max-workers=", "virsh"):
                self.assertIn(word, output)
