"""
How far a transfer is.

The rate is that of the last few seconds: after a stall it says what is now, and the time left follows it.
Data and holes are counted apart, because only data takes time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from virnet.transport.files import Hole

_WINDOW = 5.0
"""Seconds that the rate is measured over."""

_STEP = 0.1
"""Seconds between two measurements that are kept."""


class Progress(NamedTuple):
    """A moment of a transfer.

    @ivar data: bytes of data that have passed.
    @ivar holes: bytes of holes that have passed.
    @ivar total: bytes of both there will be; C{None} when nobody knows.
    @ivar seconds: since the beginning.
    @ivar rate: bytes of data a second, lately.
    @ivar remaining: seconds that the rest takes at the present pace; C{None} when that cannot be told.
    """

    data: int
    holes: int
    total: int | None
    seconds: float
    rate: float
    remaining: float | None

    @property
    def done(self) -> int:
        """Bytes that have passed, holes included."""
        return self.data + self.holes


class Transferred(NamedTuple):
    """What a transfer came to.

    @ivar data: bytes of data.
    @ivar holes: bytes of holes.
    @ivar seconds: what it took.
    @ivar checksum: C{NAME:HEX} where one was asked for.
    @ivar resumed: how often it went on after a cut.
    """

    data: int
    holes: int
    seconds: float
    checksum: str | None = None
    resumed: int = 0

    @property
    def size(self) -> int:
        """Bytes, holes included."""
        return self.data + self.holes


class Meter:
    """Counts, and tells whoever wants to know.

    @ivar total: see L{Progress}.
    """

    def __init__(self, reactor: Any, tell: Callable[[Progress], object] | None) -> None:
        """@param tell: called after each piece, with the L{Progress}."""
        self._clock = reactor
        self._tell = tell
        self._began: float = reactor.seconds()
        self._marks: deque[tuple[float, int, int]] = deque([(self._began, 0, 0)])
        self.total: int | None = None
        self.data = 0
        self.holes = 0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        now: float = self._clock.seconds()
        return now - self._began

    def count(self, item: bytes | Hole) -> None:
        """Count a piece."""
        if isinstance(item, Hole):
            self.holes += item.length
        else:
            self.data += len(item)
        if self._tell is not None:
            self._tell(self.progress())

    def progress(self) -> Progress:
        """The moment."""
        now: float = self._clock.seconds()
        done = self.data + self.holes
        marks = self._marks
        while len(marks) > 1 and marks[1][0] <= now - _WINDOW:
            marks.popleft()
        then, data, before = marks[0]
        if now - marks[-1][0] >= _STEP:
            marks.append((now, self.data, done))
        spent = now - then
        rate = (self.data - data) / spent if spent > 0 else 0.0
        pace = (done - before) / spent if spent > 0 else 0.0
        left = None if self.total is None else max(0, self.total - done)
        remaining = left / pace if left is not None and pace > 0 else None
        return Progress(self.data, self.holes, self.total, now - self._began, rate, remaining)
