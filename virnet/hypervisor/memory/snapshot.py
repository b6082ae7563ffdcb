"""Domains: their snapshots.

Rules:

  - A snapshot keeps what the domain was and did; reverting brings both back.
  - Reverting a running domain stops it first, as its memory is another one then, and each step is told.
  - A domain that ran when the snapshot was made runs after reverting, paused if it was, unless flags say
    otherwise; one that did not run stops.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import checkExclusive, checkFlags, invalidOperation
from virnet.hypervisor.memory.domain import domainOf, start, stop, tell
from virnet.hypervisor.memory.domainxml import DomainDefinition
from virnet.hypervisor.memory.snapshots import Snapshot
from virnet.hypervisor.memory.state import MemoryDomain, MemoryState
from virnet.hypervisor.memory.xmldocument import SNAPSHOT, parseDocument
from virnet.hypervisor.memory.xmloutput import child, element, toText
from virnet.hypervisor.memory.xmlvalues import choice
from virnet.programs import IDomainSnapshot, partialImplementer
from virnet.programs.constants import (
    DomainEventStartedDetailType,
    DomainEventStoppedDetailType,
    DomainEventSuspendedDetailType,
    DomainEventType,
    DomainPausedReason,
    DomainRunningReason,
    DomainShutoffReason,
    DomainSnapshotCreateFlags,
    DomainSnapshotDeleteFlags,
    DomainSnapshotListFlags,
    DomainSnapshotRevertFlags,
    DomainSnapshotXMLFlags,
    DomainState,
)
from virnet.programs.values import (
    Domain,
    DomainListAllSnapshotsRet,
    DomainSnapshot,
    DomainSnapshotListAllChildrenRet,
)

_LIST_FLAGS = sum(DomainSnapshotListFlags)
_LOCATIONS = ("no", "internal", "external", "manual")
#: Flags of creating that say how, where here there is only one way.
_HOW = (
    DomainSnapshotCreateFlags.QUIESCE
    | DomainSnapshotCreateFlags.ATOMIC
    | DomainSnapshotCreateFlags.LIVE
    | DomainSnapshotCreateFlags.VALIDATE
)


@partialImplementer(IDomainSnapshot)
class Snapshots:
    """Provides the snapshots of domains."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def _find(self, snap: DomainSnapshot) -> tuple[MemoryDomain, Snapshot]:
        domain = domainOf(self._state, snap.dom)
        return domain, _named(domain, snap.name)

    # Making, reverting to and deleting

    def domainSnapshotCreateXML(self, dom: Domain, xml_desc: str, flags: int) -> DomainSnapshot:
        f = DomainSnapshotCreateFlags
        checkFlags("testDomainSnapshotCreateXML", flags, f.HALT | _HOW)
        domain = domainOf(self._state, dom)
        halt = bool(flags & f.HALT)
        if halt and not domain.persistent:
            raise invalidOperation("cannot halt after transient domain snapshot")
        root = parseDocument(xml_desc, SNAPSHOT)
        created = int(self._state.clock())
        name = root.findtext("name") or str(created)
        memory = root.find("memory")
        if memory is not None and choice(memory, "snapshot", _LOCATIONS, "no") in ("external", "manual"):
            raise _unsupported("only internal snapshots are kept here")
        disks = _disks(root, domain.definition)
        if domain.snapshots.get(name) is not None:
            detail = f"domain moment {name} already exists"
            raise RemoteError.of(ErrorNumber.OPERATION_FAILED, detail, ErrorDomain.DOMAIN)
        description = root.findtext("description")
        parent = domain.snapshots.current
        kept = domain.definition.copy()
        domain.snapshots.add(Snapshot(name, description, domain.state, created, parent, kept, disks))
        if halt and domain.active:
            self._stop(domain)
        return DomainSnapshot(name, domain.reference)

    def domainRevertToSnapshot(self, snap: DomainSnapshot, flags: int) -> None:
        f = DomainSnapshotRevertFlags
        names = "VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED"
        domainError = ErrorDomain.DOMAIN_SNAPSHOT
        checkExclusive("virDomainRevertToSnapshot", "ctl", flags, f.RUNNING, f.PAUSED, names, domainError)
        checkFlags("testDomainRevertToSnapshot", flags, f.RUNNING | f.PAUSED | f.FORCE)
        domain, snapshot = self._find(snap)
        runs = snapshot.running or bool(flags & (f.RUNNING | f.PAUSED))
        if not runs and not domain.persistent:
            raise invalidOperation(
                "transient domain needs to request run or pause to revert to inactive snapshot"
            )
        if domain.active:
            # A transient domain goes on and must not be forgotten in between.
            keeps, domain.persistent = domain.persistent, True
            self._stop(domain)
            domain.persistent = keeps
        domain.definition = snapshot.definition.copy()
        # It may have been renamed since.
        domain.definition.name = domain.name
        domain.snapshots.current = snapshot.name
        if runs:
            began = DomainEventStartedDetailType.FROM_SNAPSHOT
            start(self._state, domain, DomainRunningReason.FROM_SNAPSHOT, began)
            paused = snapshot.state == DomainState.PAUSED and not flags & f.RUNNING
            if paused or flags & f.PAUSED:
                domain.setState(DomainState.PAUSED, DomainPausedReason.FROM_SNAPSHOT)
                held = DomainEventSuspendedDetailType.FROM_SNAPSHOT
                tell(self._state, domain, DomainEventType.SUSPENDED, held)

    def _stop(self, domain: MemoryDomain) -> None:
        detail = DomainEventStoppedDetailType.FROM_SNAPSHOT
        stop(self._state, domain, DomainShutoffReason.FROM_SNAPSHOT, detail)

    def domainSnapshotDelete(self, snap: DomainSnapshot, flags: int) -> None:
        f = DomainSnapshotDeleteFlags
        names = "VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY"
        domainError = ErrorDomain.DOMAIN_SNAPSHOT
        checkExclusive(
            "virDomainSnapshotDelete", "ctl", flags, f.CHILDREN, f.CHILDREN_ONLY, names, domainError
        )
        checkFlags("testDomainSnapshotDelete", flags, f.CHILDREN | f.CHILDREN_ONLY)
        domain, snapshot = self._find(snap)
        if flags & (f.CHILDREN | f.CHILDREN_ONLY):
            domain.snapshots.deleteDescendants(snapshot.name)
        if not flags & f.CHILDREN_ONLY:
            domain.snapshots.delete(snapshot.name)

    # Listing and finding

    def domainSnapshotNum(self, dom: Domain, flags: int) -> int:
        checkFlags("testDomainSnapshotNum", flags, _LIST_FLAGS)
        return len(self._list(domainOf(self._state, dom), None, flags, not _roots(flags)))

    def domainSnapshotListNames(self, dom: Domain, maxnames: int, flags: int) -> list[str]:
        checkFlags("testDomainSnapshotListNames", flags, _LIST_FLAGS)
        found = self._list(domainOf(self._state, dom), None, flags, not _roots(flags))
        return [snapshot.name for snapshot in found][:maxnames]

    def domainListAllSnapshots(self, dom: Domain, need_results: int, flags: int) -> DomainListAllSnapshotsRet:
        checkFlags("testDomainListAllSnapshots", flags, _LIST_FLAGS)
        domain = domainOf(self._state, dom)
        found = _references(domain, self._list(domain, None, flags, not _roots(flags)))
        return DomainListAllSnapshotsRet(found if need_results else [], len(found))

    def domainSnapshotNumChildren(self, snap: DomainSnapshot, flags: int) -> int:
        checkFlags("testDomainSnapshotNumChildren", flags, _LIST_FLAGS)
        domain, snapshot = self._find(snap)
        return len(self._list(domain, snapshot.name, flags, _roots(flags)))

    def domainSnapshotListChildrenNames(self, snap: DomainSnapshot, maxnames: int, flags: int) -> list[str]:
        checkFlags("testDomainSnapshotListChildrenNames", flags, _LIST_FLAGS)
        domain, snapshot = self._find(snap)
        found = self._list(domain, snapshot.name, flags, _roots(flags))
        return [each.name for each in found][:maxnames]

    def domainSnapshotListAllChildren(
        self, snapshot: DomainSnapshot, need_results: int, flags: int
    ) -> DomainSnapshotListAllChildrenRet:
        checkFlags("testDomainSnapshotListAllChildren", flags, _LIST_FLAGS)
        domain, above = self._find(snapshot)
        found = _references(domain, self._list(domain, above.name, flags, _roots(flags)))
        return DomainSnapshotListAllChildrenRet(found if need_results else [], len(found))

    def _list(self, domain: MemoryDomain, above: str | None, flags: int, deep: bool) -> list[Snapshot]:
        """The snapshots below one, of C{None} of the domain, that flags let through.

        @param deep: whether those below the ones right below count.
        """
        tree = domain.snapshots
        parents = {each.parent for each in tree}
        found = tree.descendants(above) if deep else tree.children(above)
        return [each for each in found if _matches(each, each.name not in parents, flags)]

    def domainSnapshotLookupByName(self, dom: Domain, name: str, flags: int) -> DomainSnapshot:
        checkFlags("testDomainSnapshotLookupByName", flags)
        domain = domainOf(self._state, dom)
        return DomainSnapshot(_named(domain, name).name, domain.reference)

    def domainHasCurrentSnapshot(self, dom: Domain, flags: int) -> int:
        checkFlags("testDomainHasCurrentSnapshot", flags)
        return int(domainOf(self._state, dom).snapshots.current is not None)

    def domainSnapshotCurrent(self, dom: Domain, flags: int) -> DomainSnapshot:
        checkFlags("testDomainSnapshotCurrent", flags)
        domain = domainOf(self._state, dom)
        if domain.snapshots.current is None:
            raise _notFound("the domain does not have a current snapshot")
        return DomainSnapshot(domain.snapshots.current, domain.reference)

    # Asking

    def domainSnapshotGetParent(self, snap: DomainSnapshot, flags: int) -> DomainSnapshot:
        checkFlags("testDomainSnapshotGetParent", flags)
        domain, snapshot = self._find(snap)
        if snapshot.parent is None:
            raise _notFound(f"snapshot '{snapshot.name}' does not have a parent")
        return DomainSnapshot(snapshot.parent, domain.reference)

    def domainSnapshotIsCurrent(self, snap: DomainSnapshot, flags: int) -> int:
        checkFlags("testDomainSnapshotIsCurrent", flags)
        domain, snapshot = self._find(snap)
        return int(domain.snapshots.current == snapshot.name)

    def domainSnapshotHasMetadata(self, snap: DomainSnapshot, flags: int) -> int:
        checkFlags("testDomainSnapshotHasMetadata", flags)
        self._find(snap)
        return 1

    def domainSnapshotGetXMLDesc(self, snap: DomainSnapshot, flags: int) -> str:
        checkFlags("testDomainSnapshotGetXMLDesc", flags, DomainSnapshotXMLFlags.SECURE)
        _, snapshot = self._find(snap)
        root = element("domainsnapshot")
        child(root, "name", snapshot.name)
        if snapshot.description:
            child(root, "description", snapshot.description)
        child(root, "state", snapshot.state.name.lower())
        if snapshot.parent is not None:
            child(child(root, "parent"), "name", snapshot.parent)
        child(root, "creationTime", str(snapshot.created))
        child(root, "memory", snapshot="internal" if snapshot.running else "no")
        if len(snapshot.disks):
            root.append(snapshot.disks)
        root.append(snapshot.definition.toElement(secure=bool(flags & DomainSnapshotXMLFlags.SECURE)))
        return toText(root)


