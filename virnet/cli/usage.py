"""
What domains use: the figures of C{top}.

  - One bulk call has everything. Where a hypervisor does not tell CPU time or memory that way (libvirt's test
    driver), it is asked for each domain.
  - Rates are differences of two looks; C{None} at the first, and for a domain that does not run or has
    started anew. A counter that a server does not have is C{None} too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from virnet.cli.session import described, ifThere, stateName
from virnet.client import Connection
from virnet.errorcodes import ErrorNumber
from virnet.programs.constants import ConnectGetAllDomainStatsFlags
from virnet.programs.typedparams import TypedParams
from virnet.programs.values import Domain

COUNTERS = {
    "diskRead": ("block", "rd.bytes"),
    "diskWrite": ("block", "wr.bytes"),
    "netReceive": ("net", "rx.bytes"),
    "netSend": ("net", "tx.bytes"),
}
"""Rate to the family and name of the counters that are summed for it."""


class Look(NamedTuple):
    """A domain at one time.

    @ivar cpuTime: nanoseconds.
    @ivar memory: KiB.
    @ivar totals: bytes so far, by the names of L{COUNTERS}.
    """

    domain: Domain
    state: int
    cpus: int | None
    cpuTime: int | None
    memory: int | None
    totals: dict[str, int | None]


async def look(connection: Connection, everything: bool) -> list[Look]:
    """Ask for all domains.

    @param everything: those that do not run as well.
    """
    flags = 0 if everything else ConnectGetAllDomainStatsFlags.ACTIVE
    remote = connection.remote
    records: list[Any] = await remote.connectGetAllDomainStats([], 0, flags)
    asked = [None if "cpu.time" in each.params else remote.domainGetInfo(each.dom) for each in records]
    found = []
    for record, call in zip(records, asked, strict=True):
        params: TypedParams = record.params
        known: list[Any] = [
            params.get(key) for key in ("state.state", "vcpu.current", "cpu.time", "balloon.current")
        ]
        if call is not None:
            info = await ifThere(call, ErrorNumber.NO_DOMAIN)
            if info is None:
                continue
            told = (info.state, info.nrVirtCpu, info.cpuTime, info.memory)
            known = [value if have is None else have for have, value in zip(known, told, strict=True)]
        state, cpus, cpuTime, memory = known
        totals = {name: summed(params, *counter) for name, counter in COUNTERS.items()}
        found.append(Look(record.dom, int(state or 0), cpus, cpuTime, memory, totals))
    return found


def summed(params: TypedParams, family: str, name: str) -> int | None:
    """Add up a counter of all devices of a family; C{None} where there is none."""
    values = [
        int(value)
        for key, value in params.items()
        if key.startswith(f"{family}.") and key.endswith(f".{name}") and key.count(".") == name.count(".") + 2
    ]
    return sum(values) if values else None


def usage(now: Look, before: Look | None, seconds: float) -> dict[str, Any]:
    """What a domain uses.

    @param before: the look before, which was so many seconds ago.
    @return: for JSON: C{cpu} in percent of one CPU, rates in bytes a second.
    """
    same = before if before is not None and before.domain.id == now.domain.id >= 0 and seconds > 0 else None
    cpu = None if same is None else _rate(now.cpuTime, same.cpuTime, seconds)
    return {
        **described(now.domain),
        "state": stateName(now.state),
        "cpus": now.cpus,
        "cpuTime": now.cpuTime,
        "cpu": None if cpu is None else cpu / 1e7,
        "memory": now.memory,
        **{
            name: None if same is None else _rate(total, same.totals[name], seconds)
            for name, total in now.totals.items()
        },
    }


def _rate(now: int | None, before: int | None, seconds: float) -> float | None:
    return None if now is None or before is None or now < before else (now - before) / seconds
