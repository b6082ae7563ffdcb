"""Whatever happens to a lasting connection in whatever order: each call ends once, is sent at most once, in
order, and never with more of them in flight than are allowed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.client.server import LATER
from tests.client.test_service import Host
from virnet.client import ConnectionService
from virnet.errors import CallTimedOut, ConnectionLost
from virnet.programs import REMOTE

LOOKUP = 22
LIMIT = 3

CALL = st.tuples(st.just("call"), st.sampled_from([None, 5.0]), st.booleans())
ANSWER = st.tuples(st.just("answer"), st.integers(0, 2))
WHAT_IS_RARE = st.one_of(
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 6.0])),
    st.tuples(st.sampled_from(["refuse", "lose", "stop", "start"])),
)
ACCEPT = st.just(("accept",))
STEPS = st.lists(
    st.integers(0, 9).flatmap(
        lambda roll: CALL if roll < 4 else ANSWER if roll < 6 else ACCEPT if roll < 7 else WHAT_IS_RARE
    ),
    min_size=10,
    max_size=60,
)


class World:
    """A service, its host, and what became of each call.

    @ivar results: call number to its results; there must be one in the end.
    """

    def __init__(self) -> None:
        self.host = Host()
        self.host.answers[LOOKUP] = lambda number: LATER
        self.service = ConnectionService(
            self.host.clock,
            "test:///default",
            endpoint=self.host,
            jitter=float,
            callsInFlight=LIMIT,
            keepalive=None,
        )
        self.calls: list[Deferred[Any]] = []
        self.results: dict[int, list[Any]] = {}
        self.sent: list[int] = []
        self.servers: list[Any] = []

    def call(self, timeout: float | None, wait: bool) -> None:
        """Make one more call, recognisable by its argument."""
        number = len(self.calls)
        self.results[number] = []
        try:
            made = self.service.program(REMOTE, timeout=timeout, wait=wait).domainLookupByID(number)
        except ConnectionLost as error:
            assert not error.mayHaveRun
            self.results[number].append(error)
            made = Deferred()
        else:
            made.addBoth(self.results[number].append)
        self.calls.append(made)

    def answer(self, index: int) -> None:
        """Have the server answer one of the calls that it has."""
        waiting = self.servers[-1].unanswered if self.servers else []
        if self.servers and self.servers[-1].lost is None and index < len(waiting):
            self.servers[-1].reply(waiting.pop(index), ("d", b"u" * 16, 1))

    def cancel(self, index: int) -> None:
        """Cancel a call."""
        if index < len(self.calls) and not self.results[index]:
            self.calls[index].cancel()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.host.clock.advance(seconds)

    def accept(self) -> None:
        """Let an attempt succeed, if there is one."""
        if self.host.attempts:
            self.servers.append(self.host.accept())

    def refuse(self) -> None:
        """Let an attempt fail, if there is one."""
        if self.host.attempts:
            self.host.refuse()

    def lose(self) -> None:
        """Cut the connection."""
        if self.servers:
            self.servers[-1].transport.abortConnection()

    def stop(self) -> None:
        """Stop the service."""
        self.service.stopService()

    def start(self) -> None:
        """Start it."""
        self.service.startService()

    def check(self) -> None:
        """What holds after every step."""
        self.host.flush()
        assert self.service.callsInFlight <= LIMIT
        self.sent = [args[0] for server in self.servers for number, args in server.calls if number == LOOKUP]
        assert self.sent == sorted(self.sent), self.sent
        assert not [number for number, count in Counter(self.sent).items() if count > 1]
        for number, results in self.results.items():
            assert len(results) <= 1
            for result in results:
                error = getattr(result, "value", None)
                if isinstance(error, ConnectionLost | CallTimedOut):
                    # Nothing is cut half way here: what left is what arrived, or it had no time to.
                    assert error.mayHaveRun or number not in self.sent, (number, error)


class Properties(SynchronousTestCase):
    """Any order of events."""

    @settings(max_examples=150, deadline=None)
    @given(STEPS)
    def test_each_call_ends_once(self, steps: list[tuple[Any, ...]]) -> None:
        world = World()
        world.start()
        for name, *arguments in steps:
            getattr(world, name)(*arguments)
            world.check()
        world.stop()
        world.wait(10)
        world.check()
        self.assertEqual([number for number, results in world.results.items() if len(results) != 1], [])
        self.assertEqual((world.service.callsWaiting, world.service.callsInFlight), (0, 0))
        self.assertEqual(world.host.clock.getDelayedCalls(), [])
