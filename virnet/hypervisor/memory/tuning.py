"""Domains: their memory, vCPUs and parameters, running or as they will start next.

Rules:

  - Flags say whether a change is for the running domain, for its definition, or for whichever is current; the
    test driver takes one of them for memory and one or both for vCPUs.
  - No domain has more memory or vCPUs than its definition allows, none more vCPUs than the host.
  - Parameters that are set must be known and of the right type, and come once.
  - What a parameter query answers is all there is; the session cuts it to what was asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import (
    checkExclusive,
    checkFlags,
    checkNotZero,
    checkPositive,
    checkRequires,
    checkThere,
    invalidArgument,
    invalidOperation,
)
from virnet.hypervisor.memory.domain import domainOf, requireActive
from virnet.hypervisor.memory.domainxml import DomainDefinition
from virnet.hypervisor.memory.node import CPUS, MAX_VCPUS
from virnet.hypervisor.memory.state import MemoryDomain, MemoryState
from virnet.programs import IDomain, partialImplementer
from virnet.programs.constants import DomainMemoryModFlags, DomainVcpuFlags, VcpuState
from virnet.programs.typedparams import String, TypedParams, TypedParamType, UInt, ULLong
from virnet.programs.values import (
    Domain,
    DomainGetBlkioParametersRet,
    DomainGetMemoryParametersRet,
    DomainGetSchedulerTypeRet,
    DomainGetVcpuPinInfoRet,
    DomainGetVcpusRet,
    VcpuInfo,
)

LIVE, CONFIG, MAXIMUM = DomainMemoryModFlags.LIVE, DomainMemoryModFlags.CONFIG, DomainMemoryModFlags.MAXIMUM
_STRING_OKAY = 4
_NAMES = "VIR_DOMAIN_AFFECT_LIVE VIR_DOMAIN_AFFECT_CONFIG"
#: What a domain without a limit has (C: C{VIR_DOMAIN_MEMORY_PARAM_UNLIMITED}), in KiB.
_UNLIMITED = 2**53 - 1
#: Limits of the protocol: entries, and bytes of all CPU maps together.
VCPUINFO_MAX, CPUMAPS_MAX = 16384, 8388608
_WEIGHT = {"weight": TypedParamType.UINT}
_BLKIO_STRINGS = (
    "device_weight device_read_iops_sec device_write_iops_sec device_read_bytes_sec device_write_bytes_sec"
).split()
_MEMORY_LIMITS = ("hard_limit", "soft_limit", "swap_hard_limit")


def definitionsOf(domain: MemoryDomain, flags: int) -> list[DomainDefinition]:
    """The definitions a change is for, the running one first.

    @param flags: C{LIVE}, C{CONFIG}, both or none.
    @raise RemoteError: the domain does not run, or is transient, and that is asked for.
    """
    if not flags & (LIVE | CONFIG):
        flags |= LIVE if domain.active else CONFIG
    if flags & LIVE:
        requireActive(domain)
    if flags & CONFIG and not domain.persistent:
        raise invalidOperation("transient domains do not have any persistent config", ErrorDomain.DOMAIN)
    chosen = [domain.definition] if flags & LIVE else []
    return chosen + ([domain.nextDefinition] if flags & CONFIG else [])


def definitionOf(domain: MemoryDomain, flags: int) -> DomainDefinition:
    """The one definition a change is for.

    @raise RemoteError: two are asked for, or as L{definitionsOf}.
    """
    checkExclusive("virDomainObjGetOneDefState", "flags", flags, LIVE, CONFIG, _NAMES)
    return definitionsOf(domain, flags)[0]


def validate(params: TypedParams, known: dict[str, TypedParamType]) -> None:
    """Refuse parameters that are unknown, of another type, or there twice (C: C{virTypedParamsValidate})."""
    seen: set[str] = set()
    for field, type, _ in params.entries:
        wanted = known.get(field)
        if wanted is None:
            detail = f"parameter '{field}' not supported"
            raise RemoteError.of(ErrorNumber.ARGUMENT_UNSUPPORTED, detail, ErrorDomain.NONE)
        if type != wanted:
            words = f"invalid type '{_typeName(type)}' for parameter '{field}'"
            raise invalidArgument(f"{words}, expected '{_typeName(wanted)}'", ErrorDomain.NONE)
        if field in seen:
            raise invalidArgument(f"parameter '{field}' occurs multiple times", ErrorDomain.NONE)
        seen.add(field)


def _typeName(type: TypedParamType) -> str:
    return type.name.lower()


@partialImplementer(IDomain)
class Tuning:
    """Provides the sizes and parameters of domains."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def _find(self, dom: Domain) -> MemoryDomain:
        return domainOf(self._state, dom)

    # Memory, in KiB

    def domainGetMaxMemory(self, dom: Domain) -> int:
        return self._find(dom).definition.memory

    def domainSetMaxMemory(self, dom: Domain, memory: int) -> None:
        checkNotZero("virDomainSetMaxMemory", "memory", memory)
        self._setMemory(dom, memory, MAXIMUM)

    def domainSetMemory(self, dom: Domain, memory: int) -> None:
        checkNotZero("virDomainSetMemory", "memory", memory)
        self._setMemory(dom, memory, LIVE)

    def domainSetMemoryFlags(self, dom: Domain, memory: int, flags: int) -> None:
        checkNotZero("virDomainSetMemoryFlags", "memory", memory)
        checkFlags("testDomainSetMemoryFlags", flags, LIVE | CONFIG | MAXIMUM)
        self._setMemory(dom, memory, flags)

    def _setMemory(self, dom: Domain, memory: int, flags: int) -> None:
        domain = self._find(dom)
        definition = definitionOf(domain, flags)
        if not flags & MAXIMUM:
            if memory > definition.memory:
                raise invalidArgument("cannot set memory higher than max memory")
            definition.currentMemory = memory
            return
        if definition is domain.definition and domain.active:
            raise invalidOperation("cannot resize the maximum memory on an active domain")
        definition.memory = memory
        definition.currentMemory = min(definition.currentMemory, memory)

    # vCPUs

    def domainGetMaxVcpus(self, dom: Domain) -> int:
        return definitionOf(self._find(dom), LIVE).maxVcpus

    def domainGetVcpusFlags(self, dom: Domain, flags: int) -> int:
        checkExclusive("virDomainGetVcpusFlags", "ctl", flags, LIVE, CONFIG, _NAMES)
        checkFlags("testDomainGetVcpusFlags", flags, LIVE | CONFIG | MAXIMUM)
        definition = definitionOf(self._find(dom), flags)
        return definition.maxVcpus if flags & MAXIMUM else definition.vcpus

    def domainSetVcpus(self, dom: Domain, nvcpus: int) -> None:
        checkNotZero("virDomainSetVcpus", "nvcpus", nvcpus)
        self._setVcpus(dom, nvcpus, LIVE)

    def domainSetVcpusFlags(self, dom: Domain, nvcpus: int, flags: int) -> None:
        function = "virDomainSetVcpusFlags"
        checkNotZero(function, "nvcpus", nvcpus)
        names = "VIR_DOMAIN_VCPU_MAXIMUM VIR_DOMAIN_AFFECT_CONFIG"
        checkRequires(function, flags, DomainVcpuFlags.MAXIMUM, CONFIG, names)
        checkFlags("testDomainSetVcpusFlags", flags, LIVE | CONFIG | MAXIMUM)
        self._setVcpus(dom, nvcpus, flags)

    def _setVcpus(self, dom: Domain, count: int, flags: int) -> None:
        if count > MAX_VCPUS:
            words = "requested cpu amount exceeds maximum supported amount"
            raise invalidArgument(f"{words} ({count} > {MAX_VCPUS})")
        domain = self._find(dom)
        definitions = definitionsOf(domain, flags)
        raisesMaximum = bool(flags & MAXIMUM)
        for definition in definitions:
            running = domain.active and definition is domain.definition
            if count > definition.maxVcpus and (running or not raisesMaximum):
                words = "requested cpu amount exceeds maximum"
                raise invalidArgument(f"{words} ({count} > {definition.maxVcpus})")
        for definition in definitions:
            if raisesMaximum and not (domain.active and definition is domain.definition):
                definition.maxVcpus = count
                definition.vcpus = min(definition.vcpus, count)
            else:
                definition.vcpus = count

    def domainGetVcpus(self, dom: Domain, maxinfo: int, maplen: int) -> DomainGetVcpusRet:
        self._checkMaps("maxinfo", maxinfo, maplen)
        checkThere("virDomainGetVcpus", "info", maxinfo)
        domain = self._find(dom)
        if not domain.active:
            raise invalidOperation("cannot list vcpus for an inactive domain")
        definition = domain.definition
        # As the time used the test driver shows a tenth of the time of day, in microseconds.
        used = int(self._state.clock() * 1e6) // 10
        infos, maps = [], []
        for vcpu, cpus in _affinities(definition, min(maxinfo, definition.vcpus)):
            # The last of them; -1 if there is none.
            infos.append(VcpuInfo(vcpu, VcpuState.RUNNING, used, cpus.bit_length() - 1))
            maps.append(cpuMap(cpus, maplen))
        return DomainGetVcpusRet(infos, b"".join(maps).ljust(maxinfo * maplen, b"\0"))

    def domainGetVcpuPinInfo(
        self, dom: Domain, ncpumaps: int, maplen: int, flags: int
    ) -> DomainGetVcpuPinInfoRet:
        function = "virDomainGetVcpuPinInfo"
        checkExclusive(function, "ctl", flags, LIVE, CONFIG, _NAMES)
        self._checkMaps("ncpumaps", ncpumaps, maplen)
        checkPositive(function, "ncpumaps", ncpumaps)
        checkThere(function, "cpumaps", maplen)
        definition = definitionOf(self._find(dom), flags)
        count = min(ncpumaps, definition.vcpus)
        maps = b"".join(cpuMap(cpus, maplen) for _, cpus in _affinities(definition, count))
        return DomainGetVcpuPinInfoRet(maps.ljust(ncpumaps * maplen, b"\0"), count)

    def _checkMaps(self, parameter: str, count: int, maplen: int) -> None:
        detail = None
        if count < 0:
            detail = f"{parameter} must be non-negative"
        elif maplen < 0:
            detail = "maplen must be non-negative"
        elif count > VCPUINFO_MAX:
            detail = f"{parameter} > REMOTE_VCPUINFO_MAX"
        elif count * maplen > CPUMAPS_MAX:
            detail = f"{parameter} * maplen > REMOTE_CPUMAPS_MAX"
        if detail is not None:
            raise RemoteError.of(ErrorNumber.INTERNAL_ERROR, detail, ErrorDomain.RPC)

    # The scheduler

    def domainGetSchedulerType(self, dom: Domain) -> DomainGetSchedulerTypeRet:
        return DomainGetSchedulerTypeRet("fair", 1)

    def domainGetSchedulerParameters(self, dom: Domain, nparams: int) -> TypedParams:
        checkThere("virDomainGetSchedulerParameters", "params", nparams)
        self._find(dom)
        return TypedParams({"weight": UInt(50)})

    def domainGetSchedulerParametersFlags(self, dom: Domain, nparams: int, flags: int) -> TypedParams:
        checkThere("virDomainGetSchedulerParametersFlags", "params", nparams)
        # The API adds that it takes strings, and the test driver refuses all flags.
        checkFlags("testDomainGetSchedulerParametersFlags", flags | _STRING_OKAY)
        return self.domainGetSchedulerParameters(dom, nparams)

    def domainSetSchedulerParameters(self, dom: Domain, params: TypedParams) -> None:
        checkThere("virDomainSetSchedulerParameters", "params", len(params))
        self._setScheduler(dom, params)

    def domainSetSchedulerParametersFlags(self, dom: Domain, params: TypedParams, flags: int) -> None:
        checkThere("virDomainSetSchedulerParametersFlags", "params", len(params))
        checkFlags("testDomainSetSchedulerParametersFlags", flags)
        self._setScheduler(dom, params)

    def _setScheduler(self, dom: Domain, params: TypedParams) -> None:
        validate(params, _WEIGHT)
        # Like the test driver: any weight will do, and it stays 50.
        self._find(dom)

    # Parameters that can be asked for

    def domainGetBlkioParameters(self, dom: Domain, nparams: int, flags: int) -> DomainGetBlkioParametersRet:
        checkFlags("testDomainGetBlkioParameters", flags, LIVE | CONFIG | _STRING_OKAY)
        self._ask(dom, nparams, flags)
        params = TypedParams({"weight": UInt(0)})
        for name in _BLKIO_STRINGS:
            params.add(name, String(""))
        return DomainGetBlkioParametersRet(params, len(params))

    def domainGetMemoryParameters(
        self, dom: Domain, nparams: int, flags: int
    ) -> DomainGetMemoryParametersRet:
        checkFlags("testDomainGetMemoryParameters", flags, LIVE | CONFIG | _STRING_OKAY)
        definition = self._ask(dom, nparams, flags)
        values = (_limit(definition, name) for name in _MEMORY_LIMITS)
        params = TypedParams(zip(_MEMORY_LIMITS, map(ULLong, values), strict=True))
        return DomainGetMemoryParametersRet(params, len(params))

    def _ask(self, dom: Domain, nparams: int, flags: int) -> DomainDefinition | None:
        """Judge a query; how many parameters there are can be asked of any domain, even of none."""
        return definitionOf(self._find(dom), flags) if nparams else None


def _limit(definition: DomainDefinition | None, name: str) -> int:
    text = definition.root.findtext(f"memtune/{name}") if definition is not None else None
    return int(text) if text else _UNLIMITED


def _affinities(definition: DomainDefinition, count: int) -> Iterator[tuple[int, int]]:
    """The first vCPUs, each with the host CPUs it may use."""
    cpus = definition.cpus
    others = (1 << CPUS) - 1 if cpus is None else cpus
    for vcpu in range(count):
        yield vcpu, definition.pinned.get(vcpu, others)


def cpuMap(cpus: int, length: int) -> bytes:
    """Write CPUs as a map of bits, the first CPU in the lowest bit of the first byte (C: C{VIR_USE_CPU}).

    @param cpus: the bit of each CPU.
    @param length: bytes of the map; CPUs beyond are left out.
    """
    return (cpus & ((1 << length * 8) - 1)).to_bytes(length, "little")
