"""Calls of a client: in flight, answered, cancelled, lost; and the caller's mistakes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.echo import ECHO, TWIN, IEcho
from tests.peers import CALL, OK, REPLY, ClientSession, Message, message
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, LocalProtocolError, RemoteError, RemoteProtocolError, XDRError
from virnet.limits import PAYLOAD_MAX
from virnet.programs import QEMU, REMOTE


def text(value: str) -> bytes:
    """A result of C{echo}."""
    return ECHO.byName["echo"].encodeRet(value)


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.session = ClientSession()
        self.client = self.session.client
        self.echo = self.client.program(ECHO)

    def sent(self) -> list[Message]:
        """What reached the server since the last time."""
        return self.session.flush()


class InFlight(_Case):
    """Any number of calls at a time."""

    def test_a_call_goes_out_and_its_reply_comes_back(self) -> None:
        result = self.echo.echo("hello")
        (call,) = self.sent()
        self.assertEqual(call, (40, ECHO.number, 1, 2, CALL, 0, OK, b"\0\0\0\x05hello\0\0\0"))
        self.assertNoResult(result)
        self.session.reply(call, text("world"))
        self.assertEqual(self.successResultOf(result), "world")

    def test_R025_neither_arguments_nor_result(self) -> None:
        result = self.echo.ping()
        (call,) = self.sent()
        self.assertEqual((call.length, call.payload), (28, b""))
        self.session.reply(call)
        self.assertIs(self.successResultOf(result), None)

    def test_replies_come_in_any_order(self) -> None:
        results = [self.echo.echo(each) for each in "abc"]
        calls = self.sent()
        self.assertEqual([each.serial for each in calls], [0, 1, 2])
        for i in (1, 2, 0):
            self.assertNoResult(results[i])
            self.session.reply(calls[i], text("ABC"[i]))
            self.assertEqual(self.successResultOf(results[i]), "ABC"[i])

    def test_R058_a_reply_with_others_behind_it_completes_each(self) -> None:
        results = [self.echo.echo(each) for each in "abc"]
        self.session.send(
            *[
                message(call.program, 1, call.procedure, REPLY, call.serial, OK, text(str(call.serial)))
                for call in self.sent()
            ]
        )
        self.assertEqual([self.successResultOf(each) for each in results], ["0", "1", "2"])

    def test_R028_programs_share_the_serials(self) -> None:
        twin = self.client.program(TWIN)
        results = [self.echo.echo("a"), twin.echo("b"), self.echo.echo("c")]
        calls = self.sent()
        self.assertEqual([each.serial for each in calls], [0, 1, 2])
        self.assertEqual([each.program for each in calls], [ECHO.number, TWIN.number, ECHO.number])
        for call, result in zip(calls, results, strict=True):
            self.session.reply(call, text("same"))
            self.assertEqual(self.successResultOf(result), "same")

    def test_R028_the_qemu_program_is_called_like_the_main_one(self) -> None:
        opened = self.client.program(REMOTE).connectOpen("qemu:///system", 0)
        attached = self.client.program(QEMU).domainQemuAttach(4711, 0)
        first, second = self.sent()
        self.assertEqual((first.program, first.procedure, first.serial), (0x20008086, 1, 0))
        self.assertEqual((second.program, second.procedure, second.serial), (0x20008087, 2, 1))
        self.session.replyError(
            second, RemoteError.of(ErrorNumber.RPC, "unknown procedure: 2", ErrorDomain.RPC)
        )
        self.assertEqual(self.failureResultOf(attached, RemoteError).value.code, ErrorNumber.NO_SUPPORT)
        self.session.reply(first)
        self.successResultOf(opened)

    def test_a_call_made_while_a_reply_is_handled(self) -> None:
        async def both() -> str:
            return await self.echo.echo("a") + await self.echo.echo("b")

        result = Deferred.fromCoroutine(both())
        (first,) = self.sent()
        (second,) = self.session.reply(first, text("1"))
        self.session.reply(second, text("2"))
        self.assertEqual(self.successResultOf(result), "12")

    def test_a_callback_that_fails_hurts_nobody_else(self) -> None:
        def fail(_: str) -> None:
            raise KeyError("a bug in the application")

        failed = self.echo.echo("a").addCallback(fail)
        other = self.echo.echo("b")
        for call in self.sent():
            self.session.reply(call, text("x"))
        self.failureResultOf(failed, KeyError)
        self.assertEqual(self.successResultOf(other), "x")

    def test_it_provides_the_programs_interface(self) -> None:
        self.assertTrue(IEcho.providedBy(self.echo))
        self.assertTrue(verifyObject(IEcho, self.echo))
        self.assertIs(self.client.program(ECHO), self.echo)


class Errors(_Case):
    """What the server refuses."""

    def test_the_error_has_every_field(self) -> None:
        result = self.echo.ping()
        (call,) = self.sent()
        self.session.replyError(
            call, RemoteError.of(ErrorNumber.NO_DOMAIN, "no domain 'x'", ErrorDomain.TEST)
        )
        error = self.failureResultOf(result, RemoteError).value
        self.assertIs(error.code, ErrorNumber.NO_DOMAIN)
        self.assertIs(error.domain, ErrorDomain.TEST)
        self.assertEqual(str(error), "Domain not found: no domain 'x'")
        self.assertEqual((error.str1, error.str2), ("Domain not found: %s", "no domain 'x'"))
        self.assertEqual((error.int1, error.int2), (-1, -1))

    def test_R018_unknown_procedure_is_no_support(self) -> None:
        result = self.echo.ping()
        (call,) = self.sent()
        self.session.replyError(call, RemoteError.of(39, "unknown procedure: 1", 7))
        self.assertEqual(self.failureResultOf(result, RemoteError).value.code, ErrorNumber.NO_SUPPORT)

    def test_the_connection_stays(self) -> None:
        self.test_the_error_has_every_field()
        result = self.echo.ping()
        (call,) = self.sent()
        self.session.reply(call)
        self.successResultOf(result)


class Mistakes(_Case):
    """What a caller does wrong is raised at the call, and nothing is sent."""

    def assertRefused(self, error: type[Exception], wanted: str, *args: Any, **keywords: Any) -> None:
        raised = self.assertRaises(error, self.method, *args, **keywords)
        self.assertEqual(str(raised), wanted)
        self.assertEqual(self.sent(), [])
        result = self.echo.ping()
        (call,) = self.sent()
        self.session.reply(call)
        self.successResultOf(result)

    def test_a_value_that_does_not_fit_its_type(self) -> None:
        self.method: Any = self.echo.add
        self.assertRefused(
            XDRError, "args.second: int must be between -2147483648 and 2147483647, not 2147483648", 1, 2**31
        )

    def test_a_value_of_another_type(self) -> None:
        self.method = self.echo.echo
        raised = self.assertRaises(XDRError, self.method, 5)
        self.assertIn("args.text", str(raised))
        self.assertEqual(self.sent(), [])

    def test_a_string_too_long(self) -> None:
        self.method = self.echo.echo
        self.assertRefused(XDRError, "args.text: string of 4194305 bytes exceeds 4194304", "x" * 4194305)

    def test_arguments_too_large_for_a_message(self) -> None:
        self.method = self.echo.blob
        self.assertRefused(
            LocalProtocolError,
            "message of 33554436 bytes is too long to send, the maximum is 33554432",
            bytes(PAYLOAD_MAX),
        )

    def test_the_largest_that_fits_is_sent(self) -> None:
        self.echo.blob(bytes(PAYLOAD_MAX - 4))
        (call,) = self.sent()
        self.assertEqual(call.length, 33554436)

    def test_a_missing_argument(self) -> None:
        self.method = self.echo.add
        self.assertRefused(TypeError, "add(first, second): argument 'second' is missing", 1)

    def test_an_argument_too_many(self) -> None:
        self.method = self.echo.add
        self.assertRefused(TypeError, "add(first, second) takes 2 arguments, got 3", 1, 2, 3)

    def test_an_unknown_argument(self) -> None:
        self.method = self.echo.add
        self.assertRefused(TypeError, "add(first, second): argument 'third' is unknown", 1, 2, third=3)

    def test_an_argument_given_twice(self) -> None:
        self.method = self.echo.add
        self.assertRefused(TypeError, "add(first, second): argument 'first' is given twice", 1, 2, first=3)

    def test_arguments_by_name_and_flags_left_out(self) -> None:
        self.echo.add(second=2, first=1)
        find: Any = self.echo.find
        find("x")
        find(name=None)
        add, found, notNamed = self.sent()
        self.assertEqual(add.payload, b"\0\0\0\x01\0\0\0\x02")
        self.assertEqual(found.payload, b"\0\0\0\x01\0\0\0\x01x\0\0\0\0\0\0\0")
        self.assertEqual(notNamed.payload, bytes(8))

    def test_a_procedure_the_program_does_not_have(self) -> None:
        self.assertFalse(hasattr(self.echo, "nothing"))

    def test_events_cannot_be_called(self) -> None:
        self.assertFalse(hasattr(self.echo, "said"))


class Cancelling(_Case):
    """A call whose Deferred is cancelled is forgotten here; the server may still execute it."""

    def test_the_late_reply_is_swallowed(self) -> None:
        cancelled, other = self.echo.echo("a"), self.echo.echo("b")
        first, second = self.sent()
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.assertEqual(self.sent(), [])
        self.session.reply(first, text("late"))
        self.assertFalse(self.session.closed)
        self.session.reply(second, text("in time"))
        self.assertEqual(self.successResultOf(other), "in time")

    def test_so_is_a_late_error_and_a_late_reply_that_makes_no_sense(self) -> None:
        for payload, status in ((text("x")[:3], OK), (b"", 1), (b"", 2)):
            cancelled = self.echo.echo("a")
            (call,) = self.sent()
            cancelled.cancel()
            self.failureResultOf(cancelled, CancelledError)
            self.session.reply(call, payload, status)
            self.assertFalse(self.session.closed)

    def test_its_serial_is_not_used_for_another_call(self) -> None:
        cancelled = self.echo.echo("a")
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.echo.echo("b")
        self.assertEqual([each.serial for each in self.sent()], [0, 1])

    def test_it_does_not_fail_again_when_the_connection_is_lost(self) -> None:
        cancelled = self.echo.echo("a")
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.session.lose()
        self.assertEqual(self.flushLoggedErrors(), [])


class Loss(_Case):
    """The connection ends: everything pending fails once, everything later at once."""

    def test_each_pending_call_fails_once_with_the_reason(self) -> None:
        failures: list[str] = []
        for each in "abc":
            self.echo.echo(each).addErrback(lambda failure: failures.append(str(failure.value)))
        self.session.flush()
        self.session.lose()
        self.assertEqual(failures, ["the connection to server was closed by the server"] * 3)
        self.session.flush()
        self.assertEqual(len(failures), 3)

    def test_an_unclean_end_says_what_it_was(self) -> None:
        result = self.echo.echo("a")
        self.session.transport.abortConnection()
        self.session.flush()
        error = self.failureResultOf(result, ConnectionLost).value
        self.assertIn("the connection to server was lost", str(error))

    def test_later_calls_fail_at_once_with_the_same_reason(self) -> None:
        self.session.lose()
        for _ in range(2):
            error = self.assertRaises(ConnectionLost, self.echo.echo, "later")
            self.assertEqual(str(error), "the connection to server was closed by the server")

    def test_a_mistake_is_still_a_mistake(self) -> None:
        self.session.lose()
        self.assertRaises(XDRError, self.echo.echo, 5)

    def test_a_call_made_while_the_failure_is_handled_fails_too(self) -> None:
        async def again() -> str:
            try:
                return await self.echo.echo("a")
            except ConnectionLost:
                return await self.echo.echo("b")

        result = Deferred.fromCoroutine(again())
        self.session.flush()
        self.session.lose()
        self.failureResultOf(result, ConnectionLost)

    def test_half_a_reply_is_no_reply(self) -> None:
        result = self.echo.echo("a")
        self.session.flush()
        self.session.send(b"\0\0\0\x28\x2e\xca")
        self.session.lose()
        self.failureResultOf(result, ConnectionLost)

    def test_closing_is_not_losing_and_says_so(self) -> None:
        result = self.echo.echo("a")
        closed = self.client.close()
        self.session.flush()
        for each in (self.failureResultOf(result, ConnectionLost).value, self.successResultOf(closed)):
            self.assertEqual(str(each), "the connection to server was closed by this client")
        self.assertTrue(self.session.closed)

    def test_R056_what_was_written_before_closing_arrives(self) -> None:
        pending = self.echo.echo("last words")
        self.client.close()
        (call,) = self.sent()
        self.assertEqual(call.payload, text("last words"))
        self.failureResultOf(pending, ConnectionLost)

    def test_the_end_can_be_waited_for_before_and_afterwards(self) -> None:
        before = self.client.whenClosed()
        self.assertNoResult(before)
        self.session.lose()
        self.assertIsInstance(self.successResultOf(before), ConnectionLost)
        self.assertIsInstance(self.successResultOf(self.client.whenClosed()), ConnectionLost)
        self.assertIsInstance(self.successResultOf(self.client.close()), ConnectionLost)

    def test_each_call_gets_an_exception_of_its_own(self) -> None:
        # One shared exception would collect the traceback of each that raises it.
        first, second = self.echo.echo("a"), self.echo.echo("b")
        self.session.flush()
        self.session.lose()
        self.assertIsNot(
            self.failureResultOf(first, ConnectionLost).value,
            self.failureResultOf(second, ConnectionLost).value,
        )

    def test_a_breach_of_the_protocol_is_the_reason_for_all(self) -> None:
        result = self.echo.echo("a")
        self.session.flush()
        self.session.send(bytes(4))
        error = self.failureResultOf(result, RemoteProtocolError).value
        self.assertEqual(str(error), "server broke the protocol: packet 0 bytes received too small, want 4")
        self.assertRaises(RemoteProtocolError, self.echo.echo, "later")
