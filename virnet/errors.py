"""
Every exception virnet raises, and the texts of libvirt's error codes.

  - L{VirnetError} is the root: catch it to catch all of them.
  - L{RemoteError} is the one error that crosses the wire, in either direction: a client raises what a
    server sent, an implementation raises what a client shall see (``wire.md`` section 2).
  - L{LocalProtocolError} is our caller's fault and raised at the call; L{RemoteProtocolError} is the
    peer's fault and ends the connection.
  - L{ERROR_TEXTS} says how a code introduces its detail (C: ``virErrorMsg``).
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

# With "as" because a program that looks at the code of an error gets the error from here.
from virnet.errorcodes import ErrorDomain as ErrorDomain
from virnet.errorcodes import ErrorLevel as ErrorLevel
from virnet.errorcodes import ErrorNumber as ErrorNumber


class VirnetError(Exception):
    """Root of virnet's exceptions.

    @ivar mayHaveRun: the call that failed with this got no answer, and the server may have executed it all
        the same. C{False}: it did not leave whole, or it was answered (as a L{RemoteError} says).
    """

    mayHaveRun = False


class XDRError(VirnetError, ValueError):
    """A value that does not fit its type, or bytes that are not an encoding of it (RFC 4506).

    @ivar reason: what is wrong.
    @ivar path: where, like C{args.params[3].value}; empty at the root.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class IDLError(VirnetError, ValueError):
    """An error in a C{.x} text.

    @ivar filename: the file as it was named by the caller.
    @ivar line: from 1.
    @ivar column: from 1.
    @ivar reason: what was found and what was expected.
    """

    def __init__(self, reason: str, filename: str = "<idl>", line: int = 0, column: int = 0) -> None:
        super().__init__(reason, filename, line, column)
        self.reason = reason
        self.filename = filename
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}:{self.column}: {self.reason}"


class URIError(VirnetError, ValueError):
    """A connection URI that cannot be used; the text says which part and why."""


class ProtocolError(VirnetError):
    """A breach of the RPC protocol."""


class LocalProtocolError(ProtocolError):
    """Our own side asked for something the protocol does not allow; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; the connection cannot go on."""


class ConnectionLost(VirnetError):
    """The connection is gone; every call that was pending failed with this, once.

    C{mayHaveRun} says whether the server can have executed it: a call of which not the last byte left this
    process cannot have run, and may be made again.
    """


class KeepAliveTimeout(ConnectionLost):
    """The peer was silent for too long: the connection was given up."""


class NetworkValue(NamedTuple):
    """The C{net} member of an error: always absent from a living server, but decodable."""

    name: str
    uuid: bytes


class DomainValue(NamedTuple):
    """The C{dom} member of an error: always absent from a living server, but decodable."""

    name: str
    uuid: bytes
    id: int


class CallTimedOut(VirnetError):
    """A call was not answered in time; its answer is ignored when it comes after all."""


class RemoteError(VirnetError):
    """An error reply (C: C{virError}; on the wire C{virNetMessageError}).

    @ivar code: what happened, an L{ErrorNumber} where the number is known, else an C{int}.
    @ivar domain: the part of libvirt that reports, an L{ErrorDomain} where known, else an C{int}.
    @ivar message: the text for people.
    @ivar level: an L{ErrorLevel} where known.
    @ivar str1: the message template of the code; C{None} where there is none.
    @ivar str2: the detail alone.
    @ivar int1: errno for C{SYSTEM_ERROR}, else -1.
    """

    def __init__(
        self,
        code: int,
        message: str,
        domain: int = ErrorDomain.NONE,
        *,
        level: int = ErrorLevel.ERROR,
        str1: str | None = None,
        str2: str | None = None,
        str3: str | None = None,
        int1: int = -1,
        int2: int = -1,
        dom: DomainValue | None = None,
        net: NetworkValue | None = None,
    ) -> None:
        super().__init__(message)
        self.code = _known(ErrorNumber, code)
        self.domain = _known(ErrorDomain, domain)
        self.level = _known(ErrorLevel, level)
        self.message = message
        self.str1 = str1
        self.str2 = str2
        self.str3 = str3
        self.int1 = int1
        self.int2 = int2
        self.dom = dom
        self.net = net

    @classmethod
    def of(
        cls,
        code: int,
        detail: str | None = None,
        domain: int = ErrorDomain.NONE,
        *,
        str3: str | None = None,
        int1: int = -1,
        int2: int = -1,
    ) -> RemoteError:
        """Make an error as libvirt would report it (C: C{virReportError}).

        @param code: an L{ErrorNumber}.
        @param detail: what happened; C{None} leaves the code's bare text.
        @param domain: the reporting L{ErrorDomain}.
        """
        bare, template = ERROR_TEXTS.get(code, ("%s", "%s"))
        if detail is None:
            return cls(code, bare, domain, str1=bare, str3=str3, int1=int1, int2=int2)
        message = template.replace("%s", detail)
        return cls(code, message, domain, str1=template, str2=detail, str3=str3, int1=int1, int2=int2)

    @classmethod
    def ofSystem(cls, number: int, detail: str, domain: int = ErrorDomain.NONE) -> RemoteError:
        """Make the error of a failed system call (C: C{virReportSystemError}).

        @param number: the C{errno}.
        @param detail: what could not be done and why; the whole text.
        """
        return cls(ErrorNumber.SYSTEM_ERROR, detail, domain, str1="%s", str2=detail, int1=number)

    def __repr__(self) -> str:
        code = self.code.name if isinstance(self.code, ErrorNumber) else self.code
        domain = self.domain.name if isinstance(self.domain, ErrorDomain) else self.domain
        return f"<RemoteError {code} domain={domain}: {self.message}>"


