"""
C{pki}: an authority, and certificates for servers and clients, where libvirt looks for them; and what is
wrong with those that are there.
"""

from __future__ import annotations

import getpass
import os
import socket
from argparse import Namespace

from cryptography.x509 import Certificate

from virnet.cli.output import Output
from virnet.errors import VirnetError
from virnet.security.certificates import Role, dnOf
from virnet.security.pki import (
    PKIError,
    Places,
    defaultPlaces,
    makeAuthority,
    makePeer,
)
from virnet.security.pkicheck import Finding, inspect
from virnet.security.tlsfiles import TLSFiles, defaultFiles, directoryFiles


def pki(options: Namespace, output: Output) -> None:
    """C{pki}"""
    {"init": _init, "server": _server, "client": _client, "check": _check}[options.action](options, output)


def _places(directory: str | None) -> Places:
    return defaultPlaces() if directory is None else Places(os.path.abspath(directory))


def _init(options: Namespace, output: Output) -> None:
    places = _places(options.directory)
    made = makeAuthority(places, options.name, key=options.key, days=options.days, replace=options.force)
    _tell(output, "authority", made, [places.authority, places.authorityKey])
    output.note(f"keep {places.authorityKey} to yourself: whoever has it can make certificates of any name")


def _server(options: Namespace, output: Output) -> None:
    hosts = options.host or list(dict.fromkeys([socket.gethostname(), socket.getfqdn()]))
    _make("server", hosts[0], hosts, options, output)


def _client(options: Namespace, output: Output) -> None:
    _make("client", options.name or getpass.getuser(), [], options, output)


def _make(role: Role, name: str, hosts: list[str], options: Namespace, output: Output) -> None:
    places = _places(options.directory)
    made = makePeer(
        role,
        places,
        name,
        hosts,
        authority=None if options.authority is None else _places(options.authority),
        key=options.key,
        days=options.days,
        replace=options.force,
    )
    files = places.files(role)
    _tell(output, role, made, [files.authorities, files.certificate, files.key])
    if hosts:
        output.line(f"hosts: {', '.join(hosts)}")


def _tell(output: Output, what: str, made: Certificate, paths: list[str]) -> None:
    output.line(f"{what}: {dnOf(made)}, until {made.not_valid_after_utc:%Y-%m-%d}")
    for path in paths:
        output.line(f"  {path}")


def _check(options: Namespace, output: Output) -> None:
    roles: list[Role] = [options.role] if options.role else ["server", "client"]
    if options.host is not None:
        roles = ["server"]
    wanted = [(role, _files(options.directory, role)) for role in roles]
    if len(wanted) > 1:
        present = [each for each in wanted if any(map(os.path.lexists, each[1][2:]))]
        if not present:
            certificates = " nor ".join(files.certificate for _, files in wanted)
            raise PKIError(
                f"there is neither {certificates}; 'virnet pki server' and 'virnet pki client' make them"
            )
        wanted = present
    seen: list[Finding] = []
    for role, files in wanted:
        for finding in inspect(files, role, host=options.host, directory=options.directory):
            if finding not in seen:
                seen.append(finding)
                _report(finding, output)
    problems = sum(each.level == "problem" for each in seen)
    if problems:
        raise VirnetError(f"{problems} problem{'s' if problems > 1 else ''}")


def _files(directory: str | None, role: Role) -> TLSFiles:
    return defaultFiles(role) if directory is None else directoryFiles(os.path.abspath(directory), role)


def _report(finding: Finding, output: Output) -> None:
    output.line(f"{finding.level:8} {finding.path}: {finding.text}")
    if finding.advice:
        output.line(f"{'':8} -> {finding.advice}")
