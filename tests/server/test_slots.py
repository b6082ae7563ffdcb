"""Requests in progress: at most so many for each client, and what counts as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface

from tests.echo import ECHO, Echo
from tests.peers import (
    CALL,
    CONTINUE,
    ERROR,
    MESSAGE,
    OK,
    REPLY,
    STREAM,
    Message,
    ServerSession,
    callNamed,
    message,
    served,
)
from tests.streaming import CONSOLE, NUMBER, PROGRAM, UPLOAD, Provider, RecordingEnd, packet, streamingProgram
from virnet.errors import ConnectionLost
from virnet.programs.base import Procedure, Program
from virnet.server import NetServer
from virnet.server.stream import ProtocolEnd, streamError
from virnet.xdr import String


class Slow(Echo):
    """C{echo} is answered when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[str]] = []

    def echo(self, text: str) -> Any:
        """Wait."""
        self.waiting.append(Deferred())
        return self.waiting[-1]


class _Case(SynchronousTestCase):
    limit = 5

    def setUp(self) -> None:
        self.provider = Slow()
        self.server = NetServer(Clock(), [served(ECHO, self.provider)], maxClientRequests=self.limit)
        self.session = ServerSession(server=self.server)

    def call(self, *serials: int) -> list[int]:
        """Make calls that wait; return the serials answered meanwhile."""
        return [
            each.serial
            for each in self.session.send(*[callNamed(ECHO, "echo", serial, "") for serial in serials])
        ]

    def answer(self) -> list[int]:
        """Have the oldest end; return the serials answered."""
        self.provider.waiting.pop(0).callback("")
        return [each.serial for each in self.session.flush()]


class Five(_Case):
    """The limit that libvirtd has."""

    def test_R033_what_is_too_much_is_executed_when_one_has_ended(self) -> None:
        self.assertEqual(self.call(*range(8)), [])
        self.assertEqual(len(self.provider.waiting), 5)
        for serial in range(8):
            self.assertEqual(self.answer(), [serial])
            self.assertEqual(len(self.provider.waiting), min(5, 7 - serial))

    def test_R033_what_comes_meanwhile_is_not_even_read(self) -> None:
        self.call(*range(5))
        self.session.send(*[callNamed(ECHO, "blob", 9, bytes(1 << 20))])
        self.assertTrue(len(self.session.transport.unsent) > 900_000)
        self.assertEqual(self.answer(), [0, 9])

    def test_other_clients_have_slots_of_their_own(self) -> None:
        self.call(*range(6))
        other = ServerSession(server=self.server)
        (reply,) = other.send(callNamed(ECHO, "add", 1, 1, 1))
        self.assertEqual(reply.status, OK)

    def test_R036_events_hold_none(self) -> None:
        events = self.session.client.events(ECHO)
        for _ in range(100):
            events.said("x")
        self.assertEqual(len(self.session.flush()), 100)
        self.call(*range(5))
        self.assertEqual(len(self.provider.waiting), 5)
        for _ in range(100):
            events.said("x")
        self.assertEqual(len(self.session.flush()), 100)
        self.assertEqual(self.answer(), [0])

    def test_R030_R031_nothing_that_is_dropped_or_refused_holds_one(self) -> None:
        for behind in (
            message(ECHO.number, 1, 1, STREAM, 1, CONTINUE, b"data"),
            message(0x1234, 1, 1, MESSAGE, 1, OK),
            message(ECHO.number, 1, 99, 0, 1, OK),
            message(ECHO.number, 1, 2, 0, 1, OK, b"\0"),
            message(0x6B656570, 1, 1, MESSAGE, 0, OK),
        ):
            self.session.send(behind * 50)
            self.assertEqual(self.session.client.connection.inProgress, 0)
            (reply,) = self.session.send(callNamed(ECHO, "add", 7, 1, 1))
            self.assertEqual(reply.serial, 7)

    def test_the_warning_comes_once(self) -> None:
        with capturedLogs() as captured:
            self.call(*range(7))
            while self.provider.waiting:
                self.answer()
            self.call(*range(7))
        warned = [formatEvent(each) for each in captured if each["log_level"] == LogLevel.warn]
        self.assertEqual(len(warned), 1)
        self.assertIn("Client hit max requests limit 5. This may result in keep-alive timeouts.", warned[0])


