"""PINGs without end from a client that reads no PONG: what waits to be sent to it is bounded."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import ServerSession, served
from virnet.wire.keepalive import PING_MESSAGE


class Flood(SynchronousTestCase):
    """Fifty thousand of them."""

    def test_the_server_stops_reading(self) -> None:
        session = ServerSession(served(ECHO, Echo()))
        session.transport.pauseProducing()
        for _ in range(25):
            session.send(PING_MESSAGE * 2000)
        waiting = len(session.client.transport.unsent)  # type: ignore[union-attr]
        self.assertTrue(waiting < 500_000, waiting)
        session.transport.resumeProducing()
        self.assertEqual(len(session.flush()), 50_000)
