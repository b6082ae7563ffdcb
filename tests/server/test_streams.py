"""Streams at the server, packet by packet: a raw client on one side, a recording end on the other."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.peers import (
    CONTINUE,
    ERROR,
    OK,
    REPLY,
    STREAM,
    STREAM_HOLE,
    Message,
    ServerSession,
    callNamed,
    message,
)
from tests.streaming import (
    CONSOLE,
    DOWNLOAD,
    NUMBER,
    PROGRAM,
    UPLOAD,
    Provider,
    RecordingEnd,
    holePacket,
    packet,
    said,
    streamingProgram,
)
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, RemoteError
from virnet.limits import STREAM_BUFFER, STREAM_CHUNK, STRING_MAX
from virnet.server import NetServer
from virnet.server.stream import ProtocolEnd, streamError
from virnet.wire.message import encodeError
from virnet.wire.stream import encodeHole

DATA = (STREAM, CONTINUE, b"x")
EOF = (STREAM, CONTINUE, b"")
CONFIRMED = (STREAM, OK, b"")

PROCEDURES = {"upload": UPLOAD, "download": DOWNLOAD, "console": CONSOLE}


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.end: Any = None
        self.makeEnd: Any = RecordingEnd
        self.provider = Provider(lambda: self.makeEnd())
        self.session = ServerSession(streamingProgram(self.provider))
        self.serial = 0
        self.procedure = UPLOAD

    def open(self, name: str = "upload", flags: int = 0) -> Any:
        """Open a stream; afterwards C{say} speaks on it."""
        self.serial += 1
        self.procedure = PROCEDURES[name]
        args = () if name == "console" else (flags,)
        answer = self.session.send(callNamed(PROGRAM, name, self.serial, *args))
        self.assertEqual(said(answer[:1]), [(REPLY, OK, b"")])
        self.first = answer[1:]
        self.end = self.provider.ends[-1]
        return self.end

    def packet(self, status: int, payload: bytes = b"") -> bytes:
        return packet(self.procedure, self.serial, status, payload)

    def say(self, status: int, payload: bytes = b"") -> list[tuple[int, int, bytes]]:
        """Send a packet; return what came back."""
        return said(self.session.send(self.packet(status, payload)))

    def hole(self, length: int) -> bytes:
        return holePacket(self.procedure, self.serial, length)

    @property
    def slots(self) -> int:
        return self.session.client.connection.inProgress

    def assertError(self, messages: list[Message], text: str, code: int = 39, domain: int = 38) -> None:
        """One stream error, and nothing else."""
        self.assertEqual([(each.type, each.status) for each in messages], [(STREAM, ERROR)])
        error = messages[0].error
        self.assertEqual((error[0], error[1], error[2]), (code, domain, text))

    def assertUsable(self, streams: int = 0) -> None:
        """The connection goes on, nothing holds a slot, and no stream is left over."""
        answer = self.session.send(callNamed(PROGRAM, "echo", 1000, "hello"))
        self.assertEqual([(each.type, each.status, each.serial) for each in answer], [(REPLY, OK, 1000)])
        self.assertEqual(self.slots, 0)
        self.assertEqual(len(self.session.client.connection.streams), streams)
        self.assertEqual(len(self.session.client._streams), streams)


class Packets(_Case):
    """5.2, 5.3: what each packet of a client does to an open stream."""

    def test_opening_is_an_ordinary_reply_and_then_the_end_knows(self) -> None:
        self.assertTrue(self.open().opened)
        self.assertEqual(self.first, [])
        self.assertUsable(streams=1)

    def test_data_reaches_the_end_and_is_not_answered(self) -> None:
        end = self.open()
        self.assertEqual(self.say(CONTINUE, b"abc") + self.say(CONTINUE, b"d"), [])
        self.assertEqual(end.got, [b"abc", b"d"])
        self.assertUsable(streams=1)

    def test_an_empty_packet_has_no_effect(self) -> None:
        end = self.open()
        self.assertEqual(self.say(CONTINUE), [])
        self.assertEqual((end.got, end.finished), ([], False))
        self.assertUsable(streams=1)

    def test_a_finish_is_confirmed_once(self) -> None:
        end = self.open()
        self.assertEqual(self.say(OK), [CONFIRMED])
        self.assertEqual((end.finished, end.lost), (True, None))
        self.assertUsable()

    def test_R078_a_finish_waits_until_everything_before_it_was_taken(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        end = self.open()
        self.assertEqual(
            said(self.session.send(self.packet(CONTINUE, b"a"), self.packet(CONTINUE, b"b"))), []
        )
        self.assertEqual(self.say(OK), [])
        self.assertEqual((end.got, end.finished), ([b"a"], False))
        end.proceed()
        self.assertEqual((end.got, end.finished), ([b"a", b"b"], False))
        end.proceed()
        self.assertTrue(end.finished)
        self.assertEqual(said(self.session.flush()), [])
        end.proceed()
        self.assertEqual(said(self.session.flush()), [CONFIRMED])
        self.assertUsable()

    def test_a_finish_that_fails_is_answered_with_the_error(self) -> None:
        end = self.open()
        end.failure = RemoteError.of(ErrorNumber.OPERATION_FAILED, "no", ErrorDomain.STORAGE)
        answer = self.session.send(self.packet(OK))
        self.assertError(answer, "operation failed: no", ErrorNumber.OPERATION_FAILED, ErrorDomain.STORAGE)
        self.assertIs(end.lost, end.failure)
        self.assertUsable()

    def test_an_abort_is_confirmed_at_once_whatever_the_end_is_doing(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        end = self.open()
        self.session.send(self.packet(CONTINUE, b"a"), self.packet(CONTINUE, b"b"))
        self.assertEqual(self.say(ERROR), [CONFIRMED])
        self.assertIsInstance(end.lost, ConnectionLost)
        self.assertEqual(end.got, [b"a"])
        end.proceed()
        self.assertUsable()

    def test_an_abort_overtakes_a_finish_that_takes_its_time(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        end = self.open()
        self.assertEqual(self.say(OK), [])
        self.assertEqual(self.say(ERROR), [CONFIRMED])
        self.assertIsInstance(end.lost, ConnectionLost)
        end.proceed()
        self.assertEqual(self.session.flush(), [])
        self.assertUsable()

    def test_after_a_finish_nothing_is_taken_while_it_takes_its_time(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        end = self.open(flags=1)
        self.session.send(self.packet(OK), self.packet(CONTINUE, b"late"), self.hole(5), self.packet(OK))
        self.assertEqual(end.got, [])
        end.proceed()
        self.assertEqual(said(self.session.flush()), [CONFIRMED])
        self.assertUsable()

    def test_R086_another_status_ends_the_stream_with_an_error(self) -> None:
        for status in (3, 77, -1):
            end = self.open()
            answer = self.session.send(self.packet(status))
            self.assertError(answer, f"stream aborted with unexpected status {status}")
            self.assertIsInstance(end.lost, RemoteError)
            self.assertUsable()

    def test_data_for_an_end_that_takes_none(self) -> None:
        from virnet.server.stream import StreamEnd

        self.makeEnd = StreamEnd
        self.open("download")
        answer = self.session.send(self.packet(CONTINUE, b"x"))
        self.assertError(answer, "stream had unexpected termination")
        self.assertUsable()
        self.open("download", flags=1)
        self.assertError(self.session.send(self.hole(5)), "stream had unexpected termination")
        self.open("download")
        self.assertEqual(self.say(OK), [CONFIRMED])
        self.open("download")
        self.assertEqual(self.say(ERROR), [CONFIRMED])
        self.assertUsable()

    def test_an_end_that_fails_is_told_and_its_client_gets_the_error_once(self) -> None:
        end = self.open()
        end.failure = streamError("no more of this")
        answer = self.session.send(self.packet(CONTINUE, b"x"))
        self.assertError(answer, "no more of this")
        self.assertEqual((end.losses, end.lost), (1, end.failure))
        self.assertEqual(self.say(CONTINUE, b"y") + self.say(OK) + self.say(ERROR), [])
        self.assertEqual(end.losses, 1)
        self.assertUsable()

    def test_an_end_that_fails_later(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        end = self.open()
        self.session.send(self.packet(CONTINUE, b"x"), self.packet(CONTINUE, b"y"))
        end.waiting.pop().errback(streamError("no more of this"))
        self.assertError(self.session.flush(), "no more of this")
        self.assertUsable()

    def test_an_end_with_a_bug_is_an_internal_error_and_logged(self) -> None:
        end = self.open()
        end.failure = ZeroDivisionError("oh")
        answer = self.session.send(self.packet(CONTINUE, b"x"))
        self.assertEqual((answer[0].status, answer[0].error[0]), (ERROR, ErrorNumber.INTERNAL_ERROR))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertUsable()

    def test_an_error_that_cannot_be_sent(self) -> None:
        end = self.open()
        end.failure = RemoteError(1 << 40, "no such code")
        self.assertError(self.session.send(self.packet(CONTINUE, b"x")), "Unable to encode message payload")
        end = self.open()
        end.failure = streamError("x" * 5_000_000)
        (answer,) = self.session.send(self.packet(CONTINUE, b"x"))
        self.assertEqual((answer.status, len(answer.error[2].encode())), (ERROR, STRING_MAX))
        self.assertUsable()

    def test_an_end_that_fails_to_open_or_to_be_lost(self) -> None:
        class Broken(RecordingEnd):
            def streamOpened(self, stream: Any) -> None:
                raise ZeroDivisionError("open")

            def streamLost(self, reason: Exception) -> None:
                raise ZeroDivisionError("lost")

        self.makeEnd = Broken
        self.open()
        self.assertEqual([(each.type, each.status) for each in self.first], [(STREAM, ERROR)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        self.assertUsable()

    def test_an_end_may_have_coroutines(self) -> None:
        gate: Deferred[None] = Deferred()

        class Async(RecordingEnd):
            async def dataReceived(self, data: bytes) -> None:  # type: ignore[override]
                await gate
                self.got.append(data)

        self.makeEnd = Async
        end = self.open()
        self.assertEqual(self.say(CONTINUE, b"x"), [])
        self.assertEqual(end.got, [])
        gate.callback(None)
        self.assertEqual(end.got, [b"x"])
        self.assertUsable(streams=1)

    def test_a_deferred_that_has_fired_is_as_good_as_none(self) -> None:
        class Ready(RecordingEnd):
            def dataReceived(self, data: bytes) -> Deferred[None]:
                super().dataReceived(data)
                return succeed(None)

            def finishReceived(self) -> Deferred[None]:
                return fail(streamError("no finish"))

        self.makeEnd = Ready
        end = self.open()
        self.session.send(*[self.packet(CONTINUE, b"x")] * 50)
        self.assertEqual(end.got, [b"x"] * 50)
        self.assertError(self.session.send(self.packet(OK)), "no finish")
        self.assertUsable()


class Unknown(_Case):
    """Packets of streams that are not open are dropped, and hold nothing."""

    def test_R064_late_packets_of_every_kind_after_a_finish_or_an_abort(self) -> None:
        for last in (OK, ERROR):
            end = self.open(flags=1)
            self.assertEqual(self.say(last), [CONFIRMED])
            late = [self.packet(CONTINUE, b"x"), self.packet(CONTINUE), self.packet(OK)]
            late += [self.packet(ERROR), self.packet(77), self.hole(9)]
            self.assertEqual(self.session.send(*late), [])
            self.assertEqual(end.got, [])
            self.assertUsable()

    def test_R075_R076_control_and_data_of_streams_that_never_were(self) -> None:
        for status in (CONTINUE, OK, ERROR, 77):
            self.assertEqual(self.session.send(packet(UPLOAD, 99, status, b"x")), [])
        self.assertEqual(self.session.send(holePacket(UPLOAD, 99, 1)), [])
        self.assertUsable()

    def test_R031_fifty_packets_of_a_stream_that_is_gone(self) -> None:
        self.open()
        self.say(OK)
        self.assertEqual(self.session.send(*[self.packet(CONTINUE, b"x")] * 50), [])
        self.assertUsable()

    def test_all_four_of_program_version_procedure_and_serial_must_match(self) -> None:
        end = self.open()
        for program, version, procedure, serial in (
            (NUMBER, 1, DOWNLOAD, self.serial),
            (NUMBER, 1, UPLOAD, self.serial + 1),
            (NUMBER, 2, UPLOAD, self.serial),
            (NUMBER + 1, 1, UPLOAD, self.serial),
        ):
            for status in (CONTINUE, OK, ERROR):
                other = message(program, version, procedure, STREAM, serial, status, b"x")
                self.assertEqual(self.session.send(other), [])
        self.assertEqual((end.got, end.lost), ([], None))
        self.assertUsable(streams=1)

    def test_a_call_may_have_the_serial_of_an_open_stream(self) -> None:
        end = self.open()
        answer = self.session.send(callNamed(PROGRAM, "echo", self.serial, "hello"))
        self.assertEqual(answer[0].status, OK)
        self.assertEqual(self.say(CONTINUE, b"x"), [])
        self.assertEqual(end.got, [b"x"])

    def test_R077_packets_behind_the_opening_call_are_dropped_until_it_is_answered(self) -> None:
        opening: Deferred[Any] = Deferred()
        self.makeEnd = lambda: opening
        call = callNamed(PROGRAM, "upload", 1, 0)
        self.serial = 1
        self.assertEqual(self.session.send(call, self.packet(CONTINUE, b"early"), self.packet(OK)), [])
        end = RecordingEnd()
        opening.callback(end)
        self.assertEqual(said(self.session.flush()), [(REPLY, OK, b"")])
        self.assertEqual(end.got, [])
        self.say(CONTINUE, b"now")
        self.assertEqual(end.got, [b"now"])
        self.assertUsable(streams=1)


class ToTheClient(_Case):
    """What an end sends."""

    def test_data_in_packets_of_the_size_that_libvirt_uses(self) -> None:
        end = self.open("download")
        end.stream.write(b"a" * (2 * STREAM_CHUNK + 24))
        sizes = [len(each.payload) for each in self.session.flush()]
        self.assertEqual(sizes, [262120, 262120, 24])
        end.stream.write(b"")
        self.assertEqual(self.session.flush(), [])

    def test_the_end_of_the_data_leaves_the_stream_open(self) -> None:
        end = self.open("download")
        end.stream.write(b"x")
        end.stream.writeEOF()
        self.assertEqual(said(self.session.flush()), [DATA, EOF])
        end.stream.write(b"x")
        end.stream.writeHole(4)
        end.stream.writeEOF()
        self.assertEqual(self.session.flush(), [])
        self.assertEqual(self.say(OK), [CONFIRMED])
        self.assertUsable()

    def test_a_hole(self) -> None:
        end = self.open("download", flags=1)
        self.assertTrue(end.stream.sparse)
        end.stream.writeHole(1 << 20)
        self.assertEqual(said(self.session.flush()), [(STREAM_HOLE, CONTINUE, encodeHole(1 << 20))])

    def test_what_is_sent_when_the_stream_is_over_goes_nowhere(self) -> None:
        end = self.open("download")
        self.say(OK)
        end.stream.write(b"x")
        end.stream.writeHole(1)
        end.stream.writeEOF()
        end.stream.fail(streamError("late"))
        self.assertEqual(self.session.flush(), [])
        self.assertEqual(end.losses, 0)

    def test_a_failure_comes_behind_the_data_and_is_the_last_word(self) -> None:
        end = self.open("download")
        data = b"x" * (3 * STREAM_CHUNK)
        end.stream.write(data)
        end.stream.fail(streamError("stream had I/O failure"))
        answer = self.session.flush()
        self.assertEqual(b"".join(each.payload for each in answer[:-1]), data)
        self.assertError(answer[-1:], "stream had I/O failure")
        self.assertEqual(end.losses, 1)
        self.assertEqual(self.say(OK) + self.say(ERROR), [])
        self.assertUsable()

    def test_after_the_end_of_the_data_it_may_still_fail(self) -> None:
        end = self.open("console")
        end.stream.writeEOF()
        end.stream.fail(streamError("stream had unexpected termination"))
        self.assertEqual(said(self.session.flush()[:1]), [EOF])
        self.assertEqual(end.losses, 1)

    def test_a_read_error_is_a_system_error_with_its_number(self) -> None:
        end = self.open("download")
        end.stream.fail(OSError(errno.EIO, "Input/output error"))
        answer = self.session.flush()
        self.assertError(answer, "cannot read from stream: Input/output error", 38)
        self.assertEqual(answer[0].error[8:10], (errno.EIO, -1))

    def test_R080_a_finish_before_the_end_of_the_data_is_confirmed_behind_what_was_sent(self) -> None:
        end = self.open("download")
        end.stream.write(b"x" * (3 * STREAM_CHUNK))
        self.session.transport.write(self.packet(OK))
        answer = self.session.flush()
        self.assertEqual(len(answer), 4)
        self.assertEqual(said(answer[-1:]), [CONFIRMED])
        self.assertUsable()

    def test_R067_an_abort_of_the_client_that_crosses_one_of_ours_is_not_answered(self) -> None:
        end = self.open("download")
        end.stream.fail(streamError("ours"))
        answer = self.session.send(self.packet(ERROR))
        self.assertError(answer, "ours")
        self.assertUsable()


class PushProducer:
    """Gives pieces until it is paused."""

    def __init__(self, stream: Any, pieces: int, size: int = STREAM_CHUNK) -> None:
        self.stream = stream
        self.pieces = pieces
        self.size = size
        self.calls: list[str] = []
        self.paused = False

    def resumeProducing(self) -> None:
        self.calls.append("resume")
        self.paused = False
        while self.pieces and not self.paused:
            self.pieces -= 1
            self.stream.write(bytes(self.size))
        if not self.pieces and not self.paused:
            self.stream.unregisterProducer()
            self.stream.writeEOF()

    def pauseProducing(self) -> None:
        self.calls.append("pause")
        self.paused = True

    def stopProducing(self) -> None:
        self.calls.append("stop")


class PullProducer:
    """Gives one piece each time it is asked."""

    def __init__(self, stream: Any, pieces: int, size: int) -> None:
        self.stream = stream
        self.left = pieces
        self.size = size
        self.depth = self.deepest = 0

    def resumeProducing(self) -> None:
        self.depth += 1
        self.deepest = max(self.depth, self.deepest)
        if self.left:
            self.left -= 1
            self.stream.write(bytes(self.size))
        else:
            self.stream.unregisterProducer()
            self.stream.writeEOF()
        self.depth -= 1

    def stopProducing(self) -> None:
        self.left = -1


class Producers(_Case):
    """A stream is a consumer."""

    def test_a_push_producer_is_paused_while_a_packet_waits_and_loses_nothing(self) -> None:
        end = self.open("download")
        producer = PushProducer(end.stream, 20)
        end.stream.registerProducer(producer, True)
        producer.resumeProducing()
        answer = self.session.flush()
        self.assertEqual(sum(len(each.payload) for each in answer), 20 * STREAM_CHUNK)
        self.assertEqual(said(answer[-1:]), [EOF])
        self.assertIn("pause", producer.calls)
        self.assertNotIn("stop", producer.calls)

    def test_a_pull_producer_is_asked_for_each_piece_and_never_by_its_own_writing(self) -> None:
        for size, pieces in ((5, 300), (STREAM_CHUNK, 10)):
            end = self.open("download")
            producer = PullProducer(end.stream, pieces, size)
            end.stream.registerProducer(producer, False)
            answer = self.session.flush()
            self.assertEqual(sum(len(each.payload) for each in answer), size * pieces)
            self.assertEqual(said(answer[-1:]), [EOF])
            self.assertEqual(producer.deepest, 1)

    def test_R082_a_client_that_does_not_read_costs_one_packet(self) -> None:
        end = self.open("download")
        producer = PushProducer(end.stream, 256)
        end.stream.registerProducer(producer, True)
        self.session.transport.pauseProducing()
        producer.resumeProducing()
        self.session.clock.advance(60)
        self.assertEqual(producer.pieces, 255)
        self.session.transport.resumeProducing()
        answer = self.session.flush()
        self.assertEqual(sum(len(each.payload) for each in answer), 256 * STREAM_CHUNK)

    def test_one_producer_at_a_time(self) -> None:
        end = self.open("download")
        producer = PushProducer(end.stream, 1)
        end.stream.registerProducer(producer, True)
        self.assertRaises(RuntimeError, end.stream.registerProducer, producer, True)
        end.stream.unregisterProducer()
        end.stream.registerProducer(producer, True)

    def test_one_that_comes_while_a_packet_waits_is_paused_and_one_that_comes_late_is_stopped(self) -> None:
        end = self.open("download")
        self.session.transport.pauseProducing()
        for _ in range(3):
            end.stream.write(bytes(STREAM_CHUNK))
        producer = PushProducer(end.stream, 1)
        end.stream.registerProducer(producer, True)
        self.assertEqual(producer.calls, ["pause"])
        self.session.transport.resumeProducing()
        self.session.flush()
        self.assertEqual(producer.calls[:2], ["pause", "resume"])
        self.say(ERROR)
        late = PushProducer(end.stream, 1)
        end.stream.registerProducer(late, True)
        self.assertEqual(late.calls, ["stop"])

    def test_whatever_ends_the_stream_stops_the_producer(self) -> None:
        for status in (OK, ERROR, 77):
            end = self.open("download")
            producer = PushProducer(end.stream, 1)
            end.stream.registerProducer(producer, True)
            self.say(status)
            self.assertEqual(producer.calls, ["stop"])

    def test_a_producer_that_fails_ends_the_stream(self) -> None:
        end = self.open("download")
        producer = PushProducer(end.stream, 5)
        end.stream.registerProducer(producer, True)
        producer.resumeProducing()
        producer.size = "none"  # type: ignore[assignment]
        answer = self.session.flush()
        self.assertEqual(answer[-1].error[0], ErrorNumber.INTERNAL_ERROR)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 2)
        self.assertUsable()

    def test_an_end_that_answers_faster_than_the_client_reads_gets_no_more(self) -> None:
        class Babbler(RecordingEnd):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.stream.write(bytes(STREAM_CHUNK))

        self.makeEnd = Babbler
        end = self.open("console")
        self.session.transport.pauseProducing()
        for _ in range(100):
            self.session.transport.write(self.packet(CONTINUE, b"x"))
        self.session.clock.advance(0)
        self.assertTrue(len(end.got) * STREAM_CHUNK <= STREAM_BUFFER + 2 * STREAM_CHUNK, len(end.got))
        self.session.transport.resumeProducing()
        self.assertEqual(sum(len(each.payload) for each in self.session.flush()), 100 * STREAM_CHUNK)
        self.assertUsable(streams=1)


class Holes(_Case):
    """5.7 at the server."""

    def test_a_hole_reaches_the_end(self) -> None:
        end = self.open(flags=1)
        self.assertEqual(self.session.send(self.hole(1 << 20), self.packet(CONTINUE, b"x")), [])
        self.assertEqual(end.got, [1 << 20, b"x"])

    def test_R083_a_hole_that_was_not_agreed_on_ends_the_connection(self) -> None:
        end = self.open(flags=0)
        self.session.send(self.hole(5))
        self.assertTrue(self.session.closed)
        self.assertIsInstance(end.lost, ConnectionLost)

    def test_a_hole_on_a_stream_that_cannot_have_any_ends_the_connection(self) -> None:
        self.open("console")
        self.session.send(self.hole(5))
        self.assertTrue(self.session.closed)

    def test_a_hole_that_is_none_ends_the_stream(self) -> None:
        for payload in (
            b"",
            encodeHole(1)[:-1],
            bytes(12),
            b"\xff" * 8 + bytes(4),
            b"\0" * 7 + b"\1\0\0\0\1",
        ):
            end = self.open(flags=1)
            answer = self.session.send(packet(UPLOAD, self.serial, CONTINUE, payload, STREAM_HOLE))
            self.assertEqual([(each.type, each.status) for each in answer], [(STREAM, ERROR)])
            self.assertEqual(end.got, [])
            self.assertUsable()

    def test_R084_sixty_holes_and_blocks_in_turn(self) -> None:
        end = self.open(flags=1)
        for _ in range(60):
            self.session.transport.write(self.hole(4096) + self.packet(CONTINUE, b"x"))
        self.assertEqual(self.say(OK), [CONFIRMED])
        self.assertEqual(end.got, [4096, b"x"] * 60)
        self.assertUsable()

    def test_R085_nothing_but_holes(self) -> None:
        end = self.open(flags=1)
        self.assertEqual(self.session.send(*[self.hole(1)] * 100), [])
        self.assertEqual(end.got, [1] * 100)
        self.assertUsable(streams=1)


class Slots(_Case):
    """4.2: every packet that was taken holds a slot and gives it back exactly once."""

    def test_R029_five_streams_opened_and_finished_then_a_call(self) -> None:
        for last in (OK, ERROR):
            for _ in range(5):
                self.open()
                self.say(CONTINUE, b"x")
                self.assertEqual(self.say(last), [CONFIRMED])
            self.assertUsable()

    def test_R029_eight_uploads_side_by_side(self) -> None:
        for _ in range(8):
            self.open()
        for _ in range(10):
            for serial in range(1, 9):
                self.session.send(packet(UPLOAD, serial, CONTINUE, b"x" * 1000))
        for serial in range(1, 9):
            self.assertEqual(said(self.session.send(packet(UPLOAD, serial, OK))), [CONFIRMED])
        self.assertEqual({len(end.got) for end in self.provider.ends}, {10})
        self.assertUsable()

    def test_R030_twenty_streams_that_the_server_ends(self) -> None:
        for _ in range(20):
            end = self.open()
            end.stream.fail(streamError("enough"))
            self.assertError(self.session.flush(), "enough")
            self.assertEqual(self.slots, 0)
        self.assertUsable()

    def test_R032_a_stream_that_ends_with_packets_in_its_queue(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        for ending in ("abort", "fail"):
            end = self.open()
            self.session.send(*[self.packet(CONTINUE, b"x")] * 4)
            self.assertEqual(self.slots, 4)
            if ending == "abort":
                self.say(ERROR)
            else:
                end.stream.fail(streamError("enough"))
                self.session.flush()
            self.assertEqual(self.slots, 1, "the one in the end's hands")
            end.proceed()
            self.assertUsable()

    def test_an_end_that_takes_its_time_holds_the_client_back(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        end = self.open()
        self.session.send(*[self.packet(CONTINUE, b"x")] * 50, callNamed(PROGRAM, "echo", 77, "behind"))
        self.assertEqual(self.slots, 5)
        self.assertTrue(self.session.client.readingHeld)
        while end.waiting:
            self.assertTrue(self.slots <= 5)
            end.proceed()
        self.assertEqual([each.serial for each in self.session.flush()], [77])
        self.assertEqual(end.got, [b"x"] * 50)
        self.assertUsable(streams=1)

    def test_R073_a_thousand_packets_leave_nothing_behind(self) -> None:
        end = self.open()
        for _ in range(10):
            self.session.send(*[self.packet(CONTINUE, bytes(1000))] * 100)
        stream = end.stream
        self.assertEqual((len(stream._inputs), len(stream._outputs), stream._waiting), (0, 0, 0))
        self.assertEqual(self.say(OK), [CONFIRMED])
        self.assertEqual(len(end.got), 1000)
        self.assertUsable()


class Disconnect(_Case):
    """3.7: the connection ends."""

    def test_R074_every_open_stream_is_lost_once(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        for _ in range(3):
            self.open()
            self.session.send(self.packet(CONTINUE, b"x"))
        ends = self.provider.ends
        producer = PushProducer(ends[0].stream, 1)
        ends[0].stream.registerProducer(producer, True)
        self.session.lose()
        for end in ends:
            self.assertIsInstance(end.lost, ConnectionLost)
            self.assertEqual(end.losses, 1)
            end.proceed()
            self.assertEqual(end.losses, 1)
        self.assertEqual(producer.calls, ["stop"])
        self.assertEqual(self.session.client._streams, {})

    def test_what_is_sent_afterwards_goes_nowhere(self) -> None:
        end = self.open("download")
        self.session.lose()
        end.stream.write(b"x")
        end.stream.fail(streamError("late"))
        self.assertEqual(end.losses, 1)

    def test_a_client_that_is_gone_before_its_stream_is_open(self) -> None:
        opening: Deferred[Any] = Deferred()
        self.makeEnd = lambda: opening
        self.session.send(callNamed(PROGRAM, "upload", 1, 0))
        self.session.lose()
        end = RecordingEnd()
        opening.callback(end)
        self.assertEqual((end.opened, end.losses), (False, 1))


class EchoProtocol(Protocol):
    """Sends back what comes."""

    def __init__(self) -> None:
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Protocols(_Case):
    """A Twisted protocol as the end of a stream."""

    def setUp(self) -> None:
        super().setUp()
        self.protocol = EchoProtocol()
        self.makeEnd = lambda: ProtocolEnd(self.protocol)
        self.open("console")
        self.transport: Any = self.protocol.transport

    def test_it_reads_and_writes(self) -> None:
        self.assertEqual(self.say(CONTINUE, b"ab"), [(STREAM, CONTINUE, b"ab")])
        self.transport.writeSequence([b"c", b"d"])
        self.assertEqual(said(self.session.flush()), [(STREAM, CONTINUE, b"cd")])
        self.assertEqual(self.transport.getPeer().name, self.session.client.peer)
        self.assertEqual(self.transport.getHost().name, "virnet")

    def test_a_finish_is_a_connection_closed_in_order_and_an_abort_is_not(self) -> None:
        self.assertEqual(self.say(OK), [CONFIRMED])
        assert self.protocol.lost is not None
        self.assertIs(self.protocol.lost.type, ConnectionDone)
        self.open("console")
        self.say(ERROR)
        self.assertIs(self.protocol.lost.type, ConnectionLost)

    def test_it_closes_with_the_end_of_the_data_and_hears_nothing_more(self) -> None:
        self.transport.loseConnection()
        self.assertEqual(said(self.session.flush()), [EOF])
        self.assertEqual(self.say(CONTINUE, b"late"), [])
        self.assertEqual(self.say(OK), [CONFIRMED])
        self.assertIsNotNone(self.protocol.lost)

    def test_it_aborts_with_an_error(self) -> None:
        self.transport.abortConnection()
        self.assertError(self.session.flush(), "stream had unexpected termination")
        self.assertIsNotNone(self.protocol.lost)

    def test_it_may_pause_the_client(self) -> None:
        self.transport.pauseProducing()
        self.transport.pauseProducing()
        self.assertEqual(self.say(CONTINUE, b"a") + self.say(CONTINUE, b"b"), [])
        self.transport.resumeProducing()
        self.assertEqual(said(self.session.flush()), [(STREAM, CONTINUE, b"a"), (STREAM, CONTINUE, b"b")])
        self.transport.pauseProducing()
        self.say(CONTINUE, b"c")
        self.transport.stopProducing()
        self.transport.pauseProducing()
        self.assertEqual(said(self.session.flush()), [EOF])
        self.assertUsable(streams=1)

    def test_it_may_be_fed_by_a_producer(self) -> None:
        producer = PullProducer(self.transport, 3, 10)
        producer.stream = self.provider.ends[-1].stream
        self.transport.registerProducer(producer, False)
        self.assertEqual([len(each.payload) for each in self.session.flush()], [10, 10, 10, 0])
        self.transport.registerProducer(producer, False)
        self.transport.unregisterProducer()


class Refused(SynchronousTestCase):
    """Opening fails: no stream."""

    def test_packets_of_a_stream_that_was_refused_are_dropped(self) -> None:
        class Refusing:
            def upload(self, flags: int) -> Any:
                raise RemoteError.of(ErrorNumber.NO_STORAGE_VOL, "no volume", ErrorDomain.STORAGE)

        session = ServerSession(server=NetServer(Clock(), [streamingProgram(Refusing())]))
        answer = session.send(callNamed(PROGRAM, "upload", 1, 0))
        self.assertEqual((answer[0].type, answer[0].status), (REPLY, ERROR))
        self.assertEqual(session.send(packet(UPLOAD, 1, CONTINUE, b"x"), packet(UPLOAD, 1, OK)), [])
        self.assertEqual(session.client.connection.streams, {})


class Errors(SynchronousTestCase):
    """The literal bytes of an error on a stream."""

    def test_R079_an_upload_past_its_length_is_the_recorded_message(self) -> None:
        from virnet.server.stream import systemError

        error = systemError(OSError(errno.ENOSPC, "No space left on device"), "write to")
        text = "0000002f" + b"cannot write to stream: No space left on device\0".hex()
        recorded = "000000260000002600000001" + text + "000000020000000000000001"
        recorded += "000000022573000000000001" + text + "000000000000001cffffffff00000000"
        self.assertEqual(encodeError(error).hex(), recorded)
