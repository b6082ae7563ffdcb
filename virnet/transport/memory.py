"""Memory for the pieces of streams, kept between one piece and the next.

A piece is read, joined, sent or written within a millisecond, and each step takes a block of 256 KiB or so.
glibc gets such blocks from the kernel one by one and gives each back, or those that are free at the end of
the heap as soon as they are a few hundred KiB. The kernel then clears every page that is touched anew,
which can take longer than all else that is done with a stream. Whether it happens is luck: something may
lie behind the blocks, or there are holes in the heap that they fit into.

The two thresholds behind that follow what the program does (C{mallopt(3)}, C{M_MMAP_THRESHOLD}): where a
large block was freed, blocks up to its size come from the heap, and up to twice its size stays free at its
end. They stay as they are where the environment sets them, and with another C library.
"""

from __future__ import annotations

from functools import cache

from virnet.limits import STREAM_MEMORY


@cache
def keepStreamMemory() -> None:
    """From now on this process keeps the memory; called when there is a stream, takes effect once."""
    # The zeros are pages that nobody has touched: this costs two system calls.
    bytes(STREAM_MEMORY)
