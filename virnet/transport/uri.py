"""
libvirt's connection URIs: C{DRIVER[+TRANSPORT]://[USER@][HOST][:PORT]/PATH[?PARAMS][#FRAGMENT]}.

  - The transport word is case-insensitive, the driver word is not. Without a transport: C{unix} when there is
    no host, C{tls} when there is one.
  - Parameter names are case-insensitive. Each known one is checked against the transport; unknown ones are
    the driver's and stay in the name that is sent.
  - The name sent to the server has neither transport, user, host, port nor known parameters. What is left of
    the parameters is escaped anew; path and fragment are kept as they were written. The driver C{remote}
    sends an empty name: the server shall probe.
  - A parameter that the transport does not have is refused. libvirt lets it pass without effect, and leaves
    people to wonder why their key file is not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

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

FLAGS = ("no_verify", "no_tty", "no_sanity")
"""Parameters that are whole numbers; all but 0 is yes."""

_WORDS = {
    "mode": ("auto", "legacy", "direct"),
    "proxy": ("auto", "netcat", "native"),
    "known_hosts_verify": ("normal", "auto", "ignore"),
}
"""Parameters that are one of a few words."""

_HOST = re.compile(r"\[?([^\[\]]*?)\]?(?::[0-9]*)?\Z")

_PASSWORD = re.compile(r"[^/?#]*://[^/?#@]*:[^/?#]*@")

SSH_METHODS = ("agent", "privkey", "password", "keyboard-interactive")
"""What C{sshauth} lists."""


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

    def flag(self, name: str) -> bool:
        """Whether a parameter of L{FLAGS} is given and not 0."""
        return int(self.params.get(name, "0")) != 0


NO_URI = ConnectionURI("", "", "unix", None, "", None, "", {}, "")
"""What stands for no URI at all: the server on the usual socket shall find out what there is."""


def parseURI(text: str) -> ConnectionURI:
    """Take a connection URI apart and check it.

    @param text: the URI; the empty one gives L{NO_URI}.
    @raise URIError: it is not one, or its parts do not go together.
    """
    if not text:
        return NO_URI
    if _PASSWORD.match(text):
        # Not the text itself: errors go to logs.
        raise URIError("a URI must not have a password in it, where others can read it; a colon is %3A")
    # urlsplit would drop some of these without a word.
    if " " in text or not text.isprintable():
        raise URIError(f"{text!r} is not a URI: it has a blank or a control character in it")
    # In the words of a program, the name of a file or libvirt's own strings, what is behind it would be lost.
    if "%00" in text:
        raise URIError(f"{text!r} is not a URI: it has a zero character in it")
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
    # What urlsplit gives is in lower case; to ssh a host may be a name of its own configuration.
    host = _HOST.sub(r"\1", parts.netloc.rpartition("@")[2])
    if not plus:
        transport = "tls" if host else "unix"
    if transport not in TRANSPORTS:
        raise URIError(f"{text}: transport {transport!r} is not one of {', '.join(sorted(TRANSPORTS))}")
    if transport == "unix" and host:
        raise URIError(f"{text}: using unix socket and remote server {host!r} is not supported")
    params, kept = _parameters(text, transport, parts.query)
    if transport == "ext" and "command" not in params:
        raise URIError(f"{text}: the transport 'ext' needs the parameter 'command', the program to run")
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
        port=port if port else _PORTS.get(transport),
        path=parts.path,
        params=params,
        name=name,
    )


def _parameters(text: str, transport: str, query: str) -> tuple[dict[str, str], list[str]]:
    """The known parameters, checked, and the others as they are sent."""
    params: dict[str, str] = {}
    kept: list[str] = []
    *items, last = query.split("&")
    # libvirt looks for a semicolon where it finds no ampersand any more.
    for item in (*items, *last.split(";")):
        key, _, value = item.partition("=")
        if not key:
            continue
        key, value = unquote(key), unquote(value)
        allowed = PARAMETERS.get(key.lower())
        if allowed is None:
            kept.append(f"{quote(key, safe='')}={quote(value, safe='')}")
            continue
        if transport not in allowed:
            raise URIError(
                f"{text}: parameter {key!r} does not go with the transport {transport!r}, only with"
                f" {_listed(sorted(allowed), 'and')}; leave it out or take another transport"
            )
        # Of one that is repeated the last counts.
        params[key.lower()] = value
    for name, words in _WORDS.items():
        if params.get(name, words[0]) not in words:
            raise URIError(f"{text}: parameter {name!r} is {_listed(words, 'or')}, not {params[name]!r}")
    for name in FLAGS:
        if not re.fullmatch(r"\s*[+-]?[0-9]+", params.get(name, "0"), re.ASCII):
            raise URIError(
                f"{text}: parameter {name!r} is a number, 0 for no, 1 for yes, not {params[name]!r}"
            )
    if params.get("mode") == "direct" and transport in SSH_FAMILY:
        raise URIError(
            f"{text}: mode 'direct' does not go with the transport {transport!r}: name the daemon's socket on"
            " the host with the parameter 'socket'"
        )
    for method in params.get("sshauth", "agent").split(","):
        if method not in SSH_METHODS:
            raise URIError(f"{text}: parameter 'sshauth' lists {_listed(SSH_METHODS, 'and')}, not {method!r}")
    return params, kept


def _listed(words: Iterable[str], last: str) -> str:
    *most, end = words
    return f"{', '.join(most)} {last} {end}" if most else end
