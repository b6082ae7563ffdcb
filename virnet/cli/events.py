"""
C{events}: wait for events of any family and print each.

  - Every kind of event has a word: those of domains as libvirt numbers them (C{lifecycle}, C{tray-change}),
    those of the other families with the family in front (C{network-lifecycle}).
  - As JSON an event is one line, C{{"event": WORD, "args": {…}}}, with what libvirt's message carries in
    C{args}. A registration's callback id is not part of that.
  - Asked for everything, what the server does not have is left out, unless it has nothing at all.
"""

from __future__ import annotations

import json
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from virnet.cli.arguments import UsageError
from virnet.cli.jsonvalues import toJSON
from virnet.cli.session import Session, lookup
from virnet.client import Connection
from virnet.client.events import DOMAIN, NETWORK, NODE_DEVICE, SECRET, STORAGE_POOL, EventRegistry, Family
from virnet.errors import RemoteError, VirnetError
from virnet.programs import REMOTE, Procedure, constants
from virnet.xdr.schema import Node, Struct, resolve


class Kind(NamedTuple):
    """A kind of event.

    @ivar lifecycle: the words for its C{event} field, where it is a lifecycle event.
    """

    family: Family
    eventID: int
    lifecycle: type[IntEnum] | None = None


FAMILIES: tuple[tuple[str, Family, type[IntEnum], type[IntEnum]], ...] = (
    ("", DOMAIN, constants.DomainEventID, constants.DomainEventType),
    ("network-", NETWORK, constants.NetworkEventID, constants.NetworkEventLifecycleType),
    ("pool-", STORAGE_POOL, constants.StoragePoolEventID, constants.StoragePoolEventLifecycleType),
    ("nodedev-", NODE_DEVICE, constants.NodeDeviceEventID, constants.NodeDeviceEventLifecycleType),
    ("secret-", SECRET, constants.SecretEventID, constants.SecretEventLifecycleType),
)

KINDS: dict[str, Kind] = {
    prefix + member.name.lower().replace("_", "-"): Kind(family, member, words if member == 0 else None)
    for prefix, family, ids, words in FAMILIES
    for member in ids
    if member in family.events
}
"""Word to the kind of event it stands for."""

DETAILS: dict[int, type[IntEnum]] = {
    constants.DomainEventType.DEFINED: constants.DomainEventDefinedDetailType,
    constants.DomainEventType.UNDEFINED: constants.DomainEventUndefinedDetailType,
    constants.DomainEventType.STARTED: constants.DomainEventStartedDetailType,
    constants.DomainEventType.SUSPENDED: constants.DomainEventSuspendedDetailType,
    constants.DomainEventType.RESUMED: constants.DomainEventResumedDetailType,
    constants.DomainEventType.STOPPED: constants.DomainEventStoppedDetailType,
    constants.DomainEventType.SHUTDOWN: constants.DomainEventShutdownDetailType,
    constants.DomainEventType.PMSUSPENDED: constants.DomainEventPMSuspendedDetailType,
    constants.DomainEventType.CRASHED: constants.DomainEventCrashedDetailType,
}
"""A domain's lifecycle event to the words for its detail."""


async def events(session: Session) -> None:
    """C{events}"""
    options = session.options
    finished: Deferred[None] = Deferred()
    left = options.count

    def received(word: str, fields: list[tuple[str, Node]], *values: object) -> None:
        nonlocal left
        if finished.called:
            return
        try:
            _print(session, word, fields, values)
        except Exception as e:
            finished.errback(e)
            return
        left -= 1
        if not options.follow and left == 0:
            finished.callback(None)

    def timedOut() -> None:
        if finished.called:
            return
        if options.follow:
            finished.callback(None)
        else:
            came = f"{options.count - left} of {options.count} events"
            finished.errback(VirnetError(f"timed out after {options.timeout:g} s: {came}"))

    def lost(reason: Exception) -> None:
        if not finished.called:
            finished.errback(reason)

    await _subscribe(session, received)
    session.connection.whenClosed().addCallback(lost)
    session.output.note(f"waiting for events of {session.connection.uri.text}")
    timer = None if options.timeout is None else session.reactor.callLater(options.timeout, timedOut)
    try:
        await finished
    finally:
        if timer is not None and timer.active():
            timer.cancel()


async def _subscribe(session: Session, received: Any) -> None:
    options, connection = session.options, session.connection
    target = None
    words = options.event or list(KINDS)
    if options.domain is not None:
        others = [word for word in words if KINDS[word].family is not DOMAIN]
        if options.event and others:
            raise UsageError(f"{others[0]!r} is not an event of a domain, so it does not go with --domain")
        words = [word for word in words if word not in others]
        target = await lookup(connection, options.domain)
    refusals: list[Exception] = []
    for word in words:
        kind = KINDS[word]
        registry = _registry(connection, kind.family)
        try:
            callback = partial(received, word, fieldsOf(registry, kind))
            await registry.subscribe(kind.eventID, callback, target)
        except (RemoteError, ValueError) as e:
            if options.event:
                raise VirnetError(f"{word}: {e}") from e
            refusals.append(e)
    if len(refusals) == len(words):
        raise VirnetError(f"the server has no events: {refusals[0]}")


def _registry(connection: Connection, family: Family) -> EventRegistry:
    every = (
        connection.domainEvents,
        connection.networkEvents,
        connection.storagePoolEvents,
        connection.nodeDeviceEvents,
        connection.secretEvents,
    )
    return next(each for each in every if each.family is family)


def fieldsOf(registry: EventRegistry, kind: Kind) -> list[tuple[str, Node]]:
    """What a subscriber of an event is called with: the message without callback id, unwrapped."""
    plain, withID = kind.family.events[kind.eventID]
    number = withID if registry.withCallbacks else plain
    if number is None:
        return []
    procedure: Procedure = REMOTE.events[number]
    args = list(procedure.args)
    wrapped = next((i for i, (name, _) in enumerate(args) if name == "msg"), None)
    if wrapped is not None:
        message = resolve(args[wrapped][1])
        assert isinstance(message, Struct)
        return [*message.fields, *args[1:wrapped]]
    return args[1:] if args[0][0] == "callbackID" else args


def _print(session: Session, word: str, fields: list[tuple[str, Node]], values: tuple[Any, ...]) -> None:
    args = {name: toJSON(node, value) for (name, node), value in zip(fields, values, strict=True)}
    if session.output.asJSON:
        session.output.data({"event": word, "args": args}, indent=None)
    else:
        session.output.line(inWords(word, args))


def inWords(word: str, args: dict[str, Any]) -> str:
    """An event in a line for people.

    @param args: what it carries, as JSON; its first is the object it is about.
    """
    kind = KINDS[word]
    (_, subject), *rest = args.items()
    name = subject.get("name") or subject.get("uuid")
    if kind.lifecycle is not None:
        said = _lifecycle(kind, dict(rest))
    else:
        said = " ".join(f"{key}={each if isinstance(each, str) else json.dumps(each)}" for key, each in rest)
    return f"event '{word}' for {kind.family.name} '{name}'" + (f": {said}" if said else "")


def _lifecycle(kind: Kind, args: dict[str, Any]) -> str:
    assert kind.lifecycle is not None
    said = _member(kind.lifecycle, args["event"])
    details = DETAILS.get(args["event"]) if kind.family is DOMAIN else None
    return said if details is None else f"{said} {_member(details, args['detail'])}"


def _member(names: type[IntEnum], number: int) -> str:
    """The name of a number, the number itself where a newer server knows more."""
    return names(number).name.lower().replace("_", "-") if number in list(names) else str(number)
