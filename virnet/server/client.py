"""
One client's connection, as the server sees it.

  - A call is decoded, its method found and run; what comes back, now or later, is the reply. Calls of one
    connection run concurrently and are answered in the order in which they end.
  - What does not decode or encode is an error reply, the connection stays.
  - A delayed close (C: C{virNetServerClientDelayedClose}) stops reading at once and closes when the next
    reply was handed to the transport: a reply to CLOSE is delivered before EOF.
  - Work that is still running when the connection goes away runs to its end; its reply is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet import probes
from virnet.errors import ConnectionLost, LocalProtocolError, RemoteError, XDRError
from virnet.limits import MESSAGE_FDS_MAX, MESSAGE_MAX, UNAUTHENTICATED_MESSAGE_MAX
from virnet.programs.base import Priority, Procedure, Program
from virnet.security.identity import Identity
from virnet.security.securitylayer import SecurityLayer
from virnet.server.authentication import (
    IAuthenticator,
    IClientAuthentication,
    NoAuthentication,
    authenticates,
    authenticationProcedures,
    guardOf,
    identityOf,
)
from virnet.server.events import EventSender
from virnet.server.interfaces import IServerClient
from virnet.server.program import Method, asRemoteError
from virnet.server.stream import ServerStream
from virnet.transport.descriptors import closeAll
from virnet.transport.protocol import RPCProtocol, peerCredentials
from virnet.wire.connection import ServerConnection
from virnet.wire.events import CallReceived, Event, StreamReceived
from virnet.wire.message import EVENT_SERIAL, MESSAGE, OK, MessageHeader, encodeMessage, rpcError
from virnet.wire.stream import ServerAction, StreamKey, keyOf

if TYPE_CHECKING:
    from virnet.server.access import Guard
    from virnet.server.server import NetServer

E = TypeVar("E")


SPARSE = 1
"""Bit of the flags by which a client agrees to holes (C: C{VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM})."""

_KINDS = {UNIXAddress: "unix", IPv4Address: "tcp", IPv6Address: "tcp"}


class _Call:
    """A call that was not answered yet.

    @ivar fds: the descriptors that came with it; closed with the reply.
    @ivar sparse: its stream may have holes.
    """

    __slots__ = ("fds", "header", "procedure", "sparse")

    def __init__(self, header: MessageHeader, procedure: Procedure, fds: list[int]) -> None:
        self.header = header
        self.procedure = procedure
        self.fds = fds
        self.sparse = False


@implementer(IServerClient, IPushProducer, IHandshakeListener)
class ServerClient(RPCProtocol):
    """The protocol of an accepted connection (C: C{virNetServerClient}).

    @ivar connectedAt: seconds since the epoch; not the time for which it was held.
    """

    # Beyond thirty attributes an instance has a dictionary of its own, of a kilobyte and a half.
    __slots__ = (
        "_authentication", "_closing", "_congested", "_dispatching", "_eventsWaiting", "_finders", "_found",
        "_gone", "_held", "_identity", "_jobs", "_lastCall", "_onDisconnect", "_overrun", "_paused",
        "_running", "_securing", "_streams", "_warned",
    )  # fmt: skip

    log = Logger()
    probeNew = probes.SERVER_CLIENT_NEW
    probeDispose = probes.SERVER_CLIENT_DISPOSE
    probeReceived = probes.SERVER_CLIENT_MSG_RX
    probeSent = probes.SERVER_CLIENT_MSG_TX_QUEUE
    eventMethods: ClassVar[dict[type, str]] = {
        **RPCProtocol.eventMethods,
        CallReceived: "_callReceived",
        StreamReceived: "_streamReceived",
    }

    def __init__(
        self, server: NetServer, id: int, readonly: bool = False, auth: IClientAuthentication | None = None
    ) -> None:
        """@param server: whose programs are served.
        @param readonly: the service admits no changes.
        @param auth: how the client has to authenticate, if it has to.
        """
        self.server = server
        self.clock = server.reactor
        self.id = id
        self.readonly = readonly
        self.connectedAt = 0.0
        self.credentials: tuple[int, int, int] | None = None
        self.authenticator: IAuthenticator = NoAuthentication(self)
        self._authentication = auth
        self._identity: Identity | None = None
        self._guard: Guard | None = guardOf(self, server.access, self._findMethod)
        procedures = server.procedures
        if auth is not None:
            procedures = {**authenticationProcedures(), **procedures}
        self.connection: ServerConnection = ServerConnection(
            procedures,
            authenticated=auth is None,
            maximum=MESSAGE_MAX if auth is None else UNAUTHENTICATED_MESSAGE_MAX,
            limit=server.maxClientRequests,
        )
        self._found: dict[Procedure, Method] = {}
        self._finders: dict[Any, Callable[[Procedure], Method]] = {}
        self._streams: dict[StreamKey, ServerStream] = {}
        self._dispatching = False
        self._paused = False
        self._congested = False
        self._held = False
        self._warned = False
        self._overrun = False
        self._eventsWaiting = 0
        self._closing = False
        self._running: _Call | None = None
        self._lastCall: _Call | None = None
        self._securing: tuple[_Call | None, SecurityLayer] | None = None
        self._gone = False
        self._jobs = 0
        self._onDisconnect: list[Callable[[], object]] = []

    @property
    def authenticated(self) -> bool:
        """Whether the client may make calls other than those that authenticate."""
        return self.connection.authenticated

    def setAuthenticated(self) -> None:
        """The client has authenticated: it may make all calls from now on."""
        self.connection.admit()
        self.authenticator = NoAuthentication(self)
        self._found.clear()
        self.server.clientAuthenticated(self)

    @property
    def identity(self) -> Identity:
        """What is proved of the other side."""
        if self._identity is None:
            self._identity = identityOf(self)
        return self._identity

    def secureAfterReply(self, layer: SecurityLayer) -> None:
        """Protect the connection from behind the reply to the running call on."""
        self._securing = (self._running, layer)

    def updateIdentity(self, **changes: Any) -> None:
        """Something more was proved.

        @param changes: fields of L{Identity} and their values.
        """
        self._identity = self.identity.changed(**changes)

    @property
    def transportKind(self) -> str:
        """C{unix}, C{tcp} or C{tls}; C{other} for what libvirt does not have, and before it is connected."""
        transport = self.transport
        if transport is None:
            return "other"
        if ISSLTransport.providedBy(transport):
            return "tls"
        return _KINDS.get(type(transport.getHost()), "other")

    @property
    def inProgress(self) -> int:
        """How many calls and stream packets hold one of the C{maxClientRequests} slots."""
        return self.connection.inProgress

    def connectionMade(self) -> None:
        super().connectionMade()
        self.sender.registerProducer(self, True)
        self.connectedAt = self.server.reactor.seconds()
        self.credentials = peerCredentials(getattr(self.transport, "getHandle", lambda: None)())
        if self._authentication is not None:
            self.authenticator = self._authentication.authenticatorFor(self)
            self.onDisconnect(self.authenticator.stop)
        self.server.clientConnected(self)

    @property
    def handshaking(self) -> bool:
        """Whether TLS is not through with its handshake."""
        return getattr(self.transport, "handshaking", False)

    def handshakeCompleted(self) -> None:
        """TLS is through with its handshake, and the certificate is good."""
        self.updateIdentity(x509dname=getattr(self.transport, "peerName", None))
        if self.authenticated:
            self.server.clientAuthenticated(self)

    # Reading

    def dispatch(self, events: list[Event]) -> None:
        """Do what follows from wire events; read on only while there are slots and the peer reads too."""
        if self._dispatching:
            return
        self._dispatching = True
        try:
            # super() costs as much as the call: every message comes by here.
            RPCProtocol.dispatch(self, events)
        finally:
            self._dispatching = False
        self._adjustReading()

    def release(self) -> None:
        """Give a slot back: what held it was answered or consumed."""
        self.connection.release()
        if not self._dispatching:
            self.dispatch(self.connection.resume())

    def setHeld(self, held: bool) -> None:
        """Read nothing until the server has room for one more client; it counts as connected from then on."""
        self._held = held
        self.connectedAt = self.server.reactor.seconds()
        self._adjustReading()

    def _adjustReading(self) -> None:
        mustPause = self.connection.throttled or self._congested or self._held
        if mustPause is not self._paused and not self._gone:
            self._paused = mustPause
            if mustPause:
                if self.connection.throttled and not self._warned and self.connection.limit > 1:
                    self._warned = True
                    self.log.warn(
                        "{peer}: Client hit max requests limit {limit}. This may result in keep-alive"
                        " timeouts. Consider tuning the max_client_requests server parameter",
                        peer=self.peer,
                        limit=self.connection.limit,
                    )
                self.sender.pauseProducing()
                self.server.hangUps.watch(self)
            else:
                self.sender.resumeProducing()

    def pauseProducing(self) -> None:
        """Too much waits for the socket: the peer does not read, so nothing more is read from it."""
        self._congested = True
        if not self._dispatching:
            self._adjustReading()

    def resumeProducing(self) -> None:
        """The peer has read everything."""
        self._congested = False
        if not self._dispatching:
            self._adjustReading()

    def stopProducing(self) -> None:
        """Part of C{IPushProducer}; C{connectionLost} says all there is to say."""

    # Calls

    def _callReceived(self, event: CallReceived) -> None:
        header, procedure, data, offset, descriptors = event
        fds = self.takeDescriptors(descriptors) if descriptors else []
        call = _Call(header, procedure, fds)
        try:
            args = procedure.decodeArgs(data, offset)
        except XDRError as e:
            if self.countFault():
                self.log.info(
                    "{peer}: {procedure}: {error}", peer=self.peer, procedure=procedure.name, error=e
                )
            self._fail(call, rpcError("Unable to decode message payload"))
            return
        if procedure.stream is not None:
            call.sparse = procedure.sparse and bool(args[-1] & SPARSE)
        self._running = call
        try:
            method = self._found.get(procedure) or self._find(procedure)
            result = method(*args, fds) if procedure.fds == "call" else method(*args)
            if isinstance(result, CoroutineType):
                result = Deferred.fromCoroutine(result)
        except BaseException as e:
            self._raised(call, e)
            return
        finally:
            self._running = None
        # isinstance would cost more than all else here: Deferred is an abstract base class.
        if Deferred in type(result).__mro__:
            result.addCallbacks(partial(self._answerCall, call), partial(self._failed, call)).addErrback(
                self._bug
            )
        else:
            self._answerCall(call, result)

    def _find(self, procedure: Procedure) -> Method:
        answer: Method | None = None
        if authenticates(procedure):
            answer = getattr(self.authenticator, procedure.name, None)
        if answer is None:
            answer = self._findMethod(procedure)
            if self._guard is not None:
                answer = self._guard.guarded(procedure, answer)
        self._found[procedure] = answer
        return answer

    def _findMethod(self, procedure: Procedure) -> Method:
        program = procedure.program
        finder = self._finders.get(program)
        if finder is None:
            finder = self._finders[program] = self.server.programFor(program).methods(self)
        method = finder(procedure)
        if getattr(method, "blocking", False):
            method = partial(self._runBlocking, procedure.priority, method)
        return method

    def _runBlocking(self, priority: Priority, method: Method, *args: Any) -> Deferred[Any]:
        job = self.server.workers.run(priority, method, *args)
        # The job keeps the client from being cleaned up: what libvirt counts as a reference.
        self._jobs += 1
        if probes.OBJECT_REF.listeners:
            probes.OBJECT_REF(self)
        outcome: Deferred[Any] = Deferred()

        def ended(result: Any) -> None:
            outcome.callback(result)
            self._jobs -= 1
            if probes.OBJECT_UNREF.listeners:
                probes.OBJECT_UNREF(self)
            self._cleanUp()

        job.addBoth(ended)
        return outcome

    def _answerCall(self, call: _Call, result: Any) -> None:
        procedure = call.procedure
        end: Any = None
        fds: list[int] = []
        try:
            if procedure.stream is not None:
                result, end = result if procedure.ret is not None else (None, result)
            elif procedure.fds == "reply":
                result, given = result if procedure.ret is not None else (None, result)
                fds = list(given)
                for fd in fds:
                    # One that is not open would be met when half the reply is sent.
                    os.fstat(fd)
            payload = procedure.encodeRet(result)
            if fds:
                reply = self.connection.replyWithDescriptors(call.header, payload, len(fds))
            else:
                reply = self.connection.reply(call.header, payload)
        except (XDRError, LocalProtocolError, TypeError, ValueError, OverflowError, OSError) as e:
            # A type or value error: the result is not the pair that it has to be.
            self.log.error(
                "{procedure} returned what cannot be sent: {error}", procedure=procedure.name, error=e
            )
            closeAll(fds)
            self._dropEnd(end, e)
            tooMany = len(fds) > MESSAGE_FDS_MAX
            self._fail(call, rpcError(str(e) if tooMany else "Unable to encode message payload"))
            return
        if end is None:
            self._reply(call, reply, fds)
        elif self._gone:
            self._dropEnd(end, ConnectionLost("the client disconnected"))
            self._reply(call, reply)
        elif keyOf(call.header) in self._streams:
            error = rpcError(f"a stream with serial {call.header.serial} is open already")
            self._dropEnd(end, error)
            self._fail(call, error)
        else:
            side = self.connection.openStream(call.header, call.sparse)
            stream = self._streams[side.key] = ServerStream(self, side, end)
            probes.objectNew(stream)
            self._reply(call, reply)
            stream.opened()

    def _dropEnd(self, end: Any, reason: Exception) -> None:
        """Tell an implementation's end of a stream that the stream did not come about."""
        if end is not None:
            try:
                end.streamLost(reason)
            except Exception:
                self.log.failure("a stream end of {peer} failed", peer=self.peer)

    def _failed(self, call: _Call, failure: Failure) -> None:
        assert failure.value is not None
        self._raised(call, failure.value, failure)

    def _raised(self, call: _Call, error: BaseException, failure: Failure | None = None) -> None:
        if not isinstance(error, RemoteError):
            # Out of a thread even this is only the job's own end, and the call has to be answered.
            if failure is None and not isinstance(error, Exception):
                closeAll(call.fds)
                raise error
            self.log.failure(
                "{procedure} failed for {peer}", failure, procedure=call.procedure.name, peer=self.peer
            )
            error = asRemoteError(error)
        self._fail(call, error)

    def _bug(self, failure: Failure) -> None:
        self.log.failure("could not answer {peer}", failure, peer=self.peer)

    def _fail(self, call: _Call, error: RemoteError) -> None:
        try:
            reply = self.connection.replyError(call.header, error)
        except XDRError as e:
            self.log.error(
                "{procedure} raised what cannot be sent: {error}", procedure=call.procedure.name, error=e
            )
            reply = self.connection.replyError(call.header, rpcError("Unable to encode message payload"))
        self._reply(call, reply)

    def _reply(self, call: _Call, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send the one reply to a call; its slot and the descriptors it came with are free then."""
        if call.fds:
            closeAll(call.fds)
        if self._gone:
            closeAll(fds)
            return
        if self._securing is not None and self._securing[0] in (call, None):
            layer, self._securing = self._securing[1], None
            self.send(data)
            self.startSecurityLayer(layer)
            self.release()
            return
        try:
            self.send(data, fds, self.release)
        except LocalProtocolError as e:
            # The slot is still held, and nothing was sent.
            closeAll(fds)
            self.send(self.connection.replyError(call.header, rpcError(str(e))), (), self.release)
        if self._closing and self._lastCall in (call, None):
            self.close()

    # Streams

    def _streamReceived(self, event: StreamReceived) -> None:
        header, side, action, data = event
        stream = self._streams.get(side.key)
        if stream is None:
            # It ended while this packet was already judged.
            self.release()
        else:
            stream.received(cast(ServerAction, action), header, data)

    def streamClosed(self, key: StreamKey) -> None:
        """A stream is over: its packets are not known any more."""
        stream = self._streams.pop(key, None)
        self.connection.streams.pop(key, None)
        if stream is not None:
            probes.objectDispose(stream)

    # Events

    def events(self, program: Program[Any]) -> Any:
        """Get an object that sends the events of a program to this client."""
        return EventSender(self, program)

    def sendEvent(self, procedure: Procedure, values: tuple[Any, ...]) -> None:
        """Send one event; without effect when the connection is gone.

        A client that does not read is cut off when more than the server's C{maxEventBacklog} bytes of events
        would wait for it.

        @raise XDRError: the values do not fit.
        """
        if self.ending or self._overrun:
            return
        if self._guard is not None and not self._guard.mayHear(procedure, values):
            return
        program = procedure.program
        event = encodeMessage(
            program.number,
            program.version,
            procedure.number,
            MESSAGE,
            EVENT_SERIAL,
            OK,
            procedure.encodeArgs(values),
        )
        size = len(event)
        if self._eventsWaiting + size > self.server.maxEventBacklog:
            self._giveUpOnReader()
            return
        self._eventsWaiting += size
        self.send(event, (), partial(self._eventSent, size))

    def _eventSent(self, size: int) -> None:
        self._eventsWaiting -= size

    def _giveUpOnReader(self) -> None:
        """Events must not be lost in silence, nor fill the memory: who does not read them is cut off."""
        self._overrun = True
        self.log.error(
            "{peer} does not read its events, {waiting} bytes of them wait: closing the connection."
            " Consider tuning max_event_backlog",
            peer=self.peer,
            waiting=self._eventsWaiting,
        )
        # Not now: whoever sends the event may be going through its list of clients.
        self.clock.callLater(0, self.abort, ConnectionLost("the client does not read its events"))

    # Keepalive

    def useKeepAlive(self) -> None:
        """The client understands keepalive: send it PINGs as the server's settings say."""
        self.startKeepAlive(self.server.keepaliveInterval, self.server.keepaliveCount)

    @property
    def readingHeld(self) -> bool:
        # Not while the peer does not read, whatever holds its slots: then its silence is its own.
        return (self.connection.throttled or self._held) and not self._congested

    @property
    def readingPaused(self) -> bool:
        """Whether nothing is read at the moment, for whatever reason."""
        return self._paused

    # Closing

    def closeAfterReply(self) -> None:
        """Read nothing more; close when the reply to the running call was sent."""
        self._closing = True
        # Unknown to a coroutine that has waited for something: then the next reply is the last.
        self._lastCall = self._running
        self.stopReading()

    def close(self) -> None:
        """Close now; what was written before is still delivered."""
        self.stopReading()
        # A sender waits for its producer; ours only holds back reading, and that is over.
        self.sender.unregisterProducer()
        self.sender.loseConnection()

    def onDisconnect(self, call: Callable[[], object]) -> None:
        """Have something called when the connection is gone, see L{IServerClient.onDisconnect}."""
        self._onDisconnect.append(call)
        self._cleanUp()

    def ended(self, reason: Failure) -> None:
        if self._gone:
            return
        self._gone = True
        # Streams first, as libvirtd does: no end shall write to a connection that is gone.
        for stream in list(self._streams.values()):
            stream.disconnected()
        self._cleanUp()
        self.server.clientDisconnected(self)

    def _cleanUp(self) -> None:
        if self._gone and not self._jobs:
            calls, self._onDisconnect = self._onDisconnect, []
            for call in calls:
                try:
                    call()
                except Exception:
                    self.log.failure("clean-up after {peer} failed", peer=self.peer)
