"""Ways to authenticate that need nothing but this process."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from virnet.server import IAuthenticator, IClientAuthentication, ServerClient
from virnet.server.authentication import AUTH_POLKIT, Authenticator


class Knocking(Authenticator):
    """Lets in who calls AUTH_POLKIT, once C{answer} fires if that is a Deferred.

    @ivar stopped: how often it was told that the connection is gone.
    """

    authType = AUTH_POLKIT

    def __init__(self, client: ServerClient, answer: Deferred[None] | None = None) -> None:
        super().__init__(client)
        self._answer = answer
        self.stopped = 0

    def authPolkit(self) -> Any:
        """Let the client in."""
        if self._answer is None:
            return self._letIn(None)
        return self._answer.addCallback(self._letIn)

    def _letIn(self, _: None) -> int:
        self.allow("who knocks")
        return 1

    def stop(self) -> None:
        """Count."""
        self.stopped += 1


@implementer(IClientAuthentication)
class KnockAuthentication:
    """Lets in who knocks.

    @ivar made: the authenticators.
    """

    authType = AUTH_POLKIT

    def __init__(self, answer: Deferred[None] | None = None) -> None:
        self._answer = answer
        self.made: list[Knocking] = []

    def authenticatorFor(self, client: ServerClient) -> IAuthenticator:
        """Make one."""
        made = Knocking(client, self._answer)
        self.made.append(made)
        return made
