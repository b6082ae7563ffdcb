"""What real libvirt sent, read and written again by us (R023)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors import RAW, VECTORS, Vector
from virnet.limits import MESSAGE_MIN
from virnet.wire.message import (
    ERROR_PAYLOAD,
    MessageStatus,
    MessageType,
    decodeError,
    decodeHeader,
    encodeError,
    encodeMessage,
)


def payloadOf(vector: Vector) -> bytes:
    """The bytes of the payload, made from its value."""
    if vector.payload is None:
        return b""
    if vector.payload is RAW:
        assert isinstance(vector.value, bytes)
        return vector.value
    return vector.payload.codec.encode(vector.value)


class RecordedMessages(SynchronousTestCase):
    """Each vector both ways."""

    def test_R023_headers_are_read(self) -> None:
        for vector in VECTORS:
            header = decodeHeader(vector.data)
            self.assertEqual(header, (len(vector.data), *vector.header), vector.name)

    def test_R023_payloads_are_read_to_their_last_byte(self) -> None:
        for vector in VECTORS:
            if vector.payload is None:
                self.assertEqual(len(vector.data), MESSAGE_MIN, vector.name)
            elif vector.payload is RAW:
                self.assertEqual(vector.data[MESSAGE_MIN:], vector.value, vector.name)
            else:
                value, end = vector.payload.codec.decode(vector.data, MESSAGE_MIN)
                self.assertEqual(value, vector.value, vector.name)
                self.assertEqual(end, len(vector.data), vector.name)

    def test_R023_messages_are_written(self) -> None:
        for vector in VECTORS:
            made = encodeMessage(*vector.header, payloadOf(vector))
            self.assertEqual(made.hex(), vector.data.hex(), vector.name)

    def test_R023_the_vectors_have_every_type_with_a_payload_of_its_own(self) -> None:
        # REPLY_WITH_FDS differs from REPLY by the same word as CALL_WITH_FDS does from CALL.
        types = {MessageType(vector.header[3]) for vector in VECTORS}
        self.assertEqual(types, set(MessageType) - {MessageType.REPLY_WITH_FDS})
        self.assertEqual({vector.header[5] for vector in VECTORS}, set(MessageStatus))

    def test_R023_errors_become_exceptions_and_the_same_bytes_again(self) -> None:
        errors = [vector for vector in VECTORS if vector.payload is ERROR_PAYLOAD]
        self.assertEqual(len(errors), 2)
        for vector in errors:
            error = decodeError(vector.data)
            self.assertEqual(encodeError(error), vector.data[MESSAGE_MIN:], vector.name)

    def test_R006_a_message_without_payload_says_28_whatever_went_before(self) -> None:
        encodeMessage(0x20008086, 1, 208, MessageType.STREAM, 3, MessageStatus.CONTINUE, b"x" * 262120)
        made = encodeMessage(0x20008086, 1, 208, MessageType.STREAM, 3, MessageStatus.OK)
        self.assertEqual(made[:4], b"\0\0\0\x1c")
        self.assertEqual(len(made), MESSAGE_MIN)

    def test_R007_a_message_is_as_long_as_its_length_word_says(self) -> None:
        for size in (0, 1, 2, 3, 4, 65508, 65509, 262120):
            made = encodeMessage(
                0x20008086, 1, 209, MessageType.STREAM, 1, MessageStatus.CONTINUE, b"x" * size
            )
            self.assertEqual(int.from_bytes(made[:4], "big"), len(made))
            self.assertEqual(len(made), MESSAGE_MIN + size)
