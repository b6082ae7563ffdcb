"""Our client and a real libvirtd, over its UNIX sockets and over TCP.

Both ways of connecting get the same tests. The hypervisor is libvirt's own test driver, whose state all
connections to one libvirtd share.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tests.interop.support import LibvirtDaemon, requireTool
from virnet.client import Connection, connect
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, RemoteError, XDRError
from virnet.programs import QEMU
from virnet.programs.constants import (
    DomainEventDefinedDetailType,
    DomainEventID,
    DomainEventStartedDetailType,
    DomainEventStoppedDetailType,
    DomainEventType,
    DomainEventUndefinedDetailType,
    DomainState,
    NetworkEventID,
    NetworkEventLifecycleType,
)
from virnet.programs.typedparams import TypedParams
from virnet.programs.values import Domain

SECONDS = 60

_daemon: LibvirtDaemon | None = None


def daemon(testcase: TestCase) -> LibvirtDaemon:
    """The libvirtd of all tests here; it ends with the process."""
    global _daemon
    requireTool(testcase, "libvirtd")
    if _daemon is None:
        _daemon = LibvirtDaemon(tcpPort=0)
        _daemon.start()
    return _daemon


def document(name: str, description: str = "") -> str:
    """A small domain."""
    return (
        f"<domain type='test'><name>{name}</name><description>{description}</description>"
        "<memory>1024</memory><os><type>hvm</type></os></domain>"
    )


class _Case(TestCase):
    timeout = SECONDS

    async def connect(self, uri: str, **options: Any) -> Connection:
        """Open a connection that is closed with the test."""
        connection = await connect(reactor, uri, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(connection.close()))
        return connection

    async def refused(self, called: Callable[[], Any]) -> RemoteError:
        """The error of a call that must fail."""
        try:
            result = await called()
        except RemoteError as error:
            return error
        raise self.failureException(f"not refused, but answered with {result!r}")


class _Conversations(_Case):
    """What is the same over every transport."""

    def uri(self) -> str:
        """Where to connect."""
        raise NotImplementedError

    async def opened(self, **options: Any) -> Connection:
        """A connection to the libvirtd."""
        return await self.connect(self.uri(), **options)

    async def define(self, connection: Connection, name: str, description: str = "") -> Domain:
        """Define a domain that is gone after the test."""
        remote = connection.remote
        domain = await remote.domainDefineXMLFlags(document(name, description), 0)

        async def remove() -> None:
            again = await connect(reactor, self.uri())
            async with again:
                for call in (again.remote.domainDestroy, again.remote.domainUndefine):
                    try:
                        await call(domain)
                    except RemoteError:
                        pass

        self.addCleanup(lambda: Deferred.fromCoroutine(remove()))
        return domain

    async def test_opening_asks_what_the_server_can_do(self) -> None:
        connection = await self.opened()
        self.assertEqual(connection.features, {9, 10, 14, 15})

    async def test_R164_parameters_that_are_strings_come_unasked(self) -> None:
        connection = await self.opened()
        domain = await connection.remote.domainLookupByName("test")
        available = (await connection.remote.domainGetBlkioParameters(domain, 0, 0)).nparams
        answer = await connection.remote.domainGetBlkioParameters(domain, available, 0)
        self.assertEqual(len(answer.params), available)
        self.assertIn("device_weight", answer.params)

    async def test_plain_answers_of_every_kind(self) -> None:
        remote = (await self.opened()).remote
        self.assertEqual(await remote.connectGetURI(), "test:///default")
        self.assertEqual(await remote.connectGetType(), "TEST")
        self.assertGreaterEqual(await remote.connectGetLibVersion(), 9_000_000)
        self.assertTrue(await remote.connectGetHostname())
        node = await remote.nodeGetInfo()
        self.assertEqual((node.cpus, node.memory), (16, 3145728))
        self.assertIn("<capabilities>", await remote.connectGetCapabilities())

    async def test_domains_and_what_is_asked_of_them(self) -> None:
        remote = (await self.opened()).remote
        domains, count = await remote.connectListAllDomains(1, 3)
        self.assertEqual(len(domains), count)
        self.assertIn(("test", 1), [(each.name, each.id) for each in domains])
        domain = await remote.domainLookupByName("test")
        self.assertEqual(domain, await remote.domainLookupByUUID(domain.uuid))
        self.assertEqual(domain, await remote.domainLookupByID(1))
        state, reason = await remote.domainGetState(domain, 0)
        self.assertEqual(state, DomainState.RUNNING)
        info = await remote.domainGetInfo(domain)
        self.assertEqual((info.maxMem, info.nrVirtCpu), (8388608, 2))
        self.assertIn("<name>test</name>", await remote.domainGetXMLDesc(domain, 0))

    async def test_typed_parameters(self) -> None:
        remote = (await self.opened()).remote
        domain = await remote.domainLookupByName("test")
        kind, count = await remote.domainGetSchedulerType(domain)
        self.assertEqual((kind, count), ("fair", 1))
        params = await remote.domainGetSchedulerParameters(domain, count)
        self.assertEqual(dict(params), {"weight": 50})

    async def test_an_error_has_code_domain_text_and_strings(self) -> None:
        remote = (await self.opened()).remote
        error = await self.refused(lambda: remote.domainLookupByName("nosuch"))
        self.assertIs(error.code, ErrorNumber.NO_DOMAIN)
        self.assertIs(error.domain, ErrorDomain.TEST)
        self.assertEqual(error.message, "Domain not found")
        self.assertEqual((error.str1, error.str2, error.int1), ("Domain not found", None, -1))
        error = await self.refused(lambda: remote.domainDefineXMLFlags("<domain", 0))
        self.assertIs(error.code, ErrorNumber.XML_DETAIL)
        error = await self.refused(lambda: remote.connectDomainEventCallbackRegisterAny(4711, None))
        self.assertEqual(error.message, "internal error: unsupported event ID 4711")

    async def test_the_connection_goes_on_after_an_error(self) -> None:
        remote = (await self.opened()).remote
        await self.refused(lambda: remote.domainLookupByName("nosuch"))
        self.assertEqual((await remote.domainLookupByName("test")).name, "test")

    async def test_R018_what_this_libvirtd_is_too_old_for_is_not_supported(self) -> None:
        remote = (await self.opened()).remote
        domain = await remote.domainLookupByName("test")
        error = await self.refused(lambda: remote.domainSetThrottleGroup(domain, "group", TypedParams(), 0))
        self.assertIs(error.code, ErrorNumber.NO_SUPPORT)
        self.assertIn("unknown procedure", error.message)

    async def test_R028_the_qemu_program_on_the_same_connection(self) -> None:
        connection = await self.opened()
        qemu = connection.program(QEMU)
        domain = await connection.remote.domainLookupByName("test")
        error = await self.refused(lambda: qemu.domainQemuMonitorCommand(domain, "info", 0))
        self.assertIs(error.code, ErrorNumber.NO_SUPPORT)
        self.assertEqual((await connection.remote.domainLookupByName("test")).name, "test")

    async def test_a_mistake_of_ours_never_reaches_it(self) -> None:
        remote: Any = (await self.opened()).remote
        self.assertRaises(XDRError, remote.domainLookupByUUID, b"short")
        self.assertRaises(TypeError, remote.domainLookupByName)
        self.assertEqual((await remote.domainLookupByName("test")).name, "test")

    async def test_more_calls_in_flight_than_it_executes_at_a_time(self) -> None:
        remote = (await self.opened()).remote
        names = await gatherResults([remote.connectGetHostname() for _ in range(200)], consumeErrors=True)
        self.assertEqual(len(names), 200)
        self.assertEqual(len(set(names)), 1)

    async def test_large_messages_both_ways(self) -> None:
        connection = await self.opened()
        text = "x" * 3_000_000
        domain = await self.define(connection, "large", text)
        described = await connection.remote.domainGetXMLDesc(domain, 0)
        self.assertIn(text, described)

    async def test_text_that_is_not_ascii(self) -> None:
        connection = await self.opened()
        domain = await self.define(connection, "müller-网", "naïve 🙂")
        self.assertEqual(domain.name, "müller-网")
        self.assertIn("naïve 🙂", await connection.remote.domainGetXMLDesc(domain, 0))

    async def test_the_life_of_a_domain_in_events(self) -> None:
        connection = await self.opened()
        remote = connection.remote
        heard: list[tuple[str, int, int]] = []
        enough: Deferred[None] = Deferred()

        def hear(domain: Domain, event: int, detail: int) -> None:
            if domain.name == "eventful":
                heard.append((domain.name, event, detail))
                if event == DomainEventType.UNDEFINED:
                    enough.callback(None)

        subscription = await connection.domainEvents.subscribe(DomainEventID.LIFECYCLE, hear)
        domain = await self.define(connection, "eventful")
        await remote.domainCreate(domain)
        await remote.domainDestroy(domain)
        await remote.domainUndefine(domain)
        await enough
        self.assertEqual(
            heard,
            [
                ("eventful", DomainEventType.DEFINED, DomainEventDefinedDetailType.ADDED),
                ("eventful", DomainEventType.STARTED, DomainEventStartedDetailType.BOOTED),
                ("eventful", DomainEventType.STOPPED, DomainEventStoppedDetailType.DESTROYED),
                ("eventful", DomainEventType.UNDEFINED, DomainEventUndefinedDetailType.REMOVED),
            ],
        )
        await subscription.cancel()
        await self.define(connection, "eventful")
        self.assertEqual(len(heard), 4)

    async def test_events_of_one_domain_and_of_all(self) -> None:
        connection = await self.opened()
        one, two = await self.define(connection, "one"), await self.define(connection, "two")
        ofOne: list[str] = []
        ofAll: list[str] = []
        events = connection.domainEvents
        await events.subscribe(DomainEventID.LIFECYCLE, lambda domain, *_: ofOne.append(domain.name), one)
        await events.subscribe(DomainEventID.LIFECYCLE, lambda domain, *_: ofAll.append(domain.name))
        again = await events.subscribe(DomainEventID.LIFECYCLE, lambda domain, *_: ofAll.append("again"))
        await connection.remote.domainCreate(two)
        await connection.remote.domainCreate(one)
        # An event may come before or behind the reply to its call, but not behind that of a later one.
        await connection.remote.connectGetHostname()
        self.assertEqual(ofOne, ["one"])
        self.assertEqual(ofAll, ["two", "again", "one", "again"])
        await again.cancel()

    async def test_R158_the_server_holds_one_registration_of_each_event(self) -> None:
        connection = await self.opened()
        await connection.domainEvents.subscribe(DomainEventID.REBOOT, lambda *_: None)
        error = await self.refused(
            lambda: connection.remote.connectDomainEventCallbackRegisterAny(DomainEventID.REBOOT, None)
        )
        self.assertEqual((error.code, error.message[-30:]), (8, "event callback already tracked"))

    async def test_every_event_of_a_domain_can_be_subscribed_to(self) -> None:
        connection = await self.opened()
        subscriptions = [
            await connection.domainEvents.subscribe(event, lambda *_: None)
            for event in DomainEventID
            if event <= DomainEventID.MEMORY_DEVICE_SIZE_CHANGE
        ]
        for subscription in subscriptions:
            await subscription.cancel()

    async def test_events_of_networks(self) -> None:
        connection = await self.opened()
        remote = connection.remote
        heard: list[tuple[str, int]] = []
        await connection.networkEvents.subscribe(
            NetworkEventID.LIFECYCLE, lambda network, event, detail: heard.append((network.name, event))
        )
        network = await remote.networkLookupByName("default")
        await remote.networkDestroy(network)
        await remote.networkCreate(network)
        await remote.connectGetHostname()
        self.assertEqual(
            heard,
            [
                ("default", NetworkEventLifecycleType.STOPPED),
                ("default", NetworkEventLifecycleType.STARTED),
            ],
        )

    async def test_closing_ends_the_connection_and_later_calls(self) -> None:
        connection = await self.opened()
        ended = connection.whenClosed()
        await connection.close()
        self.assertIsInstance(await ended, ConnectionLost)
        self.assertRaises(ConnectionLost, connection.remote.connectGetHostname)

    async def test_a_driver_it_does_not_have(self) -> None:
        uri = re.sub("^test", "nosuch", self.uri())
        error = await self.refused(lambda: connect(reactor, uri))
        self.assertIs(error.code, ErrorNumber.NO_CONNECT)
        self.assertIn("nosuch:///default", error.message)


class UNIXSocket(_Conversations):
    """Over C{libvirt-sock}."""

    def uri(self) -> str:
        return daemon(self).uri

    async def test_read_only_refuses_changes(self) -> None:
        libvirtd = daemon(self)
        for uri, options in (
            (self.uri(), {"readonly": True}),
            (f"test+unix:///default?socket={libvirtd.readonlyPath}", {}),
        ):
            remote = (await self.connect(uri, **options)).remote
            domain = await remote.domainLookupByName("test")
            error = await self.refused(lambda: remote.domainDestroy(domain))  # noqa: B023 - awaited here
            self.assertIs(error.code, ErrorNumber.OPERATION_DENIED)
            self.assertEqual(error.message, "operation forbidden: read only access prevents virDomainDestroy")

    async def test_a_server_that_goes_away(self) -> None:
        requireTool(self, "libvirtd")
        with LibvirtDaemon() as doomed:
            connection = await self.connect(doomed.uri)
            ended = connection.whenClosed()
        reason = await ended
        self.assertIsInstance(reason, ConnectionLost)
        self.assertRaises(ConnectionLost, connection.remote.connectGetHostname)
        try:
            await connect(reactor, doomed.uri)
        except ConnectionLost as error:
            self.assertTrue(str(error).startswith(f"{doomed.uri}: Failed to connect socket to '"), error)
            self.assertEqual(len(str(error).splitlines()), 1)
        else:
            self.fail("connected to a server that is gone")


class TCP(_Conversations):
    """Over a TCP connection without encryption."""

    def uri(self) -> str:
        return daemon(self).tcpURI

    async def test_a_port_where_nobody_listens(self) -> None:
        uri = "test+tcp://127.0.0.1:1/default"
        try:
            await connect(reactor, uri)
        except ConnectionLost as error:
            told = f"{uri}: unable to connect to server at '127.0.0.1:1': Connection refused"
            self.assertEqual(str(error), told)
        else:
            self.fail("connected to nobody")


del _Conversations  # not a test case by itself
