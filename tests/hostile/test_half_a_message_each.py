"""Many clients that each begin a message and never end it: nobody else waits for them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.hostile.conversation import CALLS, defaultServer
from tests.peers import OK, ServerSession


class Lingering(SynchronousTestCase):
    """Three hundred of them."""

    def test_others_are_served(self) -> None:
        server = defaultServer()
        for i in range(300):
            ServerSession(server=server).send(CALLS[2][: i % len(CALLS[2])])
        session = ServerSession(server=server)
        replies = session.send(b"".join(CALLS))
        self.assertEqual([each.status for each in replies if each.type == 1], [OK] * len(CALLS))
        self.assertEqual(len(server.clients), 301)
