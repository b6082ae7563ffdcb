"""
The body of an HTTP response, read piece by piece.

  - What has come and nobody has read is at most about L{HTTP_BUFFER} bytes: then the HTTP connection is not
    read any more until somebody reads here.
  - A reader that waits longer than the stall time gets a L{Cut}; the time runs only while one waits.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from virnet.limits import HTTP_BUFFER


class Cut(Exception):
    """The response ended before it was over."""


class Body(Protocol):
    """Receives a response's body.

    @ivar unsure: the end may have been a cut: the server did not say how long it is.
    """

    def __init__(self, clock: Any, stall: float) -> None:
        """@param clock: for the stall time.
        @param stall: seconds of silence that are a cut.
        """
        self._clock = clock
        self._stall = stall
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._closed = False
        self._error: Cut | None = None
        self._reader: Deferred[None] | None = None
        self.unsure = False

    def dataReceived(self, data: bytes) -> None:
        """A piece has come."""
        if self._closed:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= HTTP_BUFFER and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pauseProducing()  # type: ignore[attr-defined]
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body is over."""
        self._closed = True
        if reason.check(PotentialDataLoss):
            self.unsure = True
        elif not reason.check(ResponseDone) and self._error is None:
            self._error = Cut(reasonOf(reason))
        self._wake()

    async def read(self) -> bytes:
        """Get what has come.

        @return: C{b""} at the end.
        @raise Cut: the connection broke, or is silent.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._closed:
                return b""
            self._reader = Deferred()
            timer = self._clock.callLater(self._stall, self._stalled)
            try:
                await self._reader
            finally:
                self._reader = None
                if timer.active():
                    timer.cancel()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            if self.transport is not None and not self._closed:
                self.transport.resumeProducing()  # type: ignore[attr-defined]
        return data

    def _stalled(self) -> None:
        self._error = Cut(f"nothing came for {self._stall:g} s")
        self.stop()
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    def stop(self) -> None:
        """Nobody wants more: close the connection."""
        if self._closed or self.transport is None:
            return
        self._closed = True
        # What is given here stands before the connection, and can only close it in order: over TLS the server
        # would go on sending for as long as it likes.
        connection = getattr(self.transport, "_producer", None)
        abort = getattr(connection, "abortConnection", None)
        if abort is not None:
            abort()
        else:
            self.transport.stopProducing()  # type: ignore[attr-defined]


def reasonOf(failure: Failure) -> str:
    """Why a request failed, in words: Twisted wraps the reason in others."""
    error: Any = failure.value
    while getattr(error, "reasons", None):
        error = error.reasons[-1].value if isinstance(error.reasons[-1], Failure) else error.reasons[-1]
    details = error.args[0] if error.args else None
    if isinstance(details, list) and details and isinstance(details[-1], tuple):
        # OpenSSL's: a list of (library, function, reason).
        return str(details[-1][-1])
    return str(error).rstrip(".") or type(error).__name__
