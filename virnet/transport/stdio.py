"""A server's endpoint for one connection, over the standard input and output that its process was given, as
inetd and ssh do it: the endpoint string C{libvirt-stdio:}.

  - Both are taken from the process when the string is read: from then on what it prints goes to standard
    error, and what it reads is empty. So this is for programs that serve, not for those that talk to people.
  - One socket for both, as C{qemu+ext://} has it, is written through; pipes, and two sockets, go by Twisted.
  - When the connection ends, so does the reactor: the process was there for it.

Twisted's own C{stdio:} leaves the two where they are, among what the process prints, and goes on afterwards.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.transport.process import CommandAddress, CommandTransport

# Its types are those of Windows.
_StandardIO: Any = StandardIO


@implementer(IStreamServerEndpoint)
class StdioEndpoint:
    """Serves whoever is at standard input and output."""

    def __init__(self, reactor: Any, source: int, sink: int) -> None:
        """@param source: what is read; this object's from now on.
        @param sink: what is written; this object's from now on.
        """
        self._reactor = reactor
        self._source = source
        self._sink = sink

    @classmethod
    def taken(cls, reactor: Any) -> StdioEndpoint:
        """Take those of the process."""
        source, sink = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return cls(reactor, source, sink)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Serve, once the reactor runs."""
        self._reactor.callWhenRunning(self._connect, cast(Factory, protocolFactory))
        return cast("Deferred[IListeningPort]", succeed(_Port(self._address())))

    def _address(self) -> CommandAddress:
        return CommandAddress(("standard input",), os.getppid())

    def _connect(self, factory: Factory) -> None:
        protocol: Any = factory.buildProtocol(self._address())
        if protocol is None:
            os.close(self._source)
            os.close(self._sink)
            self._end()
        elif _areOneSocket(self._source, self._sink):
            os.close(self._sink)
            sock = socket.socket(socket.AF_UNSPEC, socket.SOCK_STREAM, 0, self._source)
            child: Any = _Parent(self._end)
            CommandTransport(sock, self._reactor, child, self._address()).start(protocol)
        else:
            _Pipes(protocol, self._source, self._sink, self._reactor, self._end)

    def _end(self) -> None:
        if self._reactor.running:
            self._reactor.stop()


def _areOneSocket(source: int, sink: int) -> bool:
    first, second = os.fstat(source), os.fstat(sink)
    return stat.S_ISSOCK(first.st_mode) and (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


class _Parent:
    """Who started us: nobody to be ended or waited for, unlike a program at the other end."""

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end

    def whenGone(self, gone: Callable[[], object], atOnce: bool) -> None:
        gone()
        self._end()

    def reasonOf(self, reason: Failure) -> Failure:
        return reason


class _Pipes(_StandardIO):  # type: ignore[misc]
    def __init__(
        self, protocol: Any, source: int, sink: int, reactor: Any, end: Callable[[], object]
    ) -> None:
        self._end = end
        super().__init__(protocol, source, sink, reactor)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Both are closed."""
        super().connectionLost(reason)
        self._end()

    def abortConnection(self) -> None:
        """Pipes know no other end than this."""
        self.loseConnection()


@implementer(IListeningPort)
class _Port:
    """What the endpoint gives; there is nothing to stop, as nobody else comes."""

    def __init__(self, address: CommandAddress) -> None:
        self._address = address

    def startListening(self) -> None:
        """Nothing to do."""

    def stopListening(self) -> None:
        """Nothing to do."""

    def getHost(self) -> IAddress:
        """Where it is."""
        return self._address


def parseStreamServer(reactor: Any, nothing: str = "") -> StdioEndpoint:
    """C{libvirt-stdio:}

    @raise ValueError: it says more than that.
    """
    if nothing:
        raise ValueError(f"libvirt-stdio: takes nothing, not {nothing!r}")
    return StdioEndpoint.taken(reactor)


def parseStreamClient(reactor: Any, *args: str, **kwargs: str) -> Any:
    """Refuse.

    @raise ValueError: always.
    """
    raise ValueError("libvirt-stdio: is for servers; libvirt-exec: leads to a program's")
