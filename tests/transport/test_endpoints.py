"""From a URI to the Twisted endpoint that reaches its server."""

from __future__ import annotations

import sys

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import URIError
from virnet.transport.autostart import SessionEndpoint
from virnet.transport.config import Caller, ClientConfig
from virnet.transport.endpoints import endpointFor
from virnet.transport.process import CommandEndpoint
from virnet.transport.uri import parseURI

ROOT = Caller({"PATH": "/usr/bin:/bin"}, 0, ClientConfig("f"))
USER = ROOT._replace(euid=7)


class Endpoints(SynchronousTestCase):
    """The Twisted endpoint that reaches it."""

    def test_by_transport(self) -> None:
        for uri, caller, kind in (
            ("test+unix:///default?socket=/s", ROOT, UNIXClientEndpoint),
            ("qemu:///system", ROOT, UNIXClientEndpoint),
            ("qemu:///system", USER, UNIXClientEndpoint),
            ("qemu:///session", USER, SessionEndpoint),
            ("", USER, SessionEndpoint),
            ("", ROOT, UNIXClientEndpoint),
            ("test+tcp://host/default", ROOT, HostnameEndpoint),
            ("test+tcp:///default", ROOT, HostnameEndpoint),
            ("qemu+ssh://host/system?command=/bin/true", ROOT, CommandEndpoint),
            ("qemu+ext:///system?command=/bin/true", ROOT, CommandEndpoint),
        ):
            endpoint = endpointFor(MemoryReactorClock(), parseURI(uri), caller=caller)
            self.assertIsInstance(endpoint, kind, uri)

    def test_ssh_within_the_process_where_conch_is(self) -> None:
        uri = parseURI("qemu+libssh2://host/system")
        endpoint = endpointFor(MemoryReactorClock(), uri, caller=ROOT)
        self.assertEqual(type(endpoint).__name__, "SSHEndpoint")
        loaded = sys.modules["virnet.transport.conch"]
        self.addCleanup(sys.modules.__setitem__, "virnet.transport.conch", loaded)
        sys.modules["virnet.transport.conch"] = None  # type: ignore[assignment]
        error = str(self.assertRaises(URIError, endpointFor, MemoryReactorClock(), uri, caller=ROOT))
        self.assertIn("the transport 'libssh2' needs Twisted's conch: install virnet[conch]", error)

    def test_a_numeric_host_is_connected_to_at_its_port(self) -> None:
        for uri, port in (
            ("test+tcp://127.0.0.1/default", 16509),
            ("test+tcp://127.0.0.1:4711/default", 4711),
        ):
            endpoint = endpointFor(MemoryReactorClock(), parseURI(uri))
            self.assertIn(f"127.0.0.1:{port}", repr(endpoint))

    def test_an_abstract_socket(self) -> None:
        reactor = MemoryReactorClock()
        endpointFor(reactor, parseURI("test+unix:///default?socket=@a"), caller=ROOT).connect(Factory())
        self.assertEqual([client[0] for client in reactor.unixClients], ["\0a"])

    def test_a_program_that_is_not_there_is_missed_at_once(self) -> None:
        uri = parseURI("qemu+ext:///s?command=/no/such")
        error = str(self.assertRaises(URIError, endpointFor, MemoryReactorClock(), uri))
        self.assertIn("Cannot find '/no/such', or it is not executable", error)
