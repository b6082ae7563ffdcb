"""
Files as the server's ends of streams: a volume that is downloaded or uploaded.

  - What the page cache holds is read in the reactor, all else in the reactor's threads; what is written is
    always written there. A thread's turn costs about as much as writing a packet, so it gets what comes
    within a moment, or L{limits.FILE_CHUNK} bytes.
  - The client is held back while L{limits.STREAM_BUFFER} bytes wait to be written: until then receiving goes
    on while a thread writes.
  - On a sparse stream holes stay holes in both directions.
  - An upload beyond its length fails with C{ENOSPC}, as libvirt's does; what fits is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.limits import FILE_CHUNK, STREAM_BUFFER, STREAM_CHUNK
from virnet.server.stream import ServerStream, StreamEnd, systemError
from virnet.transport.files import FileReader, FileWriter, Hole, ThreadedFile


class _FileEnd(StreamEnd):
    """Owns a descriptor, which is closed when the stream is over and no thread uses it any more."""

    def __init__(self, fd: int, whenOver: Callable[[], object] | None) -> None:
        self._fd = fd
        self._whenOver = whenOver
        self._file: ThreadedFile | None = None
        self._over = False

    def streamOpened(self, stream: ServerStream) -> None:
        super().streamOpened(stream)
        self._file = ThreadedFile(stream.reactor, self._fd, self._whenOver)

    def _run(self, call: Callable[..., Any], *args: Any) -> Deferred[Any]:
        assert self._file is not None
        return self._file.run(call, *args)

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        if self._file is not None:
            self._file.close()
        else:
            # The client went before the stream was of any use.
            os.close(self._fd)
            if self._whenOver is not None:
                self._whenOver()

    def streamLost(self, reason: Exception) -> None:
        self._end()


@implementer(IPushProducer)
class FileSource(_FileEnd):
    """Sends a range of a file."""

    def __init__(
        self,
        fd: int,
        length: int | None = None,
        sparse: bool = False,
        whenOver: Callable[[], object] | None = None,
    ) -> None:
        """@param fd: open for reading, at the position where to begin; this object's from now on.
        @param length: bytes to send at the most; C{None} for all there are.
        @param sparse: send holes as holes: what the client agreed to.
        @param whenOver: called when the descriptor was closed.
        """
        super().__init__(fd, whenOver)
        self._reader = FileReader(fd, length, sparse)
        self._paused = False
        self._reading = self._scheduled = False
        self._ready: bytes | Hole | None = None

    def streamOpened(self, stream: ServerStream) -> None:
        super().streamOpened(stream)
        stream.registerProducer(self, True)
        self._produce()

    def _produce(self) -> None:
        """Send the next piece: one in a turn of the reactor, others want theirs too."""
        if self._paused or self._reading or self._scheduled or self._over:
            return
        item, self._ready = self._ready, None
        if item is None:
            try:
                item = self._reader.readCached(STREAM_CHUNK)
            except OSError as e:
                self.stream.fail(e)
                return
        if item is None:
            self._read()
            return
        if isinstance(item, Hole):
            self.stream.writeHole(item.length)
        elif item:
            self.stream.write(item)
        else:
            self.stream.unregisterProducer()
            self.stream.writeEOF()
            return
        if not self._paused:
            self._scheduled = True
            self.stream.reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self._produce()

    def _read(self) -> None:
        self._reading = True
        self._run(self._reader.read, FILE_CHUNK).addCallbacks(self._have, self._failed)

    def _have(self, item: bytes | Hole) -> None:
        self._reading = False
        self._ready = item
        self._produce()

    def _failed(self, failure: Failure) -> None:
        assert isinstance(failure.value, Exception)
        self.stream.fail(failure.value)

    def finishReceived(self) -> None:
        self._end()

    def pauseProducing(self) -> None:
        """A packet waits for the socket."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The socket takes more."""
        self._paused = False
        self._produce()

    def stopProducing(self) -> None:
        """The stream is over."""


class FileSink(_FileEnd):
    """Writes what a client sends into a range of a file."""

    def __init__(
        self, fd: int, length: int | None = None, whenOver: Callable[[], object] | None = None
    ) -> None:
        """@param fd: open for writing, at the position where to begin; this object's from now on.
        @param length: bytes that may come; C{None} for any number.
        @param whenOver: called when the descriptor was closed.
        """
        super().__init__(fd, whenOver)
        self._writer = FileWriter(fd, length)
        self._items: list[bytes | Hole] = []
        self._size = 0
        self._writing = False
        self._timer: Any = None
        self._room: Deferred[None] | None = None
        self._written: Deferred[None] | None = None

    def dataReceived(self, data: bytes) -> Deferred[None] | None:
        return self._put(data, len(data))

    def holeReceived(self, length: int) -> Deferred[None] | None:
        return self._put(Hole(length), 0)

    def _put(self, item: bytes | Hole, size: int) -> Deferred[None] | None:
        self._items.append(item)
        self._size += size
        if not self._writing:
            self._writeSoon()
        if not self._writing or (self._size <= STREAM_BUFFER and len(self._items) < _ITEMS_MAX):
            return None
        self._room = Deferred()
        return self._room

    def _writeSoon(self) -> None:
        """Write when it is worth a thread's turn, or has waited long enough."""
        if self._size >= FILE_CHUNK or len(self._items) >= _ITEMS_MAX:
            self._write()
        elif self._timer is None:
            self._timer = self.stream.reactor.callLater(_MOMENT, self._waited)

    def _waited(self) -> None:
        self._timer = None
        if self._items and not self._writing:
            self._write()

    def _write(self) -> None:
        self._writing = True
        items, self._items = self._items, []
        size = sum(len(item) for item in items if not isinstance(item, Hole))
        self._run(self._writer.writeAll, items).addErrback(self._failed).addCallback(self._wrote, size)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        assert isinstance(error, Exception)
        self.stream.fail(systemError(error, "write to") if isinstance(error, OSError) else error)

    def _wrote(self, _: object, size: int) -> None:
        self._writing = False
        self._size -= size
        if self._items and not self._over:
            if self._written is None:
                self._writeSoon()
            else:
                self._write()
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)
        if not self._writing and self._written is not None:
            self._written.callback(None)

    def streamLost(self, reason: Exception) -> None:
        if self._items and not self._writing:
            self._write()
        super().streamLost(reason)

    def _end(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        super()._end()

    async def finishReceived(self) -> None:
        if self._items and not self._writing:
            self._write()
        if self._writing:
            self._written = Deferred()
            await self._written
        if self._over:
            return
        try:
            await self._run(self._writer.finish)
        finally:
            self._end()


_MOMENT = 0.01
"""Seconds that what came waits for more before it is written."""

_ITEMS_MAX = 1024
"""Pieces that may wait to be written, however small they are."""
