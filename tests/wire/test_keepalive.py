"""Keepalive: the messages, and the clock work of the side that sends PINGs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors import VECTORS
from virnet.wire.keepalive import PING_MESSAGE, PONG_MESSAGE, KeepAlive, Verdict

WAIT, PING, DEAD = Verdict.WAIT, Verdict.PING, Verdict.DEAD


class Messages(SynchronousTestCase):
    """Both are as libvirt sends them."""

    def test_R023_ping_and_pong(self) -> None:
        recorded = {each.name: each.data for each in VECTORS}
        self.assertEqual(PING_MESSAGE, recorded["keepalive PING"])
        self.assertEqual(PONG_MESSAGE, recorded["keepalive PONG"])


class ClockWork(SynchronousTestCase):
    """When a PING is due, and when the peer is given up."""

    def test_R098_a_silent_peer_is_given_up_after_one_interval_more_than_pings(self) -> None:
        watch = KeepAlive(5, 5, now=100)
        verdicts = [watch.check(100 + seconds) for seconds in range(5, 31, 5)]
        self.assertEqual(verdicts, [PING] * 5 + [DEAD])

    def test_nothing_is_due_before_its_time(self) -> None:
        watch = KeepAlive(5, 5, now=100)
        self.assertEqual(watch.deadline, 105)
        self.assertIs(watch.check(104.9), WAIT)
        self.assertEqual(watch.deadline, 105)
        self.assertIs(watch.check(105), PING)
        self.assertEqual(watch.deadline, 110)

    def test_any_sign_of_life_starts_over(self) -> None:
        watch = KeepAlive(5, 1, now=0)
        self.assertIs(watch.check(5), PING)
        watch.received(7)
        self.assertIs(watch.check(10), WAIT)
        self.assertIs(watch.check(12), PING)
        self.assertIs(watch.check(17), DEAD)

    def test_with_a_count_of_zero_there_is_one_interval_and_no_ping(self) -> None:
        watch = KeepAlive(3, 0, now=0)
        self.assertIs(watch.check(2.9), WAIT)
        self.assertIs(watch.check(3), DEAD)

    def test_R099_traffic_a_little_more_often_than_the_interval_keeps_pings_away(self) -> None:
        watch = KeepAlive(1, 2, now=0)
        for step in range(1, 50):
            self.assertIs(watch.check(step * 0.7), WAIT)
            watch.received(step * 0.7)

    @given(st.integers(1, 10), st.integers(0, 5), st.lists(st.integers(1, 9), max_size=30))
    def test_pings_are_never_closer_than_the_interval_and_never_more_than_the_count(
        self, interval: int, count: int, steps: list[int]
    ) -> None:
        watch = KeepAlive(interval, count, now=0)
        now, last, pings = 0, 0, 0
        for step in steps:
            now += step
            verdict = watch.check(now)
            if verdict is not WAIT:
                self.assertTrue(now - last >= interval)
                last = now
            pings += verdict is PING
            self.assertTrue(pings <= count)
            if verdict is DEAD:
                self.assertEqual(pings, count)
                return
