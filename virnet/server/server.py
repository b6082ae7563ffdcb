"""A server: its services, its programs, its clients, its threads.

A L{NetServer} is a Twisted service: what is under it listens while it runs. Stopping it closes the
listening sockets first, then the clients, then waits for the threads that still work.

Limits of clients, over all services together:

  - At C{maxClients}, or while C{maxAnonymousClients} have not authenticated yet, nobody is refused: no
    service accepts any more, and who connects waits in the kernel's backlog.
  - Who was accepted all the same (Twisted accepts several at a time, and some endpoints cannot be told to
    stop) is held: nothing is read from it and it is no client. The one that was held longest is let in first.
  - Only when L{HELD_CLIENTS_MAX<virnet.limits.HELD_CLIENTS_MAX>} are held are further ones dropped.
  - Whenever a client leaves or authenticates, or a limit changes, all this is looked at again.
  - Who has to authenticate and has not within C{authenticationTimeout} seconds is cut off: silent strangers
    do not keep others out for ever. The time counts from when the client is let in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import Interface

from virnet.errors import ConnectionLost
from virnet.limits import (
    AUTHENTICATION_TIMEOUT,
    HELD_CLIENTS_MAX,
    KEEPALIVE_INTERVAL,
    MAX_ANONYMOUS_CLIENTS,
    MAX_CLIENT_REQUESTS,
    MAX_CLIENTS,
    MAX_EVENT_BACKLOG,
    MAX_QUEUED_CLIENTS,
    MAX_WORKERS,
    MIN_WORKERS,
    PRIO_WORKERS,
    QUEUED_CLIENTS_MIN,
    SERVER_KEEPALIVE_COUNT,
    STOP_GRACE,
)
from virnet.probes import objectDispose, objectNew
from virnet.programs.base import Procedure, Program
from virnet.server.authentication import IClientAuthentication
from virnet.server.client import ServerClient
from virnet.server.hangups import HangUps
from virnet.server.program import ServerProgram
from virnet.server.workers import WorkerPool

if TYPE_CHECKING:
    from virnet.security.access import IAccessPolicy


class IAcceptor(Interface):
    """A service of a server that accepts connections."""

    def setAccepting(accepting: bool) -> None:
        """Accept connections, or leave them where they wait. Called only when it changes."""


class NetServer(MultiService):
    """Serves programs to clients (C: C{virNetServer}).

    @ivar clients: the clients of now, by id.
    @ivar maxClientRequests: calls and stream packets of one client in progress; read when it connects.
    @ivar maxQueuedClients: connections that the kernel keeps for each service; read when it listens.
    @ivar accepting: whether services accept connections.
    @ivar workers: the threads for blocking methods.
    @ivar access: decides about each call; another may take its place at any time if there is one from the
        start.
    @ivar procedures: program and version to procedure number to procedure.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        programs: Iterable[ServerProgram],
        *,
        minWorkers: int = MIN_WORKERS,
        maxWorkers: int = MAX_WORKERS,
        prioWorkers: int = PRIO_WORKERS,
        maxClients: int = MAX_CLIENTS,
        maxQueuedClients: int = MAX_QUEUED_CLIENTS,
        maxAnonymousClients: int = MAX_ANONYMOUS_CLIENTS,
        maxClientRequests: int = MAX_CLIENT_REQUESTS,
        keepaliveInterval: float = KEEPALIVE_INTERVAL,
        keepaliveCount: int = SERVER_KEEPALIVE_COUNT,
        maxEventBacklog: int = MAX_EVENT_BACKLOG,
        authenticationTimeout: float = AUTHENTICATION_TIMEOUT,
        access: IAccessPolicy | None = None,
    ) -> None:
        """@param programs: what is served to every client.
        @param minWorkers: threads for blocking methods that are there at once.
        @param maxWorkers: threads for blocking methods at the most.
        @param prioWorkers: further threads that take high-priority procedures alone.
        @param maxClients: clients of all services together.
        @param maxQueuedClients: connections that wait to be accepted, for each service; 0 stands for 30.
        @param maxAnonymousClients: clients that have to authenticate and have not yet; 0 for no limit.
        @param maxClientRequests: calls and stream packets of one client in progress, at least 1.
        @param keepaliveInterval: seconds of silence before a client that knows keepalive is sent a PING; 0
            or less: none is ever sent.
        @param keepaliveCount: PINGs that a client may leave unanswered.
        @param maxEventBacklog: bytes of events that may wait for a client that does not read; one more event
            and it is cut off.
        @param authenticationTimeout: seconds in which a client has to authenticate; 0 for no limit.
        @param access: decides about each call; C{None}: who got in may do everything.
        @raise ValueError: two programs have the same number and version, or a limit makes no sense.
        """
        super().__init__()
        if maxClientRequests < 1:
            raise ValueError("'max_client_requests' must be greater than 0")
        if maxQueuedClients < 0:
            raise ValueError("'max_queued_clients' must not be negative")
        self.reactor = reactor
        self.maxClientRequests = maxClientRequests
        self.maxQueuedClients = maxQueuedClients or QUEUED_CLIENTS_MIN
        self.keepaliveInterval = keepaliveInterval
        self.keepaliveCount = keepaliveCount
        self.maxEventBacklog = maxEventBacklog
        self.authenticationTimeout = authenticationTimeout
        self.access = access
        self.workers = WorkerPool(reactor, minWorkers, maxWorkers, prioWorkers)
        self.hangUps = HangUps(reactor)
        self.clients: dict[int, ServerClient] = {}
        self.accepting = True
        self.procedures: dict[tuple[int, int], dict[int, Procedure]] = {}
        self._programs: dict[Any, ServerProgram] = {}
        self._lastId = 0
        self._maxClients = self._maxAnonymousClients = 0
        self._open = True
        self._anonymous: dict[int, IDelayedCall | None] = {}
        self._held: dict[int, ServerClient] = {}
        self._empty: Deferred[None] | None = None
        self.setClientLimits(maxClients, maxAnonymousClients)
        for served in programs:
            key = (served.program.number, served.program.version)
            if key in self.procedures:
                raise ValueError(f"program {key[0]:#x} version {key[1]} is served twice")
            self.procedures[key] = served.program.procedures
            self._programs[served.program] = served

    def programFor(self, program: Program[Any]) -> ServerProgram:
        """How a program is served here."""
        return self._programs[program]

    # Clients

    @property
    def maxClients(self) -> int:
        """Clients of all services together; see L{setClientLimits}."""
        return self._maxClients

    @property
    def maxAnonymousClients(self) -> int:
        """Clients that have not authenticated yet, 0 for no limit; see L{setClientLimits}."""
        return self._maxAnonymousClients

    @property
    def anonymousClients(self) -> int:
        """How many of the clients have to authenticate and have not yet."""
        return len(self._anonymous)

    @property
    def heldClients(self) -> int:
        """Connections that were accepted and wait to become clients."""
        return len(self._held)

    def setClientLimits(self, maxClients: int | None = None, maxAnonymousClients: int | None = None) -> None:
        """Change the limits; C{None} leaves one as it is. Clients that are too many by then stay.

        @raise ValueError: the limits make no sense; then nothing changes.
        """
        most = self._maxClients if maxClients is None else maxClients
        anonymous = self._maxAnonymousClients if maxAnonymousClients is None else maxAnonymousClients
        if min(most, anonymous) < 0:
            raise ValueError("limits of clients must not be negative")
        if anonymous > most:
            raise ValueError(
                "The overall maximum number of clients must not be less than the number of clients waiting"
                " for authentication"
            )
        self._maxClients, self._maxAnonymousClients = most, anonymous
        self._checkLimits()

    def setAccepting(self, accepting: bool) -> None:
        """Let clients in, or let all who come wait: while what is served here gets ready, say.

        @param accepting: C{False}: nobody, whatever the limits are (C: C{virNetServerUpdateServices}).
        """
        self._open = accepting
        self._checkLimits()

    def buildClient(self, readonly: bool, auth: IClientAuthentication | None = None) -> ServerClient:
        """Make the protocol for a connection that was accepted.

        @param auth: how it has to authenticate before it may make calls, if it has to.
        """
        self._lastId += 1
        return ServerClient(self, self._lastId, readonly, auth)

    def clientConnected(self, client: ServerClient) -> None:
        """A client's connection is up."""
        if self._admits():
            self._admit(client)
        elif len(self._held) < HELD_CLIENTS_MAX:
            self._held[client.id] = client
            client.setHeld(True)
        else:
            self.log.error(
                "Too many active clients ({count}), dropping connection from {peer}",
                count=len(self.clients),
                peer=client.peer,
            )
            client.sender.abortConnection()
        self._checkLimits()

    def clientAuthenticated(self, client: ServerClient) -> None:
        """A client that had to has authenticated. Called by the client, once or more."""
        self._known(client)
        self._checkLimits()

    def clientDisconnected(self, client: ServerClient) -> None:
        """A client's connection is gone and cleaned up."""
        self._held.pop(client.id, None)
        self.clients.pop(client.id, None)
        self._known(client)
        self._checkLimits()
        if not self.clients and not self._held:
            self.hangUps.stop()
            if self._empty is not None:
                empty, self._empty = self._empty, None
                empty.callback(None)

    def _admits(self) -> bool:
        anonymous = self._maxAnonymousClients
        return (
            self._open
            and len(self.clients) < self._maxClients
            and (anonymous == 0 or len(self._anonymous) < anonymous)
        )

    def _admit(self, client: ServerClient) -> None:
        self.clients[client.id] = client
        if client.handshaking or not client.authenticated:
            seconds = self.authenticationTimeout
            self._anonymous[client.id] = (
                self.reactor.callLater(seconds, self._tooSlow, client) if seconds > 0 else None
            )

    def _known(self, client: ServerClient) -> None:
        """A client is not one of those any more that have to authenticate."""
        timer = self._anonymous.pop(client.id, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _tooSlow(self, client: ServerClient) -> None:
        self.log.warn(
            "{peer} has not authenticated in {seconds} seconds: closing the connection",
            peer=client.peer,
            seconds=self.authenticationTimeout,
        )
        client.abort(ConnectionLost("the client has not authenticated in time"))

    def _checkLimits(self) -> None:
        while self._held and self._admits():
            client = self._held.pop(next(iter(self._held)))
            self._admit(client)
            client.setHeld(False)
        accepting = self._admits()
        if accepting is not self.accepting:
            self.accepting = accepting
            for service in self:
                if IAcceptor.providedBy(service):
                    service.setAccepting(accepting)

    # Starting and stopping

    def privilegedStartService(self) -> None:
        """Bind everything that listens, before privileges are dropped."""
        super().privilegedStartService()

    def startService(self) -> None:
        """Start the threads and everything that listens."""
        self.workers.start()
        objectNew(self)
        super().startService()

    def stopService(self) -> Deferred[Any]:
        """Stop listening, close every client, let the threads finish.

        @return: fires when all of it is done.
        """
        waits: list[Deferred[Any]] = []
        listening = super().stopService()
        if listening is not None:
            waits.append(listening)
        connected = self._everyone()
        if connected:
            self._empty = Deferred()
            waits.append(self._empty)
            grace = self.reactor.callLater(STOP_GRACE, self._abortClients)
            self._empty.addBoth(lambda _: grace.active() and grace.cancel())
            for client in connected:
                client.close()
        stopped = gatherResults(waits, consumeErrors=True)

        def end(result: Any) -> Any:
            objectDispose(self)
            return result

        return stopped.addBoth(lambda result: self.workers.stop().addCallback(lambda _: end(result)))

    def _everyone(self) -> list[ServerClient]:
        return [*self.clients.values(), *self._held.values()]

    def _abortClients(self) -> None:
        for client in self._everyone():
            client.sender.abortConnection()
