"""Subscriptions: what the server is asked for, and who hears what."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.client.server import FEATURE, LATER, Opening, ScriptedServer
from virnet.client import Connection, Subscription
from virnet.client.events import DOMAIN, NETWORK, NODE_DEVICE, SECRET, STORAGE_POOL, EventRegistry
from virnet.errors import ConnectionLost, RemoteError
from virnet.programs import REMOTE
from virnet.programs.constants import DomainEventID
from virnet.programs.typedparams import TypedParams
from virnet.programs.values import Domain, DomainEventLifecycleMsg, DomainEventPMWakeupMsg, Network

REGISTER, DEREGISTER, LIFECYCLE_EVENT = 316, 317, 318
PLAIN_REGISTER, PLAIN_DEREGISTER, PLAIN_LIFECYCLE_EVENT = 167, 168, 107

LIFECYCLE = DomainEventID.LIFECYCLE
STARTED = (2, 0)

ONE = Domain("one", bytes(range(16)), 1)
TWO = Domain("two", bytes(range(16, 32)), 2)


def lifecycle(domain: Domain, what: tuple[int, int] = STARTED) -> DomainEventLifecycleMsg:
    """What a lifecycle event says."""
    return DomainEventLifecycleMsg(domain, *what)


class _Case(SynchronousTestCase):
    features = frozenset({14, 15})

    def setUp(self) -> None:
        self.server = ScriptedServer()
        self.server.answers[FEATURE] = lambda feature: int(feature in self.features)
        self.lastID = 40
        for number in (REGISTER, 313, 368, 374, 380):
            self.server.answers[number] = lambda eventID, target: self.nextID()
        for number in (DEREGISTER, 314, 369, 375, 381, PLAIN_REGISTER, PLAIN_DEREGISTER):
            self.server.answers[number] = lambda number: None
        self.opening = Opening(self.server)
        self.connection: Connection = self.successResultOf(self.opening.opened)
        self.events: EventRegistry = self.connection.domainEvents
        self.server.taken()
        self.heard: list[Any] = []

    def nextID(self) -> int:
        """What the server answers to a registration."""
        self.lastID += 1
        return self.lastID

    def hear(self, *event: Any) -> None:
        """A subscriber."""
        self.heard.append(event)

    def start(self, *args: Any, registry: EventRegistry | None = None) -> Deferred[Subscription]:
        """Begin to subscribe."""
        return Deferred.fromCoroutine((registry or self.events).subscribe(*args))

    def subscribe(self, *args: Any, registry: EventRegistry | None = None) -> Subscription:
        """Subscribe, and wait until the server knows."""
        subscribing = self.start(*args, registry=registry)
        self.opening.flush()
        return self.successResultOf(subscribing)

    def cancel(self, subscription: Subscription) -> None:
        """Cancel, and wait until the server knows."""
        cancelling = Deferred.fromCoroutine(subscription.cancel())
        self.opening.flush()
        self.successResultOf(cancelling)

    def emit(self, number: int, *values: Any) -> list[Any]:
        """Have the server send an event; return what was heard."""
        self.server.emit(number, *values)
        self.opening.flush()
        heard, self.heard = self.heard, []
        return heard


class WithCallbackIDs(_Case):
    """Feature 14: the server numbers registrations, and filters by domain."""

    def test_a_subscription_registers_and_its_end_deregisters(self) -> None:
        subscription = self.subscribe(LIFECYCLE, self.hear)
        self.assertEqual(self.server.taken(), [(REGISTER, (0, None))])
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [(ONE, 2, 0)])
        self.cancel(subscription)
        self.assertEqual(self.server.taken(), [(DEREGISTER, (41,))])

    def test_subscribers_of_the_same_event_share_a_registration(self) -> None:
        first = self.subscribe(LIFECYCLE, lambda *event: self.hear("first", *event))
        second = self.subscribe(LIFECYCLE, lambda *event: self.hear("second", *event))
        self.assertEqual(self.server.taken(), [(REGISTER, (0, None))])
        self.assertEqual(
            self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [("first", ONE, 2, 0), ("second", ONE, 2, 0)]
        )
        self.cancel(first)
        self.assertEqual(self.server.taken(), [])
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [("second", ONE, 2, 0)])
        self.cancel(second)
        self.assertEqual(self.server.taken(), [(DEREGISTER, (41,))])

    def test_they_share_it_even_when_they_ask_at_the_same_time(self) -> None:
        both = [self.start(LIFECYCLE, self.hear), self.start(LIFECYCLE, self.hear)]
        self.opening.flush()
        for each in both:
            self.successResultOf(each)
        self.assertEqual(self.server.taken(), [(REGISTER, (0, None))])

    def test_other_events_are_registered_by_themselves(self) -> None:
        self.subscribe(LIFECYCLE, self.hear)
        self.subscribe(DomainEventID.REBOOT, self.hear)
        self.assertEqual(self.server.taken(), [(REGISTER, (0, None)), (REGISTER, (1, None))])

    def test_one_domains_events_are_registered_with_that_domain(self) -> None:
        all = self.subscribe(LIFECYCLE, lambda *event: self.hear("all", *event))
        one = self.subscribe(LIFECYCLE, lambda *event: self.hear("one", *event), ONE)
        self.assertEqual(self.server.taken(), [(REGISTER, (0, None)), (REGISTER, (0, ONE))])
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(TWO)), [("all", TWO, 2, 0)])
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 42, lifecycle(ONE)), [("one", ONE, 2, 0)])
        self.cancel(all)
        self.cancel(one)
        self.assertEqual(self.server.taken(), [(DEREGISTER, (41,)), (DEREGISTER, (42,))])

    def test_the_same_domain_under_another_id_is_the_same(self) -> None:
        self.subscribe(LIFECYCLE, self.hear, ONE)
        self.subscribe(LIFECYCLE, self.hear, ONE._replace(id=-1))
        self.assertEqual(len(self.server.taken()), 1)

    def test_R159_events_of_a_callback_just_cancelled_are_ignored(self) -> None:
        self.server.answers[DEREGISTER] = lambda callbackID: LATER
        subscription = self.subscribe(LIFECYCLE, self.hear)
        cancelling = Deferred.fromCoroutine(subscription.cancel())
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [])
        self.assertNoResult(cancelling)
        self.server.reply(self.server.unanswered[0], None)
        self.opening.flush()
        self.successResultOf(cancelling)
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [])

    def test_events_of_callback_ids_that_are_not_ours_are_ignored(self) -> None:
        self.subscribe(LIFECYCLE, self.hear)
        for callbackID in (0, 40, 42, -1):
            self.assertEqual(self.emit(LIFECYCLE_EVENT, callbackID, lifecycle(ONE)), [])

    def test_events_of_the_other_style_are_ignored(self) -> None:
        self.subscribe(LIFECYCLE, self.hear)
        self.assertEqual(self.emit(PLAIN_LIFECYCLE_EVENT, ONE, 2, 0), [])

    def test_R160_an_event_that_comes_before_the_reply_to_the_call_that_caused_it(self) -> None:
        self.subscribe(LIFECYCLE, self.hear)
        suspended = self.connection.remote.domainSuspend(ONE)

        def suspend(domain: Domain) -> None:
            self.server.emit(LIFECYCLE_EVENT, 41, lifecycle(domain, (3, 0)))

        self.server.answers[34] = suspend
        self.opening.flush()
        self.assertEqual(self.heard, [(ONE, 3, 0)])
        self.successResultOf(suspended)

    def test_a_subscriber_that_fails_keeps_no_event_from_the_others(self) -> None:
        def fail(*event: Any) -> None:
            raise KeyError("a bug in the application")

        self.subscribe(LIFECYCLE, fail)
        self.subscribe(LIFECYCLE, self.hear)
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [(ONE, 2, 0)])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_a_subscriber_may_cancel_itself_while_it_hears(self) -> None:
        subscriptions: list[Subscription] = []

        def once(*event: Any) -> None:
            self.hear(*event)
            Deferred.fromCoroutine(subscriptions[0].cancel())

        subscriptions.append(self.subscribe(LIFECYCLE, once))
        self.subscribe(LIFECYCLE, self.hear)
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [(ONE, 2, 0)] * 2)
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [(ONE, 2, 0)])

    def test_cancelling_twice_is_cancelling_once(self) -> None:
        subscription = self.subscribe(LIFECYCLE, self.hear)
        self.subscribe(LIFECYCLE, self.hear)
        self.cancel(subscription)
        self.cancel(subscription)
        self.assertEqual(len(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE))), 1)

    def test_registering_again_waits_for_the_deregistration(self) -> None:
        # The server may run both calls side by side, and would find the event still registered.
        subscription = self.subscribe(LIFECYCLE, self.hear)
        self.server.answers[DEREGISTER] = lambda callbackID: LATER
        self.server.taken()
        cancelling = Deferred.fromCoroutine(subscription.cancel())
        subscribing = self.start(LIFECYCLE, self.hear)
        self.opening.flush()
        self.assertEqual(self.server.taken(), [(DEREGISTER, (41,))])
        self.server.reply(self.server.unanswered[0], None)
        self.opening.flush()
        self.successResultOf(cancelling)
        self.successResultOf(subscribing)
        self.assertEqual(self.server.taken(), [(REGISTER, (0, None))])


class WithoutCallbackIDs(_Case):
    """R163: an older server knows events by number alone, for all domains."""

    features = frozenset({15})

    def test_R163_lifecycle_too_is_registered_by_its_number(self) -> None:
        subscription = self.subscribe(LIFECYCLE, self.hear)
        self.assertEqual(self.server.taken(), [(PLAIN_REGISTER, (0,))])
        self.assertEqual(self.emit(PLAIN_LIFECYCLE_EVENT, ONE, 2, 0), [(ONE, 2, 0)])
        self.cancel(subscription)
        self.assertEqual(self.server.taken(), [(PLAIN_DEREGISTER, (0,))])

    def test_R163_the_domain_is_filtered_here(self) -> None:
        self.subscribe(LIFECYCLE, self.hear, ONE)
        self.assertEqual(self.server.taken(), [(PLAIN_REGISTER, (0,))])
        self.assertEqual(self.emit(PLAIN_LIFECYCLE_EVENT, TWO, 2, 0), [])
        self.assertEqual(
            self.emit(PLAIN_LIFECYCLE_EVENT, ONE._replace(id=9), 2, 0), [(ONE._replace(id=9), 2, 0)]
        )

    def test_R163_all_filters_share_the_one_registration(self) -> None:
        subscriptions = [self.subscribe(LIFECYCLE, self.hear, target) for target in (None, ONE, TWO)]
        self.assertEqual(self.server.taken(), [(PLAIN_REGISTER, (0,))])
        self.assertEqual(len(self.emit(PLAIN_LIFECYCLE_EVENT, ONE, 2, 0)), 2)
        for subscription in subscriptions:
            self.assertEqual(self.server.taken(), [])
            self.cancel(subscription)
        self.assertEqual(self.server.taken(), [(PLAIN_DEREGISTER, (0,))])

    def test_events_that_exist_with_callback_ids_only_are_refused_here(self) -> None:
        subscribing = self.start(DomainEventID.TUNABLE, self.hear)
        error = self.failureResultOf(subscribing, ValueError).value
        self.assertEqual(str(error), "the server is too old for domain event 17")
        self.opening.flush()
        self.assertEqual(self.server.taken(), [])

    def test_other_families_have_callback_ids_anyway(self) -> None:
        self.subscribe(0, self.hear, registry=self.connection.networkEvents)
        self.assertEqual(self.server.taken(), [(313, (0, None))])


class Mistakes(_Case):
    """What cannot be subscribed to, and what the server refuses."""

    def test_an_event_that_does_not_exist(self) -> None:
        for wrong in (-1, 28, 1000):
            error = self.failureResultOf(self.start(wrong, self.hear), ValueError).value
            self.assertEqual(str(error), f"{wrong} is not an event of a domain")
        self.opening.flush()
        self.assertEqual(self.server.taken(), [])

    def test_a_server_that_refuses_may_be_asked_again(self) -> None:
        answers = self.server.answers
        accept = answers[REGISTER]

        def refuse(eventID: int, domain: Domain | None) -> int:
            raise RemoteError.of(1, f"unsupported event ID {eventID}", 7)

        answers[REGISTER] = refuse
        subscribing = self.start(LIFECYCLE, self.hear)
        self.opening.flush()
        self.failureResultOf(subscribing, RemoteError)
        answers[REGISTER] = accept
        self.subscribe(LIFECYCLE, self.hear)
        self.assertEqual(len(self.server.taken()), 2)

    def test_a_server_that_refuses_to_deregister_is_no_longer_heard(self) -> None:
        def refuse(callbackID: int) -> None:
            raise RemoteError.of(1, f"domain event callback {callbackID} not registered", 7)

        self.server.answers[DEREGISTER] = refuse
        subscription = self.subscribe(LIFECYCLE, self.hear)
        cancelling = Deferred.fromCoroutine(subscription.cancel())
        self.opening.flush()
        self.failureResultOf(cancelling, RemoteError)
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [])

    def test_a_subscription_given_up_before_it_was_made_is_not_left_at_the_server(self) -> None:
        self.server.answers[REGISTER] = lambda eventID, domain: LATER
        subscribing = self.start(LIFECYCLE, self.hear)
        self.opening.flush()
        subscribing.cancel()
        self.failureResultOf(subscribing, CancelledError)
        self.server.taken()
        self.server.reply(self.server.unanswered[0], 41)
        self.opening.flush()
        self.assertEqual(self.server.taken(), [(DEREGISTER, (41,))])
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [])

    def test_nor_does_it_matter_if_the_server_refuses_what_was_given_up(self) -> None:
        self.server.answers[REGISTER] = lambda eventID, domain: LATER
        subscribing = self.start(LIFECYCLE, self.hear)
        self.opening.flush()
        subscribing.cancel()
        self.failureResultOf(subscribing, CancelledError)
        self.server.taken()
        self.server.refuse(self.server.unanswered[0], RemoteError.of(1, "no"))
        self.opening.flush()
        self.assertEqual(self.server.taken(), [])
        self.server.answers[REGISTER] = lambda eventID, domain: 7
        self.subscribe(LIFECYCLE, self.hear)

    def test_a_subscription_that_waits_for_its_turn_may_be_given_up(self) -> None:
        self.server.answers[REGISTER] = lambda eventID, domain: LATER
        first, second = self.start(LIFECYCLE, self.hear), self.start(DomainEventID.REBOOT, self.hear)
        self.opening.flush()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.server.reply(self.server.unanswered[0], 41)
        self.opening.flush()
        self.successResultOf(first)
        self.assertEqual(self.server.taken(), [(REGISTER, (0, None))])


class Loss(_Case):
    """A subscription ends with its connection."""

    def test_cancelling_afterwards_has_no_effect(self) -> None:
        subscription = self.subscribe(LIFECYCLE, self.hear)
        self.server.transport.loseConnection()
        self.opening.flush()
        self.successResultOf(Deferred.fromCoroutine(subscription.cancel()))

    def test_while_registering(self) -> None:
        self.server.answers[REGISTER] = lambda eventID, domain: LATER
        subscribing = self.start(LIFECYCLE, self.hear)
        self.opening.flush()
        self.server.transport.loseConnection()
        self.opening.flush()
        self.failureResultOf(subscribing, ConnectionLost)

    def test_while_deregistering(self) -> None:
        self.server.answers[DEREGISTER] = lambda callbackID: LATER
        subscription = self.subscribe(LIFECYCLE, self.hear)
        cancelling = Deferred.fromCoroutine(subscription.cancel())
        self.opening.flush()
        self.server.transport.loseConnection()
        self.opening.flush()
        self.successResultOf(cancelling)


class Families(_Case):
    """Every event of every family has its message in the program."""

    def test_the_numbers_are_those_of_the_protocol(self) -> None:
        callbacks = [*range(318, 334), 339, 346, 348, 354, 359, 363, 367, 379, 385, 423, 438, 453]
        # 334 and 335 to 338 are no events.
        self.assertEqual([DOMAIN.events[n][1] for n in range(16)], callbacks[:16])
        self.assertEqual([DOMAIN.events[n][1] for n in range(16, 28)], callbacks[16:])
        legacy = [107, 169, 170, 171, 172, 173, 195, 224, 241, 248, 268, 269, 270, 276, 292, 311]
        self.assertEqual([DOMAIN.events[n][0] for n in range(16)], legacy)
        self.assertEqual({DOMAIN.events[n][0] for n in range(16, 28)}, {None})
        self.assertEqual(NETWORK.events, {0: (None, 315), 1: (None, 446)})
        self.assertEqual(STORAGE_POOL.events, {0: (None, 370), 1: (None, 373)})
        self.assertEqual(NODE_DEVICE.events, {0: (None, 376), 1: (None, 377)})
        self.assertEqual(SECRET.events, {0: (None, 382), 1: (None, 383)})

    def test_each_is_an_event_of_the_program_with_a_callback_id_or_without(self) -> None:
        for family in (DOMAIN, NETWORK, STORAGE_POOL, NODE_DEVICE, SECRET):
            for plain, withID in family.events.values():
                self.assertEqual(REMOTE.events[withID].parameters[0], "callbackID")
                if plain is not None:
                    self.assertNotIn("callbackID", REMOTE.events[plain].parameters)

    def test_every_family_registers_with_its_own_procedures(self) -> None:
        connection = self.connection
        for registry, register, deregister in (
            (connection.networkEvents, 313, 314),
            (connection.storagePoolEvents, 368, 369),
            (connection.nodeDeviceEvents, 374, 375),
            (connection.secretEvents, 380, 381),
        ):
            subscription = self.subscribe(0, self.hear, registry=registry)
            self.cancel(subscription)
            self.assertEqual(self.server.taken(), [(register, (0, None)), (deregister, (self.lastID,))])

    def test_equal_callback_ids_of_two_families_do_not_meet(self) -> None:
        self.subscribe(LIFECYCLE, lambda *event: self.hear("domain", *event))
        self.lastID = 40
        self.subscribe(0, lambda *event: self.hear("network", *event), registry=self.connection.networkEvents)
        net = Network("default", bytes(16))
        self.assertEqual(self.emit(315, 41, net, 2, 0), [("network", net, 2, 0)])
        self.assertEqual(self.emit(LIFECYCLE_EVENT, 41, lifecycle(ONE)), [("domain", ONE, 2, 0)])

    def test_whatever_the_shape_of_its_message_the_object_comes_first(self) -> None:
        for eventID, procedure in ((n, REMOTE.events[DOMAIN.events[n][1]]) for n in DOMAIN.events):
            self.subscribe(eventID, self.hear)
            names = [name for name, _ in procedure.args]
            self.assertEqual(names[0], "callbackID")
            self.assertTrue({"msg", "dom"} & set(names[1:]), procedure)

    def test_a_message_that_wraps_the_older_one_with_a_field_before_it(self) -> None:
        self.subscribe(DomainEventID.PMWAKEUP, self.hear)
        self.assertEqual(REMOTE.events[329].parameters, ("callbackID", "reason", "msg"))
        self.assertEqual(self.emit(329, 41, 7, DomainEventPMWakeupMsg(ONE)), [(ONE, 7)])

    def test_a_message_that_does_not_wrap_one(self) -> None:
        self.subscribe(DomainEventID.JOB_COMPLETED, self.hear)
        params = TypedParams({"type": 1})
        self.assertEqual(self.emit(363, 41, ONE, params), [(ONE, params)])
