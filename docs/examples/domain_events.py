"""
Suspends and resumes a domain, and hears of both: C{python domain_events.py URI NAME}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.task import react

import virnet
from virnet.objects import Domain, Event


async def listen(domain: Domain) -> None:
    async with domain.events() as events:
        await domain.suspend()
        await domain.resume()
        async for event in events:
            if isinstance(event, Event):
                happened = event.details["event"]
                print("event:", domain.name, happened.name.lower())
                if happened.name == "RESUMED":
                    return


async def main(reactor: Any, uri: str, name: str) -> None:
    async with await virnet.connect(reactor, uri) as host:
        await listen(await host.domain(name))


if __name__ == "__main__":
    react(main, sys.argv[1:])
