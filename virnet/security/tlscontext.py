"""What TLS is done with: own credentials, authorities, and what is asked of a peer (C: C{virNetTLSContext}).

Rules:

  - Files are read once, when the context is made or reloaded, and judged then, unless that is switched off.
    Sessions that exist keep what they began with.
  - A client without a certificate or without its key has none, and is refused by most servers; a server needs
    both.
  - The engine is Python's C{ssl} over memory. It sends no session tickets, on which libvirt's client fails;
    nothing is resumed or renegotiated. An C{SSLContext} keeps TLS 1.2 sessions with the clients'
    certificates for hours, which Python cannot tell it not to: one that has kept any gets no further ones.
  - A client judges the server's certificate after the handshake, OpenSSL does not. A server has to let
    OpenSSL judge that a client's certificate comes from an authority and is for clients, because it is not
    given one otherwise; everything else is judged after the handshake.
"""

from __future__ import annotations

import os
import ssl
import weakref
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import (
    Certificate,
    CertificateRevocationList,
    DNSName,
    ExtensionNotFound,
    IPAddress,
    SubjectAlternativeName,
    load_der_x509_certificate,
)
from cryptography.x509.oid import NameOID
from twisted.logger import Logger

from virnet import probes
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.security.certificates import (
    checkHost,
    checkKey,
    checkOwn,
    dnOf,
    judgePeer,
    loadAuthorities,
    loadCertificate,
    loadRevocations,
)
from virnet.security.priorities import DEFAULT, Priority, parsePriority
from virnet.security.tlsfiles import Role, TLSFiles, defaultFiles, directoryFiles, explicitFiles

_NO_CHECK_TIME = 0x200000
"""C: C{X509_V_FLAG_NO_CHECK_TIME}: times are judged after the handshake, with all the rest."""


class Credentials:
    """What was read of the files at one time.

    @ivar authorities: the certificates of the CA file.
    @ivar revocations: the lists of revoked certificates.
    @ivar certificate: our own; C{None} for a client without one.
    @ivar missing: which of its files there is not.
    """

    def __init__(self, files: TLSFiles, role: Role, sanity: bool) -> None:
        """@raise RemoteError: a file cannot be used."""
        self.files = files
        self.authorities: list[Certificate] = loadAuthorities(files.authorities)
        self.revocations: list[CertificateRevocationList] = (
            loadRevocations(files.revocations) if files.revocations is not None else []
        )
        self.certificate: Certificate | None = None
        self._pair: int | None = None
        own = (files.certificate, files.key)
        self.missing = next((each for each in own if not os.path.exists(each)), None)
        if self.missing is None or role == "server":
            self.certificate = loadCertificate(files.certificate, role)
            checkKey(self.certificate, files.certificate, files.key)
        if sanity:
            checkOwn(role, self.certificate, files.certificate, self.authorities, files.authorities)
        self._trusted = "".join(each.public_bytes(Encoding.PEM).decode() for each in self.authorities)
        if self.certificate is not None:
            self._keep(files)

    def _keep(self, files: TLSFiles) -> None:
        """Keep certificates and key in a file of memory: C{ssl} takes them from files only, and by the time
        of a later session those on disk may be others, or not be readable any more.
        """
        pair = os.memfd_create("virnet-tls", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, pair)
        with open(pair, "wb", closefd=False) as memory:
            for path in (files.certificate, files.key):
                with open(path, "rb") as file:
                    memory.write(file.read() + b"\n")
        self._pair = pair

    def fill(self, context: ssl.SSLContext) -> None:
        """Give an C{SSLContext} what it needs."""
        if self._pair is not None:
            context.load_cert_chain(f"/proc/self/fd/{self._pair}")
        if self._trusted:
            context.load_verify_locations(cadata=self._trusted)


