"""
Names for the shell to complete (C{__complete}).

Nothing is said about what goes wrong: somebody pressed the tabulator, and has no use for an error between two
words. What does not come within C{--timeout} seconds is not offered.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from virnet.cli.output import Output
from virnet.cli.procedures import programNamed
from virnet.cli.values import PROGRAMS
from virnet.client import connect
from virnet.client.connection import Connection
from virnet.errors import VirnetError


async def complete(reactor: Any, options: Namespace, output: Output) -> None:
    """Print the names, one a line."""
    asked = Deferred.fromCoroutine(_names(reactor, options))
    asked.addTimeout(options.timeout, reactor)
    try:
        names = await asked
    except (VirnetError, CancelledError, TimeoutError):
        return
    for name in sorted(set(names)):
        if name.isprintable():
            output.line(name)


async def _names(reactor: Any, options: Namespace) -> list[str]:
    if options.what == "procedure":
        return [each.name for name in PROGRAMS for each in programNamed(name).procedures.values()]
    async with await connect(
        reactor, options.connect, readonly=options.readonly, keepalive=None
    ) as connection:
        if options.what == "domain":
            domains, _ = await connection.remote.connectListAllDomains(1, 0)
            return [each.name for each in domains]
        return await _storage(connection, options)


async def _storage(connection: Connection, options: Namespace) -> list[str]:
    remote = connection.remote
    pools, _ = await remote.connectListAllStoragePools(1, 0)
    if options.what == "pool":
        return [each.name for each in pools]
    if options.pool is None:
        return []
    names: list[str] = []
    for pool in pools:
        if pool.name == options.pool:
            volumes, _ = await remote.storagePoolListAllVolumes(pool, 1, 0)
            names += [each.name for each in volumes]
    return names
