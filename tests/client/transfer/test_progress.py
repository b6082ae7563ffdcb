"""How far a transfer is, and how fast."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from virnet.client.stream import Hole
from virnet.client.transfer.progress import Meter, Progress


class Meters(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[Progress] = []
        self.meter = Meter(self.clock, self.told.append)

    def pass_(self, seconds: float, count: int) -> Progress:
        self.clock.advance(seconds)
        self.meter.count(bytes(count))
        return self.told[-1]

    def test_every_piece_is_told(self) -> None:
        self.meter.total = 100
        self.meter.count(b"12345")
        self.meter.count(Hole(20))
        self.assertEqual([5, 25], [each.done for each in self.told])
        self.assertEqual((5, 20, 100), self.told[-1][:3])

    def test_rate_and_time_left(self) -> None:
        self.meter.total = 1000
        told = self.pass_(1, 100)
        self.assertEqual((100, 9.0), (told.rate, told.remaining))

    def test_holes_take_no_time(self) -> None:
        """
        They are no part of the rate, but the time left knows of them.
        """
        self.meter.total = 1000
        self.meter.count(Hole(500))
        told = self.pass_(1, 100)
        self.assertEqual(100, told.rate)
        self.assertAlmostEqual(400 / 600, told.remaining)

    def test_the_rate_is_that_of_now(self) -> None:
        for _ in range(10):
            self.pass_(1, 1000)
        for _ in range(6):
            told = self.pass_(1, 10)
        self.assertAlmostEqual(10, told.rate)

    def test_nothing_to_tell_yet(self) -> None:
        self.meter.count(b"1")
        self.assertEqual((0.0, None), (self.told[-1].rate, self.told[-1].remaining))

    def test_no_total(self) -> None:
        self.assertIsNone(self.pass_(1, 5).remaining)

    def test_more_than_there_should_be(self) -> None:
        self.meter.total = 1
        self.assertEqual(0.0, self.pass_(1, 5).remaining)

    def test_what_is_remembered_is_bounded(self) -> None:
        for _ in range(10000):
            self.pass_(0.001, 1)
        self.assertLess(len(self.meter._marks), 60)
