"""Streams at the server: packets of a client on one side, what an implementation does with them on the other.

An implementation answers a procedure that opens a stream with an L{IStreamEnd}; its L{ServerStream} then

  - hands it data, holes and the finish one after the other, each when the one before was taken. A packet
    holds a slot of the client until it was taken, which is how a slow end holds a fast client back. So does
    an end that answers faster than the client reads: it gets no more while L{limits.STREAM_BUFFER} bytes
    wait.
  - sends what it gives in packets of L{limits.STREAM_CHUNK} bytes, at most one waiting for the socket;
    whoever gives more is asked to pause.
  - confirms a finish when the end has done everything, and an abort at once; after a failure it sends what
    was given before it, one ERROR, and then nothing any more.
  - tells the end when the stream is lost: aborted, failed or disconnected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IConsumer, IProtocol, IPushProducer, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, LocalProtocolError, RemoteError, XDRError
from virnet.limits import HOLE_MAX, MESSAGE_MIN, STREAM_BUFFER, STREAM_CHUNK
from virnet.server.program import asRemoteError
from virnet.transport.memory import keepStreamMemory
from virnet.wire.message import (
    CONTINUE,
    ERROR,
    OK,
    STREAM,
    STREAM_HOLE,
    MessageHeader,
    encodeError,
    encodeMessage,
)
from virnet.wire.stream import ServerAction, ServerSide, ServerState, decodeHole, encodeHole

if TYPE_CHECKING:
    from virnet.server.client import ServerClient


class IStreamEnd(Interface):
    """What an implementation does with a stream (C: C{virStreamDriver}).

    C{dataReceived}, C{holeReceived} and C{finishReceived} may return a Deferred or be coroutines: the next
    packet comes when that is done. What they raise, or their Deferred fails with, becomes the stream's error.
    """

    def streamOpened(stream: ServerStream) -> None:
        """The stream can be used; called once, when the reply to the opening call was sent."""

    def dataReceived(data: bytes) -> Awaitable[None] | None:
        """The client has sent data, of any size up to 32 MiB."""

    def holeReceived(length: int) -> Awaitable[None] | None:
        """The client has skipped C{length} bytes of zeros; only on a sparse stream."""

    def finishReceived() -> Awaitable[None] | None:
        """The client has finished: make sure that everything is where it belongs."""

    def streamLost(reason: Exception) -> None:
        """The stream is over without a finish: aborted by the client, failed, or disconnected."""


def streamError(text: str) -> RemoteError:
    """An error that is about the stream itself."""
    return RemoteError.of(ErrorNumber.RPC, text, ErrorDomain.STREAMS)


def systemError(error: OSError, doing: str) -> RemoteError:
    """What a system call that failed is reported as.

    @param doing: C{write to} or C{read from}.
    """
    return RemoteError.ofSystem(
        error.errno or 0, f"cannot {doing} stream: {error.strerror or error}", ErrorDomain.STREAMS
    )


@implementer(IStreamEnd)
class StreamEnd:
    """A base for ends: takes no data, has nothing to do at the end."""

    stream: ServerStream

    def streamOpened(self, stream: ServerStream) -> None:
        self.stream = stream

    def dataReceived(self, data: bytes) -> Awaitable[None] | None:
        # What libvirt answers to data on a download.
        raise streamError("stream had unexpected termination")

    def holeReceived(self, length: int) -> Awaitable[None] | None:
        raise streamError("stream had unexpected termination")

    def finishReceived(self) -> Awaitable[None] | None:
        return None

    def streamLost(self, reason: Exception) -> None:
        """Nothing to clean up."""


@implementer(IConsumer)
class ServerStream:
    """One open stream of a client (C: C{daemonClientStream}).

    It is a consumer: a producer that is registered is paused while a packet waits for the socket. Who writes
    without being one is not held back, and what the client does not read waits here.
    """

    log = Logger()

    def __init__(self, client: ServerClient, side: ServerSide, end: Any) -> None:
        self._client = client
        self._side = side
        self._end = end
        self._inputs: deque[tuple[ServerAction, bytes]] = deque()
        self._busy = False
        self._over = False
        self._eof = False
        self._outputs: deque[bytes] = deque()
        self._waiting = 0
        self._sending = False
        self._flushing = False
        self._producer: Any = None
        self._streaming = False
        self._producerPaused = False
        self._pullDue = False
        keepStreamMemory()

    @property
    def peer(self) -> str:
        """The client, in words."""
        return self._client.peer

    @property
    def reactor(self) -> Any:
        """The server's."""
        return self._client.server.reactor

    @property
    def sparse(self) -> bool:
        """Whether holes may be sent and can come."""
        return self._side.sparse

    def opened(self) -> None:
        """The reply to the opening call was sent."""
        if not self._over:
            self._guard(self._end.streamOpened, self)

    # From the client

    def received(self, action: ServerAction, header: MessageHeader, data: bytes) -> None:
        """A packet has come; it holds a slot until it is dealt with."""
        if action is ServerAction.ABORT:
            self._lose(ConnectionLost("the client aborted the stream"))
            self._outputs.clear()
            self._sendLast(OK, b"", tracked=True)
        elif action is ServerAction.REFUSE:
            error = streamError(f"stream aborted with unexpected status {header.status}")
            self._lose(error)
            self._outputs.clear()
            self._sendLast(ERROR, encodeError(error), tracked=True)
        else:
            self._inputs.append((action, data))
            if not self._busy:
                self._next()

    def _next(self) -> None:
        while self._inputs and not self._over and not self._busy:
            if self._waiting > STREAM_BUFFER:
                return
            action, data = self._inputs.popleft()
            try:
                if action is ServerAction.DATA:
                    result = self._end.dataReceived(data[MESSAGE_MIN:])
                elif action is ServerAction.HOLE:
                    result = self._end.holeReceived(decodeHole(data))
                else:
                    result = self._end.finishReceived()
            except Exception as e:
                self._inputFailed(Failure(e))
                return
            if isinstance(result, CoroutineType):
                result = Deferred.fromCoroutine(result)
            if isinstance(result, Deferred):
                self._busy = True
                result.addCallbacks(partial(self._taken, action), self._inputFailed)
                result.addErrback(self._bug)
            else:
                self._done(action)

    def _taken(self, action: ServerAction, _: object) -> None:
        self._busy = False
        self._done(action)
        self._next()

    def _done(self, action: ServerAction) -> None:
        """A packet was taken: it gives its slot back, a finish with its confirmation."""
        if self._over:
            self._client.release()
        elif action is ServerAction.FINISH:
            # Data that was on its way arrives before the confirmation.
            self._close()
            self._sendLast(OK, b"", tracked=True)
        else:
            self._client.release()

    def _inputFailed(self, failure: Failure) -> None:
        self._busy = False
        if self._over:
            self._client.release()
            return
        self._failWith(self._asError(failure.value, "write to"), tracked=True)

    def _failWith(self, error: RemoteError, tracked: bool) -> None:
        self._lose(error)
        try:
            payload = encodeError(error)
        except XDRError:
            payload = encodeError(streamError("Unable to encode message payload"))
        self._sendLast(ERROR, payload, tracked)

    def _asError(self, error: BaseException | None, doing: str) -> RemoteError:
        if isinstance(error, RemoteError):
            return error
        if isinstance(error, XDRError):
            return streamError(str(error))
        if isinstance(error, OSError) and error.errno is not None:
            return systemError(error, doing)
        assert error is not None
        self.log.failure("a stream of {peer} failed", Failure(error), peer=self._client.peer)
        return asRemoteError(error)

    # To the client

    def write(self, data: bytes) -> None:
        """Send data; without effect when the stream is over.

        @param data: any size; it travels in packets of at most L{STREAM_CHUNK} bytes.
        """
        if self._over or self._eof:
            return
        view = memoryview(data)
        for start in range(0, len(data), STREAM_CHUNK):
            self._give(self._packet(STREAM, CONTINUE, view[start : start + STREAM_CHUNK]))

    def writeHole(self, length: int) -> None:
        """Send a hole.

        @param length: bytes of zeros, 1 to L{HOLE_MAX}.
        @raise LocalProtocolError: holes were not agreed on, or there can be none of this length.
        """
        if self._over or self._eof:
            return
        if not self.sparse:
            raise LocalProtocolError("holes were not agreed on when the stream was opened")
        if not 1 <= length <= HOLE_MAX:
            raise LocalProtocolError(f"a hole of {length} bytes")
        self._give(self._packet(STREAM_HOLE, CONTINUE, encodeHole(length)))

    def writeEOF(self) -> None:
        """Say that no more data comes; the client then finishes the stream."""
        if not self._over and not self._eof:
            self._eof = True
            self._give(self._packet(STREAM, CONTINUE, b""))

    def fail(self, error: Exception) -> None:
        """End the stream with an error; nothing more comes or goes.

        Use it when the end itself finds that it cannot go on: C{streamLost} is called.

        @param error: an C{OSError} is reported as one of reading.
        """
        if not self._over:
            self._failWith(self._asError(error, "read from"), tracked=False)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer feed the stream, paused while a packet waits for the socket."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._over:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producerPaused = False
        if self._sending:
            self._pause()
        elif not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    def _packet(self, type: int, status: int, payload: bytes | memoryview) -> bytes:
        program, version, procedure, serial = self._side.key
        return encodeMessage(program, version, procedure, type, serial, status, payload)

    def _sendLast(self, status: int, payload: bytes, tracked: bool) -> None:
        """Send what waits, and the last word."""
        while self._outputs:
            self._client.send(self._outputs.popleft())
        self._client.send(
            self._packet(STREAM, status, payload), (), self._client.release if tracked else None
        )

    def _give(self, packet: bytes) -> None:
        self._outputs.append(packet)
        self._waiting += len(packet)
        self._flush()
        if self._sending and not self._producerPaused:
            self._pause()

    def _pause(self) -> None:
        if self._producer is not None and self._streaming:
            self._producerPaused = True
            self._producer.pauseProducing()

    def _flush(self) -> None:
        """Send packets, each when the one before has left."""
        self._flushing = True
        while self._outputs and not self._sending:
            self._sending = True
            packet = self._outputs.popleft()
            self._client.send(packet, (), partial(self._sent, len(packet)))
        self._flushing = False

    def _sent(self, size: int) -> None:
        self._sending = False
        self._waiting -= size
        if self._over:
            return
        if self._flushing:
            # It left at once. A producer that is pulled must not be called by its own writing.
            if self._producer is not None and not self._streaming and not self._pullDue:
                self._pullDue = True
                self.reactor.callLater(0, self._pull, self._producer)
            return
        self._flush()
        if not self._sending:
            self._resume(self._producer)
        if not self._busy:
            self._next()

    def _pull(self, producer: Any) -> None:
        self._pullDue = False
        self._resume(producer)

    def _resume(self, producer: Any) -> None:
        if producer is None or producer is not self._producer or self._over or self._sending:
            return
        if self._producerPaused or not self._streaming:
            self._producerPaused = False
            self._guard(producer.resumeProducing)

    # The end

    def disconnected(self) -> None:
        """The client's connection is gone."""
        self._lose(ConnectionLost("the client disconnected"))

    def _close(self) -> None:
        self._over = True
        self._side.state = ServerState.CLOSED
        self._client.streamClosed(self._side.key)
        producer, self._producer = self._producer, None
        if producer is not None:
            self._guard(producer.stopProducing)
        # Packets that were not looked at any more give their slots back.
        for _ in range(len(self._inputs)):
            self._client.release()
        self._inputs.clear()

    def _lose(self, reason: Exception) -> None:
        if not self._over:
            self._close()
            self._guard(self._end.streamLost, reason)

    def _guard(self, call: Callable[..., object], *args: Any) -> None:
        try:
            call(*args)
        except Exception as e:
            self.log.failure("a stream end of {peer} failed", peer=self._client.peer)
            self.fail(e)

    def _bug(self, failure: Failure) -> None:
        self.log.failure("a stream of {peer} broke", failure, peer=self._client.peer)


