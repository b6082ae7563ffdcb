"""The decoder's half of the compiler: a schema node becomes C{decode(data, offset) -> (value, end)}.

The message is never copied as a whole, only what becomes a value. See L{virnet.xdr.source} for the rules.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from virnet.xdr.schema import (
    MAX_COUNT,
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
    leastSize,
    resolve,
)
from virnet.xdr.source import MAX_INLINE, Source, opaqueFormat, scalar


def _isRecord(factory: Any, size: int) -> bool:
    """Whether a factory is a class straight from C{NamedTuple}, whose constructor only fills a tuple."""
    return (
        isinstance(factory, type)
        and factory.__bases__ == (tuple,)
        and "__init__" not in vars(factory)
        and len(getattr(factory, "_fields", ())) == size
    )


class Decoder(Source):
    """Writes C{decode(data, offset) -> (value, end)}.

    The generated code keeps the offset in C{o}; C{ahead} bytes have been read since it was last set.
    L{decode} returns an expression for the value, which may be evaluated as late as the end of its block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0

    def public(self, node: Node) -> list[str]:
        value = self.decode(node, 0)
        self.read()
        self.line(f"return {value}, {self.here()}")
        return [
            "def public(data, offset=0):",
            "    try:",
            "        o = offset",
            "        size = len(data)",
            "        if not 0 <= o <= size:",
            "            raise Unfit",
            *self.lines,
            "    except Exception:",
            "        pass",
            "    return fallback(data, offset)",
        ]

    def private(self, node: Node, name: str) -> list[str]:
        self.ahead = 0
        self.refuse("depth > MAX_DEPTH")
        value = self.decode(node, 0)
        self.read()
        self.line(f"return {value}, {self.here()}")
        return [f"def {name}(data, o, size, depth):", *self.lines]

    def here(self) -> str:
        return f"o + {self.ahead}" if self.ahead else "o"

    def read(self) -> None:
        """Read the run of fixed-size fields that wait."""
        if self.run:
            codes = [code for code, _ in self.run]
            targets = "".join(f"{name}, " for _, name in self.run)
            self.line(f"{targets}= {self.layout(codes, 'unpack_from')}(data, {self.here()})")
            self.ahead += struct.calcsize(">" + "".join(codes))
            self.run = []

    def settle(self) -> None:
        """Read what waits and bring C{o} up to date: control flow comes next."""
        self.read()
        if self.ahead:
            self.line(f"o += {self.ahead}")
            self.ahead = 0

    def field(self, code: str) -> str:
        name = self.new()
        self.run.append((code, name))
        return name

    def call(self, node: Node, depth: str) -> str:
        self.settle()
        value = self.new()
        self.line(f"{value}, o = {self.function(node)}(data, o, size, {depth})")
        return value

    @contextmanager
    def branch(self, head: str) -> Iterator[None]:
        with self.block(head):
            yield
            self.settle()

    def assign(self, name: str, node: Node, level: int) -> None:
        value = self.decode(node, level)
        self.settle()
        self.line(f"{name} = {value}")

    def decode(self, node: Node, level: int) -> str:
        """Write the code that decodes.

        @return: an expression for the value.
        """
        match node:
            case Integer():
                name = self.field(node.code)
                if not node.narrow:
                    return name
                return f"(({name} - {node.low} & {node.high - node.low}) + {node.low})"
            case Real():
                return self.field(node.code)
            case Bool():
                return f"({self.field('I')} != 0)"
            case Enum():
                return self.field("i")
            case Void():
                return "None"
            case String():
                return f'str({self.counted(node.limit)}, "utf-8", "surrogateescape")'
            case Opaque():
                return f"bytes({self.counted(node.limit)})"
            case FixedOpaque():
                return self.field(opaqueFormat(node.size))
            case Ref():
                return self.call(node.target, f"{self.depth} + 1")
            case _ if level == MAX_INLINE or self.names > self.roof:
                return self.call(node, self.depth)
            case Optional():
                present, value = self.field("I"), self.new()
                self.settle()
                with self.branch(f"if {present}:"):
                    self.assign(value, node.item, level + 1)
                with self.branch("else:"):
                    self.line(f"{value} = None")
                return value
            case Struct(chain=True):
                return self.chain(node, level)
            case Struct():
                return self.make(node, self.each(node.fields, level))
            case Union():
                return self.union(node, level)
            case Array():
                return self.array(node, level)
            case FixedArray():
                return self.fixedArray(node, level)
            case Mapped():
                return f"{self.foreign(node.load)}({self.decode(node.node, level + 1)})"
            case _:
                self.line("raise Unfit")
                return "None"

    def counted(self, limit: int) -> str:
        """Read a length and step over as many bytes and their padding.

        @return: the slice of them.
        """
        count = self.field("I")
        self.read()
        start, end = self.new(), self.new()
        self.line(f"{start} = {self.here()}")
        self.line(f"{end} = {start} + {count}")
        self.line(f"o = {end} + (-{count} & 3)")
        self.ahead = 0
        self.refuse(f"{count} > {limit} or o > size" if limit < MAX_COUNT else "o > size")
        return f"data[{start}:{end}]"

    def each(self, fields: tuple[tuple[str, Node], ...], level: int) -> str:
        return "".join(f"{self.decode(child, level + 1)}, " for _, child in fields)

    def make(self, node: Struct, values: str) -> str:
        if node.factory is None:
            return f"({values})"
        if _isRecord(node.factory, len(node.fields)):
            return f"newTuple({self.foreign(node.factory)}, ({values}))"
        return f"{self.foreign(node.factory)}({values})"

    def chain(self, node: Struct, level: int) -> str:
        self.settle()
        heads, head, value = self.new(), self.new(), self.new()
        self.line(f"{heads} = []")
        with self.block("while True:"):
            values = self.each(node.fields[:-1], level)
            present = self.field("I")
            self.settle()
            self.line(f"{heads}.append(({values}))")
            with self.block(f"if not {present}:"):
                self.line("break")
            self.refuse(f"len({heads}) > MAX_LINKS")
        self.line(f"{value} = None")
        with self.block(f"for {head} in reversed({heads}):"):
            self.line(f"{value} = {self.make(node, f'*{head}, {value}, ')}")
        return value

    def union(self, node: Union, level: int) -> str:
        discriminant, value = self.new(), self.new()
        self.assign(discriminant, resolve(node.switch), level + 1)
        word = "if"
        for key, (_, arm) in node.arms.items():
            with self.branch(f"{word} {discriminant} == {int(key)}:"):
                self.assign(value, arm, level + 1)
            word = "elif"
        with self.branch("else:" if node.arms else "if True:"):
            if node.default:
                self.assign(value, node.default[1], level + 1)
            else:
                self.line("raise Unfit")
        return f"({discriminant}, {value})"

    def array(self, node: Array, level: int) -> str:
        count = self.field("I")
        self.settle()
        if node.limit < MAX_COUNT:
            self.refuse(f"{count} > {node.limit}")
        return self.items(node, count, level)

    def fixedArray(self, node: FixedArray, level: int) -> str:
        self.settle()
        count = self.new()
        self.line(f"{count} = {node.size}")
        return self.items(node, count, level)

    def items(self, node: Array | FixedArray, count: str, level: int) -> str:
        """Read C{count} items into a new variable."""
        if node.leastItem:
            self.refuse(f"{count} * {node.leastItem} > size - o")
        items = self.new()
        if node.chars:
            self.line(f"{items} = bytes(data[o + 3 : o + {count} * 4 : 4])")
            self.line(f"o += {count} * 4")
            return items
        if code := scalar(node.item):
            expression = self.decode(node.item, level)
            ((_, name),) = self.run
            self.run = []
            every = f'unpack(f">{{{count}}}{code}", data, o)'
            made = f"list({every})" if expression == name else f"[{expression} for {name} in {every}]"
            self.line(f"{items} = {made}")
            self.line(f"o += {count} * {leastSize(node.item)}")
            return items
        margin = "    " * self.indent
        outer, self.lines = self.lines, []
        self.indent += 1
        expression = self.decode(node.item, level + 1)
        codes = [code for code, _ in self.run]
        names = ", ".join(name for _, name in self.run)
        size = struct.calcsize(">" + "".join(codes))
        if size and not self.lines:
            each = f"{self.layout(codes, 'iter_unpack')}(data[o : o + {count} * {size}])"
            outer.append(f"{margin}{items} = [{expression} for {names}, in {each}]")
            outer.append(f"{margin}o += {count} * {size}")
            self.run = []
        else:
            self.settle()
            self.line(f"{items}.append({expression})")
            outer.append(f"{margin}{items} = []")
            outer.append(f"{margin}for _ in range({count}):")
            outer += self.lines
        self.lines = outer
        self.indent -= 1
        return items
