"""The public test doubles: what a user's test can rely on."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.echo import ECHO, Echo
from virnet.server import NetServer, ServerProgram
from virnet.testing import StrictTransport, connectedPair, joined


class Recorder(Protocol):
    """Records what comes and how it ends."""

    transport: StrictTransport

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: list[type[BaseException] | None] = []

    def dataReceived(self, data: bytes) -> None:
        """Record it."""
        self.received.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record it."""
        self.lost.append(reason.type)


class Producer:
    """Records what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        """Record it."""
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """Record it."""
        self.told.append("resume")

    def stopProducing(self) -> None:
        """Record it."""
        self.told.append("stop")


class Transports(SynchronousTestCase):
    """Two protocols joined in memory."""

    def join(self, **options: int) -> None:
        """Connect two recorders."""
        self.clock = Clock()
        self.here, self.there = Recorder(), Recorder()
        joined(self.clock, self.here, self.there, **options)  # type: ignore[arg-type]

    def setUp(self) -> None:
        self.join()

    def test_it_is_what_twisted_calls_a_transport(self) -> None:
        for interface in (ITransport, IConsumer, IPushProducer):
            self.assertTrue(verifyObject(interface, self.here.transport))
        self.assertEqual(str(self.here.transport.getPeer()), "server")
        self.assertEqual(str(self.here.transport.getHost()), "client")

    def test_what_is_written_arrives_in_a_later_turn(self) -> None:
        self.here.transport.write(b"a")
        self.here.transport.writeSequence([b"b", b"c"])
        self.assertEqual(self.there.received, [])
        self.clock.advance(0)
        self.assertEqual(self.there.received, [b"abc"])

    def test_reads_can_be_as_small_as_one_likes(self) -> None:
        self.join(readSize=2)
        self.here.transport.write(b"abcde")
        self.clock.advance(0)
        self.assertEqual(self.there.received, [b"ab", b"cd", b"e"])

    def test_only_bytes_can_be_written(self) -> None:
        for wrong in ("text", bytearray(b"x"), memoryview(b"x"), None):
            self.assertRaises(TypeError, self.here.transport.write, wrong)

    def test_a_paused_reader_gets_nothing_and_holds_the_writer_back(self) -> None:
        self.join(window=10)
        self.there.transport.pauseProducing()
        self.here.transport.write(b"x" * 25)
        self.clock.advance(0)
        self.assertEqual((self.there.received, len(self.here.transport.unsent)), ([], 15))
        self.there.transport.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(b"".join(self.there.received), b"x" * 25)

    def test_a_producer_is_paused_while_too_much_waits(self) -> None:
        self.join(window=10)
        producer = Producer()
        self.here.transport.registerProducer(producer, True)
        self.assertRaises(RuntimeError, self.here.transport.registerProducer, producer, True)
        self.there.transport.pauseProducing()
        self.here.transport.write(b"x" * 25)
        self.clock.advance(0)
        self.assertEqual(producer.told, ["pause"])
        self.there.transport.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(producer.told, ["pause", "resume"])

    def test_a_pull_producer_is_asked_when_nothing_waits(self) -> None:
        producer = Producer()
        self.here.transport.registerProducer(producer, False)
        self.clock.advance(0)
        self.assertEqual(producer.told, ["resume"])
        self.here.transport.unregisterProducer()

    def test_losing_sends_what_was_written_and_then_both_see_the_end(self) -> None:
        self.here.transport.write(b"last words")
        self.here.transport.loseConnection()
        self.assertTrue(self.here.transport.disconnecting)
        self.clock.advance(0)
        self.assertEqual(self.there.received, [b"last words"])
        self.assertEqual((self.here.lost, self.there.lost), ([ConnectionDone], [ConnectionDone]))
        self.assertFalse(self.here.transport.connected)

    def test_losing_reads_nothing_more(self) -> None:
        self.there.transport.write(b"unheard")
        self.here.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual(self.here.received, [])

    def test_losing_or_aborting_when_the_other_side_has_gone_already_and_was_not_read(self) -> None:
        for end in (StrictTransport.loseConnection, StrictTransport.abortConnection):
            self.join()
            self.here.transport.pauseProducing()
            self.there.transport.write(b"unheard")
            self.there.transport.loseConnection()
            self.clock.advance(0)
            self.assertEqual(self.here.lost, [])
            end(self.here.transport)
            self.clock.advance(0)
            self.assertEqual((self.here.received, self.here.lost), ([], [ConnectionDone]))

    def test_losing_waits_for_a_reader_that_is_paused(self) -> None:
        self.join(window=10)
        self.there.transport.pauseProducing()
        self.here.transport.write(b"x" * 25)
        self.here.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual(self.here.lost, [])
        self.there.transport.resumeProducing()
        self.clock.advance(0)
        self.assertEqual((len(b"".join(self.there.received)), self.here.lost), (25, [ConnectionDone]))

    def test_losing_waits_for_a_producer(self) -> None:
        self.here.transport.registerProducer(Producer(), True)
        self.here.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual(self.here.lost, [])
        self.here.transport.unregisterProducer()
        self.clock.advance(0)
        self.assertEqual(self.here.lost, [ConnectionDone])

    def test_aborting_drops_what_was_written(self) -> None:
        self.here.transport.write(b"unheard")
        self.here.transport.abortConnection()
        self.assertEqual(self.here.lost, [])
        self.clock.advance(0)
        self.assertEqual(self.there.received, [])
        self.assertEqual((self.here.lost, self.there.lost), ([ConnectionAborted], [ConnectionLost]))

    def test_after_the_end_nothing_happens_any_more(self) -> None:
        self.here.transport.loseConnection()
        self.clock.advance(0)
        for transport in (self.here.transport, self.there.transport):
            transport.write(b"x")
            transport.loseConnection()
            transport.abortConnection()
            transport.resumeProducing()
        producer = Producer()
        self.here.transport.registerProducer(producer, True)
        self.clock.advance(0)
        self.assertEqual(producer.told, ["stop"])
        self.assertEqual((len(self.here.lost), len(self.there.lost)), (1, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_exception_of_a_protocol_is_not_hidden(self) -> None:
        def fail(data: bytes) -> None:
            raise KeyError("a bug")

        self.there.dataReceived = fail  # type: ignore[method-assign]
        self.here.transport.write(b"x")
        self.assertRaises(KeyError, self.clock.advance, 0)


class Pairs(SynchronousTestCase):
    """A client and a server over them."""

    def programs(self) -> list[ServerProgram]:
        """What is served."""
        return [ServerProgram(ECHO, lambda client: Echo())]

    def test_calls_reach_the_provider(self) -> None:
        for readSize in (1, 65536):
            pair = connectedPair(self.programs(), readSize=readSize)
            called = pair.client.program(ECHO).echo("hello")
            self.assertNoResult(called)
            pair.flush()
            self.assertEqual(self.successResultOf(called), "hello")

    def test_events_reach_the_client(self) -> None:
        pair = connectedPair(self.programs())
        heard: list[Any] = []
        pair.client.subscribe(ECHO.eventsByName["said"], heard.append)
        pair.serverClient.events(ECHO).said("hello")
        pair.flush()
        self.assertEqual(heard, ["hello"])

    def test_several_clients_of_one_server(self) -> None:
        server = NetServer(Clock(), self.programs())
        pairs = [connectedPair(server), connectedPair(server, readonly=True)]
        self.assertEqual([each.serverClient.readonly for each in pairs], [False, True])
        self.assertEqual(set(server.clients), {1, 2})

    def test_the_end_reaches_both(self) -> None:
        pair = connectedPair(self.programs())
        closed = pair.client.close()
        pair.flush()
        self.successResultOf(closed)
        self.assertEqual(pair.server.clients, {})
