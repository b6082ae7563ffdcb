"""Streams at the server: packets of a client on one side, what an implementation does with them on the other.

An implementation answers a procedure that opens a stream with an L{IStreamEnd}; its L{ServerStream} then

- hands it data, holes and the finish one after the other, each when the one before was taken. A packet holds
  a slot of the client until it was taken, which is how a slow end holds a fast client back.
- sends what it gives in packets of L{limits.STREAM_CHUNK} bytes, at most one waiting for the socket; whoever
  gives more is asked to pause.
- confirms a finish when the end has done everything, and an abort at once; after a failure it sends one ERROR
  and then nothing any more.
- tells the end when the stream is lost: aborted, failed or disconnected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IConsumer, IProtocol, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, RemoteError, XDRError
from virnet.limits import MESSAGE_MIN, STREAM_CHUNK
from virnet.server.program import asRemoteError
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

    C{dataReceived}, C{holeReceived} and C{finishReceived} may return a Deferred: the next packet comes when
    it has fired. What they raise, or their Deferred fails with, becomes the stream's error.
    """

    def streamOpened(stream: ServerStream) -> None:
        """The stream can be used; called once, when the reply to the opening call was sent."""

    def dataReceived(data: bytes) -> Deferred[None] | None:
        """The client has sent data, of any size up to 32 MiB."""

    def holeReceived(length: int) -> Deferred[None] | None:
        """The client has skipped C{length} bytes of zeros; only on a sparse stream."""

    def finishReceived() -> Deferred[None] | None:
        """The client has finished: make sure that everything is where it belongs."""

    def streamLost(reason: Exception) -> None:
        """The stream is over without a finish: aborted by the client, failed, or disconnected."""


def streamError(text: str) -> RemoteError:
    """An error that is about the stream itself."""
    return RemoteError.of(ErrorNumber.RPC, text, ErrorDomain.STREAMS)


@implementer(IStreamEnd)
class StreamEnd:
    """A base for ends: takes no data, has nothing to do at the end."""

    stream: ServerStream

    def streamOpened(self, stream: ServerStream) -> None:
        self.stream = stream

    def dataReceived(self, data: bytes) -> Deferred[None] | None:
        # What libvirt answers to data on a download.
        raise streamError("stream had unexpected termination")

    def holeReceived(self, length: int) -> Deferred[None] | None:
        raise streamError("stream had unexpected termination")

    def finishReceived(self) -> Deferred[None] | None:
        return None

    def streamLost(self, reason: Exception) -> None:
        """Nothing to clean up."""


