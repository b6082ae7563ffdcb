"""Subscriptions that outlast the connection they were made on.

Rules that live here:

  - After a reconnect each is made again, one after the other, before any call that waits is sent: who lists
    things after that misses nothing.
  - The first thing that a subscriber then hears is a L{Gap}: from when to when events may have passed
    unheard.
  - One that the server refuses to make again ends; its gap says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from virnet.client.connection import Connection
from virnet.client.events import Callback, EventRegistry, Subscription
from virnet.errors import ConnectionLost, RemoteError, RemoteProtocolError
from virnet.objects import Gap

_log = Logger()


class LastingSubscription:
    """One subscriber of a L{ConnectionService<virnet.client.service.ConnectionService>}. C{await
    subscription.cancel()} ends it.
    """

    def __init__(
        self,
        registries: LastingRegistries,
        name: str,
        eventID: int,
        callback: Callback,
        target: Any,
        gap: Callable[[Gap], object] | None,
    ) -> None:
        self._registries = registries
        self._name = name
        self._eventID = eventID
        self._callback = callback
        self._target = target
        self._gap = gap
        self._current: Subscription | None = None
        self._over = False

    async def attach(self, connection: Connection) -> None:
        """Subscribe on a connection.

        @raise RemoteError: the server refused.
        """
        registry: EventRegistry = getattr(connection, self._name)
        self._current = await registry.subscribe(self._eventID, self._heard, self._target)
        if self._over:
            await self._current.cancel()

    async def reattach(self, connection: Connection, since: float, seconds: Callable[[], float]) -> bool:
        """Subscribe on a new connection, and tell of the gap.

        @return: whether the server took it.
        @raise ConnectionLost: this connection is gone, too.
        """
        error: RemoteError | ValueError | None = None
        try:
            await self.attach(connection)
        except (RemoteError, ValueError) as e:
            error = e
            _log.warn("a subscription to {name} is over: {error}", name=self._name, error=e)
        if self._gap is not None and not self._over:
            try:
                self._gap(Gap(since, seconds(), error))
            except Exception:
                _log.failure("a subscriber of {name} failed at a gap", name=self._name)
        return error is None

    def _heard(self, *values: Any) -> None:
        if self._over:
            return
        try:
            self._callback(*values)
        except Exception:
            _log.failure("a subscriber of {name} failed", name=self._name)

    async def cancel(self) -> None:
        """End the subscription: nothing is called from now on; return when the server knows.

        Without effect the second time, and at the server when there is no connection.
        """
        if self._registries.forget(self):
            self._over = True
            if self._current is not None:
                await self._current.cancel()


class LastingRegistries:
    """The subscriptions of a service."""

    def __init__(self) -> None:
        self._subscriptions: list[LastingSubscription] = []

    def add(self, subscription: LastingSubscription) -> None:
        """One more to be kept."""
        self._subscriptions.append(subscription)

    def forget(self, subscription: LastingSubscription) -> bool:
        """Keep it no more.

        @return: whether it was kept.
        """
        if subscription not in self._subscriptions:
            return False
        self._subscriptions.remove(subscription)
        return True

    async def reattach(self, connection: Connection, since: float, seconds: Callable[[], float]) -> None:
        """Make all of them again.

        @param since: the last sign of life of the connection before this.
        @param seconds: tells the time.
        @raise ConnectionLost: this connection is gone, too.
        """
        for subscription in list(self._subscriptions):
            if subscription in self._subscriptions and not await subscription.reattach(
                connection, since, seconds
            ):
                self.forget(subscription)


class LastingRegistry:
    """The subscriptions to one family of events, in the shape of an L{EventRegistry}."""

    def __init__(self, registries: LastingRegistries, name: str, connected: Callable[[], Any]) -> None:
        """@param name: of the registry of a L{Connection}.
        @param connected: gives a Deferred of the connection, or raises.
        """
        self._registries = registries
        self._name = name
        self._connected = connected

    async def subscribe(
        self,
        eventID: int,
        callback: Callback,
        target: Any = None,
        *,
        gap: Callable[[Gap], object] | None = None,
    ) -> LastingSubscription:
        """Have a callback called for each event of one kind, on this connection and all that follow it.

        Without a connection this waits for one, as calls do.

        @param gap: called with a L{Gap} when there was a reconnect.
        @raise ConnectionLost: there is no connection and none is waited for.
        """
        subscription = LastingSubscription(self._registries, self._name, eventID, callback, target, gap)
        while True:
            connection: Connection = await self._connected()
            try:
                await subscription.attach(connection)
            except (ConnectionLost, RemoteProtocolError):
                continue
            self._registries.add(subscription)
            return subscription
