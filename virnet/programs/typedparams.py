"""libvirt's typed parameters: a list of names with values of seven types (``wire.md`` section 14).

Rules that live here:

  - A value keeps its type on the wire, order and repeated names survive a round trip.
  - A name has at most L{FIELD_MAX} bytes. Longer ones are refused when made here, but decoded: a server has
    to tell the client which name it was, see L{TypedParams.oversized}.
  - An unknown type is an error of the decoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from virnet.xdr.schema import Array, Mapped

if TYPE_CHECKING:
    from virnet.xdr.schema import Node

FIELD_MAX = 79
"""Bytes in a name; C has a buffer of 80 with its NUL (C: C{VIR_TYPED_PARAM_FIELD_LENGTH})."""

Value = int | float | str


class TypedParamType(IntEnum):
    """C: C{virTypedParameterType}"""

    INT = 1
    UINT = 2
    LLONG = 3
    ULLONG = 4
    DOUBLE = 5
    BOOLEAN = 6
    STRING = 7


_RANGES = {
    TypedParamType.INT: (-(2**31), 2**31 - 1),
    TypedParamType.UINT: (0, 2**32 - 1),
    TypedParamType.LLONG: (-(2**63), 2**63 - 1),
    TypedParamType.ULLONG: (0, 2**64 - 1),
}


class TypedParam(NamedTuple):
    """One parameter.

    @ivar field: its name.
    @ivar value: an C{int}, for C{BOOLEAN} a C{bool}, a C{float} or a C{str}.
    """

    field: str
    type: TypedParamType
    value: Value


class Typed(NamedTuple):
    """A value together with its type, as L{Int}, L{UInt}, L{LLong}, L{ULLong}, L{Double}, L{Boolean} and
    L{String} make it."""

    type: TypedParamType
    value: Value


def Int(value: int) -> Typed:
    """A signed number of 32 bits."""
    return Typed(TypedParamType.INT, value)


def UInt(value: int) -> Typed:
    """A number of 32 bits without sign."""
    return Typed(TypedParamType.UINT, value)


def LLong(value: int) -> Typed:
    """A signed number of 64 bits."""
    return Typed(TypedParamType.LLONG, value)


def ULLong(value: int) -> Typed:
    """A number of 64 bits without sign."""
    return Typed(TypedParamType.ULLONG, value)


def Double(value: float) -> Typed:
    """A floating point number."""
    return Typed(TypedParamType.DOUBLE, value)


def Boolean(value: bool) -> Typed:
    """Yes or no."""
    return Typed(TypedParamType.BOOLEAN, value)


def String(value: str) -> Typed:
    """A text."""
    return Typed(TypedParamType.STRING, value)


class TypedParams(Mapping[str, Value]):
    """Typed parameters in their order.

    Reads like a mapping: C{params["weight"]} is the first value of that name, as C's C{virTypedParamsGet}
    finds it. But as names may be repeated, iterating and counting go over all entries.

    Plain values take the type that fits: C{str} is a string, C{bool} a boolean, C{float} a double, C{int}
    the first of int, llong, ullong that can hold it. Servers insist on the type they know for a name;
    where that is another, say it: C{TypedParams({"weight": UInt(5)})}.
    """

    __slots__ = ("_entries",)

    def __init__(self, items: Mapping[str, Value | Typed] | Iterable[tuple[str, Value | Typed]] = ()) -> None:
        """@param items: a mapping, or pairs of name and value.
        @raise ValueError: a name is too long, or a value does not fit its type.
        """
        if isinstance(items, TypedParams):
            self._entries: list[TypedParam] = list(items._entries)
            return
        self._entries = []
        for field, value in items.items() if isinstance(items, Mapping) else items:
            self.add(field, value)

    def add(self, field: str, value: Value | Typed) -> None:
        """Put a parameter behind the others, even where there is one of that name.

        @raise ValueError: the name is too long, or the value does not fit its type.
        """
        if _tooLong(field):
            raise ValueError(f"parameter name {field!r} is longer than {FIELD_MAX} bytes")
        type, plain = value if isinstance(value, Typed) else (_fitting(field, value), value)
        self._entries.append(TypedParam(field, type, _checked(field, type, plain)))

    @property
    def entries(self) -> tuple[TypedParam, ...]:
        """All parameters in order."""
        return tuple(self._entries)

    def getAll(self, field: str) -> list[Value]:
        """The values of a name that may be repeated, in order."""
        return [entry.value for entry in self._entries if entry.field == field]

    def typeOf(self, field: str) -> TypedParamType:
        """The type of the first parameter of a name.

        @raise KeyError: there is none.
        """
        return self._first(field).type

    def withoutStrings(self) -> TypedParams:
        """What is left for a peer that did not say it takes strings (C{VIR_TYPED_PARAM_STRING_OKAY})."""
        return self._of(entry for entry in self._entries if entry.type is not TypedParamType.STRING)

    def first(self, count: int) -> TypedParams:
        """The first so many of them."""
        return self._of(self._entries[:count])

    def oversized(self) -> str | None:
        """The first name that is longer than allowed.

        A server refuses it with code 1, C{parameter NAME too big for destination}.
        """
        return next((entry.field for entry in self._entries if _tooLong(entry.field)), None)

    @classmethod
    def _of(cls, entries: Iterable[TypedParam]) -> TypedParams:
        params = cls()
        params._entries = list(entries)
        return params

    def _first(self, field: str) -> TypedParam:
        for entry in self._entries:
            if entry.field == field:
                return entry
        raise KeyError(field)

    def __getitem__(self, field: str) -> Value:
        return self._first(field).value

    def __iter__(self) -> Iterator[str]:
        return iter([entry.field for entry in self._entries])

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Any:
        """Pairs of name and value, repeated names included."""
        return [(entry.field, entry.value) for entry in self._entries]

    def values(self) -> Any:
        """The values, those of repeated names included."""
        return [entry.value for entry in self._entries]

    def __eq__(self, other: object) -> bool:
        return self._entries == other._entries if isinstance(other, TypedParams) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        said = ", ".join(f"({e.field!r}, {e.type.name} {e.value!r})" for e in self._entries)
        return f"TypedParams([{said}])"


def typedParams(item: Node, max: int | None) -> Mapped:
    """The type of an array of C{typed_param} structures whose value is a L{TypedParams}.

    @param item: the structure: field name, and the union of the seven types.
    """
    return Mapped(Array(item, max), _load, _dump)


# Past the constructor, which is a Python function.
_make = tuple.__new__


def _load(items: list[tuple[str, tuple[int, Any]]]) -> TypedParams:
    params = TypedParams.__new__(TypedParams)
    params._entries = [
        _make(TypedParam, (field, _TYPES[type], value if type != 6 else bool(value)))
        for field, (type, value) in items
    ]
    return params


_TYPES = {int(type): type for type in TypedParamType}


def _dump(params: Any) -> list[tuple[str, tuple[int, Any]]]:
    if not isinstance(params, TypedParams):
        params = TypedParams(params)
    name = params.oversized()
    if name is not None:
        raise ValueError(f"parameter name {name!r} is longer than {FIELD_MAX} bytes")
    return [(field, (type, int(value) if type == 6 else value)) for field, type, value in params._entries]


def _tooLong(field: str) -> bool:
    # Only what could be too long is encoded to count it.
    return len(field) > FIELD_MAX // 4 and len(field.encode("utf-8", "surrogateescape")) > FIELD_MAX


def _fitting(field: str, value: Value) -> TypedParamType:
    match value:
        case str():
            return TypedParamType.STRING
        case bool():
            return TypedParamType.BOOLEAN
        case float():
            return TypedParamType.DOUBLE
        case int():
            for type in (TypedParamType.INT, TypedParamType.LLONG, TypedParamType.ULLONG):
                low, high = _RANGES[type]
                if low <= value <= high:
                    return type
    raise ValueError(f"parameter {field!r}: no type of libvirt's holds {value!r}")


def _checked(field: str, type: TypedParamType, value: Value) -> Value:
    match type:
        case TypedParamType.STRING:
            fits = isinstance(value, str)
        case TypedParamType.DOUBLE:
            fits = isinstance(value, (int, float))
            value = float(value) if fits else value
        case TypedParamType.BOOLEAN:
            fits = value in (0, 1)
            value = bool(value) if fits else value
        case _:
            low, high = _RANGES[type]
            fits = isinstance(value, int) and low <= value <= high
    if not fits:
        raise ValueError(f"parameter {field!r}: {value!r} is no {type.name}")
    return value
