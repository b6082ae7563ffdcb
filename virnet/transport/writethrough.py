"""Sending at once, and descriptors each with its own byte: a sender for the sockets of Twisted's transports.

Twisted's C{transport.write} waits for the next turn of the reactor and costs two C{epoll_ctl} calls; a reply
that fits into the socket's buffer can leave in the call that made it.

  - While nothing waits, C{send(2)} is tried at once. When the kernel takes no more, the transport gets a
    small piece, everything else waits here, and C{send(2)} goes on when the transport's buffer is empty
    again: so the transport says when the socket is writable, and most bytes still pass it by.
  - An error of C{send(2)} is no error here: the transport will meet it too, after it has read what the peer
    sent before it left.
  - Each descriptor follows its message with one zero byte of its own (C: C{virNetSocketSendFD}). Twisted ties
    a descriptor to the first byte that waits: it is given one, and its byte, when nothing does.
  - Between C{hold} and C{flush} messages are collected and then sent together: the answers to calls that came
    together cost one system call, and the peer wakes once.
  - A push producer is paused when more than L{limits.SEND_BUFFER} bytes wait. While a pull producer is
    registered everything goes by the transport, which then asks it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.tcp import Connection

from virnet.errors import LocalProtocolError
from virnet.limits import SEND_BUFFER
from virnet.transport.descriptors import closeAll
from virnet.transport.reading import SocketReader
from virnet.transport.sender import BufferedSender

_PIECE = 16384
"""Bytes the transport gets to say when the socket is writable: fits when it is, costs little to copy."""

_TOGETHER = 65536
"""Bytes of messages that are held at the most, to be sent as one."""


class WriteThrough(BufferedSender):
    """Sends at once what can be sent at once.

    It waits while anything at all is in the transport's buffer: a pull producer is told when that is empty.
    """

    streaming = False

    def __init__(self, transport: Any) -> None:
        """@param transport: connected, with a plain socket; nothing was written to it, and nothing but this
        writes to it or closes it from now on.
        """
        sock: socket.socket = transport.getHandle()
        self._sendNow = sock.send
        self.carriesDescriptors = sock.family == socket.AF_UNIX
        self._given: int | None = None
        self._holding = False
        self._held: list[bytes] = []
        self._heldSent: list[Callable[[], object]] = []
        self._heldSize = 0
        self._reader = SocketReader(transport)
        super().__init__(transport)

    def send(self, data: bytes, fds: Sequence[int] = (), sent: Callable[[], object] | None = None) -> None:
        """Send a message and the descriptors that go with it.

        @param fds: descriptors; they are this object's from now on and closed when sent or dropped.
        @param sent: called when the last of it was handed to the kernel; not called when it is dropped.
        @raise LocalProtocolError: there are descriptors, and the socket is not a UNIX socket; they stay the
            caller's and nothing was sent.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if fds and not self.carriesDescriptors:
            raise LocalProtocolError("Sending file descriptors is not supported on this socket")
        self._reader.answered = True
        if self._holding:
            self._heldSize += len(data)
            if not fds and self._heldSize <= _TOGETHER:
                self._held.append(data)
                if sent is not None:
                    self._heldSent.append(sent)
                return
            self._release()
        done = 0
        if self._direct and not fds:
            try:
                done = self._sendNow(data)
            except OSError:
                pass
            if done == len(data):
                if sent is not None:
                    sent()
                return
        self._enqueue(memoryview(data)[done:] if done else data, fds, sent)
        if self.queued > SEND_BUFFER:
            self._pauseProducer()

    def _countUnsent(self) -> int:
        return super()._countUnsent() + (self._heldSize if self._held else 0)

    def hold(self) -> None:
        self._holding = True

    def flush(self) -> None:
        self._holding = False
        self._release()

    def _release(self) -> None:
        """Send what is held, as one message."""
        self._heldSize = 0
        if self._held:
            data = b"".join(self._held)
            sent, self._heldSent = self._heldSent, []
            self._held.clear()
            holding, self._holding = self._holding, False
            self.send(data, (), partial(_callAll, sent))
            self._holding = holding

    def _handOver(self) -> None:
        self._direct = False
        while self._queue and not self._waiting:
            message = self._queue[0]
            if message.data:
                count = self._handOverSome(message.data)
                message.data = memoryview(message.data)[count:]
            elif message.fds:
                self._waiting = True
                self._given = message.fds[0]
                message.fds = message.fds[1:]
                self._transport.sendFileDescriptor(self._given)
                self._transport.write(b"\0")
            if not message.data and not message.fds:
                self._handed.append(self._queue.popleft())
                if not self._waiting:
                    self._finishHanded()
        self._settle()

    def _handOverSome(self, data: bytes | memoryview) -> int:
        """Hand on the beginning of what is to be sent.

        @return: how many bytes; when they went to the transport this waits for it.
        """
        count = len(data)
        if not self._isPulled():
            try:
                return self._sendNow(data)
            except OSError:
                count = min(count, _PIECE)
        self._waiting = True
        self._transport.write(bytes(data[:count]))
        return count

    def expect(self) -> None:
        self._reader.begun = True

    def drained(self) -> None:
        self._closeGiven()
        super().drained()

    def _closeGiven(self) -> None:
        if self._given is not None:
            closeAll((self._given,))
            self._given = None

    def _drop(self) -> None:
        self._reader.reading = False
        super()._drop()
        self._closeGiven()
        self._held.clear()
        self._heldSent.clear()

    def pauseProducing(self) -> None:
        """Read nothing until L{resumeProducing}."""
        self._reader.reading = False
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again."""
        self._reader.reading = not self._closing and not self._gone
        self._transport.resumeProducing()

    def loseConnection(self) -> None:
        """Read nothing more; close the connection when everything was sent and no producer is left."""
        self._release()
        self._reader.reading = False
        if not self._gone:
            # It waits until it has no producer.
            self._transport.loseConnection()
        super().loseConnection()

    def discard(self) -> None:
        super().discard()
        self._reader.stop()

    def loseWriteConnection(self) -> None:
        self._release()
        super().loseWriteConnection()

    def _startPulling(self) -> None:
        self._producer.resumeProducing()

    def _stopPulling(self) -> None:
        """The transport goes on asking this."""

    def _hasEnough(self) -> bool:
        return self.queued > SEND_BUFFER


def _callAll(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()


def senderFor(transport: Any) -> BufferedSender:
    """What sends over a connected transport, before anything was written to it.

    @return: a L{WriteThrough} for a plain socket, else a L{BufferedSender}; the transport if it is one.
    """
    if isinstance(transport, BufferedSender):
        return transport
    # Wrappers, of protocols and of TLS, pass the socket's methods on and claim its interfaces, but past them
    # nothing may be sent. Twisted's own socket transports are told by their class.
    if isinstance(transport, Connection) and not transport.TLS:
        return WriteThrough(transport)
    return BufferedSender(transport)
