"""
What is printed: tables and lines for people, JSON for programs.

  - Standard output carries the result alone. Notes and errors go to standard error, an error in one line.
  - What a server sent cannot disturb the terminal or the table it stands in: control characters are shown
    escaped. Only documents (XML) are printed as they came.
  - JSON is plain ASCII, so that what is no UTF-8 survives any terminal and any pipe.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

ERROR_MAX = 2000
"""Characters of an error: servers quote what they refuse, which may be a whole document."""


class Output:
    """Where a command prints.

    @ivar asJSON: the user asked for JSON.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, asJSON: bool = False) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self.asJSON = asJSON

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

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print rows below headings, in columns."""
        cells = [[shown(str(cell)) for cell in row] for row in (headings, *rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
        lines = [
            "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        lines.insert(1, "-" * max(len(line) for line in lines))
        self.document("\n".join(lines))

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


def shown(text: str) -> str:
    """Make a text harmless and visible on a terminal: what is not printable is escaped as in Python."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
