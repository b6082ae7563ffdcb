"""Connections that come when the process has no descriptors left."""

from __future__ import annotations

import errno
import os
import resource
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import callNamed, served
from tests.server.sockets import SocketTestCase
from virnet.limits import ACCEPT_PAUSE
from virnet.server import NetServer, ServerService, accepting
from virnet.server.accepting import AcceptPause


class Port:
    """A listening port that counts.

    @ivar descriptor: what C{fileno} gives; one that is not open is as good as none left.
    """

    numberAccepts = 100

    def __init__(self) -> None:
        self.descriptor = 0
        self.accepted: list[int] = []
        self.paused = False

    def fileno(self) -> int:
        """Its descriptor."""
        return self.descriptor

    def doRead(self) -> str:
        """Accept."""
        self.accepted.append(self.numberAccepts)
        return "what it returns"

    def pauseProducing(self) -> None:
        """Accept nobody."""
        self.paused = True


class Pausing(SynchronousTestCase):
    """When a port accepts."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = Port()
        self.resumed: list[float] = []
        self.pause = AcceptPause(self.port, self.clock, lambda: self.resumed.append(self.clock.seconds()))

    def test_one_at_a_time(self) -> None:
        self.assertEqual(self.port.doRead(), "what it returns")
        self.assertEqual(self.port.accepted, [1])
        self.assertTrue(self.pause.over)

    def test_nobody_for_some_time_when_there_is_no_descriptor(self) -> None:
        self.port.descriptor = 1 << 20
        self.assertIsNone(self.port.doRead())
        self.assertEqual((self.port.accepted, self.port.paused, self.pause.over), ([], True, False))
        self.clock.advance(ACCEPT_PAUSE)
        self.assertEqual((self.resumed, self.pause.over), ([ACCEPT_PAUSE], True))

    def test_nothing_is_left_when_the_service_stops(self) -> None:
        self.port.descriptor = 1 << 20
        self.port.doRead()
        self.pause.stop()
        self.pause.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class WithoutDescriptors(SocketTestCase):
    """A real one."""

    @inlineCallbacks
    def test_who_comes_waits_and_is_served(self) -> Any:
        self.patch(accepting, "ACCEPT_PAUSE", 0.01)
        self.serve(served(ECHO, Echo()))
        peer = socket.socket(socket.AF_UNIX)
        self.addCleanup(peer.close)
        call = callNamed(ECHO, "ping", 1)
        # A reactor that starts wants some for itself.
        yield deferLater(reactor, 0)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        try:
            peer.connect(self.path)
            peer.sendall(call)
            peer.setblocking(False)
            for _ in range(10):
                yield deferLater(reactor, 0.002)
            # Neither served nor closed.
            self.assertRaises(BlockingIOError, peer.recv, 1)
            self.assertEqual(self.server.clients, {})
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        reply = b""
        while not reply:
            yield deferLater(reactor, 0.01)
            try:
                reply = peer.recv(100)
            except BlockingIOError:
                pass
        self.assertEqual(len(reply), 28)

    @inlineCallbacks
    def test_limits_that_change_meanwhile_do_not_end_the_pause(self) -> Any:
        server = NetServer(reactor, [served(ECHO, Echo())])
        service = ServerService(server, f"unix:{self.path}:lockfile=0")
        server.startService()
        self.addCleanup(server.stopService)
        port = yield service.whenListening()

        def refuse(fd: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        self.patch(os, "dup", refuse)
        port.doRead()
        service.setAccepting(False)
        service.setAccepting(True)
        self.assertNotIn(port, reactor.getReaders())

    @inlineCallbacks
    def test_a_pause_that_ends_while_there_are_too_many_clients_lets_nobody_in(self) -> Any:
        self.patch(accepting, "ACCEPT_PAUSE", 0.001)
        server = NetServer(reactor, [served(ECHO, Echo())])
        service = ServerService(server, f"unix:{self.path}:lockfile=0")
        server.startService()
        self.addCleanup(server.stopService)
        port = yield service.whenListening()

        def refuse(fd: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        self.patch(os, "dup", refuse)
        port.doRead()
        server.setAccepting(False)
        yield deferLater(reactor, 0.01)
        self.assertNotIn(port, reactor.getReaders())
        server.setAccepting(True)
        self.assertIn(port, reactor.getReaders())
