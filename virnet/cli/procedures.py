"""
Which procedure a word means, and what the words behind it are.

  - A procedure is named as libvirt's API names it, with or without C{vir}: C{domainLookupByName},
    C{virDomainLookupByName}; or as the wire does: C{domain_lookup_by_name},
    C{REMOTE_PROC_DOMAIN_LOOKUP_BY_NAME}.
  - Arguments stand in the order of the parameters, each as JSON (L{virnet.cli.jsonvalues}); or all are one
    object by parameter names. The last parameter, where it is C{flags}, may be left out and is 0.
  - Where a string is expected a word that does not begin with a quote is that string. Where an object of the
    hypervisor is expected such a word is its name, and is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple

from virnet import programs
from virnet.cli.arguments import UsageError
from virnet.cli.jsonvalues import fieldsFromJSON, fromJSON, parseJSON
from virnet.cli.values import PROGRAMS
from virnet.errors import XDRError
from virnet.programs.base import Procedure, Program
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
    String,
    Struct,
    Union,
    resolve,
)

PREFIXES = {"QEMU": "qemu", "LXC": "lxc", "ADMIN": "adm"}
"""What a program's methods have in their names that its wire names have not."""

LOOKUPS = {
    "remote_nonnull_domain": "domainLookupByName",
    "remote_nonnull_network": "networkLookupByName",
    "remote_nonnull_interface": "interfaceLookupByName",
    "remote_nonnull_storage_pool": "storagePoolLookupByName",
    "remote_nonnull_storage_vol": "storageVolLookupByPath",
    "remote_nonnull_node_device": "nodeDeviceLookupByName",
    "remote_nonnull_nwfilter": "nwfilterLookupByName",
    "admin_nonnull_server": "admConnectLookupServer",
}
"""Structure to the procedure that finds one by what people call it."""


class Named(NamedTuple):
    """An argument that is still to be looked up.

    @ivar lookup: a procedure that takes the name and, where it has more parameters, flags.
    """

    lookup: Procedure
    name: str


def programNamed(name: str) -> Program[Any]:
    """Get a program by its name in C{PROGRAMS}, in any case."""
    program: Program[Any] = getattr(programs, name.upper())
    return program


def cName(procedure: Procedure) -> str:
    """The public C function of a procedure."""
    return f"vir{procedure.name[:1].upper()}{procedure.name[1:]}"


def findProcedure(word: str, among: Iterable[str] = PROGRAMS) -> Procedure:
    """Find the procedure that a word names.

    @param among: the programs to look in.
    @raise UsageError: there is none, or more than one.
    """
    everything = [each for name in among for each in programNamed(name).procedures.values()]
    found = [each for each in everything if word in (each.name, cName(each))]
    if not found:
        wanted = _squeezed(word)
        found = [each for each in everything if wanted in _spellings(each)]
    if not found:
        near = get_close_matches(word, [each.name for each in everything], 3, 0.75)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"there is no procedure {word!r}{hint}")
    if len(found) > 1:
        names = ", ".join(f"{each.program.name} {each.name}" for each in found)
        raise UsageError(f"{word!r} is ambiguous: {names}; choose with --program")
    return found[0]


def _squeezed(word: str) -> str:
    return word.replace("_", "").lower()


@cache
def _spellings(procedure: Procedure) -> frozenset[str]:
    program = procedure.program.name
    method = procedure.name.lower()
    bare = method.replace(PREFIXES[program], "", 1) if program in PREFIXES else method
    prefix = program.lower()
    return frozenset({method, f"vir{method}", bare, f"{prefix}{bare}", f"{prefix}proc{bare}"})


