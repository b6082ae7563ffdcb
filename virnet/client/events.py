"""Subscriptions to a server's events: registered there with the first subscriber, cancelled with the last.

Three generations of domain events exist (``wire.md`` section 13). With feature 14 a registration has a
callback id and may be for one domain alone; that is what is used. Without it an event is registered for all
domains by its number, and a subscription for one domain is filtered here. The other families know only
callback ids.

  - Subscribers of the same event (and the same object) share one registration at the server.
  - An event for a callback id that is not, or no longer, ours is ignored.
  - A subscription ends with the connection, without a call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from virnet.client.client import NetClient
from virnet.errors import ConnectionLost, ProtocolError
from virnet.programs import REMOTE
from virnet.programs.base import Procedure
from virnet.programs.eventfamilies import DOMAIN as DOMAIN
from virnet.programs.eventfamilies import NETWORK as NETWORK
from virnet.programs.eventfamilies import NODE_DEVICE as NODE_DEVICE
from virnet.programs.eventfamilies import SECRET as SECRET
from virnet.programs.eventfamilies import STORAGE_POOL as STORAGE_POOL
from virnet.programs.eventfamilies import Family as Family

T = TypeVar("T")

Callback = Callable[..., object]


class Subscription:
    """One subscriber. C{await subscription.cancel()} ends it."""

    def __init__(self, registry: EventRegistry, key: tuple[int, Any], callback: Callback) -> None:
        self._registry = registry
        self._key = key
        self._callback = callback
        self._active = False

    async def cancel(self) -> None:
        """End the subscription: the callback is not called from now on; return when the server knows.

        Without effect the second time, and when the connection is gone.
        """
        if self._active:
            self._active = False
            await self._registry.unsubscribe(self._key, self._callback)


class _Registration:
    """What the server was asked for, and who is told here."""

    def __init__(self, callbackID: int | None) -> None:
        self.callbackID = callbackID
        self.callbacks: list[Callback] = []


class EventRegistry:
    """The subscriptions to one family of events on one connection.

    Registering and deregistering happens strictly one after the other: a server may run two calls of a
    connection side by side, and would then find an event that is just leaving registered still.
    """

    _log = Logger()

    def __init__(self, client: NetClient, family: Family, withCallbacks: bool) -> None:
        """@param withCallbacks: the server registers with callback ids (feature 14)."""
        self.client = client
        self.family = family
        self.withCallbacks = withCallbacks or family.plain is None
        self._registrations: dict[tuple[int, Any], _Registration] = {}
        self._heard: set[int] = set()
        self._lock = DeferredLock()

    async def subscribe(
        self,
        eventID: int,
        callback: Callback,
        target: Any = None,
        *,
        gap: Callable[..., object] | None = None,
    ) -> Subscription:
        """Have a callback called for each event of one kind.

        @param eventID: which kind, like C{DomainEventID.LIFECYCLE}.
        @param callback: called with the object (a C{Domain}, C{Network}…) and what the event says of it.
        @param target: the object whose events are wanted; C{None} for all.
        @param gap: for who may have a lasting connection as well; on this one it is never called, because the
            subscription ends with it.
        @raise ValueError: the family has no such event, or the server is too old for it.
        @raise RemoteError: the server refused.
        """
        if eventID not in self.family.events:
            raise ValueError(f"{int(eventID)} is not an event of a {self.family.name}")
        number = self.family.events[eventID][1 if self.withCallbacks else 0]
        if number is None:
            raise ValueError(f"the server is too old for {self.family.name} event {int(eventID)}")
        self._listen(int(eventID), number)
        subscription = Subscription(self, (int(eventID), _identity(target)), callback)
        await self._lock.acquire()
        adding = Deferred.fromCoroutine(self._add(subscription, target)).addBoth(self._unlock)
        waiting: Deferred[None] = Deferred()
        adding.addCallbacks(waiting.callback, waiting.errback)
        try:
            await waiting
        except BaseException:
            # Cancelled, by Twisted or by asyncio. The server is at it already, and what it registers would
            # never be cancelled.
            adding.addCallback(lambda _: Deferred.fromCoroutine(subscription.cancel()))
            adding.addErrback(lambda failure: self._log.failure("a subscription was not taken back", failure))
            raise
        return subscription

    async def _add(self, subscription: Subscription, target: Any) -> None:
        key = subscription._key
        registration = self._registrations.get(key)
        if registration is None:
            callbackID = await self._register(key[0], target)
            registration = self._registrations[key] = _Registration(callbackID)
        registration.callbacks.append(subscription._callback)
        subscription._active = True

    def _unlock(self, result: T) -> T:
        self._lock.release()
        return result

    async def unsubscribe(self, key: tuple[int, Any], callback: Callback) -> None:
        """Take a subscriber away, and the registration with the last one."""
        registration = self._registrations[key]
        registration.callbacks.remove(callback)
        await self._lock.acquire()
        try:
            if not registration.callbacks and self._registrations.get(key) is registration:
                del self._registrations[key]
                await self._deregister(key[0], registration.callbackID)
        except (ConnectionLost, ProtocolError):
            pass
        finally:
            self._lock.release()

    async def _register(self, eventID: int, target: Any) -> int | None:
        if self.withCallbacks:
            callbackID: int = await self._call(self.family.register, eventID, target)
            return callbackID
        assert self.family.plain is not None
        if not self._hasEvent(eventID):
            await self._call(self.family.plain[0], eventID)
        return None

    async def _deregister(self, eventID: int, callbackID: int | None) -> None:
        if self.withCallbacks:
            await self._call(self.family.deregister, callbackID)
        elif not self._hasEvent(eventID):
            assert self.family.plain is not None
            await self._call(self.family.plain[1], eventID)

    def _hasEvent(self, eventID: int) -> bool:
        return any(event == eventID for event, _ in self._registrations)

    def _call(self, number: int, *args: Any) -> Deferred[Any]:
        return self.client.call(REMOTE.procedures[number], args)

    def _listen(self, eventID: int, number: int) -> None:
        if eventID not in self._heard:
            self._heard.add(eventID)
            procedure = REMOTE.events[number]
            self.client.subscribe(procedure, _unpacker(procedure, partial(self._deliver, eventID)))

    def _deliver(self, eventID: int, callbackID: int | None, values: tuple[Any, ...]) -> None:
        for (event, wanted), registration in list(self._registrations.items()):
            if event != eventID or callbackID != registration.callbackID:
                continue
            if not self.withCallbacks and wanted is not None and wanted != _identity(values[0]):
                continue
            for callback in list(registration.callbacks):
                try:
                    callback(*values)
                except Exception:
                    self._log.failure(
                        "a subscriber of {family} event {event} failed", family=self.family.name, event=event
                    )


class EventRegistries:
    """All families of one connection."""

    def __init__(self, client: NetClient, withCallbacks: bool) -> None:
        self.domain = EventRegistry(client, DOMAIN, withCallbacks)
        self.network = EventRegistry(client, NETWORK, True)
        self.storagePool = EventRegistry(client, STORAGE_POOL, True)
        self.nodeDevice = EventRegistry(client, NODE_DEVICE, True)
        self.secret = EventRegistry(client, SECRET, True)


def _identity(target: Any) -> Any:
    """What stays the same of an object while its id or state changes."""
    return None if target is None else getattr(target, "uuid", target)


def _unpacker(
    procedure: Procedure, deliver: Callable[[int | None, tuple[Any, ...]], None]
) -> Callable[..., None]:
    """Bring the shapes of event messages into one: a callback id, and the object with what is said of it.

    Messages that exist in both generations wrap the older one as C{msg}, some with a further field before it.
    """
    names = [name for name, _ in procedure.args]
    hasID = names[0] == "callbackID"
    wrapped = names.index("msg") if "msg" in names else None

    def unpack(*values: Any) -> None:
        callbackID = values[0] if hasID else None
        if wrapped is None:
            deliver(callbackID, values[1:] if hasID else values)
        else:
            deliver(callbackID, (*values[wrapped], *values[1:wrapped]))

    return unpack
