"""
Certificates as files and as proof of who a peer is: read, judged, compared with a name (wire.md 8.3-8.5).

  - Own files are judged when they are loaded, a peer's certificates after each handshake, by libvirt's rules
    and in its words. What is wrong with the chain, the times or the kind of certificate always counts; a
    usage or a purpose that does not fit counts where its extension is critical, else it is only logged.
  - Whether a chain ends at an authority is OpenSSL's verdict, asked as libvirt asks GnuTLS: for no purpose,
    with every certificate of the CA file trusted in its own right. What GnuTLS judges besides, revocation
    (whatever the age of the list) and broken algorithms, is judged here.
  - A key usage or purposes that are absent permit everything. anyExtendedKeyUsage permits both roles, where
    libvirt takes it for neither; a purpose of no TLS role permits both as well, as in libvirt. Key
    encipherment is not asked of elliptic curves, as in libvirt after 9.0: they cannot do it.

Every failure is a L{RemoteError} of domain RPC.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from ipaddress import ip_address
from os import PathLike, strerror
from typing import Literal, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    CertificateRevocationList,
    DNSName,
    DuplicateExtension,
    ExtendedKeyUsage,
    Extension,
    ExtensionNotFound,
    ExtensionType,
    GeneralName,
    InvalidVersion,
    IPAddress,
    KeyUsage,
    Name,
    NameAttribute,
    ObjectIdentifier,
    RelativeDistinguishedName,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    UnsupportedGeneralNameType,
    load_der_x509_certificate,
    load_pem_x509_certificate,
    load_pem_x509_certificates,
    load_pem_x509_crl,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID
from OpenSSL.crypto import (
    FILETYPE_ASN1,
    X509,
    X509Store,
    X509StoreContext,
    X509StoreContextError,
    X509StoreFlags,
    load_certificate,
)
from OpenSSL.crypto import Error as OpenSSLError
from service_identity import VerificationError
from service_identity.exceptions import CertificateError as PatternError
from service_identity.hazmat import (
    DNS_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)
from twisted.logger import Logger

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.limits import AUTHORITIES_MAX, CREDENTIAL_FILE_MAX
from virnet.security.allowlist import separated

_log = Logger()

Role = Literal["client", "server"]
"""Whose certificate it is."""

Path = str | PathLike[str]

SESSION = "[session]"
"""What stands in a text for the path of a certificate that came from a peer."""

_PURPOSES: dict[Role, ObjectIdentifier] = {
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
}
_OTHER_ROLE: dict[Role, Role] = {"client": "server", "server": "client"}

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    InvalidVersion,
    DuplicateExtension,
    UnsupportedGeneralNameType,
    OpenSSLError,
)
"""What the libraries raise over certificates that are none, wholly or in a part that it was asked for."""

_NOT_TRUSTED = "The certificate is not trusted."
_NO_ISSUER = "The certificate hasn't got a known issuer."
_REVOKED = "The certificate has been revoked."
_INSECURE = "The certificate uses an insecure algorithm"

#: OpenSSL's X509_V_ERR_… that mean: the end of the chain is nobody we trust.
_NO_ISSUER_CODES = frozenset({2, 18, 19, 20, 21})

#: Signatures that can be forged; GnuTLS takes none of them from anybody but a trusted certificate itself.
_INSECURE_SIGNATURES = frozenset(
    {
        SignatureAlgorithmOID.RSA_WITH_MD5,
        SignatureAlgorithmOID.RSA_WITH_SHA1,
        SignatureAlgorithmOID._RSA_WITH_SHA1,
        SignatureAlgorithmOID.DSA_WITH_SHA1,
        SignatureAlgorithmOID.ECDSA_WITH_SHA1,
    }
)


def _error(text: str, code: ErrorNumber = ErrorNumber.SYSTEM_ERROR) -> RemoteError:
    return RemoteError.of(code, text, ErrorDomain.RPC)


def _read(path: Path, what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(CREDENTIAL_FILE_MAX + 1)
    except OSError as e:
        reason = strerror(e.errno or 0)
        text = f"Cannot read {what} '{path}': {reason}"
        raise RemoteError.ofSystem(e.errno or 0, text, ErrorDomain.RPC) from e
    if len(content) > CREDENTIAL_FILE_MAX:
        raise _error(f"Cannot read {what} '{path}': it has more than {CREDENTIAL_FILE_MAX} bytes")
    return content


def loadAuthorities(path: Path) -> list[Certificate]:
    """Read a CA file.

    @param path: PEM, up to L{AUTHORITIES_MAX} certificates in up to L{CREDENTIAL_FILE_MAX} bytes.
    @raise RemoteError: it cannot be read or understood.
    """
    content = _read(path, "CA certificate")
    try:
        authorities = load_pem_x509_certificates(content)
    except UNREADABLE as e:
        raise _error(f"Unable to import CA certificate list {path}") from e
    if len(authorities) > AUTHORITIES_MAX:
        raise _error(f"Unable to import CA certificate list {path}")
    return authorities


def loadCertificate(path: Path, role: Role) -> Certificate:
    """Read a certificate of our own: the first one of a file.

    @param path: PEM.
    @raise RemoteError: it cannot be read or understood.
    """
    content = _read(path, "certificate")
    try:
        return load_pem_x509_certificate(content)
    except UNREADABLE as e:
        raise _error(f"Unable to import {role} certificate {path}") from e


_CRL_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def loadRevocations(path: Path) -> list[CertificateRevocationList]:
    """Read a file of revocation lists.

    @param path: PEM; a file that does not exist is no list, as in libvirt.
    @raise RemoteError: it cannot be read or understood.
    """
    try:
        content = _read(path, "CA revocation list")
    except RemoteError as e:
        if isinstance(e.__cause__, FileNotFoundError):
            return []
        raise
    try:
        lists = [load_pem_x509_crl(block) for block in _CRL_BLOCK.findall(content)]
    except ValueError as e:
        raise _error(f"Unable to set x509 certificate revocation list: {path}: {e}") from e
    if not lists:
        raise _error(f"Unable to set x509 certificate revocation list: {path}: there is none in it")
    return lists


def checkKey(certificate: Certificate, certificatePath: Path, keyPath: Path) -> None:
    """Check that a private key is the certificate's.

    @param keyPath: PEM, without a password.
    @raise RemoteError: it cannot be read or understood, or is another's.
    """
    failure = f"Unable to set x509 key and certificate: {keyPath}, {certificatePath}"
    try:
        key = load_pem_private_key(_read(keyPath, "private key"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise _error(f"{failure}: {e}") from e
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise _error(f"{failure}: The certificate and the given key do not match.")


def checkOwn(
    role: Role,
    certificate: Certificate | None,
    certificatePath: Path,
    authorities: Sequence[Certificate],
    authoritiesPath: Path,
    *,
    now: datetime | None = None,
) -> None:
    """Judge our own credentials before they are used.

    @param certificate: ours; C{None} where there is none.
    @param certificatePath: for the texts, as C{authoritiesPath}.
    @param now: with a time zone; by default the clock's.
    @raise RemoteError: libvirt would not start with them.
    """
    now = now or datetime.now(UTC)
    try:
        if certificate is not None:
            _checkTimes(certificate, str(certificatePath), role, now)
            _checkLeaf(certificate, str(certificatePath), role)
        for authority in authorities:
            _checkTimes(authority, str(authoritiesPath), "CA", now)
            _checkAuthority(authority, str(authoritiesPath))
        reason = distrust(certificate, [], authorities, [], now) if certificate and authorities else None
    except UNREADABLE as e:
        raise _error(f"Unable to query certificate {certificatePath} or {authoritiesPath}: {e}") from e
    if reason is not None:
        raise _error(
            f"Our own certificate {certificatePath} failed validation against {authoritiesPath}: {reason}"
        )


def judgePeer(
    role: Role,
    chain: Sequence[bytes],
    authorities: Sequence[Certificate],
    revocations: Sequence[CertificateRevocationList] = (),
    *,
    host: str | None = None,
    patterns: Sequence[str] | None = None,
    now: datetime | None = None,
) -> str:
    """Judge what a peer has shown in a handshake.

    @param role: the peer's.
    @param chain: in DER, its own certificate first; empty if it has shown none.
    @param host: what the URI says it is; C{None} where that is not checked.
    @param patterns: the distinguished names it may have; C{None} where any will do.
    @param now: with a time zone; by default the clock's.
    @return: the peer's distinguished name.
    @raise RemoteError: why it is refused. The peer shall not learn that.
    """
    now = now or datetime.now(UTC)
    if not chain:
        raise _error("Unable to verify TLS peer: No certificate was found.")
    try:
        certificates = [load_der_x509_certificate(each) for each in chain]
        leaf, others = certificates[0], certificates[1:]
        _checkTimes(leaf, SESSION, role, now)
        for other in others:
            _checkTimes(other, SESSION, "CA", now)
        reason = distrust(leaf, others, authorities, revocations, now)
        if reason is not None:
            raise _error(f"Certificate failed validation: {reason}")
        dn = dnOf(leaf)
        if patterns is not None and not matchesDN(patterns, dn):
            text = "Client's Distinguished Name is not on the list of allowed clients (tls_allowed_dn_list)"
            raise _error(f"{text}: {dn}")
        if host is not None:
            checkHost(leaf, host)
        _checkLeaf(leaf, SESSION, role)
    except UNREADABLE as e:
        raise _error(f"Unable to load certificate: {e}") from e
    return dn


def _checkTimes(certificate: Certificate, path: str, owner: str, now: datetime) -> None:
    if certificate.not_valid_after_utc < now:
        raise _error(f"The {owner} certificate {path} has expired")
    if certificate.not_valid_before_utc > now:
        raise _error(f"The {owner} certificate {path} is not yet active")


def _checkAuthority(certificate: Certificate, path: str) -> None:
    constraints = _extension(certificate, BasicConstraints)
    if constraints is None:
        raise _error(f"The certificate {path} is missing basic constraints for a CA")
    if not constraints.value.ca:
        raise _error(f"The certificate {path} basic constraints do not show a CA")
    usage = _extension(certificate, KeyUsage)
    if usage is not None and not usage.value.key_cert_sign:
        _objection(usage.critical, f"Certificate {path} usage does not permit certificate signing")


def _checkLeaf(certificate: Certificate, path: str, role: Role) -> None:
    constraints = _extension(certificate, BasicConstraints)
    if constraints is not None and constraints.value.ca:
        raise _error(f"The certificate {path} basic constraints show a CA, but we need one for a {role}")
    usage = _extension(certificate, KeyUsage)
    if usage is not None and not usage.value.digital_signature:
        _objection(usage.critical, f"Certificate {path} usage does not permit digital signature")
    if usage is not None and not usage.value.key_encipherment and not _isEllipticCurve(certificate):
        _objection(usage.critical, f"Certificate {path} usage does not permit key encipherment")
    purposes = _extension(certificate, ExtendedKeyUsage)
    # Only the other role's purpose, and nothing beside it, shuts a role out: see the module's docstring.
    if purposes is not None and set(purposes.value) == {_PURPOSES[_OTHER_ROLE[role]]}:
        text = f"Certificate {path} purpose does not allow use for with a TLS {role}"
        _objection(purposes.critical, text)


_E = TypeVar("_E", bound=ExtensionType)


def _extension(certificate: Certificate, kind: type[_E]) -> Extension[_E] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except ExtensionNotFound:
        return None


def _isEllipticCurve(certificate: Certificate) -> bool:
    return isinstance(certificate.public_key(), EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey)


def _objection(critical: bool, text: str) -> None:
    if critical:
        raise _error(text)
    _log.warn("{text}", text=text)


def distrust(
    leaf: Certificate,
    others: Sequence[Certificate],
    authorities: Sequence[Certificate],
    revocations: Sequence[CertificateRevocationList],
    now: datetime,
) -> str | None:
    """Find out whether an authority vouches for a certificate.

    @param others: those that may stand between them.
    @return: in libvirt's words why none does; C{None} if one does.
    """
    store = X509Store()
    # Each certificate of the CA file is trusted, whoever has signed it.
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    store.set_time(now.astimezone(UTC))
    for authority in authorities:
        store.add_cert(X509.from_cryptography(authority))
    context = X509StoreContext(
        store, X509.from_cryptography(leaf), [X509.from_cryptography(each) for each in others]
    )
    try:
        verified = [each.to_cryptography() for each in context.get_verified_chain()]
    except X509StoreContextError as e:
        _forgetErrors()
        code: int = e.errors[0]
        return _NO_ISSUER if code in _NO_ISSUER_CODES else _NOT_TRUSTED
    for certificate in verified:
        for each in revocations:
            if each.issuer == certificate.issuer and each.get_revoked_certificate_by_serial_number(
                certificate.serial_number
            ):
                return _REVOKED
    for certificate in verified:
        if certificate not in authorities and certificate.signature_algorithm_oid in _INSECURE_SIGNATURES:
            return _INSECURE
    return None


def _forgetErrors() -> None:
    """
    Empty OpenSSL's list of errors of this thread: what a failed verification leaves in it would be taken for
    its own by the next user of the library, for another connection. Any error reported takes all along.
    """
    with suppress(OpenSSLError):
        load_certificate(FILETYPE_ASN1, b"")


_ATTRIBUTES = {
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STREET_ADDRESS: "street",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.EMAIL_ADDRESS: "EMAIL",
    NameOID.USER_ID: "UID",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.TITLE: "title",
    NameOID.SURNAME: "surName",
    NameOID.GIVEN_NAME: "givenName",
    NameOID.INITIALS: "initials",
    NameOID.GENERATION_QUALIFIER: "generationQualifier",
    NameOID.DN_QUALIFIER: "dnQualifier",
    NameOID.PSEUDONYM: "pseudonym",
    NameOID.BUSINESS_CATEGORY: "businessCategory",
    NameOID.POSTAL_CODE: "postalCode",
    NameOID.INN: "INN",
    NameOID.OGRN: "OGRN",
    NameOID.SNILS: "SNILS",
    NameOID.JURISDICTION_LOCALITY_NAME: "jurisdictionOfIncorporationLocalityName",
    NameOID.JURISDICTION_STATE_OR_PROVINCE_NAME: "jurisdictionOfIncorporationStateOrProvinceName",
    NameOID.JURISDICTION_COUNTRY_NAME: "jurisdictionOfIncorporationCountryName",
}
"""What GnuTLS calls the attributes of a name (C: C{gnutls_x509_dn_oid_name}); others are numbers."""

_PRINTABLE, _IA5, _NUMERIC = frozenset({19}), frozenset({22}), frozenset({18})

#: What is text: UTF8String, PrintableString, TeletexString and BMPString, but for the attributes that have a
#: type of their own. Everything else is shown in hexadecimal.
_TEXT = frozenset({12, 19, 20, 30})
_TEXT_OF = {
    NameOID.COUNTRY_NAME: _PRINTABLE,
    NameOID.SERIAL_NUMBER: _PRINTABLE,
    NameOID.DN_QUALIFIER: _PRINTABLE,
    NameOID.JURISDICTION_COUNTRY_NAME: _PRINTABLE,
    NameOID.EMAIL_ADDRESS: _IA5,
    NameOID.DOMAIN_COMPONENT: _IA5,
    NameOID.INN: _NUMERIC,
    NameOID.OGRN: _NUMERIC,
    NameOID.SNILS: _NUMERIC,
}


def dnOf(certificate: Certificate) -> str:
    """The distinguished name of a certificate as GnuTLS prints it: what allowed clients are listed by.

    @return: like C{C=GB,O=Red Hat,CN=client1}: attributes in the certificate's order, escaped as in RFC 4514.
    @raise ValueError: the certificate has no readable name.
    """
    return ",".join("+".join(_attribute(each) for each in part) for part in certificate.subject.rdns)


def _attribute(attribute: NameAttribute[str | bytes]) -> str:
    name = _ATTRIBUTES.get(attribute.oid)
    encoded = _encodedValue(attribute)
    text = encoded[0] in _TEXT_OF.get(attribute.oid, _TEXT)
    if name is None or not text or "\0" in str(attribute.value):
        return f"{name or attribute.oid.dotted_string}=#{encoded.hex()}"
    return attribute.rfc4514_string({attribute.oid: name})


def _encodedValue(attribute: NameAttribute[str | bytes]) -> bytes:
    """
    @return: the DER of the value: what is behind the attribute's type, in the set, in the sequence of a name.
    """
    data = Name([RelativeDistinguishedName([attribute])]).public_bytes()
    for _ in range(3):
        data = data[_headerSize(data) :]
    return data[_headerSize(data) + data[1] :]


def _headerSize(data: bytes) -> int:
    """
    @return: bytes of the tag and the length in front of a DER value.
    """
    return 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)


def matchesDN(patterns: Sequence[str], dn: str) -> bool:
    """
    @param patterns: where C{*} stands for any text and C{?} for any character; nothing else is special.
    @return: whether one of them is the whole name.
    """
    # fnmatch has sets of characters besides; glib's matcher, which libvirt uses, has none.
    name = separated(dn)
    return any(fnmatchcase(name, separated(pattern).replace("[", "[[]")) for pattern in patterns)


def checkHost(certificate: Certificate, host: str) -> None:
    """Check that a server is the one that was asked for.

    Alternative names count; the common name only where none of them is of a host, and for no IP address.

    @param host: a name or an IP address, as the user wrote it.
    @raise RemoteError: it is another.
    """
    try:
        identity: DNS_ID | IPAddress_ID = (
            IPAddress_ID(host.partition("%")[0]) if _isAddress(host) else DNS_ID(host)
        )
        verify_service_identity(_namesOf(certificate), [identity], [])
    except (VerificationError, PatternError, ValueError) as e:
        text = f"Certificate {SESSION} owner does not match the hostname {host}"
        raise _error(text, ErrorNumber.RPC) from e


def _isAddress(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _namesOf(certificate: Certificate) -> list[CertificatePattern]:
    alternatives = _extension(certificate, SubjectAlternativeName)
    names: list[GeneralName] = [] if alternatives is None else list(alternatives.value)
    if not any(isinstance(name, DNSName | IPAddress | UniformResourceIdentifier) for name in names):
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [DNSName(each.value) for each in common if len(common) == 1 and isinstance(each.value, str)]
    patterns: list[CertificatePattern] = []
    for name in names:
        try:
            if isinstance(name, DNSName):
                patterns.append(DNSPattern.from_bytes(name.value.encode()))
            elif isinstance(name, IPAddress):
                patterns.append(IPAddressPattern(name.value))  # type: ignore[arg-type]
        except PatternError:
            # A name that is no host's does no harm beside one that is.
            continue
    return patterns
