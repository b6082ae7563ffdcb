"""What the two connections tell their shell.

A shell looks the type of an event up in a table of its own and does what it says; L{Fault} is always the
last event of a connection.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from virnet.errors import RemoteError, RemoteProtocolError
from virnet.wire.message import MessageHeader
from virnet.wire.stream import ClientAction, ClientSide, ServerAction, ServerSide


class Send(NamedTuple):
    """Bytes to send now.

    @ivar descriptors: how many descriptors came with what is answered; nobody wants them.
    """

    data: bytes
    descriptors: int = 0


class CallReceived(NamedTuple):
    """Server: a call that may be executed.

    @ivar procedure: what the table of programs holds for it.
    @ivar data: the whole message.
    @ivar offset: where its arguments start.
    @ivar descriptors: how many descriptors came with it.
    """

    header: MessageHeader
    procedure: Any
    data: bytes
    offset: int
    descriptors: int


class ReplyReceived(NamedTuple):
    """Client: a call succeeded.

    @ivar token: what the caller gave with the call.
    @ivar data: the whole message.
    @ivar offset: where its result starts.
    @ivar descriptors: how many descriptors came with it.
    """

    token: Any
    data: bytes
    offset: int
    descriptors: int


class CallFailed(NamedTuple):
    """Client: a call failed, by the server's word or because its reply makes no sense.

    @ivar descriptors: how many descriptors came with it all the same.
    """

    token: Any
    error: RemoteError
    descriptors: int


class EventReceived(NamedTuple):
    """Client: an event of some program, perhaps one that nobody knows."""

    header: MessageHeader
    data: bytes


class StreamReceived(NamedTuple):
    """A packet of an open stream.

    @ivar stream: which one.
    @ivar action: what follows from it.
    @ivar data: the whole message.
    """

    header: MessageHeader
    stream: ServerSide | ClientSide
    action: ServerAction | ClientAction
    data: bytes


class Dropped(NamedTuple):
    """A message was ignored, as the protocol wants it; for the log."""

    header: MessageHeader
    reason: str


class Fault(NamedTuple):
    """The peer broke the protocol: close the connection."""

    error: RemoteProtocolError


Event = Send | CallReceived | ReplyReceived | CallFailed | EventReceived | StreamReceived | Dropped | Fault
