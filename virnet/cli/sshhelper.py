"""
C{ssh-helper}: what C{ssh} runs on a host so that a client elsewhere reaches the server there, as libvirt's
C{virt-ssh-helper} is.

  - It finds the UNIX socket that the URI means on this host, and starts a session's daemon if need be. Where
    libvirt has no socket but virnet's own server listens, it leads there.
  - It copies bytes between that socket and its standard input and output, as fast as each side takes them.
  - The end of either side ends it, once everything that was read is written.
"""

from __future__ import annotations

import os
from argparse import Namespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure

from virnet.cli.output import Output
from virnet.errors import ConnectionLost, URIError
from virnet.transport.config import Caller
from virnet.transport.defaults import defaultSocketPath
from virnet.transport.endpoints import socketEndpoint
from virnet.transport.sockets import chooseSocket
from virnet.transport.uri import parseURI


async def helper(reactor: Any, options: Namespace, output: Output) -> None:
    """C{ssh-helper}

    @raise URIError: the URI means no UNIX socket.
    @raise ConnectionLost: nobody listens.
    """
    endpoint = way(reactor, options)
    inner, outer = End(), End()
    inner.other, outer.other = outer, inner
    try:
        await endpoint.connect(Factory.forProtocol(lambda: inner))
    except Exception as e:
        raise ConnectionLost(f"Failed to connect socket for {options.uri!r}: {e}") from e
    StandardIO(outer, reactor=reactor)
    inner.start()
    await inner.ended
    await outer.ended


def way(reactor: Any, options: Namespace) -> IStreamClientEndpoint:
    """The endpoint that is meant.

    @raise URIError: there is none.
    """
    if options.socket is not None:
        return UNIXClientEndpoint(reactor, options.socket)
    uri = parseURI(options.uri)
    if uri.transport != "unix":
        raise URIError(f"unexpected URI transport {options.uri!r}: this leads to a socket of this host")
    caller = Caller.current()
    local = chooseSocket(uri, options.readonly, caller)
    own = defaultSocketPath(caller.environ)
    if not os.path.exists(local.path) and local.daemon is None and own is not None and os.path.exists(own):
        return UNIXClientEndpoint(reactor, own)
    return socketEndpoint(reactor, local, caller)


class End(Protocol):
    """One side.

    @ivar other: the other.
    @ivar ended: fires when this one is closed.
    """

    other: End

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self._gone = False

    def connectionMade(self) -> None:
        """Read nothing until both are there."""
        out: Any = self.transport
        out.pauseProducing()

    def start(self) -> None:
        """Both are there: copy."""
        for end in (self, self.other):
            out: Any = end.transport
            source: Any = end.other.transport
            out.registerProducer(source, True)
        for end in (self, self.other):
            source = end.transport
            source.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """Hand it on."""
        out: Any = self.other.transport
        out.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """This side is over: so is the other, once it has everything."""
        self._gone = True
        out: Any = self.other.transport
        if not self.other._gone and out is not None:
            out.unregisterProducer()
            out.loseConnection()
        self.ended.callback(None)
