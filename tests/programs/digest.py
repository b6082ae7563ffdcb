"""The facts the tables are compared with, and type nodes written as the facts write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from virnet.xdr.schema import (
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
)

DIRECTORY = Path(__file__).parent / "facts"


def facts(name: str) -> list[list[Any]]:
    """The lines of a digest, see facts/README."""
    return [json.loads(line) for line in (DIRECTORY / f"{name}.jsonl").read_text().splitlines()]


def rendered(node: Node) -> str:
    """A type with all its limits as numbers; structures, unions and enums by their names."""
    match node:
        case Integer() | Real() | Struct() | Union() | Enum():
            return node.name
        case Bool():
            return "bool"
        case String(max=limit):
            return f"string<{_said(limit)}>"
        case Opaque(max=limit):
            return f"opaque<{_said(limit)}>"
        case FixedOpaque(size=size):
            return f"opaque[{size}]"
        case Array(item=item, max=limit):
            return f"{rendered(item)}<{_said(limit)}>"
        case FixedArray(item=item, size=size):
            return f"{rendered(item)}[{size}]"
        case Optional(item=item):
            return f"{rendered(item)}*"
        case Mapped(node=inner):
            return rendered(inner)
        case Ref(thunk=thunk):
            return rendered(thunk())
    raise AssertionError(node)


def renderedFields(fields: tuple[tuple[str, Node], ...]) -> list[list[str]]:
    """Fields as the facts have them."""
    return [[name, rendered(node)] for name, node in fields]


def _said(limit: int | None) -> str:
    return "" if limit is None else str(limit)
