"""Encodings byte by byte: RFC 4506's own example, every kind of type, payloads of real libvirt messages."""

from __future__ import annotations

import math
import struct
from collections import namedtuple
from enum import IntEnum
from typing import Any

import xdrlib3
from twisted.trial.unittest import SynchronousTestCase

from tests.xdr.shapes import DOMAIN, ERROR, PARAM, TEXT, Domain
from virnet.xdr import (
    BOOL,
    CHAR,
    DOUBLE,
    FLOAT,
    HYPER,
    INT,
    SHORT,
    UCHAR,
    UHYPER,
    UINT,
    USHORT,
    VOID,
    Array,
    Enum,
    FixedArray,
    FixedOpaque,
    Mapped,
    Node,
    Opaque,
    Optional,
    Ref,
    String,
    Struct,
    Union,
    reference,
)

UUID = bytes.fromhex("6695eb01f6a4830479aa97f2502e193f")

PAIR = Struct("pair", (("a", INT), ("b", SHORT)))
EMPTY = Struct("empty", ())

#: (type, value, encoding): holds in both directions.
BOTH_WAYS: list[tuple[Node, Any, str]] = [
    (INT, -1, "ffffffff"),
    (INT, 2**31 - 1, "7fffffff"),
    (INT, -(2**31), "80000000"),
    (UINT, 2**32 - 1, "ffffffff"),
    (HYPER, -2, "fffffffffffffffe"),
    (HYPER, -(2**63), "8000000000000000"),
    (UHYPER, 2**64 - 1, "ffffffffffffffff"),
    (FLOAT, 1.5, "3fc00000"),
    (DOUBLE, -2.0, "c000000000000000"),
    (DOUBLE, math.inf, "7ff0000000000000"),
    (BOOL, True, "00000001"),
    (BOOL, False, "00000000"),
    (VOID, None, ""),
    (Enum("colour", {"RED": 2}), 2, "00000002"),
    (Enum("colour", {"RED": 2}), -7, "fffffff9"),
    # rpcgen's narrow types: a word each, sign- or zero-extended.
    (CHAR, -61, "ffffffc3"),
    (CHAR, 127, "0000007f"),
    (UCHAR, 195, "000000c3"),
    (SHORT, -2, "fffffffe"),
    (USHORT, 65534, "0000fffe"),
    (String(), "", "00000000"),
    (String(9), "abcd", "00000004 61626364"),
    (String(9), "abcde", "00000005 61626364 65000000"),
    (String(9), "é", "00000002 c3a90000"),
    (String(9), "\udcff\0", "00000002 ff000000"),
    (Opaque(), b"\xff", "00000001 ff000000"),
    (FixedOpaque(3), b"abc", "61626300"),
    (FixedOpaque(0), b"", ""),
    (Array(INT), [], "00000000"),
    (Array(INT, 3), [1, -1], "00000002 00000001 ffffffff"),
    (Array(UHYPER, 3), [1], "00000001 0000000000000001"),
    (Array(SHORT), [-2, 2], "00000002 fffffffe 00000002"),
    (Array(BOOL), [True, False], "00000002 00000001 00000000"),
    (Array(String(5)), ["a", ""], "00000002 00000001 61000000 00000000"),
    (Array(PAIR), [(1, -2), (3, 4)], "00000002 00000001 fffffffe 00000003 00000004"),
    (Array(EMPTY), [(), ()], "00000002"),
    (Array(FixedOpaque(0)), [b"", b""], "00000002"),
    (FixedArray(INT, 2), [1, 2], "00000001 00000002"),
    (FixedArray(String(), 2), ["a", "b"], "00000001 61000000 00000001 62000000"),
    (FixedArray(VOID, 2), [None, None], ""),
    # Arrays of char: each byte in a word of its own.
    (Array(CHAR, 9), b"a\xc3", "00000002 00000061 ffffffc3"),
    (Array(UCHAR, 9), b"a\xc3", "00000002 00000061 000000c3"),
    (FixedArray(CHAR, 2), b"a\x80", "00000061 ffffff80"),
    (Array(Ref(lambda: CHAR)), b"a", "00000001 00000061"),
    (Optional(INT), None, "00000000"),
    (Optional(INT), 7, "00000001 00000007"),
    (Optional(String()), "", "00000001 00000000"),
    (Optional(VOID), None, "00000000"),
    (EMPTY, (), ""),
    (Struct("one", (("only", HYPER),)), (5,), "0000000000000005"),
    (DOMAIN, Domain("test", UUID, 1), f"00000004 74657374 {UUID.hex()} 00000001"),
    (Union("u", INT, {1: ("a", INT), 2: ("b", VOID)}), (1, 5), "00000001 00000005"),
    (Union("u", INT, {1: ("a", INT), 2: ("b", VOID)}), (2, None), "00000002"),
    (Union("u", UINT, {1: ("a", INT)}, ("other", VOID)), (9, None), "00000009"),
    (Union("u", UINT, {}, ("other", INT)), (9, 8), "00000009 00000008"),
    (Union("u", UINT, {}, ("other", VOID)), (9, None), "00000009"),
    (Union("u", BOOL, {0: ("no", VOID), 1: ("yes", INT)}), (True, 3), "00000001 00000003"),
    (Union("u", BOOL, {0: ("no", VOID), 1: ("yes", INT)}), (False, None), "00000000"),
    (Union("u", Ref(lambda: INT), {1: ("a", VOID)}), (1, None), "00000001"),
    (Mapped(INT, str, int), "12", "0000000c"),
    (Array(Mapped(INT, str, int)), ["1", "2"], "00000002 00000001 00000002"),
]

