"""A process of clients: C{python -m tests.soak.clients SOCKET NUMBER SEED}; killed by who started it.

Each client connects, does one thing that it picked at random, and goes; some in order, most not.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.soak.program import SOAK
from virnet.client import Connection, NetClient, connect
from virnet.errors import VirnetError

reactor: Any = installed

_HEADER = struct.Struct(">IIIiiIi")


class Clients:
    """What they do."""

    def __init__(self, path: str, seed: int) -> None:
        self._path = path
        self._random = random.Random(seed)
        self._things: list[Callable[[], Awaitable[None]]] = [
            self.calls,
            self.cancelledCalls,
            self.hypervisor,
            self.download,
            self.upload,
            self.descriptors,
            self.nobodyReads,
            self.garbage,
        ]

    async def forever(self) -> None:
        """One client after the other."""
        while True:
            try:
                await self._random.choice(self._things)()
            except (VirnetError, OSError, CancelledError):
                pass
            await self.pause(0.02)

    def pause(self, most: float) -> Deferred[None]:
        """Wait a random time."""
        return deferLater(reactor, self._random.uniform(0, most), lambda: None)

    async def client(self) -> NetClient:
        """Connect."""
        return await NetClient.overEndpoint(UNIXClientEndpoint(reactor, self._path))

    async def leave(self, client: NetClient) -> None:
        """In order or not."""
        if self._random.random() < 0.5:
            await client.close()
        else:
            client.abandon()

    async def calls(self) -> None:
        """Many at once, some of which take time, hold a worker or fail."""
        client = await self.client()
        soak = client.program(SOAK)
        pending = []
        for _ in range(self._random.randrange(1, 40)):
            pending.append(
                self._random.choice(
                    (
                        lambda: soak.echo(os.urandom(self._random.randrange(5000))),
                        lambda: soak.later(self._random.randrange(50)),
                        lambda: soak.block(self._random.randrange(3)),
                        lambda: soak.fail("as told"),
                    )
                )()
            )
        for each in pending[: self._random.randrange(len(pending) + 1)]:
            try:
                await each
            except VirnetError:
                pass
        for each in pending:
            each.addErrback(lambda _: None)
        await self.leave(client)

    async def cancelledCalls(self) -> None:
        """Calls that nobody waits for."""
        client = await self.client()
        pending = [client.program(SOAK).later(self._random.randrange(30)) for _ in range(20)]
        await self.pause(0.02)
        for each in pending:
            each.addErrback(lambda _: None)
            each.cancel()
        await client.program(SOAK).echo(b"still there")
        await self.leave(client)

    async def hypervisor(self) -> None:
        """What a manager does."""
        connection: Connection = await connect(
            reactor, f"test+unix:///default?socket={self._path}", keepalive=(1, 2)
        )
        remote = connection.remote
        subscription = await connection.domainEvents.subscribe(0, lambda *_: None)
        name = f"soak-{self._random.randrange(1 << 40)}"
        domain = await remote.domainDefineXML(
            f"<domain type='test'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
        )
        await remote.domainCreate(domain)
        await remote.connectListAllDomains(1, 3)
        await remote.domainDestroy(domain)
        await remote.domainUndefine(domain)
        if self._random.random() < 0.3:
            await subscription.cancel()
        if self._random.random() < 0.5:
            await connection.close()
        else:
            connection.client.abandon()

    async def download(self) -> None:
        """Read some, then finish, abort, leave, or forget about it."""
        client = await self.client()
        stream = await client.program(SOAK).download(self._random.randrange(1, 40), self._random.randrange(2))
        for _ in range(self._random.randrange(20)):
            if not await stream.receive():
                break
        await self._end(client, stream)

    async def upload(self) -> None:
        """Send some, then finish, abort, leave, or forget about it."""
        client = await self.client()
        stream = await client.program(SOAK).upload(self._random.randrange(2))
        try:
            for _ in range(self._random.randrange(120)):
                if stream.sparse and self._random.random() < 0.2:
                    await stream.sendHole(1 << 30)
                else:
                    await stream.send(bytes(self._random.randrange(100_000)))
        finally:
            await self._end(client, stream)

    async def _end(self, client: NetClient, stream: Any) -> None:
        way = self._random.randrange(4)
        try:
            if way == 0:
                await stream.finish()
            elif way == 1:
                await stream.abort()
            elif way == 2:
                stream.abort().addErrback(lambda _: None)
        finally:
            await self.leave(client)

    async def descriptors(self) -> None:
        """Both ways, and some that are never announced."""
        client = await self.client()
        soak = client.program(SOAK)
        for fd in await soak.give(self._random.randrange(33)):
            os.close(fd)
        with open("/dev/null") as null:
            await soak.take(3, fds=[null.fileno()] * self._random.randrange(33))
        await self.leave(client)
        await deferToThread(self._raw, self._strayDescriptors)

    async def nobodyReads(self) -> None:
        """Ask for much and read nothing."""
        await deferToThread(self._raw, self._flood)

    async def garbage(self) -> None:
        """Bytes of all kinds."""
        await deferToThread(self._raw, self._nonsense)

    def _raw(self, what: Callable[[socket.socket], None]) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(1)
            sock.connect(self._path)
            what(sock)

    def _strayDescriptors(self, sock: socket.socket) -> None:
        with open("/dev/null") as null:
            for _ in range(self._random.randrange(80)):
                socket.send_fds(sock, [b"\0"], [null.fileno()])

    def _flood(self, sock: socket.socket) -> None:
        call = _HEADER.pack(28 + 8, SOAK.number, 1, 2, 0, 1, 0) + b"\0\0\0\4abcd"
        sock.setblocking(False)
        try:
            for _ in range(2000):
                sock.send(call)
        except BlockingIOError:
            pass

    def _nonsense(self, sock: socket.socket) -> None:
        pick = self._random
        for _ in range(pick.randrange(1, 10)):
            sock.sendall(
                pick.choice(
                    (
                        os.urandom(pick.randrange(1, 200)),
                        (1000).to_bytes(4, "big") + os.urandom(pick.randrange(200)),
                        (0xFFFFFFFF).to_bytes(4, "big"),
                        _HEADER.pack(28, SOAK.number, 1, 3, pick.randrange(9), 1, pick.randrange(4)),
                        _HEADER.pack(28, pick.randrange(1 << 32), 1, 3, 0, 1, 0),
                        _HEADER.pack(28, 0x6B656570, 1, pick.randrange(4), 2, 0, 0),
                        _HEADER.pack(36, SOAK.number, 1, 6, 0, 7, 0) + b"\0\0\0\x09\0\0\0\0",
                        _HEADER.pack(28 + 16, SOAK.number, 1, 6, 3, 7, 2) + bytes(16),
                    )
                )
            )


def main(path: str, number: int, seed: int) -> None:
    """Run until killed."""
    clients = Clients(path, seed)
    for _ in range(number):
        Deferred.fromCoroutine(clients.forever()).addErrback(lambda failure: (print(failure), os._exit(3)))
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
