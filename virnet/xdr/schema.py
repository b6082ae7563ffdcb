"""The types of XDR (RFC 4506) as immutable schema nodes.

A node says how a value looks on the wire and what it is in Python; it holds no code for either
direction. L{virnet.xdr.codec} compiles a node on the first use of C{node.codec};
L{virnet.xdr.reference} interprets it slowly. Rules that both obey live here: the limits, the least
size of an encoding, and which structs are linked lists.

Limits (C{max}, sizes) count bytes for strings and opaques and items for arrays; C{None} stands for
the RFC's C{<>}, 2**32-1. Whatever the limit, a decoder never allocates for more than the bytes that
are present can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from virnet.xdr.codec import Codec

MAX_COUNT = 0xFFFFFFFF
"""Largest length or count XDR can say (RFC 4506 sections 4.10, 4.11, 4.13)."""

MAX_DEPTH = 100
"""How many L{Ref}s may be open at once. Real trees are shallow, and it must stay well inside Python's
own recursion limit, some of which the caller has used."""

MAX_LINKS = 65536
"""How many links a linked list (L{Struct.chain}) may have. They are followed in a loop, not by
recursion, so only memory bounds this: a link of four bytes becomes a tuple of some sixty."""

MAX_EMPTY_ITEMS = 65536
"""How many items an array may have whose items can take no bytes at all (an empty struct), as there
the bytes present bound nothing."""


class Node:
    """A type. Nodes compare by identity and are shared freely (a typedef is the same node again)."""

    @cached_property
    def codec(self) -> Codec:
        """The compiled codec of this type."""
        from virnet.xdr.codec import Codec

        return Codec(self)


def _atLeastZero(what: str, number: int | None) -> None:
    if number is not None and not 0 <= number <= MAX_COUNT:
        raise ValueError(f"{what} must be between 0 and {MAX_COUNT}, not {number}")


@dataclass(frozen=True, eq=False)
class Integer(Node):
    """A whole number of 4 or 8 bytes; use L{INT}, L{UINT}, L{HYPER}, L{UHYPER} and the narrow ones.

    The narrow ones (rpcgen's C{char}, C{short} and their unsigned kin) take a word of four bytes. They
    are encoded sign- or zero-extended; a decoder looks at the low 8 or 16 bits only (C: C{xdr_char},
    C{xdr_short}).

    @ivar code: the C{struct} letter of the word.
    """

    name: str
    code: str
    low: int
    high: int

    @property
    def narrow(self) -> bool:
        """Whether the word has room for more than the type."""
        return self.high - self.low < MAX_COUNT


@dataclass(frozen=True, eq=False)
class Real(Node):
    """A floating point number of 4 or 8 bytes (RFC 4506 sections 4.6, 4.7)."""

    name: str
    code: str


@dataclass(frozen=True, eq=False)
class Bool(Node):
    """C{bool}: encodes C{True}, C{False} or an equal number as 1 and 0; any non-zero word decodes as
    C{True}, as C's C{xdr_bool} does, where RFC 4506 section 4.4 knows 0 and 1 only."""

    name: str = "bool"


@dataclass(frozen=True, eq=False)
class Void(Node):
    """No bytes; the value is C{None} (RFC 4506 section 4.16)."""


@dataclass(frozen=True, eq=False)
class Enum(Node):
    """A signed word with names. Values are plain C{int} and any of 32 bits passes in both directions,
    so that newer peers' members survive.

    @ivar members: value by name, for those who want to print or check; codecs do not.
    """

    name: str
    members: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", MappingProxyType(dict(self.members)))


@dataclass(frozen=True, eq=False)
class String(Node):
    """C{string<max>}: a C{str}. The bytes are UTF-8 with C{surrogateescape}, so any bytes of a peer
    survive a round trip; the limit is in bytes."""

    max: int | None = None

    def __post_init__(self) -> None:
        _atLeastZero("max", self.max)

    @property
    def limit(self) -> int:
        """C{max} as a number."""
        return MAX_COUNT if self.max is None else self.max


@dataclass(frozen=True, eq=False)
class Opaque(Node):
    """C{opaque<max>}: decodes to C{bytes}, encodes C{bytes}, C{bytearray} or C{memoryview}."""

    max: int | None = None

    def __post_init__(self) -> None:
        _atLeastZero("max", self.max)

    @property
    def limit(self) -> int:
        """C{max} as a number."""
        return MAX_COUNT if self.max is None else self.max


@dataclass(frozen=True, eq=False)
class FixedOpaque(Node):
    """C{opaque[size]}: exactly so many bytes."""

    size: int

    def __post_init__(self) -> None:
        _atLeastZero("size", self.size)


class _Items(Node):
    """What the two kinds of array have in common."""

    item: Node

    @cached_property
    def leastItem(self) -> int:
        """Fewest bytes an item takes."""
        return leastSize(self.item)

    @cached_property
    def chars(self) -> Integer | None:
        """The type of the items where they are C{char} or C{unsigned char}: then the value is
        C{bytes}, though each travels in a word of its own (libvirt's SASL data is such)."""
        item = resolve(self.item)
        return item if isinstance(item, Integer) and item.high - item.low == 0xFF else None


@dataclass(frozen=True, eq=False)
class Array(_Items):
    """C{item name<max>}: decodes to a C{list}, encodes any sequence that is not text or bytes. Of
    C{char} or C{unsigned char}: C{bytes}."""

    item: Node
    max: int | None = None

    def __post_init__(self) -> None:
        _atLeastZero("max", self.max)

    @cached_property
    def limit(self) -> int:
        """Most items that may be present."""
        most = MAX_COUNT if self.max is None else self.max
        return most if self.leastItem else min(most, MAX_EMPTY_ITEMS)


@dataclass(frozen=True, eq=False)
class FixedArray(_Items):
    """C{item name[size]}: as L{Array} with exactly so many items and no count on the wire."""

    item: Node
    size: int

    def __post_init__(self) -> None:
        _atLeastZero("size", self.size)


@dataclass(frozen=True, eq=False)
class Optional(Node):
    """C{item *name}: the item's value or C{None}. Any non-zero word announces a value."""

    item: Node


@dataclass(frozen=True, eq=False)
class Struct(Node):
    """C{struct}: one value a field, in order.

    @ivar fields: pairs of name and type; the names are for error paths.
    @ivar factory: called with the decoded fields as positional arguments; a plain tuple is made where it
        is C{None}. It must be pure, as it may be called again to explain an error. (A class made by
        C{NamedTuple} is built as a tuple, without its slower constructor.) Encoding takes
        any sequence of the right length that is not text or bytes.
    """

    name: str
    fields: tuple[tuple[str, Node], ...]
    factory: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        names = [name for name, _ in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name} has two fields of one name: {', '.join(names)}")

    @cached_property
    def chain(self) -> bool:
        """Whether the last field is an optional of this very struct: a linked list of rpcgen's kind.
        Such are followed in a loop, L{MAX_LINKS} long."""
        if not self.fields:
            return False
        last = resolve(self.fields[-1][1])
        return isinstance(last, Optional) and resolve(last.item) is self


@dataclass(frozen=True, eq=False)
class Union(Node):
    """C{union}: a tuple of the discriminant and the arm's value.

    @ivar switch: type of the discriminant: an L{Integer}, an L{Enum} or L{BOOL}.
    @ivar arms: (name, type) by discriminant; the names tell a reader which is which. An arm of type
        L{VOID} has the value C{None}.
    @ivar default: (name, type) of every other discriminant; where it is C{None} they are errors.
    """

    name: str
    switch: Node
    arms: Mapping[int, tuple[str, Node]]
    default: tuple[str, Node] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "arms", MappingProxyType(dict(self.arms)))
        if not isinstance(resolve(self.switch), Integer | Enum | Bool):
            raise ValueError(f"{self.name} cannot be switched by {self.switch!r}")


