"""R023: the client sends byte for byte what libvirt's client sent, and understands what libvirtd answered."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.peers import RawPeer
from tests.wire.vectors import TEST_DOMAIN, VECTORS
from virnet.client import NetClient
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.programs import REMOTE
from virnet.programs.values import Domain
from virnet.testing import joined
from virnet.wire.connection import ClientConnection

RECORDED = {each.name: each.data for each in VECTORS}


class Recorded(SynchronousTestCase):
    """The main program over a connection whose next serial is the recorded one."""

    def connect(self, serial: int) -> None:
        """Connect a client that has made so many calls."""
        self.clock = Clock()
        self.client = NetClient()
        self.client.connection = ClientConnection(firstSerial=serial)
        self.peer = RawPeer()
        _, self.transport = joined(self.clock, self.client, self.peer)
        self.remote = self.client.program(REMOTE)

    def assertSent(self, *names: str) -> None:
        self.clock.advance(0)
        self.assertEqual(self.peer.bytes().hex(), b"".join(RECORDED[name] for name in names).hex())

    def receive(self, name: str) -> None:
        """The server sends what was recorded."""
        self.transport.write(RECORDED[name])
        self.clock.advance(0)

    def test_R023_the_opening(self) -> None:
        self.connect(0)
        types = self.remote.authList()
        self.assertSent("AUTH_LIST call")
        self.receive("AUTH_LIST reply: one type, none")
        self.assertEqual(self.successResultOf(types), [0])
        supported = self.remote.connectSupportsFeature(10)
        self.assertSent("SUPPORTS_FEATURE call: keepalive")
        self.receive("SUPPORTS_FEATURE reply: yes")
        self.assertEqual(self.successResultOf(supported), 1)
        opened = self.remote.connectOpen("test:///default", 0)
        self.assertSent("CONNECT_OPEN call")
        self.receive("CONNECT_OPEN reply")
        self.assertIs(self.successResultOf(opened), None)

    def test_R023_a_list(self) -> None:
        self.connect(6)
        listed = self.remote.connectListAllDomains(1, 3)
        self.assertSent("LIST_ALL_DOMAINS call")
        self.receive("LIST_ALL_DOMAINS reply: one domain")
        domains, count = self.successResultOf(listed)
        self.assertEqual((domains, count), ([TEST_DOMAIN], 1))
        self.assertIsInstance(domains[0], Domain)

    def test_R023_an_error(self) -> None:
        self.connect(6)
        found = self.remote.domainLookupByName("nosuch")
        self.assertSent("LOOKUP_BY_NAME call")
        self.receive("LOOKUP_BY_NAME reply: no such domain")
        error = self.failureResultOf(found, RemoteError).value
        self.assertEqual(
            (error.code, error.domain, error.message, error.str1, error.str2),
            (ErrorNumber.NO_DOMAIN, ErrorDomain.TEST, "Domain not found", "Domain not found", None),
        )

    def test_R023_an_event(self) -> None:
        self.connect(0)
        heard: list[object] = []
        self.client.subscribe(
            REMOTE.events[318], lambda callbackID, event: heard.append((callbackID, tuple(event)))
        )
        self.receive("lifecycle event: callback 0, test is suspended")
        self.assertEqual(heard, [(0, (TEST_DOMAIN, 3, 0))])

    def test_R023_keepalive(self) -> None:
        self.connect(0)
        self.receive("keepalive PING")
        self.assertSent("keepalive PONG")

    def test_R023_sasl(self) -> None:
        for mechanism, nil, data, call in (
            ("PLAIN", 0, b"\0fred\0pw1", "SASL START PLAIN: each byte of the data in a word of its own"),
            ("DIGEST-MD5", 1, b"", "SASL START DIGEST-MD5: no initial response"),
        ):
            self.connect(2)
            started = self.remote.authSASLStart(mechanism, nil, data)
            self.assertSent(call)
            self.receive("SASL START reply: complete, no data")
            result = self.successResultOf(started)
            self.assertEqual(result, (1, 1, b""))
