"""
Domains as XML: C{define}, C{undefine}, C{dumpxml}, C{edit}.

C{edit} takes the definition that will count at the next start, secrets included where the connection may see
them, and defines what the editor leaves. When the server refuses that, or somebody else has changed the
domain meanwhile, the text is kept in a file that the error names: nobody loses what he typed.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet.threads import deferToThreadPool

from virnet.cli.arguments import UsageError
from virnet.cli.output import Output
from virnet.cli.session import Session, lookup
from virnet.errors import RemoteError, VirnetError
from virnet.programs.constants import DomainXMLFlags


def readXML(options: Namespace, output: Output) -> None:
    """Read the file of C{define} before anything is connected."""
    options.xml = readFile(options.file)


async def define(session: Session) -> None:
    """C{define}"""
    domain = await session.connection.remote.domainDefineXML(session.options.xml)
    source = "standard input" if session.options.file == "-" else session.options.file
    session.output.line(f"Domain '{domain.name}' defined from {source}")


async def undefine(session: Session) -> None:
    """C{undefine}"""
    domain = await lookup(session.connection, session.options.domain)
    await session.connection.remote.domainUndefine(domain)
    session.output.line(f"Domain '{domain.name}' has been undefined")


async def dumpxml(session: Session) -> None:
    """C{dumpxml}"""
    domain = await lookup(session.connection, session.options.domain)
    flags = DomainXMLFlags.INACTIVE if session.options.inactive else 0
    session.output.document(await session.connection.remote.domainGetXMLDesc(domain, flags))


async def edit(session: Session) -> None:
    """C{edit}"""
    remote = session.connection.remote
    domain = await lookup(session.connection, session.options.domain)
    flags = DomainXMLFlags.INACTIVE | DomainXMLFlags.SECURE
    before = await remote.domainGetXMLDesc(domain, flags)
    handle, path = tempfile.mkstemp(prefix=f"virnet-{domain.name.replace('/', '_')[:64]}-", suffix=".xml")
    with open(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(before)
    keep = False
    try:
        # In a thread: the connection must answer the server's keepalive for as long as somebody thinks.
        with _deaf():
            await deferToThreadPool(session.reactor, session.reactor.getThreadPool(), runEditor, path)
        after = readFile(path)
        if after == before:
            session.output.line(f"Domain '{domain.name}' not changed")
            return
        keep = True
        if await remote.domainGetXMLDesc(domain, flags) != before:
            raise VirnetError(f"domain '{domain.name}' was changed by somebody else; your text is in {path}")
        try:
            defined = await remote.domainDefineXML(after)
        except RemoteError as e:
            raise VirnetError(f"{e}; your text is in {path}") from e
        keep = False
        session.output.line(f"Domain '{defined.name}' changed")
    finally:
        if not keep:
            os.unlink(path)


@contextmanager
def _deaf() -> Iterator[None]:
    """Leave Ctrl-C to the editor, which is at the same terminal and may mean something by it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGQUIT)}
    for number in before:
        # Not SIG_IGN, which the editor would inherit.
        signal.signal(number, lambda number, frame: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def runEditor(path: str) -> None:
    """Let the user's editor change a file.

    @raise VirnetError: there is none, or it failed.
    """
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        words = shlex.split(command)
        status = subprocess.call([*words, path])
    except ValueError as e:
        raise UsageError(f"the editor {command!r} is no command: {e}") from e
    except OSError as e:
        raise VirnetError(f"cannot run the editor {command!r}: {e.strerror or e}") from e
    if status:
        raise VirnetError(f"the editor {command!r} ended with status {status}; nothing was changed")


def readFile(path: str) -> str:
    """Read a text whose bytes are passed on as they are; C{-} is standard input.

    @raise VirnetError: it cannot be read.
    """
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as e:
        raise VirnetError(f"cannot read {path}: {e.strerror or e}") from e
    return data.decode("utf-8", "surrogateescape")
