"""Sending at once, and descriptors each with its own byte: a layer over a Twisted socket transport.

Twisted's C{transport.write} waits for the next turn of the reactor and costs two C{epoll_ctl} calls; a reply
that fits into the socket's buffer can leave in the call that made it. And it pins a descriptor to the first
byte of whatever is pending, where libvirt expects it on a byte of its own behind its message.

- While nothing is queued, C{send(2)} is tried at once. What the kernel does not take is queued, and from then
  on everything is, in order, until the queue is empty again.
- The queue is written by a writer of its own in the reactor (C{IReactorFDSet}), on a duplicate of the socket:
  Twisted's transport goes on reading and never knows.
- Each descriptor follows its message with one zero byte of its own (C: C{virNetSocketSendFD}); a full socket
  may interrupt between any two.
- A producer is paused when more than L{limits.SEND_BUFFER} bytes wait, and resumed when none do.
- C{loseConnection} first lets the queue drain. When sending fails the connection is aborted.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.interfaces import IConsumer, IReactorFDSet, ITransport, IWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.errors import LocalProtocolError
from virnet.limits import SEND_BUFFER
from virnet.transport.sender import BufferedSender

_BLOCKED = -1
_BROKEN = -2


class _Pending:
    """A message that is not sent completely."""

    __slots__ = ("data", "fds", "sent")

    def __init__(self, data: memoryview, fds: list[int], sent: Callable[[], object] | None) -> None:
        self.data = data
        self.fds = fds
        self.sent = sent


@implementer(IWriteDescriptor)
class _Writer:
    """Tells when the socket can be written again; exists only while something is queued."""

    def __init__(self, fd: int, doWrite: Callable[[], None], lost: Callable[[], None]) -> None:
        self._fd = fd
        self.doWrite = doWrite
        self._lost = lost

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "virnet"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor gave the descriptor up: the error shows on Twisted's own transport as well."""
        self._lost()