_E = TypeVar("_E", ErrorNumber, ErrorDomain, ErrorLevel)


def _known(kind: type[_E], number: int) -> _E | int:
    """The enumeration member of a number, or the number itself when a newer peer knows more."""
    try:
        return kind(number)
    except ValueError:
        return number


ERROR_TEXTS: dict[int, tuple[str, str]] = {
    ErrorNumber.INTERNAL_ERROR: ("internal error", "internal error: %s"),
    ErrorNumber.NO_MEMORY: ("out of memory", "out of memory: %s"),
    ErrorNumber.NO_SUPPORT: (
        "this function is not supported by the connection driver",
        "this function is not supported by the connection driver: %s",
    ),
    ErrorNumber.NO_CONNECT: (
        "no connection driver available",
        "no connection driver available for %s",
    ),
    ErrorNumber.INVALID_ARG: ("invalid argument", "invalid argument: %s"),
    ErrorNumber.OPERATION_FAILED: ("operation failed", "operation failed: %s"),
    ErrorNumber.NO_SOURCE: (
        "missing source information for device",
        "missing source information for device %s",
    ),
    ErrorNumber.NO_TARGET: (
        "missing target information for device",
        "missing target information for device %s",
    ),
    ErrorNumber.NO_NAME: ("missing name information", "missing name information in %s"),
    ErrorNumber.XML_ERROR: ("XML description is invalid or not well formed", "XML error: %s"),
    ErrorNumber.OPERATION_DENIED: ("operation forbidden", "operation forbidden: %s"),
    ErrorNumber.RPC: ("Unknown RPC error", "%s"),
    ErrorNumber.NO_DOMAIN: ("Domain not found", "Domain not found: %s"),
    ErrorNumber.NO_NETWORK: ("Network not found", "Network not found: %s"),
    ErrorNumber.AUTH_FAILED: ("authentication failed", "authentication failed: %s"),
    ErrorNumber.NO_STORAGE_POOL: ("Storage pool not found", "Storage pool not found: %s"),
    ErrorNumber.NO_STORAGE_VOL: ("Storage volume not found", "Storage volume not found: %s"),
    ErrorNumber.OPERATION_INVALID: (
        "Requested operation is not valid",
        "Requested operation is not valid: %s",
    ),
    ErrorNumber.NO_INTERFACE: ("Interface not found", "Interface not found: %s"),
    ErrorNumber.MULTIPLE_INTERFACES: (
        "multiple matching interfaces found",
        "multiple matching interfaces found: %s",
    ),
    ErrorNumber.CONFIG_UNSUPPORTED: ("unsupported configuration", "unsupported configuration: %s"),
    ErrorNumber.NO_DOMAIN_SNAPSHOT: ("Domain snapshot not found", "Domain snapshot not found: %s"),
    ErrorNumber.ARGUMENT_UNSUPPORTED: ("argument unsupported", "argument unsupported: %s"),
    ErrorNumber.NO_DOMAIN_METADATA: ("metadata not found", "metadata not found: %s"),
    ErrorNumber.OVERFLOW: ("numerical overflow", "numerical overflow: %s"),
    ErrorNumber.OPERATION_UNSUPPORTED: ("Operation not supported", "Operation not supported: %s"),
    ErrorNumber.SNAPSHOT_REVERT_RISKY: ("revert requires force", "revert requires force: %s"),
    ErrorNumber.AUTH_CANCELLED: ("authentication cancelled", "authentication cancelled: %s"),
    ErrorNumber.ACCESS_DENIED: ("access denied", "access denied: %s"),
    ErrorNumber.DBUS_SERVICE: ("error from service", "error from service: %s"),
    ErrorNumber.AUTH_UNAVAILABLE: ("authentication unavailable", "authentication unavailable: %s"),
}
"""Code to (text without detail, template with detail) (C: C{virErrorMsg})."""
