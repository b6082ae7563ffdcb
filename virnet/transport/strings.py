"""Endpoint strings for clients: what Twisted's C{clientFromString} takes, besides C{libvirt-tls:}.

C{libvirt:URI} leads wherever libvirt's URI does. Colons and backslashes in it are escaped with backslashes,
as Twisted's C{quoteStringArgument} does. C{readonly=yes} takes the sockets for read-only connections. Without
a URI it is the default one, see L{virnet.transport.config}.

C{libvirt-ssh:HOST} leads through the ssh program to a UNIX socket on another host, with any of C{user=},
C{port=}, and the parameters of URIs that ssh has: C{socket=PATH}, C{keyfile=}, C{command=}, C{netcat=},
C{proxy=}, C{no_verify=1}, C{no_tty=1}, and C{name=}, for C{virt-ssh-helper} to find the socket by.

C{libvirt-exec:COMMAND} leads to the standard input and output of a program. The command is read as a shell
reads it, with quotes, but no shell runs it.

UNIX sockets need none of ours: Twisted's C{unix:} carries descriptors and is written through.
"""

from __future__ import annotations

import re
import shlex
from typing import Any
from urllib.parse import quote

from twisted.internet.interfaces import IStreamClientEndpoint

from virnet.errors import URIError
from virnet.transport.config import Caller, resolveURI
from virnet.transport.endpoints import endpointFor
from virnet.transport.process import CommandEndpoint
from virnet.transport.ssh import Command, commandEnvironment
from virnet.transport.uri import parseURI


class _ForClients:
    """What a server string gets of those that lead somewhere."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def parseStreamServer(self, reactor: Any, *args: str, **kwargs: str) -> Any:
        """Refuse.

        @raise ValueError: always.
        """
        raise ValueError(f"{self._prefix}: leads to a server, nobody can listen there")


class _URI(_ForClients):
    def parseStreamClient(self, reactor: Any, *args: str, **kwargs: str) -> IStreamClientEndpoint:
        """C{libvirt:URI}

        @raise ValueError: it makes no sense.
        """
        readonly = kwargs.pop("readonly", "no")
        if readonly not in ("yes", "no"):
            raise ValueError(f"readonly={readonly} is neither yes nor no")
        # Twisted takes the first = of a URI for that of an argument.
        parts = [*args, *(value if name == "uri" else f"{name}={value}" for name, value in kwargs.items())]
        if len(parts) > 1:
            raise ValueError(
                f"expected one URI, not {' and '.join(map(repr, parts))}: in an endpoint string its colons"
                " are escaped: libvirt:qemu+ssh\\://host/system"
            )
        caller = Caller.current()
        uri = parseURI(resolveURI("".join(parts), caller)[0])
        return endpointFor(reactor, uri, readonly == "yes", caller)


class _SSH(_ForClients):
    def parseStreamClient(
        self, reactor: Any, host: str, *, user: str = "", port: str = "", **params: str
    ) -> IStreamClientEndpoint:
        """C{libvirt-ssh:HOST}

        @raise ValueError: it makes no sense.
        """
        place = f"[{host}]" if ":" in host else host
        if user:
            place = f"{quote(user, safe='')}@{place}"
        if port:
            if not re.fullmatch("[0-9]+", port):
                raise URIError(f"libvirt-ssh: {port!r} is not a port")
            place += f":{port}"
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in params.items())
        uri = parseURI(f"remote+ssh://{place}/?{query}")
        unknown = [name for name in params if name.lower() not in uri.params]
        if unknown:
            raise URIError(f"libvirt-ssh: has no parameter {unknown[0]!r}")
        # What has a meaning in a URI is not to get it by way of an argument: that might choose the program.
        if uri.host != host or uri.params != {name.lower(): value for name, value in params.items()}:
            raise URIError(f"libvirt-ssh: {host!r} is not the name of a host")
        return endpointFor(reactor, uri)


class _Exec(_ForClients):
    def parseStreamClient(self, reactor: Any, command: str) -> IStreamClientEndpoint:
        """C{libvirt-exec:COMMAND}

        @raise ValueError: it makes no sense.
        """
        argv = tuple(shlex.split(command))
        if not argv:
            raise ValueError("libvirt-exec: needs a command")
        return CommandEndpoint(reactor, Command(argv, commandEnvironment(Caller.current().environ)))


uri = _URI("libvirt")
ssh = _SSH("libvirt-ssh")
program = _Exec("libvirt-exec")
