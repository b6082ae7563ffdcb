"""What a server does with input that no proper client sends: each row of the table libvirtd was observed by.

A framing error only closes, at once and without an answer. What is not a call is never answered. A call that
cannot be executed is answered with an error of code 39 and domain 7, and the connection stays.
"""

from __future__ import annotations

import struct

from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import (
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
    Message,
    ServerSession,
    callNamed,
    message,
    served,
)
from virnet.limits import MESSAGE_MAX

NUMBER = ECHO.number
PING = 1
ADD = 3


def refusal(text: str) -> tuple[object, ...]:
    """The fields of an error of the RPC layer."""
    return (39, 7, text, 2, None, "%s", text, None, -1, -1, None)


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.session = ServerSession(served(ECHO, Echo()))
        self.send = self.session.send

    def assertOpen(self) -> None:
        """The connection still executes calls."""
        (reply,) = self.send(callNamed(ECHO, "add", 0xBEEF, 40, 2))
        self.assertEqual(reply[1:], (NUMBER, 1, ADD, REPLY, 0xBEEF, OK, b"\0\0\0\x2a"))

    def assertDropped(self, data: bytes) -> None:
        """It is neither answered nor does it end the connection."""
        self.assertEqual(self.send(data), [])
        self.assertOpen()

    def assertRefused(self, data: bytes, text: str) -> Message:
        """It is answered with an error of the RPC layer, and the connection stays."""
        (reply,) = self.send(data)
        self.assertEqual((reply.type, reply.status), (REPLY, ERROR))
        self.assertEqual(reply.error, refusal(text))
        self.assertOpen()
        return reply


