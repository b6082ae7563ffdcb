"""
The cheapest client there can be: messages encoded once, replies told apart by their size alone.

It costs the same whatever server it talks to and next to nothing, so that the server is what is measured. It
shares no code with virnet. Run as a worker: C{python -m tests.bench.rawclient SOCKET}.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

from tests.bench.worker import serve

REMOTE_PROGRAM = 0x20008086
AUTH_LIST = 66
CONNECT_OPEN = 1
REPLY, OK = 1, 0
HEADER = struct.Struct(">IIIiiIi")
"""length, program, version, procedure, type, serial, status"""


def string(text: bytes) -> bytes:
    """
    An XDR string (RFC 4506 section 4.11).
    """
    return struct.pack(">I", len(text)) + text + bytes(-len(text) % 4)


def message(procedure: int, args: bytes = b"") -> bytes:
    """
    A call of the REMOTE program. All have serial 0: servers execute calls with equal serials like any others,
    and who counts replies needs no serials.
    """
    return HEADER.pack(HEADER.size + len(args), REMOTE_PROGRAM, 1, procedure, 0, 0, 0) + args


CALLS = {
    "connectGetLibVersion": message(157),
    "connectGetHostname": message(59),
    "domainLookupByName": message(23, string(b"test")),
    "connectListAllDomains": message(273, struct.pack(">iI", 1, 3)),
}


class RawClient:
    """
    A blocking connection to a server's UNIX socket, opened on C{test:///default}.
    """

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(path)
        # A timeout makes Python poll before each receive; a blocking socket is one system call a time.
        self._socket.settimeout(None)
        self.ask(message(AUTH_LIST))
        self.ask(message(CONNECT_OPEN, struct.pack(">I", 1) + string(b"test:///default") + bytes(4)))

    def close(self) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise ConnectionError("the server closed the connection")
            data += chunk
        return data

    def ask(self, call: bytes) -> bytes:
        """
        Make one call.

        @return: the whole reply.
        @raise ConnectionError: if the reply is not a success.
        """
        self._socket.sendall(call)
        head = self._read(HEADER.size)
        length, _, _, procedure, kind, _, status = HEADER.unpack(head)
        reply = head + self._read(length - HEADER.size)
        if (kind, status) != (REPLY, OK):
            raise ConnectionError(
                f"procedure {procedure}: type {kind}, status {status}: {reply[HEADER.size :]!r}"
            )
        return reply

    def measure(self, name: str, depth: int, seconds: float) -> tuple[int, float]:
        """
        Keep C{depth} calls in flight for C{seconds}.

        @return: calls answered and seconds taken, the last calls in flight included.
        """
        call = CALLS[name]
        expected = self.ask(call)
        size = len(expected)
        batches = [call * count for count in range(depth + 1)]
        receive, send, clock = self._socket.recv, self._socket.sendall, time.perf_counter
        calls = partial = 0
        start = clock()
        deadline = start + seconds
        send(batches[depth])
        pending = depth
        while pending:
            data = receive(65536)
            if not data:
                raise ConnectionError("the server closed the connection")
            done, partial = divmod(partial + len(data), size)
            calls += done
            if clock() < deadline:
                send(batches[done])
            else:
                pending -= done
        elapsed = clock() - start
        if partial or self.ask(call) != expected:
            raise ConnectionError(f"{name}: replies differ in size")
        return calls, elapsed


if __name__ == "__main__":
    serve(RawClient(sys.argv[1]).measure)