class One(_Case):
    """R035: one request at a time."""

    limit = 1

    def test_R035_pipelined_calls_are_executed_one_after_the_other(self) -> None:
        self.assertEqual(self.call(*range(5)), [])
        for serial in range(5):
            self.assertEqual(len(self.provider.waiting), 1)
            self.assertEqual(self.answer(), [serial])

    def test_R035_no_warning_is_due(self) -> None:
        with capturedLogs() as captured:
            self.call(1, 2, 3)
        self.assertEqual([each for each in captured if each["log_level"] == LogLevel.warn], [])


class NotReading(_Case):
    """A client that calls and does not read the answers."""

    def test_R034_all_replies_arrive_once_when_it_reads_again(self) -> None:
        self.session.transport.pauseProducing()
        calls = 300
        self.session.send(*[callNamed(ECHO, "add", serial, 1, serial) for serial in range(calls)])
        self.assertEqual(self.session.flush(), [])
        self.session.transport.resumeProducing()
        self.assertEqual([each.serial for each in self.session.flush()], list(range(calls)))

    def test_what_the_server_holds_for_it_is_bounded(self) -> None:
        self.session.transport.pauseProducing()
        self.session.send(*[callNamed(ECHO, "blob", serial, bytes(10_000)) for serial in range(200)])
        client = self.session.client
        self.assertTrue(0 < client.queuedBytes < 300_000, client.queuedBytes)
        self.session.transport.resumeProducing()
        self.assertEqual(len(self.session.flush()), 200)
        self.assertEqual(client.queuedBytes, 0)

    def test_a_slot_is_held_until_the_answer_has_left(self) -> None:
        self.provider.echo = lambda text: "x" * 70_000  # type: ignore[method-assign]
        self.session.transport.pauseProducing()
        self.call(*range(9))
        client = self.session.client
        self.assertEqual(client.inProgress, 5)
        self.assertTrue(client.connection.throttled)
        self.session.transport.resumeProducing()
        self.assertEqual(len(self.session.flush()), 9)
        self.assertEqual(client.inProgress, 0)

    def test_refusals_are_bounded_too(self) -> None:
        self.session.transport.pauseProducing()
        unknown = message(ECHO.number, 1, 99, 0, 1, OK)
        self.session.send(unknown * 20_000)
        held = self.session.client.queuedBytes
        self.assertTrue(0 < held < 1_500_000, held)
        self.session.transport.resumeProducing()
        self.assertEqual(len(self.session.flush()), 20_000)

    def test_R036_events_that_wait_hold_none(self) -> None:
        self.session.transport.pauseProducing()
        for _ in range(10):
            self.session.client.events(ECHO).said("x" * 50_000)
        self.session.flush()
        self.assertTrue(self.session.client.queuedBytes > 100_000)
        self.assertEqual(self.session.client.inProgress, 0)
        self.session.transport.resumeProducing()
        self.assertEqual(len(self.session.flush()), 10)
        self.assertEqual(self.session.client.inProgress, 0)


PING = message(0x6B656570, 1, 1, MESSAGE, 0, OK)
PONG = (0x6B656570, 2, MESSAGE, 0, OK)


def kinds(messages: list[Message]) -> list[tuple[int, int, int, int, int]]:
    """Which messages these are."""
    return [(each.program, each.procedure, each.type, each.serial, each.status) for each in messages]


class Streaming(SynchronousTestCase):
    """A client with streams."""

    def setUp(self) -> None:
        self.ends: list[RecordingEnd] = []
        self.makeEnd: Callable[[], Any] = RecordingEnd
        self.session = ServerSession(streamingProgram(Provider(self.make)))
        self.send = self.session.send

    def make(self) -> Any:
        """The provider's ends."""
        self.ends.append(self.makeEnd())
        return self.ends[-1]

    def upload(self, serial: int) -> list[Message]:
        """Open a stream."""
        return self.send(callNamed(PROGRAM, "upload", serial, 0))

    def echo(self, serial: int) -> list[Message]:
        """Make an ordinary call."""
        return self.send(callNamed(PROGRAM, "echo", serial, ""))

    def assertUsable(self) -> None:
        """No slot is held, and a call is answered."""
        self.assertEqual(self.session.client.inProgress, 0)
        self.assertEqual(kinds(self.echo(99)), [(NUMBER, 10, REPLY, 99, OK)])


