"""Both ends of a connection without any I/O: bytes in, events out.

What is judged here, in this order:

server
    length, header, number of descriptors, keepalive, program and version, type, status, procedure,
    authentication. Only a call is ever answered with an error; framing errors only close.

client
    length, header, number of descriptors, keepalive, then by type: a reply completes its call, an event is
    handed on, stream packets that nobody waits for are dropped, anything else ends the connection.

The shell decodes payloads, runs things and writes; it calls L{ServerConnection.receive} or
L{ClientConnection.receive} with every chunk it reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError, RemoteProtocolError, XDRError
from virnet.limits import MESSAGE_FDS_MAX, MESSAGE_MAX, MESSAGE_MIN
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
    decodeDescriptorCount,
    decodeError,
    decodeHeader,
    encodeError,
    encodeMessage,
    encodeReply,
    rpcError,
)

T = TypeVar("T")

Programs = Mapping[tuple[int, int], Mapping[int, Any]]
"""Program and version to procedure number to whatever the shell wants back with a call."""


class _Connection(ABC):
    """What both ends share: framing, faults, keepalive, descriptor counts.

    @ivar closed: nothing that comes is looked at any more.
    """

    __slots__ = ("closed", "_framer")

    def __init__(self, maximum: int) -> None:
        self.closed = False
        self._framer = Framer(maximum)

    def receive(self, data: bytes) -> list[Event]:
        """Take received bytes and say what they mean.

        @param data: any piece of the byte stream, of any size.
        """
        events: list[Event] = []
        for message in self._framer.feed(data):
            if self.closed:
                return events
            event = self._judge(decodeHeader(message), message)
            if event is not None:
                events.append(event)
                if type(event) is Fault:
                    self.closed = True
        if self._framer.fault is not None and not self.closed:
            self.closed = True
            events.append(Fault(self._framer.fault))
        return events

    @abstractmethod
    def _judge(self, header: MessageHeader, data: bytes) -> Event | None:
        """Say what one whole message means; C{None} when nothing follows from it."""

    def _payloadOffset(self, header: MessageHeader, data: bytes) -> int:
        """Where the payload starts.

        @raise RemoteProtocolError: the announced descriptors cannot be taken.
        """
        if header.type != CALL_WITH_FDS and header.type != REPLY_WITH_FDS:
            return MESSAGE_MIN
        try:
            count = decodeDescriptorCount(data)
        except XDRError as e:
            raise RemoteProtocolError(str(e)) from e
        if count > MESSAGE_FDS_MAX:
            raise RemoteProtocolError(f"Received too many FDs {count}, expected {MESSAGE_FDS_MAX} maximum")
        if count:
            raise RemoteProtocolError("Receiving file descriptors is not supported on this socket")
        return MESSAGE_MIN + DESCRIPTOR_COUNT.size

    def _keepalive(self, header: MessageHeader) -> Event | None:
        if header.procedure == keepalive.PING:
            return Send(keepalive.PONG_MESSAGE)
        return None


class ServerConnection(_Connection):
    """The server's end.

    @ivar authenticated: whether calls other than those that authenticate are executed.
    """

    __slots__ = ("authenticated", "_programs")

    def __init__(self, programs: Programs, *, authenticated: bool = True, maximum: int = MESSAGE_MAX) -> None:
        """@param programs: what is served.
        @param maximum: the largest message accepted, without its length word, in bytes.
        """
        super().__init__(maximum)
        self.authenticated = authenticated
        self._programs = programs

    def _judge(self, header: MessageHeader, data: bytes) -> Event | None:
        _, program, version, number, type, _, status = header
        try:
            offset = self._payloadOffset(header, data)
        except RemoteProtocolError as e:
            return Fault(e)
        isCall = type == CALL or type == CALL_WITH_FDS
        if program == keepalive.PROGRAM and version == keepalive.VERSION and type == MESSAGE:
            return self._keepalive(header)
        procedures = self._programs.get((program, version))
        if not isCall:
            return Dropped(header, self._whyDropped(type, procedures))
        if procedures is None:
            return self._refuse(header, f"Cannot find program {_signed(program)} version {_signed(version)}")
        if status != OK:
            return self._refuse(header, f"Unexpected message status {status}")
        procedure = procedures.get(number)
        if procedure is None:
            return self._refuse(header, f"unknown procedure: {number}")
        if not self.authenticated and (program, number) not in ALLOWED_UNAUTHENTICATED:
            return self._refuse(header, "authentication required")
        return CallReceived(header, procedure, data, offset)

    def _whyDropped(self, type: int, procedures: Mapping[int, Any] | None) -> str:
        if procedures is None:
            return "no such program"
        if type == STREAM or type == STREAM_HOLE:
            return "no such stream"
        return f"Unexpected message type {type}"

    def _refuse(self, header: MessageHeader, text: str) -> Event:
        return Send(self.replyError(header, rpcError(text)))

    def reply(self, header: MessageHeader, payload: bytes) -> bytes:
        """Make the successful reply to a call.

        @raise LocalProtocolError: the payload does not fit into a message.
        """
        return encodeReply(header, OK, payload)

    def replyError(self, header: MessageHeader, error: RemoteError) -> bytes:
        """Make the reply to a call that failed."""
        return encodeReply(header, ERROR, encodeError(error))


class ClientConnection(_Connection, Generic[T]):
    """The client's end. C{T} is what a caller gives with a call to recognise its answer."""

    __slots__ = ("calls",)

    def __init__(self, *, firstSerial: int = 0, maximum: int = MESSAGE_MAX) -> None:
        """@param maximum: the largest message accepted, without its length word, in bytes."""
        super().__init__(maximum)
        self.calls: PendingCalls[T] = PendingCalls(firstSerial)

    def call(self, program: int, version: int, procedure: int, payload: bytes, token: T) -> bytes:
        """Register a call and make its message.

        @raise LocalProtocolError: the payload does not fit into a message; nothing is registered.
        """
        serial = self.calls.add(program, version, procedure, token)
        try:
            return encodeMessage(program, version, procedure, CALL, serial, OK, payload)
        except Exception:
            self.calls.pop(program, version, serial)
            raise

    def _judge(self, header: MessageHeader, data: bytes) -> Event | None:
        _, program, version, number, type, serial, status = header
        try:
            offset = self._payloadOffset(header, data)
        except RemoteProtocolError as e:
            return Fault(e)
        if type == REPLY or type == REPLY_WITH_FDS:
            pending = self.calls.pop(program, version, serial)
            if pending is None:
                return Fault(
                    RemoteProtocolError(
                        f"no call waiting for reply with prog {_signed(program)} vers {version} serial {serial}"
                    )
                )
            expected, token = pending
            if number != expected:
                return CallFailed(token, _internal(f"Unexpected message proc {number} != {expected}"))
            if status == OK:
                return ReplyReceived(token, data, offset)
            if status == ERROR:
                try:
                    return CallFailed(token, decodeError(data, offset))
                except XDRError:
                    return CallFailed(token, rpcError("Unable to decode message payload"))
            return CallFailed(token, rpcError(f"Unexpected message status {status}"))
        if type == MESSAGE:
            if program == keepalive.PROGRAM:
                return self._keepalive(header) if version == keepalive.VERSION else None
            if status != OK:
                return Dropped(header, f"event with status {status}")
            return EventReceived(header, data)
        if type == STREAM or type == STREAM_HOLE:
            return Dropped(header, "no such stream")
        return Fault(
            RemoteProtocolError(
                f"got unexpected RPC call prog {program} vers {version} proc {number} type {type}"
            )
        )


def _signed(word: int) -> int:
    """libvirt prints these unsigned words with %d, and clients match on the text."""
    return word - (1 << 32) if word >> 31 else word


def _internal(text: str) -> RemoteError:
    """1.4: the client reports a reply of another procedure under code 1, without a prefix."""
    return RemoteError(ErrorNumber.INTERNAL_ERROR, text, ErrorDomain.RPC, str1="%s", str2=text)
