"""XDR (RFC 4506) by a slow, obvious interpreter of the schema.

It is the oracle that the compiled codecs are tested against, and it explains their errors: when
compiled code fails, the same work is done again here, where the path to the culprit is kept. That
makes a bad message several times as dear as a good one of the same size, and no dearer: every limit
holds here too, before anything is allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import index
from typing import Any, NoReturn

from virnet.errors import XDRError
from virnet.xdr.schema import (
    MAX_DEPTH,
    MAX_LINKS,
    Array,
    Bool,
    Enum,
    FixedArray,
    FixedOpaque,
    Integer,
    Mapped,
    Node,
    Opaque,
    Optional,
    Real,
    Ref,
    String,
    Struct,
    Union,
    Void,
    resolve,
)

_PATH_ENDS = 100
"""Characters that are kept at either end of a very long path."""


def encode(node: Node, value: Any) -> bytes:
    """The encoding of a value.

    @raise XDRError: the value does not fit the type.
    """
    writer = _Writer()
    with writer.guarded():
        return writer.whole(node, value)


def decode(node: Node, data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[Any, int]:
    """The value that is encoded at an offset, and the offset behind it. What follows is not looked at.

    @raise XDRError: the bytes are too few or no encoding of the type.
    """
    reader = _Reader()
    with reader.guarded():
        return reader.whole(node, data, offset)


class _Walk:
    """Where in the value we are."""

    def __init__(self) -> None:
        self.path: list[str] = []
        self.depth = 0

    def fail(self, reason: str) -> NoReturn:
        path = "".join(self.path).removeprefix(".")
        if len(path) > 2 * _PATH_ENDS + 3:
            path = f"{path[:_PATH_ENDS]}...{path[-_PATH_ENDS:]}"
        raise XDRError(reason, path)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        try:
            yield
        except RecursionError:
            self.fail("nested too deep for what is left of the stack")
        except MemoryError:
            self.fail("out of memory")

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH}")

    def foreign(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call somebody else's function; what it raises becomes ours."""
        try:
            return function(*args)
        except XDRError as error:
            if error.path:
                self.path.append(error.path if error.path.startswith("[") else f".{error.path}")
            self.fail(error.reason)
        except (RecursionError, MemoryError):
            raise
        except Exception as error:
            self.fail(str(error) or type(error).__name__)

    def ranged(self, node: Integer, value: Any) -> int:
        try:
            number = index(value)
        except Exception:
            self.fail(f"{node.name} expected, got {type(value).__name__}")
        if not node.low <= number <= node.high:
            shown = number if number.bit_length() <= 64 else f"a number of {number.bit_length()} bits"
            self.fail(f"{node.name} must be between {node.low} and {node.high}, not {shown}")
        return number


