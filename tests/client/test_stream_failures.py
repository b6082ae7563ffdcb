"""Streams at the client whose readers leave early, and whose sources and targets fail."""

from __future__ import annotations

import asyncio
import bz2
import gc
import gzip
import io
import lzma
import os
import tempfile
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Cooperator
from twisted.protocols.basic import FileSender
from twisted.web.client import FileBodyProducer
from zope.interface import implementer

from tests.client.test_streams import GAVE_UP, Body, Pulled, RecordingConsumer, _Case
from tests.openfiles import openAtRest, openDescriptors
from tests.peers import CALL, CONTINUE, ERROR, OK, STREAM, ClientSession, RawPeer
from tests.streaming import PROGRAM, said
from virnet.client.stream import ClientStream, Hole
from virnet.errors import ConnectionLost, LocalProtocolError, RemoteError
from virnet.limits import HOLE_MAX, PAYLOAD_MAX, STREAM_BUFFER, STREAM_CHUNK
from virnet.testing.memory import joined
from virnet.wire.message import encodeError
from virnet.wire.stream import ClientState

ABORTED = [(STREAM, ERROR, b"")]
FINISHED = [(STREAM, OK, b"")]


class Iterating(_Case):
    """C{async for}: the loop ends with the data or with whoever wrote it, the stream with finish or abort."""

    async def firstOf(self, stream: ClientStream) -> Any:
        async for item in stream:
            return item

    def test_a_loop_that_is_left_early_loses_nothing(self) -> None:
        self.session.send(*[self.packet(CONTINUE, each) for each in (b"a", b"b", b"c")])
        self.assertEqual(self.successResultOf(self.begin(self.firstOf(self.stream))), b"a")
        gc.collect()
        self.assertEqual(self.successResultOf(self.begin(self.firstOf(self.stream))), b"b")
        self.assertEqual((self.read(), self.sent()), (b"c", []))
        self.stream.abort()
        self.assertEqual(self.sent(), ABORTED)
        self.tell(OK)
        self.assertUsable()

    def test_an_exception_in_the_body_is_the_caller_s_and_ends_no_stream(self) -> None:
        async def fail() -> None:
            async for _ in self.stream:
                raise ZeroDivisionError

        looping = self.begin(fail())
        self.session.send(self.packet(CONTINUE, b"a"), self.packet(CONTINUE, b"b"))
        self.failureResultOf(looping, ZeroDivisionError)
        gc.collect()
        self.assertEqual((self.read(), self.sent()), (b"b", []))
        self.stream.finish()
        self.tell(OK)
        self.assertUsable()

    def test_a_loop_that_is_cancelled_while_it_waits_can_be_begun_again(self) -> None:
        looping = self.begin(self.firstOf(self.stream))
        looping.cancel()
        self.failureResultOf(looping, CancelledError)
        self.assertEqual(self.sent(), [])
        again = self.begin(self.firstOf(self.stream))
        self.tell(CONTINUE, b"a")
        self.assertEqual(self.successResultOf(again), b"a")
        self.stream.abort()
        self.tell(OK)
        self.assertUsable()

    def test_one_that_is_cancelled_in_the_body_has_read_what_it_has_read(self) -> None:
        gate: Deferred[None] = Deferred()

        async def slow() -> None:
            async for _ in self.stream:
                await gate

        looping = self.begin(slow())
        self.session.send(self.packet(CONTINUE, b"a"), self.packet(CONTINUE, b"b"))
        looping.cancel()
        self.failureResultOf(looping, CancelledError)
        self.assertEqual(self.read(), b"b")

    def test_a_loop_ends_with_the_connection(self) -> None:
        for last in ("error", "lost"):
            if last == "lost":
                self.stream = self.open()
            looping = self.begin(self.firstOf(self.stream))
            if last == "error":
                self.tell(ERROR, encodeError(GAVE_UP))
                self.failureResultOf(looping, RemoteError)
            else:
                self.session.lose()
                self.failureResultOf(looping, ConnectionLost)


