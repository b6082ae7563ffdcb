"""
Regular files as streams of data and holes.

  - A hole is a run of zeros that takes no space: the file system tells where they are (C{SEEK_DATA}), seeking
    makes them again. What is not a regular file has no holes and is read to its end.
  - L{FileReader} and L{FileWriter} block. A L{ThreadedFile} runs them in the reactor's threads, and keeps the
    descriptor open until no thread uses it any more, whoever has lost interest meanwhile.
  - What the page cache holds is read at once, without a thread (C{RWF_NOWAIT} of C{preadv2(2)}).
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from virnet.limits import STREAM_CHUNK

T = TypeVar("T")


class Hole(NamedTuple):
    """A run of zeros that is not sent as data.

    @ivar length: bytes, at least 1.
    """

    length: int


def piecesOf(item: bytes | Hole) -> Iterator[bytes]:
    """An item as data: a hole as zeros in pieces of bounded size."""
    if not isinstance(item, Hole):
        yield item
        return
    zeros = bytes(min(item.length, STREAM_CHUNK))
    for start in range(0, item.length, STREAM_CHUNK):
        yield zeros[: item.length - start]


def duplicate(file: Any) -> int | None:
    """A descriptor of one's own at the position of a file; C{None} for what is not a file of the system.

    A thread may still use it when the caller, cancelled, has closed the file.
    """
    # A temporary file with a name is wrapped in an object.
    raw = getattr(file, "__dict__", {}).get("file", file)
    if isinstance(raw, io.TextIOWrapper):
        raw = raw.buffer
    if isinstance(raw, _BUFFERED):
        raw = raw.raw
    if not isinstance(raw, io.FileIO) and (hasattr(file, "read") or hasattr(file, "write")):
        # It may have a descriptor, but gives or takes something else than what is there: it compresses, say.
        return None
    try:
        fd: int = file.fileno()
    except AttributeError:
        return None
    if getattr(file, "writable", bool)():
        file.flush()
    fd = os.dup(fd)
    if getattr(file, "seekable", bool)():
        # What was read ahead into the object's buffer counts as not read.
        os.lseek(fd, file.tell(), os.SEEK_SET)
    return fd


_BUFFERED = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)


class FileReader:
    """Reads a range of a file, in order."""

    def __init__(self, fd: int, length: int | None = None, sparse: bool = False) -> None:
        """Start at the descriptor's position.

        @param fd: open for reading; stays the caller's.
        @param length: bytes to read at the most; C{None} for all there are.
        @param sparse: tell holes; else they are read as zeros.
        """
        status = os.fstat(fd)
        self._fd = fd
        self._left = length
        self._regular = stat.S_ISREG(status.st_mode)
        self._sparse = sparse and self._regular
        self._dataEnd = 0
        self._size = status.st_size
        self._position = os.lseek(fd, 0, os.SEEK_CUR) if self._regular else 0

    def read(self, size: int) -> bytes | Hole:
        """Read what comes next.

        @param size: bytes of data at the most.
        @return: data; a hole of any length; C{b""} at the end.
        """
        size, hole = self._next(size)
        if hole:
            return Hole(hole)
        data = os.read(self._fd, size) if size else b""
        self._count(len(data))
        return data

    def readCached(self, size: int) -> bytes | Hole | None:
        """Read what comes next if that takes no waiting.

        @return: as L{read}; C{None} when it is not at hand, nothing was read then.
        """
        if not self._regular:
            return None
        size, hole = self._next(size)
        if hole:
            return Hole(hole)
        if not size:
            return b""
        buffer = bytearray(size)
        try:
            done = os.preadv(self._fd, [buffer], self._position, os.RWF_NOWAIT)
        except OSError:
            # EAGAIN: not in the cache. Anything else is for the ordinary read to find out.
            return None
        os.lseek(self._fd, self._position + done, os.SEEK_SET)
        self._count(done)
        return bytes(buffer if done == size else memoryview(buffer)[:done])

    def _next(self, size: int) -> tuple[int, int]:
        """How much data may be read now, or how long a hole was just skipped."""
        if self._left is not None:
            size = min(size, self._left)
        if self._sparse:
            hole = self._hole()
            if hole:
                os.lseek(self._fd, hole, os.SEEK_CUR)
                self._count(hole)
                return 0, hole
            size = min(size, self._dataEnd - self._position)
        return size, 0

    def _count(self, done: int) -> None:
        self._position += done
        if self._left is not None:
            self._left -= done

    def _hole(self) -> int:
        """Bytes of hole at the position; sets how far data goes when there is none."""
        if self._position < self._dataEnd:
            return 0
        end = self._size if self._left is None else min(self._size, self._position + self._left)
        if self._position >= end:
            self._dataEnd = self._position
            return 0
        data = _seek(self._fd, self._position, os.SEEK_DATA, end)
        if data == self._position:
            self._dataEnd = _seek(self._fd, self._position, os.SEEK_HOLE, end)
        os.lseek(self._fd, self._position, os.SEEK_SET)
        return data - self._position


def _seek(fd: int, position: int, whence: int, end: int) -> int:
    """Where data or a hole begins; C{end} when there is none before it."""
    try:
        return min(os.lseek(fd, position, whence), end)
    except OSError as e:
        if e.errno == errno.ENXIO:
            return end
        if e.errno == errno.EINVAL:
            # A device that knows no holes is all data.
            return position if whence == os.SEEK_DATA else end
        raise


_IOV_MAX = 1024
"""Pieces that one C{writev(2)} takes."""


class FileWriter:
    """Writes data and holes to a file, from the descriptor's position on."""

    def __init__(self, fd: int, length: int | None = None) -> None:
        """@param fd: open for writing; stays the caller's.
        @param length: bytes that may be written; C{None} for any number.
        """
        self._fd = fd
        self._left = length
        self._hole = False

    def write(self, item: bytes | memoryview | Hole) -> None:
        """Write the next data or hole.

        @raise OSError: the file cannot take it; C{ENOSPC} when it is beyond the length allowed: then what
            still fits was written.
        """
        size = item.length if isinstance(item, Hole) else len(item)
        fits = size if self._left is None else min(size, self._left)
        if self._left is not None:
            self._left -= fits
        if isinstance(item, Hole):
            if fits:
                self._skip(fits)
        else:
            self._writeData([memoryview(item)[:fits]])
        if fits < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def writeAll(self, items: Sequence[bytes | memoryview | Hole]) -> None:
        """Write several, data that stands together in one go."""
        run: list[memoryview] = []
        for item in items:
            if isinstance(item, Hole) or (self._left is not None and len(item) > self._left):
                self._writeData(run)
                run = []
                self.write(item)
                continue
            if self._left is not None:
                self._left -= len(item)
            run.append(memoryview(item))
        self._writeData(run)

    def _writeData(self, views: list[memoryview]) -> None:
        start = 0
        while start < len(views):
            done = os.writev(self._fd, views[start : start + _IOV_MAX])
            if done:
                self._hole = False
            while start < len(views) and done >= len(views[start]):
                done -= len(views[start])
                start += 1
            if done:
                views[start] = views[start][done:]

    def _skip(self, size: int) -> None:
        try:
            end = os.lseek(self._fd, size, os.SEEK_CUR)
        except OSError as e:
            if e.errno != errno.ESPIPE:
                raise
            self._writeZeros(size)
            return
        status = os.fstat(self._fd)
        existing = min(end, status.st_size) if stat.S_ISREG(status.st_mode) else end
        if end - size < existing:
            # What was there before must read as zeros now.
            self._zero(end - size, existing)
            os.lseek(self._fd, end, os.SEEK_SET)
        self._hole = stat.S_ISREG(status.st_mode)

    def _zero(self, start: int, end: int) -> None:
        """Make a range read as zeros, without taking space where the file system can."""
        if _punchHole(self._fd, start, end - start):
            return
        while start < end:
            data = _seek(self._fd, start, os.SEEK_DATA, end)
            start = _seek(self._fd, data, os.SEEK_HOLE, end)
            os.lseek(self._fd, data, os.SEEK_SET)
            self._writeZeros(start - data)

    def _writeZeros(self, size: int) -> None:
        zeros = memoryview(bytes(min(size, 1 << 20)))
        while size:
            size -= os.write(self._fd, zeros[: min(size, len(zeros))])

    def finish(self) -> None:
        """Make a hole at the end count: the file is as long as what was written."""
        if self._hole:
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            if os.fstat(self._fd).st_size < end:
                os.ftruncate(self._fd, end)


