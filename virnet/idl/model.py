"""What a C{.x} text says, with every name resolved: types, constants, programs.

Rules that live here: which names need no definition (L{PREDEFINED_CONSTANTS}, L{PREDEFINED_TYPES}), and
what a type may contain: itself only behind a pointer or in an array of variable length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from virnet.errors import IDLError


class Place(NamedTuple):
    """Where something stands."""

    filename: str
    line: int
    column: int

    def error(self, reason: str) -> IDLError:
        """Make the error that says what is wrong here."""
        return IDLError(reason, self.filename, self.line, self.column)


class Bound(NamedTuple):
    """A limit or a size.

    @ivar value: C{None} for C{<>}.
    @ivar name: of the constant that says it; empty where a number or an expression does.
    """

    value: int | None
    name: str = ""


@dataclass(frozen=True)
class Basic:
    """A type without parts.

    @ivar name: C{int uint hyper uhyper char uchar short ushort float double bool} or C{void}.
    """

    name: str


@dataclass(frozen=True)
class StringType:
    """C{string NAME<max>}"""

    max: Bound


@dataclass(frozen=True)
class OpaqueType:
    """C{opaque NAME<max>}"""

    max: Bound


@dataclass(frozen=True)
class FixedOpaqueType:
    """C{opaque NAME[size]}"""

    size: Bound


@dataclass(frozen=True)
class ArrayType:
    """C{item NAME<max>}"""

    item: Type
    max: Bound


@dataclass(frozen=True)
class FixedArrayType:
    """C{item NAME[size]}"""

    item: Type
    size: Bound


@dataclass(frozen=True)
class OptionalType:
    """C{item *NAME}"""

    item: Type


@dataclass(frozen=True)
class NamedType:
    """A type by its name."""

    name: str
    place: Place = field(compare=False)


Type = (
    Basic | StringType | OpaqueType | FixedOpaqueType | ArrayType | FixedArrayType | OptionalType | NamedType
)

VOID = Basic("void")


@dataclass(frozen=True)
class Typedef:
    """Another name of a type."""

    name: str
    place: Place
    origin: str
    type: Type


@dataclass(frozen=True)
class Enumeration:
    """C{enum}"""

    name: str
    place: Place
    origin: str
    members: Mapping[str, int]


@dataclass(frozen=True)
class Structure:
    """C{struct}"""

    name: str
    place: Place
    origin: str
    fields: tuple[tuple[str, Type], ...]


@dataclass(frozen=True)
class UnionDefinition:
    """C{union}. An arm's type is L{VOID} where it has none.

    @ivar default: C{None} without a C{default:}.
    """

    name: str
    place: Place
    origin: str
    switchName: str
    switch: Type
    arms: Mapping[int, tuple[str, Type]]
    default: tuple[str, Type] | None


Definition = Typedef | Enumeration | Structure | UnionDefinition
"""C{origin} is the file's name without directory and C{.x}; empty for the text itself."""


class ProcedureDefinition(NamedTuple):
    """A procedure or an event.

    @ivar name: in lower case, without the program's prefix: C{domain_lookup_by_name}.
    @ivar ret: C{None} for none.
    @ivar folded: names of the structures whose members are C{args} or whose only member is C{ret}.
    @ivar event: whether a C{_msg} structure, not a call, goes with it.
    """

    number: int
    name: str
    wireName: str
    place: Place
    args: tuple[tuple[str, Type], ...]
    ret: Type | None
    folded: tuple[str, ...]
    event: bool
    priority: str
    stream: str | None
    acl: tuple[str, ...]
    aclFilter: tuple[str, ...]
    sparse: bool


class ProgramDefinition(NamedTuple):
    """A program in one version.

    @ivar name: like C{REMOTE}.
    @ivar typePrefix: begins the names of its own types; may be empty.
    """

    name: str
    typePrefix: str
    number: int
    version: int
    procedures: tuple[ProcedureDefinition, ...]


class Specification(NamedTuple):
    """All that a text says.

    @ivar constants: the text's own C{const}s; rpcgen takes texts as well as numbers.
    @ivar definitions: types by name in the order of the text, imported ones first.
    """

    constants: Mapping[str, int | str]
    definitions: Mapping[str, Definition]
    programs: tuple[ProgramDefinition, ...]


