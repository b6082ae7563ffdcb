"""Typed parameters: order, repetition and types survive, and the rules of wire.md section 14."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import XDRError
from virnet.programs import ADMIN, REMOTE
from virnet.programs._tables.remote import TYPED_PARAM
from virnet.programs.typedparams import (
    Boolean,
    Double,
    Int,
    LLong,
    String,
    TypedParam,
    TypedParams,
    TypedParamType,
    UInt,
    ULLong,
    typedParams,
)

LIST = typedParams(TYPED_PARAM, 8)

# (typed value, its bytes behind the name "f")
WIRE: list[tuple[Any, str]] = [
    (Int(-1), "00000001 ffffffff"),
    (UInt(2**32 - 1), "00000002 ffffffff"),
    (LLong(-2), "00000003 fffffffffffffffe"),
    (ULLong(2**64 - 1), "00000004 ffffffffffffffff"),
    (Double(0.5), "00000005 3fe0000000000000"),
    (Boolean(True), "00000006 00000001"),
    (String("é"), "00000007 00000002 c3a90000"),
]


class WireTests(SynchronousTestCase):
    """The union of seven types."""

    def test_everyType(self) -> None:
        for typed, data in WIRE:
            params = TypedParams({"f": typed})
            encoded = bytes.fromhex("00000001 00000001 66000000" + data)
            self.assertEqual(LIST.codec.encode(params), encoded)
            decoded, end = LIST.codec.decode(encoded)
            self.assertEqual((decoded, end), (params, len(encoded)))
            self.assertEqual(decoded.entries, (TypedParam("f", typed.type, typed.value),))

    def test_orderAndRepetitionSurvive(self) -> None:
        params = TypedParams([("b", UInt(1)), ("a", "x"), ("b", LLong(2)), ("", False)])
        decoded, _ = LIST.codec.decode(LIST.codec.encode(params))
        self.assertEqual(decoded.entries, params.entries)

    def test_anyTruthIsTrue(self) -> None:
        decoded, _ = LIST.codec.decode(bytes.fromhex("00000001 00000001 66000000 00000006 00000007"))
        self.assertIs(decoded["f"], True)

    def test_unknownType(self) -> None:
        for type in ("00000000", "00000008", "ffffffff"):
            data = bytes.fromhex(f"00000001 00000001 66000000 {type} 00000007")
            self.assertRaises(XDRError, LIST.codec.decode, data)

    def test_unknownTypeNamesThePath(self) -> None:
        data = REMOTE.byName["connectSetIdentity"].encodeArgs((TypedParams({"f": 1}), 0))
        broken = data[:12] + b"\0\0\0\x09" + data[16:]
        error = self.assertRaises(XDRError, REMOTE.byName["connectSetIdentity"].decodeArgs, broken)
        self.assertTrue(error.path.startswith("args.params[0].value"), error.path)

    def test_tooMany(self) -> None:
        LIST.codec.encode(TypedParams((str(n), n) for n in range(8)))
        self.assertRaises(XDRError, LIST.codec.encode, TypedParams((str(n), n) for n in range(9)))

    def test_longNamesAreDecodedButNotEncoded(self) -> None:
        """A server has to name the parameter in its error, so the decoder lets it through."""
        good, bad = "n" * 79, "n" * 80
        LIST.codec.encode(TypedParams({good: 1}))
        element = "00000001 00000050" + bad.encode().hex() + "00000001 00000005"
        decoded, _ = LIST.codec.decode(bytes.fromhex(element))
        self.assertEqual(decoded.oversized(), bad)
        self.assertRaises(XDRError, LIST.codec.encode, decoded)

    def test_plainMappingsAreTakenToo(self) -> None:
        self.assertEqual(LIST.codec.encode({"f": Int(-1)}), LIST.codec.encode(TypedParams({"f": Int(-1)})))
        self.assertRaises(XDRError, LIST.codec.encode, {"f": object()})

    def test_adminHasThemAsWell(self) -> None:
        """The same union under another name."""
        procedure = ADMIN.byName["admServerGetClientLimits"]
        params = TypedParams({"nclients_max": UInt(5000)})
        self.assertEqual(procedure.decodeRet(procedure.encodeRet(params)), params)


class MappingTests(SynchronousTestCase):
    """They read like a dict."""

    def setUp(self) -> None:
        self.params = TypedParams([("disk", "vda"), ("weight", UInt(5)), ("disk", "vdb")])

    def test_reading(self) -> None:
        params = self.params
        self.assertEqual(params["weight"], 5)
        self.assertEqual(params["disk"], "vda")
        self.assertEqual(params.getAll("disk"), ["vda", "vdb"])
        self.assertEqual(params.getAll("cap"), [])
        self.assertEqual(params.get("cap", 7), 7)
        self.assertIn("disk", params)
        self.assertNotIn("cap", params)
        self.assertRaises(KeyError, params.__getitem__, "cap")
        self.assertIs(params.typeOf("weight"), TypedParamType.UINT)
        self.assertRaises(KeyError, params.typeOf, "cap")

    def test_repeatedNamesCount(self) -> None:
        self.assertEqual(len(self.params), 3)
        self.assertEqual(list(self.params), ["disk", "weight", "disk"])
        self.assertEqual(list(self.params.keys()), ["disk", "weight", "disk"])
        self.assertEqual(self.params.values(), ["vda", 5, "vdb"])
        self.assertEqual(self.params.items(), [("disk", "vda"), ("weight", 5), ("disk", "vdb")])

    def test_equality(self) -> None:
        self.assertEqual(self.params, TypedParams(self.params))
        self.assertNotEqual(TypedParams({"weight": UInt(5)}), TypedParams({"weight": Int(5)}))
        self.assertNotEqual(TypedParams(), {})
        self.assertRaises(TypeError, hash, self.params)

    def test_aCopyIsItsOwn(self) -> None:
        copied = TypedParams(self.params)
        copied.add("weight", 6)
        self.assertEqual((len(self.params), len(copied)), (3, 4))

    def test_repr(self) -> None:
        params = TypedParams([("a", UInt(5)), ("b", "x")])
        self.assertEqual(repr(params), "TypedParams([('a', UINT 5), ('b', STRING 'x')])")

    def test_first(self) -> None:
        self.assertEqual(self.params.first(2), TypedParams([("disk", "vda"), ("weight", UInt(5))]))

    def test_R155_stringsAreFilteredAndTheCountIsRight(self) -> None:
        self.assertEqual(self.params.withoutStrings(), TypedParams([("weight", UInt(5))]))
        self.assertEqual(len(self.params.withoutStrings()), 1)
        self.assertEqual(len(self.params), 3)


class TypeTests(SynchronousTestCase):
    """Which type a value has."""

    def test_plainValues(self) -> None:
        for value, type in (
            ("x", TypedParamType.STRING), (True, TypedParamType.BOOLEAN), (0.5, TypedParamType.DOUBLE),
            (5, TypedParamType.INT), (-(2**31), TypedParamType.INT), (2**31, TypedParamType.LLONG),
            (-(2**63), TypedParamType.LLONG), (2**63, TypedParamType.ULLONG),
        ):  # fmt: skip
            self.assertIs(TypedParams({"f": value}).typeOf("f"), type, value)

    def test_valuesThatNoTypeHolds(self) -> None:
        values: list[Any] = [2**64, -(2**63) - 1, None, b"x", [1]]
        for value in values:
            error = self.assertRaises(ValueError, TypedParams, {"f": value})
            self.assertEqual(str(error), f"parameter 'f': no type of libvirt's holds {value!r}")

    def test_valuesThatDoNotFitTheirType(self) -> None:
        wrong: list[Any] = [
            Int(2**31), UInt(-1), LLong(2**63), ULLong(-1),
            UInt(0.5), Boolean(2), String(5), Double("x"), Int("5"),  # type: ignore[arg-type]
        ]  # fmt: skip
        for typed in wrong:
            error = self.assertRaises(ValueError, TypedParams, {"f": typed})
            self.assertEqual(str(error), f"parameter 'f': {typed.value!r} is no {typed.type.name}")

    def test_numbersBecomeWhatTheyAreSaidToBe(self) -> None:
        params = TypedParams({"d": Double(2), "b": Boolean(1)})  # type: ignore[arg-type]
        self.assertIsInstance(params["d"], float)
        self.assertIs(params["b"], True)

    def test_names(self) -> None:
        """79 bytes, not characters."""
        TypedParams({"n" * 79: 1, "é" * 39: 1})
        for name in ("n" * 80, "é" * 40):
            error = self.assertRaises(ValueError, TypedParams, {name: 1})
            self.assertEqual(str(error), f"parameter name {name!r} is longer than 79 bytes")
        self.assertIs(TypedParams({"n" * 79: 1}).oversized(), None)
