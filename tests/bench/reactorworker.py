"""
L{tests.bench.worker}'s conversation for clients that run on a reactor, and the load they all make in the same
way: as many coroutines as calls in flight, each awaiting one call after the other, as their users write it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorCore
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

Calls = Mapping[str, Callable[[], Deferred[Any]]]


async def measure(call: Callable[[], Deferred[Any]], depth: int, seconds: float) -> tuple[int, float]:
    """
    Keep C{depth} calls in flight for C{seconds}.

    @return: calls answered and seconds taken.
    """
    clock = time.perf_counter
    start = clock()
    deadline = start + seconds

    async def chain() -> int:
        count = 0
        while clock() < deadline:
            await call()
            count += 1
        return count

    counts = await gatherResults([Deferred.fromCoroutine(chain()) for _ in range(depth)], consumeErrors=True)
    return sum(counts), clock() - start


class _Requests(LineOnlyReceiver):
    """
    Answers the bench's requests on standard input and output.
    """

    delimiter = b"\n"

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.done: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._answer("ready")

    def _answer(self, value: object) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(value).encode() + b"\n")

    def lineReceived(self, line: bytes) -> None:
        request = json.loads(line)
        measured = Deferred.fromCoroutine(
            measure(self._calls[request["call"]], request["depth"], request["seconds"])
        )
        measured.addCallback(self._answer).addErrback(self.done.errback)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.callback(None)


def run(connect: Callable[[IReactorCore], Coroutine[Deferred[Any], Any, Calls]]) -> None:
    """
    Run the reactor as a worker.

    @param connect: given the reactor, connects the client and returns its calls by name.
    """

    async def main(reactor: IReactorCore) -> None:
        requests = _Requests(await connect(reactor))
        StandardIO(cast(Protocol, requests))
        await requests.done

    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