def _roots(flags: int) -> bool:
    """The lowest flag: of a domain's list only the roots, of a snapshot's all descendants."""
    return bool(flags & DomainSnapshotListFlags.ROOTS)


def _matches(snapshot: Snapshot, leaf: bool, flags: int) -> bool:
    f = DomainSnapshotListFlags
    groups = (
        ((f.METADATA, True), (f.NO_METADATA, False)),
        ((f.LEAVES, leaf), (f.NO_LEAVES, not leaf)),
        ((f.INACTIVE, not snapshot.running), (f.ACTIVE, snapshot.running), (f.DISK_ONLY, False)),
        ((f.INTERNAL, True), (f.EXTERNAL, False)),
    )
    for group in groups:
        asked = [fits for flag, fits in group if flags & flag]
        if asked and not any(asked):
            return False
    return True


def _references(domain: MemoryDomain, snapshots: list[Snapshot]) -> list[DomainSnapshot]:
    return [DomainSnapshot(each.name, domain.reference) for each in snapshots]


def _named(domain: MemoryDomain, name: str) -> Snapshot:
    found = domain.snapshots.get(name)
    if found is None:
        raise _notFound(f"no domain snapshot with matching name '{name}'")
    return found


def _notFound(detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.NO_DOMAIN_SNAPSHOT, detail, ErrorDomain.TEST)


def _unsupported(detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.CONFIG_UNSUPPORTED, detail, ErrorDomain.DOMAIN_SNAPSHOT)


def _disks(root: Element, definition: DomainDefinition) -> Element:
    """Say of each disk of a domain whether it is in the snapshot."""
    disks = element("disks")
    sources: dict[str, str] = {}
    for disk in definition.devices.findall("disk"):
        target, source = disk.find("target"), disk.find("source")
        name = target.get("dev", "") if target is not None else ""
        kept = source is not None and disk.find("readonly") is None
        child(disks, "disk", name=name, snapshot="internal" if kept else "no")
        for place in (name, *(source.attrib.values() if source is not None else ())):
            sources.setdefault(place, name)
    for disk in root.findall("disks/disk"):
        place = disk.get("name")
        if place is None:
            detail = "missing name from disk snapshot element"
            raise RemoteError.of(ErrorNumber.INTERNAL_ERROR, detail, ErrorDomain.DOMAIN_SNAPSHOT)
        if place not in sources:
            raise _unsupported(f"no disk named '{place}'")
        if disk.get("snapshot", "internal") != "internal":
            raise _unsupported(f"disk '{sources[place]}' must use snapshot mode 'internal'")
    return disks
