"""What every way to a server does, shown with a peer that sends back what it gets.

A subclass says in C{reach} how to get to one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from tests.contracts.ends import MUCH, End, HalfCloseableEnd, pattern
from virnet.transport.writethrough import senderFor

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as _Mixin
else:
    _Mixin = object


@implementer(IHalfCloseableProtocol)
class EchoServer(Protocol):
    """Sends back what it gets; closes when there is no more."""

    def dataReceived(self, data: bytes) -> None:
        """Send it back; read no more than is taken."""
        assert self.transport is not None
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        """There is no more."""
        assert self.transport is not None
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nobody reads."""


class Dying(Protocol):
    """Closes at once."""

    def connectionMade(self) -> None:
        """Do it."""
        assert self.transport is not None
        self.transport.loseConnection()


class Only(Factory):
    """Has one protocol to give."""

    noisy = False

    def __init__(self, end: End) -> None:
        self._end = end

    def buildProtocol(self, addr: Any) -> End:
        return self._end


class EchoContract(_Mixin):
    """Reading, writing and the end, over our sender."""

    timeout = 30

    async def reach(self, died: bool = False) -> IStreamClientEndpoint:
        """The way to a peer.

        @param died: one that is gone as soon as it is reached.
        """
        raise NotImplementedError

    async def listen(self, endpoint: IStreamServerEndpoint, died: bool) -> Any:
        """Have a peer listen during the test; its address."""
        factory = Factory.forProtocol(Dying if died else EchoServer)
        factory.noisy = False
        port = await endpoint.listen(factory)
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        return port.getHost()

    async def connect(self, end: End, died: bool = False) -> None:
        """Connect an end."""
        await (await self.reach(died)).connect(Only(end))

    async def test_R141_what_is_written_comes_back(self) -> None:
        end = End(senderFor)
        await self.connect(end)
        for count in range(1, 20):
            end.out.write(b"ping")
            self.assertEqual(await end.has(4 * count), b"ping" * count)
        data = pattern(MUCH)
        end.out.write(data)
        received = await end.has(76 + len(data))
        self.assertTrue(received[76:] == data)
        end.out.loseConnection()
        (await end.isLost()).trap(ConnectionDone)

    async def test_R141_what_is_read_slowly_comes_all_the_same(self) -> None:
        end = End(senderFor)
        await self.connect(end)
        end.readSlowly()
        data = pattern(MUCH)
        end.out.write(data)
        self.assertTrue(await end.has(len(data)) == data)
        end.out.loseConnection()
        await end.isLost()

    async def test_R141_the_end_of_what_is_written_is_seen_there_and_that_of_the_peer_here(self) -> None:
        end = HalfCloseableEnd(senderFor)
        await self.connect(end)
        data = pattern(1 << 20)
        end.out.write(data)
        end.out.loseWriteConnection()
        await end.until(lambda: end.readEnded or end.lost is not None)
        self.assertTrue(end.received == data)
        end.out.loseConnection()
        (await end.isLost()).trap(ConnectionDone)

    async def test_R141_the_peers_early_death_ends_the_connection(self) -> None:
        end = End(senderFor)
        await self.connect(end, died=True)
        await end.isLost()
        self.assertEqual(end.received, b"")

    async def test_R141_it_can_be_cut_at_any_time(self) -> None:
        end = End(senderFor)
        await self.connect(end)
        end.out.pauseProducing()
        end.out.write(bytes(MUCH))
        end.out.abortConnection()
        (await end.isLost()).trap(ConnectionAborted)
