"""Which UNIX socket of this host a URI means, and which daemon may be started for it.

  - The system's sockets are in C{/var/run/libvirt}: libvirt's client says it like this wherever its daemons
    are told to make them. Those of a user's session are in C{libvirt} below C{$XDG_RUNTIME_DIR}, else below
    the cache directory.
  - The session is meant by whoever is not root, with the path C{/session}, the scheme C{test+…}, or no URI.
  - Each driver may have a daemon of its own (mode C{direct}: C{virtqemud-sock}); otherwise there is one for
    all (C{legacy}: C{libvirt-sock}). C{auto} takes the first of them that exists, and C{legacy} when none
    does. Without a URI there is no driver to go by.
  - Read-only connections to the system have sockets of their own; a session has none.
  - A daemon may be started for a session's socket that was not named in the URI, unless C{LIBVIRT_AUTOSTART}
    is C{0}.
  - A leading C{@} means the abstract name space.

(C: C{remoteGetUNIXSocket}, C{remoteConnectOpen}.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from virnet.errors import URIError
from virnet.limits import UNIX_PATH_MAX
from virnet.transport.config import Caller, userDirectory
from virnet.transport.uri import ConnectionURI

SYSTEM_DIRECTORY = "/var/run/libvirt"
DAEMON_DIRECTORY = "/usr/sbin"


class LocalSocket(NamedTuple):
    """A UNIX socket.

    @ivar path: C{@…} is abstract.
    @ivar daemon: the program to start when nobody listens there; C{None}: nothing is started.
    @ivar reasons: why this one, in words.
    """

    path: str
    daemon: str | None
    reasons: tuple[str, ...]


def isSession(uri: ConnectionURI, caller: Caller) -> bool:
    """Whether a URI is about the user's own daemon."""
    if caller.euid == 0:
        return False
    scheme = uri.text.partition(":")[0]
    return not uri.text or uri.path == "/session" or scheme.startswith("test+")


def runtimeDirectory(environ: Mapping[str, str]) -> str:
    """Where the sockets of a session are (C: C{virGetUserRuntimeDirectory})."""
    if environ.get("XDG_RUNTIME_DIR"):
        return userDirectory(environ, "XDG_RUNTIME_DIR", "")
    return userDirectory(environ, "XDG_CACHE_HOME", ".cache")


def chooseSocket(uri: ConnectionURI, readonly: bool, caller: Caller) -> LocalSocket:
    """Find the socket that a URI means.

    @raise URIError: there can be none.
    """
    given = uri.params.get("socket")
    if given is not None:
        return LocalSocket(_checked(given, uri), None, ("the parameter 'socket'",))
    session = isSession(uri, caller)
    if session:
        directory = runtimeDirectory(caller.environ)
        suffix = "-sock"
        sign = "no URI" if not uri.text else "the path /session" if uri.path == "/session" else "test+"
        who = f"the user's session: {sign}, and not root"
    else:
        directory = SYSTEM_DIRECTORY
        suffix = "-sock-ro" if readonly else "-sock"
        who = "the system's daemons" + (", read-only" if readonly else "")
    daemon, path, why = _daemon(uri, directory, suffix, caller)
    reasons = [who, why]
    program = None
    if session:
        if caller.environ.get("LIBVIRT_AUTOSTART") == "0":
            reasons.append("LIBVIRT_AUTOSTART=0: no daemon is started")
        else:
            program = daemonProgram(daemon, caller.environ)
            reasons.append(f"{program} is started if nobody listens")
    return LocalSocket(_checked(path, uri), program, tuple(reasons))


def _daemon(uri: ConnectionURI, directory: str, suffix: str, caller: Caller) -> tuple[str, str, str]:
    """The daemon, its socket, and why."""
    legacy = "libvirtd", f"{directory}/libvirt{suffix}"
    direct = f"virt{uri.driver}d", f"{directory}/virt{uri.driver}d{suffix}"
    mode, origin = modeOf(uri, caller)
    if mode == "legacy":
        return *legacy, f"{origin}: one daemon for all drivers"
    if mode == "direct":
        if not uri.driver:
            raise URIError("mode 'direct' needs a URI: without one no driver says which daemon it is")
        return *direct, f"{origin}: the driver's own daemon"
    if uri.driver:
        if os.path.exists(direct[1]):
            return *direct, f"{origin}: the socket of the driver's own daemon exists"
        if not os.path.exists(legacy[1]):
            return *legacy, f"{origin}: neither {os.path.basename(direct[1])} nor this one exists"
        return *legacy, f"{origin}: there is no {os.path.basename(direct[1])}"
    return *legacy, f"{origin}: without a URI there is no driver with a daemon of its own"


def modeOf(uri: ConnectionURI, caller: Caller) -> tuple[str, str]:
    """The mode that holds, and where it comes from."""
    if "mode" in uri.params:
        return uri.params["mode"], "the parameter 'mode'"
    if caller.config.mode is not None:
        return caller.config.mode, f"remote_mode in {caller.config.filename}"
    return "auto", "mode auto"


def daemonProgram(daemon: str, environ: Mapping[str, str]) -> str:
    """Where a daemon is: C{VIRTD_PATH}, else C{LIBVIRTD_PATH}, name a directory."""
    directory = environ.get("VIRTD_PATH") or environ.get("LIBVIRTD_PATH") or DAEMON_DIRECTORY
    return f"{directory}/{daemon}"


def _checked(path: str, uri: ConnectionURI) -> str:
    if not path or "\0" in path:
        raise URIError(f"{uri.text}: {path!r} cannot be a socket")
    if len(os.fsencode(path)) > UNIX_PATH_MAX:
        raise URIError(
            f"{uri.text}: Path {path} too long for unix socket, the system allows {UNIX_PATH_MAX} bytes"
        )
    return path