class EachIsHandledOnce(Streaming):
    """Where libvirt has a list of filters, keepalive, streams and calls are judged in a fixed order."""

    def test_R040_who_takes_a_message_is_the_only_one(self) -> None:
        self.upload(1)
        answers = self.send(
            PING,
            packet(UPLOAD, 1, CONTINUE, b"data"),
            callNamed(PROGRAM, "echo", 2, ""),
            PING,
            packet(UPLOAD, 1, OK),
        )
        self.assertEqual(
            kinds(answers), [PONG, (NUMBER, 10, REPLY, 2, OK), PONG, (NUMBER, UPLOAD, STREAM, 1, OK)]
        )
        self.assertEqual((self.ends[0].got, self.ends[0].finished), ([b"data"], True))
        self.assertUsable()

    def test_R040_a_packet_is_no_call_and_a_call_no_packet_whatever_they_share(self) -> None:
        self.upload(7)
        answers = self.send(
            packet(UPLOAD, 7, CONTINUE, b"packet"),
            # The same program, procedure and serial: but the serial is taken, as long as the stream is open.
            callNamed(PROGRAM, "upload", 7, 0),
            callNamed(PROGRAM, "echo", 7, ""),
            packet(UPLOAD, 7, CONTINUE, b"packet"),
        )
        self.assertEqual(kinds(answers), [(NUMBER, UPLOAD, REPLY, 7, ERROR), (NUMBER, 10, REPLY, 7, OK)])
        self.assertEqual(self.ends[0].got, [b"packet"] * 2)
        self.assertEqual(answers[0].error[2], "a stream with serial 7 is open already")
        self.assertUsable()

    def test_R040_what_only_looks_like_keepalive_is_judged_as_what_it_is(self) -> None:
        for type, answer in ((CALL, [(0x6B656570, 1, REPLY, 3, ERROR)]), (STREAM, []), (REPLY, [])):
            self.assertEqual(kinds(self.send(message(0x6B656570, 1, 1, type, 3, OK))), answer)
        self.assertUsable()

    def test_R039_when_one_stream_of_several_ends_everything_else_goes_on(self) -> None:
        for serial in range(1, 5):
            self.upload(serial)
        for gone in (2, 4, 1):
            self.send(packet(UPLOAD, gone, OK))
            self.send(*(packet(UPLOAD, serial, CONTINUE, b"x") for serial in range(1, 5)))
            self.assertEqual(kinds(self.send(PING)), [PONG])
            self.assertEqual(kinds(self.echo(9)), [(NUMBER, 10, REPLY, 9, OK)])
        self.assertEqual([len(each.got) for each in self.ends], [2, 0, 3, 1])
        self.assertUsable()


class ResultsNobodyCanUse(Streaming):
    """A call is answered, and its slot given back, also when its result makes no sense or comes too late."""

    def test_an_end_whose_client_has_left_is_told(self) -> None:
        waiting: Deferred[Any] = Deferred()
        session = ServerSession(served(PROGRAM, _Returning(waiting)))
        session.send(callNamed(PROGRAM, "upload", 1, 0))
        session.lose()
        end = RecordingEnd()
        waiting.callback(end)
        self.assertEqual((end.opened, end.losses), (False, 1))

    def test_an_end_for_a_serial_that_is_taken_is_told(self) -> None:
        self.upload(1)
        self.upload(1)
        self.assertEqual([each.losses for each in self.ends], [0, 1])
        self.session.lose()
        self.assertEqual([each.losses for each in self.ends], [1, 1])

    def test_an_end_that_fails_even_then_hurts_nobody(self) -> None:
        class Failing(RecordingEnd):
            def streamLost(self, reason: Exception) -> None:
                raise KeyError("lost")

        self.upload(1)
        self.makeEnd = Failing
        self.upload(1)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertUsable()

    def test_a_result_that_is_no_pair_where_one_is_due(self) -> None:
        program = _withScreenshot()
        for wrong in (None, 5, "abc", ("image/png",)):
            for result in (wrong, succeed(wrong)):
                session = ServerSession(served(program, _Shooting(result)))
                (reply,) = session.send(callNamed(program, "shoot", 1))
                self.assertEqual(reply.error[:3], (39, 7, "Unable to encode message payload"))
                self.assertEqual(session.client.inProgress, 0)

    def test_R020_when_cleaning_up_after_it_fails_too_the_first_error_is_reported(self) -> None:
        class Failing(RecordingEnd):
            def streamLost(self, reason: Exception) -> None:
                raise KeyError("the clean-up failed")

        program = _withScreenshot()
        session = ServerSession(served(program, _Shooting(("too long" * 100, Failing()))))
        (reply,) = session.send(callNamed(program, "shoot", 1))
        self.assertEqual(reply.error[:3], (39, 7, "Unable to encode message payload"))
        self.assertEqual(session.client.inProgress, 0)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_what_only_a_thread_or_a_callback_can_raise_is_answered_too(self) -> None:
        waiting: Deferred[Any] = Deferred()
        session = ServerSession(served(PROGRAM, _Returning(waiting)))
        session.send(callNamed(PROGRAM, "echo", 1, ""))
        waiting.errback(GeneratorExit())
        (reply,) = session.flush()
        self.assertEqual((reply.serial, reply.status, session.client.inProgress), (1, ERROR, 0))
        self.assertEqual(len(self.flushLoggedErrors(GeneratorExit)), 1)