@implementer(IConsumer)
class ServerStream:
    """One open stream of a client (C: C{daemonClientStream}).

    It is a consumer: register a producer, or write and heed L{write}'s answer.

    @ivar sparse: the client can take holes, and may send them.
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
        self._sending = False
        self._producer: Any = None
        self._streaming = False
        self._producerPaused = False

    @property
    def peer(self) -> str:
        """The client, in words."""
        return self._client.peer

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
            self._send(STREAM, OK, b"", tracked=True)
        elif action is ServerAction.REFUSE:
            error = streamError(f"stream aborted with unexpected status {header.status}")
            self._lose(error)
            self._send(STREAM, ERROR, encodeError(error), tracked=True)
        else:
            self._inputs.append((action, data))
            if not self._busy:
                self._next()

    def _next(self) -> None:
        while self._inputs and not self._over:
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
            if isinstance(result, Deferred):
                self._busy = True
                result.addCallbacks(lambda _, action=action: self._taken(action), self._inputFailed)
                result.addErrback(self._bug)
                if self._busy:
                    return
            else:
                self._done(action)

    def _taken(self, action: ServerAction) -> None:
        self._busy = False
        self._done(action)
        self._next()

    def _done(self, action: ServerAction) -> None:
        """A packet was taken: it gives its slot back, a finish with its confirmation."""
        if self._over:
            self._client.release()
        elif action is ServerAction.FINISH:
            self._close()
            self._outputs.append(self._packet(STREAM, OK, b""))
            self._flush(tracked=True)
        else:
            self._client.release()

    def _inputFailed(self, failure: Failure) -> None:
        self._busy = False
        if self._over:
            self._client.release()
            return
        error = self._asError(failure.value)
        self._lose(error)
        self._send(STREAM, ERROR, encodeError(error), tracked=True)

    def _asError(self, error: BaseException | None) -> RemoteError:
        if isinstance(error, RemoteError):
            return error
        if isinstance(error, XDRError):
            return streamError(str(error))
        if isinstance(error, OSError) and error.errno is not None:
            return RemoteError.ofSystem(
                error.errno, f"cannot write to stream: {error.strerror}", ErrorDomain.STREAMS
            )
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
        for start in range(0, len(data), STREAM_CHUNK):
            chunk = data if len(data) <= STREAM_CHUNK else data[start : start + STREAM_CHUNK]
            self._outputs.append(self._packet(STREAM, CONTINUE, chunk))
        self._flush()

    def writeHole(self, length: int) -> None:
        """Send a hole.

        @param length: bytes of zeros, at least 1.
        """
        if not self._over and not self._eof:
            self._outputs.append(self._packet(STREAM_HOLE, CONTINUE, encodeHole(length)))
            self._flush()

    def writeEOF(self) -> None:
        """Say that no more data comes; the client then finishes the stream."""
        if not self._over and not self._eof:
            self._eof = True
            self._outputs.append(self._packet(STREAM, CONTINUE, b""))
            self._flush()

    def fail(self, error: Exception) -> None:
        """End the stream with an error; nothing more comes or goes.

        Use it when the end itself finds that it cannot go on: C{streamLost} is called.
        """
        if not self._over:
            remote = self._asError(error)
            self._lose(remote)
            self._send(STREAM, ERROR, encodeError(remote), tracked=False)

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
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    def _packet(self, type: int, status: int, payload: bytes) -> bytes:
        program, version, procedure, serial = self._side.key
        return encodeMessage(program, version, procedure, type, serial, status, payload)

    def _send(self, type: int, status: int, payload: bytes, tracked: bool) -> None:
        """Send a last word: in front of it only what is with the socket already."""
        self._outputs.clear()
        packet = self._packet(type, status, payload)
        self._client.send(packet, (), self._client.release if tracked else None)

    def _flush(self, tracked: bool = False) -> None:
        """Send the next packet when the one before has left."""
        if tracked:
            # The confirmation of a finish: data that was on its way arrives before it.
            while self._outputs:
                last = len(self._outputs) == 1
                self._client.send(self._outputs.popleft(), (), self._client.release if last else None)
            return
        while self._outputs and not self._sending:
            self._sending = True
            self._client.send(self._outputs.popleft(), (), self._sent)
        producer = self._producer
        if producer is None or self._over:
            return
        if self._sending:
            if self._streaming and not self._producerPaused:
                self._producerPaused = True
                producer.pauseProducing()

    def _sent(self) -> None:
        self._sending = False
        if self._outputs:
            if not self._over:
                self._flush()
            return
        producer = self._producer
        if producer is not None and not self._over and (self._producerPaused or not self._streaming):
            self._producerPaused = False
            self._client.server.reactor.callLater(0, self._resume, producer)

    def _resume(self, producer: Any) -> None:
        if producer is self._producer and not self._over:
            producer.resumeProducing()

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


@implementer(ITransport)
class ProtocolEnd(StreamEnd):
    """Any Twisted protocol as the end of a stream: a console, a channel.

    The protocol's transport is the stream; C{loseConnection} sends the end of the data.
    """

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol

    def streamOpened(self, stream: ServerStream) -> None:
        super().streamOpened(stream)
        self._protocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> Deferred[None] | None:
        self._protocol.dataReceived(data)
        return None

    def finishReceived(self) -> Deferred[None] | None:
        self._protocol.connectionLost(Failure(ConnectionDone()))
        return None

    def streamLost(self, reason: Exception) -> None:
        self._protocol.connectionLost(Failure(reason))

    # What the protocol gets as its transport.

    def write(self, data: bytes) -> None:
        self.stream.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.stream.write(b"".join(data))

    def loseConnection(self) -> None:
        self.stream.writeEOF()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.stream.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self.stream.unregisterProducer()

    def getPeer(self) -> StreamAddress:
        return StreamAddress(self.stream.peer)

    def getHost(self) -> StreamAddress:
        return StreamAddress("virnet")


@implementer(IAddress)
class StreamAddress(NamedTuple):
    """Where the other side of a stream is, in words."""

    name: str
