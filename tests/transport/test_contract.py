"""The contract of transports, over Twisted's own and over our senders on each of them."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trustme
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.trial.unittest import TestCase

from tests.contracts.ends import End, SecuredEnd, reactor
from tests.contracts.transport import FullContract, SocketContract, TransportContract
from tests.pki import issue, write
from virnet.security.tlscontext import TLSContext
from virnet.testing import joined
from virnet.transport.tls import TLSClientEndpoint, TLSServerEndpoint
from virnet.transport.writethrough import senderFor


class _Connected(TransportContract):
    """Connects two ends through endpoints."""

    listens = True
    """Whether the end under test is the one that was connected to."""

    def server(self) -> IStreamServerEndpoint:
        """Where to listen."""
        raise NotImplementedError

    def clientOf(self, address: Any) -> IStreamClientEndpoint:
        """How to get there."""
        raise NotImplementedError

    async def connect(self, ours: End | None = None, theirs: End | None = None) -> tuple[End, End]:
        """Connect two ends."""
        ours, theirs = ours or self.end(), theirs or self.kind()
        first, second = (ours, theirs) if self.listens else (theirs, ours)
        port = await self.server().listen(_Once(first))
        await self.clientOf(port.getHost()).connect(_Once(second))
        await first.until(lambda: first.out is not None)
        await maybeDeferred(port.stopListening)
        return ours, theirs


class _Once(Factory):
    """Has one protocol to give."""

    noisy = False

    def __init__(self, end: End) -> None:
        self._end = end

    def buildProtocol(self, addr: Any) -> End:
        return self._end


class _TCP(_Connected):
    def server(self) -> IStreamServerEndpoint:
        return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")

    def clientOf(self, address: Any) -> IStreamClientEndpoint:
        return TCP4ClientEndpoint(reactor, "127.0.0.1", address.port)


class _UNIX(_Connected):
    def server(self) -> IStreamServerEndpoint:
        return UNIXServerEndpoint(reactor, self.mktemp())

    def clientOf(self, address: Any) -> IStreamClientEndpoint:
        return UNIXClientEndpoint(reactor, address.name)


class _TLS(_TCP):
    """TLS as Twisted has it."""

    kind = SecuredEnd
    stopsReading = False
    aborted = ConnectionLost

    async def connect(self, ours: End | None = None, theirs: End | None = None) -> tuple[End, End]:
        """Connect two ends and let them shake hands: before that TLS closes by aborting."""
        ends = await super().connect(ours, theirs)
        for end in ends:
            assert isinstance(end, SecuredEnd)
            await end.until(partial(getattr, end, "secured"))
        return ends

    def server(self) -> IStreamServerEndpoint:
        return SSL4ServerEndpoint(reactor, 0, _certificate(), interface="127.0.0.1")

    def clientOf(self, address: Any) -> IStreamClientEndpoint:
        return wrapClientTLS(CertificateOptions(), super().clientOf(address))


@cache
def _certificate() -> CertificateOptions:
    issued = trustme.CA().issue_cert("localhost")
    pem = issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes()
    options: CertificateOptions = PrivateCertificate.loadPEM(pem).options()
    return options


class _ConfirmedEnd(SecuredEnd):
    """Skips the byte by which a server of libvirt's says that it is satisfied."""

    def dataReceived(self, data: bytes) -> None:
        if not self._count:
            self._count, data = 1, data[1:]
        if data:
            super().dataReceived(data)

    async def has(self, count: int) -> bytes:
        return await super().has(count + 1)


class _ConfirmingEnd(SecuredEnd):
    """Says it."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"\1")
        super().connectionMade()


class _OurTLS(_TCP):
    """A session of ours, and at the other end Twisted's TLS."""

    kind = SecuredEnd

    async def connect(self, ours: End | None = None, theirs: End | None = None) -> tuple[End, End]:
        """Connect two ends and let them shake hands."""
        theirs = theirs or (_ConfirmedEnd() if self.listens else _ConfirmingEnd())
        ends = await super().connect(ours, theirs)
        for end in ends:
            assert isinstance(end, SecuredEnd)
            await end.until(partial(getattr, end, "secured"))
        return ends

    def server(self) -> IStreamServerEndpoint:
        if not self.listens:
            return SSL4ServerEndpoint(reactor, 0, _certificate(), interface="127.0.0.1")
        return TLSServerEndpoint(reactor, super().server(), _contexts()[0])

    def clientOf(self, address: Any) -> IStreamClientEndpoint:
        endpoint = super().clientOf(address)
        if self.listens:
            return wrapClientTLS(CertificateOptions(), endpoint)
        return TLSClientEndpoint(reactor, endpoint, _contexts()[1], "localhost")


@cache
def _contexts() -> tuple[TLSContext, TLSContext]:
    """Contexts of a server and of a client that do not ask who the other is."""
    authority = issue(name="CA", ca=True)
    with TemporaryDirectory() as directory:
        write(Path(directory), [authority], server=issue(authority), client=issue(authority))
        return (
            TLSContext.forServer(pkipath=directory, verify=False),
            TLSContext.forClient(pkipath=directory, verify=False),
        )


class _InMemory(TransportContract):
    """The strict transport of L{virnet.testing}, driven by the reactor."""

    async def connect(self, ours: End | None = None, theirs: End | None = None) -> tuple[End, End]:
        ours, theirs = ours or self.end(), theirs or self.kind()
        joined(reactor, ours, theirs)
        return ours, theirs


class TwistedTCP(_TCP, SocketContract, TestCase):
    """Twisted's TCP transport: the contract asks for nothing that is not so."""


class TwistedUNIX(_UNIX, SocketContract, TestCase):
    """Twisted's UNIX transport."""


class TwistedTLS(_TLS, TestCase):
    """Twisted's TLS transport, which does not hold the full contract."""


class InMemory(_InMemory, FullContract, TestCase):
    """The strict transport is not stricter than Twisted's."""


class WriteThroughTCP(_TCP, SocketContract, TestCase):
    """Ours on a TCP socket that was accepted."""

    sender = staticmethod(senderFor)


class WriteThroughTCPClient(WriteThroughTCP):
    """Ours on a TCP socket that was connected."""

    listens = False


class WriteThroughUNIX(_UNIX, SocketContract, TestCase):
    """Ours on a UNIX socket that was accepted."""

    sender = staticmethod(senderFor)


class WriteThroughUNIXClient(WriteThroughUNIX):
    """Ours on a UNIX socket that was connected."""

    listens = False


class BufferedTLS(_TLS, FullContract, TestCase):
    """Ours on Twisted's TLS."""

    sender = staticmethod(senderFor)


class BufferedTLSClient(BufferedTLS):
    """Ours on Twisted's TLS, at the end that connects."""

    listens = False


class OurTLS(_OurTLS, FullContract, TestCase):
    """Our own TLS, at the end that was connected to."""


class OurTLSClient(_OurTLS, FullContract, TestCase):
    """Our own TLS, at the end that connects."""

    listens = False


class BufferedInMemory(_InMemory, FullContract, TestCase):
    """Ours on the strict transport."""

    sender = staticmethod(senderFor)
    stopsReading = False
