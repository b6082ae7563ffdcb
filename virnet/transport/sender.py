"""Sending over a Twisted transport: what waits, who is told, how it ends.

A sender stands between a protocol and its connected transport. It is the one producer that the
transport knows, and so learns by public interfaces alone when that has enough and when it wants more.

  - Messages leave in order. C{sent} of each is called when it was handed on: inside C{send} when nothing is
    in the way, so whoever sends the next from it does that in a later turn of the reactor.
  - A push producer is paused while enough waits and resumed when nothing does; a pull producer is asked when
    nothing waits.
  - C{loseConnection} closes when everything was sent and the producer is gone, as C{ITransport} has it. What
    is written without a producer from then on is dropped.
  - C{abortConnection} drops what waits. A lost connection stops the producer.

This module's sender works over any transport: TLS, processes, tests. For sockets there is
L{WriteThrough<virnet.transport.writethrough.WriteThrough>}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from zope.interface import implementer

from virnet.errors import LocalProtocolError
from virnet.transport.descriptors import closeAll


class _Message:
    """What was not handed on completely.

    @ivar data: what the transport was not given yet.
    @ivar fds: the descriptors that follow it; the sender's own.
    @ivar size: bytes, one for each descriptor included.
    """

    __slots__ = ("data", "fds", "sent", "size")

    def __init__(
        self, data: bytes | memoryview, fds: Sequence[int], sent: Callable[[], object] | None
    ) -> None:
        self.data = data
        self.fds = fds
        self.sent = sent
        self.size = len(data) + len(fds)


@implementer(IPushProducer)
class _Gauge:
    """The producer that the transport knows. The sender itself cannot be it: its C{pauseProducing} is about
    what is read.
    """

    def __init__(self, sender: BufferedSender) -> None:
        self.pauseProducing = sender.filled
        self.resumeProducing = sender.drained

    def stopProducing(self) -> None:
        """The connection is lost; the protocol tells C{discard}."""


@implementer(ITransport, IConsumer)
class BufferedSender:
    """Sends over a transport that pauses and resumes a push producer.

    Everything that is not about sending is the transport's: reading, addresses, options.

    A message counts as sent when the transport takes more: the buffer is Twisted's, so its last 64 KiB are a
    guess.

    @ivar queued: bytes of the messages that wait, as far as this can tell.
    """

    streaming = True
    """How this is registered with the transport."""

    carriesDescriptors = False
    """Whether descriptors can be sent."""

    def __init__(self, transport: Any) -> None:
        """@param transport: connected; nothing was written to it, and nothing but this writes to it or closes
        it from now on.
        """
        self.queued = 0
        self._transport = transport
        self._unsent = 0
        # No queue is made where nothing ever waits: most connections do nothing most of the time.
        self._queue: deque[_Message] | tuple[()] = ()
        self._handed: list[_Message] = []
        self._waiting = False
        self._direct = True
        self._closing = False
        self._halfClosing = False
        self._gone = False
        self._producer: Any = None
        self._streaming = False
        self._paused = False
        self._register(self.streaming)

    def _register(self, streaming: bool) -> None:
        self._transport.registerProducer(_Gauge(self), streaming)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    # Sending

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.send(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send bytes in pieces."""
        self.send(b"".join(iovec))

    def send(self, data: bytes, fds: Sequence[int] = (), sent: Callable[[], object] | None = None) -> None:
        """Send a message and the descriptors that go with it.

        @param fds: descriptors; they are this object's from now on and closed when sent or dropped.
        @param sent: called when the last of it was handed on; not called when it is dropped.
        @raise LocalProtocolError: there are descriptors, which only a UNIX socket carries; they stay the
            caller's and nothing was sent.
        """
        if fds:
            raise LocalProtocolError("Sending file descriptors is not supported on this socket")
        self._enqueue(data, fds, sent)

    def _enqueue(
        self, data: bytes | memoryview, fds: Sequence[int], sent: Callable[[], object] | None
    ) -> None:
        if not isinstance(data, (bytes, memoryview)):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if self._gone or (self._closing or self._halfClosing) and self._producer is None:
            closeAll(fds)
            # One that writes until it is paused would never let the end come.
            self._pauseProducer()
            return
        message = _Message(data, fds, sent)
        if not self._queue:
            self._queue = deque()
        self._queue.append(message)
        self.queued += message.size
        if not self._waiting:
            self._handOver()

    @property
    def unsent(self) -> int:
        """Bytes, the last that were to be sent, that the transport was not given; descriptors count one each.

        From the end of the connection on, what it was then.
        """
        return self._unsent if self._gone else self._countUnsent()

    def _countUnsent(self) -> int:
        return sum(len(message.data) + len(message.fds) for message in self._queue)

    def hold(self) -> None:
        """Several messages follow: what is sent until C{flush} may leave together."""

    def flush(self) -> None:
        """No more messages follow for now."""

    def expect(self) -> None:
        """The rest of a large message that has begun is on its way."""

    def _handOver(self) -> None:
        """Give the transport what it wants."""
        while self._queue and not self._waiting:
            message = self._queue.popleft()
            self._handed.append(message)
            self._transport.write(message.data)
            if not self._waiting:
                self._finishHanded()

    def _finishHanded(self) -> None:
        handed, self._handed = self._handed, []
        for message in handed:
            self.queued -= message.size
            if message.sent is not None and not self._gone:
                message.sent()

    def _settle(self) -> None:
        """Find out again whether a message may pass by the queue."""
        self._direct = not (
            self._waiting or self._closing or self._halfClosing or self._gone or self._isPulled()
        )

    def _isPulled(self) -> bool:
        return self._producer is not None and not self._streaming

    # The transport's buffer

    def filled(self) -> None:
        """The transport has enough."""
        self._waiting = True
        self._pauseProducer()

    def drained(self) -> None:
        """The transport's buffer is empty."""
        if self._waiting or self._isPulled():
            self._waiting = False
            self._finishHanded()
            if not self._waiting:
                self._handOver()
            if not self._waiting and not self._gone:
                self._askForMore()

    def _askForMore(self) -> None:
        """Nothing waits: the producer may go on, or the connection close."""
        if self._producer is None:
            self._close()
        elif self._paused or not self._streaming:
            self._paused = False
            self._producer.resumeProducing()

    # Closing

    def loseConnection(self) -> None:
        """Close the connection when everything was sent and no producer is left.

        Until then it is read, without which TLS could not send.
        """
        if not self._gone and not self._closing:
            self._closing = True
            self._settle()
            self._close()

    def stopProducing(self) -> None:
        """Nobody wants what is read here any more: close the connection."""
        self.loseConnection()

    def loseWriteConnection(self) -> None:
        """Close the sending half when everything was sent and no producer is left."""
        if not self._gone and not self._closing and not self._halfClosing:
            self._halfClosing = True
            self._settle()
            self._close()

    def _close(self) -> None:
        """Close what shall be closed, unless something is still to be sent."""
        if self._waiting or self._queue or self._producer is not None:
            return
        if self._closing:
            self._transport.unregisterProducer()
            self._transport.loseConnection()
        elif self._halfClosing:
            # While it has a pull producer, Twisted asks that for more rather than close.
            self._transport.unregisterProducer()
            self._transport.loseWriteConnection()

    def abortConnection(self) -> None:
        """Close the connection now."""
        if not self._gone:
            self._drop()
            self._transport.abortConnection()

    def discard(self) -> None:
        """The connection is lost: drop what waits and stop the producer."""
        self._drop()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()

    def _drop(self) -> None:
        self._unsent = self.unsent
        self._gone = True
        self._settle()
        queue, self._queue = self._queue, ()
        self._handed = []
        self.queued = 0
        for message in queue:
            closeAll(message.fds)

    # Producers

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer be held back while enough waits.

        @raise RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self._producer!r} was never unregistered")
        if self._gone:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._paused = False
        self._settle()
        if not streaming:
            self._startPulling()
        elif self._hasEnough():
            self._pauseProducer()

    def unregisterProducer(self) -> None:
        """Forget the producer; close what waited for that."""
        if self._producer is not None:
            if not self._streaming:
                self._stopPulling()
            self._producer = None
            self._settle()
            self._close()

    def _startPulling(self) -> None:
        """Have the transport ask whenever it wants more."""
        self._transport.unregisterProducer()
        self._register(False)

    def _stopPulling(self) -> None:
        self._transport.unregisterProducer()
        self._register(self.streaming)

    def _hasEnough(self) -> bool:
        return self._waiting

    def _pauseProducer(self) -> None:
        if self._producer is not None and self._streaming and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
