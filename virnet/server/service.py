"""Something that listens: one endpoint whose connections become clients of a server.

A service that cannot listen fails where it is started, with the endpoint's own error; nothing retries.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from virnet.server.client import ServerClient
from virnet.server.server import NetServer


class ServerClientFactory(Factory):
    """Makes the protocol of each accepted connection."""

    noisy = False

    def __init__(self, server: NetServer, readonly: bool = False) -> None:
        self.server = server
        self.readonly = readonly

    def buildProtocol(self, addr: IAddress | None) -> ServerClient:
        """Make the protocol for a connection."""
        client = self.server.buildClient(self.readonly)
        client.factory = self
        return client


class ServerService(Service):
    """A listening endpoint of a server (C: C{virNetServerService}).

    @ivar endpoint: where it listens.
    @ivar readonly: whether its clients are refused changes.
    @ivar port: what the endpoint gave; C{None} while not listening.
    """

    def __init__(
        self, server: NetServer, endpoint: IStreamServerEndpoint | str, *, readonly: bool = False
    ) -> None:
        """@param server: gets the clients; this service becomes its child.
        @param endpoint: an endpoint or a Twisted endpoint string (C{unix:/run/x}, C{tcp:16509}).
        """
        self.description = endpoint if isinstance(endpoint, str) else repr(endpoint)
        self.endpoint: IStreamServerEndpoint = (
            serverFromString(server.reactor, endpoint) if isinstance(endpoint, str) else endpoint
        )
        self.readonly = readonly
        self.factory = ServerClientFactory(server, readonly)
        self.port: IListeningPort | None = None
        self._listening: Deferred[Any] | None = None
        self.setServiceParent(server)

    def privilegedStartService(self) -> None:
        """Bind before privileges are dropped.

        @raise CannotListenError: the endpoint cannot listen; raised here when it knows at once.
        """
        self._listen()

    def startService(self) -> None:
        """Listen, unless C{privilegedStartService} did."""
        super().startService()
        self._listen()

    def whenListening(self) -> Deferred[IListeningPort]:
        """Wait for the port.

        @return: fires with the listening port, or fails as the endpoint failed.
        """
        self._listen()
        waiting: Deferred[IListeningPort] = Deferred()
        listening = self._listening
        assert listening is not None

        def pass_(result: Any) -> Any:
            waiting.callback(result)
            return None if isinstance(result, Failure) else result

        listening.addBoth(pass_)
        return waiting

    def _listen(self) -> None:
        if self._listening is not None:
            return
        failures: list[Failure] = []
        self._listening = self.endpoint.listen(self.factory).addCallbacks(self._bound, failures.append)
        if failures:
            failures[0].raiseException()

    def _bound(self, port: IListeningPort) -> IListeningPort:
        self.port = port
        return port

    def stopService(self) -> Deferred[None] | None:
        """Stop listening; clients stay.

        @return: fires when the socket is closed, and the path of a UNIX socket unlinked.
        """
        super().stopService()
        listening, self._listening = self._listening, None
        port, self.port = self.port, None
        if port is not None:
            stopped: Deferred[None] | None = port.stopListening()
            return stopped
        if listening is not None:
            listening.cancel()
        return None
