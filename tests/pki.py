"""
Certificates for tests: what is usual, and by keyword whatever is not.

    authority = issue(name="CA", ca=True)
    server = issue(authority, hosts=["localhost", "127.0.0.1"], purposes=[SERVER])
    stale = issue(authority, end=-HOUR)

Keys are made once and shared by all certificates of one name: making one, of RSA above all, takes long.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
EMAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION

USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Issued(NamedTuple):
    """
    A certificate and its private key.
    """

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        """The certificate as it crosses the wire."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate as it is in a file."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def keyPEM(self) -> bytes:
        """The key as it is in a file."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@cache
def keyOf(owner: str, kind: str) -> PrivateKey:
    """
    @param kind: C{ec}, C{rsa}, C{rsa1024}, C{ed25519}.
    @return: always the same one for the same owner.
    """
    match kind:
        case "ec":
            return ec.generate_private_key(ec.SECP256R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(65537, int(kind.removeprefix("rsa") or 2048))


def nameOf(name: str | x509.Name) -> x509.Name:
    """
    @param name: a common name, or a whole one.
    """
    if isinstance(name, x509.Name):
        return name
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def altName(host: str | x509.GeneralName) -> x509.GeneralName:
    """
    @param host: a host's name or address, or any alternative name.
    """
    if isinstance(host, x509.GeneralName):
        return host
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def issue(
    issuer: Issued | None = None,
    *,
    name: str | x509.Name = "peer",
    key: str = "ec",
    ca: bool | None = None,
    usages: Collection[str] | None = None,
    usagesCritical: bool = True,
    purposes: Sequence[x509.ObjectIdentifier] | None = None,
    purposesCritical: bool = False,
    hosts: Sequence[str | x509.GeneralName] | None = None,
    start: timedelta = -DAY,
    end: timedelta = DAY,
    signedBy: PrivateKey | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Issued:
    """
    Make a certificate.

    @param issuer: who signs it; itself if there is none.
    @param ca: basic constraints say so; C{None} leaves them out.
    @param usages: some of L{USAGES}; C{None} leaves the key usage out.
    @param hosts: alternative names; C{None} leaves them out.
    @param start: when it becomes valid, seen from now, as C{end}.
    @param signedBy: another key than the issuer's.
    @param extensions: further ones, and whether they are critical.
    """
    subject = nameOf(name)
    own = keyOf(subject.rfc4514_string(), key)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
    if usages is not None:
        usage = x509.KeyUsage(**{each: each in usages for each in USAGES})
        builder = builder.add_extension(usage, usagesCritical)
    if purposes is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), purposesCritical)
    if hosts is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([altName(each) for each in hosts]), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signer = signedBy or (issuer.key if issuer else own)
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256()
    return Issued(builder.sign(signer, algorithm), own)


def revoke(
    issuer: Issued, *revoked: Issued, start: timedelta = -HOUR, end: timedelta = DAY
) -> x509.CertificateRevocationList:
    """
    Make a list of certificates that do not count any more.

    @param issuer: who signs it.
    @param start: when it was made, seen from now, as C{end}, when the next one was to come.
    """
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now + start)
        .next_update(now + end)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now + start).build())
    algorithm = None if isinstance(issuer.key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(issuer.key, algorithm)


def write(
    directory: Path,
    authorities: Sequence[Issued],
    *,
    server: Issued | None = None,
    client: Issued | None = None,
    revocations: x509.CertificateRevocationList | None = None,
) -> Path:
    """
    Write files as C{pkipath} names them, a server's besides.

    @return: the directory.
    """
    directory.mkdir(exist_ok=True)
    (directory / "cacert.pem").write_bytes(b"".join(each.pem for each in authorities))
    for role, issued in (("server", server), ("client", client)):
        if issued is not None:
            (directory / f"{role}cert.pem").write_bytes(issued.pem)
            (directory / f"{role}key.pem").write_bytes(issued.keyPEM)
    if revocations is not None:
        (directory / "cacrl.pem").write_bytes(revocations.public_bytes(Encoding.PEM))
    return directory