class Late(_Case):
    """5.3, 5.4: data behind the end of the data."""

    def test_it_is_dropped_and_the_stream_can_be_finished(self) -> None:
        stream = self.stream = self.open(flags=1)
        self.tell(CONTINUE)
        answer = self.session.send(self.packet(CONTINUE, b"late"), self.hole(5), self.packet(CONTINUE))
        self.assertEqual((answer, stream._size, self.read()), ([], 0, b""))
        self.assertEqual(self.session.client.connection.streams[stream._side.key].state, ClientState.ENDED)
        finishing = self.stream.finish()
        self.tell(OK)
        self.successResultOf(finishing)

    def test_an_error_behind_the_end_of_the_data_is_raised_by_everything_afterwards(self) -> None:
        """5.3: a hang-up of the server's local end in state EOF_SENT."""
        self.tell(CONTINUE)
        self.assertEqual(self.read(), b"")
        self.tell(ERROR, encodeError(GAVE_UP))
        self.failureResultOf(self.begin(self.stream.receive()), RemoteError)
        self.failureResultOf(self.stream.finish(), RemoteError)
        self.assertEqual(self.sent(), [])
        self.assertUsable()

    def test_sending_behind_the_end_of_the_data(self) -> None:
        """The other direction of a console goes on."""
        self.tell(CONTINUE)
        self.successResultOf(self.stream.send(b"typed"))
        self.assertEqual(self.sent(), [(STREAM, CONTINUE, b"typed")])


