"""The life of a stream, at both ends, as two tables.

A stream belongs to the call that opened it: its packets repeat program, version, procedure and serial.
Data, an empty packet and a hole have status CONTINUE; OK finishes or confirms; ERROR aborts or fails.

  - Server: An empty packet from the client means nothing. Finish and abort both want a confirmation: finish
    when everything before it was taken, abort at once. A hole where none was agreed on ends the connection. A
    packet for a stream that is not open is dropped without an answer, whatever it is.

  - Client: An empty packet is the end of the data; the stream stays open until it is finished or aborted. An
    ERROR is the last word of the server: it also is the answer to a finish or an abort that crosses it, and
    later data is dropped. An OK that nobody waits for, or an unknown status, ends the connection.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import NamedTuple

from virnet.errors import XDRError
from virnet.limits import MESSAGE_MIN
from virnet.wire.message import CONTINUE, ERROR, OK, STREAM_HOLE, MessageHeader


class StreamKey(NamedTuple):
    """What the packets of a stream have in common."""

    program: int
    version: int
    procedure: int
    serial: int


def keyOf(header: MessageHeader) -> StreamKey:
    """The key of the stream that a packet, or the call that opens one, belongs to."""
    return StreamKey(header.program, header.version, header.procedure, header.serial)


class Packet(Enum):
    """What a received packet is."""

    DATA = "data"
    EMPTY = "empty"
    HOLE = "hole"
    OK = "ok"
    ERROR = "error"
    UNKNOWN = "unknown"


class ServerState(Enum):
    """@cvar FINISHING: the client has finished; what came before is still being taken."""

    OPEN = "open"
    FINISHING = "finishing"
    CLOSED = "closed"


class ServerAction(Enum):
    """What the server does with a packet."""

    DATA = "data"
    HOLE = "hole"
    FINISH = "finish"
    ABORT = "abort"
    REFUSE = "refuse"
    DROP = "drop"
    FAULT = "fault"


SERVER: dict[tuple[ServerState, Packet], tuple[ServerState, ServerAction]] = {
    (ServerState.OPEN, Packet.DATA): (ServerState.OPEN, ServerAction.DATA),
    (ServerState.OPEN, Packet.EMPTY): (ServerState.OPEN, ServerAction.DROP),
    (ServerState.OPEN, Packet.HOLE): (ServerState.OPEN, ServerAction.HOLE),
    (ServerState.OPEN, Packet.OK): (ServerState.FINISHING, ServerAction.FINISH),
    (ServerState.OPEN, Packet.ERROR): (ServerState.CLOSED, ServerAction.ABORT),
    (ServerState.OPEN, Packet.UNKNOWN): (ServerState.CLOSED, ServerAction.REFUSE),
    (ServerState.FINISHING, Packet.DATA): (ServerState.FINISHING, ServerAction.DROP),
    (ServerState.FINISHING, Packet.EMPTY): (ServerState.FINISHING, ServerAction.DROP),
    (ServerState.FINISHING, Packet.HOLE): (ServerState.FINISHING, ServerAction.DROP),
    (ServerState.FINISHING, Packet.OK): (ServerState.FINISHING, ServerAction.DROP),
    (ServerState.FINISHING, Packet.ERROR): (ServerState.CLOSED, ServerAction.ABORT),
    (ServerState.FINISHING, Packet.UNKNOWN): (ServerState.CLOSED, ServerAction.REFUSE),
}
"""A closed stream is not in any table of streams: its packets never get here."""


class ClientState(Enum):
    """
    @cvar OPENING: the call is on its way; nothing may be sent yet.
    @cvar ENDED: the server has sent all its data.
    @cvar CLOSING: finish or abort was sent; its answer is due.
    @cvar FAILED: the server has given up; it says nothing more.
    """

    OPENING = "opening"
    OPEN = "open"
    ENDED = "ended"
    CLOSING = "closing"
    FAILED = "failed"
    CLOSED = "closed"


class ClientAction(Enum):
    """What the client does with a packet."""

    DATA = "data"
    HOLE = "hole"
    END = "end"
    FAIL = "fail"
    CONFIRM = "confirm"
    DROP = "drop"
    FAULT = "fault"


def _clientTable() -> dict[tuple[ClientState, Packet], tuple[ClientState, ClientAction]]:
    table = {}
    # The server may send right behind its reply: data can be read in one piece with it, never before it.
    for state in (ClientState.OPENING, ClientState.OPEN, ClientState.ENDED, ClientState.CLOSING):
        ended = state if state is ClientState.CLOSING else ClientState.ENDED
        open_ = state in (ClientState.OPENING, ClientState.OPEN)
        table[state, Packet.DATA] = (state, ClientAction.DATA if open_ else ClientAction.DROP)
        table[state, Packet.HOLE] = (state, ClientAction.HOLE if open_ else ClientAction.DROP)
        table[state, Packet.EMPTY] = (ended, ClientAction.END)
        table[state, Packet.OK] = (ClientState.CLOSED, ClientAction.FAULT)
        table[state, Packet.ERROR] = (ClientState.FAILED, ClientAction.FAIL)
        table[state, Packet.UNKNOWN] = (ClientState.CLOSED, ClientAction.FAULT)
    table[ClientState.CLOSING, Packet.OK] = (ClientState.CLOSED, ClientAction.CONFIRM)
    return table


CLIENT = _clientTable()
"""A closed or failed stream is not in any table of streams: its packets never get here."""

_HOLE = struct.Struct(">qI")


def encodeHole(length: int) -> bytes:
    """The payload of a hole (C: C{virNetStreamHole}).

    @param length: bytes, at least 1.
    """
    return _HOLE.pack(length, 0)


def decodeHole(data: bytes) -> int:
    """The length of a hole in bytes.

    @raise XDRError: it is not a hole's payload, or its length is not positive.
    """
    if len(data) < MESSAGE_MIN + _HOLE.size:
        raise XDRError("a hole needs a length and flags", "hole")
    length, flags = _HOLE.unpack_from(data, MESSAGE_MIN)
    if length <= 0:
        raise XDRError(f"a length of {length} bytes", "hole")
    if flags:
        raise XDRError(f"unknown flags {flags:#x}", "hole")
    return int(length)


_BY_STATUS = {OK: Packet.OK, ERROR: Packet.ERROR}


def classify(header: MessageHeader) -> Packet:
    """What a packet is, by its type, status and size."""
    if header.status == CONTINUE:
        if header.type == STREAM_HOLE:
            return Packet.HOLE
        return Packet.DATA if header.length > MESSAGE_MIN else Packet.EMPTY
    return _BY_STATUS.get(header.status, Packet.UNKNOWN)


class ServerSide:
    """The server's end of one stream.

    @ivar sparse: holes were agreed on when it was opened.
    """

    __slots__ = ("key", "sparse", "state")

    def __init__(self, key: StreamKey, sparse: bool) -> None:
        self.key = key
        self.sparse = sparse
        self.state = ServerState.OPEN

    def receive(self, header: MessageHeader) -> ServerAction:
        """Judge a packet."""
        packet = classify(header)
        if packet is Packet.HOLE and not self.sparse:
            return ServerAction.FAULT
        self.state, action = SERVER[self.state, packet]
        return action


class ClientSide:
    """The client's end of one stream."""

    __slots__ = ("key", "state")

    def __init__(self, key: StreamKey) -> None:
        self.key = key
        self.state = ClientState.OPENING

    def receive(self, header: MessageHeader) -> ClientAction:
        """Judge a packet."""
        self.state, action = CLIENT[self.state, classify(header)]
        return action
