"""How a client lets itself in: what follows AUTH_LIST (``wire.md`` 3.1, 9 and 10).

Rules:

  - The first type of the server's list counts, unless the URI says C{auth=}: C{polkit}, C{sasl}, or
    C{sasl.MECHANISM}, which takes that one and no other.
  - Of the server's SASL mechanisms the strongest is taken that we have and that can work here: GSSAPI if
    there is a ticket, EXTERNAL if no user was named, SCRAM with the longest digest, PLAIN at last.
    libvirt takes its library's favourite and fails if that has no ticket.
  - Over UNIX sockets, TLS and ssh nothing more is needed. Over anything else, also what an external program
    (C{ext}) does with the bytes, the mechanism has to protect the connection with 56 bits or more, and PLAIN
    is not used: a server that offers nothing better, or somebody in between, gets no password.
  - When the server says that all is done, our own end must be satisfied as well: with SCRAM and GSSAPI
    that is the proof that the server knew the password or the key.
  - A failure ends the attempt. Nothing is tried again with another mechanism: the weaker one might be what
    somebody in between was waiting for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IReactorThreads, ISSLTransport
from twisted.internet.threads import deferToThreadPool

from virnet.client.client import NetClient
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.limits import SASL_DATA_MAX
from virnet.programs import REMOTE
from virnet.security import saslexternal, saslgssapi, saslplain, saslscram
from virnet.security.credentials import CredentialCallback, Credentials
from virnet.security.sasl import SASLError, SASLSession, SecurityProperties, propertiesFor
from virnet.transport.uri import SSH_FAMILY, ConnectionURI

AUTH_NONE = 0
AUTH_SASL = 1
AUTH_POLKIT = 2

_BEST_FIRST = (
    saslgssapi.MECHANISM,
    saslexternal.MECHANISM,
    *saslscram.MECHANISMS,
    saslplain.MECHANISM,
)

_WORDS = {"sasl": AUTH_SASL, "polkit": AUTH_POLKIT}


async def authenticate(
    client: NetClient,
    types: list[int],
    uri: ConnectionURI,
    credentials: CredentialCallback | None = None,
) -> None:
    """Do what the server wants of us.

    @param types: what AUTH_LIST answered; empty from a server that does not know it. That is good enough
        unless the URI demands an authentication: it might be somebody in between who says so.
    @param credentials: is asked for what is known from nowhere else.
    @raise RemoteError: we were not let in, or do not go in; codes are C{AUTH_FAILED}, C{AUTH_UNAVAILABLE} and
        C{AUTH_CANCELLED}.
    """
    word = uri.params.get("auth", "")
    kind, _, mechanism = word.partition(".")
    wanted = types[0] if types else AUTH_NONE
    if word:
        known = _WORDS.get(kind.lower())
        if known is None or (mechanism and known != AUTH_SASL):
            raise _failed(f"unknown authentication type {word}")
        if known not in types:
            raise _failed(f"requested authentication type {word} rejected")
        wanted = known
    if wanted == AUTH_SASL:
        await _SASL(client, uri, credentials).run(mechanism)
    elif wanted == AUTH_POLKIT:
        await _polkit(client)
    elif wanted != AUTH_NONE:
        raise _failed(f"unsupported authentication type {wanted}")


async def _polkit(client: NetClient) -> None:
    try:
        await client.program(REMOTE).authPolkit()
    except RemoteError as e:
        if e.code != ErrorNumber.AUTH_UNAVAILABLE:
            raise
        hint = "start 'pkttyagent --process PID' for this process, or log in at a desktop"
        raise RemoteError(e.code, f"{e.message} ({hint})", e.domain, str1=e.str1, str2=e.str2) from e


class _SASL:
    """One exchange."""

    def __init__(self, client: NetClient, uri: ConnectionURI, credentials: CredentialCallback | None) -> None:
        self._client = client
        self._remote = client.program(REMOTE)
        self._properties = _properties(client, uri)
        self._host = uri.host or "localhost"
        self._credentials = Credentials(
            uri.host,
            # In front of such a host it is a user of ssh, who need not be one of libvirt's.
            None if uri.transport in SSH_FAMILY else uri.user,
            uri.params.get("authfile"),
            credentials,
        )

    async def run(self, mechanism: str) -> None:
        """Go through it.

        @param mechanism: the one to take; empty for the best.
        """
        offered = [each for each in (await self._remote.authSASLInit()).split(",") if each]
        if mechanism:
            if mechanism not in offered:
                raise _failed(f"SASL mechanism {mechanism} not supported by server")
            offered = [mechanism]
        session = await self._choose(offered)
        data = await self._step(session, None)
        nil, sent = _checked(data)
        complete, nil, received = await self._remote.authSASLStart(session.mechanism, nil, sent)
        while not (complete and session.complete):
            # Also when the server is satisfied: our end still has to check it.
            data = await self._step(session, None if nil else received)
            if complete and session.complete:
                break
            if complete:
                raise _failed(f"{session.mechanism}: the server ended the exchange too early")
            nil, sent = _checked(data)
            complete, nil, received = await self._remote.authSASLStep(nil, sent)
        if session.ssf < self._properties.minSSF:
            raise _failed(f"negotiation SSF {session.ssf} was not strong enough")
        if session.layer is not None:
            self._client.startSecurityLayer(session.layer)

    async def _step(self, session: SASLSession, data: bytes | None) -> bytes | None:
        try:
            answer: bytes | None
            answer = await self._run(session.step, data) if session.blocking else session.step(data)
            return answer
        except SASLError as e:
            raise _failed(f"{session.mechanism}: {e}") from None

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run something that may take long in a thread, where there are threads."""
        reactor: Any = self._client.clock
        if not IReactorThreads.providedBy(reactor):
            return function(*args)
        return await deferToThreadPool(reactor, reactor.getThreadPool(), function, *args)

    async def _choose(self, offered: list[str]) -> SASLSession:
        """Begin with the best of these mechanisms.

        @raise RemoteError: none can be used; the text says why for each.
        """
        reasons: dict[str, str] = {}
        for mechanism in _BEST_FIRST:
            if mechanism in offered:
                try:
                    return await self._begin(mechanism, offered)
                except (SASLError, ImportError) as e:
                    reasons[mechanism] = str(e)
        told = (f"{each}: {reasons.get(each, 'not known here')}" for each in offered)
        raise _failed("; ".join(told) or "the server offers no SASL mechanism")

    async def _begin(self, mechanism: str, offered: list[str]) -> SASLSession:
        if mechanism == saslgssapi.MECHANISM:
            ticket = saslgssapi.initiatorCredentials()
            if ticket is None:
                raise SASLError("there is no Kerberos ticket, 'kinit' gets one")
            return saslgssapi.GSSAPIClientSession(self._properties, self._host, ticket)
        if self._properties.minSSF > 0:
            raise SASLError(
                f"it cannot protect the connection with {self._properties.minSSF} bits: use TLS, or GSSAPI"
            )
        if mechanism == saslexternal.MECHANISM:
            if len(offered) > 1 and self._credentials.knowsUser:
                raise SASLError("a user is named")
            return saslexternal.ExternalClientSession()
        if mechanism == saslplain.MECHANISM:
            return saslplain.PlainClientSession(*await self._password(mechanism))
        # Before anybody is asked for a password that cannot be used.
        saslscram.scramp()
        return saslscram.ScramClientSession(mechanism, *await self._password(mechanism))

    async def _password(self, mechanism: str) -> tuple[str, str]:
        return await self._credentials.user(mechanism), await self._credentials.password(mechanism)


def _properties(client: NetClient, uri: ConnectionURI) -> SecurityProperties:
    """What the way to the server demands. What it is counts, not what the URI calls it: that may name
    something else than the endpoint that was connected to.
    """
    if uri.transport in SSH_FAMILY:
        return propertiesFor("unix")
    if ISSLTransport.providedBy(client.transport):
        return propertiesFor("tls")
    assert client.transport is not None
    isNetwork = isinstance(client.transport.getPeer(), (IPv4Address, IPv6Address))
    return propertiesFor("tcp" if isNetwork or uri.transport != "unix" else "unix")


def _checked(data: bytes | None) -> tuple[int, bytes]:
    """How data of a step travels.

    @return: nil and data.
    @raise RemoteError: there is too much of it.
    """
    if data is not None and len(data) > SASL_DATA_MAX:
        raise _failed(f"SASL negotiation data too long: {len(data)} bytes")
    return int(data is None), data or b""


def _failed(detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.AUTH_FAILED, detail, ErrorDomain.REMOTE)
