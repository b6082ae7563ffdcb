"""What a message is: its header, its kinds, its error and hole payloads.

Every message is a length word that counts itself, a header of six words and a payload::

    u32 length | u32 program | u32 version | s32 procedure | s32 type | u32 serial | s32 status | payload

  - A reply repeats program, version, procedure and serial of its call.
  - An event carries serial 1, as libvirtd sends it; a keepalive message carries serial 0; nobody reads
    either.
  - Stream data is raw: not padded to four bytes.
  - A payload that would make the message larger than L{limits.MESSAGE_MAX} is refused before it is sent.

The error payload is C{virNetMessageError}; L{decodeError} applies the rules by which libvirt's clients
rewrite what older and other servers send (``wire.md`` section 2).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from virnet.errorcodes import ErrorDomain, ErrorLevel, ErrorNumber
from virnet.errors import DomainValue, LocalProtocolError, NetworkValue, RemoteError
from virnet.limits import LENGTH_SIZE, MESSAGE_MAX, MESSAGE_MIN, STRING_MAX
from virnet.xdr import schema


class MessageType(IntEnum):
    """C: C{virNetMessageType}."""

    CALL = 0
    REPLY = 1
    MESSAGE = 2
    STREAM = 3
    CALL_WITH_FDS = 4
    REPLY_WITH_FDS = 5
    STREAM_HOLE = 6


class MessageStatus(IntEnum):
    """C: C{virNetMessageStatus}."""

    OK = 0
    ERROR = 1
    CONTINUE = 2


CALL, REPLY, MESSAGE, STREAM, CALL_WITH_FDS, REPLY_WITH_FDS, STREAM_HOLE = (int(each) for each in MessageType)
OK, ERROR, CONTINUE = (int(each) for each in MessageStatus)

EVENT_SERIAL = 1
"""What libvirtd puts into the serial of its events."""


class MessageHeader(NamedTuple):
    """The length word and the header of one message (C: C{virNetMessageHeader}).

    @ivar length: bytes of the whole message, this word included.
    """

    length: int
    program: int
    version: int
    procedure: int
    type: int
    serial: int
    status: int

    def traced(self) -> tuple[int, ...]:
        """The words in the order in which libvirt's trace points give them."""
        return (*self[:5], self.status, self.serial)


_LAYOUT = struct.Struct(">IIIiiIi")
_pack = _LAYOUT.pack
unpackHeader = _LAYOUT.unpack_from
"""The fields of the header of a whole message, in their order."""

_new = tuple.__new__


def decodeHeader(data: bytes) -> MessageHeader:
    """Read the header of a whole message of at least L{limits.MESSAGE_MIN} bytes."""
    return _new(MessageHeader, unpackHeader(data))


def encodeMessage(
    program: int,
    version: int,
    procedure: int,
    type: int,
    serial: int,
    status: int,
    payload: bytes | memoryview = b"",
) -> bytes:
    """Make a whole message.

    @param payload: the encoded arguments, result, error or stream data.
    @raise LocalProtocolError: the payload is larger than a message may carry; or a call, which expects a
        reply, is to have the status of stream data or of an error.
    """
    if status and (type == CALL or type == CALL_WITH_FDS):
        raise LocalProtocolError(f"a call expects a reply and cannot have the status {status}")
    length = MESSAGE_MIN + len(payload)
    if length > MESSAGE_MAX + LENGTH_SIZE:
        raise LocalProtocolError(
            f"message of {length - LENGTH_SIZE} bytes is too long to send, the maximum is {MESSAGE_MAX}"
        )
    return _pack(length, program, version, procedure, type, serial, status) + payload


_STRING = schema.String(STRING_MAX)
_OPTIONAL_STRING = schema.Optional(_STRING)
_UUID = schema.FixedOpaque(16)

ERROR_PAYLOAD = schema.Struct(
    "virNetMessageError",
    (
        ("code", schema.INT),
        ("domain", schema.INT),
        ("message", _OPTIONAL_STRING),
        ("level", schema.INT),
        (
            "dom",
            schema.Optional(
                schema.Struct(
                    "virNetMessageNonnullDomain",
                    (("name", _STRING), ("uuid", _UUID), ("id", schema.INT)),
                    DomainValue,
                )
            ),
        ),
        ("str1", _OPTIONAL_STRING),
        ("str2", _OPTIONAL_STRING),
        ("str3", _OPTIONAL_STRING),
        ("int1", schema.INT),
        ("int2", schema.INT),
        (
            "net",
            schema.Optional(
                schema.Struct(
                    "virNetMessageNonnullNetwork", (("name", _STRING), ("uuid", _UUID)), NetworkValue
                )
            ),
        ),
    ),
)
"""C: C{virNetMessageError}."""

_ELLIPSIS = "…"


def _bounded(text: str | None) -> str | None:
    """Mend a text that cannot be encoded, cut one that no peer would take: an error must arrive (R013)."""
    if text is None:
        return None
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        encoded = text.encode("utf-8", "backslashreplace")
        text = encoded.decode()
    if len(encoded) <= STRING_MAX:
        return text
    return encoded[: STRING_MAX - len(_ELLIPSIS.encode())].decode("utf-8", "ignore") + _ELLIPSIS


def encodeError(error: RemoteError) -> bytes:
    """Encode an error payload; texts beyond the string limit are cut, never refused."""
    return ERROR_PAYLOAD.codec.encode(
        (
            error.code,
            error.domain,
            _bounded(error.message),
            error.level,
            error.dom,
            _bounded(error.str1),
            _bounded(error.str2),
            _bounded(error.str3),
            error.int1,
            error.int2,
            error.net,
        )
    )


# Servers of one age numbered their new codes differently: (code, domain test, what it is today).
_RENUMBERED: dict[int, tuple[int | None, int]] = {64: (10, 68), 65: (1, 69)}


def decodeError(data: bytes, offset: int = MESSAGE_MIN) -> RemoteError:
    """Decode an error payload as libvirt's client does.

      - C{unknown procedure} of the RPC layer becomes C{NO_SUPPORT}: the caller asked an old server.
      - The renumbered codes of one generation of servers get today's numbers.
      - A missing text and a zero code get libvirt's texts for them.

    @raise XDRError: it is not an error payload.
    """
    fields, _ = ERROR_PAYLOAD.codec.decode(data, offset)
    code, domain, message, level, dom, str1, str2, str3, int1, int2, net = fields
    if message is None:
        message = "Unknown error"
    if code == ErrorNumber.OK:
        code, message = ErrorNumber.INTERNAL_ERROR, "An error occurred, but the cause is unknown"
    elif code == ErrorNumber.RPC:
        if (
            domain in (ErrorDomain.RPC, ErrorDomain.REMOTE)
            and level == ErrorLevel.ERROR
            and message.startswith("unknown procedure")
        ):
            code = ErrorNumber.NO_SUPPORT
    elif 61 <= code <= 63:
        if domain != ErrorDomain.NWFILTER:
            code += 4
    elif code in _RENUMBERED:
        seen, today = _RENUMBERED[code]
        if domain == seen:
            code = today
    return RemoteError(
        code,
        message,
        domain,
        level=level,
        str1=str1,
        str2=str2,
        str3=str3,
        int1=int1,
        int2=int2,
        dom=dom,
        net=net,
    )


def rpcError(text: str) -> RemoteError:
    """An error of the RPC layer itself: code 39, domain 7."""
    return RemoteError.of(ErrorNumber.RPC, text, ErrorDomain.RPC)


DESCRIPTOR_COUNT = struct.Struct(">I")
"""The word between the header and the payload of a message with file descriptors."""
