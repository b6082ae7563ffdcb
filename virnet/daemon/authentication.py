"""Which clients of the daemon have to authenticate, and how.

Rules:

  - There are four kinds of endpoint: UNIX sockets, read-only UNIX sockets, TLS, and all else, which is plain
    TCP as far as this goes. For each kind there is one way to authenticate; C{none} unless something is said.
  - What is said of a kind of which there is no endpoint is an error.
  - polkit judges processes of this machine: it is for UNIX sockets alone.
  - SASL checks passwords against a file of SCRAM credentials or Twisted's checkers, and tickets against a
    keytab. Over plain TCP only Kerberos protects the connection, so it has to be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from twisted.cred.checkers import ICredentialsChecker

from virnet.daemon.listening import Listener
from virnet.errors import VirnetError
from virnet.limits import SASL_MIN_SSF
from virnet.security.polkit import Polkit, PolkitMissing
from virnet.security.saslcontext import SASLContext
from virnet.security.saslgssapi import MECHANISM as GSSAPI
from virnet.server import IClientAuthentication
from virnet.server.polkit import PolkitAuthentication
from virnet.server.sasl import SASLAuthentication

TYPES = ("none", "polkit", "sasl")

KINDS = ("unix", "unix-ro", "tcp", "tls")
"""As in C{auth_unix_rw}, C{auth_unix_ro}, C{auth_tcp} and C{auth_tls} of C{libvirtd.conf}."""


class SASLSettings(NamedTuple):
    """What SASL has to go by.

    @ivar passwords: the file of SCRAM credentials.
    @ivar checkers: of C{twisted.cred}, for PLAIN.
    @ivar keytab: the keys for Kerberos.
    @ivar mechanisms: these alone, if there are any.
    @ivar allowed: patterns of users; C{None}: all.
    @ivar minSSF: bits of protection that plain TCP has to get.
    """

    passwords: str | None = None
    checkers: Sequence[ICredentialsChecker] = ()
    keytab: str | None = None
    mechanisms: Sequence[str] = ()
    allowed: Sequence[str] | None = None
    minSSF: int = SASL_MIN_SSF

    def context(self) -> SASLContext:
        """Make what exchanges are run with.

        @raise AuthenticationError: something is missing.
        """
        try:
            return SASLContext(
                scramFile=self.passwords,
                checkers=self.checkers,
                keytab=self.keytab,
                mechanisms=self.mechanisms or None,
                allowedUsers=self.allowed,
                minSSF=self.minSSF,
            )
        except ValueError as e:
            hint = "--sasl-passwords, --sasl-keytab or --auth gives something"
            raise AuthenticationError(f"SASL: {e}; {hint}") from e
        except (ImportError, VirnetError) as e:
            raise AuthenticationError(f"SASL: {e}") from e


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

    def __init__(self, reactor: Any, wanted: Mapping[str, str], sasl: SASLSettings | None = None) -> None:
        """@param wanted: kind to type.
        @param sasl: what SASL has to go by.
        """
        self._reactor = reactor
        self._wanted = wanted
        self._settings = sasl or SASLSettings()
        self._polkit: IClientAuthentication | None = None
        self._sasl: SASLAuthentication | None = None

    def requireUse(self, listeners: Iterable[Listener]) -> None:
        """See that each setting is about an endpoint: it may have been meant for one that lets everybody in.

        @raise AuthenticationError: there is none of that kind.
        """
        kinds = {kindOf(each) for each in listeners}
        for kind, type in self._wanted.items():
            if type != "none" and kind not in kinds:
                there = ", ".join(f"--auth-{each}" for each in KINDS if each in kinds)
                raise AuthenticationError(
                    f"--auth-{kind} {type}: it listens on no such endpoint; what there is takes {there}"
                )

    def forListener(self, listener: Listener) -> IClientAuthentication | None:
        """How the clients of an endpoint authenticate.

        @return: C{None}: not at all.
        @raise AuthenticationError: what it takes is missing.
        """
        kind = kindOf(listener)
        makers: dict[str, Callable[[], IClientAuthentication | None]] = {
            "none": lambda: None,
            "polkit": self._makePolkit,
            "sasl": lambda: self._makeSASL(kind),
        }
        return makers[checked(kind, self._wanted[kind])]()

    def _makePolkit(self) -> IClientAuthentication:
        if self._polkit is None:
            try:
                self._polkit = PolkitAuthentication(Polkit(self._reactor).check)
            except PolkitMissing as e:
                raise AuthenticationError(str(e)) from e
        return self._polkit

    def _makeSASL(self, kind: str) -> IClientAuthentication:
        if self._sasl is None:
            self._sasl = SASLAuthentication(self._settings.context())
        if kind == "tcp" and GSSAPI not in self._sasl.context.mechanisms:
            raise AuthenticationError(
                "--auth-tcp sasl: only Kerberos can protect plain TCP: give --sasl-keytab, or listen with TLS"
            )
        return self._sasl
