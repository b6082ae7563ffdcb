"""
Types at a guest's console and saves a picture of its screen: C{python console.py URI DOMAIN FILE}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.task import react

import virnet


async def talk(remote: Any, domain: Any) -> None:
    stream = await remote.domainOpenConsole(domain, None)
    await stream.send(b"hello\r")
    await stream.send(b"exit\r")
    async for data in stream:
        print(data.decode(), end="")
    await stream.finish()


async def photograph(remote: Any, domain: Any, path: str) -> None:
    mime, stream = await remote.domainScreenshot(domain, 0)
    with open(path, "wb") as file:
        await stream.receiveInto(file)
    print("the picture is", mime)


async def main(reactor: Any, uri: str, name: str, path: str) -> None:
    async with await virnet.connect(reactor, uri) as host:
        domain = await host.remote.domainLookupByName(name)
        await talk(host.remote, domain)
        await photograph(host.remote, domain, path)


if __name__ == "__main__":
    react(main, sys.argv[1:])
