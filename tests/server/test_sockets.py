"""What only sockets do: half-closed connections, credentials, descriptors, data behind data.

Over UNIX sockets in a directory of each test's own, with trial's reactor.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs

from tests.echo import ECHO, FILES, Echo, Files
from tests.peers import (
    CALL_WITH_FDS,
    ERROR,
    OK,
    Message,
    RawPeer,
    callNamed,
    message,
    served,
)
from tests.server.sockets import SocketTestCase
from virnet.server import ServerClient, ServerProgram


class HalfClosed(SocketTestCase):
    """R047: the client closes its sending half right after a call; the reply is optional, a crash is not."""

    @inlineCallbacks
    def test_R047_behind_a_call_that_is_answered_at_once(self) -> Any:
        self.serve(served(ECHO, Echo()))
        peer = yield self.connect()
        peer.transport.write(callNamed(ECHO, "echo", 1, "x"))
        peer.transport.loseWriteConnection()
        yield peer.end()
        self.assertTrue(len(peer.take()) <= 1)
        self.assertEqual(self.server.clients, {})

    @inlineCallbacks
    def test_R047_while_a_call_is_running(self) -> Any:
        started: Deferred[None] = Deferred()
        waiting: Deferred[str] = Deferred()

        class Slow(Echo):
            def echo(self, text: str) -> Any:
                started.callback(None)
                return waiting

        self.serve(served(ECHO, Slow()))
        peer = yield self.connect()
        peer.transport.write(callNamed(ECHO, "echo", 1, "x"))
        yield started
        peer.transport.loseWriteConnection()
        yield peer.end()
        self.assertEqual(self.server.clients, {})
        waiting.callback("nobody hears it")
        self.assertEqual(self.flushLoggedErrors(), [])

    @inlineCallbacks
    def test_R047_in_the_middle_of_a_message(self) -> Any:
        self.serve(served(ECHO, Echo()))
        peer = yield self.connect()
        peer.transport.write(callNamed(ECHO, "echo", 1, "cut off")[:-5])
        peer.transport.loseWriteConnection()
        yield peer.end()
        self.assertEqual(peer.take(), [])
        self.assertEqual(self.server.clients, {})


class InOrder(SocketTestCase):
    """Much data, and what comes behind it."""

    @inlineCallbacks
    def test_R044_a_reply_larger_than_the_sockets_buffer_is_delivered_before_the_end(self) -> Any:
        class Closer(Echo):
            def __init__(self, client: ServerClient) -> None:
                self.client = client

            def blob(self, data: bytes) -> bytes:
                self.client.closeAfterReply()
                return data

        self.serve(ServerProgram(ECHO, Closer))
        peer = yield self.connect()
        size = 8 << 20
        peer.transport.write(callNamed(ECHO, "blob", 1, bytes(size)) + callNamed(ECHO, "ping", 2))
        yield peer.end()
        (reply,) = peer.take()
        self.assertEqual((reply.serial, reply.status, len(reply.payload)), (1, OK, 4 + size))

    @inlineCallbacks
    def test_R034_replies_to_a_client_that_did_not_read_all_arrive_once(self) -> Any:
        self.serve(served(ECHO, Echo()))
        peer = yield self.connect()
        peer.transport.pauseProducing()
        calls = 300
        peer.transport.write(b"".join(callNamed(ECHO, "echo", serial, "x" * 5000) for serial in range(calls)))
        waiting = peer.messages(calls)
        # The server has stopped reading by itself: what it holds for this client is bounded.
        reactor.callLater(0.1, peer.transport.resumeProducing)
        replies = yield waiting
        self.assertEqual([each.serial for each in replies], list(range(calls)))

    @inlineCallbacks
    def test_R046_a_bad_length_ends_the_connection_without_anything_further(self) -> Any:
        self.serve(served(ECHO, Echo()))
        peer = yield self.connect()
        other = yield self.connect()
        with capturedLogs() as captured:
            peer.transport.write(b"\0\0\0\x03")
            yield peer.end()
        warned = [each for each in captured if each["log_level"] >= LogLevel.warn]
        self.assertEqual(len(warned), 1)
        self.assertIn(f"UNIX pid {os.getpid()} uid {os.getuid()}", warned[0]["peer"])
        other.transport.write(callNamed(ECHO, "ping", 1))
        (reply,) = yield other.messages(1)
        self.assertEqual(reply.status, OK)


class Credentials(SocketTestCase):
    """Who is at the other end."""

    @inlineCallbacks
    def test_a_provider_knows_process_and_user(self) -> Any:
        seen: list[ServerClient] = []

        def factory(client: ServerClient) -> Echo:
            seen.append(client)
            return Echo()

        self.serve(ServerProgram(ECHO, factory))
        peer = yield self.connect()
        peer.transport.write(callNamed(ECHO, "ping", 1))
        yield peer.messages(1)
        self.assertEqual(seen[0].credentials, (os.getpid(), os.getuid(), os.getgid()))


class Descriptors(SocketTestCase):
    """Calls with descriptors belong together with theirs, whatever becomes of the calls before them."""

    def file(self, size: int) -> int:
        """A descriptor of a file of that size."""
        fd = os.memfd_create("test")
        self.addCleanup(os.close, fd)
        os.truncate(fd, size)
        return fd

    def references(self, fd: int) -> int:
        """How many descriptors of this process are open on the same file."""
        same = 0
        for each in os.listdir("/proc/self/fd"):
            try:
                same += os.path.samestat(os.fstat(int(each)), os.fstat(fd))
            except OSError:
                pass  # the one by which the directory was read
        return same

    def converse(self, *parts: tuple[bytes, list[int]], replies: int) -> Callable[[], list[Message]]:
        """What a blocking peer does in a thread of its own: send, then read so many replies."""

        def run() -> list[Message]:
            peer = RawPeer()
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(self.path)
                for data, fds in parts:
                    sock.sendall(data)
                    for fd in fds:
                        socket.send_fds(sock, [b"\0"], [fd])
                got: list[Message] = []
                while len(got) < replies:
                    head = sock.recv(4, socket.MSG_WAITALL)
                    if not head:
                        break
                    rest = sock.recv(int.from_bytes(head, "big") - 4, socket.MSG_WAITALL)
                    peer.dataReceived(head + rest)
                    got += peer.take()
            return got

        return run

    def call(self, number: int, serial: int, count: int) -> bytes:
        """A call of procedure C{number} that announces descriptors."""
        payload = count.to_bytes(4, "big") + count.to_bytes(4, "big")
        return message(FILES.number, 1, number, CALL_WITH_FDS, serial, OK, payload)

    @inlineCallbacks
    def test_they_reach_the_method(self) -> Any:
        self.serve(served(FILES, Files()))
        (reply,) = yield deferToThread(
            self.converse((self.call(1, 1, 2), [self.file(100), self.file(23)]), replies=1)
        )
        self.assertEqual((reply.status, reply.payload), (OK, b"\0\0\0\x7b"))

    @inlineCallbacks
    def test_those_of_a_refused_call_go_to_no_other(self) -> Any:
        self.serve(served(FILES, Files()))
        first, second = self.file(1000), self.file(7)
        refused, answered = yield deferToThread(
            self.converse((self.call(99, 1, 1), [first]), (self.call(1, 2, 1), [second]), replies=2)
        )
        self.assertEqual((refused.status, refused.error[2]), (ERROR, "unknown procedure: 99"))
        self.assertEqual((answered.status, answered.payload), (OK, b"\0\0\0\x07"))
        self.assertEqual((self.references(first), self.references(second)), (1, 1))
