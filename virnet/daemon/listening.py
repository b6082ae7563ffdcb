"""
Where the daemon listens: endpoint strings, the rules for UNIX sockets, and how a client gets there.

  - An endpoint is any that Twisted has (C{twisted.internet.endpoints.serverFromString}), ours included.
    C{unix:} differs in three things: the mode is 0600 unless it says C{mode=}, the file is given to the group
    that C{group=} names, and a lock file is made only with C{lockfile=1}.
  - A socket file that a dead server left is replaced. One that is alive, or anything else in its place, is
    refused.
  - The default socket (L{virnet.transport.defaults}) lies in a directory for its owner alone: it is made,
    0700, or has to be like that. Who starts there holds the directory's lock meanwhile, so that two servers
    do not replace each other.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import re
import shlex
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import UNIXServerEndpoint, serverFromString
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint

from virnet.errors import RemoteError, VirnetError
from virnet.limits import UNIX_PATH_MAX
from virnet.security.tlscontext import TLSContext
from virnet.server import IClientAuthentication
from virnet.transport.defaults import defaultSocketPath
from virnet.transport.tls import TLSServerEndpoint

MODE = 0o600
BACKLOG = 50
"""Twisted's own default."""

LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What a client on this machine calls the addresses that stand for all."""


class ListenError(VirnetError):
    """It is not possible to listen there; the text says where and why."""


class Listener(NamedTuple):
    """A place to listen.

    @ivar text: as the user wrote it.
    @ivar path: of a UNIX socket, absolute.
    @ivar directory: of the default socket.
    @ivar group: the number of the group that the socket's file is given to.
    @ivar mode: what the file gets once it is that group's; until then the group it was made with has no part.
    @ivar auth: how clients have to authenticate, if they have to.
    """

    text: str
    endpoint: IStreamServerEndpoint
    readonly: bool = False
    path: str | None = None
    directory: str | None = None
    group: int | None = None
    mode: int | None = None
    auth: IClientAuthentication | None = None


def fromString(reactor: Any, text: str, readonly: bool = False) -> Listener:
    """Understand an endpoint string.

    @raise ListenError: it is none.
    """
    kind, *arguments = _split(text)
    try:
        if kind == "unix":
            path, mode, group, endpoint = _unix(reactor, arguments)
            return Listener(text, endpoint, readonly, path, group=group, mode=mode)
        return Listener(text, serverFromString(reactor, text), readonly)
    except ListenError:
        raise
    except RemoteError as e:
        # Certificates that cannot be used.
        raise ListenError(f"cannot listen on {text}: {e.message}") from e
    except Exception as e:
        # Each kind of endpoint has exceptions of its own for what is wrong with its string.
        why = " ".join(str(e).split()) or type(e).__name__
        if kind == "systemd" and isinstance(e, LookupError):
            why = "systemd passed no such socket"
        # The commonest of them are Python's own, about a function that the user has not called.
        why = re.sub(r"^\S+\(\) got an unexpected keyword argument (.*)$", r"there is no parameter \1", why)
        why = re.sub(r"^invalid literal for int\(\) with base 10: (.*)$", r"\1 is not a number", why)
        why = re.sub(r"^invalid literal for int\(\) with base 8: (.*)$", r"\1 is not a mode like 660", why)
        raise ListenError(f"{text!r} is no server endpoint like unix:/run/x or tcp:16509: {why}") from e


def default(reactor: Any, environ: Mapping[str, str]) -> Listener:
    """Where to listen when nothing is said.

    @raise ListenError: there is no default.
    """
    path = defaultSocketPath(environ)
    if path is None:
        raise ListenError(
            "XDG_RUNTIME_DIR is not set, so there is no default socket: say where with --listen"
        )
    checkLength(path)
    endpoint = UNIXServerEndpoint(reactor, path, BACKLOG, MODE, 0)
    return Listener(f"unix:{path}", endpoint, path=path, directory=os.path.dirname(path))


def _split(text: str) -> list[str]:
    """Split at the colons that are not escaped, and take the escapes away."""
    parts = re.findall(r"(?:^|:)((?:\\.|[^:\\])*)", text, re.DOTALL)
    return [re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in parts]


def _unix(reactor: Any, arguments: list[str]) -> tuple[str, int, int | None, UNIXServerEndpoint]:
    given = {"address": "", "mode": f"{MODE:o}", "group": "", "backlog": str(BACKLOG), "lockfile": "0"}
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if not equals and position == 0:
            name, value = "address", argument
        elif name not in given or not equals:
            raise ValueError(f"{argument!r} is not one of mode=, group=, backlog=, lockfile=")
        given[name] = value
    if not given["address"]:
        raise ValueError("there is no path")
    path = os.path.abspath(given["address"])
    checkLength(path)
    mode, backlog, lockfile = int(given["mode"], 8), int(given["backlog"]), int(given["lockfile"])
    group = _groupNumber(given["group"]) if given["group"] else None
    first = mode if group is None else mode & ~0o070
    return path, mode, group, UNIXServerEndpoint(reactor, path, backlog, first, lockfile)


def _groupNumber(text: str) -> int:
    """The number of a group by its name, or by its number."""
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        if text.isascii() and text.isdigit():
            return int(text)
        raise ValueError(f"there is no group {text!r}") from None


def checkLength(path: str) -> None:
    """@raise ListenError: a UNIX socket cannot have this path."""
    length = len(os.fsencode(path))
    if length > UNIX_PATH_MAX:
        raise ListenError(
            f"{path} is too long for a UNIX socket: {length} bytes, the system allows {UNIX_PATH_MAX}"
        )


def makeDirectory(path: str) -> None:
    """Make the directory of the default socket, or see that it is for its owner alone.

    @raise ListenError: it cannot be made, or is not.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as e:
        raise ListenError(f"cannot make the directory {path}: {e.strerror}") from e
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise ListenError(f"{path} is not a directory")
    if found.st_uid != os.geteuid():
        raise ListenError(f"the directory {path} belongs to uid {found.st_uid}, not to uid {os.geteuid()}")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise ListenError(
            f"the directory {path} lets others in (mode {mode:04o}): chmod 700 {shlex.quote(path)}"
        )


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """Hold a directory's lock."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def clear(path: str) -> None:
    """Take away the socket file that a dead server left.

    @raise ListenError: what is there is alive, or no socket.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as e:
        raise ListenError(f"cannot listen on {path}: {e.strerror}") from e
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"cannot listen on {path}: it exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        found = probe.connect_ex(path)
    if found in (0, errno.EAGAIN):
        raise ListenError(f"cannot listen on {path}: a server is running there")
    if found != errno.ECONNREFUSED:
        raise ListenError(f"cannot listen on {path}: it exists, and trying it fails: {os.strerror(found)}")
    try:
        os.unlink(path)
    except OSError as e:
        raise ListenError(f"cannot replace {path}, left by a dead server: {e.strerror}") from e


