"""
Both ends of streams under random orders of everything that either side may do, and that the connection may do
to them: what arrives is what was sent, whoever waits is told once, and nothing is left behind.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.streaming import PROGRAM, Provider, RecordingEnd, streamingProgram
from virnet.client.stream import ClientStream
from virnet.errors import LocalProtocolError, RemoteError
from virnet.server import NetServer
from virnet.server.stream import streamError
from virnet.testing import connectedPair

SIZES = st.sampled_from([1, 3, 1000, 262120, 300_000])
STEPS = st.one_of(
    st.tuples(st.just("send"), SIZES),
    st.tuples(st.just("write"), SIZES),
    st.tuples(
        st.sampled_from(
            ["hole", "writeHole", "writeEOF", "read", "finish", "abort", "fail", "failNext", "proceed"]
        ),
        st.just(0),
    ),
    st.tuples(st.just("turn"), st.just(0)),
)


class _Stream:
    """
    One stream and what has become of it.

    @ivar sent: what the client sent, holes as numbers.
    @ivar written: what the server sent.
    @ivar got: what the client has read of it.
    @ivar confirmed: the server has confirmed a finish.
    @ivar waiting: what the application waits for, and how often it was told.
    """

    def __init__(self, stream: ClientStream, end: RecordingEnd) -> None:
        self.stream = stream
        self.end = end
        self.sent: list[Any] = []
        self.written: list[Any] = []
        self.got: list[Any] = []
        self.waiting: list[list[Any]] = []
        self.reading: Deferred[None] | None = None
        self.confirmed = False

    def watch(self, deferred: Deferred[Any]) -> None:
        told: list[Any] = []
        self.waiting.append(told)
        deferred.addBoth(told.append)

    def step(self, name: str, size: int) -> None:
        getattr(self, name)(size)

    # The client

    def send(self, size: int) -> None:
        try:
            self.watch(self.stream.send(b"c" * size))
        except (LocalProtocolError, RemoteError):
            return
        self.sent.append(b"c" * size)

    def hole(self, _: int) -> None:
        try:
            self.watch(self.stream.sendHole(7))
        except (LocalProtocolError, RemoteError):
            return
        self.sent.append(7)

    def read(self, _: int) -> None:
        if self.reading is None or self.reading.called:

            async def all() -> None:
                async for item in self.stream:
                    self.got.append(item if isinstance(item, bytes) else item.length)

            self.reading = Deferred.fromCoroutine(all())
            self.watch(self.reading)

    def _end(self, ending: Deferred[None]) -> None:
        def confirmed(_: object) -> None:
            self.confirmed = True

        self.watch(ending.addCallback(confirmed))

    def finish(self, _: int) -> None:
        self._end(self.stream.finish())

    def abort(self, _: int) -> None:
        self.watch(self.stream.abort())

    # The server

    def write(self, size: int) -> None:
        before = self.end.stream._over or self.end.stream._eof
        self.end.stream.write(b"s" * size)
        if not before:
            self.written.append(b"s" * size)

    def writeHole(self, _: int) -> None:
        before = self.end.stream._over or self.end.stream._eof
        self.end.stream.writeHole(9)
        if not before:
            self.written.append(9)

    def writeEOF(self, _: int) -> None:
        self.end.stream.writeEOF()

    def fail(self, _: int) -> None:
        self.end.stream.fail(streamError("enough"))

    def failNext(self, _: int) -> None:
        self.end.failure = streamError("no more of this")

    def proceed(self, _: int) -> None:
        if self.end.waiting:
            self.end.proceed()


def flat(items: list[Any]) -> str:
    """What stands in a list of data and holes, however the data was cut."""
    return "".join(f"({each})" if isinstance(each, int) else each.decode() for each in items)


class RandomOrders(SynchronousTestCase):
    @given(
        holding=st.booleans(),
        steps=st.lists(st.tuples(st.integers(0, 1), STEPS), max_size=40),
        lose=st.sampled_from([None, "client", "server", "orderly"]),
    )
    @settings(max_examples=100, deadline=None)
    def test_R067_whatever_happens_nothing_is_lost_or_left(
        self, holding: bool, steps: list[tuple[int, tuple[str, int]]], lose: str | None
    ) -> None:
        provider = Provider(lambda: RecordingEnd(holding))
        pair = connectedPair(NetServer(Clock(), [streamingProgram(provider)]))
        remote: Any = pair.client.program(PROGRAM)
        streams = []
        for _ in range(2):
            opening = remote.upload(1)
            pair.flush()
            streams.append(_Stream(self.successResultOf(opening), provider.ends[-1]))
        transports: list[Any] = [pair.client.transport, pair.serverClient.transport]
        for which, (name, size) in steps:
            if name == "turn":
                pair.flush()
            else:
                streams[which].step(name, size)
        # Everybody does what is his.
        if lose == "client":
            transports[0].abortConnection()
        elif lose == "server":
            transports[1].abortConnection()
        elif lose == "orderly":
            pair.client.close()
        for _ in range(4):
            pair.flush()
            for each in streams:
                while each.end.waiting:
                    each.end.proceed()
                    pair.flush()
                if lose is None:
                    each.abort(0)
        pair.flush()
        for each in streams:
            for told in each.waiting:
                self.assertEqual(len(told), 1)
            self.assertTrue(flat(each.sent).startswith(flat(each.end.got)))
            self.assertTrue(flat(each.written).startswith(flat(each.got)))
            if each.confirmed:
                self.assertEqual(flat(each.end.got), flat(each.sent))
                self.assertEqual(each.end.losses, 0)
            elif lose is None:
                self.assertEqual(each.end.losses, 1)
            else:
                # The confirmation may have been under way.
                self.assertEqual(each.end.losses, 0 if each.end.finished and not each.end.lost else 1)
            self.assertEqual((len(each.end.stream._inputs), each.stream._sending), (0, set()))
        for end in (pair.client, pair.serverClient):
            self.assertEqual((end.connection.streams, end._streams), ({}, {}))
        self.assertFalse(pair.client.readingHeld)
        self.assertEqual(pair.serverClient.connection.inProgress, 0)
        if lose is None:
            called = remote.echo("hello")
            pair.flush()
            self.assertEqual(self.successResultOf(called), "hello")
