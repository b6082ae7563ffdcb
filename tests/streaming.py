"""A program whose procedures open streams, and ends for them that record or hold what they get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Interface

from tests.peers import CONTINUE, STREAM, STREAM_HOLE, Message, message
from virnet.programs.base import Procedure, Program
from virnet.server import ServerProgram
from virnet.server.stream import ServerStream, StreamEnd
from virnet.wire.stream import encodeHole
from virnet.xdr import schema

NUMBER = 0x20008086
UPLOAD, DOWNLOAD, CONSOLE, ECHO = 208, 209, 201, 10


class IStreaming(Interface):
    """Procedures with streams of each direction, and one without."""

    def upload(flags: int) -> Any:
        """Takes data."""

    def download(flags: int) -> Any:
        """Gives data."""

    def console() -> Any:
        """Both."""

    def echo(text: str) -> str:
        """An ordinary call."""


PROGRAM: Program[IStreaming] = Program(
    NUMBER,
    1,
    IStreaming,
    procedures=[
        Procedure(UPLOAD, "upload", (("flags", schema.UINT),), None, stream="write", sparse=True),
        Procedure(DOWNLOAD, "download", (("flags", schema.UINT),), None, stream="read", sparse=True),
        Procedure(CONSOLE, "console", (), None, stream="duplex"),
        Procedure(ECHO, "echo", (("text", schema.String(1000)),), schema.String(1000)),
    ],
    name="STREAMING",
)


class RecordingEnd(StreamEnd):
    """Records what it is told.

    @ivar got: data and holes, in order.
    @ivar lost: why the stream was lost; C{None} while it is not.
    @ivar waiting: when C{holding}, the Deferreds that were returned and not fired yet.
    @ivar failure: raised at the next data or finish.
    """

    def __init__(self, holding: bool = False) -> None:
        self.got: list[bytes | int] = []
        self.opened = False
        self.finished = False
        self.lost: Exception | None = None
        self.losses = 0
        self.holding = holding
        self.waiting: list[Deferred[None]] = []
        self.failure: Exception | None = None

    def _answer(self) -> Deferred[None] | None:
        if self.failure is not None:
            raise self.failure
        if not self.holding:
            return None
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def streamOpened(self, stream: ServerStream) -> None:
        super().streamOpened(stream)
        self.opened = True

    def dataReceived(self, data: bytes) -> Deferred[None] | None:
        self.got.append(data)
        return self._answer()

    def holeReceived(self, length: int) -> Deferred[None] | None:
        self.got.append(length)
        return self._answer()

    def finishReceived(self) -> Deferred[None] | None:
        self.finished = True
        return self._answer()

    def streamLost(self, reason: Exception) -> None:
        self.losses += 1
        self.lost = reason

    def proceed(self) -> None:
        """Have taken the oldest thing that is held."""
        self.waiting.pop(0).callback(None)


class Provider:
    """Answers the program; each stream gets the end that C{makeEnd} makes."""

    def __init__(self, makeEnd: Callable[[], Any]) -> None:
        self.makeEnd = makeEnd
        self.ends: list[Any] = []

    def _open(self) -> Any:
        end = self.makeEnd()
        self.ends.append(end)
        return end

    def upload(self, flags: int) -> Any:
        return self._open()

    def download(self, flags: int) -> Any:
        return self._open()

    def console(self) -> Any:
        return self._open()

    def echo(self, text: str) -> str:
        return text


def streamingProgram(provider: object) -> ServerProgram:
    """Serve one object to every client."""
    return ServerProgram(PROGRAM, lambda client: provider)


def packet(procedure: int, serial: int, status: int, payload: bytes = b"", type: int = STREAM) -> bytes:
    """Make a packet of a stream."""
    return message(NUMBER, 1, procedure, type, serial, status, payload)


def holePacket(procedure: int, serial: int, length: int) -> bytes:
    """Make a hole."""
    return packet(procedure, serial, CONTINUE, encodeHole(length), STREAM_HOLE)


def said(messages: list[Message]) -> list[tuple[int, int, bytes]]:
    """What messages have to say: type, status and payload."""
    return [(each.type, each.status, each.payload) for each in messages]
