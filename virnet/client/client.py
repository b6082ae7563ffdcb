"""
The client's protocol: calls go out, replies complete them, events reach who asked for them.

  - Any number of calls may be in flight; each is completed exactly once.
  - A caller's mistake is raised at the call and nothing is sent.
  - When the connection ends every pending call fails with the same reason, once, and says whether it may have
    run: one that did not leave whole cannot have. Later calls fail at once.
  - A call whose Deferred is cancelled is forgotten here; the server may still execute it, and its late reply
    is swallowed.
  - An event nobody subscribed to, of any program, is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from virnet import probes
from virnet.client.program import provide
from virnet.client.stream import ClientStream
from virnet.errors import (
    ConnectionLost,
    KeepAliveTimeout,
    LocalProtocolError,
    RemoteProtocolError,
    VirnetError,
    XDRError,
)
from virnet.limits import MESSAGE_MIN, SEND_BUFFER
from virnet.programs.base import Procedure, Program
from virnet.transport.descriptors import closeAll, duplicateAll
from virnet.transport.memory import keepStreamMemory
from virnet.transport.protocol import RPCProtocol
from virnet.wire.connection import ClientConnection
from virnet.wire.events import CallFailed, EventReceived, ReplyReceived, Send, StreamReceived
from virnet.wire.message import rpcError
from virnet.wire.stream import ClientAction, ClientState, StreamKey

I = TypeVar("I")  # noqa: E741 - an interface, as zope names them


class PendingCall:
    """A call and what becomes of its answer.

    @ivar deferred: fires with the answer, unless nobody waits for it any more.
    @ivar end: bytes that were to be sent when it was.
    @ivar stream: what it opens.
    """

    __slots__ = ("deferred", "end", "procedure", "stream")

    deferred: Deferred[Any]

    def __init__(self, procedure: Procedure) -> None:
        self.procedure = procedure
        self.end = 0
        self.stream: ClientStream | None = None

    def answered(self, result: Any) -> None:
        """The server has executed it. What nobody waits for any more is given back."""
        deferred = self.deferred
        if not deferred.called:
            deferred.callback(result)
        elif self.stream is not None:
            self.stream.abort().addErrback(lambda _: None)
        elif self.procedure.fds == "reply":
            closeAll(result if self.procedure.ret is None else result[1])

    def failed(self, error: Exception) -> None:
        """The server has refused it, or nobody knows."""
        if not self.deferred.called:
            self.deferred.errback(error)


class NetClient(RPCProtocol):
    """The protocol of a connection to a server (C: C{virNetClient}).

    @ivar adapt: makes the arguments of a call what the server on the other side is to get; C{None} where they
        are what the caller gives.
    """

    log = Logger()
    probeNew = probes.CLIENT_NEW
    probeDispose = probes.CLIENT_DISPOSE
    probeReceived = probes.CLIENT_MSG_RX
    probeSent = probes.CLIENT_MSG_TX_QUEUE
    eventMethods: ClassVar[dict[type, str]] = {
        **RPCProtocol.eventMethods,
        ReplyReceived: "_replyReceived",
        CallFailed: "_callFailed",
        EventReceived: "_eventReceived",
        StreamReceived: "_streamReceived",
    }

    def __init__(self, clock: IReactorTime | None = None) -> None:
        """@param clock: tells the time for keepalive; the reactor unless it is given."""
        if clock is None:
            from twisted.internet import reactor

            clock = cast(IReactorTime, reactor)
        self.clock = clock
        self.adapt: Callable[[Procedure, tuple[Any, ...]], tuple[Any, ...]] | None = None
        self.connection: ClientConnection[PendingCall] = ClientConnection()
        self._subscribers: dict[tuple[int, int, int], tuple[Procedure, list[Callable[..., object]]]] = {}
        self._reason: Failure | None = None
        self._closing = False
        self._closed: list[Deferred[Exception]] = []
        self._providers: dict[Any, Any] = {}
        self._streams: dict[StreamKey, ClientStream] = {}
        self._holding: set[ClientStream] = set()

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

    def call(self, procedure: Procedure, args: tuple[Any, ...], fds: Sequence[int] = ()) -> Deferred[Any]:
        """Call a procedure.

        @param args: its arguments, all of them, in order.
        @param fds: descriptors that go with the call; they stay the caller's.
        @return: fires with the result; with the L{ClientStream} of a procedure that opens one, or C{(result,
            stream)} where there is a result besides; with C{list} of new descriptors for one that returns
            them. Fails with L{RemoteError} when the server says so, with L{ConnectionLost} or
            L{RemoteProtocolError} when the connection ends first.
        @raise XDRError: an argument does not fit its type; nothing was sent.
        @raise LocalProtocolError: the arguments do not fit into a message, or the connection does not carry
            descriptors; nothing was sent.
        @raise OSError: one of C{fds} is not open; nothing was sent.
        """
        call = PendingCall(procedure)
        call.deferred = Deferred()
        self.start(call, args, fds)
        return call.deferred

    def start(self, call: PendingCall, args: tuple[Any, ...], fds: Sequence[int] = ()) -> None:
        """Send a call, see L{call}.

        @param call: hears of its answer, maybe before this returns.
        """
        procedure = call.procedure
        if self.adapt is not None:
            args = self.adapt(procedure, args)
        payload = procedure.encodeArgs(args)
        if self._reason is not None or self._closing:
            raise self._why()
        program = procedure.program
        target = (program.number, program.version, procedure.number, payload)
        if procedure.stream is not None:
            if fds:
                raise LocalProtocolError("a call that opens a stream carries no file descriptors")
            data, side = self.connection.callWithStream(*target, call)
            sparse = procedure.sparse and bool(args[-1] & 1)
            keepStreamMemory()
            call.stream = self._streams[side.key] = ClientStream(self, side, sparse)
            probes.objectNew(call.stream)
            self.send(data)
        elif fds:
            if not self.connection.carriesDescriptors:
                raise LocalProtocolError("Sending file descriptors is not supported on this socket")
            copies = duplicateAll(fds)
            try:
                data = self.connection.call(*target, call, len(fds))
            except LocalProtocolError:
                closeAll(copies)
                raise
            self.send(data, copies)
        else:
            self.send(self.connection.call(*target, call))
        call.end = self.written

    def _replyReceived(self, event: ReplyReceived) -> None:
        call, data, offset, descriptors = event
        fds = self.takeDescriptors(descriptors) if descriptors else []
        procedure = call.procedure
        try:
            result = procedure.decodeRet(data, offset)
        except XDRError as e:
            closeAll(fds)
            error = rpcError("Unable to decode message payload")
            error.__cause__ = e
            self._end(call, error)
            return
        if call.stream is not None:
            call.stream.opened()
            result = call.stream if procedure.ret is None else (result, call.stream)
        elif procedure.fds == "reply":
            result = fds if procedure.ret is None else (result, fds)
        elif fds:
            closeAll(fds)
        call.answered(result)

    def _callFailed(self, event: CallFailed) -> None:
        call, error, descriptors = event
        if descriptors:
            closeAll(self.takeDescriptors(descriptors))
        self._end(call, error)

    def _end(self, call: PendingCall, error: Exception) -> None:
        """A call failed, and with it the stream that it was to open."""
        if call.stream is not None:
            call.stream.failed(error)
        call.failed(error)

    # Streams

    def _streamReceived(self, event: StreamReceived) -> None:
        _, side, action, data = event
        stream = self._streams.get(side.key)
        # It may have been dropped by what came with this packet in one piece.
        if stream is not None:
            stream.received(cast(ClientAction, action), data)

    def streamClosed(self, key: StreamKey, stream: ClientStream) -> None:
        """A stream is over: its packets are not known any more."""
        known = self._streams.pop(key, None)
        self.connection.streams.pop(key, None)
        self.releaseReading(stream)
        if known is not None:
            probes.objectDispose(stream)

    def dropStreams(self) -> None:
        """End the streams here, before the connection is closed: one that nobody reads any more would hold
        up all that is still to come. Who waits for a confirmation still gets it.
        """
        for key, side in list(self.connection.streams.items()):
            if side.state is not ClientState.CLOSING:
                self._streams[key].failed(self._closedByUs())

    def holdReading(self, stream: ClientStream) -> None:
        """A stream has more than anybody reads: read nothing more until it has less."""
        if not self._holding:
            self.sender.pauseProducing()
        self._holding.add(stream)

    def releaseReading(self, stream: ClientStream) -> None:
        """A stream takes data again."""
        if stream in self._holding:
            self._holding.discard(stream)
            if not self._holding and self._reason is None:
                self.sender.resumeProducing()

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

    @property
    def readingHeld(self) -> bool:
        return bool(self._holding)

    # Keepalive

    def _answer(self, event: Send) -> None:
        # Nothing but PONGs is answered here. They must not pile up for a server that does not read; what
        # waits for it already is a sign of life, and would be in front of them.
        if self.sender.queued <= SEND_BUFFER:
            super()._answer(event)

    # The end

    def close(self) -> Deferred[Exception]:
        """Close the connection; what was written before is still sent.

        @return: fires with the reason when the connection is gone.
        """
        closed = self.whenClosed()
        if self._reason is None:
            self.dropStreams()
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
        deferred: Deferred[Exception] = Deferred(self._forgetWaiter)
        if self._reason is not None:
            deferred.callback(self._why())
        else:
            self._closed.append(deferred)
        return deferred

    def _forgetWaiter(self, waiter: Deferred[Exception]) -> None:
        if waiter in self._closed:
            self._closed.remove(waiter)

    def ended(self, reason: Failure) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        sent = self.written - self.sender.unsent
        for call in self.connection.calls.clear():
            error = self._why()
            error.mayHaveRun = call.end <= sent
            self._end(call, error)
        for stream in list(self._streams.values()):
            stream.failed(self._why())
        waiting, self._closed = self._closed, []
        for each in waiting:
            if not each.called:
                each.callback(self._why())

    def _closedByUs(self) -> ConnectionLost:
        return ConnectionLost(f"the connection to {self.peer} was closed by this client")

    def _why(self) -> VirnetError:
        """A fresh exception that says why the connection is over: each call raises its own."""
        error = None if self._reason is None else self._reason.value
        if isinstance(error, RemoteProtocolError):
            return RemoteProtocolError(f"{self.peer} broke the protocol: {error}")
        if self._closing:
            return self._closedByUs()
        if isinstance(error, KeepAliveTimeout):
            return KeepAliveTimeout(f"{self.peer}: {error}")
        if isinstance(error, ConnectionDone):
            return ConnectionLost(f"the connection to {self.peer} was closed by the server")
        return ConnectionLost(f"the connection to {self.peer} was lost: {error}")


class NetClientFactory(Factory):
    """Makes a L{NetClient} for each connection, for use with any Twisted client endpoint."""

    noisy = False
    protocol = NetClient

    def __init__(self, clock: IReactorTime | None = None) -> None:
        """@param clock: tells the time for keepalive; the reactor unless it is given."""
        self.clock = clock

    def buildProtocol(self, addr: IAddress | None) -> NetClient:
        """Make the protocol for a connection."""
        client = NetClient(self.clock)
        client.factory = self
        return client
