"""Clients of UNIX sockets authenticate by who they are, and polkit says whether that is good enough.

Rules (``wire.md`` section 10):

  - Root is let in by AUTH_LIST, which answers 0, without polkit being asked. A root client that does not call
    it stays outside.
  - AUTH_POLKIT asks for C{org.libvirt.unix.manage}, on a read-only socket for C{org.libvirt.unix.monitor}.
  - Who has no credentials, or whose process has no start time, is refused: it could be another process.
  - One question at a time; it is taken back when the client goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.security.identity import Identity
from virnet.security.polkit import MANAGE, MONITOR
from virnet.server.authentication import (
    AUTH_NONE,
    AUTH_POLKIT,
    Authenticator,
    IAuthenticator,
    IClientAuthentication,
    failure,
)

if TYPE_CHECKING:
    from virnet.server.client import ServerClient

Check = Callable[[str, Identity], Deferred[None]]
"""Called with an action and an identity: L{Polkit.check<virnet.security.polkit.Polkit.check>}."""


class PolkitAuthenticator(Authenticator):
    """Asks polkit about one client."""

    authType = AUTH_POLKIT

    def __init__(self, client: ServerClient, check: Check) -> None:
        super().__init__(client)
        # Now: the sooner the start time is read, the surer it is the same process.
        self._identity = client.identity
        self._check = check
        self._asking: Deferred[None] | None = None

    @property
    def _who(self) -> str:
        return f"pid:{self._identity.pid},uid:{self._identity.uid}"

    def authList(self) -> list[int]:
        """Let root in; tell others to ask for polkit."""
        if self._identity.uid == 0:
            self.allow(self._who)
            return [AUTH_NONE]
        return [AUTH_POLKIT]

    def authPolkit(self) -> Deferred[int]:
        """Ask polkit."""
        if self._identity.pid is None or self._identity.processStart is None:
            self.fail("it is not known which process the client is")
            raise failure()
        if self._asking is not None:
            self.fail("polkit has been asked and has not answered yet")
            raise failure()
        action = MONITOR if self.client.readonly else MANAGE
        asking = self._asking = self._check(action, self._identity)
        return asking.addBoth(self._answered).addCallbacks(self._allowed, self._refused)

    def _answered(self, result: Any) -> Any:
        self._asking = None
        return result

    def _allowed(self, _: None) -> int:
        self.allow(self._who)
        return 1

    def _refused(self, reason: Failure) -> Failure:
        error = reason.value
        if isinstance(error, RemoteError) and error.code in (
            ErrorNumber.AUTH_FAILED,
            ErrorNumber.AUTH_CANCELLED,
        ):
            self.deny(self._who, error.message)
        else:
            self.fail(str(error))
        return reason

    def stop(self) -> None:
        """The connection is gone: nobody waits for an answer."""
        if self._asking is not None:
            self._asking.cancel()


@implementer(IClientAuthentication)
class PolkitAuthentication:
    """Authentication of a service on a UNIX socket by polkit."""

    authType = AUTH_POLKIT

    def __init__(self, check: Check) -> None:
        """@param check: L{Polkit.check<virnet.security.polkit.Polkit.check>}."""
        self._check = check

    def authenticatorFor(self, client: ServerClient) -> IAuthenticator:
        """Make what asks about a client."""
        return PolkitAuthenticator(client, self._check)
