"""How a server lets a client prove who it is.

Rules:

  - The procedures 66 to 70 of REMOTE (L{virnet.wire.auth}) are answered by the client's authenticator,
    whatever programs are served.
  - A client that has authenticated is asked for nothing more: AUTH_LIST answers 0, and what would begin an
    exchange is refused, as for a client of a service that wants no authentication.
  - A failure leaves the connection open and unauthenticated; the exchange may be tried again.
  - Why it failed is in the log. The client learns C{authentication failed} and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.logger import Logger
from zope.interface import Attribute, Interface, implementer

from virnet import probes
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.security.identity import Identity, unixIdentity
from virnet.wire.auth import ALLOWED_UNAUTHENTICATED

if TYPE_CHECKING:
    from virnet.programs.base import Procedure
    from virnet.security.access import IAccessPolicy
    from virnet.server.access import Guard
    from virnet.server.client import ServerClient

AUTH_NONE = 0
AUTH_SASL = 1
AUTH_POLKIT = 2
"""What AUTH_LIST answers (C: C{remote_auth_type})."""


class IAuthenticator(Interface):
    """Answers the authentication procedures of one client. Methods may return Deferreds or coroutines."""

    def authList() -> Any:
        """The types of authentication of which the client is to do one: a list of numbers."""

    def authSASLInit() -> Any:
        """Begin a SASL exchange.

        @return: the mechanisms on offer, separated by commas.
        @raise RemoteError: code C{AUTH_FAILED}.
        """

    def authSASLStart(mech: str, nil: int, data: bytes) -> Any:
        """The first step of a SASL exchange.

        @param nil: 1 if there is no data, which is not the same as empty data.
        @return: complete, nil, data.
        @raise RemoteError: code C{AUTH_FAILED}.
        """

    def authSASLStep(nil: int, data: bytes) -> Any:
        """A further step of a SASL exchange, see C{authSASLStart}."""

    def authPolkit() -> Any:
        """Ask polkit about the client.

        @return: 1.
        @raise RemoteError: no.
        """

    def stop() -> None:
        """The connection is gone: end what is going on. Called once, authenticated or not."""


class IClientAuthentication(Interface):
    """How the clients of a service authenticate."""

    authType = Attribute("C{int}: what AUTH_LIST answers.")

    def authenticatorFor(client: ServerClient) -> IAuthenticator:
        """Make what answers one client. Called when the connection is made; must not raise."""


def failure() -> RemoteError:
    """What a client is answered whose authentication failed, whatever the reason."""
    return RemoteError.of(ErrorNumber.AUTH_FAILED, "authentication failed", ErrorDomain.RPC)


@implementer(IAuthenticator)
class Authenticator:
    """An authenticator that refuses all: the base of those that accept something.

    @cvar authType: what AUTH_LIST answers.
    """

    log = Logger()
    authType: ClassVar[int] = AUTH_NONE

    def __init__(self, client: ServerClient) -> None:
        self.client = client

    def authList(self) -> Any:
        """Say how to authenticate."""
        return [self.authType]

    def authSASLInit(self) -> Any:
        """Refuse."""
        raise failure()

    def authSASLStart(self, mech: str, nil: int, data: bytes) -> Any:
        """Refuse."""
        raise failure()

    def authSASLStep(self, nil: int, data: bytes) -> Any:
        """Refuse."""
        raise failure()

    def authPolkit(self) -> Any:
        """Refuse."""
        # libvirtd sets no error here, which makes it this one.
        raise RemoteError(
            ErrorNumber.INTERNAL_ERROR,
            "Library function returned error but did not set virError",
            ErrorDomain.RPC,
            int1=0,
            int2=0,
        )

    def stop(self) -> None:
        """Nothing is going on."""

    def allow(self, identity: str) -> None:
        """The client has proved who it is: let it in.

        @param identity: who, for the log and the probe.
        """
        if probes.SERVER_CLIENT_AUTH_ALLOW.listeners:
            probes.SERVER_CLIENT_AUTH_ALLOW(self.client, self.authType, identity)
        self.log.info(
            "{peer}: authenticated as {identity}",
            peer=self.client.peer,
            authType=self.authType,
            identity=identity,
        )
        self.client.setAuthenticated()

    def deny(self, identity: str, reason: str) -> None:
        """The client has proved who it is, and is not let in: say so in the log.

        @param identity: who.
        @param reason: why not.
        """
        if probes.SERVER_CLIENT_AUTH_DENY.listeners:
            probes.SERVER_CLIENT_AUTH_DENY(self.client, self.authType, identity)
        self.log.warn(
            "{peer}: {identity} is not let in: {reason}",
            peer=self.client.peer,
            authType=self.authType,
            identity=identity,
            reason=reason,
        )

    def fail(self, reason: str) -> None:
        """The client could not prove who it is, or what it said made no sense: say so in the log, unless it
        says that all the time.

        @param reason: what was wrong; no secrets.
        """
        if probes.SERVER_CLIENT_AUTH_FAIL.listeners:
            probes.SERVER_CLIENT_AUTH_FAIL(self.client, self.authType)
        if not self.client.countFault():
            return
        self.log.warn(
            "{peer}: authentication failed: {reason}",
            peer=self.client.peer,
            authType=self.authType,
            reason=reason,
        )


class NoAuthentication(Authenticator):
    """Answers a client that need not authenticate, or has."""


def authenticationProcedures() -> dict[tuple[int, int], dict[int, Procedure]]:
    """The program of authentication, for servers that serve nothing else of REMOTE."""
    from virnet.programs import REMOTE

    numbers = (number for _, number in ALLOWED_UNAUTHENTICATED)
    return {(REMOTE.number, REMOTE.version): {number: REMOTE.procedures[number] for number in numbers}}


def authenticates(procedure: Procedure) -> bool:
    """Whether a procedure is one of authentication."""
    return (procedure.program.number, procedure.number) in ALLOWED_UNAUTHENTICATED


def identityOf(client: ServerClient) -> Identity:
    """Who a client is, as far as the system tells before it has authenticated."""
    if client.credentials is not None:
        return unixIdentity(client.credentials, getattr(client.transport, "getHandle", lambda: None)())
    peer = client.transport.getPeer() if client.transport is not None else None
    host, port = getattr(peer, "host", None), getattr(peer, "port", None)
    address = None if host is None else f"{f'[{host}]' if ':' in host else host}:{port}"
    return Identity(transport=client.transportKind, address=address)


def guardOf(
    client: ServerClient, policy: IAccessPolicy | None, find: Callable[[Procedure], Any]
) -> Guard | None:
    """What asks the policy about a client's calls; C{None} without a policy, which costs nothing then."""
    if policy is None:
        return None
    from virnet.server.access import Guard

    return Guard(client, find)
