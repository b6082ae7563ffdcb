"""Regular files as streams of data and holes. Everything here blocks: run it in a thread.

A hole is a run of zeros that takes no space: the file system tells where they are (C{SEEK_DATA}), and seeking
makes them again. What is not a regular file has no holes and is read to its end.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple


class Hole(NamedTuple):
    """A run of zeros that is not sent as data.

    @ivar length: bytes, at least 1.
    """

    length: int


class FileReader:
    """Reads a range of a file, in order."""

    def __init__(self, fd: int, length: int | None = None, sparse: bool = False) -> None:
        """Start at the descriptor's position.

        @param fd: open for reading; stays the caller's.
        @param length: bytes to read at the most; C{None} for all there are.
        @param sparse: tell holes; else they are read as zeros.
        """
        self._fd = fd
        self._left = length
        self._sparse = sparse
        self._dataEnd = 0
        if sparse:
            self._position = os.lseek(fd, 0, os.SEEK_CUR)
            self._size = os.fstat(fd).st_size

    def read(self, size: int) -> bytes | Hole:
        """Read what comes next.

        @param size: bytes of data at the most.
        @return: data; a hole of any length; C{b""} at the end.
        """
        if self._left is not None:
            size = min(size, self._left)
        if self._sparse:
            hole = self._hole()
            if hole:
                self._position = os.lseek(self._fd, hole, os.SEEK_CUR)
                self._count(hole)
                return Hole(hole)
            size = min(size, self._dataEnd - self._position)
        data = os.read(self._fd, size) if size else b""
        if self._sparse:
            self._position += len(data)
        self._count(len(data))
        return data

    def _count(self, done: int) -> None:
        if self._left is not None:
            self._left -= done

    def _hole(self) -> int:
        """Bytes of hole at the position; sets how far data goes when there is none."""
        if self._position < self._dataEnd:
            return 0
        end = self._size if self._left is None else min(self._size, self._position + self._left)
        if self._position >= end:
            self._dataEnd = self._position
            return 0
        try:
            data = os.lseek(self._fd, self._position, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            data = end
        if data > self._position:
            os.lseek(self._fd, self._position, os.SEEK_SET)
            return min(data, end) - self._position
        self._dataEnd = os.lseek(self._fd, self._position, os.SEEK_HOLE)
        os.lseek(self._fd, self._position, os.SEEK_SET)
        return 0


class FileWriter:
    """Writes data and holes to a file, from the descriptor's position on."""

    def __init__(self, fd: int, length: int | None = None) -> None:
        """@param fd: open for writing; stays the caller's.
        @param length: bytes that may be written; C{None} for any number.
        """
        self._fd = fd
        self._left = length
        self._hole = False

    def write(self, item: bytes | Hole) -> None:
        """Write the next data or hole.

        @raise OSError: the file cannot take it; C{ENOSPC} when it is beyond the length allowed.
        """
        size = item.length if isinstance(item, Hole) else len(item)
        if self._left is not None:
            if size > self._left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._left -= size
        if isinstance(item, Hole):
            self._skip(size)
            return
        view = memoryview(item)
        while view:
            view = view[os.write(self._fd, view) :]
        self._hole = False

    def _skip(self, size: int) -> None:
        end = os.lseek(self._fd, size, os.SEEK_CUR)
        start = end - size
        existing = os.fstat(self._fd).st_size
        if start < existing:
            # What was there before must read as zeros now.
            self._zero(start, min(end, existing) - start)
            os.lseek(self._fd, end, os.SEEK_SET)
        self._hole = True

    def _zero(self, start: int, size: int) -> None:
        """Make a range read as zeros without taking space where the file system can."""
        os.lseek(self._fd, start, os.SEEK_SET)
        try:
            data = os.lseek(self._fd, start, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            return
        if data >= start + size:
            return
        os.lseek(self._fd, start, os.SEEK_SET)
        zeros = memoryview(bytes(1 << 20))
        while size:
            size -= os.write(self._fd, zeros[: min(size, len(zeros))])

    def finish(self) -> None:
        """Make a hole at the end count: the file is as long as what was written."""
        if self._hole:
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            if os.fstat(self._fd).st_size < end:
                os.ftruncate(self._fd, end)
