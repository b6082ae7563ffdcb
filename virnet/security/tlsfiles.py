"""Which files a TLS context is made of: libvirt's places and fall-backs.

Rules:

  - Explicit files: all three of CA, certificate and key, or none. C{pkipath}: that directory alone.
  - Else root uses the system's files; everybody else their own, where they exist: the CA file and the
    revocation list each for itself, certificate and key as a pair.
"""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError

Role = Literal["client", "server"]

SYSTEM_CA_DIRECTORY = "/etc/pki/CA"
SYSTEM_DIRECTORY = "/etc/pki/libvirt"
USER_DIRECTORY = ".pki/libvirt"


class TLSFiles(NamedTuple):
    """Paths; whether there is anything is another question.

    @ivar revocations: C{None} where none was named.
    """

    authorities: str
    revocations: str | None
    certificate: str
    key: str


def explicitFiles(
    authorities: str | None, certificate: str | None, key: str | None, revocations: str | None = None
) -> TLSFiles:
    """The files that a server's settings name.

    @raise RemoteError: one of the three is missing.
    """
    if not authorities:
        raise _incomplete("No CA certificate path set to match server key/cert")
    if not certificate:
        raise _incomplete("No server certificate path set to match server key")
    if not key:
        raise _incomplete("No server key path set to match server cert")
    return TLSFiles(authorities, revocations or None, certificate, key)


def _incomplete(text: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.SYSTEM_ERROR, text, ErrorDomain.RPC)


def directoryFiles(directory: str, role: Role) -> TLSFiles:
    """The files of a C{pkipath}."""
    return TLSFiles(
        f"{directory}/cacert.pem",
        f"{directory}/cacrl.pem",
        f"{directory}/{role}cert.pem",
        f"{directory}/{role}key.pem",
    )


def systemFiles(role: Role) -> TLSFiles:
    """The files of the machine."""
    return TLSFiles(
        f"{SYSTEM_CA_DIRECTORY}/cacert.pem",
        f"{SYSTEM_CA_DIRECTORY}/cacrl.pem",
        f"{SYSTEM_DIRECTORY}/{role}cert.pem",
        f"{SYSTEM_DIRECTORY}/private/{role}key.pem",
    )


def defaultFiles(role: Role) -> TLSFiles:
    """The files that are used when nothing is said."""
    system = systemFiles(role)
    if os.geteuid() == 0:
        return system
    own = directoryFiles(f"{os.path.expanduser('~')}/{USER_DIRECTORY}", role)
    assert own.revocations is not None
    pair = own if os.path.exists(own.certificate) and os.path.exists(own.key) else system
    return TLSFiles(
        own.authorities if os.path.exists(own.authorities) else system.authorities,
        own.revocations if os.path.exists(own.revocations) else system.revocations,
        pair.certificate,
        pair.key,
    )
