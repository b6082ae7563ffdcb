"""Sending over a transport that has no socket of its own to write to: TLS, processes, tests.

It offers what L{WriteThrough<virnet.transport.writethrough.WriteThrough>} offers. A message counts as sent
when the transport takes more: its buffer is Twisted's, so the last 64 KiB are a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from virnet.errors import LocalProtocolError


@implementer(IPushProducer)
class _Gauge:
    """What the transport pauses and resumes: it says how full the transport's buffer is."""

    def __init__(self, sender: BufferedSender) -> None:
        self.pauseProducing = sender.bufferFilled
        self.resumeProducing = sender.bufferDrained
        self.stopProducing = sender.discard


class BufferedSender:
    """Writes to a Twisted transport and tells when its buffer has drained.

    Everything that is not about sending is the transport's, C{pauseProducing} and C{resumeProducing} of what
    is read from it too.
    """

    def __init__(self, transport: Any) -> None:
        """@param transport: connected; nothing but this writes to it from now on."""
        self._transport = transport
        self._waiting: list[Callable[[], object]] = []
        self._paused = False
        self._producer: Any = None
        transport.registerProducer(_Gauge(self), True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._transport.write(data)

    def send(self, data: bytes, fds: Sequence[int] = (), sent: Callable[[], object] | None = None) -> None:
        """Send a message.

        @param sent: called when the transport would take more; not called when the connection is lost.
        @raise LocalProtocolError: there are descriptors, which only a UNIX socket carries.
        """
        if fds:
            raise LocalProtocolError("Sending file descriptors is not supported on this socket")
        self._transport.write(data)
        if sent is not None:
            if self._paused:
                self._waiting.append(sent)
            else:
                sent()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a push producer be paused when the transport's buffer is full."""
        self._producer = producer

    def bufferFilled(self) -> None:
        """The transport's buffer is full."""
        self._paused = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def bufferDrained(self) -> None:
        """The transport's buffer is empty."""
        self._paused = False
        if self._producer is not None:
            self._producer.resumeProducing()
        while self._waiting and not self._paused:
            self._waiting.pop(0)()

    def discard(self) -> None:
        """Nothing can be sent any more."""
        self._waiting.clear()

    def loseConnection(self) -> None:
        """Close the connection when everything was sent."""
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def abortConnection(self) -> None:
        """Close the connection now."""
        self._transport.unregisterProducer()
        self._transport.abortConnection()
