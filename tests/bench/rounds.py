"""
Alternating rounds (ours, peer, ours, peer, ...) and what is said of them: medians, ratios of neighbours, and
how noisy the machine was. Nothing here judges: wall time on a shared machine proves nothing by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple

WARM_UP_SECONDS = 0.05
NOISE_LOOPS = 200_000


class Absent(Exception):
    """
    What a measurement needs is not installed; the text says what.
    """


class Sample(NamedTuple):
    """
    @ivar rate: calls (or codings) a second.
    @ivar cpu: seconds of processor time that the processes compared used for one.
    """

    rate: float
    cpu: float


class Contender(NamedTuple):
    """
    @ivar measure: measures for about so many seconds.
    """

    name: str
    measure: Callable[[float], Sample]


class Case(NamedTuple):
    """
    One thing measured of us and of one or more peers.
    """

    section: str
    name: str
    ours: Contender
    peers: tuple[Contender, ...]

    def words(self) -> str:
        """
        All that the case may be chosen by.
        """
        return " ".join([self.section, self.name, *(peer.name for peer in self.peers)])


class Row(NamedTuple):
    """
    The result of one case with one peer. All but the names are medians over the rounds; C{ratios} has one
    quotient ours/peer a round, of measurements taken next to each other.
    """

    section: str
    name: str
    peer: str
    ourRate: float
    peerRate: float
    ourCPU: float
    peerCPU: float
    ratios: list[float]

    @property
    def ratio(self) -> float:
        return median(self.ratios)


def measureCase(case: Case, rounds: int, seconds: float) -> list[Row]:
    """
    @raise Absent: if a peer, or what we need ourselves, is not installed.
    """
    contenders = (case.ours, *case.peers)
    for contender in contenders:
        contender.measure(min(seconds, WARM_UP_SECONDS))
    samples: list[list[Sample]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, taken in zip(contenders, samples, strict=True):
            taken.append(contender.measure(seconds))
    ours = samples[0]
    return [
        Row(
            section=case.section,
            name=case.name,
            peer=peer.name,
            ourRate=median(sample.rate for sample in ours),
            peerRate=median(sample.rate for sample in theirs),
            ourCPU=median(sample.cpu for sample in ours),
            peerCPU=median(sample.cpu for sample in theirs),
            ratios=[a.rate / b.rate for a, b in zip(ours, theirs, strict=True)],
        )
        for peer, theirs in zip(case.peers, samples[1:], strict=True)
    ]


def noiseSample() -> float:
    """
    Seconds that a fixed piece of work takes: how fast this machine is just now.
    """
    start = time.perf_counter()
    for _ in range(NOISE_LOOPS):
        pass
    return time.perf_counter() - start


def describeNoise(samples: Sequence[float]) -> str:
    low, middle, high = (value * 1e3 for value in (min(samples), median(samples), max(samples)))
    return (
        f"noise: a fixed loop, timed between the cases, took {middle:.2f} ms (median), "
        f"{low:.2f} to {high:.2f} ms (x{high / low:.2f})"
    )


def table(rows: Iterable[Row]) -> str:
    """
    The rows as aligned text, a heading before each section.
    """
    head = ("ratio", "(min..max)", "ours/s", "peer/s", "ours cpu us", "peer cpu us", "peer", "case")
    cells = [head]
    sections = [""]
    for row in rows:
        sections.append(row.section)
        cells.append(
            (
                f"{row.ratio:.2f}",
                f"({min(row.ratios):.2f}..{max(row.ratios):.2f})",
                f"{row.ourRate:,.0f}",
                f"{row.peerRate:,.0f}",
                f"{row.ourCPU * 1e6:.1f}",
                f"{row.peerCPU * 1e6:.1f}",
                row.peer,
                row.name,
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines: list[str] = []
    for index, (section, line) in enumerate(zip(sections, cells, strict=True)):
        if index and section != sections[index - 1]:
            lines.append(f"-- {section}")
        texts = [cell.rjust(width) for cell, width in zip(line[:-2], widths, strict=False)]
        lines.append("  ".join([*texts, line[-2].ljust(widths[-2]), line[-1]]).rstrip())
    return "\n".join(lines)