def virshCommand(listener: Listener, address: IAddress) -> str | None:
    """The command that connects to a listening socket.

    @param address: the socket's own, with the port that was really bound.
    @return: C{None} where libvirt has no URI for it.
    """
    match address:
        case UNIXAddress(name=str() | bytes() as name):
            uri = f"test+unix:///default?socket={quote(os.fsencode(name))}"
        case IPv4Address(host=host, port=port) | IPv6Address(host=host, port=port):
            if listener.text.startswith(("ssl:", "tls:")):
                return None
            host = LOCAL.get(host, host)
            if isinstance(listener.endpoint, TLSServerEndpoint):
                uri = _tlsURI(listener.endpoint.context, host, port)
            else:
                uri = f"test+tcp://{_inURI(host)}:{port}/default"
        case _:
            return None
    return f"virsh {'-r ' if listener.readonly else ''}-c {shlex.quote(uri)}"


def _inURI(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tlsURI(context: TLSContext, host: str, port: int) -> str:
    """Where a client finds a server that has to be what its certificate says."""
    directory, name = os.path.split(os.path.abspath(context.files.authorities))
    isClients = name == "cacert.pem" and os.path.exists(f"{directory}/clientcert.pem")
    parameters = f"?pkipath={quote(directory)}" if isClients else ""
    return f"test+tls://{_inURI(context.hostFor(host))}:{port}/default{parameters}"
