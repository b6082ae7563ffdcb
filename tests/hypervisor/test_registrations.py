"""
Events, in the three generations of asking for them (wire.md section 13).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.hypervisor.sessions import Connection, memory, opened
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.events import EventHub
from virnet.hypervisor.registrations import MESSAGES, Cancel, EventFamily, IEventSource
from virnet.hypervisor.session import IHypervisor
from virnet.programs import REMOTE
from virnet.programs.constants import DomainEventID, NetworkEventID, StoragePoolEventID
from virnet.programs.values import Domain, Network, StoragePool

TEST = Domain("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
NETWORK = Network("default", bytes.fromhex("dd8fe8846c02601e7551cca97df1c5df"))
POOL = StoragePool("default-pool", bytes.fromhex("dfe224cb28fb8dd0c4b264eb3f0f4566"))
OTHER = "<domain type='test'><name>other</name><memory>1</memory><os><type>hvm</type></os></domain>"
SUSPENDED = (TEST, 3, 0)
RESUMED = (TEST, 4, 0)


@implementer(IHypervisor, IEventSource)
class Source:
    """
    A hypervisor whose only ability is to have events, when it is told to.

    @ivar subscriptions: what was asked for, in order.
    @ivar cancelled: which of them were cancelled.
    """

    def __init__(self, result: Callable[[], Any] | None = None) -> None:
        self.subscriptions: list[tuple[EventFamily, int, Any, Callable[..., object]]] = []
        self.cancelled: list[int] = []
        self.result = result

    def open(self, name: str, readonly: bool, client: Any) -> Source:
        return self

    def subscribe(
        self, family: EventFamily, eventID: int, subject: Any, deliver: Callable[..., object]
    ) -> Any:
        number = len(self.subscriptions)
        self.subscriptions.append((family, eventID, subject, deliver))
        return self.result() if self.result else lambda: self.cancelled.append(number)


class EventTestCase(SynchronousTestCase):
    """
    Checks the errors of registering.
    """

    def assertTracked(self, call: Any, *args: Any) -> None:
        error = self.assertRaises(RemoteError, call, *args)
        self.assertEqual(
            (error.code, error.domain, error.message),
            (
                ErrorNumber.INVALID_ARG,
                ErrorDomain.NONE,
                "invalid argument: event callback already tracked",
            ),
        )

    def assertInternal(self, detail: str, call: Any, *args: Any) -> None:
        error = self.assertRaises(RemoteError, call, *args)
        self.assertEqual(
            (error.code, error.domain, error.message),
            (ErrorNumber.INTERNAL_ERROR, ErrorDomain.RPC, f"internal error: {detail}"),
        )


class Styles(EventTestCase):
    """
    How each generation registers, is told, and deregisters.
    """

    def test_the_oldest_style(self) -> None:
        connection = opened()
        self.assertEqual(connection.connectDomainEventRegister(), 0)
        connection.domainSuspend(TEST)
        self.assertEqual(connection.sent, [("domainEventLifecycle", *SUSPENDED)])
        self.assertEqual(connection.connectDomainEventDeregister(), 0)
        connection.domainResume(TEST)
        self.assertEqual(connection.sent, [])

    def test_the_style_of_each_event(self) -> None:
        connection = opened()
        self.assertIsNone(connection.connectDomainEventRegisterAny(DomainEventID.LIFECYCLE))
        connection.domainSuspend(TEST)
        self.assertEqual(connection.sent, [("domainEventLifecycle", *SUSPENDED)])
        self.assertIsNone(connection.connectDomainEventDeregisterAny(DomainEventID.LIFECYCLE))
        connection.domainResume(TEST)
        self.assertEqual(connection.sent, [])

    def test_the_style_with_ids(self) -> None:
        connection = opened()
        self.assertEqual(connection.connectDomainEventCallbackRegisterAny(DomainEventID.LIFECYCLE, None), 0)
        connection.domainSuspend(TEST)
        self.assertEqual(connection.sent, [("domainEventCallbackLifecycle", 0, SUSPENDED)])
        connection.connectDomainEventCallbackDeregisterAny(0)
        connection.domainResume(TEST)
        self.assertEqual(connection.sent, [])

    def test_R158_the_same_event_cannot_be_registered_twice_in_any_mix_of_styles(self) -> None:
        lifecycle = DomainEventID.LIFECYCLE
        ways: list[Callable[[Connection], Any]] = [
            lambda c: c.connectDomainEventRegister(),
            lambda c: c.connectDomainEventRegisterAny(lifecycle),
            lambda c: c.connectDomainEventCallbackRegisterAny(lifecycle, None),
        ]
        for first in ways:
            for second in ways:
                connection = opened()
                first(connection)
                self.assertTracked(second, connection)
                connection.domainSuspend(TEST)
                self.assertEqual(len(connection.sent), 1)

    def test_R158_nor_can_the_same_domain_of_the_same_event(self) -> None:
        connection = opened()
        connection.connectDomainEventCallbackRegisterAny(0, TEST)
        self.assertTracked(connection.connectDomainEventCallbackRegisterAny, 0, TEST)
        connection.connectDomainEventCallbackRegisterAny(1, TEST)

    def test_all_domains_and_one_of_them_stand_beside_each_other(self) -> None:
        connection = opened()
        connection.connectDomainEventRegister()
        connection.connectDomainEventCallbackRegisterAny(0, TEST)
        connection.domainSuspend(TEST)
        self.assertEqual(
            connection.sent,
            [("domainEventLifecycle", *SUSPENDED), ("domainEventCallbackLifecycle", 1, SUSPENDED)],
        )

    def test_the_older_styles_end_what_is_registered_for_all_domains(self) -> None:
        connection = opened()
        connection.connectDomainEventCallbackRegisterAny(0, TEST)
        connection.connectDomainEventCallbackRegisterAny(0, None)
        connection.connectDomainEventDeregister()
        self.assertInternal("domain event 0 not registered", connection.connectDomainEventDeregister)
        connection.domainSuspend(TEST)
        self.assertEqual(connection.sent, [("domainEventCallbackLifecycle", 0, SUSPENDED)])

    def test_ids_count_up_and_are_not_used_again(self) -> None:
        connection = opened()
        ids = [connection.connectDomainEventCallbackRegisterAny(event, None) for event in (0, 3, 5)]
        connection.connectDomainEventCallbackDeregisterAny(ids[1])
        ids.append(connection.connectNetworkEventRegisterAny(0, None))
        self.assertEqual(ids, [0, 1, 2, 3])
        self.assertEqual(opened().connectDomainEventCallbackRegisterAny(0, None), 0)


class Filters(EventTestCase):
    """
    Registrations for one object.
    """

    def test_only_the_events_of_that_domain_are_told(self) -> None:
        connection = opened()
        other = connection.domainDefineXML(OTHER)
        connection.connectDomainEventCallbackRegisterAny(0, other)
        connection.domainSuspend(TEST)
        connection.domainCreate(other)
        running = other._replace(id=2)
        self.assertEqual(connection.sent, [("domainEventCallbackLifecycle", 0, (running, 2, 0))])

    def test_a_domain_that_is_not_there_may_be_registered_for(self) -> None:
        connection = opened()
        connection.connectDomainEventCallbackRegisterAny(0, Domain("later", b"\x07" * 16, -1))
        xml = OTHER.replace("<memory>", "<uuid>07070707070707070707070707070707</uuid><memory>")
        later = connection.domainDefineXML(xml)
        self.assertEqual(connection.sent, [("domainEventCallbackLifecycle", 0, (later, 0, 0))])


class Families(EventTestCase):
    """
    Networks, pools and the others.
    """

    def test_networks(self) -> None:
        connection = opened()
        callback = connection.connectNetworkEventRegisterAny(NetworkEventID.LIFECYCLE, None)
        connection.networkDestroy(NETWORK)
        connection.networkCreate(NETWORK)
        self.assertEqual(
            connection.sent,
            [
                ("networkEventLifecycle", callback, NETWORK, 3, 0),
                ("networkEventLifecycle", callback, NETWORK, 2, 0),
            ],
        )
        connection.connectNetworkEventDeregisterAny(callback)
        connection.networkDestroy(NETWORK)
        self.assertEqual(connection.sent, [])

    def test_pools(self) -> None:
        connection = opened()
        lifecycle = connection.connectStoragePoolEventRegisterAny(StoragePoolEventID.LIFECYCLE, None)
        refresh = connection.connectStoragePoolEventRegisterAny(StoragePoolEventID.REFRESH, POOL)
        connection.storagePoolRefresh(POOL, 0)
        connection.storagePoolDestroy(POOL)
        self.assertEqual(
            connection.sent,
            [
                ("storagePoolEventRefresh", refresh, POOL),
                ("storagePoolEventLifecycle", lifecycle, POOL, 3, 0),
            ],
        )

    def test_node_devices_can_be_registered_for(self) -> None:
        connection = opened()
        callback = connection.connectNodeDeviceEventRegisterAny(0, None)
        connection.connectNodeDeviceEventDeregisterAny(callback)

    def test_secrets_cannot(self) -> None:
        error = self.assertRaises(RemoteError, opened().connectSecretEventRegisterAny, 0, None)
        self.assertEqual(
            (error.code, error.domain, error.str2),
            (ErrorNumber.NO_SUPPORT, ErrorDomain.SECRET, "virConnectSecretEventRegisterAny"),
        )

    def test_a_refused_registration_leaves_nothing(self) -> None:
        connection = opened()
        for _ in range(2):
            error = self.assertRaises(RemoteError, connection.connectSecretEventRegisterAny, 0, None)
            self.assertEqual(error.code, ErrorNumber.NO_SUPPORT)


class Odd(EventTestCase):
    """
    What nobody can register or deregister.
    """

    def test_unknown_events(self) -> None:
        connection = opened()
        for eventID in (-1, 30, 1000):
            self.assertInternal(
                f"unsupported event ID {eventID}",
                connection.connectDomainEventCallbackRegisterAny,
                eventID,
                None,
            )
            self.assertInternal(
                f"unsupported event ID {eventID}", connection.connectDomainEventRegisterAny, eventID
            )
            self.assertInternal(
                f"unsupported event ID {eventID}", connection.connectDomainEventDeregisterAny, eventID
            )
        self.assertInternal(
            "unsupported network event ID 7", connection.connectNetworkEventRegisterAny, 7, None
        )
        self.assertInternal(
            "unsupported storage pool event ID 2", connection.connectStoragePoolEventRegisterAny, 2, None
        )
        self.assertInternal(
            "unsupported node device event ID 2", connection.connectNodeDeviceEventRegisterAny, 2, None
        )

    def test_events_younger_than_the_style_without_ids(self) -> None:
        connection = opened()
        for eventID in range(30):
            if eventID < 16:
                connection.connectDomainEventRegisterAny(eventID)
            else:
                self.assertInternal(
                    f"unsupported event ID {eventID}", connection.connectDomainEventRegisterAny, eventID
                )

    def test_callbacks_that_are_not_registered(self) -> None:
        connection = opened()
        network = connection.connectNetworkEventRegisterAny(0, None)
        for callback in (network, 55, -1):
            self.assertInternal(
                f"domain event callback {callback} not registered",
                connection.connectDomainEventCallbackDeregisterAny,
                callback,
            )
        for call, kind in (
            (connection.connectNetworkEventDeregisterAny, "network"),
            (connection.connectStoragePoolEventDeregisterAny, "storage pool"),
            (connection.connectNodeDeviceEventDeregisterAny, "node device"),
        ):
            self.assertInternal(f"{kind} event callback 55 not registered", call, 55)

    def test_events_that_are_not_registered(self) -> None:
        connection = opened()
        self.assertInternal("domain event 0 not registered", connection.connectDomainEventDeregister)
        self.assertInternal("domain event 3 not registered", connection.connectDomainEventDeregisterAny, 3)


class Ending(EventTestCase):
    """
    When nobody is there any more to be told.
    """

    def test_a_lost_connection_is_told_nothing(self) -> None:
        hypervisor = memory()
        gone, there = opened(hypervisor), opened(hypervisor)
        gone.connectDomainEventRegister()
        gone.connectNetworkEventRegisterAny(0, None)
        there.connectDomainEventRegister()
        gone.client.disconnect()
        there.domainSuspend(TEST)
        there.networkDestroy(NETWORK)
        self.assertEqual(gone.sent, [])
        self.assertEqual(len(there.sent), 1)

    def test_everything_is_cancelled_with_the_connection(self) -> None:
        source = Source()
        connection = opened(source)
        for eventID in (0, 1, 2):
            connection.connectDomainEventCallbackRegisterAny(eventID, None)
        connection.connectDomainEventCallbackDeregisterAny(1)
        self.assertEqual(source.cancelled, [1])
        connection.client.disconnect()
        connection.client.disconnect()
        self.assertEqual(source.cancelled, [1, 0, 2])

    def test_closing_is_enough(self) -> None:
        source = Source()
        connection = opened(source)
        connection.connectDomainEventRegister()
        connection.connectClose()
        self.assertEqual(source.cancelled, [0])

    def test_R159_an_event_that_comes_after_its_callback_was_removed_is_dropped(self) -> None:
        source = Source()
        connection = opened(source)
        connection.connectDomainEventCallbackRegisterAny(0, None)
        deliver = source.subscriptions[0][3]
        deliver(*SUSPENDED)
        connection.connectDomainEventCallbackDeregisterAny(0)
        deliver(*RESUMED)
        self.assertEqual(connection.sent, [("domainEventCallbackLifecycle", 0, SUSPENDED)])

    def test_R160_an_event_that_a_call_causes_is_told_before_its_reply(self) -> None:
        connection = opened()
        connection.connectDomainEventRegister()
        suspend = connection.session.methodFor(REMOTE.byName["domainSuspend"])
        # The server replies when the method has returned.
        suspend(TEST)
        self.assertEqual(connection.sent, [("domainEventLifecycle", *SUSPENDED)])

    def test_a_connection_that_goes_while_the_hypervisor_subscribes(self) -> None:
        subscribing: Deferred[Any] = Deferred()
        source = Source(lambda: subscribing)
        connection = opened(source)
        registering = connection.session.methodFor(REMOTE.byName["connectDomainEventCallbackRegisterAny"])(
            0, None
        )
        self.assertTracked(connection.connectDomainEventCallbackRegisterAny, 0, None)
        connection.client.disconnect()
        cancelled: list[str] = []
        subscribing.callback(lambda: cancelled.append("cancelled"))
        self.assertEqual(cancelled, ["cancelled"])
        self.assertEqual(self.successResultOf(registering), 0)

    def test_events_cause_no_trouble_among_those_who_listen(self) -> None:
        hypervisor = memory()
        one, other = opened(hypervisor), opened(hypervisor)
        events = hypervisor.state.events
        one.connectDomainEventRegister()
        events.subscribe(EventFamily.DOMAIN, 0, None, lambda *fields: other.client.disconnect())
        other.connectDomainEventRegister()
        one.domainSuspend(TEST)
        self.assertEqual((len(one.sent), len(other.sent)), (1, 0))


class Shapes(SynchronousTestCase):
    """
    Every event of the program has a way out.
    """

    def test_every_event_is_in_the_table(self) -> None:
        named = {
            name
            for messages in MESSAGES.values()
            for message in messages.values()
            for name in message
            if name is not None
        }
        others = {"connectEventConnectionClosed"}
        self.assertEqual(named | others, set(REMOTE.eventsByName))

    def test_the_hypervisor_gives_the_same_fields_whatever_the_style(self) -> None:
        fields = {
            DomainEventID.REBOOT: (TEST,),
            DomainEventID.RTC_CHANGE: (TEST, 5),
            DomainEventID.DISK_CHANGE: (TEST, None, "/new", "ide0", 1),
            DomainEventID.PMWAKEUP: (TEST,),
            DomainEventID.BALLOON_CHANGE: (TEST, 2**40),
        }
        for eventID, values in fields.items():
            source = Source()
            connection = opened(source)
            connection.connectDomainEventRegisterAny(eventID)
            source.subscriptions[0][3](*values)
            ((legacy, *told),) = connection.sent
            self.assertEqual(tuple(told), values)
            connection.connectDomainEventDeregisterAny(eventID)
            connection.connectDomainEventCallbackRegisterAny(eventID, None)
            source.subscriptions[1][3](*values)
            ((callback, callbackID, *rest),) = connection.sent
            self.assertEqual(callback, legacy.replace("domainEvent", "domainEventCallback"))
            self.assertEqual((callbackID, rest[-1]), (1, values))

    def test_events_without_a_message_inside_their_message(self) -> None:
        source = Source()
        connection = opened(source)
        connection.connectDomainEventCallbackRegisterAny(DomainEventID.DEVICE_ADDED, None)
        source.subscriptions[0][3](TEST, "net0")
        self.assertEqual(connection.sent, [("domainEventCallbackDeviceAdded", 0, TEST, "net0")])


class Hub(SynchronousTestCase):
    """
    From the hypervisor to its connections.
    """

    def setUp(self) -> None:
        self.hub = EventHub()
        self.heard: list[str] = []

    def subscribe(self, name: str, then: Callable[[], object] = lambda: None) -> Cancel:
        """
        One more who wants to hear; it does something when it does.
        """

        def deliver(*fields: Any) -> None:
            self.heard.append(name)
            then()

        return self.hub.subscribe(EventFamily.DOMAIN, DomainEventID.LIFECYCLE, None, deliver)

    def emit(self) -> list[str]:
        """
        Have it happen; return who heard of it.
        """
        self.hub.emit(EventFamily.DOMAIN, DomainEventID.LIFECYCLE, TEST, 3, 0)
        heard, self.heard = self.heard, []
        return heard

    def test_who_leaves_or_comes_while_it_is_told_changes_nothing_for_the_others(self) -> None:
        leave: list[Cancel] = []

        def leaveBoth() -> None:
            for each in leave:
                each()
            self.subscribe("new")

        leave.append(self.subscribe("first", leaveBoth))
        self.subscribe("second")
        leave.append(self.subscribe("third"))
        self.subscribe("fourth")
        self.assertEqual(self.emit(), ["first", "second", "fourth"])
        self.assertEqual(self.emit(), ["second", "fourth", "new"])
