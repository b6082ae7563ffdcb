"""Opening a libvirt URI: the calls that libvirt's own client makes before an application's first.

  1. AUTH_LIST; an old server that does not know it has no authentication. Then what its answer wants of us
     (L{virnet.client.authentication}).
  2. CONNECT_SUPPORTS_FEATURE for keepalive (10), when keepalive is wanted. The server then starts its own.
  3. CONNECT_OPEN with the name of the URI; without any URI with an empty one, and then CONNECT_GET_URI.
  4. CONNECT_SUPPORTS_FEATURE for parameters that are strings (9), which libvirt's client asks before each
     query of parameters, for event callbacks (14) and close callbacks (15). An error means no.

All strictly one after the other. Closing sends CONNECT_CLOSE and waits for the server to hang up.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from virnet.client.authentication import authenticate
from virnet.client.client import NetClient, NetClientFactory
from virnet.client.events import EventRegistries, EventRegistry
from virnet.client.host import ClientHost
from virnet.client.stringparameters import askForStrings
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, ProtocolError, RemoteError
from virnet.limits import KEEPALIVE_COUNT, KEEPALIVE_INTERVAL
from virnet.programs import REMOTE
from virnet.programs.base import Program
from virnet.security.credentials import CredentialCallback
from virnet.transport.config import Caller, meantURI
from virnet.transport.endpoints import endpointFor
from virnet.transport.reaching import unreachable
from virnet.transport.uri import ConnectionURI

I = TypeVar("I")  # noqa: E741 - an interface, as zope names them

READ_ONLY = 1
"""C: C{VIR_CONNECT_RO}."""

FEATURE_KEEPALIVE = 10
FEATURE_STRING_PARAMETERS = 9
FEATURE_EVENT_CALLBACK = 14
FEATURE_CLOSE_CALLBACK = 15


class Connection(ClientHost):
    """An open hypervisor connection (C: C{virConnectPtr}).

    @ivar client: the RPC connection under it.
    @ivar uri: the URI it was opened with; the one that the server chose, where there was none.
    @ivar remote: calls the procedures of the main program; a provider of C{IRemote}.
    @ivar domainEvents: subscriptions to events of domains.
    @ivar networkEvents: the same for networks.
    @ivar storagePoolEvents: the same for storage pools.
    @ivar nodeDeviceEvents: the same for node devices.
    @ivar secretEvents: the same for secrets.
    """

    def __init__(self, client: NetClient, uri: ConnectionURI, features: frozenset[int]) -> None:
        """Made by L{connect}.

        @param features: what the server said it supports, of those that were asked.
        """
        self.client = client
        self.reactor = client.clock
        self.uri = uri
        self.features = features
        self._keepaliveOff = False
        self.remote = client.program(REMOTE)
        registries = EventRegistries(client, FEATURE_EVENT_CALLBACK in features)
        self.domainEvents: EventRegistry = registries.domain
        self.networkEvents: EventRegistry = registries.network
        self.storagePoolEvents: EventRegistry = registries.storagePool
        self.nodeDeviceEvents: EventRegistry = registries.nodeDevice
        self.secretEvents: EventRegistry = registries.secret

    def program(self, program: Program[I]) -> I:
        """Get an object that calls the procedures of a program, see L{NetClient.program}."""
        return self.client.program(program)

    def whenClosed(self) -> Deferred[Exception]:
        """Wait for the end of the connection, see L{NetClient.whenClosed}."""
        return self.client.whenClosed()

    async def setKeepAlive(self, interval: float, count: int) -> bool:
        """Ask the server whether it lives, when it is silent (C: C{virConnectSetKeepAlive}).

        @param interval: seconds of silence before a PING; 0 or less: never ask again. Without effect while it
            is asked already.
        @param count: PINGs that may stay unanswered.
        @return: C{False} when the server does not know keepalive: then nothing is ever asked.
        @raise RemoteError: it was switched off before.
        """
        if interval <= 0:
            self.client.stopKeepAlive()
            # Only what was on is off for good.
            self._keepaliveOff = self.client.lastHeard is not None
            return True
        if self._keepaliveOff:
            raise RemoteError.of(
                ErrorNumber.INTERNAL_ERROR, "keepalive interval already set", ErrorDomain.RPC
            )
        if FEATURE_KEEPALIVE not in self.features:
            if not await _supports(self.client, FEATURE_KEEPALIVE):
                return False
            self.features |= {FEATURE_KEEPALIVE}
        self.client.startKeepAlive(interval, count)
        return True

    async def close(self) -> None:
        """Close the connection in order, whatever the server says; without effect when it is gone already.

        Streams that are open fail with L{ConnectionLost}; those that were finished are confirmed first.
        """
        self.client.dropStreams()
        try:
            await self.remote.connectClose()
        except (ConnectionLost, ProtocolError, RemoteError):
            pass
        await self.client.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.uri.text}>"

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


async def connect(
    reactor: Any,
    uri: str | None = None,
    *,
    readonly: bool = False,
    keepalive: tuple[float, int] | None = (KEEPALIVE_INTERVAL, KEEPALIVE_COUNT),
    credentials: CredentialCallback | None = None,
    endpoint: IStreamClientEndpoint | None = None,
) -> Connection:
    """Open a connection to a libvirt server.

    @param reactor: the reactor, as Twisted's endpoints want it.
    @param uri: a libvirt URI, like C{test+unix:///default?socket=/run/virnet/virnet-sock} or
        C{qemu+ssh://host/system}, or an alias of C{libvirt.conf}. Without one it is C{LIBVIRT_DEFAULT_URI},
        else C{uri_default} of C{libvirt.conf}; else the server on the usual socket chooses.
    @param readonly: ask for a connection that refuses changes.
    @param keepalive: seconds of silence before the server is asked whether it lives, and how many such
        questions may stay unanswered; C{None}: never ask. Without effect on a server that does not know it.
    @param credentials: is asked for a user's name or password that the server wants and that is known from
        nowhere else, see L{virnet.security.credentials}.
    @param endpoint: connect to this, whatever the URI says, which is then only what to open there.
    @return: the open connection; close it with C{await connection.close()} or C{async with}.
    @raise URIError: the URI cannot be used.
    @raise ConfigError: C{libvirt.conf} cannot be used.
    @raise ConnectionLost: the server cannot be reached.
    @raise RemoteError: the server refused.
    """
    caller = Caller.current()
    parsed = meantURI(uri, caller)
    if endpoint is None:
        endpoint = endpointFor(reactor, parsed, readonly, caller)
    try:
        client = cast(NetClient, await endpoint.connect(NetClientFactory(reactor)))
    except RemoteError:
        # One end does not accept the other's certificate.
        raise
    except Exception as e:
        raise unreachable(uri or parsed.text or "no URI", e) from e
    try:
        return await _open(client, parsed, readonly, keepalive, credentials)
    except BaseException:
        client.abandon()
        raise


async def _open(
    client: NetClient,
    uri: ConnectionURI,
    readonly: bool,
    keepalive: tuple[float, int] | None,
    credentials: CredentialCallback | None,
) -> Connection:
    remote = client.program(REMOTE)
    try:
        types = await remote.authList()
    except RemoteError as e:
        if e.code != ErrorNumber.NO_SUPPORT:
            raise
        types = []
    await authenticate(client, types, uri, credentials)
    features = set()
    if keepalive is not None and await _supports(client, FEATURE_KEEPALIVE):
        features.add(FEATURE_KEEPALIVE)
        client.startKeepAlive(*keepalive)
    await remote.connectOpen(uri.name, READ_ONLY if readonly else 0)
    if not uri.text:
        chosen = await remote.connectGetURI()
        uri = uri._replace(text=chosen, name=chosen)
    for feature in (FEATURE_STRING_PARAMETERS, FEATURE_EVENT_CALLBACK, FEATURE_CLOSE_CALLBACK):
        if await _supports(client, feature):
            features.add(feature)
    if FEATURE_STRING_PARAMETERS in features:
        client.adapt = askForStrings
    return Connection(client, uri, frozenset(features))


async def _supports(client: NetClient, feature: int) -> bool:
    """Ask for a feature; a server that refuses to answer does not have it."""
    try:
        return bool(await client.program(REMOTE).connectSupportsFeature(feature))
    except RemoteError:
        return False
