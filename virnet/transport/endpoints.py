"""From a connection URI to the Twisted endpoint that reaches its server."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from virnet.errors import URIError
from virnet.limits import UNIX_PATH_MAX
from virnet.transport.uri import TCP_PORT, ConnectionURI

SYSTEM_DIRECTORY = "/run/libvirt"


def socketPath(uri: ConnectionURI, readonly: bool = False) -> str:
    """The UNIX socket that a URI means.

    @raise URIError: the path is longer than the system allows.
    """
    path = uri.params.get("socket")
    if path is None:
        suffix = "-sock-ro" if readonly else "-sock"
        modular = f"{SYSTEM_DIRECTORY}/virt{uri.driver}d{suffix}"
        path = modular if os.path.exists(modular) else f"{SYSTEM_DIRECTORY}/libvirt{suffix}"
    if len(os.fsencode(path)) > UNIX_PATH_MAX:
        raise URIError(
            f"{uri.text}: Path {path} too long for unix socket, the system allows {UNIX_PATH_MAX} bytes"
        )
    return path


def endpointFor(reactor: Any, uri: ConnectionURI, readonly: bool = False) -> IStreamClientEndpoint:
    """Make the endpoint that reaches the server of a URI.

    @raise URIError: the transport cannot be used.
    """
    if uri.transport == "unix":
        return UNIXClientEndpoint(reactor, socketPath(uri, readonly))
    if uri.transport == "tcp":
        return HostnameEndpoint(reactor, uri.host or "localhost", uri.port or TCP_PORT)
    raise URIError(f"{uri.text}: the transport {uri.transport!r} is not available in this version")
