"""Files as data and holes: what is read, what is written, which thread uses the descriptor."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from virnet.transport import files
from virnet.transport.files import FileReader, FileWriter, Hole, ThreadedFile

BLOCK = 65536
"""A multiple of every file system's blocks: less would not become a hole."""


class _Case(SynchronousTestCase):
    def temporary(self, data: bytes = b"") -> int:
        """A file's descriptor, at its beginning."""
        file = tempfile.TemporaryFile(dir="/var/tmp")
        self.addCleanup(file.close)
        file.write(data)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return file.fileno()

    def layout(self, fd: int, *parts: int, data: bytes = b"x") -> bytes:
        """Write a file of data (lengths above 0) and holes (below); return what it reads as."""
        content = b""
        for part in parts:
            if part > 0:
                os.pwrite(fd, data * part, len(content))
            content += data * part if part > 0 else bytes(-part)
        os.ftruncate(fd, len(content))
        return content

    def content(self, fd: int) -> bytes:
        return os.pread(fd, os.fstat(fd).st_size, 0)

    def space(self, fd: int) -> int:
        """Bytes that the file takes on the disk."""
        return os.fstat(fd).st_blocks * 512


def everything(reader: FileReader, read: Callable[[int], Any], size: int = 1 << 20) -> list[Any]:
    """All pieces until the end; data that stands together as one."""
    pieces: list[Any] = []
    while piece := read(size):
        if isinstance(piece, bytes) and pieces and isinstance(pieces[-1], bytes):
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return pieces


class Reading(_Case):
    """L{FileReader}."""

    def test_data_in_pieces_of_the_size_asked_for_and_then_nothing(self) -> None:
        fd = self.temporary(b"0123456789")
        for read in (FileReader(fd).read, FileReader(fd).readCached):
            os.lseek(fd, 0, os.SEEK_SET)
            self.assertEqual([read(4) for _ in range(5)], [b"0123", b"4567", b"89", b"", b""])
            os.lseek(fd, 0, os.SEEK_SET)

    def test_from_the_descriptors_position_and_no_more_than_wanted(self) -> None:
        fd = self.temporary(b"0123456789")
        for name in ("read", "readCached"):
            os.lseek(fd, 2, os.SEEK_SET)
            read = getattr(FileReader(fd, 5), name)
            self.assertEqual([read(3) for _ in range(3)], [b"234", b"56", b""])

    def test_holes_are_told_and_data_never_spans_one(self) -> None:
        fd = self.temporary()
        self.layout(fd, -BLOCK, 3, -BLOCK + 3, BLOCK, -2 * BLOCK)
        for name in ("read", "readCached"):
            os.lseek(fd, 0, os.SEEK_SET)
            reader = FileReader(fd, sparse=True)
            pieces = everything(reader, getattr(reader, name), 1000)
            # The file system rounds the three bytes up to a block.
            block = BLOCK
            self.assertEqual(pieces[0], Hole(block))
            self.assertEqual(pieces[1][:4], b"xxx\0")
            self.assertEqual(sum(len(p) if isinstance(p, bytes) else p.length for p in pieces), 5 * block)
            self.assertEqual(pieces[-2:], [b"x" * block, Hole(2 * block)])

    def test_a_range_of_a_file_with_holes(self) -> None:
        fd = self.temporary()
        self.layout(fd, -4 * BLOCK, BLOCK, -4 * BLOCK)
        for start, length, expected in (
            (0, BLOCK, [Hole(BLOCK)]),
            (BLOCK, 4 * BLOCK, [Hole(3 * BLOCK), b"x" * BLOCK]),
            (4 * BLOCK + 5, 10, [b"x" * 10]),
            (4 * BLOCK + 5, BLOCK, [b"x" * (BLOCK - 5), Hole(5)]),
            (8 * BLOCK, 5 * BLOCK, [Hole(BLOCK)]),
            (9 * BLOCK, 5, []),
            (20 * BLOCK, 5, []),
            (0, 0, []),
        ):
            os.lseek(fd, start, os.SEEK_SET)
            reader = FileReader(fd, length, sparse=True)
            self.assertEqual(everything(reader, reader.read), expected, (start, length))

    def test_without_sparse_holes_are_zeros(self) -> None:
        fd = self.temporary()
        content = self.layout(fd, -BLOCK, 5, -BLOCK)
        reader = FileReader(fd)
        self.assertEqual(everything(reader, reader.read), [content])

    def test_an_empty_file_and_one_that_is_a_hole(self) -> None:
        fd = self.temporary()
        self.assertEqual(FileReader(fd, sparse=True).read(10), b"")
        os.ftruncate(fd, 10 << 30)
        reader = FileReader(fd, sparse=True)
        self.assertEqual(everything(reader, reader.read), [Hole(10 << 30)])

    def test_a_file_that_shrinks_meanwhile(self) -> None:
        fd = self.temporary(b"x" * BLOCK)
        reader = FileReader(fd, sparse=True)
        reader.read(10)
        os.ftruncate(fd, 0)
        self.assertEqual(reader.readCached(10), b"")
        self.assertEqual(reader.read(10), b"")

    def test_what_is_not_a_file_has_no_holes_and_is_read_to_its_end(self) -> None:
        here, there = os.pipe()
        self.addCleanup(os.close, here)
        os.write(there, b"abcdef")
        os.close(there)
        reader = FileReader(here, sparse=True)
        self.assertIsNone(reader.readCached(4))
        self.assertEqual([reader.read(4) for _ in range(3)], [b"abcd", b"ef", b""])

    def test_what_cannot_be_read(self) -> None:
        fd = os.open("/var/tmp", os.O_RDONLY)
        self.addCleanup(os.close, fd)
        self.assertRaises(IsADirectoryError, FileReader(fd).read, 10)
        writeonly = os.open("/dev/null", os.O_WRONLY)
        self.addCleanup(os.close, writeonly)
        self.assertRaises(OSError, FileReader(writeonly).read, 10)


