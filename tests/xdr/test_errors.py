"""What does not fit is an L{XDRError} that says what and where; limits hold one above and not one below."""

from __future__ import annotations

import inspect
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.xdr.shapes import DOMAIN, LINK, PARAM, SET_PARAMS, TREE, Domain, GaveUp, fastDecode, links, nested
from virnet.errors import XDRError
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
from virnet.xdr.schema import MAX_DEPTH, MAX_EMPTY_ITEMS, MAX_LINKS

UUID = bytes(16)
EMPTY = Struct("empty", ())
PAIR = Struct("pair", (("a", INT), ("b", INT)))
CHOICE = Union("choice", INT, {1: ("number", INT), 2: ("nothing", VOID)})


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*args: Any) -> Any:
        raise error

    return fail


class Loud:
    """Raises whatever it is asked."""

    def __index__(self) -> int:
        raise ZeroDivisionError

    __float__ = __index__
    __hash__ = __index__


#: (type, value, error): what does not encode.
UNENCODABLE: list[tuple[Node, Any, str]] = [
    (INT, 2**31, "int must be between -2147483648 and 2147483647, not 2147483648"),
    (INT, -(2**31) - 1, "int must be between -2147483648 and 2147483647, not -2147483649"),
    (UINT, -1, "unsigned int must be between 0 and 4294967295, not -1"),
    (UINT, 2**32, "unsigned int must be between 0 and 4294967295, not 4294967296"),
    (HYPER, 2**63, f"hyper must be between {-(2**63)} and {2**63 - 1}, not {2**63}"),
    (UHYPER, 10**5000, f"unsigned hyper must be between 0 and {2**64 - 1}, not a number of 16610 bits"),
    (Enum("colour"), 2**31, "colour must be between -2147483648 and 2147483647, not 2147483648"),
    (CHAR, 128, "char must be between -128 and 127, not 128"),
    (UCHAR, -1, "unsigned char must be between 0 and 255, not -1"),
    (SHORT, -32769, "short must be between -32768 and 32767, not -32769"),
    (USHORT, 65536, "unsigned short must be between 0 and 65535, not 65536"),
    (INT, "1", "int expected, got str"),
    (INT, None, "int expected, got NoneType"),
    (INT, 1.0, "int expected, got float"),
    (SHORT, "1", "short expected, got str"),
    (INT, Loud(), "int expected, got Loud"),
    (DOUBLE, "1", "double expected, got str"),
    (DOUBLE, None, "double expected, got NoneType"),
    (DOUBLE, Loud(), "double expected, got Loud"),
    (DOUBLE, 10**400, "number too large for double"),
    (FLOAT, 1e300, "number too large for float"),
    (BOOL, 2, "bool expected, got int"),
    (BOOL, "yes", "bool expected, got str"),
    (BOOL, [], "bool expected, got list"),
    (BOOL, Loud(), "bool expected, got Loud"),
    (VOID, 0, "None expected, got int"),
    (String(), None, "str expected, got NoneType"),
    (String(), b"a", "str expected, got bytes"),
    (String(), "\ud800", "character 0xd800 has no encoding"),
    (String(3), "abcd", "string of 4 bytes exceeds 3"),
    (String(3), "éé", "string of 4 bytes exceeds 3"),
    (Opaque(), "a", "bytes expected, got str"),
    (Opaque(), 3, "bytes expected, got int"),
    (Opaque(1), b"ab", "opaque of 2 bytes exceeds 1"),
    (FixedOpaque(16), b"ab", "opaque of 2 bytes, must be 16"),
    (FixedOpaque(1), None, "bytes expected, got NoneType"),
    (Array(INT, 2), [1, 2, 3], "array of 3 items exceeds 2"),
    (Array(INT), [1, "2"], "[1]: int expected, got str"),
    (Array(INT), None, "list expected, got NoneType"),
    (Array(String()), "abc", "list expected, got str"),
    (Array(INT), b"abc", "list expected, got bytes"),
    (Array(INT), {1: 2}, "list expected, got dict"),
    (Array(INT), iter([1]), "list expected, got list_iterator"),
    (Array(CHAR), [1], "bytes expected, got list"),
    (Array(CHAR, 1), b"ab", "array of 2 items exceeds 1"),
    (FixedArray(INT, 2), [1], "array of 1 items, must be 2"),
    (FixedArray(UCHAR, 2), b"a", "array of 1 items, must be 2"),
    (FixedArray(PAIR, 2), [(1, 2), (3, None)], "[1].b: int expected, got NoneType"),
    (PAIR, (1,), "pair has 2 fields, got 1"),
    (PAIR, (1, 2, 3), "pair has 2 fields, got 3"),
    (PAIR, 5, "pair expected, got int"),
    (PAIR, b"ab", "pair expected, got bytes"),
    (Struct("names", (("a", String()), ("b", String()))), "ab", "names expected, got str"),
    (EMPTY, (1,), "empty has 0 fields, got 1"),
    (CHOICE, (3, None), "choice has no arm 3"),
    (CHOICE, ("1", None), "int expected, got str"),
    (CHOICE, (1,), "choice is a pair of discriminant and value, got 1 items"),
    (CHOICE, 1, "choice expected, got int"),
    (CHOICE, (1, None), "int expected, got NoneType"),
    (CHOICE, (2, 0), "None expected, got int"),
    (Union("none", INT, {}), (1, None), "none has no arm 1"),
    (Mapped(INT, str, int), "x", "invalid literal for int() with base 10: 'x'"),
    (Mapped(INT, str, failing(KeyError())), 1, "KeyError"),
    (Mapped(INT, str, failing(XDRError("odd"))), 1, "odd"),
    (
        Struct("s", (("m", Mapped(INT, str, failing(XDRError("odd", "deep[1]")))),)),
        (1,),
        "m.deep[1]: odd",
    ),
    (Struct("s", (("m", Mapped(INT, str, failing(XDRError("odd", "[1]")))),)), (1,), "m[1]: odd"),
    (LINK, ("a", ("b", ("too long a name", None))), "next.next.name: string of 15 bytes exceeds 8"),
    (LINK, ("a", 1), "next: link expected, got int"),
    (Array(Node()), [1], "[0]: "),
]

