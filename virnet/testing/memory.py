"""Test doubles for users of virnet: a client and a server joined in memory, running the real code.

Rules that live here:

  - Nothing happens inside a call: what is written is read in a later turn of the clock, as on a socket.
  - A transport that is paused delivers nothing, and its peer soon cannot send any more: only C{window} bytes
    are under way at a time.
  - C{loseConnection} stops reading, sends what was written, then closes; C{abortConnection} drops it.
  - An exception out of a protocol's method is raised out of C{clock.advance}: Twisted would log it and close.

A test reads like this::

    pair = connectedPair([ServerProgram(REMOTE, lambda client: MyHypervisor())])
    called = pair.client.program(REMOTE).connectGetHostname()
    pair.flush()
    self.assertEqual(self.successResultOf(called), "myhost")
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IConsumer, IProtocol, IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.client import NetClient, NetClientFactory
from virnet.server import NetServer, ServerClient, ServerProgram

__all__ = ["ConnectedPair", "MemoryAddress", "StrictTransport", "connectedPair", "joined"]

WINDOW = 65536
"""Bytes that a peer may send without being read, unless told otherwise."""


@implementer(IAddress)
class MemoryAddress:
    """Where one end of an in-memory connection is.

    @ivar name: in logs and errors.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name


@implementer(ITransport, IConsumer, IPushProducer)
class StrictTransport:
    """One end of an in-memory connection; made by L{joined}.

    @ivar protocol: who reads here.
    @ivar connected: C{connectionLost} was not called yet.
    @ivar disconnecting: C{loseConnection} was called and is not done.
    @ivar unsent: bytes written here that are not under way to the peer yet.
    @ivar paused: C{pauseProducing} was called last.
    """

    def __init__(
        self, clock: Clock, protocol: IProtocol, host: MemoryAddress, *, window: int, readSize: int
    ) -> None:
        self.protocol = protocol
        self.connected = True
        self.disconnecting = False
        self.paused = False
        self.unsent = bytearray()
        self.peer: StrictTransport
        self._clock = clock
        self._host = host
        self._window = window
        self._readSize = readSize
        self._unread = bytearray()
        self._reason: Failure | None = None
        self._scheduled = False
        self._producer: Any = None
        self._streaming = False
        self._producerPaused = False

    # ITransport

    def write(self, data: bytes) -> None:
        """Send bytes; without effect when the connection is gone, as Twisted has it."""
        if type(data) is not bytes:
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if self.connected and self._reason is None:
            self.unsent += data
            self._driveProducer()
            self._wake()
        elif self._reason is not None and self._reason.check(ConnectionAborted):
            # After the peer's end a producer that is paused might not read what came before it.
            self._pauseProducer()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send bytes in pieces."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Read nothing more; close when everything written was sent and no producer is left."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._wake()

    def abortConnection(self) -> None:
        """Close in the next turn; drop what was not sent or not read."""
        if self.connected:
            # Also of a peer that has gone already.
            self._unread.clear()
            self._wake()
            if self._reason is None:
                self._end(ConnectionAborted())
                self.peer._end(ConnectionLost("the peer aborted the connection"))

    def getPeer(self) -> IAddress:
        """The other end's address."""
        return self.peer.getHost()

    def getHost(self) -> IAddress:
        """This end's address."""
        return self._host

    # IPushProducer: of what is read here

    def pauseProducing(self) -> None:
        """Deliver nothing until C{resumeProducing}."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Deliver again."""
        if self.connected and not self.disconnecting:
            self.paused = False
            self._wake()

    def stopProducing(self) -> None:
        """Close the connection."""
        self.loseConnection()

    # IConsumer: of what is written here

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer be held back while the peer does not read.

        @raise RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if not self.connected:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producerPaused = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None
        self._wake()

    # The turns of the clock

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if not self.connected:
            return
        if self._reason is not None and (self.disconnecting or not self._unread):
            self._lost()
            return
        self._sendSome()
        if self.disconnecting and not self.unsent and self._producer is None:
            self.peer._end(ConnectionDone())
            self._end(ConnectionDone())
        elif self._unread and not self.paused and not self.disconnecting:
            self._readSome()

    def _sendSome(self) -> None:
        count = max(0, self._window - len(self.peer._unread))
        if self.unsent and count:
            self.peer._unread += self.unsent[:count]
            del self.unsent[:count]
            self.peer._wake()
        self._driveProducer()

    def _driveProducer(self) -> None:
        if self._producer is None:
            return
        if len(self.unsent) > self._window:
            self._pauseProducer()
        elif not self.unsent and (self._producerPaused or not self._streaming):
            self._producerPaused = False
            self._producer.resumeProducing()

    def _pauseProducer(self) -> None:
        if self._producer is not None and self._streaming and not self._producerPaused:
            self._producerPaused = True
            self._producer.pauseProducing()

    def _readSome(self) -> None:
        data = bytes(self._unread[: self._readSize])
        del self._unread[: len(data)]
        self.peer._wake()
        self._wake()
        self.protocol.dataReceived(data)

    def _end(self, why: Exception) -> None:
        """The connection is over; what came before is still read when it ended in order."""
        if not self.connected or self._reason is not None:
            return
        self._reason = Failure(why)
        self.unsent.clear()
        if self.disconnecting or not isinstance(why, ConnectionDone):
            self._unread.clear()
        self._wake()

    def _lost(self) -> None:
        assert self._reason is not None
        self.connected = self.disconnecting = False
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(self._reason)


def joined(
    clock: Clock,
    first: IProtocol,
    second: IProtocol,
    *,
    window: int = WINDOW,
    readSize: int = WINDOW,
    names: tuple[str, str] = ("client", "server"),
) -> tuple[StrictTransport, StrictTransport]:
    """Connect two protocols in memory.

    @param clock: drives both; C{clock.advance(0)} runs until nothing is left to do.
    @param window: bytes that may be under way in each direction.
    @param readSize: bytes that one C{dataReceived} brings at the most.
    @param names: of the two ends, as addresses.
    @return: the transport of each.
    """
    here, there = (
        StrictTransport(clock, protocol, MemoryAddress(name), window=window, readSize=readSize)
        for protocol, name in zip((first, second), names, strict=True)
    )
    here.peer, there.peer = there, here
    second.makeConnection(there)
    first.makeConnection(here)
    return here, there


class ConnectedPair(NamedTuple):
    """A client and a server that are connected.

    @ivar server: the server; it listens nowhere.
    @ivar serverClient: the connection as the server sees it.
    """

    client: NetClient
    serverClient: ServerClient
    server: NetServer
    clock: Clock

    def flush(self) -> None:
        """Let everything arrive that is under way."""
        self.clock.advance(0)


def connectedPair(
    served: NetServer | Iterable[ServerProgram],
    *,
    readonly: bool = False,
    window: int = WINDOW,
    readSize: int = WINDOW,
) -> ConnectedPair:
    """Connect a client to a server in memory.

    @param served: what is served; or a server whose reactor is a C{Clock}, to connect one more client to it.
    @param readonly: the connection admits no changes.
    @param window: see L{joined}.
    @param readSize: see L{joined}.
    """
    server = served if isinstance(served, NetServer) else NetServer(Clock(), served)
    clock: Clock = server.reactor
    serverClient = server.buildClient(readonly)
    client = NetClientFactory(clock).buildProtocol(MemoryAddress("server"))
    joined(clock, client, serverClient, window=window, readSize=readSize)
    return ConnectedPair(client, serverClient, server, clock)
