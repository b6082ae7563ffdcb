"""Keepalive of both roles by the clock: who sends PINGs, what counts as life, when a peer is given up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.client.server import FEATURE, LATER, Opening, ScriptedServer, unknown
from tests.echo import ECHO, Echo
from tests.peers import CALL, MESSAGE, OK, ClientSession, Message, ServerSession, callNamed, message, served
from tests.streaming import PROGRAM, packet
from virnet.errors import ConnectionLost, KeepAliveTimeout, RemoteError
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import RemoteSession
from virnet.limits import STREAM_BUFFER
from virnet.programs import REMOTE
from virnet.server import NetServer, ServerProgram
from virnet.wire.keepalive import PONG_MESSAGE

KEEPALIVE = 0x6B656570
PING, PONG = 1, 2
PINGED = [(KEEPALIVE, PING)]
PONGED = [(KEEPALIVE, PONG)]


def keepalive(
    procedure: int, version: int = 1, type: int = MESSAGE, serial: int = 0, payload: bytes = b""
) -> bytes:
    """A message of the keepalive program."""
    return message(KEEPALIVE, version, procedure, type, serial, OK, payload)


PING_BYTES, PONG_BYTES = keepalive(PING), keepalive(PONG)


def kinds(messages: Iterable[Message]) -> list[tuple[int, int]]:
    """Program and procedure of each message."""
    return [(each.program, each.procedure) for each in messages]


class _Case(SynchronousTestCase):
    session: Any

    def after(self, seconds: float) -> list[tuple[int, int]]:
        """Let time pass; return what the peer got."""
        self.session.clock.advance(seconds)
        return kinds(self.session.flush())

    def assertDead(self) -> None:
        self.assertTrue(self.session.closed)
        self.assertEqual(self.session.clock.getDelayedCalls(), [])


class Server(_Case):
    """The server: PINGs after it was asked for feature 10, interval 1, count 2."""

    def setUp(self) -> None:
        self.connect()

    def connect(self, interval: float = 1, count: int = 2) -> None:
        hypervisor = MemoryHypervisor()
        program = ServerProgram(REMOTE, lambda client: RemoteSession(client, hypervisor))
        server = NetServer(Clock(), [program], keepaliveInterval=interval, keepaliveCount=count)
        self.session = ServerSession(server=server)

    def ask(self) -> None:
        """Ask for the feature."""
        (reply,) = self.session.send(callNamed(REMOTE, "connectSupportsFeature", 0, 10))
        self.assertEqual(reply.payload, b"\0\0\0\x01")

    def test_R096_who_never_asked_is_never_pinged(self) -> None:
        self.assertEqual([self.after(1) for _ in range(20)], [[]] * 20)
        self.session.send(callNamed(REMOTE, "connectOpen", 1, "test:///default", 0))
        self.session.send(callNamed(REMOTE, "connectSupportsFeature", 2, 14))
        self.assertEqual([self.after(1) for _ in range(20)], [[]] * 20)
        self.assertFalse(self.session.closed)

    def test_the_first_PING_comes_one_interval_after_the_question(self) -> None:
        self.after(0.5)
        self.ask()
        self.assertEqual(self.after(0.9), [])
        self.assertEqual(self.after(0.1), PINGED)

    def test_R098_a_silent_client_is_closed_after_two_PINGs_and_three_seconds(self) -> None:
        self.ask()
        self.assertEqual([self.after(1), self.after(1)], [PINGED, PINGED])
        self.assertEqual(self.after(0.9), [])
        self.assertFalse(self.session.closed)
        self.after(0.1)
        self.assertDead()

    def test_one_that_does_not_read_either_is_closed_all_the_same(self) -> None:
        self.ask()
        self.session.transport.pauseProducing()
        self.session.client.send(bytes(1 << 20))
        for _ in range(3):
            self.session.clock.advance(1)
        self.assertTrue(self.session.client.ending)
        self.session.clock.advance(0)
        self.assertEqual(self.session.server.clients, {})

    def test_R099_ordinary_traffic_keeps_PINGs_away(self) -> None:
        self.ask()
        for serial in range(8):
            self.assertEqual(self.after(0.7), [])
            self.session.send(callNamed(REMOTE, "connectSupportsFeature", serial, 10))

    def test_any_message_is_a_sign_of_life(self) -> None:
        self.ask()
        for life in (
            PONG_BYTES,
            PING_BYTES,
            keepalive(77),
            packet(208, 5, OK),
            PONG_BYTES[:5],
            PONG_BYTES[5:],
        ):
            self.assertEqual(self.after(0.9), [])
            self.session.send(life)
        self.assertEqual(self.after(0.9), [])
        self.assertEqual(self.after(0.1), PINGED)

    def test_who_answers_lives(self) -> None:
        self.ask()
        for _ in range(20):
            self.assertEqual(self.after(1), PINGED)
            self.session.send(PONG_BYTES)
        self.assertFalse(self.session.closed)

    def test_asking_twice_changes_nothing(self) -> None:
        self.ask()
        self.after(0.5)
        self.ask()
        self.assertEqual([self.after(0.9), self.after(0.1)], [[], PINGED])
        self.assertEqual(len(self.session.clock.getDelayedCalls()), 1)

    def test_with_a_count_of_zero_no_PING_and_one_interval(self) -> None:
        self.connect(3, 0)
        self.ask()
        self.assertEqual(self.after(2.9), [])
        self.assertFalse(self.session.closed)
        self.assertEqual(self.after(0.1), [])
        self.assertDead()

    def test_with_an_interval_of_zero_or_less_never_but_it_answers(self) -> None:
        for interval in (0, -1):
            self.connect(interval)
            self.ask()
            self.assertEqual(self.after(1000), [])
            self.assertEqual(kinds(self.session.send(PING_BYTES)), PONGED)

    def test_a_client_that_leaves_leaves_no_timer(self) -> None:
        self.ask()
        self.session.lose()
        self.assertDead()

    def test_one_whose_slots_are_all_held_is_not_given_up(self) -> None:
        # libvirtd does not see its PONGs either, and closes it. Nor are its PINGs seen: PONGs go out unasked.
        gate: Deferred[str] = Deferred()

        class Slow(Echo):
            def echo(self, text: str) -> Any:
                return gate

        server = NetServer(Clock(), [served(ECHO, Slow())], keepaliveInterval=1, keepaliveCount=2)
        self.session = ServerSession(server=server)
        self.session.client.useKeepAlive()
        self.session.send(*[callNamed(ECHO, "echo", n, "x") for n in range(6)])
        self.assertEqual([self.after(1) for _ in range(10)], [PONGED] * 10)
        gate.callback("done")
        self.assertEqual(len(self.session.flush()), 6)
        self.assertEqual(self.after(1), PINGED)

    def manyAnswers(self) -> None:
        """Have five answers wait for a client, which then hold all of its slots."""

        class Large(Echo):
            def echo(self, text: str) -> str:
                return "x" * 60_000

        server = NetServer(Clock(), [served(ECHO, Large())], keepaliveInterval=1, keepaliveCount=2)
        self.session = ServerSession(server=server)
        self.session.client.useKeepAlive()
        self.session.transport.pauseProducing()
        self.session.send(*[callNamed(ECHO, "echo", n, "") for n in range(40)])
        self.assertTrue(self.session.client.connection.throttled)

    def test_one_whose_slots_are_held_by_answers_that_it_does_not_read_is_given_up(self) -> None:
        self.manyAnswers()
        queued = self.session.client.queuedBytes
        for _ in range(2):
            self.session.clock.advance(1)
        self.assertFalse(self.session.client.ending)
        self.assertEqual(self.session.client.queuedBytes - queued, 2 * len(PING_BYTES), "PINGs alone")
        self.session.clock.advance(1)
        self.assertTrue(self.session.client.ending)
        self.session.clock.advance(0)
        self.assertEqual(self.session.server.clients, {})

    def test_one_that_is_slow_to_read_them_is_not(self) -> None:
        self.manyAnswers()
        peer = self.session.peer

        def readOnce(data: bytes) -> None:
            peer._chunks.append(data)
            self.session.transport.pauseProducing()

        self.patch(peer, "dataReceived", readOnce)
        for _ in range(20):
            self.session.transport.resumeProducing()
            self.session.clock.advance(1)
            self.assertTrue(self.session.client.sender.queued > 0)
        self.assertFalse(self.session.client.ending)
        # Three seconds from when it was last seen to have read.
        for _ in range(4):
            self.session.clock.advance(1)
        self.assertTrue(self.session.client.ending)


class ServerAnswers(_Case):
    """The server answers PINGs, whatever was negotiated."""

    def setUp(self) -> None:
        self.session = ServerSession(served(ECHO, Echo()))

    def test_R097_one_PONG_for_each_PING(self) -> None:
        self.assertEqual(kinds(self.session.send(PING_BYTES)), PONGED)
        self.assertEqual(kinds(self.session.send(PING_BYTES * 100)), PONGED * 100)
        self.assertEqual(self.session.client.connection.inProgress, 0)

    def test_R097_before_authentication(self) -> None:
        self.session.client.connection.authenticated = False
        self.assertEqual(kinds(self.session.send(PING_BYTES)), PONGED)

    def test_R097_between_calls(self) -> None:
        answer = self.session.send(callNamed(ECHO, "ping", 1), PING_BYTES, callNamed(ECHO, "ping", 2))
        self.assertEqual(sorted(kinds(answer)), sorted([(ECHO.number, 1), (ECHO.number, 1), *PONGED]))

    def test_a_PONG_is_28_bytes_with_serial_0_whatever_the_PING_was(self) -> None:
        for odd in (keepalive(PING, serial=7), keepalive(PING, payload=b"payload"), PING_BYTES):
            (pong,) = self.session.send(odd)
            self.assertEqual(pong, (28, KEEPALIVE, 1, PONG, MESSAGE, 0, OK, b""))

    def test_what_else_the_program_may_say_is_ignored(self) -> None:
        for odd in (PONG_BYTES, keepalive(3), keepalive(0), keepalive(-1), keepalive(PING, version=2)):
            self.assertEqual(self.session.send(odd), [])
        self.assertEqual(kinds(self.session.send(callNamed(ECHO, "ping", 1))), [(ECHO.number, 1)])

    def test_as_a_call_it_is_an_unknown_program(self) -> None:
        (answer,) = self.session.send(keepalive(PING, type=CALL, serial=9))
        self.assertEqual((answer.serial, answer.error[2]), (9, "Cannot find program 1801807216 version 1"))


class Client(_Case):
    """The client: PINGs after it was told to, interval 1, count 2."""

    def setUp(self) -> None:
        self.session = ClientSession()
        self.client: Any = self.session.client
        self.remote: Any = self.client.program(ECHO)

    def test_R096_who_was_not_told_never_pings(self) -> None:
        self.assertEqual([self.after(1) for _ in range(20)], [[]] * 20)

    def test_R097_one_PONG_for_each_PING(self) -> None:
        self.assertEqual(kinds(self.session.send(PING_BYTES)), PONGED)
        self.assertEqual(kinds(self.session.send(PING_BYTES * 100)), PONGED * 100)
        for odd in (keepalive(PING, serial=7), keepalive(PING, payload=b"payload")):
            self.assertEqual(kinds(self.session.send(odd)), PONGED)
        self.assertEqual(self.session.client.connection.calls.clear(), [])

    def test_R097_while_a_call_waits(self) -> None:
        called = self.remote.echo("x")
        self.session.flush()
        self.assertEqual(kinds(self.session.send(PING_BYTES)), PONGED)
        self.assertNoResult(called)

    def test_what_else_the_program_may_say_is_ignored(self) -> None:
        for odd in (PONG_BYTES, keepalive(3), keepalive(-1), keepalive(PING, version=2)):
            self.assertEqual(self.session.send(odd), [])
        self.assertFalse(self.session.closed)

    def test_R098_a_silent_server_is_given_up_after_two_PINGs_and_three_seconds(self) -> None:
        self.client.startKeepAlive(1, 2)
        self.assertEqual([self.after(1), self.after(1)], [PINGED, PINGED])
        self.assertEqual(self.after(0.9), [])
        self.assertFalse(self.session.closed)
        self.after(0.1)
        self.assertDead()

    def test_R099_ordinary_traffic_keeps_PINGs_away(self) -> None:
        self.client.startKeepAlive(1, 2)
        for _ in range(8):
            self.assertEqual(self.after(0.7), [])
            called = self.remote.ping()
            (call,) = self.session.flush()
            self.session.reply(call)
            self.successResultOf(called)

    def test_R100_a_call_that_takes_its_time_on_a_server_that_lives(self) -> None:
        self.client.startKeepAlive(1, 2)
        called = self.remote.echo("x")
        (call,) = self.session.flush()
        for _ in range(20):
            self.assertEqual(self.after(1), PINGED)
            self.session.send(PONG_BYTES)
        self.assertNoResult(called)
        self.session.reply(call, ECHO.byName["echo"].encodeRet("x"))
        self.assertEqual(self.successResultOf(called), "x")

    def test_R101_a_call_on_a_server_that_is_silent_fails_with_the_reason(self) -> None:
        self.client.startKeepAlive(1, 2)
        called = self.remote.echo("x")
        closed = self.client.whenClosed()
        for _ in range(2):
            self.after(1)
        self.assertNoResult(called)
        self.after(1)
        failure = self.failureResultOf(called, KeepAliveTimeout)
        self.assertIn("connection closed due to keepalive timeout", str(failure.value))
        self.assertIsInstance(self.successResultOf(closed), KeepAliveTimeout)
        self.assertRaises(ConnectionLost, self.remote.echo, "later")
        self.assertDead()

    def test_R101_so_does_a_stream(self) -> None:
        opening = self.client.program(PROGRAM).download(0)
        (call,) = self.session.flush()
        self.session.reply(call)
        stream = self.successResultOf(opening)
        reading = Deferred.fromCoroutine(stream.receive())
        self.client.startKeepAlive(1, 0)
        self.after(1)
        self.failureResultOf(reading, KeepAliveTimeout)

    def test_with_a_count_of_zero_no_PING_and_one_interval(self) -> None:
        self.client.startKeepAlive(3, 0)
        self.assertEqual(self.after(2.9), [])
        self.assertEqual(self.after(0.1), [])
        self.assertDead()

    def test_with_an_interval_of_zero_or_less_never(self) -> None:
        for interval in (0, -1):
            self.client.startKeepAlive(interval, 2)
            self.assertEqual(self.after(1000), [])
            self.assertEqual(self.session.clock.getDelayedCalls(), [])

    def test_a_stream_that_nobody_reads_is_our_own_silence(self) -> None:
        opening = self.client.program(PROGRAM).download(0)
        (call,) = self.session.flush()
        self.session.reply(call)
        stream = self.successResultOf(opening)
        self.client.startKeepAlive(1, 2)
        for _ in range(2):
            self.session.send(packet(209, call.serial, 2, bytes(STREAM_BUFFER // 2 + 1)))
        self.assertTrue(self.client.readingHeld)
        self.assertEqual([self.after(1) for _ in range(10)], [PONGED] * 10)
        self.successResultOf(Deferred.fromCoroutine(stream.receive()))
        self.successResultOf(Deferred.fromCoroutine(stream.receive()))
        self.assertEqual(self.after(1), PINGED)

    def test_who_is_told_of_the_end_learns_when_the_last_sign_of_life_was(self) -> None:
        self.client.startKeepAlive(5, 2)
        self.after(0.7)
        self.session.send(PONG_BYTES)
        self.after(0.3)
        told: list[float | None] = []
        self.remote.echo("x").addErrback(lambda _: told.append(self.client.lastHeard))
        self.assertIs(self.client.lastHeard, None)
        self.client.abort(ConnectionLost("enough"))
        self.assertEqual(told, [0.7])

    def test_closing_leaves_no_timer(self) -> None:
        self.client.startKeepAlive(1, 2)
        self.client.close()
        self.session.flush()
        self.assertDead()
        self.client.startKeepAlive(1, 2)
        self.assertDead()


class _Watching(ScriptedServer):
    """Counts PINGs, and answers them when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.pings = 0

    def take(self) -> list[Message]:
        messages = super().take()
        others = [each for each in messages if each.program != KEEPALIVE]
        self.pings += len(messages) - len(others)
        return others


