"""
C{list} and C{info}: what domains there are and how they are.

What a server cannot tell (an old one, or a hypervisor without the notion) is left out or shown as C{-}; every
other error ends the command.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred

from virnet.cli.session import Session, described, idOf, ifSupported, lookup, stateName, yesNo
from virnet.client import Connection
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.programs.constants import ConnectListAllDomainsFlags
from virnet.programs.values import Domain


async def listDomains(session: Session) -> None:
    """C{list}"""
    remote = session.connection.remote
    flags = 0 if session.options.all else ConnectListAllDomainsFlags.ACTIVE
    domains, _ = await remote.connectListAllDomains(1, flags)
    domains = sorted(domains, key=lambda each: (each.id < 0, each.id, each.name))
    calls = [_stateOf(session.connection, each) for each in domains]
    states = [await call for call in calls]
    found = [(each, state) for each, state in zip(domains, states, strict=True) if state is not None]
    if session.output.asJSON:
        session.output.data([{**described(each), "state": state} for each, state in found])
    else:
        session.output.table(
            ("Id", "Name", "State"), [(idOf(each), each.name, state) for each, state in found]
        )


def _stateOf(connection: Connection, domain: Domain) -> Deferred[str | None]:
    """A domain's state in words; C{None} when it went away in the meantime."""

    def gone(failure: Any) -> None:
        failure.trap(RemoteError)
        if failure.value.code != ErrorNumber.NO_DOMAIN:
            raise failure.value

    return connection.remote.domainGetState(domain, 0).addCallbacks(lambda found: stateName(found[0]), gone)


async def info(session: Session) -> None:
    """C{info}"""
    remote = session.connection.remote
    domain = await lookup(session.connection, session.options.domain)
    state, maxMem, memory, cpus, cpuTime = await remote.domainGetInfo(domain)
    osType = await ifSupported(remote.domainGetOSType(domain))
    persistent = await ifSupported(remote.domainIsPersistent(domain))
    autostart = await ifSupported(remote.domainGetAutostart(domain))
    if session.output.asJSON:
        session.output.data(
            {
                **described(domain),
                "state": stateName(state),
                "osType": osType,
                "cpus": cpus,
                "cpuTime": cpuTime,
                "maxMemory": maxMem,
                "memory": memory,
                "persistent": None if persistent is None else bool(persistent),
                "autostart": None if autostart is None else bool(autostart),
            }
        )
        return
    session.output.pairs(
        [
            ("Id", idOf(domain)),
            ("Name", domain.name),
            ("UUID", UUID(bytes=domain.uuid)),
            ("OS type", "-" if osType is None else osType),
            ("State", stateName(state)),
            ("CPUs", cpus),
            ("CPU time", f"{cpuTime / 1e9:.1f} s"),
            ("Max memory", f"{maxMem} KiB"),
            ("Used memory", f"{memory} KiB"),
            ("Persistent", yesNo(persistent)),
            ("Autostart", yesNo(autostart)),
        ]
    )
