"""The program that is soaked beside REMOTE: streams both ways, descriptors, slow and blocking calls."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import Interface

from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.programs.base import Procedure, Program, blocking
from virnet.server import ServerClient, ServerStream, StreamEnd
from virnet.xdr.schema import INT, UINT, Opaque, String

TEXT = String(4194304)


class ISoak(Interface):
    """What the clients call."""

    def status() -> Deferred[str]:
        """What the server holds, as JSON."""

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


class _Download(StreamEnd):
    def __init__(self, chunks: int) -> None:
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


class _Upload(StreamEnd):
    """Takes its time with every seventh packet, and fails at the hundredth."""

    def __init__(self) -> None:
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
    """Provides L{ISoak}."""

    def __init__(self, client: ServerClient) -> None:
        self._client = client

    def status(self) -> str:
        gc.collect()
        server = self._client.server
        others = [each for each in server.clients.values() if each is not self._client]
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[1])
        return json.dumps(
            {
                "clients": len(others),
                "streams": sum(len(each.connection.streams) for each in others),
                "in progress": sum(each.connection.inProgress for each in others),
                "clients in memory": sum(isinstance(each, ServerClient) for each in gc.get_objects()) - 1,
                "streams in memory": sum(isinstance(each, ServerStream) for each in gc.get_objects()),
                "descriptors": len(os.listdir("/proc/self/fd")),
                "threads": threading.active_count(),
                "resident": pages * os.sysconf("SC_PAGESIZE"),
            }
        )

    def echo(self, data: bytes) -> bytes:
        self._client.events(SOAK).happened(len(data), "x" * 200)
        return data

    def later(self, milliseconds: int) -> Deferred[None]:
        return deferLater(reactor, milliseconds / 1000, lambda: None)

    @blocking
    def block(self, milliseconds: int) -> None:
        time.sleep(milliseconds / 1000)

    def fail(self, text: str) -> None:
        raise RemoteError.of(ErrorNumber.OPERATION_FAILED, text)

    def download(self, chunks: int, flags: int) -> _Download:
        return _Download(chunks)

    def upload(self, flags: int) -> _Upload:
        return _Upload()

    def give(self, count: int) -> list[int]:
        return [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]

    def take(self, count: int, fds: list[int]) -> int:
        return len(fds)
