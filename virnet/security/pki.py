"""
Certificates of one's own for libvirt's TLS: an authority, and servers and clients that it vouches for.

  - Files are where libvirt looks for them (L{virnet.security.tlsfiles}). The authority's key, which libvirt
    has no place for, is C{cakey.pem} beside its certificate; C{private/cakey.pem} among the system's files.
  - What is made passes every check of libvirt 9.0 and of virnet, without a warning. An elliptic curve
    therefore gets no key usage: libvirt 9.0 asks it for key encipherment, which it cannot do. Names of a
    server are alternative names; its first one is its common name too, for whoever looks only there.
  - Keys can be read by their owner alone. A file appears as a whole or not at all, and replaces another only
    when told to.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from virnet.errors import VirnetError
from virnet.security.certificates import UNREADABLE, Role, checkKey, checkOwn, loadAuthorities
from virnet.security.tlsfiles import USER_DIRECTORY, TLSFiles, directoryFiles, systemFiles

KeyKind = Literal["ec", "rsa"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey | Ed448PrivateKey

RSA_BITS = 3072
"""As strong as the elliptic curve P-256."""

_BACKDATED = timedelta(hours=1)
"""For peers whose clock is a little slow."""

NAME_MAX = 64
"""Characters of a common name (RFC 5280, C{ub-common-name})."""


class PKIError(VirnetError):
    """Nothing was made; the text says why and what to do."""


class Places(NamedTuple):
    """Where files are, or are to be.

    @ivar directory: where all of them are, as in C{pkipath}; C{None} for the system's.
    """

    directory: str | None

    def files(self, role: Role) -> TLSFiles:
        """Where libvirt looks for those of a role."""
        return systemFiles(role) if self.directory is None else directoryFiles(self.directory, role)

    @property
    def authority(self) -> str:
        """The authority's certificate."""
        return self.files("server").authorities

    @property
    def authorityKey(self) -> str:
        """The authority's private key."""
        where = os.path.dirname(self.authority)
        return f"{where}/private/cakey.pem" if self.directory is None else f"{where}/cakey.pem"


def defaultPlaces() -> Places:
    """The system's for root, else the user's own."""
    return Places(None if os.geteuid() == 0 else f"{os.path.expanduser('~')}/{USER_DIRECTORY}")


def makeAuthority(
    places: Places,
    name: str,
    *,
    days: int,
    key: KeyKind = "ec",
    replace: bool = False,
) -> x509.Certificate:
    """Make an authority.

    @param name: its common name.
    @param days: how long it is valid.
    @param replace: overwrite files; what the old authority has signed is worth nothing then.
    @raise PKIError: it cannot be made.
    """
    _refuseToReplace([places.authority, places.authorityKey], replace)
    own = _makeKey(key)
    subject = _commonName(name)
    public = own.public_key()
    certificate = (
        _builder(subject, subject, days, None)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_keyUsage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(own, SHA256())
    )
    _write(places.authorityKey, _keyPEM(own), private=True)
    _write(places.authority, certificate.public_bytes(Encoding.PEM))
    return certificate


