"""TLS under the RPC protocol: handshake, confirmation, and messages as records (C: C{virNetTLSSession}).

  - The handshake begins when the connection is there; each end judges the other's certificate. A server
    that is satisfied sends one byte, 1, in a record of its own, and a client waits for it.
  - One C{write} is one run of records with nothing else in them, since libvirt does not look at what is
    already decrypted when it waits for the next message. What came together is all read at once for
    the same reason.
  - Nothing is encrypted that the connection does not want yet: a message waits in clear, its producer is
    paused.
  - The end of either direction is the end of the connection, as it is for libvirt. C{loseConnection} says
    close_notify and does not wait for the peer's.
  - A handshake that is not through after L{TLS_HANDSHAKE_SECONDS<virnet.limits.TLS_HANDSHAKE_SECONDS>} is
    given up. The time does not run while the session is not read, as that of a client that has to wait for
    its turn.

The wrapped protocol is connected at once, as it is by Twisted's own TLS. What it writes before the
handshake is through waits; C{handshakeCompleted} of C{IHandshakeListener} tells it.
"""

from __future__ import annotations

import ssl
from functools import cached_property
from typing import Any, cast

from OpenSSL.crypto import FILETYPE_ASN1, X509, load_certificate
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ISSLTransport,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from virnet import probes
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.limits import TLS_HANDSHAKE_SECONDS, TLS_LINGER_SECONDS, TLS_PIECE
from virnet.security.tlscontext import Engine, TLSContext
from virnet.transport.sender import BufferedSender
from virnet.transport.writethrough import senderFor

CONFIRMATION = b"\1"

_UNCONFIRMED = "server verification (of our certificate or IP address) failed"


