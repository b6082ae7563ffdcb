"""A process of clients: C{python -m tests.soak.clients DIRECTORY PORT NUMBER SEED}; killed by who started it.

Each client connects, over one of the server's three sockets, does one thing that it picked at random, stays
for a while and goes; some in order, most not. A mistake of our own ends the process.
"""

from __future__ import annotations

import os
import random
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.soak.program import SOAK
from tests.soak.strangers import Phrases, Stranger, meet
from virnet.client import Connection, NetClient, connect
from virnet.errors import VirnetError
from virnet.programs.values import StorageVol
from virnet.security.tlscontext import TLSContext
from virnet.transport.tls import TLSClientEndpoint

T = TypeVar("T")

reactor: Any = installed

PASSWORD = "long live the server"
#: Seconds that a client stays where nothing else says so. Together with the number of clients it makes how
#: many are connected at a time.
STAY = 4.0
DOMAINS = 16
_XML = (
    "<domain type='test'><name>{}</name><uuid>{}</uuid><memory>1024</memory>"
    "<os><type>hvm</type></os></domain>"
)


class Clients:
    """What they do."""

    def __init__(self, directory: str, port: int, seed: int) -> None:
        pick = self._random = random.Random(seed)
        self._phrases = Phrases(pick)
        self._unix = UNIXClientEndpoint(reactor, os.path.join(directory, "sock"))
        self._sasl = UNIXClientEndpoint(reactor, os.path.join(directory, "sasl"))
        self._tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self._tls = self._secured(TLSContext.forClient(pkipath=directory))
        # Without a certificate nobody is let in.
        authority = os.path.join(directory, "anonymous")
        self._refused = self._secured(TLSContext.forClient(pkipath=authority))
        self._things: list[Callable[[], Awaitable[object]]] = [
            self.calls,
            self.cancelledCalls,
            self.hypervisor,
            self.volume,
            self.download,
            self.upload,
            self.descriptors,
            self.refused,
            self.nobodyReads,
            self.strayDescriptors,
            self.halfMessage,
            self.nonsense,
            self.strangeStreams,
            self.strangeAuthentication,
            self.strangeHandshake,
        ]

    def _secured(self, context: TLSContext) -> TLSClientEndpoint:
        return TLSClientEndpoint(reactor, self._tcp, context, "localhost")

    async def forever(self) -> None:
        """One client after the other."""
        while True:
            await self.pause(0.1)
            try:
                await self.pick(self._things)()
            except (VirnetError, ConnectError, CancelledError):
                pass

    def pick(self, things: list[T]) -> T:
        """One of them."""
        return self._random.choice(things)

    def pause(self, most: float = STAY) -> Deferred[None]:
        """Wait a random time."""
        return deferLater(reactor, self._random.uniform(0, most), lambda: None)

    # Who they are

    async def connection(self) -> Connection:
        """Open a connection to the hypervisor."""
        endpoint: IStreamClientEndpoint = self.pick([self._unix, self._sasl, self._tls])
        return await connect(
            reactor,
            "test+unix:///default",
            keepalive=self.pick([None, (1, 2)]),
            endpoint=endpoint,
            credentials=lambda asked: "soak" if asked.kind == "authname" else PASSWORD,
        )

    async def client(self) -> NetClient:
        """Connect to the program."""
        if self._random.random() < 0.5:
            return (await self.connection()).client
        return await NetClient.overEndpoint(self._unix)

    async def leave(self, client: NetClient) -> None:
        """In order or not."""
        await self.pause()
        if self._random.random() < 0.5:
            await client.close()
        else:
            client.abandon()

    # Calls

    async def calls(self) -> None:
        """Many at once, some of which take time, hold a worker or fail; some answers nobody waits for."""
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
        """Calls that nobody waits for any more."""
        client = await self.client()
        pending = [client.program(SOAK).later(self._random.randrange(30)) for _ in range(20)]
        await self.pause(0.02)
        for each in pending:
            each.addErrback(lambda _: None)
            each.cancel()
        await client.program(SOAK).echo(b"still there")
        await self.leave(client)

    async def hypervisor(self) -> None:
        """What a manager does, to domains to which others do the same, with events that it may not end."""
        connection = await self.connection()
        remote = connection.remote
        number = self._random.randrange(DOMAINS)
        try:
            subscription = await connection.domainEvents.subscribe(0, lambda *_: None)
            uuid = f"{number:08d}-0000-4000-8000-000000000000"
            domain = await remote.domainDefineXML(_XML.format(f"soak-{number}", uuid))
            await remote.domainCreate(domain)
            await remote.connectListAllDomains(1, 3)
            await self.pause()
            await remote.domainDestroy(domain)
            await remote.domainUndefine(domain)
            if self._random.random() < 0.3:
                await subscription.cancel()
        finally:
            await self.end(connection)

    async def end(self, connection: Connection) -> None:
        """Close it as it should be, or not."""
        if self._random.random() < 0.5:
            await connection.close()
        else:
            connection.client.abandon()

    # Streams

    async def volume(self) -> None:
        """Read or write a file of the server's."""
        connection = await self.connection()
        volume = StorageVol("default-pool", "soak", "")
        if self._random.random() < 0.5:
            stream = await connection.remote.storageVolDownload(volume, 0, 0, self._random.randrange(2))
            await self.read(stream)
        else:
            stream = await connection.remote.storageVolUpload(volume, 0, 0, self._random.randrange(2))
            await self.write(stream)
        await self._end(connection.client, stream)

    async def download(self) -> None:
        """Read some, then finish, abort, leave, or forget about it."""
        client = await self.client()
        stream = await client.program(SOAK).download(self._random.randrange(1, 40), self._random.randrange(2))
        await self.read(stream)
        await self._end(client, stream)

    async def upload(self) -> None:
        """Send some, then finish, abort, leave, or forget about it."""
        client = await self.client()
        stream = await client.program(SOAK).upload(self._random.randrange(2))
        try:
            await self.write(stream)
        finally:
            await self._end(client, stream)

    async def read(self, stream: Any) -> None:
        """Some of it, or all."""
        for _ in range(self._random.randrange(20)):
            if not await stream.receive():
                break

    async def write(self, stream: Any) -> None:
        """Something."""
        for _ in range(self._random.randrange(120)):
            if stream.sparse and self._random.random() < 0.2:
                await stream.sendHole(1 << 16)
            else:
                await stream.send(bytes(self._random.randrange(100_000)))

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

    # Descriptors

    async def descriptors(self) -> None:
        """Both ways."""
        client = await NetClient.overEndpoint(self._unix)
        soak = client.program(SOAK)
        for fd in await soak.give(self._random.randrange(33)):
            os.close(fd)
        with open("/dev/null") as null:
            await soak.take(3, fds=[null.fileno()] * self._random.randrange(33))
        if self._random.random() < 0.3:
            # It goes while they are on their way.
            soak.give(30).addErrback(lambda _: None)
            client.abandon()
        else:
            await self.leave(client)

    async def strayDescriptors(self) -> None:
        """Other numbers than were announced."""
        stranger = await meet(self.pick([self._unix, self._sasl]))
        data, count = self._phrases.descriptors()
        with open("/dev/null") as null:
            for _ in range(count):
                stranger.transport.sendFileDescriptor(null.fileno())
            stranger.transport.write(data[: self._random.randrange(len(data) + 1)] or b"\0")
            await self.pause(0.2)
        await self.vanish(stranger)

    # Strangers

    async def refused(self) -> None:
        """A wrong password, or no certificate."""
        if self._random.random() < 0.5:
            await NetClient.overEndpoint(self._refused)
        else:
            await connect(
                reactor, "test+unix:///default", endpoint=self._sasl, credentials=lambda asked: "nobody"
            )
        raise AssertionError("let in")

    async def nobodyReads(self) -> None:
        """Ask for much and read nothing."""
        stranger = await meet(self._unix)
        stranger.transport.pauseProducing()
        stranger.transport.write(b"".join(self._phrases.call() for _ in range(300)))
        await self.vanish(stranger)

    async def halfMessage(self) -> None:
        """A message that is cut, and that may go on after a while."""
        stranger = await meet(self._unix)
        call = self._phrases.call()
        cut = self._random.randrange(len(call))
        stranger.transport.write(call[:cut])
        await self.pause()
        if self._random.random() < 0.5:
            stranger.transport.write(call[cut:])
        await self.vanish(stranger)

    async def nonsense(self) -> None:
        """Bytes of all kinds."""
        await self.say(
            [self._unix, self._sasl, self._tls],
            lambda: b"".join(self._phrases.nonsense() for _ in range(self._random.randrange(1, 10))),
        )

    async def strangeStreams(self) -> None:
        """Packets in any order."""
        await self.say([self._unix, self._tls], self._phrases.stream)

    async def strangeAuthentication(self) -> None:
        """Some of what lets in, and nothing else."""
        await self.say([self._sasl], self._phrases.authentication)

    async def strangeHandshake(self) -> None:
        """Some of what begins TLS, or something else."""
        await self.say([self._tcp], self._phrases.hello)

    async def say(self, endpoints: list[IStreamClientEndpoint], phrase: Callable[[], bytes]) -> None:
        """Connect somewhere, say something, and vanish."""
        stranger = await meet(self.pick(endpoints))
        stranger.transport.write(phrase())
        await self.vanish(stranger)

    async def vanish(self, stranger: Stranger) -> None:
        """After a while."""
        await self.pause()
        if self._random.random() < 0.5:
            stranger.transport.loseConnection()
        stranger.transport.abortConnection()


def main(directory: str, port: int, number: int, seed: int) -> None:
    """Run until killed."""
    clients = Clients(directory, port, seed)

    def mistake(failure: Failure) -> None:
        traceback.print_exception(failure.value)
        os._exit(3)

    for _ in range(number):
        Deferred.fromCoroutine(clients.forever()).addErrback(mistake)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