@implementer(ITransport, IConsumer, IPushProducer)
class ProtocolEnd(StreamEnd):
    """Any Twisted protocol as the end of a stream: a console, a channel.

    The protocol's transport is the stream: C{loseConnection} sends the end of the data, behind what a
    registered producer still has, and the connection is lost when the client then finishes;
    C{pauseProducing} holds the client back.
    """

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol
        self._paused: Deferred[None] | None = None
        self._producer: Any = None
        self.disconnecting = False

    def streamOpened(self, stream: ServerStream) -> None:
        super().streamOpened(stream)
        self._protocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> Awaitable[None] | None:
        if self._paused is not None:
            return self._dataLater(self._paused, data)
        if not self.disconnecting:
            self._protocol.dataReceived(data)
        return None

    async def _dataLater(self, paused: Deferred[None], data: bytes) -> None:
        await paused
        if not self.disconnecting:
            self._protocol.dataReceived(data)

    def finishReceived(self) -> Awaitable[None] | None:
        self._protocol.connectionLost(Failure(ConnectionDone()))
        return None

    def streamLost(self, reason: Exception) -> None:
        # What the protocol did not take any more must not hold the client back for ever.
        self.disconnecting = True
        self.resumeProducing()
        if hasattr(self, "stream"):
            self._protocol.connectionLost(Failure(reason))

    # What the protocol gets as its transport.

    def write(self, data: bytes) -> None:
        self.stream.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.stream.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.resumeProducing()
        if self._producer is None:
            self.stream.writeEOF()

    def hangUp(self) -> None:
        """Close as C{loseConnection} does, but now, whatever a producer still has."""
        producer, self._producer = self._producer, None
        if producer is not None:
            self.stream.unregisterProducer()
            self.stream._guard(producer.stopProducing)
        self.loseConnection()

    def abortConnection(self) -> None:
        """End the stream with an error."""
        self.disconnecting = True
        self.stream.fail(streamError("stream had unexpected termination"))

    def pauseProducing(self) -> None:
        if self._paused is None and not self.disconnecting:
            self._paused = Deferred()

    def resumeProducing(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer, before = producer, self._producer
        try:
            self.stream.registerProducer(producer, streaming)
        except BaseException:
            self._producer = before
            raise

    def unregisterProducer(self) -> None:
        self._producer = None
        self.stream.unregisterProducer()
        if self.disconnecting:
            self.stream.writeEOF()

    def getPeer(self) -> StreamAddress:
        return StreamAddress(self.stream.peer)

    def getHost(self) -> StreamAddress:
        return StreamAddress("virnet")


@implementer(IAddress)
class StreamAddress(NamedTuple):
    """Where the other side of a stream is, in words."""

    name: str
