"""From a URI to where its server listens."""

from __future__ import annotations

import os

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import URIError
from virnet.transport import endpoints
from virnet.transport.endpoints import endpointFor, socketPath
from virnet.transport.uri import parseURI


class SocketPaths(SynchronousTestCase):
    """The UNIX socket that a URI means."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.patch(endpoints, "SYSTEM_DIRECTORY", self.directory)

    def path(self, uri: str, readonly: bool = False) -> str:
        """The path, without the directory of the system's sockets."""
        return socketPath(parseURI(uri), readonly).removeprefix(self.directory + "/")

    def test_the_one_it_names(self) -> None:
        self.assertEqual(self.path("test+unix:///default?socket=/some/where"), "/some/where")
        self.assertEqual(self.path("test+unix:///default?socket=/some/where", readonly=True), "/some/where")

    def test_else_that_of_libvirtd(self) -> None:
        self.assertEqual(self.path("qemu:///system"), "libvirt-sock")
        self.assertEqual(self.path("qemu:///system", readonly=True), "libvirt-sock-ro")

    def test_or_that_of_the_drivers_own_daemon_where_there_is_one(self) -> None:
        for name in ("virtqemud-sock", "virtqemud-sock-ro"):
            with open(f"{self.directory}/{name}", "w"):
                pass
        self.assertEqual(self.path("qemu:///system"), "virtqemud-sock")
        self.assertEqual(self.path("qemu:///system", readonly=True), "virtqemud-sock-ro")
        self.assertEqual(self.path("test:///default"), "libvirt-sock")

    def test_none_that_the_system_cannot_take(self) -> None:
        self.assertEqual(len(self.path(f"test+unix:///d?socket=/{'x' * 106}")), 107)
        for path in (f"/{'x' * 107}", f"/{'é' * 54}"):
            error = str(self.assertRaises(URIError, self.path, f"test+unix:///d?socket={path}"))
            self.assertIn(f"Path {path} too long for unix socket, the system allows 107 bytes", error)


class Endpoints(SynchronousTestCase):
    """The Twisted endpoint that reaches it."""

    def test_by_transport(self) -> None:
        for uri, kind in (
            ("test+unix:///default?socket=/s", UNIXClientEndpoint),
            ("test+tcp://host/default", HostnameEndpoint),
            ("test+tcp:///default", HostnameEndpoint),
        ):
            self.assertIsInstance(endpointFor(MemoryReactorClock(), parseURI(uri)), kind, uri)

    def test_a_numeric_host_is_connected_to_at_its_port(self) -> None:
        for uri, port in (
            ("test+tcp://127.0.0.1/default", 16509),
            ("test+tcp://127.0.0.1:4711/default", 4711),
        ):
            endpoint = endpointFor(MemoryReactorClock(), parseURI(uri))
            self.assertIn(f"127.0.0.1:{port}", repr(endpoint))

    def test_transports_that_are_not_there_yet_are_refused(self) -> None:
        for uri in ("qemu+ssh://host/system", "qemu+libssh://host/system", "qemu+ext:///s?command=/bin/x"):
            error = str(self.assertRaises(URIError, endpointFor, MemoryReactorClock(), parseURI(uri)))
            self.assertIn(uri, error)
            self.assertIn("is not available", error)
