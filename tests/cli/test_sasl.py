"""
C{virnet sasl}: what is typed, what is printed, how it ends. And asking for a password of one's own.
"""

from __future__ import annotations

import getpass
import os
import pty
import signal
import sys
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from virnet.cli import asking
from virnet.cli.arguments import UsageError, parseArguments
from virnet.cli.asking import ask
from virnet.cli.output import Output
from virnet.cli.sasl import sasl
from virnet.errors import VirnetError
from virnet.security.credentials import CredentialRequest
from virnet.security.saslscram import makeKeys
from virnet.security.scramfile import ScramFile


class SASLTests(SynchronousTestCase):
    """
    On a file of its own.
    """

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())

    def typed(self, *words: str, stdin: str = "") -> str:
        """
        @param stdin: what is piped in.
        @return: what C{virnet sasl} printed.
        """
        self.patch(sys, "stdin", StringIO(stdin))
        stdout = StringIO()
        action, *more = words
        sasl(parseArguments(["sasl", action, self.path, *more]), Output(stdout, StringIO()))
        return stdout.getvalue()

    def test_a_password_that_is_piped_in(self) -> None:
        printed = self.typed("passwd", "--iterations", "4096", "alice", stdin="sec ret \nmore\n")
        self.assertEqual(printed, f"{self.path}: added alice\n")
        file = ScramFile(self.path)
        file.refresh()
        keys = file.keys("SCRAM-SHA-256", "alice")
        self.assertEqual(keys, makeKeys("SCRAM-SHA-256", "sec ret ", 4096, keys.salt))
        self.assertEqual(self.typed("passwd", "alice", stdin="other"), f"{self.path}: changed alice\n")

    def test_a_password_that_is_typed_twice(self) -> None:
        answers = ["secret", "secret"]
        self.patch(getpass, "getpass", lambda prompt: answers.pop())
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        with open(slave) as terminal:
            self.patch(sys, "stdin", terminal)
            sasl(parseArguments(["sasl", "passwd", self.path, "alice"]), Output(StringIO(), StringIO()))
            answers[:] = ["one", "two"]
            options = parseArguments(["sasl", "passwd", self.path, "bob"])
            error = self.assertRaises(VirnetError, sasl, options, Output(StringIO(), StringIO()))
        self.assertIn("differ", str(error))
        self.assertEqual(self.typed("list"), "alice\n")

    def test_users_come_and_go(self) -> None:
        for user in ("bob", "alice"):
            self.typed("passwd", user, stdin="x")
        self.assertEqual(self.typed("list"), "alice\nbob\n")
        self.assertEqual(self.typed("delete", "bob"), f"{self.path}: deleted bob\n")
        self.assertEqual(self.typed("list"), "alice\n")

    def test_what_makes_no_sense(self) -> None:
        for words, stdin, text in (
            (("passwd", "alice"), "", "no password on standard input"),
            (("passwd", "alice"), "\n", "must not be empty"),
            (("passwd", "a\tb"), "x", "not allowed in a name or password"),
            (("passwd", "--iterations", "4095", "alice"), "x", "must not be < 4096"),
            (("list",), "", "No such file"),
            (("delete", "alice"), "", "no such file"),
        ):
            error = self.assertRaises(VirnetError, self.typed, *words, stdin=stdin)
            self.assertIn(text, str(error))
        self.assertFalse(Path(self.path).exists())

    def test_a_password_is_not_asked_for_in_vain(self) -> None:
        """The error is about the name or the file, though there is no password on standard input."""
        error = self.assertRaises(VirnetError, self.typed, "passwd", "")
        self.assertIn("must not be empty", str(error))
        self.path = os.path.join(self.path, "users")
        error = self.assertRaises(VirnetError, self.typed, "passwd", "alice")
        self.assertEqual(f"there is no directory {os.path.dirname(self.path)}", str(error))

    def test_a_password_cannot_be_typed_behind_the_command(self) -> None:
        self.assertRaises(UsageError, self.typed, "passwd", "alice", "secret")


class AskingTests(SynchronousTestCase):
    """
    What the command does when a server wants to know.
    """

    REQUEST = CredentialRequest("password", "Password: ", True, "localhost", "PLAIN", "alice")

    def test_on_the_terminal_without_echo(self) -> None:
        master, slave = pty.openpty()
        for fd in (master, slave):
            self.addCleanup(os.close, fd)
        prompts: list[str] = []
        self.patch(asking, "TERMINAL", os.ttyname(slave))
        self.patch(getpass, "getpass", lambda prompt: prompts.append(prompt) or "secret")  # type: ignore[func-returns-value]
        self.assertEqual(ask(self.REQUEST), "secret")
        self.assertEqual(prompts, ["Password: "])
        os.write(master, b"alice\n")
        self.assertEqual(ask(CredentialRequest("authname", "Name: ", False, "localhost", "PLAIN")), "alice")
        self.assertIn(b"Name: ", os.read(master, 100))

    def test_without_a_terminal_the_text_says_what_to_do(self) -> None:
        self.patch(asking, "TERMINAL", "/nonexistent")
        error = self.assertRaises(VirnetError, ask, self.REQUEST)
        self.assertEqual(
            str(error),
            "the server at localhost wants a password, and there is no terminal to ask on:"
            " put it into auth.conf",
        )

    def test_interrupted_it_ends_as_at_any_other_time(self) -> None:
        seen: list[int] = []
        self.patch(asking, "TERMINAL", "/dev/null")

        def interrupted(prompt: str) -> str:
            raise KeyboardInterrupt

        self.patch(getpass, "getpass", interrupted)
        before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
        self.addCleanup(signal.signal, signal.SIGINT, before)
        self.assertNoResult(ask(self.REQUEST))
        self.assertEqual(seen, [signal.SIGINT])
