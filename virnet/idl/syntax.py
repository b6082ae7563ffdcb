"""From text to lark's tree, with errors that say what was expected in words."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from virnet.errors import IDLError
from virnet.idl import grammar
from virnet.idl.preprocess import Source


@cache
def _parser() -> Lark:
    return Lark(
        grammar.GRAMMAR, parser="lalr", propagate_positions=True, maybe_placeholders=True,
        start=[grammar.FILE_START, grammar.EXPRESSION_START],
    )  # fmt: skip


def expressionTree(text: str) -> Any:
    """Parse the value of a macro.

    @return: lark's tree, C{None} where it is something else than a sum or product of constants.
    """
    try:
        return _parser().parse(text, start=grammar.EXPRESSION_START)
    except UnexpectedInput:
        return None


def fileTree(source: Source) -> Any:
    """Parse a whole text.

    @raise IDLError: it is not in the language.
    """
    try:
        return _parser().parse(source.text, start=grammar.FILE_START)
    except UnexpectedToken as error:
        token = error.token
        if token.type == "$END":
            raise _atEnd(source, error.accepts or error.expected) from None
        raise IDLError(
            f"found {str(token)!r}, expected {_spoken(error.accepts or error.expected)}",
            source.filename, token.line or 0, token.column or 0,
        ) from None  # fmt: skip
    except UnexpectedCharacters as error:
        if source.text.startswith("/*", error.pos_in_stream):
            reason = "comment is not closed, expected '*/'"
        else:
            reason = f"found {error.char!r}, expected {_spoken(error.allowed or ())}"
        raise IDLError(reason, source.filename, error.line, error.column) from None


def _atEnd(source: Source, expected: Iterable[str]) -> IDLError:
    lines = source.text.rstrip().split("\n")
    reason = f"found the end of the file, expected {_spoken(expected)}"
    return IDLError(reason, source.filename, len(lines), len(lines[-1]) + 1)


def _spoken(expected: Iterable[str]) -> str:
    terminals = set(expected) - {"COMMENT", "SPACE"}
    words = []
    if grammar.TYPE_WORDS - {"OPAQUE", "STRING", "VOID"} <= terminals:
        words.append("a type")
        terminals -= grammar.TYPE_WORDS
    words += sorted(grammar.SPOKEN.get(terminal, f"'{terminal.lower()}'") for terminal in terminals)
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
