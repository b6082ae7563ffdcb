"""From what happens in the hypervisor to who asked to be told.

Rules:

  - A subscriber hears of an event at once, before what caused it has returned.
  - Who subscribes or cancels while an event is delivered does not change who gets that one, but for what was
    cancelled: it gets nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.registrations import Cancel, EventFamily, IEventSource, Subject


class _Subscriber:
    def __init__(
        self, family: EventFamily, eventID: int, key: bytes | str | None, deliver: Callable[..., object]
    ) -> None:
        self.family = family
        self.eventID = eventID
        self.key = key
        self.deliver: Callable[..., object] | None = deliver


@implementer(IEventSource)
class EventHub:
    """All subscriptions to the events of one hypervisor."""

    def __init__(self) -> None:
        self._subscribers: list[_Subscriber] = []

    def subscribe(
        self, family: EventFamily, eventID: int, subject: Subject | None, deliver: Callable[..., object]
    ) -> Cancel:
        """Ask for events; parameters as L{IEventSource} says."""
        if family is EventFamily.SECRET:
            raise RemoteError.of(
                ErrorNumber.NO_SUPPORT, "virConnectSecretEventRegisterAny", ErrorDomain.SECRET
            )  # fmt: skip
        key = getattr(subject, "uuid", getattr(subject, "name", None))
        subscriber = _Subscriber(family, eventID, key, deliver)
        self._subscribers.append(subscriber)

        def cancel() -> None:
            subscriber.deliver = None
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return cancel

    def emit(self, family: EventFamily, eventID: int, subject: Subject, *fields: Any) -> None:
        """Tell everybody who wants to know.

        @param subject: what it happened to; the first field of the message.
        @param fields: the other fields.
        """
        key = getattr(subject, "uuid", getattr(subject, "name", None))
        for subscriber in list(self._subscribers):
            if subscriber.family is family and subscriber.eventID == eventID:
                if subscriber.key in (None, key) and subscriber.deliver is not None:
                    subscriber.deliver(subject, *fields)