PREDEFINED_CONSTANTS = {
    # XDR itself (RFC 4506 section 4.4).
    "FALSE": 0,
    "TRUE": 1,
    # rpc/auth.h
    "MAXNETNAMELEN": 255,
    # From libvirt's C headers, which its .x files name without defining.
    "VIR_UUID_BUFLEN": 16,
    "VIR_SECURITY_MODEL_BUFLEN": 257,
    "VIR_SECURITY_LABEL_BUFLEN": 4097,
    "VIR_SECURITY_DOI_BUFLEN": 257,
    "VIR_TYPED_PARAM_INT": 1,
    "VIR_TYPED_PARAM_UINT": 2,
    "VIR_TYPED_PARAM_LLONG": 3,
    "VIR_TYPED_PARAM_ULLONG": 4,
    "VIR_TYPED_PARAM_DOUBLE": 5,
    "VIR_TYPED_PARAM_BOOLEAN": 6,
    "VIR_TYPED_PARAM_STRING": 7,
}

PREDEFINED_TYPES: dict[str, Type] = {
    # rpc/types.h and stdint.h, whose names rpcgen passes through to C.
    "bool_t": Basic("bool"),
    "u_char": Basic("uchar"),
    "u_short": Basic("ushort"),
    "u_int": Basic("uint"),
    "u_long": Basic("uint"),
    "quad_t": Basic("hyper"),
    "u_quad_t": Basic("uhyper"),
    "longlong_t": Basic("hyper"),
    "u_longlong_t": Basic("uhyper"),
    "int8_t": Basic("char"),
    "uint8_t": Basic("uchar"),
    "u_int8_t": Basic("uchar"),
    "int16_t": Basic("short"),
    "uint16_t": Basic("ushort"),
    "u_int16_t": Basic("ushort"),
    "int32_t": Basic("int"),
    "uint32_t": Basic("uint"),
    "u_int32_t": Basic("uint"),
    "int64_t": Basic("hyper"),
    "uint64_t": Basic("uhyper"),
    "u_int64_t": Basic("uhyper"),
    # rpc/xdr.h and rpc/auth.h
    "netobj": OpaqueType(Bound(1024)),
    "des_block": FixedOpaqueType(Bound(8)),
}


def parts(definition: Definition) -> Iterator[Type]:
    """The types a definition is made of."""
    match definition:
        case Typedef():
            yield definition.type
        case Structure():
            yield from (type for _, type in definition.fields)
        case UnionDefinition():
            yield definition.switch
            yield from (type for _, type in definition.arms.values())
            if definition.default:
                yield definition.default[1]


def named(type: Type, direct: bool = True) -> Iterator[tuple[NamedType, bool]]:
    """The names in a type, each with whether a value of the type must hold a value of it."""
    match type:
        case NamedType():
            yield type, direct
        case OptionalType() | ArrayType():
            yield from named(type.item, False)
        case FixedArrayType():
            yield from named(type.item, direct)


def checkFinite(definitions: Mapping[str, Definition]) -> None:
    """Refuse types whose smallest value would be endless.

    @raise IDLError: a type contains itself other than behind a pointer or in an array of variable length.
    """
    for name, definition in definitions.items():
        path: list[str] = []
        while isinstance(definition, Typedef):
            if definition.name in path:
                raise definitions[name].place.error(
                    f"{name} is only another name of itself, expected a type: {' -> '.join([*path, name])}"
                )
            path.append(definition.name)
            inner = [
                definitions[reference.name]
                for reference, _ in named(definition.type)
                if reference.name in definitions
            ]
            if not inner:
                break
            definition = inner[0]
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise definitions[name].place.error(
                f"{name} contains itself, expected a pointer or an array of variable length somewhere in "
                + " -> ".join((*path[path.index(name) :], name))
            )
        if name in done:
            return
        for type in parts(definitions[name]):
            for reference, direct in named(type):
                if direct and reference.name in definitions:
                    visit(reference.name, (*path, name))
        done.add(name)

    for name in definitions:
        visit(name, ())
