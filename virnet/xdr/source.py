"""How a schema node becomes Python source: what both directions of the compiler share.

Rules of the generated code:

  - Everything inside a node is written out in one function, except what a L{Ref} leads to and what lies
    deeper than L{MAX_INLINE} or beyond L{MAX_NAMES}: those become functions of their own.
  - Runs of fixed-size fields, across the borders of structs and with the length word of the string that
    follows, are one C{struct.Struct}.
  - A limit is checked before anything is allocated for what it limits.
  - It keeps no path and raises whatever comes: any failure calls the fallback, which does the work again and
    says what is wrong and where.
  - Nothing of a schema but numbers and C{struct} letters is ever written into source; functions and classes
    are reached through the namespace.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from virnet.xdr import schema
from virnet.xdr.schema import Bool, Enum, Integer, Node, Real

MAX_INLINE = 10
"""Levels of composite types in one function: Python nests at most 20 loops."""

MAX_NAMES = 1000
"""Variables in one function, about: a bound on its size where types that repeat types would multiply."""


class Unfit(Exception):
    """Generated code met something wrong; the reference says what."""


_PADDING = (b"", bytes(3), bytes(2), bytes(1))
_BOOLS = {False: 0, True: 1}
_SIGNS = bytes(128) + b"\xff" * 128


def _sequence(value: Any) -> Sequence[Any]:
    """A value as a tuple or list, where it is a sequence of things."""
    if isinstance(value, tuple | list):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return tuple(value)
    raise Unfit


def _octets(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise Unfit


def _signedWords(chars: bytes) -> bytes:
    """Each byte as a sign-extended word."""
    words = bytearray(4 * len(chars))
    words[0::4] = words[1::4] = words[2::4] = chars.translate(_SIGNS)
    words[3::4] = chars
    return bytes(words)


def _unsignedWords(chars: bytes) -> bytes:
    """Each byte as a zero-extended word."""
    words = bytearray(4 * len(chars))
    words[3::4] = chars
    return bytes(words)


def scalar(node: Node) -> str | None:
    """The C{struct} letter of a type that is one number."""
    match node:
        case Integer(code=code) | Real(code=code):
            return code
        case Enum():
            return "i"
        case Bool():
            return "I"
    return None


def opaqueFormat(size: int) -> str:
    """The C{struct} format of so many bytes and their padding."""
    return f"{size}s" + "x" * (-size & 3)


class Source(ABC):
    """Source under construction, for either direction.

    @ivar run: fixed-size fields that wait to be fused: (struct format, name or expression).
    @ivar depth: expression for the number of L{Ref}s that are open.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.indent = 2
        self.run: list[tuple[str, str]] = []
        self.depth = "0"
        self.names = 0
        self.roof = MAX_NAMES
        self.namespace: dict[str, Any] = {
            "Unfit": Unfit,
            "PADDING": _PADDING,
            "BOOLS": _BOOLS,
            "MAX_DEPTH": schema.MAX_DEPTH,
            "MAX_LINKS": schema.MAX_LINKS,
            "sequence": _sequence,
            "octets": _octets,
            "signedWords": _signedWords,
            "unsignedWords": _unsignedWords,
            "utf8": str.encode,
            "join": b"".join,
            "pack": struct.pack,
            "unpack": struct.unpack_from,
            "newTuple": tuple.__new__,
        }
        self.functions: dict[Node, str] = {}
        self.pending: list[Node] = []

    def compiled(self, node: Node, fallback: Callable[..., Any]) -> Any:
        """Compile the public function and whatever it calls.

        @param fallback: called with the same arguments when the generated code fails.
        """
        self.namespace["fallback"] = fallback
        source = self.public(node)
        while self.pending:
            inner = self.pending.pop()
            self.lines = []
            self.indent = 1
            self.depth = "depth"
            self.roof = self.names + MAX_NAMES
            source += self.private(inner, self.functions[inner])
        text = "\n".join(source) + "\n"
        exec(compile(text, f"<xdr {getattr(node, 'name', type(node).__name__)}>", "exec"), self.namespace)
        function = self.namespace["public"]
        function.source = text
        return function

    @abstractmethod
    def public(self, node: Node) -> list[str]:
        """The source of the function that callers get, whose name is C{public}."""

    @abstractmethod
    def private(self, node: Node, name: str) -> list[str]:
        """The source of a function that other generated code calls."""

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head)
        self.indent += 1
        yield
        self.indent -= 1

    def refuse(self, condition: str) -> None:
        with self.block(f"if {condition}:"):
            self.line("raise Unfit")

    def new(self) -> str:
        """A fresh variable."""
        self.names += 1
        return f"v{self.names}"

    def constant(self, name: str, value: Any) -> str:
        self.namespace[name] = value
        return name

    def foreign(self, value: Any) -> str:
        self.names += 1
        return self.constant(f"f{self.names}", value)

    def layout(self, codes: Iterable[str], method: str) -> str:
        """The name of a bound method of the C{struct.Struct} of a run."""
        text = "".join(codes)
        return self.constant(f"{method}_{text}", getattr(struct.Struct(f">{text}"), method))

    def function(self, node: Node) -> str:
        """The name of the function of a type that is not written out in place."""
        if node not in self.functions:
            self.functions[node] = f"function{len(self.functions)}"
            self.pending.append(node)
        return self.functions[node]
