"""Peers that are plain sockets: what one C{sendmsg} carries and one C{recvmsg} brings is theirs to decide."""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.contracts.ends import reactor
from tests.peers import Message, split


class Piece(NamedTuple):
    """What one C{recvmsg} brought.

    @ivar fds: the receiver's.
    """

    data: bytes
    fds: list[int]


@implementer(IReadDescriptor)
class _Readable:
    """Fires a Deferred when a socket can be read."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.fired: Deferred[None] = Deferred()
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._sock.fileno()

    def doRead(self) -> None:
        reactor.removeReader(self)
        self.fired.callback(None)

    def connectionLost(self, reason: Failure) -> None:
        # At its end, which is readable too.
        self.fired.callback(None)

    def logPrefix(self) -> str:
        return "raw"


class RawSocket:
    """A peer by hand.

    @ivar pieces: what C{receive} has got so far.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.pieces: list[Piece] = []

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes in one C{sendmsg}, with descriptors on it; the socket must have room."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.sock.sendmsg([data], rights)
        assert sent == len(data), f"{sent} of {len(data)} bytes sent"

    def sendEach(self, *fds: int) -> None:
        """Send descriptors as libvirt does: each on a zero byte of its own."""
        for fd in fds:
            self.send(b"\0", [fd])

    def take(self) -> Piece | None:
        """Read once.

        @return: C{None} when there is nothing to read now; a piece without bytes at the end.
        """
        try:
            data, controls, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(4 * 253))
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data, controls = b"", []
        fds = [fd for _, _, packed in controls for (fd,) in struct.iter_unpack("i", packed)]
        piece = Piece(data, fds)
        self.pieces.append(piece)
        return piece

    def takeAll(self) -> list[Piece]:
        """Read whatever is there now."""
        taken = []
        while (piece := self.take()) is not None and piece.data:
            taken.append(piece)
        return taken

    async def receive(self) -> Piece:
        """Wait for something to read, or for the end, and read once."""
        while (piece := self.take()) is None:
            await _Readable(self.sock).fired
        return piece

    async def until(self, condition: Callable[[], bool]) -> None:
        """Read until something holds of C{pieces}, or the end."""
        while not condition():
            if not (await self.receive()).data:
                return

    async def messages(self, count: int) -> list[Message]:
        """Read so many messages, without descriptors, and nothing behind them."""

        def size() -> int:
            return sum(len(piece.data) for piece in self.pieces)

        data = b""
        while True:
            data = b"".join(piece.data for piece in self.pieces)
            try:
                found = list(split(data))
            except AssertionError:
                found = []
            if len(found) >= count:
                return found
            have = size()
            await self.until(lambda have=have: size() > have)  # type: ignore[misc]
            assert size() > have, f"{len(found)} messages, then the end"

    async def end(self) -> None:
        """Read until the end."""
        while (await self.receive()).data:
            pass

    @property
    def fds(self) -> list[int]:
        """The descriptors so far."""
        return [fd for piece in self.pieces for fd in piece.fds]

    def forget(self) -> None:
        """Close every descriptor that has come and begin afresh."""
        for fd in self.fds:
            os.close(fd)
        self.pieces = []

    def close(self) -> None:
        """Close the socket and every descriptor that has come."""
        self.sock.close()
        self.forget()


class RawListener:
    """A UNIX socket that listens, for one raw server at a time."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(path)
        self._sock.listen(1)

    def accept(self) -> RawSocket:
        """Take the connection that was made."""
        return RawSocket(self._sock.accept()[0])

    def close(self) -> None:
        """Listen no more."""
        self._sock.close()