class Engine:
    """TLS over memory, for one session.

    Methods raise C{ssl.SSLError} for what the peer did wrong; what there is to send then, an alert, is in
    C{output} all the same.

    @ivar credentials: what the session began with.
    """

    def __init__(self, context: ssl.SSLContext, credentials: Credentials, isServer: bool) -> None:
        self.credentials = credentials
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, isServer)

    def feed(self, data: bytes) -> None:
        """Take what the peer sent."""
        self._incoming.write(data)

    def output(self) -> bytes:
        """Give what is to be sent to the peer."""
        return self._outgoing.read()

    def handshake(self) -> bool:
        """
        @return: whether it is complete.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        if self._tls.session_reused:
            raise ssl.SSLError(0, "the session was resumed")
        return True

    def read(self) -> tuple[bytes, bool]:
        """Decrypt everything that has come.

        @return: the data, and whether the peer has said that this was all.
        """
        pieces: list[bytes] = []
        try:
            while piece := self._tls.read(_RECORD):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            return b"".join(pieces), False
        except ssl.SSLZeroReturnError:
            pass
        return b"".join(pieces), True

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt, into records that have nothing else in them."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]

    def close(self) -> None:
        """Say that this was all."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            # It waits for the peer to say the same, or there is nobody any more to say it to.
            pass

    @property
    def peerChain(self) -> list[bytes]:
        """The certificates that the peer has shown, in DER, its own first; valid after the handshake."""
        if self._tls.getpeercert(True) is None:
            return []
        chain = getattr(self._tls, "get_unverified_chain", None)
        if chain is not None:
            return list(chain())
        # Python before 3.13.
        private: Any = self._tls
        found = private._sslobj.get_unverified_chain() or ()
        return [each.public_bytes(2) for each in found]

    @property
    def version(self) -> str | None:
        """Like C{TLSv1.3}."""
        return self._tls.version()

    @property
    def keyBits(self) -> int:
        """Of the cipher: the strength that the connection has (C: C{virNetTLSSessionGetKeySize}, in bits)."""
        cipher = self._tls.cipher()
        return cipher[2] if cipher is not None else 0


_RECORD = 16384


