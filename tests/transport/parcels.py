"""A program whose calls and replies carry descriptors, and test cases after which none may be left."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.trial.unittest import TestCase
from zope.interface import Interface

from tests.contracts.ends import reactor, turns
from tests.openfiles import openDescriptors
from tests.peers import CALL, CALL_WITH_FDS, OK, REPLY, REPLY_WITH_FDS, Message, message
from tests.transport.raw import RawListener, RawSocket
from virnet.client import NetClient
from virnet.programs.base import Procedure, Program
from virnet.server import NetServer, ServerProgram, ServerService
from virnet.xdr import INT, String

TEXT = String(200)


class IParcels(Interface):
    """Calls and replies with descriptors."""

    def take(label: str, fds: Sequence[int]) -> Deferred[str]:
        """Read the descriptors that come with the call, and return what was in them."""

    def give(count: int) -> Deferred[list[int]]:
        """Return descriptors."""

    def giveNamed(label: str) -> Deferred[tuple[str, list[int]]]:
        """Return a descriptor and a text."""

    def ping() -> Deferred[None]:
        """Neither takes nor gives anything."""


PARCELS: Program[IParcels, Any] = Program(
    0x2ECA0004,
    1,
    IParcels,
    procedures=[
        Procedure(1, "take", (("label", TEXT),), TEXT, fds="call"),
        Procedure(2, "give", (("count", INT),), fds="reply"),
        Procedure(3, "giveNamed", (("label", TEXT),), TEXT, fds="reply"),
        Procedure(4, "ping"),
    ],
    name="PARCELS",
)

TAKE, GIVE, GIVE_NAMED, PING = range(1, 5)


def parcel(text: str) -> int:
    """A descriptor that a text can be read from."""
    fd = os.memfd_create("parcel", 0)
    os.write(fd, text.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def contents(fd: int) -> str:
    """What a parcel holds."""
    return os.pread(fd, 1000, 0).decode()


class Parcels:
    """Provides L{IParcels}."""

    def __init__(self) -> None:
        self.taken: list[list[int]] = []

    def take(self, label: str, fds: list[int]) -> Any:
        """Join what is in the descriptors."""
        self.taken.append(fds)
        return label + "".join(contents(fd) for fd in fds)

    def give(self, count: int) -> Any:
        """Give so many, numbered."""
        return [parcel(f"<{number}>") for number in range(count)]

    def giveNamed(self, label: str) -> Any:
        """Give one that holds the label."""
        return label.upper(), [parcel(label)]

    def ping(self) -> None:
        """Do nothing."""


def call(number: int, serial: int, payload: bytes = b"", fds: int | None = None) -> bytes:
    """The message of a call.

    @param fds: how many it announces; C{None} for an ordinary one.
    """
    type = CALL
    if fds is not None:
        type, payload = CALL_WITH_FDS, fds.to_bytes(4, "big") + payload
    return message(PARCELS.number, 1, number, type, serial, OK, payload)


def taking(serial: int, fds: int) -> bytes:
    """A call that announces descriptors."""
    return call(TAKE, serial, PARCELS.procedures[TAKE].encodeArgs(("",)), fds)


def replying(
    to: Message, fds: int | None, payload: bytes = b"", status: int = OK, program: int = PARCELS.number
) -> bytes:
    """The reply to a call.

    @param fds: how many it announces; C{None} for an ordinary one.
    """
    type = REPLY
    if fds is not None:
        type, payload = REPLY_WITH_FDS, fds.to_bytes(4, "big") + payload
    return message(program, 1, to.procedure, type, to.serial, status, payload)


class DescriptorCase(TestCase):
    """Sockets in a directory of the test's own; after the test nothing is open that was not before."""

    timeout = 20

    async def setUp(self) -> None:  # type: ignore[override]
        # The reactor runs, and has opened what it needs for that.
        await turns(1)
        self._before = openDescriptors()
        self.addCleanup(self._nothingIsLeft)
        self._directory = tempfile.mkdtemp(prefix="virnet-")
        self.addCleanup(shutil.rmtree, self._directory)
        self.path = f"{self._directory}/s"

    def _nothingIsLeft(self) -> None:
        after = openDescriptors()
        # Twisted keeps one on /dev/null in reserve once it has listened.
        left = {fd: after[fd] for fd in after if fd not in self._before and after[fd] != "/dev/null"}
        self.assertEqual(left, {})

    def kept(self, text: str) -> int:
        """A parcel that the test keeps."""
        fd = parcel(text)
        self.addCleanup(os.close, fd)
        return fd

    def copies(self, fd: int) -> int:
        """How many descriptors of this process are open on what this one is open on, itself not counted."""
        key = os.fstat(fd)
        count = -1
        for each in openDescriptors():
            try:
                count += os.path.samestat(os.fstat(each), key)
            except OSError:
                pass  # the one by which the directory was read
        return count

    async def serve(self, provider: object, endpoint: Any = None, **options: Any) -> NetServer:
        """Start a server on a UNIX socket; it stops with the test."""
        server = NetServer(reactor, [ServerProgram(PARCELS, lambda client: provider)], **options)
        service = ServerService(server, endpoint or f"unix:{self.path}:lockfile=0")
        server.startService()
        self.addCleanup(server.stopService)
        port: Any = await service.whenListening()
        if endpoint is not None:
            self.port = port.getHost().port
        return server

    def raw(self) -> RawSocket:
        """Connect a raw client to the server."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        peer = RawSocket(sock)
        self.addCleanup(peer.close)
        return peer

    async def client(self, endpoint: Any = None) -> NetClient:
        """Connect a client of ours to the server."""
        client = await NetClient.overEndpoint(endpoint or UNIXClientEndpoint(reactor, self.path))
        self.addCleanup(client.close)
        return client

    async def clientOfRaw(self) -> tuple[NetClient, RawSocket]:
        """A client of ours and the raw server that it is connected to."""
        listener = RawListener(self.path)
        client = await self.client()
        server = listener.accept()
        listener.close()
        self.addCleanup(server.close)
        return client, server

    async def lost(self, server: NetServer, but: int = 0) -> None:
        """Wait until a server has no more clients than that."""
        while len(server.clients) > but:
            await turns(1)


def narrow(protocol: Any, room: int = 0) -> None:
    """Leave a connection's socket little room for what is to be sent.

    @param room: bytes; a byte with a descriptor takes about 800 of them. The kernel gives some always.
    """
    protocol.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
