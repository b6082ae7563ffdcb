"""An ordinary conversation with the default server, as bytes to spoil."""

from __future__ import annotations

from twisted.internet.task import Clock

from tests.peers import callNamed
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import RemoteSession
from virnet.programs import REMOTE
from virnet.server import NetServer, ServerProgram

DOCUMENT = "<domain type='test'><name>n</name><memory>1</memory><os><type>hvm</type></os></domain>"

CALLS = [
    callNamed(REMOTE, "authList", 0),
    callNamed(REMOTE, "connectSupportsFeature", 1, 10),
    callNamed(REMOTE, "connectOpen", 2, "test:///default", 0),
    callNamed(REMOTE, "connectSupportsFeature", 3, 14),
    callNamed(REMOTE, "connectDomainEventCallbackRegisterAny", 4, 0, None),
    callNamed(REMOTE, "connectListAllDomains", 5, 1, 3),
    callNamed(REMOTE, "domainLookupByName", 6, "test"),
    callNamed(REMOTE, "domainDefineXMLFlags", 7, DOCUMENT, 0),
    callNamed(REMOTE, "connectGetHostname", 8),
]
"""Each fits into the slots of one client as it is answered at once."""


def defaultServer() -> NetServer:
    """The server that C{twistd virnet} starts, on a clock."""
    hypervisor = MemoryHypervisor()
    return NetServer(Clock(), [ServerProgram(REMOTE, lambda client: RemoteSession(client, hypervisor))])
