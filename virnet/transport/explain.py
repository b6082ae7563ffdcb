"""What opening a URI would do, without doing it: each decision, what came of it, and why.

The decisions are made by the same functions that make the endpoint; nothing is connected to or started. What
is looked at is what they look at: the environment, C{libvirt.conf}, which sockets exist.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from shlex import join
from typing import Any, NamedTuple

from virnet.security.priorities import DEFAULT
from virnet.security.tlsfiles import defaultFiles, directoryFiles
from virnet.transport.config import Caller, resolveURI
from virnet.transport.sockets import chooseSocket, isSession
from virnet.transport.ssh import Command, externalCommand, sshCommand
from virnet.transport.uri import ConnectionURI, parseURI


class Decision(NamedTuple):
    """One thing that was decided.

    @ivar what: what it is about, as a key.
    @ivar value: what came of it; a text, a number, a list of words, a dictionary, or C{None} for nothing.
    @ivar why: where that comes from, in words.
    """

    what: str
    value: Any
    why: str

    def shown(self) -> str:
        """The value for people."""
        if self.value is None:
            return "-"
        if isinstance(self.value, list):
            return join(self.value)
        if isinstance(self.value, dict):
            return " ".join(self.value)
        return str(self.value) or "(empty)"


def explain(text: str | None, readonly: bool, caller: Caller) -> list[Decision]:
    """Find out what would be done.

    @param text: the URI, an alias, or nothing.
    @raise URIError: it cannot be used; opening it would fail in the same way.
    """
    found, reasons = resolveURI(text, caller)
    uri = parseURI(found)
    return [
        Decision("uri", found, "; ".join(reasons)),
        Decision("transport", uri.transport, _whyTransport(uri)),
        *_way(uri, readonly, caller),
        Decision("name", uri.name, _whyName(uri)),
        Decision("readonly", readonly, "changes are refused" if readonly else "unless -r is given"),
    ]


def _whyTransport(uri: ConnectionURI) -> str:
    if not uri.text:
        return "no URI: the usual socket"
    if "+" in uri.text.partition(":")[0]:
        return "the URI says so"
    return "the URI has a host" if uri.host else "the URI has no host"


def _whyName(uri: ConnectionURI) -> str:
    if not uri.text:
        return "no URI: the server chooses, and is asked what (CONNECT_GET_URI)"
    if "name" in uri.params:
        return "the parameter 'name'"
    if not uri.name:
        return "the driver 'remote': the server chooses"
    return "the URI without what is for the client"


def _way(uri: ConnectionURI, readonly: bool, caller: Caller) -> Iterator[Decision]:
    match uri.transport:
        case "unix":
            local = chooseSocket(uri, readonly, caller)
            yield Decision("socket", local.path, "; ".join(local.reasons))
            why = "if nobody listens" if local.daemon else _whyNoDaemon(uri, caller)
            yield Decision("starts", local.daemon, why)
        case "ssh":
            command = sshCommand(uri, readonly, caller)
            yield from _command(command)
            yield Decision("there", command.argv[-1], "; ".join(command.reasons))
        case "ext":
            yield from _command(externalCommand(uri, caller))
        case "libssh" | "libssh2":
            from virnet.transport.conch import sessionOf

            session = sessionOf(uri, readonly, caller)
            yield Decision("host", session.host, "the URI" if uri.host else "the default")
            yield Decision("port", session.port, _whyPort(uri))
            yield Decision("user", session.user, "the URI" if uri.user else "the default")
            why = "the parameter 'known_hosts'" if "known_hosts" in uri.params else "the default"
            yield Decision("known_hosts", session.knownHosts, f"{why}; checked: {session.verify}")
            why = "the parameter 'keyfile'" if "keyfile" in uri.params else "the first in ~/.ssh"
            yield Decision("keys", session.keyfile, f"{why}; tried: {', '.join(session.methods)}")
            yield Decision("there", session.command, "; ".join(session.reasons))
        case _:
            yield Decision("host", uri.host or "localhost", "the URI" if uri.host else "the default")
            yield Decision("port", uri.port, _whyPort(uri))
            if uri.transport == "tls":
                yield from _credentials(uri, caller)


def _credentials(uri: ConnectionURI, caller: Caller) -> Iterator[Decision]:
    pkipath = uri.params.get("pkipath")
    files = directoryFiles(pkipath, "client") if pkipath else defaultFiles("client")
    why = "the parameter 'pkipath'" if pkipath else "where libvirt looks"
    for what, path in zip(("cafile", "crlfile", "certfile", "keyfile"), files, strict=True):
        if path is not None:
            yield Decision(what, path, why if os.path.exists(path) else f"{why}, but there is none")
    given, configured = uri.params.get("tls_priority"), caller.config.tlsPriority
    why = "the parameter 'tls_priority'" if given else caller.config.filename if configured else "the default"
    yield Decision("priority", given or configured or DEFAULT, why)
    why = "the parameter 'no_verify'" if uri.flag("no_verify") else "it has to be trusted, and be the host's"
    yield Decision("verify", not uri.flag("no_verify"), why)


def _whyPort(uri: ConnectionURI) -> str:
    default = parseURI(f"{uri.driver}+{uri.transport}://h/").port
    return "the transport's own" if uri.port == default else "the URI"


def _whyNoDaemon(uri: ConnectionURI, caller: Caller) -> str:
    if "socket" in uri.params:
        return "the socket is named"
    return "LIBVIRT_AUTOSTART=0" if isSession(uri, caller) else "it is not a session's"


def _command(command: Command) -> Iterator[Decision]:
    program = shutil.which(command.argv[0], path=command.environment.get("PATH"))
    yield Decision("program", program, "found in PATH" if program else f"{command.argv[0]!r} is not in PATH")
    yield Decision("argv", list(command.argv), "what is run")
    yield Decision("environment", dict(command.environment), "what it gets of ours")
