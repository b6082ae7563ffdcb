"""A libvirt host in memory: the real hypervisor, server and client, without sockets and without waiting.

A test reads like this::

    host = MemoryHost()
    self.addCleanup(host.close)
    connection = host.connect()
    host.run(code.under.test(connection))
    self.assertEqual(host.recorder.names, ["domainLookupByName", "domainCreate"])
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.client import Connection, connect
from virnet.client.service import ConnectionService
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.programs import REMOTE
from virnet.server import NetServer, ServerClient, ServerProgram
from virnet.testing.memory import MemoryAddress, StrictTransport, joined
from virnet.testing.recorder import Recorder

T = TypeVar("T")

URI = "test:///default"

OPENING = ("authList", "connectOpen", "connectSupportsFeature", "connectClose")
"""What a connection calls itself."""


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects to a protocol in memory.

    @ivar refusing: attempts fail; set it to have a host that is down.
    @ivar attempts: how often it was tried.
    @ivar connections: the transport of each server's end, in order.
    """

    def __init__(self, clock: Clock, server: Callable[[], Any]) -> None:
        """@param server: makes the protocol of the other end for each connection."""
        self.refusing = False
        self.attempts = 0
        self.connections: list[StrictTransport] = []
        self._clock = clock
        self._server = server

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect in this turn."""
        self.attempts += 1
        if self.refusing:
            return fail(ConnectionRefusedError())
        client = protocolFactory.buildProtocol(MemoryAddress("server"))
        _, transport = joined(self._clock, client, self._server())
        self.connections.append(transport)
        return succeed(client)


class MemoryHost:
    """A host with the domain C{test}, the network C{default}, the pool C{default-pool} and the interface
    C{eth1}, like libvirt's own C{test:///default}.

    @ivar clock: the time; give it to the code under test where that wants a reactor.
    @ivar hypervisor: what is served.
    @ivar recorder: the calls that came, without those that open a connection; and answers of your own.
    @ivar endpoint: connects to the host.
    """

    def __init__(self, hypervisor: Any = None, clock: Clock | None = None) -> None:
        """@param hypervisor: an C{IHypervisor}; a new L{MemoryHypervisor} unless it is given."""
        self.clock = Clock() if clock is None else clock
        self.hypervisor = MemoryHypervisor(clock=self.clock.seconds) if hypervisor is None else hypervisor
        self.recorder = _HostRecorder(sessionsOf(self.hypervisor))
        self.server = NetServer(self.clock, [ServerProgram(REMOTE, self.recorder)])
        self.endpoint = MemoryEndpoint(self.clock, self._serverClient)
        self._services: list[ConnectionService] = []

    def _serverClient(self) -> ServerClient:
        return self.server.buildClient(False)

    def connect(self, uri: str = URI, **options: Any) -> Connection:
        """Open a connection, now.

        @param options: those of L{connect<virnet.client.connect>}.
        """
        options.setdefault("keepalive", None)
        return self.run(connect(self.clock, uri, endpoint=self.endpoint, **options))

    def service(self, uri: str = URI, **options: Any) -> ConnectionService:
        """Make a connection that lasts, and start it; C{close} stops it."""
        options.setdefault("jitter", float)
        options.setdefault("keepalive", None)
        service = ConnectionService(self.clock, uri, endpoint=self.endpoint, **options)
        self._services.append(service)
        service.startService()
        self.flush()
        return service

    def run(self, awaitable: Awaitable[T], seconds: float = 600.0) -> T:
        """Let time pass until something is done.

        @param awaitable: a coroutine or a Deferred.
        @param seconds: of the clock, at the most; they take no time.
        @return: its result.
        @raise AssertionError: it was not done by then.
        """
        done: Deferred[Any]
        done = awaitable if isinstance(awaitable, Deferred) else Deferred.fromCoroutine(_coroutine(awaitable))
        results: list[Any] = []
        done.addBoth(results.append)
        end = self.clock.seconds() + seconds
        self.clock.advance(0)
        while not results:
            coming = [call.getTime() for call in self.clock.getDelayedCalls()]
            if not coming or min(coming) > end:
                done.addErrback(lambda _: None)
                done.cancel()
                calls = self.recorder.names
                last = f"; the last call was {calls[-1]}" if calls else ""
                why = f"not done after {seconds:g} seconds" if coming else "nothing is left to finish it"
                raise AssertionError(f"{why}: {awaitable!r}{last}")
            self.clock.advance(max(0.0, min(coming) - self.clock.seconds()))
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        value: T = result
        return value

    def flush(self) -> None:
        """Let everything arrive that is under way."""
        self.clock.advance(0)

    def disconnect(self) -> None:
        """Cut all connections, as a crash of the host would."""
        for transport in self.endpoint.connections:
            transport.abortConnection()
        self.endpoint.connections.clear()
        self.flush()

    def close(self) -> None:
        """Stop the services, cut the connections."""
        for service in self._services:
            self.run(service.stopService())
        self._services.clear()
        self.disconnect()


async def _coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


class _Answers(dict[str, Any]):
    """Answers by procedure: a name that would never be called is a mistake in the test."""

    def __setitem__(self, name: str, answer: Any) -> None:
        if name not in REMOTE.byName:
            meant = [each for each in REMOTE.byName if each.lower().endswith(name.lower())]
            meant += get_close_matches(name, REMOTE.byName, 3)
            hint = f"; is it {' or '.join(meant[:3])}?" if meant else ""
            raise ValueError(f"no procedure is called {name!r}{hint}")
        super().__setitem__(name, answer)


class _HostRecorder(Recorder):
    """Leaves out what every connection calls."""

    def __init__(self, factory: Callable[[Any], Any]) -> None:
        super().__init__(factory)
        self.answers = _Answers()

    def records(self, name: str) -> bool:
        return name not in OPENING
