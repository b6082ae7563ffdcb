"""Peers that speak the protocol badly or not at all: bytes over a socket of which no client of ours knows."""

from __future__ import annotations

import os
import random
import ssl
import struct
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.soak.program import SOAK
from virnet.programs import KEEPALIVE, REMOTE
from virnet.wire.message import CALL, CALL_WITH_FDS, CONTINUE, ERROR, MESSAGE, OK, STREAM, STREAM_HOLE

_HEADER = struct.Struct(">IIIiiIi")
_AUTH_LIST, _SASL_INIT, _SASL_START, _SASL_STEP = (
    REMOTE.byName[name].number for name in ("authList", "authSASLInit", "authSASLStart", "authSASLStep")
)
_MECHANISM = b"SCRAM-SHA-256"


def message(
    program: int, procedure: int, type: int, serial: int, status: int = OK, payload: bytes = b""
) -> bytes:
    """A whole message of any program's version 1."""
    size = _HEADER.size + len(payload)
    return _HEADER.pack(size, program, 1, procedure, type, serial, status) + payload


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)


class Stranger(Protocol):
    """A connection that takes whatever comes."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """Take it."""


async def meet(endpoint: IStreamClientEndpoint) -> Stranger:
    """Connect as a stranger."""
    return cast(Stranger, await endpoint.connect(Factory.forProtocol(Stranger)))


class Phrases:
    """What strangers say."""

    def __init__(self, pick: random.Random) -> None:
        self._pick = pick

    def call(self) -> bytes:
        """A whole call that is right."""
        data = os.urandom(self._pick.randrange(5000))
        return message(SOAK.number, 2, CALL, self._pick.randrange(1, 100), payload=_string(data))

    def nonsense(self) -> bytes:
        """One of the things that a server should not be sent."""
        pick = self._pick
        choices: tuple[Callable[[], bytes], ...] = (
            lambda: os.urandom(pick.randrange(1, 200)),
            lambda: (1000).to_bytes(4, "big") + os.urandom(pick.randrange(200)),
            lambda: pick.choice((0, 27, 33554437, 0xFFFFFFFF)).to_bytes(4, "big"),
            lambda: message(pick.randrange(1 << 32), 3, CALL, 1),
            lambda: message(SOAK.number, 99, CALL, 2),
            lambda: message(SOAK.number, 2, pick.randrange(-1, 9), 3, pick.randrange(4), os.urandom(8)),
            lambda: message(KEEPALIVE.number, pick.randrange(4), MESSAGE, 0) * pick.randrange(200),
            lambda: message(REMOTE.number, pick.randrange(460), CALL, 4, OK, os.urandom(pick.randrange(64))),
        )
        return pick.choice(choices)()

    def stream(self) -> bytes:
        """A stream that is opened, and packets for it, or for none, in any order, also after its end."""
        pick = self._pick
        said = []
        for serial in range(1, pick.randrange(2, 6)):
            if pick.random() < 0.8:
                said.append(message(SOAK.number, 7, CALL, serial, payload=struct.pack(">I", 1)))
            for _ in range(pick.randrange(12)):
                type = pick.choice((STREAM, STREAM, STREAM, STREAM_HOLE))
                status = pick.choice((CONTINUE, CONTINUE, CONTINUE, OK, ERROR, 7))
                payload = os.urandom(pick.randrange(3) * 8)
                said.append(message(SOAK.number, 7, type, serial, status, payload))
        return b"".join(said)

    def descriptors(self) -> tuple[bytes, int]:
        """A message that announces descriptors, and how many to send: less, as many, or more."""
        announced = self._pick.randrange(40)
        payload = struct.pack(">Ii", announced, 5)
        return message(SOAK.number, 9, CALL_WITH_FDS, 6, OK, payload), self._pick.randrange(40)

    def authentication(self) -> bytes:
        """What is said to be let in, in a wrong order, or with something wrong in it."""
        pick = self._pick
        first = b"n,,n=soak,r=" + os.urandom(8).hex().encode()
        notNil = struct.pack(">I", 0)
        start = _string(pick.choice((_MECHANISM, b"NONE"))) + notNil + _string(first)
        said = [
            message(REMOTE.number, _AUTH_LIST, CALL, 1),
            message(REMOTE.number, _SASL_INIT, CALL, 2),
            message(REMOTE.number, _SASL_START, CALL, 3, OK, start),
            message(REMOTE.number, _SASL_STEP, CALL, 4, OK, notNil + _string(os.urandom(50))),
            message(SOAK.number, 2, CALL, 5, OK, _string(b"let in?")),
        ]
        if pick.random() < 0.3:
            pick.shuffle(said)
        return b"".join(said[: pick.randrange(1, 6)])

    def hello(self) -> bytes:
        """The beginning of a TLS handshake, whole or cut off, or something else in its place."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = outgoing.read()
        way = self._pick.randrange(4)
        if way == 0:
            return hello
        if way == 1:
            return hello[: self._pick.randrange(1, len(hello))]
        if way == 2:
            spoilt = bytearray(hello)
            spoilt[self._pick.randrange(len(spoilt))] ^= 1 << self._pick.randrange(8)
            return bytes(spoilt)
        return self.call()
