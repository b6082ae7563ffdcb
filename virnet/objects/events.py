"""Events as something to iterate over.

Rules that live here:

  - C{async with domain.events() as events: async for event in events} subscribes, and unsubscribes at the
    end. Without C{async with} the first step subscribes; then C{close} is the caller's affair.
  - At most C{limit} events wait for the loop. What comes while it is full is dropped, and an L{Overflow} in
    its place says how many.
  - On a connection that lasts a reconnect is a L{Gap}; after either, look again at what the events are about.
  - When the connection ends for good, what waits is still given out, then its reason is raised.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from twisted.internet.defer import Deferred

from virnet.errors import RemoteError
from virnet.limits import EVENTS_WAITING
from virnet.programs import REMOTE
from virnet.programs.eventfamilies import FAMILIES, Family
from virnet.xdr.schema import Struct

if TYPE_CHECKING:
    from virnet.objects.base import HostBase, Object

S = TypeVar("S", bound="Object[Any]", covariant=True)


class Event(NamedTuple, Generic[S]):
    """Something happened.

    @ivar subject: what it happened to.
    @ivar kind: what kind of event it is, like C{DomainEventID.LIFECYCLE}.
    @ivar details: what the event says of it, by libvirt's names; C{event} of a life cycle is of an enum.
    """

    subject: S
    kind: IntEnum
    details: dict[str, Any]


class Overflow(NamedTuple):
    """Events were dropped, because nobody took those before them.

    @ivar dropped: how many.
    """

    dropped: int


class Gap(NamedTuple):
    """Events may be missing: look again at whatever they are about.

    @ivar since: the last sign of life of the old connection, in seconds of the reactor's clock: since 1970.
    @ivar until: when the new connection had the subscription.
    @ivar error: why the server did not take the subscription again, which is over then; else C{None}. A
        C{ValueError} when it is too old for it.
    """

    since: float
    until: float
    error: RemoteError | ValueError | None = None


class Events(Generic[S]):
    """An asynchronous iterator over events."""

    def __init__(
        self, host: HostBase, kinds: tuple[IntEnum, ...], target: Object[Any] | None, limit: int
    ) -> None:
        """@param limit: events that may wait, at least 1.
        @raise ValueError: it is less; or a kind is not one of events, or not of the target's.
        """
        if limit < 1:
            raise ValueError(f"with a limit of {limit} no event could be waited for")
        self._host = host
        self._families = [(_familyOf(kind), kind) for kind in kinds]
        for family, kind in self._families:
            if target is not None and family.ids != f"{type(target).__name__}EventID":
                raise ValueError(f"{kind!r} does not happen to a {type(target).__name__}")
        self._target = None if target is None else target.value
        self._limit = limit
        self._items: deque[Event[S] | Gap | Overflow] = deque()
        self._dropped = 0
        self._subscriptions: list[Any] | None = None
        self._ended: Deferred[Any] | None = None
        self._reason: Exception | None = None
        self._closed = False
        self._waiting: Deferred[None] | None = None

    async def __aenter__(self) -> Events[S]:
        await self.open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Subscribe, unless that was done.

        @raise RemoteError: the server refused.
        """
        if self._subscriptions is not None:
            return
        self._subscriptions = []
        try:
            for family, kind in self._families:
                registry = getattr(self._host, family.registry)
                heard = partial(self._heard, kind, _fields(family, kind))
                subscription = await registry.subscribe(kind, heard, self._target, gap=self._put)
                if self._closed:
                    await subscription.cancel()
                    return
                self._subscriptions.append(subscription)
        except BaseException:
            await self.close()
            raise
        self._ended = self._host.whenClosed()
        self._ended.addCallbacks(self._hasEnded, lambda _: None)

    async def close(self) -> None:
        """Unsubscribe; the loop ends when it has what waits."""
        self._closed = True
        self._wake()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended.cancel()
        subscriptions, self._subscriptions = self._subscriptions or [], []
        for each in subscriptions:
            await each.cancel()

    def __aiter__(self) -> Events[S]:
        return self

    async def __anext__(self) -> Event[S] | Gap | Overflow:
        await self.open()
        while not self._items:
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                return Overflow(dropped)
            if self._closed:
                raise StopAsyncIteration
            if self._reason is not None:
                raise self._reason
            if self._waiting is not None:
                raise RuntimeError("somebody else waits for the next event already")
            self._waiting = Deferred(self._waiterCancelled)
            await self._waiting
        return self._items.popleft()

    def _waiterCancelled(self, _: object) -> None:
        self._waiting = None

    def _heard(self, kind: IntEnum, fields: tuple[str, ...], value: Any, *values: Any) -> None:
        details = dict(zip(fields, values, strict=True))
        if kind.name == "LIFECYCLE":
            details["event"] = _lifecycle(kind, details["event"])
        self._put(Event(self._host.objectOf(value), kind, details))

    def _put(self, item: Event[Any] | Gap) -> None:
        if self._closed:
            return
        # Once one was dropped all are, until the loop has come to that.
        if self._dropped or len(self._items) >= self._limit:
            self._dropped += 1
        else:
            self._items.append(item)
        self._wake()

    def _hasEnded(self, reason: Exception) -> None:
        self._reason = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


def eventsOf(
    host: HostBase,
    kinds: tuple[IntEnum, ...],
    target: Object[Any] | None = None,
    limit: int = EVENTS_WAITING,
) -> Events[Any]:
    """Iterate over events.

    @param kinds: like C{DomainEventID.LIFECYCLE}; those of several families may be mixed.
    @param target: of which object; C{None}: of all.
    @param limit: how many may wait.
    """
    return Events(host, kinds, target, limit)


def _familyOf(kind: IntEnum) -> Family:
    for family in FAMILIES:
        if family.ids == type(kind).__name__:
            return family
    raise ValueError(f"{kind!r} is not a kind of event: take one from an enum like DomainEventID")


def _fields(family: Family, kind: IntEnum) -> tuple[str, ...]:
    """What the values behind the object are called.

    @raise ValueError: no message carries this kind.
    """
    if kind not in family.events:
        raise ValueError(f"{kind!r} is not an event that virnet knows the message of")
    names: list[str] = []
    outer: list[str] = []
    for name, node in REMOTE.events[family.events[kind][1]].args:
        if name == "msg":
            assert isinstance(node, Struct)
            names += [field for field, _ in node.fields]
        elif name != "callbackID":
            outer.append(name)
    return tuple((names + outer)[1:])


def _lifecycle(kind: IntEnum, event: int) -> int:
    """The member of the enum of a family's life cycle; a number that a newer server knows stays one."""
    from virnet.programs import constants

    family = type(kind).__name__.removesuffix("ID")
    name = family + ("Type" if family == "DomainEvent" else "LifecycleType")
    try:
        member: int = getattr(constants, name)(event)
    except ValueError:
        return event
    return member
