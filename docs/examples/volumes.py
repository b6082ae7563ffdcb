"""
Uploads a file with holes into a volume and downloads it again: C{python volumes.py URI VOLUME FILE}.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet.task import deferLater, react

import virnet
from virnet.programs.constants import StorageVolDownloadFlags, StorageVolUploadFlags


async def upload(remote: Any, volume: Any, path: str) -> None:
    with open(path, "rb") as file:
        stream = await remote.storageVolUpload(volume, 0, 0, StorageVolUploadFlags.SPARSE_STREAM)
        print("sent", await stream.sendFrom(file))


async def download(remote: Any, volume: Any, path: str) -> None:
    with open(path, "wb") as file:
        stream = await remote.storageVolDownload(volume, 0, 0, StorageVolDownloadFlags.SPARSE_STREAM)
        print("received", await stream.receiveInto(file))
        print("on the disk", os.fstat(file.fileno()).st_blocks * 512)


async def peruse(reactor: Any, remote: Any, volume: Any) -> None:
    stream = await remote.storageVolDownload(volume, 0, 0, 0)
    total = 0
    async for chunk in stream:
        if total == 0:
            await deferLater(reactor, 0.5)
        total += len(chunk)
    await stream.finish()
    print("read", total)


async def main(reactor: Any, uri: str, name: str, path: str) -> None:
    async with await virnet.connect(reactor, uri) as host:
        pool = await host.remote.storagePoolLookupByName("default-pool")
        volume = await host.remote.storageVolLookupByName(pool, name)
        await upload(host.remote, volume, path)
        await download(host.remote, volume, path + ".copy")
        await peruse(reactor, host.remote, volume)


if __name__ == "__main__":
    react(main, sys.argv[1:])
