"""Listening, starting and stopping: with real sockets, each in a directory or on a port of its own."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import OK, ServerSession, callNamed, served
from tests.server.sockets import SocketTestCase
from virnet.limits import STOP_GRACE
from virnet.server import NetServer, ServerService


class Listening(SocketTestCase):
    """A service that can listen, and one that cannot."""

    def test_an_endpoint_that_cannot_listen_fails_at_the_start_in_one_line(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = NetServer(reactor, [served(ECHO, Echo())])
            ServerService(server, f"tcp:{port}:interface=127.0.0.1")
            error = self.assertRaises(CannotListenError, server.startService)
            self.addCleanup(server.stopService)
        text = str(error)
        self.assertIn(str(port), text)
        self.assertIn("Address already in use", text)
        self.assertEqual(len(text.splitlines()), 1)

    def test_a_path_too_long_for_a_unix_socket(self) -> None:
        path = f"{self.directory}/{'x' * 108}"
        server = NetServer(reactor, [served(ECHO, Echo())])
        ServerService(server, f"unix:{path}:lockfile=0")
        error = self.assertRaises(CannotListenError, server.startService)
        self.addCleanup(server.stopService)
        text = str(error)
        self.assertIn(path, text)
        self.assertIn("too long", text)
        self.assertEqual(len(text.splitlines()), 1)

    @inlineCallbacks
    def test_R144_when_one_service_cannot_listen_the_others_leave_nothing_behind(self) -> Any:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = NetServer(reactor, [served(ECHO, Echo())])
            ServerService(server, f"unix:{self.path}:lockfile=0")
            ServerService(server, f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1")
            self.assertRaises(CannotListenError, server.startService)
            yield server.stopService()
        self.assertFalse(os.path.exists(self.path))

    @inlineCallbacks
    def test_R151_the_bound_port_can_be_asked(self) -> Any:
        server = NetServer(reactor, [served(ECHO, Echo())])
        service = ServerService(server, "tcp:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        port = yield service.whenListening()
        self.assertGreater(port.getHost().port, 0)
        self.assertIs(service.port, port)

    @inlineCallbacks
    def test_several_services_of_one_server(self) -> Any:
        server = self.serve(served(ECHO, Echo()))
        second = ServerService(server, f"unix:{self.path}2:lockfile=0", readonly=True)
        yield second.whenListening()
        first = yield self.connect()
        self.path += "2"
        other = yield self.connect()
        for peer in (first, other):
            peer.transport.write(callNamed(ECHO, "ping", 1))
            (reply,) = yield peer.messages(1)
            self.assertEqual(reply.status, OK)
        self.assertEqual([each.readonly for each in server.clients.values()], [False, True])


class Stopping(SocketTestCase):
    """The end of a server."""

    @inlineCallbacks
    def test_the_sockets_file_is_gone(self) -> Any:
        server = self.serve(served(ECHO, Echo()))
        self.assertTrue(os.path.exists(self.path))
        yield server.stopService()
        self.assertFalse(os.path.exists(self.path))

    @inlineCallbacks
    def test_R145_it_is_gone_although_clients_are_connected_and_they_are_closed(self) -> Any:
        waiting: Deferred[str] = Deferred()

        class Slow(Echo):
            def echo(self, text: str) -> Any:
                return waiting

        server = self.serve(served(ECHO, Slow()))
        idle = yield self.connect()
        busy = yield self.connect()
        busy.transport.write(callNamed(ECHO, "echo", 1, "x") + callNamed(ECHO, "ping", 2))
        (reply,) = yield busy.messages(1)
        self.assertEqual(reply.serial, 2)
        yield server.stopService()
        self.assertFalse(os.path.exists(self.path))
        self.assertEqual(server.clients, {})
        yield idle.end()
        yield busy.end()
        waiting.callback("nobody hears it")
        self.assertEqual(self.flushLoggedErrors(), [])

    @inlineCallbacks
    def test_it_may_be_started_again(self) -> Any:
        server = self.serve(served(ECHO, Echo()))
        yield server.stopService()
        server.startService()
        peer = yield self.connect()
        peer.transport.write(callNamed(ECHO, "ping", 1))
        (reply,) = yield peer.messages(1)
        self.assertEqual(reply.status, OK)


class StoppingInMemory(SynchronousTestCase):
    """What does not need a socket."""

    def server(self) -> NetServer:
        """A server on a clock. It was not started, so that it has no threads."""
        return NetServer(Clock(), [served(ECHO, Echo())])

    def test_without_clients_it_is_stopped_at_once(self) -> None:
        self.successResultOf(self.server().stopService())

    def test_a_reply_under_way_is_delivered(self) -> None:
        server = self.server()
        session = ServerSession(server=server)
        session.transport.write(callNamed(ECHO, "echo", 1, "x" * 100_000))
        server.reactor.advance(0)
        stopped = server.stopService()
        (reply,) = session.flush()
        self.assertEqual(reply.status, OK)
        self.successResultOf(stopped)

    def test_a_client_that_never_reads_is_cut_off_after_its_grace(self) -> None:
        server = self.server()
        session = ServerSession(server=server, window=1000)
        session.transport.pauseProducing()
        session.send(callNamed(ECHO, "echo", 1, "x" * 100_000))
        stopped = server.stopService()
        server.reactor.advance(STOP_GRACE - 0.1)
        self.assertNoResult(stopped)
        server.reactor.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual(server.clients, {})
        self.assertEqual(server.reactor.getDelayedCalls(), [])
