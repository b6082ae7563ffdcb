"""What protocols rely on in a transport: Twisted's rules, run over Twisted's own transports as well as ours.

A subclass says in C{connect} how two L{End}s get connected: the first is on the transport under test, the
second is an ordinary protocol on an ordinary transport, to read, to write, and to go away.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from random import Random
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress

from tests.contracts.ends import (
    LARGE,
    MUCH,
    End,
    HalfCloseableEnd,
    Leaver,
    Puller,
    Pusher,
    Sender,
    pattern,
    plain,
    turns,
)

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as _Mixin
else:
    # A contract is run where it is mixed in, and only there.
    _Mixin = object


class TransportContract(_Mixin):
    """Every transport does this.

    @ivar stopsReading: whether nothing is read any more after C{loseConnection}; TLS needs to read on.
    @ivar sender: makes it.
    @ivar kind: which ends are used.
    @ivar aborted: what C{connectionLost} is told after C{abortConnection}.
    """

    timeout = 30
    sender: Sender = staticmethod(plain)
    kind: type[End] = End
    stopsReading = True
    aborted: type[Exception] = ConnectionAborted

    async def connect(self, ours: End | None = None, theirs: End | None = None) -> tuple[End, End]:
        """Connect two ends.

        @param ours: goes on the transport under test.
        @param theirs: goes on an ordinary one.
        """
        raise NotImplementedError

    def end(self) -> End:
        """Make an end for the transport under test."""
        return self.kind(self.sender)

    async def finish(self, *ends: End) -> None:
        """Abort what still is connected and wait until it is gone."""
        for end in ends:
            if end.lost is None:
                end.out.abortConnection()
        for end in ends:
            await end.isLost()

    # Writing

    async def test_bytes_arrive_in_the_order_in_which_they_were_written(self) -> None:
        ours, theirs = await self.connect()
        random = Random(1)
        pieces = [random.randbytes(random.choice((1, 28, 1000, 70000, 300000))) for _ in range(100)]
        theirs.readSlowly()
        for number, piece in enumerate(pieces):
            if number % 3:
                ours.out.write(piece)
            else:
                ours.out.writeSequence([piece[:10], piece[10:]])
            if not number % 10:
                await turns(1)
        everything = b"".join(pieces)
        self.assertTrue(await theirs.has(len(everything)) == everything)
        await self.finish(ours, theirs)

    async def test_R052_nothing_is_lost_of_a_very_large_write_to_a_slow_reader(self) -> None:
        ours, theirs = await self.connect()
        data = pattern(LARGE)
        theirs.readSlowly()
        ours.out.write(data[:-1])
        ours.out.write(data[-1:])
        self.assertTrue(await theirs.has(LARGE) == data)
        await self.finish(ours, theirs)

    async def test_writing_from_connectionMade(self) -> None:
        ours = self.end()
        ours.onMade = lambda: ours.out.write(b"welcome")
        ours, theirs = await self.connect(ours)
        self.assertEqual(await theirs.has(7), b"welcome")
        await self.finish(ours, theirs)

    async def test_writing_from_dataReceived(self) -> None:
        ours, theirs = await self.connect()
        ours.onData = lambda data: ours.out.write(data.upper())
        theirs.out.write(b"a")
        self.assertEqual(await theirs.has(1), b"A")
        theirs.out.write(b"b" * 100000)
        self.assertEqual(await theirs.has(100001), b"A" + b"B" * 100000)
        await self.finish(ours, theirs)

    async def test_both_ends_write_and_answer_at_the_same_time(self) -> None:
        ours, theirs = await self.connect()

        def answerFrom(end: End) -> Callable[[bytes], None]:
            return lambda data: end.out.write(b"!" * data.count(b"?"))

        ours.onData, theirs.onData = answerFrom(ours), answerFrom(theirs)
        for _ in range(50):
            ours.out.write(b"?" * 1000)
            theirs.out.write(b"?" * 1000)
        for end in (ours, theirs):
            received = await end.has(100000)
            self.assertEqual((received.count(b"?"), received.count(b"!")), (50000, 50000))
        await self.finish(ours, theirs)

    async def test_writing_nothing(self) -> None:
        ours, theirs = await self.connect()
        ours.out.write(b"")
        ours.out.writeSequence([])
        ours.out.writeSequence([b"", b""])
        ours.out.write(b"x")
        self.assertEqual(await theirs.has(1), b"x")
        await self.finish(ours, theirs)

    # Producers

    async def test_a_push_producer_is_held_back_while_the_peer_does_not_read(self) -> None:
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        data = pattern(MUCH)
        producer = Pusher(ours, data)
        ours.out.registerProducer(producer, True)
        producer.push()
        await turns()
        self.assertTrue(producer.paused)
        self.assertLess(producer.written, MUCH)
        self.assertEqual(producer.calls[-1], "pause")
        theirs.out.resumeProducing()
        self.assertTrue(await theirs.has(MUCH) == data)
        self.assertNotIn("stop", producer.calls)
        await self.finish(ours, theirs)

    async def test_a_pull_producer_is_asked_as_fast_as_the_peer_reads(self) -> None:
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        data = pattern(MUCH)
        producer = Puller(ours, data)
        ours.out.registerProducer(producer, False)
        await turns(200)
        self.assertGreater(producer.asked, 0)
        self.assertLess(producer.asked, MUCH // 65536)
        theirs.out.resumeProducing()
        self.assertTrue(await theirs.has(MUCH) == data)
        await turns()
        self.assertEqual(producer.asked, MUCH // 65536 + 1)
        ours.out.write(b"afterwards")
        await theirs.has(MUCH + 10)
        await self.finish(ours, theirs)

    async def test_there_is_one_producer_at_a_time(self) -> None:
        ours, theirs = await self.connect()
        first, second = Pusher(ours, b""), Pusher(ours, b"")
        ours.out.registerProducer(first, True)
        self.assertRaises(RuntimeError, ours.out.registerProducer, second, True)
        ours.out.unregisterProducer()
        ours.out.registerProducer(second, True)
        ours.out.unregisterProducer()
        ours.out.unregisterProducer()
        await self.finish(ours, theirs)

    async def test_a_producer_is_stopped_once_when_the_connection_is_lost(self) -> None:
        for oursEnds in (True, False):
            ours, theirs = await self.connect()
            theirs.out.pauseProducing()
            producer = Pusher(ours, bytes(MUCH))
            ours.out.registerProducer(producer, True)
            producer.push()
            (ours if oursEnds else theirs).out.abortConnection()
            await ours.isLost()
            theirs.out.resumeProducing()
            await theirs.isLost()
            self.assertEqual(producer.calls.count("stop"), 1)

    async def test_a_producer_that_comes_too_late_is_stopped(self) -> None:
        ours, theirs = await self.connect()
        await self.finish(ours, theirs)
        producer = Pusher(ours, b"")
        ours.out.registerProducer(producer, True)
        self.assertEqual(producer.calls, ["stop"])

    async def test_a_push_producer_that_leaves_while_it_is_paused_is_left_alone(self) -> None:
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        producer = Pusher(ours, bytes(MUCH))
        ours.out.registerProducer(producer, True)
        producer.push()
        await turns()
        ours.out.unregisterProducer()
        calls = list(producer.calls)
        theirs.out.resumeProducing()
        self.assertEqual(len(await theirs.has(producer.written)), producer.written)
        await turns()
        self.assertEqual(producer.calls, calls)
        await self.finish(ours, theirs)

    async def test_the_next_is_held_back_and_goes_on_though_that_one_was_paused(self) -> None:
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        first, second = Pusher(ours, bytes(MUCH)), Pusher(ours, pattern(MUCH))
        ours.out.registerProducer(first, True)
        first.push()
        await turns()
        ours.out.unregisterProducer()
        ours.out.registerProducer(second, True)
        second.push()
        await turns()
        self.assertTrue(second.paused)
        theirs.out.resumeProducing()
        received = await theirs.has(first.written + MUCH)
        self.assertTrue(received[first.written :] == pattern(MUCH))
        await self.finish(ours, theirs)

    # Reading

    async def test_reading_goes_on_while_what_was_written_waits(self) -> None:
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        ours.out.write(bytes(MUCH))
        await turns()
        theirs.out.write(b"still talking")
        self.assertEqual(await ours.has(13), b"still talking")
        await self.finish(ours, theirs)

    async def test_writing_goes_on_while_reading_is_paused(self) -> None:
        ours, theirs = await self.connect()
        ours.out.pauseProducing()
        theirs.out.write(b"not now")
        data = pattern(MUCH)
        ours.out.write(data)
        self.assertTrue(await theirs.has(MUCH) == data)
        self.assertEqual(ours.received, b"")
        await self.finish(ours, theirs)

    async def test_pausing_or_resuming_twice_is_the_same_as_once(self) -> None:
        ours, theirs = await self.connect()
        ours.out.pauseProducing()
        ours.out.pauseProducing()
        theirs.out.write(b"x")
        await turns(20)
        self.assertEqual(ours.received, b"")
        ours.out.resumeProducing()
        ours.out.resumeProducing()
        self.assertEqual(await ours.has(1), b"x")
        ours.out.resumeProducing()
        theirs.out.write(b"y")
        self.assertEqual(await ours.has(2), b"xy")
        await self.finish(ours, theirs)

    async def test_nothing_is_read_while_reading_is_paused(self) -> None:
        ours, theirs = await self.connect()
        ours.out.pauseProducing()
        theirs.out.write(b"patience")
        await turns(20)
        self.assertEqual(ours.received, b"")
        ours.out.resumeProducing()
        self.assertEqual(await ours.has(8), b"patience")
        await self.finish(ours, theirs)

    async def test_everything_arrives_when_reading_is_paused_from_dataReceived(self) -> None:
        ours, theirs = await self.connect()
        ours.readSlowly()
        data = pattern(1 << 20)
        theirs.out.write(data)
        self.assertTrue(await ours.has(len(data)) == data)
        await self.finish(ours, theirs)

    async def test_what_the_peer_sent_before_it_closed_is_read(self) -> None:
        ours, theirs = await self.connect()
        ours.out.pauseProducing()
        theirs.out.write(bytes(40000))
        theirs.out.loseConnection()
        await turns(20)
        ours.out.resumeProducing()
        await ours.isLost()
        self.assertEqual(len(ours.received), 40000)
        await theirs.isLost()

    # loseConnection

    async def test_loseConnection_closes_a_connection_at_rest(self) -> None:
        ours, theirs = await self.connect()
        ours.out.loseConnection()
        (await theirs.isLost()).trap(ConnectionDone)
        (await ours.isLost()).trap(ConnectionDone)

    async def test_loseConnection_sends_what_was_written_first(self) -> None:
        ours, theirs = await self.connect()
        data = pattern(MUCH)
        theirs.readSlowly()
        ours.out.write(data)
        ours.out.loseConnection()
        ours.out.loseConnection()
        self.assertTrue(await theirs.has(MUCH) == data)
        (await theirs.isLost()).trap(ConnectionDone)
        (await ours.isLost()).trap(ConnectionDone)

    async def test_loseConnection_waits_for_a_push_producer_that_is_paused(self) -> None:
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        data = pattern(MUCH)
        producer = Pusher(ours, data)
        ours.out.registerProducer(producer, True)
        producer.push()
        ours.out.loseConnection()
        await turns()
        theirs.out.resumeProducing()
        self.assertTrue(await theirs.has(MUCH) == data)
        await theirs.isLost()
        (await ours.isLost()).trap(ConnectionDone)

    async def test_loseConnection_from_dataReceived(self) -> None:
        ours, theirs = await self.connect()

        def answerAndClose(data: bytes) -> None:
            ours.out.write(b"goodbye")
            ours.out.loseConnection()

        ours.onData = answerAndClose
        theirs.out.write(b"quit")
        self.assertEqual(await theirs.has(7), b"goodbye")
        await theirs.isLost()
        (await ours.isLost()).trap(ConnectionDone)

    async def test_nothing_is_read_after_loseConnection(self) -> None:
        if not self.stopsReading:
            return
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        ours.out.write(bytes(MUCH))
        ours.out.loseConnection()
        ours.out.resumeProducing()
        theirs.out.write(b"one more thing")
        await turns(20)
        theirs.out.resumeProducing()
        await theirs.has(MUCH)
        await ours.isLost()
        self.assertEqual(ours.received, b"")
        await theirs.isLost()

    # abortConnection

    async def test_abortConnection_drops_what_was_not_sent(self) -> None:
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        ours.out.write(bytes(MUCH))
        await turns()
        ours.out.abortConnection()
        ours.out.abortConnection()
        ours.out.loseConnection()
        (await ours.isLost()).trap(self.aborted)
        theirs.out.resumeProducing()
        await theirs.isLost()
        self.assertLess(len(theirs.received), MUCH)

    async def test_abortConnection_ends_a_loseConnection_that_takes_too_long(self) -> None:
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        ours.out.write(bytes(MUCH))
        ours.out.loseConnection()
        await turns()
        self.assertIs(ours.lost, None)
        ours.out.abortConnection()
        await ours.isLost()
        theirs.out.resumeProducing()
        await theirs.isLost()

    async def test_abortConnection_from_dataReceived(self) -> None:
        ours, theirs = await self.connect()
        ours.onData = lambda data: ours.out.abortConnection()
        theirs.out.write(b"x")
        (await ours.isLost()).trap(self.aborted)
        await theirs.isLost()

    async def test_abortConnection_does_not_call_connectionLost_from_within(self) -> None:
        ours, theirs = await self.connect()
        ours.out.abortConnection()
        self.assertIs(ours.lost, None)
        await ours.isLost()
        await theirs.isLost()

    # The end

    async def test_R057_after_the_end_nothing_has_an_effect(self) -> None:
        for closed in (True, False):
            ours, theirs = await self.connect()
            if closed:
                ours.out.loseConnection()
            else:
                theirs.out.abortConnection()
            await ours.isLost()
            await theirs.isLost()
            ours.out.write(b"too late")
            ours.out.writeSequence([b"too", b"late"])
            ours.out.unregisterProducer()
            ours.out.pauseProducing()
            ours.out.resumeProducing()
            ours.out.loseConnection()
            ours.out.abortConnection()
            await turns()
            self.assertEqual(theirs.received, b"")

    async def test_the_peer_goes_away_while_much_waits(self) -> None:
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        for _ in range(100):
            ours.out.write(bytes(100000))
        await turns()
        theirs.out.abortConnection()
        await theirs.isLost()
        reason = await ours.isLost()
        self.assertNotIsInstance(reason.value, ConnectionAborted)

    async def test_writing_from_resumeProducing_and_connectionLost(self) -> None:
        ours, theirs = await self.connect()

        class Tail(Pusher):
            def stopProducing(self) -> None:
                super().stopProducing()
                self._end.out.write(b"nobody hears this")

        theirs.out.pauseProducing()
        producer = Tail(ours, bytes(MUCH))
        ours.out.registerProducer(producer, True)
        producer.push()
        await turns()
        theirs.out.abortConnection()
        await ours.isLost()
        self.assertEqual(producer.calls[-1], "stop")
        await theirs.isLost()

    async def test_both_ends_have_addresses(self) -> None:
        ours, theirs = await self.connect()
        for address in (ours.out.getHost(), ours.out.getPeer()):
            self.assertTrue(IAddress.providedBy(address))
        await self.finish(ours, theirs)


class FullContract(TransportContract):
    """And what every transport does but Twisted's TLS: it takes text and fails with it later (25.5), closes
    without its own end, and loses what a pull producer wrote last.
    """

    async def test_a_producer_may_end_the_connection_when_it_is_told_something(self) -> None:
        for told, how in product(("pause", "resume"), ("loseConnection", "abortConnection")):
            ours, theirs = await self.connect()
            producer = Leaver(ours, told, how)
            theirs.out.pauseProducing()
            ours.out.registerProducer(producer, True)
            producer.push()
            await turns()
            theirs.out.resumeProducing()
            await theirs.isLost()
            await ours.isLost()
            if how == "abortConnection":
                # One that has more is told to stop, though the connection was gone for it already.
                self.assertEqual(producer.calls[-2:], ["pause", "stop"])
            else:
                self.assertEqual(len(theirs.received), MUCH)

    async def test_a_producer_that_comes_after_loseConnection_is_waited_for(self) -> None:
        ours, theirs = await self.connect()
        theirs.out.pauseProducing()
        ours.out.write(bytes(MUCH))
        ours.out.loseConnection()
        producer = Pusher(ours, bytes(1000))
        ours.out.registerProducer(producer, True)
        producer.push()
        theirs.out.resumeProducing()
        self.assertEqual(len(await theirs.has(MUCH + 1000)), MUCH + 1000)
        await theirs.isLost()
        (await ours.isLost()).trap(ConnectionDone)

    async def test_only_bytes_are_taken(self) -> None:
        ours, theirs = await self.connect()
        self.assertRaises(TypeError, ours.out.write, "text")
        theirs.out.pauseProducing()
        ours.out.write(bytes(MUCH))
        self.assertRaises(TypeError, ours.out.write, "text")
        await self.finish(ours, theirs)

    async def test_stopProducing_closes(self) -> None:
        ours, theirs = await self.connect()
        ours.out.write(bytes(MUCH))
        ours.out.stopProducing()
        self.assertEqual(len(await theirs.has(MUCH)), MUCH)
        await theirs.isLost()
        (await ours.isLost()).trap(ConnectionDone)

    async def test_loseConnection_waits_for_a_pull_producer(self) -> None:
        ours, theirs = await self.connect()
        data = pattern(MUCH)
        ours.out.registerProducer(Puller(ours, data), False)
        ours.out.loseConnection()
        self.assertTrue(await theirs.has(MUCH) == data)
        await theirs.isLost()
        (await ours.isLost()).trap(ConnectionDone)


class SocketContract(FullContract):
    """Every transport on a socket of its own does this besides."""

    async def test_what_dataReceived_raises_ends_the_connection(self) -> None:
        ours, theirs = await self.connect()

        def fail(data: bytes) -> None:
            raise ValueError("the protocol's fault")

        ours.onData = fail
        theirs.out.write(b"x")
        (await ours.isLost()).trap(ValueError)
        await theirs.isLost()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_what_the_peer_sent_is_read_although_writing_to_it_fails(self) -> None:
        ours, theirs = await self.connect()
        ours.out.pauseProducing()
        theirs.out.write(bytes(40000))
        theirs.out.loseConnection()
        await theirs.isLost()
        ours.out.resumeProducing()
        ours.out.write(b"are you still there?")
        ours.out.write(b"are you still there?")
        await ours.isLost()
        self.assertEqual(len(ours.received), 40000)

    async def test_a_connection_that_is_not_read_is_lost_when_writing_fails(self) -> None:
        ours, theirs = await self.connect()
        ours.out.pauseProducing()
        theirs.out.abortConnection()
        await theirs.isLost()
        ours.out.write(b"are you still there?")
        ours.out.write(b"are you still there?")
        await ours.isLost()

    async def test_closing_the_sending_half(self) -> None:
        ours = HalfCloseableEnd(self.sender)
        theirs = HalfCloseableEnd()
        await self.connect(ours, theirs)
        data = pattern(MUCH)
        theirs.readSlowly()
        ours.out.write(data)
        ours.out.loseWriteConnection()
        ours.out.loseWriteConnection()
        await theirs.until(lambda: theirs.readEnded)
        self.assertTrue(theirs.received == data)
        await ours.until(lambda: ours.writeEnded)
        ours.out.write(b"too late")
        theirs.out.write(b"still here")
        self.assertEqual(await ours.has(10), b"still here")
        theirs.out.loseConnection()
        await ours.until(lambda: ours.readEnded)
        ours.out.loseConnection()
        await ours.isLost()
        await theirs.isLost()
        self.assertEqual(len(theirs.received), MUCH)

    async def test_the_peer_closes_its_sending_half(self) -> None:
        ours = HalfCloseableEnd(self.sender)
        theirs = HalfCloseableEnd()
        await self.connect(ours, theirs)
        theirs.out.write(b"that was all")
        theirs.out.loseWriteConnection()
        await ours.until(lambda: ours.readEnded)
        self.assertEqual(ours.received, b"that was all")
        data = pattern(MUCH)
        ours.out.write(data)
        ours.out.loseConnection()
        self.assertTrue(await theirs.has(MUCH) == data)
        await ours.isLost()
        await theirs.until(lambda: theirs.readEnded)
        theirs.out.loseConnection()
        await theirs.isLost()

    async def test_closing_altogether_after_the_sending_half(self) -> None:
        ours = HalfCloseableEnd(self.sender)
        theirs = End()
        await self.connect(ours, theirs)
        theirs.readSlowly()
        ours.out.write(bytes(MUCH))
        ours.out.loseWriteConnection()
        ours.out.loseConnection()
        self.assertEqual(len(await theirs.has(MUCH)), MUCH)
        await ours.isLost()
        await theirs.isLost()
