"""
What is wrong with the files of TLS, in plain words, and what to do about it.

Everything is looked at, where libvirt and L{virnet.security.certificates} stop at the first failure. What the
latter refuses is never reported as in order all the same.

  - A problem keeps virnet or libvirt 9.0 from using a file, or a peer from accepting it.
  - A warning will become one, or is unwise.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, TypeVar

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    CertificateRevocationList,
    DNSName,
    ExtendedKeyUsage,
    Extension,
    ExtensionNotFound,
    ExtensionType,
    IPAddress,
    KeyUsage,
    SubjectAlternativeName,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from virnet.errors import RemoteError
from virnet.security.certificates import (
    UNREADABLE,
    Role,
    checkHost,
    checkKey,
    checkOwn,
    distrust,
    dnOf,
    loadAuthorities,
    loadCertificate,
    loadRevocations,
)
from virnet.security.tlsfiles import TLSFiles

Level = Literal["ok", "warning", "problem"]

SOON = timedelta(days=30)
"""A certificate that ends within this time is worth a warning."""

RSA_BITS_MIN = 2048
"""libvirt takes keys with fewer bits, but they can be broken."""

_PURPOSES = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}


class Finding(NamedTuple):
    """Something about a file.

    @ivar advice: what to do; empty where there is nothing to be done.
    """

    level: Level
    path: str
    text: str
    advice: str = ""


def inspect(
    files: TLSFiles,
    role: Role,
    *,
    host: str | None = None,
    directory: str | None = None,
    now: datetime | None = None,
) -> list[Finding]:
    """Look at all files of a role.

    @param host: a name or address that a server is to be known by.
    @param directory: where they all are, for the advice; C{None} for the default places.
    @param now: with a time zone; by default the clock's.
    @return: what was found, in the order of the files.
    """
    where = f" --directory {shlex.quote(directory)}" if directory is not None else ""
    return _Inspection(files, role, where, now or datetime.now(UTC)).all(host)


_T = TypeVar("_T")
_E = TypeVar("_E", bound=ExtensionType)


class _Inspection:
    """One look at the files of a role."""

    def __init__(self, files: TLSFiles, role: Role, where: str, now: datetime) -> None:
        self._files = files
        self._role = role
        self._where = where
        self._now = now
        self._findings: list[Finding] = []
        self._path = ""
        self._again = ""

    def _problem(self, text: str, advice: str = "") -> None:
        self._findings.append(Finding("problem", self._path, text, advice or self._again))

    def _warn(self, text: str, advice: str = "") -> None:
        self._findings.append(Finding("warning", self._path, text, advice or self._again))

    def _command(self, action: str) -> str:
        return f"virnet pki {action}{self._where} --force"

    def _about(self, path: str, again: str = "") -> None:
        """What follows is about a file that some command makes anew."""
        self._path, self._again = path, again

    def _loaded(self, load: Callable[[], _T], again: str) -> _T | None:
        try:
            return load()
        except RemoteError as e:
            if isinstance(e.__cause__, OSError):
                self._unreadable(e.__cause__, again)
            elif e.__cause__ is None:
                self._problem(e.message)
            else:
                self._problem("it is damaged, or not what its name says: no PEM can be read from it")
            return None

    def _unreadable(self, error: OSError, again: str) -> None:
        if isinstance(error, FileNotFoundError):
            self._problem("it does not exist", again.removesuffix(" --force"))
        elif isinstance(error, PermissionError):
            self._problem("you may not read it", "be the user that is to use it, or change its owner")
        else:
            self._problem(f"it cannot be read: {error.strerror}")

    def all(self, host: str | None) -> list[Finding]:
        files, role = self._files, self._role
        self._about(files.authorities, self._command("init"))
        authorities = self._loaded(lambda: loadAuthorities(files.authorities), self._again) or []
        for authority in authorities:
            self._certificate(authority, lambda each=authority: self._authority(each))  # type: ignore[misc]
        revocations: list[CertificateRevocationList] = []
        if files.revocations is not None:
            self._about(files.revocations)
            revocations = self._loaded(lambda: loadRevocations(str(files.revocations)), "") or []
            self._revocations(revocations, authorities)
        self._about(files.certificate, self._command(role))
        certificate = self._loaded(lambda: loadCertificate(files.certificate, role), self._again)
        if certificate is not None:
            self._certificate(certificate, lambda: self._leaf(certificate, host))
            self._trust(certificate, authorities, revocations)
        self._about(files.key, self._command(role))
        self._key(certificate)
        return self._findings

    def _certificate(self, certificate: Certificate, further: Callable[[], None]) -> None:
        before = len(self._findings)
        try:
            name = dnOf(certificate) or "nameless"
            start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if end < self._now:
                self._problem(f"{name} has expired on {end:%Y-%m-%d}")
            elif end - self._now < SOON:
                self._warn(f"{name} expires on {end:%Y-%m-%d}")
            if start > self._now:
                self._problem(
                    f"{name} is not valid before {start:%Y-%m-%d %H:%M} UTC",
                    f"wait, or look at this machine's clock: it says {self._now:%Y-%m-%d %H:%M} UTC",
                )
            key = certificate.public_key()
            if isinstance(key, RSAPublicKey) and key.key_size < RSA_BITS_MIN:
                self._warn(f"its key of {key.key_size} bits is weak")
            further()
        except UNREADABLE as e:
            self._problem(f"a part of it makes no sense: {e}")
        if len(self._findings) == before:
            self._findings.append(Finding("ok", self._path, f"{name}, until {end:%Y-%m-%d}"))

    def _authority(self, certificate: Certificate) -> None:
        constraints = _extension(certificate, BasicConstraints)
        if constraints is None or not constraints.value.ca:
            self._problem(
                "it does not say that it is the certificate of an authority (basic constraints CA:TRUE)"
            )
        usage = _extension(certificate, KeyUsage)
        if usage is not None and not usage.value.key_cert_sign:
            self._problem(
                "it may not sign certificates (key usage keyCertSign): nothing it has signed counts"
            )

    def _leaf(self, certificate: Certificate, host: str | None) -> None:
        role = self._role
        constraints = _extension(certificate, BasicConstraints)
        if constraints is not None and constraints.value.ca:
            self._problem(
                f"it is the certificate of an authority (basic constraints CA:TRUE), not of a {role}"
            )
        usage = _extension(certificate, KeyUsage)
        if usage is not None and not usage.value.digital_signature:
            # Without it GnuTLS does not even offer it, critical or not.
            self._problem("it may not sign (key usage digitalSignature), which TLS needs")
        if usage is not None and not usage.value.key_encipherment:
            if usage.critical:
                self._problem("libvirt asks that it may encipher keys (key usage keyEncipherment)")
            else:
                self._warn(
                    "libvirt logs at each use that it may not encipher keys (key usage keyEncipherment)"
                )
        self._purpose(certificate)
        if role == "server":
            self._hosts(certificate, host)

    def _purpose(self, certificate: Certificate) -> None:
        purposes = _extension(certificate, ExtendedKeyUsage)
        if purposes is None or _PURPOSES[self._role] in purposes.value:
            return
        for purpose in purposes.value:
            if purpose not in (*_PURPOSES.values(), ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE):
                # libvirt takes such a list for no restriction.
                return
        text = f"it is not made for a {self._role} (extended key usage {self._role}Auth)"
        if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes.value:
            text = (
                f"libvirt takes the purpose 'any' for none (extended key usage {self._role}Auth is missing)"
            )
        if purposes.critical:
            self._problem(text)
        else:
            self._warn(f"{text}; that is not critical, so it is only logged")

    def _hosts(self, certificate: Certificate, host: str | None) -> None:
        alternatives = _extension(certificate, SubjectAlternativeName)
        names = [] if alternatives is None else list(alternatives.value)
        known = [str(each.value) for each in names if isinstance(each, DNSName | IPAddress)]
        if not known:
            self._warn(
                "it names no hosts (subjectAltName), only a common name, which is no address's",
                f"{self._again} --host NAME",
            )
        if host is None:
            return
        try:
            checkHost(certificate, host)
        except RemoteError:
            listed = ", ".join(known) or dnOf(certificate)
            self._problem(
                f"it is for {listed}, not for {host}: clients that connect to {host} will refuse it",
                self._again + "".join(f" --host {shlex.quote(each)}" for each in [*known, host]),
            )

    def _trust(
        self,
        certificate: Certificate,
        authorities: list[Certificate],
        revocations: list[CertificateRevocationList],
    ) -> None:
        if not authorities:
            return
        files = self._files
        try:
            reason = distrust(certificate, [], authorities, revocations, self._now)
        except UNREADABLE as e:
            self._problem(f"a part of it makes no sense: {e}")
            return
        if reason is not None:
            self._problem(
                f"no authority of {files.authorities} vouches for it: {reason}",
                f"{self._again}; or put the certificate of the authority that has signed it into that file",
            )
        elif not any(each.level == "problem" for each in self._findings):
            try:
                checkOwn(
                    self._role, certificate, files.certificate, authorities, files.authorities, now=self._now
                )
            except RemoteError as e:
                self._problem(e.message)

    def _key(self, certificate: Certificate | None) -> None:
        path = self._path
        try:
            mode = os.stat(path).st_mode
        except OSError as e:
            self._unreadable(e, self._again)
            return
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            self._problem("everybody on this machine may read the private key", f"chmod 600 {path}")
        elif mode & stat.S_IWGRP:
            self._warn("its group may change the private key", f"chmod 640 {path}")
        if certificate is None:
            return
        before = len(self._findings)
        try:
            checkKey(certificate, self._files.certificate, path)
        except RemoteError as e:
            if isinstance(e.__cause__, OSError):
                self._unreadable(e.__cause__, self._again)
            elif e.__cause__ is not None:
                self._problem("no private key without a password can be read from it")
            else:
                self._problem(f"this private key is not the one of {self._files.certificate}")
        if len(self._findings) == before and not any(each.path == path for each in self._findings):
            self._findings.append(Finding("ok", path, f"the private key of {self._files.certificate}"))

    def _revocations(
        self, revocations: list[CertificateRevocationList], authorities: list[Certificate]
    ) -> None:
        for each in revocations:
            issuer = each.issuer.rfc4514_string()
            if each.issuer not in [authority.subject for authority in authorities]:
                self._warn(f"no authority of {self._files.authorities} has made the list of {issuer}")
            elif each.next_update_utc is not None and each.next_update_utc < self._now:
                self._warn(
                    f"the list of {issuer} was to be replaced on {each.next_update_utc:%Y-%m-%d}",
                    "ask the authority for a new one",
                )
            else:
                self._findings.append(Finding("ok", self._path, f"revoked by {issuer}: {len(each)}"))


def _extension(certificate: Certificate, kind: type[_E]) -> Extension[_E] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except ExtensionNotFound:
        return None
