"""
Virnet in an asyncio program that has its own way to run: C{python with_own_loop.py URI}.
"""

import asyncio
import sys

import virnet
from virnet import aio


async def main(uri: str) -> None:
    async with aio.running() as reactor:
        host = await aio.future(virnet.connect(reactor, uri))
        for domain in await aio.future(host.domains()):
            print(domain.name)
        await aio.future(host.close())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
