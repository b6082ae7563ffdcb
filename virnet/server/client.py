"""One client's connection, as the server sees it.

- A call is decoded, its method found and run; what comes back, now or later, is the reply. Calls of one
  connection run concurrently and are answered in the order in which they end.
- What does not decode or encode is an error reply, the connection stays.
- A delayed close (C: C{virNetServerClientDelayedClose}) stops reading at once and closes when the next
  reply was handed to the transport: a reply to CLOSE is delivered before EOF.
- Work that is still running when the connection goes away runs to its end; its reply is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, implementer

from virnet.errors import LocalProtocolError, RemoteError, XDRError
from virnet.programs.base import Procedure, Program
from virnet.server.program import Method, asRemoteError
from virnet.transport.protocol import RPCProtocol, peerCredentials
from virnet.wire.connection import ServerConnection
from virnet.wire.events import CallReceived
from virnet.wire.message import EVENT_SERIAL, MESSAGE, OK, MessageHeader, encodeMessage, rpcError

if TYPE_CHECKING:
    from virnet.server.server import NetServer

E = TypeVar("E")


class IServerClient(Interface):
    """What a provider gets to know about, and may do with, the connection it answers."""

    id = Attribute("C{int}: counts from 1 in each server.")
    peer = Attribute("C{str}: the other side in words.")
    readonly = Attribute("C{bool}: it arrived on a read-only socket, or asked to be read-only.")
    authenticated = Attribute("C{bool}: it may make calls.")
    credentials = Attribute("C{(pid, uid, gid)} of a UNIX peer, else C{None}.")

    def events(program: Program[Any]) -> Any:
        """Get an object that sends the events of a program to this client.

        @return: a provider of C{program.eventInterface}: each of its methods sends one event.
        """

    def closeAfterReply() -> None:
        """Read nothing more; close when the reply to the running call was sent."""

    def close() -> None:
        """Close now; what was written before is still delivered."""

    def onDisconnect(call: Callable[[], object]) -> None:
        """Have something called when the connection is gone; at once if it is gone already."""


@implementer(IServerClient)
class ServerClient(RPCProtocol):
    """The protocol of an accepted connection (C: C{virNetServerClient}).

    @ivar connectedAt: seconds since the epoch.
    """

    log = Logger()
    eventMethods: ClassVar[dict[type, str]] = {**RPCProtocol.eventMethods, CallReceived: "_callReceived"}

    def __init__(self, server: NetServer, id: int, readonly: bool = False) -> None:
        """@param server: whose programs are served.
        @param readonly: the service admits no changes.
        """
        self.server = server
        self.id = id
        self.readonly = readonly
        self.connectedAt = 0.0
        self.credentials: tuple[int, int, int] | None = None
        self.connection: ServerConnection = ServerConnection(server.procedures)
        self._found: dict[Procedure, Method] = {}
        self._finders: dict[Any, Callable[[Procedure], Method]] = {}
        self._closing = False
        self._gone = False
        self._onDisconnect: list[Callable[[], object]] = []

    @property
    def authenticated(self) -> bool:
        """Whether the client may make calls other than those that authenticate."""
        return self.connection.authenticated

    def connectionMade(self) -> None:
        super().connectionMade()
        self.connectedAt = self.server.reactor.seconds()
        self.credentials = peerCredentials(getattr(self.transport, "socket", None))
        self.server.clientConnected(self)

    # Calls

    def _callReceived(self, event: CallReceived) -> None:
        if self._closing:
            return
        header, procedure, data, offset = event
        try:
            args = procedure.decodeArgs(data, offset)
        except XDRError as e:
            self.log.info("{peer}: {procedure}: {error}", peer=self.peer, procedure=procedure.name, error=e)
            self._fail(header, rpcError("Unable to decode message payload"))
            return
        try:
            method = self._found.get(procedure) or self._find(procedure)
            result = method(*args)
        except BaseException as e:
            self._raised(header, procedure, e)
            return
        if isinstance(result, CoroutineType):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            result.addCallbacks(
                partial(self._answer, header, procedure), partial(self._failed, header, procedure)
            ).addErrback(self._bug)
        else:
            self._answer(header, procedure, result)

    def _find(self, procedure: Procedure) -> Method:
        program = procedure.program
        finder = self._finders.get(program)
        if finder is None:
            finder = self._finders[program] = self.server.programFor(program).methods(self)
        method = finder(procedure)
        if getattr(method, "blocking", False):
            method = partial(deferToThreadPool, self.server.reactor, self.server.threads, method)
        self._found[procedure] = method
        return method

    def _answer(self, header: MessageHeader, procedure: Procedure, result: Any) -> None:
        try:
            reply = self.connection.reply(header, procedure.encodeRet(result))
        except (XDRError, LocalProtocolError) as e:
            self.log.error(
                "{procedure} returned what cannot be sent: {error}", procedure=procedure.name, error=e
            )
            self._fail(header, rpcError("Unable to encode message payload"))
            return
        self._reply(reply)

    def _failed(self, header: MessageHeader, procedure: Procedure, failure: Failure) -> None:
        assert failure.value is not None
        self._raised(header, procedure, failure.value, failure)

    def _raised(
        self,
        header: MessageHeader,
        procedure: Procedure,
        error: BaseException,
        failure: Failure | None = None,
    ) -> None:
        if not isinstance(error, RemoteError):
            if not isinstance(error, Exception):
                raise error
            self.log.failure(
                "{procedure} failed for {peer}", failure, procedure=procedure.name, peer=self.peer
            )
            error = asRemoteError(error)
        self._fail(header, error)

    def _bug(self, failure: Failure) -> None:
        self.log.failure("could not answer {peer}", failure, peer=self.peer)

    def _fail(self, header: MessageHeader, error: RemoteError) -> None:
        self._reply(self.connection.replyError(header, error))

    def _reply(self, data: bytes) -> None:
        if self._gone:
            return
        self._write(data)
        if self._closing:
            self.close()

    # Events

    def events(self, program: Program[Any]) -> Any:
        """Get an object that sends the events of a program to this client."""
        return EventSender(self, program)

    def sendEvent(self, procedure: Procedure, values: tuple[Any, ...]) -> None:
        """Send one event; without effect when the connection is gone.

        @raise XDRError: the values do not fit.
        """
        if self._gone or self._closing:
            return
        program = procedure.program
        self._write(
            encodeMessage(
                program.number,
                program.version,
                procedure.number,
                MESSAGE,
                EVENT_SERIAL,
                OK,
                procedure.encodeArgs(values),
            )
        )

    # Closing

    def closeAfterReply(self) -> None:
        """Read nothing more; close when the reply to the running call was sent."""
        self._closing = True
        self.connection.closed = True

    def close(self) -> None:
        """Close now; what was written before is still delivered."""
        self.connection.closed = True
        cast(ITransport, self.transport).loseConnection()

    def onDisconnect(self, call: Callable[[], object]) -> None:
        """Have something called when the connection is gone; at once if it is gone already."""
        if self._gone:
            call()
        else:
            self._onDisconnect.append(call)

    def ended(self, reason: Failure) -> None:
        if self._gone:
            return
        self._gone = True
        calls, self._onDisconnect = self._onDisconnect, []
        for call in calls:
            try:
                call()
            except Exception:
                self.log.failure("clean-up after {peer} failed", peer=self.peer)
        self.server.clientDisconnected(self)


class EventSender:
    """Provides a program's event interface: a method sends the event of its name."""

    def __init__(self, client: ServerClient, program: Program[Any]) -> None:
        self._client = client
        self._procedures = program.eventsByName

    def __getattr__(self, name: str) -> Callable[..., None]:
        procedure = self._procedures.get(name)
        if procedure is None:
            raise AttributeError(f"the program has no event {name!r}")

        def send(*values: Any) -> None:
            self._client.sendEvent(procedure, values)

        setattr(self, name, send)
        return send
