"""
Something that uses libvirt: it keeps the domains of a host running.
"""

from __future__ import annotations

from virnet.errors import RemoteError
from virnet.objects import Domain, Event, Host
from virnet.programs.constants import DomainEventType


async def revive(domain: Domain) -> bool:
    """Start a domain unless it runs.

    @return: whether it runs now.
    """
    if await domain.isActive():
        return True
    try:
        await domain.start()
    except RemoteError:
        return False
    return True


async def keepRunning(host: Host) -> None:
    """Start every domain that stops, until the connection ends."""
    async with host.events() as events:
        for domain in await host.domains():
            await revive(domain)
        async for event in events:
            if not isinstance(event, Event):
                # Something may have happened unheard: look at all of them.
                for domain in await host.domains():
                    await revive(domain)
            elif event.details["event"] == DomainEventType.STOPPED:
                assert isinstance(event.subject, Domain)
                await revive(event.subject)
