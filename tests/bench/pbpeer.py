"""
Perspective Broker, the second of the Twisted peers: C{python -m tests.bench.pbpeer server|client SOCKET}.

The two remote methods carry what the libvirt calls of the same names carry.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.task import react
from twisted.spread import pb

from tests.bench.reactorworker import Calls, run


class Hypervisor(pb.Root):
    def remote_connectGetLibVersion(self) -> int:
        return 9000000

    def remote_domainLookupByName(self, name: str) -> tuple[str, bytes, int]:
        return name, bytes(range(16)), 1


async def serve(reactor: Any, path: str) -> None:
    await UNIXServerEndpoint(reactor, path).listen(pb.PBServerFactory(Hypervisor()))
    await Deferred()


async def connect(reactor: Any, path: str) -> Calls:
    factory = pb.PBClientFactory()
    await UNIXClientEndpoint(reactor, path).connect(factory)
    root = await factory.getRootObject()
    return {
        "connectGetLibVersion": lambda: root.callRemote("connectGetLibVersion"),
        "domainLookupByName": lambda: root.callRemote("domainLookupByName", "test"),
    }


if __name__ == "__main__":
    role, path = sys.argv[1:]
    if role == "server":
        react(lambda reactor: Deferred.fromCoroutine(serve(reactor, path)))
    else:
        run(lambda reactor: connect(reactor, path))
