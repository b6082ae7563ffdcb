"""Complete messages as real libvirt 9.0.0 sent and received them, with what they mean.

Each was recorded between C{virsh} or the Python binding and C{libvirtd}. The types of the payloads are spelt
out here rather than taken from the program tables, so that a table and a vector cannot be wrong together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from virnet.wire.message import ERROR_PAYLOAD
from virnet.xdr import CHAR, HYPER, INT, UINT, Array, FixedOpaque, Node, Opaque, Optional, String, Struct

REMOTE = 0x20008086
KEEPALIVE = 0x6B656570

_STRING = String(4194304)
_DOMAIN = Struct("domain", (("name", _STRING), ("uuid", FixedOpaque(16)), ("id", INT)))
_SASL_DATA = Array(CHAR, 65536)

TEST_UUID = bytes.fromhex("6695eb01f6a4830479aa97f2502e193f")
TEST_DOMAIN = ("test", TEST_UUID, 1)


class RawBytes(Opaque):
    """Not XDR: the payload is these bytes, as stream data is."""


RAW = RawBytes(None)


class Vector(NamedTuple):
    """One message.

    @ivar header: program, version, procedure, type, serial, status.
    @ivar payload: the type of the payload, C{None} for none.
    @ivar value: what the payload means.
    """

    name: str
    hex: str
    header: tuple[int, int, int, int, int, int]
    payload: Node | None = None
    value: Any = None

    @property
    def data(self) -> bytes:
        """The whole message."""
        return bytes.fromhex(self.hex)


def _struct(*fields: tuple[str, Node]) -> Struct:
    return Struct("payload", fields)


VECTORS = (
    Vector(
        "AUTH_LIST call",
        "0000001c 20008086 00000001 00000042 00000000 00000000 00000000",
        (REMOTE, 1, 66, 0, 0, 0),
    ),
    Vector(
        "AUTH_LIST reply: one type, none",
        "00000024 20008086 00000001 00000042 00000001 00000000 00000000  00000001 00000000",
        (REMOTE, 1, 66, 1, 0, 0),
        _struct(("types", Array(INT, 20))),
        ([0],),
    ),
    Vector(
        "SUPPORTS_FEATURE call: keepalive",
        "00000020 20008086 00000001 0000003c 00000000 00000001 00000000  0000000a",
        (REMOTE, 1, 60, 0, 1, 0),
        _struct(("feature", INT)),
        (10,),
    ),
    Vector(
        "SUPPORTS_FEATURE reply: yes",
        "00000020 20008086 00000001 0000003c 00000001 00000001 00000000  00000001",
        (REMOTE, 1, 60, 1, 1, 0),
        _struct(("supported", INT)),
        (1,),
    ),
    Vector(
        "CONNECT_OPEN call",
        "00000038 20008086 00000001 00000001 00000000 00000002 00000000"
        "00000001 0000000f 74657374 3a2f2f2f 64656661 756c7400 00000000",
        (REMOTE, 1, 1, 0, 2, 0),
        _struct(("name", Optional(_STRING)), ("flags", UINT)),
        ("test:///default", 0),
    ),
    Vector(
        "CONNECT_OPEN reply",
        "0000001c 20008086 00000001 00000001 00000001 00000002 00000000",
        (REMOTE, 1, 1, 1, 2, 0),
    ),
    Vector(
        "LIST_ALL_DOMAINS call",
        "00000024 20008086 00000001 00000111 00000000 00000006 00000000  00000001 00000003",
        (REMOTE, 1, 273, 0, 6, 0),
        _struct(("need_results", INT), ("flags", UINT)),
        (1, 3),
    ),
    Vector(
        "LIST_ALL_DOMAINS reply: one domain",
        "00000040 20008086 00000001 00000111 00000001 00000006 00000000"
        "00000001 00000004 74657374 6695eb01 f6a48304 79aa97f2 502e193f 00000001 00000001",
        (REMOTE, 1, 273, 1, 6, 0),
        _struct(("domains", Array(_DOMAIN, 16384)), ("ret", UINT)),
        ([TEST_DOMAIN], 1),
    ),
    Vector(
        "LOOKUP_BY_NAME call",
        "00000028 20008086 00000001 00000017 00000000 00000006 00000000  00000006 6e6f7375 63680000",
        (REMOTE, 1, 23, 0, 6, 0),
        _struct(("name", _STRING)),
        ("nosuch",),
    ),
    Vector(
        "LOOKUP_BY_NAME reply: no such domain",
        "00000070 20008086 00000001 00000017 00000001 00000006 00000001"
        "0000002a 0000000c 00000001 00000010 446f6d61 696e206e 6f742066 6f756e64"
        "00000002 00000000 00000001 00000010 446f6d61 696e206e 6f742066 6f756e64"
        "00000000 00000000 ffffffff ffffffff 00000000",
        (REMOTE, 1, 23, 1, 6, 1),
        ERROR_PAYLOAD,
        (42, 12, "Domain not found", 2, None, "Domain not found", None, None, -1, -1, None),
    ),
    Vector(
        "keepalive PING",
        "0000001c 6b656570 00000001 00000001 00000002 00000000 00000000",
        (KEEPALIVE, 1, 1, 2, 0, 0),
    ),
    Vector(
        "keepalive PONG",
        "0000001c 6b656570 00000001 00000002 00000002 00000000 00000000",
        (KEEPALIVE, 1, 2, 2, 0, 0),
    ),
    Vector(
        "lifecycle event: callback 0, test is suspended",
        "00000044 20008086 00000001 0000013e 00000002 00000001 00000000"
        "00000000 00000004 74657374 6695eb01 f6a48304 79aa97f2 502e193f 00000001 00000003 00000000",
        (REMOTE, 1, 318, 2, 1, 0),
        _struct(("callbackID", INT), ("dom", _DOMAIN), ("event", INT), ("detail", INT)),
        (0, TEST_DOMAIN, 3, 0),
    ),
    Vector(
        "console: the client types",
        "0000001f 20008086 00000001 000000c9 00000003 00000008 00000002  61620d",
        (REMOTE, 1, 201, 3, 8, 2),
        RAW,
        b"ab\r",
    ),
    Vector(
        "console: the client finishes, and the server confirms with the same bytes",
        "0000001c 20008086 00000001 000000c9 00000003 00000008 00000000",
        (REMOTE, 1, 201, 3, 8, 0),
    ),
    Vector(
        "download: the server is at the end",
        "0000001c 20008086 00000001 000000d1 00000003 0000000a 00000002",
        (REMOTE, 1, 209, 3, 10, 2),
        RAW,
        b"",
    ),
    Vector(
        "download: the client aborts",
        "0000001c 20008086 00000001 000000d1 00000003 0000000a 00000001",
        (REMOTE, 1, 209, 3, 10, 1),
    ),
    Vector(
        "upload: a hole of 1 MiB",
        "00000028 20008086 00000001 000000d0 00000006 0000000a 00000002  00000000 00100000 00000000",
        (REMOTE, 1, 208, 6, 10, 2),
        _struct(("length", HYPER), ("flags", UINT)),
        (1 << 20, 0),
    ),
    Vector(
        "upload: the server fails with ENOSPC",
        "000000b8 20008086 00000001 000000d0 00000003 00000003 00000001"
        "00000026 00000026 00000001 0000002f 63616e6e 6f742077 72697465"
        "20746f20 73747265 616d3a20 4e6f2073 70616365 206c6566 74206f6e 20646576 69636500"
        "00000002 00000000 00000001 00000002 25730000"
        "00000001 0000002f 63616e6e 6f742077 72697465"
        "20746f20 73747265 616d3a20 4e6f2073 70616365 206c6566 74206f6e 20646576 69636500"
        "00000000 0000001c ffffffff 00000000",
        (REMOTE, 1, 208, 3, 3, 1),
        ERROR_PAYLOAD,
        (
            38,
            38,
            "cannot write to stream: No space left on device",
            2,
            None,
            "%s",
            "cannot write to stream: No space left on device",
            None,
            28,
            -1,
            None,
        ),
    ),
    Vector(
        "SASL START PLAIN: each byte of the data in a word of its own",
        "00000054 20008086 00000001 00000044 00000000 00000002 00000000  00000005 504c4149 4e000000"
        "00000000 00000009 00000000 00000066 00000072 00000065 00000064 00000000 00000070 00000077 00000031",
        (REMOTE, 1, 68, 0, 2, 0),
        _struct(("mech", _STRING), ("nil", INT), ("data", _SASL_DATA)),
        ("PLAIN", 0, b"\0fred\0pw1"),
    ),
    Vector(
        "SASL START reply: complete, no data",
        "00000028 20008086 00000001 00000044 00000001 00000002 00000000  00000001 00000001 00000000",
        (REMOTE, 1, 68, 1, 2, 0),
        _struct(("complete", INT), ("nil", INT), ("data", _SASL_DATA)),
        (1, 1, b""),
    ),
    Vector(
        "SASL START DIGEST-MD5: no initial response",
        "00000034 20008086 00000001 00000044 00000000 00000002 00000000"
        "0000000a 44494745 53542d4d 44350000 00000001 00000000",
        (REMOTE, 1, 68, 0, 2, 0),
        _struct(("mech", _STRING), ("nil", INT), ("data", _SASL_DATA)),
        ("DIGEST-MD5", 1, b""),
    ),
    Vector(
        "CREATE_XML_WITH_FILES call announcing two descriptors",
        "0000002c 20008086 00000001 00000135 00000004 00000007 0000000000000002  00000004 3c782f3e 00000000",
        (REMOTE, 1, 309, 4, 7, 0),
        _struct(("descriptors", UINT), ("xml_desc", _STRING), ("flags", UINT)),
        (2, "<x/>", 0),
    ),
)
