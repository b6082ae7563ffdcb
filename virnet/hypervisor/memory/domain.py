"""Domains: finding, listing, defining, starting and stopping them.

Rules:

  - Every change of what a domain does is told as a lifecycle event, with the detail the test driver gives;
    reboot and reset tell nothing.
  - What becomes of a domain that shuts down or reboots is for its definition to say (C{on_poweroff},
    C{on_reboot}).
  - A transient domain is gone when it stops; an undefined one when it stops too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import checkFlags, checkNotEmpty, internalError, invalidOperation
from virnet.hypervisor.memory.domainxml import DomainDefinition, parseDomain
from virnet.hypervisor.memory.state import MemoryDomain, MemoryState
from virnet.hypervisor.memory.xmldocument import xmlError
from virnet.hypervisor.memory.xmlvalues import formatUUID
from virnet.hypervisor.registrations import EventFamily
from virnet.programs import IDomain, partialImplementer
from virnet.programs.constants import (
    ConnectListAllDomainsFlags,
    DomainCreateFlags,
    DomainDefineFlags,
    DomainDestroyFlagsValues,
    DomainEventDefinedDetailType,
    DomainEventID,
    DomainEventResumedDetailType,
    DomainEventStartedDetailType,
    DomainEventStoppedDetailType,
    DomainEventSuspendedDetailType,
    DomainEventType,
    DomainEventUndefinedDetailType,
    DomainPausedReason,
    DomainRebootFlagValues,
    DomainRunningReason,
    DomainShutoffReason,
    DomainState,
    DomainUndefineFlagsValues,
    DomainXMLFlags,
)
from virnet.programs.values import (
    ConnectListAllDomainsRet,
    Domain,
    DomainGetInfoRet,
    DomainGetSecurityLabelRet,
    DomainGetStateRet,
)

#: What C{on_poweroff} and C{on_reboot} can say after which the domain goes on.
_GOES_ON = frozenset({"restart", "rename-restart"})
_REBOOT_FLAGS = sum(DomainRebootFlagValues)
_XML_FLAGS = DomainXMLFlags.SECURE | DomainXMLFlags.INACTIVE | DomainXMLFlags.MIGRATABLE
_SECURITY_LABEL = b"libvirt-test\0"


def domainOf(state: MemoryState, dom: Domain) -> MemoryDomain:
    """Find the domain a call is about.

    @raise RemoteError: there is none with that uuid.
    """
    found = state.domains.byUUID(dom.uuid)
    if found is None:
        detail = f"no domain with matching uuid '{formatUUID(dom.uuid)}' ({dom.name})"
        raise RemoteError.of(ErrorNumber.NO_DOMAIN, detail, ErrorDomain.TEST)
    return found


def requireActive(domain: MemoryDomain) -> None:
    """Refuse what only a running domain can do."""
    if not domain.active:
        raise invalidOperation("domain is not running", ErrorDomain.DOMAIN)


def tell(state: MemoryState, domain: MemoryDomain, event: DomainEventType, detail: int) -> None:
    """Send out a lifecycle event."""
    state.events.emit(EventFamily.DOMAIN, DomainEventID.LIFECYCLE, domain.reference, int(event), int(detail))


def start(
    state: MemoryState,
    domain: MemoryDomain,
    reason: DomainRunningReason = DomainRunningReason.BOOTED,
    detail: DomainEventStartedDetailType = DomainEventStartedDetailType.BOOTED,
) -> None:
    """Let a domain run, and tell."""
    domain.started(state.nextID(), reason)
    tell(state, domain, DomainEventType.STARTED, detail)


def stop(
    state: MemoryState,
    domain: MemoryDomain,
    reason: DomainShutoffReason,
    detail: DomainEventStoppedDetailType,
) -> None:
    """Stop a domain, tell, and forget it if it is transient."""
    domain.stopped(reason)
    tell(state, domain, DomainEventType.STOPPED, detail)
    if not domain.persistent:
        state.domains.remove(domain)


_Tests = tuple[tuple[int, Callable[[MemoryDomain], bool]], ...]


def _group(**tests: Callable[[MemoryDomain], bool]) -> tuple[int, _Tests]:
    # Plain numbers: an operator of IntFlag costs a microsecond.
    flags = tuple((int(ConnectListAllDomainsFlags[name]), fits) for name, fits in tests.items())
    return sum(flag for flag, _ in flags), flags


_NAMED_STATES = (DomainState.RUNNING, DomainState.PAUSED, DomainState.SHUTOFF)
_LIST_GROUPS = (
    _group(ACTIVE=lambda d: d.active, INACTIVE=lambda d: not d.active),
    _group(PERSISTENT=lambda d: d.persistent, TRANSIENT=lambda d: not d.persistent),
    _group(
        RUNNING=lambda d: d.state == DomainState.RUNNING,
        PAUSED=lambda d: d.state == DomainState.PAUSED,
        SHUTOFF=lambda d: d.state == DomainState.SHUTOFF,
        OTHER=lambda d: d.state not in _NAMED_STATES,
    ),
    _group(MANAGEDSAVE=lambda d: d.managedSave, NO_MANAGEDSAVE=lambda d: not d.managedSave),
    _group(AUTOSTART=lambda d: d.autostart, NO_AUTOSTART=lambda d: not d.autostart),
    _group(HAS_SNAPSHOT=lambda d: len(d.snapshots) > 0, NO_SNAPSHOT=lambda d: not len(d.snapshots)),
    _group(HAS_CHECKPOINT=lambda d: False, NO_CHECKPOINT=lambda d: True),
)
_LIST_FLAGS = sum(mask for mask, _ in _LIST_GROUPS)


@lru_cache
def listed(flags: int) -> Callable[[MemoryDomain], bool]:
    """What tells whether a domain is one of those to be listed.

    @param flags: L{ConnectListAllDomainsFlags}; of each group either none is set or one that fits.
    """
    # Of each group whatever is set; nothing is left to look at where all are.
    wanted = tuple(
        tuple(fits for flag, fits in tests if flags & flag)
        for mask, tests in _LIST_GROUPS
        if flags & mask not in (0, mask)
    )
    if not wanted:
        return lambda domain: True
    return lambda domain: all(any(fits(domain) for fits in tests) for tests in wanted)


@partialImplementer(IDomain)
class Domains:
    """Provides what domains are and do; L{Tuning<virnet.hypervisor.memory.tuning.Tuning>} has their sizes."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def _find(self, dom: Domain) -> MemoryDomain:
        return domainOf(self._state, dom)

    # Listing and finding

    def connectListAllDomains(self, need_results: int, flags: int) -> ConnectListAllDomainsRet:
        checkFlags("testConnectListAllDomains", flags, _LIST_FLAGS)
        fits = listed(flags)
        found = [domain.reference for domain in self._state.domains if fits(domain)]
        return ConnectListAllDomainsRet(found if need_results else [], len(found))

    def connectListDomains(self, maxids: int) -> list[int]:
        return [domain.id for domain in self._state.domains if domain.active][:maxids]

    def connectNumOfDomains(self) -> int:
        return sum(domain.active for domain in self._state.domains)

    def connectListDefinedDomains(self, maxnames: int) -> list[str]:
        return [domain.name for domain in self._state.domains if not domain.active][:maxnames]

    def connectNumOfDefinedDomains(self) -> int:
        return sum(not domain.active for domain in self._state.domains)

    def domainLookupByID(self, id: int) -> Domain:
        found = next((each for each in self._state.domains if each.active and each.id == id), None)
        return _reference(found)

    def domainLookupByName(self, name: str) -> Domain:
        return _reference(self._state.domains.byName(name))

    def domainLookupByUUID(self, uuid: bytes) -> Domain:
        return _reference(self._state.domains.byUUID(uuid))

    # Defining

    def domainDefineXML(self, xml: str) -> Domain:
        return self.domainDefineXMLFlags(xml, 0)

    def domainDefineXMLFlags(self, xml: str, flags: int) -> Domain:
        checkFlags("testDomainDefineXMLFlags", flags, DomainDefineFlags.VALIDATE)
        definition = parseDomain(xml, self._state.randomBytes)
        domain = self._state.domains.same(definition)
        detail = DomainEventDefinedDetailType.UPDATED
        if domain is None:
            domain, detail = self._add(definition, True), DomainEventDefinedDetailType.ADDED
        else:
            domain.define(definition)
            domain.persistent = True
        tell(self._state, domain, DomainEventType.DEFINED, detail)
        return domain.reference

    def domainCreateXML(self, xml_desc: str, flags: int) -> Domain:
        checkFlags("testDomainCreateXML", flags, DomainCreateFlags.START_VALIDATE)
        definition = parseDomain(xml_desc, self._state.randomBytes)
        domain = self._state.domains.same(definition)
        if domain is None:
            domain = self._add(definition, False)
        elif domain.active:
            raise invalidOperation(f"domain '{domain.name}' is already active", ErrorDomain.DOMAIN)
        else:
            domain.following, domain.definition = domain.definition, definition
        start(self._state, domain)
        return domain.reference

    def _add(self, definition: DomainDefinition, persistent: bool) -> MemoryDomain:
        domain = MemoryDomain(definition, persistent)
        self._state.domains.add(domain)
        return domain

    def domainUndefine(self, dom: Domain) -> None:
        self.domainUndefineFlags(dom, 0)

    def domainUndefineFlags(self, dom: Domain, flags: int) -> None:
        f = DomainUndefineFlagsValues
        checkFlags("testDomainUndefineFlags", flags, f.MANAGED_SAVE | f.SNAPSHOTS_METADATA)
        domain = self._find(dom)
        if domain.managedSave and not flags & f.MANAGED_SAVE:
            raise invalidOperation("Refusing to undefine while domain managed save image exists")
        count = len(domain.snapshots)
        if not domain.active and count and not flags & f.SNAPSHOTS_METADATA:
            raise invalidOperation(f"cannot delete inactive domain with {count} snapshots")
        tell(self._state, domain, DomainEventType.UNDEFINED, DomainEventUndefinedDetailType.REMOVED)
        domain.managedSave = False
        if domain.active:
            domain.persistent = False
        else:
            self._state.domains.remove(domain)

    def domainRename(self, dom: Domain, new_name: str | None, flags: int) -> int:
        checkNotEmpty("virDomainRename", "new_name", new_name)
        checkFlags("testDomainRename", flags)
        domain, name = self._find(dom), new_name or ""
        if domain.active:
            raise invalidOperation("cannot rename active domain")
        if name == domain.name:
            raise invalidOperation("Can't rename domain to itself", ErrorDomain.DOMAIN)
        if self._state.domains.byName(name) is not None:
            raise invalidOperation(f"domain with name '{name}' already exists", ErrorDomain.DOMAIN)
        if "/" in name:
            raise xmlError(f"name {name} cannot contain '/'", ErrorDomain.TEST)
        tell(self._state, domain, DomainEventType.UNDEFINED, DomainEventUndefinedDetailType.RENAMED)
        before = domain.name
        domain.rename(name)
        self._state.domains.renamed(domain, before)
        tell(self._state, domain, DomainEventType.DEFINED, DomainEventDefinedDetailType.RENAMED)
        return 0

    # Running

    def domainCreate(self, dom: Domain) -> None:
        self._start(dom)

    def domainCreateWithFlags(self, dom: Domain, flags: int) -> Domain:
        checkFlags("testDomainCreateWithFlags", flags)
        return self._start(dom).reference

    def _start(self, dom: Domain) -> MemoryDomain:
        domain = self._find(dom)
        if domain.active:
            raise internalError(f"Domain '{domain.name}' is already running")
        start(self._state, domain)
        return domain

    def domainSuspend(self, dom: Domain) -> None:
        domain = self._find(dom)
        if domain.state in (DomainState.SHUTOFF, DomainState.PAUSED):
            raise internalError(f"domain '{domain.name}' not running")
        domain.setState(DomainState.PAUSED, DomainPausedReason.USER)
        tell(self._state, domain, DomainEventType.SUSPENDED, DomainEventSuspendedDetailType.PAUSED)

    def domainResume(self, dom: Domain) -> None:
        domain = self._find(dom)
        if domain.state != DomainState.PAUSED:
            raise internalError(f"domain '{domain.name}' not paused")
        domain.setState(DomainState.RUNNING, DomainRunningReason.UNPAUSED)
        tell(self._state, domain, DomainEventType.RESUMED, DomainEventResumedDetailType.UNPAUSED)

    def domainShutdown(self, dom: Domain) -> None:
        self.domainShutdownFlags(dom, 0)

    def domainShutdownFlags(self, dom: Domain, flags: int) -> None:
        checkFlags("testDomainShutdownFlags", flags)
        domain = self._find(dom)
        if not domain.active:
            raise internalError(f"domain '{domain.name}' not running")
        self._act(domain, "on_poweroff")

    def domainReboot(self, dom: Domain, flags: int) -> None:
        checkFlags("testDomainReboot", flags, _REBOOT_FLAGS)
        domain = self._find(dom)
        requireActive(domain)
        self._act(domain, "on_reboot")

    def _act(self, domain: MemoryDomain, on: str) -> None:
        if domain.definition.action(on) in _GOES_ON:
            domain.setState(DomainState.RUNNING, DomainRunningReason.BOOTED)
            return
        stop(self._state, domain, DomainShutoffReason.SHUTDOWN, DomainEventStoppedDetailType.SHUTDOWN)

    def domainReset(self, dom: Domain, flags: int) -> None:
        checkFlags("testDomainReset", flags)
        requireActive(self._find(dom))

    def domainDestroy(self, dom: Domain) -> None:
        self.domainDestroyFlags(dom, 0)

    def domainDestroyFlags(self, dom: Domain, flags: int) -> None:
        checkFlags("testDomainDestroyFlags", flags, DomainDestroyFlagsValues.GRACEFUL)
        domain = self._find(dom)
        requireActive(domain)
        stop(self._state, domain, DomainShutoffReason.DESTROYED, DomainEventStoppedDetailType.DESTROYED)

    # Asking

    def domainGetState(self, dom: Domain, flags: int) -> DomainGetStateRet:
        checkFlags("testDomainGetState", flags)
        domain = self._find(dom)
        return DomainGetStateRet(domain.state, domain.reason)

    def domainGetInfo(self, dom: Domain) -> DomainGetInfoRet:
        domain = self._find(dom)
        definition = domain.definition
        # The test driver, too, shows the time of day as the time used: in nanoseconds.
        cpuTime = int(self._state.clock() * 1e9)
        memory, current = definition.memory, definition.currentMemory
        return DomainGetInfoRet(domain.state, memory, current, definition.vcpus, cpuTime)

    def domainGetXMLDesc(self, dom: Domain, flags: int) -> str:
        checkFlags("testDomainGetXMLDesc", flags, _XML_FLAGS)
        domain = self._find(dom)
        secure = bool(flags & DomainXMLFlags.SECURE)
        if flags & DomainXMLFlags.INACTIVE:
            return domain.nextDefinition.toXML(secure=secure)
        return domain.definition.toXML(domainID=domain.id if domain.active else -1, secure=secure)

    def domainGetOSType(self, dom: Domain) -> str:
        return "linux"

    def domainIsActive(self, dom: Domain) -> int:
        return int(self._find(dom).active)

    def domainIsPersistent(self, dom: Domain) -> int:
        return int(self._find(dom).persistent)

    def domainIsUpdated(self, dom: Domain) -> int:
        return 0

    def domainGetAutostart(self, dom: Domain) -> int:
        return int(self._find(dom).autostart)

    def domainSetAutostart(self, dom: Domain, autostart: int) -> None:
        self._find(dom).autostart = bool(autostart)

    def domainHasManagedSaveImage(self, dom: Domain, flags: int) -> int:
        checkFlags("testDomainHasManagedSaveImage", flags)
        return int(self._find(dom).managedSave)

    def domainGetSecurityLabel(self, dom: Domain) -> DomainGetSecurityLabelRet:
        active = self._find(dom).active
        return DomainGetSecurityLabelRet(_SECURITY_LABEL if active else b"", int(active))

    def domainGetMessages(self, dom: Domain, flags: int) -> list[str]:
        self._find(dom)
        return []

    def domainGetHostname(self, dom: Domain, flags: int) -> str:
        checkFlags("testDomainGetHostname", flags)
        domain = self._find(dom)
        requireActive(domain)
        return f"{domain.name}host"


def _reference(found: MemoryDomain | None) -> Domain:
    if found is None:
        # The test driver says no more than that.
        raise RemoteError.of(ErrorNumber.NO_DOMAIN, None, ErrorDomain.TEST)
    return found.reference
