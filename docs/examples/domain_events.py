"""
Suspends and resumes a domain, and hears of both: C{python domain_events.py URI NAME}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

import virnet
from virnet.programs.constants import DomainEventID, DomainEventType
from virnet.programs.values import Domain


def happened(domain: Domain, event: int, detail: int) -> None:
    print(f"event: {domain.name} {DomainEventType(event).name.lower()}")


async def main(reactor: Any, uri: str, name: str) -> None:
    async with await virnet.connect(reactor, uri) as host:
        subscription = await host.domainEvents.subscribe(DomainEventID.LIFECYCLE, happened)
        domain = await host.remote.domainLookupByName(name)
        await host.remote.domainSuspend(domain)
        await host.remote.domainResume(domain)
        await subscription.cancel()


if __name__ == "__main__":
    react(lambda reactor, *args: Deferred.fromCoroutine(main(reactor, *args)), sys.argv[1:])
