"""Streams at the server whose producers fail, and protocols at them that pause, feed and leave."""

from __future__ import annotations

import io
import os
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.peers import CONTINUE, ERROR, OK, REPLY, STREAM, Message, callNamed
from tests.server.test_streams import CONFIRMED, EOF, PushProducer, _Case
from tests.streaming import CONSOLE, PROGRAM, RecordingEnd, packet, said
from virnet.errorcodes import ErrorNumber
from virnet.errors import ConnectionLost, LocalProtocolError
from virnet.limits import HOLE_MAX, STREAM_CHUNK
from virnet.server.stream import ProtocolEnd, streamError


class Failing:
    """A producer that fails where it is told to."""

    def __init__(self, *where: str) -> None:
        self.where = where
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.where:
            raise ZeroDivisionError(name)

    def pauseProducing(self) -> None:
        self._call("pause")

    def resumeProducing(self) -> None:
        self._call("resume")

    def stopProducing(self) -> None:
        self._call("stop")


class Producers(_Case):
    """A stream is a consumer, of producers that fail too."""

    def assertFailed(self) -> None:
        """The client was told, once."""
        answer = self.session.flush()
        self.assertEqual((answer[-1].status, answer[-1].error[0]), (ERROR, ErrorNumber.INTERNAL_ERROR))
        self.assertEqual(self.end.losses, 1)
        self.assertUsable()

    def test_one_that_is_asked_for_more_and_fails(self) -> None:
        for streaming in (True, False):
            self.open("download")
            producer = Failing("resume")
            self.session.transport.pauseProducing()
            self.end.stream.write(bytes(2 * STREAM_CHUNK))
            self.end.stream.registerProducer(producer, streaming)
            self.assertEqual(producer.calls, ["pause"] if streaming else [])
            self.session.transport.resumeProducing()
            self.assertFailed()
            self.assertEqual(producer.calls[-2:], ["resume", "stop"])
            self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    def test_one_that_fails_to_stop(self) -> None:
        for status in (OK, ERROR):
            self.open("download")
            self.end.stream.registerProducer(Failing("stop"), True)
            self.assertEqual(self.say(status), [CONFIRMED])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertUsable()
        self.open("download")
        self.end.stream.registerProducer(Failing("stop"), True)
        self.session.lose()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.end.losses, 1)

    def test_twisted_s_own_file_sender(self) -> None:
        self.open("download")
        data = os.urandom(300_000)
        sending = FileSender().beginFileTransfer(io.BytesIO(data), self.end.stream)
        messages = self.session.flush()
        self.successResultOf(sending)
        self.assertTrue(b"".join(each.payload for each in messages) == data)
        self.end.stream.writeEOF()
        self.assertEqual(said(self.session.flush()), [EOF])
        self.assertTrue(verifyObject(IConsumer, self.end.stream))

    def test_a_file_sender_whose_client_leaves(self) -> None:
        for status in (OK, ERROR):
            self.open("download")
            self.session.transport.pauseProducing()
            sending = FileSender().beginFileTransfer(io.BytesIO(bytes(4 << 20)), self.end.stream)
            self.session.clock.advance(0)
            self.assertNoResult(sending)
            self.session.transport.write(self.packet(status))
            self.session.transport.resumeProducing()
            self.assertEqual(said(self.session.flush()[-1:]), [CONFIRMED])
            self.failureResultOf(sending)
            self.assertUsable()

    def test_holes_that_cannot_be_sent(self) -> None:
        self.open("download", 0)
        self.assertRaises(LocalProtocolError, self.end.stream.writeHole, 5)
        self.open("download", 1)
        for length in (0, -1, HOLE_MAX + 1):
            self.assertRaises(LocalProtocolError, self.end.stream.writeHole, length)
        self.assertEqual(self.session.flush(), [])
        self.end.stream.writeHole(HOLE_MAX)
        self.assertEqual([each.length for each in self.session.flush()], [40])


