"""How sockets are read: what is asked for, how often, and what follows."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.openfiles import openAtRest, openDescriptors
from virnet.limits import READ_MAX, READ_MIN
from virnet.transport import reading
from virnet.transport.descriptors import closeAll
from virnet.transport.reading import SocketReader


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


STEP = 25_000
"""Nanoseconds that pass whenever somebody asks for the time."""


class Bytes(SynchronousTestCase):
    """A socket without descriptors.

    @ivar meanwhile: what others do whenever they get the processor, in order; then nothing.
    """

    kind: type[Recorder] = Recorder

    def setUp(self) -> None:
        self.now = 1_000_000_000
        self.meanwhile: list[Callable[[], object]] = []
        self.yields = 0
        self.patch(reading, "_now", self._tick)
        self.patch(reading, "_letOthersRun", self._yield)
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

    def _tick(self) -> int:
        self.now += STEP
        return self.now

    def _yield(self) -> None:
        self.yields += 1
        if self.meanwhile:
            self.meanwhile.pop(0)()

    def answer(self) -> None:
        """Be a protocol that answers what it gets."""
        self.reader.answered = True

    def answerAndBeAsked(self) -> None:
        """Be one whose peer has the next call ready."""
        self.answer()
        self.peer.send(b"next")

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
        self.assertIsNone(self.transport.doRead())
        self.assertIs(self.transport.doRead(), CONNECTION_DONE)
        self.assertEqual(self.protocol.pieces, [b"last words"])

    def test_R055_an_error_is_told_as_the_system_says_it(self) -> None:
        self.ours._socket.send(b"never read")
        self.peer.close()
        error = self.transport.doRead()
        self.assertIsInstance(error, ConnectionLost)
        self.assertEqual(str(error), "Connection reset by peer")

    def test_the_buffer_grows_when_much_comes_and_shrinks_when_little_does(self) -> None:
        for count in (READ_MIN + 5000, READ_MIN, *[1] * 9):
            self.peer.send(bytes(count))
            self.transport.doRead()
        self.assertEqual([len(piece) for piece in self.protocol.pieces][:3], [READ_MIN, READ_MIN + 5000, 1])
        shrinking = range(READ_MAX - READ_MIN, READ_MIN, -READ_MIN)
        self.assertEqual(self.ours.sizes, [READ_MIN, READ_MAX, READ_MAX, *shrinking, READ_MIN, READ_MIN])

    def test_who_sends_much_is_read_again_later(self) -> None:
        self.protocol.then = self.answerAndBeAsked
        self.peer.send(bytes(5000))
        self.transport.doRead()
        self.assertEqual(len(self.protocol.pieces), 1)

    def test_who_was_answered_is_waited_for(self) -> None:
        self.protocol.then = self.answer
        self.meanwhile = [lambda: None, lambda: None, lambda: self.peer.send(b"next")]
        self.peer.send(b"first")
        self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.protocol.pieces, [b"first", b"next"])

    def test_the_rest_of_a_message_is_waited_for_however_large(self) -> None:
        def begin() -> None:
            self.reader.begun = len(self.protocol.pieces) == 1

        self.protocol.then = begin
        self.meanwhile = [lambda: None, lambda: self.peer.send(b"rest")]
        self.peer.send(bytes(5000))
        self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.protocol.pieces, [bytes(5000), b"rest"])
        self.assertEqual(self.yields, 2)

    def test_who_was_not_is_not(self) -> None:
        self.peer.send(b"an event")
        self.transport.doRead()
        self.assertEqual((self.ours.sizes, self.yields), ([READ_MIN], 0))

    def test_what_was_sent_before_does_not_count(self) -> None:
        self.answer()
        self.peer.send(b"an event")
        self.transport.doRead()
        self.assertEqual(self.yields, 0)

    def test_waiting_ends(self) -> None:
        self.protocol.then = self.answer
        self.peer.send(b"first")
        began = self.now
        self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.now - began, 11 * STEP)
        self.assertEqual(len(self.ours.sizes), self.yields + 1)

    def test_after_a_while_others_have_their_turn(self) -> None:
        self.protocol.then = self.answerAndBeAsked
        self.peer.send(b"first")
        began = self.now
        self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.now - began, 42 * STEP)
        self.assertEqual(self.protocol.pieces, [b"first", *[b"next"] * 41])

    def test_who_leaves_while_it_is_waited_for_has_left(self) -> None:
        self.protocol.then = self.answer
        self.meanwhile = [self.peer.close]
        self.peer.send(b"last words")
        self.assertIs(self.transport.doRead(), CONNECTION_DONE)

    def test_nobody_is_served_more_often_than_others(self) -> None:
        theirs, second = socket.socketpair()
        self.addCleanup(theirs.close)
        self.addCleanup(second.close)
        other = Transport(Counting(second), self.kind())
        reader = SocketReader(other)

        def answerAndBeAsked() -> None:
            reader.answered = True
            theirs.send(b"next")

        self.protocol.then = self.answerAndBeAsked
        other.protocol.then = answerAndBeAsked
        self.peer.send(b"first")
        theirs.send(b"first")
        for _ in range(3):
            other.doRead()
            self.transport.doRead()
        self.assertEqual(len(self.protocol.pieces), 3)
        self.assertEqual(len(other.protocol.pieces), 3)

    def waits(self, count: int) -> list[int]:
        """Which of so many reads were followed by waiting."""
        self.protocol.then = self.answer
        waited = []
        for number in range(count):
            self.peer.send(b"call")
            self.yields = 0
            self.transport.doRead()
            if self.yields:
                waited.append(number)
        return waited

    def test_who_is_slow_is_waited_for_ever_more_seldom(self) -> None:
        waited = self.waits(5000)
        self.assertEqual(waited[:8], [0, 2, 5, 10, 19, 36, 69, 134])
        between = [after - before - 1 for before, after in pairwise(waited)]
        self.assertEqual(between, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024])

    def test_who_is_quick_again_is_waited_for_again(self) -> None:
        self.assertEqual(self.waits(134)[-1], 69)
        self.meanwhile = [lambda: self.peer.send(b"next")]
        self.assertEqual(self.waits(4), [0, 2])

    def test_nothing_is_read_after_a_pause(self) -> None:
        def pause() -> None:
            self.answer()
            self.reader.reading = False

        self.protocol.then = pause
        self.peer.send(bytes(READ_MIN + 1))
        self.assertIsNone(self.transport.doRead())
        self.assertEqual(self.protocol.pieces, [bytes(READ_MIN)])

    def test_nobody_is_waited_for_after_a_pause(self) -> None:
        def pause() -> None:
            self.answer()
            self.reader.reading = False

        self.protocol.then = pause
        self.peer.send(b"call")
        self.transport.doRead()
        self.assertEqual(self.yields, 0)

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
        before = len(openAtRest())
        with open(os.devnull) as file:
            socket.send_fds(self.peer, [b"\0"], [file.fileno()])
        self.transport.doRead()
        self.assertEqual(self.protocol.pieces, [b"\0"])
        self.assertEqual(len(openDescriptors()), before)
