"""What commands work with, and what several of them need: objects found by what people call them, states
in words.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Awaitable
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from virnet.cli.arguments import UsageError
from virnet.cli.output import Output
from virnet.client import Connection
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError, VirnetError
from virnet.programs.constants import DomainState
from virnet.programs.values import Domain, StoragePool

T = TypeVar("T")


class Session(NamedTuple):
    """What a command works with.

    @ivar reactor: for timers.
    @ivar options: what was typed.
    @ivar connection: open.
    @ivar output: where to print.
    """

    reactor: Any
    options: Namespace
    connection: Connection
    output: Output


STATES = {
    DomainState.NOSTATE: "no state",
    DomainState.RUNNING: "running",
    DomainState.BLOCKED: "idle",
    DomainState.PAUSED: "paused",
    DomainState.SHUTDOWN: "in shutdown",
    DomainState.SHUTOFF: "shut off",
    DomainState.CRASHED: "crashed",
    DomainState.PMSUSPENDED: "pmsuspended",
}
"""The words virsh has for a domain's states."""

_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_ID_MAX = 2**31 - 1


async def lookup(connection: Connection, word: str) -> Domain:
    """Find a domain by id, UUID or name, in this order, as virsh does.

    @raise VirnetError: there is none.
    """
    remote = connection.remote
    if not word:
        raise UsageError("the name of the domain is empty")
    if word.isascii() and word.isdigit() and int(word) <= _ID_MAX:
        found = await ifThere(remote.domainLookupByID(int(word)), ErrorNumber.NO_DOMAIN)
        if found is not None:
            return found
    if _UUID.fullmatch(word):
        found = await ifThere(remote.domainLookupByUUID(UUID(word).bytes), ErrorNumber.NO_DOMAIN)
        if found is not None:
            return found
    return await named(remote.domainLookupByName(word), "domain", word)


async def lookupPool(connection: Connection, word: str) -> StoragePool:
    """Find a storage pool by UUID or name.

    @raise VirnetError: there is none.
    """
    remote = connection.remote
    if _UUID.fullmatch(word):
        found = await ifThere(remote.storagePoolLookupByUUID(UUID(word).bytes), ErrorNumber.NO_STORAGE_POOL)
        if found is not None:
            return found
    return await named(remote.storagePoolLookupByName(word), "pool", word)


async def named(call: Awaitable[T], kind: str, word: str) -> T:
    """Await a lookup; its error says what was looked for, which libvirt's own text need not.

    @raise VirnetError: it failed.
    """
    try:
        return await call
    except RemoteError as e:
        raise VirnetError(f"failed to get {kind} '{word}': {e}") from e


async def ifThere(call: Awaitable[T], missing: ErrorNumber) -> T | None:
    """Await a call about something that need not exist; C{None} when it does not."""
    try:
        return await call
    except RemoteError as e:
        if e.code != missing:
            raise
        return None


async def ifSupported(call: Awaitable[T]) -> T | None:
    """Await a call whose result may be done without; C{None} when the server has no such thing."""
    return await ifThere(call, ErrorNumber.NO_SUPPORT)


def described(domain: Domain) -> dict[str, Any]:
    """What identifies a domain, for JSON; the id of one that does not run is C{null}."""
    return {
        "id": None if domain.id < 0 else domain.id,
        "name": domain.name,
        "uuid": str(UUID(bytes=domain.uuid)),
    }


def idOf(domain: Domain) -> str:
    """A domain's id for people."""
    return "-" if domain.id < 0 else str(domain.id)


def stateName(state: int) -> str:
    """A domain's state in words."""
    return STATES.get(DomainState(state), "no state") if state in STATES else f"state {state}"


def yesNo(value: int | None) -> str:
    """A flag for people, C{-} where it is not known."""
    return "-" if value is None else "yes" if value else "no"