class Negotiation(SynchronousTestCase):
    """What an application says, and what the server knows."""

    def setUp(self) -> None:
        self.server = _Watching()

    def open(self, **options: Any) -> Any:
        self.opening = Opening(self.server, **options)
        return self.successResultOf(self.opening.opened)

    def pingsAfter(self, seconds: float) -> int:
        before = self.server.pings
        self.opening.reactor.advance(seconds)
        self.opening.flush()
        return self.server.pings - before

    def set(self, connection: Any, interval: float, count: int) -> Deferred[bool]:
        setting = Deferred.fromCoroutine(connection.setKeepAlive(interval, count))
        self.opening.flush()
        return setting

    def test_a_server_that_knows_it_is_asked_from_the_start(self) -> None:
        self.open(keepalive=(1, 2))
        self.assertEqual(self.pingsAfter(0.9), 0)
        self.assertEqual(self.pingsAfter(0.1), 1)

    def test_R102_a_server_that_answers_no_or_with_an_error_is_never_asked(self) -> None:
        def refuse(feature: int) -> int:
            raise unknown(FEATURE)

        for answer in (lambda feature: 0, refuse):
            self.server = _Watching()
            self.server.answers[FEATURE] = answer
            connection = self.open(keepalive=(1, 2))
            self.assertFalse(self.successResultOf(self.set(connection, 1, 2)))
            self.assertEqual([self.pingsAfter(1) for _ in range(10)], [0] * 10)

    def test_R096_who_does_not_want_it_does_not_even_ask_for_the_feature(self) -> None:
        connection = self.open(keepalive=None)
        self.assertNotIn((FEATURE, (10,)), self.server.taken())
        self.assertEqual([self.pingsAfter(1) for _ in range(10)], [0] * 10)
        self.assertTrue(self.successResultOf(self.set(connection, 1, 2)))
        self.assertEqual(self.server.taken(), [(FEATURE, (10,))])
        self.assertEqual(self.pingsAfter(1), 1)

    def test_setting_it_a_second_time_changes_nothing(self) -> None:
        connection = self.open(keepalive=(5, 2))
        self.assertTrue(self.successResultOf(self.set(connection, 1, 2)))
        self.assertEqual(self.pingsAfter(4.9), 0)
        self.assertEqual(self.pingsAfter(0.1), 1)

    def test_zero_switches_it_off_for_good(self) -> None:
        connection = self.open(keepalive=(1, 2))
        self.assertTrue(self.successResultOf(self.set(connection, 0, 0)))
        self.assertEqual([self.pingsAfter(1) for _ in range(10)], [0] * 10)
        failure = self.failureResultOf(self.set(connection, 1, 2), RemoteError)
        self.assertEqual((failure.value.code, failure.value.str2), (1, "keepalive interval already set"))

    def test_what_was_never_on_can_be_switched_on_after_zero(self) -> None:
        connection = self.open(keepalive=None)
        for interval in (0, -1):
            self.assertTrue(self.successResultOf(self.set(connection, interval, 0)))
        self.assertTrue(self.successResultOf(self.set(connection, 1, 2)))
        self.assertEqual(self.pingsAfter(1), 1)
        for interval in (0, -1):
            self.assertTrue(self.successResultOf(self.set(connection, interval, 0)))
            self.failureResultOf(self.set(connection, 1, 2), RemoteError)

    def test_an_opening_that_is_not_answered_is_given_up(self) -> None:
        self.server.answers[1] = lambda name, flags: LATER
        opening = Opening(self.server, keepalive=(1, 1))
        for _ in range(2):
            opening.reactor.advance(1)
        opening.flush()
        self.failureResultOf(opening.opened, KeepAliveTimeout)
        self.assertEqual(PONG_MESSAGE, PONG_BYTES)
