"""
A hypervisor in memory whose guests answer at their consoles: C{python guest_console.py SOCKET DIRECTORY}.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver

from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.programs import REMOTE
from virnet.programs.values import Domain
from virnet.server import NetServer, ServerProgram, ServerService


class Shell(LineOnlyReceiver):
    """What answers at a guest's console."""

    delimiter = b"\r"
    transport: ITransport

    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def connectionMade(self) -> None:
        self.sendLine(f"this is {self.domain.name}".encode())

    def lineReceived(self, line: bytes) -> None:
        if line == b"exit":
            self.transport.loseConnection()
        else:
            self.sendLine(b"no such command: " + line)

    def sendLine(self, line: bytes) -> None:
        self.transport.write(line + b"\r\n")


async def main(reactor: Any, path: str, directory: str) -> None:
    hypervisor = MemoryHypervisor(stateDirectory=directory, console=Shell, reactor=reactor)
    server = NetServer(reactor, [ServerProgram(REMOTE, sessionsOf(hypervisor))])
    service = ServerService(server, f"unix:{path}:mode=600")
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    await service.whenListening()
    print(f"virsh -c 'test+unix:///default?socket={path}' console test", flush=True)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    react(lambda reactor, *args: Deferred.fromCoroutine(main(reactor, *args)), sys.argv[1:])
