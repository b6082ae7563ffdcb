"""The server's end: what each message means, in the order in which a message is judged."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.messages import message
from virnet.errors import LocalProtocolError, RemoteError, XDRError
from virnet.limits import MESSAGE_MIN, PAYLOAD_MAX
from virnet.wire.auth import ALLOWED_UNAUTHENTICATED
from virnet.wire.connection import ServerConnection
from virnet.wire.events import CallReceived, Dropped, Event, Fault, Send, StreamReceived
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
    MessageHeader,
    decodeError,
    decodeHeader,
)
from virnet.wire.stream import ServerAction, ServerState

REMOTE = 0x20008086
KEEPALIVE = 0x6B656570
PROGRAMS = {(REMOTE, 1): {66: "authList", 1: "connectOpen", 59: "connectGetHostname"}}


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = ServerConnection(PROGRAMS)

    def receive(self, *fields: int, payload: bytes = b"") -> Any:
        """What one message means."""
        program, version, number, type, serial, status = fields
        (event,) = self.server.receive(message((program, version, number, type, serial, status), payload))
        return event

    def assertRefused(self, event: Any, text: str) -> MessageHeader:
        self.assertIsInstance(event, Send)
        header = decodeHeader(event.data)
        self.assertEqual((header.type, header.status), (REPLY, ERROR))
        error = decodeError(event.data)
        self.assertEqual((error.domain, error.level, error.message), (7, 2, text))
        return header


class Judging(_Case):
    """length, header, descriptors, keepalive, streams, program, type, status, procedure, authentication."""

    def test_a_call_that_may_be_executed(self) -> None:
        event = self.receive(REMOTE, 1, 59, CALL, 7, OK, payload=b"args")
        self.assertIsInstance(event, CallReceived)
        self.assertEqual(event.procedure, "connectGetHostname")
        self.assertEqual(event.header, (32, REMOTE, 1, 59, CALL, 7, OK))
        self.assertEqual((event.data[event.offset :], event.descriptors), (b"args", 0))

    def test_the_arguments_of_a_call_with_descriptors_are_behind_their_number(self) -> None:
        event = self.receive(REMOTE, 1, 59, CALL_WITH_FDS, 7, OK, payload=bytes(4) + b"args")
        self.assertIsInstance(event, CallReceived)
        self.assertEqual(event.data[event.offset :], b"args")

    def test_each_check_comes_before_those_behind_it(self) -> None:
        self.server.authenticated = False
        wrong = {"program": 0x1234, "status": 5, "number": 99}
        for text, fields in (
            ("Cannot find program 4660 version 1", ("program", "status", "number")),
            ("Unexpected message status 5", ("status", "number")),
            ("unknown procedure: 99", ("number",)),
            ("authentication required", ()),
        ):
            right = {"program": REMOTE, "number": 59, "status": OK}
            right.update({field: wrong[field] for field in fields})
            event = self.receive(right["program"], 1, right["number"], CALL, 1, right["status"])
            self.assertRefused(event, text)

    def test_R014_a_refusal_repeats_the_requests_header(self) -> None:
        header = self.assertRefused(
            self.receive(0xFFFFFFFF, 0xFFFFFFFE, -7, CALL, 0xFFFFFFFD, OK),
            "Cannot find program -1 version -2",
        )
        self.assertEqual(header[1:4], (0xFFFFFFFF, 0xFFFFFFFE, -7))
        self.assertEqual(header.serial, 0xFFFFFFFD)

    def test_before_authentication_only_authenticating_is_allowed(self) -> None:
        self.assertEqual(ALLOWED_UNAUTHENTICATED, {(REMOTE, n) for n in (66, 67, 68, 69, 70)})
        self.server.authenticated = False
        self.assertIsInstance(self.receive(REMOTE, 1, 66, CALL, 0, OK), CallReceived)
        self.assertRefused(self.receive(REMOTE, 1, 1, CALL, 1, OK), "authentication required")
        self.server.authenticated = True
        self.assertIsInstance(self.receive(REMOTE, 1, 1, CALL, 2, OK), CallReceived)

    def test_who_is_admitted_may_call_and_send_larger_messages(self) -> None:
        self.server = ServerConnection(PROGRAMS, authenticated=False, maximum=100)
        self.assertRefused(self.receive(REMOTE, 1, 59, CALL, 1, OK), "authentication required")
        self.server.admit()
        self.assertIsInstance(self.receive(REMOTE, 1, 59, CALL, 2, OK, payload=bytes(100)), CallReceived)

    def test_the_numbers_of_authentication_mean_nothing_in_another_program(self) -> None:
        server = ServerConnection({(REMOTE + 1, 1): {66: "qemu's"}}, authenticated=False)
        (event,) = server.receive(message((REMOTE + 1, 1, 66, CALL, 0, OK)))
        self.assertRefused(event, "authentication required")

    def test_R015_what_is_no_call_is_dropped_with_a_reason(self) -> None:
        for program, type, reason in (
            (REMOTE, REPLY, "Unexpected message type 1"),
            (REMOTE, MESSAGE, "Unexpected message type 2"),
            (REMOTE, REPLY_WITH_FDS, "Unexpected message type 5"),
            (REMOTE, 9, "Unexpected message type 9"),
            (REMOTE, STREAM, "no such stream"),
            (REMOTE, STREAM_HOLE, "no such stream"),
            (0x1234, MESSAGE, "no such program"),
            (0x1234, 9, "no such program"),
        ):
            event = self.receive(program, 1, 59, type, 1, OK, payload=bytes(8))
            self.assertEqual((event, event.reason), (Dropped(event.header, reason), reason))

    def test_R008_nothing_of_a_message_shows_in_the_next(self) -> None:
        self.server.acceptDescriptors()
        self.server.descriptorReceived()
        data = message((REMOTE, 1, 59, CALL_WITH_FDS, 7, OK), b"\0\0\0\x01" + b"x" * 100)
        first, second = self.server.receive(data + b"\0" + message((REMOTE, 1, 1, CALL, 8, OK)))
        assert isinstance(first, CallReceived) and isinstance(second, CallReceived)
        self.assertEqual((first.descriptors, first.header.length, first.offset), (1, 132, 32))
        self.assertEqual((second.descriptors, second.header.length, second.offset), (0, 28, 28))
        self.assertEqual((second.header.serial, second.data[28:]), (8, b""))

    def test_descriptors_matter_in_no_other_type(self) -> None:
        for type in (REPLY_WITH_FDS, 0x104, -4):
            self.assertIsInstance(self.receive(REMOTE, 1, 59, type, 1, OK), Dropped)

    def test_ping_is_answered_and_pong_is_not(self) -> None:
        self.server.authenticated = False
        event = self.receive(KEEPALIVE, 1, 1, MESSAGE, 0, OK)
        self.assertEqual(event.data.hex(), "0000001c6b656570000000010000000200000002" + "00" * 8)
        for procedure in (2, 0, 3):
            self.assertEqual(self.server.receive(message((KEEPALIVE, 1, procedure, MESSAGE, 0, OK))), [])

    def test_keepalive_is_a_program_like_any_other_in_a_call(self) -> None:
        self.assertRefused(
            self.receive(KEEPALIVE, 1, 1, CALL, 0, OK), "Cannot find program 1801807216 version 1"
        )
        self.assertIsInstance(self.receive(KEEPALIVE, 2, 1, MESSAGE, 0, OK), Dropped)


class Faults(_Case):
    """What ends the connection, and that it does."""

    def test_a_framing_fault_comes_behind_what_came_before_it(self) -> None:
        call = message((REMOTE, 1, 59, CALL, 1, OK))
        events = self.server.receive(call + bytes(4) + call)
        self.assertEqual([type(each) for each in events], [CallReceived, Fault])
        self.assertTrue(self.server.closed)

    def test_R046_it_waits_for_calls_before_it_that_wait_for_a_slot_and_for_nothing_else(self) -> None:
        call = message((REMOTE, 1, 59, CALL, 1, OK))
        self.server = ServerConnection(PROGRAMS, limit=1)
        self.assertEqual([type(each) for each in self.server.receive(call * 2 + bytes(4))], [CallReceived])
        self.assertEqual(self.server.resume(), [])
        self.server.release()
        self.assertEqual([type(each) for each in self.server.resume()], [CallReceived, Fault])

    def test_nothing_is_looked_at_afterwards(self) -> None:
        call = message((REMOTE, 1, 59, CALL, 1, OK))
        self.server.receive(bytes(4))
        self.assertEqual(self.server.receive(call), [])
        self.assertEqual(self.server.resume(), [])

    def test_R045_nor_after_the_shell_has_closed_it(self) -> None:
        call = message((REMOTE, 1, 59, CALL, 1, OK))
        self.server.receive(call[:10])
        self.server.closed = True
        for data in (call[10:], call, bytes(4)):
            self.assertEqual(self.server.receive(data), [])

    def test_nothing_is_kept_of_it_either(self) -> None:
        self.server.closed = True
        self.server.receive(message((REMOTE, 1, 59, CALL, 1, OK)) * 1000)
        self.server.closed = False
        self.assertEqual(self.server.resume(), [])

    def test_a_fault_behind_a_fault_is_not_told(self) -> None:
        hole = message((REMOTE, 1, 59, STREAM_HOLE, 1, CONTINUE), bytes(12))
        (call,) = self.server.receive(message((REMOTE, 1, 59, CALL, 1, OK)))
        assert isinstance(call, CallReceived)
        self.server.openStream(call.header, sparse=False)
        events = self.server.receive(hole + hole + bytes(4))
        self.assertEqual([type(each) for each in events], [Fault])
        self.assertEqual(self.server.resume(), [])


class Slots(_Case):
    """Calls in progress, at most so many."""

    def calls(self, *serials: int) -> list[Any]:
        """What a number of calls in one read means."""
        return self.server.receive(b"".join(message((REMOTE, 1, 59, CALL, serial, OK)) for serial in serials))

    def serials(self, events: list[Event]) -> list[int]:
        return [each.header.serial for each in events if isinstance(each, CallReceived)]

    def test_R033_one_more_waits_until_one_ends(self) -> None:
        self.assertEqual(self.serials(self.calls(1, 2, 3, 4, 5, 6, 7)), [1, 2, 3, 4, 5])
        self.assertTrue(self.server.throttled)
        self.assertEqual(self.server.resume(), [])
        self.server.release()
        self.assertEqual(self.serials(self.server.resume()), [6])
        self.server.release()
        self.assertEqual(self.serials(self.server.resume()), [7])
        for _ in range(5):
            self.server.release()
        self.assertFalse(self.server.throttled)
        self.assertEqual(self.server.inProgress, 0)

    def test_R035_with_a_limit_of_one_they_come_one_after_the_other(self) -> None:
        self.server = ServerConnection(PROGRAMS, limit=1)
        self.assertEqual(self.serials(self.calls(1, 2, 3)), [1])
        for serial in (2, 3):
            self.server.release()
            self.assertEqual(self.serials(self.server.resume()), [serial])

    def test_what_arrives_while_all_are_held_waits_behind_what_came_before(self) -> None:
        self.server = ServerConnection(PROGRAMS, limit=1)
        self.calls(1, 2)
        self.assertEqual(self.calls(3), [])
        self.server.release()
        self.assertEqual(self.serials(self.server.resume()), [2])

    def test_R030_refusals_drops_and_keepalives_hold_none(self) -> None:
        self.server = ServerConnection(PROGRAMS, limit=1)
        for fields in (
            (REMOTE, 1, 99, CALL, 1, OK),
            (0x1234, 1, 1, CALL, 1, OK),
            (REMOTE, 1, 59, STREAM, 1, CONTINUE),
            (KEEPALIVE, 1, 1, MESSAGE, 0, OK),
        ):
            self.receive(*fields)
            self.assertEqual(self.server.inProgress, 0)

    def test_what_was_not_judged_can_be_told(self) -> None:
        self.server = ServerConnection(PROGRAMS, limit=1)
        call = message((REMOTE, 1, 59, CALL, 1, OK))
        self.assertFalse(self.server.unjudged)
        self.server.receive(call + call)
        self.assertTrue(self.server.unjudged)
        self.assertTrue(self.server.waiting)
        self.server.release()
        self.server.resume()
        self.assertFalse(self.server.unjudged)
        self.server.receive(call[:1])
        self.assertTrue(self.server.unjudged)
        self.assertFalse(self.server.waiting)

    def test_R009_a_slot_that_was_given_back_counts_when_it_is_held_again(self) -> None:
        self.server = ServerConnection(PROGRAMS, limit=1)
        for serial in range(10):
            self.assertEqual(self.serials(self.calls(serial)), [serial])
            self.assertTrue(self.server.throttled)
            self.server.release()
            self.assertFalse(self.server.throttled)

    def test_releasing_more_than_is_held_is_a_bug(self) -> None:
        self.assertRaises(AssertionError, self.server.release)


class Replies(_Case):
    """Messages that the server makes."""

    CALL_HEADER = MessageHeader(28, REMOTE + 1, 3, -7, CALL, 0xFFFFFFFF, OK)

    def test_a_reply_repeats_program_version_procedure_and_serial(self) -> None:
        made = self.server.reply(self.CALL_HEADER, b"four")
        self.assertEqual(decodeHeader(made), (32, REMOTE + 1, 3, -7, REPLY, 0xFFFFFFFF, OK))
        self.assertEqual(made[MESSAGE_MIN:], b"four")

    def test_so_does_an_error(self) -> None:
        made = self.server.replyError(self.CALL_HEADER, RemoteError.of(42, "x"))
        self.assertEqual(decodeHeader(made)[1:], (REMOTE + 1, 3, -7, REPLY, 0xFFFFFFFF, ERROR))
        self.assertEqual(decodeError(made).message, "Domain not found: x")

    def test_a_result_larger_than_a_message_is_refused(self) -> None:
        self.assertRaises(LocalProtocolError, self.server.reply, self.CALL_HEADER, bytes(PAYLOAD_MAX + 1))

    def test_a_reply_with_descriptors_says_how_many(self) -> None:
        made = self.server.replyWithDescriptors(self.CALL_HEADER, b"four", 32)
        self.assertEqual(decodeHeader(made)[1:], (REMOTE + 1, 3, -7, REPLY_WITH_FDS, 0xFFFFFFFF, OK))
        self.assertEqual(made[MESSAGE_MIN:], b"\0\0\0\x20four")

    def test_with_more_than_a_message_may_have_it_is_refused(self) -> None:
        error = self.assertRaises(
            LocalProtocolError, self.server.replyWithDescriptors, self.CALL_HEADER, b"", 33
        )
        self.assertEqual(str(error), "Too many FDs to send 33, expected 32 maximum")

    def test_an_error_whose_numbers_do_not_fit_their_words_is_the_shells_affair(self) -> None:
        self.assertRaises(XDRError, self.server.replyError, self.CALL_HEADER, RemoteError(1 << 32, "code"))


class Streams(_Case):
    """Packets of open streams."""

    def setUp(self) -> None:
        super().setUp()
        event = self.receive(REMOTE, 1, 59, CALL, 9, OK)
        self.header = event.header
        self.stream = self.server.openStream(event.header, sparse=True)
        self.server.release()

    def packet(self, status: int, payload: bytes = b"", type: int = STREAM) -> Any:
        """What a packet of the stream means."""
        return self.receive(REMOTE, 1, 59, type, 9, status, payload=payload)

    def test_each_that_follows_from_something_holds_a_slot(self) -> None:
        for status, payload, type, action in (
            (CONTINUE, b"data", STREAM, ServerAction.DATA),
            (CONTINUE, bytes(12), STREAM_HOLE, ServerAction.HOLE),
            (OK, b"", STREAM, ServerAction.FINISH),
            (ERROR, b"", STREAM, ServerAction.ABORT),
        ):
            event = self.packet(status, payload, type)
            self.assertIsInstance(event, StreamReceived)
            self.assertIs(event.stream, self.stream)
            self.assertIs(event.action, action)
        self.assertEqual(self.server.inProgress, 4)

    def test_an_empty_packet_means_nothing(self) -> None:
        event = self.packet(CONTINUE)
        self.assertEqual(event.reason, "the stream is open")
        self.assertEqual(self.server.inProgress, 0)

    def test_R031_once_it_is_closed_its_packets_are_of_no_open_stream(self) -> None:
        self.packet(ERROR)
        self.assertEqual(self.server.streams, {})
        for status in (CONTINUE, OK, ERROR, 77):
            self.assertEqual(self.packet(status).reason, "no such stream")

    def test_after_finish_only_an_abort_counts(self) -> None:
        self.assertIs(self.packet(OK).action, ServerAction.FINISH)
        for status, payload in ((CONTINUE, b"data"), (CONTINUE, b""), (OK, b"")):
            self.assertEqual(self.packet(status, payload).reason, "the stream is finishing")
        self.assertIs(self.packet(ERROR).action, ServerAction.ABORT)

    def test_an_unknown_status_is_refused_and_closes_it(self) -> None:
        self.assertIs(self.packet(77).action, ServerAction.REFUSE)
        self.assertIs(self.stream.state, ServerState.CLOSED)
        self.assertEqual(self.server.streams, {})

    def test_a_hole_nobody_agreed_on_ends_the_connection(self) -> None:
        self.stream.sparse = False
        event = self.packet(CONTINUE, bytes(12), STREAM_HOLE)
        self.assertIsInstance(event, Fault)
        self.assertTrue(self.server.closed)

    def test_all_of_program_version_procedure_and_serial_must_match(self) -> None:
        for key in ((REMOTE + 1, 1, 59, 9), (REMOTE, 2, 59, 9), (REMOTE, 1, 1, 9), (REMOTE, 1, 59, 8)):
            program, version, number, serial = key
            event = self.receive(program, version, number, STREAM, serial, CONTINUE, payload=b"data")
            self.assertEqual(event.reason, "no such stream")

    def test_its_serial_may_be_used_by_a_call(self) -> None:
        self.assertIsInstance(self.receive(REMOTE, 1, 59, CALL, 9, OK), CallReceived)
        self.assertIs(self.packet(CONTINUE, b"data").action, ServerAction.DATA)
