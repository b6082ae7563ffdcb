"""Events to iterate over: in order, bounded, with gaps, to the end."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import ConnectionLost, RemoteError
from virnet.objects import Domain, Event, Events, Gap, Overflow
from virnet.objects.events import _fields
from virnet.programs.constants import (
    DomainEventID,
    DomainEventType,
    DomainState,
    NetworkEventID,
    NetworkEventLifecycleType,
)
from virnet.programs.eventfamilies import DOMAIN
from virnet.testing import MemoryHost


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.host = MemoryHost()
        self.addCleanup(self.host.close)
        self.connection = self.host.connect()
        self.domain: Domain = self.host.run(self.connection.domain("test"))
        self.host.recorder.calls.clear()

    def next(self, events: Any) -> Any:
        """What the loop gets next."""
        return self.host.run(events.__anext__())

    def toggle(self, count: int = 1) -> None:
        """Suspend the domain, resume it, and so on."""
        for number in range(count):
            self.host.run(self.domain.resume() if number % 2 else self.domain.suspend())


class Iterating(_Case):
    """The loop."""

    def test_the_life_of_a_domain(self) -> None:
        heard: list[Any] = []

        async def listen() -> None:
            async with self.domain.events() as events:
                async for event in events:
                    assert isinstance(event, Event)
                    heard.append(event)
                    if event.details["event"] == DomainEventType.RESUMED:
                        return

        listening = Deferred.fromCoroutine(listen())
        self.host.flush()
        self.toggle(2)
        self.host.run(listening)
        first, second = heard
        self.assertEqual((first.subject, first.kind), (self.domain, DomainEventID.LIFECYCLE))
        self.assertEqual(first.details, {"event": DomainEventType.SUSPENDED, "detail": 0})
        self.assertEqual(second.details["event"].name, "RESUMED")
        self.assertIn("connectDomainEventCallbackDeregisterAny", self.host.recorder.names)

    def test_everything_of_a_connection(self) -> None:
        events = self.connection.events(DomainEventID.LIFECYCLE, NetworkEventID.LIFECYCLE)
        self.host.run(events.open())
        self.toggle()
        network = self.host.run(self.connection.network("default"))
        self.host.run(network.destroy())
        self.assertEqual(self.next(events).subject, self.domain)
        event = self.next(events)
        self.assertEqual((event.subject, event.kind), (network, NetworkEventID.LIFECYCLE))
        self.assertIs(event.details["event"], NetworkEventLifecycleType.STOPPED)
        self.host.run(events.close())

    def test_those_of_one_object_alone(self) -> None:
        network = self.host.run(self.connection.network("default"))
        events = network.events()
        self.host.run(events.open())
        self.host.run(network.destroy())
        self.assertEqual(self.next(events).subject, network)
        pool = self.host.run(self.connection.pool("default-pool"))
        others: list[Events[Any]] = [self.connection.events(), pool.events()]
        for each in others:
            self.host.run(each.open())
            self.host.run(each.close())

    def test_a_loop_without_with_subscribes_at_its_first_step(self) -> None:
        events = self.domain.events()
        self.assertEqual(self.host.recorder.names, [])
        step: Deferred[Any] = Deferred.fromCoroutine(events.__anext__())
        self.host.flush()
        self.toggle()
        self.assertEqual(self.host.run(step).subject, self.domain)
        self.host.run(events.close())
        self.assertRaises(StopAsyncIteration, self.next, events)

    def test_a_step_that_is_cancelled_loses_nothing(self) -> None:
        events = self.domain.events()
        self.host.run(events.open())
        step = Deferred.fromCoroutine(events.__anext__())
        step.cancel()
        self.failureResultOf(step, CancelledError)
        self.toggle()
        self.assertIsInstance(self.next(events), Event)

    def test_only_one_may_wait(self) -> None:
        events = self.domain.events()
        self.host.run(events.open())
        Deferred.fromCoroutine(events.__anext__()).addErrback(lambda _: None)
        self.assertRaises(RuntimeError, self.next, events)

    def test_closing_ends_the_loop_that_waits(self) -> None:
        events = self.domain.events()
        self.host.run(events.open())

        async def count() -> int:
            return len([event async for event in events])

        counting = Deferred.fromCoroutine(count())
        self.host.run(events.close())
        self.assertEqual(self.successResultOf(counting), 0)
        self.toggle()

    def test_closing_while_it_subscribes_leaves_nothing_behind(self) -> None:
        events = self.domain.events(DomainEventID.LIFECYCLE, DomainEventID.REBOOT)
        opening = Deferred.fromCoroutine(events.open())
        closing = Deferred.fromCoroutine(events.close())
        self.host.run(opening)
        self.host.run(closing)
        names = self.host.recorder.names
        self.assertEqual(
            names, ["connectDomainEventCallbackRegisterAny", "connectDomainEventCallbackDeregisterAny"]
        )

    def test_mistakes(self) -> None:
        kind: Any = DomainState.RUNNING
        self.assertRaises(ValueError, self.connection.events, kind)
        self.assertRaises(ValueError, self.domain.events, limit=0)
        foreign: Any = NetworkEventID.LIFECYCLE
        error = self.assertRaises(ValueError, self.domain.events, foreign)
        self.assertEqual(str(error), "<NetworkEventID.LIFECYCLE: 0> does not happen to a Domain")
        unknown = self.domain.events(DomainEventID.CHANNEL_LIFECYCLE)
        self.assertRaises(ValueError, self.host.run, unknown.open())

    def test_a_server_that_refuses(self) -> None:
        refusal = RemoteError.of(3, "no events today")
        self.host.recorder.answers["connectNetworkEventRegisterAny"] = refusal
        events = self.connection.events(DomainEventID.LIFECYCLE, NetworkEventID.LIFECYCLE)
        self.assertRaises(RemoteError, self.host.run, events.open())
        # What was subscribed to before that was taken back.
        self.assertIn("connectDomainEventCallbackDeregisterAny", self.host.recorder.names)

    def test_every_event_of_a_domain_has_names_for_what_it_says(self) -> None:
        for kind in DOMAIN.events:
            fields = _fields(DOMAIN, DomainEventID(kind))
            self.assertFalse({"dom", "msg", "callbackID"} & set(fields), fields)
        self.assertEqual(_fields(DOMAIN, DomainEventID.PMWAKEUP), ("reason",))
        self.assertEqual(_fields(DOMAIN, DomainEventID.DEVICE_ADDED), ("devAlias",))


class Bounds(_Case):
    """A loop that is slower than what happens."""

    def test_what_did_not_fit_is_counted_in_its_place(self) -> None:
        events = self.domain.events(limit=2)
        self.host.run(events.open())
        self.toggle(4)
        self.assertEqual([type(self.next(events)) for _ in range(2)], [Event, Event])
        self.toggle(2)
        self.assertEqual(self.next(events), Overflow(4))
        self.toggle(2)
        self.assertEqual(self.next(events).details["event"], DomainEventType.SUSPENDED)


class Endings(_Case):
    """When the connection ends."""

    def test_what_waits_is_given_out_then_the_reason_is_raised(self) -> None:
        events = self.domain.events()
        self.host.run(events.open())
        self.toggle()
        self.host.disconnect()
        self.assertIsInstance(self.next(events), Event)
        self.assertRaises(ConnectionLost, self.next, events)
        self.assertRaises(ConnectionLost, self.next, events)
        self.host.run(events.close())

    def test_on_a_connection_that_lasts_a_gap_is_told_and_it_goes_on(self) -> None:
        service = self.host.service()
        domain = self.host.run(service.domain("test"))
        events = domain.events()
        self.host.run(events.open())
        self.host.disconnect()
        gap = self.next(events)
        self.assertEqual((type(gap), gap.error), (Gap, None))
        self.assertTrue(gap.since < gap.until)
        self.host.run(domain.suspend())
        self.assertEqual(self.next(events).subject, domain)
        self.host.run(service.stopService())
        self.assertRaises(ConnectionLost, self.next, events)
