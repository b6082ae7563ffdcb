"""Events, the end of a connection, and what a provider may do about both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.echo import ECHO, TWIN, Echo
from tests.peers import OK, ServerSession, callNamed, message, served
from virnet.errors import XDRError
from virnet.server import IServerClient, NetServer, ServerClient, ServerProgram


class Closer(Echo):
    """C{ping} ends the connection after its reply; C{echo} is answered when the test says so."""

    def __init__(self, client: ServerClient) -> None:
        self.client = client
        self.waiting: list[Deferred[str]] = []

    def ping(self) -> Any:
        """What CONNECT_CLOSE does."""
        self.client.closeAfterReply()

    def echo(self, text: str) -> Any:
        """Wait."""
        self.waiting.append(Deferred())
        return self.waiting[-1]


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.providers: list[Closer] = []
        self.session = self.connect()

    def connect(self, server: NetServer | None = None) -> ServerSession:
        """One more client."""
        return ServerSession(ServerProgram(ECHO, self.provide), server=server)

    def provide(self, client: ServerClient) -> Closer:
        """The factory."""
        self.providers.append(Closer(client))
        return self.providers[-1]


class DelayedClose(_Case):
    """What CONNECT_CLOSE needs: the reply goes out, then the connection ends."""

    def test_R044_the_reply_is_delivered_before_the_end(self) -> None:
        (reply,) = self.session.send(callNamed(ECHO, "ping", 1))
        self.assertEqual((reply.serial, reply.status), (1, OK))
        self.assertTrue(self.session.closed)
        self.assertEqual(self.session.server.clients, {})

    def test_R044_a_reply_that_takes_its_time_is_waited_for(self) -> None:
        waiting: Deferred[None] = Deferred()

        class Slow(Closer):
            def ping(self) -> Any:
                self.client.closeAfterReply()
                return waiting

        session = ServerSession(ServerProgram(ECHO, Slow))
        self.assertEqual(session.send(callNamed(ECHO, "ping", 1)), [])
        self.assertFalse(session.closed)
        waiting.callback(None)
        (reply,) = session.flush()
        self.assertEqual(reply.status, OK)
        self.assertTrue(session.closed)

    def test_R044_a_refusal_is_delivered_too(self) -> None:
        class Refusing(Closer):
            def ping(self) -> None:
                self.client.closeAfterReply()
                raise ValueError("on the way out")

        session = ServerSession(ServerProgram(ECHO, Refusing))
        (reply,) = session.send(callNamed(ECHO, "ping", 1))
        self.assertEqual(reply.error[0], 1)
        self.assertTrue(session.closed)
        self.flushLoggedErrors(ValueError)

    def test_R044_other_calls_that_end_first_do_not_take_its_place(self) -> None:
        waiting: Deferred[None] = Deferred()
        providers: list[Closer] = []

        class Slow(Closer):
            def ping(self) -> Any:
                providers.append(self)
                self.client.closeAfterReply()
                return waiting

        session = ServerSession(ServerProgram(ECHO, Slow))
        session.send(callNamed(ECHO, "echo", 1, ""), callNamed(ECHO, "ping", 2))
        providers[0].waiting[0].callback("an older call")
        self.assertEqual([each.serial for each in session.flush()], [1])
        self.assertFalse(session.closed)
        waiting.callback(None)
        self.assertEqual([each.serial for each in session.flush()], [2])
        self.assertTrue(session.closed)

    def test_R045_calls_behind_it_are_not_executed(self) -> None:
        replies = self.session.send(
            callNamed(ECHO, "ping", 1), callNamed(ECHO, "echo", 2, ""), callNamed(ECHO, "add", 3, 1, 1)
        )
        self.assertEqual([each.serial for each in replies], [1])
        self.assertEqual(self.providers[0].waiting, [])
        self.assertTrue(self.session.closed)

    def test_R045_nor_is_anything_behind_it_answered(self) -> None:
        for behind in (
            message(ECHO.number, 1, 99, 0, 2, OK),
            message(0x1234, 1, 1, 0, 2, OK),
            message(0x6B656570, 1, 1, 2, 0, OK),
        ):
            self.setUp()
            replies = self.session.send(callNamed(ECHO, "ping", 1), behind, behind)
            self.assertEqual([each.serial for each in replies], [1])
            self.assertTrue(self.session.closed)

    def test_R045_nor_what_comes_while_the_reply_is_being_made(self) -> None:
        waiting: Deferred[None] = Deferred()

        class Slow(Closer):
            def ping(self) -> Any:
                self.client.closeAfterReply()
                return waiting

        session = ServerSession(ServerProgram(ECHO, Slow))
        session.send(callNamed(ECHO, "ping", 1))
        self.assertEqual(session.send(callNamed(ECHO, "add", 2, 1, 1), bytes(4)), [])
        self.assertFalse(session.closed)
        waiting.callback(None)
        self.assertEqual([each.serial for each in session.flush()], [1])
        self.assertTrue(session.closed)

    def test_R025_a_close_needs_no_special_case(self) -> None:
        # It is a procedure like any other, without arguments and without a result.
        procedure = ECHO.byName["ping"]
        self.assertEqual((procedure.args, procedure.ret), ((), None))
        self.assertEqual(procedure.encodeArgs(()), b"")
        self.assertEqual(procedure.encodeRet(None), b"")

    def test_events_are_not_sent_any_more(self) -> None:
        self.session.send(callNamed(ECHO, "add", 1, 1, 1))
        client = self.session.client
        client.closeAfterReply()
        client.events(ECHO).said("too late")
        self.assertEqual(self.session.flush(), [])


class Gone(_Case):
    """The connection ends while work is under way."""

    def test_R037_work_under_way_ends_in_its_own_time_and_its_reply_is_dropped(self) -> None:
        self.session.send(callNamed(ECHO, "echo", 1, ""))
        self.session.lose()
        self.providers[0].waiting[0].callback("nobody hears it")
        self.assertEqual(self.session.flush(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_R037_nor_does_its_failure_hurt(self) -> None:
        self.session.send(callNamed(ECHO, "echo", 1, ""), callNamed(ECHO, "echo", 2, ""))
        self.session.lose()
        first, second = self.providers[0].waiting
        first.errback(KeyError("late"))
        second.callback(5)  # type: ignore[arg-type]
        self.session.flush()
        self.flushLoggedErrors(KeyError)
        self.assertEqual(self.session.server.clients, {})

    def test_R038_fifty_clients_killed_while_their_calls_run(self) -> None:
        server = self.session.server
        sessions = [self.connect(server) for _ in range(50)]
        for session in sessions:
            session.send(callNamed(ECHO, "echo", 1, ""))
            session.transport.abortConnection()
        server.reactor.advance(0)
        for provider in self.providers:
            for waiting in provider.waiting:
                waiting.callback("done")
        server.reactor.advance(0)
        self.assertEqual(list(server.clients.values()), [self.session.client])
        (reply,) = self.session.send(callNamed(ECHO, "add", 1, 1, 1))
        self.assertEqual(reply.status, OK)

    def test_clean_up_runs_once_when_the_connection_is_gone(self) -> None:
        cleaned: list[str] = []
        self.session.client.onDisconnect(lambda: cleaned.append("first"))
        self.session.client.onDisconnect(lambda: cleaned.append("second"))
        self.session.lose()
        self.assertEqual(cleaned, ["first", "second"])

    def test_clean_up_asked_for_afterwards_runs_at_once(self) -> None:
        cleaned: list[str] = []
        self.session.lose()
        self.session.client.onDisconnect(lambda: cleaned.append("at once"))
        self.assertEqual(cleaned, ["at once"])

    def test_R020_clean_up_that_fails_does_not_keep_the_rest_from_running(self) -> None:
        cleaned: list[str] = []

        def fail() -> None:
            raise KeyError("clean-up")

        self.session.client.onDisconnect(fail)
        self.session.client.onDisconnect(lambda: cleaned.append("the rest"))
        self.session.lose()
        self.assertEqual(cleaned, ["the rest"])
        self.assertEqual(self.session.server.clients, {})
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_clean_up_runs_after_a_breach_of_the_protocol_too(self) -> None:
        cleaned: list[str] = []
        self.session.client.onDisconnect(lambda: cleaned.append("cleaned"))
        self.session.send(bytes(4))
        self.assertEqual(cleaned, ["cleaned"])

    def test_events_for_one_who_is_gone_are_dropped(self) -> None:
        self.session.lose()
        self.session.client.events(ECHO).said("nobody hears it")
        self.session.flush()

    def test_a_provider_may_close_at_once(self) -> None:
        class Rude(Closer):
            def ping(self) -> None:
                self.client.close()

        session = ServerSession(ServerProgram(ECHO, Rude))
        session.send(callNamed(ECHO, "ping", 1))
        self.assertTrue(session.closed)


class Events(_Case):
    """Messages that a server sends unasked."""

    def test_an_event_is_a_message_with_serial_1(self) -> None:
        self.session.client.events(ECHO).ended(5, "x")
        (event,) = self.session.flush()
        self.assertEqual(event, (40, ECHO.number, 1, 101, 2, 1, OK, b"\0\0\0\x05\0\0\0\x01x\0\0\0"))

    def test_it_may_be_sent_before_the_reply_to_the_call_that_causes_it(self) -> None:
        class Eager(Closer):
            def add(self, first: int, second: int) -> int:
                self.client.events(ECHO).said("adding")
                return first + second

        session = ServerSession(ServerProgram(ECHO, Eager))
        event, reply = session.send(callNamed(ECHO, "add", 1, 1, 1))
        self.assertEqual((event.type, reply.type), (2, 1))

    def test_values_that_do_not_fit_are_the_callers_mistake_and_nothing_is_sent(self) -> None:
        events = self.session.client.events(ECHO)
        send: Callable[..., None] = events.said
        for wrong in ((5,), ("x", "y"), (), ("x" * 4194305,)):
            self.assertRaises(XDRError, send, *wrong)
        self.assertEqual(self.session.flush(), [])

    def test_only_events_of_the_program_can_be_sent(self) -> None:
        events = self.session.client.events(ECHO)
        self.assertFalse(hasattr(events, "echo"))
        self.assertFalse(hasattr(self.session.client.events(TWIN), "said"))

    def test_they_go_to_the_one_client_they_are_for(self) -> None:
        other = self.connect(self.session.server)
        other.client.events(ECHO).said("to the other")
        self.assertEqual(self.session.flush(), [])
        self.assertEqual(len(other.flush()), 1)


class WhatAProviderSees(SynchronousTestCase):
    """The connection as the factory gets it."""

    def test_it_is_what_the_interface_says(self) -> None:
        self.assertTrue(verifyObject(IServerClient, ServerSession().client))

    def test_ids_count_from_one_in_each_server(self) -> None:
        for _ in range(2):
            server = NetServer(Clock(), [served(ECHO, Echo())])
            ids = [ServerSession(server=server).client.id for _ in range(3)]
            self.assertEqual(ids, [1, 2, 3])

    def test_the_other_side_in_words(self) -> None:
        self.assertEqual(ServerSession().client.peer, "client")

    def test_no_credentials_where_there_is_no_unix_socket(self) -> None:
        self.assertIs(ServerSession().client.credentials, None)