#: (type, bytes, error): what does not decode.
UNDECODABLE: list[tuple[Node, str, str]] = [
    (INT, "000000", "int needs 4 bytes, 3 left"),
    (HYPER, "00000000", "hyper needs 8 bytes, 4 left"),
    (DOUBLE, "", "double needs 8 bytes, 0 left"),
    (BOOL, "", "bool needs 4 bytes, 0 left"),
    (Enum("e"), "", "e needs 4 bytes, 0 left"),
    (String(3), "00000004 61626364", "string of 4 bytes exceeds 3"),
    (String(), "00000004 616263", "string of 4 bytes needs 4 bytes, 3 left"),
    (String(), "00000003 616263", "string of 3 bytes needs 4 bytes, 3 left"),
    (Opaque(3), "ffffffff", "opaque of 4294967295 bytes exceeds 3"),
    (Opaque(), "ffffffff", "opaque of 4294967295 bytes needs 4294967296 bytes, 0 left"),
    (FixedOpaque(5), "0000000000", "opaque needs 8 bytes, 5 left"),
    (Array(INT, 2), "00000003 00000001 00000002 00000003", "array of 3 items exceeds 2"),
    (Array(INT), "00000002 00000001", "array of 2 items needs 8 bytes, 4 left"),
    (Array(CHAR), "00000002 00000001", "array of 2 items needs 8 bytes, 4 left"),
    (Array(String()), "00000001 00000001", "[0]: string of 1 bytes needs 4 bytes, 0 left"),
    (FixedArray(INT, 2), "00000001", "array of 2 items needs 8 bytes, 4 left"),
    (Optional(INT), "", "optional needs 4 bytes, 0 left"),
    (Optional(INT), "00000001", "int needs 4 bytes, 0 left"),
    (CHOICE, "00000003", "choice has no arm 3"),
    (Union("none", INT, {}), "00000001", "none has no arm 1"),
    (Mapped(INT, failing(ValueError("odd")), int), "00000001", "odd"),
    (Struct("s", (("a", INT),), failing(ValueError("odd"))), "00000001", "odd"),
    (LINK, "00000001 61000000 00000001 00000009", "next.name: string of 9 bytes exceeds 8"),
    (LINK, "00000001 61000000", "next: optional needs 4 bytes, 0 left"),
]