def argumentsOf(procedure: Procedure, words: list[str]) -> list[Any]:
    """Convert the words behind a procedure's name to its arguments, some of which may be L{Named}.

    @raise UsageError: too few, too many, not JSON, or not of the parameter's type.
    """
    least = len(procedure.args) - _endsWithFlags(procedure)
    if not least <= len(words) <= len(procedure.args):
        wanted = (
            str(len(procedure.args)) if least == len(procedure.args) else f"{least} or {len(procedure.args)}"
        )
        some = "argument" if wanted == "1" else "arguments"
        raise UsageError(f"{signature(procedure)} takes {wanted} {some}, not {len(words)}")
    values: list[Any] = []
    try:
        for (name, node), word in zip(procedure.args, words, strict=False):
            values.append(_fromWord(node, word, name))
    except XDRError as e:
        raise UsageError(f"{procedure.name}: {e}") from e
    return values + [0] * (len(procedure.args) - len(values))


def argumentsFromObject(procedure: Procedure, text: str) -> list[Any]:
    """Convert a JSON object by parameter names to the procedure's arguments.

    @raise UsageError: not an object, or it does not fit the parameters.
    """
    try:
        data = parseJSON(text, "--args")
        if not isinstance(data, dict):
            raise XDRError("expected an object by parameter names", "--args")
        if _endsWithFlags(procedure):
            data.setdefault("flags", 0)
        for name, node in procedure.args:
            if isinstance(data.get(name), str):
                data[name] = _lookup(node, data[name]) or data[name]
        named = {name: value for name, value in data.items() if isinstance(value, Named)}
        plain = tuple((name, node) for name, node in procedure.args if name not in named)
        rest = {name: value for name, value in data.items() if name not in named}
        values = iter(fieldsFromJSON(plain, rest))
        return [named[name] if name in named else next(values) for name, _ in procedure.args]
    except XDRError as e:
        raise UsageError(f"{procedure.name}: {e}") from e


def _endsWithFlags(procedure: Procedure) -> bool:
    return procedure.parameters[-1:] == ("flags",)


def _fromWord(node: Node, word: str, path: str) -> Any:
    inner = _unwrapped(node)
    if word == "null" and isinstance(resolve(node), Optional):
        return None
    quoted = word.startswith('"')
    if isinstance(inner, String | FixedOpaque):
        return fromJSON(node, parseJSON(word, path) if quoted else word, path)
    if not word.startswith("{"):
        named = _lookup(node, parseJSON(word, path) if quoted else word)
        if named is not None:
            return named
    return fromJSON(node, parseJSON(word, path), path)


def _unwrapped(node: Node) -> Node:
    found = resolve(node)
    return _unwrapped(found.item) if isinstance(found, Optional) else found


def _lookup(node: Node, name: str) -> Named | None:
    """What to look up where a word stands for a structure; C{None} where it stands for itself."""
    struct = _unwrapped(node)
    lookup = LOOKUPS.get(struct.name) if isinstance(struct, Struct) else None
    if lookup is None:
        return None
    program = programNamed("ADMIN" if lookup.startswith("adm") else "REMOTE")
    return Named(program.byName[lookup], name)


def signature(procedure: Procedure) -> str:
    """A procedure's name and parameters with their types."""
    return f"{procedure.name}({', '.join(f'{name}: {typeName(node)}' for name, node in procedure.args)})"


def typeName(node: Node | None) -> str:
    """A type in a word or two, for people."""
    match None if node is None else resolve(node):
        case None:
            return "nothing"
        case Bool(name=name) | Integer(name=name) | Real(name=name) | Enum(name=name):
            return name
        case Struct(name=name) | Union(name=name):
            return name.removeprefix("remote_").removeprefix("admin_").removeprefix("nonnull_")
        case String():
            return "string"
        case FixedOpaque(size=16):
            return "uuid"
        case FixedOpaque() | Opaque():
            return "opaque"
        case Array(item=item) | FixedArray(item=item):
            return f"{typeName(item)}[]"
        case Optional(item=item):
            return f"{typeName(item)} or null"
        case Mapped(node=inner):
            return typeName(inner)
        case _:
            return "nothing"
