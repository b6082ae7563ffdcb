"""Call a server through any of Twisted's endpoint strings: C{python reach.py STRING}."""

import sys

from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import react

from virnet.client import connect


async def main(reactor: IReactorCore, string: str) -> None:
    endpoint = clientFromString(reactor, string)
    # The URI says what to open there, the endpoint how to get there.
    async with await connect(reactor, "test:///default", endpoint=endpoint) as connection:
        print(await connection.remote.connectGetURI())


if __name__ == "__main__":
    react(main, sys.argv[1:])
