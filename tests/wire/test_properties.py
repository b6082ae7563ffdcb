"""Whatever bytes come: events, never an exception; and the same events wherever the reads are cut."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.messages import PLACES, Header, cuts, raw
from virnet.limits import MESSAGE_MIN
from virnet.wire.connection import ClientConnection, ServerConnection
from virnet.wire.events import (
    CallFailed,
    CallReceived,
    Dropped,
    EventReceived,
    Fault,
    ReplyReceived,
    Send,
    StreamReceived,
)
from virnet.wire.message import CALL, decodeHeader
from virnet.wire.stream import ClientState

REMOTE = 0x20008086
KEEPALIVE = 0x6B656570
PROGRAMS: dict[tuple[int, int], dict[int, str]] = {(REMOTE, 1): {1: "one", 2: "two", 66: "authList"}}
LIMIT = 3

PROGRAM_NUMBERS = st.sampled_from([REMOTE, REMOTE, REMOTE, KEEPALIVE, 0x1234, 0xFFFFFFFF])
VERSIONS = st.sampled_from([1, 1, 1, 0, 2, 0xFFFFFFFF])
PROCEDURES = st.sampled_from([1, 2, 66, 0, 3, -1, -(2**31)])
TYPES = st.sampled_from([0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 7, 9, -1, 0x104])
SERIALS = st.sampled_from([0, 1, 2, 3, 4, 0xFFFFFFFF])
STATUSES = st.sampled_from([0, 0, 0, 1, 2, 2, 3, 77, -1])
HEADERS = st.tuples(PROGRAM_NUMBERS, VERSIONS, PROCEDURES, TYPES, SERIALS, STATUSES)
PAYLOADS = st.sampled_from([b"", b"\0\0\0\0", b"\0\0\0\x01", b"\0\0\0\x21", b"\xff" * 60]) | st.binary(
    max_size=40
)


LIES = st.sampled_from([None] * 25 + [0, 3, 4, 5, 27, 28, 29, 64, 0x7FFFFFFF, 0xFFFFFFFF])


def _message(header: Header, payload: bytes, lie: int | None) -> bytes:
    return raw(MESSAGE_MIN + len(payload) if lie is None else lie, header, payload)


MESSAGE = st.builds(_message, HEADERS, PAYLOADS, LIES)
"""A message with a header that nearly makes sense, sometimes with a length word that does not."""

SOUP = st.lists(MESSAGE | st.binary(max_size=30), max_size=10).map(b"".join)
MESSAGES = st.lists(MESSAGE, max_size=10).map(b"".join)


class _Case(SynchronousTestCase):
    known: tuple[type, ...]

    def check(self, connection: Any, events: list[Any]) -> None:
        """The rules that hold for all that was told by one connection."""
        for event in events:
            self.assertIn(type(event), self.known)
        faults = [i for i, event in enumerate(events) if type(event) is Fault]
        self.assertIn(faults, ([], [len(events) - 1]))
        self.assertEqual(bool(faults), connection.closed)
        if connection.closed:
            self.assertEqual(connection.receive(b"\0\0\0\x1c" + bytes(24)), [])
            self.assertEqual(connection.resume(), [])


class Servers(_Case):
    """The server's end."""

    known = (CallReceived, StreamReceived, Send, Dropped, Fault)

    def run_(self, pieces: Iterable[bytes], authenticated: bool, sparse: bool) -> tuple[Any, list[Any]]:
        """Receive all pieces; open a stream with each second call, end each call and packet at once."""
        server = ServerConnection(PROGRAMS, authenticated=authenticated, limit=LIMIT)
        told: list[Any] = []
        for piece in pieces:
            events = server.receive(piece)
            while events:
                told += events
                for event in events:
                    self.assertTrue(0 <= server.inProgress <= LIMIT)
                    if isinstance(event, CallReceived) and event.header.procedure == 2:
                        server.openStream(event.header, sparse)
                    if isinstance(event, CallReceived | StreamReceived):
                        server.release()
                events = server.resume()
        self.assertEqual(server.inProgress, 0)
        return server, told

    @settings(max_examples=200)
    @given(SOUP, st.booleans(), st.booleans())
    def test_any_soup_becomes_events(self, soup: bytes, authenticated: bool, sparse: bool) -> None:
        self.check(*self.run_([soup], authenticated, sparse))

    @given(MESSAGES, PLACES)
    def test_where_it_is_cut_does_not_matter(self, soup: bytes, places: list[int]) -> None:
        # Without streams: when a stream opens depends on when its call was executed.
        def told(pieces: Iterable[bytes]) -> list[Any]:
            server = ServerConnection(PROGRAMS, limit=1000)
            return [
                (type(event), *[each for each in event if not isinstance(each, Exception)])
                for piece in pieces
                for event in server.receive(piece)
            ]

        whole = told([soup])
        self.assertEqual(told(cuts(soup, places)), whole)
        self.assertEqual(told(soup[i : i + 1] for i in range(len(soup))), whole)

    @given(MESSAGES)
    def test_every_call_is_executed_or_answered_and_nothing_else_is(self, soup: bytes) -> None:
        _, told = self.run_([soup], True, True)
        calls = [each for each in told if isinstance(each, CallReceived)]
        for call in calls:
            self.assertEqual(
                PROGRAMS[call.header.program, call.header.version][call.header.procedure], call.procedure
            )
            self.assertEqual(call.header.status, 0)
        for event in told:
            if isinstance(event, Send):
                header = decodeHeader(event.data)
                self.assertIn((header.type, header.program == KEEPALIVE), ((1, False), (1, True), (2, True)))
            if isinstance(event, Dropped):
                self.assertNotIn(event.header.type, (CALL, 4))

    @given(st.lists(MESSAGE | st.none(), max_size=15), st.integers(1, 4))
    def test_no_more_than_the_limit_is_ever_in_progress(self, steps: list[bytes | None], limit: int) -> None:
        server = ServerConnection(PROGRAMS, limit=limit)
        for step in steps:
            if step is not None:
                server.receive(step)
            elif server.inProgress:
                server.release()
                server.resume()
            self.assertTrue(0 <= server.inProgress <= limit)
            self.assertEqual(server.throttled, server.inProgress == limit)


