"""
C{ping} and C{bench}: how long calls take, and how many a second the server answers.

C{ping} makes one call after the other. C{bench} keeps so many under way, for a time, at each depth that was
asked for; its latencies are those of the calls under that load, from sending to the answer.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from virnet.cli.call import clientFor, found, prepare
from virnet.cli.output import Output
from virnet.cli.session import Session
from virnet.client import NetClient
from virnet.programs.base import Procedure

PERCENTILES = (50, 90, 99)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that so many percent of the others do not exceed (nearest rank)."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(1, int(rank)) - 1]


def summary(times: Sequence[float]) -> dict[str, float]:
    """The figures of some times, in milliseconds."""
    ordered = sorted(times)
    named = {f"p{percent}": percentile(ordered, percent) for percent in PERCENTILES}
    return {"min": ordered[0], **named, "max": ordered[-1], "mean": sum(ordered) / len(ordered)}


async def ping(session: Session) -> None:
    """C{ping}: a call that goes through the whole server and does nothing there."""
    times = []
    for number in range(session.options.count):
        if number and session.options.interval:
            await deferLater(session.reactor, session.options.interval)
        began = time.perf_counter()
        await session.connection.remote.connectGetLibVersion()
        times.append((time.perf_counter() - began) * 1000)
    figures = summary(times)
    if session.output.asJSON:
        session.output.data({"calls": len(times), "median": figures["p50"], **figures})
        return
    calls = "1 call" if len(times) == 1 else f"{len(times)} calls"
    said = ", ".join(f"{name} {value:.3f} ms" for name, value in figures.items())
    session.output.line(f"{calls}: {said}")


def checkBench(options: Namespace, output: Output) -> None:
    """Find out what to call before anything is connected."""
    options.args = None
    options.bare = False
    options.call = prepare(options)


async def bench(reactor: Any, options: Namespace, output: Output) -> None:
    """C{bench}"""
    procedure = options.call.procedure
    rows = []
    async with clientFor(reactor, options, procedure) as client:
        arguments = tuple(await found(client, options.call))
        await client.call(procedure, arguments)
        for depth in options.depth:
            rows.append(await _measured(client, procedure, arguments, depth, options.time))
    if output.asJSON:
        output.data({"procedure": procedure.name, "uri": options.connect, "results": rows})
        return
    output.table(
        ("Depth", "Calls/s", "Calls", "p50 ms", "p90 ms", "p99 ms", "max ms"),
        [
            (
                row["depth"],
                f"{row['rate']:.0f}",
                row["calls"],
                *(f"{row[key]:.3f}" for key in ("p50", "p90", "p99", "max")),
            )
            for row in rows
        ],
        right=range(7),
    )


async def _measured(
    client: NetClient, procedure: Procedure, arguments: tuple[Any, ...], depth: int, seconds: float
) -> dict[str, Any]:
    times: list[float] = []
    began = time.perf_counter()
    until = began + seconds

    async def caller() -> None:
        while not times or time.perf_counter() < until:
            sent = time.perf_counter()
            await client.call(procedure, arguments)
            times.append((time.perf_counter() - sent) * 1000)

    callers = [Deferred.fromCoroutine(caller()) for _ in range(depth)]
    try:
        await gatherResults(callers, consumeErrors=True)
    finally:
        for each in callers:
            each.cancel()
    spent = time.perf_counter() - began
    return {"depth": depth, "calls": len(times), "rate": len(times) / spent, **summary(times)}
