"""How sockets are read: what is asked for, how often, and what follows."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from virnet.limits import READ_MAX, READ_MIN
from virnet.transport.reading import SocketReader
from virnet.transport.sender import closeAll


class Recorder(Protocol):
    """Keeps what it gets.

    @ivar then: called after each piece.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.then: Callable[[], object] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        self.then()


@implementer(IFileDescriptorReceiver)
class Receiver(Recorder):
    """Takes descriptors too; what was received before each says what came in front of what."""

    def __init__(self) -> None:
        super().__init__()
        self.descriptors: list[tuple[int, int]] = []

    def fileDescriptorReceived(self, descriptor: int) -> None:
        self.descriptors.append((descriptor, len(self.pieces)))


class Counting:
    """A socket that counts the attempts to read it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.family = sock.family
        self.sizes: list[int] = []

    def recv(self, size: int) -> bytes:
        """Read."""
        self.sizes.append(size)
        return self._socket.recv(size)

    def recvmsg(self, size: int, *rest: int) -> Any:
        """Read, with descriptors."""
        self.sizes.append(size)
        return self._socket.recvmsg(size, *rest)


class Transport:
    """As much of a Twisted transport as a reader needs."""

    def __init__(self, sock: Counting, protocol: Recorder) -> None:
        self._socket = sock
        self.protocol = protocol

    def getHandle(self) -> Counting:
        """The socket."""
        return self._socket

    def doRead(self) -> object:
        """What it would do itself."""
        return "its own"


class Bytes(SynchronousTestCase):
    """A socket without descriptors."""

    kind: type[Recorder] = Recorder

    def setUp(self) -> None:
        self.peer, ours = socket.socketpair()
        self.addCleanup(self.peer.close)
        self.addCleanup(ours.close)
        ours.setblocking(False)
        self.ours = Counting(ours)
        self.protocol = self.kind()
        self.transport = Transport(self.ours, self.protocol)
        self.reader = SocketReader(self.transport)
        # Twice in a row: nobody else is there.
        self.transport.doRead()
        self.ours.sizes.clear()

    def test_what_has_come_is_handed_on(self) -> None:
        self.peer.send(b"message")
        self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.protocol.pieces, [b"message"])

    def test_nothing_is_nothing(self) -> None:
        self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.protocol.pieces, [])

    def test_the_end_is_told_as_the_reactor_knows_it(self) -> None:
        self.peer.send(b"last words")
        self.peer.close()
        self.assertIs(self.transport.doRead(), CONNECTION_DONE)
        self.assertEqual(self.protocol.pieces, [b"last words"])

    def test_R055_an_error_is_told_as_the_system_says_it(self) -> None:
        self.ours._socket.send(b"never read")
        self.peer.close()
        error = self.transport.doRead()
        self.assertIsInstance(error, ConnectionLost)
        self.assertEqual(str(error), "Connection reset by peer")

    def test_the_buffer_grows_when_much_comes_and_shrinks_when_little_does(self) -> None:
        for count in (READ_MIN + 5000, READ_MIN, 1):
            self.peer.send(bytes(count))
            self.transport.doRead()
        self.assertEqual([len(piece) for piece in self.protocol.pieces], [READ_MIN, READ_MIN + 5000, 1])
        self.assertEqual(self.ours.sizes, [READ_MIN, READ_MAX, READ_MAX, READ_MIN])

    def test_who_sends_much_is_read_again_later(self) -> None:
        self.protocol.then = lambda: self.peer.send(b"next")
        self.peer.send(bytes(5000))
        self.transport.doRead()
        self.assertEqual(len(self.protocol.pieces), 1)

    def test_the_next_call_is_read_at_once_so_often_and_then_others_have_their_turn(self) -> None:
        self.protocol.then = lambda: self.peer.send(b"next")
        self.peer.send(b"first")
        self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.protocol.pieces, [b"first", *[b"next"] * 7])

    def test_nobody_is_served_more_often_than_others(self) -> None:
        theirs, second = socket.socketpair()
        self.addCleanup(theirs.close)
        self.addCleanup(second.close)
        other = Transport(Counting(second), self.kind())
        SocketReader(other)
        self.protocol.then = lambda: self.peer.send(b"next")
        other.protocol.then = lambda: theirs.send(b"next")
        self.peer.send(b"first")
        theirs.send(b"first")
        for _ in range(3):
            other.doRead()
            self.transport.doRead()
        self.assertEqual(len(self.protocol.pieces), 3)
        self.assertEqual(len(other.protocol.pieces), 3)

    def test_who_is_slow_is_not_asked_again_for_some_time(self) -> None:
        attempts = []
        for _ in range(80):
            self.peer.send(b"call")
            self.ours.sizes.clear()
            self.transport.doRead()
            attempts.append(len(self.ours.sizes))
        # Four disappointments, then one more after each pause.
        self.assertEqual(attempts[:4], [2] * 4)
        self.assertEqual([number for number, each in enumerate(attempts) if each == 2][4:], [37, 71])

    def test_luck_comes_back(self) -> None:
        for _ in range(37):
            self.peer.send(b"call")
            self.transport.doRead()
        self.protocol.pieces.clear()
        self.protocol.then = lambda: self.peer.send(b"next")
        self.peer.send(b"first")
        self.transport.doRead()
        self.assertEqual(len(self.protocol.pieces), 8)

    def test_nothing_is_read_after_a_pause(self) -> None:
        def pause() -> None:
            self.reader.reading = False

        self.protocol.then = pause
        self.peer.send(bytes(READ_MIN + 1))
        self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.protocol.pieces, [bytes(READ_MIN)])

    def test_in_the_end_the_transport_has_its_own_back(self) -> None:
        self.reader.stop()
        self.assertEqual(self.transport.doRead(), "its own")
        self.reader.stop()


class Descriptors(Bytes):
    """The same where descriptors may come."""

    kind = Receiver
    protocol: Receiver

    def test_they_come_in_front_of_their_bytes_and_closed_on_exec(self) -> None:
        fds = os.pipe()
        self.addCleanup(closeAll, fds)
        self.peer.send(b"message")
        socket.send_fds(self.peer, [b"\0"], list(fds))
        self.transport.doRead()
        received = [fd for fd, _ in self.protocol.descriptors]
        self.addCleanup(closeAll, received)
        self.assertEqual([os.get_inheritable(fd) for fd in received], [False, False])
        self.assertEqual(b"".join(self.protocol.pieces), b"message\0")

    def test_other_ancillary_data_is_ignored(self) -> None:
        self.ours._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.peer.send(b"message")
        self.transport.doRead()
        self.assertEqual((self.protocol.pieces, self.protocol.descriptors), ([b"message"], []))


class NoDescriptors(Bytes):
    """A protocol that does not take descriptors gets none, and none is left over."""

    def test_they_are_dropped(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        with open(os.devnull) as file:
            socket.send_fds(self.peer, [b"\0"], [file.fileno()])
        self.transport.doRead()
        self.assertEqual(self.protocol.pieces, [b"\0"])
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
