"""A connection that lasts: attempts, calls that wait or fail, subscriptions that come back, the end."""

from __future__ import annotations

import os
import struct
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.client.server import AUTH_LIST, CLOSE, LATER, OPEN, ScriptedServer, unknown
from tests.openfiles import openAtRest, openDescriptors
from virnet.client import ConnectionService
from virnet.client.callqueue import CallQueue
from virnet.client.client import PendingCall
from virnet.errors import CallTimedOut, ConnectionLost, LocalProtocolError, RemoteError, URIError, XDRError
from virnet.objects import Gap
from virnet.programs import QEMU, REMOTE
from virnet.programs.constants import DomainEventID
from virnet.programs.values import Domain, StorageVol
from virnet.testing import MemoryAddress, joined

HOSTNAME = 59
VERSION = 4
DOWNLOAD = 209
GRAPHICS = 249
REGISTER = 316
DEREGISTER = 317
LIFECYCLE = 318
DOMAIN = Domain("web", b"u" * 16, 1)


@implementer(IStreamClientEndpoint)
class Host:
    """Where the service connects to.

    @ivar attempts: the attempts that were neither accepted nor refused.
    @ivar server: the one that was connected to last.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.attempts: list[tuple[Any, Deferred[Any]]] = []
        self.answers: dict[int, Any] = {}
        self.server: ScriptedServer
        self.window = 65536

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Take an attempt."""
        attempt: Deferred[Any] = Deferred(lambda d: self.attempts.remove((protocolFactory, d)))
        self.attempts.append((protocolFactory, attempt))
        return attempt

    def accept(self) -> ScriptedServer:
        """Let the attempt through to a new server, and everything happen that follows."""
        ((factory, attempt),) = self.attempts
        self.attempts.clear()
        self.server = ScriptedServer()
        self.server.answers.update(self.answers)
        client = factory.buildProtocol(MemoryAddress("server"))
        joined(self.clock, client, self.server, window=self.window)
        attempt.callback(client)
        self.flush()
        return self.server

    def refuse(self) -> None:
        """Let the attempt fail."""
        ((_, attempt),) = self.attempts
        self.attempts.clear()
        attempt.errback(ConnectionRefusedError())

    def lose(self) -> None:
        """End the connection."""
        self.server.transport.abortConnection()
        self.flush()

    def flush(self) -> None:
        """Let everything happen that is due."""
        self.clock.advance(0)

    def calls(self) -> list[int]:
        """The procedures that were called since the last time."""
        return [number for number, _ in self.server.taken()]


class _Case(SynchronousTestCase):
    """A service with a host of its own; its jitter is a quarter of a second."""

    def setUp(self) -> None:
        self.host = Host()
        self.clock = self.host.clock

    def make(self, **options: Any) -> ConnectionService:
        """Make a service and start it."""
        options.setdefault("keepalive", None)
        self.service = ConnectionService(
            self.clock, "test:///default", endpoint=self.host, jitter=lambda: 0.25, **options
        )
        self.service.startService()
        return self.service

    def connected(self, **options: Any) -> ConnectionService:
        """Make a service and let it connect."""
        service = self.make(**options)
        self.host.accept()
        self.host.calls()
        return service

    def reconnect(self) -> None:
        """Lose the connection and have another."""
        self.host.lose()
        self.clock.advance(1.75)
        self.host.accept()

    def assertLost(self, call: Deferred[Any], mayHaveRun: bool) -> None:
        error = self.failureResultOf(call, ConnectionLost).value
        self.assertIs(error.mayHaveRun, mayHaveRun)