@implementer(ITransport, IConsumer)
class WriteThrough:
    """A transport that sends at once what can be sent at once.

    Everything that is not about sending is the wrapped transport's: reading, addresses, options.

    @ivar queued: bytes that wait for the socket.
    """

    log = Logger()

    def __init__(self, reactor: IReactorFDSet, transport: Any, sock: socket.socket) -> None:
        """@param transport: the connected Twisted transport whose socket this is; nothing was written to it,
        and from now on nothing but this writes to it.
        """
        self.queued = 0
        self.disconnecting = False
        self._reactor = reactor
        self._transport = transport
        self._socket = sock
        self._send = sock.send
        self._queue: deque[_Pending] = deque()
        self._writer: _Writer | None = None
        self._producer: Any = None
        self._streaming = False
        self._producerPaused = False
        self._dead = False
        self._halfClose = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    # Sending

    def write(self, data: bytes) -> None:
        """Send bytes, now or as soon as the socket takes them."""
        self.send(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send bytes in pieces."""
        self.send(b"".join(iovec))

    def send(self, data: bytes, fds: Sequence[int] = (), sent: Callable[[], object] | None = None) -> None:
        """Send a message and the descriptors that go with it.

        @param fds: descriptors; they are this object's from now on and closed when sent or dropped.
        @param sent: called when the last of it was handed to the kernel; not called when it is dropped.
        @raise LocalProtocolError: there are descriptors, and the socket is not a UNIX socket; they stay the
            caller's and nothing was sent.
        """
        if fds and self._socket.family != socket.AF_UNIX:
            raise LocalProtocolError("Sending file descriptors is not supported on this socket")
        if self._dead or self.disconnecting or self._halfClose:
            closeAll(fds)
            return
        if not self._queue:
            size = len(data)
            done = self._trySend(data)
            if done == size and not fds:
                if sent is not None:
                    sent()
                return
            if done == _BROKEN:
                closeAll(fds)
                return
            rest = memoryview(data)[max(done, 0) :]
        else:
            rest = memoryview(data)
        self.queued += len(rest)
        self._queue.append(_Pending(rest, list(fds), sent))
        if len(self._queue) == 1:
            if rest:
                self._startWriting()
            else:
                self._drain()
        if self.queued > SEND_BUFFER and self._producer is not None and not self._producerPaused:
            if self._streaming:
                self._producerPaused = True
                self._producer.pauseProducing()

    def _trySend(self, data: bytes | memoryview) -> int:
        """Hand bytes to the kernel.

        @return: how many it took; C{_BLOCKED} when it takes none, C{_BROKEN} when the connection is dead.
        """
        try:
            return self._send(data)
        except BlockingIOError:
            return _BLOCKED
        except OSError as e:
            self._broken(e)
            return _BROKEN

    def _trySendDescriptor(self, fd: int) -> bool:
        try:
            self._socket.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        except BlockingIOError:
            return False
        except OSError as e:
            self._broken(e)
            return False
        return True

    def _drain(self) -> None:
        """Send from the queue until it is empty or the socket is full."""
        queue = self._queue
        while queue:
            pending = queue[0]
            if pending.data:
                count = self._trySend(pending.data)
                if count < 0:
                    break
                pending.data = pending.data[count:]
                self.queued -= count
                continue
            if pending.fds:
                if not self._trySendDescriptor(pending.fds[0]):
                    break
                os.close(pending.fds.pop(0))
                continue
            queue.popleft()
            if pending.sent is not None:
                pending.sent()
        if self._dead:
            return
        if queue:
            self._startWriting()
            return
        self._stopWriting()
        if self.disconnecting:
            self._transport.loseConnection()
        elif self._halfClose:
            self._transport.loseWriteConnection()
        elif self._producer is not None and (self._producerPaused or not self._streaming):
            self._producerPaused = False
            self._producer.resumeProducing()

    def _startWriting(self) -> None:
        if self._writer is None:
            # epoll knows descriptors by number: Twisted's transport has its own entry for the socket.
            try:
                fd = os.dup(self._socket.fileno())
            except OSError as e:
                self._broken(e)
                return
            self._writer = _Writer(fd, self._drain, self._lost)
            self._reactor.addWriter(self._writer)

    def _stopWriting(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._reactor.removeWriter(writer)
            os.close(writer.fileno())

    def _broken(self, error: OSError) -> None:
        self.log.debug("sending failed: {error}", error=error)
        self.abortConnection()

    def _lost(self) -> None:
        self.abortConnection()

    def discard(self) -> None:
        """Drop what is queued and close its descriptors; nothing can be sent any more."""
        self._dead = True
        self._stopWriting()
        queue, self._queue = self._queue, deque()
        self.queued = 0
        for pending in queue:
            closeAll(pending.fds)
        self._producer = None

    # Closing

    def loseConnection(self) -> None:
        """Close the connection when everything queued was sent and no producer is left."""
        if self._dead or self.disconnecting:
            return
        self.disconnecting = True
        if not self._queue:
            self._transport.loseConnection()

    def abortConnection(self) -> None:
        """Close the connection now."""
        if not self._dead:
            self.discard()
            self._transport.abortConnection()

    def loseWriteConnection(self) -> None:
        """Close the sending half when everything queued was sent."""
        if self._dead or self.disconnecting or self._halfClose:
            return
        self._halfClose = True
        if not self._queue:
            self._transport.loseWriteConnection()

    # Producers

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer be paused when too much is queued.

        @raise RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._dead or self.disconnecting:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producerPaused = False
        if not streaming:
            producer.resumeProducing()
        elif self.queued > SEND_BUFFER:
            self._producerPaused = True
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None


def closeAll(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


def senderFor(reactor: Any, transport: Any) -> WriteThrough | BufferedSender:
    """What sends over a connected transport, before anything was written to it.

    @return: a L{WriteThrough} for a plain socket under a reactor with C{IReactorFDSet}, else a
        L{BufferedSender}.
    """
    getHandle = getattr(transport, "getHandle", None)
    handle = getHandle() if getHandle is not None else None
    if isinstance(handle, socket.socket) and IReactorFDSet.providedBy(reactor):
        return WriteThrough(reactor, transport, handle)
    return BufferedSender(transport)
