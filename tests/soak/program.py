"""The program that is soaked beside REMOTE: streams both ways, descriptors, slow and blocking calls."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import Interface

from tests.soak.held import heldBy
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.programs.base import Procedure, Program, blocking
from virnet.server import ServerClient, ServerStream, StreamEnd
from virnet.xdr.schema import INT, UINT, Opaque, String

TEXT = String(4194304)


class ISoak(Interface):
    """What the clients call."""

    def status() -> Deferred[str]:
        """What the server holds and has done, as JSON."""

    def echo(data: bytes) -> Deferred[bytes]:
        """The same."""

    def later(milliseconds: int) -> Deferred[None]:
        """Answer after some time."""

    def block(milliseconds: int) -> Deferred[None]:
        """Hold a worker."""

    def fail(text: str) -> Deferred[None]:
        """Fail."""

    def download(chunks: int, flags: int) -> Deferred[Any]:
        """Stream to the client."""

    def upload(flags: int) -> Deferred[Any]:
        """Stream to the server."""

    def give(count: int) -> Deferred[list[int]]:
        """Get descriptors."""

    def take(count: int, fds: Any = ()) -> Deferred[int]:
        """Bring descriptors."""


class ISoakEvents(Interface):
    """What the server says of its own."""

    def happened(number: int, text: str) -> None:
        """Something."""


SOAK: Program[ISoak, ISoakEvents] = Program(
    0x2ECA50AC,
    1,
    ISoak,
    ISoakEvents,
    [
        Procedure(1, "status", (), TEXT),
        Procedure(2, "echo", (("data", Opaque(4194304)),), Opaque(4194304)),
        Procedure(3, "later", (("milliseconds", INT),)),
        Procedure(4, "block", (("milliseconds", INT),)),
        Procedure(5, "fail", (("text", TEXT),)),
        Procedure(6, "download", (("chunks", INT), ("flags", UINT)), stream="read", sparse=True),
        Procedure(7, "upload", (("flags", UINT),), stream="write", sparse=True),
        Procedure(8, "give", (("count", INT),), fds="reply"),
        Procedure(9, "take", (("count", INT),), INT, fds="call"),
        Procedure(10, "happened", (("number", INT), ("text", TEXT))),
    ],
    name="SOAK",
)

EXPECTED = (
    "echo",
    "later",
    "block",
    "fail",
    "download",
    "upload",
    "give",
    "take",
    "streams finished",
    "streams aborted",
    "streams disconnected",
    "streams failed",
    "clients over unix",
    "clients over tls",
    "clients after sasl",
)
"""What has to have been done for a soak to have been one."""


class _End(StreamEnd):
    """Counts how streams end."""

    def __init__(self, done: Counter[str]) -> None:
        self._done = done

    def finishReceived(self) -> None:
        self._done["streams finished"] += 1

    def streamLost(self, reason: Exception) -> None:
        hows = {"the client aborted the stream": "aborted", "the client disconnected": "disconnected"}
        self._done["streams " + hows.get(str(reason), "failed")] += 1


class _Download(_End):
    def __init__(self, done: Counter[str], chunks: int) -> None:
        super().__init__(done)
        self._left = chunks
        self._paused = False

    def streamOpened(self, stream: ServerStream) -> None:
        super().streamOpened(stream)
        stream.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        while self._left and not self._paused:
            self._left -= 1
            if self.stream.sparse and self._left % 3 == 0:
                self.stream.writeHole(1 << 20)
            else:
                self.stream.write(bytes(262120))
        if not self._left and not self._paused:
            self.stream.unregisterProducer()
            self.stream.writeEOF()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._left = 0


class _Upload(_End):
    """Takes its time with every seventh packet, and fails at the hundredth."""

    def __init__(self, done: Counter[str]) -> None:
        super().__init__(done)
        self._count = 0

    def dataReceived(self, data: bytes) -> Deferred[None] | None:
        self._count += 1
        if self._count == 100:
            raise OSError(28, "No space left on device")
        if self._count % 7 == 0:
            return deferLater(reactor, 0.002, lambda: None)
        return None

    def holeReceived(self, length: int) -> Deferred[None] | None:
        return None


class Soak:
    """Provides L{ISoak} to one client."""

    def __init__(self, client: ServerClient, done: Counter[str]) -> None:
        """@param done: counts what is done, for all clients."""
        self._client = client
        self._done = done
        done[f"clients over {client.transportKind}"] += 1
        if client.identity.saslUser is not None:
            done["clients after sasl"] += 1

    def status(self) -> str:
        return json.dumps({"held": heldBy(self._client), "done": self._done})

    def echo(self, data: bytes) -> bytes:
        self._done["echo"] += 1
        self._client.events(SOAK).happened(len(data), "x" * 200)
        return data

    def later(self, milliseconds: int) -> Deferred[None]:
        self._done["later"] += 1
        return deferLater(reactor, milliseconds / 1000, lambda: None)

    @blocking
    def block(self, milliseconds: int) -> None:
        time.sleep(milliseconds / 1000)
        self._done["block"] += 1

    def fail(self, text: str) -> None:
        self._done["fail"] += 1
        raise RemoteError.of(ErrorNumber.OPERATION_FAILED, text)

    def download(self, chunks: int, flags: int) -> _Download:
        self._done["download"] += 1
        return _Download(self._done, chunks)

    def upload(self, flags: int) -> _Upload:
        self._done["upload"] += 1
        return _Upload(self._done)

    def give(self, count: int) -> list[int]:
        self._done["give"] += 1
        return [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]

    def take(self, count: int, fds: list[int]) -> int:
        self._done["take"] += 1
        return len(fds)
