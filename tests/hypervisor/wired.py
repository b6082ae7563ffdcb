"""
Connections to a hypervisor in memory by the whole of virnet, client to server, without sockets.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import RemoteError
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.programs import REMOTE
from virnet.programs.values import Domain, StoragePool, StorageVol
from virnet.server import NetServer, ServerProgram
from virnet.testing import ConnectedPair, connectedPair

URI = "test:///default"
TEST = Domain("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
POOL = StoragePool("default-pool", bytes.fromhex("dfe224cb28fb8dd0c4b264eb3f0f4566"))
#: A domain that is gone when it stops.
TRANSIENT_XML = (
    "<domain type='test'><name>transient</name><memory>1024</memory><os><type>hvm</type></os></domain>"
)


def volumeXML(name: str, capacity: int, allocation: int = 0) -> str:
    """A volume that takes no space unless told otherwise."""
    return (
        f"<volume><name>{name}</name><capacity>{capacity}</capacity>"
        f"<allocation>{allocation}</allocation></volume>"
    )


class WiredTestCase(SynchronousTestCase):
    """
    A hypervisor, a server of it, and one connection to that.

    @ivar hypervisor: set before C{connect} is called first.
    @ivar remote: what the first connection calls.
    """

    hypervisor: MemoryHypervisor
    remote: Any

    def serve(self, hypervisor: MemoryHypervisor) -> None:
        self.hypervisor = hypervisor
        self.server = NetServer(Clock(), [ServerProgram(REMOTE, sessionsOf(hypervisor))])
        self.pair = self.connect()
        self.remote = self.pair.client.program(REMOTE)

    def connect(self, readonly: bool = False) -> ConnectedPair:
        """Open one more connection."""
        pair = connectedPair(self.server, readonly=readonly)
        self.answer(pair.client.program(REMOTE).connectOpen(URI, 0))
        return pair

    def another(self, readonly: bool = False) -> Any:
        """What one more connection calls."""
        return self.connect(readonly).client.program(REMOTE)

    def turn(self) -> None:
        """Let everything happen that is due."""
        self.server.reactor.advance(0)

    def _begun(self, called: Awaitable[Any]) -> Deferred[Any]:
        deferred = called if isinstance(called, Deferred) else Deferred.fromCoroutine(_awaited(called))
        self.turn()
        return deferred

    def answer(self, called: Awaitable[Any]) -> Any:
        """The result of a call that must succeed at once."""
        return self.successResultOf(self._begun(called))

    def refused(self, called: Awaitable[Any]) -> RemoteError:
        """The error of a call that must fail at once."""
        error = self.failureResultOf(self._begun(called), RemoteError).value
        assert isinstance(error, RemoteError)
        return error

    def volume(self, name: str = "v", capacity: int = 1 << 20, allocation: int = 0) -> StorageVol:
        """Make a volume."""
        vol = self.answer(self.remote.storageVolCreateXML(POOL, volumeXML(name, capacity, allocation), 0))
        assert isinstance(vol, StorageVol)
        return vol

    def upload(self, vol: StorageVol, data: Any, offset: int = 0, length: int = 0, flags: int = 0) -> None:
        """Upload bytes, or a list of them and holes."""
        stream = self.answer(self.remote.storageVolUpload(vol, offset, length, flags))
        self.answer(stream.sendFrom([data] if isinstance(data, bytes) else data))

    def download(self, vol: StorageVol, offset: int = 0, length: int = 0) -> bytes:
        """Download bytes."""
        received: list[bytes] = []

        class Target:
            write = received.append

        stream = self.answer(self.remote.storageVolDownload(vol, offset, length, 0))
        self.answer(stream.receiveInto(Target()))
        return b"".join(received)


async def _awaited(called: Awaitable[Any]) -> Any:
    return await called
