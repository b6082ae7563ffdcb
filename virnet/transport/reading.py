"""Reading the sockets of Twisted's transports in fewer steps than they take themselves.

The reactor reads a transport by its C{doRead} (C{IReadDescriptor}), in whose place a L{SocketReader} puts its
own. When to read, what the end of a connection means, and all else stays the transport's.

  - A read is one system call: C{recv(2)}; C{recvmsg(2)} where descriptors may come, which the kernel makes
    close-on-exec.
  - There is room for much only when much has come before: beyond 128 KiB each read may cost a C{mmap(2)}.
  - Who was sent something while their message was handled soon sends the next: a client that was answered, a
    server that was asked. To sleep until then and be woken costs more than to stay awake. So the socket is
    asked again and again for a while, other processes having the processor in between, and what comes is
    read at once; so is the rest of a large message that has begun. Only as long as no other connection was
    read in between, so that nobody is served more often than others; and where nothing came, it is tried
    again after twice as many reads as before.
"""

from __future__ import annotations

import os
import socket
import time
from array import array
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.main import CONNECTION_DONE

from virnet.limits import READ_LARGE, READ_MAX, READ_MIN

_WAIT = 250_000
"""Nanoseconds that a connection is waited for: libvirtd answers within 60,000, or 150,000 where its
threads sleep in between."""

_TURN = 1_000_000
"""Nanoseconds after which no more waiting begins before the reactor has looked for others."""

_PAUSE_MAX = 1024
"""Reads without waiting, at the most, where waiting has not paid."""

_now = time.monotonic_ns
_letOthersRun = os.sched_yield

_ANCILLARY = socket.CMSG_SPACE(253 * array("i").itemsize)
"""Room for the descriptors that Linux passes at once (C: C{SCM_MAX_FD})."""


class ReadFailed(ConnectionLost):
    """Reading failed; the text is what the system said. Twisted's own transports do not tell."""

    def __str__(self) -> str:
        return str(self.args[0])


class SocketReader:
    """Reads one socket.

    @ivar reading: whether more shall be read; who pauses or closes the transport says it here too.
    @ivar answered: whether something was sent since the last read; who sends it says it here.
    @ivar begun: whether what was read ends within a message; who knows says it here.
    """

    __slots__ = (
        "answered",
        "begun",
        "reading",
        "_pause",
        "_receive",
        "_receiveMessage",
        "_size",
        "_skip",
        "_transport",
    )

    _last: ClassVar[SocketReader | None] = None
    """The one that was read last."""

    def __init__(self, transport: Any) -> None:
        """@param transport: connected, with a plain socket; it is read by this from now on."""
        sock: socket.socket = transport.getHandle()
        self.reading = True
        self.answered = self.begun = False
        self._pause = 0
        self._skip = 0
        self._size = READ_MIN
        self._transport = transport
        self._receive: Callable[[int], bytes] = sock.recv
        if sock.family == socket.AF_UNIX and IFileDescriptorReceiver.providedBy(transport.protocol):
            self._receiveMessage = sock.recvmsg
            self._receive = self._receiveWithDescriptors
        transport.doRead = self.doRead

    def doRead(self) -> Exception | None:
        """Read what has come, and give it to the protocol: the reactor calls this.

        @return: why the connection is over; C{None} while it is not.
        """
        mayWait = self._mayWait()
        deadline = end = 0
        while True:
            try:
                data = self._receive(self._size)
            except BlockingIOError:
                if _now() < deadline:
                    _letOthersRun()
                    continue
                if deadline:
                    self._skip = self._pause = min(2 * self._pause or 1, _PAUSE_MAX)
                return None
            except OSError as e:
                return ReadFailed(e.strerror or str(e))
            if not data:
                return CONNECTION_DONE
            if deadline:
                self._pause = 0
            count = len(data)
            self._size = READ_MAX if count >= READ_MIN else max(self._size - READ_MIN, READ_MIN)
            self.answered = self.begun = False
            self._transport.protocol.dataReceived(data)
            if not (mayWait and self.reading and (self.begun or (self.answered and count < READ_LARGE))):
                return None
            now = _now()
            end = end or now + _TURN
            if now > end:
                return None
            deadline = now + _WAIT
            _letOthersRun()

    def _mayWait(self) -> bool:
        """Whether it is right to wait for this connection."""
        if SocketReader._last is not self:
            SocketReader._last = self
            return False
        if self._skip:
            self._skip -= 1
            return False
        return True

    def _receiveWithDescriptors(self, size: int) -> bytes:
        data, ancillary, _, _ = self._receiveMessage(size, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                for fd in array("i", content):
                    self._transport.protocol.fileDescriptorReceived(fd)
        return data

    def stop(self) -> None:
        """Read nothing more, and let go of the transport, which knows this."""
        self.reading = False
        vars(self._transport).pop("doRead", None)
        if SocketReader._last is self:
            SocketReader._last = None
