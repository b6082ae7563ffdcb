"""The client's protocol: calls go out, replies complete them, events reach who asked for them.

- Any number of calls may be in flight; each is completed exactly once.
- A caller's mistake is raised at the call and nothing is sent.
- When the connection ends every pending call fails with the same reason, once; later calls fail at once.
- A call whose Deferred is cancelled is forgotten here; the server may still execute it, and its late reply is
  swallowed.
- An event nobody subscribed to, of any program, is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from virnet.client.program import provide
from virnet.errors import ConnectionLost, RemoteProtocolError, XDRError
from virnet.limits import MESSAGE_MIN
from virnet.programs.base import Procedure, Program
from virnet.transport.protocol import RPCProtocol
from virnet.wire.connection import ClientConnection
from virnet.wire.events import CallFailed, EventReceived, ReplyReceived
from virnet.wire.message import rpcError

I = TypeVar("I")  # noqa: E741 - an interface, as zope names them

_Token = tuple[Procedure, "Deferred[Any]"]


class NetClient(RPCProtocol):
    """The protocol of a connection to a server (C: C{virNetClient})."""

    log = Logger()
    eventMethods: ClassVar[dict[type, str]] = {
        **RPCProtocol.eventMethods,
        ReplyReceived: "_replyReceived",
        CallFailed: "_callFailed",
        EventReceived: "_eventReceived",
    }

    def __init__(self) -> None:
        self.connection: ClientConnection[_Token] = ClientConnection()
        self._subscribers: dict[tuple[int, int, int], tuple[Procedure, list[Callable[..., object]]]] = {}
        self._reason: Failure | None = None
        self._closing = False
        self._closed: list[Deferred[Exception]] = []
        self._providers: dict[Any, Any] = {}

    @classmethod
    def overEndpoint(cls, endpoint: IStreamClientEndpoint) -> Deferred[NetClient]:
        """Connect to an endpoint.

        @return: fires with the client when it is connected; nothing was sent yet.
        """
        return cast("Deferred[NetClient]", endpoint.connect(NetClientFactory()))

    def program(self, program: Program[I]) -> I:
        """Get an object that calls the procedures of a program.

        @return: a provider of the program's interface; each method returns a Deferred.
        """
        provider: I | None = self._providers.get(program)
        if provider is None:
            provider = self._providers[program] = provide(program, self.call)
        return provider

    # Calls

    def call(self, procedure: Procedure, args: tuple[Any, ...]) -> Deferred[Any]:
        """Call a procedure.

        @param args: its arguments, all of them, in order.
        @return: fires with the result. Fails with L{RemoteError} when the server says so, with
            L{ConnectionLost} or L{RemoteProtocolError} when the connection ends first.
        @raise XDRError: an argument does not fit its type; nothing was sent.
        @raise LocalProtocolError: the arguments do not fit into a message; nothing was sent.
        """
        payload = procedure.encodeArgs(args)
        if self._reason is not None:
            raise self._why()
        deferred: Deferred[Any] = Deferred()
        program = procedure.program
        self.send(
            self.connection.call(
                program.number, program.version, procedure.number, payload, (procedure, deferred)
            )
        )
        return deferred

    def _replyReceived(self, event: ReplyReceived) -> None:
        procedure, deferred = event.token
        if deferred.called:
            return
        try:
            result = procedure.decodeRet(event.data, event.offset)
        except XDRError as e:
            error = rpcError("Unable to decode message payload")
            error.__cause__ = e
            deferred.errback(error)
        else:
            deferred.callback(result)

    def _callFailed(self, event: CallFailed) -> None:
        _, deferred = event.token
        if not deferred.called:
            deferred.errback(event.error)

    # Events

    def subscribe(self, procedure: Procedure, callback: Callable[..., object]) -> Callable[[], None]:
        """Have something called with the fields of each event of one kind.

        This alone asks the server for nothing; see L{virnet.client.events} for that.

        @param procedure: an event, from C{program.eventsByName}.
        @return: call it to end the subscription.
        """
        program = procedure.program
        key = (program.number, program.version, procedure.number)
        callbacks = self._subscribers.setdefault(key, (procedure, []))[1]
        callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return unsubscribe

    def _eventReceived(self, event: EventReceived) -> None:
        header, data = event
        procedure, callbacks = self._subscribers.get(
            (header.program, header.version, header.procedure), (None, ())
        )
        if procedure is None or not callbacks:
            self.log.debug(
                "{peer}: No event expected with procedure {procedure:#x} of program {program:#x}",
                peer=self.peer,
                procedure=header.procedure,
                program=header.program,
            )
            return
        try:
            values = procedure.decodeArgs(data, MESSAGE_MIN)
        except XDRError as e:
            self.log.warn(
                "{peer}: ignored event {event}: {error}", peer=self.peer, event=procedure.name, error=e
            )
            return
        for callback in list(callbacks):
            try:
                callback(*values)
            except Exception:
                self.log.failure("a subscriber of {event} failed", event=procedure.name)

    # The end

    def close(self) -> Deferred[Exception]:
        """Close the connection; what was written before is still sent.

        @return: fires with the reason when the connection is gone.
        """
        closed = self.whenClosed()
        if self._reason is None:
            self._closing = True
            self.sender.loseConnection()
        return closed

    def abandon(self) -> None:
        """Close the connection now, dropping what is not sent yet; for one that never got into use."""
        self._closing = True
        self.sender.abortConnection()

    def whenClosed(self) -> Deferred[Exception]:
        """Wait for the end of the connection.

        @return: fires (never fails) with the reason, at once if the connection is gone.
        """
        deferred: Deferred[Exception] = Deferred()
        if self._reason is not None:
            deferred.callback(self._why())
        else:
            self._closed.append(deferred)
        return deferred

    def ended(self, reason: Failure) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        for _, deferred in self.connection.calls.clear():
            if not deferred.called:
                deferred.errback(self._why())
        waiting, self._closed = self._closed, []
        for each in waiting:
            each.callback(self._why())

    def _why(self) -> Exception:
        """A fresh exception that says why the connection is over: each call raises its own."""
        assert self._reason is not None
        error = self._reason.value
        if isinstance(error, RemoteProtocolError):
            return RemoteProtocolError(f"{self.peer} broke the protocol: {error}")
        if self._closing:
            return ConnectionLost(f"the connection to {self.peer} was closed by this client")
        if isinstance(error, ConnectionDone):
            return ConnectionLost(f"the connection to {self.peer} was closed by the server")
        return ConnectionLost(f"the connection to {self.peer} was lost: {error}")


class NetClientFactory(Factory):
    """Makes a L{NetClient} for each connection, for use with any Twisted client endpoint."""

    noisy = False
    protocol = NetClient

    def buildProtocol(self, addr: IAddress | None) -> NetClient:
        """Make the protocol for a connection."""
        client = NetClient()
        client.factory = self
        return client
