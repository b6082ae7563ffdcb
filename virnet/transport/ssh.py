"""The command lines that reach a server through a program: ssh, and any other.

  - C{ssh [-p PORT] [-l USER] [-i KEYFILE] -T -e none [-o BatchMode=yes] [-o StrictHostKeyChecking=no] -- HOST
    COMMAND}. C{no_tty} gives BatchMode, C{no_verify} the last option, which accepts keys of unknown hosts;
    one that changed is still refused. The program is C{ssh} or the parameter C{command}.
  - On the host, C{native} runs C{virt-ssh-helper [-r] NAME}, which finds the socket there; C{netcat} runs
    C{nc -U SOCKET}, with C{-q0} where it takes that; C{auto} looks which of the two there is.
  - The parameter C{netcat} means netcat. Else C{proxy} decides, else C{remote_proxy} of the configuration,
    else: netcat when a socket is named, native for a session (netcat can start no daemon), auto.
  - COMMAND is one word for ssh, and read by two shells: the user's, and the C{sh} it starts. So what is in it
    is quoted twice, where it has any character that a shell minds. libvirt does not quote the socket.
  - The program gets few of our variables, C{LC_ALL} is C{C}: what it says on standard error goes into ours.
  - C{ext} runs the program without arguments and with fewer variables still.

All but the socket's quotes is as libvirt's client does it, to the letter (C: C{virNetClientNewSSH},
C{virNetSocketNewConnectSSH}).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from typing import NamedTuple

from virnet.errors import URIError
from virnet.transport.config import Caller
from virnet.transport.sockets import chooseSocket, isSession
from virnet.transport.uri import ConnectionURI

_COMMON = ("LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "HOME", "USER", "LOGNAME", "TMPDIR")
_FOR_SSH = (
    "XDG_RUNTIME_DIR",
    "KRB5CCNAME",
    "SSH_AUTH_SOCK",
    "SSH_ASKPASS",
    "OPENSSL_CONF",
    "DISPLAY",
    "XAUTHORITY",
)

_SPECIAL = re.compile(r"[\r\t\n !\"#$&'()*;<>?\[\\\]^`{|}~]")
"""What a shell minds (C: C{virBufferEscapeShell})."""


class Command(NamedTuple):
    """A program to run.

    @ivar argv: its words; the first is looked up in C{PATH}.
    @ivar environment: all that it gets.
    @ivar reasons: why so, in words.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    reasons: tuple[str, ...] = ()

    def program(self) -> str:
        """The path of the program.

        @raise URIError: there is none.
        """
        path = shutil.which(self.argv[0], path=self.environment.get("PATH"))
        if path is None:
            if "/" in self.argv[0]:
                raise URIError(f"Cannot find {self.argv[0]!r}, or it is not executable")
            raise URIError(f"Cannot find {self.argv[0]!r} in PATH: is it installed?")
        return path


def commandEnvironment(environ: Mapping[str, str], *further: str) -> dict[str, str]:
    """What a program gets of our environment (C: C{virCommandAddEnvPassCommon}).

    @param further: names that are passed on as well.
    """
    passed = {name: environ[name] for name in (*_COMMON, *further) if name in environ}
    return {"LC_ALL": "C", **passed}


def shellQuoted(text: str) -> str:
    """Quote a word for a shell, where it needs that."""
    if text and not _SPECIAL.search(text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def _twice(text: str) -> str:
    """A word for both shells, to stand between single quotes of which the outer shell has seen the first."""
    return shellQuoted(shellQuoted(text))


def proxyOf(uri: ConnectionURI, caller: Caller) -> tuple[str, str]:
    """How the host is crossed: C{auto}, C{netcat} or C{native}; and why.

    @raise URIError: the URI contradicts itself.
    """
    if "proxy" in uri.params:
        proxy, why = uri.params["proxy"], "the parameter 'proxy'"
    elif caller.config.proxy is not None:
        proxy, why = caller.config.proxy, f"remote_proxy in {caller.config.filename}"
    elif "socket" in uri.params:
        proxy, why = "netcat", "the parameter 'socket': the helper takes none"
    elif isSession(uri, caller):
        proxy, why = "native", "a session: netcat could not start its daemon"
    else:
        proxy, why = "auto", "the default"
    if "netcat" in uri.params:
        if proxy == "native":
            raise URIError(
                f"{uri.text}: netcat path not valid with native proxy mode ({why}); leave 'netcat' out or say"
                " proxy=netcat"
            )
        return "netcat", "the parameter 'netcat'"
    return proxy, why


def remoteCommand(uri: ConnectionURI, readonly: bool, caller: Caller) -> tuple[str, tuple[str, ...]]:
    """The command that the host's shell gets, and why it is so.

    @raise URIError: the URI contradicts itself.
    """
    proxy, why = proxyOf(uri, caller)
    # Abroad nothing can be looked up: legacy is what auto comes to.
    there = uri._replace(params={"mode": "legacy", **uri.params})
    if uri.params.get("mode") == "auto":
        there.params["mode"] = "legacy"
    helper = f"virt-ssh-helper {'-r ' if readonly else ''}'{_twice(uri.name)}'"
    if proxy == "native":
        return f"sh -c '{helper}'", (f"proxy native: {why}",)
    if "mode" not in uri.params and caller.config.mode == "direct":
        raise URIError(
            f"{uri.text}: mode 'direct' ({caller.config.filename}) does not go with the transport"
            f" {uri.transport!r}: say mode=legacy"
        )
    socket = chooseSocket(there, readonly, caller)
    path = socket.path if shellQuoted(socket.path) == socket.path else f"'{_twice(socket.path)}'"
    netcat = _twice(uri.params.get("netcat", "nc"))
    text = (
        f"if '{netcat}' -q 2>&1 | grep \"requires an argument\" >/dev/null 2>&1; then ARG=-q0;else ARG=;fi;"
        f"'{netcat}' $ARG -U {path}"
    )
    reasons = (f"proxy {proxy}: {why}", f"socket there {socket.path}: {socket.reasons[0]}")
    if proxy == "netcat":
        return f"sh -c '{text}'", reasons
    found = "which virt-ssh-helper 1>/dev/null 2>&1; if test $? = 0; then     "
    return f"sh -c '{found}{helper}; else    {text}; fi'", reasons


def sshCommand(uri: ConnectionURI, readonly: bool, caller: Caller) -> Command:
    """The command for a URI with the transport C{ssh}.

    @raise URIError: the URI contradicts itself.
    """
    remote, reasons = remoteCommand(uri, readonly, caller)
    argv = [uri.params.get("command", "ssh")]
    if uri.port is not None:
        argv += ["-p", str(uri.port)]
    if uri.user is not None:
        argv += ["-l", uri.user]
    if "keyfile" in uri.params:
        argv += ["-i", uri.params["keyfile"]]
    argv += ["-T", "-e", "none"]
    if uri.flag("no_tty"):
        argv += ["-o", "BatchMode=yes"]
    if uri.flag("no_verify"):
        argv += ["-o", "StrictHostKeyChecking=no"]
    # A host that begins with a dash is no option.
    argv += ["--", uri.host or "localhost", remote]
    return Command(tuple(argv), commandEnvironment(caller.environ, *_FOR_SSH), reasons)


def externalCommand(uri: ConnectionURI, caller: Caller) -> Command:
    """The command for a URI with the transport C{ext}."""
    return Command((uri.params["command"],), commandEnvironment(caller.environ), ("the parameter 'command'",))
