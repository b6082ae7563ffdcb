"""
A Buildbot worker that is a virtual machine, started for its builds and put back to a clean state before each.

As a program it does with a domain what Buildbot would: C{python latent_worker.py URI DOMAIN}.
"""

from __future__ import annotations

import sys
from typing import Any

from buildbot.interfaces import LatentWorkerFailedToSubstantiate
from buildbot.worker import AbstractLatentWorker
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import react

from virnet.client import ConnectionService
from virnet.errors import RemoteError, VirnetError
from virnet.objects import Domain, Event
from virnet.programs.constants import DomainEventType, DomainState


class Guest:
    """A domain that begins each run from its snapshot C{clean}, if it has one."""

    def __init__(self, host: ConnectionService, name: str) -> None:
        self.host = host
        self.name = name

    async def start(self) -> None:
        """Start it afresh."""
        domain = await self.host.domain(self.name)
        if await domain.isActive():
            await domain.destroy()  # what an earlier master has left behind
        try:
            clean = await domain.snapshot("clean")
        except RemoteError:
            pass
        else:
            await clean.revert()
        if not await domain.isActive():
            await domain.start()

    async def stop(self, patience: float) -> None:
        """Have it shut down; cut its power when that takes longer than so many seconds."""
        domain = await self.host.domain(self.name)
        if patience:
            down = Deferred.fromCoroutine(self.shutDown(domain))
            try:
                await down.addTimeout(patience, self.host.reactor)
            except (TimeoutError, RemoteError):
                pass
        if await domain.isActive():
            await domain.destroy()

    async def shutDown(self, domain: Domain) -> None:
        """Ask it to shut down and wait until it has."""
        async with domain.events() as events:
            await domain.shutdown()
            async for event in events:
                if isinstance(event, Event) and event.details["event"] == DomainEventType.STOPPED:
                    return
                if await domain.state() == DomainState.SHUTOFF:
                    return  # events were lost: it was looked at instead


class VirnetWorker(AbstractLatentWorker):
    """C{VirnetWorker("worker-1", "password", uri="qemu+tls://host/system")} starts the domain C{worker-1}."""

    def checkConfig(self, name: str, password: str, uri: str, **options: Any) -> None:
        super().checkConfig(name, password, **options)

    async def reconfigService(self, name: str, password: str, uri: str, **options: Any) -> None:
        await super().reconfigService(name, password, **options)
        self.guest = Guest(self.connect(uri), name)

    def connect(self, uri: str) -> ConnectionService:
        """Make a connection that lasts as long as this worker."""
        service = ConnectionService(self.master.reactor, uri, callTimeout=120)
        service.setServiceParent(self)
        return service

    def start_instance(self, build: Any) -> Deferred[bool]:
        """Buildbot has a build for this worker."""
        return Deferred.fromCoroutine(self.started())

    async def started(self) -> bool:
        try:
            await self.guest.start()
        except VirnetError as error:
            raise LatentWorkerFailedToSubstantiate(f"{self.name}: {error}") from error
        return True

    def stop_instance(self, fast: bool = False) -> Deferred[None]:
        """Buildbot has none any more; it is in a hurry when it is shut down itself."""
        return Deferred.fromCoroutine(self.guest.stop(0 if fast else 60))


async def main(reactor: Any, uri: str, name: str) -> None:
    host = ConnectionService(reactor, uri)
    host.startService()
    guest = Guest(host, name)
    await guest.start()
    print("started:", DomainState(await (await host.domain(name)).state()).name)
    await guest.stop(60)
    print("stopped:", DomainState(await (await host.domain(name)).state()).name)
    await host.stopService()


if __name__ == "__main__":
    react(main, sys.argv[1:])
