"""The two ends of a connection under test, and producers: they record what they are told."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPullProducer,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

reactor: Any = _reactor

LARGE = 32 * 1024 * 1024
"""The largest thing virnet ever writes at once, a message of 32 MiB."""

MUCH = 8 * 1024 * 1024
"""More than sockets and transports take in while nobody reads."""


@cache
def pattern(size: int) -> bytes:
    """Bytes in which no piece can be lost, moved or doubled unseen."""
    return Random(size).randbytes(size)


async def turns(count: int = 5) -> None:
    """Let the reactor turn: whatever would happen at once has happened then."""
    for _ in range(count):
        await deferLater(reactor, 0)


Sender = Callable[[Any], Any]
"""Makes the transport under test from Twisted's."""


def plain(transport: Any) -> Any:
    """Twisted's own is the one under test."""
    return transport


class End(Protocol):
    """One end of a connection; records what happens.

    @ivar out: the transport under test, or this end's ordinary one.
    @ivar lost: why the connection ended; C{None} while it lasts.
    @ivar onMade: called at the end of C{connectionMade}.
    @ivar onData: called with what C{dataReceived} got.
    """

    def __init__(self, sender: Sender = plain) -> None:
        self._sender = sender
        self._chunks: list[bytes] = []
        self._count = 0
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self.out: Any = None
        self.lost: Failure | None = None
        self.onMade: Callable[[], object] = lambda: None
        self.onData: Callable[[bytes], object] = lambda data: None

    @property
    def received(self) -> bytes:
        """Everything so far."""
        return b"".join(self._chunks)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds; it is looked at whenever something happens here."""
        if not condition():
            deferred: Deferred[None] = Deferred()
            self._waiting.append((condition, deferred))
            await deferred

    async def has(self, count: int) -> bytes:
        """Wait until so many bytes were received."""
        await self.until(lambda: self._count >= count or self.lost is not None)
        return self.received

    async def isLost(self) -> Failure:
        """Wait for the end of the connection."""
        await self.until(lambda: self.lost is not None)
        assert self.lost is not None
        return self.lost

    def happened(self) -> None:
        """Look whether somebody waited for this."""
        for entry in list(self._waiting):
            condition, deferred = entry
            if condition():
                self._waiting.remove(entry)
                deferred.callback(None)

    def connectionMade(self) -> None:
        self.out = self._sender(self.transport)
        self.onMade()
        self.happened()

    def dataReceived(self, data: bytes) -> None:
        assert self.lost is None, "data after the end"
        self._chunks.append(data)
        self._count += len(data)
        self.onData(data)
        self.happened()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.lost is None, "the connection was lost twice"
        self.lost = reason
        # What a sender of ours needs to be told, and RPCProtocol tells it.
        discard = getattr(self.out, "discard", None)
        if discard is not None:
            discard()
        self.happened()

    def readSlowly(self) -> None:
        """From now on, read once in every few turns of the reactor."""

        def pause(data: bytes) -> None:
            self.out.pauseProducing()
            reactor.callLater(0, reactor.callLater, 0, self._readOn)

        self.onData = pause

    def _readOn(self) -> None:
        if self.lost is None:
            self.out.resumeProducing()


@implementer(IHandshakeListener)
class SecuredEnd(End):
    """An end that knows when TLS has shaken hands.

    Not every end may: Twisted's client endpoints pass on the last of the optional interfaces alone.

    @ivar secured: it has.
    """

    secured = False

    def handshakeCompleted(self) -> None:
        """Record it."""
        self.secured = True
        self.happened()


@implementer(IHalfCloseableProtocol)
class HalfCloseableEnd(End):
    """Goes on when one direction has ended.

    @ivar readEnded: the other end sends no more.
    @ivar writeEnded: this end can send no more.
    """

    readEnded = False
    writeEnded = False

    def readConnectionLost(self) -> None:
        """Record it."""
        self.readEnded = True
        self.happened()

    def writeConnectionLost(self) -> None:
        """Record it."""
        self.writeEnded = True
        self.happened()


@implementer(IPushProducer)
class Pusher:
    """Writes pieces of a text until it is paused.

    @ivar calls: what it was told.
    """

    def __init__(self, end: End, data: bytes, piece: int = 16384) -> None:
        self._end = end
        self._data = data
        self._piece = piece
        self.written = 0
        self.paused = False
        self.calls: list[str] = []

    def push(self) -> None:
        """Write until paused, or until everything is written; then unregister."""
        while not self.paused:
            if self.written >= len(self._data):
                self._end.out.unregisterProducer()
                return
            piece = self._data[self.written : self.written + self._piece]
            self.written += len(piece)
            self._end.out.write(piece)

    def pauseProducing(self) -> None:
        self.calls.append("pause")
        self.paused = True

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self.paused = False
        self.push()

    def stopProducing(self) -> None:
        self.calls.append("stop")
        self.paused = True


class Leaver(Pusher):
    """Ends the connection when it is told something; with more to write than anybody takes.

    @ivar told: when.
    @ivar how: the transport's method.
    """

    def __init__(self, end: End, told: str, how: str) -> None:
        super().__init__(end, bytes(MUCH if how == "loseConnection" else 1 << 30))
        self._told = told
        self._how = how

    def pauseProducing(self) -> None:
        super().pauseProducing()
        self._leave("pause")

    def resumeProducing(self) -> None:
        self._leave("resume")
        super().resumeProducing()

    def _leave(self, now: str) -> None:
        if now == self._told:
            getattr(self._end.out, self._how)()


@implementer(IPullProducer)
class Puller:
    """Writes one piece when asked.

    @ivar asked: how often that was.
    @ivar stopped: how often it was told to stop.
    """

    def __init__(self, end: End, data: bytes, piece: int = 65536) -> None:
        self._end = end
        self._data = data
        self._piece = piece
        self._written = 0
        self.asked = 0
        self.stopped = 0

    def resumeProducing(self) -> None:
        self.asked += 1
        if self._written >= len(self._data):
            self._end.out.unregisterProducer()
            return
        piece = self._data[self._written : self._written + self._piece]
        self._written += len(piece)
        self._end.out.write(piece)

    def stopProducing(self) -> None:
        self.stopped += 1
