"""Cutting the byte stream: whatever way it arrives, the same messages come out, and bad lengths end it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.messages import PLACES, cuts, message, raw
from tests.wire.vectors import VECTORS
from virnet.limits import MESSAGE_MAX, MESSAGE_MIN
from virnet.wire.framing import Framer
from virnet.wire.message import CALL_WITH_FDS

CALL = (0x20008086, 1, 66, 0, 0, 0)
MIB = 1 << 20

#: Those that consist of nothing but the message: behind one with descriptors comes a byte for each.
RECORDED = [each.data for each in VECTORS if each.header[3] != CALL_WITH_FDS]


def feedAll(framer: Framer, pieces: Iterable[bytes]) -> list[bytes]:
    """What comes out of a framer for all pieces together."""
    return [each for piece in pieces for each in framer.feed(piece)]


def bytewise(data: bytes) -> list[bytes]:
    """One byte a piece."""
    return [data[i : i + 1] for i in range(len(data))]


class Cutting(SynchronousTestCase):
    """Where reads begin and end does not matter."""

    def test_R004_a_message_delivered_byte_by_byte_comes_out_once_with_its_last_byte(self) -> None:
        whole = message(CALL, b"payload!")
        framer = Framer()
        self.assertEqual(feedAll(framer, bytewise(whole[:-1])), [])
        self.assertEqual(framer.feed(whole[-1:]), [whole])

    def test_R005_three_messages_in_one_read_come_out_in_order(self) -> None:
        three = [message(CALL, bytes([n]) * n) for n in (0, 1, 2)]
        self.assertEqual(Framer().feed(b"".join(three)), three)

    def test_the_end_of_one_and_the_start_of_the_next_in_one_read(self) -> None:
        first, second = message(CALL, b"1" * 40), message(CALL, b"2" * 40)
        stream = first + second
        for place in range(len(stream)):
            framer = Framer()
            got = framer.feed(stream[:place]) + framer.feed(stream[place:])
            self.assertEqual(got, [first, second], place)

    def test_bytes_that_are_left_over(self) -> None:
        whole = message(CALL, b"payload!")
        framer = Framer()
        self.assertFalse(framer.incomplete)
        framer.feed(whole + whole[:1])
        self.assertTrue(framer.incomplete)
        framer.feed(whole[1:])
        self.assertFalse(framer.incomplete)
        framer.feed(bytes(4))
        self.assertTrue(framer.incomplete, "a bad length")

    def test_an_empty_read_changes_nothing(self) -> None:
        whole = message(CALL, b"payload!")
        framer = Framer()
        self.assertEqual(feedAll(framer, [b"", whole[:3], b"", whole[3:], b""]), [whole])
        self.assertIs(framer.fault, None)

    @given(st.lists(st.sampled_from(RECORDED), max_size=6), PLACES)
    def test_whole_bytewise_and_random_cuts_give_the_same(self, sent: list[bytes], places: list[int]) -> None:
        stream = b"".join(sent)
        self.assertEqual(Framer().feed(stream), sent)
        self.assertEqual(feedAll(Framer(), bytewise(stream)), sent)
        self.assertEqual(feedAll(Framer(), cuts(stream, places)), sent)

    @settings(max_examples=200)
    @given(
        st.lists(st.tuples(st.integers(0, 70), st.binary(max_size=50)), max_size=6),
        PLACES,
    )
    def test_cuts_do_not_matter_where_lengths_lie_either(
        self, parts: list[tuple[int, bytes]], places: list[int]
    ) -> None:
        stream = b"".join(length.to_bytes(4, "big") + body for length, body in parts)
        outcomes = []
        for pieces in ([stream], bytewise(stream), cuts(stream, places)):
            framer = Framer(maximum=60)
            outcomes.append((feedAll(framer, pieces), str(framer.fault)))
        self.assertEqual(outcomes[1], outcomes[0])
        self.assertEqual(outcomes[2], outcomes[0])


class Lengths(SynchronousTestCase):
    """The length word, judged as soon as its four bytes are there."""

    def refused(self, word: int) -> str:
        """Send a length word byte by byte; return the fault, which must come with its last byte."""
        data = word.to_bytes(4, "big")
        framer = Framer()
        self.assertEqual(feedAll(framer, bytewise(data[:3])), [])
        self.assertIs(framer.fault, None)
        self.assertEqual(framer.feed(data[3:]), [])
        self.assertIsNot(framer.fault, None, word)
        return str(framer.fault)

    def test_R001_a_length_below_four_is_too_small_for_its_own_word(self) -> None:
        for word in (0, 1, 2, 3):
            self.assertEqual(self.refused(word), f"packet {word} bytes received too small, want 4")

    def test_R046_a_length_of_four_is_refused_without_waiting_for_more(self) -> None:
        self.assertEqual(self.refused(4), "packet without a header received")

    def test_R002_a_length_above_the_maximum_is_refused_without_waiting_for_the_body(self) -> None:
        self.assertEqual(
            self.refused(MESSAGE_MAX + 5), "packet 33554433 bytes received too large, want 33554432"
        )

    def test_R002_a_length_with_the_top_bit_set_is_too_large_not_negative(self) -> None:
        for word in (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            self.assertIn("too large, want 33554432", self.refused(word))

    def test_R003_a_length_word_equal_to_the_maximum_is_taken(self) -> None:
        whole = raw(MESSAGE_MAX + 4, CALL, bytes(MESSAGE_MAX + 4 - MESSAGE_MIN))
        self.assertEqual(len(whole), 33554436)
        framer = Framer()
        got = framer.feed(whole)
        self.assertIs(got[0], whole)
        self.assertIs(framer.fault, None)

    def test_a_length_without_room_for_a_header_waits_for_the_declared_bytes(self) -> None:
        for word in range(5, MESSAGE_MIN):
            framer = Framer()
            data = word.to_bytes(4, "big") + bytes(word - 4)
            feedAll(framer, bytewise(data[:-1]))
            self.assertIs(framer.fault, None, word)
            self.assertEqual(framer.feed(data[-1:]), [])
            self.assertIn("Unable to decode message header", str(framer.fault), word)

    def test_the_smallest_message_has_a_header_and_nothing_else(self) -> None:
        self.assertEqual(Framer().feed(message(CALL)), [message(CALL)])

    def test_one_below_and_one_above_a_maximum_of_ones_own(self) -> None:
        for extra, fault in ((-1, False), (0, False), (1, True)):
            framer = Framer(maximum=100)
            whole = message(CALL, bytes(100 + 4 - MESSAGE_MIN + extra))
            self.assertEqual(framer.feed(whole), [] if fault else [whole])
            self.assertEqual(framer.fault is not None, fault)

    def test_messages_before_a_bad_length_are_delivered_and_nothing_after_it(self) -> None:
        good = message(CALL, b"good")
        framer = Framer()
        self.assertEqual(framer.feed(good + good + bytes(4) + good), [good, good])
        self.assertIsNot(framer.fault, None)
        self.assertEqual(framer.feed(good), [])

    def test_a_bad_length_behind_a_long_message_is_seen_with_it(self) -> None:
        long = message(CALL, b"x" * 1000)
        framer = Framer()
        feedAll(framer, cuts(long, [300, 600])[:-1])
        self.assertEqual(framer.feed(long[600:] + bytes(4)), [long])
        self.assertIn("too small", str(framer.fault))


class LargeMessages(SynchronousTestCase):
    """A large body is neither copied more than once nor let grow beyond what was declared."""

    def test_a_message_in_one_read_is_not_copied(self) -> None:
        whole = message(CALL, b"x" * 100_000)
        self.assertIs(Framer().feed(whole)[0], whole)

    def peak(self, pieces: Iterable[bytes]) -> int:
        """The most memory in use while pieces are fed one by one, over what was in use before."""
        framer = Framer()
        tracemalloc.start()
        try:
            for piece in pieces:
                framer.feed(piece)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_a_message_in_many_reads_costs_itself_and_its_pieces(self) -> None:
        body = bytes(8 * MIB)
        whole = message(CALL, body)
        step = 65536
        peak = self.peak(whole[i : i + step] for i in range(0, len(whole), step))
        self.assertLess(peak, 2 * len(whole) + MIB)

    def test_bytes_behind_a_large_message_do_not_make_it_copied_again(self) -> None:
        whole = message(CALL, bytes(8 * MIB))
        stream = whole + message(CALL, b"next")[:-1]
        step = 65536
        peak = self.peak(stream[i : i + step] for i in range(0, len(stream), step))
        self.assertLess(peak, 2 * len(whole) + MIB)

    def test_a_message_in_tiny_reads_costs_no_more(self) -> None:
        # Hostile: an object of 33 bytes around each of them would make 32 MiB into a hundred, or a gigabyte.
        whole = message(CALL, bytes(MIB))
        peak = self.peak(whole[i : i + 20] for i in range(0, len(whole), 20))
        self.assertLess(peak, 2.5 * len(whole))

    def test_tiny_and_large_reads_in_turn_keep_their_order(self) -> None:
        whole = message(CALL, bytes(range(256)) * 1200)
        sizes = [1, 5000, 3, 4095, 4096, 2, 9000, *[100] * 700]
        places = [sum(sizes[:i]) for i in range(1, len(sizes))]
        self.assertEqual(feedAll(Framer(), cuts(whole, places)), [whole])

    def test_a_body_is_joined_once_not_once_a_read(self) -> None:
        class Piece(bytes):
            def __radd__(self, other: bytes) -> bytes:
                raise AssertionError("a piece was concatenated to what was there")

        whole = message(CALL, b"x" * 1000)
        pieces = [Piece(each) for each in cuts(whole, list(range(0, 1000, 100)))]
        self.assertEqual(feedAll(Framer(), pieces), [whole])
