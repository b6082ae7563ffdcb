"""What strangers can do to a server with TLS and SASL before they have authenticated.

The witness is a client that is in, over the same service, and must not notice.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import OK, Message, callNamed, served, split
from tests.tls import RecordPeer, serverContext, settle
from virnet.limits import AUTHENTICATION_TIMEOUT, HELD_CLIENTS_MAX, SASL_DATA_MAX, TLS_HANDSHAKE_SECONDS
from virnet.programs import REMOTE
from virnet.security.saslcontext import SASLContext
from virnet.server import NetServer
from virnet.server.sasl import SASLAuthentication
from virnet.server.service import ServerClientFactory
from virnet.testing import joined
from virnet.transport.tls import TLSFactory

STRANGERS = 3
FAILED = (45, 7, "authentication failed: authentication failed")


class _Attack(SynchronousTestCase):
    """A server with TLS and PLAIN, with room for three strangers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = NetServer(self.clock, [served(ECHO, Echo())], maxAnonymousClients=STRANGERS)
        checker = InMemoryUsernamePasswordDatabaseDontUse(fred=b"pw1")
        self.auth = SASLAuthentication(SASLContext(checkers=[checker]))
        self.context = serverContext()
        self.witness = self.connect(RecordPeer.client())
        self.logIn(self.witness)

    def connect(self, peer: Any) -> Any:
        """Let somebody connect."""
        factory = ServerClientFactory(self.server, auth=self.auth)
        link = TLSFactory(factory, self.context, self.clock).buildProtocol(None)
        assert link is not None
        joined(self.clock, peer, link)
        settle(self.clock)
        return peer

    def stranger(self) -> RecordPeer:
        """One who does TLS properly."""
        peer: RecordPeer = self.connect(RecordPeer.client())
        self.assertEqual(peer.take(), [b"\1"])
        return peer

    def send(self, peer: RecordPeer, *calls: bytes) -> list[Message]:
        """Send calls, and take what comes back."""
        peer.take()
        for call in calls:
            peer.write(call)
        settle(self.clock)
        return [reply for record in peer.take() for reply in split(record)]

    def sasl(self, peer: RecordPeer, name: str, *args: Any) -> Any:
        """Make a call of SASL: what it returns, or the error."""
        (reply,) = self.send(peer, callNamed(REMOTE, name, 1, *args))
        if reply.status == OK:
            return REMOTE.byName[name].decodeRet(reply.payload)
        return reply.error[:3]

    def logIn(self, peer: RecordPeer) -> None:
        """Do it properly."""
        self.assertEqual(self.sasl(peer, "authSASLInit"), "PLAIN")
        self.assertEqual(self.sasl(peer, "authSASLStart", "PLAIN", 0, b"\0fred\0pw1")[0], 1)

    def answers(self, peer: RecordPeer) -> bool:
        """Whether a client is served."""
        return [each.status for each in self.send(peer, callNamed(ECHO, "ping", 1))] == [OK]

    def tearDown(self) -> None:
        self.assertTrue(self.answers(self.witness))


class SlowHandshake(_Attack):
    """Strangers who never come to the end of a TLS handshake."""

    def assertCutOff(self, peers: list[Any]) -> None:
        """They go when the time is up, and not before."""
        self.assertEqual(self.server.anonymousClients, len(peers))
        self.clock.advance(TLS_HANDSHAKE_SECONDS - 1)
        settle(self.clock)
        self.assertEqual(self.server.anonymousClients, len(peers))
        self.clock.advance(1)
        settle(self.clock)
        self.assertEqual((self.server.anonymousClients, len(self.server.clients)), (0, 1))

    def test_who_says_nothing(self) -> None:
        self.assertCutOff([self.connect(Protocol()) for _ in range(STRANGERS)])

    def test_who_says_a_little(self) -> None:
        peers = [self.connect(Protocol()) for _ in range(STRANGERS)]
        for peer in peers:
            # The beginning of a record that announces 512 bytes.
            peer.transport.write(b"\x16\x03\x01\x02\x00\x01")
        settle(self.clock)
        self.assertCutOff(peers)

    def test_a_crowd_waits_and_goes_in_turns(self) -> None:
        peers = [self.connect(Protocol()) for _ in range(4 * STRANGERS)]
        self.assertEqual(self.server.heldClients, 3 * STRANGERS)
        self.assertTrue(len(peers) < HELD_CLIENTS_MAX)
        for _ in range(4):
            self.clock.advance(TLS_HANDSHAKE_SECONDS)
            settle(self.clock)
        self.assertEqual((self.server.anonymousClients, self.server.heldClients), (0, 0))
        self.logIn(self.stranger())


