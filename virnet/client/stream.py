"""
Streams at the client.

  - A stream comes from the reply to its opening call; nothing is sent before that.
  - What the server sends waits here, at most about L{limits.STREAM_BUFFER} bytes: then the whole connection
    is not read any more until somebody reads the stream. The protocol knows no other way to hold a server
    back, so a stream that nobody reads stalls the calls and events beside it.
  - What is sent waits for the socket; whoever heeds the Deferred, or is a producer, sends no faster than
    that.
  - A failure reported by the server is raised once everything that came before it was read, and by everything
    that is tried afterwards. It also is the answer to a finish or an abort that was on its way.
  - C{finish} or C{abort} ends every stream; one that is just forgotten stays open at the server until the
    connection closes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.errors import LocalProtocolError, RemoteProtocolError, XDRError
from virnet.limits import FILE_CHUNK, HOLE_MAX, MESSAGE_MIN, PAYLOAD_MAX, STREAM_BUFFER, STREAM_CHUNK
from virnet.transport.files import FileReader, FileWriter, Hole, ThreadedFile, duplicate, piecesOf
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

    It is a consumer, and a producer that is started as an C{IBodyProducer} is.

    @ivar sparse: holes were agreed on.
    @ivar chunk: bytes of data in a packet that is sent, 1 to L{PAYLOAD_MAX}.
    @ivar bytesSent: what was sent, holes included.
    """

    def __init__(self, client: NetClient, side: ClientSide, sparse: bool) -> None:
        self.sparse = sparse
        self._chunk = STREAM_CHUNK
        self.bytesSent = 0
        self._client = client
        self._side = side
        self._items: deque[memoryview | Hole] = deque()
        self._size = 0
        self._eof = False
        self._error: Exception | None = None
        self._reader: Deferred[None] | None = None
        self._answer: Deferred[None] | None = None
        self._producer: Any = None
        self._streaming = False
        self._producerPaused = False
        self._pullDue = False
        self._producerDone: Deferred[None] | None = None
        self._sending: set[Deferred[None]] = set()
        self._resumed: Deferred[None] | None = None

    @property
    def chunk(self) -> int:
        return self._chunk

    @chunk.setter
    def chunk(self, size: int) -> None:
        if not 1 <= size <= PAYLOAD_MAX:
            raise LocalProtocolError(f"packets of {size} bytes: 1 to {PAYLOAD_MAX} fit into a message")
        self._chunk = size

    # From the server

    def received(self, action: ClientAction, data: bytes) -> None:
        """A packet has come."""
        if action is ClientAction.DATA:
            self._put(memoryview(data)[MESSAGE_MIN:])
        elif action is ClientAction.HOLE:
            try:
                self._put(Hole(decodeHole(data)))
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

    def _put(self, item: memoryview | Hole) -> None:
        if self._eof:
            # It came in one piece with what made the application end the stream.
            return
        self._items.append(item)
        self._size += _cost(item)
        if self._size > STREAM_BUFFER:
            self._client.holdReading(self)
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    def _over(self, error: Exception | None = None) -> None:
        """The server says nothing more: answer whoever waits for its last word."""
        self._client.streamClosed(self._side.key, self)
        answer, self._answer = self._answer, None
        sending, self._sending = self._sending, set()
        if answer is not None:
            if error is None:
                answer.callback(None)
            else:
                answer.errback(error)
        for each in sending:
            if error is None:
                each.callback(None)
            else:
                each.errback(error)
        self._stopProducer()
        self._producerEnded(error if error is not None else LocalProtocolError("the stream is over"))

    # Reading

    async def receive(self) -> bytes | Hole:
        """Read what comes next.

        @return: data as the server cut it; a L{Hole} on a sparse stream; C{b""} when there is no more.
        @raise RemoteError: the server gave up; or it sent a hole that was not agreed on.
        @raise ConnectionLost: the connection is gone.
        @raise LocalProtocolError: somebody else is reading.
        """
        item = await self._next()
        return item if isinstance(item, Hole) else bytes(item)

    async def _next(self) -> memoryview | Hole:
        """The same without a copy."""
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._eof or self._side.state in (ClientState.CLOSED, ClientState.CLOSING):
                return memoryview(b"")
            if self._reader is not None:
                raise LocalProtocolError("the stream is being read already")
            self._reader = Deferred(self._readerCancelled)
            await self._reader
        return self._take()

    def _readerCancelled(self, _: object) -> None:
        self._reader = None

    def _take(self) -> memoryview | Hole:
        item = self._items.popleft()
        self._size -= _cost(item)
        if self._size <= STREAM_BUFFER // 2:
            self._client.releaseReading(self)
        if isinstance(item, Hole) and not self.sparse:
            raise rpcError("Unexpected stream hole")
        return item

    async def __aiter__(self) -> AsyncIterator[bytes | Hole]:
        """Read until the end, which is not the end of the stream: finish it."""
        while item := await self.receive():
            yield item

    async def receiveInto(self, target: Any, progress: Callable[[int], object] | None = None) -> int:
        """Read everything, finish the stream, and only then return. A failure aborts the stream.

        @param target: a file open for writing, which is written in a thread and gets holes as holes; or an
            C{IConsumer}, or anything with its C{write}, which gets holes as zeros, in the reactor's thread.
            One that has C{registerProducer} may pause the stream; C{write} may also return a Deferred to wait
            for.
        @param progress: called with the number of bytes so far, holes included.
        @return: the number of bytes, holes included.
        """
        try:
            if hasattr(target, "registerProducer"):
                target.registerProducer(self, True)
                try:
                    total = await self._produce(target, progress)
                finally:
                    target.unregisterProducer()
            elif (fd := duplicate(target)) is not None:
                total = await self._readIntoFile(fd, progress)
            else:
                total = await self._produce(target, progress)
        except BaseException:
            self._quit()
            raise
        await self.finish()
        return total

    async def _readIntoFile(self, fd: int, progress: Callable[[int], object] | None) -> int:
        file = ThreadedFile(self._client.clock, fd)
        writer = FileWriter(file.fd)
        total = 0
        try:
            while item := await self._next():
                batch = [item]
                size = _cost(item)
                # A thread costs about as much as writing a packet does: give it several small ones. A whole
                # one is written at once, while the server reads the next; more would get in its way.
                while size < STREAM_CHUNK and await self._hasMore():
                    batch.append(self._take())
                    size += _cost(batch[-1])
                await file.run(writer.writeAll, batch)
                total += sum(map(_length, batch))
                if progress is not None:
                    progress(total)
            await file.run(writer.finish)
        finally:
            file.close()
        return total

    async def _hasMore(self) -> bool:
        """Whether something can be read now, or in a moment."""
        if not self._items and not self._eof:
            reader: Deferred[None] = Deferred(self._readerCancelled)
            self._reader = reader
            timer = self._client.clock.callLater(_MOMENT, self._wake)
            try:
                await reader
            finally:
                if timer.active():
                    timer.cancel()
        return bool(self._items)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write everything into a consumer that has this stream as its push producer; holes as zeros.

        @return: fires at the end of the data, when the stream is still to be finished; fails as L{receive}.
        """
        return Deferred.fromCoroutine(self._produce(consumer)).addCallback(lambda _: None)

    async def _produce(self, consumer: Any, progress: Callable[[int], object] | None = None) -> int:
        total = 0
        while item := await self.receive():
            for number, piece in enumerate(piecesOf(item)):
                if number:
                    # A hole has any length: others want their turn, and somebody may cancel this.
                    turn: Deferred[None] = Deferred()
                    self._client.clock.callLater(0, turn.callback, None)
                    await turn
                written = consumer.write(piece)
                if isinstance(written, Deferred):
                    await written
                if self._resumed is not None:
                    await self._resumed
                total += len(piece)
            if progress is not None:
                progress(total)
        return total

    def pauseProducing(self) -> None:
        """The consumer has enough."""
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        """The consumer takes more."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """The consumer is gone: abort the stream."""
        self._quit()
        self.resumeProducing()

    # Writing

    def send(self, data: bytes) -> Deferred[None]:
        """Send data.

        @param data: any size; it travels in packets of C{chunk} bytes.
        @return: fires when the kernel has taken all of it: wait for it, or memory fills up.
        @raise RemoteError: the server gave up.
        @raise LocalProtocolError: the stream is finished or aborted.
        """
        if not self._check():
            return self._taken()
        view = memoryview(data)
        if not view:
            return succeed(None)
        self.bytesSent += len(data)
        taken = self._taken()
        last = (len(data) - 1) // self.chunk * self.chunk
        for start in range(0, last, self.chunk):
            self._packet(STREAM, CONTINUE, view[start : start + self.chunk])
        self._packet(STREAM, CONTINUE, view[last:], taken)
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
        if not self._check():
            return self._taken()
        self.bytesSent += len(data)
        taken = self._taken()
        self._packet(STREAM, CONTINUE, data, taken)
        return taken

    def sendHole(self, length: int) -> Deferred[None]:
        """Send a hole.

        @param length: bytes of zeros, 1 to L{HOLE_MAX}.
        @raise LocalProtocolError: the stream is not sparse, or over.
        """
        if not self._check():
            return self._taken()
        if not self.sparse:
            raise LocalProtocolError("holes were not agreed on when the stream was opened")
        if not 1 <= length <= HOLE_MAX:
            raise LocalProtocolError(f"a hole of {length} bytes")
        self.bytesSent += length
        taken = self._taken()
        self._packet(STREAM_HOLE, CONTINUE, encodeHole(length), taken)
        return taken

    def _taken(self) -> Deferred[None]:
        """What fires when the socket has taken a packet, or fails with the stream."""
        taken: Deferred[None] = Deferred()
        self._sending.add(taken)
        return taken

    def _sent(self, taken: Deferred[None]) -> None:
        if taken in self._sending:
            self._sending.discard(taken)
            taken.callback(None)

    async def sendFrom(
        self,
        source: Any,
        progress: Callable[[int], object] | None = None,
        length: int | None = None,
    ) -> int:
        """Send everything from somewhere, finish the stream, and only then return. A failure aborts it.

        @param source: a file open for reading, which is read in a thread, with its holes on a sparse stream;
            anything else with C{read}, a compressed file say, which is called in the reactor's thread; an
            iterable or asynchronous iterable of bytes or L{Hole}; an C{IBodyProducer}; or any other
            producer that writes into this stream, which is registered and done when it unregisters.
        @param progress: called with the number of bytes so far, holes included; not with producers.
        @param length: bytes to send at the most, from a file.
        @return: the number of bytes, holes included.
        """
        before = self.bytesSent
        try:
            if hasattr(source, "startProducing") or hasattr(source, "resumeProducing"):
                await self._sendProduced(source)
            elif (fd := duplicate(source)) is not None:
                await self._sendFile(fd, progress, length)
            elif hasattr(source, "__aiter__"):
                async for item in source:
                    await self._sendItem(item, progress)
            else:
                read = getattr(source, "read", None)
                for item in source if read is None else iter(partial(read, self.chunk), b""):
                    await self._sendItem(item, progress)
        except BaseException:
            self._quit()
            raise
        await self.finish()
        return self.bytesSent - before

    async def _sendItem(self, item: bytes | Hole, progress: Callable[[int], object] | None) -> None:
        if isinstance(item, Hole):
            await self.sendHole(item.length)
        else:
            await self.send(item)
        if progress is not None:
            progress(self.bytesSent)

    async def _sendFile(self, fd: int, progress: Callable[[int], object] | None, length: int | None) -> None:
        file = ThreadedFile(self._client.clock, fd)
        try:
            reader = FileReader(file.fd, length, self.sparse)
            while True:
                item = reader.readCached(self.chunk)
                if item is None:
                    item = await file.run(reader.read, max(FILE_CHUNK, self.chunk))
                if not item:
                    return
                await self._sendItem(item, progress)
        finally:
            file.close()

    async def _sendProduced(self, source: Any) -> None:
        if not self._check():
            await self._taken()
        start = getattr(source, "startProducing", None)
        done = self._producerDone = Deferred()
        self.registerProducer(source, start is not None or IPushProducer.providedBy(source))
        if start is not None:
            started = maybeDeferred(start, self)
            started.addCallbacks(lambda _: self.unregisterProducer(), self._producerEnded)
        await done

    def write(self, data: bytes) -> None:
        """Send data as a consumer: a registered producer is paused while the socket is full."""
        if self._error is not None or self._side.state not in _USABLE or not data:
            return
        taken = self.send(data)
        if taken.called:
            if self._producer is not None and not self._streaming and not self._pullDue:
                # Not by its own writing: it would call itself ever deeper.
                self._pullDue = True
                self._client.clock.callLater(0, self._pull)
            return
        taken.addCallbacks(lambda _: self._drained(), lambda _: None)
        if self._producer is not None and self._streaming and not self._producerPaused:
            self._producerPaused = True
            self._producer.pauseProducing()

    def _pull(self) -> None:
        self._pullDue = False
        self._drained()

    def _drained(self) -> None:
        if self._producer is not None and not self._sending and (self._producerPaused or not self._streaming):
            self._producerPaused = False
            try:
                self._producer.resumeProducing()
            except Exception:
                self._producerFailed(Failure())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer feed the stream.

        @raise RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._error is not None or self._side.state not in _USABLE:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producerPaused = False
        if not streaming:
            try:
                producer.resumeProducing()
            except BaseException:
                self._producer = self._producerDone = None
                raise

    def unregisterProducer(self) -> None:
        """Forget the producer; finish the stream yourself."""
        self._producerEnded(None)

    def _producerFailed(self, failure: Failure) -> None:
        """It was asked for more and raised: the stream is aborted."""
        waiting = self._producerDone is not None
        self._producerEnded(failure)
        if not waiting:
            self._client.log.failure("a producer for {peer} failed", failure, peer=self._client.peer)
            self._quit()

    def _stopProducer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.stopProducing()
            except Exception:
                self._client.log.failure("a producer for {peer} did not stop", peer=self._client.peer)

    def _producerEnded(self, error: Exception | Failure | None) -> None:
        self._producer = None
        done, self._producerDone = self._producerDone, None
        if done is not None:
            if error is None:
                done.callback(None)
            else:
                done.errback(error)

    def _check(self) -> bool:
        """Whether what is sent now still goes; not when the server's last word is already here."""
        if self._error is not None:
            raise self._error
        if self._side.state is ClientState.FAILED:
            # It came in one piece with what is being handled now, and fails everything that waits next.
            return False
        if self._side.state not in _USABLE:
            raise LocalProtocolError(f"the stream is {self._side.state.value}")
        return True

    def _packet(
        self, type: int, status: int, payload: bytes | memoryview, taken: Deferred[None] | None = None
    ) -> None:
        program, version, procedure, serial = self._side.key
        data = encodeMessage(program, version, procedure, type, serial, status, payload)
        self._client.send(data, (), None if taken is None else partial(self._sent, taken))

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
        try:
            goes = self._check()
        except Exception as e:
            return fail(e)
        if self._answer is not None:
            return fail(LocalProtocolError("the stream is closing"))
        self._answer = Deferred()
        answer = self._answer
        self._items.clear()
        self._size = 0
        self._eof = True
        self._client.releaseReading(self)
        self._stopProducer()
        if goes:
            self._side.state = ClientState.CLOSING
            self._packet(STREAM, status, b"")
        self._wake()
        return answer

    def _quit(self) -> None:
        """Abort after a failure of ours, which is what counts: nobody waits for the server's answer."""
        if self._error is None and self._side.state in _USABLE:
            self.abort().addErrback(lambda _: None)


_USABLE = frozenset((ClientState.OPEN, ClientState.ENDED))
_MOMENT = 0.01
"""Seconds that what came waits for more before it is written to a file."""

_OVERHEAD = 128
"""Bytes that the smallest item costs while it waits."""


def _cost(item: memoryview | Hole) -> int:
    return _OVERHEAD if isinstance(item, Hole) else len(item) + _OVERHEAD


def _length(item: memoryview | Hole) -> int:
    return item.length if isinstance(item, Hole) else len(item)