class SeveralFull(_Case):
    """5.5: the connection is read when every stream has room."""

    def setUp(self) -> None:
        # Small packets of both streams come in one piece, and fill both.
        self.session = ClientSession(readSize=8 << 20)
        self.stream = self.open()

    def test_R082_reading_one_of_two_full_streams_lets_nothing_more_come(self) -> None:
        first, call = self.stream, self.call
        second = self.open()
        mine = self.packet(CONTINUE, b"x")
        other, self.call = self.call, call
        theirs = self.packet(CONTINUE, b"x")
        self.session.send((mine + theirs) * (STREAM_BUFFER // 128 + 1))
        transport: Any = self.session.client.transport
        self.assertTrue(min(first._size, second._size) > STREAM_BUFFER)
        while second._items:
            self.assertTrue(transport.paused)
            self.read(second)
        self.assertTrue(transport.paused and self.session.client.readingHeld)
        first.abort()
        self.assertFalse(transport.paused or self.session.client.readingHeld)
        self.tell(OK)
        self.call = other
        second.abort()
        self.tell(OK)
        self.assertUsable()

    def test_a_stream_that_the_server_ends_while_it_is_full_holds_nothing(self) -> None:
        self.session.send(
            self.packet(CONTINUE, b"x") * (STREAM_BUFFER // 128 + 1)
            + self.packet(ERROR, encodeError(GAVE_UP))
        )
        self.assertFalse(self.session.client.readingHeld)
        self.assertUsable()
        while self.stream._items:
            self.read()
        self.failureResultOf(self.begin(self.stream.receive()), RemoteError)


class Closing(_Case):
    """The client closes the connection: its streams are over, and hold nothing."""

    def fill(self) -> None:
        """Have the stream hold the connection."""
        self.session.transport.write(self.packet(CONTINUE, bytes(STREAM_CHUNK)) * 12)
        self.session.clock.advance(0)
        self.assertTrue(self.session.client.readingHeld)

    def test_what_is_read_into_the_stream_can_be_had_and_then_it_is_lost(self) -> None:
        self.fill()
        closing = self.session.client.close()
        self.assertFalse(self.session.client.readingHeld)
        self.assertEqual(len(self.read()), STREAM_CHUNK)
        while self.stream._items:
            self.read()
        failure = self.failureResultOf(self.begin(self.stream.receive()), ConnectionLost)
        self.assertIn("closed by this client", str(failure.value))
        self.session.clock.advance(0)
        self.assertTrue(self.session.closed)
        self.successResultOf(closing)

    def test_the_answer_to_a_last_call_is_read_behind_what_the_stream_still_gets(self) -> None:
        self.fill()
        remote: Any = self.session.client.program(PROGRAM)
        called = remote.echo("last")
        self.session.client.dropStreams()
        (call,) = [each for each in self.session.flush() if each.type == CALL]
        self.session.reply(call, PROGRAM.byName["echo"].encodeRet("last"))
        self.assertEqual(self.successResultOf(called), "last")
        self.assertUsable()

    def test_a_finish_that_is_on_its_way_is_still_confirmed(self) -> None:
        finished, call = self.stream, self.call
        reader = self.open()
        reading = self.begin(reader.receive())
        finishing = finished.finish()
        self.session.client.dropStreams()
        self.assertNoResult(finishing)
        self.failureResultOf(reading, ConnectionLost)
        self.tell(CONTINUE, b"late")
        self.call = call
        self.tell(OK)
        self.successResultOf(finishing)
        self.assertUsable()

    def test_packets_that_come_together_with_what_made_us_close_are_dropped(self) -> None:
        async def leave() -> None:
            await self.stream.receive()
            self.session.client.dropStreams()

        leaving = self.begin(leave())
        self.session.send(self.packet(CONTINUE, b"a"), self.packet(CONTINUE, b"b"), self.packet(CONTINUE))
        self.successResultOf(leaving)
        self.failureResultOf(self.begin(self.stream.receive()), ConnectionLost)
        self.assertUsable()


class Refused(_Case):
    """The opening call failed: there is no stream."""

    def test_R070_packets_of_it_are_dropped(self) -> None:
        self.stream.abort()
        self.tell(OK)
        for _ in range(2):
            opening = self.session.client.program(PROGRAM).upload(1)
            (self.call,) = self.session.flush()
            self.session.replyError(self.call, GAVE_UP)
            self.failureResultOf(opening, RemoteError)
            self.assertEqual(
                self.session.send(self.packet(CONTINUE, b"x"), self.hole(4), self.packet(OK)), []
            )
            self.assertUsable()


class Together(_Case):
    """The application does something between two packets that have come in one piece."""

    def first(self, react: Any) -> Deferred[Any]:
        """Have something done when the first data is there, in the midst of what came with it."""

        async def read() -> Any:
            await self.stream.receive()
            return await react()

        return self.begin(read())

    def test_R060_an_error_behind_the_data_is_the_answer_to_a_finish_or_an_abort(self) -> None:
        for operation in ("finish", "abort"):
            self.stream = self.open()
            ending = self.first(getattr(self.stream, operation))
            answer = self.session.send(self.packet(CONTINUE, b"a"), self.packet(ERROR, encodeError(GAVE_UP)))
            self.assertEqual(self.failureResultOf(ending, RemoteError).value.message, "the server gave up")
            self.assertEqual(said(answer), [])
            self.failureResultOf(self.stream.finish(), RemoteError)
        self.stream = self.open()
        self.stream.abort()
        self.tell(OK)
        self.assertEqual(len(self.session.client._streams), 1, "the one of setUp")

    def test_R060_an_error_behind_the_end_of_the_data_too(self) -> None:
        """What libvirtd sends when a console's domain is destroyed."""

        async def all() -> None:
            async for _ in self.stream:
                pass
            await self.stream.finish()

        ending = self.begin(all())
        answer = self.session.send(self.packet(CONTINUE), self.packet(ERROR, encodeError(GAVE_UP)))
        self.assertEqual(self.failureResultOf(ending, RemoteError).value.message, "the server gave up")
        self.assertEqual(answer, [])
        self.assertUsable()

    def test_R060_what_is_sent_between_them_fails_with_the_error_and_is_not_sent(self) -> None:
        for name in ("send", "sendPacket", "sendHole", "sendFrom"):
            stream = self.stream = self.open(flags=1)
            argument: Any = {"sendHole": 5, "sendFrom": Body()}.get(name, b"x")
            sending = self.first(lambda: getattr(stream, name)(argument))  # noqa: B023
            answer = self.session.send(self.packet(CONTINUE, b"a"), self.packet(ERROR, encodeError(GAVE_UP)))
            self.assertEqual(self.failureResultOf(sending, RemoteError).value.message, "the server gave up")
            self.assertEqual((answer, stream.bytesSent), ([], 0))

    def test_one_who_ends_it_twice_between_them_is_told(self) -> None:
        async def twice() -> None:
            first = self.stream.finish()
            self.failureResultOf(self.stream.abort(), LocalProtocolError)
            await first

        ending = self.first(twice)
        self.session.send(self.packet(CONTINUE, b"a"), self.packet(ERROR, encodeError(GAVE_UP)))
        self.failureResultOf(ending, RemoteError)

    def test_R080_data_that_came_with_what_made_us_end_the_stream_is_dropped(self) -> None:
        for operation in ("finish", "abort"):
            self.stream = self.open(flags=1)
            ending = self.first(getattr(self.stream, operation))
            answer = self.session.send(
                self.packet(CONTINUE, b"a"), self.packet(CONTINUE, b"late"), self.hole(5)
            )
            self.assertEqual(said(answer), FINISHED if operation == "finish" else ABORTED)
            self.assertEqual((self.stream._size, self.read()), (0, b""))
            self.tell(OK)
            self.successResultOf(ending)
            self.assertEqual(self.read(), b"")


@implementer(IPushProducer)
class Failing:
    """A producer that fails where it is told to."""

    def __init__(self, stream: ClientStream, *where: str) -> None:
        self.stream = stream
        self.where = where
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.where:
            raise ZeroDivisionError(name)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        self._call("start")
        return Deferred()

    def pauseProducing(self) -> None:
        self._call("pause")

    def resumeProducing(self) -> None:
        self._call("resume")

    def stopProducing(self) -> None:
        self._call("stop")


class Sources(_Case):
    """What is sent from and fails, or is not wanted any more."""

    def setUp(self) -> None:
        self.session = ClientSession()
        self.stream = self.open("upload")

    def assertAborted(self, sending: Deferred[Any], error: type[Exception]) -> None:
        """It failed, has aborted the stream, and the connection goes on."""
        messages = self.session.flush()
        self.failureResultOf(sending, error)
        self.assertEqual(said(messages[-1:]), ABORTED)
        self.tell(OK)
        self.assertUsable()

    def test_a_body_producer_that_does_not_start(self) -> None:
        body = Failing(self.stream, "start")
        self.assertAborted(self.begin(self.stream.sendFrom(body)), ZeroDivisionError)
        self.assertEqual(body.calls, ["start"])

    def test_a_body_producer_that_has_failed_is_not_stopped(self) -> None:
        body = Body()
        sending = self.begin(self.stream.sendFrom(body))
        body.done.errback(ZeroDivisionError())
        self.assertAborted(sending, ZeroDivisionError)
        self.assertEqual(body.calls, [])

    def test_a_producer_that_fails_when_the_socket_has_room(self) -> None:
        body = Failing(self.stream, "resume")
        sending = self.begin(self.stream.sendFrom(body))
        self.session.transport.pauseProducing()
        self.stream.write(bytes(STREAM_CHUNK))
        self.assertEqual(body.calls, ["start", "pause"])
        self.session.transport.resumeProducing()
        self.assertAborted(sending, ZeroDivisionError)
        self.assertEqual(body.calls, ["start", "pause", "resume"])

    def test_a_producer_that_fails_to_pause_fails_where_it_writes(self) -> None:
        body = Failing(self.stream, "pause")
        sending = self.begin(self.stream.sendFrom(body))
        self.session.transport.pauseProducing()
        self.assertRaises(ZeroDivisionError, self.stream.write, bytes(STREAM_CHUNK))
        self.session.transport.resumeProducing()
        self.session.flush()
        sending.cancel()
        self.assertAborted(sending, CancelledError)

    def test_a_pull_producer_that_fails_at_once_or_later(self) -> None:
        for pieces in (0, 1, 3):
            self.stream = self.open("upload")
            left = iter(range(pieces))
            pulled = Pulled(self.stream, 0, 5)
            stream = self.stream

            def resume(stream: ClientStream = stream, left: Any = left) -> None:
                if next(left, None) is None:
                    raise ZeroDivisionError
                stream.write(b"piece")

            pulled.resumeProducing = resume  # type: ignore[method-assign]
            before = self.session.client._streams.copy()
            sending = self.begin(self.stream.sendFrom(pulled))
            messages = self.session.flush()
            self.failureResultOf(sending, ZeroDivisionError)
            self.assertEqual([each.payload for each in messages], [b"piece"] * pieces + [b""])
            self.assertEqual(said(messages[-1:]), ABORTED)
            self.assertFalse(pulled.stopped)
            self.tell(OK)
            self.assertEqual(len(self.session.client._streams), len(before) - 1)

    def test_a_producer_that_nobody_waits_for_and_fails_ends_the_stream(self) -> None:
        body = Failing(self.stream, "resume")
        self.assertRaises(ZeroDivisionError, self.stream.registerProducer, body, False)
        self.stream.registerProducer(body, True)
        self.session.transport.pauseProducing()
        self.stream.write(bytes(STREAM_CHUNK))
        self.session.transport.resumeProducing()
        self.assertEqual(said(self.session.flush()[-1:]), ABORTED)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(body.calls, ["resume", "pause", "resume"])
        self.tell(OK)
        self.assertUsable()

    def test_a_producer_that_does_not_stop_harms_nobody(self) -> None:
        """R067: whatever it does, who waits is told, and the connection goes on."""
        for how in ("error", "abort"):
            self.stream = self.open("upload") if how == "abort" else self.stream
            body = Failing(self.stream, "stop")
            sending = self.begin(self.stream.sendFrom(body))
            if how == "error":
                self.tell(ERROR, encodeError(GAVE_UP))
                self.failureResultOf(sending, RemoteError)
            else:
                aborting = self.stream.abort()
                self.tell(OK)
                self.successResultOf(aborting)
                self.failureResultOf(sending, LocalProtocolError)
            self.assertEqual(body.calls, ["start", "stop"])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertUsable()

    def test_one_that_is_cancelled_stops_its_producer_at_once_and_once(self) -> None:
        body = Body()
        sending = self.begin(self.stream.sendFrom(body))
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertEqual(body.calls, ["stop"])
        body.consumer.write(b"late")
        self.assertEqual(self.sent(), ABORTED)
        self.tell(OK)
        self.assertEqual(body.calls, ["stop"])
        self.assertUsable()

    def test_a_lost_connection_stops_the_producer(self) -> None:
        body = Body()
        sending = self.begin(self.stream.sendFrom(body))
        self.session.lose()
        self.failureResultOf(sending, ConnectionLost)
        self.assertEqual(body.calls, ["stop"])

    def test_an_asynchronous_iterable_that_fails_and_one_that_is_cancelled(self) -> None:
        gate: Deferred[None] = Deferred()
        ends: list[str] = []

        async def source() -> AsyncIterator[bytes]:
            try:
                yield b"ab"
                await gate
            finally:
                ends.append("end")

        sending = self.begin(self.stream.sendFrom(source()))
        gate.errback(ZeroDivisionError())
        self.assertAborted(sending, ZeroDivisionError)
        gate = Deferred()
        self.stream = self.open("upload")
        sending = self.begin(self.stream.sendFrom(source()))
        sending.cancel()
        self.assertAborted(sending, CancelledError)
        self.assertEqual(ends, ["end", "end"])

    def test_a_file_that_cannot_be_read_leaks_no_descriptor(self) -> None:
        before = len(openAtRest())
        with tempfile.NamedTemporaryFile() as made, open(made.name, "wb") as writeOnly:
            self.assertAborted(self.begin(self.stream.sendFrom(writeOnly)), OSError)
        self.stream = self.open("upload")
        with open("/proc/self/mem", "rb", buffering=0) as unmapped:
            self.assertAborted(self.begin(self.stream.sendFrom(unmapped)), OSError)
        self.stream = self.open("upload")
        closed = tempfile.TemporaryFile()
        closed.close()
        self.assertAborted(self.begin(self.stream.sendFrom(closed)), ValueError)
        self.assertEqual(len(openDescriptors()), before)

    def test_what_is_no_source_at_all(self) -> None:
        for source in (5, None, ["text"], [None]):
            self.stream = self.open("upload")
            self.failureResultOf(self.begin(self.stream.sendFrom(source)), TypeError)
            self.assertEqual(self.sent(), ABORTED)

    def test_progress_that_fails(self) -> None:
        def fail(done: int) -> None:
            raise ZeroDivisionError

        self.assertAborted(self.begin(self.stream.sendFrom([b"ab"], fail)), ZeroDivisionError)

    def test_a_compressed_file_is_sent_as_it_reads(self) -> None:
        """It has a descriptor, but what is there is something else."""
        data = b"what is in it " * 1000
        with tempfile.TemporaryDirectory() as directory:
            for number, module in enumerate((gzip, bz2, lzma)):
                path = f"{directory}/{number}"
                with module.open(path, "wb") as file:
                    file.write(data)
                self.stream = self.open("upload")
                with module.open(path, "rb") as file:
                    sending = self.begin(self.stream.sendFrom(file))
                    messages = self.session.flush()
                self.assertTrue(b"".join(each.payload for each in messages) == data, module)
                self.tell(OK)
                self.assertEqual(self.successResultOf(sending), len(data))

    def test_files_of_every_kind_are_read_from_where_they_are(self) -> None:
        with tempfile.NamedTemporaryFile() as named:
            named.write(b"0123456789")
            named.flush()
            for file in (
                named,
                open(named.name, "rb"),
                open(named.name, "rb", buffering=0),
                open(named.name, "r+b"),
                open(named.name),
                io.BufferedReader(io.BytesIO(b"0123456789")),
            ):
                with file:
                    file.seek(4)
                    self.stream = self.open("upload")
                    sending = self.begin(self.stream.sendFrom(file))
                    self.assertEqual(b"".join(each.payload for each in self.session.flush()), b"456789")
                    self.tell(OK)
                    self.successResultOf(sending)

    def test_twisted_s_own_file_sender(self) -> None:
        """It is a pull producer, and done when its own Deferred fires."""
        data = os.urandom(300_000)
        sender = FileSender()
        sending = sender.beginFileTransfer(io.BytesIO(data), self.stream)
        messages = self.session.flush()
        self.successResultOf(sending)
        self.assertTrue(b"".join(each.payload for each in messages) == data)
        finishing = self.stream.finish()
        self.assertEqual(self.sent(), FINISHED)
        self.tell(OK)
        self.successResultOf(finishing)
        self.assertUsable()

    def body(self, file: Any) -> FileBodyProducer:
        """Twisted's body of an HTTP request, by the test's clock."""
        return FileBodyProducer(
            file, Cooperator(scheduler=lambda call: self.session.clock.callLater(0, call)), readSize=100_000
        )

    def test_twisted_s_own_body_producer(self) -> None:
        data = os.urandom(1_000_000)
        sending = self.begin(self.stream.sendFrom(self.body(io.BytesIO(data))))
        messages = self.session.flush()
        self.assertTrue(b"".join(each.payload for each in messages) == data)
        self.tell(OK)
        self.assertEqual(self.successResultOf(sending), len(data))

    def test_twisted_s_own_body_producer_and_a_server_that_does_not_read_and_gives_up(self) -> None:
        file = io.BytesIO(bytes(32 << 20))
        sending = self.begin(self.stream.sendFrom(self.body(file)))
        self.session.transport.pauseProducing()
        self.session.clock.advance(0)
        self.assertNoResult(sending)
        self.assertTrue(file.tell() <= 1 << 20, file.tell())
        self.session.transport.write(self.packet(ERROR, encodeError(GAVE_UP)))
        self.session.clock.advance(0)
        self.failureResultOf(sending, RemoteError)
        self.assertTrue(file.closed)

    def test_twisted_s_own_body_producer_of_a_file_that_fails(self) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise ZeroDivisionError

        self.assertAborted(self.begin(self.stream.sendFrom(self.body(Broken(b"x")))), ZeroDivisionError)


class Chunks(_Case):
    """5.6: 262120 bytes unless told otherwise, and up to what a message holds."""

    def setUp(self) -> None:
        self.session = ClientSession()
        self.stream = self.open("upload", 1)

    def test_the_largest_and_none_beyond(self) -> None:
        self.stream.chunk = PAYLOAD_MAX
        sending = self.stream.send(bytes(PAYLOAD_MAX + 1))
        self.assertEqual([len(each.payload) for each in self.session.flush()], [PAYLOAD_MAX, 1])
        self.successResultOf(sending)
        for size in (PAYLOAD_MAX + 1, 0, -1):
            self.assertRaises(LocalProtocolError, setattr, self.stream, "chunk", size)
        self.assertEqual(self.stream.chunk, PAYLOAD_MAX)

    def test_a_file_is_sent_in_them(self) -> None:
        with tempfile.TemporaryFile() as source:
            source.write(bytes([1]) * 3_000_000)
            for chunk, sizes in ((STREAM_CHUNK, [262120] * 11 + [116680]), (3_000_000, [3_000_000])):
                source.seek(0)
                self.stream = self.open("upload")
                self.assertEqual(self.stream.chunk, STREAM_CHUNK)
                self.stream.chunk = chunk
                sending = self.begin(self.stream.sendFrom(source))
                self.assertEqual([len(each.payload) for each in self.session.flush()], [*sizes, 0])
                self.tell(OK)
                self.successResultOf(sending)

    def test_the_longest_hole_and_none_beyond(self) -> None:
        self.stream.sendHole(HOLE_MAX)
        self.assertEqual([each.length for each in self.session.flush()], [40])
        self.assertRaises(LocalProtocolError, self.stream.sendHole, HOLE_MAX + 1)
        self.assertEqual(self.stream.bytesSent, HOLE_MAX)


class Targets(_Case):
    """What is read into and fails, or has enough."""

    def assertAborted(self, receiving: Deferred[Any], error: type[Exception]) -> None:
        self.failureResultOf(receiving, error)
        self.assertEqual(self.sent(), ABORTED)
        self.tell(OK)
        self.assertUsable()

    def test_a_consumer_that_does_not_let_go_of_it(self) -> None:
        class Broken(RecordingConsumer):
            def unregisterProducer(self) -> None:
                raise ZeroDivisionError

        receiving = self.begin(self.stream.receiveInto(Broken()))
        answer = self.session.send(self.packet(CONTINUE, b"ab"), self.packet(CONTINUE))
        self.assertEqual(said(answer), ABORTED)
        self.assertBroken(receiving)

    def assertBroken(self, receiving: Deferred[Any]) -> None:
        self.failureResultOf(receiving, ZeroDivisionError)
        self.tell(OK)
        self.assertUsable()

    def test_a_consumer_that_does_not_take_it(self) -> None:
        class Broken(RecordingConsumer):
            def registerProducer(self, producer: Any, streaming: bool) -> None:
                raise ZeroDivisionError

        self.assertAborted(self.begin(self.stream.receiveInto(Broken())), ZeroDivisionError)

    def test_one_that_is_thrown_away_or_interrupted_aborts_too(self) -> None:
        """Those are no C{Exception}s; an asyncio task is cancelled so."""
        for last in (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt):
            for name in ("receiveInto", "sendFrom"):
                self.stream = self.open("upload" if name == "sendFrom" else "download")
                coroutine = getattr(self.stream, name)(
                    RecordingConsumer() if name == "receiveInto" else Body()
                )
                coroutine.send(None)
                self.assertRaises(last, coroutine.throw, last())
                self.assertEqual(self.sent(), ABORTED)

    def test_a_writer_whose_deferred_fails(self) -> None:
        class Broken:
            def write(self, data: bytes) -> Deferred[None]:
                broken: Deferred[None] = Deferred()
                broken.errback(ZeroDivisionError())
                return broken

        receiving = self.begin(self.stream.receiveInto(Broken()))
        self.assertEqual(self.tell(CONTINUE, b"ab"), ABORTED)
        self.assertBroken(receiving)

    def test_progress_that_fails(self) -> None:
        def fail(done: int) -> None:
            raise ZeroDivisionError

        receiving = self.begin(self.stream.receiveInto(io.BytesIO(), fail))
        self.assertEqual(self.tell(CONTINUE, b"ab"), ABORTED)
        self.assertBroken(receiving)

    def test_one_that_is_cancelled_while_its_consumer_has_enough(self) -> None:
        consumer = RecordingConsumer(pauseAfter=1)
        receiving = self.begin(self.stream.receiveInto(consumer))
        self.session.send(self.packet(CONTINUE, b"a"), self.packet(CONTINUE, b"b"))
        receiving.cancel()
        self.assertEqual(consumer.calls, ["register", "unregister"])
        self.assertAborted(receiving, CancelledError)
        consumer.producer.resumeProducing()
        self.assertEqual(bytes(consumer.got), b"a")

    def test_a_connection_is_a_target_that_holds_the_server_back(self) -> None:
        """A relay of a download; its client does not read, then reads, then goes."""
        for gone in (False, True):
            near, far = RawPeer(), RawPeer()
            out, peer = joined(self.session.clock, near, far)
            self.stream = self.open()
            receiving = self.begin(self.stream.receiveInto(out))
            peer.pauseProducing()
            for _ in range(64):
                self.session.transport.write(self.packet(CONTINUE, bytes(STREAM_CHUNK)))
            self.session.transport.write(self.packet(CONTINUE))
            self.session.clock.advance(0)
            self.assertTrue(self.session.client.readingHeld)
            self.assertTrue(len(out.unsent) < 1 << 20, len(out.unsent))
            if gone:
                peer.abortConnection()
                messages = self.session.flush()
                self.assertEqual(said(messages), ABORTED)
                self.failureResultOf(receiving, LocalProtocolError)
            else:
                peer.resumeProducing()
                self.assertEqual(said(self.session.flush()), FINISHED)
                self.assertEqual(len(far.bytes()), 64 * STREAM_CHUNK)
            self.tell(OK)
            self.session.clock.advance(0)
            self.assertFalse(self.session.client.readingHeld)

    def test_a_target_of_which_nothing_can_be_made(self) -> None:
        receiving = self.begin(self.stream.receiveInto(object()))
        self.assertEqual(self.tell(CONTINUE, b"ab"), ABORTED)
        self.failureResultOf(receiving, AttributeError)
        self.stream = self.open()
        with open("/dev/null", "rb") as readOnly:
            receiving = self.begin(self.stream.receiveInto(readOnly))
            self.session.send(self.packet(CONTINUE, b"ab"))
            self.session.clock.advance(1)
            self.failureResultOf(receiving, OSError)
        self.assertEqual(self.sent(), ABORTED)

    def test_a_hole_without_end_can_be_given_up(self) -> None:
        """It is written in turns of the reactor, in which others do something."""
        self.stream.abort()
        self.tell(OK)
        self.stream = self.open(flags=1)
        sizes: list[int] = []
        receiving: Deferred[int]

        class Zeros:
            def write(zeros, data: bytes) -> None:
                sizes.append(len(data))
                if len(sizes) == 5:
                    self.session.clock.callLater(0, receiving.cancel)
                assert len(sizes) < 100, "nobody else had a turn"

        receiving = self.begin(self.stream.receiveInto(Zeros()))
        self.assertEqual(said(self.session.send(self.hole(HOLE_MAX))), ABORTED)
        self.failureResultOf(receiving, CancelledError)
        self.assertEqual(set(sizes), {STREAM_CHUNK})
        self.assertTrue(5 <= len(sizes) <= 6, sizes)
        self.tell(OK)
        self.assertUsable()

    def test_a_compressing_file_gets_what_is_written(self) -> None:
        with tempfile.NamedTemporaryFile() as made:
            with gzip.open(made.name, "wb") as target:
                receiving = self.begin(self.stream.receiveInto(target))
                self.session.send(self.packet(CONTINUE, b"what "), self.packet(CONTINUE, b"was read"))
                self.tell(CONTINUE)
                self.tell(OK)
                self.assertEqual(self.successResultOf(receiving), 13)
            with gzip.open(made.name, "rb") as file:
                self.assertEqual(file.read(), b"what was read")

    def test_a_temporary_file_with_a_name_gets_holes_as_holes(self) -> None:
        self.stream = self.open(flags=1)
        with tempfile.NamedTemporaryFile(dir="/var/tmp") as target:
            receiving = self.begin(self.stream.receiveInto(target))
            self.session.send(self.hole(1 << 40), self.packet(CONTINUE))
            self.tell(OK)
            self.assertEqual(self.successResultOf(receiving), 1 << 40)
            self.assertEqual(os.stat(target.name).st_blocks, 0)

    def test_holes_that_were_not_agreed_on_abort_it(self) -> None:
        """R083."""
        receiving = self.begin(self.stream.receiveInto(io.BytesIO()))
        answer = self.session.send(self.hole(Hole(5).length))
        self.assertEqual(said(answer), ABORTED)
        self.assertEqual(self.failureResultOf(receiving, RemoteError).value.message, "Unexpected stream hole")
        self.tell(OK)
        self.assertUsable()
