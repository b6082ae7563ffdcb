"""Cutting a byte stream into messages.

- A length word is judged as soon as its four bytes are there; a bad one ends the connection, the messages
  in front of it are still delivered.
- A length below four is too small for its own word. One from four to 27 cannot hold a header: four is
  refused at once, the others when the declared bytes have come, as libvirtd does.
- Chunks are collected and joined once: a large message costs one copy however many reads brought it.
"""

from __future__ import annotations

from virnet.errors import RemoteProtocolError
from virnet.limits import LENGTH_SIZE, MESSAGE_MAX, MESSAGE_MIN


class Framer:
    """Turns received chunks into whole messages.

    @ivar fault: set when the stream cannot be read any further; nothing is delivered after it.
    @ivar maximum: the largest message accepted, without its length word, in bytes.
    """

    __slots__ = ("fault", "maximum", "_chunks", "_have", "_need")

    def __init__(self, maximum: int = MESSAGE_MAX) -> None:
        self.fault: RemoteProtocolError | None = None
        self.maximum = maximum
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = LENGTH_SIZE

    def feed(self, data: bytes) -> list[bytes]:
        """Take a chunk and return the messages that it completes, whole, in order."""
        if self.fault is not None:
            return []
        if self._have:
            self._chunks.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            if self._need == LENGTH_SIZE or self._have == self._need:
                data = b"".join(self._chunks)
            else:
                return self._finishLarge()
            self._chunks, self._have, self._need = [], 0, LENGTH_SIZE
        return self._cut(data)

    def _finishLarge(self) -> list[bytes]:
        """The message under way is complete and more follows: do not copy the message for its tail."""
        chunks = self._chunks
        surplus = self._have - self._need
        last = chunks[-1]
        chunks[-1] = last[: len(last) - surplus]
        rest = last[len(last) - surplus :]
        message = b"".join(chunks)
        self._chunks, self._have, self._need = [], 0, LENGTH_SIZE
        messages = self._cut(message)
        return messages if self.fault is not None else messages + self._cut(rest)

    def _cut(self, data: bytes) -> list[bytes]:
        messages: list[bytes] = []
        start = 0
        size = len(data)
        while size - start >= LENGTH_SIZE:
            length = int.from_bytes(data[start : start + LENGTH_SIZE], "big")
            if length <= LENGTH_SIZE or length > self.maximum + LENGTH_SIZE:
                self.fault = self._judge(length)
                return messages
            end = start + length
            if end > size:
                self._need = length
                break
            if length < MESSAGE_MIN:
                self.fault = RemoteProtocolError(
                    f"Unable to decode message header: message of {length} bytes, a header needs {MESSAGE_MIN}"
                )
                return messages
            messages.append(data if length == size else data[start:end])
            start = end
        if start < size:
            self._chunks.append(data[start:] if start else data)
            self._have = size - start
        return messages

    def _judge(self, length: int) -> RemoteProtocolError:
        if length < LENGTH_SIZE:
            return RemoteProtocolError(f"packet {length} bytes received too small, want {LENGTH_SIZE}")
        if length == LENGTH_SIZE:
            return RemoteProtocolError("packet without a header received")
        return RemoteProtocolError(
            f"packet {length - LENGTH_SIZE} bytes received too large, want {self.maximum}"
        )
