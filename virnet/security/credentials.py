"""Where a client's user name and password come from.

Each is taken from the first place that has it; only what none has is asked for:

  1. C{USER@} of the URI, for transports that do not need it themselves (as ssh does).
  2. C{auth.conf}, libvirt's file. The first of these is read, and no other: C{$LIBVIRT_AUTH_FILE}, the
     URI's C{authfile}, C{$XDG_CONFIG_HOME/libvirt/auth.conf} (C{~/.config}), C{/etc/libvirt/auth.conf}.
     The latter two need not exist.
  3. C{$VIRNET_USERNAME}. There is no variable for a password: the environment is inherited by every
     process that is started, and others can read it.
  4. The application's callback.

A password of C{auth.conf} belongs to the user named beside it. It is not used for another one.

C{auth.conf} has groups: C{[auth-libvirt-HOST]}, or else C{[auth-libvirt-default]}, names with
C{credentials=NAME} the group C{[credentials-NAME]} that has C{authname} or C{username}, C{password} and
C{realm}. HOST is as in the URI, C{localhost} where it has none. Lines that begin with C{#} are comments.
Everything behind C{=} is the value, blanks included.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError

SYSTEM_FILE = "/etc/libvirt/auth.conf"

SERVICE = "libvirt"
"""What the groups of the file are for."""


class CredentialRequest(NamedTuple):
    """What a callback is asked for.

    @ivar kind: C{"authname"}, who to be, or C{"password"}.
    @ivar prompt: how to ask a person.
    @ivar secret: the answer must not be shown while it is typed.
    @ivar host: the server's host, as the URI has it; C{localhost} where it has none.
    @ivar mechanism: the SASL mechanism that wants it.
    @ivar user: whose password; C{None} where the name is asked for.
    """

    kind: str
    prompt: str
    secret: bool
    host: str
    mechanism: str
    user: str | None = None


CredentialCallback = Callable[[CredentialRequest], "str | None | Awaitable[str | None]"]
"""Answers a request, at once, with a Deferred or as a coroutine; C{None} gives up."""


class Credentials:
    """What is known of the user of a connection. Never shows what it knows."""

    def __init__(
        self,
        host: str,
        user: str | None = None,
        authFile: str | None = None,
        callback: CredentialCallback | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """@param host: of the URI; empty for none.
        @param user: of the URI.
        @param authFile: of the URI.
        @param environ: by default the process's.
        @raise RemoteError: a file that was named cannot be read, or is not what it should be.
        """
        environ = os.environ if environ is None else environ
        self.host = host or "localhost"
        self._callback = callback
        path = authFilePath(authFile, environ)
        entry = {} if path is None else lookUp(readAuthFile(path), self.host, path)
        inFile = entry.get("authname") or entry.get("username")
        self._user = user or inFile or environ.get("VIRNET_USERNAME") or None
        self._password: str | None = None
        if inFile is None or inFile == self._user:
            self._password = entry.get("password")

    def __repr__(self) -> str:
        return f"<Credentials for {self.host}>"

    @property
    def knowsUser(self) -> bool:
        """Whether the name need not be asked for."""
        return self._user is not None

    async def user(self, mechanism: str) -> str:
        """Who to be; asked for once.

        @raise RemoteError: nobody says.
        """
        if self._user is None:
            prompt = f"Enter username for {self.host}: "
            self._user = await self._ask(CredentialRequest("authname", prompt, False, self.host, mechanism))
        return self._user

    async def password(self, mechanism: str) -> str:
        """The password of that user; asked for once.

        @raise RemoteError: nobody says.
        """
        if self._password is None:
            user = await self.user(mechanism)
            prompt = f"Enter {user}'s password for {self.host}: "
            request = CredentialRequest("password", prompt, True, self.host, mechanism, user)
            self._password = await self._ask(request)
        return self._password

    async def _ask(self, request: CredentialRequest) -> str:
        if self._callback is None:
            raise _failed("No authentication callback available")
        answer: Any = self._callback(request)
        if hasattr(answer, "__await__"):
            answer = await answer
        if answer is None:
            raise _failed("Failed to collect auth credentials")
        return str(answer)


def authFilePath(named: str | None, environ: Mapping[str, str]) -> str | None:
    """The file to read.

    @param named: by the URI.
    @return: C{None} if there is none.
    """
    explicit = environ.get("LIBVIRT_AUTH_FILE") or named
    if explicit:
        return explicit
    configuration = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", "/"), ".config")
    for path in (os.path.join(configuration, SERVICE, "auth.conf"), SYSTEM_FILE):
        if os.access(path, os.R_OK):
            return path
    return None


def readAuthFile(path: str) -> dict[str, dict[str, str]]:
    """Read a file in the format of C{auth.conf}.

    @return: group to key to value.
    @raise RemoteError: it cannot be read, or a line makes no sense.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
    except OSError as e:
        raise _failed(f"{path}: {e.strerror}") from e
    except UnicodeDecodeError:
        raise _failed(f"{path}: no UTF-8") from None
    groups: dict[str, dict[str, str]] = {}
    group: dict[str, str] | None = None
    for number, line in enumerate(lines, 1):
        start = line.lstrip()
        if not start or start[0] in "#;":
            continue
        key, equals, value = start.partition("=")
        if start[0] == "[" and start.rstrip()[-1] == "]":
            group = groups.setdefault(start.rstrip()[1:-1], {})
        elif not equals or group is None:
            # Not the line itself: there may be a password in it.
            raise _failed(f"{path}:{number}: expected [GROUP] or KEY=VALUE")
        else:
            group[key.rstrip()] = value
    return groups


def lookUp(groups: dict[str, dict[str, str]], host: str, path: str) -> dict[str, str]:
    """Find what a file has for a host.

    @return: empty if it has nothing.
    @raise RemoteError: it names credentials that it does not have.
    """
    entry = groups.get(f"auth-{SERVICE}-{host}") or groups.get(f"auth-{SERVICE}-default")
    if entry is None:
        return {}
    name = entry.get("credentials")
    found = groups.get(f"credentials-{name}")
    if found is None:
        raise _failed(f"{path}: there is no group 'credentials-{name}', which the one of {host} refers to")
    return found


def _failed(detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.AUTH_FAILED, detail, ErrorDomain.AUTH)
