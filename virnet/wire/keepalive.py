"""
Keepalive: PING is answered by PONG, and who sends PINGs gives a silent peer up.

  - Both are events of a program of its own, without payload and with serial 0. Every PING is answered, by
    both sides, at any time, whatever was negotiated; anything else of the program is ignored.
  - Only who knows that the peer understands it sends PINGs: a client after feature 10 was answered with 1, a
    server after it was asked.
  - Whatever is received is a sign of life, also of a connection that carries one large message. So is that
    some of what waits for the peer has left: it reads, and has not come to the PING yet.
  - After C{interval} seconds without one a PING goes out; when C{count} of them are unanswered, the next
    interval is the end. So a peer is given up C{interval * (count + 1)} seconds after its last sign of life;
    with a C{count} of 0 after one interval and without any PING (C: C{virKeepAlive}).
"""

from __future__ import annotations

from enum import Enum

from virnet.wire.message import MESSAGE, OK, encodeMessage

PROGRAM = 0x6B656570
VERSION = 1
PING = 1
PONG = 2

PING_MESSAGE = encodeMessage(PROGRAM, VERSION, PING, MESSAGE, 0, OK)
PONG_MESSAGE = encodeMessage(PROGRAM, VERSION, PONG, MESSAGE, 0, OK)


class Verdict(Enum):
    """What is to be done when the clock is looked at."""

    WAIT = "wait"
    PING = "ping"
    DEAD = "dead"


class KeepAlive:
    """The clock work of the side that sends PINGs.

    @ivar deadline: when to look again, in the seconds that were given.
    """

    __slots__ = ("_count", "_heard", "_interval", "_since", "_unanswered")

    def __init__(self, interval: float, count: int, now: float) -> None:
        """@param interval: seconds, more than 0.
        @param count: PINGs that may stay unanswered, at least 0.
        @param now: seconds of any monotonic clock.
        """
        self._interval = interval
        self._count = count
        self._heard = self._since = now
        self._unanswered = 0

    def idle(self, now: float) -> float:
        """Seconds since the last sign of life."""
        return now - self._heard

    @property
    def deadline(self) -> float:
        """When to look at the clock again."""
        return self._since + self._interval

    def received(self, now: float) -> None:
        """The peer lives."""
        self._heard = self._since = now
        self._unanswered = 0

    def check(self, now: float) -> Verdict:
        """Look at the clock.

        @return: C{PING}: one is to be sent now, and was counted; C{DEAD}: give the peer up.
        """
        if now < self.deadline:
            return Verdict.WAIT
        if self._unanswered >= self._count:
            return Verdict.DEAD
        self._unanswered += 1
        self._since = now
        return Verdict.PING
