"""What those who have got in may do.

Rules:

  - A call needs permissions (L{virnet.security.permissions}), which it has all or is refused.
  - In a file of rules the first rule that fits decides, permission by permission. Where none fits the answer
    is no.
  - What is not known counts against the client: a condition on a name that is not known does not fit in a
    C{permit} rule, and fits in a C{deny} rule.

A line of a file is C{permit WHO WHAT… [CONDITION…]} or C{deny …}; C{#} begins a comment; who has blanks in
it stands in quotation marks::

    permit sasl:alice   domain:{getattr,read,start} name=web-*
    permit group:libvirt connect:* domain:* network:{getattr,read}
    deny   transport:tcp *
    permit 'dn:C=GB,O=ACME Ltd,*' *

WHO is C{sasl:PATTERN}, C{dn:PATTERN} (of a verified certificate), C{uid:NUMBER}, C{user:NAME},
C{group:NAME} (a group the process was in), C{transport:unix}, C{tcp}, C{tls} or C{other}, or C{any}. WHAT is
a permission of libvirt's, C{domain:start}; several are C{domain:{start,stop}}, C{domain:*}, C{*}. A CONDITION
is C{name=PATTERN}, C{uuid=UUID}, C{pool=PATTERN} (of volumes), all of which must hold; it limits what has
names, and C{connect} has none. Patterns are the shell's.
"""

from __future__ import annotations

import grp
import pwd
import re
import shlex
import uuid
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from operator import eq
from pathlib import Path
from typing import Any

import attrs
from zope.interface import Attribute, Interface, implementer

from virnet.errors import VirnetError
from virnet.programs.base import Procedure, Program
from virnet.security.allowlist import separated
from virnet.security.identity import TRANSPORTS, Identity
from virnet.security.permissions import vocabulary


@attrs.frozen
class AccessObject:
    """What a call is about, and what it wants of it.

    C{None} is what is not known. Names and uuids of objects that exist are those the implementation knows,
    not those that the client says.

    @ivar permissions: what the call needs: C{object:permission}.
    @ivar kind: C{domain}, C{network}, C{storage_pool} and so on, as in permissions; C{connect} for none.
    @ivar name: of the object; of a secret its usage id, of a network's port the network's.
    @ivar uuid: its 16 bytes; of a network's port the network's.
    @ivar pool: the name of a volume's pool.
    """

    permissions: tuple[str, ...]
    kind: str = "connect"
    name: str | None = None
    uuid: bytes | None = None
    pool: str | None = None

    def __str__(self) -> str:
        """In words, for logs."""
        if self.kind == "connect":
            return "connection"
        named = "/".join(each for each in (self.pool, self.name) if each is not None)
        known = [f"'{named}'"] if named else []
        if self.uuid is not None:
            known.append(str(uuid.UUID(bytes=self.uuid)))
        return " ".join([self.kind, *known])


class IAccessPolicy(Interface):
    """Decides about calls."""

    looksAtObjects = Attribute(
        "C{bool}: names and uuids matter. If not they are not looked up, which saves a call for each call."
    )

    def allows(identity: Identity, procedure: Procedure, object: AccessObject) -> bool:
        """Decide about one call, or about one object in an event or in a list that a call returns.

        @param identity: whose call it is.
        @param procedure: what is called.
        @param object: what it is about; its C{permissions} are what has to be allowed.
        """


@implementer(IAccessPolicy)
class AllowAll:
    """Whoever got in may do everything."""

    looksAtObjects = False

    def allows(self, identity: Identity, procedure: Procedure, object: AccessObject) -> bool:
        """Yes."""
        return True


class RuleError(VirnetError):
    """A file of rules makes no sense; the text says in which line, and why."""


Test = Callable[[Identity], bool]


@attrs.frozen
class Rule:
    """One line.

    @ivar permit: or deny.
    @ivar who: whether it is about somebody.
    @ivar permissions: what it is about: C{object:permission}.
    @ivar name: pattern of names, C{None} for all objects.
    @ivar uuid: of the one object, C{None} for all.
    @ivar pool: pattern of the names of pools, C{None} for all.
    """

    permit: bool
    who: Test
    permissions: frozenset[str]
    name: str | None = None
    uuid: bytes | None = None
    pool: str | None = None

    @property
    def conditional(self) -> bool:
        """Whether it is about some objects only."""
        return self.name is not None or self.uuid is not None or self.pool is not None

    def fits(self, identity: Identity, permission: str, object: AccessObject) -> bool:
        """Whether it decides about a permission."""
        if permission not in self.permissions or not self.who(identity):
            return False
        if not self.conditional:
            return True
        if permission.partition(":")[0] != object.kind:
            return not self.permit
        return (
            self._matches(self.name, object.name, fnmatchcase)
            and self._matches(self.pool, object.pool, fnmatchcase)
            and self._matches(self.uuid, object.uuid, eq)
        )

    def _matches(self, wanted: Any, value: Any, compare: Callable[[Any, Any], bool]) -> bool:
        if wanted is None:
            return True
        return not self.permit if value is None else compare(value, wanted)


