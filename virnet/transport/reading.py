"""Reading the sockets of Twisted's transports in fewer steps than they take themselves.

The reactor reads a transport by its C{doRead} (C{IReadDescriptor}), in whose place a L{SocketReader} puts its
own. When to read, what the end of a connection means, and all else stays the transport's.

  - A read is one system call: C{recv(2)}; C{recvmsg(2)} where descriptors may come, which the kernel makes
    close-on-exec.
  - There is room for much only when much has come before: beyond 128 KiB each read may cost a C{mmap(2)}.
  - A peer that waits for each answer has often sent its next call by the time it takes to go back to the
    reactor and ask the kernel who has something to say. So when a call was handled the socket is read again,
    up to C{_TURNS} times; then others have theirs. Peers for which this has not paid are spared the attempt.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from virnet.limits import READ_MAX, READ_MIN

_TURNS = 8
"""Reads of one connection before the others have their turn."""

_CALL = 4096
"""Bytes that a call may have, or a few: who sends more at once does not wait for each answer, and is better
read when still more has come."""

_LUCK = 4
"""Attempts in a row to read again that may find nothing."""

_PAUSE = 32
"""Reads without such an attempt after that."""

_ANCILLARY = socket.CMSG_SPACE(253 * array("i").itemsize)
"""Room for the descriptors that Linux passes at once (C: C{SCM_MAX_FD})."""

_CLOSE_ON_EXEC = socket.MSG_CMSG_CLOEXEC


class SocketReader:
    """Reads one socket.

    @ivar reading: whether more shall be read; who pauses or closes the transport says it here too.
    """

    __slots__ = ("reading", "_luck", "_receive", "_size", "_transport")

    def __init__(self, transport: Any) -> None:
        """@param transport: connected, with a plain socket; it is read by this from now on."""
        sock: socket.socket = transport.getHandle()
        self.reading = True
        self._luck = _LUCK
        self._size = READ_MIN
        self._transport = transport
        self._receive: Callable[..., Any]
        if sock.family == socket.AF_UNIX and IFileDescriptorReceiver.providedBy(transport.protocol):
            self._receive = sock.recvmsg
            transport.doRead = self._readMessages
        else:
            self._receive = sock.recv
            transport.doRead = self._readBytes

    def _readBytes(self) -> Exception | None:
        """Read what has come, and give it to the protocol.

        @return: why the connection is over; C{None} while it is not.
        """
        turns = 0
        while True:
            try:
                data = self._receive(self._size)
            except BlockingIOError:
                if turns:
                    self._unlucky()
                return None
            except OSError:
                return CONNECTION_LOST
            if not data:
                return CONNECTION_DONE
            turns += 1
            if not self._received(data, turns):
                return None

    def _readMessages(self) -> Exception | None:
        """The same where descriptors may come."""
        turns = 0
        while True:
            try:
                data, ancillary, _, _ = self._receive(self._size, _ANCILLARY, _CLOSE_ON_EXEC)
            except BlockingIOError:
                if turns:
                    self._unlucky()
                return None
            except OSError:
                return CONNECTION_LOST
            if ancillary:
                self._descriptorsReceived(ancillary)
            if not data:
                return CONNECTION_DONE
            turns += 1
            if not self._received(data, turns):
                return None

    def _received(self, data: bytes, turns: int) -> bool:
        """Hand on what was read.

        @param turns: how often that was.
        @return: whether to read again at once.
        """
        count = len(data)
        self._size = READ_MAX if count >= READ_MIN else READ_MIN
        if turns > 1:
            self._luck = _LUCK
        self._transport.protocol.dataReceived(data)
        if self._luck <= 0:
            self._luck += 1
            return False
        return count < _CALL and self.reading and turns < _TURNS

    def _unlucky(self) -> None:
        """Nothing was there so soon."""
        self._luck = self._luck - 1 or -_PAUSE

    def _descriptorsReceived(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                for fd in array("i", content):
                    self._transport.protocol.fileDescriptorReceived(fd)

    def stop(self) -> None:
        """Read nothing more; forget the transport, which knows this."""
        self.reading = False
        vars(self._transport).pop("doRead", None)
