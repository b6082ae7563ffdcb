"""Volumes that are filled and copied, over a real socket: their data goes through files, and those through
threads.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.trial.unittest import TestCase

import virnet
from virnet.client.service import ConnectionService
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.objects import Host, StorageVol
from virnet.programs import REMOTE
from virnet.server import NetServer, ServerProgram, ServerService

reactor: Any = installed

CONTENT = bytes(range(256)) * 2048


class Volumes(TestCase):
    """C{volume.upload} and C{volume.download}."""

    timeout = 30

    async def volume(self, host: Host) -> StorageVol:
        """A new volume of half a megabyte."""
        pool = await host.pool("default-pool")
        return await pool.createVolume(
            f"<volume><name>disk</name><capacity>{len(CONTENT)}</capacity></volume>"
        )

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="virnet-")
        self.addCleanup(shutil.rmtree, self.directory)
        server = NetServer(reactor, [ServerProgram(REMOTE, sessionsOf(MemoryHypervisor()))])
        path = os.path.join(self.directory, "s")
        service: Any = ServerService(server, UNIXServerEndpoint(reactor, path))
        service.setServiceParent(server)
        server.startService()
        self.addCleanup(server.stopService)
        self.uri = f"test+unix:///default?socket={path}"

    def test_there_and_back_with_progress(self) -> Deferred[None]:
        async def run() -> None:
            async with await virnet.connect(reactor, self.uri) as connection:
                volume = await self.volume(connection)
                moments: list[int] = []
                done = await volume.upload(CONTENT, progress=lambda moment: moments.append(moment.done))
                self.assertEqual((done.data, moments[-1]), (len(CONTENT), len(CONTENT)))
                target = os.path.join(self.directory, "copy")
                moments.clear()
                await volume.download(target, progress=lambda moment: moments.append(moment.done))
                with open(target, "rb") as copy:
                    self.assertEqual(copy.read(), CONTENT)
                self.assertEqual(moments[-1], len(CONTENT))

        return Deferred.fromCoroutine(run())

    def test_over_a_connection_that_lasts(self) -> Deferred[None]:
        async def run() -> None:
            service = ConnectionService(reactor, self.uri)
            service.startService()
            try:
                volume = await self.volume(service)
                await volume.upload(CONTENT)
                stream = await volume.openDownload(0, 5)
                self.assertEqual(await stream.receive(), CONTENT[:5])
                await stream.finish()
            finally:
                await service.stopService()

        return Deferred.fromCoroutine(run())