class _Writer(_Walk):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []

    def whole(self, node: Node, value: Any) -> bytes:
        self.write(node, value)
        return b"".join(self.parts)

    def step(self, step: str, node: Node, value: Any) -> None:
        self.path.append(step)
        self.write(node, value)
        self.path.pop()

    def write(self, node: Node, value: Any) -> None:
        match node:
            case Integer():
                self.parts.append(struct.pack(f">{node.code}", self.ranged(node, value)))
            case Real():
                self.real(node, value)
            case Bool():
                if not isinstance(value, int | float) or value not in (False, True):
                    self.fail(f"bool expected, got {type(value).__name__}")
                self.word(int(value))
            case Enum():
                self.word(self.ranged(Integer(node.name, "i", -(2**31), 2**31 - 1), value))
            case Void():
                if value is not None:
                    self.fail(f"None expected, got {type(value).__name__}")
            case String():
                data = self.text(value)
                self.bound("string", len(data), "bytes", node.limit)
                self.word(len(data))
                self.padded(data)
            case Opaque():
                data = self.octets(value)
                self.bound("opaque", len(data), "bytes", node.limit)
                self.word(len(data))
                self.padded(data)
            case FixedOpaque():
                data = self.octets(value)
                self.exact("opaque", len(data), "bytes", node.size)
                self.padded(data)
            case Array():
                items = self.octets(value) if node.chars else self.sequence("list", value)
                self.bound("array", len(items), "items", node.limit)
                self.word(len(items))
                self.items(node, items)
            case FixedArray():
                items = self.octets(value) if node.chars else self.sequence("list", value)
                self.exact("array", len(items), "items", node.size)
                self.items(node, items)
            case Optional():
                self.word(value is not None)
                if value is not None:
                    self.write(node.item, value)
            case Struct():
                self.struct(node, value)
            case Union():
                self.union(node, value)
            case Mapped():
                self.write(node.node, self.foreign(node.dump, value))
            case Ref():
                self.enter()
                self.write(node.target, value)
                self.depth -= 1
            case _:
                self.fail(f"{node!r} is no schema node")

    def word(self, value: int) -> None:
        self.parts.append((value & 0xFFFFFFFF).to_bytes(4, "big"))

    def padded(self, data: bytes) -> None:
        self.parts += [data, bytes(-len(data) & 3)]

    def bound(self, what: str, count: int, unit: str, limit: int) -> None:
        if count > limit:
            self.fail(f"{what} of {count} {unit} exceeds {limit}")

    def exact(self, what: str, count: int, unit: str, size: int) -> None:
        if count != size:
            self.fail(f"{what} of {count} {unit}, must be {size}")

    def real(self, node: Real, value: Any) -> None:
        try:
            self.parts.append(struct.pack(f">{node.code}", value))
        except Exception:
            if isinstance(value, int | float):
                self.fail(f"number too large for {node.name}")
            self.fail(f"{node.name} expected, got {type(value).__name__}")

    def text(self, value: Any) -> bytes:
        if not isinstance(value, str):
            self.fail(f"str expected, got {type(value).__name__}")
        try:
            return str.encode(value, "utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            self.fail(f"character {ord(value[error.start]):#x} has no encoding")

    def octets(self, value: Any) -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            self.fail(f"bytes expected, got {type(value).__name__}")
        return bytes(self.foreign(bytes, value))

    def sequence(self, what: str, value: Any) -> Sequence[Any]:
        if isinstance(value, tuple | list):
            return value
        if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
            return tuple(self.foreign(tuple, value))
        self.fail(f"{what} expected, got {type(value).__name__}")

    def items(self, node: Array | FixedArray, items: Sequence[Any]) -> None:
        if node.chars:
            for byte in items:
                self.word(byte - 256 if node.chars.low and byte > 127 else byte)
            return
        for number, item in enumerate(items):
            self.step(f"[{number}]", node.item, item)

    def struct(self, node: Struct, value: Any) -> None:
        mark = len(self.path)
        alone = len(node.fields) - node.chain
        for _ in range(MAX_LINKS + 1):
            values = self.sequence(node.name, value)
            if len(values) != len(node.fields):
                self.fail(f"{node.name} has {len(node.fields)} fields, got {len(values)}")
            for (name, child), item in zip(node.fields[:alone], values, strict=False):
                self.step(f".{name}", child, item)
            value = values[-1] if node.chain else None
            if node.chain:
                self.word(value is not None)
            if value is None:
                del self.path[mark:]
                return
            self.path.append(f".{node.fields[-1][0]}")
        self.fail(f"more than {MAX_LINKS} links")

    def union(self, node: Union, value: Any) -> None:
        pair = self.sequence(node.name, value)
        if len(pair) != 2:
            self.fail(f"{node.name} is a pair of discriminant and value, got {len(pair)} items")
        discriminant, content = pair
        self.write(resolve(node.switch), discriminant)
        self.write(_arm(self, node, discriminant), content)


class _Reader(_Walk):
    data: memoryview
    offset: int

    def whole(self, node: Node, data: bytes | bytearray | memoryview, offset: int) -> tuple[Any, int]:
        try:
            self.data = memoryview(data).cast("B")
            self.offset = index(offset)
        except Exception as error:
            self.fail(str(error))
        if not 0 <= self.offset <= len(self.data):
            self.fail(f"offset {self.offset} is outside of {len(self.data)} bytes")
        return self.read(node), self.offset

    def step(self, step: str, node: Node) -> Any:
        self.path.append(step)
        value = self.read(node)
        self.path.pop()
        return value

    def read(self, node: Node) -> Any:
        match node:
            case Integer():
                (number,) = struct.unpack(f">{node.code}", self.take(node.name, leastOf(node)))
                return (number - node.low & node.high - node.low) + node.low if node.narrow else number
            case Real():
                return struct.unpack(f">{node.code}", self.take(node.name, leastOf(node)))[0]
            case Bool():
                return self.word("bool") != 0
            case Enum():
                return int.from_bytes(self.take(node.name, 4), "big", signed=True)
            case Void():
                return None
            case String():
                return str(self.counted("string", node.limit), "utf-8", "surrogateescape")
            case Opaque():
                return bytes(self.counted("opaque", node.limit))
            case FixedOpaque():
                return bytes(self.take("opaque", node.size + (-node.size & 3))[: node.size])
            case Array():
                count = self.word("array")
                if count > node.limit:
                    self.fail(f"array of {count} items exceeds {node.limit}")
                return self.items(node, count)
            case FixedArray():
                return self.items(node, node.size)
            case Optional():
                return self.read(node.item) if self.word("optional") else None
            case Struct():
                return self.struct(node)
            case Union():
                discriminant = self.read(resolve(node.switch))
                return discriminant, self.read(_arm(self, node, discriminant))
            case Mapped():
                return self.foreign(node.load, self.read(node.node))
            case Ref():
                self.enter()
                value = self.read(node.target)
                self.depth -= 1
                return value
            case _:
                self.fail(f"{node!r} is no schema node")

    def need(self, what: str, size: int) -> None:
        left = len(self.data) - self.offset
        if size > left:
            self.fail(f"{what} needs {size} bytes, {left} left")

    def take(self, what: str, size: int) -> memoryview:
        self.need(what, size)
        self.offset += size
        return self.data[self.offset - size : self.offset]

    def word(self, what: str) -> int:
        return int.from_bytes(self.take(what, 4), "big")

    def counted(self, what: str, limit: int) -> memoryview:
        size = self.word(what)
        if size > limit:
            self.fail(f"{what} of {size} bytes exceeds {limit}")
        return self.take(f"{what} of {size} bytes", size + (-size & 3))[:size]

    def items(self, node: Array | FixedArray, count: int) -> Any:
        self.need(f"array of {count} items", count * node.leastItem)
        if node.chars:
            return bytes(self.take("array", 4 * count)[3::4])
        return [self.step(f"[{number}]", node.item) for number in range(count)]

    def struct(self, node: Struct) -> Any:
        mark = len(self.path)
        alone = len(node.fields) - node.chain
        heads: list[list[Any]] = []
        while True:
            heads.append([self.step(f".{name}", child) for name, child in node.fields[:alone]])
            if not node.chain:
                return self.make(node, heads[0])
            self.path.append(f".{node.fields[-1][0]}")
            if not self.word("optional"):
                break
            if len(heads) > MAX_LINKS:
                self.fail(f"more than {MAX_LINKS} links")
        del self.path[mark:]
        value = None
        for head in reversed(heads):
            value = self.make(node, [*head, value])
        return value

    def make(self, node: Struct, values: list[Any]) -> Any:
        return tuple(values) if node.factory is None else self.foreign(node.factory, *values)


def leastOf(node: Integer | Real) -> int:
    """Bytes of a number."""
    return struct.calcsize(f">{node.code}")


def _arm(walk: _Walk, node: Union, discriminant: Any) -> Node:
    """The type of an arm. Its name is no step of the path: it is not on the way to a value."""
    arm = node.arms.get(int(discriminant), node.default)
    if arm is None:
        walk.fail(f"{node.name} has no arm {int(discriminant)}")
    return arm[1]
