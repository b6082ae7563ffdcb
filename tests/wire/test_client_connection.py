"""The client's end: calls, what completes them, and what else a server may say."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.messages import message
from virnet.errors import LocalProtocolError, RemoteError
from virnet.limits import MESSAGE_MIN, PAYLOAD_MAX
from virnet.wire.connection import ClientConnection
from virnet.wire.events import CallFailed, Dropped, EventReceived, Fault, ReplyReceived, StreamReceived
from virnet.wire.message import (
    CALL,
    CALL_WITH_FDS,
    CONTINUE,
    ERROR,
    MESSAGE,
    OK,
    REPLY,
    REPLY_WITH_FDS,
    STREAM,
    STREAM_HOLE,
    decodeHeader,
    encodeError,
)
from virnet.wire.stream import ClientAction, ClientState

REMOTE = 0x20008086
KEEPALIVE = 0x6B656570


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.client: ClientConnection[str] = ClientConnection(firstSerial=5)

    def receive(self, *fields: int, payload: bytes = b"") -> Any:
        """What one message means."""
        program, version, number, type, serial, status = fields
        (event,) = self.client.receive(message((program, version, number, type, serial, status), payload))
        return event

    def assertFault(self, event: Any, text: str) -> None:
        self.assertIsInstance(event, Fault)
        self.assertEqual(str(event.error), text)
        self.assertTrue(self.client.closed)
        self.assertEqual(self.client.receive(message((REMOTE, 1, 1, MESSAGE, 1, OK))), [])


class Calling(_Case):
    """Messages that the client makes."""

    def test_a_call(self) -> None:
        made = self.client.call(REMOTE, 1, 59, b"args", "token")
        self.assertEqual(decodeHeader(made), (32, REMOTE, 1, 59, CALL, 5, OK))
        self.assertEqual(made[MESSAGE_MIN:], b"args")

    def test_a_call_with_descriptors_says_how_many(self) -> None:
        for count in (0, 32):
            made = self.client.call(REMOTE, 1, 59, b"args", "token", count)
            self.assertEqual(decodeHeader(made).type, CALL_WITH_FDS)
            self.assertEqual(made[MESSAGE_MIN:], count.to_bytes(4, "big") + b"args")

    def test_what_does_not_fit_is_not_registered(self) -> None:
        for payload, descriptors in ((bytes(PAYLOAD_MAX + 1), None), (b"", 33)):
            self.assertRaises(
                LocalProtocolError, self.client.call, REMOTE, 1, 59, payload, "token", descriptors
            )
            self.assertEqual(len(self.client.calls), 0)


class Replies(_Case):
    """What completes a call."""

    def setUp(self) -> None:
        super().setUp()
        self.client.call(REMOTE, 1, 59, b"", "token")

    def test_a_result(self) -> None:
        event = self.receive(REMOTE, 1, 59, REPLY, 5, OK, payload=b"ret!")
        self.assertIsInstance(event, ReplyReceived)
        self.assertEqual((event.token, event.data[event.offset :]), ("token", b"ret!"))
        self.assertEqual(len(self.client.calls), 0)

    def test_a_result_behind_the_number_of_descriptors(self) -> None:
        event = self.receive(REMOTE, 1, 59, REPLY_WITH_FDS, 5, OK, payload=bytes(4) + b"ret!")
        self.assertEqual((event.token, event.data[event.offset :]), ("token", b"ret!"))

    def test_an_error(self) -> None:
        payload = encodeError(RemoteError.of(42, "x", 12))
        for type, front in ((REPLY, b""), (REPLY_WITH_FDS, bytes(4))):
            self.setUp()
            event = self.receive(REMOTE, 1, 59, type, 5, ERROR, payload=front + payload)
            self.assertIsInstance(event, CallFailed)
            self.assertEqual((event.token, event.error.message), ("token", "Domain not found: x"))

    def test_an_error_that_does_not_decode(self) -> None:
        event = self.receive(REMOTE, 1, 59, REPLY, 5, ERROR, payload=b"?")
        self.assertEqual(event.error.message, "Unable to decode message payload")

    def test_a_status_nobody_knows(self) -> None:
        event = self.receive(REMOTE, 1, 59, REPLY, 5, CONTINUE)
        self.assertEqual((event.error.code, event.error.message), (39, "Unexpected message status 2"))

    def test_another_procedure(self) -> None:
        event = self.receive(REMOTE, 1, -1, REPLY, 5, OK)
        self.assertEqual((event.error.code, event.error.message), (1, "Unexpected message proc -1 != 59"))

    def test_R022_nobody_waits_for_it(self) -> None:
        for program, version, serial, text in (
            (REMOTE, 1, 6, f"prog {REMOTE} vers 1 serial 6"),
            (REMOTE, 2, 5, f"prog {REMOTE} vers 2 serial 5"),
            (0xFFFFFFFF, 1, 5, "prog -1 vers 1 serial 5"),
        ):
            self.setUp()
            self.assertFault(
                self.receive(program, version, 59, REPLY, serial, OK),
                f"no call waiting for reply with {text}",
            )


class Unasked(_Case):
    """What belongs to no call."""

    def test_an_event_of_whatever_program(self) -> None:
        for program in (REMOTE, 0x1234):
            event = self.receive(program, 1, 318, MESSAGE, 1, OK, payload=b"what")
            self.assertIsInstance(event, EventReceived)
            self.assertEqual((event.header.procedure, event.data[MESSAGE_MIN:]), (318, b"what"))

    def test_an_event_with_another_status(self) -> None:
        event = self.receive(REMOTE, 1, 318, MESSAGE, 1, ERROR)
        self.assertEqual(event.reason, "event with status 1")

    def test_a_packet_of_no_open_stream(self) -> None:
        for type in (STREAM, STREAM_HOLE):
            self.assertEqual(self.receive(REMOTE, 1, 209, type, 1, CONTINUE).reason, "no such stream")

    def test_ping_is_answered_and_the_rest_of_keepalive_ignored(self) -> None:
        event = self.receive(KEEPALIVE, 1, 1, MESSAGE, 0, OK)
        self.assertEqual(decodeHeader(event.data), (28, KEEPALIVE, 1, 2, MESSAGE, 0, OK))
        for version, procedure in ((1, 2), (1, 9), (2, 1)):
            self.assertEqual(
                self.client.receive(message((KEEPALIVE, version, procedure, MESSAGE, 0, OK))), []
            )

    def test_calls_and_types_nobody_knows(self) -> None:
        for type in (CALL, CALL_WITH_FDS, 7, 9, -1):
            self.setUp()
            self.assertFault(
                self.receive(0xFFFFFFFF, 1, 3, type, 1, OK),
                f"got unexpected RPC call prog -1 vers 1 proc 3 type {type}",
            )


class Streams(_Case):
    """Packets of the streams that calls have opened."""

    def setUp(self) -> None:
        super().setUp()
        data, self.stream = self.client.callWithStream(REMOTE, 1, 209, b"args", "token")
        self.assertEqual(decodeHeader(data), (32, REMOTE, 1, 209, CALL, 5, OK))

    def packet(self, status: int, payload: bytes = b"", type: int = STREAM) -> Any:
        """What a packet of the stream means."""
        return self.receive(REMOTE, 1, 209, type, 5, status, payload=payload)

    def test_data_holes_end_and_failure_reach_it(self) -> None:
        for status, payload, type, action in (
            (CONTINUE, b"data", STREAM, ClientAction.DATA),
            (CONTINUE, bytes(12), STREAM_HOLE, ClientAction.HOLE),
            (CONTINUE, b"", STREAM, ClientAction.END),
            (ERROR, b"", STREAM, ClientAction.FAIL),
        ):
            event = self.packet(status, payload, type)
            self.assertIsInstance(event, StreamReceived)
            self.assertIs(event.action, action)
        self.assertEqual(self.client.streams, {})
        self.assertEqual(self.packet(CONTINUE, b"late").reason, "no such stream")

    def test_data_behind_the_end_is_dropped(self) -> None:
        self.packet(CONTINUE)
        event = self.packet(CONTINUE, b"late")
        self.assertEqual((type(event), event.reason), (Dropped, "the stream is ended"))

    def test_a_confirmation_that_is_waited_for(self) -> None:
        self.stream.state = ClientState.CLOSING
        self.assertIs(self.packet(OK).action, ClientAction.CONFIRM)
        self.assertEqual(self.client.streams, {})

    def test_one_that_is_not_ends_the_connection(self) -> None:
        self.assertFault(self.packet(OK), "unexpected stream status 0")

    def test_so_does_a_status_nobody_knows(self) -> None:
        self.assertFault(self.packet(77), "unexpected stream status 77")
