"""What a client does with input that no proper server sends: each row of the table libvirt's was observed by.

One call fails where only its reply makes no sense; the connection ends where the two sides no longer agree
about what is going on; everything that nobody here waits for is dropped. Where libvirt's client drops the
connection for an event of a program it does not know, ours drops the event.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO
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
    ClientSession,
    Message,
    message,
)
from virnet.errors import ConnectionLost, RemoteError, RemoteProtocolError
from virnet.limits import MESSAGE_MAX
from virnet.wire.message import encodeError

NUMBER = ECHO.number


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.session = ClientSession()
        self.echo = self.session.client.program(ECHO)
        self.pending = self.echo.ping()
        (self.call,) = self.session.flush()

    def assertGoesOn(self) -> None:
        """The pending call is answered and new ones are made as if nothing had been."""
        self.assertNoResult(self.pending)
        self.session.reply(self.call)
        self.successResultOf(self.pending)
        self.assertFalse(self.session.closed)
        self.pending = self.echo.ping()
        (self.call,) = self.session.flush()

    def assertCallFails(self, code: int, text: str) -> None:
        """The call alone fails; the connection stays."""
        error = self.failureResultOf(self.pending, RemoteError).value
        self.assertEqual((error.code, error.domain, error.message), (code, 7, text))
        self.assertFalse(self.session.closed)
        self.pending = self.echo.ping()
        (self.call,) = self.session.flush()
        self.assertGoesOn()

    def assertFatal(self, data: bytes, text: str) -> None:
        """Pending calls fail, the connection is closed, once; the log says why."""
        with capturedLogs() as captured:
            self.session.send(data)
        error = self.failureResultOf(self.pending, RemoteProtocolError).value
        self.assertIn(text, str(error))
        self.assertTrue(self.session.closed)
        warned = [formatEvent(each) for each in captured if each["log_level"] >= LogLevel.warn]
        self.assertEqual(len(warned), 1)
        self.assertIn(text, warned[0])


class Replies(_Case):
    """Replies that do not fit."""

    def test_R022_a_reply_nobody_waits_for(self) -> None:
        self.assertFatal(
            message(NUMBER, 1, 1, REPLY, 77, OK),
            f"no call waiting for reply with prog {NUMBER} vers 1 serial 77",
        )

    def test_R022_of_another_program_or_version(self) -> None:
        for program, version in ((0x20008086, 1), (NUMBER, 2)):
            self.setUp()
            self.assertFatal(
                message(program, version, 1, REPLY, self.call.serial, OK),
                f"no call waiting for reply with prog {program} vers {version} serial 0",
            )

    def test_R022_a_stray_error_reply_and_one_with_descriptors_too(self) -> None:
        for type, status, payload in ((REPLY, ERROR, b""), (REPLY_WITH_FDS, OK, bytes(4))):
            self.setUp()
            self.assertFatal(message(NUMBER, 1, 1, type, 77, status, payload), "no call waiting for reply")

    def test_R022_the_second_of_two_replies(self) -> None:
        self.session.reply(self.call)
        self.successResultOf(self.pending)
        self.pending = self.echo.ping()
        self.assertFatal(message(NUMBER, 1, 1, REPLY, self.call.serial, OK), "no call waiting for reply")

    def test_R022_both_in_one_read_the_first_completes_its_call(self) -> None:
        data = message(NUMBER, 1, 1, REPLY, self.call.serial, OK)
        with capturedLogs():
            self.session.send(data + data)
        self.successResultOf(self.pending)
        self.assertTrue(self.session.closed)

    def test_of_another_procedure(self) -> None:
        for status in (OK, ERROR, CONTINUE):
            self.session.reply(self.call, b"", status, procedure=5)
            self.assertCallFails(1, "Unexpected message proc 5 != 1")

    def test_with_a_status_nobody_knows(self) -> None:
        for status in (CONTINUE, 77, -1):
            self.session.reply(self.call, b"", status)
            self.assertCallFails(39, f"Unexpected message status {status}")

    def test_with_a_result_that_does_not_decode(self) -> None:
        self.session.reply(self.call)
        self.successResultOf(self.pending)
        for payload in (b"", b"\0\0\0\x05hel", b"\xff\xff\xff\xff", b"\0\x40\0\x01"):
            pending: Deferred[str] = self.echo.echo("x")
            (call,) = self.session.flush()
            self.session.reply(call, payload)
            error = self.failureResultOf(pending, RemoteError).value
            self.assertEqual((error.code, error.message), (39, "Unable to decode message payload"))
        self.pending = self.echo.ping()
        (self.call,) = self.session.flush()
        self.assertGoesOn()

    def test_with_an_error_that_does_not_decode(self) -> None:
        for payload in (b"", bytes(8), b"\xff" * 60):
            self.session.reply(self.call, payload, ERROR)
            self.assertCallFails(39, "Unable to decode message payload")

    def test_R010_trailing_bytes_are_ignored(self) -> None:
        for garbage in (b"garbage!", b"abc"):
            pending = self.echo.add(1, 2)
            (call,) = self.session.flush()
            self.session.reply(call, b"\0\0\0\x03" + garbage)
            self.assertEqual(self.successResultOf(pending), 3)

    def test_with_descriptors_announced_but_none(self) -> None:
        pending = self.echo.add(1, 2)
        (call,) = self.session.flush()
        self.session.reply(call, b"\0\0\0\0\0\0\0\x03", type=REPLY_WITH_FDS)
        self.assertEqual(self.successResultOf(pending), 3)

    def test_an_error_reply_of_the_kind_with_descriptors(self) -> None:
        pending = self.echo.add(1, 2)
        (call,) = self.session.flush()
        self.session.reply(call, bytes(4) + encodeError(RemoteError.of(42, "x")), ERROR, type=REPLY_WITH_FDS)
        self.assertEqual(self.failureResultOf(pending, RemoteError).value.code, 42)

    def test_more_descriptors_than_a_message_may_have(self) -> None:
        self.assertFatal(
            message(NUMBER, 1, 1, REPLY_WITH_FDS, 0, OK, b"\0\0\0\x21"),
            "Received too many FDs 33, expected 32 maximum",
        )

    def test_descriptors_announced_in_a_message_too_short_to_say_how_many(self) -> None:
        self.assertFatal(message(NUMBER, 1, 1, REPLY_WITH_FDS, 0, OK, b"\0\0"), "number of file descriptors")


class Unasked(_Case):
    """Messages that belong to no call."""

    def assertIgnored(self, data: bytes, level: LogLevel | None = None, text: str = "") -> None:
        with capturedLogs() as captured:
            self.assertEqual(self.session.send(data), [])
        self.assertGoesOn()
        if level is not None:
            said = [formatEvent(each) for each in captured if each["log_level"] == level]
            self.assertTrue(any(text in each for each in said), said)

    def test_an_event_nobody_registered_for(self) -> None:
        self.assertIgnored(
            message(NUMBER, 1, 0x65, MESSAGE, 1, OK), LogLevel.debug, "No event expected with procedure 0x65"
        )

    def test_R017_an_event_of_a_program_nobody_knows(self) -> None:
        self.assertIgnored(message(0x1234, 9, 1, MESSAGE, 1, OK))

    def test_R017_even_many(self) -> None:
        self.assertIgnored(message(0x1234, 9, 1, MESSAGE, 1, OK) * 1000)

    def test_an_event_that_does_not_decode(self) -> None:
        heard: list[str] = []
        self.session.client.subscribe(ECHO.eventsByName["said"], heard.append)
        self.assertIgnored(message(NUMBER, 1, 100, MESSAGE, 1, OK, b"\0\0\0\x09x"), LogLevel.warn, "said")
        self.assertIgnored(message(NUMBER, 1, 100, MESSAGE, 1, OK, b"\0\0\0\x01x\0\0\0"))
        self.assertEqual(heard, ["x"])

    def test_an_event_with_another_status(self) -> None:
        heard: list[str] = []
        self.session.client.subscribe(ECHO.eventsByName["said"], heard.append)
        for status in (ERROR, CONTINUE, 77):
            self.assertIgnored(
                message(NUMBER, 1, 100, MESSAGE, 1, status, b"\0\0\0\x01x\0\0\0"),
                LogLevel.debug,
                f"event with status {status}",
            )
        self.assertEqual(heard, [])

    def test_the_serial_of_an_event_means_nothing(self) -> None:
        heard: list[str] = []
        self.session.client.subscribe(ECHO.eventsByName["said"], heard.append)
        for serial in (0, 1, self.call.serial, 0xFFFFFFFF):
            self.session.send(message(NUMBER, 1, 100, MESSAGE, serial, OK, b"\0\0\0\x01x\0\0\0"))
        self.assertEqual(heard, ["x"] * 4)
        self.assertGoesOn()

    def test_R064_packets_of_a_stream_nobody_has(self) -> None:
        for type in (STREAM, STREAM_HOLE):
            for status in (OK, ERROR, CONTINUE, 77):
                self.assertIgnored(message(NUMBER, 1, 1, type, 0, status, b"data"))

    def test_calls(self) -> None:
        for type, payload in ((CALL, b""), (CALL_WITH_FDS, bytes(4))):
            self.setUp()
            self.assertFatal(
                message(NUMBER, 1, 3, type, 5, OK, payload),
                f"got unexpected RPC call prog {NUMBER} vers 1 proc 3 type {type}",
            )

    def test_types_nobody_knows(self) -> None:
        for type in (7, 9, -1, 0x7FFFFFFF, 0x105):
            self.setUp()
            self.assertFatal(
                message(NUMBER, 1, 3, type, 5, OK),
                f"got unexpected RPC call prog {NUMBER} vers 1 proc 3 type {type}",
            )

    def test_ping_is_answered_by_pong(self) -> None:
        keep = 0x6B656570
        (pong,) = self.session.send(message(keep, 1, 1, MESSAGE, 0, OK))
        self.assertEqual(pong, Message(28, keep, 1, 2, MESSAGE, 0, OK, b""))
        self.assertGoesOn()

    def test_pong_and_what_else_the_keepalive_program_may_say(self) -> None:
        for version, procedure in ((1, 2), (1, 3), (1, -1), (2, 1)):
            self.assertIgnored(message(0x6B656570, version, procedure, MESSAGE, 0, OK))


class Lengths(_Case):
    """The length word is judged as a server judges it."""

    def test_R001_too_small(self) -> None:
        for length in range(4):
            self.setUp()
            self.assertFatal(length.to_bytes(4, "big"), f"packet {length} bytes received too small, want 4")

    def test_R046_without_a_header(self) -> None:
        self.assertFatal(b"\0\0\0\x04", "packet without a header received")

    def test_a_header_too_short_when_it_has_come(self) -> None:
        self.session.send(b"\0\0\0\x1b" + bytes(22))
        self.assertNoResult(self.pending)
        self.assertFatal(b"\0", "Unable to decode message header")

    def test_R002_too_large(self) -> None:
        self.assertFatal(
            (MESSAGE_MAX + 5).to_bytes(4, "big"), "packet 33554433 bytes received too large, want 33554432"
        )

    def test_what_came_before_is_still_delivered(self) -> None:
        with capturedLogs():
            self.session.send(
                message(NUMBER, 1, 1, REPLY, self.call.serial, OK), bytes(4), b"and what comes after is not"
            )
        self.successResultOf(self.pending)
        self.assertTrue(self.session.closed)


class Ends(_Case):
    """The connection ends."""

    def test_R055_the_next_call_says_why(self) -> None:
        self.session.transport.abortConnection()
        self.session.flush()
        pending = str(self.failureResultOf(self.pending, ConnectionLost).value)
        later = str(self.assertRaises(ConnectionLost, self.echo.ping))
        self.assertEqual(later, pending)

    def test_nothing_that_was_received_in_time_is_lost(self) -> None:
        self.session.transport.write(message(NUMBER, 1, 1, REPLY, self.call.serial, OK))
        self.session.lose()
        self.successResultOf(self.pending)

    def test_byte_by_byte(self) -> None:
        self.session = ClientSession(readSize=1)
        self.echo = self.session.client.program(ECHO)
        pending = self.echo.echo("x")
        (call,) = self.session.flush()
        self.session.reply(call, b"\0\0\0\x06slowly\0\0")
        self.assertEqual(self.successResultOf(pending), "slowly")
