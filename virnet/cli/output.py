"""
What is printed: tables and lines for people, JSON for programs.

  - Standard output carries the result alone. Notes and errors go to standard error, an error in one line.
  - What a server sent cannot disturb the terminal or the table it stands in: control characters are shown
    escaped. Only documents (XML) are printed as they came.
  - JSON is plain ASCII, so that what is no UTF-8 survives any terminal and any pipe.
  - Colour only says again what the words say already, and only where it was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

BOLD = "\x1b[1m"
PLAIN = "\x1b[0m"
COLOURS = {
    "running": "\x1b[32m",
    "active": "\x1b[32m",
    "paused": "\x1b[33m",
    "pmsuspended": "\x1b[33m",
    "crashed": "\x1b[31m",
}
"""Words that stand alone in a cell to what shows them in colour (ECMA-48 SGR)."""

ERROR_MAX = 2000
"""Characters of an error: servers quote what they refuse, which may be a whole document."""


class Output:
    """Where a command prints.

    @ivar asJSON: the user asked for JSON.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, asJSON: bool = False, style: bool = False) -> None:
        """@param style: print in colour."""
        self.stdout = self._stdout = stdout
        self.stderr = self._stderr = stderr
        self.asJSON = asJSON
        self.style = style

    def line(self, text: str) -> None:
        """Print a line for people."""
        self.document(shown(text))

    def document(self, text: str) -> None:
        """Print a text as it is, ended by one newline."""
        self._stdout.write(text if text.endswith("\n") else f"{text}\n")
        # A pipe's reader wants each line when it comes, and a closed pipe is to be noticed now.
        self._stdout.flush()

    def data(self, value: Any, indent: int | None = 2) -> None:
        """Print a value as JSON."""
        self.document(json.dumps(value, indent=indent))

    def table(
        self, headings: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = ()
    ) -> None:
        """Print rows below headings, in columns; see L{tableLines}."""
        self.document("\n".join(tableLines(headings, rows, tuple(right), self.style)))

    def pairs(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print names and values, one pair a line."""
        listed = [(name, shown(str(value))) for name, value in pairs]
        width = max(len(name) for name, _ in listed) + 1
        self.document("\n".join(f"{f'{name}:':{width}} {value}".rstrip() for name, value in listed))

    def note(self, text: str) -> None:
        """Print a line to standard error."""
        self._stderr.write(f"{shown(text)}\n")
        self._stderr.flush()

    def error(self, text: str) -> None:
        """Print an error: one line, whatever is in it."""
        line = " ".join(text.split())
        if len(line) > ERROR_MAX:
            line = line[: ERROR_MAX - 1] + "…"
        self._stderr.write(f"{shown(f'virnet: {line}')}\n")
        self._stderr.flush()


def tableLines(
    headings: Sequence[str], rows: Iterable[Sequence[object]], right: Iterable[int] = (), style: bool = False
) -> list[str]:
    """Put rows below headings, in columns.

    @param right: the columns that end at the right, as numbers do.
    @param style: in colour.
    """
    cells = [[shown(str(cell)) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("   ".join(padded).rstrip())
    length = max(len(line) for line in lines)
    if style:
        lines = [f"{BOLD}{lines[0]}{PLAIN}", *map(_coloured, lines[1:], cells[1:])]
    return [lines[0], "-" * length, *lines[1:]]


def _coloured(line: str, cells: list[str]) -> str:
    for cell in cells[1:]:
        if cell in COLOURS:
            before, _, after = line.rpartition(cell)
            line = f"{before}{COLOURS[cell]}{cell}{PLAIN}{after}"
    return line


def shown(text: str) -> str:
    """Make a text harmless and visible on a terminal: what is not printable is escaped as in Python."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
