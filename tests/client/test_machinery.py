"""R057 and R059 at the client: what fires late, and what leaves the list of calls. R054, a program without an
event loop, is about C's client and tested with it in C{tests/interop}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO
from tests.peers import ClientSession
from virnet.errors import ConnectionLost, RemoteProtocolError


def text(value: str) -> bytes:
    """A result of C{echo}."""
    return ECHO.byName["echo"].encodeRet(value)


class Machinery(SynchronousTestCase):
    """Sending and receiving."""

    def setUp(self) -> None:
        self.session = ClientSession()
        self.client = self.session.client
        self.echo = self.client.program(ECHO)

    def test_R057_what_arrives_after_the_end_has_no_effect(self) -> None:
        call = self.echo.echo("a")
        (sent,) = self.session.flush()
        self.client.abort(RemoteProtocolError("enough"))
        self.failureResultOf(call, RemoteProtocolError)
        heard: list[Any] = []
        self.client.subscribe(ECHO.eventsByName["said"], heard.append)
        # As if the reactor had read it already.
        self.session.reply(sent, text("late"))
        self.client.dataReceived(bytes(40))
        self.assertEqual(heard, [])

    def test_R057_no_timer_fires_after_the_end(self) -> None:
        self.client.startKeepAlive(5, 2)
        self.session.lose()
        self.assertEqual(self.session.clock.getDelayedCalls(), [])
        self.client.startKeepAlive(5, 2)
        self.assertEqual(self.session.clock.getDelayedCalls(), [])

    def test_R059_whichever_call_leaves_the_others_stay(self) -> None:
        for order in ((1, 0, 2), (1, 2, 0), (2, 1, 0), (0, 1, 2)):
            calls: list[Deferred[str]] = [self.echo.echo(each) for each in "abc"]
            sent = self.session.flush()
            for left, index in enumerate(order):
                self.session.reply(sent[index], text(str(index)))
                self.assertEqual(self.successResultOf(calls[index]), str(index))
                for other in order[left + 1 :]:
                    self.assertNoResult(calls[other])

    def test_R059_one_that_is_cancelled_in_the_middle(self) -> None:
        calls: list[Deferred[str]] = [self.echo.echo(each) for each in "abc"]
        sent = self.session.flush()
        calls[1].cancel()
        self.failureResultOf(calls[1], CancelledError)
        self.session.reply(sent[1], text("swallowed"))
        self.session.reply(sent[2], text("c"))
        self.assertEqual(self.successResultOf(calls[2]), "c")
        self.session.lose()
        self.failureResultOf(calls[0], ConnectionLost)
