"""Files as the server's ends of streams: a volume that is downloaded or uploaded.

- The file is read and written in threads, one piece at a time; the next piece is read while the last one is
  being sent, and the client is held back while one is being written.
- On a sparse stream holes stay holes in both directions.
- An upload beyond its length fails with C{ENOSPC}, as libvirt's does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.limits import FILE_CHUNK
from virnet.server.stream import ServerStream, StreamEnd
from virnet.transport.files import FileReader, FileWriter, Hole


class _FileEnd(StreamEnd):
    """Owns a descriptor, which is closed when the stream is over and no thread uses it any more."""

    def __init__(self, fd: int, whenOver: Callable[[], object] | None) -> None:
        self._fd = fd
        self._whenOver = whenOver
        self._working = False
        self._over = False

    def _inThread(self, call: Callable[..., Any], *args: Any) -> Deferred[Any]:
        self._working = True
        return deferToThread(call, *args).addBoth(self._worked)

    def _worked(self, result: Any) -> Any:
        self._working = False
        if self._over:
            self._close()
        return result

    def _end(self) -> None:
        if not self._over:
            self._over = True
            if not self._working:
                self._close()

    def _close(self) -> None:
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
        self._ready: bytes | Hole | None = None

    def streamOpened(self, stream: ServerStream) -> None:
        super().streamOpened(stream)
        stream.registerProducer(self, True)
        self._read()

    def _read(self) -> None:
        if not self._working and not self._over and self._ready is None:
            self._inThread(self._reader.read, FILE_CHUNK).addCallbacks(self._have, self._failed)

    def _have(self, item: bytes | Hole) -> None:
        self._ready = item
        if not self._paused:
            self._give()

    def _give(self) -> None:
        item, self._ready = self._ready, None
        if item is None or self._over:
            return
        if isinstance(item, Hole):
            self.stream.writeHole(item.length)
        elif item:
            self.stream.write(item)
        else:
            self.stream.unregisterProducer()
            self.stream.writeEOF()
            return
        self._read()

    def _failed(self, failure: Failure) -> None:
        if not self._over:
            assert isinstance(failure.value, Exception)
            self.stream.fail(failure.value)

    def finishReceived(self) -> None:
        self._end()

    def pauseProducing(self) -> None:
        """A piece waits for the socket; the next is read meanwhile."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The socket takes more."""
        self._paused = False
        self._give()

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

    def dataReceived(self, data: bytes) -> Deferred[None]:
        return self._inThread(self._writer.write, data)

    def holeReceived(self, length: int) -> Deferred[None]:
        return self._inThread(self._writer.write, Hole(length))

    def finishReceived(self) -> Deferred[None]:
        return self._inThread(self._writer.finish).addBoth(self._finished)

    def _finished(self, result: Any) -> Any:
        self._end()
        return result
