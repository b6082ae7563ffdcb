"""
Follows the domains of a host through restarts of its daemon: C{python follow.py URI}.
"""

import logging
import sys

from twisted.logger import STDLibLogObserver, globalLogBeginner

from virnet import aio
from virnet.client import ConnectionService
from virnet.objects import Event


async def listAll(service: ConnectionService) -> None:
    for domain in await service.domains():
        print(f"{domain.name}: {await domain.state()!r}")


async def main(uri: str) -> None:
    async with ConnectionService(aio.reactor(), uri) as service, service.events() as events:
        await listAll(service)
        async for event in events:
            if isinstance(event, Event):
                print(f"{event.subject.name}: {event.details['event']!r}")
            else:
                print(f"look again: {event}")
                await listAll(service)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    globalLogBeginner.beginLoggingTo([STDLibLogObserver()], redirectStandardIO=False)
    try:
        aio.run(main(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
