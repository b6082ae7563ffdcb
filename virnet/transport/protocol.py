"""The Twisted shell of a connection: bytes from the transport into L{virnet.wire}, its events into methods.

The rules that live here are those of I/O: what is written when, what a lost connection means, who is told.
Which message is legal is decided in L{virnet.wire.connection}.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress, IDelayedCall, IFileDescriptorReceiver, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.errors import (
    ConnectionLost,
    KeepAliveTimeout,
    LocalProtocolError,
    RemoteProtocolError,
    VirnetError,
)
from virnet.limits import DESCRIPTORS_UNCLAIMED_MAX, FAULTS_LOGGED, READ_LARGE
from virnet.probes import (
    KEEPALIVE_DISPOSE,
    KEEPALIVE_NEW,
    KEEPALIVE_SEND,
    KEEPALIVE_START,
    KEEPALIVE_STOP,
    KEEPALIVE_TIMEOUT,
    SOCKET_DISPOSE,
    SOCKET_NEW,
    SOCKET_RECV_FD,
    SOCKET_SEND_FD,
    Probe,
    objectDispose,
    objectNew,
)
from virnet.security.securitylayer import SecurityLayer
from virnet.transport.descriptors import closeAll
from virnet.transport.sender import BufferedSender
from virnet.transport.writethrough import senderFor
from virnet.wire import keepalive
from virnet.wire.connection import ClientConnection, ServerConnection
from virnet.wire.events import Dropped, Event, Fault, Send
from virnet.wire.keepalive import PING_MESSAGE, PONG_MESSAGE, KeepAlive, Verdict
from virnet.wire.message import decodeHeader


@implementer(IFileDescriptorReceiver)
class RPCProtocol(Protocol):
    """What a client's and a server's connection share.

    A subclass sets C{connection} and C{clock} before any data arrives, and adds to C{eventMethods}.

    @ivar connection: the sans-IO end that judges what is received.
    @ivar peer: the other side in words, for logs and errors.
    @ivar clock: tells the time and calls later.
    @ivar ending: what comes is not looked at any more.
    @ivar written: bytes that were to be sent so far; a descriptor counts one.
    @ivar faults: what the peer did wrong so far and was not cut off for.
    @ivar lastHeard: when the peer gave its last sign of life, once keepalive that was on has ended; in
        seconds of C{clock}.
    """

    log = Logger()

    eventMethods: ClassVar[dict[type, str]] = {Send: "_answer", Dropped: "_dropped", Fault: "_fault"}
    """Type of wire event to the name of the method that takes it."""

    _methods: ClassVar[dict[type, Callable[..., None]]]

    connection: ClientConnection[Any] | ServerConnection
    peer: str = "nobody yet"
    ending = False
    written = 0
    faults = 0
    lastHeard: float | None = None
    clock: IReactorTime
    _keepalive: KeepAlive | None = None
    _keepaliveTimer: IDelayedCall | None = None
    _unread = 0
    _left = 0
    sender: BufferedSender
    probeNew: ClassVar[Probe]
    probeDispose: ClassVar[Probe]
    probeReceived: ClassVar[Probe]
    probeSent: ClassVar[Probe]

    _descriptors: list[int]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._methods = {event: getattr(cls, name) for event, name in cls.eventMethods.items()}

    def connectionMade(self) -> None:
        """The transport is there: Twisted calls this once."""
        transport = self.transport
        assert transport is not None
        self._descriptors = []
        handle = getattr(transport, "getHandle", lambda: None)()
        self.peer = describePeer(transport.getPeer(), handle)
        setNoDelay = getattr(transport, "setTcpNoDelay", None)
        if setNoDelay is not None:
            setNoDelay(True)
        self.sender = senderFor(transport)
        if self.sender.carriesDescriptors:
            self.connection.acceptDescriptors()
        self._sendNow = self.sender.send
        self.connection.received = self.probeReceived
        self.connection.owner = self
        if SOCKET_NEW.listeners:
            fileno = handle.fileno() if handle is not None else -1
            pid = (peerCredentials(handle) or (0,))[0]
            here, there = _addressText(transport.getHost()), _addressText(transport.getPeer())
            SOCKET_NEW(transport, fileno, -1, pid, here, there)
        objectNew(self)
        if self.probeNew.listeners:
            self.probeNew(self, transport)

    def send(self, data: bytes, fds: Sequence[int] = (), sent: Callable[[], object] | None = None) -> None:
        """Send a message, see L{BufferedSender.send<virnet.transport.sender.BufferedSender.send>}."""
        if self.probeSent.listeners:
            self.probeSent(self, *decodeHeader(data).traced())
        if fds and SOCKET_SEND_FD.listeners:
            for fd in fds:
                SOCKET_SEND_FD(self.transport, fd)
        self.written += len(data) + len(fds)
        self._sendNow(data, fds, sent)

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """A descriptor has come: Twisted calls this before the bytes that came with it."""
        if self.ending or not self.connection.carriesDescriptors:
            os.close(descriptor)
            return
        # Twisted receives without MSG_CMSG_CLOEXEC.
        os.set_inheritable(descriptor, False)
        if SOCKET_RECV_FD.listeners:
            SOCKET_RECV_FD(self.transport, descriptor)
        self._descriptors.append(descriptor)
        self.connection.descriptorReceived()
        if len(self._descriptors) > DESCRIPTORS_UNCLAIMED_MAX:
            self._fault(Fault(RemoteProtocolError("received file descriptors that no message announced")))

    def takeDescriptors(self, count: int) -> list[int]:
        """Take the descriptors of the message that is being handled; they are the caller's now."""
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return taken

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come: judge them and do what follows."""
        if self._keepalive is not None:
            self._keepalive.received(self.clock.seconds())
        self.dispatch(self.connection.receive(data))
        if len(data) >= READ_LARGE and self.connection.unjudged:
            self.sender.expect()

    def dispatch(self, events: list[Event]) -> None:
        """Do what follows from wire events, and from those that these make possible."""
        methods = self._methods
        while events:
            # What answers events that came together leaves together.
            several = len(events) > 1
            if several:
                self.sender.hold()
            try:
                for event in events:
                    if self.ending:
                        return
                    methods[type(event)](self, event)
            finally:
                if several:
                    self.sender.flush()
            events = self.connection.resume() if self.connection.waiting else []

    def startSecurityLayer(self, layer: SecurityLayer) -> None:
        """Protect all that is sent from now on, and take only what is protected.

        What the peer has sent already came in clear, and nobody knows from whom: with it the connection does
        not go on.
        """
        if self.connection.unjudged:
            self._fault(Fault(RemoteProtocolError("received data in clear behind the authentication")))
            return
        # Nothing could protect them.
        self.connection.refuseDescriptors()
        sender = self.sender.send

        def send(data: bytes, fds: Sequence[int] = (), sent: Callable[[], object] | None = None) -> None:
            if fds:
                raise LocalProtocolError("Sending file descriptors is not supported on this socket")
            try:
                packets = layer.encode(data)
            except Exception as e:
                # A ticket has expired, say. In clear it must not go, and who waits for it has to learn.
                self.log.failure("{peer}: failed to encode SASL data", peer=self.peer)
                self.abort(ConnectionLost(f"failed to encode SASL data: {e}"))
                return
            sender(packets, (), sent)

        def received(data: bytes) -> None:
            try:
                decoded = layer.decode(data)
            except RemoteProtocolError as e:
                self._fault(Fault(e))
                return
            if decoded:
                clear(decoded)

        clear = self.dataReceived
        self._sendNow = send
        self.dataReceived = received  # type: ignore[method-assign]

    def _answer(self, event: Send) -> None:
        if event.descriptors:
            closeAll(self.takeDescriptors(event.descriptors))
        self.send(event.data)

    def countFault(self) -> bool:
        """The peer did something wrong that it is not cut off for.

        @return: whether that is to be logged, see L{FAULTS_LOGGED<virnet.limits.FAULTS_LOGGED>}.
        """
        self.faults += 1
        if self.faults == FAULTS_LOGGED + 1:
            self.log.warn(
                "{peer} has done {faults} things wrong; from now on only each doubling of that is logged",
                peer=self.peer,
                faults=self.faults,
            )
        return self.faults <= FAULTS_LOGGED or not self.faults & (self.faults - 1)

    def _dropped(self, event: Dropped) -> None:
        if not self.countFault():
            return
        self.log.debug(
            "{peer}: ignored program {event.header.program:#x} version {event.header.version}"
            " procedure {event.header.procedure} type {event.header.type}: {event.reason}",
            peer=self.peer,
            event=event,
        )

    def _fault(self, event: Fault) -> None:
        self.log.error("{peer}: {error}; closing the connection", peer=self.peer, error=event.error)
        self.abort(event.error)

    def abort(self, error: VirnetError) -> None:
        """End the connection now, dropping what is not sent yet.

        @param error: why; what is pending fails with it.
        """
        self.stopReading()
        self.stopKeepAlive()
        self.ended(Failure(error))
        self.sender.abortConnection()

    # Keepalive

    def startKeepAlive(self, interval: float, count: int) -> None:
        """Send PINGs, and give a silent peer up; the peer must understand them. A second start does nothing.

        @param interval: seconds of silence before a PING; 0 or less: never send any.
        @param count: PINGs that may stay unanswered.
        """
        if self._keepalive is None and interval > 0 and not self.ending:
            self._keepalive = KeepAlive(interval, count, self.clock.seconds())
            self._keepaliveTimer = self.clock.callLater(interval, self._checkKeepAlive)
            objectNew(self._keepalive)
            if KEEPALIVE_NEW.listeners:
                KEEPALIVE_NEW(self, self)
            if KEEPALIVE_START.listeners:
                KEEPALIVE_START(self, self, interval, count)

    def stopKeepAlive(self) -> None:
        """Send no PINGs any more; PINGs of the peer are still answered."""
        timer, self._keepaliveTimer = self._keepaliveTimer, None
        if timer is not None:
            timer.cancel()
        stopped, self._keepalive = self._keepalive, None
        if stopped is not None:
            now = self.clock.seconds()
            self.lastHeard = now - stopped.idle(now)
            if KEEPALIVE_STOP.listeners:
                KEEPALIVE_STOP(self, self)
            if KEEPALIVE_DISPOSE.listeners:
                KEEPALIVE_DISPOSE(self)
            objectDispose(stopped)

    def _checkKeepAlive(self) -> None:
        watch = self._keepalive
        assert watch is not None
        self._keepaliveTimer = None
        now = self.clock.seconds()
        if self.readingHeld:
            # What the peer says is not looked at: its silence is ours. Its PINGs get no answer: a PONG that
            # nobody asked for is ignored, and still is a sign of life.
            watch.received(now)
            self.send(PONG_MESSAGE)
        elif self._unreadGrew() or self._peerReads():
            watch.received(now)
        verdict = watch.check(now)
        if verdict is Verdict.DEAD:
            if KEEPALIVE_TIMEOUT.listeners:
                KEEPALIVE_TIMEOUT(self, self, 0, watch.idle(now))
            self.log.warn("{peer}: connection closed due to keepalive timeout", peer=self.peer)
            self.abort(KeepAliveTimeout("connection closed due to keepalive timeout"))
            return
        if verdict is Verdict.PING:
            if KEEPALIVE_SEND.listeners:
                KEEPALIVE_SEND(self, self, keepalive.PROGRAM, keepalive.VERSION, keepalive.PING)
            self.send(PING_MESSAGE)
        if self._keepalive is not None:
            self._keepaliveTimer = self.clock.callLater(watch.deadline - now, self._checkKeepAlive)

    def _unreadGrew(self) -> bool:
        """Whether the peer has sent something since the last time that was not read, for whatever reason."""
        before = self._unread
        sock = getattr(self.transport, "getHandle", lambda: None)()
        self._unread = _unreadBytes(sock) if isinstance(sock, socket.socket) else 0
        return self._unread > before

    def _peerReads(self) -> bool:
        """Whether some of what waits for the peer has left since the last time.

        A peer that is slow to read a large message hears no PING before the end of it.
        """
        before = self._left
        self._left = self.written - self.sender.unsent if self.sender.queued else 0
        return 0 < before < self._left

    @property
    def queuedBytes(self) -> int:
        """Bytes of the messages that wait for the peer to read, as they are sent: encoded by a security layer
        where there is one.
        """
        return self.sender.queued

    @property
    def readingHeld(self) -> bool:
        """Whether nothing is read at the moment because of our own side."""
        return False

    def stopReading(self) -> None:
        """Look at nothing more of what comes, or has come."""
        self.ending = True
        self.connection.closed = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone: Twisted calls this once."""
        self.stopReading()
        self.stopKeepAlive()
        self.sender.discard()
        closeAll(self.takeDescriptors(len(self._descriptors)))
        self.ended(reason)
        if self.probeDispose.listeners:
            self.probeDispose(self)
        if SOCKET_DISPOSE.listeners:
            SOCKET_DISPOSE(self.transport)
        objectDispose(self)

    def ended(self, reason: Failure) -> None:
        """The connection is over. May be called twice; only the first reason counts."""
        raise NotImplementedError


