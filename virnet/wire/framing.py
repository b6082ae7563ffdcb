"""
Cutting a byte stream into messages.

  - A length word is judged as soon as its four bytes are there; a bad one ends the connection, the messages
    in front of it are still delivered.
  - A length below four is too small for its own word. One from four to 27 cannot hold a header: four is
    refused at once, the others when the declared bytes have come, as libvirtd does.
  - A message of the one type that carries descriptors to this end announces them; behind it comes one byte
    for each, which is not part of any message and has its descriptor with it. The reads that bring them may
    also bring bytes of messages, so descriptors are counted in the order in which they come, not matched with
    reads. But no read goes on behind the byte of a descriptor, so after each there are as many as bytes for
    them: one that came with anything else must not be taken for another message's.
  - Chunks are collected and joined once: a large message costs one copy however many reads brought it. Tiny
    ones are gathered first, since each would cost an object.
"""

from __future__ import annotations

from virnet.errors import RemoteProtocolError
from virnet.limits import LENGTH_SIZE, MESSAGE_FDS_MAX, MESSAGE_MAX, MESSAGE_MIN
from virnet.wire.message import DESCRIPTOR_COUNT

_TYPE_START = 16
_TYPE_END = 20
_SMALL = 4096
_JOINED = 65536


class Framer:
    """Turns received chunks into whole messages.

    @ivar fault: set when the stream cannot be read any further; nothing is delivered after it.
    @ivar maximum: the largest message accepted, without its length word, in bytes.
    @ivar descriptors: how many descriptors have come that no message has claimed; C{None} where the transport
        cannot carry any.
    """

    __slots__ = ("descriptors", "fault", "maximum", "_chunks", "_extra", "_have", "_need", "_tiny", "_type")

    def __init__(self, maximum: int = MESSAGE_MAX, withDescriptors: int | None = None) -> None:
        """@param withDescriptors: the type of the messages that bring descriptors to this end."""
        self.descriptors: int | None = None
        self.fault: RemoteProtocolError | None = None
        self.maximum = maximum
        self._chunks: list[bytes] = []
        self._extra = 0
        self._have = 0
        self._need = LENGTH_SIZE
        self._tiny = bytearray()
        self._type = b"" if withDescriptors is None else withDescriptors.to_bytes(4, "big")

    @property
    def incomplete(self) -> bool:
        """Whether there are bytes that belong to no message, yet or at all."""
        return self._have > 0 or self.fault is not None

    def feed(self, data: bytes) -> list[bytes]:
        """Take a chunk and return the messages that it completes, whole, in order."""
        if self.fault is not None:
            return []
        if self._have:
            self._collect(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            if self._tiny:
                self._gather()
            if self._need == LENGTH_SIZE or self._have == self._need:
                data = b"".join(self._chunks)
            else:
                return self._finishLarge()
            self._chunks, self._have, self._need, self._extra = [], 0, LENGTH_SIZE, 0
        size = len(data)
        if (
            MESSAGE_MIN <= size <= self.maximum + LENGTH_SIZE
            and data[:LENGTH_SIZE] == size.to_bytes(LENGTH_SIZE, "big")
            and data[_TYPE_START:_TYPE_END] != self._type
        ):
            # What comes is mostly one message.
            return [data]
        return self._cut(data)

    def judgeDescriptors(self) -> None:
        """A read was fed: set C{fault} when it brought a descriptor with anything but a byte of its own."""
        if self.descriptors and self.fault is None:
            messageEnd = self._need - self._extra
            if self.descriptors != self._have - messageEnd:
                self.fault = RemoteProtocolError("received a file descriptor without a byte of its own")

    def _collect(self, data: bytes) -> None:
        """Keep a chunk of a message that is not complete."""
        if len(data) < _SMALL:
            self._tiny.extend(data)
            if len(self._tiny) >= _JOINED:
                self._gather()
        else:
            if self._tiny:
                self._gather()
            self._chunks.append(data)

    def _gather(self) -> None:
        self._chunks.append(bytes(self._tiny))
        self._tiny.clear()

    def _finishLarge(self) -> list[bytes]:
        """The message under way is complete and more follows: do not copy the message for its tail."""
        chunks = self._chunks
        surplus = self._have - self._need
        last = chunks[-1]
        chunks[-1] = last[: len(last) - surplus]
        rest = last[len(last) - surplus :]
        message = b"".join(chunks)
        self._chunks, self._have, self._need, self._extra = [], 0, LENGTH_SIZE, 0
        messages = self._cut(message)
        # Not _cut: the message may still wait for the bytes of its descriptors.
        return messages + self.feed(rest)

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
                    f"Unable to decode message header: {length} bytes received, want {MESSAGE_MIN}"
                )
                return messages
            extra = 0
            if data[start + _TYPE_START : start + _TYPE_END] == self._type:
                extra = self._claim(data, start, end)
                if self.fault is not None:
                    return messages
                if end + extra > size:
                    self._need = length + extra
                    self._extra = extra
                    break
                if extra:
                    assert self.descriptors is not None
                    if self.descriptors < extra:
                        self.fault = RemoteProtocolError("received a byte for a file descriptor without one")
                        return messages
                    self.descriptors -= extra
            messages.append(data if length == size else data[start:end])
            start = end + extra
        if start < size:
            self._chunks.append(data[start:] if start else data)
            self._have = size - start
        return messages

    def _claim(self, data: bytes, start: int, end: int) -> int:
        """How many descriptors a whole message wants; sets C{fault} when it cannot have them."""
        body = start + MESSAGE_MIN
        if end < body + DESCRIPTOR_COUNT.size:
            self.fault = RemoteProtocolError("the message ends before its number of file descriptors")
            return 0
        count: int = DESCRIPTOR_COUNT.unpack_from(data, body)[0]
        if count > MESSAGE_FDS_MAX:
            self.fault = RemoteProtocolError(
                f"Received too many FDs {count}, expected {MESSAGE_FDS_MAX} maximum"
            )
        elif count and self.descriptors is None:
            self.fault = RemoteProtocolError("Receiving file descriptors is not supported on this socket")
        return count

    def _judge(self, length: int) -> RemoteProtocolError:
        if length < LENGTH_SIZE:
            return RemoteProtocolError(f"packet {length} bytes received too small, want {LENGTH_SIZE}")
        if length == LENGTH_SIZE:
            return RemoteProtocolError("packet without a header received")
        return RemoteProtocolError(
            f"packet {length - LENGTH_SIZE} bytes received too large, want {self.maximum}"
        )
