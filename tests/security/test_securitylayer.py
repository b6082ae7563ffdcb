"""Packets of a security layer: cut, joined, judged."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import RemoteProtocolError
from virnet.security.securitylayer import SecurityLayer


def wrap(data: bytes) -> bytes:
    """A protection that anybody can see through: a mark, and every bit turned."""
    return b"\xa5" + bytes(each ^ 0xFF for each in data)


def unwrap(packet: bytes) -> bytes:
    """Its opposite."""
    if packet[:1] != b"\xa5":
        raise ValueError("no mark")
    return bytes(each ^ 0xFF for each in packet[1:])


def layer(blockSize: int = 100, packetMax: int = 101) -> SecurityLayer:
    """A layer of it."""
    return SecurityLayer(wrap, unwrap, blockSize, packetMax)


class Sending(SynchronousTestCase):
    """What goes out."""

    def test_a_packet_is_its_length_and_what_is_protected(self) -> None:
        self.assertEqual(layer().encode(b"\x0f\xf0"), b"\0\0\0\x03\xa5\xf0\x0f")

    def test_large_messages_are_cut_into_blocks(self) -> None:
        for size, packets in ((100, 1), (101, 2), (200, 2), (250, 3)):
            sent = layer().encode(bytes(size))
            self.assertEqual(len(sent), size + 5 * packets)
            self.assertEqual(layer().decode(sent), bytes(size))


class Receiving(SynchronousTestCase):
    """What comes in."""

    def test_in_pieces_of_any_size(self) -> None:
        data = Random(1).randbytes(1000)
        sent = layer().encode(data)
        for size in (1, 2, 3, 7, 104, 105, 106, 1050, 5000):
            receiver = layer()
            pieces = [receiver.decode(sent[start : start + size]) for start in range(0, len(sent), size)]
            self.assertEqual(b"".join(pieces), data)

    def test_several_packets_at_once(self) -> None:
        sender = layer()
        self.assertEqual(layer().decode(sender.encode(b"one") + sender.encode(b"two")), b"onetwo")

    def test_R127_bytes_above_0x7f(self) -> None:
        data = bytes(range(256))
        self.assertEqual(layer().decode(layer().encode(data)), data)

    def test_an_empty_packet_is_nothing(self) -> None:
        self.assertEqual(layer().decode(b"\0\0\0\x01\xa5"), b"")

    def test_a_packet_that_is_too_large_is_refused_by_its_length(self) -> None:
        self.assertEqual(layer().decode(b"\0\0\0\x65"), b"")
        for length in (b"\0\0\0\x66", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"):
            error = self.assertRaises(RemoteProtocolError, layer().decode, length)
            self.assertIn("more than the 101 agreed on", str(error))

    def test_a_packet_that_does_not_verify_is_refused(self) -> None:
        for packet in (b"\0\0\0\0", b"\0\0\0\x02xx"):
            error = self.assertRaises(RemoteProtocolError, layer().decode, packet)
            self.assertEqual(str(error), "failed to decode SASL packet: no mark")
