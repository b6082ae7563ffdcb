"""Types that several tests of this directory use: libvirt's usual ones, and Hypothesis strategies of any."""

from __future__ import annotations

import string
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

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
)
from virnet.xdr.decoder import Decoder
from virnet.xdr.encoder import Encoder
from virnet.xdr.schema import Bool, Integer, Real, Void


class Domain(NamedTuple):
    name: str
    uuid: bytes
    id: int


TEXT = String(4194304)
UUID = FixedOpaque(16)
DOMAIN = Struct("remote_nonnull_domain", (("name", TEXT), ("uuid", UUID), ("id", INT)), Domain)
NETWORK = Struct("remote_nonnull_network", (("name", TEXT), ("uuid", UUID)))
ERROR = Struct(
    "remote_error",
    (
        ("code", INT),
        ("domain", INT),
        ("message", Optional(TEXT)),
        ("level", INT),
        ("dom", Optional(DOMAIN)),
        ("str1", Optional(TEXT)),
        ("str2", Optional(TEXT)),
        ("str3", Optional(TEXT)),
        ("int1", INT),
        ("int2", INT),
        ("net", Optional(NETWORK)),
    ),
)
PARAM_VALUE = Union(
    "remote_typed_param_value",
    INT,
    {
        1: ("i", INT),
        2: ("ui", UINT),
        3: ("l", HYPER),
        4: ("ul", UHYPER),
        5: ("d", DOUBLE),
        6: ("b", INT),
        7: ("s", TEXT),
    },
)
PARAM = Struct("remote_typed_param", (("field", TEXT), ("value", PARAM_VALUE)))
SET_PARAMS = Struct("args", (("dom", DOMAIN), ("params", Array(PARAM, 16)), ("flags", UINT)))

LINK: Struct = Struct("link", (("name", String(8)), ("next", Optional(Ref(lambda: LINK)))))
"""A linked list as rpcgen's input has it."""

TREE: Struct = Struct("tree", (("value", SHORT), ("branches", Array(Ref(lambda: TREE)))))


def links(count: int) -> Any:
    """A linked list with so many links, so one item more."""
    value: Any = ("end", None)
    for _ in range(count):
        value = ("x", value)
    return value


def nested(depth: int) -> Any:
    """A tree of so many levels below its root."""
    value: Any = (0, [])
    for _ in range(depth):
        value = (1, [value])
    return value


class GaveUp(Exception):
    """Compiled code called its fallback."""


def giveUp(*args: Any) -> Any:
    raise GaveUp


def fastEncode(node: Node) -> Any:
    """The compiled encoder without the reference behind it."""
    return Encoder().compiled(node, giveUp)


def fastDecode(node: Node) -> Any:
    """The compiled decoder without the reference behind it."""
    return Decoder().compiled(node, giveUp)


def wrap(value: Any) -> tuple[str, Any]:
    return ("wrapped", value)


def unwrap(value: tuple[str, Any]) -> Any:
    return value[1]


def _record(nodes: list[Node], kind: str) -> Node:
    names = string.ascii_letters[: len(nodes)]
    factory: Any = None
    if kind == "record":
        factory = NamedTuple("Record", [(name, Any) for name in names])  # type: ignore[misc, no-redef]
    elif kind == "function":
        factory = _asList
    return Struct("s", tuple(zip(names, nodes, strict=True)), factory)


def _asList(*values: Any) -> list[Any]:
    return list(values)


def _union(switch: Node, nodes: list[Node], default: Node | None) -> Node:
    arms = {key: (f"arm{key}", node) for key, node in enumerate(nodes[:2] if switch is BOOL else nodes)}
    return Union("u", switch, arms, ("other", default) if default else None)


#: Bounds that make padding and limits come and go.
_bounds = st.none() | st.integers(0, 9)
_numbers = [INT, UINT, HYPER, UHYPER, CHAR, UCHAR, SHORT, USHORT, FLOAT, DOUBLE, BOOL, Enum("e", {"A": 1})]
_leaves = (
    st.sampled_from([*_numbers, VOID])
    | st.builds(String, _bounds)
    | st.builds(Opaque, _bounds)
    | st.builds(FixedOpaque, st.integers(0, 9))
)


def _grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several, arms = st.lists(inner, max_size=4), st.lists(inner, min_size=1, max_size=4)
    return (
        st.builds(Array, inner, _bounds)
        | st.builds(FixedArray, inner, st.integers(0, 4))
        | st.builds(Optional, inner)
        | st.builds(_record, several, st.sampled_from(["tuple", "record", "function"]))
        | st.builds(_union, st.sampled_from([INT, UINT, BOOL, CHAR, _numbers[-1]]), arms, st.none() | inner)
        | st.builds(Mapped, inner, st.just(wrap), st.just(unwrap))
        | inner.map(lambda node: Ref(lambda: node))
    )


nodes: st.SearchStrategy[Node] = st.recursive(_leaves, _grown, max_leaves=12) | st.sampled_from([LINK, TREE])
"""Any type."""


def values(node: Node) -> st.SearchStrategy[Any]:
    """Values that fit a type, as decoding gives them."""
    match node:
        case Integer(low=low, high=high):
            return st.integers(low, high)
        case Real(code=code):
            return st.floats(width=32 if code == "f" else 64, allow_nan=False)
        case Bool():
            return st.booleans()
        case Enum():
            return st.integers(-(2**31), 2**31 - 1)
        case Void():
            return st.none()
        case String(max=most):
            octets = st.binary(max_size=12 if most is None else most)
            return octets.map(lambda data: data.decode("utf-8", "surrogateescape"))
        case Opaque(max=most):
            return st.binary(max_size=12 if most is None else most)
        case FixedOpaque(size=size):
            return st.binary(min_size=size, max_size=size)
        case Array(max=most) if node.chars:
            return st.binary(max_size=6 if most is None else most)
        case Array(item=item, max=most):
            return st.lists(values(item), max_size=3 if most is None else min(most, 3))
        case FixedArray(size=size) if node.chars:
            return st.binary(min_size=size, max_size=size)
        case FixedArray(item=item, size=size):
            return st.lists(values(item), min_size=size, max_size=size)
        case Optional(item=item):
            return st.none() | values(item)
        case Struct(fields=fields, factory=factory):
            made = st.tuples(*(values(child) for _, child in fields))
            return made if factory is None else made.map(lambda parts: factory(*parts))
        case Union():
            return _unionValues(node)
        case Mapped(node=inner, load=load):
            return values(inner).map(load)
        case Ref():
            return _deferred(node)
        case _:
            raise AssertionError(node)


@cache
def _deferred(ref: Ref) -> st.SearchStrategy[Any]:
    """One strategy for each L{Ref}, as Hypothesis knows a recursive one by its identity."""
    return st.deferred(lambda: values(ref.target))


def _unionValues(node: Union) -> st.SearchStrategy[Any]:
    choices = [st.tuples(st.just(key), values(arm)) for key, (_, arm) in node.arms.items()]
    if node.switch is BOOL:
        choices = [choice.map(lambda pair: (bool(pair[0]), pair[1])) for choice in choices]
    if node.default:
        others = values(node.switch).filter(lambda key: key not in node.arms)
        if not (node.switch is BOOL and len(node.arms) == 2):
            choices.append(st.tuples(others, values(node.default[1])))
    return st.one_of(choices)


@st.composite
def samples(draw: st.DrawFn) -> tuple[Node, Any]:
    """A type and a value of it."""
    node = draw(nodes)
    return node, draw(values(node))
