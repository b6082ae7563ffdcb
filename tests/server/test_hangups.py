"""Clients that go away while nothing is read from them."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import callNamed, served
from tests.server.sockets import SocketTestCase
from virnet.errors import ConnectionLost, VirnetError
from virnet.limits import HANG_UP_INTERVAL
from virnet.server import hangups
from virnet.server.hangups import HangUps


class Client:
    """As much of a client as is looked at."""

    readingPaused = True
    readingHeld = True
    ending = False

    def __init__(self, sock: socket.socket | None) -> None:
        self._socket = sock
        self.transport = self if sock is not None else None
        self.errors: list[VirnetError] = []

    def getHandle(self) -> Any:
        """The socket."""
        return self._socket

    def abort(self, error: VirnetError) -> None:
        """It is given up."""
        self.ending = True
        self.errors.append(error)


class Looking(SynchronousTestCase):
    """Who is looked after, and how long."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.hangUps = HangUps(self.clock)
        self.peer, ours = socket.socketpair()
        self.addCleanup(self.peer.close)
        self.addCleanup(ours.close)
        self.client: Any = Client(ours)

    def test_who_is_there_is_left_alone(self) -> None:
        self.hangUps.watch(self.client)
        self.peer.send(b"more calls")
        self.clock.pump([HANG_UP_INTERVAL] * 3)
        self.assertEqual(self.client.errors, [])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_who_has_hung_up_is_given_up_whatever_was_not_read(self) -> None:
        for parting in (b"", b"more calls"):
            self.setUp()
            self.hangUps.watch(self.client)
            self.peer.send(parting)
            self.peer.close()
            self.clock.advance(HANG_UP_INTERVAL)
            self.assertIsInstance(self.client.errors[0], ConnectionLost)
            self.clock.advance(HANG_UP_INTERVAL)
            self.assertEqual(len(self.client.errors), 1)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_is_read_again_tells_it_itself(self) -> None:
        self.hangUps.watch(self.client)
        self.client.readingPaused = self.client.readingHeld = False
        self.peer.close()
        self.clock.advance(HANG_UP_INTERVAL)
        self.assertEqual(self.client.errors, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_does_not_read_its_answers_is_left_to_the_writing_but_not_forgotten(self) -> None:
        self.hangUps.watch(self.client)
        self.client.readingHeld = False
        self.peer.close()
        self.clock.advance(HANG_UP_INTERVAL)
        self.assertEqual(self.client.errors, [])
        # It has read all of them; but its slots are held now.
        self.client.readingHeld = True
        self.clock.advance(HANG_UP_INTERVAL)
        self.assertIsInstance(self.client.errors[0], ConnectionLost)

    def test_there_is_one_timer_for_all_and_none_when_they_are_gone(self) -> None:
        other: Any = Client(None)
        for client in (self.client, other, self.client):
            self.hangUps.watch(client)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(HANG_UP_INTERVAL)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.hangUps.stop()
        self.hangUps.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class NeverAnswered(SocketTestCase):
    """All slots of a client are held by methods that never end."""

    @inlineCallbacks
    def test_that_it_is_gone_is_noticed(self) -> Any:
        self.patch(hangups, "HANG_UP_INTERVAL", 0.01)

        class Never(Echo):
            def echo(self, text: str) -> Any:
                return Deferred()

        server = self.serve(served(ECHO, Never()))
        peer = yield self.connect()
        peer.transport.write(callNamed(ECHO, "ping", 0))
        yield peer.messages(1)
        (client,) = server.clients.values()
        gone: Deferred[None] = Deferred()
        client.onDisconnect(lambda: gone.callback(None))
        for serial in range(1, 9):
            peer.transport.write(callNamed(ECHO, "echo", serial, "x"))
        peer.transport.loseConnection()
        yield gone
        yield deferLater(reactor, 0)
        self.assertEqual(server.clients, {})
