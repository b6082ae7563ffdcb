"""Connections over the standard input and output of programs."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.unix import Server
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.contracts.echo import EchoContract, Only
from tests.contracts.ends import MUCH, End, pattern, reactor
from tests.contracts.transport import SocketContract, TransportContract
from tests.openfiles import openAtRest, openDescriptors
from virnet.errors import LocalProtocolError
from virnet.transport.process import STDERR_MAX, CommandAddress, CommandEndpoint, CommandTransport
from virnet.transport.ssh import Command
from virnet.transport.writethrough import WriteThrough, senderFor

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


def shell(text: str) -> Command:
    """A command that is a line of shell."""
    return Command(("sh", "-c", text), ENVIRONMENT)


def isThere(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    return os.path.exists(f"/proc/{pid}")


class _Gone:
    """A program that is gone already, for transports without one."""

    def whenGone(self, gone: Callable[[], object], atOnce: bool) -> None:
        """It is."""
        gone()

    def reasonOf(self, reason: Failure) -> Failure:
        """It said nothing."""
        return reason


class _Pair(TransportContract):
    """The transport on one end of a pair of sockets, with nothing between it and the other."""

    async def connect(self, ours: End | None = None, theirs: End | None = None) -> tuple[End, End]:
        ours, theirs = ours or self.end(), theirs or self.kind()
        first, second = socket.socketpair()
        plain = socket.socket(socket.AF_UNSPEC, socket.SOCK_STREAM, 0, first.detach())
        child: Any = _Gone()
        second.setblocking(False)
        other = Server(second, theirs, None, None, 0, reactor)
        theirs.makeConnection(other)
        CommandTransport(plain, reactor, child, CommandAddress(("none",), 0)).start(ours)
        return ours, theirs


class Transport(_Pair, SocketContract, TestCase):
    """The socket of a program holds the contract of sockets."""


class WriteThroughTransport(_Pair, SocketContract, TestCase):
    """And so does our sender on it."""

    sender = staticmethod(senderFor)


class R141_TCP(EchoContract, TestCase):
    """The contract of ways to a server, over TCP."""

    async def reach(self, died: bool = False) -> IStreamClientEndpoint:
        server = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        return TCP4ClientEndpoint(reactor, "127.0.0.1", (await self.listen(server, died)).port)


class R141_UNIX(EchoContract, TestCase):
    """The same over a UNIX socket."""

    async def reach(self, died: bool = False) -> IStreamClientEndpoint:
        return UNIXClientEndpoint(
            reactor, (await self.listen(UNIXServerEndpoint(reactor, self.mktemp()), died)).name
        )


class R141_Command(EchoContract, TestCase):
    """The same over a program that is the peer itself."""

    async def reach(self, died: bool = False) -> IStreamClientEndpoint:
        return CommandEndpoint(reactor, Command(("true" if died else "cat",), ENVIRONMENT))


class R141_CommandToSocket(EchoContract, TestCase):
    """The same over a program that leads to a UNIX socket."""

    async def reach(self, died: bool = False) -> IStreamClientEndpoint:
        path = self.mktemp()
        await self.listen(UNIXServerEndpoint(reactor, path), died)
        return CommandEndpoint(reactor, Command(("nc", "-N", "-U", path), ENVIRONMENT))


class _Case(TestCase):
    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]
        # A reactor has more descriptors while it runs.
        await deferLater(reactor, 0)
        self.before = openAtRest()

    async def connect(self, command: Command, end: End | None = None) -> End:
        """Start a program; it has to be gone when the test is."""
        end = end or End(senderFor)
        made: Any = await CommandEndpoint(reactor, command).connect(_one(end))
        self.assertIs(made, end)
        self.pid = end.out.getPeer().pid
        return end

    async def gone(self, end: End) -> Failure:
        """Wait for the end; then there is no process, not even a zombie, and no descriptor."""
        reason = await end.isLost()
        self.assertFalse(isThere(self.pid))
        self.assertEqual(openDescriptors(), self.before)
        return reason


def _one(end: End) -> Only:
    return Only(end)


class Ends(_Case):
    """How it ends, and what is told."""

    async def test_R136_what_it_says_is_the_reason(self) -> None:
        end = await self.connect(shell("echo '  Permission denied (publickey).  ' >&2; echo >&2; exit 255"))
        reason = await self.gone(end)
        self.assertIsInstance(reason.value, ConnectionLost)
        self.assertEqual(str(reason.value), "sh ended with exit status 255: Permission denied (publickey).")

    async def test_R136_also_when_it_says_it_after_it_hung_up(self) -> None:
        end = await self.connect(shell("exec <&- >&-; sleep 0.3; echo too bad >&2; exit 3"))
        self.assertEqual(str((await self.gone(end)).value), "sh ended with exit status 3: too bad")

    async def test_R136_also_when_writing_to_it_fails(self) -> None:
        end = await self.connect(shell("echo cannot >&2; exit 1"))
        end.out.pauseProducing()
        while end.lost is None:
            end.out.write(bytes(100000))
            await deferLater(reactor, 0.01)
        self.assertEqual(str((await self.gone(end)).value), "sh ended with exit status 1: cannot")

    async def test_R136_no_more_than_1024_bytes(self) -> None:
        end = await self.connect(shell("yes complaint | head -c 5000 >&2; exit 1"))
        text = str((await self.gone(end)).value)
        self.assertEqual(len(text.partition(": ")[2]), len(("complaint\n" * 200)[:STDERR_MAX].strip()))

    async def test_what_is_no_text_is_shown_all_the_same(self) -> None:
        end = await self.connect(shell("printf 'a\\377b' >&2; exit 1"))
        self.assertEqual(str((await self.gone(end)).value), "sh ended with exit status 1: a\\xffb")

    async def test_without_a_word(self) -> None:
        end = await self.connect(shell("exit 7"))
        self.assertEqual(str((await self.gone(end)).value), "sh ended with exit status 7")
        end = await self.connect(shell("kill -9 $$"))
        self.assertEqual(str((await self.gone(end)).value), "sh was ended by signal 9")

    async def test_words_without_failure(self) -> None:
        end = await self.connect(shell("echo hello; echo closing down >&2"))
        self.assertEqual(str((await self.gone(end)).value), "sh ended: closing down")
        self.assertEqual(end.received, b"hello\n")

    async def test_in_order(self) -> None:
        end = await self.connect(shell("echo hello"))
        (await self.gone(end)).trap(ConnectionDone)
        self.assertEqual(end.received, b"hello\n")

    async def test_by_us(self) -> None:
        end = await self.connect(shell("cat; echo ignored >&2; exit 4"))
        end.out.write(b"x")
        await end.has(1)
        end.out.loseConnection()
        (await self.gone(end)).trap(ConnectionDone)

    async def test_somebody_it_started_holds_its_standard_error(self) -> None:
        end = await self.connect(shell("sleep 20 <&- >&- & echo $! >&2; exit 1"))
        reason = await self.gone(end)
        os.kill(int(str(reason.value).rpartition(": ")[2]), signal.SIGKILL)


class R137(_Case):
    """It is ended and reaped on every path."""

    async def test_R137_when_the_connection_is_closed(self) -> None:
        end = await self.connect(Command(("cat",), ENVIRONMENT))
        end.out.loseConnection()
        await self.gone(end)

    async def test_R137_when_the_connection_is_aborted(self) -> None:
        end = await self.connect(shell("trap '' HUP; exec sleep 1000"))
        end.out.abortConnection()
        (await self.gone(end)).trap(ConnectionAborted)

    async def test_R137_when_it_does_not_end_by_itself(self) -> None:
        end = await self.connect(shell("exec sleep 1000"))
        end.out.loseConnection()
        await self.gone(end)

    async def test_R137_when_it_does_not_want_to_end(self) -> None:
        end = await self.connect(shell("trap '' TERM; echo; while :; do sleep 0.1; done 2>&-"))
        await end.has(1)
        end.out.abortConnection()
        await self.gone(end)

    async def test_R137_when_it_hangs_up_and_stays(self) -> None:
        end = await self.connect(shell("exec <&- >&- sleep 1000"))
        self.assertEqual(str((await self.gone(end)).value), "sh was ended by signal 15")

    async def test_R137_when_nobody_wants_the_connection(self) -> None:
        endpoint = CommandEndpoint(reactor, shell("echo $$; exec sleep 1000"))
        factory: Any = Factory()
        factory.buildProtocol = lambda addr: setattr(self, "pid", addr.pid)
        await self.assertFailure(endpoint.connect(factory), ConnectionDone)
        await _until(lambda: not isThere(self.pid) and openDescriptors() == self.before)

    async def test_R137_when_making_the_protocol_fails(self) -> None:
        def build(address: Any) -> Any:
            self.pid = address.pid
            raise ZeroDivisionError

        factory: Any = Factory()
        factory.buildProtocol = build
        endpoint = CommandEndpoint(reactor, shell("exec sleep 1000"))
        await self.assertFailure(endpoint.connect(factory), ZeroDivisionError)
        await _until(lambda: not isThere(self.pid) and openDescriptors() == self.before)

    async def test_R137_when_the_protocol_fails(self) -> None:
        end = End(senderFor)
        end.onData = lambda data: 1 // 0
        await self.connect(shell("echo x; exec sleep 1000"), end)
        (await self.gone(end)).trap(ConnectionLost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await deferLater(reactor, 0.01)


class Reactors(SynchronousTestCase):
    """What happens when the reactor stops, in a process of its own."""

    def script(self, body: str, command: str) -> str:
        """Run a reactor with a connection, C{end}; what it prints."""
        text = (
            "import os, sys\n"
            "from twisted.internet import reactor\n"
            "from tests.transport.test_process import CommandEndpoint, End, _one, isThere, senderFor, shell\n"
            "end = End(senderFor)\n"
            "def made(_):\n"
            "    global pid\n"
            "    pid = end.out.getPeer().pid\n"
            f"    {body}\n"
            "def start():\n"
            f"    started = CommandEndpoint(reactor, shell({command!r})).connect(_one(end))\n"
            "    started.addCallback(made).addErrback(lambda failure: (print(failure), reactor.stop()))\n"
            "reactor.callWhenRunning(start)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", text + self.RUN],
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            text=True,
            timeout=20,
        )
        return done.stdout + done.stderr

    RUN = "reactor.run()\nprint(isThere(pid), type(end.lost.value).__name__)\n"

    def test_R137_when_the_reactor_stops(self) -> None:
        for command in ("exec sleep 1000", "trap '' TERM; while :; do sleep 0.1; done"):
            printed = self.script("reactor.callLater(0.2, reactor.stop)", command)
            self.assertEqual(printed, "False CommandFailed\n")

    def test_R137_when_the_reactor_stops_while_it_is_waited_for(self) -> None:
        body = "end.out.loseConnection(); reactor.callLater(0.2, reactor.stop)"
        self.assertEqual(self.script(body, "exec sleep 1000"), "False ConnectionDone\n")

    def test_R137_when_the_reactor_handles_no_signals(self) -> None:
        body = "end.out.loseConnection(); reactor.callLater(1, reactor.stop)"
        self.RUN = self.RUN.replace("run()", "run(installSignalHandlers=False)")
        self.assertEqual(self.script(body, "exec cat"), "False ConnectionDone\n")


class Failures(_Case):
    """What goes wrong before there is a connection."""

    async def test_R062_nothing_is_left_when_descriptors_run_out_on_the_way(self) -> None:
        """Socket pair, pipe, whatever starting takes: each may be the first that is not to be had."""
        endpoint = CommandEndpoint(reactor, Command(("cat",), ENVIRONMENT))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(openDescriptors())
        filled = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest + 2 - len(openDescriptors()))]
        failed = 0
        try:
            for free in range(12):
                before = openAtRest()
                resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + free, hard))
                end = End(senderFor)
                try:
                    await endpoint.connect(_one(end))
                except OSError:
                    failed += 1
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                    self.assertEqual(openDescriptors(), before)
                else:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                    end.out.loseConnection()
                    await end.isLost()
                    self.assertEqual(openDescriptors(), before)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in filled:
                os.close(fd)
        self.assertGreater(failed, 1)

    async def test_a_program_that_cannot_be_run(self) -> None:
        path = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            file.write("#!/no/such/interpreter\n")
        os.chmod(path, 0o755)
        try:
            end = await self.connect(Command((path,), ENVIRONMENT))
        except OSError:
            self.assertEqual(openDescriptors(), self.before)
        else:
            self.assertIn(path, str((await self.gone(end)).value))


class Properties(_Case):
    """What kind of connection it is."""

    async def test_it_is_written_through_and_takes_no_descriptors(self) -> None:
        end = await self.connect(Command(("cat",), ENVIRONMENT))
        self.assertIsInstance(end.out, WriteThrough)
        self.assertFalse(end.out.carriesDescriptors)
        self.assertRaises(LocalProtocolError, end.out.send, b"x", [0])
        end.out.write(b"y")
        self.assertEqual(await end.has(1), b"y")
        self.assertEqual(str(end.out.getPeer()), f"cat pid {self.pid}")
        end.out.loseConnection()
        await self.gone(end)

    async def test_the_program_has_three_files_and_our_environment(self) -> None:
        command = shell("ls -m /proc/self/fd; readlink /proc/self/fd/0 /proc/self/fd/1; env")
        end = await self.connect(Command(command.argv, {**ENVIRONMENT, "X": "y"}))
        await self.gone(end)
        files, stdin, stdout, *environment = end.received.decode().split("\n")[:-1]
        self.assertEqual(files, "0, 1, 2, 3")
        # The shell adds one itself.
        self.assertEqual(
            {each for each in environment if not each.startswith("PWD=")},
            {"LC_ALL=C", "PATH=/usr/bin:/bin", "X=y"},
        )
        self.assertEqual(stdin, stdout)
        self.assertTrue(stdin.startswith("socket:"))

    async def test_much_both_ways(self) -> None:
        end = await self.connect(Command(("cat",), ENVIRONMENT))
        data = pattern(MUCH)
        end.out.write(data)
        self.assertTrue(await end.has(len(data)) == data)
        end.out.loseConnection()
        await self.gone(end)

    async def test_many_at_a_time(self) -> None:
        endpoint = CommandEndpoint(reactor, Command(("cat",), ENVIRONMENT))
        ends = [End(senderFor) for _ in range(20)]
        for end in ends:
            await endpoint.connect(_one(end))
            end.out.write(b"x")
        for end in ends:
            await end.has(1)
            end.out.loseConnection()
        for end in ends:
            await end.isLost()
        self.assertEqual(openDescriptors(), self.before)