def makePeer(
    role: Role,
    places: Places,
    name: str,
    hosts: Sequence[str] = (),
    *,
    days: int,
    authority: Places | None = None,
    key: KeyKind = "ec",
    replace: bool = False,
) -> x509.Certificate:
    """Make a server's or a client's certificate.

    @param places: where it goes, and the authority's certificate beside it.
    @param name: its common name.
    @param hosts: names and addresses of a server.
    @param days: how long it is valid; not longer than the authority.
    @param authority: where that is, if elsewhere.
    @raise PKIError: it cannot be made.
    """
    source = authority or places
    issuer, issuerKey = _loadAuthority(source)
    files = places.files(role)
    replaced = [files.certificate, files.key]
    copied = os.path.abspath(source.authority) != os.path.abspath(files.authorities)
    issuerPEM = issuer.public_bytes(Encoding.PEM)
    if copied and os.path.exists(files.authorities):
        with open(files.authorities, "rb") as file:
            copied = issuerPEM not in file.read()
        if copied:
            replaced.append(files.authorities)
    _refuseToReplace(replaced, replace)
    own = _makeKey(key)
    public = own.public_key()
    builder = (
        _builder(_commonName(name), issuer.subject, days, issuer.not_valid_after_utc)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_PURPOSES[role]]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_authorityIdentifier(issuer), critical=False)
    )
    if key == "rsa":
        usage = _keyUsage(digital_signature=True, key_encipherment=True)
        builder = builder.add_extension(usage, critical=True)
    if hosts:
        names = x509.SubjectAlternativeName([_altName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(
        issuerKey, None if isinstance(issuerKey, Ed25519PrivateKey | Ed448PrivateKey) else SHA256()
    )
    _write(files.key, _keyPEM(own), private=True)
    _write(files.certificate, certificate.public_bytes(Encoding.PEM))
    if copied:
        _write(files.authorities, issuerPEM)
    return certificate


_PURPOSES = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}


def _loadAuthority(places: Places) -> tuple[x509.Certificate, PrivateKey]:
    for path, what in ((places.authority, "certificate"), (places.authorityKey, "key")):
        if not os.path.exists(path):
            raise PKIError(
                f"there is no {what} of an authority: {path} does not exist; "
                "make one with 'virnet pki init', or say with --authority where yours is"
            )
    try:
        # Others may be trusted besides; ours comes first.
        certificate = loadAuthorities(places.authority)[0]
        checkOwn("client", None, "", [certificate], places.authority)
        checkKey(certificate, places.authority, places.authorityKey)
        with open(places.authorityKey, "rb") as file:
            key = load_pem_private_key(file.read(), None)
    except (VirnetError, OSError, *UNREADABLE) as e:
        raise PKIError(f"this authority cannot sign: {e}") from e
    if not isinstance(key, PrivateKey):
        raise PKIError(
            f"this authority cannot sign: {places.authorityKey} is of a kind that is not supported"
        )
    return certificate, key


def _builder(
    subject: x509.Name, issuer: x509.Name, days: int, atMost: datetime | None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    try:
        end = now + timedelta(days=days)
    except OverflowError:
        end = datetime.max.replace(tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(end if atMost is None else min(end, atMost))
    )


def _commonName(name: str) -> x509.Name:
    if not 0 < len(name) <= NAME_MAX or not name.isprintable():
        raise PKIError(f"{name!r} cannot be the name of a certificate: it has 1 to {NAME_MAX} characters")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _altName(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        name = host if host.isascii() else host.encode("idna").decode()
        labels = name.removeprefix("*.").split(".")
        if not all(
            0 < len(label) < 64 and label.replace("-", "").replace("_", "").isalnum() for label in labels
        ):
            raise ValueError
        return x509.DNSName(name)
    except ValueError:
        raise PKIError(f"{host!r} is neither the name of a host nor an IP address") from None


def _authorityIdentifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _keyUsage(**usages: bool) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    ).split()
    return x509.KeyUsage(**{usage: usages.get(usage, False) for usage in every})


def _makeKey(kind: KeyKind) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(65537, RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


def _keyPEM(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _refuseToReplace(paths: Sequence[str], replace: bool) -> None:
    existing = [path for path in paths if os.path.lexists(path)]
    if existing and not replace:
        raise PKIError(f"{' and '.join(existing)} would be overwritten; --force does that")


def _write(path: str, content: bytes, private: bool = False) -> None:
    directory = os.path.dirname(path) or "."
    os.makedirs(os.path.dirname(directory) or ".", exist_ok=True)
    try:
        os.mkdir(directory, 0o700 if private else 0o755)
    except FileExistsError:
        pass
    # Made for nobody else to read, from the first byte on.
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(path)}-")
    try:
        with open(handle, "wb") as file:
            file.write(content)
            if not private:
                os.fchmod(handle, 0o644)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
