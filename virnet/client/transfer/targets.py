"""
Where a download goes that may keep its writer waiting for ever: a pipe, a socket, a terminal. It is written
when the reactor says that it takes something: no thread hangs in it when the transfer is given up.
"""

from __future__ import annotations

import os
import select
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IWriteDescriptor
from zope.interface import implementer

from virnet.client.transfer.sources import mayWait, ready

_CHUNK = 2048
"""Bytes that a terminal or pipe which is ready takes without making us wait."""


@implementer(IWriteDescriptor)
class PipeTarget:
    """A descriptor that is written when it takes something, so that nobody waits for a slow terminal but who
    writes to it.
    """

    def __init__(self, reactor: Any, fd: int) -> None:
        """@param fd: stays the caller's."""
        self._reactor = reactor
        self._fd = fd
        self._ready: Deferred[None] | None = None
        # What cannot be waited for takes everything at once.
        self._waits = mayWait(fd)

    def write(self, data: bytes) -> Deferred[None]:
        """Write everything.

        @return: fires when it is written; fails with an C{OSError}.
        """
        return Deferred.fromCoroutine(self._write(data))

    async def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._waits and not ready(self._fd, select.POLLOUT):
                self._ready = Deferred(self._cancelled)
                self._reactor.addWriter(self)
                await self._ready
            view = view[os.write(self._fd, view[:_CHUNK]) :]

    def _cancelled(self, _: object) -> None:
        self._reactor.removeWriter(self)
        self._ready = None

    def fileno(self) -> int:
        """For the reactor."""
        return self._fd

    def logPrefix(self) -> str:
        """For the log."""
        return "target"

    def doWrite(self) -> None:
        """It takes something."""
        self._reactor.removeWriter(self)
        waiting, self._ready = self._ready, None
        if waiting is not None:
            waiting.callback(None)

    def connectionLost(self, reason: object) -> None:
        """It is gone, and writing will say how; or the reactor stops, and writing might wait for ever."""
        if ready(self._fd, select.POLLOUT):
            self.doWrite()