@implementer(ISSLTransport)
class TLSSession(BufferedSender):
    """The transport of a protocol over TLS.

    @ivar context: what it was made by.
    @ivar handshaking: it cannot be used yet.
    @ivar peerName: the distinguished name of the peer's certificate; C{None} where there is none that counts.
    """

    log = Logger()

    def __init__(
        self,
        transport: Any,
        protocol: IProtocol,
        context: TLSContext,
        clock: IReactorTime,
        host: str | None = None,
    ) -> None:
        """@param transport: connected; nothing else uses it.
        @param protocol: what is to be connected.
        @param host: what a client wants to reach; C{None} on a server.
        """
        self.context = context
        self.handshaking = True
        self.peerName: str | None = None
        self._clock = clock
        self._host = host
        self._protocol = protocol
        self._shaken = False
        self._over = False
        self._reason: Failure | None = None
        self._paused = False
        self._undelivered = b""
        self._timer: IDelayedCall | None = None
        self._secured: list[Deferred[None]] = []
        super().__init__(senderFor(transport))
        # Until the handshake is through.
        self._waiting = True
        if probes.TLS_SESSION_NEW.listeners:
            probes.TLS_SESSION_NEW(self, context, host, context.isServer)

    def start(self) -> None:
        """Connect the protocol and begin the handshake."""
        self._startTimer()
        self._protocol.makeConnection(self)
        if not self.context.isServer and not self._over:
            self._advance()

    @cached_property
    def _engine(self) -> Engine:
        # Not before a client has said something: it costs more than accepting its connection.
        return self.context.engine()

    def whenSecured(self) -> Deferred[None]:
        """Wait for the handshake.

        @return: fires when the session can be used; fails with why it cannot.
        """
        deferred: Deferred[None] = Deferred()
        if self._reason is not None:
            deferred.errback(self._reason)
        elif self.handshaking:
            self._secured.append(deferred)
        else:
            deferred.callback(None)
        return deferred

    # The handshake

    def _startTimer(self) -> None:
        if self.handshaking and self._timer is None and not self._over:
            self._timer = self._clock.callLater(TLS_HANDSHAKE_SECONDS, self._tooSlow)

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _tooSlow(self) -> None:
        self._timer = None
        self._handshakeFailed(f"not through after {TLS_HANDSHAKE_SECONDS:g} seconds")

    def _handshake(self) -> bool:
        """
        @return: whether data may come now.
        """
        try:
            done = self._engine.handshake()
        except ssl.SSLError as e:
            self._flush()
            self._handshakeFailed(_words(e), isinstance(e, ssl.SSLCertVerificationError))
            return False
        self._flush()
        if not done:
            return False
        self._shaken = True
        try:
            self.peerName = self.context.checkPeer(self, self._engine, self._host)
        except RemoteError as e:
            self._fail(e)
            return False
        if probes.TLS_SESSION_HANDSHAKE_PASS.listeners:
            probes.TLS_SESSION_HANDSHAKE_PASS(self)
        if self.context.isServer:
            self._engine.write(CONFIRMATION)
            self._flush()
            self._secure()
        return not self._over

    def _handshakeFailed(self, why: str, linger: bool = False) -> None:
        if probes.TLS_SESSION_HANDSHAKE_FAIL.listeners:
            probes.TLS_SESSION_HANDSHAKE_FAIL(self)
        self._fail(_error(ErrorNumber.AUTH_FAILED, f"TLS handshake failed: {why}"), linger)

    def _confirm(self, data: bytes, over: bool) -> bytes:
        """Look for the byte by which the server says that it is satisfied.

        @return: what came behind it.
        """
        if data[:1] == CONFIRMATION:
            self._secure()
            return data[1:]
        if data:
            self._fail(_error(ErrorNumber.RPC, _UNCONFIRMED))
        elif over:
            self._unconfirmed("Input/output error")
        return b""

    def _unconfirmed(self, why: str) -> None:
        # libvirt's text, and what it most likely means.
        text = f"Unable to read TLS confirmation: {why}: {self._unconfirmedBecause()}"
        self._fail(_error(ErrorNumber.SYSTEM_ERROR, text))

    def _unconfirmedBecause(self) -> str:
        missing = self.context.credentials.missing
        if missing is None:
            return _UNCONFIRMED
        return f"{_UNCONFIRMED}; no certificate was sent: there is no {missing}"

    def _secure(self) -> None:
        self.handshaking = False
        self._stopTimer()
        super().drained()
        if IHandshakeListener.providedBy(self._protocol):
            self._protocol.handshakeCompleted()
        waiting, self._secured = self._secured, []
        for each in waiting:
            each.callback(None)

    # Reading

    def received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._over or self._gone:
            return
        try:
            self._engine.feed(data)
        except (OSError, RemoteError) as e:
            self._handshakeFailed(f"there is no engine: {e}")
            return
        self._advance()

    def _advance(self) -> None:
        if self._shaken or self._handshake():
            self._read()

    def _read(self) -> None:
        try:
            data, over = self._engine.read()
        except ssl.SSLError as e:
            self._flush()
            if self.handshaking:
                self._unconfirmed(_words(e))
            else:
                self._fail(_error(ErrorNumber.SYSTEM_ERROR, f"Cannot read from TLS session: {_words(e)}"))
            return
        # The protocol itself may have had something to answer.
        self._flush()
        if self.handshaking:
            data = self._confirm(data, over)
        self._undelivered += data
        self._deliver()
        if over and not (self._over or self._gone):
            self._peerClosed()

    def _deliver(self) -> None:
        data = self._undelivered
        if data and not (self._paused or self._over or self._gone):
            self._undelivered = b""
            self._protocol.dataReceived(data)

    def pauseProducing(self) -> None:
        """Read nothing."""
        self._paused = True
        if not self._over:
            self._stopTimer()
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        if self._closing or self._gone:
            return
        self._paused = False
        self._startTimer()
        self._transport.resumeProducing()
        if self._undelivered:
            self._clock.callLater(0, self._deliver)

    # Writing

    def _handOver(self) -> None:
        while self._queue and not self._waiting:
            message = self._queue[0]
            data = memoryview(message.data)
            message.data = data[TLS_PIECE:]
            if not message.data:
                self._handed.append(self._queue.popleft())
            self._encrypt(data[:TLS_PIECE])
            if not self._waiting:
                self._finishHanded()

    def _encrypt(self, data: memoryview) -> None:
        try:
            self._engine.write(data)
        except ssl.SSLError as e:
            self._fail(_error(ErrorNumber.SYSTEM_ERROR, f"Cannot write to TLS session: {_words(e)}"))
        self._flush()

    def _flush(self) -> None:
        data = self._engine.output()
        if data:
            self._transport.write(data)

    def hold(self) -> None:
        self._transport.hold()

    def flush(self) -> None:
        self._transport.flush()

    def _hasEnough(self) -> bool:
        return self._waiting and not self.handshaking

    def filled(self) -> None:
        if not self.handshaking:
            super().filled()

    def drained(self) -> None:
        if not self.handshaking:
            super().drained()

    # The end

    def loseConnection(self) -> None:
        """Read nothing more; close when everything was sent and no producer is left. At once while the
        handshake goes on.
        """
        if self.handshaking:
            self.abortConnection()
        else:
            if not self._gone:
                self.pauseProducing()
            super().loseConnection()

    def _close(self) -> None:
        if self._waiting or self._queue or self._producer is not None:
            return
        if self._closing or self._halfClosing:
            self._engine.close()
            self._flush()
        if self._closing:
            self._end()

    def _end(self) -> None:
        """Let what is encrypted leave, and close."""
        self._transport.unregisterProducer()
        self._transport.loseConnection()

    def _peerClosed(self) -> None:
        self._over = True
        self._reason = Failure(ConnectionDone())
        self._drop()
        self._hangUp()

    def _fail(self, error: RemoteError, linger: bool = False) -> None:
        """The session cannot go on.

        @param linger: the peer has not said everything yet, and shall read why nobody listens.
        """
        if self._over:
            return
        self._over = True
        self._reason = Failure(error)
        if self.context.isServer or not self.handshaking:
            self.log.warn("{peer}: {error}", peer=_peerOf(self), error=error)
        self._drop()
        if linger:
            self._timer = self._clock.callLater(TLS_LINGER_SECONDS, self._lingered)
        else:
            self._hangUp()

    def _lingered(self) -> None:
        self._timer = None
        self._hangUp()

    def abortConnection(self) -> None:
        """Close now, also when it is closing already."""
        self._drop()
        self._transport.abortConnection()

    def _hangUp(self) -> None:
        """Close, for a peer that does not expect anything any more."""
        if self._transport.queued:
            self._transport.abortConnection()
            return
        if self._shaken:
            self._engine.close()
            self._flush()
        self._end()

    def _drop(self) -> None:
        self._stopTimer()
        super()._drop()

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""
        self._over = True
        self._stopTimer()
        if self.handshaking and self._reason is None:
            self._reason = Failure(self._lostEarly(reason))
        reason = self._reason = self._reason or reason
        self.discard()
        self._transport.discard()
        self._undelivered = b""
        if probes.TLS_SESSION_DISPOSE.listeners:
            probes.TLS_SESSION_DISPOSE(self)
        self._protocol.connectionLost(reason)
        waiting, self._secured = self._secured, []
        for each in waiting:
            each.errback(reason)

    def _lostEarly(self, reason: Failure) -> Exception:
        """
        @return: what it means that the connection was lost before it was of use.
        """
        if self.context.isServer or self._gone:
            return cast(Exception, reason.value)
        why = "Input/output error" if reason.check(ConnectionDone) else str(reason.value)
        if self._shaken:
            text = f"Unable to read TLS confirmation: {why}: {self._unconfirmedBecause()}"
            return _error(ErrorNumber.SYSTEM_ERROR, text)
        text = f"TLS handshake failed: the peer closed the connection: {self._unconfirmedBecause()}"
        return _error(ErrorNumber.AUTH_FAILED, text)

    # About the session

    def getPeerCertificate(self) -> X509 | None:
        """The certificate that the peer has shown, if it has; part of C{ISSLTransport}."""
        chain = self._engine.peerChain if self._shaken else []
        return load_certificate(FILETYPE_ASN1, chain[0]) if chain else None

    @property
    def keyBits(self) -> int:
        """The strength of the encryption, in bits (C: C{virNetTLSSessionGetKeySize})."""
        return self._engine.keyBits

    @property
    def version(self) -> str | None:
        """The version of TLS, like C{TLSv1.3}."""
        return self._engine.version


