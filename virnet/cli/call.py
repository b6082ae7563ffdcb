"""
C{call}: any procedure of any program, on the kind of connection it needs.

  - The main program and those that go with it (QEMU, LXC) are called on an open hypervisor connection. The
    admin program has a socket and an opening call of its own; the lock program is just called. C{--bare} just
    calls, whatever it is.
  - Everything that was typed is checked before anything is connected.
  - Streams and file descriptors cannot be typed: their procedures are refused.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from virnet.cli.arguments import UsageError
from virnet.cli.asking import ask
from virnet.cli.jsonvalues import toJSON
from virnet.cli.output import Output
from virnet.cli.procedures import (
    Named,
    argumentsFromObject,
    argumentsOf,
    findProcedure,
    programNamed,
    signature,
    typeName,
)
from virnet.cli.values import PROGRAMS
from virnet.client import NetClient, connect
from virnet.errors import RemoteError, VirnetError, XDRError
from virnet.programs import ADMIN
from virnet.programs.base import Procedure
from virnet.transport.config import meantURI
from virnet.transport.endpoints import endpointFor
from virnet.transport.reaching import unreachable

ON_HYPERVISOR = frozenset({"REMOTE", "QEMU", "LXC"})
"""Programs whose calls need an open hypervisor connection."""


class Call(NamedTuple):
    """A call that makes sense as far as can be told without a server."""

    procedure: Procedure
    arguments: list[Any]


def prepare(options: Namespace) -> Call:
    """Find out what to call from what was typed.

    @raise UsageError: it cannot be called.
    """
    if options.procedure is None:
        raise UsageError("which procedure? see 'virnet call --help', or 'virnet call --list'")
    procedure = findProcedure(options.procedure, [options.program] if options.program else PROGRAMS)
    if procedure.stream is not None:
        raise UsageError(f"{procedure.name} opens a stream, which 'call' cannot carry")
    if procedure.fds is not None:
        raise UsageError(f"{procedure.name} passes file descriptors, which 'call' cannot carry")
    if options.args is None:
        return Call(procedure, argumentsOf(procedure, options.words))
    if options.words:
        raise UsageError("arguments are given in order or with --args, not both")
    return Call(procedure, argumentsFromObject(procedure, options.args))


def listProcedures(options: Namespace, output: Output) -> None:
    """C{call --list}: print the signatures of all procedures, or of those with a word in their name."""
    wanted = (options.procedure or "").replace("_", "").lower()
    for name in [options.program] if options.program else PROGRAMS:
        for procedure in programNamed(name).procedures.values():
            if wanted in procedure.name.lower():
                output.line(f"{name}  {signature(procedure)} -> {typeName(procedure.ret)}")


def check(options: Namespace, output: Output) -> bool:
    """Find out what to call before anything is connected.

    @return: there is nothing to call: it was C{--list}.
    """
    if options.list:
        listProcedures(options, output)
        return True
    options.call = prepare(options)
    return False


async def call(reactor: Any, options: Namespace, output: Output) -> None:
    """Connect, look up what is named, call, print."""
    procedure = options.call.procedure
    async with clientFor(reactor, options, procedure) as client:
        arguments = await found(client, options.call)
        try:
            calling = client.call(procedure, tuple(arguments))
        except XDRError as e:
            raise UsageError(f"{procedure.name}: {str(e).removeprefix('args.')}") from e
        result = await calling
    output.data(None if procedure.ret is None else toJSON(procedure.ret, result))


async def found(client: NetClient, prepared: Call) -> list[Any]:
    """The arguments of a call, those looked up that were named."""
    return [await _found(client, each) if isinstance(each, Named) else each for each in prepared.arguments]


async def _found(client: NetClient, named: Named) -> Any:
    try:
        return await client.call(named.lookup, (named.name, 0)[: len(named.lookup.args)])
    except RemoteError as e:
        # libvirt's own text need not say what was looked for.
        raise VirnetError(f"{named.lookup.name} of '{named.name}': {e}") from e


@asynccontextmanager
async def clientFor(reactor: Any, options: Namespace, procedure: Procedure) -> AsyncIterator[NetClient]:
    """Connect as a procedure needs it."""
    program = procedure.program.name
    if program in ON_HYPERVISOR and not options.bare:
        connection = await connect(reactor, options.connect, readonly=options.readonly, credentials=ask)
        async with connection:
            yield connection.client
        return
    endpoint = endpointFor(reactor, meantURI(options.connect), options.readonly)
    try:
        client = await NetClient.overEndpoint(endpoint)
    except Exception as e:
        raise unreachable(options.connect, e) from e
    try:
        if program == "ADMIN" and not options.bare and procedure.name != "admConnectOpen":
            await client.program(ADMIN).admConnectOpen(0)
        yield client
    finally:
        await client.close()