class Refused(SynchronousTestCase):
    def refused(self, text: str, function: Callable[..., Any], *args: Any) -> None:
        error = self.assertRaises(XDRError, function, *args)
        if text.endswith(": "):
            self.assertSubstring(text, str(error))
        else:
            self.assertEqual(str(error), text)

    def test_values(self) -> None:
        for node, value, text in UNENCODABLE:
            self.refused(text, node.codec.encode, value)
            self.refused(text, reference.encode, node, value)

    def test_bytes(self) -> None:
        for node, data, text in UNDECODABLE:
            for given in (bytes.fromhex(data), memoryview(bytes.fromhex(data))):
                self.refused(text, node.codec.decode, given)
                self.refused(text, reference.decode, node, given)

    def test_reasonAndPath(self) -> None:
        params = [("a", (1, 1))] * 3 + [("b", (7, "x" * 5_000_000))]
        value = (Domain("d", UUID, 1), params, 0)
        error = self.assertRaises(XDRError, SET_PARAMS.codec.encode, value)
        self.assertEqual(error.reason, "string of 5000000 bytes exceeds 4194304")
        self.assertEqual(error.path, "params[3].value")
        self.assertEqual(str(error), "params[3].value: string of 5000000 bytes exceeds 4194304")

    def test_errorHasNoCauseToPrint(self) -> None:
        error = self.assertRaises(XDRError, DOMAIN.codec.encode, ("a", b"", 1))
        self.assertIsNone(error.__cause__)
        self.assertIsNone(error.__context__)

    def test_whatIsNoNode(self) -> None:
        self.refused(f"{(node := Node())!r} is no schema node", node.codec.encode, None)
        self.refused(f"{node!r} is no schema node", node.codec.decode, b"")

    def test_whatIsNotBytes(self) -> None:
        released = memoryview(b"\0\0\0\0")
        released.release()
        for given in ("text", None, 5, released, memoryview(bytes(16))[::2]):
            self.assertRaises(XDRError, INT.codec.decode, given)

    def test_viewOfWordsIsReadAsBytes(self) -> None:
        view = memoryview(bytes.fromhex("00000001 00000002")).cast("I")
        self.assertEqual(PAIR.codec.decode(view)[0], (1, 2))

    def test_releasedView(self) -> None:
        released = memoryview(b"abcd")
        released.release()
        self.assertRaises(XDRError, Opaque().codec.encode, released)

    def test_offsetOutside(self) -> None:
        self.refused("offset 5 is outside of 4 bytes", INT.codec.decode, bytes(4), 5)
        self.refused("offset -4 is outside of 4 bytes", INT.codec.decode, bytes(4), -4)
        self.refused("offset 1 is outside of 0 bytes", VOID.codec.decode, b"", 1)
        self.assertRaises(XDRError, INT.codec.decode, bytes(4), "0")

    def test_R011_everyCutOfRealArgs(self) -> None:
        value = (Domain("web", UUID, 1), [("weight", (2, 5)), ("device", (7, "sda"))], 0)
        data = SET_PARAMS.codec.encode(value)
        for size in range(len(data)):
            self.assertRaises(XDRError, SET_PARAMS.codec.decode, data[:size])


