"""A server: its services, its programs, its clients, its threads.

A L{NetServer} is a Twisted service: what is under it listens while it runs. Stopping it closes the
listening sockets first, then the clients, then waits for the threads that still work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from virnet.limits import (
    KEEPALIVE_INTERVAL,
    MAX_CLIENT_REQUESTS,
    MAX_WORKERS,
    MIN_WORKERS,
    SERVER_KEEPALIVE_COUNT,
    STOP_GRACE,
)
from virnet.programs.base import Procedure, Program
from virnet.server.client import ServerClient
from virnet.server.program import ServerProgram


class NetServer(MultiService):
    """Serves programs to clients (C: C{virNetServer}).

    @ivar clients: the connections of now, by id.
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
        maxClientRequests: int = MAX_CLIENT_REQUESTS,
        keepaliveInterval: float = KEEPALIVE_INTERVAL,
        keepaliveCount: int = SERVER_KEEPALIVE_COUNT,
    ) -> None:
        """@param programs: what is served to every client.
        @param minWorkers: threads for blocking methods that are kept.
        @param maxWorkers: threads for blocking methods at the most.
        @param maxClientRequests: calls and stream packets of one client in progress, at least 1.
        @param keepaliveInterval: seconds of silence before a client that knows keepalive is sent a PING; 0
            or less: none is ever sent.
        @param keepaliveCount: PINGs that a client may leave unanswered.
        @raise ValueError: two programs have the same number and version, or the numbers of workers
            make no sense.
        """
        super().__init__()
        if maxWorkers < 1:
            raise ValueError("'max_workers' must be greater than 0")
        if minWorkers > maxWorkers:
            raise ValueError("'min_workers' must not be larger than 'max_workers'")
        if maxClientRequests < 1:
            raise ValueError("'max_client_requests' must be greater than 0")
        self.reactor = reactor
        self.maxClientRequests = maxClientRequests
        self.keepaliveInterval = keepaliveInterval
        self.keepaliveCount = keepaliveCount
        self.threads = ThreadPool(minWorkers, maxWorkers, "virnet")
        self.clients: dict[int, ServerClient] = {}
        self.procedures: dict[tuple[int, int], dict[int, Procedure]] = {}
        self._programs: dict[Any, ServerProgram] = {}
        self._lastId = 0
        self._empty: Deferred[None] | None = None
        for served in programs:
            key = (served.program.number, served.program.version)
            if key in self.procedures:
                raise ValueError(f"program {key[0]:#x} version {key[1]} is served twice")
            self.procedures[key] = served.program.procedures
            self._programs[served.program] = served

    def programFor(self, program: Program[Any]) -> ServerProgram:
        """How a program is served here."""
        return self._programs[program]

    def buildClient(self, readonly: bool) -> ServerClient:
        """Make the protocol for a connection that was accepted."""
        self._lastId += 1
        return ServerClient(self, self._lastId, readonly)

    def clientConnected(self, client: ServerClient) -> None:
        """A client's connection is up."""
        self.clients[client.id] = client

    def clientDisconnected(self, client: ServerClient) -> None:
        """A client's connection is gone and cleaned up."""
        self.clients.pop(client.id, None)
        if not self.clients and self._empty is not None:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def startService(self) -> None:
        """Start the threads and everything that listens."""
        self.threads.start()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Stop listening, close every client, let the threads finish.

        @return: fires when all of it is done.
        """
        waits: list[Deferred[Any]] = []
        listening = super().stopService()
        if listening is not None:
            waits.append(listening)
        if self.clients:
            self._empty = Deferred()
            waits.append(self._empty)
            for client in list(self.clients.values()):
                client.close()
            grace = self.reactor.callLater(STOP_GRACE, self._abortClients)
            self._empty.addBoth(lambda _: grace.active() and grace.cancel())
        return gatherResults(waits, consumeErrors=True).addBoth(self._stopThreads)

    def _abortClients(self) -> None:
        for client in list(self.clients.values()):
            client.sender.abortConnection()

    def _stopThreads(self, _: object) -> None:
        self.threads.stop()
