"""Requests in progress: at most so many for each client, and what counts as one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import CONTINUE, MESSAGE, OK, STREAM, ServerSession, callNamed, message, served
from virnet.server import NetServer


class Slow(Echo):
    """C{echo} is answered when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[str]] = []

    def echo(self, text: str) -> Any:
        """Wait."""
        self.waiting.append(Deferred())
        return self.waiting[-1]


class _Case(SynchronousTestCase):
    limit = 5

    def setUp(self) -> None:
        self.provider = Slow()
        self.server = NetServer(Clock(), [served(ECHO, self.provider)], maxClientRequests=self.limit)
        self.session = ServerSession(server=self.server)

    def call(self, *serials: int) -> list[int]:
        """Make calls that wait; return the serials answered meanwhile."""
        return [
            each.serial
            for each in self.session.send(*[callNamed(ECHO, "echo", serial, "") for serial in serials])
        ]

    def answer(self) -> list[int]:
        """Have the oldest end; return the serials answered."""
        self.provider.waiting.pop(0).callback("")
        return [each.serial for each in self.session.flush()]


class Five(_Case):
    """The limit that libvirtd has."""

    def test_R033_what_is_too_much_is_executed_when_one_has_ended(self) -> None:
        self.assertEqual(self.call(*range(8)), [])
        self.assertEqual(len(self.provider.waiting), 5)
        for serial in range(8):
            self.assertEqual(self.answer(), [serial])
            self.assertEqual(len(self.provider.waiting), min(5, 7 - serial))

    def test_R033_what_comes_meanwhile_is_not_even_read(self) -> None:
        self.call(*range(5))
        self.session.send(*[callNamed(ECHO, "blob", 9, bytes(1 << 20))])
        self.assertTrue(len(self.session.transport.unsent) > 900_000)
        self.assertEqual(self.answer(), [0, 9])

    def test_other_clients_have_slots_of_their_own(self) -> None:
        self.call(*range(6))
        other = ServerSession(server=self.server)
        (reply,) = other.send(callNamed(ECHO, "add", 1, 1, 1))
        self.assertEqual(reply.status, OK)

    def test_R036_events_hold_none(self) -> None:
        events = self.session.client.events(ECHO)
        for _ in range(100):
            events.said("x")
        self.assertEqual(len(self.session.flush()), 100)
        self.call(*range(5))
        self.assertEqual(len(self.provider.waiting), 5)
        for _ in range(100):
            events.said("x")
        self.assertEqual(len(self.session.flush()), 100)
        self.assertEqual(self.answer(), [0])

    def test_R030_R031_nothing_that_is_dropped_or_refused_holds_one(self) -> None:
        for behind in (
            message(ECHO.number, 1, 1, STREAM, 1, CONTINUE, b"data"),
            message(0x1234, 1, 1, MESSAGE, 1, OK),
            message(ECHO.number, 1, 99, 0, 1, OK),
            message(ECHO.number, 1, 2, 0, 1, OK, b"\0"),
            message(0x6B656570, 1, 1, MESSAGE, 0, OK),
        ):
            self.session.send(behind * 50)
            self.assertEqual(self.session.client.connection.inProgress, 0)
            (reply,) = self.session.send(callNamed(ECHO, "add", 7, 1, 1))
            self.assertEqual(reply.serial, 7)

    def test_the_warning_comes_once(self) -> None:
        with capturedLogs() as captured:
            self.call(*range(7))
            while self.provider.waiting:
                self.answer()
            self.call(*range(7))
        warned = [formatEvent(each) for each in captured if each["log_level"] == LogLevel.warn]
        self.assertEqual(len(warned), 1)
        self.assertIn("Client hit max requests limit 5. This may result in keep-alive timeouts.", warned[0])


class One(_Case):
    """R035: one request at a time."""

    limit = 1

    def test_R035_pipelined_calls_are_executed_one_after_the_other(self) -> None:
        self.assertEqual(self.call(*range(5)), [])
        for serial in range(5):
            self.assertEqual(len(self.provider.waiting), 1)
            self.assertEqual(self.answer(), [serial])

    def test_R035_no_warning_is_due(self) -> None:
        with capturedLogs() as captured:
            self.call(1, 2, 3)
        self.assertEqual([each for each in captured if each["log_level"] == LogLevel.warn], [])


class NotReading(_Case):
    """A client that calls and does not read the answers."""

    def test_R034_all_replies_arrive_once_when_it_reads_again(self) -> None:
        self.session.transport.pauseProducing()
        calls = 300
        self.session.send(*[callNamed(ECHO, "add", serial, 1, serial) for serial in range(calls)])
        self.assertEqual(self.session.flush(), [])
        self.session.transport.resumeProducing()
        self.assertEqual([each.serial for each in self.session.flush()], list(range(calls)))

    def test_what_the_server_holds_for_it_is_bounded(self) -> None:
        self.session.transport.pauseProducing()
        self.session.send(*[callNamed(ECHO, "blob", serial, bytes(10_000)) for serial in range(200)])
        there = self.session.client.transport
        held = len(there.unsent)  # type: ignore[union-attr]
        self.assertTrue(held < 300_000, held)
        self.session.transport.resumeProducing()
        self.assertEqual(len(self.session.flush()), 200)

    def test_refusals_are_bounded_too(self) -> None:
        self.session.transport.pauseProducing()
        unknown = message(ECHO.number, 1, 99, 0, 1, OK)
        self.session.send(unknown * 20_000)
        there = self.session.client.transport
        held = len(there.unsent)  # type: ignore[union-attr]
        self.assertTrue(held < 1_000_000, held)
        self.session.transport.resumeProducing()
        self.assertEqual(len(self.session.flush()), 20_000)