class Garbage(_Attack):
    """Strangers who do not speak TLS, or not for long."""

    def test_it_ends_their_connection_alone(self) -> None:
        for garbage in (
            b"GET / HTTP/1.0\r\n\r\n",
            bytes(70000),
            b"\x16\x03\x01\xff\xff" + bytes(70000),
            b"\x80" * 3,
        ):
            peer = self.connect(Protocol())
            peer.transport.write(garbage)
            settle(self.clock)
            self.clock.advance(TLS_HANDSHAKE_SECONDS)
            settle(self.clock)
            self.assertEqual((self.server.anonymousClients, len(self.server.clients)), (0, 1))
            self.assertTrue(self.answers(self.witness))

    def test_so_it_does_behind_the_handshake(self) -> None:
        peer = self.stranger()
        assert peer.transport is not None
        peer.transport.write(b"\x17\x03\x03\0\x20" + bytes(32))
        settle(self.clock)
        self.assertEqual(len(self.server.clients), 1)


class SlowExchange(_Attack):
    """Strangers who are through with TLS and never with SASL."""

    def test_it_ends_however_busy_they_are(self) -> None:
        peer = self.stranger()
        for _ in range(AUTHENTICATION_TIMEOUT // 10):
            self.assertEqual(self.sasl(peer, "authSASLInit"), "PLAIN")
            self.assertEqual(self.sasl(peer, "authSASLStart", "PLAIN", 0, b"\0fred\0guess"), FAILED)
            self.clock.advance(10)
        settle(self.clock)
        self.assertEqual(len(self.server.clients), 1)


class CallsOutOfOrder(_Attack):
    """Steps of exchanges that were not begun, data that is none."""

    def test_a_step_without_a_start(self) -> None:
        peer = self.stranger()
        self.assertEqual(self.sasl(peer, "authSASLStep", 0, b"x"), FAILED)
        self.assertEqual(self.sasl(peer, "authSASLInit"), "PLAIN")
        self.assertEqual(self.sasl(peer, "authSASLStep", 0, b"\0fred\0pw1"), FAILED)
        self.logIn(peer)

    def test_a_start_without_an_init(self) -> None:
        peer = self.stranger()
        self.assertEqual(self.sasl(peer, "authSASLStart", "PLAIN", 0, b"\0fred\0pw1"), FAILED)
        self.assertFalse(self.answers(peer))

    def test_all_at_once(self) -> None:
        peer = self.stranger()
        replies = self.send(
            peer,
            callNamed(REMOTE, "authSASLStep", 1, 0, b"\0fred\0pw1"),
            callNamed(REMOTE, "authSASLStart", 2, "PLAIN", 0, b"\0fred\0pw1"),
            callNamed(REMOTE, "authPolkit", 3),
            callNamed(ECHO, "ping", 4),
        )
        self.assertEqual([each.error[0] for each in replies], [45, 45, 1, 39])

    def test_as_much_data_as_fits_and_more(self) -> None:
        peer = self.stranger()
        self.sasl(peer, "authSASLInit")
        self.assertEqual(self.sasl(peer, "authSASLStart", "PLAIN", 0, bytes(SASL_DATA_MAX)), FAILED)
        self.assertEqual(self.sasl(peer, "authSASLInit"), "PLAIN")
        call = callNamed(REMOTE, "authSASLStart", 1, "PLAIN", 0, b"")
        more = (SASL_DATA_MAX + 1).to_bytes(4, "big")
        (reply,) = self.send(peer, call[:-4] + more)
        self.assertEqual(reply.error[:3], (39, 7, "Unable to decode message payload"))
        self.assertFalse(self.answers(peer))
