"""A client over each way to a server: what its calls come to, what waits, how the connection ends."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import tempfile
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.echo import ECHO
from tests.peers import OK, REPLY, RawPeer, message
from tests.security.test_securitylayer import layer
from tests.tls import HOST, clientContext, serverContext, settle
from virnet.client import NetClient, NetClientFactory
from virnet.errors import ConnectionLost
from virnet.testing import MemoryAddress, joined
from virnet.transport.tls import TLSFactory

reactor: Any = installed

BIG = 40000
WINDOW = 3000


class Peer(RawPeer):
    """Answers each call with its own argument, over a security layer once it has one."""

    layer: Any = None

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data if self.layer is None else self.layer.decode(data))

    def answer(self) -> int:
        """Answer what came; return how many calls that were."""
        calls = self.take()
        for call in calls:
            reply = message(call.program, 1, call.procedure, REPLY, call.serial, OK, call.payload)
            self.transport.write(reply if self.layer is None else self.layer.encode(reply))  # type: ignore[union-attr]
        return len(calls)


class R142(SynchronousTestCase):
    """Whatever protects the connection: calls do not see it, and what waits can be asked for."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.peer = Peer()
        self.factory = NetClientFactory(self.clock)

    def join(self, here: Protocol, there: Protocol) -> None:
        """Connect them."""
        joined(self.clock, here, there, window=WINDOW)
        settle(self.clock)

    def client(self) -> NetClient:
        """A client without anything."""
        return self.factory.buildProtocol(MemoryAddress("peer"))

    def check(self, client: NetClient, overhead: int) -> None:
        """Calls that come to a standstill, and go on.

        @param overhead: bytes that each of them gets at the least on its way.
        """
        echo = client.program(ECHO)
        self.assertEqual(client.queuedBytes, 0)
        assert self.peer.transport is not None
        self.peer.transport.pauseProducing()  # type: ignore[attr-defined]
        calls: list[Deferred[str]] = [echo.echo(letter * BIG) for letter in "abcde"]
        settle(self.clock)
        # Two windows are on their way at the most: one here, one there.
        size = 28 + 4 + BIG + overhead
        self.assertGreaterEqual(client.queuedBytes, 4 * size)
        self.assertLess(client.queuedBytes, 5 * (size + 2500))
        self.peer.transport.resumeProducing()  # type: ignore[attr-defined]
        answered = 0
        for _ in range(2000):
            self.clock.advance(0)
        answered += self.peer.answer()
        self.assertEqual((client.queuedBytes, answered), (0, 5))
        for _ in range(2000):
            self.clock.advance(0)
        for letter, call in zip("abcde", calls, strict=True):
            self.assertEqual(self.successResultOf(call), letter * BIG)

    def test_R142_nothing(self) -> None:
        client = self.client()
        self.join(client, self.peer)
        self.check(client, 0)

    def test_R142_sasl(self) -> None:
        client = self.client()
        self.join(client, self.peer)
        client.startSecurityLayer(layer())
        self.peer.layer = layer()
        # Five bytes for each hundred: it is counted as it is sent.
        self.check(client, BIG // 100 * 5)

    def test_R142_tls(self) -> None:
        client = self.client()
        here: Any = TLSFactory(_one(client), clientContext(), self.clock, HOST).buildProtocol(None)
        there: Any = TLSFactory(_one(self.peer), serverContext(), self.clock).buildProtocol(None)
        self.join(here, there)
        self.check(client, 0)


def _one(protocol: Protocol) -> Any:
    class One(NetClientFactory):
        def buildProtocol(self, addr: Any) -> Any:
            return protocol

    return One()


class Sockets(TestCase):
    """The end, over real sockets, with a server that is a bare socket of the test's."""

    timeout = 20

    async def connect(self, endpoint: Any, listener: socket.socket) -> tuple[NetClient, socket.socket]:
        """A client and the server's end."""
        self.addCleanup(listener.close)
        client = await endpoint.connect(NetClientFactory(reactor))
        server, _ = listener.accept()
        self.addCleanup(server.close)
        return client, server

    async def overTCP(self) -> tuple[NetClient, socket.socket]:
        """The same over TCP."""
        listener = socket.create_server(("127.0.0.1", 0))
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", listener.getsockname()[1])
        return await self.connect(endpoint, listener)

    async def overUNIX(self) -> tuple[NetClient, socket.socket]:
        """The same over a UNIX socket."""
        # trial's own directories are too deep for the 107 bytes of such a path.
        directory = tempfile.mkdtemp(prefix="virnet-")
        self.addCleanup(shutil.rmtree, directory)
        path = f"{directory}/s"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        return await self.connect(UNIXClientEndpoint(reactor, path), listener)

    async def test_R055_a_read_that_fails_ends_it_and_every_call_says_how(self) -> None:
        client, server = await self.overTCP()
        echo = client.program(ECHO)
        pending = echo.echo("x")
        watched = client.transport
        self.assertIn(watched, IReactorFDSet(reactor).getReaders())
        # No end of file, but a reset: reading fails.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        error = await self.assertFailure(pending, ConnectionLost)
        self.assertIn("Connection reset by peer", str(error))
        self.assertNotIn(watched, IReactorFDSet(reactor).getReaders())
        self.assertNotIn(watched, IReactorFDSet(reactor).getWriters())
        for _ in range(2):
            later = self.assertRaises(ConnectionLost, echo.echo, "y")
            self.assertEqual(str(later), str(error))

    async def test_R056_closing_does_not_wait_for_the_server_to_close(self) -> None:
        for connect in (self.overTCP, self.overUNIX):
            client, server = await connect()
            pending = client.program(ECHO).echo("x")
            self.assertFailure(pending, ConnectionLost)
            transport: Any = client.transport
            number = transport.fileno()
            # The server neither reads nor closes.
            reason = await client.close()
            self.assertIn("was closed by this client", str(reason))
            await pending
            await deferLater(reactor, 0)
            self.assertNotIn(transport, IReactorFDSet(reactor).getReaders())
            self.assertEqual(transport.fileno(), -1)
            self.assertRaises(OSError, os.fstat, number)
            # It finds all that was sent, and then the end.
            server.settimeout(10)
            self.assertEqual(len(server.recv(65536)), 28 + 4 + 4)
            self.assertEqual(server.recv(1), b"")