class Limits(SynchronousTestCase):
    def holds(self, node: Node, fits: Any, exceeds: Any) -> None:
        data = node.codec.encode(fits)
        self.assertEqual(node.codec.decode(data), (fits, len(data)))
        self.assertEqual(reference.encode(node, fits), data)
        self.assertRaises(XDRError, node.codec.encode, exceeds)
        self.assertRaises(XDRError, reference.encode, node, exceeds)

    def test_string(self) -> None:
        self.holds(String(4194304), "x" * 4194304, "x" * 4194305)
        self.assertRaises(XDRError, String(7).codec.decode, String().codec.encode("x" * 8))

    def test_opaque(self) -> None:
        self.holds(Opaque(7), b"x" * 7, b"x" * 8)
        self.assertRaises(XDRError, Opaque(7).codec.decode, Opaque().codec.encode(b"x" * 8))

    def test_R012_arraysFailBeforeTheyAllocate(self) -> None:
        for item, value in ((INT, 1), (DOMAIN, Domain("", UUID, 1)), (SHORT, 1), (PAIR, (1, 2))):
            self.holds(Array(item, 16), [value] * 16, [value] * 17)
            data = Array(item).codec.encode([value] * 17)
            self.assertRaises(XDRError, Array(item, 16).codec.decode, data)
        self.holds(Array(CHAR, 65536), b"x" * 65536, b"x" * 65537)
        self.assertRaises(XDRError, Array(CHAR, 16).codec.decode, Array(CHAR).codec.encode(b"x" * 17))

    def test_itemsThatTakeNoBytes(self) -> None:
        for item, value in ((EMPTY, ()), (VOID, None), (FixedArray(VOID, 1), [None])):
            self.holds(Array(item), [value] * MAX_EMPTY_ITEMS, [value] * (MAX_EMPTY_ITEMS + 1))
            data = (MAX_EMPTY_ITEMS + 1).to_bytes(4, "big")
            self.assertRaises(XDRError, Array(item).codec.decode, data)

    def test_hostileCountAllocatesNothing(self) -> None:
        data = b"\xff" * 64
        for item in (INT, SHORT, CHAR, DOMAIN, PAIR, EMPTY, PARAM, String(), Array(VOID), Ref(lambda: TREE)):
            for node in (Array(item), Array(item, 2**32 - 1), String(), Opaque(), FixedArray(item, 2**24)):
                if isinstance(node, FixedArray) and not node.leastItem:
                    continue
                self.assertRaises(XDRError, node.codec.decode, data)
                tracemalloc.start()
                try:
                    self.assertRaises(XDRError, node.codec.decode, data)
                    self.assertRaises(XDRError, reference.decode, node, data)
                    _, peak = tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()
                self.assertLess(peak, 20_000, repr(node))


