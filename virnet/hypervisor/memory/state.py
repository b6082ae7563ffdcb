"""What a hypervisor in memory remembers, and what keeps it consistent.

Rules:

  - Names and uuids are unique among objects of a kind; a definition with the uuid of an object must have its
    name and replaces it, one with its name and another uuid is refused.
  - A running domain has the definition it runs with and, if it is persistent, the one it will start with
    next.
  - Ids count from 1 and are not used twice.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.domainxml import DomainDefinition
from virnet.hypervisor.memory.events import EventHub
from virnet.hypervisor.memory.interfacexml import InterfaceDefinition
from virnet.hypervisor.memory.networkxml import NetworkDefinition
from virnet.hypervisor.memory.snapshots import SnapshotTree
from virnet.hypervisor.memory.storagexml import PoolDefinition, VolumeDefinition
from virnet.hypervisor.memory.volumefiles import VolumeFiles
from virnet.hypervisor.memory.xmlvalues import RandomBytes, formatUUID
from virnet.programs.constants import DomainShutoffReason, DomainState
from virnet.programs.values import Domain, HostInterface, Network, StoragePool, StorageVol


class _Named(Protocol):
    name: str
    uuid: bytes


class MemoryDomain:
    """One domain.

    @ivar reference: how the protocol names it: name, uuid, and id while it runs, else -1. The last id of a
        transient domain stays: its final event says it.
    @ivar definition: what it runs with, or would start with.
    @ivar following: what it will start with next, while it runs and is persistent.
    @ivar state: with C{reason}, why.
    @ivar whenStopped: what is called, once, when it stops running; whoever is done before takes it out by its
        key.
    """

    def __init__(self, definition: DomainDefinition, persistent: bool) -> None:
        self.reference = Domain(definition.name, definition.uuid, -1)
        self.definition = definition
        self.following: DomainDefinition | None = None
        self.state = DomainState.SHUTOFF
        self.reason: int = DomainShutoffReason.UNKNOWN
        self.persistent = persistent
        self.autostart = False
        self.managedSave = False
        self.snapshots = SnapshotTree()
        self.whenStopped: dict[Hashable, Callable[[], object]] = {}

    @property
    def name(self) -> str:
        """Its name."""
        return self.reference.name

    @property
    def uuid(self) -> bytes:
        """Its 16 bytes."""
        return self.reference.uuid

    @property
    def id(self) -> int:
        """Its id while it runs, else -1."""
        return self.reference.id

    @property
    def active(self) -> bool:
        """Whether it runs, be it paused."""
        return self.state != DomainState.SHUTOFF

    @property
    def nextDefinition(self) -> DomainDefinition:
        """What it will start with next."""
        return self.following or self.definition

    def define(self, definition: DomainDefinition) -> None:
        """Give it the definition it will start with next."""
        if self.active:
            self.following = definition
        else:
            self.definition = definition

    def rename(self, name: str) -> None:
        """Give it another name."""
        self.definition.name = name
        self.reference = self.reference._replace(name=name)

    def started(self, id: int, reason: int) -> None:
        """Let it run with its definition."""
        if self.persistent and self.following is None:
            self.following = self.definition.copy()
        self.reference = self.reference._replace(id=id)
        self.managedSave = False
        self.setState(DomainState.RUNNING, reason)

    def stopped(self, reason: int) -> None:
        """Let it run no more."""
        if self.following is not None:
            self.definition, self.following = self.following, None
            self.reference = self.reference._replace(id=-1)
        self.setState(DomainState.SHUTOFF, reason)
        calls, self.whenStopped = self.whenStopped, {}
        for call in calls.values():
            call()

    def setState(self, state: DomainState, reason: int) -> None:
        """Change what it does."""
        self.state = state
        self.reason = reason


class MemoryNetwork:
    """One virtual network."""

    def __init__(self, definition: NetworkDefinition, persistent: bool) -> None:
        self.definition = definition
        self.persistent = persistent
        self.active = False
        self.autostart = False

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def uuid(self) -> bytes:
        """Its 16 bytes."""
        return self.definition.uuid

    @property
    def reference(self) -> Network:
        """How the protocol names it."""
        return Network(self.name, self.uuid)


class MemoryPool:
    """One storage pool and the volumes in it, by name."""

    def __init__(self, definition: PoolDefinition, persistent: bool) -> None:
        self.definition = definition
        self.persistent = persistent
        self.active = False
        self.autostart = False
        self.volumes: dict[str, VolumeDefinition] = {}

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def uuid(self) -> bytes:
        """Its 16 bytes."""
        return self.definition.uuid

    @property
    def reference(self) -> StoragePool:
        """How the protocol names it."""
        return StoragePool(self.name, self.uuid)

    def volumeReference(self, volume: VolumeDefinition) -> StorageVol:
        """How the protocol names a volume."""
        return StorageVol(self.name, volume.name, volume.path)


class MemoryInterface:
    """One interface of the host."""

    def __init__(self, definition: InterfaceDefinition) -> None:
        self.definition = definition
        self.active = False

    @property
    def reference(self) -> HostInterface:
        """How the protocol names it."""
        return HostInterface(self.definition.name, self.definition.mac)


class _Object(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def uuid(self) -> bytes: ...


O = TypeVar("O", bound=_Object)  # noqa: E741 - an object


class Objects(Generic[O]):
    """Objects of one kind by uuid and by name, in the order they came."""

    def __init__(self, kind: str, domain: ErrorDomain) -> None:
        """@param kind: how errors call it.
        @param domain: who reports that a definition does not fit.
        """
        self._kind = kind
        self._domain = domain
        self._byUUID: dict[bytes, O] = {}
        self._byName: dict[str, O] = {}

    def __iter__(self) -> Iterator[O]:
        return iter(list(self._byUUID.values()))

    def __len__(self) -> int:
        return len(self._byUUID)

    def byUUID(self, uuid: bytes) -> O | None:
        """Find by uuid."""
        return self._byUUID.get(uuid)

    def byName(self, name: str) -> O | None:
        """Find by name."""
        return self._byName.get(name)

    def same(self, definition: _Named) -> O | None:
        """Find the object that a definition is of.

        @raise RemoteError: it has the uuid of one with another name, or the name of one with another uuid.
        """
        found = self._byUUID.get(definition.uuid)
        if found is not None:
            if found.name != definition.name:
                raise self._failed(found, "is already defined")
            return found
        named = self.byName(definition.name)
        if named is not None:
            raise self._failed(named, "already exists")
        return None

    def _failed(self, found: O, words: str) -> RemoteError:
        detail = f"{self._kind} '{found.name}' {words} with uuid {formatUUID(found.uuid)}"
        return RemoteError.of(ErrorNumber.OPERATION_FAILED, detail, self._domain)

    def add(self, made: O) -> None:
        """Take an object in."""
        self._byUUID[made.uuid] = self._byName[made.name] = made

    def renamed(self, found: O, before: str) -> None:
        """An object has another name than C{before}."""
        del self._byName[before]
        self._byName[found.name] = found

    def remove(self, gone: O) -> None:
        """Let an object go."""
        self._byUUID.pop(gone.uuid, None)
        self._byName.pop(gone.name, None)


class MemoryState:
    """All that a hypervisor in memory has.

    @ivar clock: seconds since the epoch.
    @ivar randomBytes: where uuids and MAC addresses come from.
    @ivar hostname: of the host.
    @ivar files: what is in the volumes.
    @ivar interfacesBefore: what the interfaces were when changes to them began that can be undone; C{None} if
        none did.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        randomBytes: RandomBytes = os.urandom,
        hostname: Callable[[], str] = socket.gethostname,
        files: VolumeFiles | None = None,
    ) -> None:
        self.clock = clock
        self.randomBytes = randomBytes
        self.hostname = hostname
        self.files = files or VolumeFiles()
        self.events = EventHub()
        self.domains: Objects[MemoryDomain] = Objects("domain", ErrorDomain.DOMAIN)
        self.networks: Objects[MemoryNetwork] = Objects("network", ErrorDomain.NETWORK)
        self.pools: Objects[MemoryPool] = Objects("pool", ErrorDomain.STORAGE)
        self.interfaces: dict[str, MemoryInterface] = {}
        self.interfacesBefore: dict[str, MemoryInterface] | None = None
        self._lastID = 0

    def nextID(self) -> int:
        """The id of the domain that starts now."""
        self._lastID += 1
        return self._lastID
