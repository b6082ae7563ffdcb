"""
Endpoints of TLS: from strings, from URIs, and what comes of connecting.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.pki import write
from tests.tls import authority, clientOf, serverOf
from virnet.errors import RemoteError
from virnet.transport.config import Caller, ClientConfig
from virnet.transport.endpoints import endpointFor
from virnet.transport.tls import TLSClientEndpoint, TLSServerEndpoint
from virnet.transport.uri import parseURI

CALLER = Caller({}, 0, ClientConfig("f"))


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = write(
            Path(self.mktemp()).absolute(), [authority()], server=serverOf(), client=clientOf()
        )
        self.reactor = MemoryReactorClock()


class ServerStrings(_Case):
    """
    C{libvirt-tls:PORT}.
    """

    def make(self, text: str) -> TLSServerEndpoint:
        """The endpoint of a string."""
        endpoint = serverFromString(self.reactor, text)
        assert isinstance(endpoint, TLSServerEndpoint)
        return endpoint

    def listening(self, text: str) -> tuple[Any, ...]:
        """Port, backlog and interface of a string with these certificates."""
        port = self.make(f"{text}:pkipath={self.directory}").listen(Factory())
        self.successResultOf(port)
        number, _, backlog, interface = self.reactor.tcpServers.pop()
        return number, backlog, interface

    def test_where(self) -> None:
        self.assertEqual(self.listening("libvirt-tls:1"), (1, 50, ""))
        self.assertEqual(self.listening("libvirt-tls:port=2:interface=127.0.0.1"), (2, 50, "127.0.0.1"))
        self.assertEqual(self.listening(r"libvirt-tls:3:interface=\:\::backlog=7"), (3, 7, "::"))
        self.assertEqual(self.listening("libvirt-tls"), (16514, 50, ""))

    def test_with_what(self) -> None:
        context = self.make(f"libvirt-tls:1:pkipath={self.directory}").context
        self.assertEqual(context.files.revocations, f"{self.directory}/cacrl.pem")
        self.assertEqual((context.verify, context.sanity, context.allowedDNs), (True, True, None))
        self.assertEqual(context.priority.text, "NORMAL")
        context = self.make(
            f"libvirt-tls:1:cafile={self.directory}/cacert.pem:certfile={self.directory}/servercert.pem:"
            f"keyfile={self.directory}/serverkey.pem:crlfile=/crl:verify=no:sanity=no:"
            r"priority=SECURE128\:-VERS-TLS1.2:allowed=CN=a,O=b;CN=c*"
        ).context
        self.assertEqual(
            context.files,
            (
                f"{self.directory}/cacert.pem",
                "/crl",
                f"{self.directory}/servercert.pem",
                f"{self.directory}/serverkey.pem",
            ),
        )
        self.assertEqual((context.verify, context.sanity), (False, False))
        self.assertEqual(context.priority.text, "SECURE128:-VERS-TLS1.2")
        self.assertEqual(context.allowedDNs, ("CN=a,O=b", "CN=c*"))

    def test_R120_an_empty_list_is_a_list(self) -> None:
        self.assertEqual(self.make(f"libvirt-tls:1:pkipath={self.directory}:allowed=").context.allowedDNs, ())

    def test_what_makes_no_sense(self) -> None:
        error = self.assertRaises(ValueError, self.make, "libvirt-tls:1:verify=maybe")
        self.assertEqual(str(error), "verify=maybe is neither yes nor no")
        self.assertRaises(ValueError, self.make, f"libvirt-tls:x:pkipath={self.directory}")
        self.assertRaises(TypeError, self.make, "libvirt-tls:1:colour=red")
        refusal = self.assertRaises(RemoteError, self.make, "libvirt-tls:1:certfile=/x")
        self.assertEqual(refusal.message, "No CA certificate path set to match server key/cert")


class ClientStrings(_Case):
    """
    C{libvirt-tls:HOST}, and URIs.
    """

    def where(self, endpoint: Any) -> str:
        """Where it connects."""
        assert isinstance(endpoint, TLSClientEndpoint)
        endpoint.connect(Factory())
        return f"{self.reactor.tcpClients[-1][0]}:{self.reactor.tcpClients[-1][1]}"

    def test_strings(self) -> None:
        endpoint: Any = clientFromString(self.reactor, f"libvirt-tls:127.0.0.1:pkipath={self.directory}")
        self.assertEqual(self.where(endpoint), "127.0.0.1:16514")
        self.assertTrue(endpoint.context.verify and endpoint.context.sanity)
        endpoint = clientFromString(
            self.reactor,
            f"libvirt-tls:host=127.0.0.1:port=2:pkipath={self.directory}:verify=no:sanity=no:priority=SECURE256",
        )
        self.assertEqual(self.where(endpoint), "127.0.0.1:2")
        self.assertFalse(endpoint.context.verify or endpoint.context.sanity)
        self.assertEqual(endpoint.context.priority.text, "SECURE256")

    def fromURI(self, text: str, caller: Caller = CALLER) -> Any:
        """The endpoint of a URI with these certificates."""
        return endpointFor(self.reactor, parseURI(f"{text}pkipath={self.directory}"), caller=caller)

    def test_uris(self) -> None:
        endpoint = self.fromURI("qemu+tls://127.0.0.1/system?")
        self.assertEqual(self.where(endpoint), "127.0.0.1:16514")
        self.assertTrue(endpoint.context.verify and endpoint.context.sanity)
        endpoint = self.fromURI("qemu://127.0.0.1:3/system?no_verify=1&no_sanity=1&tls_priority=SECURE256&")
        self.assertEqual(self.where(endpoint), "127.0.0.1:3")
        self.assertFalse(endpoint.context.verify or endpoint.context.sanity)
        self.assertEqual(endpoint.context.priority.text, "SECURE256")

    def test_the_priority_of_the_configuration_is_for_uris_without_one(self) -> None:
        caller = CALLER._replace(config=ClientConfig("f", tlsPriority="SECURE128"))
        for uri, priority in (("tls_priority=SECURE256&", "SECURE256"), ("", "SECURE128")):
            endpoint = self.fromURI(f"qemu+tls://host/system?{uri}", caller)
            self.assertEqual(endpoint.context.priority.text, priority)

    def test_certificates_that_are_not_there(self) -> None:
        uri = parseURI("qemu+tls://host/system?pkipath=/nowhere")
        error = self.assertRaises(RemoteError, endpointFor, self.reactor, uri)
        self.assertEqual(
            error.message, "Cannot read CA certificate '/nowhere/cacert.pem': No such file or directory"
        )


class Greeter(Protocol):
    """Says something when it is connected, and records what it is told."""

    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.heard.callback(data)

    def connectionLost(self, reason: object = None) -> None:
        self.ended.callback(None)


class _Greeters(Factory):
    noisy = False

    def __init__(self) -> None:
        self.made: list[Greeter] = []

    def buildProtocol(self, addr: object) -> Greeter:
        self.made.append(Greeter())
        return self.made[-1]


class Connecting(TestCase):
    """
    Over real sockets, with any protocol.
    """

    timeout = 20

    def setUp(self) -> None:
        self.directory = write(
            Path(self.mktemp()).absolute(), [authority()], server=serverOf(), client=clientOf()
        )

    async def serve(self) -> tuple[int, _Greeters]:
        """Listen; the port and what is made for its connections."""
        factory = _Greeters()
        endpoint = serverFromString(reactor, f"libvirt-tls:0:interface=127.0.0.1:pkipath={self.directory}")
        port: Any = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        return port.getHost().port, factory

    def connect(self, port: int) -> Deferred[Any]:
        """Connect to it."""
        text = f"libvirt-tls:127.0.0.1:port={port}:pkipath={self.directory}"
        connecting: Deferred[Any] = clientFromString(reactor, text).connect(_Greeters())
        return connecting

    async def test_the_protocol_comes_when_the_server_has_confirmed(self) -> None:
        port, factory = await self.serve()
        protocol = await self.connect(port)
        self.assertFalse(protocol.transport.handshaking)
        self.assertEqual((await protocol.heard, await factory.made[0].heard), (b"hello", b"hello"))
        protocol.transport.loseConnection()
        await factory.made[0].ended

    async def test_it_fails_with_what_is_wrong(self) -> None:
        port, _ = await self.serve()
        write(self.directory, [authority("Other")], client=clientOf(authority("Other")))
        try:
            await self.connect(port)
        except RemoteError as e:
            self.assertIn("Failed to verify peer's certificate", e.message)
        else:
            self.fail("connected")

    async def test_giving_up_ends_the_attempt(self) -> None:
        class Deaf(Protocol):
            def connectionMade(self) -> None:
                connected.callback(None)

            def connectionLost(self, reason: object = None) -> None:
                ended.callback(None)

        connected: Deferred[None] = Deferred()
        ended: Deferred[None] = Deferred()
        listening: Any = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(
            Factory.forProtocol(Deaf)
        )
        self.addCleanup(listening.stopListening)
        connecting = self.connect(listening.getHost().port)
        await connected
        connecting.cancel()
        await ended
        await connecting.addErrback(lambda failure: None)


class Plugins(SynchronousTestCase):
    """
    How Twisted finds them.
    """

    def test_nothing_of_virnet_is_loaded_before_it_is_needed(self) -> None:
        code = (
            "import sys; from twisted.internet.endpoints import serverFromString\n"
            "from twisted.internet import reactor; serverFromString(reactor, 'tcp:0')\n"
            "try: serverFromString(reactor, 'nothing:0')\n"
            "except ValueError: pass\n"
            "print([each for each in sys.modules if each.startswith('virnet')])"
        )
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
        self.assertEqual(done.stdout, "[]\n")