def _error(code: ErrorNumber, text: str) -> RemoteError:
    return RemoteError.of(code, text, ErrorDomain.RPC)


def _words(error: ssl.SSLError) -> str:
    return str(getattr(error, "reason", None) or error).replace("_", " ").lower()


def _peerOf(session: TLSSession) -> str:
    return getattr(session._protocol, "peer", None) or str(session.getPeer())


class _Link(Protocol):
    """Connects a session to Twisted's transport."""

    def __init__(
        self, protocol: IProtocol, context: TLSContext, clock: IReactorTime, host: str | None = None
    ) -> None:
        """@param protocol: what is to be connected by the session."""
        self.protocol = protocol
        self._context = context
        self._clock = clock
        self._host = host
        self.session: TLSSession | None = None

    def connectionMade(self) -> None:
        self.session = TLSSession(self.transport, self.protocol, self._context, self._clock, self._host)
        self.session.start()

    def dataReceived(self, data: bytes) -> None:
        assert self.session is not None
        self.session.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.session is not None:
            self.session.lost(reason)


class TLSFactory(Factory):
    """Puts TLS between connections and the protocols of another factory."""

    noisy = False

    def __init__(
        self, factory: IProtocolFactory, context: TLSContext, clock: IReactorTime, host: str | None = None
    ) -> None:
        """@param factory: makes the protocols.
        @param host: what a client wants to reach.
        """
        self._factory = factory
        self._context = context
        self._clock = clock
        self._host = host

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Make the protocol for a connection; the other factory's is in it."""
        protocol = self._factory.buildProtocol(cast(IAddress, addr))
        return None if protocol is None else _Link(protocol, self._context, self._clock, self._host)

    def doStart(self) -> None:
        """Pass it on."""
        self._factory.doStart()

    def doStop(self) -> None:
        """Pass it on."""
        self._factory.doStop()


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """Listens where another endpoint listens, with TLS.

    @ivar context: reload it for new certificates.
    """

    def __init__(self, reactor: Any, endpoint: IStreamServerEndpoint, context: TLSContext) -> None:
        self.context = context
        self._reactor = reactor
        self._endpoint = endpoint

    def listen(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Listen."""
        return self._endpoint.listen(TLSFactory(factory, self.context, self._reactor))


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """Connects to where another endpoint connects, with TLS."""

    def __init__(self, reactor: Any, endpoint: IStreamClientEndpoint, context: TLSContext, host: str) -> None:
        """@param host: whom the server's certificate has to name."""
        self.context = context
        self._reactor = reactor
        self._endpoint = endpoint
        self._host = host

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect.

        @return: fires with the protocol when the server has confirmed; fails with L{RemoteError} where one of
            the two does not accept the other.
        """
        under = TLSFactory(factory, self.context, self._reactor, self._host)

        async def secured() -> IProtocol:
            link = cast(_Link, await self._endpoint.connect(under))
            session = link.session
            assert session is not None
            try:
                await session.whenSecured()
            except BaseException:
                session.abortConnection()
                raise
            return link.protocol

        return Deferred.fromCoroutine(secured())
