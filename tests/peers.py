"""The other side of a connection, by hand: it sends any bytes and records what it gets."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from virnet.client import NetClient, NetClientFactory
from virnet.errors import RemoteError
from virnet.programs.base import Procedure, Program
from virnet.server import IClientAuthentication, NetServer, ServerClient, ServerProgram
from virnet.testing import WINDOW, MemoryAddress, StrictTransport, joined
from virnet.wire.message import ERROR_PAYLOAD, encodeError

_HEADER = struct.Struct(">IIIiiIi")

CALL, REPLY, MESSAGE, STREAM, CALL_WITH_FDS, REPLY_WITH_FDS, STREAM_HOLE = range(7)
OK, ERROR, CONTINUE = range(3)


class Message(NamedTuple):
    """A message as it was received."""

    length: int
    program: int
    version: int
    procedure: int
    type: int
    serial: int
    status: int
    payload: bytes

    @property
    def error(self) -> tuple[Any, ...]:
        """The fields of an error payload, undisguised."""
        fields, end = ERROR_PAYLOAD.codec.decode(self.payload)
        assert end == len(self.payload), "something stands behind the error"
        assert isinstance(fields, tuple)
        return fields


def message(
    program: int,
    version: int,
    procedure: int,
    type: int,
    serial: int,
    status: int,
    payload: bytes = b"",
    *,
    length: int | None = None,
) -> bytes:
    """Make a message.

    @param length: what the length word shall say instead of the truth.
    """
    word = _HEADER.size + len(payload) if length is None else length
    return _HEADER.pack(word, program, version, procedure, type, serial, status) + payload


def callOf(procedure: Procedure, serial: int, *args: Any) -> bytes:
    """Make the call of a procedure."""
    program = procedure.program
    return message(
        program.number, program.version, procedure.number, CALL, serial, OK, procedure.encodeArgs(args)
    )


def callNamed(program: Program[Any, Any], name: str, serial: int, *args: Any) -> bytes:
    """Make the call of the procedure of that name."""
    return callOf(program.byName[name], serial, *args)


def split(data: bytes) -> Iterable[Message]:
    """Cut bytes into messages; the last must be whole."""
    start = 0
    while start < len(data):
        fields = _HEADER.unpack_from(data, start)
        end = start + fields[0]
        assert len(data) >= end >= start + _HEADER.size, (
            f"{fields} announced, {len(data) - start} bytes there"
        )
        yield Message._make((*fields, data[start + _HEADER.size : end]))
        start = end


class RawPeer(Protocol):
    """Records what comes.

    @ivar lost: why the connection ended; C{None} while it lasts.
    """

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Record it."""
        self._chunks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record it."""
        self.lost = reason

    def take(self) -> list[Message]:
        """The messages that came since the last time."""
        return list(split(self.bytes()))

    def bytes(self) -> bytes:
        """The bytes that came since the last time."""
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)


class _Session:
    """What both kinds of session share: a raw peer over an in-memory transport.

    @ivar transport: the raw peer's.
    """

    clock: Clock

    def __init__(self) -> None:
        self.peer = RawPeer()
        self.transport: StrictTransport

    def send(self, *messages: bytes) -> list[Message]:
        """Have the peer send bytes, all in one write, and let everything happen that follows.

        @return: the messages that came back.
        """
        self.transport.write(b"".join(messages))
        return self.flush()

    def lose(self) -> None:
        """Have the peer close the connection in order, and let everything happen that follows."""
        self.transport.loseConnection()
        self.clock.advance(0)

    def flush(self) -> list[Message]:
        """Let everything happen that is due; return the messages that reached the peer."""
        self.clock.advance(0)
        return self.peer.take()

    @property
    def closed(self) -> bool:
        """Whether the peer saw the connection end."""
        return self.peer.lost is not None


class ServerSession(_Session):
    """A raw client of a real server."""

    def __init__(
        self,
        *programs: ServerProgram,
        server: NetServer | None = None,
        auth: IClientAuthentication | None = None,
        window: int = WINDOW,
        readSize: int = WINDOW,
    ) -> None:
        """@param server: an existing server, to connect one more client to.
        @param auth: how the service wants the client to authenticate.
        """
        super().__init__()
        self.server = server if server is not None else NetServer(Clock(), programs)
        self.clock = self.server.reactor
        self.client: ServerClient = self.server.buildClient(False, auth)
        self.transport, _ = joined(self.clock, self.peer, self.client, window=window, readSize=readSize)


class ClientSession(_Session):
    """A real client of a raw server."""

    def __init__(self, *, readSize: int = WINDOW) -> None:
        super().__init__()
        self.clock = Clock()
        self.client: NetClient = NetClientFactory(self.clock).buildProtocol(MemoryAddress("peer"))
        _, self.transport = joined(self.clock, self.client, self.peer, readSize=readSize)

    def reply(self, call: Message, payload: bytes = b"", status: int = OK, **changes: int) -> list[Message]:
        """Have the server answer a call.

        @param changes: header fields that shall differ from what is right.
        """
        fields = {
            "program": call.program,
            "version": call.version,
            "procedure": call.procedure,
            "type": REPLY,
            "serial": call.serial,
            "status": status,
            **changes,
        }
        return self.send(message(**fields, payload=payload))

    def replyError(self, call: Message, error: RemoteError) -> list[Message]:
        """Have the server refuse a call."""
        return self.reply(call, encodeError(error), ERROR)


def served(program: Program[Any, Any], provider: object) -> ServerProgram:
    """Serve one object to every client."""
    factory: Callable[[object], object] = lambda client: provider  # noqa: E731
    return ServerProgram(program, factory)
