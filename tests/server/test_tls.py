"""
TLS clients of a server: when they count, what is known of them, what leaves in which record.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import OK, Message, callNamed, served, split
from tests.pki import HOUR
from tests.tls import RecordPeer, clientOf, serverContext, settle
from virnet.limits import TLS_HANDSHAKE_SECONDS
from virnet.security.tlscontext import Engine
from virnet.server import NetServer, ServerClient, ServerService
from virnet.server.service import ServerClientFactory
from virnet.testing import joined
from virnet.transport.tls import TLSFactory, TLSServerEndpoint


class _Case(SynchronousTestCase):
    limits: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.said: list[ServerClient] = []
        self.server = NetServer(self.clock, [served(ECHO, Echo())], **self.limits)
        self.context = serverContext()

    def connect(self, peer: Protocol | None = None) -> Any:
        """Connect a client; without an argument one that shakes hands."""
        peer = peer or RecordPeer.client()
        factory = TLSFactory(ServerClientFactory(self.server), self.context, self.clock)
        link = factory.buildProtocol(None)
        assert link is not None
        joined(self.clock, peer, link)
        settle(self.clock)
        return peer

    def call(self, peer: RecordPeer, *calls: bytes) -> list[Message]:
        """Send calls in one record, and take what comes back, which has to be one message a record."""
        peer.take()
        peer.write(b"".join(calls))
        settle(self.clock)
        replies = []
        for record in peer.take():
            (reply,) = split(record)
            replies.append(reply)
        return replies


class Messages(_Case):
    """Messages and records."""

    def test_R117_two_calls_in_one_record_are_both_answered(self) -> None:
        peer = self.connect()
        replies = self.call(peer, callNamed(ECHO, "ping", 1), callNamed(ECHO, "ping", 2))
        self.assertEqual([(each.serial, each.status) for each in replies], [(1, OK), (2, OK)])

    def test_R118b_events_and_replies_of_one_turn_are_in_records_of_their_own(self) -> None:
        peer = self.connect()
        (client,) = self.server.clients.values()

        class Talking(Echo):
            def ping(self) -> None:
                client.events(ECHO).said("before the reply")

        self.patch(self.server.programFor(ECHO), "methods", served(ECHO, Talking()).methods)
        replies = self.call(peer, callNamed(ECHO, "ping", 1), callNamed(ECHO, "ping", 2))
        self.assertEqual([each.procedure for each in replies], [100, 1, 100, 1])

    def test_R119_the_confirmation_is_no_request(self) -> None:
        self.connect()
        (client,) = self.server.clients.values()
        self.assertEqual(client.inProgress, 0)
        self.assertFalse(client.handshaking)


class Identities(_Case):
    """What is known of a client."""

    def test_the_name_of_its_certificate(self) -> None:
        self.connect()
        (client,) = self.server.clients.values()
        self.assertEqual(client.identity.x509dname, "CN=client1")
        self.assertEqual(client.identity.transport, "tls")
        self.assertEqual(client.transportKind, "tls")

    def test_nothing_is_proved_during_the_handshake(self) -> None:
        self.connect(Protocol())
        (client,) = self.server.clients.values()
        self.assertTrue(client.handshaking)
        self.assertIs(client.identity.x509dname, None)

    def test_nor_where_nobody_asks(self) -> None:
        self.context = serverContext(verify=False)
        self.connect()
        (client,) = self.server.clients.values()
        self.assertIs(client.identity.x509dname, None)


class Limits(_Case):
    """Strangers take the places of strangers."""

    limits = {"maxClients": 4, "maxAnonymousClients": 2}

    def test_a_handshake_takes_the_place_of_one_who_has_not_authenticated(self) -> None:
        self.connect(Protocol())
        self.assertEqual(self.server.anonymousClients, 1)
        self.assertTrue(self.server.accepting)
        self.connect(Protocol())
        self.assertEqual(self.server.anonymousClients, 2)
        self.assertFalse(self.server.accepting)
        third = self.connect()
        self.assertEqual((self.server.heldClients, third.take()), (1, []))

    def test_who_is_through_makes_room(self) -> None:
        for _ in range(3):
            self.connect()
        self.assertEqual((self.server.anonymousClients, len(self.server.clients)), (0, 3))
        self.assertTrue(self.server.accepting)

    def test_who_never_is_goes_after_a_while_and_the_next_has_all_the_time(self) -> None:
        slow = [self.connect(Protocol()) for _ in range(2)]
        waiting = self.connect()
        self.clock.advance(TLS_HANDSHAKE_SECONDS)
        settle(self.clock)
        self.assertEqual(len(self.server.clients), 1)
        self.assertEqual(waiting.take(), [b"\1"])
        self.assertEqual(self.server.anonymousClients, 0)
        del slow

    def test_who_is_refused_leaves_nothing(self) -> None:
        for _ in range(5):
            self.connect(RecordPeer.client(clientOf(end=-HOUR)))
            self.connect(Protocol()).transport.write(b"no TLS at all")
            settle(self.clock)
        self.assertEqual((self.server.clients, self.server.anonymousClients), ({}, 0))
        self.assertTrue(self.server.accepting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_engine_is_made_for_who_says_nothing(self) -> None:
        made: list[Engine] = []
        engine = self.context.engine

        def make() -> Engine:
            made.append(engine())
            return made[-1]

        self.patch(self.context, "engine", make)
        self.connect(Protocol())
        self.assertEqual(len(made), 0)
        self.connect()
        self.assertEqual(len(made), 1)


class Stopping(_Case):
    """A server that stops."""

    def test_handshakes_do_not_hold_it_up(self) -> None:
        self.connect(Protocol())
        peer = self.connect()
        stopped = self.server.stopService()
        settle(self.clock)
        self.successResultOf(stopped)
        self.assertTrue(peer.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Services(SynchronousTestCase):
    """A service with TLS."""

    def test_its_endpoint_is_wrapped(self) -> None:
        class Endpoint:
            def listen(self, factory: Any) -> Any:
                raise NotImplementedError

        context = serverContext()
        server = NetServer(Clock(), [served(ECHO, Echo())])
        service = ServerService(server, Endpoint(), tls=context)  # type: ignore[arg-type]
        assert isinstance(service.endpoint, TLSServerEndpoint)
        self.assertIs(service.endpoint.context, context)