class Lengths(_Case):
    """The length word."""

    def assertCloses(self, data: bytes, logged: str) -> None:
        """Nothing is sent, the connection ends at once, and the log says once why and whose it was."""
        with capturedLogs() as captured:
            self.assertEqual(self.send(data), [])
        self.assertTrue(self.session.closed)
        (text,) = [formatEvent(each) for each in captured if each["log_level"] >= LogLevel.warn]
        self.assertTrue(text.startswith("client: "), text)
        self.assertIn(logged, text)
        self.assertEqual(self.session.server.clients, {})

    def test_R001_below_four_is_too_small(self) -> None:
        for length in range(4):
            self.setUp()
            self.assertCloses(length.to_bytes(4, "big"), f"packet {length} bytes received too small, want 4")

    def test_R046_four_is_closed_at_once_without_waiting_for_more(self) -> None:
        self.assertCloses(b"\0\0\0\x04", "packet without a header received")

    def test_from_5_to_27_the_declared_bytes_are_waited_for(self) -> None:
        for length in (5, 16, 27):
            self.setUp()
            self.assertEqual(self.send(length.to_bytes(4, "big") + bytes(length - 5)), [])
            self.assertFalse(self.session.closed)
            self.assertCloses(b"\0", "Unable to decode message header")

    def test_R002_above_the_maximum_is_closed_as_soon_as_the_word_is_complete(self) -> None:
        for length in (MESSAGE_MAX + 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            self.setUp()
            word = length.to_bytes(4, "big")
            self.send(word[:3])
            self.assertFalse(self.session.closed)
            self.assertCloses(word[3:], "bytes received too large, want 33554432")

    def test_R003_exactly_the_maximum_is_processed(self) -> None:
        size = MESSAGE_MAX - 24 - 4
        (reply,) = self.send(
            message(NUMBER, 1, 6, CALL, 1, OK, struct.pack(">I", size) + bytes(size), length=33554436)
        )
        self.assertEqual(reply.length, 33554436)
        self.assertEqual((reply.status, reply.payload[:4]), (OK, struct.pack(">I", size)))
        self.assertOpen()

    def test_R006_the_reply_after_a_long_one_has_its_own_length(self) -> None:
        self.send(callNamed(ECHO, "blob", 1, bytes(100_000)))
        (reply,) = self.send(callNamed(ECHO, "ping", 2))
        self.assertEqual(reply, (28, NUMBER, 1, PING, REPLY, 2, OK, b""))

    def test_messages_before_the_bad_length_were_executed_and_none_after_it_is(self) -> None:
        executed: list[str] = []

        class Recorder(Echo):
            def echo(self, text: str) -> str:
                executed.append(text)
                return text

        self.session = ServerSession(served(ECHO, Recorder()))
        self.session.send(callNamed(ECHO, "echo", 1, "before"), bytes(4), callNamed(ECHO, "echo", 2, "after"))
        self.assertEqual(executed, ["before"])
        self.assertTrue(self.session.closed)

    def test_no_other_connection_is_disturbed(self) -> None:
        other = ServerSession(server=self.session.server)
        with capturedLogs():
            other.send(bytes(4))
        self.assertTrue(other.closed)
        self.assertEqual(list(self.session.server.clients.values()), [self.session.client])
        self.assertOpen()


class Programs(_Case):
    """Calls for what is not served."""

    def test_R014_an_unknown_program_is_answered_under_the_requests_own_header(self) -> None:
        for type in (CALL, CALL_WITH_FDS):
            payload = bytes(4) if type == CALL_WITH_FDS else b""
            reply = self.assertRefused(
                message(0x1234, 7, -5, type, 0xFFFFFFFF, OK, payload), "Cannot find program 4660 version 7"
            )
            self.assertEqual(reply[1:7], (0x1234, 7, -5, REPLY, 0xFFFFFFFF, ERROR))

    def test_R014_numbers_are_printed_signed(self) -> None:
        self.assertRefused(
            message(0xFFFFFFFF, 0x80000000, 1, CALL, 1, OK), "Cannot find program -1 version -2147483648"
        )

    def test_R014_the_version_counts_as_well(self) -> None:
        self.assertRefused(message(NUMBER, 2, PING, CALL, 1, OK), f"Cannot find program {NUMBER} version 2")

    def test_R015_of_an_unknown_program_all_but_calls_is_dropped(self) -> None:
        for type in (REPLY, MESSAGE, STREAM, STREAM_HOLE, 9, -1):
            for status in (OK, ERROR, CONTINUE):
                self.assertDropped(message(0x1234, 1, 1, type, 1, status))

    def test_R015_it_is_said_in_the_debug_log(self) -> None:
        with capturedLogs() as captured:
            self.send(message(0x1234, 1, 5, MESSAGE, 1, OK))
        (event,) = [each for each in captured if "0x1234" in (formatEvent(each) or "")]
        self.assertEqual(event["log_level"], LogLevel.debug)
        self.assertIn("no such program", formatEvent(event))

    def test_R015_no_number_of_dropped_messages_blocks_the_connection(self) -> None:
        self.assertEqual(self.send(*[message(0x1234, 1, 1, STREAM, 1, CONTINUE, b"data")] * 100), [])
        self.assertOpen()

    def test_R016_many_of_them_are_answered_and_the_program_that_is_served_too(self) -> None:
        replies = self.send(
            *[message(0x1234, 1, 1, CALL, serial, OK) for serial in range(50)], callNamed(ECHO, "ping", 50)
        )
        self.assertEqual([each.serial for each in replies], list(range(51)))
        self.assertEqual([each.status for each in replies], [ERROR] * 50 + [OK])


class Calls(_Case):
    """Calls that cannot be executed."""

    def test_unknown_procedures(self) -> None:
        for number in (0, -1, 7, 99, 102, 2**31 - 1, -(2**31)):
            reply = self.assertRefused(
                message(NUMBER, 1, number, CALL, 1, OK), f"unknown procedure: {number}"
            )
            self.assertEqual(reply.procedure, number)

    def test_events_are_no_procedures(self) -> None:
        self.assertRefused(message(NUMBER, 1, 100, CALL, 1, OK), "unknown procedure: 100")

    def test_unknown_procedures_are_named_before_authentication(self) -> None:
        self.session.client.connection.authenticated = False
        (reply,) = self.send(message(NUMBER, 1, 99, CALL, 1, OK))
        self.assertEqual(reply.error, refusal("unknown procedure: 99"))
        (reply,) = self.send(callNamed(ECHO, "ping", 2))
        self.assertEqual(reply.error, refusal("authentication required"))
        self.assertFalse(self.session.closed)

    def test_a_status_other_than_ok_comes_before_the_procedure(self) -> None:
        for status in (ERROR, CONTINUE, 77, -1):
            for procedure in (PING, 99):
                self.assertRefused(
                    message(NUMBER, 1, procedure, CALL, 1, status), f"Unexpected message status {status}"
                )

    def test_R011_arguments_cut_in_the_middle_of_a_string(self) -> None:
        whole = ECHO.byName["echo"].encodeArgs(("abcdefgh",))
        for end in range(len(whole)):
            self.assertRefused(
                message(NUMBER, 1, 2, CALL, 1, OK, whole[:end]), "Unable to decode message payload"
            )

    def test_a_string_too_long(self) -> None:
        size = 4194305
        payload = struct.pack(">I", size) + bytes(size + 3)
        self.assertRefused(message(NUMBER, 1, 2, CALL, 1, OK, payload), "Unable to decode message payload")

    def test_a_string_of_the_greatest_length(self) -> None:
        (reply,) = self.send(callNamed(ECHO, "echo", 1, "x" * 4194304))
        self.assertEqual((reply.status, len(reply.payload)), (OK, 4 + 4194304))

    def test_R012_too_many_elements_are_refused_before_any_is_read(self) -> None:
        for count in (17, 0x7FFFFFFF, 0xFFFFFFFF):
            payload = struct.pack(">I", count) + bytes(4 * 17)
            self.assertRefused(
                message(NUMBER, 1, 4, CALL, 1, OK, payload), "Unable to decode message payload"
            )
        (reply,) = self.send(callNamed(ECHO, "count", 2, [0] * 16))
        self.assertEqual(reply.payload, struct.pack(">I", 16))

    def test_R010_trailing_bytes_are_ignored(self) -> None:
        for garbage in (b"garbage!", b"abc"):
            payload = ECHO.byName["add"].encodeArgs((1, 2)) + garbage
            (reply,) = self.send(message(NUMBER, 1, ADD, CALL, 1, OK, payload))
            self.assertEqual((reply.status, reply.payload), (OK, b"\0\0\0\x03"))
        (reply,) = self.send(message(NUMBER, 1, PING, CALL, 1, OK, b"ping takes nothing"))
        self.assertEqual(reply.status, OK)

    def test_two_calls_with_the_same_serial_are_both_executed(self) -> None:
        replies = self.send(callNamed(ECHO, "add", 7, 1, 1), callNamed(ECHO, "add", 7, 2, 2))
        self.assertEqual([each.serial for each in replies], [7, 7])
        self.assertEqual({each.payload[-1] for each in replies}, {2, 4})

    def test_a_call_announcing_no_descriptors_is_a_call(self) -> None:
        payload = bytes(4) + ECHO.byName["add"].encodeArgs((1, 2))
        (reply,) = self.send(message(NUMBER, 1, ADD, CALL_WITH_FDS, 1, OK, payload))
        self.assertEqual((reply.type, reply.status, reply.payload), (REPLY, OK, b"\0\0\0\x03"))


class NotCalls(_Case):
    """Messages that only servers send, packets of streams that are not open, types nobody knows."""

    def test_types_that_are_not_for_servers_are_dropped(self) -> None:
        for type in (REPLY, MESSAGE, STREAM_HOLE, 9, -1, 0x104):
            for status in (OK, ERROR, CONTINUE, 77):
                self.assertDropped(message(NUMBER, 1, PING, type, 1, status))

    def test_a_reply_with_descriptors_is_dropped_like_any_reply(self) -> None:
        self.assertDropped(message(NUMBER, 1, PING, REPLY_WITH_FDS, 1, OK, bytes(4)))

    def test_R031_packets_of_no_open_stream_are_dropped(self) -> None:
        for status in (OK, ERROR, CONTINUE):
            self.assertDropped(message(NUMBER, 1, PING, STREAM, 1, status, b"data"))
        self.assertEqual(self.send(*[message(NUMBER, 1, PING, STREAM, 1, CONTINUE, b"data")] * 50), [])
        self.assertOpen()


class Delivery(_Case):
    """How the bytes arrive does not matter."""

    def test_R004_byte_by_byte(self) -> None:
        session = ServerSession(served(ECHO, Echo()), readSize=1)
        (reply,) = session.send(callNamed(ECHO, "echo", 1, "slowly"))
        self.assertEqual(reply.payload, b"\0\0\0\x06slowly\0\0")

    def test_R005_several_in_one_read(self) -> None:
        replies = self.send(*[callNamed(ECHO, "add", serial, serial, 1) for serial in range(3)])
        self.assertEqual([each.payload[-1] for each in replies], [1, 2, 3])

    def test_the_byte_of_a_descriptor_without_its_call_is_taken_for_a_length(self) -> None:
        with capturedLogs():
            self.send(b"\0", callNamed(ECHO, "ping", 1))
            # 00 00 00 00 is read as a length word: the stream is out of step, and it shows at once.
        self.assertTrue(self.session.closed)

    def test_an_end_in_the_middle_of_a_message_ends_the_connection_quietly(self) -> None:
        with capturedLogs() as captured:
            self.send(callNamed(ECHO, "echo", 1, "cut off")[:-3])
            self.session.lose()
        self.assertEqual([each for each in captured if each["log_level"] >= LogLevel.warn], [])
        self.assertEqual(self.session.server.clients, {})


class Keepalive(_Case):
    """PING is answered at any time, and nothing else of that program ever."""

    KEEP = 0x6B656570

    def test_ping_is_answered_by_pong(self) -> None:
        (pong,) = self.send(message(self.KEEP, 1, 1, MESSAGE, 0, OK))
        self.assertEqual(pong, (28, self.KEEP, 1, 2, MESSAGE, 0, OK, b""))

    def test_ping_is_answered_before_authentication(self) -> None:
        self.session.client.connection.authenticated = False
        (pong,) = self.send(message(self.KEEP, 1, 1, MESSAGE, 0, OK))
        self.assertEqual(pong.procedure, 2)

    def test_pong_and_unknown_procedures_are_ignored(self) -> None:
        for procedure in (2, 0, 3, -1):
            self.assertDropped(message(self.KEEP, 1, procedure, MESSAGE, 0, OK))

    def test_another_version_is_ignored(self) -> None:
        self.assertDropped(message(self.KEEP, 2, 1, MESSAGE, 0, OK))

    def test_a_call_to_it_is_a_call_to_an_unknown_program(self) -> None:
        self.assertRefused(message(self.KEEP, 1, 1, CALL, 1, OK), "Cannot find program 1801807216 version 1")