class TLSContext:
    """Makes and judges sessions of one role.

    @ivar role: ours.
    @ivar files: where the credentials come from.
    @ivar verify: peers that do not stand the test are refused.
    @ivar allowedDNs: patterns of the clients that a server admits; C{None}: all.
    """

    log = Logger()

    def __init__(
        self,
        role: Role,
        files: TLSFiles,
        *,
        priority: str | None = None,
        sanity: bool = True,
        verify: bool = True,
        allowedDNs: Sequence[str] | None = None,
    ) -> None:
        """@param priority: versions and ciphers, see L{virnet.security.priorities}.
        @param sanity: judge our own certificates.
        @param verify: refuse peers that do not stand the test.
        @param allowedDNs: patterns of distinguished names; an empty list refuses everybody.
        @raise RemoteError: a file, or the priority, cannot be used.
        """
        self.role = role
        self.files = files
        self.sanity = sanity
        self.verify = verify
        self.allowedDNs = None if allowedDNs is None else tuple(allowedDNs)
        self.priority: Priority = parsePriority(priority or DEFAULT)
        self._made: tuple[Credentials, ssl.SSLContext] = self._load()
        if probes.TLS_CONTEXT_NEW.listeners:
            probes.TLS_CONTEXT_NEW(
                self,
                files.authorities,
                files.revocations,
                files.certificate,
                files.key,
                sanity,
                verify,
                self.isServer,
            )

    def __del__(self) -> None:
        if probes.TLS_CONTEXT_DISPOSE.listeners:
            probes.TLS_CONTEXT_DISPOSE(self)

    @classmethod
    def forServer(
        cls,
        *,
        pkipath: str | None = None,
        authorities: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        revocations: str | None = None,
        priority: str | None = None,
        sanity: bool = True,
        verify: bool = True,
        allowedDNs: Sequence[str] | None = None,
    ) -> TLSContext:
        """Make the context of a server.

        @param pkipath: directory with C{cacert.pem}, C{servercert.pem}, C{serverkey.pem}, C{cacrl.pem}.
        @param authorities: path of the CA file; if this or one of the next two is given, all three have to be
            (C{ca_file} of C{libvirtd.conf}).
        @param certificate: path of the certificate (C{cert_file}).
        @param key: path of its key (C{key_file}).
        @param revocations: path of the revocation list (C{crl_file}).
        @param priority: versions and ciphers (C{tls_priority}).
        @param sanity: judge our own certificates (C{tls_no_sanity_certificate}).
        @param verify: admit only clients whose certificate stands the test (C{tls_no_verify_certificate}).
        @param allowedDNs: patterns of who is admitted (C{tls_allowed_dn_list}); not looked at without
            C{verify}.
        @raise RemoteError: it cannot be made.
        """
        if authorities or certificate or key:
            files = explicitFiles(authorities, certificate, key, revocations)
        else:
            files = directoryFiles(pkipath, "server") if pkipath else defaultFiles("server")
            if revocations:
                files = files._replace(revocations=revocations)
        return cls("server", files, priority=priority, sanity=sanity, verify=verify, allowedDNs=allowedDNs)

    @classmethod
    def forClient(
        cls,
        *,
        pkipath: str | None = None,
        priority: str | None = None,
        sanity: bool = True,
        verify: bool = True,
    ) -> TLSContext:
        """Make the context of a client.

        @param pkipath: directory with C{cacert.pem}, C{clientcert.pem}, C{clientkey.pem}, C{cacrl.pem}.
        @param priority: versions and ciphers.
        @param sanity: judge our own certificates (URI: C{no_sanity}).
        @param verify: talk only to a server whose certificate stands the test (URI: C{no_verify}).
        @raise RemoteError: it cannot be made.
        """
        files = directoryFiles(pkipath, "client") if pkipath else defaultFiles("client")
        return cls("client", files, priority=priority, sanity=sanity, verify=verify)

    @property
    def isServer(self) -> bool:
        """Whether it is a server's."""
        return self.role == "server"

    def reload(self) -> None:
        """Read the files again, for the sessions to come.

        @raise RemoteError: they cannot be used; everything stays as it was.
        """
        self._made = self._load()

    @property
    def credentials(self) -> Credentials:
        """What the sessions to come begin with."""
        return self._made[0]

    def _load(self) -> tuple[Credentials, ssl.SSLContext]:
        credentials = Credentials(self.files, self.role, self.sanity)
        try:
            # OpenSSL has rules of its own, on the length of keys for instance, and tells them only here.
            return credentials, self._contextOf(credentials)
        except ssl.SSLError as e:
            paths = f"{self.files.key}, {self.files.certificate}"
            text = f"Unable to set x509 key and certificate: {paths}: {e.reason or e}"
            raise RemoteError.of(ErrorNumber.SYSTEM_ERROR, text, ErrorDomain.RPC) from e

    def hostFor(self, address: str) -> str:
        """What clients have to call a server at an address for its certificate to be good.

        @return: the address itself if that will do, or if nothing is known.
        """
        certificate = self.credentials.certificate
        if certificate is None:
            return address
        try:
            checkHost(certificate, address)
        except RemoteError:
            pass
        else:
            return address
        try:
            names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        except ExtensionNotFound:
            found = [
                str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            ]
        else:
            found = names.get_values_for_type(DNSName)
            found += [str(each) for each in names.get_values_for_type(IPAddress)]
        return next((each for each in found if "*" not in each), address)

    def engine(self) -> Engine:
        """Make the engine of a session."""
        credentials, context = self._made
        if context.session_stats()["number"]:
            context = self._contextOf(credentials)
            self._made = credentials, context
        return Engine(context, credentials, self.isServer)

    def _contextOf(self, credentials: Credentials) -> ssl.SSLContext:
        server = self.isServer
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        self.priority.applyTo(context)
        credentials.fill(context)
        if not server:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.num_tickets = 0
            if self.verify:
                context.verify_mode = ssl.CERT_OPTIONAL
                # As GnuTLS does: each certificate of the CA file is trusted, whoever has signed it.
                context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
        return context

    def checkPeer(self, session: object, engine: Engine, host: str | None = None) -> str | None:
        """Judge what a peer has shown.

        @param session: for the probes.
        @param engine: its handshake is through.
        @param host: what a client wants to reach.
        @return: the peer's distinguished name; C{None} where it did not stand the test, and need not.
        @raise RemoteError: it is refused; its cause says why.
        """
        if self.isServer and not self.verify:
            # It was not asked for one.
            return None
        chain = engine.peerChain
        try:
            dn = judgePeer(
                "client" if self.isServer else "server",
                chain,
                engine.credentials.authorities,
                engine.credentials.revocations,
                host=host,
                patterns=self.allowedDNs,
            )
        except RemoteError as e:
            self._tellRefused(session, chain, e)
            if not self.verify:
                self.log.warn("Certificate check failed {detail}", detail=e.message)
                return None
            text = f"Failed to verify peer's certificate: {e.message}"
            raise RemoteError.of(ErrorNumber.AUTH_FAILED, text, ErrorDomain.RPC) from e
        if probes.TLS_CONTEXT_SESSION_ALLOW.listeners:
            probes.TLS_CONTEXT_SESSION_ALLOW(self, session, dn)
        return dn

    def _tellRefused(self, session: object, chain: Sequence[bytes], error: RemoteError) -> None:
        """Deny: a good certificate that is not on the list; fail: everything else."""
        if "tls_allowed_dn_list" in error.message:
            if probes.TLS_CONTEXT_SESSION_DENY.listeners:
                probes.TLS_CONTEXT_SESSION_DENY(self, session, dnOf(load_der_x509_certificate(chain[0])))
        elif probes.TLS_CONTEXT_SESSION_FAIL.listeners:
            probes.TLS_CONTEXT_SESSION_FAIL(self, session)
