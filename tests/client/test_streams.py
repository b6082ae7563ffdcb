"""Streams at the client, packet by packet: a raw server on one side, an application on the other."""

from __future__ import annotations

import gc
import io
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IPullProducer, IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.openfiles import openAtRest, openDescriptors
from tests.peers import CONTINUE, ERROR, OK, STREAM, STREAM_HOLE, ClientSession, Message
from tests.streaming import (
    DOWNLOAD,
    PROGRAM,
    Provider,
    RecordingEnd,
    holePacket,
    packet,
    said,
    streamingProgram,
)
from virnet.client.stream import ClientStream, Hole
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, LocalProtocolError, RemoteError, RemoteProtocolError
from virnet.limits import PAYLOAD_MAX, STREAM_BUFFER, STREAM_CHUNK
from virnet.server import NetServer
from virnet.server.stream import streamError
from virnet.testing import connectedPair
from virnet.wire.message import encodeError
from virnet.wire.stream import encodeHole

GAVE_UP = streamError("the server gave up")


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.session = ClientSession()
        self.stream = self.open()

    def open(self, name: str = "download", flags: int = 0) -> ClientStream:
        """Open a stream; afterwards C{tell} speaks for the server on it."""
        opening = getattr(self.session.client.program(PROGRAM), name)(flags)
        (self.call,) = self.session.flush()
        self.session.reply(self.call)
        stream: ClientStream = self.successResultOf(opening)
        return stream

    def packet(self, status: int, payload: bytes = b"") -> bytes:
        return packet(self.call.procedure, self.call.serial, status, payload)

    def tell(self, status: int, payload: bytes = b"") -> list[tuple[int, int, bytes]]:
        """Have the server send a packet; return what the client sends then."""
        return said(self.session.send(self.packet(status, payload)))

    def hole(self, length: int) -> bytes:
        return holePacket(self.call.procedure, self.call.serial, length)

    def sent(self) -> list[tuple[int, int, bytes]]:
        """What the client has sent since the last time."""
        return said(self.session.flush())

    def begin(self, coroutine: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(coroutine)

    def read(self, stream: ClientStream | None = None) -> Any:
        """What can be read at once."""
        return self.successResultOf(self.begin((stream or self.stream).receive()))

    def assertUsable(self) -> None:
        """The connection goes on and no stream is left over."""
        self.assertFalse(self.session.closed)
        remote: Any = self.session.client.program(PROGRAM)
        called = remote.echo("hello")
        (call,) = self.session.flush()
        self.session.reply(call, PROGRAM.byName["echo"].encodeRet("hello"))
        self.assertEqual(self.successResultOf(called), "hello")
        self.assertEqual((self.session.client._streams, self.session.client.connection.streams), ({}, {}))


class Opening(_Case):
    """5.1."""

    def test_nothing_is_sent_before_the_reply(self) -> None:
        opening = self.session.client.program(PROGRAM).upload(0)
        (self.call,) = self.session.flush()
        self.assertNoResult(opening)
        self.session.reply(self.call)
        stream = self.successResultOf(opening)
        stream.send(b"x")
        self.assertEqual(self.sent(), [(STREAM, CONTINUE, b"x")])

    def test_data_right_behind_the_reply_in_one_read_is_not_lost(self) -> None:
        opening = self.session.client.program(PROGRAM).download(0)
        (self.call,) = self.session.flush()
        self.session.transport.unsent += self.packet(CONTINUE, b"ab")[:0]
        reply = packet(DOWNLOAD, self.call.serial, OK, b"", 1)
        self.session.send(reply, self.packet(CONTINUE, b"ab"), self.packet(CONTINUE))
        stream = self.successResultOf(opening)
        self.assertEqual((self.read(stream), self.read(stream)), (b"ab", b""))

    def test_R070_operations_on_a_stream_whose_opening_failed_raise(self) -> None:
        client = self.session.client
        opening = client.program(PROGRAM).upload(0)
        (call,) = self.session.flush()
        stream = list(client._streams.values())[-1]
        self.session.replyError(call, GAVE_UP)
        self.assertEqual(self.failureResultOf(opening, RemoteError).value.code, GAVE_UP.code)
        for operation in (stream.finish, stream.abort):
            self.failureResultOf(operation(), RemoteError)
        self.assertRaises(RemoteError, stream.send, b"x")
        self.failureResultOf(self.begin(stream.receive()), RemoteError)
        self.assertEqual(self.sent(), [])

    def test_a_stream_that_nobody_waits_for_any_more_is_aborted(self) -> None:
        opening = self.session.client.program(PROGRAM).download(0)
        (self.call,) = self.session.flush()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        answer = self.session.reply(self.call)
        self.assertEqual(said(answer), [(STREAM, ERROR, b"")])
        self.tell(CONTINUE, b"late")
        self.tell(OK)
        self.stream.finish()
        self.session.flush()
        self.assertFalse(self.session.closed)


class Reading(_Case):
    """5.4: what each packet of a server does, and what a reader sees."""

    def test_R066_a_reader_that_waits_is_woken_by_data(self) -> None:
        reading = self.begin(self.stream.receive())
        self.assertNoResult(reading)
        self.tell(CONTINUE, b"x")
        self.assertEqual(self.successResultOf(reading), b"x")

    def test_R071_the_end_of_the_data_wakes_a_reader_with_nothing_again_and_again(self) -> None:
        reading = self.begin(self.stream.receive())
        self.tell(CONTINUE)
        self.assertEqual(self.successResultOf(reading), b"")
        self.assertEqual((self.read(), self.read()), (b"", b""))
        self.tell(CONTINUE, b"late")
        self.assertEqual(self.read(), b"")
        finished = self.stream.finish()
        self.tell(OK)
        self.assertIsNone(self.successResultOf(finished))
        self.assertEqual(self.read(), b"")
        self.assertUsable()

    def test_iterating(self) -> None:
        async def collect() -> list[Any]:
            return [chunk async for chunk in self.stream]

        collecting = self.begin(collect())
        self.tell(CONTINUE, b"a")
        self.session.send(self.packet(CONTINUE, b"b"), self.packet(CONTINUE, b"c"))
        self.assertNoResult(collecting)
        self.tell(CONTINUE)
        self.assertEqual(self.successResultOf(collecting), [b"a", b"b", b"c"])
        self.assertEqual(self.sent(), [])

    def test_two_readers_are_a_mistake(self) -> None:
        first = self.begin(self.stream.receive())
        self.failureResultOf(self.begin(self.stream.receive()), LocalProtocolError)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.tell(CONTINUE, b"x")
        self.assertEqual(self.read(), b"x")

    def test_an_error_is_raised_behind_the_data_and_by_everything_afterwards(self) -> None:
        self.session.send(self.packet(CONTINUE, b"a"), self.packet(ERROR, encodeError(GAVE_UP)))
        self.assertEqual(self.read(), b"a")
        for _ in range(2):
            failure = self.failureResultOf(self.begin(self.stream.receive()), RemoteError)
            self.assertEqual(failure.value.message, "the server gave up")
        self.assertRaises(RemoteError, self.stream.send, b"x")
        self.failureResultOf(self.stream.finish(), RemoteError)
        self.failureResultOf(self.stream.abort(), RemoteError)
        self.assertEqual(self.sent(), [])
        self.assertUsable()

    def test_R060_an_error_fails_the_reader_that_waits(self) -> None:
        reading = self.begin(self.stream.receive())
        self.tell(ERROR, encodeError(GAVE_UP))
        self.assertEqual(self.failureResultOf(reading, RemoteError).value.message, "the server gave up")

    def test_R069_data_behind_an_error_is_dropped(self) -> None:
        self.session.send(self.packet(ERROR, encodeError(GAVE_UP)), self.packet(CONTINUE, b"bogus"))
        self.session.send(self.packet(OK), self.packet(77), self.hole(5), self.packet(ERROR, b""))
        self.failureResultOf(self.begin(self.stream.receive()), RemoteError)
        self.assertUsable()

    def test_R083_a_hole_that_was_not_agreed_on_is_an_error_and_abort_works(self) -> None:
        self.session.send(self.hole(5))
        failure = self.failureResultOf(self.begin(self.stream.receive()), RemoteError)
        self.assertEqual((failure.value.code, failure.value.message), (39, "Unexpected stream hole"))
        aborting = self.stream.abort()
        self.assertEqual(self.sent(), [(STREAM, ERROR, b"")])
        self.tell(OK)
        self.successResultOf(aborting)
        self.assertUsable()

    def test_holes_that_were_agreed_on(self) -> None:
        stream = self.open(flags=1)
        self.session.send(self.hole(1 << 20), self.packet(CONTINUE, b"x"), self.hole(7))
        self.assertEqual([self.read(stream) for _ in range(3)], [Hole(1 << 20), b"x", Hole(7)])

    def test_a_hole_that_is_none_ends_the_connection(self) -> None:
        self.session.send(packet(DOWNLOAD, self.call.serial, CONTINUE, bytes(12), STREAM_HOLE))
        self.assertTrue(self.session.closed)
        self.failureResultOf(self.begin(self.stream.receive()), RemoteProtocolError)

    def test_an_error_that_does_not_decode_ends_the_connection(self) -> None:
        self.tell(ERROR, b"\0\0\0")
        self.assertTrue(self.session.closed)
        failure = self.failureResultOf(self.begin(self.stream.receive()), RemoteProtocolError)
        self.assertIn("Unable to decode message payload", str(failure.value))

    def test_a_confirmation_that_nobody_waits_for_ends_the_connection(self) -> None:
        self.tell(OK)
        self.assertTrue(self.session.closed)

    def test_a_status_that_nobody_knows_ends_the_connection(self) -> None:
        self.tell(77)
        self.assertTrue(self.session.closed)


class TheEnd(_Case):
    """Finish and abort."""

    def test_a_finish_waits_for_its_confirmation(self) -> None:
        finishing = self.stream.finish()
        self.assertEqual(self.sent(), [(STREAM, OK, b"")])
        self.assertNoResult(finishing)
        self.tell(OK)
        self.assertIsNone(self.successResultOf(finishing))
        self.assertUsable()

    def test_R065_data_does_not_complete_a_finish_or_an_abort(self) -> None:
        for operation in ("finish", "abort"):
            stream = self.open()
            ending = getattr(stream, operation)()
            self.session.send(self.packet(CONTINUE, b"x"), self.packet(CONTINUE), self.hole(4))
            self.assertNoResult(ending)
            self.tell(OK)
            self.successResultOf(ending)
            self.assertEqual(self.read(stream), b"")

    def test_R081_an_abort_is_answered_with_ok_or_with_an_error(self) -> None:
        aborting = self.stream.abort()
        self.assertEqual(self.sent(), [(STREAM, ERROR, b"")])
        self.tell(OK)
        self.successResultOf(aborting)
        aborting = self.open().abort()
        self.tell(ERROR, encodeError(streamError("stream aborted at client request")))
        failure = self.failureResultOf(aborting, RemoteError)
        self.assertEqual(failure.value.message, "stream aborted at client request")
        self.assertUsable()

    def test_R067_an_abort_of_the_server_that_crosses_ours_is_its_answer(self) -> None:
        for operation in ("finish", "abort"):
            self.stream = self.open() if operation == "abort" else self.stream
            ending = getattr(self.stream, operation)()
            self.tell(ERROR, encodeError(GAVE_UP))
            self.assertEqual(self.failureResultOf(ending, RemoteError).value.message, "the server gave up")
            self.session.send(self.packet(OK), self.packet(CONTINUE, b"x"))
            self.assertUsable()

    def test_R064_late_packets_are_dropped(self) -> None:
        for operation in ("finish", "abort"):
            self.stream = self.open() if operation == "abort" else self.stream
            ending = getattr(self.stream, operation)()
            self.tell(OK)
            self.successResultOf(ending)
            late = [self.packet(status, b"x") for status in (CONTINUE, OK, ERROR, 77)]
            self.session.send(*late, self.hole(3))
            self.assertUsable()

    def test_R064_a_reader_that_waits_while_the_stream_is_finished_gets_the_end(self) -> None:
        reading = self.begin(self.stream.receive())
        self.stream.finish()
        self.assertEqual(self.successResultOf(reading), b"")

    def test_R080_a_finish_before_the_end_of_the_data_drops_what_was_not_read(self) -> None:
        self.tell(CONTINUE, b"x" * 1000)
        finishing = self.stream.finish()
        self.tell(CONTINUE, b"late")
        self.tell(OK)
        self.successResultOf(finishing)
        self.assertEqual(self.read(), b"")
        self.assertEqual(self.stream._size, 0)

    def test_only_once(self) -> None:
        self.stream.finish()
        self.failureResultOf(self.stream.finish(), LocalProtocolError)
        self.failureResultOf(self.stream.abort(), LocalProtocolError)
        self.assertRaises(LocalProtocolError, self.stream.send, b"x")
        self.tell(OK)
        self.failureResultOf(self.stream.abort(), LocalProtocolError)
        self.assertEqual(said([]), [])

    def test_one_that_is_forgotten_sends_nothing(self) -> None:
        del self.stream
        gc.collect()
        self.assertEqual(self.sent(), [])

    def test_a_lost_connection_fails_everything_once(self) -> None:
        reader = self.open()
        finishing = self.stream.finish()
        self.session.flush()
        reading = self.begin(reader.receive())
        writer = self.open("upload")
        self.session.transport.pauseProducing()
        sending = writer.send(bytes(1 << 20))
        self.assertNoResult(sending)
        self.session.transport.abortConnection()
        self.session.flush()
        for pending in (finishing, reading, sending):
            self.failureResultOf(pending, ConnectionLost)
        for stream in (self.stream, reader, writer):
            self.failureResultOf(stream.abort(), ConnectionLost)

    def test_what_was_read_before_the_connection_was_lost_can_be_had(self) -> None:
        self.tell(CONTINUE, b"x")
        self.session.lose()
        self.assertEqual(self.read(), b"x")
        self.failureResultOf(self.begin(self.stream.receive()), ConnectionLost)


class Writing(_Case):
    """5.6, and who is told what when it was sent."""

    def setUp(self) -> None:
        self.session = ClientSession()
        self.stream = self.open("upload", 1)

    def test_data_in_packets_of_the_size_that_virsh_sends(self) -> None:
        data = os.urandom(2 * STREAM_CHUNK + 5)
        sending = self.stream.send(data)
        packets = self.session.flush()
        self.assertEqual([len(each.payload) for each in packets], [262120, 262120, 5])
        self.assertEqual(b"".join(each.payload for each in packets), data)
        self.successResultOf(sending)

    def test_other_sizes_on_request(self) -> None:
        for chunk, sizes in ((7, [7, 3]), (10, [10]), (100, [10]), (1, [1] * 10)):
            self.stream.chunk = chunk
            self.stream.send(bytes(10))
            self.assertEqual([len(each.payload) for each in self.session.flush()], sizes)

    def test_no_data_is_no_packet(self) -> None:
        self.successResultOf(self.stream.send(b""))
        self.assertEqual(self.sent(), [])

    def test_one_packet_of_the_largest_size_and_none_beyond(self) -> None:
        self.assertEqual(PAYLOAD_MAX, 33554408)
        error = self.assertRaises(LocalProtocolError, self.stream.sendPacket, bytes(PAYLOAD_MAX + 1))
        self.assertEqual(
            str(error), "Stream data too long to send (33554409 bytes needed, 33554408 bytes available)"
        )
        sending = self.stream.sendPacket(bytes(PAYLOAD_MAX))
        self.assertEqual([len(each.payload) for each in self.session.flush()], [PAYLOAD_MAX])
        self.successResultOf(sending)

    def test_a_hole_is_forty_bytes(self) -> None:
        self.stream.sendHole(1 << 20)
        (message,) = self.session.flush()
        self.assertEqual((message.length, message.type, message.status), (40, STREAM_HOLE, CONTINUE))
        self.assertEqual(message.payload, encodeHole(1 << 20))

    def test_holes_that_cannot_be(self) -> None:
        for length in (0, -1):
            self.assertRaises(LocalProtocolError, self.stream.sendHole, length)
        self.assertRaises(LocalProtocolError, self.open("upload").sendHole, 5)
        self.assertEqual(self.sent(), [])

    def test_whoever_waits_sends_no_faster_than_the_server_reads(self) -> None:
        self.session.transport.pauseProducing()
        sending = self.stream.send(bytes(STREAM_CHUNK))
        self.session.clock.advance(60)
        self.assertNoResult(sending)
        self.session.transport.resumeProducing()
        self.session.flush()
        self.successResultOf(sending)

    def test_an_error_of_the_server_fails_what_waits_for_the_socket(self) -> None:
        self.session.transport.pauseProducing()
        sending = self.stream.send(bytes(1 << 20))
        self.session.transport.write(self.packet(ERROR, encodeError(GAVE_UP)))
        self.session.clock.advance(0)
        self.assertEqual(self.failureResultOf(sending, RemoteError).value.message, "the server gave up")

    def test_one_who_waits_and_is_cancelled(self) -> None:
        self.session.transport.pauseProducing()
        sending = self.stream.send(bytes(1 << 20))
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.session.transport.resumeProducing()
        self.session.flush()
        self.stream.finish()
        self.assertEqual(self.sent(), [(STREAM, OK, b"")])


class Buffer(_Case):
    """5.5: what nobody reads stalls the connection rather than fill the memory."""

    def feed(self, *packets: bytes) -> None:
        for each in packets:
            self.session.transport.write(each)
            self.session.clock.advance(0)

    def test_R082_a_reader_that_stops_stops_the_server_and_loses_nothing(self) -> None:
        data = b"".join(bytes([n % 251]) * STREAM_CHUNK for n in range(64))
        packets = [self.packet(CONTINUE, data[n * STREAM_CHUNK :][:STREAM_CHUNK]) for n in range(64)]
        self.feed(*packets, self.packet(CONTINUE))
        self.assertTrue(self.session.client.readingHeld)
        self.assertTrue(self.stream._size <= STREAM_BUFFER + 2 * STREAM_CHUNK, self.stream._size)
        into = io.BytesIO()
        receiving = self.begin(self.stream.receiveInto(into))
        self.session.clock.advance(0)
        self.tell(OK)
        self.assertEqual(self.successResultOf(receiving), len(data))
        self.assertTrue(into.getvalue() == data)
        self.assertFalse(self.session.client.readingHeld)
        self.assertUsable()

    def test_what_is_small_counts_too(self) -> None:
        for holes in (True, False):
            stream = self.open(flags=1)
            self.feed((self.hole(1) if holes else self.packet(CONTINUE, b"x")) * 50_000)
            self.assertTrue(self.session.client.readingHeld)
            self.assertTrue(len(stream._items) < 25_000, len(stream._items))
            stream.abort()
            self.tell(OK)
            self.session.clock.advance(0)
            self.assertFalse(self.session.client.readingHeld)

    def test_ending_a_full_stream_lets_the_connection_go_on(self) -> None:
        for operation in ("finish", "abort"):
            stream = self.open()
            self.feed(*[self.packet(CONTINUE, bytes(STREAM_CHUNK))] * 12)
            self.assertTrue(self.session.client.readingHeld)
            ending = getattr(stream, operation)()
            self.tell(OK)
            self.successResultOf(ending)
            self.assertFalse(self.session.client.readingHeld)

    def test_two_full_streams_hold_the_connection_until_both_are_read(self) -> None:
        call, other = self.call, self.open()
        self.feed(*[self.packet(CONTINUE, bytes(STREAM_BUFFER))])
        self.call = call
        # The other is full: what is behind it waits.
        self.feed(*[self.packet(CONTINUE, bytes(STREAM_BUFFER))])
        self.assertEqual(self.stream._size, 0)
        self.read(other)
        self.session.clock.advance(0)
        self.assertTrue(self.session.client.readingHeld)
        self.read()
        self.assertFalse(self.session.client.readingHeld)

    def test_R073_a_thousand_packets_read_as_they_come_leave_nothing_behind(self) -> None:
        into = io.BytesIO()
        receiving = self.begin(self.stream.receiveInto(into))
        for _ in range(10):
            self.feed(self.packet(CONTINUE, bytes(1000)) * 100)
        self.tell(CONTINUE)
        self.tell(OK)
        self.assertEqual(self.successResultOf(receiving), 1_000_000)
        self.assertEqual((len(self.stream._items), self.stream._size), (0, 0))
        self.assertUsable()


@implementer(IConsumer)
class RecordingConsumer:
    """Takes what it is given and pauses its producer as it is told."""

    def __init__(self, pauseAfter: int | None = None) -> None:
        self.got = bytearray()
        self.producer: Any = None
        self.pauseAfter = pauseAfter
        self.calls: list[str] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer
        self.calls.append("register")

    def unregisterProducer(self) -> None:
        self.calls.append("unregister")

    def write(self, data: bytes) -> None:
        self.got += data
        if self.pauseAfter is not None and len(self.got) >= self.pauseAfter:
            self.producer.pauseProducing()


class ReceiveInto(_Case):
    """Everything that a stream can be read into."""

    def finishIt(self, *packets: bytes) -> None:
        self.session.send(*packets, self.packet(CONTINUE))
        self.assertEqual(self.tell(OK), [])

    def test_it_finishes_the_stream_and_only_then_returns(self) -> None:
        told: list[int] = []
        receiving = self.begin(self.stream.receiveInto(io.BytesIO(), told.append))
        answer = self.session.send(
            self.packet(CONTINUE, b"abc"), self.packet(CONTINUE, b"de"), self.packet(CONTINUE)
        )
        self.assertEqual(said(answer), [(STREAM, OK, b"")])
        self.assertNoResult(receiving)
        self.tell(OK)
        self.assertEqual((self.successResultOf(receiving), told[-1]), (5, 5))
        self.assertUsable()

    def test_a_file_gets_holes_as_holes(self) -> None:
        stream = self.open(flags=1)
        with tempfile.TemporaryFile() as target:
            told: list[int] = []
            receiving = self.begin(stream.receiveInto(target, told.append))
            self.finishIt(self.hole(1 << 20), self.packet(CONTINUE, b"x" * 4096), self.hole(1 << 30))
            size = (1 << 20) + 4096 + (1 << 30)
            self.assertEqual((self.successResultOf(receiving), told[-1]), (size, size))
            status = os.fstat(target.fileno())
            self.assertEqual(status.st_size, size)
            self.assertTrue(status.st_blocks * 512 <= 1 << 16, status.st_blocks)
            self.assertEqual(os.pread(target.fileno(), 4098, (1 << 20) - 1), b"\0" + b"x" * 4096 + b"\0")

    def test_a_file_gets_what_came_soon_also_when_no_more_comes(self) -> None:
        with tempfile.TemporaryFile() as target:
            receiving = self.begin(self.stream.receiveInto(target))
            self.tell(CONTINUE, b"a")
            self.tell(CONTINUE, b"b")
            self.session.clock.advance(0.1)
            self.assertEqual(os.pread(target.fileno(), 10, 0), b"ab")
            self.finishIt()
            self.successResultOf(receiving)
            self.assertEqual(self.session.clock.getDelayedCalls(), [])

    def test_a_file_gets_what_came_before_an_error(self) -> None:
        with tempfile.TemporaryFile() as target:
            receiving = self.begin(self.stream.receiveInto(target))
            self.session.send(self.packet(CONTINUE, b"ab"), self.packet(ERROR, encodeError(GAVE_UP)))
            self.failureResultOf(receiving, RemoteError)
            self.assertEqual(os.pread(target.fileno(), 10, 0), b"ab")

    def test_a_file_is_written_from_its_position(self) -> None:
        with tempfile.TemporaryFile() as target:
            target.write(b"before ")
            receiving = self.begin(self.stream.receiveInto(target))
            self.finishIt(self.packet(CONTINUE, b"after"))
            self.successResultOf(receiving)
            target.seek(0)
            self.assertEqual(target.read(), b"before after")

    def test_a_consumer_may_pause_it(self) -> None:
        consumer = RecordingConsumer(pauseAfter=2)
        receiving = self.begin(self.stream.receiveInto(consumer))
        self.assertIs(consumer.producer, self.stream)
        self.session.send(self.packet(CONTINUE, b"ab"), self.packet(CONTINUE, b"cd"), self.packet(CONTINUE))
        self.assertEqual(bytes(consumer.got), b"ab")
        consumer.pauseAfter = None
        consumer.producer.resumeProducing()
        self.assertEqual(bytes(consumer.got), b"abcd")
        self.assertEqual(self.sent(), [(STREAM, OK, b"")])
        self.tell(OK)
        self.assertEqual(self.successResultOf(receiving), 4)
        self.assertEqual(consumer.calls, ["register", "unregister"])

    def test_a_consumer_that_stops_it_aborts_it(self) -> None:
        consumer = RecordingConsumer(pauseAfter=2)
        receiving = self.begin(self.stream.receiveInto(consumer))
        self.session.send(self.packet(CONTINUE, b"ab"), self.packet(CONTINUE, b"cd"))
        consumer.producer.stopProducing()
        self.assertEqual(self.sent(), [(STREAM, ERROR, b"")])
        self.failureResultOf(receiving, LocalProtocolError)
        self.tell(OK)
        self.assertUsable()

    def test_a_consumer_gets_a_hole_as_zeros_in_pieces(self) -> None:
        stream = self.open(flags=1)
        largest = 0

        class Zeros(RecordingConsumer):
            total = 0

            def write(self, data: bytes) -> None:
                nonlocal largest
                largest = max(largest, len(data))
                self.total += len(data)

        zeros = Zeros()
        receiving = self.begin(stream.receiveInto(zeros))
        self.finishIt(self.hole((64 << 20) + 1))
        self.assertEqual((self.successResultOf(receiving), zeros.total), ((64 << 20) + 1, (64 << 20) + 1))
        self.assertTrue(largest <= STREAM_CHUNK)

    def test_a_writer_that_answers_with_a_deferred_is_waited_for(self) -> None:
        gates: list[Deferred[None]] = []

        class Slow:
            got = b""

            def write(self, data: bytes) -> Deferred[None]:
                self.got += data
                gates.append(Deferred())
                return gates[-1]

        slow = Slow()
        receiving = self.begin(self.stream.receiveInto(slow))
        self.session.send(self.packet(CONTINUE, b"a"), self.packet(CONTINUE, b"b"), self.packet(CONTINUE))
        self.assertEqual(slow.got, b"a")
        gates[0].callback(None)
        self.assertEqual(slow.got, b"ab")
        gates[1].callback(None)
        self.tell(OK)
        self.successResultOf(receiving)

    def test_an_error_of_the_server_is_raised_behind_the_data(self) -> None:
        consumer = RecordingConsumer()
        receiving = self.begin(self.stream.receiveInto(consumer))
        self.session.send(self.packet(CONTINUE, b"ab"), self.packet(ERROR, encodeError(GAVE_UP)))
        self.failureResultOf(receiving, RemoteError)
        self.assertEqual((bytes(consumer.got), consumer.calls[-1]), (b"ab", "unregister"))
        self.assertEqual(self.sent(), [])

    def test_a_target_that_fails_aborts_the_stream(self) -> None:
        class Broken:
            def write(self, data: bytes) -> None:
                raise ZeroDivisionError

        receiving = self.begin(self.stream.receiveInto(Broken()))
        answer = self.session.send(self.packet(CONTINUE, b"ab"))
        self.assertEqual(said(answer), [(STREAM, ERROR, b"")])
        self.failureResultOf(receiving, ZeroDivisionError)
        self.tell(OK)
        self.assertUsable()

    def test_a_file_that_cannot_be_written_aborts_the_stream_and_leaks_no_descriptor(self) -> None:
        before = len(openAtRest())
        with open("/dev/full", "wb", buffering=0) as target:
            receiving = self.begin(self.stream.receiveInto(target))
            answer = self.session.send(self.packet(CONTINUE, b"ab"), self.packet(CONTINUE))
            self.assertEqual(said(answer), [(STREAM, ERROR, b"")])
            self.failureResultOf(receiving, OSError)
        self.assertEqual(len(openDescriptors()), before)

    def test_cancelling_aborts_the_stream_and_waits_for_nobody(self) -> None:
        before = len(openAtRest())
        with tempfile.TemporaryFile() as target:
            receiving = self.begin(self.stream.receiveInto(target))
            receiving.cancel()
            self.failureResultOf(receiving, CancelledError)
        self.assertEqual(self.sent(), [(STREAM, ERROR, b"")])
        self.assertEqual(len(openDescriptors()), before)
        self.tell(OK)
        self.assertUsable()

    def test_a_failure_after_the_server_ended_sends_nothing(self) -> None:
        receiving = self.begin(self.stream.receiveInto(io.BytesIO()))
        self.tell(ERROR, encodeError(GAVE_UP))
        self.failureResultOf(receiving, RemoteError)
        self.stream.stopProducing()
        self.assertEqual(self.sent(), [])

    def test_it_is_a_body_for_an_HTTP_client(self) -> None:
        consumer = RecordingConsumer()
        producing = self.stream.startProducing(consumer)
        self.session.send(self.packet(CONTINUE, b"ab"), self.packet(CONTINUE))
        self.assertIsNone(self.successResultOf(producing))
        self.assertEqual((bytes(consumer.got), consumer.calls, self.sent()), (b"ab", [], []))
        self.assertTrue(verifyObject(IConsumer, self.stream))
        self.assertTrue(verifyObject(IPushProducer, self.stream))


@implementer(IBodyProducer)
class Body:
    """A body as Twisted's HTTP client takes it."""

    length = 9

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.done: Deferred[None] = Deferred()
        self.consumer: Any = None

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self.consumer = consumer
        return self.done

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


@implementer(IPullProducer)
class Pulled:
    """Writes a piece whenever it is asked."""

    def __init__(self, stream: ClientStream, pieces: int, size: int) -> None:
        self.stream = stream
        self.left = pieces
        self.size = size
        self.depth = self.deepest = 0
        self.stopped = False

    def resumeProducing(self) -> None:
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        if self.left:
            self.left -= 1
            self.stream.write(bytes(self.size))
        else:
            self.stream.unregisterProducer()
        self.depth -= 1

    def stopProducing(self) -> None:
        self.stopped = True


class SendFrom(_Case):
    """Everything that can be sent from."""

    def setUp(self) -> None:
        self.session = ClientSession()
        self.stream = self.open("upload")

    def check(self, sending: Deferred[int], expected: bytes, messages: list[Message] | None = None) -> None:
        """It has sent what was expected and a finish, and waits for the confirmation."""
        messages = (messages or []) + self.session.flush()
        self.assertEqual(b"".join(each.payload for each in messages), expected)
        self.assertEqual(said(messages[-1:]), [(STREAM, OK, b"")])
        self.assertNoResult(sending)
        self.tell(OK)
        self.assertEqual(self.successResultOf(sending), len(expected))
        self.assertUsable()

    def test_an_iterable(self) -> None:
        told: list[int] = []
        sending = self.begin(self.stream.sendFrom([b"ab", b"", b"cde"], told.append))
        self.check(sending, b"abcde")
        self.assertEqual(told, [2, 2, 5])

    def test_an_asynchronous_iterable(self) -> None:
        async def source() -> AsyncIterator[bytes]:
            yield b"ab"
            await succeed(None)
            yield b"cd"

        self.check(self.begin(self.stream.sendFrom(source())), b"abcd")

    def test_a_file_from_its_position(self) -> None:
        with tempfile.TemporaryFile() as source:
            source.write(b"0123456789" * 100_000)
            source.seek(0)
            source.read(4)
            source.seek(1)
            self.check(self.begin(self.stream.sendFrom(source)), (b"0123456789" * 100_000)[1:])

    def test_no_more_of_a_file_than_is_wanted(self) -> None:
        with tempfile.TemporaryFile() as source:
            source.write(b"0123456789")
            source.seek(0)
            self.check(self.begin(self.stream.sendFrom(source, length=4)), b"0123")

    def test_a_file_without_a_descriptor(self) -> None:
        self.check(self.begin(self.stream.sendFrom(io.BytesIO(b"one\ntwo\n"))), b"one\ntwo\n")

    def test_a_file_with_holes(self) -> None:
        self.stream = self.open("upload", 1)
        with tempfile.TemporaryFile() as source:
            source.truncate(1 << 30)
            source.seek(1 << 20)
            source.write(b"x" * 4096)
            source.seek(0)
            sending = self.begin(self.stream.sendFrom(source))
            packets = self.session.flush()
            first, data, last, finish = packets
            self.assertEqual((first.type, first.payload), (STREAM_HOLE, encodeHole(1 << 20)))
            self.assertEqual(data.payload, b"x" * 4096)
            self.assertEqual(last.payload, encodeHole((1 << 30) - (1 << 20) - 4096))
            self.tell(OK)
            self.assertEqual(self.successResultOf(sending), 1 << 30)

    def test_holes_from_an_iterable(self) -> None:
        self.stream = self.open("upload", 1)
        sending = self.begin(self.stream.sendFrom([Hole(5), b"x"]))
        self.assertEqual([each.type for each in self.session.flush()], [STREAM_HOLE, STREAM, STREAM])
        self.tell(OK)
        self.assertEqual(self.successResultOf(sending), 6)

    def test_a_body_producer(self) -> None:
        body = Body()
        sending = self.begin(self.stream.sendFrom(body))
        body.consumer.write(b"some data")
        body.done.callback(None)
        self.check(sending, b"some data")
        self.assertNotIn("stop", body.calls)

    def test_a_body_producer_is_paused_while_the_socket_is_full(self) -> None:
        body = Body()
        self.begin(self.stream.sendFrom(body))
        self.session.transport.pauseProducing()
        body.consumer.write(bytes(STREAM_CHUNK))
        body.consumer.write(bytes(STREAM_CHUNK))
        self.assertEqual(body.calls, ["pause"])
        self.session.transport.resumeProducing()
        self.session.flush()
        self.assertEqual(body.calls, ["pause", "resume"])

    def test_a_body_producer_that_fails_aborts_the_stream(self) -> None:
        body = Body()
        sending = self.begin(self.stream.sendFrom(body))
        body.done.errback(ZeroDivisionError())
        self.failureResultOf(sending, ZeroDivisionError)
        self.assertEqual(self.sent(), [(STREAM, ERROR, b"")])

    def test_a_body_producer_is_stopped_when_the_server_gives_up(self) -> None:
        body = Body()
        sending = self.begin(self.stream.sendFrom(body))
        self.tell(ERROR, encodeError(GAVE_UP))
        self.failureResultOf(sending, RemoteError)
        self.assertEqual(body.calls, ["stop"])
        body.consumer.write(b"late")
        self.assertEqual(self.sent(), [])

    def test_a_pull_producer_that_writes_into_the_stream(self) -> None:
        for size, pieces in ((5, 300), (STREAM_CHUNK, 6)):
            if size != 5:
                self.stream = self.open("upload")
            producer = Pulled(self.stream, pieces, size)
            self.check(self.begin(self.stream.sendFrom(producer)), bytes(size * pieces))
            self.assertEqual(producer.deepest, 1)

    def test_a_push_producer_that_writes_into_the_stream(self) -> None:
        body = Body()
        body.startProducing = None  # type: ignore[assignment,method-assign]
        sending = self.begin(self.stream.sendFrom(body))
        self.stream.write(b"abc")
        self.stream.unregisterProducer()
        self.check(sending, b"abc")

    def test_one_producer_at_a_time_and_none_when_it_is_over(self) -> None:
        first, second = Body(), Body()
        self.stream.registerProducer(first, True)
        self.assertRaises(RuntimeError, self.stream.registerProducer, second, True)
        self.tell(ERROR, encodeError(GAVE_UP))
        self.assertEqual(first.calls, ["stop"])
        self.stream.registerProducer(second, True)
        self.assertEqual(second.calls, ["stop"])
        self.failureResultOf(self.begin(self.stream.sendFrom(Body())), RemoteError)

    def test_a_source_that_fails_aborts_the_stream(self) -> None:
        def source() -> Iterator[bytes]:
            yield b"ab"
            raise ZeroDivisionError

        self.failureResultOf(self.begin(self.stream.sendFrom(source())), ZeroDivisionError)
        self.assertEqual(self.sent(), [(STREAM, CONTINUE, b"ab"), (STREAM, ERROR, b"")])
        self.tell(OK)
        self.assertUsable()

    def test_R079_a_server_that_gives_up_ends_it(self) -> None:
        self.session.transport.pauseProducing()
        error = RemoteError.ofSystem(
            28, "cannot write to stream: No space left on device", ErrorDomain.STREAMS
        )
        with tempfile.TemporaryFile() as source:
            source.truncate(64 << 20)
            sending = self.begin(self.stream.sendFrom(source))
            self.session.transport.write(self.packet(ERROR, encodeError(error)))
            self.session.clock.advance(0)
            failure = self.failureResultOf(sending, RemoteError)
        self.assertEqual((failure.value.code, failure.value.int1), (ErrorNumber.SYSTEM_ERROR, 28))

    def test_cancelling_aborts_it_and_leaks_no_descriptor(self) -> None:
        before = len(openAtRest())
        self.session.transport.pauseProducing()
        with tempfile.TemporaryFile() as source:
            source.truncate(64 << 20)
            sending = self.begin(self.stream.sendFrom(source))
            self.session.clock.advance(0)
            self.assertNoResult(sending)
            sending.cancel()
            self.failureResultOf(sending, CancelledError)
        self.assertEqual(len(openDescriptors()), before)
        self.session.transport.resumeProducing()
        self.assertEqual(said(self.session.flush()[-1:]), [(STREAM, ERROR, b"")])

    def test_a_stream_into_a_stream(self) -> None:
        source, self.download = self.open(), self.call
        self.stream = self.open("upload")
        sending = self.begin(self.stream.sendFrom(source.__aiter__()))
        upload, self.call = self.call, self.download
        answer = self.session.send(self.packet(CONTINUE, b"ab"), self.packet(CONTINUE))
        self.call = upload
        self.assertEqual(said(answer), [(STREAM, CONTINUE, b"ab"), (STREAM, OK, b"")])
        self.tell(OK)
        self.assertEqual(self.successResultOf(sending), 2)


class BothEnds(SynchronousTestCase):
    """Our client against our server."""

    def setUp(self) -> None:
        self.provider = Provider(RecordingEnd)
        self.pair = connectedPair(NetServer(Clock(), [streamingProgram(self.provider)]))
        self.remote: Any = self.pair.client.program(PROGRAM)

    def open(self, name: str, *args: int) -> tuple[ClientStream, Any]:
        opening = getattr(self.remote, name)(*args)
        self.pair.flush()
        return self.successResultOf(opening), self.provider.ends[-1]

    def assertCall(self) -> None:
        called = self.remote.echo("hello")
        self.pair.flush()
        self.assertEqual(self.successResultOf(called), "hello")

    def test_two_streams_and_calls_side_by_side(self) -> None:
        up, upEnd = self.open("upload", 0)
        down, downEnd = self.open("download", 0)
        self.assertEqual(self.pair.server.maxClientRequests, 5)
        into = io.BytesIO()
        receiving = Deferred.fromCoroutine(down.receiveInto(into))
        sending = Deferred.fromCoroutine(up.sendFrom([bytes([n]) * 100_000 for n in range(100)]))
        calls = []
        for n in range(50):
            downEnd.stream.write(bytes([n]) * 50_000)
            calls.append(self.remote.echo(str(n)))
            self.pair.flush()
        downEnd.stream.writeEOF()
        self.pair.flush()
        self.assertEqual(self.successResultOf(sending), 10_000_000)
        self.assertEqual(b"".join(upEnd.got), b"".join(bytes([n]) * 100_000 for n in range(100)))
        self.assertEqual(self.successResultOf(receiving), 2_500_000)
        self.assertEqual(into.getvalue(), b"".join(bytes([n]) * 50_000 for n in range(50)))
        self.assertEqual([self.successResultOf(each) for each in calls], list(map(str, range(50))))
        self.assertEqual(self.pair.serverClient.connection.inProgress, 0)

    def test_R067_aborts_that_cross(self) -> None:
        stream, end = self.open("console")
        aborting = stream.abort()
        end.stream.fail(GAVE_UP)
        self.pair.flush()
        self.failureResultOf(aborting, RemoteError)
        self.assertCall()
        self.assertEqual(self.pair.serverClient.connection.streams, {})
        self.assertEqual(self.pair.client.connection.streams, {})

    def test_R068_a_console_that_ends_elsewhere_leaves_the_connection_usable(self) -> None:
        stream, end = self.open("console")
        end.stream.writeEOF()
        end.stream.fail(streamError("stream had unexpected termination"))
        finishing = stream.finish()
        self.pair.flush()
        self.failureResultOf(finishing, RemoteError)
        self.assertCall()

    def test_R072_streams_belong_to_the_reactors_thread_and_stay_apart_there(self) -> None:
        opened = [self.open("console") for _ in range(4)]
        for n, (stream, end) in enumerate(opened):
            stream.send(bytes([n]))
            end.stream.write(bytes([n + 100]))
        self.pair.flush()
        for n, (stream, end) in enumerate(opened):
            self.assertEqual(end.got, [bytes([n])])
            self.assertEqual(self.successResultOf(Deferred.fromCoroutine(stream.receive())), bytes([n + 100]))

    def test_R080_a_finish_before_the_end_of_the_data(self) -> None:
        stream, end = self.open("download", 0)
        end.stream.write(bytes(1 << 20))
        finishing = stream.finish()
        self.pair.flush()
        self.assertIsNone(self.successResultOf(finishing))
        self.assertCall()

    def test_a_slow_upload_end_holds_its_sender(self) -> None:
        self.provider.makeEnd = lambda: RecordingEnd(holding=True)
        stream, end = self.open("upload", 0)
        sending = Deferred.fromCoroutine(stream.sendFrom(bytes(STREAM_CHUNK) for _ in range(64)))
        self.pair.flush()
        self.assertNoResult(sending)
        self.assertTrue(stream.bytesSent <= 9 * STREAM_CHUNK, stream.bytesSent)
        while end.waiting:
            end.proceed()
            self.pair.flush()
        self.assertEqual(self.successResultOf(sending), 64 * STREAM_CHUNK)
        self.assertEqual(len(b"".join(end.got)), 64 * STREAM_CHUNK)
