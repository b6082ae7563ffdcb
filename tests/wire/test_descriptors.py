"""Descriptors in the byte stream: a message announces them, then comes one byte for each.

Each byte has its descriptor with it; the shell tells of a descriptor before the bytes it came with.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.messages import message
from virnet.wire.connection import ClientConnection, ServerConnection
from virnet.wire.events import CallReceived, Fault, Send
from virnet.wire.framing import Framer
from virnet.wire.message import CALL, CALL_WITH_FDS, OK, REPLY_WITH_FDS

REMOTE = 0x20008086


def announcing(count: int, number: int = 309, type: int = CALL_WITH_FDS) -> bytes:
    """A message that announces descriptors."""
    return message((REMOTE, 1, number, type, 0, OK), count.to_bytes(4, "big") + b"args")


NEXT = message((REMOTE, 1, 309, CALL, 1, OK))


class Framing(SynchronousTestCase):
    """The bytes of descriptors belong to no message."""

    def framer(self, descriptors: int | None) -> Framer:
        """A framer that was told of so many descriptors."""
        framer = Framer(withDescriptors=CALL_WITH_FDS)
        framer.descriptors = descriptors
        return framer

    def test_the_message_is_held_back_until_all_have_come(self) -> None:
        framer = self.framer(0)
        self.assertEqual(framer.feed(announcing(2)), [])
        framer.descriptors = 1
        self.assertEqual(framer.feed(b"\0"), [])
        framer.descriptors = 2
        self.assertEqual(framer.feed(b"\0"), [announcing(2)])
        self.assertEqual((framer.descriptors, framer.fault), (0, None))

    def test_reads_that_merge_them_with_what_is_around(self) -> None:
        stream = announcing(2) + b"\0\0" + NEXT + announcing(0) + announcing(1) + b"\0" + NEXT
        wanted = [announcing(2), NEXT, announcing(0), announcing(1), NEXT]
        for place in range(len(stream)):
            framer = self.framer(3)
            self.assertEqual(framer.feed(stream[:place]) + framer.feed(stream[place:]), wanted, place)
        framer = self.framer(3)
        got = [each for i in range(len(stream)) for each in framer.feed(stream[i : i + 1])]
        self.assertEqual(got, wanted)

    def test_bytes_without_their_descriptors_are_a_fault(self) -> None:
        framer = self.framer(1)
        self.assertEqual(framer.feed(announcing(2) + b"\0\0" + NEXT), [])
        self.assertEqual(str(framer.fault), "received a byte for a file descriptor without one")

    def test_32_are_taken_and_33_are_not(self) -> None:
        framer = self.framer(33)
        self.assertEqual(framer.feed(announcing(32) + bytes(32)), [announcing(32)])
        self.assertEqual(framer.feed(announcing(33) + bytes(33)), [])
        self.assertEqual(str(framer.fault), "Received too many FDs 33, expected 32 maximum")

    def test_where_none_can_come_none_may_be_announced(self) -> None:
        framer = self.framer(None)
        self.assertEqual(framer.feed(announcing(0)), [announcing(0)])
        self.assertEqual(framer.feed(announcing(1)), [])
        self.assertEqual(str(framer.fault), "Receiving file descriptors is not supported on this socket")

    def test_a_message_too_short_to_say_how_many(self) -> None:
        for size in range(4):
            framer = self.framer(0)
            self.assertEqual(framer.feed(message((REMOTE, 1, 1, CALL_WITH_FDS, 0, OK), bytes(size))), [])
            self.assertEqual(str(framer.fault), "the message ends before its number of file descriptors")

    def test_only_the_type_that_brings_them_to_this_end_counts(self) -> None:
        for type in (REPLY_WITH_FDS, 0x104, 0x0400, -4):
            data = message((REMOTE, 1, 1, type, 0, OK), b"\0\0\0\x05")
            self.assertEqual(self.framer(0).feed(data + NEXT), [data, NEXT])
        data = announcing(5)
        self.assertEqual(Framer().feed(data + NEXT), [data, NEXT])


class EachWithItsByte(SynchronousTestCase):
    """No read goes on behind the byte of a descriptor: after it there are as many as bytes for them."""

    def read(self, *reads: tuple[bytes, int]) -> tuple[int, str]:
        """Have bytes read, each with so many descriptors.

        @return: how many messages were judged, and the fault.
        """
        server = ServerConnection({(REMOTE, 1): {309: "domainCreateXMLWithFiles"}}, limit=100)
        server.acceptDescriptors()
        events: list[Any] = []
        for data, count in reads:
            for _ in range(count):
                server.descriptorReceived()
            events += server.receive(data)
        faults = [str(event.error) for event in events if isinstance(event, Fault)]
        return len(events) - len(faults), "".join(faults)

    def test_so_it_is(self) -> None:
        big = message((REMOTE, 1, 309, CALL_WITH_FDS, 0, OK), b"\0\0\0\2" + bytes(100000))
        for reads, count in (
            ([(announcing(1) + b"\0", 1)], 1),
            ([(NEXT + announcing(2) + b"\0", 1), (b"\0", 1), (NEXT, 0)], 3),
            ([(announcing(2), 0), (b"\0", 1), (b"\0", 1), (announcing(1) + b"\0", 1)], 2),
            ([(announcing(3)[:20], 0), (announcing(3)[20:] + b"\0", 1), (b"\0", 1), (b"\0", 1)], 1),
            ([(big[:70000], 0), (big[70000:] + b"\0", 1), (b"\0", 1), (NEXT, 0)], 2),
            ([(announcing(2) + b"\0", 1), (b"\0", 1), (NEXT[:3], 0), (NEXT[3:], 0)], 2),
        ):
            self.assertEqual(self.read(*reads), (count, ""), reads)

    def test_otherwise_it_is_a_fault(self) -> None:
        wrong = "received a file descriptor without a byte of its own"
        for reads, count in (
            ([(NEXT, 1)], 1),
            ([(NEXT[:3], 1)], 0),
            ([(NEXT[:20], 1)], 0),
            ([(NEXT[:20], 0), (NEXT[20:25], 1)], 0),
            ([(announcing(1)[:-1], 1)], 0),
            ([(announcing(1), 1)], 0),
            ([(announcing(2) + b"\0", 2)], 0),
            ([(announcing(3), 0), (b"\0", 2)], 0),
            ([(announcing(3) + b"\0", 1), (b"\0", 2)], 0),
            ([(announcing(1) + b"\0", 2)], 1),
            ([(announcing(2) + b"\0", 1), (b"\0", 1), (NEXT[:3], 1)], 1),
            ([(announcing(2) + b"\0", 1), (b"\0" + NEXT[:2], 1), (NEXT[2:3], 1)], 1),
            ([(announcing(0), 1)], 1),
        ):
            self.assertEqual(self.read(*reads), (count, wrong), reads)

    def test_what_cannot_be_read_on_is_one_fault(self) -> None:
        self.assertEqual(self.read((announcing(33), 1)), (0, "Received too many FDs 33, expected 32 maximum"))


class Connections(SynchronousTestCase):
    """How many belong to which message."""

    def test_a_call_says_how_many_came_with_it(self) -> None:
        server = ServerConnection({(REMOTE, 1): {309: "domainCreateXMLWithFiles"}})
        server.acceptDescriptors()
        self.assertTrue(server.carriesDescriptors)
        server.descriptorReceived()
        server.descriptorReceived()
        (event,) = server.receive(announcing(2) + b"\0\0")
        assert isinstance(event, CallReceived)
        self.assertEqual((event.descriptors, event.data[event.offset :]), (2, b"args"))

    def test_so_does_a_refusal_that_they_find_no_taker(self) -> None:
        server = ServerConnection({(REMOTE, 1): {309: "domainCreateXMLWithFiles"}})
        server.acceptDescriptors()
        for number in (999, 309):
            server.descriptorReceived()
            (event,) = server.receive(announcing(1, number) + b"\0")
            assert isinstance(event, Send | CallReceived)
            self.assertEqual(event.descriptors, 1)

    def test_a_reply_and_a_failure_too(self) -> None:
        client: ClientConnection[str] = ClientConnection()
        client.acceptDescriptors()
        for status in (0, 2):
            client.call(REMOTE, 1, 343, b"", "token")
            client.descriptorReceived()
            data = message((REMOTE, 1, 343, REPLY_WITH_FDS, status // 2, status), b"\0\0\0\x01")
            event: Any
            (event,) = client.receive(data + b"\0")
            self.assertEqual((event.token, event.descriptors), ("token", 1))

    def test_where_none_can_come_the_connection_ends(self) -> None:
        server = ServerConnection({(REMOTE, 1): {309: "domainCreateXMLWithFiles"}})
        self.assertFalse(server.carriesDescriptors)
        (event,) = server.receive(announcing(1))
        self.assertIsInstance(event, Fault)

    def test_so_it_does_once_they_are_refused(self) -> None:
        server = ServerConnection({})
        server.acceptDescriptors()
        server.refuseDescriptors()
        self.assertFalse(server.carriesDescriptors)
        (event,) = server.receive(announcing(1))
        assert isinstance(event, Fault)
        self.assertIn("not supported", str(event.error))
