"""From a connection URI to the Twisted endpoint that reaches its server."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from virnet.errors import URIError
from virnet.transport.autostart import SessionEndpoint
from virnet.transport.config import Caller
from virnet.transport.process import CommandEndpoint
from virnet.transport.reaching import HostEndpoint, SocketEndpoint
from virnet.transport.sockets import LocalSocket, chooseSocket
from virnet.transport.ssh import externalCommand, sshCommand
from virnet.transport.tlsendpoints import endpointOf as tlsEndpoint
from virnet.transport.uri import TCP_PORT, ConnectionURI


def endpointFor(
    reactor: Any, uri: ConnectionURI, readonly: bool = False, caller: Caller | None = None
) -> IStreamClientEndpoint:
    """Make the endpoint that reaches the server of a URI.

    @param caller: who connects; by default this process.
    @raise URIError: the transport cannot be used.
    @raise ConfigError: the client's configuration is broken.
    """
    caller = caller or Caller.current()
    match uri.transport:
        case "unix":
            return socketEndpoint(reactor, chooseSocket(uri, readonly, caller), caller)
        case "tcp":
            return HostEndpoint(reactor, uri.host or "localhost", uri.port or TCP_PORT)
        case "tls":
            return tlsEndpoint(reactor, uri, caller)
        case "ssh":
            return CommandEndpoint(reactor, sshCommand(uri, readonly, caller))
        case "ext":
            return CommandEndpoint(reactor, externalCommand(uri, caller))
    try:
        from virnet.transport.conch import SSHEndpoint, sessionOf
    except ImportError as e:
        raise URIError(
            f"{uri.text}: the transport {uri.transport!r} needs Twisted's conch: install virnet[conch] ({e})"
        ) from e
    return SSHEndpoint(reactor, sessionOf(uri, readonly, caller))


def socketEndpoint(reactor: Any, local: LocalSocket, caller: Caller) -> IStreamClientEndpoint:
    """Make the endpoint of a UNIX socket, which may start a daemon first."""
    endpoint = SocketEndpoint(reactor, local.path)
    if local.daemon is None:
        return endpoint
    return SessionEndpoint(reactor, endpoint, os.path.dirname(local.path), local.daemon, caller.environ)
