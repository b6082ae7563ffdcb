"""What a connection expects: the rest of a large message that has begun."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.peers import ServerSession, callNamed
from virnet.programs import REMOTE
from virnet.server import ServerProgram


class Rest(SynchronousTestCase):
    def setUp(self) -> None:
        self.session = ServerSession(ServerProgram(REMOTE, lambda client: object()))
        self.expected = 0
        self.patch(self.session.client.sender, "expect", self.expect)

    def expect(self) -> None:
        """Count."""
        self.expected += 1

    def give(self, data: bytes) -> int:
        """Let it read; tell how often it expects more."""
        self.expected = 0
        self.session.client.dataReceived(data)
        return self.expected

    def test_a_large_message_is_expected_to_go_on_until_it_is_whole(self) -> None:
        whole = callNamed(REMOTE, "domainDefineXML", 1, "x" * 20000)
        self.assertEqual(
            [self.give(whole[:9000]), self.give(whole[9000:18000]), self.give(whole[18000:])], [1, 1, 0]
        )

    def test_a_small_one_is_not(self) -> None:
        whole = callNamed(REMOTE, "domainDefineXML", 1, "x" * 2000)
        self.assertEqual([self.give(whole[:1500]), self.give(whole[1500:])], [0, 0])
