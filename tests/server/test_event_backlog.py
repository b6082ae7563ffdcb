"""Events to clients that do not read: never throttled, never lost in silence, never without bound."""

from __future__ import annotations

import tracemalloc
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import MESSAGE, ServerSession, callNamed, served
from tests.server.sockets import SocketTestCase
from virnet.limits import MAX_EVENT_BACKLOG
from virnet.server import NetServer, ServerProgram


def _server(**settings: Any) -> NetServer:
    return NetServer(Clock(), [ServerProgram(ECHO, lambda client: Echo())], **settings)


class SlowReader(SynchronousTestCase):
    """What becomes of a client that does not read."""

    def test_R036_events_are_not_requests(self) -> None:
        session = ServerSession(server=_server(maxClientRequests=1))
        session.transport.pauseProducing()
        for number in range(100):
            session.client.events(ECHO).said(f"event {number}")
        self.assertEqual(session.client.connection.inProgress, 0)
        session.transport.resumeProducing()
        replies = session.send(callNamed(ECHO, "add", 1, 40, 2))
        self.assertEqual([each.type for each in replies], [MESSAGE] * 100 + [1])

    def test_it_is_cut_off_when_the_backlog_is_full(self) -> None:
        session = ServerSession(server=_server(maxEventBacklog=100_000))
        session.transport.pauseProducing()
        said = session.client.events(ECHO).said
        with capturedLogs() as logged:
            for _ in range(5_000):
                said("x" * 100)
                session.clock.advance(0)
        self.assertNotIn(session.client.id, session.server.clients)
        (line,) = [each for each in logged if "does not read its events" in each.get("log_format", "")]
        self.assertLessEqual(line["waiting"], 100_000)

    def test_behind_the_one_that_is_too_much_it_gets_none(self) -> None:
        # It may read again in the same turn of the reactor, and would miss one without knowing.
        session = ServerSession(server=_server(maxEventBacklog=100_000))
        session.transport.pauseProducing()
        client = session.client
        said = client.events(ECHO).said
        with capturedLogs() as logged:
            for size in (90_000, 60_000, 60_000):
                said("x" * size)
            waiting = client.queuedBytes
            for size in (1, 60_000):
                said("x" * size)
            self.assertEqual(client.queuedBytes, waiting)
            self.assertFalse(client.ending, "whoever says it may be going through all clients")
            session.clock.advance(0)
        self.assertEqual(len(logged), 1)
        self.assertTrue(session.closed)

    def test_one_whose_connection_is_being_closed_gets_what_was_sent_before(self) -> None:
        session = ServerSession(server=_server(maxEventBacklog=100_000))
        session.transport.pauseProducing()
        said = session.client.events(ECHO).said
        for _ in range(3):
            said("x" * 30_000)
        session.client.close()
        with capturedLogs() as logged:
            for _ in range(10):
                said("x" * 30_000)
            session.clock.advance(0)
        self.assertEqual(logged, [])
        self.assertFalse(session.closed)
        session.transport.resumeProducing()
        self.assertEqual(len(session.flush()), 3)
        self.assertTrue(session.closed)

    def test_the_one_that_reads_beside_it_gets_everything(self) -> None:
        server = _server(maxEventBacklog=100_000)
        slow, fast = ServerSession(server=server), ServerSession(server=server)
        slow.transport.pauseProducing()
        got = 0
        for _ in range(2_000):
            slow.client.events(ECHO).said("x" * 100)
            fast.client.events(ECHO).said("x" * 100)
            got += len(fast.flush())
        self.assertEqual(got, 2_000)
        self.assertEqual(list(server.clients), [fast.client.id])

    def test_what_fits_is_delivered_when_it_reads_again(self) -> None:
        session = ServerSession(server=_server())
        session.transport.pauseProducing()
        for number in range(10_000):
            session.client.events(ECHO).said(str(number))
        session.transport.resumeProducing()
        self.assertEqual(len(session.flush()), 10_000)

    def test_a_large_reply_on_its_way_does_not_count(self) -> None:
        session = ServerSession(server=_server(maxEventBacklog=10_000))
        session.transport.pauseProducing()
        session.transport.write(callNamed(ECHO, "blob", 1, bytes(1_000_000)))
        session.clock.advance(0)
        session.client.events(ECHO).said("still there")
        session.transport.resumeProducing()
        self.assertEqual([each.type for each in session.flush()], [1, MESSAGE])

    def test_100000_events_do_not_take_the_memory(self) -> None:
        session = ServerSession(server=_server())
        session.transport.pauseProducing()
        said = session.client.events(ECHO).said
        tracemalloc.start()
        try:
            with capturedLogs():
                for _ in range(1_000):
                    for _ in range(100):
                        said("x" * 100)
                    session.clock.advance(0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # A queued event costs its bytes and the objects that hold it.
        self.assertLess(peak, 8 * MAX_EVENT_BACKLOG)
        self.assertEqual(session.server.clients, {})


class Counting(Protocol):
    """Counts the bytes that come, and keeps none."""

    def __init__(self) -> None:
        self.count = 0

    def dataReceived(self, data: bytes) -> None:
        """Count."""
        self.count += len(data)


class OverSockets(SocketTestCase):
    """The same with the kernel's sockets."""

    @inlineCallbacks
    def test_of_100000_events_the_one_that_reads_gets_all_and_the_other_is_cut_off(self) -> Any:
        server = self.serve(served(ECHO, Echo()))
        reading = Counting()
        yield connectProtocol(UNIXClientEndpoint(reactor, self.path), reading)
        slow = yield self.connect()
        slow.transport.pauseProducing()
        while len(server.clients) < 2:
            yield deferLater(reactor, 0)
        first, second = server.clients.values()
        most = 0
        with capturedLogs() as logged:
            for _ in range(1_000):
                for client in (first, second):
                    said = client.events(ECHO).said
                    for _ in range(100):
                        said("x" * 60)
                most = max(most, second.queuedBytes)
                yield deferLater(reactor, 0)
        self.assertEqual(len([each for each in logged if "waiting" in each]), 1)
        self.assertEqual(list(server.clients.values()), [first])
        self.assertTrue(MAX_EVENT_BACKLOG * 0.9 < most <= MAX_EVENT_BACKLOG, most)
        while reading.count < 100_000 * 92:
            yield deferLater(reactor, 0)
        self.assertEqual((reading.count, first.queuedBytes), (100_000 * 92, 0))
        assert reading.transport is not None
        reading.transport.loseConnection()
