"""Something that listens: one endpoint whose connections become clients of a server.

A service that cannot listen fails where it is started, with the endpoint's own error; nothing retries.

How many connections wait while nobody accepts them is the server's C{maxQueuedClients}, whatever the endpoint
has asked the kernel for. A port that cannot be paused goes on accepting: the server holds its connections.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IPushProducer,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.security.tlscontext import TLSContext
from virnet.server.accepting import AcceptPause
from virnet.server.authentication import IClientAuthentication
from virnet.server.client import ServerClient
from virnet.server.server import IAcceptor, NetServer
from virnet.transport.tls import TLSServerEndpoint


class ServerClientFactory(Factory):
    """Makes the protocol of each accepted connection."""

    _log = Logger()
    noisy = False

    def __init__(
        self, server: NetServer, readonly: bool = False, auth: IClientAuthentication | None = None
    ) -> None:
        self.server = server
        self.readonly = readonly
        self.auth = auth

    def buildProtocol(self, addr: IAddress | None) -> ServerClient | None:
        """Make the protocol for a connection.

        @return: C{None} where that fails: Twisted then closes the connection, and would not for an exception.
        """
        try:
            client = self.server.buildClient(self.readonly, self.auth)
        except Exception:
            self._log.failure("a connection from {address} cannot be served", address=addr)
            return None
        client.factory = self
        return client


@implementer(IAcceptor)
class ServerService(Service):
    """A listening endpoint of a server (C: C{virNetServerService}).

    @ivar endpoint: where it listens.
    @ivar readonly: whether its clients are refused changes.
    @ivar auth: how its clients have to authenticate before they may make calls, if they have to.
    @ivar port: what the endpoint gave; C{None} while not listening.
    """

    def __init__(
        self,
        server: NetServer,
        endpoint: IStreamServerEndpoint | str,
        *,
        readonly: bool = False,
        auth: IClientAuthentication | None = None,
        tls: TLSContext | None = None,
        backlog: int | None = None,
    ) -> None:
        """@param server: gets the clients; this service becomes its child.
        @param endpoint: an endpoint or a Twisted endpoint string (C{unix:/run/x}, C{tcp:16509}).
        @param tls: what clients have to do TLS with. An endpoint string C{libvirt-tls:} has its own.
        @param backlog: connections that wait to be accepted, instead of the server's C{maxQueuedClients}.
        """
        self._server = server
        self._backlog = server.maxQueuedClients if backlog is None else backlog
        self.description = endpoint if isinstance(endpoint, str) else repr(endpoint)
        self.endpoint: IStreamServerEndpoint = (
            serverFromString(server.reactor, endpoint) if isinstance(endpoint, str) else endpoint
        )
        if tls is not None:
            self.endpoint = TLSServerEndpoint(server.reactor, self.endpoint, tls)
        self.readonly = readonly
        self.auth = auth
        self.factory = ServerClientFactory(server, readonly, auth)
        self.port: IListeningPort | None = None
        self._pause: AcceptPause | None = None
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

        def failed(failure: Failure) -> Failure:
            failures.append(failure)
            return failure

        listening = self._listening = self.endpoint.listen(self.factory).addCallbacks(self._bound, failed)
        if failures:
            # It is raised here; one that comes later is for whenListening.
            listening.addErrback(lambda _: None)
            failures[0].raiseException()

    def _bound(self, port: IListeningPort) -> IListeningPort:
        self.port = port
        if IReadDescriptor.providedBy(port):
            # listen(2) may be called again, and then only changes the backlog.
            with socket.socket(fileno=os.dup(port.fileno())) as listening:
                listening.listen(self._backlog)
            if IPushProducer.providedBy(port):
                self._pause = AcceptPause(port, self._server.reactor, self._pauseOver)
        if not self._server.accepting:
            self.setAccepting(False)
        return port

    def setAccepting(self, accepting: bool) -> None:
        """Accept connections, or leave them in the kernel's backlog; the server says when."""
        port: Any = self.port
        if IPushProducer.providedBy(port):
            if not accepting:
                port.pauseProducing()
            elif self._pause is None or self._pause.over:
                port.resumeProducing()

    def _pauseOver(self) -> None:
        self.setAccepting(self._server.accepting)

    def stopService(self) -> Deferred[None] | None:
        """Stop listening; clients stay.

        @return: fires when the socket is closed, and the path of a UNIX socket unlinked.
        """
        super().stopService()
        listening, self._listening = self._listening, None
        port, self.port = self.port, None
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.stop()
        if port is not None:
            stopped: Deferred[None] | None = port.stopListening()
            return stopped
        if listening is not None:
            listening.cancel()
        return None
