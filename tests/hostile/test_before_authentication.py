"""What strangers can do to a server before they have authenticated: little, and not for long.

Each class is an attack. C{witness} is a client that has authenticated, and must not notice.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.authenticating import KnockAuthentication
from tests.echo import ECHO, Echo
from tests.openfiles import openAtRest, openDescriptors
from tests.peers import (
    CALL,
    CALL_WITH_FDS,
    CONTINUE,
    OK,
    STREAM,
    Message,
    ServerSession,
    callNamed,
    message,
    served,
)
from tests.server.sockets import SocketTestCase
from virnet.errors import ConnectionLost
from virnet.limits import (
    AUTHENTICATION_TIMEOUT,
    FAULTS_LOGGED,
    HELD_CLIENTS_MAX,
    UNAUTHENTICATED_MESSAGE_MAX,
)
from virnet.programs import REMOTE
from virnet.security.saslcontext import SASLContext
from virnet.server import NetServer, ServerService
from virnet.server.sasl import SASLAuthentication
from virnet.wire.keepalive import PING_MESSAGE, PONG_MESSAGE

STRANGERS = 3


class _Attack(SynchronousTestCase):
    """A server that lets three strangers in at a time, and a client that it knows."""

    def setUp(self) -> None:
        self.auth: Any = KnockAuthentication()
        self.server = NetServer(Clock(), [served(ECHO, Echo())], maxAnonymousClients=STRANGERS)
        self.witness = self.connect()
        self.witness.send(callNamed(REMOTE, "authPolkit", 1))

    def connect(self) -> ServerSession:
        """One more stranger."""
        return ServerSession(server=self.server, auth=self.auth)

    def answers(self, session: ServerSession) -> bool:
        """Whether a client is served."""
        return [each.status for each in session.send(callNamed(ECHO, "ping", 1))] == [OK]

    def refused(self, replies: list[Message]) -> set[Any]:
        """The errors that came back."""
        return {each.error[:3] for each in replies}

    def tearDown(self) -> None:
        self.assertTrue(self.answers(self.witness))


class SlowAuthentication(_Attack):
    """Strangers who say nothing, or go on for ever with what leads nowhere."""

    def test_who_says_nothing_is_cut_off(self) -> None:
        stranger = self.connect()
        self.server.reactor.advance(AUTHENTICATION_TIMEOUT - 1)
        stranger.flush()
        self.assertFalse(stranger.closed)
        self.server.reactor.advance(1)
        stranger.flush()
        self.assertTrue(stranger.closed)
        self.assertEqual(self.server.anonymousClients, 0)

    def test_trying_buys_no_time(self) -> None:
        stranger = self.connect()
        for _ in range(AUTHENTICATION_TIMEOUT - 1):
            self.server.reactor.advance(1)
            (reply,) = stranger.send(callNamed(REMOTE, "authSASLInit", 1))
            self.assertEqual(reply.error[0], 45)
            self.assertEqual(stranger.send(PING_MESSAGE)[0].procedure, 2)
        self.server.reactor.advance(1)
        stranger.flush()
        self.assertTrue(stranger.closed)

    def test_half_a_message_buys_no_time(self) -> None:
        stranger = self.connect()
        for byte in callNamed(REMOTE, "authPolkit", 1)[:-1]:
            stranger.send(bytes((byte,)))
            self.server.reactor.advance(1)
        self.server.reactor.advance(AUTHENTICATION_TIMEOUT)
        stranger.flush()
        self.assertTrue(stranger.closed)

    def test_who_has_authenticated_has_all_the_time(self) -> None:
        known = self.connect()
        known.send(callNamed(REMOTE, "authPolkit", 1))
        self.server.reactor.advance(10 * AUTHENTICATION_TIMEOUT)
        self.assertTrue(self.answers(known))

    def test_nothing_is_left_over(self) -> None:
        for ends in ("knocks", "leaves", "waits"):
            stranger = self.connect()
            if ends == "knocks":
                stranger.send(callNamed(REMOTE, "authPolkit", 1))
            if ends == "waits":
                self.server.reactor.advance(AUTHENTICATION_TIMEOUT)
            stranger.lose()
            self.assertEqual(self.server.reactor.getDelayedCalls(), [])

    def test_the_time_can_be_set(self) -> None:
        for seconds, closed in ((5, True), (0, False)):
            self.server.authenticationTimeout = seconds
            stranger = self.connect()
            self.server.reactor.advance(5)
            stranger.flush()
            self.assertEqual(stranger.closed, closed)


class FloodOfConnections(_Attack):
    """More strangers than there is room for."""

    def test_they_wait_unread_and_then_are_dropped(self) -> None:
        strangers = [self.connect() for _ in range(STRANGERS + HELD_CLIENTS_MAX + 10)]
        self.assertEqual(
            (self.server.anonymousClients, self.server.heldClients), (STRANGERS, HELD_CLIENTS_MAX)
        )
        self.assertFalse(self.server.accepting)
        for stranger in strangers:
            stranger.flush()
        self.assertEqual([each.closed for each in strangers].count(True), 10)
        # What those say who wait is not looked at.
        self.assertEqual(strangers[500].send(callNamed(REMOTE, "authList", 1)), [])
        self.assertTrue(self.answers(self.witness))

    def test_none_of_them_keeps_a_place_for_long(self) -> None:
        strangers = [self.connect() for _ in range(4 * STRANGERS)]
        for _ in range(4):
            self.server.reactor.advance(AUTHENTICATION_TIMEOUT)
        for stranger in strangers:
            stranger.flush()
        self.assertTrue(all(each.closed for each in strangers))
        newcomer = self.connect()
        newcomer.send(callNamed(REMOTE, "authPolkit", 1))
        self.assertTrue(self.answers(newcomer))


class HugeMessages(_Attack):
    """Messages that would fill the memory before anybody knows from whom they are."""

    def test_one_below_the_limit_is_answered(self) -> None:
        stranger = self.connect()
        size = UNAUTHENTICATED_MESSAGE_MAX - 24
        (reply,) = stranger.send(message(ECHO.number, 1, 1, CALL, 1, OK, bytes(size)))
        self.assertEqual(reply.error[:3], (39, 7, "authentication required"))

    def test_one_above_it_is_not_even_waited_for(self) -> None:
        stranger = self.connect()
        length = UNAUTHENTICATED_MESSAGE_MAX + 8
        stranger.send(message(REMOTE.number, 1, 68, CALL, 1, OK, length=length))
        self.assertTrue(stranger.closed)

    def test_afterwards_messages_may_be_as_large_as_ever(self) -> None:
        self.assertEqual(self.witness.send(message(ECHO.number, 1, 1, CALL, 1, OK, length=30_000_000)), [])
        self.assertFalse(self.witness.closed)
        self.witness = self.connect()
        self.witness.send(callNamed(REMOTE, "authPolkit", 1))


class StreamPackets(_Attack):
    """Stream packets of streams that nobody has opened."""

    def test_they_are_dropped_and_hold_nothing(self) -> None:
        stranger = self.connect()
        packet = message(REMOTE.number, 1, 209, STREAM, 1, CONTINUE, bytes(1000))
        for _ in range(100):
            self.assertEqual(stranger.send(packet * 10), [])
        self.assertEqual(stranger.client.inProgress, 0)
        self.assertEqual(stranger.client.connection.streams, {})
        stranger.send(callNamed(REMOTE, "authPolkit", 1))
        self.assertTrue(self.answers(stranger))


class FloodOfFaults(_Attack):
    """Messages that cost a stranger nothing, and would each have a line in the log."""

    def linesFor(self, *messages: bytes) -> int:
        """How many lines there are for a thousand of each."""
        stranger = self.connect()
        with capturedLogs() as logged:
            for each in messages:
                for _ in range(100):
                    stranger.send(each * 10)
        stranger.client.abort(ConnectionLost("seen"))
        stranger.flush()
        return len(logged)

    def test_the_log_stays_short(self) -> None:
        self.auth = SASLAuthentication(SASLContext(checkers=[InMemoryUsernamePasswordDatabaseDontUse()]))
        failures = callNamed(REMOTE, "authSASLInit", 1), callNamed(REMOTE, "authSASLStep", 1, 1, b"")
        nonsense = message(REMOTE.number, 1, 68, CALL, 1, OK, b"no arguments")
        packets = message(REMOTE.number, 1, 209, STREAM, 1, CONTINUE)
        for flood in (failures, (nonsense,), (packets,)):
            count = self.linesFor(*flood)
            self.assertGreaterEqual(count, FAULTS_LOGGED)
            self.assertLessEqual(count, FAULTS_LOGGED + 10)


class KeepAliveFlood(_Attack):
    """PINGs without end from strangers, who read no answer."""

    def test_they_are_answered_as_long_as_the_answers_are_read(self) -> None:
        stranger = self.connect()
        stranger.transport.write(PING_MESSAGE * 1000)
        stranger.clock.advance(0)
        self.assertEqual(stranger.peer.bytes(), PONG_MESSAGE * 1000)

    def test_then_nothing_more_is_read(self) -> None:
        stranger = self.connect()
        stranger.transport.pauseProducing()
        for _ in range(25):
            stranger.send(PING_MESSAGE * 2000)
        self.assertTrue(stranger.client.queuedBytes < 500_000, stranger.client.queuedBytes)
        self.assertTrue(self.answers(self.witness))


class CallsWithoutEnd(_Attack):
    """Calls that are refused, by the thousand."""

    def test_they_cost_an_answer_each_and_run_nothing(self) -> None:
        stranger = self.connect()
        replies = stranger.send(callNamed(ECHO, "ping", 1) * 2000)
        self.assertEqual(self.refused(replies), {(39, 7, "authentication required")})
        self.assertEqual(len(replies), 2000)
        self.assertEqual(stranger.client.inProgress, 0)


class SASLStepWithoutStart(_Attack):
    """Steps of an exchange that was not begun, on a service that has none."""

    def test_they_fail_and_change_nothing(self) -> None:
        stranger = self.connect()
        for name, args in (("authSASLStep", (0, b"x")), ("authSASLStart", ("PLAIN", 0, b"\0a\0b"))):
            for _ in range(20):
                (reply,) = stranger.send(callNamed(REMOTE, name, 1, *args))
                self.assertEqual(reply.error[:3], (45, 7, "authentication failed: authentication failed"))
        self.assertFalse(self.answers(stranger))


class FloodOfDescriptors(SocketTestCase):
    """Descriptors from a stranger, announced and not announced."""

    @inlineCallbacks
    def test_none_is_kept(self) -> Any:
        from twisted.internet import reactor

        self.server = NetServer(reactor, [served(ECHO, Echo())])
        ServerService(self.server, f"unix:{self.path}:lockfile=0", auth=KnockAuthentication())
        self.server.startService()
        self.addCleanup(self.server.stopService)
        self.addCleanup(self.disconnect)
        witness = yield self.connect()
        witness.transport.write(callNamed(REMOTE, "authPolkit", 1))
        yield witness.messages(1)
        before = len(openAtRest())
        announced = yield self.connect()
        number = 32
        call = message(ECHO.number, 1, 1, CALL_WITH_FDS, 1, OK, number.to_bytes(4, "big"))
        for _ in range(5):
            announced.transport.write(call)
            # Twisted gives a descriptor to the first byte that waits: that must be its own.
            yield deferLater(reactor, 0)
            yield deferLater(reactor, 0)
            for _ in range(number):
                announced.transport.sendFileDescriptor(0)
                announced.transport.write(b"\0")
            (reply,) = yield announced.messages(1)
            self.assertEqual(reply.error[:3], (39, 7, "authentication required"))
        announced.transport.loseConnection()
        yield announced.end()
        unannounced = yield self.connect()
        # One with each byte of a message that has room for none.
        for byte in message(ECHO.number, 1, 1, CALL, 1, OK, bytes(1000))[:100]:
            unannounced.transport.sendFileDescriptor(0)
            unannounced.transport.write(bytes((byte,)))
        yield unannounced.end()
        witness.transport.write(callNamed(ECHO, "ping", 1))
        (reply,) = yield witness.messages(1)
        self.assertEqual(reply.status, OK)
        self.assertEqual(len(openDescriptors()), before)
        self.flushLoggedErrors()
