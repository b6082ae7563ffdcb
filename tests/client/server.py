"""A libvirt server by script: it answers calls of the main program as it is told, and records them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from tests.peers import CALL, ERROR, MESSAGE, OK, REPLY, Message, RawPeer, message
from virnet.client import Connection, connect
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.programs import REMOTE
from virnet.testing import MemoryAddress, StrictTransport, joined
from virnet.wire.message import encodeError

NUMBER = 0x20008086

URI = "test+unix:///default?socket=/s"

AUTH_LIST = 66
FEATURE = 60
OPEN = 1
CLOSE = 2

Answer = Callable[..., Any]
"""Called with a call's arguments; returns its result, raises L{RemoteError}, or returns L{LATER}."""

LATER = object()
"""The call is not answered now."""


def unknown(number: int) -> RemoteError:
    """What a server says that does not know a procedure."""
    return RemoteError.of(ErrorNumber.RPC, f"unknown procedure: {number}", ErrorDomain.RPC)


class ScriptedServer(RawPeer):
    """Answers calls.

    @ivar answers: procedure number to what answers it. What is not there is unknown.
    @ivar calls: number and arguments of the calls that came, in order.
    @ivar unanswered: the calls that were answered with L{LATER}.
    """

    transport: StrictTransport

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[int, Answer] = {
            AUTH_LIST: lambda: [0],
            FEATURE: lambda feature: 1,
            OPEN: lambda name, flags: None,
            CLOSE: lambda: None,
        }
        self.calls: list[tuple[int, tuple[Any, ...]]] = []
        self.serials: list[int] = []
        self.unanswered: list[Message] = []

    def dataReceived(self, data: bytes) -> None:
        """Answer what came: whole messages, as a client writes them."""
        super().dataReceived(data)
        for call in self.take():
            assert call.type == CALL, call
            procedure = REMOTE.procedures[call.procedure]
            args = procedure.decodeArgs(call.payload)
            self.calls.append((call.procedure, args))
            self.serials.append(call.serial)
            self._answer(call, args)

    def _answer(self, call: Message, args: tuple[Any, ...]) -> None:
        answer = self.answers.get(call.procedure)
        if answer is None:
            self.refuse(call, unknown(call.procedure))
            return
        try:
            result = answer(*args)
        except RemoteError as error:
            self.refuse(call, error)
            return
        if result is LATER:
            self.unanswered.append(call)
            return
        self.reply(call, result)
        if call.procedure == CLOSE:
            self.transport.loseConnection()

    def reply(self, call: Message, result: Any) -> None:
        """Answer a call with a result."""
        payload = REMOTE.procedures[call.procedure].encodeRet(result)
        self._send(call.procedure, REPLY, call.serial, OK, payload)

    def refuse(self, call: Message, error: RemoteError) -> None:
        """Answer a call with an error."""
        self._send(call.procedure, REPLY, call.serial, ERROR, encodeError(error))

    def emit(self, number: int, *values: Any) -> None:
        """Send an event."""
        self._send(number, MESSAGE, 1, OK, REMOTE.events[number].encodeArgs(values))

    def _send(self, number: int, type: int, serial: int, status: int, payload: bytes) -> None:
        self.transport.write(message(NUMBER, 1, number, type, serial, status, payload))

    def taken(self) -> list[tuple[int, tuple[Any, ...]]]:
        """The calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


class Opening:
    """A client on its way to a scripted server.

    @ivar opened: fires with the connection.
    """

    def __init__(
        self, server: ScriptedServer, uri: str = "test+unix:///default?socket=/s", **options: Any
    ) -> None:
        self.server = server
        self.reactor = MemoryReactorClock()
        self.opened: Deferred[Connection] = Deferred.fromCoroutine(connect(self.reactor, uri, **options))
        (self.path, factory, *_) = self.reactor.unixClients[0]
        protocol = factory.buildProtocol(MemoryAddress("server"))
        self.clientTransport, _ = joined(self.reactor, protocol, server)
        self.flush()

    def flush(self) -> None:
        """Let everything happen that is due."""
        self.reactor.advance(0)
