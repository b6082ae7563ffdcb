"""A server on a UNIX socket and raw clients of it, with trial's reactor."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.trial.unittest import TestCase

from tests.peers import Message, RawPeer
from virnet.server import NetServer, ServerProgram, ServerService

SECONDS = 20


class Peer(RawPeer):
    """A raw peer that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._wanted: list[tuple[int, Deferred[list[Message]]]] = []
        self._ended: list[Deferred[None]] = []

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._check()

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        for each in self._ended:
            each.callback(None)

    def messages(self, count: int) -> Deferred[list[Message]]:
        """Wait for so many messages."""
        waiting: Deferred[list[Message]] = Deferred()
        self._wanted.append((count, waiting))
        self._check()
        return waiting

    def end(self) -> Deferred[None]:
        """Wait for the end of the connection."""
        waiting: Deferred[None] = Deferred()
        if self.lost is not None:
            waiting.callback(None)
        else:
            self._ended.append(waiting)
        return waiting

    def _check(self) -> None:
        data = b"".join(self._chunks)
        found = 0
        start = 0
        while len(data) - start >= 4 and len(data) - start >= int.from_bytes(data[start : start + 4], "big"):
            start += int.from_bytes(data[start : start + 4], "big")
            found += 1
        if self._wanted and found >= self._wanted[0][0]:
            self._wanted.pop(0)[1].callback(self.take())


class SocketTestCase(TestCase):
    """A server on a UNIX socket."""

    timeout = SECONDS

    def setUp(self) -> None:
        # Not in trial's own directory: the path of a UNIX socket has 107 bytes.
        self.directory = tempfile.mkdtemp(prefix="virnet-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.path = f"{self.directory}/s"
        self.peers: list[Peer] = []

    def serve(self, *programs: ServerProgram) -> NetServer:
        """Start a server; it stops with the test."""
        self.server = NetServer(reactor, programs)
        ServerService(self.server, f"unix:{self.path}:lockfile=0")
        self.server.startService()
        self.addCleanup(self.server.stopService)
        self.addCleanup(self.disconnect)
        return self.server

    def connect(self) -> Deferred[Peer]:
        """Connect one more raw client."""
        peer = Peer()
        self.peers.append(peer)
        connected: Deferred[Peer] = connectProtocol(UNIXClientEndpoint(reactor, self.path), peer)
        return connected

    def disconnect(self) -> None:
        """End what the test left connected."""
        for peer in self.peers:
            if peer.lost is None and peer.transport is not None:
                peer.transport.loseConnection()
