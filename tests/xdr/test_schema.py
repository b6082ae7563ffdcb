"""Nodes: what they refuse to be, what they know of themselves, and that they compile once and only then."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.xdr.shapes import DOMAIN, LINK, PARAM, TREE
from virnet import xdr
from virnet.xdr import (
    BOOL,
    CHAR,
    DOUBLE,
    FLOAT,
    HYPER,
    INT,
    UCHAR,
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
)
from virnet.xdr.schema import MAX_COUNT, leastSize


class Nodes(SynchronousTestCase):
    def test_codecIsMadeOnce(self) -> None:
        node = Array(INT)
        self.assertIs(node.codec, node.codec)
        self.assertIs(node.codec.encode, node.codec.encode)
        self.assertIs(node.codec.decode, node.codec.decode)

    def test_referenceIsFollowedOnFirstUseOnly(self) -> None:
        followed: list[str] = []

        def later() -> Node:
            followed.append("yes")
            return INT

        node = Struct("s", (("a", Ref(later)),))
        self.assertEqual(followed, [])
        node.codec.encode((1,))
        node.codec.decode(bytes(4))
        self.assertEqual(followed, ["yes"])

    def test_nodesDoNotChange(self) -> None:
        for node, name in ((String(3), "max"), (DOMAIN, "fields"), (INT, "name")):
            self.assertRaises(dataclasses.FrozenInstanceError, setattr, node, name, None)
        arms: dict[int, Any] = {1: ("a", INT)}
        union = Union("u", INT, arms)
        arms.clear()
        self.assertEqual(dict(union.arms), {1: ("a", INT)})
        members = {"A": 1}
        enum = Enum("e", members)
        members.clear()
        self.assertEqual(dict(enum.members), {"A": 1})

    def test_refusals(self) -> None:
        arrays = (partial(Array, INT), partial(FixedArray, INT))
        for make in (String, Opaque, FixedOpaque, *arrays):
            for size in (-1, MAX_COUNT + 1):
                self.assertRaises(ValueError, make, size)
        self.assertRaises(ValueError, Struct, "s", (("a", INT), ("a", INT)))
        self.assertRaises(ValueError, Union, "u", DOUBLE, {})

    def test_leastSize(self) -> None:
        for node, size in (
            (INT, 4),
            (HYPER, 8),
            (FLOAT, 4),
            (DOUBLE, 8),
            (BOOL, 4),
            (VOID, 0),
            (Enum("e"), 4),
            (String(), 4),
            (Opaque(9), 4),
            (FixedOpaque(5), 8),
            (Array(DOUBLE), 4),
            (FixedArray(DOUBLE, 3), 24),
            (Optional(DOUBLE), 4),
            (DOMAIN, 24),
            (PARAM, 12),
            (Union("u", INT, {}), 4),
            (Union("u", INT, {1: ("a", DOUBLE)}, ("b", VOID)), 4),
            (Mapped(DOUBLE, str, float), 8),
            (LINK, 8),
            (TREE, 8),
            (Ref(lambda: TREE), 8),
        ):
            self.assertEqual((node, leastSize(node)), (node, size))

    def test_arraysOfCharsAreKnown(self) -> None:
        self.assertIs(Array(CHAR).chars, CHAR)
        self.assertIs(FixedArray(UCHAR, 1).chars, UCHAR)
        self.assertIs(Array(Ref(lambda: CHAR)).chars, CHAR)
        self.assertIsNone(Array(INT).chars)
        self.assertIsNone(Array(Optional(CHAR)).chars)

    def test_linkedListsAreKnown(self) -> None:
        self.assertTrue(LINK.chain)
        self.assertFalse(TREE.chain)
        self.assertFalse(DOMAIN.chain)
        self.assertFalse(Struct("empty", ()).chain)
        self.assertFalse(Struct("other", (("link", Optional(LINK)),)).chain)

    def test_everyPublicNameIsThere(self) -> None:
        for name in xdr.__all__:
            self.assertTrue(hasattr(xdr, name), name)


class GeneratedSource(SynchronousTestCase):
    """What makes compiled code fast stays so."""

    def test_fixedFieldsAreFusedAcrossStructs(self) -> None:
        node = Struct("args", (("dom", DOMAIN), ("flags", INT), ("size", HYPER), ("name", String())))
        source = node.codec.decode.source  # type: ignore[attr-defined]
        self.assertEqual(source.count("= unpack_from_"), 2)
        self.assertIn("unpack_from_16siiqI(", source)
        source = node.codec.encode.source  # type: ignore[attr-defined]
        self.assertIn("pack_16siiqI(", source)
        self.assertNotIn("out", source)

    def test_namesOfTheSchemaAreNotInTheSource(self) -> None:
        evil = "x'); raise SystemExit #"
        node = Struct(evil, ((evil, Enum(evil, {evil: 1})), ("u", Union(evil, INT, {1: (evil, VOID)}))))
        data = node.codec.encode((1, (1, None)))
        self.assertEqual(node.codec.decode(data)[0], (1, (1, None)))
        self.assertNotIn("SystemExit", node.codec.encode.source + node.codec.decode.source)  # type: ignore[attr-defined]