def _unreadBytes(sock: socket.socket) -> int:
    count: int = _INT.unpack(fcntl.ioctl(sock, termios.FIONREAD, bytes(_INT.size)))[0]
    return count


def _addressText(address: IAddress) -> str:
    """C{HOST:PORT}, a path, or nothing: a UNIX client has none."""
    host = getattr(address, "host", None)
    if host is not None:
        return f"{host}:{getattr(address, 'port', '?')}"
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"")
    return str(address)


def describePeer(address: IAddress, sock: socket.socket | None) -> str:
    """Put the other side of a connection into words, for people who read logs.

    @param sock: the socket, where there is one: a UNIX peer has no address but credentials.
    """
    host = getattr(address, "host", None)
    if host is not None:
        return f"{getattr(address, 'type', 'TCP')} {host}:{getattr(address, 'port', '?')}"
    credentials = peerCredentials(sock)
    if credentials is not None:
        pid, uid, _ = credentials
        return f"UNIX pid {pid} uid {uid}"
    return str(address)


def peerCredentials(sock: socket.socket | None) -> tuple[int, int, int] | None:
    """The process at the other end of a UNIX socket: pid, uid and gid (C: C{SO_PEERCRED}).

    @return: C{None} where the socket is of another kind.
    """
    if sock is None or getattr(sock, "family", None) != socket.AF_UNIX:
        return None
    pid, uid, gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return pid, uid, gid


_INT = struct.Struct("i")
_CREDENTIALS = struct.Struct("iII")
"""C: C{struct ucred}."""
