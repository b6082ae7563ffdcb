"""
Downloads.

  - A file that is named gets its name when all of it is there, on the disk, and its checksum is right: until
    then it is the name with C{.part} behind it, which a failure removes. What was there under the name before
    stays until then.
  - A file that is open, or is no regular one (a device, a pipe), is written as it comes.
  - Writing happens in a thread, while the next data comes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet

from virnet.client.stream import ClientStream
from virnet.client.transfer.checksum import Checksum
from virnet.client.transfer.errors import TransferError
from virnet.client.transfer.progress import Meter, Progress, Transferred
from virnet.client.transfer.sources import mayWait
from virnet.client.transfer.targets import PipeTarget
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.limits import FILE_CHUNK
from virnet.programs import IRemote
from virnet.programs.constants import StorageVolDownloadFlags, StorageVolInfoFlags
from virnet.programs.values import StorageVol
from virnet.transport.files import FileWriter, Hole, ThreadedFile, duplicate

PART = ".part"


async def download(
    reactor: Any,
    remote: IRemote,
    vol: StorageVol,
    target: Any,
    *,
    offset: int = 0,
    length: int = 0,
    sparse: bool = False,
    checksum: str | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Transferred:
    """Copy a volume (C: C{virStorageVolDownload}).

    @param reactor: for files and the time.
    @param remote: the server's main program.
    @param vol: the volume.
    @param target: a path; a file open for writing, from its position on; or anything with C{write}, which may
        return a Deferred to wait for, and gets holes as zeros.
    @param offset: where in the volume to begin, in bytes.
    @param length: bytes at the most; 0 for all.
    @param sparse: have holes sent, and make them holes of the file.
    @param checksum: C{NAME}: compute it; C{NAME:HEX}: refuse data with another. NAME is one of C{hashlib}'s.
    @param progress: called with a L{Progress} for every piece.
    @return: what it came to.
    @raise TransferError: the target cannot be written, or the checksum is another.
    @raise RemoteError: the server refused.
    @raise ConnectionLost: the connection to it is gone.
    """
    check = None if checksum is None else Checksum(checksum)
    meter = Meter(reactor, progress)
    total = await _total(remote, vol)
    if total is not None:
        total = max(0, total - offset)
        meter.total = min(total, length) if length else total
    part: str | None = None
    fd: int | None
    if isinstance(target, str | os.PathLike):
        part, fd = _create(os.fspath(target))
    else:
        fd = duplicate(target)
    waits = fd is not None and mayWait(fd) and IReactorFDSet.providedBy(reactor)
    file = None if fd is None else ThreadedFile(reactor, fd)
    try:
        flags = int(StorageVolDownloadFlags.SPARSE_STREAM) if sparse else 0
        opened: Any = await remote.storageVolDownload(vol, offset, length, flags)
        stream: ClientStream = opened
        try:
            if file is None:
                await _write(stream, target, meter, check)
            elif waits:
                await _write(stream, PipeTarget(reactor, file.fd), meter, check)
            else:
                await _writeFile(stream, file, meter, check, part is not None)
            if check is not None:
                check.check(f"volume '{vol.name}'")
            await stream.finish()
        except Exception:
            stream.abort().addErrback(lambda _: None)
            raise
        if part is not None:
            os.replace(part, os.fspath(target))
            part = None
    except OSError as e:
        raise TransferError(f"cannot write {_nameOf(target)}: {e.strerror or e}") from e
    finally:
        if file is not None:
            file.close()
        if part is not None:
            os.unlink(part)
    return Transferred(
        meter.data, meter.holes, meter.seconds, None if check is None else f"{check.name}:{check.digest}"
    )


async def _total(remote: IRemote, vol: StorageVol) -> int | None:
    """Bytes that a download of all of it has, as far as the server can tell."""
    try:
        return (await remote.storageVolGetInfoFlags(vol, StorageVolInfoFlags.GET_PHYSICAL)).allocation
    except RemoteError as e:
        if e.code not in (ErrorNumber.NO_SUPPORT, ErrorNumber.INVALID_ARG):
            raise
    return (await remote.storageVolGetInfo(vol)).capacity


def _create(path: str) -> tuple[str | None, int]:
    """Open the file that will be named so; where it is.

    @raise TransferError: it cannot be written.
    """
    part: str | None = path + PART
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            pass
        elif stat.S_ISDIR(os.stat(path).st_mode):
            raise TransferError(f"cannot write {path}: Is a directory")
        else:
            part = None
    except FileNotFoundError:
        pass
    except OSError as e:
        raise TransferError(f"cannot write {path}: {e.strerror or e}") from e
    try:
        if part is None:
            return None, os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        # What an earlier download has left, or somebody else for us to write into, is not ours.
        with suppress(FileNotFoundError):
            os.unlink(part)
        return part, os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as e:
        raise TransferError(f"cannot write {part or path}: {e.strerror or e}") from e


def _nameOf(target: Any) -> str:
    return str(target if isinstance(target, str | os.PathLike) else getattr(target, "name", "the target"))


async def _write(stream: ClientStream, target: Any, meter: Meter, check: Checksum | None) -> None:
    while item := await stream.receive():
        if check is not None:
            check.count(item)
        for data in _zeros(item.length) if isinstance(item, Hole) else (item,):
            written = target.write(data)
            if isinstance(written, Deferred):
                await written
        meter.count(item)


def _zeros(length: int) -> Any:
    zeros = bytes(min(length, FILE_CHUNK))
    for start in range(0, length, FILE_CHUNK):
        yield zeros[: length - start]


async def _writeFile(
    stream: ClientStream, file: ThreadedFile, meter: Meter, check: Checksum | None, sync: bool
) -> None:
    """Write everything; C{sync}: and have it on the disk."""
    writer = FileWriter(file.fd)

    def write(items: list[bytes | Hole]) -> None:
        if check is not None:
            for each in items:
                check.count(each)
        writer.writeAll(items)

    def finish() -> None:
        writer.finish()
        if sync:
            os.fsync(file.fd)

    writing: Deferred[None] | None = None
    try:
        more = True
        while more:
            batch: list[bytes | Hole] = []
            size = 0
            while more and size < FILE_CHUNK:
                item = await stream.receive()
                if item:
                    batch.append(item)
                    size += FILE_CHUNK if isinstance(item, Hole) else len(item)
                    meter.count(item)
                more = bool(item)
            if writing is not None:
                done, writing = writing, None
                await done
            if batch:
                writing = file.run(write, batch)
        if writing is not None:
            done, writing = writing, None
            await done
        await file.run(finish)
    finally:
        if writing is not None:
            # Somebody failed meanwhile; that is what counts.
            writing.addErrback(lambda _: None)