FILE_TYPE = Union(
    "filetype",
    Enum("filekind"),
    {0: ("text", VOID), 1: ("creator", String(255)), 2: ("interpreter", String(255))},
)
FILE = Struct(
    "file", (("filename", String(255)), ("type", FILE_TYPE), ("owner", String(32)), ("data", Opaque(65535)))
)

SASL_START = Struct("args", (("mech", TEXT), ("nil", INT), ("data", Array(CHAR, 65536))))
LIST_DOMAINS = Struct("ret", (("domains", Array(DOMAIN, 16384)), ("ret", UINT)))
LIFECYCLE = Struct("msg", (("callbackID", INT), ("dom", DOMAIN), ("event", INT), ("detail", INT)))
NOT_FOUND = "Domain not found"
NO_SPACE = "cannot write to stream: No space left on device"

#: The same for payloads that were seen on the wire between libvirt 9.0's own client and server.
LIBVIRT: list[tuple[Node, Any, str]] = [
    (Struct("ret", (("types", Array(INT, 20)),)), ([0],), "00000001 00000000"),
    (Struct("args", (("feature", INT),)), (10,), "0000000a"),
    (
        Struct("args", (("name", Optional(TEXT)), ("flags", UINT))),
        ("test:///default", 0),
        "00000001 0000000f 74657374 3a2f2f2f 64656661 756c7400 00000000",
    ),
    (
        LIST_DOMAINS,
        ([Domain("test", UUID, 1)], 1),
        "00000001 00000004 74657374 6695eb01 f6a48304 79aa97f2 502e193f 00000001 00000001",
    ),
    (Struct("args", (("name", TEXT),)), ("nosuch",), "00000006 6e6f7375 63680000"),
    (
        ERROR,
        (42, 12, NOT_FOUND, 2, None, NOT_FOUND, None, None, -1, -1, None),
        "0000002a 0000000c 00000001 00000010 446f6d61 696e206e 6f742066 6f756e64 00000002 00000000"
        "00000001 00000010 446f6d61 696e206e 6f742066 6f756e64 00000000 00000000 ffffffff ffffffff 00000000",
    ),
    (
        ERROR,
        (38, 38, NO_SPACE, 2, None, "%s", NO_SPACE, None, 28, -1, None),
        "00000026 00000026 00000001 0000002f 63616e6e 6f742077 72697465 20746f20 73747265 616d3a20 4e6f2073"
        "70616365 206c6566 74206f6e 20646576 69636500 00000002 00000000 00000001 00000002 25730000"
        "00000001 0000002f 63616e6e 6f742077 72697465 20746f20 73747265 616d3a20 4e6f2073 70616365 206c6566"
        "74206f6e 20646576 69636500 00000000 0000001c ffffffff 00000000",
    ),
    (
        LIFECYCLE,
        (0, Domain("test", UUID, 1), 3, 0),
        "00000000 00000004 74657374 6695eb01 f6a48304 79aa97f2 502e193f 00000001 00000003 00000000",
    ),
    (Struct("hole", (("length", HYPER), ("flags", UINT))), (1 << 20, 0), "00000000 00100000 00000000"),
    (
        SASL_START,
        ("PLAIN", 0, b"\0fred\0pw1"),
        "00000005 504c4149 4e000000 00000000 00000009 00000000 00000066 00000072 00000065 00000064 00000000"
        "00000070 00000077 00000031",
    ),
    (SASL_START, ("DIGEST-MD5", 1, b""), "0000000a 44494745 53542d4d 44350000 00000001 00000000"),
    (
        Struct("ret", (("params", Array(PARAM, 16)), ("nparams", INT))),
        ([("weight", (2, 0)), ("device_weight", (7, ""))], 0),
        "00000002 00000006 77656967 68740000 00000002 00000000 0000000d 64657669 63655f77 65696768 74000000"
        "00000007 00000000 00000000",
    ),
]

