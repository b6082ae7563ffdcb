"""Which clients of the daemon have to authenticate, and how.

Rules:

  - There are four kinds of endpoint: UNIX sockets, read-only UNIX sockets, TLS, and all else, which is plain
    TCP as far as this goes. For each kind there is one way to authenticate; C{none} unless something is said.
  - polkit judges processes of this machine: it is for UNIX sockets alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from virnet.daemon.listening import Listener
from virnet.errors import VirnetError
from virnet.security.polkit import Polkit, PolkitMissing
from virnet.server import IClientAuthentication
from virnet.server.polkit import PolkitAuthentication

TYPES = ("none", "polkit", "sasl")

KINDS = ("unix", "unix-ro", "tcp", "tls")
"""As in C{auth_unix_rw}, C{auth_unix_ro}, C{auth_tcp} and C{auth_tls} of C{libvirtd.conf}."""


class AuthenticationError(VirnetError):
    """Clients cannot be authenticated like that; the text says why."""


def kindOf(listener: Listener) -> str:
    """Which of the L{KINDS} an endpoint is."""
    text = listener.text
    if text.startswith(("libvirt-tls:", "ssl:", "tls:")):
        return "tls"
    if text.startswith("unix:") or "domain=UNIX" in text:
        return "unix-ro" if listener.readonly else "unix"
    return "tcp"


def checked(kind: str, wanted: str) -> str:
    """Judge one setting.

    @raise AuthenticationError: there is no such type, or it is not for this kind.
    """
    if wanted not in TYPES:
        raise AuthenticationError(f"--auth-{kind} {wanted}: there are {', '.join(TYPES)}")
    if wanted == "polkit" and not kind.startswith("unix"):
        raise AuthenticationError(f"--auth-{kind} polkit: polkit judges processes of this machine alone")
    return wanted


class Authentications:
    """Makes what each endpoint needs, once it is needed."""

    def __init__(self, reactor: Any, wanted: Mapping[str, str]) -> None:
        """@param wanted: kind to type."""
        self._reactor = reactor
        self._wanted = wanted
        self._polkit: IClientAuthentication | None = None

    def forListener(self, listener: Listener) -> IClientAuthentication | None:
        """How the clients of an endpoint authenticate.

        @return: C{None}: not at all.
        @raise AuthenticationError: what it takes is missing.
        """
        kind = kindOf(listener)
        makers: dict[str, Callable[[], IClientAuthentication | None]] = {
            "none": lambda: None,
            "polkit": self._makePolkit,
        }
        return makers[checked(kind, self._wanted[kind])]()

    def _makePolkit(self) -> IClientAuthentication:
        if self._polkit is None:
            try:
                self._polkit = PolkitAuthentication(Polkit(self._reactor).check)
            except PolkitMissing as e:
                raise AuthenticationError(str(e)) from e
        return self._polkit
