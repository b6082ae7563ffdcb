"""
What is measured of whom: the rooms of the table, in its order.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.codecs import codecCases
from tests.bench.processes import Processes
from tests.bench.rawclient import CALLS
from tests.bench.rounds import Case, Contender, Sample
from tests.bench.transfers import MEBIBYTES, TRANSFERS

SAME_CALLS = ("connectGetLibVersion", "domainLookupByName")
"""What the AMP and Perspective Broker peers have too."""


def _contender(
    processes: Processes, label: str, client: str, server: str, watch: str, call: str, depth: int
) -> Contender:
    """
    @param watch: whose processor time counts: C{client}, C{server} or C{both}.
    """

    def measure(seconds: float) -> Sample:
        worker = processes.worker(client, server)
        pids = {
            "client": (worker.pid,),
            "server": (processes.server(server).pid,),
            "both": (worker.pid, processes.server(server).pid),
        }
        return worker.measure(call, depth, seconds, pids[watch])

    return Contender(label, measure)


def allCases(processes: Processes) -> list[Case]:
    """
    Every case; processes start when one is first measured.
    """

    def contender(label: str, client: str, server: str, watch: str) -> Callable[[str, int], Contender]:
        return lambda call, depth: _contender(processes, label, client, server, watch, call, depth)

    oursRaw = contender("virnet", "raw", "virnet", "server")
    libvirtdRaw = contender("libvirtd", "raw", "libvirtd", "server")
    recordedRaw = contender("recorded", "raw", "recorded", "server")
    recordedBinding = contender("recorded", "libvirt-python", "recorded", "server")
    oursBinding = contender("virnet", "libvirt-python", "virnet", "server")
    libvirtdBinding = contender("libvirtd", "libvirt-python", "libvirtd", "server")
    ourClient = contender("virnet", "virnet", "libvirtd", "client")
    binding = contender("libvirt-python", "libvirt-python", "libvirtd", "client")
    raw = contender("raw client", "raw", "libvirtd", "client")
    ourPair = contender("virnet", "virnet", "virnet", "both")
    amp = contender("AMP", "amp", "amp", "both")
    pb = contender("PB", "pb", "pb", "both")

    cases = [
        Case(
            f"server, raw client, depth {depth}",
            call,
            oursRaw(call, depth),
            (libvirtdRaw(call, depth), recordedRaw(call, depth)),
        )
        for depth in (1, 5, 32)
        for call in CALLS
    ]
    cases += [
        Case(
            "server, libvirt-python",
            call,
            oursBinding(call, 1),
            (libvirtdBinding(call, 1), recordedBinding(call, 1)),
        )
        for call in CALLS
    ]
    cases += [
        Case(
            "client on libvirtd, one call at a time",
            call,
            ourClient(call, 1),
            (binding(call, 1), raw(call, 1)),
        )
        for call in CALLS
    ]
    cases += [
        Case("client on libvirtd, 32 in flight", call, ourClient(call, 32), (raw(call, 32), binding(call, 1)))
        for call in CALLS
    ]
    cases += [
        Case(
            f"client and server, depth {depth}",
            call,
            ourPair(call, depth),
            (amp(call, depth), pb(call, depth)),
        )
        for depth in (1, 32)
        for call in SAME_CALLS
    ]
    title = f"volumes of {MEBIBYTES} MiB"
    ourVolumes = contender("virnet", "virsh", "virnet", "server")
    libvirtdVolumes = contender("libvirtd", "virsh", "libvirtd", "server")
    ourTransfers = contender("virnet", "transfers", "libvirtd", "client")
    virsh = contender("virsh", "virsh", "libvirtd", "client")
    cases += [
        Case(
            f"volumes of {MEBIBYTES} MiB, server, virsh", way, ourVolumes(way, 1), (libvirtdVolumes(way, 1),)
        )
        for way in TRANSFERS
    ]
    cases += [
        Case(f"{title}, client on libvirtd", way, ourTransfers(way, 1), (virsh(way, 1),)) for way in TRANSFERS
    ]
    return cases + codecCases()
