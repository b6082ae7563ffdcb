"""TLS endpoints from text: URIs with the transport C{tls}, and Twisted's endpoint strings C{libvirt-tls:}.

A server's string is C{libvirt-tls:PORT}, with any of

  - C{interface=ADDRESS}: listen there only; by default on every IPv4 address. C{\\:\\:} is every address.
  - C{backlog=N}: connections that wait to be accepted.
  - C{pkipath=DIR}: use C{cacert.pem}, C{cacrl.pem}, C{servercert.pem} and C{serverkey.pem} in it.
  - C{cafile=}, C{certfile=}, C{keyfile=}: or these files, all three. C{crlfile=}: and this revocation list.
  - C{priority=TEXT}: versions and ciphers, with its colons escaped: C{NORMAL\\:-VERS-TLS1.2}.
  - C{allowed=PATTERN;PATTERN}: distinguished names of the clients that are admitted; an empty list admits
    nobody.
  - C{verify=no}: admit every client, with or without a certificate, whatever C{allowed} says.
  - C{sanity=no}: do not judge our own certificates at the start.

A client's is C{libvirt-tls:HOST}, with any of C{port=}, C{pkipath=} (C{clientcert.pem}, C{clientkey.pem}),
C{priority=}, C{verify=no} (talk to any server) and C{sanity=no}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint

from virnet.security.tlscontext import TLSContext
from virnet.transport.config import Caller
from virnet.transport.reaching import HostEndpoint
from virnet.transport.tls import TLSClientEndpoint, TLSServerEndpoint
from virnet.transport.uri import TLS_PORT, ConnectionURI


def endpointOf(reactor: Any, uri: ConnectionURI, caller: Caller) -> TLSClientEndpoint:
    """Make the endpoint of a URI with the transport C{tls}.

    @raise RemoteError: its certificates cannot be used.
    """
    context = TLSContext.forClient(
        pkipath=uri.params.get("pkipath"),
        priority=uri.params.get("tls_priority") or caller.config.tlsPriority,
        sanity=not uri.flag("no_sanity"),
        verify=not uri.flag("no_verify"),
    )
    return _clientEndpoint(reactor, uri.host or "localhost", uri.port or TLS_PORT, context)


def _clientEndpoint(reactor: Any, host: str, port: int, context: TLSContext) -> TLSClientEndpoint:
    return TLSClientEndpoint(reactor, HostEndpoint(reactor, host, port), context, host)


def parseStreamServer(
    reactor: Any,
    port: str = str(TLS_PORT),
    *,
    interface: str = "",
    backlog: str = "50",
    pkipath: str | None = None,
    cafile: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    crlfile: str | None = None,
    priority: str | None = None,
    allowed: str | None = None,
    verify: str = "yes",
    sanity: str = "yes",
) -> TLSServerEndpoint:
    """Make the endpoint of C{libvirt-tls:PORT:…}.

    @raise ValueError: a value is none.
    @raise RemoteError: its certificates cannot be used.
    """
    context = TLSContext.forServer(
        pkipath=pkipath,
        authorities=cafile,
        certificate=certfile,
        key=keyfile,
        revocations=crlfile,
        priority=priority,
        sanity=_yes("sanity", sanity),
        verify=_yes("verify", verify),
        allowedDNs=None if allowed is None else [each for each in allowed.split(";") if each],
    )
    kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    return TLSServerEndpoint(reactor, kind(reactor, int(port), int(backlog), interface), context)


def parseStreamClient(
    reactor: Any,
    host: str = "localhost",
    *,
    port: str = str(TLS_PORT),
    pkipath: str | None = None,
    priority: str | None = None,
    verify: str = "yes",
    sanity: str = "yes",
) -> TLSClientEndpoint:
    """Make the endpoint of C{libvirt-tls:HOST:…}.

    @raise ValueError: a value is none.
    @raise RemoteError: its certificates cannot be used.
    """
    context = TLSContext.forClient(
        pkipath=pkipath,
        priority=priority,
        sanity=_yes("sanity", sanity),
        verify=_yes("verify", verify),
    )
    return _clientEndpoint(reactor, host, int(port), context)


def _yes(name: str, value: str) -> bool:
    if value not in ("yes", "no"):
        raise ValueError(f"{name}={value} is neither yes nor no")
    return value == "yes"
