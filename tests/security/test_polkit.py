"""Asking C{pkcheck}: what it is told, what its exit status means."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, inlineCallbacks
from twisted.internet.process import ProcessReader
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from virnet.errors import RemoteError
from virnet.limits import POLKIT_MESSAGE_MAX
from virnet.security.identity import Identity
from virnet.security.polkit import Polkit, PolkitMissing, refusal

reactor: Any = installed

SOMEBODY = Identity(transport="unix", pid=4711, processStart=99, uid=1000)
ACTION = "org.libvirt.unix.manage"


class Refusals(SynchronousTestCase):
    """Exit status to error, as libvirtd 9.0.0 reports it."""

    def assertRefused(
        self, code: int, domain: int, message: str, status: int | None, printed: str = ""
    ) -> None:
        """The error has this."""
        error = refusal(ACTION, status, printed)
        self.assertEqual((error.code, error.domain, error.message), (code, domain, message))

    def test_denied(self) -> None:
        self.assertRefused(45, 60, "authentication failed: access denied by policy", 1, "Not authorized.\n")

    def test_nobody_to_ask_for_a_password(self) -> None:
        self.assertRefused(
            94,
            60,
            f"authentication unavailable: no polkit agent available to authenticate action '{ACTION}'",
            2,
        )

    def test_cancelled(self) -> None:
        text = "authentication cancelled: user cancelled authentication process"
        self.assertRefused(79, 60, text, 3)

    def test_no_bus(self) -> None:
        self.assertRefused(
            1,
            47,
            "internal error: Unable to get system bus connection: Could not connect: No such file or"
            " directory",
            126,
            "Error getting authority: Error initializing authority: Could not connect: No such file or"
            " directory\n",
        )

    def test_polkit_answers_with_an_error(self) -> None:
        self.assertRefused(
            89,
            47,
            "error from service: GDBus.Error:org.freedesktop.DBus.Error.ServiceUnknown: no such name",
            127,
            f"Error checking for authorization {ACTION}:"
            " GDBus.Error:org.freedesktop.DBus.Error.ServiceUnknown: no such name\n",
        )

    def test_anything_else_is_no_yes(self) -> None:
        for status in (None, 4, 125, 255):
            self.assertRefused(1, 60, "internal error: pkcheck did not answer", status)


class Asking(TestCase):
    """A program in the place of C{pkcheck}."""

    timeout = 20

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def polkit(self, script: str) -> Polkit:
        """A polkit that is this script."""
        program = self.directory / "pkcheck"
        program.write_text("#!/bin/sh\n" + script)
        program.chmod(0o755)
        return Polkit(reactor, str(program), {**os.environ, "OUT": str(self.directory / "out")})

    @inlineCallbacks
    def test_what_it_is_told(self) -> Any:
        yield self.polkit('echo "$@" "$LC_ALL" >$OUT').check(ACTION, SOMEBODY)
        told = (self.directory / "out").read_text()
        self.assertEqual(told, f"--process 4711,99,1000 --action-id {ACTION} --allow-user-interaction C\n")

    @inlineCallbacks
    def test_nobody_shall_be_asked(self) -> Any:
        yield self.polkit('echo "$@" >$OUT').check(ACTION, SOMEBODY, interactive=False)
        told = (self.directory / "out").read_text()
        self.assertEqual(told, f"--process 4711,99,1000 --action-id {ACTION}\n")

    @inlineCallbacks
    def test_statuses(self) -> Any:
        for status, code in ((1, 45), (2, 94), (3, 79), (126, 1), (127, 89)):
            error = yield self.assertFailure(
                self.polkit(f"exit {status}").check(ACTION, SOMEBODY), RemoteError
            )
            self.assertEqual(error.code, code)

    @inlineCallbacks
    def test_a_signal_is_no_yes(self) -> Any:
        error = yield self.assertFailure(self.polkit("kill -9 $$").check(ACTION, SOMEBODY), RemoteError)
        self.assertEqual(error.message, "internal error: pkcheck did not answer")

    @inlineCallbacks
    def test_only_so_much_is_read(self) -> Any:
        script = "for i in 1 2 3 4 5 6 7 8 9; do printf '%02000d' 0 >&2; done; exit 127"
        error = yield self.assertFailure(self.polkit(script).check(ACTION, SOMEBODY), RemoteError)
        self.assertEqual(len(error.message), len("error from service: ") + POLKIT_MESSAGE_MAX)

    @inlineCallbacks
    def test_a_question_that_is_taken_back_ends_the_process(self) -> Any:
        out = self.directory / "out"
        polkit = self.polkit("trap 'echo gone >>$OUT; exit 1' TERM; echo here >>$OUT; while :; do :; done")
        asked = polkit.check(ACTION, SOMEBODY)
        yield self.until(out.exists)
        asked.cancel()
        yield self.assertFailure(asked, CancelledError)
        yield self.until(lambda: not any(isinstance(each, ProcessReader) for each in reactor.getReaders()))
        self.assertEqual(out.read_text(), "here\ngone\n")

    @inlineCallbacks
    def until(self, true: Callable[[], bool]) -> Any:
        """Wait until something is the case."""
        while not true():
            yield deferLater(reactor, 0.01)

    def test_it_is_not_installed(self) -> None:
        error = self.assertRaises(PolkitMissing, Polkit, reactor, "/nonexistent/pkcheck")
        self.assertEqual(
            str(error), "/nonexistent/pkcheck is not installed: it comes with polkit, and asks it"
        )
