"""Files as the ends of streams: what a raw client downloads and uploads, and who closes the descriptor."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.openfiles import openAtRest, openDescriptors
from tests.peers import CONTINUE, ERROR, OK, REPLY, STREAM, STREAM_HOLE, ServerSession, callNamed
from tests.streaming import DOWNLOAD, PROGRAM, UPLOAD, Provider, holePacket, packet, said, streamingProgram
from tests.transport.test_files import BLOCK, ThreadedClock
from virnet.limits import FILE_CHUNK, STREAM_BUFFER, STREAM_CHUNK
from virnet.server import NetServer
from virnet.server.files import FileSink, FileSource
from virnet.wire.stream import encodeHole

CONFIRMED = (STREAM, OK, b"")
MOMENT = 0.01
ITEMS_MAX = 1024


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        file = tempfile.NamedTemporaryFile(dir="/var/tmp")
        self.addCleanup(file.close)
        self.path = file.name
        self.over: list[str] = []
        self.makeEnd: Any = None
        self.session = ServerSession(streamingProgram(Provider(lambda: self.makeEnd())))
        self.descriptors = len(openAtRest())

    def openFile(self, flags: int, position: int = 0) -> int:
        fd = os.open(self.path, flags)
        os.lseek(fd, position, os.SEEK_SET)
        return fd

    def content(self) -> bytes:
        with open(self.path, "rb") as file:
            return file.read()

    def assertClosed(self) -> None:
        """The descriptor was closed and that was told, once."""
        self.assertEqual(self.over, ["over"])
        self.assertEqual(len(openDescriptors()), self.descriptors)
        self.assertEqual(self.session.client.connection.inProgress, 0)

    def whenOver(self) -> None:
        self.over.append("over")


class Download(_Case):
    """L{FileSource}."""

    def open(self, length: int | None = None, sparse: bool = False, position: int = 0) -> list[Any]:
        """Open a download; what came with the reply."""
        self.makeEnd = lambda: FileSource(self.openFile(os.O_RDONLY, position), length, sparse, self.whenOver)
        answer = self.session.send(callNamed(PROGRAM, "download", 1, int(sparse)))
        self.assertEqual(said(answer[:1]), [(REPLY, OK, b"")])
        return answer[1:]

    def write(self, data: bytes) -> bytes:
        with open(self.path, "wb") as file:
            file.write(data)
        return data

    def say(self, status: int) -> list[tuple[int, int, bytes]]:
        return said(self.session.send(packet(DOWNLOAD, 1, status)))

    def test_all_of_it_then_the_end_of_the_data_then_the_confirmation(self) -> None:
        data = self.write(os.urandom(3 * STREAM_CHUNK + 5))
        packets = self.open()
        self.assertEqual([len(each.payload) for each in packets], [STREAM_CHUNK] * 3 + [5, 0])
        self.assertTrue(b"".join(each.payload for each in packets) == data)
        self.assertEqual(self.over, [])
        self.assertEqual(self.say(OK), [CONFIRMED])
        self.assertClosed()

    def test_a_range(self) -> None:
        self.write(b"0123456789")
        self.assertEqual([each.payload for each in self.open(4, position=3)], [b"3456", b""])

    def test_an_empty_file(self) -> None:
        self.assertEqual(said(self.open()), [(STREAM, CONTINUE, b"")])

    def test_holes_to_who_agreed_to_them_the_last_one_before_the_end_of_the_data(self) -> None:
        with open(self.path, "wb") as file:
            file.truncate(4 * BLOCK)
            os.pwrite(file.fileno(), b"x" * BLOCK, BLOCK)
        self.assertEqual(
            said(self.open(sparse=True)),
            [
                (STREAM_HOLE, CONTINUE, encodeHole(BLOCK)),
                (STREAM, CONTINUE, b"x" * BLOCK),
                (STREAM_HOLE, CONTINUE, encodeHole(2 * BLOCK)),
                (STREAM, CONTINUE, b""),
            ],
        )

    def test_zeros_to_who_did_not(self) -> None:
        with open(self.path, "wb") as file:
            file.truncate(4 * BLOCK)
        self.assertEqual(b"".join(each.payload for each in self.open()), bytes(4 * BLOCK))

    def test_R080_finished_early(self) -> None:
        self.write(bytes(100 * STREAM_CHUNK))
        self.session.transport.write(callNamed(PROGRAM, "download", 1, 0) + packet(DOWNLOAD, 1, OK))
        self.makeEnd = lambda: FileSource(self.openFile(os.O_RDONLY), None, False, self.whenOver)
        self.session.clock.advance(0)
        self.session.transport.write(packet(DOWNLOAD, 1, OK))
        self.session.flush()
        self.assertClosed()

    def test_R074_aborted_or_disconnected_while_it_waits_for_the_client(self) -> None:
        self.write(bytes(100 * STREAM_CHUNK))
        self.session.transport.pauseProducing()
        self.makeEnd = lambda: FileSource(self.openFile(os.O_RDONLY), None, False, self.whenOver)
        self.session.transport.write(callNamed(PROGRAM, "download", 1, 0))
        self.session.clock.advance(0)
        self.assertEqual(self.over, [])
        self.session.transport.abortConnection()
        self.session.clock.advance(0)
        self.assertClosed()

    def test_R082_a_client_that_does_not_read_costs_no_memory(self) -> None:
        self.write(bytes(64 << 20))
        self.session.transport.pauseProducing()
        fds: list[int] = []

        def make() -> FileSource:
            fds.append(self.openFile(os.O_RDONLY))
            return FileSource(fds[0], None, False, self.whenOver)

        self.makeEnd = make
        self.session.transport.write(callNamed(PROGRAM, "download", 1, 0))
        self.session.clock.advance(60)
        self.assertTrue(os.lseek(fds[0], 0, os.SEEK_CUR) <= 2 * STREAM_CHUNK)
        self.session.transport.resumeProducing()
        self.assertEqual(sum(len(each.payload) for each in self.session.flush()), 64 << 20)

    def test_what_cannot_be_read(self) -> None:
        self.makeEnd = lambda: FileSource(os.open("/var/tmp", os.O_RDONLY), None, False, self.whenOver)
        answer = self.session.send(callNamed(PROGRAM, "download", 1, 0))
        self.assertEqual([(each.type, each.status) for each in answer], [(REPLY, OK), (STREAM, ERROR)])
        error = answer[1].error
        self.assertEqual(error[:3], (38, 38, "cannot read from stream: Is a directory"))
        self.assertEqual(error[8], errno.EISDIR)
        self.assertEqual(self.say(OK), [])
        self.assertClosed()

    def test_a_client_that_leaves_before_it_is_open(self) -> None:
        source = FileSource(self.openFile(os.O_RDONLY), None, False, self.whenOver)
        source.streamLost(ConnectionError())
        source.streamLost(ConnectionError())
        source.stopProducing()
        self.assertClosed()


class Upload(_Case):
    """L{FileSink}."""

    def open(self, length: int | None = None, sparse: bool = True) -> None:
        self.makeEnd = lambda: FileSink(self.openFile(os.O_WRONLY), length, self.whenOver)
        answer = self.session.send(callNamed(PROGRAM, "upload", 1, int(sparse)))
        self.assertEqual(said(answer), [(REPLY, OK, b"")])

    def say(self, status: int, payload: bytes = b"") -> list[Any]:
        return self.session.send(packet(UPLOAD, 1, status, payload))

    def test_data_is_where_it_belongs_when_the_finish_is_confirmed(self) -> None:
        self.open()
        data = os.urandom(1 << 20)
        self.assertEqual(self.say(CONTINUE, data) + self.say(CONTINUE, b"end"), [])
        self.assertEqual(said(self.say(OK)), [CONFIRMED])
        self.assertTrue(self.content() == data + b"end")
        self.assertClosed()

    def test_R084_sixty_holes_and_blocks_in_turn(self) -> None:
        self.open()
        hole = holePacket(UPLOAD, 1, BLOCK)
        for n in range(60):
            block = packet(UPLOAD, 1, CONTINUE, bytes([n + 1]) * BLOCK)
            self.assertEqual(self.session.send(hole, block), [])
        self.assertEqual(said(self.say(OK)), [CONFIRMED])
        self.assertTrue(self.content() == b"".join(bytes(BLOCK) + bytes([n + 1]) * BLOCK for n in range(60)))
        self.assertTrue(os.stat(self.path).st_blocks * 512 <= 62 * BLOCK)
        self.assertClosed()

    def test_ten_gibibytes_of_hole(self) -> None:
        self.open()
        self.session.send(holePacket(UPLOAD, 1, 10 << 30))
        self.assertEqual(said(self.say(OK)), [CONFIRMED])
        status = os.stat(self.path)
        self.assertEqual((status.st_size, status.st_blocks), (10 << 30, 0))

    def test_R079_beyond_its_length_there_is_one_error_and_then_silence(self) -> None:
        self.open(5)
        self.assertEqual(self.say(CONTINUE, b"abc") + self.say(CONTINUE, b"defg"), [])
        self.session.clock.advance(MOMENT)
        answer = self.session.flush()
        self.assertEqual([(each.type, each.status) for each in answer], [(STREAM, ERROR)])
        error = answer[0].error
        self.assertEqual(error[:3], (38, 38, "cannot write to stream: No space left on device"))
        self.assertEqual(error[8:10], (errno.ENOSPC, -1))
        self.assertEqual(self.say(CONTINUE, b"late") + self.say(OK) + self.say(ERROR), [])
        self.assertEqual(self.content(), b"abcde")
        self.assertClosed()

    def test_aborted(self) -> None:
        self.open()
        self.say(CONTINUE, b"abc")
        self.assertEqual(said(self.say(ERROR)), [CONFIRMED])
        self.assertClosed()
        self.assertEqual(self.session.clock.getDelayedCalls(), [])
        self.assertEqual(self.content(), b"abc")

    def test_R074_disconnected(self) -> None:
        self.open()
        self.say(CONTINUE, b"abc")
        self.session.lose()
        self.assertClosed()
        self.assertEqual(self.session.clock.getDelayedCalls(), [])
        self.assertEqual(self.content(), b"abc")


class UploadInThreads(_Case):
    """L{FileSink} while a thread writes."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = ThreadedClock()
        self.makeEnd = lambda: FileSink(self.openFile(os.O_WRONLY), 64 << 20, self.whenOver)
        program = streamingProgram(Provider(lambda: self.makeEnd()))
        self.session = ServerSession(server=NetServer(self.reactor, [program]))
        self.session.send(callNamed(PROGRAM, "upload", 1, 0))

    def say(self, status: int, payload: bytes = b"") -> list[tuple[int, int, bytes]]:
        return said(self.session.send(packet(UPLOAD, 1, status, payload)))

    def test_what_comes_within_a_moment_is_written_in_one_go(self) -> None:
        for data in (b"a", b"b", b"c"):
            self.assertEqual(self.say(CONTINUE, data), [])
        self.assertEqual((self.reactor.pool.jobs, self.session.client.connection.inProgress), ([], 0))
        self.reactor.advance(MOMENT)
        self.assertEqual(len(self.reactor.pool.jobs), 1)
        self.say(CONTINUE, b"d")
        self.reactor.advance(MOMENT)
        self.say(CONTINUE, b"e")
        self.reactor.work()
        self.assertEqual((self.content(), self.reactor.pool.jobs), (b"abc", []))
        self.reactor.advance(MOMENT)
        self.reactor.work()
        self.assertEqual((self.content(), self.reactor.pool.jobs), (b"abcde", []))

    def test_what_is_worth_a_turn_is_written_at_once(self) -> None:
        half = bytes(FILE_CHUNK // 2)
        self.say(CONTINUE, half)
        self.assertEqual(self.reactor.pool.jobs, [])
        for _ in range(3):
            self.say(CONTINUE, half)
        self.assertEqual(len(self.reactor.pool.jobs), 1)
        self.reactor.work()
        self.assertEqual(len(self.content()), FILE_CHUNK)
        self.reactor.work()
        self.assertEqual(len(self.content()), 2 * FILE_CHUNK)

    def test_so_are_many_small_pieces(self) -> None:
        for _ in range(ITEMS_MAX - 1):
            self.say(CONTINUE, b"a")
        self.assertEqual(self.reactor.pool.jobs, [])
        self.say(CONTINUE, b"a")
        self.reactor.work()
        self.assertEqual(len(self.content()), ITEMS_MAX)

    def test_R078_the_confirmation_comes_when_all_of_it_is_written(self) -> None:
        self.say(CONTINUE, b"a")
        self.reactor.advance(MOMENT)
        self.say(CONTINUE, b"b")
        self.assertEqual(self.say(OK), [])
        self.reactor.work()
        self.reactor.work()
        self.assertEqual(said(self.session.flush()), [])
        self.reactor.work()
        self.assertEqual(said(self.session.flush()), [CONFIRMED])
        self.assertEqual(self.content(), b"ab")
        self.assertClosed()

    def test_a_finish_does_not_wait_for_the_moment(self) -> None:
        self.say(CONTINUE, b"a")
        self.assertEqual(self.say(OK), [])
        self.reactor.work()
        self.assertEqual(self.content(), b"a")
        self.reactor.work()
        self.assertEqual(said(self.session.flush()), [CONFIRMED])
        self.assertClosed()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_disk_that_stalls_holds_the_client_back(self) -> None:
        for _ in range(40):
            self.session.transport.write(packet(UPLOAD, 1, CONTINUE, bytes(STREAM_CHUNK)))
            self.session.clock.advance(0)
        client = self.session.client
        self.assertTrue(client.readingHeld)
        self.assertEqual(client.connection.inProgress, 5)
        while self.reactor.pool.jobs:
            self.reactor.work()
        self.assertFalse(client.readingHeld)
        self.assertEqual(client.connection.inProgress, 0)
        self.assertEqual(os.stat(self.path).st_size, 40 * STREAM_CHUNK)
        self.assertTrue(STREAM_BUFFER < 40 * STREAM_CHUNK)

    def test_R084_however_small_the_pieces_are_only_so_many_wait(self) -> None:
        for _ in range(3000):
            self.session.transport.write(packet(UPLOAD, 1, CONTINUE, b"x"))
        self.session.clock.advance(0)
        client = self.session.client
        self.assertTrue(client.readingHeld)
        self.assertEqual(client.connection.inProgress, 5)
        while self.reactor.pool.jobs:
            self.reactor.work()
        self.reactor.advance(MOMENT)
        self.reactor.work()
        self.assertEqual(os.stat(self.path).st_size, 3000)
        self.assertFalse(client.readingHeld)

    def test_R074_whoever_leaves_meanwhile_the_descriptor_is_closed_when_the_thread_is_done(self) -> None:
        self.session.lose()
        for end in (ERROR, OK, None):
            self.over.clear()
            session = self.session = ServerSession(server=self.session.server)
            session.send(callNamed(PROGRAM, "upload", 1, 0))
            self.say(CONTINUE, b"abc")
            self.reactor.advance(MOMENT)
            self.say(CONTINUE, b"d")
            if end is None:
                session.lose()
            else:
                self.say(OK)
                self.assertEqual(self.say(ERROR), [CONFIRMED])
            self.assertEqual(self.over, [])
            self.reactor.work()
            self.assertClosed()
            self.assertEqual(self.reactor.pool.jobs, [])

    def test_R074_whoever_leaves_within_the_moment_has_written_what_came(self) -> None:
        self.say(CONTINUE, b"abc")
        self.session.lose()
        self.assertEqual((len(self.reactor.pool.jobs), self.over), (1, []))
        self.reactor.work()
        self.assertEqual(self.content(), b"abc")
        self.assertClosed()
        self.assertEqual((self.reactor.pool.jobs, self.reactor.getDelayedCalls()), ([], []))

    def test_R079_an_error_fails_the_packet_that_waits_and_the_finish_behind_it(self) -> None:
        for _ in range(65 * 4 + 20):
            self.session.transport.write(packet(UPLOAD, 1, CONTINUE, bytes(STREAM_CHUNK)))
        self.session.transport.write(packet(UPLOAD, 1, OK))
        messages: list[Any] = []
        self.session.clock.advance(0)
        while self.reactor.pool.jobs:
            self.reactor.work()
            messages += self.session.flush()
        self.assertEqual([(each.type, each.status) for each in messages], [(STREAM, ERROR)])
        self.assertEqual(messages[0].error[8], errno.ENOSPC)
        self.assertEqual(os.stat(self.path).st_size, 64 << 20)
        self.assertClosed()
