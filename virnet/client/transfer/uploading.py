"""
Uploads.

What a server does with an upload that is given up is not to undo it: libvirtd, and our own server, leave in
the volume what has arrived, and behind it what was there before. Nobody could tell that from a whole image.
So:

  - The first L{UPLOAD_HEAD} bytes are sent last. The stream begins with zeros in their place; when everything
    behind them has arrived and length and checksum are right, they follow in a stream of their own, as one
    packet. Partition tables, boot sectors, the headers of image formats and the superblocks of nearly all
    file systems are in them: whatever fails, be it this process or its host, the volume begins with zeros and
    is no image.
  - A source that fits into one packet is read and checked before anything is sent.
  - What is written at an offset is a part of something that is there already: it is sent in order, and what a
    failure leaves is a mixture.
  - A failure aborts the stream; then the volume may be wiped or deleted, as the caller wants.

Holes are only sent where the caller says so: libvirtd leaves what was in the volume under them, so they are
for volumes that are new.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from virnet.client.stream import ClientStream
from virnet.client.transfer.checksum import Checksum
from virnet.client.transfer.errors import TransferError
from virnet.client.transfer.options import HTTPOptions
from virnet.client.transfer.progress import Meter, Progress, Transferred
from virnet.client.transfer.sources import IteratedSource, Source, fileSource, isURL
from virnet.errors import VirnetError
from virnet.limits import UPLOAD_HEAD
from virnet.programs import IRemote
from virnet.programs.constants import StorageVolUploadFlags
from virnet.programs.values import StorageVol
from virnet.transport.files import Hole, duplicate

KEEP = "keep"
WIPE = "wipe"
DELETE = "delete"


async def upload(
    reactor: Any,
    remote: IRemote,
    vol: StorageVol,
    source: Any,
    *,
    offset: int = 0,
    size: int | None = None,
    sparse: bool = False,
    checksum: str | None = None,
    progress: Callable[[Progress], object] | None = None,
    onFailure: str = KEEP,
    http: HTTPOptions = HTTPOptions(),  # noqa: B008 - it is immutable
) -> Transferred:
    """Fill a volume (C: C{virStorageVolUpload}).

    @param reactor: for files, URLs and the time.
    @param remote: the server's main program.
    @param vol: the volume.
    @param source: a path; a file open for reading, from its position on; anything with C{read}; bytes, or an
        iterable or asynchronous iterable of bytes and L{Hole}s; or a C{http} or C{https} URL.
    @param offset: where in the volume to begin, in bytes.
    @param size: bytes the source must have; refused with any other number.
    @param sparse: send holes as holes: those of a file, zeros of anything else. For new volumes only.
    @param checksum: C{NAME}: compute it; C{NAME:HEX}: refuse data with another. NAME is one of C{hashlib}'s.
    @param progress: called with a L{Progress} for every piece.
    @param onFailure: what becomes of the volume after a failure: C{keep}, C{wipe} (C: C{virStorageVolWipe})
        or C{delete} (C: C{virStorageVolDelete}).
    @param http: for URLs.
    @return: what it came to, when the server has confirmed.
    @raise TransferError: the source cannot be read, or is not what it should be.
    @raise RemoteError: the server refused.
    @raise ConnectionLost: the connection to it is gone.
    """
    if onFailure not in (KEEP, WIPE, DELETE):
        raise ValueError(f"onFailure is {KEEP}, {WIPE} or {DELETE}, not {onFailure!r}")
    transfer = _Upload(reactor, remote, vol, offset, sparse, Meter(reactor, progress))
    transfer.checksum = None if checksum is None else Checksum(checksum)
    expected = size is not None or (transfer.checksum is not None and transfer.checksum.expected is not None)
    taken = sourceFor(reactor, source, sparse, http, expected)
    try:
        await taken.open()
        if size is not None and taken.size not in (None, size):
            raise TransferError(f"{taken.name} has {taken.size} bytes, not {size}")
        await transfer.run(taken, taken.size if size is None else size)
    except Exception as e:
        await _cleanUp(remote, vol, onFailure, e)
        raise
    finally:
        taken.close()
    return transfer.result(taken.resumed)


def sourceFor(reactor: Any, source: Any, sparse: bool, http: HTTPOptions, expected: bool) -> Source:
    """Make the L{Source} of what was given; see L{upload}."""
    if isURL(source):
        # Not where it is not needed: treq takes a while to load.
        from virnet.client.transfer.http import HTTPSource

        return HTTPSource(reactor, source, sparse, http, expected)
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        try:
            return fileSource(reactor, os.open(path, os.O_RDONLY | os.O_CLOEXEC), path, sparse)
        except OSError as e:
            raise TransferError(f"cannot read {path}: {e.strerror or e}") from e
    fd = duplicate(source)
    if fd is None:
        return IteratedSource(source, sparse)
    return fileSource(reactor, fd, str(getattr(source, "name", "the source")), sparse)


async def _cleanUp(remote: IRemote, vol: StorageVol, how: str, error: Exception) -> None:
    """Do to the volume what is wanted after a failure.

    @raise TransferError: that failed as well.
    """
    try:
        if how == DELETE:
            await remote.storageVolDelete(vol, 0)
        elif how == WIPE:
            await remote.storageVolWipe(vol, 0)
    except VirnetError as e:
        done = "deleted" if how == DELETE else "wiped"
        raise TransferError(f"{error}; and volume '{vol.name}' could not be {done}: {e}") from error


class _Upload:
    """One upload."""

    checksum: Checksum | None = None

    def __init__(
        self, reactor: Any, remote: IRemote, vol: StorageVol, offset: int, sparse: bool, meter: Meter
    ) -> None:
        self._reactor = reactor
        self._remote = remote
        self._vol = vol
        self._offset = offset
        self._flags = int(StorageVolUploadFlags.SPARSE_STREAM) if sparse else 0
        self._meter = meter

    def result(self, resumed: int) -> Transferred:
        """What it came to."""
        checksum = None if self.checksum is None else f"{self.checksum.name}:{self.checksum.digest}"
        return Transferred(self._meter.data, self._meter.holes, self._meter.seconds, checksum, resumed)

    async def run(self, source: Source, size: int | None) -> None:
        """Send everything."""
        self._meter.total = size
        if self._offset:
            await self._stream(source, size, b"", b"")
            return
        head, rest = await self._head(source)
        if rest is None:
            # All of it is in the head.
            self._checkEnd(source, size)
        else:
            await self._stream(source, size, bytes(len(head)), rest)
            if not head.strip(b"\0"):
                return
        stream = await self._open(0)
        try:
            if head:
                await stream.sendPacket(head)
            await stream.finish()
        except Exception:
            await _abort(stream)
            raise

    async def _head(self, source: Source) -> tuple[bytes, bytes | Hole | None]:
        """The beginning as data, and what came with it that is behind it; C{None} at the end."""
        pieces: list[bytes] = []
        length = 0
        while length < UPLOAD_HEAD:
            item = await self._next(source)
            if not item:
                return b"".join(pieces), None
            fits = min(_length(item), UPLOAD_HEAD - length)
            length += fits
            if isinstance(item, Hole):
                pieces.append(bytes(fits))
                rest: bytes | Hole = Hole(item.length - fits) if fits < item.length else b""
            else:
                pieces.append(item[:fits])
                rest = item[fits:]
        return b"".join(pieces), rest

    async def _next(self, source: Source) -> bytes | Hole:
        """What comes next, counted."""
        item = await source.read()
        if isinstance(item, Hole):
            if self.checksum is not None:
                await self.checksum.skip(self._reactor, item.length)
        elif self.checksum is not None:
            self.checksum.update(item)
        if item:
            self._meter.count(item)
        return item

    async def _stream(self, source: Source, size: int | None, zeros: bytes, item: bytes | Hole) -> None:
        """Send zeros, an item and the rest of the source; finish only if it is what it should be."""
        stream = await self._open(self._flags)
        try:
            if zeros:
                await stream.send(zeros)
            if item:
                await _send(stream, item)
            while item := await self._next(source):
                self._checkMore(source, size)
                await _send(stream, item)
            self._checkEnd(source, size)
            await stream.finish()
        except Exception:
            await _abort(stream)
            raise

    def _checkMore(self, source: Source, size: int | None) -> None:
        done = self._meter.data + self._meter.holes
        if size is not None and done > size:
            raise TransferError(f"{source.name} has more than {size} bytes")

    def _checkEnd(self, source: Source, size: int | None) -> None:
        self._checkMore(source, size)
        done = self._meter.data + self._meter.holes
        if size is not None and done < size:
            raise TransferError(f"{source.name} has {done} bytes, not {size}")
        if self.checksum is not None:
            self.checksum.check(source.name)

    async def _open(self, flags: int) -> ClientStream:
        opened: Any = await self._remote.storageVolUpload(self._vol, self._offset, 0, flags)
        stream: ClientStream = opened
        return stream


async def _send(stream: ClientStream, item: bytes | Hole) -> None:
    if isinstance(item, Hole):
        await stream.sendHole(item.length)
    else:
        await stream.send(item)


async def _abort(stream: ClientStream) -> None:
    """Give a stream up, and wait until the server has let go of the volume."""
    try:
        await stream.abort()
    except VirnetError:
        # It is over already, by the very error that brought us here.
        pass


def _length(item: bytes | Hole) -> int:
    return item.length if isinstance(item, Hole) else len(item)
