"""C{vol-upload} and C{vol-download}: L{virnet.client.transfer} at a terminal."""

from __future__ import annotations

import atexit
import errno
import os
import sys
from argparse import Namespace
from typing import Any
from xml.sax.saxutils import escape

from virnet.cli.arguments import UsageError
from virnet.cli.bars import Silent, barFor
from virnet.cli.output import Output
from virnet.cli.output import shown as safe
from virnet.cli.session import Session, lookupPool, named
from virnet.cli.sizes import bytesText
from virnet.client.transfer import Checksum, HTTPOptions, TransferError, Transferred, download, upload
from virnet.client.transfer.sources import isURL
from virnet.programs.values import StorageVol


def checkUpload(options: Namespace, output: Output) -> None:
    """Find out what to send before anything is connected."""
    if (options.source is None) == (options.url is None):
        raise UsageError("give either a file or --from URL; see 'virnet vol-upload --help'")
    if options.url is not None and not isURL(options.url):
        raise UsageError(f"{options.url!r} is not a URL; a file is given without --from")
    if options.create is not None:
        if options.pool is None:
            raise UsageError("--create needs --pool")
        if options.offset:
            raise UsageError("--offset does not go with --create")
    _checkChecksum(options)
    if options.source not in (None, "-") and not isURL(options.source):
        # Not by opening it: whoever writes into a pipe would take that for its reader, and its end.
        for mode, number in ((os.F_OK, errno.ENOENT), (os.R_OK, errno.EACCES)):
            if not os.access(options.source, mode):
                raise TransferError(f"cannot read {options.source}: {os.strerror(number)}")


def checkDownload(options: Namespace, output: Output) -> None:
    """Find out where to put it before anything is connected."""
    _checkChecksum(options)
    if options.file == "-" and sys.stdout.isatty():
        raise UsageError("a volume is nothing for a terminal")


def _checkChecksum(options: Namespace) -> None:
    if options.checksum is not None:
        try:
            Checksum(options.checksum)
        except TransferError as e:
            raise UsageError(str(e)) from e


async def uploadCommand(session: Session) -> None:
    """C{vol-upload}"""
    options = session.options
    remote = session.connection.remote
    onFailure = options.on_failure or "keep"
    sparse = options.sparse
    if options.create is None:
        volume = await lookupVolume(session)
    else:
        pool = await lookupPool(session.connection, options.pool)
        volume = await remote.storageVolCreateXML(pool, volumeXML(options), 0)
        onFailure = options.on_failure or "delete"
        # There is nothing in it that could show through a hole.
        sparse = True
    source: Any = options.url or options.source
    stdin = sys.stdin.buffer if source == "-" else None
    bar = barFor(safe(volume.name), options.quiet or session.output.asJSON)
    result = await _shown(
        bar,
        upload(
            session.reactor,
            remote,
            volume,
            source if stdin is None else stdin,
            offset=options.offset,
            size=options.size,
            sparse=sparse,
            checksum=options.checksum,
            progress=bar,
            onFailure=onFailure,
            http=HTTPOptions(redirects=options.redirects, stall=options.stall, retries=options.retries),
        ),
    )
    _tell(session, volume, "uploaded", result)


async def downloadCommand(session: Session) -> None:
    """C{vol-download}"""
    options = session.options
    volume = await lookupVolume(session)
    toStandardOutput = options.file == "-"
    bar = barFor(safe(volume.name), options.quiet or session.output.asJSON)
    result = await _shown(
        bar,
        download(
            session.reactor,
            session.connection.remote,
            volume,
            sys.stdout.buffer if toStandardOutput else options.file,
            offset=options.offset,
            length=options.length,
            sparse=options.sparse,
            checksum=options.checksum,
            progress=bar,
        ),
    )
    if toStandardOutput:
        session.output.note(_line(volume, "downloaded", result))
    else:
        _tell(session, volume, "downloaded", result)


async def _shown(bar: Silent, transfer: Any) -> Transferred:
    """Have a transfer with its bar, which goes away with it, or with the command."""
    atexit.register(bar.close)
    try:
        result: Transferred = await transfer
    finally:
        atexit.unregister(bar.close)
        bar.close()
    return result


def _tell(session: Session, volume: StorageVol, done: str, result: Transferred) -> None:
    if session.output.asJSON:
        session.output.data(
            {
                "pool": volume.pool,
                "volume": volume.name,
                "data": result.data,
                "holes": result.holes,
                "seconds": result.seconds,
                "checksum": result.checksum,
                "resumed": result.resumed,
            }
        )
    else:
        session.output.line(_line(volume, done, result))


def _line(volume: StorageVol, done: str, result: Transferred) -> str:
    rate = result.data / result.seconds if result.seconds > 0 else 0
    line = f"Volume '{volume.name}' {done}: {bytesText(result.size)}"
    if result.holes:
        line += f" ({bytesText(result.holes)} of it holes)"
    line += f" in {result.seconds:.1f} s, {bytesText(rate)}/s"
    if result.resumed:
        line += f", resumed {result.resumed} time{'s' if result.resumed > 1 else ''}"
    return line if result.checksum is None else f"{line}, {result.checksum}"


async def lookupVolume(session: Session) -> StorageVol:
    """Find the volume that was typed: by its name in a pool; or by path, or key.

    @raise VirnetError: there is none.
    """
    options, remote = session.options, session.connection.remote
    if options.pool is not None:
        pool = await lookupPool(session.connection, options.pool)
        return await named(remote.storageVolLookupByName(pool, options.volume), "volume", options.volume)
    if os.sep not in options.volume:
        raise UsageError(f"which volume {options.volume!r}? give its --pool, or its path")
    return await named(remote.storageVolLookupByPath(options.volume), "volume", options.volume)


def volumeXML(options: Namespace) -> str:
    """A new volume as libvirt wants it."""
    return (
        f"<volume><name>{escape(options.volume)}</name><capacity>{options.create}</capacity>"
        f"<allocation>0</allocation><target><format type='{escape(options.format)}'/></target></volume>"
    )
