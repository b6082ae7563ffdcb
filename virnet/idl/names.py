"""What things of a C{.x} text are called in Python.

Rules that live here:

  - A method is its procedure's words in mixed case, C{domain_get_xml_desc} -> C{domainGetXMLDesc}; how a
    word is spelt, and which names do not follow from their words, is in the overrides.
  - A class is its structure's words with capitals, without a prefix that says nothing.
  - A type node is the structure's name in capitals without the program's prefix.
  - A member of an enum loses what all members begin with, up to an underscore; where there is but one
    member, the words that the enum's own name begins with.
  - What Python would not take, like a keyword, gets an underscore at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from keyword import iskeyword
from typing import Protocol

from virnet.idl.model import ProcedureDefinition, ProgramDefinition


class Rules(Protocol):
    """The overrides that names and tables obey; see L{virnet.programs.overrides.Overrides}."""

    @property
    def words(self) -> Mapping[str, str]: ...
    @property
    def methods(self) -> Mapping[tuple[int, int], str]: ...
    @property
    def methodPrefixes(self) -> Mapping[int, str]: ...
    @property
    def streams(self) -> Mapping[tuple[int, int], str]: ...
    @property
    def descriptors(self) -> Mapping[tuple[int, int], str]: ...
    @property
    def events(self) -> frozenset[tuple[int, int]]: ...
    @property
    def classes(self) -> Mapping[str, str]: ...
    @property
    def classPrefixes(self) -> tuple[str, ...]: ...
    @property
    def families(self) -> Mapping[int, tuple[tuple[str, tuple[str, ...]], ...]]: ...
    @property
    def cNames(self) -> frozenset[int]: ...
    @property
    def memberPrefixes(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def flags(self) -> frozenset[str]: ...


def safe(name: str) -> str:
    """Make a name usable as a parameter, a field, a method or a class."""
    if iskeyword(name) or name in ("self", "mro"):
        return name + "_"
    # A named tuple takes no field that begins with an underscore.
    return name.lstrip("_") + "_" if name.startswith("_") else name


def unique(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The names in their order, those that are there already with underscores at their ends."""
    found: list[str] = []
    used = set(taken)
    for name in names:
        while name in used:
            name += "_"
        used.add(name)
        found.append(name)
    return found


def capitalized(name: str, rules: Rules) -> str:
    """C{domain_get_xml_desc} -> C{DomainGetXMLDesc}; mixed-case words keep their case."""
    words = (word for word in name.split("_") if word)
    return "".join(rules.words.get(word) or word[0].upper() + word[1:] for word in words)


def methodName(program: ProgramDefinition, procedure: ProcedureDefinition, rules: Rules) -> str:
    """The method of a procedure or event."""
    given = rules.methods.get((program.number, procedure.number))
    if given:
        return given
    name = f"{rules.methodPrefixes.get(program.number, '')}_{procedure.name}".strip("_")
    first, _, rest = name.partition("_")
    method = first + capitalized(rest, rules)
    return safe(method) if method.isidentifier() else f"procedure{method}"


def cName(method: str) -> str:
    """The function of libvirt's public API that a method is called after."""
    if method.startswith("nwfilter"):
        return "virNWFilter" + method.removeprefix("nwfilter")
    return "vir" + method[0].upper() + method[1:]


def className(name: str, rules: Rules) -> str:
    """The value class of a structure, or the class of an enum."""
    given = rules.classes.get(name)
    if given:
        return given
    for prefix in rules.classPrefixes:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return safe(capitalized(name, rules))


def nodeName(name: str, typePrefix: str) -> str:
    """The variable that holds the type: C{remote_nonnull_domain} -> C{NONNULL_DOMAIN}."""
    short = name.removeprefix(typePrefix)
    if not short.isidentifier():
        short = name
    spread = []
    for index, letter in enumerate(short):
        before = short[index - 1] if index else "_"
        after = short[index + 1 : index + 2]
        if letter.isupper() and before != "_" and (before.islower() or before.isdigit() or after.islower()):
            spread.append("_")
        spread.append(letter)
    return "".join(spread).upper()


def memberNames(enum: str, members: Mapping[str, int], rules: Rules) -> dict[str, str]:
    """The Python names of an enum's members, by their C names."""
    names = list(members)
    given = rules.memberPrefixes.get(enum)
    if given:
        short = [_without(name, given) for name in names]
    else:
        prefix = _ownPrefix(enum, names[0]) if len(names) == 1 else _commonPrefix(names)
        short = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, unique(safe(name) for name in short), strict=True))


def _without(name: str, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _commonPrefix(names: list[str]) -> str:
    words = [name.split("_") for name in names]
    # At least one word stays, and no name begins with a digit.
    most = min(len(each) for each in words) - 1
    count = 0
    while count < most and len({each[count] for each in words}) == 1:
        count += 1
    while count and not all("_".join(each[count:]).isidentifier() for each in words):
        count -= 1
    return "".join(word + "_" for word in words[0][:count])


def _ownPrefix(enum: str, name: str) -> str:
    wanted = enum.replace("_", "").lower()
    words = name.split("_")
    count, said = 0, ""
    while count < len(words) - 1 and wanted.startswith(said + words[count].lower()):
        said += words[count].lower()
        count += 1
    while count and not "_".join(words[count:]).isidentifier():
        count -= 1
    return "".join(word + "_" for word in words[:count])


def isFlags(enum: str, members: Mapping[str, int], rules: Rules) -> bool:
    """Whether an enum is a bit set: its name says so, or its values are the bits from 1 to at least 4."""
    values = set(members.values()) - {0}
    bits = all(value > 0 and value & (value - 1) == 0 for value in values)
    return bits and ("Flag" in enum or enum in rules.flags or {1, 2, 4} <= values)
