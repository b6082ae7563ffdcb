"""What the core tells to who watches it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.messages import message
from virnet.probes import KEEPALIVE_RECEIVED, KEEPALIVE_SEND, Probe
from virnet.wire.connection import ServerConnection
from virnet.wire.keepalive import KeepAlive
from virnet.wire.message import CALL, MESSAGE, OK, decodeHeader

REMOTE = 0x20008086
KEEPALIVE = 0x6B656570


class Traced(SynchronousTestCase):
    """R161: each probe fires once with the right values."""

    def listen(self, probe: Probe) -> list[tuple[Any, ...]]:
        """The values of a probe from now on."""
        heard: list[tuple[Any, ...]] = []
        self.patch(probe, "listeners", (lambda probe, values: heard.append(values),))
        return heard

    def test_R161_the_status_of_a_message_is_given_before_its_serial(self) -> None:
        header = decodeHeader(message((REMOTE, 1, 59, CALL, 7, 2)))
        self.assertEqual(header.traced(), (28, REMOTE, 1, 59, CALL, 2, 7))

    def test_R161_each_message_received(self) -> None:
        probe = Probe("test", "client len prog vers proc type status serial")
        heard = self.listen(probe)
        server = ServerConnection({(REMOTE, 1): {59: "connectGetHostname"}})
        server.received = probe
        server.owner = "the client"
        data = message((REMOTE, 1, 59, CALL, 7, OK)) + message((REMOTE, 1, 99, CALL, 8, OK), b"four")
        server.receive(data[:40])
        server.receive(data[40:])
        self.assertEqual(
            heard,
            [
                ("the client", 28, REMOTE, 1, 59, CALL, OK, 7),
                ("the client", 32, REMOTE, 1, 99, CALL, OK, 8),
            ],
        )

    def test_R161_keepalive_messages_and_the_answer(self) -> None:
        received, sent = self.listen(KEEPALIVE_RECEIVED), self.listen(KEEPALIVE_SEND)
        server = ServerConnection({})
        server.owner = "the client"
        server.receive(message((KEEPALIVE, 1, 1, MESSAGE, 0, OK)))
        server.receive(message((KEEPALIVE, 1, 2, MESSAGE, 0, OK)))
        self.assertEqual(
            received,
            [("the client", "the client", KEEPALIVE, 1, 1), ("the client", "the client", KEEPALIVE, 1, 2)],
        )
        self.assertEqual(sent, [("the client", "the client", KEEPALIVE, 1, 2)])

    def test_how_long_a_peer_has_been_silent(self) -> None:
        watch = KeepAlive(5, 5, now=100)
        watch.check(105)
        self.assertEqual(watch.idle(107), 7)
        watch.received(108)
        self.assertEqual(watch.idle(109), 1)
