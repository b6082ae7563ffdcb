"""How far a call came when its connection ended: R051, R052, R053 and R061.

C's non-blocking send reports to whoever polls it. Here a call never blocks and its Deferred reports: it has
the answer, or it fails, and C{mayHaveRun} of the failure says whether all of the call had left.
"""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.echo import ECHO
from tests.peers import CALL, CONTINUE, OK, RawPeer, message, split
from virnet.client import NetClientFactory
from virnet.errors import ConnectionLost, KeepAliveTimeout, LocalProtocolError, RemoteProtocolError, XDRError
from virnet.testing import MemoryAddress, StrictTransport, joined
from virnet.wire.message import encodeMessage

LARGE = "x" * 4_000_000
"""More than the buffers of a socket hold."""


class Peer(RawPeer):
    """Reads nothing until it is told to.

    @ivar ready: fires with it when it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ready: Deferred[Peer] = Deferred()
        self.gone: Deferred[None] = Deferred()
        self.wanted = 0
        self.arrived: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.pauseProducing()  # type: ignore[union-attr]
        self.ready.callback(self)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.wanted -= len(data)
        if self.wanted <= 0 and not self.arrived.called:
            self.arrived.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        self.gone.callback(None)

    def read(self, size: int) -> Deferred[None]:
        """Read from now on; fires when that much has come."""
        self.wanted = size
        self.transport.resumeProducing()  # type: ignore[union-attr]
        return self.arrived


class OverASocket(TestCase):
    """A real socket, whose buffer is full: one call left whole, one in part, one not at all."""

    timeout = 20

    async def connect(self) -> None:
        from twisted.internet import reactor

        directory = tempfile.mkdtemp(prefix="virnet-")
        self.addCleanup(shutil.rmtree, directory)
        self.peer = Peer()
        factory = Factory.forProtocol(lambda: self.peer)
        port = await UNIXServerEndpoint(reactor, f"{directory}/s").listen(factory)
        self.addCleanup(port.stopListening)
        self.client: Any = await UNIXClientEndpoint(reactor, f"{directory}/s").connect(NetClientFactory())
        await self.peer.ready
        echo = self.client.program(ECHO)
        self.calls = [echo.echo("whole"), echo.echo(LARGE), echo.echo("behind")]

    def failures(self) -> list[bool]:
        """What each call says about having run."""
        return [self.failureResultOf(call, ConnectionLost).value.mayHaveRun for call in self.calls]

    def test_R053_sent_partly_sent_and_not_sent_are_told_apart(self) -> Deferred[None]:
        """The fourth result, an error, is raised at the call."""

        async def run() -> None:
            await self.connect()
            self.assertRaises(XDRError, self.client.program(ECHO).echo, "x" * 4_194_305)
            self.assertTrue(0 < self.client.sender.unsent < len(LARGE))
            ended = self.client.whenClosed()
            self.peer.transport.abortConnection()  # type: ignore[union-attr]
            await ended
            self.assertEqual(self.failures(), [True, False, False])

        return Deferred.fromCoroutine(run())

    def test_R051_a_call_of_which_nothing_was_sent_is_never_sent_later(self) -> Deferred[None]:
        async def run() -> None:
            await self.connect()
            self.client.abandon()
            await self.client.whenClosed()
            await self.peer.read(1)
            await self.peer.gone
            self.assertEqual(self.failures(), [True, False, False])
            received = self.peer.bytes()
            (first,) = split(received[:40])
            self.assertEqual(first.serial, 0)
            self.assertNotIn(b"behind", received)

        return Deferred.fromCoroutine(run())

    def test_R052_the_rest_of_a_partly_sent_call_goes_out_first_and_once(self) -> Deferred[None]:
        async def run() -> None:
            await self.connect()
            await self.peer.read(40 + 32 + len(LARGE) + 40)
            messages = self.peer.take()
            self.assertEqual([(each.serial, each.length) for each in messages][:2], [(0, 40), (1, 4_000_032)])
            self.assertEqual(messages[2].payload, ECHO.byName["echo"].encodeArgs(("behind",)))
            self.client.abandon()
            await self.client.whenClosed()
            self.assertEqual(self.failures(), [True, True, True])

        return Deferred.fromCoroutine(run())


class OverAnyTransport(SynchronousTestCase):
    """A transport with a buffer of its own: what it was given may have left."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.client: Any = NetClientFactory(self.clock).buildProtocol(MemoryAddress("server"))
        self.peer = RawPeer()
        self.transport: StrictTransport
        self.transport, self.there = joined(self.clock, self.client, self.peer, window=1000)
        self.there.pauseProducing()
        self.echo = self.client.program(ECHO)

    def assertMayHaveRun(self, call: Deferred[Any], expected: bool, kind: type[Exception]) -> None:
        self.assertIs(self.failureResultOf(call, kind).value.mayHaveRun, expected)

    def test_R051_what_it_was_not_given_cannot_have_run(self) -> None:
        given, kept = self.echo.echo("x" * 2000), self.echo.echo("kept")
        self.clock.advance(0)
        self.there.abortConnection()
        self.clock.advance(0)
        self.assertMayHaveRun(given, True, ConnectionLost)
        self.assertMayHaveRun(kept, False, ConnectionLost)

    def test_R051_a_server_that_is_silent(self) -> None:
        self.client.startKeepAlive(5, 1)
        given, kept = self.echo.echo("x" * 2000), self.echo.echo("kept")
        for _ in range(3):
            self.clock.advance(5)
        self.assertMayHaveRun(given, True, KeepAliveTimeout)
        self.assertMayHaveRun(kept, False, KeepAliveTimeout)
        self.assertEqual(self.client.lastHeard, 0)

    def test_R051_a_server_that_breaks_the_protocol(self) -> None:
        given, kept = self.echo.echo("x" * 2000), self.echo.echo("kept")
        self.there.write(bytes(4))
        self.clock.advance(0)
        self.assertMayHaveRun(given, True, RemoteProtocolError)
        self.assertMayHaveRun(kept, False, RemoteProtocolError)

    def test_a_call_after_close_is_not_sent(self) -> None:
        self.client.close()
        error = self.assertRaises(ConnectionLost, self.echo.echo, "late")
        self.assertIs(error.mayHaveRun, False)
        self.assertEqual(str(error), "the connection to server was closed by this client")

    def test_one_who_waits_for_the_end_may_stop_waiting(self) -> None:
        waiting, other = self.client.whenClosed(), self.client.whenClosed()
        other.addCallback(lambda _: waiting.cancel())
        waiting.addErrback(lambda _: None)
        unwanted = self.client.whenClosed()
        unwanted.cancel()
        self.failureResultOf(unwanted, CancelledError)
        self.there.abortConnection()
        self.clock.advance(0)
        self.successResultOf(other)


class ByTypes(SynchronousTestCase):
    """What the API has no way to say is refused below it as well."""

    def test_R061_a_call_with_the_status_of_stream_data_is_refused(self) -> None:
        for type in (CALL, 4):
            self.assertRaises(LocalProtocolError, encodeMessage, 1, 1, 1, type, 0, CONTINUE)
        self.assertEqual(encodeMessage(1, 1, 1, CALL, 0, OK), message(1, 1, 1, CALL, 0, OK))
