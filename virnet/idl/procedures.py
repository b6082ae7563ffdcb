"""How the procedures of a program are found in a text: names, numbers, annotations."""

from __future__ import annotations

from collections.abc import Iterable

from virnet.idl.model import ProcedureDefinition


class Procedures:
    """The procedures of one program; no number and no name twice."""

    def __init__(self) -> None:
        self._byNumber: dict[int, ProcedureDefinition] = {}
        self._names: set[str] = set()

    def add(self, procedure: ProcedureDefinition) -> None:
        """Take one more.

        @raise IDLError: its number or its name is taken.
        """
        other = self._byNumber.get(procedure.number)
        if other is not None:
            raise procedure.place.error(
                f"{procedure.wireName} has the number {other.number} of {other.wireName}, expected a new one"
            )
        if procedure.name in self._names:
            raise procedure.place.error(f"{procedure.wireName} is there twice, expected a new name")
        self._byNumber[procedure.number] = procedure
        self._names.add(procedure.name)

    def inOrder(self) -> tuple[ProcedureDefinition, ...]:
        """All of them by number."""
        return tuple(self._byNumber[number] for number in sorted(self._byNumber))


def squeezed(name: str) -> str:
    """A name as it is compared: structures and procedures agree but for case and underscores."""
    return name.replace("_", "").lower()


def commonPrefix(names: list[str]) -> str:
    """What all names begin with, up to its last underscore; nothing where a single name could not tell."""
    first, last = min(names), max(names)
    if first == last:
        return first[: first.find("_") + 1]
    common = 0
    while common < min(len(first), len(last)) and first[common] == last[common]:
        common += 1
    return first[: first.rfind("_", 0, common) + 1]


def annotationsBefore(text: str, position: int) -> Iterable[tuple[str, str]]:
    """The annotations in the C{/**} comment directly before a name, or before the type that precedes it."""
    end = text.rfind("*/", 0, position)
    between = text[end + 2 : position].replace("_", "").replace("*", "")
    if end < 0 or not all(word.isalnum() for word in between.split()):
        return
    comment = text[text.rfind("/*", 0, end) : end + 2]
    if not comment.startswith("/**"):
        return
    for line in comment[3:-2].split("\n"):
        words = line.strip().lstrip("*").strip()
        if words.startswith("@"):
            key, _, value = words[1:].partition(":")
            yield key.strip(), value.strip()
