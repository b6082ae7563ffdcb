"""Serials and pending calls."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from virnet.wire.calls import PendingCalls

REMOTE = 0x20008086
QEMU = 0x20008087
LAST = 0xFFFFFFFF


class Serials(SynchronousTestCase):
    """One counter a connection."""

    def test_they_count_from_zero(self) -> None:
        calls: PendingCalls[str] = PendingCalls()
        self.assertEqual([calls.add(REMOTE, 1, 66, "") for _ in range(3)], [0, 1, 2])

    def test_R028_programs_share_the_counter(self) -> None:
        calls: PendingCalls[str] = PendingCalls()
        self.assertEqual(
            [calls.add(program, 1, 1, "") for program in (REMOTE, QEMU, REMOTE, QEMU)], [0, 1, 2, 3]
        )

    def test_answered_calls_do_not_give_their_serial_back(self) -> None:
        calls: PendingCalls[str] = PendingCalls()
        calls.pop(REMOTE, 1, calls.add(REMOTE, 1, 1, ""))
        self.assertEqual(calls.add(REMOTE, 1, 1, ""), 1)

    def test_they_wrap_at_32_bits(self) -> None:
        calls: PendingCalls[str] = PendingCalls(firstSerial=LAST)
        self.assertEqual([calls.add(REMOTE, 1, 1, "") for _ in range(2)], [LAST, 0])

    def test_after_wrapping_a_serial_still_waited_for_is_passed_over(self) -> None:
        calls: PendingCalls[str] = PendingCalls(firstSerial=LAST - 1)
        slow = [calls.add(REMOTE, 1, 1, name) for name in ("last but one", "last", "zero", "one")]
        self.assertEqual(slow, [LAST - 1, LAST, 0, 1])
        calls.pop(REMOTE, 1, 0)
        again: PendingCalls[str] = calls
        again._serial = LAST - 1
        self.assertEqual(again.add(REMOTE, 1, 1, "new"), 0)
        self.assertEqual(again.add(REMOTE, 1, 1, "newer"), 2)
        self.assertEqual(again.pop(REMOTE, 1, LAST), (1, "last"))


class Matching(SynchronousTestCase):
    """A reply finds its call by program, version and serial."""

    def setUp(self) -> None:
        self.calls: PendingCalls[str] = PendingCalls()
        self.first = self.calls.add(REMOTE, 1, 23, "first")
        self.second = self.calls.add(REMOTE, 1, 59, "second")

    def test_in_any_order(self) -> None:
        self.assertEqual(self.calls.pop(REMOTE, 1, self.second), (59, "second"))
        self.assertEqual(self.calls.pop(REMOTE, 1, self.first), (23, "first"))
        self.assertEqual(len(self.calls), 0)

    def test_once(self) -> None:
        self.calls.pop(REMOTE, 1, self.first)
        self.assertIs(self.calls.pop(REMOTE, 1, self.first), None)

    def test_not_with_another_program_version_or_serial(self) -> None:
        for program, version, serial in ((QEMU, 1, 0), (REMOTE, 2, 0), (REMOTE, 1, 2)):
            self.assertIs(self.calls.pop(program, version, serial), None)
        self.assertEqual(len(self.calls), 2)

    def test_R059_taking_one_from_the_middle_leaves_the_others(self) -> None:
        third = self.calls.add(REMOTE, 1, 1, "third")
        self.calls.pop(REMOTE, 1, self.second)
        self.assertEqual(self.calls.clear(), ["first", "third"])
        self.assertIs(self.calls.pop(REMOTE, 1, third), None)

    def test_clearing_gives_all_of_them_oldest_first_and_leaves_none(self) -> None:
        self.assertEqual(self.calls.clear(), ["first", "second"])
        self.assertEqual(self.calls.clear(), [])
