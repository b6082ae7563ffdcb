"""The server that is soaked, as a process: C{python -m tests.soak.server DIRECTORY}.

It listens on the sockets C{sock} and, for who has a password, C{sasl} in that directory, and with TLS on a
port that it says on standard output once it is ready. What it logs with a traceback is a mistake of its own:
that is counted, and said on standard error.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import ILogObserver, LogEvent, LogPublisher, formatEvent, globalLogBeginner
from zope.interface import provider

from tests.soak.program import SOAK, Soak
from virnet.daemon.descriptors import allowDescriptors
from virnet.errors import XDRError
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.programs import REMOTE
from virnet.security.saslcontext import SASLContext
from virnet.security.tlscontext import TLSContext
from virnet.server import NetServer, ServerProgram, ServerService
from virnet.server.sasl import SASLAuthentication
from virnet.transport.tls import TLSServerEndpoint

MISTAKES = "mistakes in the log"
"""What they are counted as, among what was done."""


def _warmUp() -> None:
    """Have everything made that is made when it is first needed: strangers call procedures at random, and one
    after the other that would look like a leak.
    """
    for procedure in REMOTE.procedures.values():
        with suppress(XDRError):
            procedure.decodeArgs(b"")
        with suppress(XDRError):
            procedure.encodeRet(())


def main(directory: str) -> None:
    """Serve until told to stop."""
    reactor: Any = installed
    done: Counter[str] = Counter()

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            done[MISTAKES] += 1
            print(formatEvent(event), event["log_failure"].getTraceback(), file=sys.stderr, flush=True)

    def say(port: Any) -> None:
        print(port.getHost().port, flush=True)

    # Until logging begins Twisted keeps every event, and with it whom it is about.
    globalLogBeginner.beginLoggingTo([LogPublisher(observe)], redirectStandardIO=False)
    _warmUp()
    server = NetServer(
        reactor,
        [
            ServerProgram(REMOTE, sessionsOf(MemoryHypervisor())),
            ServerProgram(SOAK, partial(Soak, done=done)),
        ],
        keepaliveInterval=2,
        maxAnonymousClients=100,
        authenticationTimeout=3,
    )
    allowDescriptors(server.maxClients)
    ServerService(server, "unix:" + os.path.join(directory, "sock"))
    sasl = SASLContext(scramFile=os.path.join(directory, "passwords"))
    ServerService(server, "unix:" + os.path.join(directory, "sasl"), auth=SASLAuthentication(sasl))
    tcp = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    tls = ServerService(server, TLSServerEndpoint(reactor, tcp, TLSContext.forServer(pkipath=directory)))
    server.privilegedStartService()
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    tls.whenListening().addCallback(say)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
