"""
TLS for tests: contexts with certificates of one authority, and a peer that shows what is in each record.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.pki import CLIENT, SERVER, Issued, issue, write
from virnet.security.tlscontext import TLSContext

HOST = "host.example"

USAGES = ("digital_signature", "key_encipherment")


@cache
def authority(name: str = "CA") -> Issued:
    """An authority; always the same of a name."""
    return issue(name=name, ca=True, usages=["key_cert_sign", "crl_sign"])


def serverOf(issuer: Issued | None = None, **different: Any) -> Issued:
    """A server's certificate, good for L{HOST} and for this machine unless it is to be different."""
    usual = {"name": "server", "ca": False, "usages": USAGES, "purposes": [SERVER]}
    hosts = {"hosts": [HOST, "localhost", "127.0.0.1"]}
    return issue(issuer or authority(), **{**usual, **hosts, **different})


def clientOf(issuer: Issued | None = None, **different: Any) -> Issued:
    """A client's certificate."""
    usual = {"name": "client1", "ca": False, "usages": USAGES, "purposes": [CLIENT]}
    return issue(issuer or authority(), **{**usual, **different})


def serverContext(certificate: Issued | None = None, *, crl: Any = None, **options: Any) -> TLSContext:
    """The context of a server; its files are gone by the time it is returned."""
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), [authority()], server=certificate or serverOf(), revocations=crl)
        return TLSContext.forServer(pkipath=directory, **options)


def clientContext(
    certificate: Issued | None = None,
    *,
    anonymous: bool = False,
    authorities: Sequence[Issued] | None = None,
    crl: Any = None,
    **options: Any,
) -> TLSContext:
    """The context of a client; its files are gone by the time it is returned.

    @param anonymous: it has no certificate.
    """
    own = None if anonymous else certificate or clientOf()
    with tempfile.TemporaryDirectory() as directory:
        write(Path(directory), authorities or [authority()], client=own, revocations=crl)
        return TLSContext.forClient(pkipath=directory, **options)


class RecordPeer(Protocol):
    """A peer that does TLS with Python's C{ssl} directly, and writes what it is told into one record.

    @ivar records: what was in each record that came.
    @ivar closed: the other side has said that this was all.
    @ivar first: what it says with the end of its handshake, without waiting.
    @ivar error: what is wrong with what came.
    @ivar lost: why the connection ended.
    """

    transport: Any
    first = b""

    def __init__(self, context: ssl.SSLContext, isServer: bool = False) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, isServer)
        self._shaken = False
        self.records: list[bytes] = []
        self.closed = False
        self.error: ssl.SSLError | None = None
        self.lost: Failure | None = None

    @classmethod
    def client(cls, certificate: Issued | None = None, version: str | None = None) -> RecordPeer:
        """Make a client's.

        @param certificate: by default a good one.
        @param version: the only one it speaks, like C{TLSv1_2}.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return cls(_filled(context, certificate or clientOf(), version))

    @classmethod
    def server(cls, certificate: Issued | None = None, version: str | None = None) -> RecordPeer:
        """Make a server's; it does not confirm by itself."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0
        return cls(_filled(context, certificate or serverOf(), version), True)

    def connectionMade(self) -> None:
        """Begin, if it is for us to begin."""
        self._turn()

    def dataReceived(self, data: bytes) -> None:
        """Decrypt it, record by record."""
        self._in.write(data)
        self._turn()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record it."""
        self.lost = reason

    def _turn(self) -> None:
        try:
            if not self._shaken:
                self.tls.do_handshake()
                self._shaken = True
                if self.first:
                    self.tls.write(self.first)
            while not self.closed:
                # SSL_read gives what is in one record at the most.
                data = self.tls.read(65536)
                if data:
                    self.records.append(data)
                else:
                    self.closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        except ssl.SSLError as e:
            self.error = e
        self._flush()

    def write(self, data: bytes) -> None:
        """Send one record (up to 16384 bytes)."""
        self.tls.write(data)
        self._flush()

    def close(self) -> None:
        """Say that this was all, and nothing else."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass
        self._flush()

    def _flush(self) -> None:
        data = self._out.read()
        if data:
            self.transport.write(data)

    def take(self) -> list[bytes]:
        """The records since the last time."""
        records, self.records = self.records, []
        return records


def _filled(context: ssl.SSLContext, certificate: Issued, version: str | None) -> ssl.SSLContext:
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate.pem + certificate.keyPEM)
        file.flush()
        context.load_cert_chain(file.name)
    if version is not None:
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    return context


def settle(clock: Clock) -> None:
    """Let everything happen that is due."""
    for _ in range(20):
        clock.advance(0)
