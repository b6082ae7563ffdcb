"""PINGs without end from a peer that reads no PONG: what waits to be sent to it is bounded."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import ClientSession, ServerSession, served
from virnet.wire.keepalive import PING_MESSAGE, PONG_MESSAGE


class Flood(SynchronousTestCase):
    """Fifty thousand of them."""

    def test_a_client_answers_no_more_of_them_than_it_would_keep(self) -> None:
        session = ClientSession()
        session.transport.pauseProducing()
        called = session.client.program(ECHO).ping()
        for _ in range(25):
            session.send(PING_MESSAGE * 2000)
        waiting = session.client.sender.queued
        self.assertTrue(waiting < 200_000, waiting)
        session.transport.resumeProducing()
        (call, *pongs) = session.flush()
        self.assertTrue(2000 < len(pongs) < 10_000, len(pongs))
        session.reply(call)
        self.successResultOf(called)
        # It has not given up answering.
        session.transport.write(PING_MESSAGE)
        session.clock.advance(0)
        self.assertEqual(session.peer.bytes(), PONG_MESSAGE)

    def test_the_server_stops_reading(self) -> None:
        session = ServerSession(served(ECHO, Echo()))
        session.transport.pauseProducing()
        for _ in range(25):
            session.send(PING_MESSAGE * 2000)
        waiting = len(session.client.transport.unsent)  # type: ignore[union-attr]
        self.assertTrue(waiting < 500_000, waiting)
        session.transport.resumeProducing()
        self.assertEqual(len(session.flush()), 50_000)
