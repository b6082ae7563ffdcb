"""A connection over the standard input and output of a program: ssh, or whatever a URI's C{command} names.

Rules:

  - Both are one socket of a pair, so that the connection is a socket like any other: written through, closed
    by halves. It carries no descriptors: what is behind the program is elsewhere.
  - What the program says on standard error is kept, L{STDERR_MAX} bytes of it, and is the reason that the
    protocol is told when the program hangs up (C: C{virNetSocketReadWire}).
  - The protocol is told that the connection is lost when the program is gone and reaped, not before. It has
    L{LINGER} seconds to go by itself when its socket closes, then is asked to (SIGTERM), as long again later
    made to (SIGKILL). After C{abortConnection} it is asked at once.
  - When the reactor stops, a program that still runs is ended and waited for, without further ado.
  - Whatever fails on the way leaves no program and no descriptor behind.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ProcessExitedAlready,
    ProcessTerminated,
)
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet.transport.ssh import Command

STDERR_MAX = 1024
"""Bytes of standard error that are kept; libvirt's figure."""

LINGER = 1.0
"""Seconds that a program has to end by itself."""

_LOOK = 0.05
_STOP = 0.5


class CommandFailed(ConnectionLost):
    """The program at the other end of a connection ended it; the text is what it said about that."""

    def __str__(self) -> str:
        return str(self.args[0])


@implementer(IAddress)
class CommandAddress:
    """Where a program's standard input and output are.

    @ivar argv: the program's words.
    @ivar pid: its process id.
    """

    def __init__(self, argv: tuple[str, ...], pid: int) -> None:
        self.argv = argv
        self.pid = pid

    def __str__(self) -> str:
        return f"{self.argv[0]} pid {self.pid}"


