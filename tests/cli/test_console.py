"""How a talk at a console ends, packet by packet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred

from tests.client.test_streams import GAVE_UP, _Case
from tests.peers import CONTINUE, ERROR, OK, STREAM
from tests.streaming import PROGRAM
from virnet.cli.console import CLOSED, _Talk
from virnet.errors import RemoteError
from virnet.wire.message import encodeError

ESCAPE = b"\x1d"


class Ends(_Case):
    def setUp(self) -> None:
        super().setUp()
        self.stream.abort()
        self.tell(OK)
        self.stream = self.openConsole()
        self.keys: Deferred[bytes] = Deferred()
        self.shown = b""
        session: Any = SimpleNamespace(reactor=self.session.clock)
        talk = _Talk(session, self.stream, self, self)  # type: ignore[arg-type]
        self.talking = self.begin(talk.run(ESCAPE, None))

    def openConsole(self) -> Any:
        """Open a stream without flags."""
        opening = self.session.client.program(PROGRAM).console()
        (self.call,) = self.session.flush()
        self.session.reply(self.call)
        return self.successResultOf(opening)

    # What is typed, and where it is shown.

    async def read(self, stream: Any = None) -> Any:
        keys = await self.keys
        self.keys = Deferred()
        return keys

    async def write(self, data: bytes) -> None:
        self.shown += data

    def test_R068_a_guest_that_is_gone_is_no_failure(self) -> None:
        """libvirtd sends the end of the data and an error, together or one after the other."""
        packets = [self.packet(CONTINUE), self.packet(ERROR, encodeError(GAVE_UP))]
        self.session.send(self.packet(CONTINUE, b"bye"), *packets)
        self.assertEqual((self.successResultOf(self.talking), self.shown), (CLOSED, b"bye"))
        self.assertUsable()

    def test_R068_nor_when_its_error_crosses_the_finish(self) -> None:
        self.assertEqual(self.tell(CONTINUE), [(STREAM, OK, b"")])
        self.tell(ERROR, encodeError(GAVE_UP))
        self.assertEqual(self.successResultOf(self.talking), CLOSED)
        self.assertUsable()

    def test_an_error_without_the_end_of_the_data_is_one(self) -> None:
        self.tell(ERROR, encodeError(GAVE_UP))
        self.failureResultOf(self.talking, RemoteError)
        self.assertUsable()

    def test_one_that_answers_to_the_escape_key_is_one(self) -> None:
        self.keys.callback(b"typed" + ESCAPE)
        self.assertEqual(self.sent(), [(STREAM, CONTINUE, b"typed"), (STREAM, OK, b"")])
        self.tell(ERROR, encodeError(GAVE_UP))
        self.failureResultOf(self.talking, RemoteError)
        self.assertUsable()
