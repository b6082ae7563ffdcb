"""A server program with a procedure of each kind, and clients that do everything with it, at random."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import Interface

from tests.peers import (
    CALL_WITH_FDS,
    CONTINUE,
    ERROR,
    MESSAGE,
    OK,
    REPLY,
    STREAM,
    STREAM_HOLE,
    Message,
    ServerSession,
    callNamed,
    message,
    split,
)
from tests.streaming import RecordingEnd
from virnet.errors import RemoteError
from virnet.programs.base import Procedure, Program, blocking
from virnet.server import ServerClient
from virnet.server.stream import streamError
from virnet.wire.stream import encodeHole
from virnet.xdr import INT, UINT, Opaque, String

NUMBER = 0x2ECA0009
KEEPALIVE = 0x6B656570
TEXT = String(100)
BEHIND = 7_000_000
"""Serial of calls behind one that closes."""


class IScripted(Interface):
    """A procedure of each kind."""

    def echo(data: bytes) -> bytes:
        """Answers at once."""

    def slow(text: str) -> Any:
        """Answers when the script says so."""

    def job(text: str) -> str:
        """Blocks."""

    def leave(text: str) -> Any:
        """Ends the connection after its reply."""

    def take(text: str, fds: list[int]) -> Any:
        """Takes descriptors."""

    def give(count: int) -> Any:
        """Gives descriptors, which a connection in memory does not carry."""

    def upload(flags: int) -> Any:
        """Takes data."""

    def download(flags: int) -> Any:
        """Gives data."""

    def console() -> Any:
        """Both."""


class IScriptedEvents(Interface):
    """What the server says unasked."""

    def said(data: bytes) -> None:
        """Anything."""


PROGRAM: Program[IScripted, IScriptedEvents] = Program(
    NUMBER,
    1,
    IScripted,
    events=IScriptedEvents,
    procedures=[
        Procedure(1, "echo", (("data", Opaque(None)),), Opaque(None)),
        Procedure(2, "slow", (("text", TEXT),), TEXT),
        Procedure(3, "job", (("text", TEXT),), TEXT),
        Procedure(4, "leave", (("text", TEXT),), TEXT),
        Procedure(5, "take", (("text", TEXT),), TEXT, fds="call"),
        Procedure(6, "give", (("count", INT),), None, fds="reply"),
        Procedure(7, "upload", (("flags", UINT),), None, stream="write", sparse=True),
        Procedure(8, "download", (("flags", UINT),), None, stream="read", sparse=True),
        Procedure(9, "console", (), None, stream="duplex"),
        Procedure(100, "said", (("data", Opaque(None)),), None),
    ],
    name="SCRIPTED",
)


class HandRunPool:
    """Workers whose jobs end when the script says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Any, Callable[[], Any], Deferred[Any]]] = []

    def run(self, priority: object, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Take a job."""
        ended: Deferred[Any] = Deferred()
        self.jobs.append((function.__self__, lambda: function(*args), ended))  # type: ignore[attr-defined]
        return ended

    def runOne(self) -> None:
        """Run the oldest."""
        _, call, ended = self.jobs.pop(0)
        ended.callback(call())

    def start(self) -> None:
        """There are no threads."""

    def stop(self) -> Deferred[None]:
        """Drop what waits."""
        while self.jobs:
            self.jobs.pop(0)[2].errback(RemoteError(1, "the server is stopping"))
        return succeed(None)


class Scripted:
    """What one client is answered by.

    @ivar waiting: calls that are not answered, with the descriptors each has.
    @ivar ends: of all streams so far.
    """

    def __init__(self, client: ServerClient, random: Random) -> None:
        self.client = client
        self.random = random
        self.waiting: list[tuple[Deferred[Any], int]] = []
        self.ends: list[RecordingEnd] = []
        self.cleaned = 0
        client.onDisconnect(self._cleanUp)

    def _cleanUp(self) -> None:
        self.cleaned += 1

    def _wait(self, descriptors: int = 0) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.waiting.append((waiting, descriptors))
        return waiting

    def _open(self) -> Any:
        self.ends.append(RecordingEnd(holding=self.random.random() < 0.6))
        if self.random.random() < 0.2:
            self.ends[-1].failure = streamError("enough")
        return self.ends[-1]

    def echo(self, data: bytes) -> bytes:
        return data

    def slow(self, text: str) -> Any:
        return self._wait()

    @blocking
    def job(self, text: str) -> str:
        return text

    def leave(self, text: str) -> Any:
        self.client.closeAfterReply()
        return text if self.random.random() < 0.5 else self._wait()

    def take(self, text: str, fds: list[int]) -> Any:
        if self.random.random() < 0.3:
            raise RemoteError(1, "not wanted")
        return self._wait(len(fds))

    def give(self, count: int) -> Any:
        return [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]

    def upload(self, flags: int) -> Any:
        return self._open()

    def download(self, flags: int) -> Any:
        return self._open()

    def console(self) -> Any:
        return self._open()


class Session:
    """One client and what it did and got.

    @ivar asked: serials of calls, each as often as it is to be answered.
    @ivar answered: serials of replies.
    @ivar last: streams, by serial, of which the server has said its last word.
    @ivar rest: what is to be sent of a message before anything else.
    """

    def __init__(self, raw: ServerSession, random: Random) -> None:
        self.raw = raw
        self.client = raw.client
        self.random = random
        self.client.connection.acceptDescriptors()
        self.asked: Counter[int] = Counter()
        self.answered: Counter[int] = Counter()
        self.last: Counter[int] = Counter()
        self.serial = 0
        self.streams: list[tuple[int, int]] = []
        self.rest = b""
        self._received = b""

    @property
    def over(self) -> bool:
        """Whether the server has given it up."""
        return self.client._gone

    def send(self, data: bytes) -> None:
        """Send bytes, behind what is due of a message begun before."""
        self.raw.transport.write(self.rest + data)
        self.rest = b""

    def hear(self) -> None:
        """Take what has come."""
        data = self._received + self.raw.peer.bytes()
        whole = 0
        while len(data) - whole >= 4:
            length = int.from_bytes(data[whole : whole + 4], "big")
            if len(data) - whole < length:
                break
            whole += length
        self._received = data[whole:]
        for each in split(data[:whole]):
            self._take(each)

    def _take(self, each: Message) -> None:
        if each.type == REPLY and each.serial == BEHIND:
            assert not self.client._closing, "what stood behind the last call was answered"
        elif each.type == REPLY:
            self.answered[each.serial] += 1
        elif each.type in (STREAM, STREAM_HOLE):
            assert not self.last[each.serial], f"{each} behind the last word of its stream"
            self.last[each.serial] += each.status != CONTINUE
        else:
            assert each.type == MESSAGE, each

    # What a client may do

    def call(self) -> None:
        name, args = self.random.choice(
            [
                ("echo", (bytes(self.random.choice([0, 10, 3000, 50_000])),)),
                ("slow", ("",)),
                ("slow", ("",)),
                ("job", ("",)),
                ("give", (self.random.randrange(3),)),
            ]
        )
        for _ in range(self.random.choice([1, 1, 1, 2, 9])):
            self.send(callNamed(PROGRAM, name, self._next(), *args))

    def callTwice(self) -> None:
        serial = self._next()
        self.asked[serial] += 1
        self.send(callNamed(PROGRAM, "slow", serial, "") * 2)

    def refused(self) -> None:
        serial = self._next()
        number, version, procedure, status, payload = self.random.choice(
            [
                (NUMBER, 1, 99, OK, b""),
                (NUMBER, 2, 1, OK, b""),
                (0x1234, 1, 1, OK, b""),
                (KEEPALIVE, 1, 1, OK, b""),
                (NUMBER, 1, 2, ERROR, b""),
                (NUMBER, 1, 2, OK, b"\0\0"),
            ]
        )
        self.send(message(number, version, procedure, 0, serial, status, payload))

    def ignored(self) -> None:
        number, type, status = self.random.choice(
            [
                (NUMBER, REPLY, OK),
                (NUMBER, MESSAGE, OK),
                (NUMBER, 9, OK),
                (0x1234, MESSAGE, OK),
                (0x1234, STREAM, CONTINUE),
                (KEEPALIVE, MESSAGE, OK),
                (NUMBER, STREAM, CONTINUE),
                (NUMBER, STREAM, ERROR),
            ]
        )
        data = message(number, 1, 2, type, 1_000_000, status, b"\0\0\0\0")
        self.send(data * self.random.choice([1, 9]))

    def descriptors(self) -> None:
        if self.client.transport.paused or self.over or self.rest:  # type: ignore[union-attr]
            return
        count = self.random.choice([0, 1, 3, 32])
        for _ in range(count):
            self.client.fileDescriptorReceived(os.open(os.devnull, os.O_RDONLY))
        procedure = self.random.choice([5, 5, 5, 1, 99])
        payload = count.to_bytes(4, "big") + self.random.choice([bytes(4), bytes(4), b""])
        self.send(message(NUMBER, 1, procedure, CALL_WITH_FDS, self._next(), OK, payload) + bytes(count))

    def unannounced(self) -> None:
        if not self.client.transport.paused:  # type: ignore[union-attr]
            self.client.fileDescriptorReceived(os.open(os.devnull, os.O_RDONLY))

    def open(self) -> None:
        name, args = self.random.choice([("upload", (1,)), ("download", (0,)), ("console", ())])
        serial = self._next()
        self.streams.append((PROGRAM.byName[name].number, serial))
        self.send(callNamed(PROGRAM, name, serial, *args))

    def packet(self) -> None:
        if self.streams:
            procedure, serial = self.random.choice(self.streams)
            kind = self.random.choice(["data"] * 6 + ["empty", "finish", "abort", "odd", "hole", "burst"])
            type, status, payload, count = {
                "data": (STREAM, CONTINUE, bytes(1000), 1),
                "burst": (STREAM, CONTINUE, b"x", 12),
                "empty": (STREAM, CONTINUE, b"", 1),
                "finish": (STREAM, OK, b"", 1),
                "abort": (STREAM, ERROR, b"", 1),
                "odd": (STREAM, 77, b"", 1),
                # Not agreed on but for uploads: then it ends the connection.
                "hole": (STREAM_HOLE, CONTINUE, encodeHole(5), 1) if procedure == 7 else (STREAM, OK, b"", 2),
            }[kind]
            self.send(message(NUMBER, 1, procedure, type, serial, status, payload) * count)

    def halfAMessage(self) -> None:
        data = callNamed(PROGRAM, "slow", self._next(), "half")
        cut = self.random.randrange(1, len(data))
        self.send(data[:cut])
        self.rest = data[cut:]

    def leave(self) -> None:
        self.send(callNamed(PROGRAM, "leave", self._next(), ""))
        self.send(callNamed(PROGRAM, "echo", BEHIND, b""))

    def breakIt(self) -> None:
        self.send(message(NUMBER, 1, 1, 0, 0, OK, length=self.random.choice([0, 4, 27, 0x7FFFFFFF])))

    def stopReading(self) -> None:
        self.raw.transport.pauseProducing()

    def readAgain(self) -> None:
        self.raw.transport.resumeProducing()

    def hangUp(self) -> None:
        self.raw.transport.loseConnection()

    def die(self) -> None:
        self.raw.transport.abortConnection()

    def finishStreams(self) -> None:
        """Finish all streams: those that are over by then ignore it."""
        for procedure, serial in self.streams:
            self.send(message(NUMBER, 1, procedure, STREAM, serial, OK))

    def _next(self) -> int:
        self.serial += 1
        self.asked[self.serial] += 1
        return self.serial


CLIENT_ACTIONS = {
    Session.call: 20,
    Session.callTwice: 3,
    Session.refused: 6,
    Session.ignored: 6,
    Session.descriptors: 6,
    Session.unannounced: 1,
    Session.open: 10,
    Session.packet: 30,
    Session.halfAMessage: 4,
    Session.leave: 1,
    Session.breakIt: 1,
    Session.stopReading: 5,
    Session.readAgain: 3,
    Session.hangUp: 1,
    Session.die: 1,
}
