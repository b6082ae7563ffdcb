"""What people see and type: the console, C{top}, progress and colours at a real terminal."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.terminals import PATIENCE, Typist
from tests.interop.support import ROOT, VirnetDaemon

WEB1 = "<domain type='test'><name>web1</name><memory>1024</memory><os><type>hvm</type></os></domain>"


def environment(uri: str, **variables: str) -> dict[str, str]:
    """What the command runs in."""
    path = os.pathsep.join(
        filter(None, (variables.pop("first", ""), str(ROOT), os.environ.get("PYTHONPATH")))
    )
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    return {**kept, "PYTHONPATH": path, "LIBVIRT_DEFAULT_URI": uri, **variables}


class TerminalCase(SynchronousTestCase):
    """
    A server for all tests of a class, and terminals.
    """

    daemon: ClassVar[VirnetDaemon | None] = None

    def setUp(self) -> None:
        if type(self).daemon is None:
            daemon = VirnetDaemon()
            daemon.start()
            type(self).daemon = daemon

    @property
    def uri(self) -> str:
        assert self.daemon is not None
        return self.daemon.uri

    def at(self, *words: str, variables: dict[str, str] | None = None, **options: Any) -> Typist:
        """Start the command at a terminal."""
        typist = Typist(
            sys.executable,
            *("-m", "virnet.cli", *words),
            environment=environment(self.uri, **(variables or {})),
            **options,
        )
        self.addCleanup(typist.close)
        return typist

    def ran(self, *words: str, given: bytes = b"") -> tuple[int, bytes, bytes]:
        """Run the command without a terminal."""
        done = subprocess.run(
            [sys.executable, "-m", "virnet.cli", *words],
            env=environment(self.uri),
            input=given,
            capture_output=True,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout, done.stderr

    def assertRestored(self, typist: Typist, size: tuple[int, int] = (24, 100)) -> None:
        self.assertEqual((typist.before, size), (typist.mode(), typist.size))


class Console(TerminalCase):
    """
    Every key goes to the guest; whatever ends it, the terminal is as it was.
    """

    def connected(self, *options: str, domain: str = "test") -> Typist:
        typist = self.at("console", *options, domain)
        typist.expect(f"Connected to domain '{domain}', escape key is ")
        typist.expect(f"{domain} echo guest\r\n")
        self.assertTrue(typist.raw)
        return typist

    def test_until_the_escape_key(self) -> None:
        typist = self.connected()
        typist.type("hello\r")
        typist.expect("hello\r\n")
        typist.type("\x1dnot sent")
        self.assertEqual(0, typist.finish())
        self.assertRestored(typist)
        self.assertNotIn("not sent", typist.rest)

    def test_keys_that_mean_something_here_mean_something_there(self) -> None:
        typist = self.connected()
        for key in ("\x03", "\x1a", "\x1c", "\x04", "\x11\x13"):
            typist.type(key)
            typist.expect(key)
        typist.type("\x1d")
        self.assertEqual(0, typist.finish())

    def test_a_window_that_changes_its_size_keeps_it(self) -> None:
        typist = self.connected()
        typist.resize(30, 90)
        typist.type("still there\r")
        typist.expect("still there\r\n")
        typist.type("\x1d")
        self.assertEqual(0, typist.finish())
        self.assertRestored(typist, (30, 90))
        # The whole of it scrolls again, whatever the guest had said.
        self.assertIn("\x1b[r", typist.rest)

    def test_another_escape_key(self) -> None:
        for escape, key in (("^a", "\x01"), ("~", "~")):
            typist = self.connected("--escape", escape)
            typist.type("\x1d")
            typist.expect("\x1d")
            typist.type(key)
            self.assertEqual(0, typist.finish())

    def test_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            typist = self.connected()
            typist.signal(number)
            self.assertEqual(128 + number, typist.finish())
            self.assertRestored(typist)

    def test_stopped_and_let_go_on(self) -> None:
        """
        Whoever had the terminal meanwhile may have changed it.
        """
        import termios

        typist = self.connected()
        typist.signal(signal.SIGSTOP)
        os.waitpid(typist.pid, os.WUNTRACED)
        termios.tcsetattr(typist._slave, termios.TCSANOW, typist.before)
        typist.signal(signal.SIGCONT)
        typist.until(lambda: typist.raw)
        typist.type("\x1d")
        self.assertEqual(0, typist.finish())
        self.assertRestored(typist)

    def test_a_lost_connection(self) -> None:
        with VirnetDaemon() as other:
            typist = self.at("-c", other.uri, "console", "test")
            typist.expect("echo guest\r\n")
            os.kill(other.pid, signal.SIGKILL)
            self.assertEqual(1, typist.finish())
        self.assertRestored(typist)
        self.assertRegex(typist.rest, r"virnet: the connection to .* was closed by the server\r\n$")

    def test_a_guest_that_stops(self) -> None:
        self.assertEqual(0, self.ran("define", "-", given=WEB1.encode())[0])
        self.assertEqual(0, self.ran("start", "web1")[0])
        typist = self.connected(domain="web1")
        self.assertEqual(0, self.ran("destroy", "web1")[0])
        self.assertIn(typist.finish(), (0, 1))
        self.assertRestored(typist)

    def test_what_the_guest_left_switched_on_is_switched_off(self) -> None:
        typist = self.connected()
        typist.type("\x1b[?1049h\x1b[31m\x1b[?25l")
        typist.expect("\x1b[?25l")
        typist.type("\x1d")
        self.assertEqual(0, typist.finish())
        for wanted in ("\x1b[0m", "\x1b[?25h", "\x1b[?1049l"):
            self.assertIn(wanted, typist.rest)

    def test_a_screen_that_was_not_switched_is_not_switched_back(self) -> None:
        typist = self.connected()
        typist.type("\x1d")
        typist.finish()
        self.assertNotIn("\x1b[?1049l", typist.rest)

    def test_somebody_else_has_it(self) -> None:
        typist = self.connected()
        status, _, errors = self.ran("console", "test")
        self.assertEqual(1, status)
        self.assertIn(b"Active console session exists for this domain", errors)
        other = self.connected("--force")
        other.type("\x1d")
        self.assertEqual(0, other.finish())
        self.assertIn(typist.finish(), (0, 1))
        self.assertRestored(typist)

    def test_standard_input_is_no_terminal(self) -> None:
        self.assertEqual(
            (0, b"\r\ntest echo guest\r\nhello\x1d\r\n", b""),
            self.ran("console", "--idle", "0.5", "test", given=b"hello\x1d\r"),
        )

    def test_standard_input_is_a_file(self) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(b"from a file\r")
            file.seek(0)
            done = subprocess.run(
                [sys.executable, "-m", "virnet.cli", "console", "--idle", "0.5", "test"],
                env=environment(self.uri),
                stdin=file,
                capture_output=True,
                timeout=PATIENCE,
            )
        self.assertEqual((0, b"\r\ntest echo guest\r\nfrom a file\r\n"), (done.returncode, done.stdout))

    def test_no_such_domain(self) -> None:
        typist = self.at("console", "nope")
        self.assertEqual(1, typist.finish())
        self.assertIn("failed to get domain 'nope'", typist.rest)


class Top(TerminalCase):
    """
    A table that is always of now, and a terminal that is as it was.
    """

    def watching(self, *options: str) -> Typist:
        typist = self.at("top", *options)
        typist.expect("q quit")
        self.assertTrue(typist.raw)
        return typist

    def test_until_q(self) -> None:
        typist = self.watching("-d", "0.05")
        self.assertIn("\x1b[?1049h", typist.output)
        self.assertRegex(typist.output, r"1 +test +running +- +2 +2\.0 GiB")
        # The first rates are there with the second look.
        typist.expect("running")
        typist.expect("q quit")
        self.assertRegex(typist.output, r"1 +test +running +\d+\.\d +2 +2\.0 GiB")
        typist.type("q")
        self.assertEqual(0, typist.finish())
        self.assertRestored(typist)
        self.assertIn("\x1b[?1049l", typist.rest)

    def test_keys(self) -> None:
        self.assertEqual(0, self.ran("define", "-", given=WEB1.encode())[0])
        typist = self.watching("--all", "-d", "3600")
        for key, first in (("m", "test"), ("n", "test"), (" ", "test")):
            typist.type(key)
            shown = typist.expect("q quit")
            self.assertLess(shown.index(first), shown.index("web1"))
        typist.type("q")
        self.assertEqual(0, typist.finish())

    def test_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            typist = self.watching()
            typist.signal(number)
            self.assertEqual(128 + number, typist.finish())
            self.assertRestored(typist)
            self.assertIn("\x1b[?1049l", typist.rest)

    def test_Ctrl_C(self) -> None:
        typist = self.watching()
        typist.type("\x03")
        self.assertEqual(130, typist.finish())
        self.assertRestored(typist)

    def test_a_lost_connection(self) -> None:
        with VirnetDaemon() as other:
            typist = self.at("-c", other.uri, "top")
            typist.expect("q quit")
            os.kill(other.pid, signal.SIGKILL)
            self.assertEqual(1, typist.finish())
        self.assertRestored(typist)
        self.assertIn("was closed by the server", typist.rest)

    def test_it_fits_the_screen(self) -> None:
        typist = self.at("top", rows=6, columns=40)
        typist.expect("q quit")
        typist.type("q")
        typist.finish()
        picture = typist.output.partition("\x1b[H")[2].partition("\x1b[J")[0]
        lines = [re.sub(r"\x1b\[[0-9;]*[mK]", "", line).rstrip() for line in picture.split("\n")]
        self.assertEqual(6, len(lines))
        self.assertLessEqual(max(map(len, lines)), 40)

    def test_once(self) -> None:
        status, output, errors = self.ran("top", "--once", "--delay", "0.1")
        self.assertEqual((0, b""), (status, errors))
        self.assertRegex(output.decode(), r"(?m)^1    test   running +\d+\.\d +2   2\.0 GiB")


class Progress(TerminalCase):
    """
    How an upload is shown.
    """

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, self.directory)
        # Somebody who sends slowly, so that there is something to see.
        self.fifo = self.directory / "fifo"
        os.mkfifo(self.fifo)
        name = f"v{os.getpid()}-{id(self)}"
        self.words = (
            "vol-upload",
            name,
            "--pool",
            "default-pool",
            "--create",
            "8M",
            "--size",
            "2M",
            str(self.fifo),
        )

    def fill(self, typist: Typist, expected: str) -> None:
        """Send half, see that shown, send the rest."""
        with self.fifo.open("wb", buffering=0) as file:
            sent = self.half(typist, file, expected)
            file.write(b"x" * (2 * 1024 * 1024 - sent))

    def half(self, typist: Typist, file: Any, expected: str) -> int:
        """Send half; then single bytes, because a picture is only made when something has come."""
        for sent in range(1000000):
            file.write(b"x" * (1 if sent else 1000000))
            typist.read()
            if expected in typist.output:
                return 1000000 + sent
        raise self.failureException(f"it does not show {expected!r}, but {typist.output!r}")

    def test_a_bar(self) -> None:
        typist = self.at(*self.words)
        self.fill(typist, "976.6 KiB of 2.0 MiB (47 %)")
        self.assertEqual(0, typist.finish(), typist.output)
        self.assertIn("━", typist.output)
        self.assertRegex(typist.output, r"uploaded: 2\.0 MiB in ")

    def test_without_rich(self) -> None:
        (self.directory / "rich").mkdir()
        (self.directory / "rich" / "__init__.py").write_text("raise ImportError('not here')")
        typist = self.at(*self.words, variables={"first": str(self.directory)})
        self.fill(typist, "976.6 KiB of 2.0 MiB (47 %)")
        self.assertEqual(0, typist.finish(), typist.output)
        self.assertIn(": [###", typist.output)
        self.assertNotIn("━", typist.output)

    def test_a_failure_leaves_no_bar(self) -> None:
        typist = self.at(*self.words)
        with self.fifo.open("wb") as file:
            file.write(b"x" * 1000000)
        self.assertEqual(1, typist.finish())
        self.assertIn("has 1000000 bytes, not 2097152", typist.output)

    def test_interrupted(self) -> None:
        typist = self.at(*self.words)
        with self.fifo.open("wb", buffering=0) as file:
            self.half(typist, file, "of 2.0 MiB")
            typist.type("\x03")
            self.assertEqual(130, typist.finish())
        self.assertRestored(typist)
        # What was made for it is gone.
        self.assertNotIn(self.words[1].encode(), self.ran("vol-list")[1])

    def test_in_a_pipe_there_is_none(self) -> None:
        file = self.directory / "file"
        file.write_bytes(b"x" * 2 * 1024 * 1024)
        status, output, errors = self.ran(*self.words[:-1], str(file))
        self.assertEqual((0, b""), (status, errors))
        self.assertRegex(output, rb"^Volume '.*' uploaded: 2\.0 MiB in .* s, .*/s\n$")


class Pipes(TerminalCase):
    """
    Nobody hangs in a pipe.
    """

    def started(self, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "virnet.cli", *words],
            env=environment(self.uri),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def setUp(self) -> None:
        super().setUp()
        xml = "<volume><name>pipe</name><capacity unit='MiB'>64</capacity><allocation>0</allocation></volume>"
        self.ran("call", "storageVolCreateXML", "default-pool", xml)

    def test_whose_reader_does_not_read(self) -> None:
        process = self.started("vol-download", "pipe", "--pool", "default-pool", "-")
        assert process.stdout is not None
        process.stdout.read(1)
        process.terminate()
        self.assertEqual(143, process.wait(PATIENCE))

    def test_whose_reader_goes_away(self) -> None:
        process = self.started("vol-download", "pipe", "--pool", "default-pool", "-")
        assert process.stdout is not None
        process.stdout.read(1)
        process.stdout.close()
        self.assertNotEqual(0, process.wait(PATIENCE))

    def test_whose_writer_does_not_write(self) -> None:
        process = self.started("vol-upload", "pipe", "--pool", "default-pool", "-")
        assert process.stdin is not None
        process.stdin.write(b"x" * 1000000)
        process.stdin.flush()
        process.terminate()
        self.assertEqual(143, process.wait(PATIENCE))

    def test_everything_arrives(self) -> None:
        data = os.urandom(3000000)
        words = ("pipe", "--pool", "default-pool", "-", "--quiet")
        status, _, errors = self.ran("vol-upload", *words, given=data)
        self.assertEqual((0, b""), (status, errors))
        status, output, _ = self.ran("vol-download", *words, "--length", "3000000")
        self.assertEqual((0, True), (status, output == data))


class Editor(TerminalCase):
    """
    The editor has the terminal, Ctrl-C included.
    """

    def test_Ctrl_C_is_the_editors(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, directory)
        editor = directory / "editor"
        editor.write_text(
            "#!/bin/sh\n"
            "trap 'echo trapped; sed -i s/2097152/1048576/ \"$1\"; exit 0' INT\n"
            "echo ready\n"
            "read line\n"
        )
        editor.chmod(0o755)
        typist = self.at("edit", "test", variables={"VISUAL": str(editor)})
        typist.expect("ready")
        typist.type("\x03")
        typist.expect("trapped")
        self.assertEqual(0, typist.finish())
        self.assertIn("Domain 'test' changed", typist.rest)


class Colours(TerminalCase):
    """
    Colour on a terminal, nowhere else.
    """

    def test_on_a_terminal(self) -> None:
        typist = self.at("list")
        self.assertEqual(0, typist.finish())
        self.assertIn("\x1b[32mrunning\x1b[0m", typist.output)

    def test_not_for_who_does_not_want_it(self) -> None:
        typist = self.at("list", variables={"NO_COLOR": "1"})
        self.assertEqual(0, typist.finish())
        self.assertIn("running", typist.output)
        self.assertNotIn("\x1b", typist.output)

    def test_not_in_a_pipe(self) -> None:
        self.assertNotIn(b"\x1b", self.ran("list")[1])


class Start(SynchronousTestCase):
    """
    Help comes at once: it loads nothing that it does not need.
    """

    def test_help_does_without_Twisted(self) -> None:
        code = (
            "import sys; from virnet.cli.main import main; main(sys.argv[1:]); "
            "sys.exit(any(name in sys.modules for name in ('twisted', 'treq', 'rich', 'zope.interface')))"
        )
        for words in (["--help"], ["vol-upload", "--help"], ["frob"], ["completion", "bash"]):
            done = subprocess.run(
                [sys.executable, "-c", code, *words],
                env=environment(""),
                capture_output=True,
                timeout=PATIENCE,
            )
            self.assertEqual(0, done.returncode, (words, done.stderr))
