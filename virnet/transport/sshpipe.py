"""The transport that a protocol has over a channel of ssh within this process (L{virnet.transport.conch}).

Rules:

  - The channel's window holds the host back: it grows when what came was taken, and not while reading is
    paused. What is written beyond the host's window pauses the producer.
  - The end of what the command says is the end of the connection, unless the protocol can do with one half;
    its status gets L{LINGER} seconds to come.
  - The protocol is told that the connection is lost when the one to the host is.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.transport.process import CommandFailed

WINDOW = 2 * 1024 * 1024
"""Bytes that the host may send before they are taken; OpenSSH's figure."""

LINGER = 1.0
"""Seconds between the end of the command's output and our closing the channel."""


@implementer(IAddress)
class SSHAddress:
    """Where a command on another host is."""

    def __init__(self, user: str, host: str, port: int) -> None:
        self._text = f"{user}@{host} port {port} by ssh"

    def __str__(self) -> str:
        return self._text


@implementer(ITransport, IConsumer, IPushProducer)
class SSHPipe:
    """The transport that the protocol has.

    @ivar disconnecting: C{loseConnection} was called.
    """

    disconnecting = False

    def __init__(self, reactor: Any, ssh: Any, channel: Any, protocol: Any, address: SSHAddress) -> None:
        self._reactor = reactor
        self._ssh = ssh
        self._channel = channel
        self._protocol = protocol
        self._address = address
        self._producer: Any = None
        self._streaming = False
        self._pulling: Any = None
        self._closing: Any = None
        self._ending: Any = None
        self._held = False
        self._paused = False
        self._unread: list[bytes] = []
        self._readEnded = False
        self._writeEnded = False
        self._aborted = False
        self._lost = False
        channel.pipe = self

    def start(self) -> None:
        """Connect the protocol."""
        self._protocol.makeConnection(self)

    # Reading

    def received(self, data: bytes) -> None:
        """The command says something."""
        if self._paused:
            self._unread.append(data)
        elif not self.disconnecting:
            self._protocol.dataReceived(data)

    def pauseProducing(self) -> None:
        """Read no more: the window does not grow."""
        self._paused = True
        self._channel.localWindowSize = 0

    def resumeProducing(self) -> None:
        """Read on."""
        if self._lost or self.disconnecting or not self._paused:
            return
        self._paused = False
        while self._unread:
            self._protocol.dataReceived(self._unread.pop(0))
            if self._isHeld():
                return
        self._channel.localWindowSize = WINDOW
        if self._channel.localWindowLeft < WINDOW // 2 and not self._readEnded:
            self._channel.conn.adjustWindow(self._channel, WINDOW - self._channel.localWindowLeft)
        if self._readEnded:
            self.readEnded()

    def _isHeld(self) -> bool:
        return self._paused or self._lost

    def stopProducing(self) -> None:
        """Nobody wants what is read any more."""
        self.loseConnection()

    def readEnded(self) -> None:
        """The command says no more."""
        self._readEnded = True
        if self._paused or self._lost:
            return
        if IHalfCloseableProtocol.providedBy(self._protocol):
            self._protocol.readConnectionLost()
        else:
            self._closing = self._reactor.callLater(LINGER, self._channel.loseConnection)

    # Writing

    def write(self, data: Any) -> None:
        """Send bytes."""
        if type(data) not in (bytes, memoryview):
            raise TypeError(f"a transport takes bytes, not {data!r}")
        if not self._lost and not self._writeEnded and not self._channel.localClosed:
            self._channel.write(bytes(data))

    def writeSequence(self, iovec: Any) -> None:
        """Send bytes in pieces."""
        self.write(b"".join(iovec))

    def hold(self, held: bool) -> None:
        """The host takes no more, or more again."""
        self._held = held
        if self._producer is None:
            return
        if not self._streaming:
            self._pullLater()
        elif held:
            self._producer.pauseProducing()
        else:
            # What waits goes first, which the channel sees to after this.
            self._reactor.callLater(0, self._resumeProducer)

    def _resumeProducer(self) -> None:
        if self._producer is not None and not self._held and self._streaming:
            self._producer.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let a producer be held back while the host takes no more.

        @raise RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self._producer!r} was never unregistered")
        if self._lost:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        if not streaming:
            self._pullLater()
        elif self._held:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer; close what waited for that."""
        self._producer = None
        if self.disconnecting and not self._lost:
            self._channel.loseConnection()

    def _pullLater(self) -> None:
        if self._pulling is None and not self._held:
            self._pulling = self._reactor.callLater(0, self._pull)

    def _pull(self) -> None:
        self._pulling = None
        if self._producer is not None and not self._streaming and not self._held:
            self._producer.resumeProducing()
            self._pullLater()

    # The end

    def loseConnection(self) -> None:
        """Close when everything was sent and no producer is left."""
        if not self._lost and not self.disconnecting:
            self.disconnecting = True
            if self._producer is None:
                self._channel.loseConnection()

    def loseWriteConnection(self) -> None:
        """Tell the command that no more comes, when everything was sent."""
        if self._lost or self._writeEnded:
            return
        if self._channel.buf:
            self._ending = self._reactor.callLater(0.01, self.loseWriteConnection)
            return
        self._writeEnded = True
        self._channel.conn.sendEOF(self._channel)
        if IHalfCloseableProtocol.providedBy(self._protocol):
            self._protocol.writeConnectionLost()

    def abortConnection(self) -> None:
        """Close now."""
        if not self._lost and not self._aborted:
            self._aborted = True
            self._ssh.abort()

    def lost(self, reason: Failure) -> None:
        """The connection to the host is gone."""
        self._lost = True
        for timer in (self._pulling, self._closing, self._ending):
            if timer is not None and timer.active():
                timer.cancel()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self._protocol.connectionLost(Failure(self._reason(reason)))

    def _reason(self, reason: Failure) -> BaseException:
        if self._aborted:
            return ConnectionAborted()
        if self.disconnecting:
            return ConnectionDone()
        complaint = self._channel.complaint()
        if complaint:
            return CommandFailed(complaint)
        return ConnectionDone() if self._channel.remoteClosed or reason.value is None else reason.value

    def getPeer(self) -> IAddress:
        """Where the command is."""
        return self._address

    def getHost(self) -> IAddress:
        """The same; this end has no address of its own."""
        return self._address
