"""
Fills a volume from a URL, and tells how far it is: C{python from_http.py URI VOLUME URL SHA256}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.task import react

import virnet
from virnet.client.transfer import Progress, TransferError, upload


def tell(progress: Progress) -> None:
    if progress.done == progress.total:
        print(f"{progress.done} bytes, {progress.holes} of them holes")


async def main(reactor: Any, uri: str, name: str, url: str, sha256: str) -> None:
    async with await virnet.connect(reactor, uri) as host:
        pool = await host.remote.storagePoolLookupByName("default-pool")
        sizes = "<capacity unit='MiB'>64</capacity><allocation>0</allocation>"
        xml = f"<volume><name>{name}</name>{sizes}</volume>"
        volume = await host.remote.storageVolCreateXML(pool, xml, 0)
        try:
            result = await upload(
                reactor,
                host.remote,
                volume,
                url,
                sparse=True,
                checksum=f"sha256:{sha256}",
                progress=tell,
                onFailure="delete",
            )
        except TransferError as e:
            print(f"refused: {e}")
        else:
            print(f"done, {result.checksum}, resumed {result.resumed} times")


if __name__ == "__main__":
    react(main, sys.argv[1:])
