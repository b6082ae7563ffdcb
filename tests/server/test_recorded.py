"""R023: the server answers byte for byte what libvirtd answered."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.peers import ServerSession, served
from tests.wire.vectors import TEST_DOMAIN, VECTORS
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.programs import REMOTE, IConnect, IDomain, partialImplementer
from virnet.programs.values import Domain, DomainEventLifecycleMsg
from virnet.server import IAuthenticator, IClientAuthentication, ServerClient
from virnet.server.authentication import Authenticator

RECORDED = {each.name: each.data for each in VECTORS}
DOMAIN = Domain(*TEST_DOMAIN)


class RecordedAuthenticator(Authenticator):
    """Answers as the libvirtd did that was recorded."""

    def authList(self) -> list[int]:
        """One type: none."""
        return [0]

    def authSASLStart(self, mech: str, nil: int, data: bytes) -> tuple[int, int, bytes]:
        """Complete at once."""
        assert (mech, nil, data) in (("PLAIN", 0, b"\0fred\0pw1"), ("DIGEST-MD5", 1, b""))
        return 1, 1, b""


@implementer(IClientAuthentication)
class RecordedAuthentication:
    """Whose authenticators those are."""

    authType = 0

    def authenticatorFor(self, client: ServerClient) -> IAuthenticator:
        """Make one."""
        return RecordedAuthenticator(client)


@partialImplementer(IConnect, IDomain)
class Recorded:
    """Answers as the libvirtd did that was recorded; refuses what it was not asked."""

    def connectSupportsFeature(self, feature: int) -> int:
        """Only keepalive was asked for."""
        assert feature == 10
        return 1

    def connectOpen(self, name: str | None, flags: int) -> None:
        """The test driver."""
        assert (name, flags) == ("test:///default", 0)

    def connectListAllDomains(self, need_results: int, flags: int) -> tuple[list[Domain], int]:
        """One domain."""
        assert (need_results, flags) == (1, 3)
        return [DOMAIN], 1

    def domainLookupByName(self, name: str) -> Any:
        """None of that name."""
        assert name == "nosuch"
        raise RemoteError.of(ErrorNumber.NO_DOMAIN, None, ErrorDomain.TEST)


class Answers(SynchronousTestCase):
    """Calls as they were recorded, and what came back."""

    def test_R023_each_answer(self) -> None:
        for call, answer in (
            ("AUTH_LIST call", "AUTH_LIST reply: one type, none"),
            ("SUPPORTS_FEATURE call: keepalive", "SUPPORTS_FEATURE reply: yes"),
            ("CONNECT_OPEN call", "CONNECT_OPEN reply"),
            ("LIST_ALL_DOMAINS call", "LIST_ALL_DOMAINS reply: one domain"),
            ("LOOKUP_BY_NAME call", "LOOKUP_BY_NAME reply: no such domain"),
            ("keepalive PING", "keepalive PONG"),
            (
                "SASL START PLAIN: each byte of the data in a word of its own",
                "SASL START reply: complete, no data",
            ),
            ("SASL START DIGEST-MD5: no initial response", "SASL START reply: complete, no data"),
        ):
            session = ServerSession(served(REMOTE, Recorded()), auth=RecordedAuthentication())
            session.client.connection.authenticated = True
            session.transport.write(RECORDED[call])
            session.clock.advance(0)
            self.assertEqual(session.peer.bytes().hex(), RECORDED[answer].hex(), call)

    def test_R023_an_event(self) -> None:
        session = ServerSession(served(REMOTE, Recorded()))
        session.client.events(REMOTE).domainEventCallbackLifecycle(0, DomainEventLifecycleMsg(DOMAIN, 3, 0))
        session.clock.advance(0)
        name = "lifecycle event: callback 0, test is suspended"
        self.assertEqual(session.peer.bytes().hex(), RECORDED[name].hex())
