"""
Many connections: C{python -m tests.bench.many}. Our server and libvirtd, each alone, one after the other:

 1. memory of the server for each connection that is open and does nothing
 2. processor time of the server for a call on one connection, with ever more idle ones beside it
 3. a thousand clients with one call in flight each: latency at 50 % and 99 %, and who was served how often

Prints a table; a peer that is missing, or that does not take as many connections, is said so.
"""

from __future__ import annotations

import argparse
import resource
import selectors
import shutil
import socket
import statistics
import struct
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.bench.processes import cpuSeconds
from tests.bench.rawclient import AUTH_LIST, CALLS, CONNECT_OPEN, RawClient, message, string
from tests.interop.support import Daemon, LibvirtDaemon, VirnetDaemon

CALL = CALLS["connectGetLibVersion"]
OPENING = (
    message(AUTH_LIST),
    message(CONNECT_OPEN, struct.pack(">I", 1) + string(b"test:///default") + bytes(4)),
)
STEPS = (1, 100, 1000, 5000)


class Crowd(NamedTuple):
    """
    What a thousand clients saw.

    @ivar rate: calls a second, all together.
    @ivar median: seconds.
    @ivar slow: seconds that one call in a hundred took longer than.
    @ivar least: calls of the client that was served least.
    @ivar most: of the one that was served most.
    """

    rate: float
    median: float
    slow: float
    least: int
    most: int


def resident(pid: int) -> int:
    """
    Bytes of memory that are a process's own.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not tell")


def costOfCall(client: RawClient, pid: int, calls: int) -> float:
    """
    Seconds of a server's processor time for a call: the least of ten times, since whatever else the machine
    does only ever adds to it.
    """
    costs = []
    for _ in range(10):
        before = cpuSeconds(pid)
        for _ in range(calls // 10):
            client.ask(CALL)
        costs.append((cpuSeconds(pid) - before) / (calls // 10))
    return min(costs)


def crowd(path: str, clients: int, seconds: float) -> Crowd:
    """
    Let many clients ask, each the next question when the last was answered.
    """
    selector = selectors.EpollSelector()
    sockets = []
    try:
        for number in range(clients):
            each = socket.socket(socket.AF_UNIX)
            sockets.append(each)
            each.connect(path)
            for call in OPENING:
                each.sendall(call)
                each.recv(4096)
            each.setblocking(False)
            selector.register(each, selectors.EVENT_READ, number)
        asked = [0.0] * clients
        answered = [0] * clients
        latencies: list[float] = []
        start = time.perf_counter()
        for number, each in enumerate(sockets):
            asked[number] = time.perf_counter()
            each.send(CALL)
        end = start + seconds
        while (now := time.perf_counter()) < end:
            for key, _ in selector.select(1):
                sock, number = sockets[key.data], key.data
                sock.recv(4096)
                now = time.perf_counter()
                latencies.append(now - asked[number])
                answered[number] += 1
                asked[number] = now
                sock.send(CALL)
        latencies.sort()
        return Crowd(
            len(latencies) / (now - start),
            statistics.median(latencies),
            latencies[int(len(latencies) * 0.99)],
            min(answered),
            max(answered),
        )
    finally:
        selector.close()
        for each in sockets:
            each.close()


def measure(
    name: str, daemon: Daemon, connections: int, seconds: float, calls: int
) -> list[tuple[str, str, str]]:
    """
    Measure one server.

    @return: what, which server, how much.
    """
    rows = []
    daemon.start()
    idle: list[RawClient] = []
    try:
        pid = daemon.pid
        with_ = RawClient(daemon.socketPath)
        costOfCall(with_, pid, calls)
        before = resident(pid)
        try:
            for step in (each for each in STEPS if each <= connections):
                while len(idle) < step:
                    idle.append(RawClient(daemon.socketPath))
                cost = costOfCall(with_, pid, calls)
                rows.append((f"cpu of a call beside {step} idle", name, f"{cost * 1e6:.1f} us"))
        except OSError as e:
            rows.append((f"more than {len(idle)} connections", name, f"refused: {e}"))
        each = (resident(pid) - before) / max(1, len(idle))
        rows.append((f"memory of each of {len(idle)} idle", name, f"{each / 1024:.1f} KiB"))
        for client in (*idle, with_):
            client.close()
        idle.clear()
        clients = min(1000, connections)
        seen = crowd(daemon.socketPath, clients, seconds)
        rows.append((f"{clients} clients at once", name, f"{seen.rate:,.0f} calls/s"))
        rows.append(
            ("  latency at 50 % and 99 %", name, f"{seen.median * 1e3:.1f} ms, {seen.slow * 1e3:.1f} ms")
        )
        rows.append(("  calls of the least and the most served", name, f"{seen.least}, {seen.most}"))
    finally:
        for client in idle:
            client.close()
        daemon.stop()
    return rows


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.many",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--connections", type=int, default=5000, help="at the most (default 5000)")
    parser.add_argument("--seconds", type=float, default=5, help="of the thousand clients (default 5)")
    parser.add_argument("--calls", type=int, default=5000, help="for the cost of one (default 5000)")
    options = parser.parse_args(argv)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = options.connections + 1000
    daemons: dict[str, Daemon] = {"virnet": VirnetDaemon(None, "--max-clients", str(room))}
    if shutil.which("libvirtd") is not None:
        daemons["libvirtd"] = LibvirtDaemon(
            settings=f"max_clients = {room}\nmax_anonymous_clients = {room}\n"
        )
    else:
        print("libvirtd is not installed")
    rows = [
        measure(name, daemon, options.connections, options.seconds, options.calls)
        for name, daemon in daemons.items()
    ]
    for lines in zip(*rows, strict=False):
        for what, name, much in lines:
            print(f"{what:42} {name:10} {much}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