class LifeCycle(_Case):
    """Connecting, waiting, connecting again, stopping."""

    def test_it_opens_what_the_uri_says(self) -> None:
        service = self.make(readonly=True)
        self.assertIs(service.connection, None)
        server = self.host.accept()
        self.assertIn((OPEN, ("test:///default", 1)), server.calls)
        self.assertEqual(self.successResultOf(service.whenConnected()), service.connection)

    def test_async_with_starts_and_stops_it(self) -> None:
        service = ConnectionService(self.clock, "test:///default", endpoint=self.host, keepalive=None)
        leave: Deferred[None] = Deferred()

        async def use() -> None:
            async with service as itself:
                self.assertIs(itself, service)
                await leave

        using = Deferred.fromCoroutine(use())
        self.host.accept()
        self.assertIsNot(service.connection, None)
        leave.callback(None)
        self.host.flush()
        self.successResultOf(using)
        self.assertIs(service.connection, None)
        self.assertFalse(service.running)

    def test_a_uri_that_cannot_be_used_is_refused_at_once(self) -> None:
        self.assertRaises(URIError, ConnectionService, self.clock, "nonsense")

    def test_the_waits_grow_up_to_a_limit_and_jitter_is_added(self) -> None:
        self.make()
        waits = []
        for _ in range(15):
            self.host.refuse()
            (retry,) = self.clock.getDelayedCalls()
            waits.append(retry.getTime() - self.clock.seconds())
            self.clock.advance(waits[-1])
        self.assertEqual(waits[:3], [1.75, 2.5, 3.625])
        self.assertEqual(waits[-1], 60.25)

    def test_after_success_the_waits_begin_anew(self) -> None:
        self.make(retryPolicy=float)
        for count in (1, 2, 3):
            self.host.refuse()
            self.clock.advance(count)
        self.host.accept()
        self.host.lose()
        self.clock.advance(0.9)
        self.assertEqual(self.host.attempts, [])
        self.clock.advance(0.1)
        self.host.accept()
        self.assertIsNot(self.service.connection, None)

    def test_an_attempt_counts_when_it_was_opened(self) -> None:
        self.host.answers[OPEN] = lambda name, flags: (_ for _ in ()).throw(unknown(OPEN))
        service = self.make()
        waiting = service.whenConnected(failAfterFailures=1)
        server = self.host.accept()
        self.failureResultOf(waiting, RemoteError)
        self.assertIsNot(server.lost, None)
        self.clock.advance(1.75)
        self.assertEqual(len(self.host.attempts), 1)

    def test_an_attempt_that_takes_too_long_is_given_up(self) -> None:
        self.host.answers[AUTH_LIST] = lambda: LATER
        waiting = self.make(openTimeout=7).whenConnected(failAfterFailures=1)
        server = self.host.accept()
        self.clock.advance(7)
        error = self.failureResultOf(waiting, ConnectionLost).value
        self.assertEqual(str(error), "test:///default: not open after 7 seconds")
        self.host.flush()
        self.assertIsNot(server.lost, None)

    def test_waiting_for_a_connection_may_end_with_so_many_failures(self) -> None:
        service = self.make()
        patient, once, twice = map(service.whenConnected, (None, 1, 2))
        self.host.refuse()
        self.failureResultOf(once, ConnectionLost)
        self.clock.advance(1.75)
        self.assertNoResult(twice)
        self.host.refuse()
        self.failureResultOf(twice, ConnectionLost)
        self.clock.advance(2.5)
        self.host.accept()
        self.assertIs(self.successResultOf(patient), service.connection)

    def test_waiting_for_a_connection_may_be_cancelled(self) -> None:
        service = self.make()
        waiting = service.whenConnected()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.host.accept()

    def test_one_who_waits_may_cancel_another(self) -> None:
        service = self.make()
        first, second = service.whenConnected(), service.whenConnected()
        first.addCallback(lambda _: second.cancel())
        self.host.accept()
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)

    def test_keepalive_is_on_unless_it_is_switched_off(self) -> None:
        service = self.make(keepalive=(5, 2))
        self.host.accept()
        call = service.remote.connectGetHostname()
        self.host.server.answers[HOSTNAME] = lambda: LATER
        self.host.server.dataReceived = lambda data: None  # type: ignore[method-assign]
        for _ in range(3):
            self.clock.advance(5)
        self.assertLost(call, True)

    def test_starting_and_stopping_twice(self) -> None:
        service = self.connected()
        service.startService()
        stopping = [service.stopService(), service.stopService()]
        self.host.flush()
        for each in stopping:
            self.successResultOf(each)
        self.successResultOf(service.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Stopping(_Case):
    """stopService in every state."""

    def test_while_connected_it_closes_as_the_protocol_wants_it(self) -> None:
        service = self.connected()
        stopped = service.stopService()
        self.assertNoResult(stopped)
        self.host.flush()
        self.successResultOf(stopped)
        self.assertEqual(self.host.calls(), [CLOSE])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_server_that_does_not_close_is_cut_off(self) -> None:
        service = self.connected()
        self.host.server.answers[CLOSE] = lambda: LATER
        stopped = service.stopService()
        self.clock.advance(4.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.host.flush()
        self.successResultOf(stopped)
        self.assertIsNot(self.host.server.lost, None)

    def test_while_connecting(self) -> None:
        service = self.make()
        self.successResultOf(service.stopService())
        self.assertEqual((self.host.attempts, self.clock.getDelayedCalls()), ([], []))

    def test_while_waiting(self) -> None:
        service = self.make()
        self.host.refuse()
        self.successResultOf(service.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_before_it_was_started(self) -> None:
        service = ConnectionService(self.clock, "test:///default", endpoint=self.host)
        self.successResultOf(service.stopService())

    def test_everybody_who_waits_is_told(self) -> None:
        service = self.make()
        waiting: list[Deferred[Any]] = [service.whenConnected(), service.remote.connectGetHostname()]
        subscribing = Deferred.fromCoroutine(service.domainEvents.subscribe(0, print))
        ended = service.whenClosed()
        service.stopService()
        for each in (*waiting, subscribing):
            self.assertLost(each, False)
        self.assertIsInstance(self.successResultOf(ended), ConnectionLost)
        self.assertRaises(ConnectionLost, service.remote.connectGetHostname)
        late = Deferred.fromCoroutine(service.domainEvents.subscribe(0, print))
        self.assertLost(late, False)

    def test_one_who_does_not_wait_any_more_is_not(self) -> None:
        service = self.make()
        ended = service.whenClosed()
        ended.cancel()
        self.failureResultOf(ended, CancelledError)
        service.stopService()

    def test_it_may_be_started_again(self) -> None:
        service = self.connected()
        stopped = service.stopService()
        service.startService()
        service.startService()
        self.host.flush()
        self.successResultOf(stopped)
        self.host.accept()
        self.assertIsNot(service.connection, None)
        stopped = service.stopService()
        service.startService()
        again = service.stopService()
        self.host.flush()
        self.successResultOf(stopped)
        self.successResultOf(again)
        self.assertEqual(self.host.attempts, [])

    def test_started_again_while_an_attempt_is_given_up(self) -> None:
        service = self.make()
        service.stopService()
        service.startService()
        self.host.accept()
        self.assertIsNot(service.connection, None)

    def test_who_waited_for_the_connection_may_stop_the_service(self) -> None:
        service = self.make()
        stopped = service.whenConnected().addCallback(lambda _: service.stopService())
        self.host.accept()
        self.successResultOf(stopped)


class Calls(_Case):
    """Calls over whichever connection there is."""

    def setUp(self) -> None:
        super().setUp()
        self.host.answers.update({HOSTNAME: lambda: LATER, VERSION: lambda: LATER})

    def test_they_go_out_and_come_back(self) -> None:
        service = self.connected()
        self.host.server.answers[HOSTNAME] = lambda: "host"
        call = service.remote.connectGetHostname()
        self.host.flush()
        self.assertEqual(self.successResultOf(call), "host")

    def test_without_a_connection_they_wait_for_it(self) -> None:
        self.host.answers[HOSTNAME] = lambda: "host"
        service = self.make()
        call = service.remote.connectGetHostname()
        self.assertEqual((service.callsWaiting, service.callsInFlight), (1, 0))
        self.host.accept()
        self.assertEqual(self.successResultOf(call), "host")

    def test_or_fail_at_once_where_that_is_wanted(self) -> None:
        service = self.make(waitForConnection=False)
        error = self.assertRaises(ConnectionLost, service.remote.connectGetHostname)
        self.assertIs(error.mayHaveRun, False)
        self.assertLost(Deferred.fromCoroutine(service.domainEvents.subscribe(0, print)), False)
        waiting = service.program(REMOTE, wait=True).connectGetHostname()
        self.assertNoResult(waiting)

    def test_those_in_flight_fail_once_and_are_not_repeated(self) -> None:
        service = self.connected()
        failures: list[bool] = []

        def note(failure: Failure) -> None:
            failures.append(failure.value.mayHaveRun)  # type: ignore[union-attr]

        for _ in range(3):
            call: Deferred[Any] = service.remote.connectGetHostname()
            call.addErrback(note)
        self.host.flush()
        self.reconnect()
        self.assertEqual(failures, [True] * 3)
        self.assertNotIn(HOSTNAME, self.host.calls())

    def test_those_that_did_not_leave_whole_say_so(self) -> None:
        self.host.window = 1000
        service = self.connected()
        self.host.server.transport.pauseProducing()
        first = service.remote.domainDefineXML("x" * 3000)
        second = service.remote.connectGetHostname()
        self.host.lose()
        self.assertLost(first, True)
        self.assertLost(second, False)

    def test_one_made_while_the_failure_is_handled_waits(self) -> None:
        service = self.connected()

        async def insist() -> str:
            while True:
                try:
                    return await service.remote.connectGetHostname()
                except ConnectionLost:
                    self.host.answers[HOSTNAME] = lambda: "second"

        call = Deferred.fromCoroutine(insist())
        self.host.flush()
        self.reconnect()
        self.assertEqual(self.successResultOf(call), "second")

    def test_one_that_would_not_wait_fails_then(self) -> None:
        service = self.connected(waitForConnection=False)
        remote = service.remote
        again = remote.connectGetHostname().addErrback(lambda _: remote.connectGetHostname())
        self.host.lose()
        self.assertLost(again, False)

    def test_only_so_many_are_in_flight_the_others_follow_in_order(self) -> None:
        service = self.connected(callsInFlight=2)
        calls: list[Deferred[Any]] = [
            service.remote.connectGetHostname(),
            service.remote.connectGetVersion(),
        ]
        calls += [service.remote.domainLookupByID(number) for number in range(3)]
        self.host.server.answers[22] = lambda number: LATER
        self.host.flush()
        self.assertEqual((service.callsInFlight, service.callsWaiting), (2, 3))
        self.assertEqual(self.host.calls(), [HOSTNAME, VERSION])
        self.host.server.reply(self.host.server.unanswered[1], 7)
        self.host.flush()
        self.assertEqual(self.successResultOf(calls[1]), 7)
        self.assertEqual(self.host.server.taken(), [(22, (0,))])
        self.host.server.refuse(self.host.server.unanswered[0], unknown(HOSTNAME))
        self.host.flush()
        self.failureResultOf(calls[0], RemoteError)
        self.assertEqual(self.host.server.taken(), [(22, (1,))])

    def test_a_limit_that_lets_nothing_through_is_refused(self) -> None:
        self.assertRaises(ValueError, self.make, callsInFlight=0)

    def test_those_that_wait_survive_a_lost_connection(self) -> None:
        service = self.connected(callsInFlight=1)
        lost, kept = service.remote.connectGetHostname(), service.remote.connectGetVersion()
        hasty = service.program(REMOTE, wait=False).connectGetVersion()
        self.host.flush()
        self.host.answers[VERSION] = lambda: 9
        self.reconnect()
        self.assertLost(lost, True)
        self.assertLost(hasty, False)
        self.assertEqual(self.successResultOf(kept), 9)

    def test_one_that_waits_can_be_cancelled_and_is_not_sent(self) -> None:
        service = self.make()
        call = service.remote.connectGetHostname()
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.host.accept()
        self.assertNotIn(HOSTNAME, self.host.calls())

    def test_one_in_flight_that_is_cancelled_keeps_its_place_until_it_is_answered(self) -> None:
        service = self.connected(callsInFlight=1)
        call = service.remote.connectGetHostname()
        next = service.remote.connectGetVersion()
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.host.flush()
        self.assertEqual(self.host.calls(), [HOSTNAME])
        self.host.server.reply(self.host.server.unanswered[0], "late")
        self.host.flush()
        self.assertEqual(self.host.calls(), [VERSION])
        self.assertNoResult(next)

    def test_one_that_takes_too_long_says_that_it_may_have_run(self) -> None:
        service = self.connected(callTimeout=5)
        call = service.remote.connectGetHostname()
        self.host.flush()
        self.clock.advance(5)
        error = self.failureResultOf(call, CallTimedOut).value
        self.assertIs(error.mayHaveRun, True)
        self.assertEqual(str(error), "connectGetHostname was not answered within 5 seconds")
        self.host.server.reply(self.host.server.unanswered[0], "late")
        self.host.flush()
        self.assertEqual(service.callsInFlight, 0)
        self.assertIsNot(service.connection, None)

    def test_one_that_waits_too_long_says_that_it_has_not(self) -> None:
        service = self.make()
        call = service.program(REMOTE, timeout=1).connectGetHostname()
        self.clock.advance(1)
        self.assertIs(self.failureResultOf(call, CallTimedOut).value.mayHaveRun, False)
        self.host.accept()
        self.assertNotIn(HOSTNAME, self.host.calls())

    def test_an_answer_in_time_stops_the_clock(self) -> None:
        service = self.connected(callTimeout=5)
        call = service.remote.connectGetHostname()
        self.host.flush()
        self.host.server.reply(self.host.server.unanswered[0], "host")
        self.host.flush()
        self.assertEqual(self.successResultOf(call), "host")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_failure_of_one_in_flight_that_nobody_waits_for_is_swallowed(self) -> None:
        service = self.connected()
        service.remote.connectGetHostname().addErrback(lambda _: None).cancel()
        self.host.flush()
        self.host.lose()
        self.assertEqual(service.callsInFlight, 0)

    def test_a_stream_that_comes_too_late_is_aborted(self) -> None:
        service = self.connected(callTimeout=1)
        self.host.server.answers[DOWNLOAD] = lambda *args: LATER
        call = service.remote.storageVolDownload(StorageVol("pool", "vol", "key"), 0, 0, 0)
        self.host.flush()
        self.clock.advance(1)
        self.failureResultOf(call, CallTimedOut)
        late = self.host.server.unanswered[0]
        heard: list[bytes] = []
        self.host.server.dataReceived = heard.append  # type: ignore[method-assign,assignment]
        self.host.server.reply(late, None)
        self.host.flush()
        # A STREAM message (3) of status ERROR (1).
        self.assertEqual(b"".join(heard)[16:28], struct.pack(">III", 3, late.serial, 1))

    def test_descriptors_that_come_too_late_are_closed(self) -> None:
        sent: list[PendingCall] = []

        class Client:
            """Descriptors do not come over the transport of this test."""

            def start(self, call: PendingCall, *args: Any) -> None:
                sent.append(call)

        queue = CallQueue(self.clock, 1)
        client: Any = Client()
        queue.connected(client)
        procedure = REMOTE.byName["domainOpenGraphicsFD"]
        call = queue.call(procedure, (DOMAIN, 0, 0), timeout=1, patient=True)
        self.clock.advance(1)
        self.failureResultOf(call, CallTimedOut)
        fd = os.open("/dev/null", os.O_RDONLY)
        sent[0].answered([fd])
        self.assertRaises(OSError, os.fstat, fd)
        self.assertEqual(queue.inFlight, 0)

    def test_one_that_is_answered_while_it_is_sent_is_sent_once(self) -> None:
        sent: list[PendingCall] = []

        class Client:
            """As over a transport in memory."""

            def start(self, call: PendingCall, *args: Any) -> None:
                sent.append(call)
                if len(sent) > 1:
                    call.answered(len(sent))

        queue = CallQueue(self.clock, 1)
        client: Any = Client()
        queue.connected(client)
        procedure = REMOTE.byName["connectGetLibVersion"]
        calls = [queue.call(procedure, (), timeout=None, patient=True) for _ in range(4)]
        sent[0].answered(1)
        self.assertEqual([self.successResultOf(call) for call in calls], [1, 2, 3, 4])
        self.assertEqual((len(sent), queue.inFlight, len(queue)), (4, 0, 0))

    def test_a_mistake_is_raised_at_the_call_sent_or_not(self) -> None:
        service = self.make()
        self.assertRaises(XDRError, service.remote.domainLookupByID, "one")
        self.host.accept()
        self.assertRaises(XDRError, service.remote.domainLookupByID, "one")
        self.assertEqual((service.callsWaiting, service.callsInFlight), (0, 0))

    def test_descriptors_that_wait_are_copies(self) -> None:
        service = self.make()
        before = len(openAtRest())
        fd = os.open("/dev/null", os.O_RDONLY)
        cancelled = service.remote.domainOpenGraphics(DOMAIN, 0, 0, fds=[fd])
        sent = service.remote.domainOpenGraphics(DOMAIN, 0, 0, fds=[fd])
        os.close(fd)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.host.accept()
        # The transport of this test carries none.
        self.failureResultOf(sent, LocalProtocolError)
        self.assertEqual(len(openDescriptors()), before)

    def test_a_descriptor_that_is_not_open_is_a_mistake(self) -> None:
        service = self.make()
        self.assertRaises(OSError, service.remote.domainOpenGraphics, DOMAIN, 0, 0, fds=[0, 10**6])

    def test_other_programs_go_the_same_way(self) -> None:
        service = self.make()
        call = service.program(QEMU).domainQemuAttach(1)
        self.assertNoResult(call)
        self.assertEqual(service.callsWaiting, 1)


class Events(_Case):
    """Subscriptions that outlast their connection."""

    def setUp(self) -> None:
        super().setUp()
        self.heard: list[Any] = []
        self.gaps: list[Gap] = []
        self.next = 40
        self.host.answers.update({REGISTER: self.register, DEREGISTER: lambda number: None})

    def register(self, event: int, dom: Domain | None) -> int:
        """Answer a registration with the next number."""
        self.next += 1
        return self.next

    def subscribe(self, **options: Any) -> Any:
        """Subscribe to the events of life cycles."""
        coroutine = self.service.domainEvents.subscribe(
            DomainEventID.LIFECYCLE,
            lambda *values: self.heard.append(values[1]),
            gap=self.gaps.append,
            **options,
        )
        subscribing = Deferred.fromCoroutine(coroutine)
        self.host.flush()
        return subscribing

    def emit(self, number: int, event: int) -> None:
        """Have the server send an event to a registration."""
        self.host.server.emit(LIFECYCLE, number, (DOMAIN, event, 0))
        self.host.flush()

    def test_events_arrive(self) -> None:
        self.connected()
        self.successResultOf(self.subscribe())
        self.emit(41, 3)
        self.assertEqual((self.heard, self.gaps), ([3], []))

    def test_after_a_reconnect_they_are_made_again_and_a_gap_is_told(self) -> None:
        self.connected()
        self.successResultOf(self.subscribe(target=DOMAIN))
        self.clock.advance(10)
        self.reconnect()
        self.assertIn((REGISTER, (0, DOMAIN)), self.host.server.taken())
        self.assertEqual(self.gaps, [Gap(10.0, 11.75)])
        self.emit(42, 4)
        self.assertEqual(self.heard, [4])
        self.reconnect()
        self.assertEqual(self.gaps[1:], [Gap(11.75, 13.5)])

    def test_a_gap_begins_with_the_last_sign_of_life(self) -> None:
        self.connected(keepalive=(5, 1))
        self.successResultOf(self.subscribe())
        self.clock.advance(2)
        self.emit(41, 3)
        self.host.server.dataReceived = lambda data: None  # type: ignore[method-assign]
        for _ in range(4):
            self.clock.advance(4)
        self.clock.advance(1.75)
        self.host.accept()
        ((since, until, error),) = self.gaps
        self.assertEqual((since, error), (2.0, None))
        self.assertTrue(until > 12)

    def test_they_come_back_before_the_calls_that_wait(self) -> None:
        self.connected()
        self.successResultOf(self.subscribe())
        self.host.lose()
        self.service.remote.connectGetHostname().addErrback(lambda _: None)
        self.clock.advance(1.75)
        calls = self.host.accept().calls
        numbers = [number for number, _ in calls]
        self.assertEqual(numbers[-2:], [REGISTER, HOSTNAME])

    def test_a_gap_is_heard_before_what_comes_after_it(self) -> None:
        self.connected()
        self.successResultOf(self.subscribe())
        self.gaps = self.heard

        def register(event: int, dom: Domain | None) -> int:
            return 50

        self.subscribe()
        self.host.answers[REGISTER] = register
        self.reconnect()
        self.emit(50, 6)
        self.assertEqual([type(each) for each in self.heard], [Gap, int, int])

    def test_one_that_is_not_taken_again_is_over_and_says_why(self) -> None:
        self.connected()
        self.successResultOf(self.subscribe())
        refusal = unknown(REGISTER)

        def refuse(event: int, dom: Domain | None) -> int:
            raise refusal

        self.host.answers[REGISTER] = refuse
        self.reconnect()
        self.assertEqual([str(gap.error) for gap in self.gaps], [str(refusal)])
        self.assertIsNot(self.service.connection, None)
        self.host.calls()
        self.reconnect()
        self.assertNotIn(REGISTER, self.host.calls())
        self.assertEqual(len(self.gaps), 1)

    def test_one_that_was_cancelled_does_not_come_back(self) -> None:
        self.connected()
        subscription = self.successResultOf(self.subscribe())
        cancelling = Deferred.fromCoroutine(subscription.cancel())
        self.host.flush()
        self.successResultOf(cancelling)
        self.assertIn(DEREGISTER, self.host.calls())
        self.emit(41, 3)
        self.reconnect()
        self.assertNotIn(REGISTER, self.host.calls())
        self.assertEqual((self.heard, self.gaps), ([], []))
        self.successResultOf(Deferred.fromCoroutine(subscription.cancel()))

    def test_one_that_is_cancelled_while_it_comes_back(self) -> None:
        self.connected()
        subscription = self.successResultOf(self.subscribe())
        self.host.answers[REGISTER] = lambda event, dom: LATER
        self.reconnect()
        self.successResultOf(Deferred.fromCoroutine(subscription.cancel()))
        self.host.server.reply(self.host.server.unanswered[0], 60)
        self.host.flush()
        self.assertEqual(self.host.server.calls[-2:], [(REGISTER, (0, None)), (DEREGISTER, (60,))])
        self.assertEqual(self.gaps, [])
        self.assertIsNot(self.service.connection, None)

    def test_without_a_connection_subscribing_waits(self) -> None:
        self.make()
        subscribing = self.subscribe()
        self.assertNoResult(subscribing)
        self.host.accept()
        self.successResultOf(subscribing)
        self.assertEqual(self.gaps, [])

    def test_a_connection_lost_while_subscribing_is_waited_out(self) -> None:
        self.connected()
        self.host.server.answers[REGISTER] = lambda event, dom: LATER
        subscribing = self.subscribe()
        self.reconnect()
        self.successResultOf(subscribing)
        self.emit(41, 1)
        self.assertEqual(self.heard, [1])

    def test_a_connection_lost_while_they_come_back_is_a_failed_attempt(self) -> None:
        self.connected()
        self.successResultOf(self.subscribe())
        self.host.answers[REGISTER] = lambda event, dom: LATER
        self.reconnect()
        self.assertIs(self.service.connection, None)
        self.host.lose()
        self.host.answers[REGISTER] = self.register
        self.clock.advance(2.5)
        self.host.accept()
        self.assertEqual(self.gaps, [Gap(0.0, 4.25)])

    def test_a_subscriber_that_fails_hurts_nobody_else(self) -> None:
        self.connected()

        def fail(*values: Any) -> None:
            raise KeyError("a bug")

        for _ in range(2):
            coroutine = self.service.domainEvents.subscribe(0, fail, gap=fail)
            subscribing = Deferred.fromCoroutine(coroutine)
            self.host.flush()
            self.successResultOf(subscribing)
        self.successResultOf(self.subscribe())
        self.reconnect()
        self.emit(42, 5)
        self.assertEqual((self.heard, len(self.gaps)), ([5], 1))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 4)
