"""Reading the sockets of Twisted's transports in fewer steps than they take themselves.

The reactor reads a transport by its C{doRead} (C{IReadDescriptor}), in whose place a L{SocketReader} puts its
own. When to read, what the end of a connection means, and all else stays the transport's.

  - A read is one system call: C{recv(2)}; C{recvmsg(2)} where descriptors may come, which the kernel makes
    close-on-exec.
  - There is room for much only when much has come before: beyond 128 KiB each read may cost a C{mmap(2)}.
  - A peer that waits for each answer has often sent its next call by the time it takes to go back to the
    reactor and ask the kernel who has something to say. So when a call was handled the socket is read again,
    up to C{_TURNS} times: but only as long as no other connection was read in between, so that nobody is
    served more often than others, and not where it did not pay.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.main import CONNECTION_DONE

from virnet.limits import READ_MAX, READ_MIN

_TURNS = 8
"""Reads of one connection before the reactor looks for others."""

_CALL = 4096
"""Bytes that a call may have, or a few: who sends more at once does not wait for each answer, and is better
read when still more has come."""

_LUCK = 4
"""Attempts in a row to read again that may find nothing."""

_PAUSE = 32
"""Reads without such an attempt after that."""

_ANCILLARY = socket.CMSG_SPACE(253 * array("i").itemsize)
"""Room for the descriptors that Linux passes at once (C: C{SCM_MAX_FD})."""


class ReadFailed(ConnectionLost):
    """Reading failed; the text is what the system said. Twisted's own transports do not tell."""

    def __str__(self) -> str:
        return str(self.args[0])


class SocketReader:
    """Reads one socket.

    @ivar reading: whether more shall be read; who pauses or closes the transport says it here too.
    """

    __slots__ = ("reading", "_luck", "_receive", "_receiveMessage", "_size", "_transport")

    _last: ClassVar[SocketReader | None] = None
    """The one that was read last."""

    def __init__(self, transport: Any) -> None:
        """@param transport: connected, with a plain socket; it is read by this from now on."""
        sock: socket.socket = transport.getHandle()
        self.reading = True
        self._luck = _LUCK
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
        further = self._furtherReads()
        again = False
        while True:
            try:
                data = self._receive(self._size)
            except BlockingIOError:
                if again:
                    self._luck = self._luck - 1 or -_PAUSE
                return None
            except OSError as e:
                return ReadFailed(e.strerror or str(e))
            if not data:
                return CONNECTION_DONE
            if again:
                self._luck = _LUCK
            count = len(data)
            self._size = READ_MAX if count >= READ_MIN else READ_MIN
            self._transport.protocol.dataReceived(data)
            if not further or count >= _CALL or not self.reading:
                return None
            further -= 1
            again = True

    def _furtherReads(self) -> int:
        """How often to read again at once, at the most."""
        if SocketReader._last is not self:
            SocketReader._last = self
            return 0
        if self._luck <= 0:
            self._luck += 1
            return 0
        return _TURNS - 1

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