@dataclass(frozen=True, eq=False)
class Mapped(Node):
    """A type whose Python value is something else.

    @ivar load: makes the value from what C{node} decoded.
    @ivar dump: makes what C{node} encodes from the value.

    Both must be pure, as they may be called again to explain an error; whatever they raise becomes an
    L{XDRError<virnet.errors.XDRError>} with the exception's text.
    """

    node: Node
    load: Callable[[Any], Any]
    dump: Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Ref(Node):
    """A type that is named before it is made: C{Ref(lambda: TREE)} inside C{TREE}."""

    thunk: Callable[[], Node]

    @cached_property
    def target(self) -> Node:
        """The type that is meant."""
        return self.thunk()


INT = Integer("int", "i", -(2**31), 2**31 - 1)
UINT = Integer("unsigned int", "I", 0, 2**32 - 1)
HYPER = Integer("hyper", "q", -(2**63), 2**63 - 1)
UHYPER = Integer("unsigned hyper", "Q", 0, 2**64 - 1)
CHAR = Integer("char", "i", -128, 127)
UCHAR = Integer("unsigned char", "I", 0, 255)
SHORT = Integer("short", "i", -(2**15), 2**15 - 1)
USHORT = Integer("unsigned short", "I", 0, 2**16 - 1)
FLOAT = Real("float", "f")
DOUBLE = Real("double", "d")
BOOL = Bool()
VOID = Void()


def resolve(node: Node) -> Node:
    """The type itself where C{node} refers to one."""
    while isinstance(node, Ref):
        node = node.target
    return node


def leastSize(node: Node, _open: frozenset[Node] = frozenset()) -> int:
    """Fewest bytes an encoding of C{node} takes; what a type adds by containing itself counts nothing."""
    match resolve(node):
        case inner if inner in _open:
            return 0
        case Void():
            return 0
        case Integer(code=code) | Real(code=code) if code in "qQd":
            return 8
        case FixedOpaque(size=size):
            return size + (-size & 3)
        case FixedArray(item=item, size=size) as array:
            return size * leastSize(item, _open | {array})
        case Struct(fields=fields) as struct:
            return sum(leastSize(child, _open | {struct}) for _, child in fields)
        case Union(arms=arms, default=default) as union:
            every = [*arms.values(), default] if default else [*arms.values()]
            return 4 + min((leastSize(child, _open | {union}) for _, child in every), default=0)
        case Mapped(node=inner) as mapped:
            return leastSize(inner, _open | {mapped})
        case _:
            return 4
