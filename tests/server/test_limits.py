"""How many clients a server takes: who waits where, who is let in when, and that nobody is counted twice."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IPushProducer,
    IStreamServerEndpoint,
)
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.authenticating import KnockAuthentication
from tests.echo import ECHO, Echo
from tests.peers import OK, ServerSession, callNamed, message, served
from tests.server.sockets import Peer, SocketTestCase
from virnet.errors import ConnectionLost
from virnet.limits import MAX_WORKERS, MIN_WORKERS, PRIO_WORKERS
from virnet.server import NetServer, ServerService
from virnet.server import server as serverModule
from virnet.testing import MemoryAddress

ANSWERED = [OK]
NOT_READ: list[int] = []

TOO_MANY_ANONYMOUS = (
    "The overall maximum number of clients must not be less than the number of clients waiting for"
    " authentication"
)


def server(**limits: Any) -> NetServer:
    """A server on a clock."""
    return NetServer(Clock(), [served(ECHO, Echo())], **limits)


class _Case(SynchronousTestCase):
    limits: dict[str, int]

    def setUp(self) -> None:
        self.server = server(**self.limits)

    def connect(self, count: int = 1, auth: bool = False) -> list[ServerSession]:
        """Some more clients."""
        wanted = KnockAuthentication() if auth else None
        return [ServerSession(server=self.server, auth=wanted) for _ in range(count)]

    def call(self, session: ServerSession) -> list[int]:
        """Have a client make a call; return the status of each reply."""
        return [each.status for each in session.send(callNamed(ECHO, "ping", 1))]

    def assertServed(self, *sessions: ServerSession) -> None:
        """These are the clients, and each is answered."""
        self.assertEqual(list(self.server.clients.values()), [each.client for each in sessions])
        for session in sessions:
            self.assertEqual(self.call(session), ANSWERED)


class MaxClients(_Case):
    """At the limit nobody is refused: who is too much waits."""

    limits = {"maxClients": 2, "maxAnonymousClients": 0}

    def test_R152_who_is_too_much_is_let_in_when_one_leaves_and_nothing_else_happens(self) -> None:
        first, second, third = self.connect(3)
        self.assertServed(first, second)
        self.assertEqual(self.call(third), NOT_READ)
        self.assertFalse(third.closed)
        first.lose()
        self.assertEqual([each.status for each in third.flush()], ANSWERED)
        self.assertServed(second, third)

    def test_R152_services_stop_accepting_with_the_last_one_that_fits_and_resume(self) -> None:
        (first,) = self.connect()
        self.assertTrue(self.server.accepting)
        self.connect()
        self.assertFalse(self.server.accepting)
        first.lose()
        self.assertTrue(self.server.accepting)

    def test_who_waits_longest_is_let_in_first(self) -> None:
        first, second, third, fourth = self.connect(4)
        self.assertEqual(self.server.heldClients, 2)
        first.lose()
        self.assertServed(second, third)
        second.transport.abortConnection()
        self.server.reactor.advance(0)
        self.assertServed(third, fourth)
        self.assertEqual(self.server.heldClients, 0)

    def test_nobody_passes_those_who_wait(self) -> None:
        first, _, third = self.connect(3)
        first.transport.loseConnection()
        (fourth,) = self.connect()
        self.server.reactor.advance(0)
        self.assertIn(third.client.id, self.server.clients)
        self.assertEqual(self.call(fourth), NOT_READ)

    def test_who_gave_up_waiting_takes_no_place(self) -> None:
        first, second, third, fourth = self.connect(4)
        third.lose()
        first.lose()
        self.assertServed(second, fourth)

    def test_one_who_broke_the_protocol_leaves_too(self) -> None:
        first, second, third = self.connect(3)
        first.send(bytes(4))
        self.assertServed(second, third)

    def test_what_a_client_said_while_it_waited_is_judged_only_then(self) -> None:
        first, _, third = self.connect(3)
        third.send(callNamed(ECHO, "ping", 1), bytes(4))
        self.assertFalse(third.closed)
        first.lose()
        self.assertTrue(third.closed)

    def test_it_is_connected_from_the_moment_it_is_let_in(self) -> None:
        first, second, third = self.connect(3)
        self.server.reactor.advance(100)
        first.lose()
        self.assertEqual([second.client.connectedAt, third.client.connectedAt], [0, 100])

    def test_ids_are_never_used_again(self) -> None:
        first, _ = self.connect(2)
        first.lose()
        self.connect(2)
        self.assertEqual(list(self.server.clients), [2, 3])

    def test_a_race_beyond_all_measure_drops_connections(self) -> None:
        self.patch(serverModule, "HELD_CLIENTS_MAX", 3)
        self.connect(5)
        with capturedLogs() as captured:
            (sixth,) = self.connect()
        self.assertEqual(
            [formatEvent(each) for each in captured],
            ["Too many active clients (2), dropping connection from client"],
        )
        self.server.reactor.advance(0)
        self.assertTrue(sixth.closed)
        self.assertEqual((len(self.server.clients), self.server.heldClients), (2, 3))

    def test_stopping_ends_those_who_wait_as_well(self) -> None:
        sessions = self.connect(4)
        stopped = self.server.stopService()
        self.server.reactor.advance(0)
        self.successResultOf(stopped)
        self.assertEqual([each.closed for each in sessions], [True] * 4)


class ChangedLimits(_Case):
    """Limits are changed while the server runs."""

    limits = {"maxClients": 2, "maxAnonymousClients": 1}

    def test_a_higher_one_lets_in_who_waits(self) -> None:
        sessions = self.connect(5)
        self.server.setClientLimits(maxClients=4)
        self.assertServed(*sessions[:4])
        self.assertFalse(self.server.accepting)
        self.server.setClientLimits(maxClients=6)
        self.assertServed(*sessions)
        self.assertTrue(self.server.accepting)

    def test_with_a_lower_one_all_who_are_there_stay(self) -> None:
        first, second = self.connect(2)
        self.server.setClientLimits(maxClients=1)
        self.assertServed(first, second)
        (third,) = self.connect()
        first.lose()
        self.assertEqual(self.call(third), NOT_READ)
        second.lose()
        self.assertEqual(len(third.flush()), 1)
        self.assertServed(third)

    def test_with_none_allowed_nobody_is_let_in(self) -> None:
        self.server.setClientLimits(0, 0)
        (session,) = self.connect()
        self.assertEqual(self.call(session), NOT_READ)

    def test_what_is_not_given_stays(self) -> None:
        self.server.setClientLimits(maxAnonymousClients=2)
        self.server.setClientLimits(maxClients=7)
        self.server.setClientLimits()
        self.assertEqual((self.server.maxClients, self.server.maxAnonymousClients), (7, 2))

    def test_limits_that_make_no_sense_change_nothing(self) -> None:
        for limits, text in (
            ((None, 3), TOO_MANY_ANONYMOUS),
            ((0, None), TOO_MANY_ANONYMOUS),
            ((-1, 0), "limits of clients must not be negative"),
            ((None, -1), "limits of clients must not be negative"),
        ):
            error = self.assertRaises(ValueError, self.server.setClientLimits, *limits)
            self.assertEqual(str(error), text)
        self.assertEqual((self.server.maxClients, self.server.maxAnonymousClients), (2, 1))

    def test_a_server_with_such_limits_is_refused(self) -> None:
        error = self.assertRaises(ValueError, server, maxClients=19)
        self.assertEqual(str(error), TOO_MANY_ANONYMOUS)
        for name in ("maxClients", "maxAnonymousClients", "maxQueuedClients"):
            self.assertRaises(ValueError, server, **{name: -1})

    def test_those_of_libvirt_hold_when_nothing_is_said(self) -> None:
        found = server()
        self.assertEqual((found.maxClients, found.maxQueuedClients), (5000, 1000))
        self.assertEqual((found.maxAnonymousClients, found.maxClientRequests), (20, 5))

    def test_all_who_come_may_be_let_wait(self) -> None:
        self.server.setAccepting(False)
        (session,) = self.connect()
        self.assertEqual(self.call(session), NOT_READ)
        self.assertFalse(self.server.accepting)
        self.server.setAccepting(True)
        self.assertEqual(len(session.flush()), 1)
        self.assertServed(session)
        self.assertTrue(self.server.accepting)


class MaxAnonymousClients(_Case):
    """Those who have to authenticate and have not yet."""

    limits = {"maxClients": 10, "maxAnonymousClients": 3}

    def assertCounted(self, clients: int, anonymous: int, held: int = 0) -> None:
        """How many there are of each kind."""
        there = self.server
        counted = (len(there.clients), there.anonymousClients, there.heldClients)
        self.assertEqual(counted, (clients, anonymous, held))

    def test_R131_the_fourth_is_let_in_when_one_authenticates(self) -> None:
        *sessions, fourth = self.connect(4, auth=True)
        self.assertCounted(3, 3, 1)
        sessions[1].client.setAuthenticated()
        self.assertCounted(4, 3)
        self.assertIn(fourth.client.id, self.server.clients)

    def test_R131_or_leaves(self) -> None:
        *sessions, fourth = self.connect(4, auth=True)
        sessions[1].lose()
        self.assertCounted(3, 3)
        self.assertIn(fourth.client.id, self.server.clients)

    def test_R131_the_counter_never_leaks(self) -> None:
        for _ in range(50):
            authenticated, twice, left, held = self.connect(4, auth=True)
            authenticated.client.setAuthenticated()
            twice.client.setAuthenticated()
            twice.client.setAuthenticated()
            self.assertCounted(4, 2)
            for each in (authenticated, twice, left, held):
                each.lose()
            # Too late.
            left.client.setAuthenticated()
            self.assertCounted(0, 0)
        self.assertTrue(self.server.accepting)

    def test_R131_one_who_leaves_without_having_been_let_in_was_never_counted(self) -> None:
        sessions = self.connect(5, auth=True)
        for each in reversed(sessions):
            each.lose()
        self.assertCounted(0, 0)

    def test_services_without_authentication_stop_accepting_too(self) -> None:
        first, _, _ = self.connect(3, auth=True)
        self.assertFalse(self.server.accepting)
        (open_,) = self.connect()
        self.assertEqual(self.call(open_), NOT_READ)
        first.client.setAuthenticated()
        self.assertEqual([each.status for each in open_.flush()], ANSWERED)
        self.assertTrue(self.server.accepting)

    def test_clients_that_need_not_authenticate_are_not_counted(self) -> None:
        self.connect(9)
        self.assertCounted(9, 0)
        self.assertTrue(self.server.accepting)

    def test_zero_is_no_limit(self) -> None:
        self.server.setClientLimits(maxAnonymousClients=0)
        self.connect(10, auth=True)
        self.assertCounted(10, 10)

    def test_until_then_calls_are_refused(self) -> None:
        (session,) = self.connect(auth=True)
        (reply,) = session.send(callNamed(ECHO, "ping", 1))
        self.assertEqual(reply.error[:3], (39, 7, "authentication required"))
        session.client.setAuthenticated()
        self.assertEqual(self.call(session), ANSWERED)

    def test_one_that_is_refused_everything_gets_no_further_than_its_place(self) -> None:
        sessions = self.connect(4, auth=True)
        for session in sessions[:3]:
            session.send(callNamed(ECHO, "ping", 1) * 20, message(ECHO.number, 1, 99, 0, 1, OK))
        self.assertCounted(3, 3, 1)


@implementer(IListeningPort)
class Port:
    """A port that cannot be told anything."""

    def getHost(self) -> MemoryAddress:
        return MemoryAddress("port")

    def startListening(self) -> None:
        """Does."""

    def stopListening(self) -> Deferred[None]:
        return succeed(None)


@implementer(IPushProducer)
class PausablePort(Port):
    """A port that can be told to wait.

    @ivar told: what it was told.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        raise AssertionError("nobody calls this")


