"""From a call to what answers it, and from what that does to the reply."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.echo import ECHO, TWIN, Echo
from tests.peers import ERROR, OK, Message, ServerSession, callNamed, message, served
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.programs import QEMU, REMOTE
from virnet.programs.base import IMethodSource, Procedure
from virnet.programs.constants import DomainXMLFlags
from virnet.programs.values import Domain
from virnet.server import NetServer, ServerClient, ServerProgram


class Silent(Exception):
    """Says nothing about itself."""


class Methods:
    """Answers calls with functions given by name."""

    def __init__(self, **methods: Callable[..., Any]) -> None:
        vars(self).update(methods)


def serving(**methods: Callable[..., Any]) -> ServerSession:
    """A session whose provider has these methods."""
    return ServerSession(served(ECHO, Methods(**methods)))


class ReadOnly(SynchronousTestCase):
    """Of a program whose table says what changes something, a read-only connection gets the rest."""

    def test_what_changes_something_is_not_called(self) -> None:
        called: list[int] = []

        def note(*args: Any) -> str:
            called.append(args[-1])
            return "text"

        provider = Methods(domainQemuMonitorCommand=note, domainGetXMLDesc=note)
        session = ServerSession(served(QEMU, provider), served(REMOTE, provider))
        dom = Domain("a", bytes(16), 1)
        calls = (
            callNamed(QEMU, "domainQemuMonitorCommand", 1, dom, "stop", 3),
            callNamed(REMOTE, "domainGetXMLDesc", 2, dom, 0),
            callNamed(REMOTE, "domainGetXMLDesc", 3, dom, DomainXMLFlags.SECURE),
        )
        for readonly, statuses in ((True, [ERROR, OK, ERROR]), (False, [OK, OK, OK])):
            session.client.readonly = readonly
            replies = session.send(*calls)
            self.assertEqual([each.status for each in replies], statuses)
            if readonly:
                text = "read only access prevents virDomainQemuMonitorCommand"
                self.assertEqual(replies[0].error[0], ErrorNumber.OPERATION_DENIED)
                self.assertIn(text, replies[0].error[2])
        self.assertEqual(called, [0, 3, 0, 1])


class Results(SynchronousTestCase):
    """What a method may return."""

    def echoed(self, method: Callable[[str], Any]) -> list[Message]:
        self.session = serving(echo=method)
        return self.session.send(callNamed(ECHO, "echo", 9, "hello"))

    def assertEchoed(self, replies: list[Message]) -> None:
        (reply,) = replies
        self.assertEqual(reply[1:], (ECHO.number, 1, 2, 1, 9, OK, b"\0\0\0\x05hello\0\0\0"))

    def test_a_value(self) -> None:
        self.assertEchoed(self.echoed(lambda text: text))

    def test_a_deferred_that_has_fired(self) -> None:
        self.assertEchoed(self.echoed(lambda text: succeed(text)))

    def test_a_deferred_that_fires_later(self) -> None:
        waiting: Deferred[str] = Deferred()
        self.assertEqual(self.echoed(lambda text: waiting), [])
        waiting.callback("hello")
        self.assertEchoed(self.session.flush())

    def test_a_coroutine(self) -> None:
        waiting: Deferred[str] = Deferred()

        async def echo(text: str) -> str:
            return text + await waiting

        self.assertEqual(self.echoed(echo), [])
        waiting.callback("")
        self.assertEchoed(self.session.flush())

    def test_inline_callbacks(self) -> None:
        @inlineCallbacks
        def echo(text: str) -> Generator[Deferred[str], str, str]:
            got = yield succeed(text)
            return got

        self.assertEchoed(self.echoed(echo))

    def test_R025_neither_arguments_nor_result(self) -> None:
        (reply,) = serving(ping=lambda: None).send(callNamed(ECHO, "ping", 1))
        self.assertEqual((reply.length, reply.status, reply.payload), (28, OK, b""))

    def test_optional_values_come_and_go_as_none(self) -> None:
        session = serving(find=lambda name, flags: name)
        for name in ("x", None):
            (reply,) = session.send(callNamed(ECHO, "find", 1, name, 0))
            self.assertEqual(ECHO.byName["find"].decodeRet(reply.payload), name)

    def test_arguments_come_by_position_in_the_order_of_the_wire(self) -> None:
        session = serving(add=lambda *args: args[0] - args[1])
        (reply,) = session.send(callNamed(ECHO, "add", 1, 5, 3))
        self.assertEqual(reply.payload, b"\0\0\0\x02")

    def test_calls_of_one_connection_run_side_by_side_and_are_answered_as_they_end(self) -> None:
        waiting: list[Deferred[str]] = []

        def echo(text: str) -> Deferred[str]:
            waiting.append(Deferred())
            return waiting[-1]

        session = serving(echo=echo)
        self.assertEqual(session.send(*[callNamed(ECHO, "echo", serial, "") for serial in (1, 2, 3)]), [])
        self.assertEqual(len(waiting), 3)
        for serial in (2, 3, 1):
            waiting[serial - 1].callback("")
            self.assertEqual([each.serial for each in session.flush()], [serial])


class Errors(SynchronousTestCase):
    """The error reply, field by field."""

    def failing(self, error: BaseException | Callable[[], Any]) -> Message:
        """Have a method fail and return the one reply that comes."""

        def echo(text: str) -> Any:
            if isinstance(error, BaseException):
                raise error
            return error()

        session = serving(echo=echo, ping=lambda: None)
        (reply,) = session.send(callNamed(ECHO, "echo", 3, ""))
        self.assertEqual(reply[1:7], (ECHO.number, 1, 2, 1, 3, ERROR))
        (alive,) = session.send(callNamed(ECHO, "ping", 4))
        self.assertEqual(alive.status, OK)
        return reply

    def test_an_ordinary_error(self) -> None:
        error = RemoteError.of(ErrorNumber.INTERNAL_ERROR, "X", ErrorDomain.TEST)
        self.assertEqual(
            self.failing(error).error,
            (1, 12, "internal error: X", 2, None, "internal error: %s", "X", None, -1, -1, None),
        )

    def test_a_system_error(self) -> None:
        text = "cannot open file '/x': No such file or directory"
        self.assertEqual(
            self.failing(RemoteError.ofSystem(2, text, ErrorDomain.STORAGE)).error,
            (38, 18, text, 2, None, "%s", text, None, 2, -1, None),
        )

    def test_an_error_without_detail(self) -> None:
        self.assertEqual(
            self.failing(RemoteError.of(ErrorNumber.NO_DOMAIN, None, ErrorDomain.TEST)).error,
            (42, 12, "Domain not found", 2, None, "Domain not found", None, None, -1, -1, None),
        )

    def test_failing_without_saying_why(self) -> None:
        self.assertEqual(
            self.failing(Silent()).error,
            (
                1,
                7,
                "Library function returned error but did not set virError",
                2,
                None,
                None,
                None,
                None,
                0,
                0,
                None,
            ),
        )
        self.assertEqual(len(self.flushLoggedErrors(Silent)), 1)

    def test_R021_no_earlier_error_leaks_into_it(self) -> None:
        errors: list[Exception] = [RemoteError.of(ErrorNumber.NO_DOMAIN, "the first"), Silent()]

        def ping() -> None:
            raise errors.pop(0)

        session = serving(ping=ping)
        first, second = session.send(callNamed(ECHO, "ping", 1), callNamed(ECHO, "ping", 2))
        self.assertEqual(first.error[0], 42)
        self.assertEqual(second.error[2], "Library function returned error but did not set virError")
        self.flushLoggedErrors(Silent)

    def test_an_exception_tells_the_peer_its_text_and_the_log_its_traceback(self) -> None:
        with capturedLogs() as captured:
            fields = self.failing(ZeroDivisionError("division by zero")).error
        self.assertEqual(fields[:2], (1, 7))
        self.assertIn("division by zero", fields[2])
        self.assertTrue(fields[2].startswith("internal error: "), fields[2])
        for text in (fields[2], fields[5], fields[6], fields[7]):
            self.assertNotIn("Traceback", text or "")
            self.assertNotIn(".py", text or "")
        (event,) = [each for each in captured if each["log_level"] == LogLevel.critical]
        self.assertIn("echo failed for client", formatEvent(event))
        self.assertIn("in echo", event["log_failure"].getTraceback())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_deferred_fails_like_a_raise(self) -> None:
        fields = self.failing(lambda: fail(RemoteError.of(ErrorNumber.NO_DOMAIN, "x"))).error
        self.assertEqual((fields[0], fields[2]), (42, "Domain not found: x"))
        fields = self.failing(lambda: fail(KeyError("lost"))).error
        self.assertEqual(fields[:2], (1, 7))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_a_coroutine_fails_like_a_raise(self) -> None:
        async def work() -> None:
            await succeed(None)
            raise RemoteError.of(ErrorNumber.NO_DOMAIN, "x")

        self.assertEqual(self.failing(work).error[2], "Domain not found: x")

    def test_cancelling_ones_own_deferred_is_a_failure_like_any(self) -> None:
        def work() -> Deferred[None]:
            waiting: Deferred[None] = Deferred()
            waiting.cancel()
            return waiting

        self.assertEqual(self.failing(work).error[:2], (1, 7))
        self.flushLoggedErrors()

    def test_an_unexpected_number_of_arguments_in_the_method_is_a_bug_not_a_hang(self) -> None:
        session = serving(echo=lambda: "takes none")
        (reply,) = session.send(callNamed(ECHO, "echo", 1, "x"))
        self.assertEqual(reply.error[:2], (1, 7))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_a_result_that_cannot_be_encoded_is_an_error(self) -> None:
        for result in (b"not text", 5, None, "x" * 4194305, "\ud800"):
            with capturedLogs():
                fields = self.failing(lambda: result).error  # noqa: B023 - used within the turn
            self.assertEqual(fields[:3], (39, 7, "Unable to encode message payload"))
            self.flushLoggedErrors()

    def test_a_result_larger_than_a_message_is_an_error(self) -> None:
        session = serving(blob=lambda data: bytes(33554432))
        with capturedLogs():
            (reply,) = session.send(callNamed(ECHO, "blob", 1, b""))
        self.assertEqual(reply.error[:3], (39, 7, "Unable to encode message payload"))
        self.flushLoggedErrors()

    def test_R013_a_text_beyond_the_string_limit_is_cut(self) -> None:
        fields = self.failing(RemoteError.of(ErrorNumber.INTERNAL_ERROR, "é" * 4194304)).error
        self.assertTrue(fields[2].startswith("internal error: ééé"))
        self.assertTrue(fields[2].endswith("é…"))
        self.assertTrue(len(fields[2].encode()) <= 4194304)

    def test_R013_an_error_that_cannot_be_encoded_is_replaced_by_one_that_can(self) -> None:
        for error in (
            RemoteError(1, "a lone surrogate: \ud800"),
            RemoteError(2**40, "no 32 bits"),
            RemoteError(1, "int1", int1=2**31),
            ValueError("a lone surrogate: \ud800"),
            RemoteError(1, "\ud800" * 4194305),
        ):
            with capturedLogs():
                fields = self.failing(error).error
            self.assertIn(fields[0], (1, 39))
            # The same must hold where the failure comes later.
            with capturedLogs():
                self.failing(lambda: fail(error))  # noqa: B023 - used within the turn
            self.flushLoggedErrors()


class Support(SynchronousTestCase):
    """What is not provided answers that it is not supported."""

    def test_a_method_the_provider_lacks(self) -> None:
        session = serving(ping=lambda: None)
        (reply,) = session.send(callNamed(ECHO, "echo", 1, ""))
        self.assertEqual(reply.error[0], ErrorNumber.NO_SUPPORT)
        self.assertEqual(reply.error[2], "this function is not supported by the connection driver: virEcho")
        (reply,) = session.send(callNamed(ECHO, "ping", 2))
        self.assertEqual(reply.status, OK)

    def test_arguments_are_judged_first(self) -> None:
        (reply,) = serving().send(message(ECHO.number, 1, 2, 0, 1, OK, b"\0"))
        self.assertEqual(reply.error[2], "Unable to decode message payload")

    def test_no_procedure_is_reached_by_a_private_or_foreign_name(self) -> None:
        # Only names in the program's table are looked up, whatever else the provider has.
        session = serving(secret=lambda: "never")
        (reply,) = session.send(message(ECHO.number, 1, 42, 0, 1, OK))
        self.assertEqual(reply.error[2], "unknown procedure: 42")


class Providers(SynchronousTestCase):
    """Who answers."""

    def test_one_provider_a_connection(self) -> None:
        made: list[ServerClient] = []

        def factory(client: ServerClient) -> Echo:
            made.append(client)
            return Echo()

        server = NetServer(Clock(), [ServerProgram(ECHO, factory)])
        first, second = ServerSession(server=server), ServerSession(server=server)
        for session in (first, second, first, second):
            session.send(callNamed(ECHO, "ping", 1))
        self.assertEqual(made, [first.client, second.client])

    def test_it_is_made_with_the_first_call_for_its_program(self) -> None:
        made: list[str] = []

        def factory(name: str, client: ServerClient) -> Echo:
            made.append(name)
            return Echo()

        session = ServerSession(
            ServerProgram(ECHO, partial(factory, "echo")), ServerProgram(TWIN, partial(factory, "twin"))
        )
        self.assertEqual(made, [])
        session.send(callNamed(TWIN, "echo", 1, "x"))
        self.assertEqual(made, ["twin"])

    def test_a_factory_that_fails_is_an_error_reply_each_time(self) -> None:
        def factory(client: ServerClient) -> Echo:
            raise RemoteError.of(ErrorNumber.OPERATION_DENIED, "not you")

        session = ServerSession(ServerProgram(ECHO, factory))
        for serial in (1, 2):
            (reply,) = session.send(callNamed(ECHO, "ping", serial))
            self.assertEqual(reply.error[2], "operation forbidden: not you")

    def test_of_several_providers_the_first_that_has_a_method_answers(self) -> None:
        first = Methods(echo=lambda text: "first")
        second = Methods(echo=lambda text: "second", add=lambda one, two: 2)
        session = ServerSession(ServerProgram(ECHO, lambda client: (first, second)))
        replies = session.send(
            callNamed(ECHO, "echo", 1, ""), callNamed(ECHO, "add", 2, 0, 0), callNamed(ECHO, "ping", 3)
        )
        self.assertEqual(replies[0].payload, b"\0\0\0\x05first\0\0\0")
        self.assertEqual(replies[1].payload, b"\0\0\0\x02")
        self.assertEqual(replies[2].error[0], ErrorNumber.NO_SUPPORT)

    def test_two_programs_on_one_connection(self) -> None:
        session = ServerSession(
            served(ECHO, Methods(echo=lambda text: "echo")), served(TWIN, Methods(echo=lambda text: "twin"))
        )
        one, two = session.send(callNamed(ECHO, "echo", 1, ""), callNamed(TWIN, "echo", 1, ""))
        self.assertEqual((one.program, one.payload[4:8]), (ECHO.number, b"echo"))
        self.assertEqual((two.program, two.payload[4:8]), (TWIN.number, b"twin"))

    def test_a_program_cannot_be_served_twice(self) -> None:
        twice = [served(ECHO, Echo()), served(ECHO, Echo())]
        error = self.assertRaises(ValueError, NetServer, Clock(), twice)
        self.assertEqual(str(error), "program 0x2eca0001 version 1 is served twice")


class MethodSources(SynchronousTestCase):
    """A provider that says itself what executes a procedure."""

    def test_it_is_asked_instead_of_its_attributes(self) -> None:
        @implementer(IMethodSource)
        class Source:
            def echo(self, text: str) -> str:
                raise AssertionError("not asked for")

            def methodFor(self, procedure: Procedure) -> Callable[..., Any] | None:
                return (lambda text: procedure.name) if procedure.name == "echo" else None

        session = ServerSession(served(ECHO, Source()))
        (reply,) = session.send(callNamed(ECHO, "echo", 1, ""))
        self.assertEqual(reply.payload, b"\0\0\0\x04echo")
        (reply,) = session.send(callNamed(ECHO, "ping", 2))
        self.assertEqual(reply.error[0], ErrorNumber.NO_SUPPORT)

    def test_R050_it_may_refuse_and_change_its_mind(self) -> None:
        @implementer(IMethodSource)
        class Gate:
            isOpen = False

            def methodFor(self, procedure: Procedure) -> Callable[..., Any]:
                if not self.isOpen:
                    raise RemoteError.of(
                        ErrorNumber.INTERNAL_ERROR, "hypervisor connection not open", ErrorDomain.RPC
                    )
                return lambda: None

        gate = Gate()
        session = ServerSession(served(ECHO, gate))
        (reply,) = session.send(callNamed(ECHO, "ping", 1))
        self.assertEqual(reply.error[:3], (1, 7, "internal error: hypervisor connection not open"))
        gate.isOpen = True
        (reply,) = session.send(callNamed(ECHO, "ping", 2))
        self.assertEqual(reply.status, OK)