class Child(ProcessProtocol):
    """A program that runs.

    @ivar said: the beginning of what it wrote to standard error.
    @ivar ended: why it ended; C{None} while it runs, or its standard error is open.
    """

    def __init__(self, reactor: Any, argv: tuple[str, ...]) -> None:
        self._reactor = reactor
        self._argv = argv
        self._gone: Callable[[], object] | None = None
        self._timer: IDelayedCall | None = None
        self._since = 0.0
        self._exited = False
        self._signals = [signal.SIGTERM, signal.SIGKILL]
        self._trigger: Any = None
        self.said = b""
        self.ended: Failure | None = None

    @property
    def process(self) -> Any:
        """Twisted's process."""
        return self.transport

    def connectionMade(self) -> None:
        """It runs: Twisted calls this once."""
        self._trigger = self._reactor.addSystemEventTrigger("after", "shutdown", self._stopNow)

    def errReceived(self, data: bytes) -> None:
        """It complains."""
        self.said += data[: STDERR_MAX - len(self.said)]

    def processExited(self, reason: Failure) -> None:
        """It is reaped; whoever it started may still hold its standard error open."""
        self._exited = True
        if self._gone is not None:
            self._lookLater()

    def processEnded(self, reason: Failure) -> None:
        """It is reaped, and its standard error read to the end."""
        self.ended = reason
        self._stopLooking()
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
        self._tell()

    def whenGone(self, gone: Callable[[], object], atOnce: bool) -> None:
        """Nobody talks to it any more: see that it ends.

        @param gone: called when it has, in a later turn or in this one.
        @param atOnce: do not wait for it to end by itself.
        """
        self._gone = gone
        if self.ended is not None:
            self._tell()
            return
        if atOnce:
            self._signal()
        self._since = self._reactor.seconds()
        self._lookLater()

    def _tell(self) -> None:
        gone, self._gone = self._gone, None
        if gone is not None:
            gone()

    def _lookLater(self) -> None:
        self._stopLooking()
        self._timer = self._reactor.callLater(_LOOK, self._look)

    def _stopLooking(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _look(self) -> None:
        """Look after it: without signal handlers nobody tells that it ended."""
        self._timer = None
        if self._exited:
            # Somebody it started holds its standard error; what that says later is not about us.
            self.process.closeChildFD(2)
            return
        self.process.reapProcess()
        if self.ended is None:
            if self._reactor.seconds() - self._since >= LINGER:
                self._since = self._reactor.seconds()
                self._signal()
            self._lookLater()

    def _signal(self) -> None:
        """Ask it to end, and more firmly than the last time."""
        number = self._signals.pop(0) if len(self._signals) > 1 else self._signals[0]
        try:
            self.process.signalProcess(number)
        except ProcessExitedAlready:
            pass

    def _stopNow(self) -> None:
        """The reactor has stopped: nothing will be told later."""
        self._trigger = None
        self._stopLooking()
        for _ in range(2):
            self._signal()
            until = time.monotonic() + _STOP
            while self.process.pid is not None and time.monotonic() < until:
                self.process.reapProcess()
                time.sleep(0.01)
        self._stopLooking()
        self._tell()

    def reasonOf(self, reason: Failure) -> Failure:
        """Say why the connection ended that this program has ended.

        @param reason: what the socket says.
        """
        said = self.said.decode("utf-8", "backslashreplace").strip()
        how = ""
        if self.ended is not None and isinstance(self.ended.value, ProcessTerminated):
            ended = self.ended.value
            if ended.signal is not None:
                how = f"was ended by signal {ended.signal}"
            else:
                how = f"ended with exit status {ended.exitCode}"
        if not said and not how:
            return reason
        text = f"{self._argv[0]} {how or 'ended'}"
        return Failure(CommandFailed(f"{text}: {said}" if said else text))


class CommandTransport(Connection):
    """The socket that a program has for its standard input and output."""

    def __init__(self, sock: socket.socket, reactor: Any, child: Child, address: CommandAddress) -> None:
        """@param sock: connected; this object's from now on."""
        # Twisted tells it of the end of the socket; of that of the connection the real one is told.
        super().__init__(sock, Protocol(), reactor)
        self._child = child
        self._address = address
        self.logstr = f"command,{address.argv[0]}"

    def start(self, protocol: Any) -> None:
        """Connect the protocol."""
        self.protocol = protocol
        self.connected = True
        protocol.makeConnection(self)
        if self.connected and not self.disconnecting:
            cast(Any, self).startReading()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Has no meaning here."""

    def getHost(self) -> IAddress:
        """The program's."""
        return self._address

    def getPeer(self) -> IAddress:
        """The program's."""
        return self._address

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The socket is closed, or shall be: Twisted calls this once."""
        if not hasattr(self, "socket"):
            return
        protocol, self.protocol = self.protocol, Protocol()
        aborted = reason.check(ConnectionAborted) is not None
        ours = self.disconnecting or aborted
        super().connectionLost(reason)
        self._child.whenGone(partial(self._tell, protocol, reason, bool(ours)), aborted)

    def _tell(self, protocol: Any, reason: Failure, ours: bool) -> None:
        protocol.connectionLost(reason if ours else self._child.reasonOf(reason))


@implementer(IStreamClientEndpoint)
class CommandEndpoint:
    """Runs a program for each connection and talks to its standard input and output.

    @ivar command: what is run.
    """

    def __init__(self, reactor: Any, command: Command) -> None:
        """@param command: what to run.
        @raise URIError: there is no such program.
        """
        self._reactor = reactor
        self.command = command
        self._program = command.program()

    def __repr__(self) -> str:
        return f"<CommandEndpoint {' '.join(self.command.argv)}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Start the program.

        @return: fires when it was started; whether it leads anywhere is seen by talking. Fails with
            C{OSError} when it cannot be started.
        """
        try:
            return succeed(self._connect(cast(Factory, protocolFactory)))
        except Exception:
            return fail(Failure())

    def _connect(self, factory: Factory) -> Any:
        argv, environment, _ = self.command
        ours, theirs = socket.socketpair()
        child = Child(self._reactor, argv)
        try:
            with theirs:
                number = theirs.fileno()
                self._reactor.spawnProcess(
                    child,
                    self._program,
                    args=argv,
                    env=dict(environment),
                    path=None,
                    childFDs={0: number, 1: number, 2: "r"},
                )
        except BaseException:
            ours.close()
            raise
        address = CommandAddress(argv, child.process.pid)
        # Not known as a UNIX socket: what is behind the program takes no descriptors and has no credentials.
        plain = socket.socket(socket.AF_UNSPEC, socket.SOCK_STREAM, 0, ours.detach())
        transport = CommandTransport(plain, self._reactor, child, address)
        try:
            protocol = factory.buildProtocol(address)
            if protocol is None:
                raise ConnectionDone("the factory wants no connection")
        except BaseException:
            transport.protocol = Protocol()
            cast(Any, transport).abortConnection()
            raise
        transport.start(protocol)
        return protocol
