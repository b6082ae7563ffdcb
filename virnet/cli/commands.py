"""The commands. Each is a coroutine that takes a L{Session}.

What a server cannot tell (an old one, or a hypervisor without the notion) is left out or shown as C{-}; every
other error ends the command.
"""

from __future__ import annotations

import re
import sys
import time
from argparse import Namespace
from collections.abc import Awaitable
from statistics import median
from typing import Any, NamedTuple
from uuid import UUID

from twisted.internet.defer import Deferred

from virnet._version import __version__
from virnet.cli.arguments import UsageError
from virnet.cli.output import Output
from virnet.client import Connection
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError, VirnetError
from virnet.programs.constants import ConnectListAllDomainsFlags, DomainState
from virnet.programs.values import Domain


class Session(NamedTuple):
    """What a command works with.

    @ivar reactor: for timers.
    @ivar options: what was typed.
    @ivar connection: open.
    @ivar output: where to print.
    """

    reactor: Any
    options: Namespace
    connection: Connection
    output: Output


STATES = {
    DomainState.NOSTATE: "no state",
    DomainState.RUNNING: "running",
    DomainState.BLOCKED: "idle",
    DomainState.PAUSED: "paused",
    DomainState.SHUTDOWN: "in shutdown",
    DomainState.SHUTOFF: "shut off",
    DomainState.CRASHED: "crashed",
    DomainState.PMSUSPENDED: "pmsuspended",
}
"""The words virsh has for a domain's states."""

_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_ID_MAX = 2**31 - 1


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
            ("Persistent", _yesNo(persistent)),
            ("Autostart", _yesNo(autostart)),
        ]
    )


async def uri(session: Session) -> None:
    """C{uri}"""
    _text(session.output, await session.connection.remote.connectGetURI())


async def hostname(session: Session) -> None:
    """C{hostname}"""
    _text(session.output, await session.connection.remote.connectGetHostname())


async def version(session: Session) -> None:
    """C{version}"""
    remote = session.connection.remote
    library = await ifSupported(remote.connectGetLibVersion())
    kind = await ifSupported(remote.connectGetType())
    hypervisor = await ifSupported(remote.connectGetVersion())
    found = {
        "virnet": __version__,
        "server": None if library is None else dotted(library),
        "hypervisor": kind,
        "hypervisorVersion": None if hypervisor is None else dotted(hypervisor),
    }
    if session.output.asJSON:
        session.output.data(found)
        return
    shown = {key: "-" if value is None else value for key, value in found.items()}
    session.output.pairs(
        [
            ("virnet", shown["virnet"]),
            ("Server", f"libvirt {shown['server']}"),
            ("Hypervisor", f"{shown['hypervisor']} {shown['hypervisorVersion']}"),
        ]
    )


async def start(session: Session) -> None:
    """C{start}"""
    domain = await lookup(session.connection, session.options.domain)
    # Not domainCreateWithFlags: this one is as old as the protocol.
    await session.connection.remote.domainCreate(domain)
    session.output.line(f"Domain '{domain.name}' started")


async def shutdown(session: Session) -> None:
    """C{shutdown}"""
    domain = await lookup(session.connection, session.options.domain)
    await session.connection.remote.domainShutdown(domain)
    session.output.line(f"Domain '{domain.name}' is being shut down")


async def destroy(session: Session) -> None:
    """C{destroy}"""
    domain = await lookup(session.connection, session.options.domain)
    await session.connection.remote.domainDestroy(domain)
    session.output.line(f"Domain '{domain.name}' destroyed")


async def dumpxml(session: Session) -> None:
    """C{dumpxml}"""
    domain = await lookup(session.connection, session.options.domain)
    session.output.document(await session.connection.remote.domainGetXMLDesc(domain, 0))


async def define(session: Session) -> None:
    """C{define}"""
    domain = await session.connection.remote.domainDefineXML(session.options.xml)
    source = "standard input" if session.options.file == "-" else session.options.file
    session.output.line(f"Domain '{domain.name}' defined from {source}")


def readFile(path: str) -> str:
    """Read a text whose bytes are passed on as they are; C{-} is standard input.

    @raise VirnetError: it cannot be read.
    """
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
    except OSError as e:
        raise VirnetError(f"cannot read {path}: {e.strerror or e}") from e
    return data.decode("utf-8", "surrogateescape")


async def ping(session: Session) -> None:
    """C{ping}: a call that goes through the whole server and does nothing there."""
    times = []
    for _ in range(session.options.count):
        began = time.perf_counter()
        await session.connection.remote.connectGetLibVersion()
        times.append((time.perf_counter() - began) * 1000)
    least, middle, most = min(times), median(times), max(times)
    if session.output.asJSON:
        session.output.data({"calls": len(times), "min": least, "median": middle, "max": most})
    else:
        calls = "1 call" if len(times) == 1 else f"{len(times)} calls"
        session.output.line(f"{calls}: min {least:.3f} ms, median {middle:.3f} ms, max {most:.3f} ms")


# Shared by the commands


async def lookup(connection: Connection, word: str) -> Domain:
    """Find a domain by id, UUID or name, in this order, as virsh does.

    @raise VirnetError: there is none.
    """
    remote = connection.remote
    if not word:
        raise UsageError("the name of the domain is empty")
    if word.isascii() and word.isdigit() and int(word) <= _ID_MAX:
        found = await _ifThere(remote.domainLookupByID(int(word)))
        if found is not None:
            return found
    if _UUID.fullmatch(word):
        found = await _ifThere(remote.domainLookupByUUID(UUID(word).bytes))
        if found is not None:
            return found
    try:
        return await remote.domainLookupByName(word)
    except RemoteError as e:
        # libvirt's own text need not say what was looked for.
        raise VirnetError(f"failed to get domain '{word}': {e}") from e


async def _ifThere(call: Awaitable[Domain]) -> Domain | None:
    try:
        return await call
    except RemoteError as e:
        if e.code != ErrorNumber.NO_DOMAIN:
            raise
        return None


async def ifSupported(call: Awaitable[Any]) -> Any:
    """Await a call whose result may be done without; C{None} when the server has no such thing."""
    try:
        return await call
    except RemoteError as e:
        if e.code != ErrorNumber.NO_SUPPORT:
            raise
        return None


def described(domain: Domain) -> dict[str, Any]:
    """What identifies a domain, for JSON; the id of one that does not run is C{null}."""
    return {
        "id": None if domain.id < 0 else domain.id,
        "name": domain.name,
        "uuid": str(UUID(bytes=domain.uuid)),
    }


def idOf(domain: Domain) -> str:
    """A domain's id for people."""
    return "-" if domain.id < 0 else str(domain.id)


def stateName(state: int) -> str:
    """A domain's state in words."""
    return STATES.get(DomainState(state), "no state") if state in STATES else f"state {state}"


def dotted(number: int) -> str:
    """A version as libvirt counts them: 9000000 is 9.0.0."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def _text(output: Output, text: str) -> None:
    if output.asJSON:
        output.data(text)
    else:
        output.line(text)


def _yesNo(value: int | None) -> str:
    return "-" if value is None else "yes" if value else "no"
