"""
Virnet in an asyncio program: C{python with_asyncio.py URI}.
"""

import asyncio
import sys

import virnet
from virnet import aio
from virnet.objects import Domain, Event, Host


async def watch(domain: Domain, ready: asyncio.Event) -> None:
    """Print what happens to a domain, until it goes on running."""
    async with domain.events() as events:
        ready.set()
        async for event in events:
            if isinstance(event, Event):
                print(f"{event.details['event'].name.lower()}: {event.details['event'].name}")
                if event.details["event"].name == "RESUMED":
                    return


async def show(host: Host) -> None:
    """Print all domains and their states."""
    domains = await host.domains()
    states = await asyncio.gather(*(domain.state() for domain in domains))
    for domain, state in zip(domains, states, strict=True):
        print(domain.name, getattr(state, "name", state))


async def main(uri: str) -> None:
    async with await virnet.connect(aio.reactor(), uri) as host:
        await show(host)
        domain = await host.domain("test")
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch(domain, ready))
            await ready.wait()
            async with asyncio.timeout(10):
                await domain.suspend()
                await domain.resume()


if __name__ == "__main__":
    aio.run(main(sys.argv[1]))
