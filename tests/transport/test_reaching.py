"""What could not be reached is named, as libvirt's own client names it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import URIError
from virnet.transport.config import Caller, ClientConfig
from virnet.transport.endpoints import endpointFor
from virnet.transport.reaching import CannotConnect, unreachable
from virnet.transport.uri import parseURI

ROOT = Caller({"PATH": "/usr/bin:/bin"}, 0, ClientConfig("f"))

REFUSED = ConnectionRefusedError(111, "Connection refused")


class Unreachable(SynchronousTestCase):
    """Whoever fails to connect says to whom."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()

    def endpoint(self, uri: str) -> IStreamClientEndpoint:
        """The endpoint of a URI."""
        return endpointFor(self.reactor, parseURI(uri), caller=ROOT)

    def begun(self, uri: str) -> Deferred[Any]:
        """Begin to connect."""
        return self.endpoint(uri).connect(Factory())

    def test_the_path_of_a_socket(self) -> None:
        for path, error, why in (
            ("/s", ConnectError(2, "No such file or directory"), "No such file or directory"),
            ("/s", ConnectError(13, "Permission denied"), "Permission denied"),
            ("@s", REFUSED, "Connection refused"),
        ):
            self.setUp()
            begun = self.begun(f"test+unix:///default?socket={path}")
            self.reactor.unixClients[0][1].clientConnectionFailed(None, Failure(error))
            told = self.failureResultOf(begun, CannotConnect).value
            self.assertEqual(str(told), f"Failed to connect socket to '{path}': {why}")
            self.assertEqual(told.osError, error.osError)

    def test_the_host_and_port(self) -> None:
        for place, error, why in (
            ("127.0.0.1:1", REFUSED, "Connection refused"),
            ("127.0.0.1:16509", TCPTimedOutError(110, "Connection timed out"), "Connection timed out"),
            ("127.0.0.1:2", TimeoutError(), "User timeout caused connection failure"),
        ):
            self.setUp()
            begun = self.begun(f"test+tcp://{place.removesuffix(':16509')}/default")
            self.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(error))
            self.reactor.advance(1)
            told = str(self.failureResultOf(begun, CannotConnect).value)
            self.assertEqual(told, f"unable to connect to server at '{place}': {why}")

    def test_a_name_that_nobody_knows(self) -> None:
        self.reactor.nameResolver.resolveHostName = lambda receiver, *args, **options: (
            receiver.resolutionBegan(None),
            receiver.resolutionComplete(),
        )
        told = str(self.failureResultOf(self.begun("test+tcp://nowhere/default"), CannotConnect).value)
        self.assertEqual(told, "Unable to resolve address 'nowhere' service '16509'")

    def test_who_gives_up_is_told_just_that(self) -> None:
        for uri in ("test+unix:///default?socket=/s", "test+tcp://127.0.0.1/default"):
            begun = self.begun(uri)
            begun.cancel()
            self.failureResultOf(begun, CancelledError, ConnectingCancelledError)

    def test_they_are_twisteds_endpoints(self) -> None:
        self.assertIsInstance(self.endpoint("test+unix:///default?socket=/s"), UNIXClientEndpoint)
        self.assertIsInstance(self.endpoint("test+tcp://host/default"), HostnameEndpoint)

    def test_one_line_for_the_application(self) -> None:
        error = unreachable("a:///", CannotConnect(None, "Failed to connect socket to '/s': why"))
        self.assertEqual(str(error), "a:///: Failed to connect socket to '/s': why")
        self.assertEqual(str(unreachable("a:///", URIError("why"))), "a:///: cannot connect: why")
