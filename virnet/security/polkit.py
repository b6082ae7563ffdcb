"""Asking polkit whether a process may do something.

Rules:

  - The question is put by C{pkcheck}, polkit's own program, as C{--process PID,START,UID}: number, start time
    and user are those of the connection, so a later process of the same number is not taken for it. Without
    a start time nothing is asked.
  - Only C{pkcheck}'s exit status 0 is a yes.
  - Errors have libvirt's numbers and texts (C: C{virPolkitCheckAuth}).
  - polkit answers questions about other users' processes only to root and to the owner that the action's
    definition names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError, VirnetError
from virnet.limits import POLKIT_MESSAGE_MAX
from virnet.security.identity import Identity

MANAGE = "org.libvirt.unix.manage"
"""The action of who connects to a socket for reading and writing."""

MONITOR = "org.libvirt.unix.monitor"
"""The action of who connects to a read-only socket."""

_DENIED, _CHALLENGE, _DISMISSED, _NO_BUS, _ERROR = 1, 2, 3, 126, 127
"""Exit statuses of C{pkcheck}."""


class PolkitMissing(VirnetError):
    """There is no C{pkcheck} here."""


class Polkit:
    """Puts questions to polkit."""

    def __init__(
        self, reactor: Any, command: str = "pkcheck", environ: Mapping[str, str] = os.environ
    ) -> None:
        """@param reactor: starts the processes.
        @param command: C{pkcheck}, or a path to it.
        @param environ: its environment; C{DBUS_SYSTEM_BUS_ADDRESS} says where the bus is.
        @raise PolkitMissing: it is not installed.
        """
        found = shutil.which(command)
        if found is None:
            raise PolkitMissing(f"{command} is not installed: it comes with polkit, and asks it")
        self._reactor = reactor
        self._command = found
        # Messages as they are; a client cannot know the server's language.
        self._environ = {**environ, "LC_ALL": "C"}

    def check(self, action: str, identity: Identity, interactive: bool = True) -> Deferred[None]:
        """Ask.

        @param action: the action's id.
        @param identity: of a UNIX peer whose start time is known.
        @param interactive: polkit may ask a person, which takes as long as that takes.
        @return: fires if polkit says yes, fails with L{RemoteError} if not. Cancelling it takes the question
            back.
        """
        subject = f"{identity.pid},{identity.processStart},{identity.uid}"
        arguments = [self._command, "--process", subject, "--action-id", action]
        if interactive:
            arguments.append("--allow-user-interaction")
        check = _Check(action)
        self._reactor.spawnProcess(check, self._command, arguments, self._environ)
        return check.answer


class _Check(ProcessProtocol):
    """A running C{pkcheck}."""

    def __init__(self, action: str) -> None:
        self._action = action
        self._printed = b""
        self.answer: Deferred[None] = Deferred(lambda _: self._stop())

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.closeStdin()

    def errReceived(self, data: bytes) -> None:
        self._printed = (self._printed + data)[:POLKIT_MESSAGE_MAX]

    def processEnded(self, reason: Failure) -> None:
        if self.answer.called:
            return
        if reason.check(ProcessDone):
            self.answer.callback(None)
        else:
            status = getattr(reason.value, "exitCode", None)
            self.answer.errback(refusal(self._action, status, self._printed.decode(errors="replace")))

    def _stop(self) -> None:
        try:
            if self.transport is not None:
                self.transport.signalProcess("TERM")
        except ProcessExitedAlready:
            pass


def refusal(action: str, status: int | None, printed: str) -> RemoteError:
    """The error for what C{pkcheck} said.

    @param action: what was asked for.
    @param status: its exit status, not 0; C{None} if a signal ended it.
    @param printed: on standard error.
    """
    message = " ".join(printed.split())
    code, domain, detail = {
        _DENIED: (ErrorNumber.AUTH_FAILED, ErrorDomain.POLKIT, "access denied by policy"),
        _CHALLENGE: (
            ErrorNumber.AUTH_UNAVAILABLE,
            ErrorDomain.POLKIT,
            f"no polkit agent available to authenticate action '{action}'",
        ),
        _DISMISSED: (ErrorNumber.AUTH_CANCELLED, ErrorDomain.POLKIT, "user cancelled authentication process"),
        _NO_BUS: (
            ErrorNumber.INTERNAL_ERROR,
            ErrorDomain.DBUS,
            f"Unable to get system bus connection: {message.rpartition('authority: ')[2]}",
        ),
        _ERROR: (
            ErrorNumber.DBUS_SERVICE,
            ErrorDomain.DBUS,
            message.removeprefix(f"Error checking for authorization {action}: "),
        ),
    }.get(
        -1 if status is None else status,
        (ErrorNumber.INTERNAL_ERROR, ErrorDomain.POLKIT, "pkcheck did not answer"),
    )
    return RemoteError.of(code, detail, domain)
