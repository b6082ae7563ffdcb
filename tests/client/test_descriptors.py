"""Descriptors with calls, from our client to our server over a UNIX socket."""

from __future__ import annotations

import os
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, FILES, Echo, Files
from tests.openfiles import openAtRest, openDescriptors
from tests.peers import ClientSession, served
from tests.server.sockets import SocketTestCase
from tests.streaming import PROGRAM
from virnet.client import NetClient
from virnet.errors import LocalProtocolError
from virnet.probes import Probe, subscribe


class Sending(SocketTestCase):
    """They stay the caller's."""

    def file(self, size: int) -> int:
        """A descriptor of a file of that size."""
        fd = os.memfd_create("test")
        self.addCleanup(os.close, fd)
        os.truncate(fd, size)
        return fd

    @inlineCallbacks
    def connected(self) -> Any:
        """A client of a server that takes files."""
        self.serve(served(FILES, Files()), served(ECHO, Echo()))
        client = yield NetClient.overEndpoint(UNIXClientEndpoint(reactor, self.path))
        self.addCleanup(client.close)
        return client

    @inlineCallbacks
    def test_they_arrive_with_their_call(self) -> Any:
        client = yield self.connected()
        results: list[Deferred[int]] = [
            client.call(FILES.byName["sizes"], (count,), [self.file(size) for size in range(count)])
            for count in (0, 1, 2, 32)
        ]
        for result, total in zip(results, (0, 0, 1, 496), strict=True):
            got = yield result
            self.assertEqual(got, total)

    @inlineCallbacks
    def test_R161_probes_tell_of_each_at_both_ends(self) -> Any:
        client = yield self.connected()
        fired: list[tuple[str, object, int]] = []

        def heard(probe: Probe, values: tuple[Any, ...]) -> None:
            transport, fd = values
            fired.append((probe.name, transport, os.fstat(fd).st_size))

        self.addCleanup(subscribe("rpc_socket_*_fd", heard))
        yield client.call(FILES.byName["sizes"], (2,), [self.file(1), self.file(2)])
        (server,) = self.server.clients.values()
        ours, theirs = client.transport, server.transport
        self.assertEqual(
            fired,
            [
                ("rpc_socket_send_fd", ours, 1),
                ("rpc_socket_send_fd", ours, 2),
                ("rpc_socket_recv_fd", theirs, 1),
                ("rpc_socket_recv_fd", theirs, 2),
            ],
        )

    @inlineCallbacks
    def test_R161_sockets_have_a_descriptor_a_process_and_addresses(self) -> Any:
        fired: list[tuple[Any, ...]] = []
        self.addCleanup(subscribe("rpc_socket_new", lambda probe, values: fired.append(values)))
        client = yield self.connected()
        yield client.program(ECHO).echo("both are there")
        (server,) = self.server.clients.values()
        ours, theirs = client.transport, cast(Any, server.transport)
        self.assertCountEqual(
            fired,
            [
                (theirs, theirs.fileno(), -1, os.getpid(), self.path, ""),
                (ours, ours.fileno(), -1, os.getpid(), "", self.path),
            ],
        )

    @inlineCallbacks
    def test_one_that_is_not_open_is_the_callers_mistake_and_nothing_is_sent(self) -> Any:
        client = yield self.connected()
        good = self.file(5)
        before = len(openAtRest())
        self.assertRaises(OSError, client.call, FILES.byName["sizes"], (2,), [good, -1])
        self.assertEqual(len(client.connection.calls), 0)
        self.assertEqual(len(openDescriptors()), before)
        got = yield client.call(FILES.byName["sizes"], (1,), [good])
        self.assertEqual(got, 5)

    @inlineCallbacks
    def test_too_many_are_the_callers_mistake(self) -> Any:
        client = yield self.connected()
        good = self.file(5)
        before = len(openAtRest())
        self.assertRaises(LocalProtocolError, client.call, FILES.byName["sizes"], (33,), [good] * 33)
        self.assertEqual(len(openDescriptors()), before)
        got = yield client.program(ECHO).echo("goes on")
        self.assertEqual(got, "goes on")


class NotSending(SynchronousTestCase):
    """Where the connection cannot carry them."""

    def test_with_a_stream_they_are_the_callers_mistake(self) -> None:
        session = ClientSession()
        procedure = PROGRAM.byName["download"]
        self.assertRaises(LocalProtocolError, session.client.call, procedure, (0,), [0])
        self.assertEqual((session.flush(), len(session.client.connection.streams)), ([], 0))

    def test_it_is_the_callers_mistake(self) -> None:
        session = ClientSession()
        error = self.assertRaises(LocalProtocolError, session.client.call, FILES.byName["sizes"], (1,), [0])
        self.assertEqual(str(error), "Sending file descriptors is not supported on this socket")
        self.assertEqual(session.flush(), [])
