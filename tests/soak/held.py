"""What a server process holds: what its clients must not leave behind.

Memory is counted three ways. Bytes that the C library has given out hold every buffer, OpenSSL's too, but not
Python's own small objects; of these the number is counted. Both are exact where the resident size is not: it
also is what nobody uses any more.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading

from virnet.server import ServerClient, ServerStream


class _Mallinfo2(ctypes.Structure):
    """C: C{struct mallinfo2}, see C{mallinfo(3)}."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


_mallinfo2 = ctypes.CDLL(None).mallinfo2
_mallinfo2.restype = _Mallinfo2


def heldBy(asking: ServerClient) -> dict[str, int]:
    """Count it.

    @param asking: who wants to know; is not counted itself.
    """
    gc.collect()
    server = asking.server
    others = [each for each in server.clients.values() if each is not asking]
    workers = server.workers.statistics()
    pooled = server.reactor.getThreadPool()
    known = gc.get_objects()
    allocated = _mallinfo2()
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return {
        # Grows by one with each; nothing is left of it but the number.
        "connections so far": asking.id,
        "clients": len(others),
        "clients that wait": server.heldClients,
        "clients that have not authenticated": server.anonymousClients,
        "clients in memory": sum(isinstance(each, ServerClient) for each in known) - 1,
        "streams": sum(len(each.connection.streams) for each in others),
        "streams in memory": sum(isinstance(each, ServerStream) for each in known),
        "in progress": sum(each.inProgress for each in others),
        "jobs": workers.jobQueueDepth,
        "delayed calls": len(server.reactor.getDelayedCalls()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        # Those of pools stay for the next job, and pools have a limit.
        "threads": threading.active_count() - workers.nWorkers - workers.prioWorkers - len(pooled.threads),
        "allocated": allocated.uordblks + allocated.hblkhd,
        "objects": sys.getallocatedblocks(),
        "resident": pages * os.sysconf("SC_PAGESIZE"),
    }
