"""
Objects and a lasting connection, against a real libvirtd: one that is stopped and started again, too.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

import virnet
from tests.interop.support import LibvirtDaemon, requireTool
from virnet.client import ConnectionService
from virnet.errors import ConnectionLost, RemoteError
from virnet.objects import Domain, Event, Gap
from virnet.programs.constants import DomainEventType, DomainState

reactor: Any = installed

VOLUME = "<volume><name>disk</name><capacity>1048576</capacity></volume>"


class RealDaemon(TestCase):
    """
    What virnet's users have.
    """

    timeout = 120

    def setUp(self) -> None:
        requireTool(self, "libvirtd")
        # Its own directory outlasts the daemon that is stopped in between.
        directory = tempfile.mkdtemp(prefix="virnet-")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.daemon = LibvirtDaemon(directory)
        self.daemon.start()
        self.addCleanup(lambda: self.daemon.stop())

    def test_objects(self) -> Deferred[None]:
        async def run() -> None:
            async with await virnet.connect(reactor, self.daemon.uri) as connection:
                (domain,) = await connection.domains()
                self.assertEqual(domain.name, "test")
                await domain.destroy()
                self.assertIs(await domain.state(), DomainState.SHUTOFF)
                await domain.start()
                self.assertIs(await domain.isActive(), True)
                self.assertIn("<name>test</name>", await domain.xml())
                self.assertEqual((await domain.info()).nrVirtCpu, 2)
                snapshot = await domain.createSnapshot("<domainsnapshot><name>s</name></domainsnapshot>")
                self.assertEqual(await domain.snapshots(), [snapshot])
                await snapshot.revert()
                pool = await connection.pool("default-pool")
                volume = await pool.createVolume(VOLUME)
                self.assertEqual(await pool.volumes(), [volume])
                self.assertEqual(await volume.path(), "/default-pool/disk")
                self.assertEqual([each.name for each in await connection.networks()], ["default"])
                self.assertEqual([each.name for each in await connection.interfaces()], ["eth1"])
                self.assertTrue(await connection.nodeDevices())
                with self.assertRaises(RemoteError):
                    await connection.secrets()

        return Deferred.fromCoroutine(run())

    def test_events(self) -> Deferred[None]:
        async def run() -> None:
            async with await virnet.connect(reactor, self.daemon.uri) as connection:
                domain = await connection.domain("test")
                async with domain.events() as events:
                    await domain.suspend()
                    await domain.resume()
                    for expected in (DomainEventType.SUSPENDED, DomainEventType.RESUMED):
                        event = await events.__anext__()
                        assert isinstance(event, Event)
                        self.assertEqual((event.subject, event.details["event"]), (domain, expected))

        return Deferred.fromCoroutine(run())

    def test_a_daemon_that_is_stopped_and_started_again(self) -> Deferred[None]:
        async def run() -> None:
            service = ConnectionService(reactor, self.daemon.uri, retryPolicy=lambda attempt: 0.1)
            service.startService()
            try:
                domain: Domain = await service.domain("test")
                async with domain.events() as events:
                    before = time.time()
                    await deferToThread(self.daemon.stop)
                    asked = domain.state()  # waits
                    await deferToThread(self.daemon.start)
                    self.assertIs(await asked, DomainState.RUNNING)
                    gap = await events.__anext__()
                    assert isinstance(gap, Gap)
                    self.assertIs(gap.error, None)
                    self.assertTrue(before - 10 < gap.since < gap.until < time.time())
                    await domain.suspend()
                    event = await events.__anext__()
                    assert isinstance(event, Event)
                    self.assertIs(event.details["event"], DomainEventType.SUSPENDED)
            finally:
                await service.stopService()

        return Deferred.fromCoroutine(run())

    def test_a_connection_that_is_cut_under_calls(self) -> Deferred[None]:
        async def run() -> None:
            service = ConnectionService(reactor, self.daemon.uri, retryPolicy=lambda attempt: 0.1)
            service.startService()
            try:
                connection = await service.whenConnected()
                calls = [service.remote.connectGetCapabilities() for _ in range(20)]
                connection.client.abandon()
                for call in calls:
                    with self.assertRaises(ConnectionLost) as caught:
                        await call
                    self.assertIs(caught.exception.mayHaveRun, True)
                self.assertIn("<capabilities>", await service.capabilities())
            finally:
                await service.stopService()

        return Deferred.fromCoroutine(run())