class Writing(_Case):
    """L{FileWriter}."""

    def test_data_from_the_descriptors_position(self) -> None:
        fd = self.temporary(b"0123456789")
        os.lseek(fd, 2, os.SEEK_SET)
        writer = FileWriter(fd)
        writer.write(b"ab")
        writer.writeAll([b"c", b"", b"d"])
        writer.finish()
        self.assertEqual(self.content(fd), b"01abcd6789")

    def test_holes_take_no_space_and_one_at_the_end_counts(self) -> None:
        fd = self.temporary()
        writer = FileWriter(fd)
        writer.writeAll([Hole(1 << 30), b"x" * BLOCK, Hole(1 << 30)])
        writer.finish()
        self.assertEqual(os.fstat(fd).st_size, (2 << 30) + BLOCK)
        self.assertTrue(self.space(fd) <= 2 * BLOCK, self.space(fd))
        self.assertEqual(os.pread(fd, 2, (1 << 30) - 1), b"\0x")

    def test_a_hole_over_old_data_reads_as_zeros_and_takes_its_space_away(self) -> None:
        fd = self.temporary(b"x" * (8 * BLOCK))
        writer = FileWriter(fd)
        writer.writeAll([b"a", Hole(4 * BLOCK), b"b"])
        writer.finish()
        expected = b"a" + bytes(4 * BLOCK) + b"b" + b"x" * (4 * BLOCK - 2)
        self.assertTrue(self.content(fd) == expected)
        self.assertTrue(self.space(fd) <= 5 * BLOCK, self.space(fd))

    def test_so_it_does_where_space_cannot_be_taken_away(self) -> None:
        self.patch(files, "_fallocate", None)
        fd = self.temporary()
        self.layout(fd, BLOCK, -BLOCK, 2 * BLOCK, -BLOCK)
        writer = FileWriter(fd)
        writer.writeAll([b"a", Hole(3 * BLOCK), b"b"])
        writer.finish()
        self.assertTrue(
            self.content(fd) == b"a" + bytes(3 * BLOCK) + b"b" + b"x" * (BLOCK - 2) + bytes(BLOCK)
        )

    def test_a_hole_that_begins_in_old_data_and_ends_behind_it(self) -> None:
        fd = self.temporary(b"x" * 10)
        writer = FileWriter(fd)
        writer.writeAll([b"ab", Hole(20)])
        writer.finish()
        self.assertEqual(self.content(fd), b"ab" + bytes(20))

    def test_a_shorter_upload_keeps_what_is_behind_it(self) -> None:
        fd = self.temporary(b"x" * 10)
        writer = FileWriter(fd)
        writer.writeAll([Hole(3)])
        writer.finish()
        self.assertEqual(self.content(fd), bytes(3) + b"x" * 7)

    def test_R079_beyond_the_length_what_fits_is_written_and_the_rest_is_no_space(self) -> None:
        for items, content in (
            ([b"abc", b"defg"], b"abcde"),
            ([b"abcdefg"], b"abcde"),
            ([b"ab", Hole(3), b"c"], b"ab\0\0\0"),
            ([b"abc", Hole(3)], b"abc\0\0"),
            ([b"abcde", b"f"], b"abcde"),
            ([Hole(6)], bytes(5)),
        ):
            fd = self.temporary()
            writer = FileWriter(fd, 5)
            error = self.assertRaises(OSError, writer.writeAll, items)
            self.assertEqual(error.errno, errno.ENOSPC)
            writer.finish()
            self.assertEqual(self.content(fd), content, items)

    def test_exactly_the_length(self) -> None:
        fd = self.temporary()
        writer = FileWriter(fd, 5)
        writer.writeAll([b"ab", Hole(1), b"cd", b""])
        writer.finish()
        self.assertEqual(self.content(fd), b"ab\0cd")

    def test_what_is_not_a_file_gets_zeros(self) -> None:
        here, there = os.pipe()
        self.addCleanup(os.close, here)
        writer = FileWriter(there)
        writer.writeAll([b"a", Hole(3), b"b"])
        writer.finish()
        os.close(there)
        self.assertEqual(os.read(here, 100), b"a\0\0\0b")

    def test_more_pieces_than_one_call_takes(self) -> None:
        fd = self.temporary()
        FileWriter(fd).writeAll([b"ab"] * 3000)
        self.assertEqual(self.content(fd), b"ab" * 3000)

    def test_a_call_that_writes_only_part_is_followed_by_another(self) -> None:
        """As on a disk that is nearly full, or a pipe."""
        real = os.writev

        def writev(fd: int, views: list[memoryview]) -> int:
            return real(fd, [b"".join(views)[:3]])

        fd = self.temporary()
        self.patch(os, "writev", writev)
        FileWriter(fd).writeAll([b"", b"ab", b"c", b"defghij", b"", b"k"])
        self.assertEqual(self.content(fd), b"abcdefghijk")

    def test_what_cannot_be_written(self) -> None:
        fd = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, fd)
        self.assertEqual(self.assertRaises(OSError, FileWriter(fd).write, b"x").errno, errno.ENOSPC)

    @settings(max_examples=50, deadline=None)
    @given(
        st.lists(st.integers(1, 5000).map(lambda n: b"y" * n) | st.integers(1, 20000).map(Hole), max_size=8),
        st.lists(st.sampled_from([-BLOCK, -1, 1, 4096, BLOCK]), max_size=5),
        st.booleans(),
    )
    def test_whatever_is_written_over_whatever_reads_as_it_should(
        self, items: list[bytes | Hole], old: list[int], punching: bool
    ) -> None:
        fallocate = files._fallocate
        if not punching:
            files._fallocate = None
        try:
            fd = os.memfd_create("test")
            content = self.layout(fd, *old)
            os.lseek(fd, 0, os.SEEK_SET)
            writer = FileWriter(fd)
            writer.writeAll(items)
            writer.finish()
            new = b"".join(bytes(each.length) if isinstance(each, Hole) else each for each in items)
            self.assertTrue(self.content(fd) == new + content[len(new) :])
            os.lseek(fd, 0, os.SEEK_SET)
            reader = FileReader(fd, sparse=True)
            pieces = everything(reader, reader.read)
            again = b"".join(bytes(each.length) if isinstance(each, Hole) else each for each in pieces)
            self.assertTrue(again == new + content[len(new) :])
            os.close(fd)
        finally:
            files._fallocate = fallocate


