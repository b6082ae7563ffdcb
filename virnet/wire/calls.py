"""
The calls a client waits for.

  - Serials count from 0, one a call, shared by all programs of the connection, 32 bits, wrapping.
  - A reply completes the call with its program, version and serial, in any order; the procedure is compared
    afterwards, and a wrong one fails that call alone.
  - A cancelled call stays here until its reply came: that reply must not be taken for a stray one.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

_SERIALS = 1 << 32


class PendingCalls(Generic[T]):
    """Calls by program, version and serial, each with a token of the caller's."""

    __slots__ = ("_pending", "_serial")

    def __init__(self, firstSerial: int = 0) -> None:
        self._pending: dict[tuple[int, int, int], tuple[int, T]] = {}
        self._serial = firstSerial

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, program: int, version: int, procedure: int, token: T) -> int:
        """Register a call and return its serial."""
        serial = self._serial
        self._serial = (serial + 1) % _SERIALS
        # After 2**32 calls a serial may still be waited for by an event-like call that never returns.
        while (program, version, serial) in self._pending:
            serial = self._serial
            self._serial = (serial + 1) % _SERIALS
        self._pending[program, version, serial] = (procedure, token)
        return serial

    def pop(self, program: int, version: int, serial: int) -> tuple[int, T] | None:
        """Take out the call that a reply belongs to: its procedure and token."""
        return self._pending.pop((program, version, serial), None)

    def clear(self) -> list[T]:
        """Take out all calls, oldest first; used when the connection is over."""
        tokens = [token for _, token in self._pending.values()]
        self._pending.clear()
        return tokens
