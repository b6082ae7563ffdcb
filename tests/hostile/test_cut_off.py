"""A conversation that ends in the middle, wherever that is: the peer hangs up or its cable is pulled."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.hostile.conversation import CALLS, defaultServer
from tests.peers import ClientSession, ServerSession
from virnet.errors import ConnectionLost
from virnet.programs import REMOTE


class Clients(SynchronousTestCase):
    """Clients that vanish."""

    def test_nothing_is_left_of_them(self) -> None:
        stream = b"".join(CALLS)
        server = defaultServer()
        for end in range(0, len(stream), 3):
            for abort in (False, True):
                session = ServerSession(server=server)
                session.send(stream[:end])
                if abort:
                    session.transport.abortConnection()
                    session.flush()
                else:
                    session.lose()
                self.assertEqual(server.clients, {})
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(server.reactor.getDelayedCalls(), [])


class Servers(SynchronousTestCase):
    """A server that vanishes while it answers."""

    def test_the_call_fails_whatever_part_of_its_answer_came(self) -> None:
        whole = ServerSession(server=defaultServer())
        (opened,) = whole.send(CALLS[0])
        answer = opened.length.to_bytes(4, "big") + bytes.fromhex("2000808600000001000000420000000100000000")
        for end in range(len(answer)):
            session = ClientSession()
            called = session.client.program(REMOTE).authList()
            session.flush()
            session.send(answer[:end])
            session.lose()
            self.failureResultOf(called, ConnectionLost)
