"""The encoder's half of the compiler: a schema node becomes C{encode(value) -> bytes}.

The output is collected as pieces and joined once. See L{virnet.xdr.source} for the rules.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

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
    resolve,
)
from virnet.xdr.source import MAX_INLINE, Source, opaqueFormat, scalar


class Encoder(Source):
    """Writes C{encode(value) -> bytes}.

    @ivar parts: expressions for pieces of the output that wait to be emitted together.
    @ivar direct: whether nothing has been emitted yet, so that the pieces can be joined without a list.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.direct = True

    def public(self, node: Node) -> list[str]:
        self.encode(node, "value", 0)
        self.fuse()
        head = ["def public(value):", "    try:"]
        if self.direct:
            pieces = "".join(f"{part}, " for part in self.parts)
            result = self.parts[0] if len(self.parts) == 1 else f"join(({pieces}))"
        else:
            head.append("        out = []")
            self.emit()
            result = "join(out)"
        self.line(f"return {result}")
        return [*head, *self.lines, "    except Exception:", "        pass", "    return fallback(value)"]

    def private(self, node: Node, name: str) -> list[str]:
        self.refuse("depth > MAX_DEPTH")
        self.encode(node, "value", 0)
        self.emit()
        return [f"def {name}(value, out, depth):", *self.lines]

    def fuse(self) -> None:
        """End a run of fixed-size fields: they become one piece."""
        if self.run:
            codes = [code for code, _ in self.run]
            values = [value for _, value in self.run]
            if all(value.isdigit() for value in values):
                self.parts.append(repr(struct.pack(">" + "".join(codes), *map(int, values))))
            else:
                self.parts.append(f"{self.layout(codes, 'pack')}({', '.join(values)})")
            self.run = []

    def piece(self, expression: str) -> None:
        self.fuse()
        self.parts.append(expression)

    def emit(self) -> None:
        """Write out all that waits: control flow comes next."""
        self.fuse()
        for part in self.parts:
            self.line(f"out.append({part})")
        self.parts = []
        self.direct = False

    @contextmanager
    def branch(self, head: str) -> Iterator[None]:
        """A branch that takes what waits with it, so that it fuses with the branch's own fields."""
        run, parts = self.run[:], self.parts[:]
        with self.block(head):
            yield
            self.emit()
        self.run, self.parts = run, parts

    def call(self, node: Node, value: str, depth: str) -> None:
        self.emit()
        self.line(f"{self.function(node)}({value}, out, {depth})")

    def octets(self, value: str) -> str:
        name = self.new()
        self.line(f"{name} = {value} if {value}.__class__ is bytes else octets({value})")
        return name

    def encode(self, node: Node, value: str, level: int) -> None:
        """Write the code that encodes the variable C{value}."""
        match node:
            case Integer():
                if node.narrow:
                    value = f"{value} if {node.low} <= {value} <= {node.high} else None"
                self.run.append((node.code, value))
            case Real():
                self.run.append((node.code, value))
            case Bool():
                self.run.append(("I", f"BOOLS[{value}]"))
            case Enum():
                self.run.append(("i", value))
            case Void():
                self.refuse(f"{value} is not None")
            case String():
                data = self.new()
                self.line(f'{data} = utf8({value}, "utf-8", "surrogateescape")')
                self.counted(data, node.limit)
            case Opaque():
                self.counted(self.octets(value), node.limit)
            case FixedOpaque():
                data = self.octets(value)
                self.refuse(f"len({data}) != {node.size}")
                self.run.append((opaqueFormat(node.size), data))
            case Ref():
                self.call(node.target, value, f"{self.depth} + 1")
            case _ if level == MAX_INLINE or self.names > self.roof:
                self.call(node, value, self.depth)
            case Optional():
                with self.branch(f"if {value} is None:"):
                    self.run.append(("I", "0"))
                with self.branch("else:"):
                    self.run.append(("I", "1"))
                    self.encode(node.item, value, level + 1)
                self.run, self.parts = [], []
            case Struct(chain=True):
                self.chain(node, value, level)
            case Struct():
                for (_, child), name in zip(node.fields, self.fields(node, value), strict=True):
                    self.encode(child, name, level + 1)
            case Union():
                self.union(node, value, level)
            case Array() | FixedArray():
                self.array(node, value, level)
            case Mapped():
                name = self.new()
                self.line(f"{name} = {self.foreign(node.dump)}({value})")
                self.encode(node.node, name, level + 1)
            case _:
                self.line("raise Unfit")

    def counted(self, data: str, limit: int) -> None:
        count = self.new()
        self.line(f"{count} = len({data})")
        if limit < MAX_COUNT:
            self.refuse(f"{count} > {limit}")
        self.run.append(("I", count))
        self.piece(data)
        self.piece(f"PADDING[{count} & 3]")

    def fields(self, node: Struct, value: str) -> list[str]:
        """Take a struct apart into variables."""
        names = [self.new() for _ in node.fields]
        target = "".join(f"{name}, " for name in names) or "() "
        self.line(f"{target}= {value} if isinstance({value}, tuple) else sequence({value})")
        return names

    def chain(self, node: Struct, value: str, level: int) -> None:
        self.emit()
        link, links = self.new(), self.new()
        self.line(f"{link} = {value}")
        self.line(f"{links} = 0")
        with self.block("while True:"):
            *names, rest = self.fields(node, link)
            for (_, child), name in zip(node.fields, names, strict=False):
                self.encode(child, name, level + 1)
            with self.branch(f"if {rest} is None:"):
                self.run.append(("I", "0"))
                self.emit()
                self.line("break")
            self.run.append(("I", "1"))
            self.emit()
            self.line(f"{links} += 1")
            self.refuse(f"{links} > MAX_LINKS")
            self.line(f"{link} = {rest}")

    def union(self, node: Union, value: str, level: int) -> None:
        discriminant, content = self.new(), self.new()
        self.line(f"{discriminant}, {content} = {value} if isinstance({value}, tuple) else sequence({value})")
        self.encode(resolve(node.switch), discriminant, level + 1)
        word = "if"
        for key, (_, arm) in node.arms.items():
            with self.branch(f"{word} {discriminant} == {int(key)}:"):
                self.encode(arm, content, level + 1)
            word = "elif"
        with self.branch("else:" if node.arms else "if True:"):
            if node.default:
                self.encode(node.default[1], content, level + 1)
            else:
                self.run, self.parts = [], []
                self.line("raise Unfit")
        self.run, self.parts = [], []

    def array(self, node: Array | FixedArray, value: str, level: int) -> None:
        if node.chars:
            items = self.octets(value)
        else:
            items = self.new()
            self.line(f"{items} = {value} if isinstance({value}, list) else sequence({value})")
        count = self.new()
        self.line(f"{count} = len({items})")
        if isinstance(node, FixedArray):
            self.refuse(f"{count} != {node.size}")
        else:
            if node.limit < MAX_COUNT:
                self.refuse(f"{count} > {node.limit}")
            self.run.append(("I", count))
        if node.chars:
            self.piece(f"{'signedWords' if node.chars.low else 'unsignedWords'}({items})")
            return
        item = self.new()
        if code := scalar(node.item):
            self.fuse()
            self.encode(node.item, item, level)
            ((_, expression),) = self.run
            self.run = []
            every = items if expression == item else f"[{expression} for {item} in {items}]"
            self.piece(f'pack(f">{{{count}}}{code}", *{every})')
            return
        self.emit()
        with self.block(f"for {item} in {items}:"):
            self.encode(node.item, item, level + 1)
            self.emit()