#: (type, encoding, value): what decoders let pass although no encoder writes it.
LIBERAL: list[tuple[Node, str, Any]] = [
    (BOOL, "00000002", True),
    (Optional(INT), "00000002 00000007", 7),
    (Optional(INT), "ffffffff 00000007", 7),
    # Padding must be there but need not be zero.
    (String(), "00000001 61ffffff", "a"),
    (Opaque(), "00000003 616263ff", b"abc"),
    (FixedOpaque(1), "61ffffff", b"a"),
    # Of a narrow type's word only the low bits count.
    (CHAR, "000000c3", -61),
    (CHAR, "12345680", -128),
    (UCHAR, "ffffffc3", 195),
    (SHORT, "0000fffe", -2),
    (USHORT, "fffffffe", 65534),
    (Array(CHAR, 4), "00000002 000000c3 123456c3", b"\xc3\xc3"),
    (Array(SHORT, 4), "00000001 00018000", [-32768]),
]


class Point(namedtuple("Point", "x y")):
    """A record with a constructor of its own."""

    def __new__(cls, x: int, y: int = 9) -> Point:
        return super().__new__(cls, x, y + 1)


class Pressed(IntEnum):
    YES = 1


class Vectors(SynchronousTestCase):
    def bothWays(self, vectors: list[tuple[Node, Any, str]]) -> None:
        for node, value, text in vectors:
            data = bytes.fromhex(text)
            for encode in (node.codec.encode, lambda value, node=node: reference.encode(node, value)):
                self.assertEqual((node, encode(value).hex(" ", 4)), (node, data.hex(" ", 4)))
            self.oneWay(node, data, value)

    def oneWay(self, node: Node, data: bytes, value: Any) -> None:
        for given in (data, bytearray(data), memoryview(data)):
            self.assertEqual((node, node.codec.decode(given)), (node, (value, len(data))))
            self.assertEqual((node, reference.decode(node, given)), (node, (value, len(data))))

    def test_everyKindOfType(self) -> None:
        self.bothWays(BOTH_WAYS)

    def test_exampleOfTheRFC(self) -> None:
        """RFC 4506 section 7."""
        self.bothWays(
            [
                (
                    FILE,
                    ("sillyprog", (2, "lisp"), "john", b"(quit)"),
                    "00000009 73696c6c 7970726f 67000000 00000002 00000004 6c697370 00000004 6a6f686e"
                    "00000006 28717569 74290000",
                )
            ]
        )

    def test_R023_payloadsOfRealMessages(self) -> None:
        self.bothWays(LIBVIRT)

    def test_whatDecodersLetPass(self) -> None:
        for node, text, value in LIBERAL:
            self.oneWay(node, bytes.fromhex(text), value)

    def test_R010_trailingBytesAreIgnored(self) -> None:
        self.assertEqual(INT.codec.decode(b"\0\0\0\1garbage"), (1, 4))
        self.assertEqual(String().codec.decode(b"\0\0\0\1a\0\0\0garbage"), ("a", 8))

    def test_decodeFromAnOffset(self) -> None:
        self.assertEqual(INT.codec.decode(b"head\0\0\0\1", 4), (1, 8))
        self.assertEqual(INT.codec.decode(b"head\0\0\0\1", offset=4), (1, 8))

    def test_everyByteSurvivesInAString(self) -> None:
        data = bytes(range(256))
        value, _ = String().codec.decode(struct.pack(">I", 256) + data)
        self.assertEqual(String().codec.encode(value), struct.pack(">I", 256) + data)

    def test_nan(self) -> None:
        for node in (FLOAT, DOUBLE):
            value, _ = node.codec.decode(node.codec.encode(math.nan))
            self.assertTrue(math.isnan(value))

    def test_againstAnotherImplementation(self) -> None:
        packer = xdrlib3.Packer()
        packer.pack_string(b"web1")
        packer.pack_fopaque(16, UUID)
        packer.pack_int(-1)
        packer.pack_list([1, 2], packer.pack_int)
        packer.pack_array([1.5], packer.pack_double)
        packer.pack_uhyper(2**40)
        # xdrlib's "list" is a linked one.
        link = Struct("link", (("value", INT), ("next", Optional(Ref(lambda: link)))))
        shape = Struct(
            "s", (("dom", DOMAIN), ("list", Optional(link)), ("array", Array(DOUBLE)), ("big", UHYPER))
        )
        value = (Domain("web1", UUID, -1), (1, (2, None)), [1.5], 2**40)
        self.assertEqual(shape.codec.encode(value), packer.get_buffer())
        self.assertEqual(shape.codec.decode(packer.get_buffer())[0], value)