class CleaningUp(Streaming):
    """What happens when a connection is gone, in which order."""

    def test_keepalive_then_streams_then_what_belongs_to_the_connection(self) -> None:
        for end in (
            lambda: self.session.transport.abortConnection(),
            lambda: self.session.transport.loseConnection(),
            lambda: self.session.client.abort(ConnectionLost("enough")),
            lambda: self.session.transport.write(bytes(4)),
        ):
            self.setUp()
            self.checkOrder(end)

    def checkOrder(self, end: Callable[[], object]) -> None:
        """Have a connection end in some way, and see what happens in which order."""
        order: list[str] = []
        client, server, clock = self.session.client, self.session.server, self.session.clock

        class Noting(RecordingEnd):
            def streamLost(self, reason: Exception) -> None:
                super().streamLost(reason)
                timers = [each for each in clock.getDelayedCalls() if each.getTime() > clock.seconds()]
                order.append(f"stream lost, {len(timers)} timers")

        self.makeEnd = Noting
        client.useKeepAlive()
        self.upload(1)
        self.upload(2)
        self.assertEqual(len(server.reactor.getDelayedCalls()), 1)
        client.onDisconnect(lambda: order.append(f"cleaned up, {len(server.clients)} client"))
        end()
        clock.advance(0)
        self.assertEqual(order, ["stream lost, 0 timers"] * 2 + ["cleaned up, 1 client"])
        self.assertEqual(server.clients, {})


class Abandoned(Streaming):
    """Streams that end while their end has not taken everything."""

    def test_R032_packets_that_were_judged_together_with_the_one_that_ends_the_stream(self) -> None:
        class Refusing(RecordingEnd):
            def dataReceived(self, data: bytes) -> None:
                raise streamError("no more")

        class Failing(RecordingEnd):
            def dataReceived(self, data: bytes) -> None:
                self.stream.fail(streamError("no more"))

        for serial, self.makeEnd in enumerate((Refusing, Failing)):
            self.upload(serial)
            answers = self.send(*[packet(UPLOAD, serial, CONTINUE, b"x")] * 4)
            self.assertEqual(kinds(answers), [(NUMBER, UPLOAD, STREAM, serial, ERROR)])
            self.assertUsable()

    def test_R032_what_an_end_has_in_hand_when_the_stream_ends_holds_its_slot_until_it_lets_go(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        for serial, result in enumerate((None, Failure(streamError("too late")))):
            self.upload(serial)
            self.send(packet(UPLOAD, serial, CONTINUE, b"x"))
            self.send(packet(UPLOAD, serial, ERROR))
            self.assertEqual(self.session.client.inProgress, 1)
            self.ends[-1].waiting[0].callback(result)
            self.assertUsable()

    def test_a_protocol_that_was_paused_when_its_stream_was_aborted(self) -> None:
        class Pausing(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.pauseProducing()  # type: ignore[attr-defined]

        self.makeEnd = lambda: ProtocolEnd(Pausing())
        for serial in range(20):
            self.send(callNamed(PROGRAM, "console", serial))
            self.send(*[packet(CONSOLE, serial, CONTINUE, b"x")] * 3, packet(CONSOLE, serial, ERROR))
        self.assertUsable()


class _Returning:
    """Answers everything with one result."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def upload(self, flags: int) -> Any:
        return self.result

    def echo(self, text: str) -> Any:
        return self.result


class _IShooting(Interface):
    def shoot() -> Any:
        """Has a result and a stream."""


def _withScreenshot() -> Program[_IShooting, Any]:
    procedure = Procedure(1, "shoot", (), String(100), stream="read")
    return Program(0x2ECA0004, 1, _IShooting, procedures=[procedure], name="SHOOTING")


class _Shooting:
    def __init__(self, result: Any) -> None:
        self.result = result

    def shoot(self) -> Any:
        return self.result
