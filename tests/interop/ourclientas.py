"""
Our client as another user: ``python -m tests.interop.ourclientas UID URI`` prints the names of the domains,
or the error, in JSON.

Everything is imported first: another user may not be able to read where we are installed.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import react

import virnet.client.authentication
import virnet.client.events
from virnet.client import connect
from virnet.errors import RemoteError
from virnet.programs import REMOTE, values

assert virnet.client.authentication and virnet.client.events and values


async def names(reactor: Any, uri: str) -> None:
    """Print them."""
    try:
        client = await connect(reactor, uri)
        found, _ = await client.program(REMOTE).connectListAllDomains(1, 0)
        print(json.dumps([each.name for each in found]))
        await client.close()
    except RemoteError as e:
        print(json.dumps([e.code, e.domain, e.message]))


if __name__ == "__main__":
    user, uri = int(sys.argv[1]), sys.argv[2]
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        os.environ[name] = "/nonexistent"
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    react(lambda reactor: Deferred.fromCoroutine(names(reactor, uri)), (), _reactor=installed)
