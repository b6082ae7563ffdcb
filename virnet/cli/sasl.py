"""
C{sasl}: the file of SCRAM credentials of a server.

Passwords are asked for on the terminal, without echo and twice, or are the first line of standard input where
that is something else. They are never taken from the command line, which everybody on the machine can read.
"""

from __future__ import annotations

import getpass
import os
import sys
from argparse import Namespace

from virnet.cli.output import Output
from virnet.errors import VirnetError
from virnet.security.saslscram import prepare
from virnet.security.scramfile import CredentialFileError, ScramFile


def sasl(options: Namespace, output: Output) -> None:
    """C{sasl}"""
    try:
        {"passwd": _passwd, "list": _list, "delete": _delete}[options.action](options, output)
    except ImportError as e:
        raise VirnetError(str(e)) from e


def _passwd(options: Namespace, output: Output) -> None:
    file = ScramFile(options.file)
    # What cannot work is said before anybody types a password, twice.
    prepare(options.user)
    directory = os.path.dirname(os.path.realpath(options.file))
    if not os.path.isdir(directory):
        raise CredentialFileError(f"there is no directory {directory}")
    isNew = file.setPassword(options.user, readPassword(options.user), options.iterations)
    output.line(f"{options.file}: {'added' if isNew else 'changed'} {options.user}")


def _list(options: Namespace, output: Output) -> None:
    file = ScramFile(options.file)
    file.refresh()
    for user in file.users():
        output.line(user)


def _delete(options: Namespace, output: Output) -> None:
    ScramFile(options.file).delete(options.user)
    output.line(f"{options.file}: deleted {options.user}")


def readPassword(user: str) -> str:
    """Get a new password.

    @raise VirnetError: there is none, or the two that were typed differ.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        if not line:
            raise CredentialFileError("no password on standard input")
        return line.removesuffix("\n")
    password = getpass.getpass(f"New password for {user}: ")
    if getpass.getpass("Again: ") != password:
        raise CredentialFileError("the two passwords differ; nothing was changed")
    return password