class Values(SynchronousTestCase):
    """What Python values may be beside the obvious."""

    def test_structDecodesToItsFactorysProduct(self) -> None:
        value, _ = DOMAIN.codec.decode(DOMAIN.codec.encode(("a", UUID, 3)))
        self.assertIs(type(value), Domain)
        self.assertEqual(value.uuid, UUID)

    def test_factoryWithItsOwnConstructorIsCalled(self) -> None:
        node = Struct("point", (("x", INT), ("y", INT)), Point)
        self.assertEqual(node.codec.decode(bytes(8))[0], (0, 1))
        self.assertEqual(reference.decode(node, bytes(8))[0], (0, 1))

    def test_anyFunctionIsAFactory(self) -> None:
        node = Struct("point", (("x", INT), ("y", INT)), lambda x, y: {"x": x, "y": y})
        self.assertEqual(node.codec.decode(bytes(8))[0], {"x": 0, "y": 0})

    def test_structsAndArraysTakeAnySequence(self) -> None:
        for value in ((1, 2), [1, 2], range(1, 3)):
            for node in (PAIR, Array(INT), FixedArray(INT, 2)):
                self.assertEqual(node.codec.encode(value), reference.encode(node, value))
        union = Union("u", INT, {1: ("a", INT)})
        self.assertEqual(union.codec.encode([1, 2]).hex(), "0000000100000002")

    def test_opaquesTakeAnyBytes(self) -> None:
        for value in (b"abcd", bytearray(b"abcd"), memoryview(b"abcd")):
            for node in (Opaque(), FixedOpaque(4), Array(CHAR), FixedArray(UCHAR, 4)):
                self.assertEqual(node.codec.encode(value), reference.encode(node, value))

    def test_opaquesDecodeToBytes(self) -> None:
        for node in (Opaque(), FixedOpaque(4), Array(CHAR), FixedArray(UCHAR, 4)):
            data = node.codec.encode(b"abcd")
            for given in (data, bytearray(data), memoryview(data)):
                self.assertIs(type(node.codec.decode(given)[0]), bytes)

    def test_numbersTakeTheirKin(self) -> None:
        self.assertEqual(INT.codec.encode(True), bytes.fromhex("00000001"))
        self.assertEqual(INT.codec.encode(Pressed.YES), bytes.fromhex("00000001"))
        self.assertEqual(Enum("e").codec.encode(Pressed.YES), bytes.fromhex("00000001"))
        self.assertEqual(BOOL.codec.encode(1), bytes.fromhex("00000001"))
        self.assertEqual(DOUBLE.codec.encode(1), bytes.fromhex("3ff0000000000000"))

    def test_enumsDecodeToPlainIntegers(self) -> None:
        value, _ = Enum("e", {"YES": 1}).codec.decode(bytes.fromhex("00000001"))
        self.assertIs(type(value), int)
