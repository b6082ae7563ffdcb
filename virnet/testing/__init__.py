"""Test doubles for users of virnet. Nothing here is a mock: the client, the server and the hypervisor are the
real ones, only the wire between them is memory and the time a C{Clock}.

  - L{MemoryHost}: a whole libvirt host, to test code that uses one: fails calls on demand, records them, cuts
    connections.
  - L{connectedPair}: a client and a server of any program.
  - L{ScriptedServer}: a server that answers, stalls, lies and hangs up as it is told.
  - L{StrictTransport} and L{joined}: the wire, for protocols of your own.

How to use them: C{docs/howto/test-your-code.rst}.
"""

from virnet.testing.host import MemoryEndpoint, MemoryHost
from virnet.testing.memory import (
    WINDOW,
    ConnectedPair,
    MemoryAddress,
    StrictTransport,
    connectedPair,
    joined,
)
from virnet.testing.recorder import Recorded, Recorder
from virnet.testing.scripted import LATER, ScriptedServer

__all__ = [
    "LATER",
    "WINDOW",
    "ConnectedPair",
    "MemoryAddress",
    "MemoryEndpoint",
    "MemoryHost",
    "Recorded",
    "Recorder",
    "ScriptedServer",
    "StrictTransport",
    "connectedPair",
    "joined",
]
