"""
The fastest server that Python can be: C{python -m tests.bench.recordedpeer server SOCKET UPSTREAM}.

A blocking socket that answers with bytes it was given before: what it does not know yet it asks another
server, once. How much faster than libvirtd this is under a client is how much faster any server in Python can
seem there: the rest of the time is the client's and the kernel's.
"""

from __future__ import annotations

import socket
import sys
from threading import Thread

_SERIAL = slice(20, 24)


class _Connection:
    """One client, and the same of the server that knows the answers."""

    def __init__(self, client: socket.socket, upstream: str, known: dict[bytes, bytes]) -> None:
        self._client = client
        self._upstream = socket.socket(socket.AF_UNIX)
        self._upstream.connect(upstream)
        self._known = known

    def serve(self) -> None:
        """Answer until the client is gone."""
        with self._client, self._upstream:
            rest = b""
            while data := self._client.recv(65536):
                rest += data
                answers = []
                while len(rest) >= 4 and len(rest) >= (size := int.from_bytes(rest[:4])):
                    answers.append(self._answer(rest[:size]))
                    rest = rest[size:]
                self._client.sendall(b"".join(answers))

    def _answer(self, call: bytes) -> bytes:
        question = call[:20] + call[24:]
        answer = self._known.get(question)
        if answer is None:
            self._upstream.sendall(call)
            answer = self._read(4)
            answer += self._read(int.from_bytes(answer) - 4)
            self._known[question] = answer
        return answer[:20] + call[_SERIAL] + answer[24:]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._upstream.recv(size - len(data))
            if not piece:
                raise EOFError("the server that knows the answers is gone")
            data += piece
        return data


def serve(path: str, upstream: str) -> None:
    """Serve for ever, a thread for each client: only one of them is ever busy."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    known: dict[bytes, bytes] = {}
    while True:
        client, _ = listening.accept()
        Thread(target=_Connection(client, upstream, known).serve, daemon=True).start()


if __name__ == "__main__":
    serve(*sys.argv[2:])