@implementer(IAccessPolicy)
class RuleFile:
    """A policy written in lines.

    @ivar rules: in their order.
    """

    def __init__(self, text: str, programs: Iterable[Program[Any, Any]], filename: str = "<rules>") -> None:
        """@param text: the lines.
        @param programs: what is served: they say which permissions there are.
        @param filename: for errors.
        @raise RuleError: a line makes no sense.
        """
        words = vocabulary(programs)
        self.rules: list[Rule] = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                rule = _parse(line, words)
            except ValueError as e:
                raise RuleError(f"{filename}:{number}: {e}") from e
            if rule is not None:
                self.rules.append(rule)
        self.looksAtObjects = any(rule.conditional for rule in self.rules)

    @classmethod
    def fromPath(cls, path: str | Path, programs: Iterable[Program[Any, Any]]) -> RuleFile:
        """Read a file.

        @raise RuleError: it cannot be read, or makes no sense.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise RuleError(f"cannot read {path}: {getattr(e, 'strerror', None) or e}") from e
        return cls(text, programs, str(path))

    def allows(self, identity: Identity, procedure: Procedure, object: AccessObject) -> bool:
        """Whether the rules permit all that is needed."""
        return all(self._permits(identity, permission, object) for permission in object.permissions)

    def _permits(self, identity: Identity, permission: str, object: AccessObject) -> bool:
        for rule in self.rules:
            if rule.fits(identity, permission, object):
                return rule.permit
        return False


def _parse(line: str, words: dict[str, set[str]]) -> Rule | None:
    """@raise ValueError: the line makes no sense."""
    parts = shlex.split(line, comments=True)
    if not parts:
        return None
    verb, *rest = parts
    if verb not in ("permit", "deny"):
        raise ValueError(f"{verb!r} is neither permit nor deny")
    if not rest:
        raise ValueError(f"{verb} whom?")
    who = _who(rest[0])
    conditions: dict[str, Any] = {}
    for part in rest[1:]:
        name, equals, value = part.partition("=")
        if equals:
            if name not in _HAVE:
                raise ValueError(f"{name!r} is not one of {', '.join(f'{each}=' for each in _HAVE)}")
            if name in conditions:
                raise ValueError(f"{name}= is there twice")
            conditions[name] = _value(name, value)
    permissions: set[str] = set()
    for part in rest[1:]:
        if "=" not in part:
            permissions |= _permissions(part, words, conditions)
    if not permissions:
        raise ValueError(f"{verb} {rest[0]} what?")
    return Rule(verb == "permit", who, frozenset(permissions), **conditions)


def _value(name: str, text: str) -> str | bytes:
    """What stands behind the C{=} of a condition."""
    if name != "uuid":
        if not text:
            raise ValueError(f"{name}= what?")
        return text
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        raise ValueError(f"{text!r} is no uuid") from None


_HAVE_UUID = frozenset({"domain", "network", "network_port", "nwfilter", "secret", "storage_pool"})
_HAVE_NAME = _HAVE_UUID | {"interface", "node_device", "nwfilter_binding", "storage_vol"}
_HAVE = {"name": _HAVE_NAME, "uuid": _HAVE_UUID, "pool": frozenset({"storage_vol"})}
"""Condition to the kinds of objects on which it makes sense."""


def _permissions(text: str, words: dict[str, set[str]], conditions: Iterable[str]) -> set[str]:
    """The permissions that a word like C{domain:{start,stop}} stands for.

    @param conditions: those of the rule; of C{*} only what can meet them is meant.
    """
    kind, _, permission = text.partition(":")
    if text == "*":
        permission = "*"
    kinds = [each for each in words if fnmatchcase(each, kind)]
    if not kinds:
        raise ValueError(f"there is no {kind!r}; {_instead(kind, words)}")
    for condition in conditions:
        kinds = [each for each in kinds if each in _HAVE[condition]]
        if not kinds:
            raise ValueError(f"{text} has no {condition}: it takes a line of its own")
    braces = re.fullmatch(r"\{(.*)\}", permission)
    patterns = braces[1].split(",") if braces else [permission]
    found: set[str] = set()
    for pattern in patterns:
        fitting = {f"{each}:{word}" for each in kinds for word in words[each] if fnmatchcase(word, pattern)}
        if not fitting:
            if "," in pattern:
                raise ValueError(f"there is no {text}; several are {kind}:{{{pattern}}}")
            known = {word for each in kinds for word in words[each]}
            raise ValueError(f"there is no {kind}:{pattern}; {_instead(pattern, known)}")
        found |= fitting
    return found


def _instead(word: str, known: Iterable[str]) -> str:
    """What may have been meant by a word that there is not, or else all that there are."""
    near = get_close_matches(word, sorted(known), 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"


def _who(text: str) -> Test:
    """Whom a word like C{sasl:alice} is about."""
    if text == "any":
        return lambda identity: True
    kind, _, value = text.partition(":")
    if value and kind in _WHO:
        return _WHO[kind](value)
    raise ValueError(f"{text!r} is nobody: say {', '.join(f'{each}:…' for each in _WHO)} or any")


def _like(field: str) -> Callable[[str], Test]:
    def make(pattern: str) -> Test:
        def test(identity: Identity) -> bool:
            value = getattr(identity, field)
            return value is not None and fnmatchcase(value, pattern)

        return test

    return make


def _dn(pattern: str) -> Test:
    like = _like("x509dname")(separated(pattern))

    def test(identity: Identity) -> bool:
        dn = identity.x509dname
        return dn is not None and like(identity.changed(x509dname=separated(dn)))

    return test


def _uid(text: str) -> Test:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text!r} is not the number of a user")
    uid = int(text)
    return lambda identity: identity.uid == uid


def _user(name: str) -> Test:
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {name!r}") from None
    return lambda identity: identity.uid == uid


def _group(name: str) -> Test:
    try:
        gid = grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {name!r}") from None
    return lambda identity: identity.gid == gid or gid in identity.groups


def _transport(text: str) -> Test:
    if text not in TRANSPORTS:
        raise ValueError(f"{text!r} is not one of {', '.join(TRANSPORTS)}")
    return lambda identity: identity.transport == text


_WHO: dict[str, Callable[[str], Test]] = {
    "sasl": _like("saslUser"),
    "dn": _dn,
    "uid": _uid,
    "user": _user,
    "group": _group,
    "transport": _transport,
}
