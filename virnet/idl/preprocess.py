"""The lines of a C{.x} file that belong to C's preprocessor.

Rules that live here:

  - rpcgen hands its input to C{cpp} first, with C{RPC_HDR} defined for the run that makes the types. So
    C{#if}, C{#ifdef}, C{#ifndef}, C{#elif}, C{#else}, C{#endif} are obeyed with only C{RPC_HDR} defined at
    the start.
  - C{#define NAME VALUE} and, as such lines reach the C header, C{%#define NAME VALUE} make a constant.
  - C{#include "NAME"} reads the file as if its text stood there. C{%#include "NAME.h"}, or with
    C{<DIR/NAME.h>}, looks for C{NAME.x} and imports it: its types can be used, its programs are not
    generated again.
  - Every other C{#} or C{%} line is ignored, also C{# 1 "file"} of preprocessed files.
  - Taken lines become empty ones, so line numbers stay those of the file.
"""

from __future__ import annotations

from typing import NamedTuple

from virnet.errors import IDLError


class Macro(NamedTuple):
    """A C{#define} with a value."""

    name: str
    value: str
    line: int


class Include(NamedTuple):
    """A file that is named by the text.

    @ivar imported: only its types are wanted.
    """

    name: str
    line: int
    imported: bool


class Source(NamedTuple):
    """A text without preprocessor lines."""

    text: str
    filename: str
    macros: list[Macro]
    includes: list[Include]


class _Condition(NamedTuple):
    """An open C{#if}.

    @ivar active: its lines count.
    @ivar done: no further branch can count: one did, or the whole stands where nothing counts.
    """

    active: bool
    done: bool
    line: int


def preprocess(text: str, filename: str) -> Source:
    """Take the preprocessor's lines out of a text.

    @raise IDLError: a condition cannot be evaluated or is not closed.
    """
    run = _Run(filename)
    return Source("\n".join(run.line(line) for line in text.split("\n")), filename, *run.finish())


class _Run:
    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._number = 0
        self._inComment = False
        self._defined = {"RPC_HDR": "1"}
        self._conditions: list[_Condition] = []
        self._continued = False
        self._macros: list[Macro] = []
        self._includes: list[Include] = []

    def line(self, line: str) -> str:
        self._number += 1
        wasContinued, self._continued = self._continued, False
        directive = line.lstrip()
        if not self._inComment and (wasContinued or directive[:1] in ("#", "%")):
            self._continued = line.rstrip().endswith("\\")
            body, open = _withoutComments(directive, False)
            # What follows a % is C's affair: a comment that begins there ends there.
            self._inComment = open and not directive.startswith("%")
            if not wasContinued:
                self._directive(body.rstrip("\\ \t\r"))
            return ""
        _, self._inComment = _withoutComments(line, self._inComment)
        return line if self._active else ""

    def finish(self) -> tuple[list[Macro], list[Include]]:
        if self._conditions:
            line = self._conditions[-1].line
            raise IDLError("condition is not closed, expected #endif", self._filename, line, 1)
        return self._macros, self._includes

    @property
    def _active(self) -> bool:
        return not self._conditions or self._conditions[-1].active

    def _directive(self, line: str) -> None:
        passed = line.startswith("%")
        words = line.lstrip("%").lstrip()
        if not words.startswith("#"):
            return
        keyword, _, rest = words[1:].lstrip().replace("\t", " ").partition(" ")
        rest = rest.strip()
        if passed:
            if self._active and keyword == "define":
                self._define(rest)
            elif self._active and keyword == "include" and rest[-3:-1] == ".h":
                stem = rest[1:-3].rpartition("/")[2]
                self._includes.append(Include(f"{stem}.x", self._number, True))
        elif keyword in ("if", "ifdef", "ifndef"):
            outer = self._active
            value = outer and self._condition(keyword, rest)
            self._conditions.append(_Condition(value, value or not outer, self._number))
        elif keyword in ("elif", "else", "endif"):
            self._branch(keyword, rest)
        elif self._active and keyword == "define":
            self._define(rest)
        elif self._active and keyword == "undef":
            self._defined.pop(rest, None)
        elif self._active and keyword == "include" and rest.startswith('"') and rest.endswith('"'):
            self._includes.append(Include(rest[1:-1], self._number, False))

    def _define(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        value = value.strip()
        if name.isidentifier():
            self._defined[name] = value
            if value:
                self._macros.append(Macro(name, value, self._number))

    def _branch(self, keyword: str, rest: str) -> None:
        if not self._conditions:
            raise IDLError(f"#{keyword} without #if", self._filename, self._number, 1)
        if keyword == "endif":
            self._conditions.pop()
            return
        now = self._conditions[-1]
        value = not now.done and (keyword == "else" or self._condition("if", rest))
        self._conditions[-1] = now._replace(active=value, done=now.done or value)

    def _condition(self, keyword: str, rest: str) -> bool:
        if keyword != "if":
            return (rest in self._defined) == (keyword == "ifdef")
        words = rest.replace("(", " ").replace(")", " ").replace("!", " ! ").split()
        negative = words[:1] == ["!"]
        match words[1:] if negative else words:
            case ["defined", name]:
                value = name in self._defined
            case [name] if name.isidentifier():
                value = self._defined.get(name, "0") not in ("0", "")
            case [number] if number.isdigit():
                value = int(number) != 0
            case _:
                raise IDLError(
                    f"cannot evaluate '#if {rest}', expected a name, a number or defined(NAME)",
                    self._filename, self._number, 1,
                )  # fmt: skip
        return value != negative


def _withoutComments(line: str, inComment: bool) -> tuple[str, bool]:
    """Drop the comments of a line.

    @return: the rest, and whether a comment is still open at its end.
    """
    kept = []
    while line:
        if inComment:
            _, found, line = line.partition("*/")
            inComment = not found
            continue
        opened, single = line.find("/*"), line.find("//")
        if single >= 0 and (opened < 0 or single < opened):
            kept.append(line[:single])
            break
        if opened < 0:
            kept.append(line)
            break
        kept.append(line[:opened])
        line, inComment = line[opened + 2 :], True
    return " ".join(kept), inComment