class Clients(_Case):
    """The client's end."""

    known = (ReplyReceived, CallFailed, EventReceived, StreamReceived, Send, Dropped, Fault)

    def client(self, state: ClientState) -> ClientConnection[int]:
        """A client that waits for four calls, the last of which has a stream."""
        client: ClientConnection[int] = ClientConnection()
        for serial in range(3):
            client.call(REMOTE, 1, 1 + serial % 2, b"", serial)
        _, stream = client.callWithStream(REMOTE, 1, 2, b"", 3)
        stream.state = state
        return client

    STATES = st.sampled_from([ClientState.OPENING, ClientState.OPEN, ClientState.ENDED, ClientState.CLOSING])

    @settings(max_examples=200)
    @given(SOUP, STATES)
    def test_any_soup_becomes_events(self, soup: bytes, state: ClientState) -> None:
        client = self.client(state)
        self.check(client, client.receive(soup))

    @given(MESSAGES, STATES)
    def test_every_call_is_completed_at_most_once(self, soup: bytes, state: ClientState) -> None:
        client = self.client(state)
        told = client.receive(soup)
        completed = [each.token for each in told if isinstance(each, ReplyReceived | CallFailed)]
        self.assertEqual(len(completed), len(set(completed)))
        self.assertEqual(sorted(completed + client.calls.clear()), [0, 1, 2, 3])

    @given(MESSAGES, PLACES)
    def test_where_it_is_cut_does_not_matter(self, soup: bytes, places: list[int]) -> None:
        def told(pieces: Iterable[bytes]) -> list[Any]:
            client = self.client(ClientState.OPEN)
            return [
                (type(event), getattr(event, "token", None), getattr(event, "header", None))
                for piece in pieces
                for event in client.receive(piece)
            ]

        whole = told([soup])
        self.assertEqual(told(cuts(soup, places)), whole)
        self.assertEqual(told(soup[i : i + 1] for i in range(len(soup))), whole)
