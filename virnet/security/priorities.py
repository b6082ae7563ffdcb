"""What C{tls_priority} says: versions of TLS and cipher suites, in the words of GnuTLS or of OpenSSL.

Rules:

  - The words of GnuTLS that people use are translated to OpenSSL's: the keyword in front, versions, and the
    ciphers, key exchanges and hashes that have a name on both sides.
  - Anything else is a cipher string of OpenSSL's own.
  - TLS 1.2 and 1.3 unless the words say otherwise. What cannot be done is refused, not ignored.
  - Python cannot choose among the three cipher suites of TLS 1.3: words about ciphers are about TLS 1.2.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError

DEFAULT = "NORMAL"

_VERSIONS = {
    "TLS1.0": ssl.TLSVersion.TLSv1,
    "TLS1.1": ssl.TLSVersion.TLSv1_1,
    "TLS1.2": ssl.TLSVersion.TLSv1_2,
    "TLS1.3": ssl.TLSVersion.TLSv1_3,
}
_USUAL = frozenset({"TLS1.2", "TLS1.3"})
#: What no OpenSSL of today has: it may be switched off.
_ABSENT = frozenset({"SSL3.0", "DTLS0.9", "DTLS1.0", "DTLS1.2", "DTLS-ALL"})

_NEVER = "!aNULL:!eNULL:!aDSS:!PSK:!SRP:!MD5:!RC4:!3DES"
_STRONG = f"ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:{_NEVER}:!SHA1:!AESCCM:@SECLEVEL=2"
_KEYWORDS = {
    "NORMAL": _STRONG,
    "SECURE128": _STRONG,
    "PFS": _STRONG,
    "PERFORMANCE": f"ECDH+AES128:ECDH+CHACHA20:ECDH+AES:DHE+AES:{_NEVER}:!SHA1:!AESCCM:@SECLEVEL=2",
    "SECURE192": f"ECDH+AES256:ECDH+CHACHA20:DHE+AES256:{_NEVER}:!SHA1:!AESCCM:@SECLEVEL=2",
    "SECURE256": f"ECDH+AES256:ECDH+CHACHA20:DHE+AES256:{_NEVER}:!SHA1:!AESCCM:@SECLEVEL=2",
    "LEGACY": f"DEFAULT:{_NEVER}:@SECLEVEL=1",
}

_NAMES = {
    "AES-128-GCM": "AES128+AESGCM",
    "AES-256-GCM": "AES256+AESGCM",
    "AES-128-CCM": "AES128+AESCCM",
    "AES-256-CCM": "AES256+AESCCM",
    "CHACHA20-POLY1305": "CHACHA20",
    "CAMELLIA-128-CBC": "CAMELLIA128",
    "CAMELLIA-256-CBC": "CAMELLIA256",
    "3DES-CBC": "3DES",
    "ARCFOUR-128": "RC4",
    "RSA": "kRSA",
    "DHE-RSA": "kDHE+aRSA",
    "ECDHE-RSA": "kECDHE+aRSA",
    "ECDHE-ECDSA": "kECDHE+aECDSA",
    "MD5": "MD5",
    "SHA1": "SHA1",
    "SHA256": "SHA256",
    "SHA384": "SHA384",
}
#: What is so in any case.
_GRANTED = frozenset(
    {
        "%COMPAT",
        "%SAFE_RENEGOTIATION",
        "%SERVER_PRECEDENCE",
        "+CTYPE-ALL",
        "+CTYPE-X.509",
        "+CTYPE-X509",
        "-CTYPE-OPENPGP",
        "+COMP-NULL",
        "+AEAD",
    }
)


class Priority(NamedTuple):
    """What a priority string comes to.

    @ivar text: as it was written.
    @ivar ciphers: for C{ssl.SSLContext.set_ciphers}.
    """

    text: str
    minimum: ssl.TLSVersion
    maximum: ssl.TLSVersion
    ciphers: str

    def applyTo(self, context: ssl.SSLContext) -> None:
        """@raise RemoteError: OpenSSL does not take it."""
        try:
            context.set_ciphers(self.ciphers)
            context.minimum_version = self.minimum
            context.maximum_version = self.maximum
        except (ssl.SSLError, ValueError) as e:
            raise _invalid(self.text) from e


def _invalid(text: str, why: str = "") -> RemoteError:
    return RemoteError.of(
        ErrorNumber.SYSTEM_ERROR,
        f"Failed to set TLS session priority to {text}: The request is invalid.{why and f' ({why})'}",
        ErrorDomain.RPC,
    )


def parsePriority(text: str) -> Priority:
    """Understand a priority string.

    @param text: GnuTLS's common words, like C{SECURE256:-VERS-TLS1.2}, or a cipher string of OpenSSL's.
    @raise RemoteError: it is neither, or asks for what is not possible here.
    """
    first, *words = text.split(":")
    versions = set(_USUAL)
    if first in _KEYWORDS:
        ciphers = [_KEYWORDS[first]]
    elif first[:1] in ("+", "-", "!", "%") and first[1:].startswith(("VERS-", "CTYPE-", "COMP-", "S")):
        ciphers, words = [_KEYWORDS[DEFAULT]], [first, *words]
    else:
        return _checked(Priority(text, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, text))
    for word in words:
        if word in _GRANTED:
            continue
        sign, name = word[:1], word[1:]
        if sign not in ("+", "-", "!"):
            raise _invalid(text, f"{word!r} is not known")
        if name.startswith("VERS-"):
            _change(versions, sign == "+", name.removeprefix("VERS-"), text)
        elif name in _NAMES:
            # Theirs come in the order in which they are added, and what is removed last stays removed.
            ciphers.append(_NAMES[name] if sign == "+" else f"!{_NAMES[name]}")
        else:
            raise _invalid(text, f"{word!r} is not known")
    order = [each for each in _VERSIONS if each in versions]
    if not order:
        raise _invalid(text, "no version of TLS is left")
    numbers = [list(_VERSIONS).index(each) for each in order]
    if numbers[-1] - numbers[0] >= len(numbers):
        raise _invalid(text, "versions of TLS with a gap between them are not possible")
    if numbers[0] < list(_VERSIONS).index("TLS1.2"):
        # They sign and authenticate with SHA-1.
        ciphers[0] = ciphers[0].replace(":!SHA1", "")
        ciphers.append("@SECLEVEL=0")
    return _checked(Priority(text, _VERSIONS[order[0]], _VERSIONS[order[-1]], ":".join(ciphers)))


def _change(versions: set[str], add: bool, name: str, text: str) -> None:
    names = set(_VERSIONS) if name in ("TLS-ALL", "ALL") else {name}
    if not names <= _VERSIONS.keys():
        if not add and name in _ABSENT:
            return
        raise _invalid(text, f"there is no version {name}")
    if add:
        versions |= names
    else:
        versions -= names


def _checked(priority: Priority) -> Priority:
    priority.applyTo(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    return priority