class Recursion(SynchronousTestCase):
    def test_linkedListsAreLong(self) -> None:
        value = links(MAX_LINKS)
        data = LINK.codec.encode(value)
        self.assertEqual(reference.encode(LINK, value), data)
        for decoded in (LINK.codec.decode(data)[0], reference.decode(LINK, data)[0]):
            count = 0
            while decoded[1] is not None:
                count, decoded = count + 1, decoded[1]
            self.assertEqual(count, MAX_LINKS)

    def test_linkedListsAreNotLonger(self) -> None:
        # Too long to compare or to print, so only its reason is looked at.
        for encode in (LINK.codec.encode, lambda value: reference.encode(LINK, value)):
            error = self.assertRaises(XDRError, encode, links(MAX_LINKS + 1))
            self.assertEqual(error.reason, f"more than {MAX_LINKS} links")
            self.assertLess(len(error.path), 300)
        data = bytes.fromhex("00000000 00000001") * (MAX_LINKS + 1) + bytes(8)
        for decode in (LINK.codec.decode, lambda data: reference.decode(LINK, data)):
            error = self.assertRaises(XDRError, decode, data)
            self.assertEqual(error.reason, f"more than {MAX_LINKS} links")

    def test_linkedListMadeOfRecords(self) -> None:
        node: Struct = Struct(
            "item",
            (("value", INT), ("next", Optional(Ref(lambda: node)))),
            lambda value, after: [value, after],
        )
        data = bytes.fromhex("00000001 00000001 00000002 00000000")
        self.assertEqual(node.codec.decode(data)[0], [1, [2, None]])
        self.assertEqual(node.codec.encode([1, [2, None]]), data)

    def test_linkedListByAnOptionalThatIsNamed(self) -> None:
        """C{typedef entry *entries; struct entry { int value; entries next; }}."""
        entries = Optional(Ref(lambda: entry))
        entry: Struct = Struct("entry", (("value", INT), ("next", Ref(lambda: entries))))
        self.assertTrue(entry.chain)
        value: Any = None
        for number in range(2000):
            value = (number, value)
        self.assertEqual(len(entries.codec.encode(value)), 4 + 2000 * 8)

    def test_listThatIsItsOwnNext(self) -> None:
        endless: list[Any] = ["x"]
        endless.append(endless)
        self.assertRaises(XDRError, LINK.codec.encode, endless)

    def test_treeThatIsItsOwnBranch(self) -> None:
        endless: list[Any] = [1, []]
        endless[1].append(endless)
        error = self.assertRaises(XDRError, TREE.codec.encode, endless)
        self.assertEqual(error.reason, f"nested deeper than {MAX_DEPTH}")
        self.assertLess(len(error.path), 300)

    def test_depth(self) -> None:
        deep, deeper = nested(MAX_DEPTH), nested(MAX_DEPTH + 1)
        data = TREE.codec.encode(deep)
        self.assertEqual(TREE.codec.decode(data), (deep, len(data)))
        self.assertEqual(reference.decode(TREE, data), (deep, len(data)))
        self.assertRaises(XDRError, TREE.codec.encode, deeper)
        level = bytes.fromhex("00000001 00000001")
        for decode in (TREE.codec.decode, lambda data: reference.decode(TREE, data)):
            error = self.assertRaises(XDRError, decode, level * 1_000_000)
            self.assertEqual(error.reason, f"nested deeper than {MAX_DEPTH}")
        self.assertRaises(GaveUp, fastDecode(TREE), level * (MAX_DEPTH + 1) + bytes(8))
        self.assertEqual(fastDecode(TREE)(level * MAX_DEPTH + bytes(8))[0], nested(MAX_DEPTH))

    def test_typeWithoutEnd(self) -> None:
        node: Struct = Struct("endless", (("value", INT), ("inner", Ref(lambda: node))))
        self.assertRaises(XDRError, node.codec.decode, bytes(100_000))
        self.assertRaises(XDRError, Array(node).codec.decode, b"\xff" * 100)

    def test_deepTypesAreCutIntoFunctions(self) -> None:
        node: Node = INT
        value: Any = 7
        for _ in range(60):
            node, value = Array(Optional(Struct("s", (("a", node),)))), [(value,)]
        data = node.codec.encode(value)
        self.assertEqual(data, reference.encode(node, value))
        self.assertEqual(node.codec.decode(data), (value, len(data)))

    def test_wideTypesDoNotMultiply(self) -> None:
        node: Node = Optional(INT)
        for _ in range(9):
            node = Struct("s", tuple((f"f{number}", node) for number in range(9)))
        self.assertLess(len(node.codec.encode.source), 1_000_000)  # type: ignore[attr-defined]

    def test_stackThatIsNearlyFull(self) -> None:
        value, encode, outcomes = nested(80), TREE.codec.encode, set()
        used = len(inspect.stack(0))
        self.addCleanup(sys.setrecursionlimit, sys.getrecursionlimit())
        for room in range(50, 400, 10):
            sys.setrecursionlimit(used + room)
            try:
                outcomes.add(type(encode(value)).__name__)
            except XDRError as error:
                outcomes.add(error.reason)
        self.assertEqual(outcomes, {"bytes", "nested too deep for what is left of the stack"})

    def test_memoryThatIsFull(self) -> None:
        node = Mapped(INT, failing(MemoryError()), int)
        error = self.assertRaises(XDRError, node.codec.decode, bytes(4))
        self.assertEqual(error.reason, "out of memory")
