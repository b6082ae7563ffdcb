"""
AMP, the first of the Twisted peers: C{python -m tests.bench.amppeer server|client SOCKET}.

The two commands carry what the libvirt calls of the same names carry.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols import amp

from tests.bench.reactorworker import Calls, run


class ConnectGetLibVersion(amp.Command):
    response = [(b"version", amp.Integer())]


class DomainLookupByName(amp.Command):
    arguments = [(b"name", amp.Unicode())]
    response = [(b"name", amp.Unicode()), (b"uuid", amp.String()), (b"id", amp.Integer())]


class Hypervisor(amp.AMP):
    @ConnectGetLibVersion.responder
    def connectGetLibVersion(self) -> dict[str, object]:
        return {"version": 9000000}

    @DomainLookupByName.responder
    def domainLookupByName(self, name: str) -> dict[str, object]:
        return {"name": name, "uuid": bytes(range(16)), "id": 1}


async def serve(reactor: Any, path: str) -> None:
    await UNIXServerEndpoint(reactor, path).listen(Factory.forProtocol(Hypervisor))
    await Deferred()


async def connect(reactor: Any, path: str) -> Calls:
    peer = await connectProtocol(UNIXClientEndpoint(reactor, path), amp.AMP())
    return {
        "connectGetLibVersion": lambda: peer.callRemote(ConnectGetLibVersion),
        "domainLookupByName": lambda: peer.callRemote(DomainLookupByName, name="test"),
    }


if __name__ == "__main__":
    role, path = sys.argv[1:]
    if role == "server":
        react(lambda reactor: Deferred.fromCoroutine(serve(reactor, path)))
    else:
        run(lambda reactor: connect(reactor, path))
