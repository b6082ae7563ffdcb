"""R062 and R063: what fails half way closes what it opened, once."""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from tests.openfiles import openDescriptors
from virnet.client import connect
from virnet.errors import VirnetError
from virnet.programs import REMOTE
from virnet.server import NetServer, ServerClient, ServerProgram, ServerService

reactor: Any = installed


def openSockets() -> set[str]:
    """The sockets of this process. The reactor's own pipes come and go with each test."""
    return {each for each in openDescriptors().values() if each.startswith("socket:")}


class HangsUp(Protocol):
    """A server that takes a call and hangs up."""

    def dataReceived(self, data: bytes) -> None:
        """Hang up."""
        assert self.transport is not None
        self.transport.loseConnection()


class HalfWay(TestCase):
    """Nothing stays open."""

    timeout = 20

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = os.path.join(directory.name, "sock")
        self.uri = f"test+unix:///default?socket={self.path}"

    def test_R062_an_opening_that_the_server_cuts_short(self) -> Deferred[None]:
        async def run() -> None:
            port = await UNIXServerEndpoint(reactor, self.path).listen(Factory.forProtocol(HangsUp))
            before = openSockets()
            for _ in range(20):
                with self.assertRaises(VirnetError):
                    await connect(reactor, self.uri)
            await self.settle(before)
            await port.stopListening()

        return Deferred.fromCoroutine(run())

    def test_R062_a_server_that_is_not_there(self) -> Deferred[None]:
        async def run() -> None:
            before = openSockets()
            for _ in range(20):
                with self.assertRaises(VirnetError):
                    await connect(reactor, self.uri)
            await self.settle(before)

        return Deferred.fromCoroutine(run())

    def test_R063_a_connection_that_cannot_be_served(self) -> Deferred[None]:
        class Refusing(NetServer):
            def buildClient(self, readonly: bool, auth: Any = None) -> ServerClient:
                raise RuntimeError("no client can be made")

        async def run() -> None:
            server = Refusing(reactor, [ServerProgram(REMOTE, lambda client: ())])
            ServerService(server, f"unix:{self.path}")
            server.privilegedStartService()
            server.startService()
            before = openSockets()
            for _ in range(20):
                with self.assertRaises(VirnetError):
                    await connect(reactor, self.uri)
            await self.settle(before)
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 20)
            self.assertEqual(server.clients, {})
            await server.stopService()

        return Deferred.fromCoroutine(run())

    async def settle(self, before: set[str]) -> None:
        """Let the reactor close what it is about to close, then compare."""
        for _ in range(1000):
            # Two turns more: a transport is forgotten in the turn after its socket was closed.
            done = openSockets() <= before
            for _ in range(2):
                turn: Deferred[None] = Deferred()
                reactor.callLater(0, turn.callback, None)
                await turn
            if done:
                break
        self.assertEqual(openSockets() - before, set())