class Order(_Case):
    """What goes before what, and what does not go any more."""

    def answers(self, *packets: bytes) -> list[Message]:
        """What comes when the end answers with ten chunks to data that has come with something else, while
        the client reads nothing.
        """

        class Babbler(RecordingEnd):
            def dataReceived(self, data: bytes) -> None:
                self.stream.write(bytes(10 * STREAM_CHUNK))

        self.makeEnd = Babbler
        self.open("console")
        self.session.transport.pauseProducing()
        self.session.transport.write(b"".join([self.packet(CONTINUE, b"x"), *packets]))
        self.session.clock.advance(0)
        self.session.transport.resumeProducing()
        return self.session.flush()

    def test_an_abort_drops_what_was_not_sent_yet(self) -> None:
        for status, answer in ((ERROR, OK), (77, ERROR)):
            messages = self.answers(packet(CONSOLE, self.serial + 1, status))
            # What the socket has been given: the packet that goes through, and one behind it.
            self.assertTrue(1 < len(messages) <= 3, len(messages))
            self.assertEqual(messages[-1].status, answer)
            self.assertUsable()

    def test_one_packet_of_a_stream_waits_before_the_answer_to_a_call(self) -> None:
        messages = self.answers(callNamed(PROGRAM, "echo", 77, "hello"))
        self.assertEqual(len(messages), 11)
        self.assertTrue([each.type for each in messages].index(REPLY) <= 2)

    def test_a_finish_comes_behind_all_that_waits(self) -> None:
        messages = self.answers(packet(CONSOLE, self.serial + 1, OK))
        self.assertEqual(sum(len(each.payload) for each in messages), 10 * STREAM_CHUNK)
        self.assertEqual(said(messages[-1:]), [CONFIRMED])
        self.assertUsable()

    def test_R032_data_that_fails_when_its_stream_is_over_gives_its_slot_back(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        end = self.open()
        self.session.send(self.packet(CONTINUE, b"a"))
        self.assertEqual(self.say(ERROR), [CONFIRMED])
        self.assertEqual(self.slots, 1)
        end.waiting.pop().errback(ZeroDivisionError())
        self.assertEqual((self.session.flush(), end.losses), ([], 1))
        self.assertUsable()

    def test_R029_R032_what_comes_behind_a_failure_in_one_piece_gives_its_slot_back(self) -> None:
        for late in (CONTINUE, OK, ERROR, 77):
            end = self.open()
            end.failure = streamError("no more of this")
            self.session.transport.write(self.packet(CONTINUE, b"a") + self.packet(late, b"b"))
            messages = self.session.flush()
            self.assertEqual([(each.status, each.serial) for each in messages], [(ERROR, self.serial)])
            self.assertEqual((end.got, end.losses), ([b"a"], 1))
            self.assertUsable()

    def test_R064_what_comes_behind_a_finish_holds_no_slot(self) -> None:
        """Also while the finish takes its time: else a client could not even abort."""
        self.makeEnd = lambda: RecordingEnd(holding=True)
        end = self.open(flags=1)
        self.assertEqual(self.say(OK), [])
        late = [self.packet(CONTINUE, b"x"), self.packet(CONTINUE), self.packet(OK), self.hole(5)]
        for each in late:
            self.assertEqual(self.session.send(*[each] * 20), [])
            self.assertEqual(self.slots, 1)
        end.proceed()
        self.assertEqual(said(self.session.flush()), [CONFIRMED])
        self.assertEqual((end.got, end.waiting), ([], []))
        self.assertUsable()

    def test_R086_another_status_behind_a_finish_ends_the_stream_too(self) -> None:
        self.makeEnd = lambda: RecordingEnd(holding=True)
        end = self.open()
        self.assertEqual(self.say(OK), [])
        (answer,) = self.session.send(self.packet(77))
        self.assertEqual(
            (answer.status, answer.error[2]), (ERROR, "stream aborted with unexpected status 77")
        )
        self.assertEqual(end.losses, 1)
        end.proceed()
        self.assertEqual(self.session.flush(), [])
        self.assertUsable()

    def test_an_abort_of_the_server_releases_nothing(self) -> None:
        """R030: also while packets of the client hold slots."""
        self.makeEnd = lambda: RecordingEnd(holding=True)
        first = self.open()
        self.session.send(self.packet(CONTINUE, b"a"))
        for _ in range(20):
            self.open().stream.fail(streamError("enough"))
            self.session.flush()
            self.assertEqual(self.slots, 1)
        first.proceed()
        self.assertUsable(streams=1)


class Recorder(Protocol):
    """Records what comes."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.lost: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.got.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason)


class Protocols(_Case):
    """A protocol at a stream finds what C{ITransport}, C{IConsumer} and C{IPushProducer} promise it."""

    def setUp(self) -> None:
        super().setUp()
        self.protocol = Recorder()
        self.makeEnd = lambda: ProtocolEnd(self.protocol)
        self.open("console")
        self.transport: Any = self.protocol.transport

    def test_interfaces(self) -> None:
        self.assertTrue(verifyObject(ITransport, self.transport))
        self.assertTrue(verifyObject(IConsumer, self.transport))

    def test_one_that_has_paused_hears_nothing_and_loses_nothing(self) -> None:
        self.transport.pauseProducing()
        self.session.send(*[self.packet(CONTINUE, bytes([n])) for n in range(20)])
        self.assertEqual((self.protocol.got, self.slots), ([], 5))
        self.transport.resumeProducing()
        self.assertEqual(self.protocol.got, [bytes([n]) for n in range(20)])
        self.assertUsable(streams=1)

    def test_one_that_pauses_again_for_each_packet(self) -> None:
        got = self.protocol.got

        def one(data: bytes) -> None:
            got.append(data)
            self.transport.pauseProducing()

        self.protocol.dataReceived = one  # type: ignore[method-assign]
        self.session.send(*[self.packet(CONTINUE, each) for each in (b"a", b"b", b"c")])
        for n in range(1, 4):
            self.assertEqual(len(got), n)
            self.transport.resumeProducing()
        self.assertUsable(streams=1)

    def test_R078_a_finish_waits_until_a_paused_one_has_heard_everything(self) -> None:
        self.transport.pauseProducing()
        self.session.send(self.packet(CONTINUE, b"a"))
        self.assertEqual(self.say(OK), [])
        self.assertEqual(self.protocol.lost, [])
        self.transport.resumeProducing()
        self.assertEqual(said(self.session.flush()), [CONFIRMED])
        self.assertEqual((self.protocol.got, self.protocol.lost[0].type), ([b"a"], ConnectionDone))
        self.assertUsable()

    def test_an_abort_reaches_a_paused_one_at_once_and_drops_what_waits(self) -> None:
        self.transport.pauseProducing()
        self.session.send(self.packet(CONTINUE, b"a"))
        self.assertEqual(self.say(ERROR), [CONFIRMED])
        self.assertEqual((self.protocol.got, self.protocol.lost[0].type), ([], ConnectionLost))
        self.transport.resumeProducing()
        self.assertEqual(self.protocol.got, [])
        self.assertUsable()

    def test_a_disconnect_reaches_a_paused_one(self) -> None:
        self.transport.pauseProducing()
        self.session.send(self.packet(CONTINUE, b"a"))
        self.session.lose()
        self.assertEqual((self.protocol.got, len(self.protocol.lost)), ([], 1))

    def test_it_closes_behind_what_its_producer_still_has(self) -> None:
        """ITransport.loseConnection: not before the producer is unregistered."""
        data = os.urandom(300_000)
        sending = FileSender().beginFileTransfer(io.BytesIO(data), self.transport)
        self.transport.loseConnection()
        messages = self.session.flush()
        self.successResultOf(sending)
        self.assertTrue(b"".join(each.payload for each in messages) == data)
        self.assertEqual(said(messages[-1:]), [EOF])
        self.assertEqual(self.say(OK), [CONFIRMED])

    def test_one_that_has_closed_hears_nothing_more(self) -> None:
        self.transport.pauseProducing()
        self.session.send(self.packet(CONTINUE, b"a"))
        self.transport.loseConnection()
        self.session.send(self.packet(CONTINUE, b"b"))
        self.assertEqual(self.protocol.got, [])
        self.assertEqual(said(self.session.flush()), [])
        self.assertEqual(self.say(OK), [CONFIRMED])
        self.assertEqual(len(self.protocol.lost), 1)
        self.assertUsable()

    def test_hanging_up_does_not_wait_for_a_producer(self) -> None:
        producer = PushProducer(self.transport, 5)
        self.transport.registerProducer(producer, True)
        self.transport.write(b"x")
        self.transport.hangUp()
        self.assertEqual(said(self.session.flush()), [(STREAM, CONTINUE, b"x"), EOF])
        self.assertEqual(producer.calls, ["stop"])

    def test_hanging_up_stops_the_producer_that_is_there(self) -> None:
        first, second = Failing(), Failing()
        self.transport.registerProducer(first, True)
        self.assertRaises(RuntimeError, self.transport.registerProducer, second, True)
        self.transport.hangUp()
        self.assertEqual((first.calls, second.calls), (["stop"], []))

    def test_hanging_up_on_a_producer_that_does_not_stop(self) -> None:
        self.transport.registerProducer(Failing("stop"), True)
        self.transport.hangUp()
        self.assertEqual([each.status for each in self.session.flush()], [ERROR])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(len(self.protocol.lost), 1)
        self.assertUsable()

    def test_one_producer_at_a_time(self) -> None:
        first = PushProducer(self.transport, 5)
        self.transport.registerProducer(first, True)
        self.assertRaises(RuntimeError, self.transport.registerProducer, Failing(), True)
        self.transport.loseConnection()
        self.assertEqual(self.session.flush(), [])
        self.transport.unregisterProducer()
        self.assertEqual(said(self.session.flush()), [EOF])

    def test_one_that_fails_is_an_error_of_the_stream(self) -> None:
        def fail(data: bytes) -> None:
            raise ZeroDivisionError

        self.protocol.dataReceived = fail  # type: ignore[method-assign]
        for paused in (False, True):
            if paused:
                self.open("console")
                self.transport = self.protocol.transport
                self.transport.pauseProducing()
            answer = self.session.send(self.packet(CONTINUE, b"a"))
            self.transport.resumeProducing()
            answer += self.session.flush()
            self.assertEqual([each.status for each in answer], [ERROR])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertUsable()
        self.assertEqual(len(self.protocol.lost), 2)