class _Pool:
    """Jobs that wait until the test runs them, as if a thread did."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def callInThreadWithCallback(
        self, onResult: Callable[..., None], call: Callable[..., Any], *args: Any
    ) -> None:
        def job() -> None:
            try:
                result = call(*args)
            except BaseException:
                onResult(False, Failure())
            else:
                onResult(True, result)

        self.jobs.append(job)


@implementer(IReactorThreads)
class ThreadedClock(Clock):
    """A clock with a thread that the test drives."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = _Pool()

    def getThreadPool(self) -> Any:
        return self.pool

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self.callLater(0, callable, *args, **kwargs)

    def callInThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        raise NotImplementedError

    def suggestThreadPoolSize(self, size: int) -> None:
        raise NotImplementedError

    def work(self) -> None:
        """Run the oldest job."""
        self.pool.jobs.pop(0)()
        self.advance(0)


class Threads(_Case):
    """L{ThreadedFile}."""

    def setUp(self) -> None:
        self.reactor = ThreadedClock()
        self.closed: list[str] = []
        self.fd = os.open("/dev/null", os.O_RDWR)

    def make(self) -> ThreadedFile:
        return ThreadedFile(self.reactor, self.fd, lambda: self.closed.append("closed"))

    def isOpen(self) -> bool:
        return os.path.exists(f"/proc/self/fd/{self.fd}")

    def test_a_result_and_an_error_come_back(self) -> None:
        file = self.make()
        done = file.run(os.write, self.fd, b"abc")
        self.assertNoResult(done)
        self.reactor.work()
        self.assertEqual(self.successResultOf(done), 3)
        done = file.run(int, "none")
        self.reactor.work()
        self.failureResultOf(done, ValueError)
        file.close()
        self.assertEqual((self.isOpen(), self.closed), (False, ["closed"]))

    def test_it_stays_open_while_a_thread_uses_it(self) -> None:
        file = self.make()
        done = file.run(os.write, self.fd, b"abc")
        file.close()
        file.close()
        self.assertTrue(self.isOpen())
        self.reactor.work()
        self.assertEqual(self.successResultOf(done), 3)
        self.assertEqual((self.isOpen(), self.closed), (False, ["closed"]))

    def test_cancelling_does_not_take_it_from_its_thread(self) -> None:
        file = self.make()
        done = file.run(os.write, self.fd, b"abc")
        done.cancel()
        self.failureResultOf(done, CancelledError)
        file.close()
        self.assertTrue(self.isOpen())
        self.reactor.work()
        self.assertFalse(self.isOpen())

    def test_without_threads_it_is_done_at_once(self) -> None:
        file = ThreadedFile(Clock(), self.fd)
        self.assertEqual(self.successResultOf(file.run(os.write, self.fd, b"abc")), 3)
        file.close()
        self.assertFalse(self.isOpen())
