"""Values as JSON: what each type looks like, that nothing is lost, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.xdr.shapes import DOMAIN, PARAM, PARAM_VALUE, TREE, Domain, samples
from virnet.cli.jsonvalues import fromJSON, parseJSON, toJSON
from virnet.errors import XDRError
from virnet.programs.typedparams import (
    Boolean,
    Double,
    Int,
    LLong,
    String,
    TypedParams,
    UInt,
    ULLong,
    typedParams,
)
from virnet.xdr import (
    BOOL,
    CHAR,
    DOUBLE,
    FLOAT,
    HYPER,
    INT,
    UHYPER,
    VOID,
    Array,
    Enum,
    FixedArray,
    FixedOpaque,
    Mapped,
    Node,
    Opaque,
    Optional,
    Struct,
    Union,
)
from virnet.xdr import String as XDRString

TEXT = XDRString()
UUID = bytes.fromhex("6695eb01f6a4830479aa97f2502e193f")
UUID_TEXT = "6695eb01-f6a4-8304-79aa-97f2502e193f"
COLOUR = Enum("colour", {"RED": 0, "BLUE": 2})
PARAMS = typedParams(PARAM, 16)

#: What means something in an object.
KEYS = ["a", "b", "case", "value", "base64", "name", "next", "type"]


def through(node: Node, value: Any) -> Any:
    """What becomes of a value on its way through JSON text."""
    return fromJSON(node, parseJSON(json.dumps(toJSON(node, value))))


class Pairs(SynchronousTestCase):
    """
    A value and its JSON, in both directions.
    """

    def check(self, node: Node, value: Any, data: Any) -> None:
        self.assertEqual(data, toJSON(node, value))
        self.assertEqual(value, fromJSON(node, data))
        self.assertEqual(value, through(node, value))

    def test_numbers(self) -> None:
        self.check(INT, -5, -5)
        self.check(UHYPER, 2**64 - 1, 2**64 - 1)
        self.check(HYPER, -(2**63), -(2**63))
        self.check(DOUBLE, 0.1, 0.1)
        self.check(FLOAT, -math.inf, "-Infinity")
        self.check(DOUBLE, math.inf, "Infinity")
        self.assertEqual("NaN", toJSON(DOUBLE, math.nan))
        self.assertTrue(math.isnan(fromJSON(DOUBLE, "NaN")))

    def test_a_whole_number_is_a_float_too(self) -> None:
        self.assertEqual(3.0, fromJSON(DOUBLE, 3))

    def test_booleans(self) -> None:
        self.check(BOOL, True, True)
        self.check(BOOL, False, False)

    def test_enums_are_numbers_and_may_be_named(self) -> None:
        self.check(COLOUR, 2, 2)
        self.check(COLOUR, 77, 77)
        self.assertEqual(2, fromJSON(COLOUR, "BLUE"))

    def test_strings_keep_any_bytes(self) -> None:
        self.check(TEXT, "grün", "grün")
        self.check(TEXT, "\0\n", "\0\n")
        self.check(TEXT, "a\udcff", "a\udcff")

    def test_uuids(self) -> None:
        self.check(FixedOpaque(16), UUID, UUID_TEXT)
        self.assertEqual(UUID, fromJSON(FixedOpaque(16), UUID.hex()))

    def test_other_bytes(self) -> None:
        self.check(Opaque(9), b"\0\xff", {"base64": "AP8="})
        self.check(FixedOpaque(4), b"abcd", {"base64": "YWJjZA=="})
        self.check(Array(CHAR, 4), b"ab", {"base64": "YWI="})
        self.check(FixedArray(CHAR, 2), b"ab", {"base64": "YWI="})

    def test_arrays_and_optionals(self) -> None:
        self.check(Array(INT), [1, 2], [1, 2])
        self.check(FixedArray(TEXT, 1), ["x"], ["x"])
        self.check(Optional(INT), None, None)
        self.check(Optional(INT), 0, 0)
        self.check(VOID, None, None)

    def test_structures(self) -> None:
        domain = Domain("test", UUID, 1)
        self.check(DOMAIN, domain, {"name": "test", "uuid": UUID_TEXT, "id": 1})
        self.assertIsInstance(through(DOMAIN, domain), Domain)

    def test_recursive_types(self) -> None:
        self.check(TREE, (1, [(2, [])]), {"value": 1, "branches": [{"value": 2, "branches": []}]})

    def test_an_optional_field_may_be_left_out(self) -> None:
        node = Struct("s", (("a", INT), ("b", Optional(INT))))
        self.assertEqual((1, None), fromJSON(node, {"a": 1}))

    def test_unions(self) -> None:
        self.check(PARAM_VALUE, (4, 5), {"case": 4, "value": 5})
        self.check(PARAM_VALUE, (7, "x"), {"case": 7, "value": "x"})
        node = Union("u", COLOUR, {0: ("none", VOID)}, ("other", TEXT))
        self.check(node, (0, None), {"case": 0, "value": None})
        self.check(node, (9, "x"), {"case": 9, "value": "x"})
        self.assertEqual((0, None), fromJSON(node, {"case": "RED"}))

    def test_types_with_values_of_their_own_are_what_they_stand_for(self) -> None:
        node = Mapped(INT, lambda number: f"<{number}>", lambda text: int(text[1:-1]))
        self.check(node, "<5>", 5)


class TypedParameters(SynchronousTestCase):
    """
    They are an object as long as no name is repeated.
    """

    every = TypedParams(
        {
            "i": Int(-1),
            "u": UInt(1),
            "l": LLong(-(2**40)),
            "ul": ULLong(2**63),
            "d": Double(math.inf),
            "b": Boolean(True),
            "s": String("x\udc80"),
        }
    )

    def test_as_an_object(self) -> None:
        self.assertEqual(
            {
                "i": {"type": "int", "value": -1},
                "u": {"type": "uint", "value": 1},
                "l": {"type": "llong", "value": -(2**40)},
                "ul": {"type": "ullong", "value": 2**63},
                "d": {"type": "double", "value": "Infinity"},
                "b": {"type": "boolean", "value": True},
                "s": {"type": "string", "value": "x\udc80"},
            },
            toJSON(PARAMS, self.every),
        )
        self.assertEqual(self.every, through(PARAMS, self.every))

    def test_as_an_array_where_a_name_is_repeated(self) -> None:
        params = TypedParams([("disk", "vda"), ("x", Int(1)), ("disk", "vdb")])
        self.assertEqual(
            [
                {"name": "disk", "type": "string", "value": "vda"},
                {"name": "x", "type": "int", "value": 1},
                {"name": "disk", "type": "string", "value": "vdb"},
            ],
            toJSON(PARAMS, params),
        )
        self.assertEqual(params, through(PARAMS, params))

    def test_plain_values_get_the_type_that_fits(self) -> None:
        self.assertEqual(
            TypedParams(
                {"a": Int(5), "b": String("x"), "c": Boolean(True), "d": Double(0.5), "e": LLong(2**40)}
            ),
            fromJSON(PARAMS, {"a": 5, "b": "x", "c": True, "d": 0.5, "e": 2**40}),
        )

    def test_none(self) -> None:
        self.assertEqual({}, toJSON(PARAMS, TypedParams()))
        self.assertEqual(TypedParams(), fromJSON(PARAMS, {}))
        self.assertEqual(TypedParams(), fromJSON(PARAMS, []))


class NothingIsLost(SynchronousTestCase):
    """
    Any value of any type survives, and so does its encoding.
    """

    @given(samples())
    @settings(
        deadline=None,
        max_examples=150,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def test_round_trip(self, sample: tuple[Node, Any]) -> None:
        node, value = sample
        text = json.dumps(toJSON(node, value), allow_nan=False)
        back = fromJSON(node, parseJSON(text))
        self.assertEqual(value, back)
        self.assertEqual(node.codec.encode(value), node.codec.encode(back))

    @given(
        samples(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(KEYS), inner | st.sampled_from(["int", "boolean", "double"])
                )
            ),
            max_leaves=8,
        ),
    )
    @settings(deadline=None, max_examples=150, database=None, suppress_health_check=list(HealthCheck))
    def test_any_JSON_gives_a_value_or_XDRError(self, sample: tuple[Node, Any], data: Any) -> None:
        for node in (sample[0], PARAMS):
            try:
                fromJSON(node, data)
            except XDRError:
                pass


class Refusals(SynchronousTestCase):
    """
    What does not fit is an error that says where and why.
    """

    def refused(self, node: Node, data: Any, why: str) -> None:
        error = self.assertRaises(XDRError, fromJSON, node, data, "args")
        self.assertEqual(why, str(error))

    def test_wrong_kinds(self) -> None:
        self.refused(INT, "5", 'args: expected a whole number, not "5"')
        self.refused(INT, True, "args: expected a whole number, not true")
        self.refused(INT, 1.0, "args: expected a whole number, not 1.0")
        self.refused(DOUBLE, "1", 'args: expected a number, not "1"')
        self.refused(DOUBLE, 10**400, "args: the number is too large")
        self.refused(BOOL, 1, "args: expected true or false, not 1")
        self.refused(TEXT, None, "args: expected a string, not null")
        self.refused(Array(INT), {}, "args: expected an array, not {}")
        self.refused(VOID, 0, "args: expected null, not 0")
        self.refused(DOMAIN, [1], "args: expected an object with name, uuid, id, not [1]")
        self.refused(COLOUR, "GREEN", "args: 'GREEN' is not one of RED, BLUE")

    def test_long_values_are_cut(self) -> None:
        self.refused(INT, "x" * 99, f'args: expected a whole number, not "{"x" * 36}...')

    def test_paths(self) -> None:
        self.refused(Array(INT), [1, "x"], 'args[1]: expected a whole number, not "x"')
        self.refused(DOMAIN, {"name": "x", "uuid": "y", "id": 1}, 'args.uuid: expected a UUID, not "y"')
        error = self.assertRaises(XDRError, fromJSON, DOMAIN, {"name": 1, "uuid": UUID_TEXT, "id": 1})
        self.assertEqual("name: expected a string, not 1", str(error))

    def test_fields(self) -> None:
        self.refused(DOMAIN, {"name": "x", "uuid": UUID_TEXT}, "args.id: is missing")
        self.refused(
            DOMAIN,
            {"name": "x", "uuid": UUID_TEXT, "id": 1, "size": 3},
            "args: there is no 'size' here, only name, uuid, id",
        )

    def test_bytes(self) -> None:
        self.refused(Opaque(), "YQ==", 'args: expected {"base64": "…"}, not "YQ=="')
        self.refused(Opaque(), {"base64": 1}, 'args: expected {"base64": "…"}, not {"base64": 1}')
        self.refused(Opaque(), {"base64": "?"}, "args: not base64: Only base64 data is allowed")

    def test_unions(self) -> None:
        self.refused(PARAM_VALUE, {"case": 9, "value": 1}, "args.case: 9 is not one of 1, 2, 3, 4, 5, 6, 7")
        self.refused(PARAM_VALUE, {"value": 1}, 'args: expected {"case": …, "value": …}, not {"value": 1}')
        self.refused(PARAM_VALUE, {"case": 1, "value": "x"}, 'args.value: expected a whole number, not "x"')

    def test_typed_parameters(self) -> None:
        self.refused(PARAMS, 5, "args: expected an object or an array of typed parameters, not 5")
        self.refused(
            PARAMS, {"x": None}, "args.x: expected a value or an object with type and value, not null"
        )
        self.refused(PARAMS, {"x": {"type": "uint", "value": -1}}, "args.x: parameter 'x': -1 is no UINT")
        self.refused(
            PARAMS,
            {"x": {"type": "u8", "value": 1}},
            'args.x: expected {"type": one of int, uint, llong, ullong, double, boolean, string, '
            '"value": …}, not {"type": "u8", "value": 1}',
        )
        self.refused(
            PARAMS, [{"value": 1}], 'args[0]: expected {"name": …, "type": …, "value": …}, not {"value": 1}'
        )

    def test_a_value_that_its_type_refuses(self) -> None:
        def load(number: int) -> int:
            raise ValueError(f"{number} is unlucky")

        self.refused(Mapped(INT, load, int), 13, "args: 13 is unlucky")

    def notJSON(self, text: str, why: str) -> None:
        error = self.assertRaises(XDRError, parseJSON, text, "dom")
        self.assertEqual(f"dom: {why}", str(error))

    def test_not_JSON(self) -> None:
        self.notJSON(
            "{", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
        )
        self.notJSON("", "not JSON: Expecting value: line 1 column 1 (char 0)")
        self.notJSON("NaN", 'not JSON: NaN is no JSON; write "NaN"')
        self.notJSON('{"a": 1, "a": 2}', "not JSON: the name 'a' is there twice")
        self.notJSON("[" * 100000, "is nested too deeply")
