"""
Where the data of an upload comes from, one interface for all.

  - A regular file or a block device is read in a thread, at once where the page cache has it. What may keep
    its reader waiting for ever (a pipe, a socket, a terminal) is read when the reactor says there is
    something: no thread hangs in it when the transfer is given up.
  - Whoever has no holes of his own may have them found: whole pieces of zeros.
"""

from __future__ import annotations

import os
import re
import select
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from zope.interface import implementer

from virnet.client.transfer.errors import TransferError
from virnet.limits import FILE_CHUNK, STREAM_CHUNK
from virnet.transport.files import FileReader, Hole, ThreadedFile

_HOLE_LEAST = 4096
"""Bytes of zeros that are worth a hole: a block of most file systems."""


class Source:
    """Data and holes, in order.

    @ivar name: what to call it in errors.
    @ivar size: bytes it has; C{None} until that is known. Known once it is open, or never.
    @ivar resumed: how often reading went on after a cut.
    """

    name = "the source"
    size: int | None = None
    resumed = 0

    async def open(self) -> None:
        """Begin.

        @raise TransferError: it cannot be had.
        """

    async def read(self) -> bytes | Hole:
        """Get what comes next.

        @return: C{b""} at the end.
        @raise TransferError: there should be more, but it cannot be had.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End, whether all was read or not."""


def isURL(text: object) -> bool:
    """Whether it means something to fetch."""
    return isinstance(text, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def withHoles(data: bytes) -> bytes | Hole:
    """A piece of data; a hole if it is nothing but zeros."""
    if len(data) >= _HOLE_LEAST and data == bytes(len(data)):
        return Hole(len(data))
    return data


class FileSource(Source):
    """A file, from its position on."""

    def __init__(self, reactor: Any, fd: int, name: str, sparse: bool) -> None:
        """@param fd: this object's from now on.
        @param sparse: tell holes.
        """
        self.name = name
        self._file = ThreadedFile(reactor, fd)
        self._reader = FileReader(fd, None, sparse)

    async def open(self) -> None:
        fd = self._file.fd
        here = os.lseek(fd, 0, os.SEEK_CUR)
        # The end tells a block device's size too, which its status does not.
        self.size = max(0, os.lseek(fd, 0, os.SEEK_END) - here)
        os.lseek(fd, here, os.SEEK_SET)

    async def read(self) -> bytes | Hole:
        try:
            item = self._reader.readCached(STREAM_CHUNK)
            if item is None:
                item = await self._file.run(self._reader.read, FILE_CHUNK)
        except OSError as e:
            raise TransferError(f"cannot read {self.name}: {e.strerror or e}") from e
        return item

    def close(self) -> None:
        self._file.close()


@implementer(IReadDescriptor)
class PipeSource(Source):
    """What is read when there is something: a pipe, a socket, a terminal."""

    def __init__(self, reactor: Any, fd: int, name: str, sparse: bool) -> None:
        """@param fd: this object's from now on.
        @param sparse: find holes.
        """
        self.name = name
        self._reactor = reactor
        self._fd = fd
        self._sparse = sparse
        self._waiting: Deferred[bytes] | None = None

    async def read(self) -> bytes | Hole:
        self._waiting = Deferred(self._cancelled)
        self._reactor.addReader(self)
        data = await self._waiting
        return withHoles(data) if self._sparse else data

    def fileno(self) -> int:
        """For the reactor."""
        return self._fd

    def logPrefix(self) -> str:
        """For the log."""
        return self.name

    def doRead(self) -> None:
        """There is something, or the end."""
        waiting = self._stop()
        if waiting is None:
            return
        try:
            waiting.callback(os.read(self._fd, STREAM_CHUNK))
        except OSError as e:
            waiting.errback(TransferError(f"cannot read {self.name}: {e.strerror or e}"))

    def connectionLost(self, reason: object) -> None:
        """The other end was closed, and what is left is still to be read; or the reactor stops, which says
        the same, and then reading would wait for ever.
        """
        if ready(self._fd, select.POLLIN):
            self.doRead()

    def _cancelled(self, _: object) -> None:
        self._stop()

    def _stop(self) -> Deferred[bytes] | None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._reactor.removeReader(self)
        return waiting

    def close(self) -> None:
        self._stop()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class IteratedSource(Source):
    """An iterable or asynchronous iterable of bytes or holes, or anything with C{read}."""

    def __init__(self, items: Any, sparse: bool, whenClosed: Callable[[], object] = bool) -> None:
        """@param sparse: find holes.
        @param whenClosed: called at the end.
        """
        self._sparse = sparse
        self._whenClosed = whenClosed
        read = getattr(items, "read", None)
        self._async: AsyncIterator[Any] | None = None
        self._items: Iterator[Any] = iter(())
        if read is not None:
            self._items = iter(partial(read, STREAM_CHUNK), b"")
        elif hasattr(items, "__aiter__"):
            self._async = aiter(items)
        else:
            self._items = iter([items] if isinstance(items, bytes | bytearray | memoryview) else items)

    async def read(self) -> bytes | Hole:
        item: Any = b""
        while not item:
            # An empty piece is not the end.
            try:
                item = next(self._items) if self._async is None else await anext(self._async)
            except (StopIteration, StopAsyncIteration):
                return b""
        if isinstance(item, Hole):
            return item
        data = bytes(item)
        return withHoles(data) if self._sparse else data

    def close(self) -> None:
        self._whenClosed()


def mayWait(fd: int) -> bool:
    """Whether reading or writing may take for ever: of a pipe, a socket, a terminal."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))


def ready(fd: int, event: int) -> bool:
    """Whether reading (C{POLLIN}) or writing (C{POLLOUT}) takes no waiting now, be it that it fails."""
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(0))


def fileSource(reactor: Any, fd: int, name: str, sparse: bool) -> Source:
    """Make the source for a descriptor.

    @param fd: the source's from now on.
    @raise TransferError: nothing can be read from it.
    """
    mode = os.fstat(fd).st_mode
    if mayWait(fd) and IReactorFDSet.providedBy(reactor):
        return PipeSource(reactor, fd, name, sparse)
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return FileSource(reactor, fd, name, sparse)
    try:
        file = open(fd, "rb")
    except OSError as e:
        os.close(fd)
        raise TransferError(f"cannot read {name}: {e.strerror or e}") from e
    return IteratedSource(file, sparse, file.close)
