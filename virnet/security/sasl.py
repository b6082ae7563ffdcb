"""What all SASL mechanisms have in common (RFC 4422), at both ends.

Rules:

  - A session is one exchange. Its C{step} takes what the other end has sent and returns what is to be sent:
    C{None} is no data at all, C{b""} is data of no length, and the two are never mixed up.
  - A session is C{complete} only when its own end has nothing left to check. A client that still has to
    verify the server is not.
  - Whatever is wrong is a L{SASLError}, and the session is of no use after it. Its text is for our own side:
    for the server's log, or for the user of the client. It never holds a password.
  - How strong the protection has to be depends on what the connection goes over (L{propertiesFor}): UNIX
    sockets and TLS need none and get none, anything else needs at least 56 bits, and no password may pass
    in clear.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from virnet.errors import VirnetError
from virnet.limits import SASL_MAX_SSF, SASL_MIN_SSF
from virnet.security.securitylayer import SecurityLayer

SERVICE = "libvirt"
"""The name of the service in the names of mechanisms that have one."""


class SASLError(VirnetError):
    """An exchange failed."""


class NotAllowed(SASLError):
    """The peer proved who it is, and may not enter."""


class SecurityProperties(NamedTuple):
    """What the connection demands of a mechanism (C: C{sasl_security_properties_t}).

    @ivar minSSF: the least strength of the protection, in bits of a key; 1 is integrity alone.
    @ivar maxSSF: the most; 0 is no protection by SASL.
    @ivar plaintext: whether a mechanism may send the password itself.
    @ivar externalSSF: the strength of what protects the connection already.
    """

    minSSF: int
    maxSSF: int
    plaintext: bool
    externalSSF: int = 0


def propertiesFor(transport: str, minSSF: int = SASL_MIN_SSF, externalSSF: int = 0) -> SecurityProperties:
    """What a transport demands.

    @param transport: C{unix} and C{tls} are safe without SASL's protection; every other word is not.
    @param minSSF: the least strength where it is not safe.
    """
    if transport in ("unix", "tls"):
        return SecurityProperties(0, 0, True, externalSSF)
    return SecurityProperties(minSSF, SASL_MAX_SSF, False)


class SASLSession:
    """One exchange, at one end.

    @ivar mechanism: its name.
    @ivar blocking: the next C{step} may take long: a client takes it in a thread.
    @ivar complete: this end is satisfied.
    @ivar user: who the client has proved to be; known to the server when C{complete}.
    @ivar ssf: the strength of the negotiated protection.
    @ivar layer: what protects the connection from now on; C{None} if nothing does.
    """

    def __init__(self, mechanism: str) -> None:
        self.mechanism = mechanism
        self.blocking = False
        self.complete = False
        self.user: str | None = None
        self.ssf = 0
        self.layer: SecurityLayer | None = None

    def step(self, data: bytes | None) -> Any:
        """Take a step.

        @param data: what the other end has sent; C{None} if it sent nothing, or for the client's first step.
        @return: what is to be sent, C{None} for nothing; at a server it may be a C{Deferred}.
        @raise SASLError: the exchange failed.
        """
        raise NotImplementedError


def requireExtra(module: str, extra: str, what: str) -> Any:
    """Import a module that only some users need.

    @param extra: of this package, which has it installed.
    @param what: what it is needed for, to begin a sentence with.
    @raise ImportError: it is not there; the text says how to get it.
    """
    try:
        return import_module(module)
    except ImportError as e:
        raise ImportError(
            f"{what} needs the package {module!r}, which is not here ({e}): pip install 'virnet[{extra}]'"
        ) from e


def decodeText(data: bytes, what: str) -> str:
    """Read UTF-8.

    @raise SASLError: it is none.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise SASLError(f"{what} is no UTF-8") from e
