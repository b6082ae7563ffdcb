"""
libvirt-python as a worker: C{/usr/bin/python3 -m tests.bench.bindingclient URI}. It is blocking: one call in
flight.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import libvirt

from tests.bench.worker import serve


def calls(uri: str) -> dict[str, Callable[[], Any]]:
    """
    The calls of L{tests.bench.rawclient.CALLS} as the binding's user makes them.
    """
    connection = libvirt.open(uri)
    return {
        "connectGetLibVersion": connection.getLibVersion,
        "connectGetHostname": connection.getHostname,
        "domainLookupByName": lambda: connection.lookupByName("test"),
        "connectListAllDomains": lambda: connection.listAllDomains(3),
    }


def main(uri: str) -> None:
    byName = calls(uri)

    def measure(name: str, depth: int, seconds: float) -> tuple[int, float]:
        if depth != 1:
            raise ValueError(f"libvirt-python has one call in flight, not {depth}")
        call, clock = byName[name], time.perf_counter
        start = clock()
        deadline = start + seconds
        count = 0
        while clock() < deadline:
            call()
            count += 1
        return count, clock() - start

    serve(measure)


if __name__ == "__main__":
    main(sys.argv[1])