_PUNCH_HOLE = 0x03
"""C: C{FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE}."""


def _findFallocate() -> Callable[..., int] | None:
    fallocate = getattr(ctypes.CDLL(None), "fallocate64", None)
    if fallocate is not None:
        fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return fallocate


_fallocate = _findFallocate()


def _punchHole(fd: int, start: int, size: int) -> bool:
    """Take the space of a range away; C{False} where that cannot be done."""
    return _fallocate is not None and _fallocate(fd, _PUNCH_HOLE, start, size) == 0


class ThreadedFile:
    """A descriptor that is used in the reactor's threads, by one call at a time.

    Under a reactor without threads (a C{Clock}) calls run at once.
    """

    def __init__(self, reactor: Any, fd: int, whenClosed: Callable[[], object] | None = None) -> None:
        """@param fd: this object's from now on.
        @param whenClosed: called when it was closed.
        """
        self.fd = fd
        self._reactor = reactor
        self._threads = IReactorThreads.providedBy(reactor)
        self._whenClosed = whenClosed
        self._busy = False
        self._closing = False

    def run(self, call: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run something that uses the file.

        @return: fires with its result. Cancel it, and the thread goes on, but nobody hears of it.
        """
        assert not self._busy and not self._closing
        self._busy = True
        pool = self._reactor.getThreadPool() if self._threads else None
        done = execute(call, *args) if pool is None else deferToThreadPool(self._reactor, pool, call, *args)
        result: Deferred[T] = Deferred()
        done.addBoth(self._done, result)
        return result

    def _done(self, outcome: Any, result: Deferred[T]) -> None:
        self._busy = False
        if self._closing:
            self._close()
        # Fires with a failure as its error; a cancelled one takes no notice.
        result.callback(outcome)

    def close(self) -> None:
        """Close the descriptor as soon as no thread uses it; without effect the second time."""
        if not self._closing:
            self._closing = True
            if not self._busy:
                self._close()

    def _close(self) -> None:
        os.close(self.fd)
        if self._whenClosed is not None:
            self._whenClosed()
