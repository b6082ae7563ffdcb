"""
The guides, followed to the letter: what their C{console} blocks say is typed is run, in order, in an empty
directory with the examples in it, and has to print what the block says. C{…} in a line stands for any text,
alone on a line for any lines.

A block with C{:class: keeps-running} holds one command that goes on in a terminal of its own; it has to print
its lines and is interrupted at the end of the page.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import NamedTuple

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop.kerberos import TOOLS
from tests.interop.support import requireModule, requireTool

CHECKOUT = Path(__file__).resolve().parent.parent
DOCS = CHECKOUT / "docs"
EXAMPLES = DOCS / "examples"

#: Seconds after which a command hangs.
PATIENCE = 60.0

BLOCK = re.compile(
    r"^\.\. code-block:: console\n(?P<options>(?:   :.*\n)*)\n(?P<text>(?:(?:   .*)?\n)+)", re.MULTILINE
)


class Step(NamedTuple):
    """
    A command of a page.

    @ivar output: the lines it prints.
    @ivar keepsRunning: whether it has a terminal of its own.
    """

    command: str
    output: list[str]
    keepsRunning: bool


def steps(page: str) -> list[Step]:
    """
    Every command of a page, in order.
    """
    found: list[Step] = []
    for block in BLOCK.finditer(page):
        for line in block["text"].splitlines():
            if line.startswith("   $ "):
                found.append(Step(line[5:], [], "keeps-running" in block["options"]))
            else:
                found[-1].output.append(line[3:].rstrip())
    return [step._replace(output=strip(step.output)) for step in found]


def strip(lines: list[str]) -> list[str]:
    """
    @return: the lines without trailing spaces and without empty lines at the end.
    """
    return "\n".join(line.rstrip() for line in lines).rstrip().splitlines()


def matches(expected: list[str], printed: list[str]) -> bool:
    """
    Whether a command printed what its page says.
    """
    pattern = "".join(
        r"(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n"
        for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


class Session:
    """
    Somebody following a page.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[subprocess.Popen[str]] = []
        # The command of this checkout, installed or not.
        commands = directory / ".bin"
        commands.mkdir()
        (commands / "virnet").write_text(f'#!/bin/sh\nexec {sys.executable} -m virnet.cli "$@"\n')
        (commands / "virnet").chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "LC_ALL": "C.UTF-8",
        }

    def follow(self, step: Step) -> list[str]:
        """
        @return: the lines it printed; of a command that keeps running, until they are what the step shows.
        """
        process = subprocess.Popen(
            ["bash", "-c", step.command],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        watchdog = Timer(PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
        watchdog.start()
        try:
            if step.keepsRunning:
                self.running.append(process)
                printed: list[str] = []
                while not matches(step.output, printed) and (line := process.stdout.readline()):
                    printed.append(line.rstrip())
                return printed
            with process.stdout:
                lines = strip(process.stdout.readlines())
            process.wait()
            return lines
        finally:
            watchdog.cancel()

    def end(self) -> list[str]:
        """
        Interrupt what keeps running, as Ctrl-C does.

        @return: the commands that did not stop.
        """
        stubborn = []
        for process in reversed(self.running):
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                stubborn.append(str(process.args))
        return stubborn


class GuidesTests(SynchronousTestCase):
    """
    Each page does what it says.
    """

    def follow(self, page: str) -> None:
        todo = steps((DOCS / page).read_text())
        self.assertTrue(todo, f"{page} has no command")
        if any(step.command.startswith("virsh ") for step in todo) and shutil.which("virsh") is None:
            raise SkipTest("virsh is not installed")
        # Not in trial's own directory: the path of a UNIX socket has at most 107 bytes.
        directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, directory)
        for example in EXAMPLES.iterdir():
            if example.is_file():
                shutil.copy(example, directory)
        session = Session(directory)
        try:
            for step in todo:
                printed = session.follow(step)
                if not matches(step.output, printed):
                    self.fail(
                        f"{page}: $ {step.command}\nshall print\n"
                        + "\n".join(step.output)
                        + "\nbut printed\n"
                        + "\n".join(printed)
                    )
        finally:
            stubborn = session.end()
        self.assertEqual([], stubborn, "still running after Ctrl-C")

    def test_a_domain_of_your_own_shows_up_in_virsh(self) -> None:
        self.follow("tutorial/own-domain.rst")

    def test_a_script_lists_domains_without_blocking(self) -> None:
        self.follow("tutorial/list-domains.rst")

    def test_your_code_without_libvirt(self) -> None:
        self.follow("howto/test-your-code.rst")

    def test_tracing(self) -> None:
        self.follow("howto/tracing.rst")

    def test_asyncio(self) -> None:
        self.follow("howto/asyncio.rst")

    def test_buildbot_workers(self) -> None:
        if find_spec("buildbot") is None:
            raise SkipTest("Buildbot is not installed")
        self.follow("howto/buildbot-worker.rst")

    def test_declare_a_program_of_your_own(self) -> None:
        self.follow("howto/own-program.rst")

    def test_say_who_may_do_what(self) -> None:
        self.follow("howto/access-rules.rst")

    def test_make_certificates_for_TLS(self) -> None:
        self.follow("howto/certificates.rst")

    def test_serve_and_connect_over_TLS(self) -> None:
        self.follow("howto/tls.rst")

    def test_connect_over_ssh(self) -> None:
        requireTool(self, "virsh", "ssh", "ssh-keygen", "sshd", "nc")
        self.follow("howto/ssh.rst")

    def test_what_a_uri_means(self) -> None:
        self.follow("reference/uris.rst")

    def test_endpoint_strings(self) -> None:
        requireTool(self, "nc")
        self.follow("reference/endpoint-strings.rst")

    def test_move_data_through_streams(self) -> None:
        self.follow("howto/streams.rst")

    def test_use_the_command(self) -> None:
        self.follow("howto/cli.rst")

    def test_fill_volumes_from_the_web(self) -> None:
        self.follow("howto/volumes-from-http.rst")

    def test_ask_for_a_password(self) -> None:
        self.follow("howto/passwords.rst")

    def test_log_in_with_kerberos(self) -> None:
        requireTool(self, "virsh", *TOOLS)
        requireModule(self, "gssapi")
        self.follow("howto/kerberos.rst")


class ScreenshotsTests(SynchronousTestCase):
    """
    What a terminal shows, in tmux; and the pictures of it in the guides.
    """

    def test_they_can_be_taken_and_are_shown(self) -> None:
        requireTool(self, "tmux")
        requireModule(self, "rich")
        directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, directory)
        done = subprocess.run(
            [sys.executable, str(DOCS / "screenshots.py"), str(directory)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual((0, "", ""), (done.returncode, done.stdout, done.stderr))
        page = (DOCS / "howto" / "cli.rst").read_text()
        wanted = {
            "console.svg": ("escape key is ^]", "hello, guest", "back in the shell"),
            "top.svg": ("1 domain, 1 running", "q quit"),
            "vol-upload.svg": ("976.6 KiB of 2.0 MiB (47 %)",),
        }
        self.assertEqual(set(wanted), {each.name for each in directory.iterdir()})
        for name, texts in wanted.items():
            self.assertIn(f".. image:: {name}\n", page)
            for picture in (directory / name, DOCS / "howto" / name):
                drawn = picture.read_text().replace("&#160;", " ")
                for text in texts:
                    self.assertIn(text, drawn)


class ExamplesTests(SynchronousTestCase):
    """
    The examples and the pages belong together.
    """

    def test_every_example_is_shown(self) -> None:
        """
        An example that no page includes is followed by nobody, the tests included.
        """
        pages = "".join(page.read_text() for page in DOCS.rglob("*.rst"))
        unused = [file.name for file in EXAMPLES.glob("*.*") if f"examples/{file.name}" not in pages]
        self.assertEqual([], unused)


class StepsTests(SynchronousTestCase):
    """
    What is read from a page.
    """

    PAGE = (
        "Start it::\n\n   $ not this\n\n"
        ".. code-block:: console\n   :class: keeps-running\n\n   $ serve\n   on 1…\n\n"
        "Then ask:\n\n"
        ".. code-block:: console\n\n   $ ask a\n   $ ask b\n   one\n\n    two\n\n"
        "That was it.\n"
    )

    def test_commands_and_their_output(self) -> None:
        self.assertEqual(
            [
                Step("serve", ["on 1…"], True),
                Step("ask a", [], False),
                Step("ask b", ["one", "", " two"], False),
            ],
            steps(self.PAGE),
        )

    def test_ellipsis_stands_for_any_text(self) -> None:
        self.assertTrue(matches(["on …/x.sock (…)"], ["on /tmp/a/x.sock (1)"]))
        self.assertFalse(matches(["on …/x.sock"], ["on /tmp/a/x.sock now"]))
        self.assertFalse(matches(["1.5"], ["1x5"]))

    def test_ellipsis_alone_stands_for_any_lines(self) -> None:
        self.assertTrue(matches(["…", "ready"], ["starting", "still", "ready"]))
        self.assertTrue(matches(["…", "ready"], ["ready"]))
        self.assertFalse(matches(["…", "ready"], ["starting"]))

    def test_every_line_counts(self) -> None:
        self.assertFalse(matches(["a"], ["a", "b"]))
        self.assertFalse(matches(["a", "b"], ["a"]))
        self.assertTrue(matches([], []))
