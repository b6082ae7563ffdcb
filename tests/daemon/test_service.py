"""The daemon's start, all or nothing, and what it says."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import Logger, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import ServerSession, callNamed, served
from virnet.daemon.listening import Listener
from virnet.daemon.service import CannotStart, Daemon
from virnet.security.access import AllowAll, IAccessPolicy, RuleError, RuleFile
from virnet.security.saslcontext import SASLContext
from virnet.server.sasl import SASLAuthentication


class Port:
    """
    What an endpoint gives: it has an address and can be stopped.
    """

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 4711)

    def stopListening(self) -> Deferred[None]:
        return succeed(None)


class Endpoint:
    """
    Listens nowhere; makes its file, notes the umask, or fails as it is told.
    """

    def __init__(self, outcome: Any = None, path: Path | None = None) -> None:
        self.outcome = succeed(Port()) if outcome is None else outcome
        self.path = path
        self.umask: int | None = None

    def listen(self, factory: object) -> Deferred[Any]:
        self.umask = os.umask(0)
        os.umask(self.umask)
        if self.path is not None:
            self.path.touch()
        result: Deferred[Any] = self.outcome
        return result


class Reactor(Clock):
    """
    Runs when it is told to.
    """

    stopped = False

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        self.callLater(0, call)

    def stop(self) -> None:
        self.stopped = True


class DaemonCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.reactor = Reactor()
        self.stderr = io.StringIO()
        self.patch(sys, "__stderr__", self.stderr)

    def daemon(self, *endpoints: Endpoint) -> Daemon:
        listeners = [
            Listener(f"e{i}", each, path=None if each.path is None else str(each.path))  # type: ignore[arg-type]
            for i, each in enumerate(endpoints)
        ]
        return Daemon(self.reactor, [], listeners, minWorkers=0, prioWorkers=0)

    def started(self, daemon: Daemon) -> list[str]:
        """Start it and give the lines it logs."""
        with capturedLogs() as logged:
            daemon.startService()
            self.assertEqual([], logged)
            self.reactor.advance(0)
        self.addCleanup(daemon.stopService)
        return [formatEvent(each) for each in logged]


class Starting(DaemonCase):
    def test_says_how_to_connect(self) -> None:
        lines = self.started(self.daemon(Endpoint()))
        self.assertEqual(["listening, connect with: virsh -c test+tcp://127.0.0.1:4711/default"], lines)
        self.assertEqual("", self.stderr.getvalue())

    def test_says_that_everybody_on_the_network_may_do_everything(self) -> None:
        everywhere = Port()
        self.patch(everywhere, "getHost", lambda: IPv4Address("TCP", "0.0.0.0", 4711))

        def lines(readRules: Callable[[], IAccessPolicy] | None = None, **what: Any) -> list[str]:
            endpoint: Any = Endpoint(succeed(everywhere))
            listener = Listener(**{"text": "tcp:4711", "endpoint": endpoint, **what})
            daemon = Daemon(self.reactor, [], [listener], readRules, minWorkers=0, prioWorkers=0)
            return self.started(daemon)[1:]

        self.assertEqual(
            lines(),
            [
                "tcp:4711: other machines can connect, nobody is asked who it is, and nothing is encrypted:"
                " see --auth-tcp, --access-rules and libvirt-tls:PORT"
            ],
        )
        self.assertEqual([], lines(AllowAll))
        self.assertEqual([], lines(auth=SASLAuthentication(SASLContext(mechanisms=["EXTERNAL"]))))
        self.assertEqual([], lines(text="libvirt-tls:4711"))

    def test_says_it_when_it_is_true(self) -> None:
        outcome: Deferred[Any] = Deferred()
        self.assertEqual([], self.started(self.daemon(Endpoint(outcome))))
        with capturedLogs() as logged:
            outcome.callback(Port())
        self.assertEqual(1, len(logged))

    def test_binds_once_and_before_privileges_go(self) -> None:
        endpoint = Endpoint()
        daemon = self.daemon(endpoint)
        daemon.privilegedStartService()
        self.assertIsNotNone(endpoint.umask)
        endpoint.umask = None
        self.started(daemon)
        self.assertIsNone(endpoint.umask)

    def test_sockets_are_their_owners_from_the_first_moment(self) -> None:
        endpoint = Endpoint()
        before = os.umask(0o022)
        try:
            self.started(self.daemon(endpoint))
            self.assertEqual(0o022, os.umask(0o022))
        finally:
            os.umask(before)
        self.assertEqual(0o077, endpoint.umask)


class Groups(DaemonCase):
    """A socket's file is given to a group."""

    GROUP = 4711

    def setUp(self) -> None:
        super().setUp()
        self.given: list[tuple[str, int, int]] = []
        self.path = self.directory / "s"

    def start(self, chown: Callable[[str, int, int], None], mode: int | None = None) -> None:
        self.patch(os, "chown", chown)
        endpoint: Any = Endpoint(path=self.path)
        listener = Listener("e", endpoint, path=str(self.path), group=self.GROUP, mode=mode)
        Daemon(self.reactor, [], [listener], minWorkers=0, prioWorkers=0).privilegedStartService()

    def test_its_owner_stays(self) -> None:
        self.start(lambda path, uid, gid: self.given.append((path, uid, gid)))
        self.assertEqual([(str(self.path), -1, self.GROUP)], self.given)

    def test_not_everybody_may(self) -> None:
        def refuse(path: str, uid: int, gid: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.assertRaises(CannotStart, self.start, refuse)
        self.assertEqual(
            f"virnet: cannot give {self.path} to the group 4711: Operation not permitted\n",
            self.stderr.getvalue(),
        )
        self.assertFalse(self.path.exists())

    def test_the_group_it_was_made_with_has_no_part(self) -> None:
        def note(path: str, uid: int, gid: int) -> None:
            modes.append(os.stat(path).st_mode & 0o777)

        modes: list[int] = []
        self.start(note, 0o660)
        self.assertEqual([0o600], modes)
        self.assertEqual(0o660, os.stat(self.path).st_mode & 0o777)


class Rules(DaemonCase):
    """Access rules are read at the start and again when they shall be."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.directory / "rules"
        self.path.write_text("permit any ECHO:ping\n")
        read = partial(RuleFile.fromPath, self.path, [ECHO])
        self.running = Daemon(self.reactor, [served(ECHO, Echo())], [], read, minWorkers=0, prioWorkers=0)
        self.session = ServerSession(server=self.running)

    def test_they_hold_for_connections_that_are_there(self) -> None:
        for rules, status in (("permit any ECHO:ping", 0), ("deny any *", 1), ("permit any *", 0)):
            self.path.write_text(rules)
            with capturedLogs() as logged:
                self.running.reload()
            self.assertEqual(["rules reloaded"], [formatEvent(each) for each in logged])
            (reply,) = self.session.send(callNamed(ECHO, "ping", 1))
            self.assertEqual(status, reply.status)

    def test_those_that_make_no_sense_change_nothing(self) -> None:
        self.path.write_text("permit")
        with capturedLogs() as logged:
            self.running.reload()
        self.assertEqual(
            [f"rules not reloaded: {self.path}:1: permit whom?"], [formatEvent(each) for each in logged]
        )
        (reply,) = self.session.send(callNamed(ECHO, "ping", 1))
        self.assertEqual(0, reply.status)

    def test_without_sense_there_is_no_start(self) -> None:
        self.path.write_text("permit")
        read = partial(RuleFile.fromPath, self.path, [ECHO])
        self.assertRaises(RuleError, Daemon, self.reactor, [], [], read)


class NotStarting(DaemonCase):
    """
    One line on standard error, and nothing is left.
    """

    inUse = CannotListenError("127.0.0.1", 1, OSError(98, "Address already in use"))

    def refused(self, why: str, *endpoints: Endpoint) -> None:
        error = self.assertRaises(CannotStart, self.daemon(*endpoints).privilegedStartService)
        self.assertEqual(1, error.code)
        self.assertEqual(f"virnet: {why}\n", self.stderr.getvalue())

    def failing(self, error: Exception) -> Endpoint:
        failed: Deferred[Any] = Deferred()
        failed.errback(Failure(error))
        return Endpoint(failed)

    def test_port_in_use(self) -> None:
        self.refused("cannot listen on e0: Address already in use", self.failing(self.inUse))

    def test_sockets_made_before_are_removed(self) -> None:
        path = self.directory / "s"
        self.refused(
            "cannot listen on e1: Address already in use", Endpoint(path=path), self.failing(self.inUse)
        )
        self.assertFalse(path.exists())

    def test_what_Twisted_does_not_wrap(self) -> None:
        self.refused(
            "cannot listen on e0: bind(): port must be 0-65535.",
            self.failing(OverflowError("bind(): port must be 0-65535.")),
        )

    def test_threads_do_not_hold_up_the_exit(self) -> None:
        listener = Listener("e", self.failing(self.inUse))  # type: ignore[arg-type]
        before = threading.active_count()
        self.assertRaises(CannotStart, Daemon(self.reactor, [], [listener], minWorkers=3).startService)
        self.assertEqual(before, threading.active_count())

    def test_an_endpoint_that_fails_later(self) -> None:
        outcome: Deferred[Any] = Deferred()
        self.started(self.daemon(Endpoint(outcome)))
        outcome.errback(self.inUse)
        self.assertTrue(self.reactor.stopped)
        self.assertEqual(1, len(self.flushLoggedErrors(CannotListenError)))

    def test_twistd_and_the_interpreter_both_know_the_exception(self) -> None:
        """
        C{twistd} removes its pid file for an C{Exception}; a C{SystemExit} ends without a traceback.
        """
        error = CannotStart("no", 2)
        self.assertIsInstance(error, Exception)
        self.assertIsInstance(error, SystemExit)
        self.assertEqual((2, "no"), (error.code, str(error)))

    def test_it_is_in_the_log_too(self) -> None:
        self.assertIsInstance(Daemon.log, Logger)
        with capturedLogs() as logged:
            self.refused("cannot listen on e0: Address already in use", self.failing(self.inUse))
        self.assertEqual(
            ["cannot listen on e0: Address already in use"], [formatEvent(each) for each in logged]
        )
