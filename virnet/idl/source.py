"""How generated Python source is laid out: imports as isort orders them, lines that are not too long."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

WIDTH = 110
"""Of a line, as ruff is told in pyproject.toml."""

_IMPORT_GROUPS = {"collections": 0, "enum": 0, "typing": 0, "virnet": 2}


class Imports:
    """The import lines of a module, by what is used."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def use(self, module: str, name: str) -> str:
        """@return: C{name}."""
        self._names.setdefault(module, set()).add(name)
        return name

    def lines(self, indent: str = "") -> list[str]:
        """The lines in the order and the groups that isort gives them: standard library, others, virnet."""
        groups: dict[int, list[str]] = {}
        for module in sorted(self._names):
            root = module.partition(".")[0]
            group = groups.setdefault(_IMPORT_GROUPS.get(root, 1), [])
            names = sorted(self._names[module], key=_importOrder)
            line = f"{indent}from {module} import {', '.join(names)}"
            if len(line) <= WIDTH:
                group.append(line)
            else:
                group += [
                    f"{indent}from {module} import (",
                    *(f"{indent}    {name}," for name in names),
                    f"{indent})",
                ]
        lines: list[str] = []
        for number in sorted(groups):
            lines += [""] if lines else []
            lines += groups[number]
        return lines


def _importOrder(name: str) -> tuple[int, str]:
    """Constants, classes, the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name.lower())


def tupled(items: Iterable[str]) -> str:
    """A tuple of expressions."""
    written = list(items)
    return f"({written[0]},)" if len(written) == 1 else f"({', '.join(written)})"


def literal(value: int | str) -> str:
    """A constant as Python writes it, in ASCII."""
    return json.dumps(value)


def classLines(name: str, bases: str) -> Iterator[str]:
    """The lines that begin a class."""
    line = f"class {name}({bases}):"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"class {name}("
    yield from (f"    {base}," for base in bases.split(", "))
    yield "):"


def docstring(said: list[str]) -> Iterator[str]:
    """The docstring of a method, as a list of remarks, wrapped."""
    line = '        """' + "; ".join(said) + '."""'
    if len(line) <= WIDTH:
        yield line
        return
    line = '        """'
    for index, part in enumerate(said):
        piece = part + (";" if index < len(said) - 1 else ".")
        for word in piece.split(" "):
            if len(line) + 1 + len(word) > WIDTH:
                yield line.rstrip()
                line = "        "
            line += word + " "
    yield line.rstrip()
    yield '        """'
