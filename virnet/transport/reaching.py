"""Endpoints that say in their failures what could not be reached, in the words of libvirt's client.

(C: C{virNetSocketNewConnectUNIX}, C{virNetSocketNewConnectTCP}.)
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.python.failure import Failure

from virnet.errors import ConnectionLost


class CannotConnect(ConnectError):
    """A server could not be reached; the text says which and why."""

    def __init__(self, osError: int | None, text: str) -> None:
        """@param osError: the number of the error, where the system gave one."""
        super().__init__(osError, text)  # type: ignore[no-untyped-call]

    def __str__(self) -> str:
        return str(self.args[0])


class SocketEndpoint(UNIXClientEndpoint):
    """Connects to a UNIX socket."""

    def __init__(self, reactor: Any, path: str) -> None:
        """@param path: the socket's; one that begins with C{@} is abstract."""
        self._place = path
        address = f"\0{path[1:]}" if path.startswith("@") else path
        super().__init__(reactor, address)  # type: ignore[no-untyped-call]

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect.

        @return: fires with the protocol; fails with L{CannotConnect}.
        """
        connecting: Deferred[IProtocol] = super().connect(protocolFactory)  # type: ignore[no-untyped-call]
        return connecting.addErrback(_failed, f"Failed to connect socket to '{self._place}'")


class HostEndpoint(HostnameEndpoint):
    """Connects to a port of a host, at whichever of its addresses answers first."""

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self._place = host, port
        super().__init__(reactor, host, port)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect.

        @return: fires with the protocol; fails with L{CannotConnect}.
        """
        connecting: Deferred[IProtocol] = super().connect(protocolFactory)
        connecting.addErrback(self._unknown)
        host, port = self._place
        return connecting.addErrback(_failed, f"unable to connect to server at '{host}:{port}'")

    def _unknown(self, failure: Failure) -> Failure:
        if failure.check(DNSLookupError):
            host, port = self._place
            raise CannotConnect(None, f"Unable to resolve address '{host}' service '{port}'")
        return failure


def _failed(failure: Failure, what: str) -> Failure:
    error = failure.value
    if isinstance(error, ConnectError) and not isinstance(error, CannotConnect):
        raise CannotConnect(error.osError, f"{what}: {error.args[0] or error.MESSAGE}") from error
    return failure


def unreachable(uri: str, error: Exception) -> ConnectionLost:
    """What an application is told when the server of a URI could not be connected to."""
    said = str(error) if isinstance(error, CannotConnect) else f"cannot connect: {error}"
    return ConnectionLost(f"{uri}: {said}")
