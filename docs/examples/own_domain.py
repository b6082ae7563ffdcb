"""
A hypervisor whose domains are processes of this machine: C{python own_domain.py SOCKET}.
"""

from __future__ import annotations

import sys
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import react
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.session import IHypervisor, sessionsOf
from virnet.programs import REMOTE, IDomain, partialImplementer
from virnet.programs.constants import ConnectListAllDomainsFlags, DomainState
from virnet.programs.values import ConnectListAllDomainsRet, Domain, DomainGetStateRet
from virnet.server import NetServer, ServerProgram, ServerService

ACTIVE = ConnectListAllDomainsFlags.ACTIVE
INACTIVE = ConnectListAllDomainsFlags.INACTIVE


class Guest(ProcessProtocol):
    """A domain: a command, and its process while it runs."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.uuid = uuid5(NAMESPACE_DNS, name).bytes
        self.command = command
        self.process: IProcessTransport | None = None
        self.ended: Deferred[None] = Deferred()

    def domain(self) -> Domain:
        return Domain(self.name, self.uuid, self.process.pid if self.process else -1)

    def processEnded(self, reason: Failure) -> None:
        self.process = None
        ended, self.ended = self.ended, Deferred()
        ended.callback(None)


@implementer(IHypervisor)
@partialImplementer(IDomain)
class ProcessHypervisor:
    """As much of a hypervisor as it takes to list, start and stop domains."""

    def __init__(self, reactor: Any, guests: list[Guest]) -> None:
        self.reactor = reactor
        self.guests = guests

    def open(self, name: str, readonly: bool, client: Any) -> ProcessHypervisor:
        return self

    def connectListAllDomains(self, need_results: int, flags: int) -> ConnectListAllDomainsRet:
        wanted = flags & (ACTIVE | INACTIVE) or ACTIVE | INACTIVE
        found = [
            guest.domain() for guest in self.guests if wanted & (ACTIVE if guest.process else INACTIVE)
        ]
        return ConnectListAllDomainsRet(found, len(found))

    def domainLookupByName(self, name: str) -> Domain:
        for guest in self.guests:
            if guest.name == name:
                return guest.domain()
        raise RemoteError.of(ErrorNumber.NO_DOMAIN, f"no domain with name '{name}'", ErrorDomain.DOMAIN)

    def domainLookupByUUID(self, uuid: bytes) -> Domain:
        return self._guest(uuid).domain()

    def domainGetState(self, dom: Domain, flags: int) -> DomainGetStateRet:
        running = self._guest(dom.uuid).process is not None
        return DomainGetStateRet(DomainState.RUNNING if running else DomainState.SHUTOFF, 0)

    def domainCreate(self, dom: Domain) -> None:
        guest = self._guest(dom.uuid)
        if guest.process is None:
            guest.process = self.reactor.spawnProcess(guest, guest.command[0], guest.command)

    async def domainDestroy(self, dom: Domain) -> None:
        guest = self._guest(dom.uuid)
        if guest.process is None:
            raise RemoteError.of(ErrorNumber.OPERATION_INVALID, "domain is not running", ErrorDomain.DOMAIN)
        guest.process.signalProcess("TERM")
        await guest.ended

    def _guest(self, uuid: bytes) -> Guest:
        for guest in self.guests:
            if guest.uuid == uuid:
                return guest
        raise RemoteError.of(ErrorNumber.NO_DOMAIN, "no domain with that uuid", ErrorDomain.DOMAIN)


async def main(reactor: Any, path: str) -> None:
    hypervisor = ProcessHypervisor(
        reactor, [Guest("web", ["sleep", "1000"]), Guest("database", ["sleep", "2000"])]
    )
    server = NetServer(reactor, [ServerProgram(REMOTE, sessionsOf(hypervisor))])
    service = ServerService(server, f"unix:{path}:mode=600")
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    await service.whenListening()
    print(f"virsh -c 'process+unix:///?socket={path}' list --all", flush=True)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    react(lambda reactor, path: Deferred.fromCoroutine(main(reactor, path)), sys.argv[1:])
