"""A server by script: it answers as it is told, or not at all.

It is what an endpoint in memory connects to::

    server = ScriptedServer({"connectGetHostname": "web1", "domainCreate": LATER})
    endpoint = MemoryEndpoint(clock, lambda: server)

Whatever else it may do to a client: C{server.sendBytes(b"nonsense")}, C{server.hangUp()}, C{server.crash()},
C{server.deaf = True}.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.limits import MESSAGE_MIN
from virnet.programs import REMOTE
from virnet.programs.base import Procedure, Program
from virnet.testing.recorder import Recorded
from virnet.wire.framing import Framer
from virnet.wire.keepalive import PING_MESSAGE, PONG_MESSAGE
from virnet.wire.message import (
    CALL,
    ERROR,
    MESSAGE,
    OK,
    REPLY,
    MessageHeader,
    decodeHeader,
    encodeError,
    encodeMessage,
)

LATER = object()
"""The answer of a call that is not answered now, see L{ScriptedServer.unanswered}."""


class Unanswered(NamedTuple):
    """A call that waits for its answer."""

    procedure: Procedure
    args: tuple[Any, ...]
    serial: int


class ScriptedServer(Protocol):
    """One end of a connection, in the server's role.

    @ivar answers: procedure name to its answer: an exception is sent as an error, something callable is
        called with the arguments, L{LATER} is no answer, anything else is the result. What is not there is
        refused as unknown. A client can open a connection to begin with.
    @ivar calls: the calls that came, in order.
    @ivar unanswered: those that were answered with L{LATER}, for C{reply} and C{refuse}.
    @ivar deaf: it neither answers nor executes what comes, keepalive included.
    @ivar lost: why the connection ended; C{None} while it lasts.
    """

    def __init__(self, answers: dict[str, Any] | None = None, program: Program[Any, Any] = REMOTE) -> None:
        self.answers: dict[str, Any] = {
            "authList": [0],
            "connectOpen": None,
            "connectSupportsFeature": 1,
            "connectClose": None,
            **(answers or {}),
        }
        self.calls: list[Recorded] = []
        self.unanswered: list[Unanswered] = []
        self.deaf = False
        self.lost: Failure | None = None
        self._program = program
        self._framer = Framer()

    @property
    def names(self) -> list[str]:
        """The procedures that were called."""
        return [call.name for call in self.calls]

    def dataReceived(self, data: bytes) -> None:
        """Messages have come."""
        for message in self._framer.feed(data):
            if self.deaf:
                continue
            header = decodeHeader(message)
            if message == PING_MESSAGE:
                self.sendBytes(PONG_MESSAGE)
            elif header.type == CALL:
                self._called(header, message)

    def _called(self, header: MessageHeader, message: bytes) -> None:
        procedure = self._program.procedures[header.procedure]
        args = procedure.decodeArgs(message, MESSAGE_MIN)
        self.calls.append(Recorded(procedure.name, args))
        call = Unanswered(procedure, args, header.serial)
        self.unanswered.append(call)
        missing = RemoteError.of(ErrorNumber.RPC, f"unknown procedure: {header.procedure}", ErrorDomain.RPC)
        answer = self.answers.get(procedure.name, missing)
        if callable(answer):
            try:
                answer = answer(*args)
            except RemoteError as error:
                answer = error
        if answer is LATER:
            return
        if isinstance(answer, RemoteError):
            self.refuse(answer, call)
        else:
            self.reply(answer, call)
        if procedure.name == "connectClose":
            self.hangUp()

    def reply(self, result: Any = None, call: Unanswered | None = None) -> None:
        """Answer a call; unless it is given, the one that waits longest."""
        call = self._take(call)
        self._send(call.procedure, REPLY, call.serial, OK, call.procedure.encodeRet(result))

    def refuse(self, error: RemoteError, call: Unanswered | None = None) -> None:
        """Answer a call with an error; unless it is given, the one that waits longest."""
        call = self._take(call)
        self._send(call.procedure, REPLY, call.serial, ERROR, encodeError(error))

    def _take(self, call: Unanswered | None) -> Unanswered:
        taken = self.unanswered[0] if call is None else call
        self.unanswered.remove(taken)
        return taken

    def emit(self, event: str, *values: Any) -> None:
        """Send an event.

        @param event: its name, like C{domainEventCallbackLifecycle}.
        """
        procedure = self._program.eventsByName[event]
        self._send(procedure, MESSAGE, 1, OK, procedure.encodeArgs(values))

    def _send(self, procedure: Procedure, type: int, serial: int, status: int, payload: bytes) -> None:
        program = procedure.program
        self.sendBytes(
            encodeMessage(program.number, program.version, procedure.number, type, serial, status, payload)
        )

    def sendBytes(self, data: bytes) -> None:
        """Send anything at all."""
        assert self.transport is not None
        self.transport.write(data)

    def hangUp(self) -> None:
        """Close the connection in order."""
        assert self.transport is not None
        self.transport.loseConnection()

    def crash(self) -> None:
        """End the connection without a word."""
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is over."""
        self.lost = reason
