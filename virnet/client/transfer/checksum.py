"""
Checksums of what passes.

  - Any algorithm of C{hashlib} with a digest of fixed length. Zeros of a hole count as zeros.
  - A long hole takes as long as its zeros would: it is counted in a thread, in slices, so that whoever loses
    interest does not wait for all of it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from virnet.client.transfer.errors import TransferError
from virnet.transport.files import Hole

_ZEROS = bytes(1 << 20)
_SLICE = 256
"""Mebibytes of zeros that one turn of a thread counts."""


class Checksum:
    """A checksum that is computed, and may be expected.

    @ivar name: of the algorithm.
    @ivar expected: in lower-case hexadecimal; C{None} when none is.
    """

    def __init__(self, text: str) -> None:
        """@param text: C{NAME} or C{NAME:HEX}, like C{sha256}.

        @raise TransferError: there is no such algorithm, or the digest is none of it.
        """
        name, colon, digest = text.partition(":")
        self.name = name.lower()
        self.expected = digest.strip().lower() if colon else None
        try:
            self._hash = hashlib.new(self.name, usedforsecurity=False)
            size = self._hash.digest_size
        except ValueError:
            size = 0
        if not size:
            raise TransferError(f"there is no checksum {name!r}")
        if self.expected is not None:
            try:
                right = len(bytes.fromhex(self.expected)) == size
            except ValueError:
                right = False
            if not right:
                raise TransferError(f"{digest!r} is no {self.name}: it has {2 * size} hexadecimal digits")

    def update(self, data: bytes) -> None:
        """Count data."""
        self._hash.update(data)

    async def skip(self, reactor: Any, length: int) -> None:
        """Count a hole.

        @param reactor: in whose threads to do it, where it has some.
        """
        while length:
            count = min(length, _SLICE * len(_ZEROS))
            if count > len(_ZEROS) and IReactorThreads.providedBy(reactor):
                await deferToThreadPool(reactor, reactor.getThreadPool(), self._zeros, count)
            else:
                self._zeros(count)
            length -= count

    def count(self, item: bytes | Hole) -> None:
        """Count data or a hole, at once."""
        if isinstance(item, Hole):
            self._zeros(item.length)
        else:
            self._hash.update(item)

    def _zeros(self, count: int) -> None:
        view = memoryview(_ZEROS)
        while count:
            count -= len(piece := view[:count])
            self._hash.update(piece)

    @property
    def digest(self) -> str:
        """The digest of what was counted, in hexadecimal."""
        return self._hash.hexdigest()

    def check(self, what: str) -> None:
        """Compare with what is expected.

        @param what: whose it is, for the error.
        @raise TransferError: it is another.
        """
        if self.expected is not None and self.digest != self.expected:
            raise TransferError(f"{what} has {self.name} {self.digest}, not {self.expected}")
