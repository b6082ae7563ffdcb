"""
Our client as a worker: C{python -m tests.bench.ourclient URI}.
"""

from __future__ import annotations

import sys
from typing import Any

import virnet
from tests.bench.reactorworker import Calls, run
from virnet.programs import REMOTE


async def connect(reactor: Any, uri: str) -> Calls:
    """
    The calls of L{tests.bench.rawclient.CALLS} as a user of virnet makes them.
    """
    remote = (await virnet.connect(reactor, uri)).program(REMOTE)
    return {
        "connectGetLibVersion": remote.connectGetLibVersion,
        "connectGetHostname": remote.connectGetHostname,
        "domainLookupByName": lambda: remote.domainLookupByName("test"),
        "connectListAllDomains": lambda: remote.connectListAllDomains(1, 3),
    }


if __name__ == "__main__":
    run(lambda reactor: connect(reactor, sys.argv[1]))
