"""Streams at the client.

- A stream comes from the reply to its opening call; nothing is sent before that.
- What the server sends waits here, at most about L{limits.STREAM_BUFFER} bytes: then the whole connection is
  not read any more until somebody reads the stream. The protocol knows no other way to hold a server back, so
  a stream that nobody reads stalls the calls and events beside it.
- A failure reported by the server is raised once everything that came before it was read, and by everything
  that is tried afterwards. It also is the answer to a finish or an abort that was on its way.
- C{finish} or C{abort} ends every stream; one that is just forgotten stays open at the server until the
  connection closes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from virnet.errors import LocalProtocolError, RemoteProtocolError, XDRError
from virnet.limits import FILE_CHUNK, MESSAGE_MIN, PAYLOAD_MAX, STREAM_BUFFER, STREAM_CHUNK
from virnet.transport.files import FileReader, FileWriter, Hole
from virnet.wire.message import (
    CONTINUE,
    ERROR,
    OK,
    STREAM,
    STREAM_HOLE,
    decodeError,
    encodeMessage,
    rpcError,
)
from virnet.wire.stream import ClientAction, ClientSide, ClientState, decodeHole, encodeHole

if TYPE_CHECKING:
    from virnet.client.client import NetClient

__all__ = ["ClientStream", "Hole"]


@implementer(IConsumer, IPushProducer)
class ClientStream:
    """One open stream (C: C{virNetClientStream}, C{virStreamPtr}).

    Reading: C{async for item in stream}, C{await stream.receive()}, C{await stream.receiveInto(target)}.
    Writing: C{await stream.send(data)}, C{await stream.sendHole(length)}, C{await stream.sendFrom(source)}.

    @ivar sparse: holes were agreed on.
    @ivar chunk: bytes of data in a packet that is sent, 1 to L{PAYLOAD_MAX}.
    """

    def __init__(self, client: NetClient, side: ClientSide, sparse: bool) -> None:
        self.sparse = sparse
        self.chunk = STREAM_CHUNK
        self._client = client
        self._side = side
        self._items: deque[bytes | Hole] = deque()
        self._size = 0
        self._eof = False
        self._error: Exception | None = None
        self._reader: Deferred[None] | None = None
        self._answer: Deferred[None] | None = None
        self._producer: Any = None
        self._streaming = False
        self._waiting = 0
        self._consumer: Any = None
        self._consumerPaused = False

    # From the server

    def received(self, action: ClientAction, data: bytes) -> None:
        """A packet has come."""
        if action is ClientAction.DATA:
            self._put(data[MESSAGE_MIN:], len(data) - MESSAGE_MIN)
        elif action is ClientAction.HOLE:
            try:
                self._put(Hole(decodeHole(data)), 0)
            except XDRError as e:
                self._client.abort(RemoteProtocolError(str(e)))
        elif action is ClientAction.END:
            self._eof = True
            self._wake()
        elif action is ClientAction.CONFIRM:
            self._over()
        else:
            try:
                error: Exception = decodeError(data)
            except XDRError:
                self._client.abort(RemoteProtocolError("Unable to decode message payload"))
                return
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """The stream is over, by the server's word or because the connection is."""
        if self._error is None and self._side.state is not ClientState.CLOSED:
            self._error = error
            self._eof = True
            if self._side.state is not ClientState.FAILED:
                self._side.state = ClientState.FAILED
            self._over(error)
            self._wake()

    def _put(self, item: bytes | Hole, size: int) -> None:
        self._items.append(item)
        self._size += size
        if self._size > STREAM_BUFFER:
            self._client.holdReading(self)
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)
        if self._consumer is not None and not self._consumerPaused:
            self._feed()

    def _over(self, error: Exception | None = None) -> None:
        """The server says nothing more: answer whoever waits for its last word."""
        self._client.streamClosed(self._side.key, self)
        answer, self._answer = self._answer, None
        producer, self._producer = self._producer, None
        if answer is not None:
            if error is None:
                answer.callback(None)
            else:
                answer.errback(error)
        if producer is not None:
            producer.stopProducing()

    # Reading

    async def receive(self) -> bytes | Hole:
        """Read what comes next.

        @return: data as the server cut it; a L{Hole} on a sparse stream; C{b""} when there is no more.
        @raise RemoteError: the server gave up; or it sent a hole that was not agreed on.
        @raise ConnectionLost: the connection is gone.
        @raise LocalProtocolError: somebody else is reading.
        """
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._eof or self._side.state in (ClientState.CLOSED, ClientState.CLOSING):
                return b""
            if self._reader is not None or self._consumer is not None:
                raise LocalProtocolError("the stream is being read already")
            self._reader = Deferred(self._readerCancelled)
            await self._reader
        return self._take()

    def _readerCancelled(self, _: object) -> None:
        self._reader = None

    def _take(self) -> bytes | Hole:
        item = self._items.popleft()
        if isinstance(item, Hole):
            if not self.sparse:
                raise rpcError("Unexpected stream hole")
            return item
        self._size -= len(item)
        if self._size <= STREAM_BUFFER // 2:
            self._client.releaseReading(self)
        return item

    async def __aiter__(self) -> AsyncIterator[bytes | Hole]:
        """Read until the end, which is not the end of the stream: finish it."""
        while item := await self.receive():
            yield item

    async def receiveInto(
        self, target: BinaryIO | Any, progress: Callable[[int], object] | None = None
    ) -> int:
        """Read everything, finish the stream, and only then return.

        @param target: a file open for writing, which is written in a thread and gets holes as holes; or
            something with C{IConsumer}'s C{write}, which gets holes as zeros and may register as paused by
            returning a Deferred.
        @param progress: called with the number of bytes so far, holes included.
        @return: the number of bytes, holes included.
        """
        fileno = getattr(target, "fileno", None)
        writer = FileWriter(fileno()) if fileno is not None else None
        total = 0
        try:
            while item := await self.receive():
                batch = [item]
                while self._items and len(batch) < _BATCH:
                    batch.append(self._take())
                if writer is not None:
                    await deferToThread(_writeAll, writer, batch)
                else:
                    for each in batch:
                        await _writeConsumer(target, each)
                total += sum(each.length if isinstance(each, Hole) else len(each) for each in batch)
                if progress is not None:
                    progress(total)
            if writer is not None:
                await deferToThread(writer.finish)
        except BaseException:
            await self._quit()
            raise
        await self.finish()
        return total

    def startProducing(self, consumer: IConsumer) -> None:
        """Feed a consumer as a push producer until the end; holes as zeros.

        The consumer's C{unregisterProducer} is called at the end or when the stream fails.
        """
        self._consumer = consumer
        self._consumerPaused = False
        consumer.registerProducer(self, True)
        self._feed()

    def _feed(self) -> None:
        while self._consumer is not None and not self._consumerPaused and self._items:
            item = self._take()
            self._consumer.write(bytes(item.length) if isinstance(item, Hole) else item)
        if self._eof and not self._items and self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        """The consumer has enough."""
        self._consumerPaused = True

    def resumeProducing(self) -> None:
        """The consumer takes more."""
        self._consumerPaused = False
        self._feed()

    def stopProducing(self) -> None:
        """The consumer is gone: abort the stream."""
        self._consumer = None
        if self._error is None and self._side.state in _USABLE:
            self.abort().addErrback(lambda _: None)

    # Writing

    def send(self, data: bytes) -> Deferred[None]:
        """Send data.

        @param data: any size; it travels in packets of C{chunk} bytes.
        @return: fires when the kernel has taken all of it: wait for it, or memory fills up.
        @raise RemoteError: the server gave up.
        @raise LocalProtocolError: the stream is finished or aborted.
        """
        self._check()
        if not data:
            return succeed(None)
        taken: Deferred[None] = Deferred()
        for start in range(0, len(data), self.chunk):
            chunk = data if len(data) <= self.chunk else data[start : start + self.chunk]
            last = start + self.chunk >= len(data)
            self._packet(STREAM, CONTINUE, chunk, (lambda: taken.callback(None)) if last else None)
        return taken

    def sendPacket(self, data: bytes) -> Deferred[None]:
        """Send data as one packet.

        @param data: at most L{PAYLOAD_MAX} bytes.
        @raise LocalProtocolError: it is longer; the stream is still usable.
        """
        if len(data) > PAYLOAD_MAX:
            raise LocalProtocolError(
                f"Stream data too long to send ({len(data)} bytes needed, {PAYLOAD_MAX} bytes available)"
            )
        self._check()
        taken: Deferred[None] = Deferred()
        self._packet(STREAM, CONTINUE, data, lambda: taken.callback(None))
        return taken

    def sendHole(self, length: int) -> Deferred[None]:
        """Send a hole.

        @param length: bytes of zeros, at least 1.
        @raise LocalProtocolError: the stream is not sparse, or over.
        """
        self._check()
        if not self.sparse:
            raise LocalProtocolError("holes were not agreed on when the stream was opened")
        if length < 1:
            raise LocalProtocolError(f"a hole of {length} bytes")
        taken: Deferred[None] = Deferred()
        self._packet(STREAM_HOLE, CONTINUE, encodeHole(length), lambda: taken.callback(None))
        return taken

    async def sendFrom(
        self,
        source: BinaryIO | Iterable[bytes] | Any,
        progress: Callable[[int], object] | None = None,
        length: int | None = None,
    ) -> int:
        """Send everything from somewhere, finish the stream, and only then return.

        @param source: a file open for reading, which is read in a thread, with its holes on a sparse stream;
            or an iterable or asynchronous iterable of bytes or L{Hole}.
        @param progress: called with the number of bytes so far, holes included.
        @param length: bytes to send at the most, from a file.
        @return: the number of bytes, holes included.
        """
        total = 0
        try:
            async for item in _items(source, self.sparse, length):
                if isinstance(item, Hole):
                    total += item.length
                    await self.sendHole(item.length)
                else:
                    total += len(item)
                    await self.send(item)
                if progress is not None:
                    progress(total)
        except BaseException:
            await self._quit()
            raise
        await self.finish()
        return total

    def write(self, data: bytes) -> None:
        """Send data as a consumer: a registered producer is paused while the socket is full."""
        if self._error is not None or self._side.state not in _USABLE:
            return
        self._waiting += 1
        self.send(data).addCallback(self._written)
        if self._waiting and self._producer is not None and self._streaming:
            self._producer.pauseProducing()

    def _written(self, _: object) -> None:
        self._waiting -= 1
        if not self._waiting and self._producer is not None:
            self._producer.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer feed the stream."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        self._producer = producer
        self._streaming = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer; finish the stream yourself."""
        self._producer = None

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._side.state not in _USABLE:
            raise LocalProtocolError(f"the stream is {self._side.state.value}")

    def _packet(
        self, type: int, status: int, payload: bytes, sent: Callable[[], object] | None = None
    ) -> None:
        program, version, procedure, serial = self._side.key
        self._client.send(encodeMessage(program, version, procedure, type, serial, status, payload), (), sent)

    # The end

    def opened(self) -> None:
        """The reply to the opening call has come."""
        if self._side.state is ClientState.OPENING:
            self._side.state = ClientState.OPEN

    def finish(self) -> Deferred[None]:
        """Finish the stream: everything was sent, nothing more is wanted.

        @return: fires when the server has confirmed, which is when everything is where it belongs; fails with
            its error.
        """
        return self._end(OK)

    def abort(self) -> Deferred[None]:
        """Give the stream up.

        @return: fires when the server has confirmed; fails with its error.
        """
        return self._end(ERROR)

    def _end(self, status: int) -> Deferred[None]:
        if self._error is not None:
            return fail(self._error)
        if self._side.state not in _USABLE:
            return fail(LocalProtocolError(f"the stream is {self._side.state.value}"))
        self._side.state = ClientState.CLOSING
        self._answer = Deferred()
        answer = self._answer
        self._items.clear()
        self._size = 0
        self._eof = True
        self._client.releaseReading(self)
        self._packet(STREAM, status, b"")
        self._wake()
        return answer

    async def _quit(self) -> None:
        """Abort after a failure of ours; the failure is what counts."""
        try:
            await self.abort()
        except Exception:
            pass


_USABLE = frozenset((ClientState.OPEN, ClientState.ENDED))
_BATCH = 16


def _writeAll(writer: FileWriter, items: list[bytes | Hole]) -> None:
    for item in items:
        writer.write(item)


async def _writeConsumer(target: Any, item: bytes | Hole) -> None:
    """Give data to a consumer, holes as zeros in pieces of bounded size."""
    left = item.length if isinstance(item, Hole) else 0
    pieces = [item] if isinstance(item, bytes) else []
    while pieces or left:
        piece = pieces.pop() if pieces else bytes(min(left, FILE_CHUNK))
        left -= len(piece) if left else 0
        result = target.write(piece)
        if isinstance(result, Deferred):
            await result


async def _items(source: Any, sparse: bool, length: int | None) -> AsyncIterator[bytes | Hole]:
    """Make an asynchronous iterator of what there is to send."""
    fileno = getattr(source, "fileno", None)
    if fileno is not None:
        reader = FileReader(fileno(), length, sparse)
        ahead = deferToThread(reader.read, FILE_CHUNK)
        while item := await ahead:
            ahead = deferToThread(reader.read, FILE_CHUNK)
            yield item
    elif hasattr(source, "__aiter__"):
        async for item in source:
            yield item
    else:
        for item in cast("Iterable[bytes | Hole]", source):
            yield item
