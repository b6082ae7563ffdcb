"""
libvirt's connection URIs: C{DRIVER[+TRANSPORT]://[USER@][HOST][:PORT]/PATH[?PARAMS][#FRAGMENT]}.

  - The transport word is case-insensitive, the driver word is not. Without a transport: C{unix} when there is
    no host, C{tls} when there is one.
  - Parameter names are case-insensitive. Each known one is checked against the transport; unknown ones are
    the driver's and stay in the name that is sent.
  - The name sent to the server has neither transport, user, host, port nor known parameters; the rest of it
    is kept as it was written. The driver C{remote} sends an empty name: the server shall probe.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from virnet.errors import URIError

TLS_PORT = 16514
TCP_PORT = 16509

SSH_FAMILY = frozenset({"ssh", "libssh", "libssh2"})
TRANSPORTS = frozenset({"unix", "tcp", "tls", "ext"}) | SSH_FAMILY
_PORTS = {"tcp": TCP_PORT, "tls": TLS_PORT, "libssh": 22, "libssh2": 22}

_UNIX_AND_SSH = SSH_FAMILY | {"unix"}
_IN_PROCESS_SSH = SSH_FAMILY - {"ssh"}

PARAMETERS: dict[str, frozenset[str]] = {
    "name": TRANSPORTS,
    "auth": TRANSPORTS,
    "authfile": TRANSPORTS,
    "socket": _UNIX_AND_SSH,
    "mode": _UNIX_AND_SSH,
    "proxy": SSH_FAMILY,
    "command": frozenset({"ssh", "ext"}),
    "netcat": SSH_FAMILY,
    "keyfile": SSH_FAMILY,
    "no_verify": SSH_FAMILY | {"tls"},
    "no_tty": frozenset({"ssh"}),
    "no_sanity": frozenset({"tls"}),
    "pkipath": frozenset({"tls"}),
    "tls_priority": frozenset({"tls"}),
    "known_hosts": _IN_PROCESS_SSH,
    "known_hosts_verify": _IN_PROCESS_SSH,
    "sshauth": _IN_PROCESS_SSH,
}
"""Known parameter to the transports it goes with."""


class ConnectionURI(NamedTuple):
    """A parsed URI.

    @ivar name: what CONNECT_OPEN sends.
    @ivar host: C{""} when the URI names none.
    @ivar port: the port to connect to; C{None} where the transport has its own.
    @ivar params: the known parameters, by lower-case name.
    """

    text: str
    driver: str
    transport: str
    user: str | None
    host: str
    port: int | None
    path: str
    params: dict[str, str]
    name: str


def parseURI(text: str) -> ConnectionURI:
    """Take a connection URI apart and check it.

    @raise URIError: it is not one, or its parts do not go together.
    """
    # urlsplit would drop some of these without a word.
    if " " in text or not text.isprintable():
        raise URIError(f"{text!r} is not a URI: it has a blank or a control character in it")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as e:
        raise URIError(f"{text!r} is not a URI: {e}") from e
    if not parts.scheme or "://" not in text and not text.startswith(f"{parts.scheme}:/"):
        raise URIError(f"{text!r} is not a libvirt URI: expected DRIVER[+TRANSPORT]://[HOST]/PATH")
    # urlsplit lowers the scheme, but the driver's case is the server's affair.
    driver, plus, transport = text[: len(parts.scheme)].partition("+")
    transport = transport.lower()
    host = parts.hostname or ""
    if not plus:
        transport = "tls" if host else "unix"
    if transport not in TRANSPORTS:
        raise URIError(f"{text}: transport {transport!r} is not one of {', '.join(sorted(TRANSPORTS))}")
    if transport == "unix" and host:
        raise URIError(f"{text}: using unix socket and remote server {host!r} is not supported")
    params: dict[str, str] = {}
    kept: list[str] = []
    for item in parts.query.split("&"):
        key, _, value = item.partition("=")
        key = unquote(key)
        allowed = PARAMETERS.get(key.lower())
        if allowed is None:
            if item:
                kept.append(item)
            continue
        if transport not in allowed:
            raise URIError(f"{text}: parameter {key!r} does not go with the transport {transport!r}")
        params[key.lower()] = unquote(value)
    if transport == "ext" and "command" not in params:
        raise URIError(f"{text}: the transport 'ext' needs the parameter 'command'")
    if "name" in params:
        name = params["name"]
    elif driver == "remote":
        name = ""
    else:
        # The server's side has no host: three slashes, whatever the client wrote.
        name = f"{driver}://{parts.path}"
        if kept:
            name += "?" + "&".join(kept)
        if parts.fragment:
            name += "#" + parts.fragment
    return ConnectionURI(
        text=text,
        driver=driver,
        transport=transport,
        user=unquote(parts.username) if parts.username else None,
        host=host,
        port=port if port is not None else _PORTS.get(transport),
        path=parts.path,
        params=params,
        name=name,
    )
