"""A host in memory, a server by script, a recorder: what they promise to the tests of others."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from virnet.client import connect
from virnet.client.transfer import TransferError
from virnet.errorcodes import ErrorNumber
from virnet.errors import CallTimedOut, ConnectionLost, RemoteError, RemoteProtocolError
from virnet.programs.values import Domain
from virnet.server import ServerProgram
from virnet.testing import (
    LATER,
    MemoryEndpoint,
    MemoryHost,
    Recorded,
    Recorder,
    ScriptedServer,
    connectedPair,
)


class Hosts(SynchronousTestCase):
    """L{MemoryHost}"""

    def setUp(self) -> None:
        self.host = MemoryHost()
        self.addCleanup(self.host.close)

    def test_it_is_a_hypervisor_at_once(self) -> None:
        connection = self.host.connect()
        self.assertEqual([each.name for each in self.host.run(connection.domains())], ["test"])

    def test_each_host_is_a_world_of_its_own(self) -> None:
        other = MemoryHost()
        self.addCleanup(other.close)
        self.host.run(self.host.run(self.host.connect().domain("test")).destroy())
        self.assertTrue(other.run(other.run(other.connect().domain("test")).isActive()))

    def test_what_stands_in_a_traceback(self) -> None:
        connection, service = self.host.connect(), self.host.service()
        self.assertEqual(repr(connection), "<Connection test:///default>")
        self.assertEqual(repr(service), "<ConnectionService test:///default, connected>")
        self.host.endpoint.refusing = True
        self.host.disconnect()
        self.assertEqual(repr(service), "<ConnectionService test:///default, not connected>")
        self.host.run(service.stopService())
        self.assertEqual(repr(service), "<ConnectionService test:///default, not running>")

    def test_connections_share_it(self) -> None:
        first, second = self.host.connect(), self.host.connect(readonly=True)
        self.host.run(self.host.run(first.domain("test")).destroy())
        domain = self.host.run(second.domain("test"))
        self.assertFalse(self.host.run(domain.isActive()))
        self.assertRaises(RemoteError, self.host.run, domain.start())

    def test_calls_are_recorded_but_not_those_of_opening(self) -> None:
        connection = self.host.connect()
        domain = self.host.run(connection.domain("test"))
        self.host.run(domain.setMemory(1024))
        self.assertEqual(self.host.recorder.calls[0], Recorded("domainLookupByName", ("test",)))
        self.assertEqual(self.host.recorder.calls[1].args[1], 1024)

    def test_calls_fail_on_demand(self) -> None:
        connection = self.host.connect()
        domain = self.host.run(connection.domain("test"))
        answers = self.host.recorder.answers
        answers["domainDestroy"] = RemoteError.of(ErrorNumber.OPERATION_FAILED, "it clings to life")
        error = self.assertRaises(RemoteError, self.host.run, domain.destroy())
        self.assertEqual(error.code, ErrorNumber.OPERATION_FAILED)
        del answers["domainDestroy"]
        self.host.run(domain.destroy())

    def test_an_answer_to_a_call_that_does_not_exist_is_refused(self) -> None:
        with self.assertRaises(ValueError) as caught:
            self.host.recorder.answers["destroy"] = None
        self.assertIn("no procedure is called 'destroy'; is it domainDestroy or ", str(caught.exception))
        with self.assertRaises(ValueError) as caught:
            self.host.recorder.answers["spam"] = None
        self.assertEqual(str(caught.exception), "no procedure is called 'spam'")

    def test_an_answer_that_the_procedure_cannot_have_says_so(self) -> None:
        connection = self.host.connect()
        self.host.recorder.answers["connectGetHostname"] = 7
        error = self.assertRaises(RemoteError, self.host.run, connection.hostname())
        self.assertIn("answers['connectGetHostname'] does not fit: ret: str expected, got int", str(error))

    def test_calls_stall_on_demand(self) -> None:
        service = self.host.service(callTimeout=30)
        domain = self.host.run(service.domain("test"))
        self.host.recorder.answers["domainDestroy"] = lambda dom: Deferred()
        error = self.assertRaises(CallTimedOut, self.host.run, domain.destroy())
        self.assertIs(error.mayHaveRun, True)
        self.assertEqual(self.host.clock.seconds(), 30)

    def test_it_crashes_on_demand(self) -> None:
        connection = self.host.connect()
        self.host.disconnect()
        self.assertRaises(ConnectionLost, connection.hostname)

    def test_it_is_down_on_demand(self) -> None:
        self.host.endpoint.refusing = True
        self.assertRaises(ConnectionLost, self.host.connect)
        service = self.host.service()
        self.host.clock.advance(100)
        self.host.endpoint.refusing = False
        self.host.run(service.whenConnected())
        self.assertTrue(self.host.endpoint.attempts > 3)

    def test_time_passes_when_something_waits_for_it(self) -> None:
        self.host.run(deferLater(self.host.clock, 300))
        self.assertEqual(self.host.clock.seconds(), 300)

    def test_what_is_never_done_is_not_waited_for(self) -> None:
        error = self.assertRaises(AssertionError, self.host.run, Deferred())
        self.assertTrue(str(error).startswith("nothing is left to finish it: "))
        error = self.assertRaises(AssertionError, self.host.run, deferLater(self.host.clock, 601))
        self.assertTrue(str(error).startswith("not done after 600 seconds: "))
        connection = self.host.connect()
        self.host.recorder.answers["connectGetHostname"] = Deferred()
        error = self.assertRaises(AssertionError, self.host.run, connection.hostname())
        self.assertTrue(str(error).endswith("; the last call was connectGetHostname"))

    def test_volumes_have_contents(self) -> None:
        pool = self.host.run(self.host.connect().pool("default-pool"))
        volume = self.host.run(
            pool.createVolume("<volume><name>v</name><capacity>600000</capacity></volume>")
        )
        content = bytes(range(200)) * 3000
        self.host.run(volume.upload(content))
        path = self.mktemp()
        self.host.run(volume.download(path))
        with open(path, "rb") as copy:
            self.assertEqual(copy.read(), content)
        error = self.assertRaises(TransferError, self.host.run, volume.download("/nowhere/at/all"))
        self.assertIn("/nowhere/at/all", str(error))

    def test_a_hypervisor_of_ones_own(self) -> None:
        class Mine:
            def open(self, name: str, readonly: bool, client: Any) -> Any:
                return self

            def connectGetHostname(self) -> str:
                return f"mine at {host.clock.seconds():g}"

        host = MemoryHost(Mine(), Clock())
        self.addCleanup(host.close)
        self.assertEqual(host.run(host.connect("any:///thing").hostname()), "mine at 0")


class Scripts(SynchronousTestCase):
    """L{ScriptedServer}"""

    def connect(self, **answers: Any) -> Any:
        """A connection to a new server."""
        self.clock = Clock()
        self.server = ScriptedServer(answers)
        self.endpoint = MemoryEndpoint(self.clock, lambda: self.server)
        opening = Deferred.fromCoroutine(connect(self.clock, "test:///default", endpoint=self.endpoint))
        self.clock.advance(0)
        return self.successResultOf(opening)

    def test_it_answers_as_it_is_told(self) -> None:
        refusal = RemoteError.of(ErrorNumber.NO_SUPPORT, "not today")
        remote = self.connect(
            connectGetHostname="web1",
            domainLookupByID=lambda id: Domain("d", b"u" * 16, id),
            connectGetVersion=refusal,
        ).remote
        calls = [remote.connectGetHostname(), remote.domainLookupByID(7), remote.connectGetVersion()]
        calls.append(remote.connectGetURI())
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(calls[0]), "web1")
        self.assertEqual(self.successResultOf(calls[1]).id, 7)
        self.assertIn("not today", str(self.failureResultOf(calls[2], RemoteError).value))
        self.assertIn("unknown procedure", str(self.failureResultOf(calls[3], RemoteError).value))
        self.assertEqual(self.server.names[-4:][:2], ["connectGetHostname", "domainLookupByID"])

    def test_it_answers_later_in_any_order(self) -> None:
        remote = self.connect(connectGetHostname=LATER, connectGetVersion=LATER).remote
        hostname, version = remote.connectGetHostname(), remote.connectGetVersion()
        self.clock.advance(0)
        self.server.reply(9, self.server.unanswered[1])
        self.server.refuse(RemoteError.of(ErrorNumber.NO_SUPPORT, "x"))
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(version), 9)
        self.failureResultOf(hostname, RemoteError)

    def test_events(self) -> None:
        connection = self.connect(connectDomainEventCallbackRegisterAny=5)
        heard: list[Any] = []
        subscribing = Deferred.fromCoroutine(connection.domainEvents.subscribe(1, heard.append))
        self.clock.advance(0)
        self.successResultOf(subscribing)
        self.server.emit("domainEventCallbackReboot", 5, (Domain("d", b"u" * 16, 1),))
        self.clock.advance(0)
        self.assertEqual([each.name for each in heard], ["d"])

    def test_it_lies(self) -> None:
        remote = self.connect(connectGetHostname=LATER).remote
        call = remote.connectGetHostname()
        self.server.sendBytes(bytes(4))
        self.clock.advance(0)
        self.failureResultOf(call, RemoteProtocolError)
        self.flushLoggedErrors()

    def test_it_falls_silent(self) -> None:
        connection = self.connect()
        ended = connection.whenClosed()
        self.clock.pump([5] * 6)
        self.assertNoResult(ended)
        self.server.deaf = True
        self.clock.pump([5] * 9)
        self.successResultOf(ended)

    def test_it_hangs_up_or_crashes(self) -> None:
        for how in ("hangUp", "crash"):
            ended = self.connect().whenClosed()
            getattr(self.server, how)()
            self.clock.advance(0)
            self.successResultOf(ended)
            self.assertIsNot(self.server.lost, None)

    def test_closing_in_order(self) -> None:
        closing = Deferred.fromCoroutine(self.connect().close())
        self.clock.advance(0)
        self.successResultOf(closing)
        self.assertEqual(self.server.names[-1], "connectClose")


class Recorders(SynchronousTestCase):
    """L{Recorder}, for a program of one's own."""

    def test_it_stands_in_front_of_any_provider(self) -> None:
        recorder = Recorder(lambda client: Echo())
        recorder.answers["add"] = lambda first, second: first * second
        pair = connectedPair([ServerProgram(ECHO, recorder)])
        echo = pair.client.program(ECHO)
        calls: list[Deferred[Any]] = [echo.echo("a"), echo.add(3, 4), echo.count([1])]
        pair.flush()
        self.assertEqual([self.successResultOf(each) for each in calls[:2]], ["a", 12])
        self.assertEqual(recorder.names[:2], ["echo", "add"])
        calls[2].addErrback(lambda _: None)