@implementer(IStreamServerEndpoint)
class Endpoint:
    """Listens with a port of the test's."""

    def __init__(self, port: Port) -> None:
        self.port = port

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return succeed(self.port)


class Services(SynchronousTestCase):
    """The services of a server stop and resume together."""

    def setUp(self) -> None:
        self.server = server(maxClients=1, maxAnonymousClients=0)
        self.ports = [PausablePort(), PausablePort()]
        for port in self.ports:
            self.listen(port)

    def listen(self, port: Port) -> ServerService:
        """A service that listens."""
        service = ServerService(self.server, Endpoint(port))
        self.successResultOf(service.whenListening())
        return service

    def test_all_are_told_when_it_changes_and_only_then(self) -> None:
        for _ in range(2):
            sessions = [ServerSession(server=self.server) for _ in range(3)]
            for session in sessions:
                session.lose()
        self.assertEqual([port.told for port in self.ports], [["pause", "resume"] * 2] * 2)

    def test_one_that_starts_to_listen_at_the_limit_does_not_accept(self) -> None:
        session = ServerSession(server=self.server)
        late = PausablePort()
        self.listen(late)
        session.lose()
        self.assertEqual(late.told, ["pause", "resume"])

    def test_one_that_cannot_be_told_is_left_alone_and_its_clients_are_held(self) -> None:
        self.listen(Port())
        sessions = [ServerSession(server=self.server) for _ in range(3)]
        self.assertEqual(sessions[1].send(callNamed(ECHO, "ping", 1)), [])

    def test_one_that_has_stopped_is_not_told(self) -> None:
        port = PausablePort()
        self.listen(port).stopService()
        ServerSession(server=self.server)
        self.assertEqual(port.told, [])


