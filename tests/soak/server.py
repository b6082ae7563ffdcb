"""The server that is soaked, as a process: C{python -m tests.soak.server SOCKET}; says once it is ready."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.logger import LogPublisher, globalLogBeginner

from tests.soak.program import SOAK, Soak
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.programs import REMOTE
from virnet.server import NetServer, ServerProgram, ServerService


def main(path: str) -> None:
    """Serve until told to stop."""
    reactor: Any = installed
    # Until logging begins Twisted keeps every event, and with it whom it is about.
    globalLogBeginner.beginLoggingTo([LogPublisher()], redirectStandardIO=False)
    server = NetServer(
        reactor,
        [ServerProgram(REMOTE, sessionsOf(MemoryHypervisor())), ServerProgram(SOAK, Soak)],
        keepaliveInterval=2,
    )
    ServerService(server, f"unix:{path}")
    server.privilegedStartService()
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    reactor.callWhenRunning(print, "ready", flush=True)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
