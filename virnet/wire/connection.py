"""Both ends of a connection without any I/O: bytes in, events out.

What is judged here, in this order:

  - Server: length, header, descriptors, keepalive, open streams, program and version, type, status,
    procedure, authentication. Only a call is ever answered with an error; framing errors only close.

    A call, and a packet that an open stream takes, holds one of the client's C{limit} slots until the shell
    releases it: when the reply was handed to the kernel, when the packet was consumed. While all are held
    nothing more is judged, and the shell stops reading. Nothing else holds a slot: what is answered or
    dropped here, events and data of the server's own never count (C: C{tracked} of C{virNetMessage}).

  - Client: length, header, descriptors, keepalive, then by type: a reply completes its call, an event is
    handed on, a stream packet goes to its stream or is dropped, anything else ends the connection.

The shell decodes payloads, runs things and writes; it calls C{receive} with every chunk it reads, and
C{resume} after it released slots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import LocalProtocolError, RemoteError, RemoteProtocolError, XDRError
from virnet.limits import MAX_CLIENT_REQUESTS, MESSAGE_FDS_MAX, MESSAGE_MAX, MESSAGE_MIN
from virnet.probes import KEEPALIVE_RECEIVED, KEEPALIVE_SEND, Probe
from virnet.wire import keepalive
from virnet.wire.auth import ALLOWED_UNAUTHENTICATED
from virnet.wire.calls import PendingCalls
from virnet.wire.events import (
    CallFailed,
    CallReceived,
    Dropped,
    Event,
    EventReceived,
    Fault,
    ReplyReceived,
    Send,
    StreamReceived,
)
from virnet.wire.framing import Framer
from virnet.wire.message import (
    CALL,
    CALL_WITH_FDS,
    DESCRIPTOR_COUNT,
    ERROR,
    MESSAGE,
    OK,
    REPLY,
    REPLY_WITH_FDS,
    STREAM,
    STREAM_HOLE,
    MessageHeader,
    decodeError,
    decodeHeader,
    encodeError,
    encodeMessage,
    rpcError,
    unpackHeader,
)
from virnet.wire.stream import (
    ClientAction,
    ClientSide,
    ClientState,
    ServerAction,
    ServerSide,
    ServerState,
    StreamKey,
    keyOf,
)

T = TypeVar("T")

Programs = Mapping[tuple[int, int], Mapping[int, Any]]
"""Program and version to procedure number to whatever the shell wants back with a call."""


_UNWATCHED = Probe("", "")
# Past the constructors of named tuples, which are Python functions.
_new = tuple.__new__

_OVER = frozenset((ClientState.FAILED, ClientState.CLOSED))


class _Connection(ABC):
    """What both ends share: framing, faults, keepalive, descriptors.

    @ivar closed: nothing that comes is looked at any more.
    @ivar inProgress: how much of what was judged is not done with; counted by the server's end alone.
    @ivar limit: how much may be; then nothing more is judged.
    @ivar received: the probe that fires for each message.
    @ivar owner: whose messages they are, for the probe.
    """

    __slots__ = ("closed", "inProgress", "limit", "owner", "received", "_framer", "_messages")

    def __init__(self, maximum: int, withDescriptors: int) -> None:
        self.closed = False
        self.inProgress = 0
        self.limit = 1
        self.received = _UNWATCHED
        self.owner: object = None
        self._framer = Framer(maximum, withDescriptors)
        # The next one last.
        self._messages: list[bytes] = []

    def acceptDescriptors(self) -> None:
        """The transport can carry descriptors: from now on they are counted, not refused."""
        self._framer.descriptors = 0

    @property
    def carriesDescriptors(self) -> bool:
        """Whether the transport can carry descriptors."""
        return self._framer.descriptors is not None

    def refuseDescriptors(self) -> None:
        """From now on the connection carries none, whatever the transport can."""
        self._framer.descriptors = None

    def descriptorReceived(self) -> None:
        """A descriptor has come, in front of the bytes it came with."""
        assert self._framer.descriptors is not None
        self._framer.descriptors += 1

    @property
    def waiting(self) -> bool:
        """Whether messages wait to be judged: for slots, or for C{resume}."""
        return bool(self._messages)

    @property
    def unjudged(self) -> bool:
        """Whether something has come that was not judged yet."""
        return bool(self._messages) or self._framer.incomplete

    def receive(self, data: bytes) -> list[Event]:
        """Take received bytes and say what they mean.

        @param data: any piece of the byte stream, of any size.
        """
        if self.closed:
            return []
        messages = self._framer.feed(data)
        if self._framer.descriptors:
            self._framer.judgeDescriptors()
        messages.reverse()
        self._messages = messages + self._messages if self._messages else messages
        return self.resume()

    def resume(self) -> list[Event]:
        """Judge the messages that are complete, as far as that is allowed now."""
        events: list[Event] = []
        messages = self._messages
        while messages and self.inProgress < self.limit and not self.closed:
            message = messages.pop()
            # decodeHeader without the call: every message comes by here.
            header = _new(MessageHeader, unpackHeader(message))
            if self.received.listeners:
                self.received(self.owner, *header.traced())
            event = self._judge(header, message)
            if event is not None:
                events.append(event)
                if type(event) is Fault:
                    self.closed = True
        if self._framer.fault is not None and not messages and not self.closed:
            self.closed = True
            events.append(Fault(self._framer.fault))
        return events

    @abstractmethod
    def _judge(self, header: MessageHeader, data: bytes) -> Event | None:
        """Say what one whole message means; C{None} when nothing follows from it."""

    def _keepalive(self, header: MessageHeader) -> Event | None:
        if KEEPALIVE_RECEIVED.listeners:
            KEEPALIVE_RECEIVED(self.owner, self.owner, *header[1:4])
        if header.procedure == keepalive.PING:
            if KEEPALIVE_SEND.listeners:
                KEEPALIVE_SEND(self.owner, self.owner, keepalive.PROGRAM, keepalive.VERSION, keepalive.PONG)
            return Send(keepalive.PONG_MESSAGE)
        return None


def _payload(header: MessageHeader, data: bytes) -> tuple[int, int]:
    """Where the payload starts, and how many descriptors came with the message."""
    if header.type != CALL_WITH_FDS and header.type != REPLY_WITH_FDS:
        return MESSAGE_MIN, 0
    return MESSAGE_MIN + DESCRIPTOR_COUNT.size, DESCRIPTOR_COUNT.unpack_from(data, MESSAGE_MIN)[0]


def _withDescriptors(payload: bytes, count: int) -> bytes:
    if count > MESSAGE_FDS_MAX:
        raise LocalProtocolError(f"Too many FDs to send {count}, expected {MESSAGE_FDS_MAX} maximum")
    return DESCRIPTOR_COUNT.pack(count) + payload


class ServerConnection(_Connection):
    """The server's end.

    @ivar authenticated: whether calls other than those that authenticate are executed.
    @ivar limit: calls and stream packets that may be in progress (C{max_client_requests}).
    @ivar inProgress: how many are.
    @ivar streams: the open streams.
    """

    __slots__ = ("authenticated", "streams", "_programs")

    def __init__(
        self,
        programs: Programs,
        *,
        authenticated: bool = True,
        maximum: int = MESSAGE_MAX,
        limit: int = MAX_CLIENT_REQUESTS,
    ) -> None:
        """@param programs: what is served.
        @param maximum: the largest message accepted, without its length word, in bytes.
        @param limit: calls and stream packets that may be in progress, at least 1.
        """
        super().__init__(maximum, CALL_WITH_FDS)
        self.authenticated = authenticated
        self.limit = limit
        self.streams: dict[StreamKey, ServerSide] = {}
        self._programs = programs

    @property
    def throttled(self) -> bool:
        """Whether all slots are held: reading must stop."""
        return self.inProgress >= self.limit

    def admit(self, maximum: int = MESSAGE_MAX) -> None:
        """The client has authenticated: its calls are executed.

        @param maximum: the largest message accepted from now on, without its length word, in bytes.
        """
        self.authenticated = True
        self._framer.maximum = maximum

    def release(self) -> None:
        """A slot is free again; call L{resume} for what waited for it."""
        assert self.inProgress > 0, "a slot was released twice"
        self.inProgress -= 1

    def _judge(self, header: MessageHeader, data: bytes) -> Event | None:
        _, program, version, number, type, serial, status = header
        isCall = type == CALL or type == CALL_WITH_FDS
        if not isCall:
            if type == MESSAGE and program == keepalive.PROGRAM and version == keepalive.VERSION:
                return self._keepalive(header)
            if type == STREAM or type == STREAM_HOLE:
                return self._stream(header, data)
            known = (program, version) in self._programs
            return Dropped(header, f"Unexpected message type {type}" if known else "no such program")
        procedures = self._programs.get((program, version))
        if procedures is None:
            wanted = f"program {_signed(program)} version {_signed(version)}"
            return self._refuse(header, data, f"Cannot find {wanted}")
        if status != OK:
            return self._refuse(header, data, f"Unexpected message status {status}")
        procedure = procedures.get(number)
        if procedure is None:
            return self._refuse(header, data, f"unknown procedure: {number}")
        if not self.authenticated and (program, number) not in ALLOWED_UNAUTHENTICATED:
            return self._refuse(header, data, "authentication required")
        self.inProgress += 1
        offset, descriptors = (MESSAGE_MIN, 0) if type == CALL else _payload(header, data)
        return _new(CallReceived, (header, procedure, data, offset, descriptors))

    def _stream(self, header: MessageHeader, data: bytes) -> Event:
        stream = self.streams.get(keyOf(header))
        if stream is None:
            return Dropped(header, "no such stream")
        action = stream.receive(header)
        if stream.state is ServerState.CLOSED:
            del self.streams[stream.key]
        if action is ServerAction.FAULT:
            return Fault(RemoteProtocolError("received a hole on a stream that was not opened as sparse"))
        if action is ServerAction.DROP:
            return Dropped(header, f"the stream is {stream.state.value}")
        self.inProgress += 1
        return StreamReceived(header, stream, action, data)

    def _refuse(self, header: MessageHeader, data: bytes, text: str) -> Event:
        return Send(self.replyError(header, rpcError(text)), _payload(header, data)[1])

    def reply(self, header: MessageHeader, payload: bytes) -> bytes:
        """Make the successful reply to a call.

        @raise LocalProtocolError: the payload does not fit into a message.
        """
        _, program, version, procedure, _, serial, _ = header
        return encodeMessage(program, version, procedure, REPLY, serial, OK, payload)

    def replyWithDescriptors(self, header: MessageHeader, payload: bytes, count: int) -> bytes:
        """Make the successful reply to a call with descriptors, which are sent behind it.

        @param count: how many follow, at most L{MESSAGE_FDS_MAX<virnet.limits.MESSAGE_FDS_MAX>}.
        @raise LocalProtocolError: there are more, or the payload does not fit.
        """
        return encodeMessage(
            header.program,
            header.version,
            header.procedure,
            REPLY_WITH_FDS,
            header.serial,
            OK,
            _withDescriptors(payload, count),
        )

    def replyError(self, header: MessageHeader, error: RemoteError) -> bytes:
        """Make the reply to a call that failed."""
        return encodeMessage(
            header.program,
            header.version,
            header.procedure,
            REPLY,
            header.serial,
            ERROR,
            encodeError(error),
        )

    def openStream(self, header: MessageHeader, sparse: bool) -> ServerSide:
        """A call has opened a stream: its packets are taken from now on.

        @param header: the header of the call.
        @param sparse: whether holes were agreed on.
        """
        key = keyOf(header)
        stream = self.streams[key] = ServerSide(key, sparse)
        return stream


class ClientConnection(_Connection, Generic[T]):
    """The client's end. C{T} is what a caller gives with a call to recognise its answer.

    @ivar streams: the open streams.
    """

    __slots__ = ("calls", "streams")

    def __init__(self, *, firstSerial: int = 0, maximum: int = MESSAGE_MAX) -> None:
        """@param maximum: the largest message accepted, without its length word, in bytes."""
        super().__init__(maximum, REPLY_WITH_FDS)
        self.calls: PendingCalls[T] = PendingCalls(firstSerial)
        self.streams: dict[StreamKey, ClientSide] = {}

    def call(
        self,
        program: int,
        version: int,
        procedure: int,
        payload: bytes,
        token: T,
        descriptors: int | None = None,
    ) -> bytes:
        """Register a call and make its message.

        @param descriptors: how many follow the message; C{None} for an ordinary call.
        @raise LocalProtocolError: the payload does not fit into a message; nothing is registered.
        """
        type = CALL
        if descriptors is not None:
            type = CALL_WITH_FDS
            payload = _withDescriptors(payload, descriptors)
        serial = self.calls.add(program, version, procedure, token)
        try:
            return encodeMessage(program, version, procedure, type, serial, OK, payload)
        except LocalProtocolError:
            self.calls.pop(program, version, serial)
            raise

    def callWithStream(
        self, program: int, version: int, procedure: int, payload: bytes, token: T
    ) -> tuple[bytes, ClientSide]:
        """Register a call that opens a stream, and the stream with it.

        @raise LocalProtocolError: the payload does not fit into a message; nothing is registered.
        """
        data = self.call(program, version, procedure, payload, token)
        key = keyOf(decodeHeader(data))
        stream = self.streams[key] = ClientSide(key)
        return data, stream

    def _judge(self, header: MessageHeader, data: bytes) -> Event | None:
        _, program, version, number, type, serial, status = header
        if type == REPLY or type == REPLY_WITH_FDS:
            return self._reply(header, data)
        if type == MESSAGE:
            if program == keepalive.PROGRAM:
                return self._keepalive(header) if version == keepalive.VERSION else None
            if status != OK:
                return Dropped(header, f"event with status {status}")
            return EventReceived(header, data)
        if type == STREAM or type == STREAM_HOLE:
            return self._stream(header, data)
        called = f"prog {_signed(program)} vers {_signed(version)} proc {number} type {type}"
        return Fault(RemoteProtocolError(f"got unexpected RPC call {called}"))

    def _reply(self, header: MessageHeader, data: bytes) -> Event:
        _, program, version, number, type, serial, status = header
        offset, descriptors = (MESSAGE_MIN, 0) if type == REPLY else _payload(header, data)
        pending = self.calls.pop(program, version, serial)
        if pending is None:
            called = f"prog {_signed(program)} vers {_signed(version)} serial {serial}"
            return Fault(RemoteProtocolError(f"no call waiting for reply with {called}"))
        expected, token = pending
        if number != expected:
            error = _internal(f"Unexpected message proc {number} != {expected}")
        elif status == OK:
            return _new(ReplyReceived, (token, data, offset, descriptors))
        elif status == ERROR:
            try:
                error = decodeError(data, offset)
            except XDRError:
                error = rpcError("Unable to decode message payload")
        else:
            error = rpcError(f"Unexpected message status {status}")
        return CallFailed(token, error, descriptors)

    def _stream(self, header: MessageHeader, data: bytes) -> Event:
        stream = self.streams.get(keyOf(header))
        if stream is None:
            return Dropped(header, "no such stream")
        action = stream.receive(header)
        if stream.state in _OVER:
            del self.streams[stream.key]
        if action is ClientAction.FAULT:
            return Fault(RemoteProtocolError(f"unexpected stream status {header.status}"))
        if action is ClientAction.DROP:
            return Dropped(header, f"the stream is {stream.state.value}")
        return StreamReceived(header, stream, action, data)


def _signed(word: int) -> int:
    """libvirt prints these unsigned words with %d, and clients match on the text."""
    return word - (1 << 32) if word >> 31 else word


def _internal(text: str) -> RemoteError:
    """1.4: the client reports a reply of another procedure under code 1, without a prefix."""
    return RemoteError(ErrorNumber.INTERNAL_ERROR, text, ErrorDomain.RPC, str1="%s", str2=text)