class OverSockets(SocketTestCase):
    """The same with the kernel's sockets."""

    def start(self, **limits: Any) -> ServerService:
        """A server with a service on a UNIX socket, and one that wants authentication on TCP."""
        self.server = NetServer(reactor, [served(ECHO, Echo())], **limits)
        service = ServerService(self.server, f"unix:{self.path}:lockfile=0")
        self.tcp = ServerService(self.server, "tcp:0:interface=127.0.0.1", auth=KnockAuthentication())
        self.server.startService()
        self.addCleanup(self.server.stopService)
        self.addCleanup(self.disconnect)
        return service

    def address(self) -> IPv4Address:
        """Where the other one listens."""
        assert self.tcp.port is not None
        address = self.tcp.port.getHost()
        assert isinstance(address, IPv4Address)
        return address

    def connectTCP(self) -> Deferred[Peer]:
        """Connect to the other one."""
        peer = Peer()
        self.peers.append(peer)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.address().port)
        connected: Deferred[Peer] = connectProtocol(endpoint, peer)
        return connected

    def ping(self, peer: Peer) -> Deferred[Any]:
        """Have a peer make a call; fires with the reply."""
        assert peer.transport is not None
        peer.transport.write(callNamed(ECHO, "ping", 1))
        return peer.messages(1)

    @inlineCallbacks
    def test_R152_twenty_at_once_with_room_for_one_are_served_one_after_the_other(self) -> Any:
        self.start(maxClients=1, maxAnonymousClients=0)
        waiting: dict[Peer, Deferred[Any]] = {}
        for _ in range(20):
            peer = yield self.connect()
            waiting[peer] = self.ping(peer)
        for number, (peer, answered) in enumerate(waiting.items(), 1):
            yield answered
            self.assertEqual(list(self.server.clients), [number])
            self.assertEqual(sum(each.called for each in waiting.values()), number)
            assert peer.transport is not None
            peer.transport.loseConnection()

    @inlineCallbacks
    def test_R131_anonymous_clients_on_one_socket_hold_up_the_other(self) -> Any:
        self.start(maxAnonymousClients=2)
        for _ in range(2):
            peer = yield self.connectTCP()
            yield self.ping(peer)
        self.assertEqual(self.server.anonymousClients, 2)
        other = yield self.connect()
        answered = self.ping(other)
        late = yield self.connectTCP()
        lateAnswered = self.ping(late)
        self.assertFalse(self.server.accepting)
        self.server.clients[1].setAuthenticated()
        yield answered
        yield lateAnswered
        self.assertEqual((len(self.server.clients), self.server.anonymousClients), (4, 2))

    @inlineCallbacks
    def test_at_the_limit_nothing_is_accepted(self) -> Any:
        self.start(maxClients=1, maxAnonymousClients=0)
        first = yield self.connect()
        yield self.ping(first)
        for _ in range(5):
            self.ping((yield self.connect()))
        # A round trip of the reactor in which it would have accepted them.
        yield self.ping(first)
        self.assertEqual(self.server.heldClients, 0)

    @inlineCallbacks
    def test_a_client_and_the_server_are_known_by_their_transport(self) -> Any:
        self.start()
        for peer in ((yield self.connect()), (yield self.connectTCP())):
            yield self.ping(peer)
        clients = self.server.clients.values()
        self.assertEqual([each.transportKind for each in clients], ["unix", "tcp"])
        self.assertEqual([each.authenticated for each in clients], [True, False])

    @inlineCallbacks
    def test_what_libvirts_admin_interface_shows_of_a_server_and_its_clients_can_be_read(self) -> Any:
        self.start(maxClients=7, maxAnonymousClients=3)
        for peer in ((yield self.connect()), (yield self.connectTCP())):
            yield self.ping(peer)
        there = self.server
        self.assertEqual(
            (there.maxClients, len(there.clients), there.maxAnonymousClients, there.anonymousClients),
            (7, 2, 3, 1),
        )
        self.assertEqual(
            there.workers.statistics()._asdict(),
            {
                "minWorkers": MIN_WORKERS,
                "maxWorkers": MAX_WORKERS,
                "nWorkers": MIN_WORKERS,
                "freeWorkers": MIN_WORKERS,
                "prioWorkers": PRIO_WORKERS,
                "jobQueueDepth": 0,
            },
        )
        unix, tcp = there.clients.values()
        self.assertEqual([each.id for each in (unix, tcp)], [1, 2])
        for each in (unix, tcp):
            self.assertTrue(abs(time.time() - each.connectedAt) < 60, each.connectedAt)
            self.assertFalse(each.readonly)
            self.assertEqual((each.identity.saslUser, each.identity.x509dname), (None, None))
        user = unix.identity
        self.assertEqual((user.pid, user.uid, user.gid), (os.getpid(), os.getuid(), os.getgid()))
        self.assertEqual((user.userName, user.address), (pwd.getpwuid(os.getuid()).pw_name, None))
        self.assertRegex(str(tcp.identity.address), r"^127\.0\.0\.1:\d+$")
        self.assertEqual((tcp.identity.uid, tcp.identity.pid), (None, None))

    @inlineCallbacks
    def test_a_client_can_be_closed_at_once_also_while_it_is_served_and_does_not_read(self) -> Any:
        self.start()
        peer = yield self.connect()
        yield self.ping(peer)
        (client,) = self.server.clients.values()
        peer.transport.pauseProducing()
        client.send(callNamed(ECHO, "blob", 1, bytes(10_000_000)))
        client.abort(ConnectionLost("an administrator says so"))
        self.assertEqual(self.server.clients, {})
        peer.transport.resumeProducing()
        yield peer.end()
        self.assertTrue(len(peer.bytes()) < 9_000_000)

    def queued(self, path: str) -> int:
        """Connect until the kernel takes no more."""
        for count in range(100):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.setblocking(False)
            if client.connect_ex(path) == errno.EAGAIN:
                return count
        raise AssertionError("there is no limit")

    def test_R151_each_service_tells_the_port_that_was_bound(self) -> None:
        unix = self.start()
        assert unix.port is not None
        self.assertEqual(unix.port.getHost(), UNIXAddress(os.fsencode(self.path)))
        self.assertGreater(self.address().port, 0)

    def test_so_many_connections_wait_as_is_said_and_one_more(self) -> None:
        # That Linux has room for one more was observed with libvirtd as well.
        self.start(maxQueuedClients=4)
        self.assertEqual(self.queued(self.path), 5)

    def test_zero_stands_for_thirty(self) -> None:
        self.start(maxQueuedClients=0)
        self.assertEqual(self.queued(self.path), 31)

    def test_a_service_may_have_a_backlog_of_its_own(self) -> None:
        self.start()
        own = ServerService(self.server, f"unix:{self.path}2:lockfile=0", backlog=2)
        self.addCleanup(own.stopService)
        self.successResultOf(own.whenListening())
        self.assertEqual(self.queued(f"{self.path}2"), 3)
