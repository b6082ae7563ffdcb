"""Storage: pools and the volumes in them.

Rules:

  - Every change of a pool is told as a lifecycle event, a refresh as an event of its own; volumes tell
    nothing.
  - Only an active pool shows its volumes; only an inactive one can be undefined, built or deleted.
  - The allocations of volumes count against their pool, and a volume that does not fit is refused.
  - No two pools have the same source.
"""

from __future__ import annotations

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import checkFlags, internalError, invalidArgument, invalidOperation
from virnet.hypervisor.memory.state import MemoryPool, MemoryState
from virnet.hypervisor.memory.storagexml import POOL_TYPES, VolumeDefinition, parsePool, parseVolume
from virnet.hypervisor.memory.xmlvalues import formatUUID
from virnet.hypervisor.registrations import EventFamily
from virnet.programs import IStoragePool, IStorageVol, partialImplementer
from virnet.programs.constants import (
    ConnectListAllStoragePoolsFlags,
    StoragePoolDefineFlags,
    StoragePoolEventID,
    StoragePoolEventLifecycleType,
    StoragePoolState,
)
from virnet.programs.values import (
    ConnectListAllStoragePoolsRet,
    StoragePool,
    StoragePoolGetInfoRet,
    StoragePoolListAllVolumesRet,
    StorageVol,
    StorageVolGetInfoRet,
)


def _matches(pool: MemoryPool, flags: int) -> bool:
    f = ConnectListAllStoragePoolsFlags
    kinds = tuple((f[kind.upper().replace("-", "_")], pool.definition.kind == kind) for kind in POOL_TYPES)
    groups = (
        ((f.ACTIVE, pool.active), (f.INACTIVE, not pool.active)),
        ((f.PERSISTENT, pool.persistent), (f.TRANSIENT, not pool.persistent)),
        ((f.AUTOSTART, pool.autostart), (f.NO_AUTOSTART, not pool.autostart)),
        kinds,
    )
    for group in groups:
        asked = [fits for flag, fits in group if flags & flag]
        if asked and not any(asked):
            return False
    return True


def poolNamed(state: MemoryState, name: str) -> MemoryPool:
    """Find a pool.

    @raise RemoteError: there is none of that name.
    """
    found = state.pools.byName(name)
    if found is None:
        raise _noPool(f"name '{name}'")
    return found


def activePool(state: MemoryState, name: str) -> MemoryPool:
    """Find a pool that shows its volumes.

    @raise RemoteError: there is none of that name, or it is not active.
    """
    pool = poolNamed(state, name)
    if not pool.active:
        raise invalidOperation(f"storage pool '{name}' is not active")
    return pool


def volumeOf(state: MemoryState, vol: StorageVol) -> tuple[MemoryPool, VolumeDefinition]:
    """Find the volume a call is about, and its pool.

    @raise RemoteError: there is none, or its pool is not active.
    """
    pool = activePool(state, vol.pool)
    found = pool.volumes.get(vol.name)
    if found is None:
        raise _noVolume(f"name '{vol.name}'")
    return pool, found


def usableVolume(state: MemoryState, vol: StorageVol) -> tuple[MemoryPool, VolumeDefinition]:
    """Find a volume whose contents a call is about, and its pool.

    @raise RemoteError: there is none, its pool is not active, or it is being filled.
    """
    pool, found = volumeOf(state, vol)
    if found.building:
        detail = f"volume '{found.name}' is still being allocated."
        raise RemoteError.of(ErrorNumber.OPERATION_INVALID, detail, ErrorDomain.STORAGE)
    return pool, found


def createVolume(state: MemoryState, pool: MemoryPool, xml: str, atLeast: int = 0) -> VolumeDefinition:
    """Make a volume with nothing in it.

    @param atLeast: its capacity at the least, whatever its document says.
    @raise RemoteError: the document is refused, there is one of that name, or no space.
    """
    definition = parseVolume(xml, pool.definition)
    definition.capacity = max(definition.capacity, atLeast)
    if definition.name in pool.volumes:
        raise RemoteError.of(ErrorNumber.OPERATION_FAILED, "storage vol already exists", ErrorDomain.TEST)
    if definition.allocation > pool.definition.available:
        raise internalError(f"Not enough free space in pool for volume '{definition.name}'")
    # Nobody shall read what was in another volume of this name, whatever became of that.
    state.files.remove(pool.uuid, definition)
    pool.volumes[definition.name] = definition
    pool.definition.allocation += definition.allocation
    return definition


def deleteVolume(state: MemoryState, pool: MemoryPool, volume: VolumeDefinition) -> None:
    """Delete a volume, and what is in it."""
    state.files.remove(pool.uuid, volume)
    del pool.volumes[volume.name]
    pool.definition.allocation -= volume.allocation


@partialImplementer(IStoragePool, IStorageVol)
class Storage:
    """Provides storage pools and volumes."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def _named(self, name: str) -> MemoryPool:
        return poolNamed(self._state, name)

    def _withUUID(self, uuid: bytes) -> MemoryPool:
        found = self._state.pools.byUUID(uuid)
        if found is None:
            raise _noPool(f"uuid '{formatUUID(uuid)}'")
        return found

    def _active(self, name: str) -> MemoryPool:
        return activePool(self._state, name)

    def _inactive(self, name: str) -> MemoryPool:
        pool = self._named(name)
        if pool.active:
            raise invalidOperation(f"storage pool '{name}' is active")
        return pool

    def _volume(self, vol: StorageVol) -> tuple[MemoryPool, VolumeDefinition]:
        return volumeOf(self._state, vol)

    def _tell(self, pool: MemoryPool, event: StoragePoolEventLifecycleType) -> None:
        self._state.events.emit(
            EventFamily.STORAGE_POOL, StoragePoolEventID.LIFECYCLE, pool.reference, int(event), 0
        )

    # Pools: listing and finding

    def connectListAllStoragePools(self, need_results: int, flags: int) -> ConnectListAllStoragePoolsRet:
        checkFlags("testConnectListAllStoragePools", flags, sum(ConnectListAllStoragePoolsFlags))
        found = [pool.reference for pool in self._state.pools if _matches(pool, flags)]
        return ConnectListAllStoragePoolsRet(found if need_results else [], len(found))

    def connectListStoragePools(self, maxnames: int) -> list[str]:
        return [pool.name for pool in self._state.pools if pool.active][:maxnames]

    def connectNumOfStoragePools(self) -> int:
        return sum(pool.active for pool in self._state.pools)

    def connectListDefinedStoragePools(self, maxnames: int) -> list[str]:
        return [pool.name for pool in self._state.pools if not pool.active][:maxnames]

    def connectNumOfDefinedStoragePools(self) -> int:
        return sum(not pool.active for pool in self._state.pools)

    def storagePoolLookupByName(self, name: str) -> StoragePool:
        return self._named(name).reference

    def storagePoolLookupByUUID(self, uuid: bytes) -> StoragePool:
        return self._withUUID(uuid).reference

    def storagePoolLookupByVolume(self, vol: StorageVol) -> StoragePool:
        return self._named(vol.pool).reference

    # Pools: defining

    def storagePoolDefineXML(self, xml: str, flags: int) -> StoragePool:
        checkFlags("testStoragePoolDefineXML", flags, StoragePoolDefineFlags.VALIDATE)
        pool = self._define(xml, True)
        self._tell(pool, StoragePoolEventLifecycleType.DEFINED)
        return pool.reference

    def storagePoolCreateXML(self, xml: str, flags: int) -> StoragePool:
        checkFlags("testStoragePoolCreateXML", flags)
        pool = self._define(xml, False)
        pool.active = True
        self._tell(pool, StoragePoolEventLifecycleType.STARTED)
        return pool.reference

    def _define(self, xml: str, persistent: bool) -> MemoryPool:
        definition = parsePool(xml, self._state.randomBytes)
        pool = self._state.pools.same(definition)
        for other in self._state.pools:
            if other is not pool and other.definition.source() == definition.source():
                detail = f"Storage source conflict with pool: '{other.name}'"
                raise RemoteError.of(ErrorNumber.OPERATION_FAILED, detail, ErrorDomain.STORAGE)
        if pool is None:
            pool = MemoryPool(definition, persistent)
            self._state.pools.add(pool)
        elif pool.active and not persistent:
            detail = f"pool is already active as '{pool.name}'"
            raise RemoteError.of(ErrorNumber.OPERATION_INVALID, detail, ErrorDomain.STORAGE)
        else:
            definition.allocation = pool.definition.allocation
            pool.definition = definition
            pool.persistent = pool.persistent or persistent
        return pool

    def storagePoolUndefine(self, pool: StoragePool) -> None:
        found = self._inactive(pool.name)
        self._forget(found)
        self._tell(found, StoragePoolEventLifecycleType.UNDEFINED)

    def _forget(self, pool: MemoryPool) -> None:
        self._state.pools.remove(pool)
        for volume in pool.volumes.values():
            self._state.files.remove(pool.uuid, volume)

    def storagePoolBuild(self, pool: StoragePool, flags: int) -> None:
        checkFlags("testStoragePoolBuild", flags)
        self._tell(self._inactive(pool.name), StoragePoolEventLifecycleType.CREATED)

    def storagePoolDelete(self, pool: StoragePool, flags: int) -> None:
        checkFlags("testStoragePoolDelete", flags)
        self._tell(self._inactive(pool.name), StoragePoolEventLifecycleType.DELETED)

    # Pools: running

    def storagePoolCreate(self, pool: StoragePool, flags: int) -> None:
        checkFlags("testStoragePoolCreate", flags)
        found = self._inactive(pool.name)
        found.active = True
        self._tell(found, StoragePoolEventLifecycleType.STARTED)

    def storagePoolDestroy(self, pool: StoragePool) -> None:
        found = self._active(pool.name)
        found.active = False
        self._tell(found, StoragePoolEventLifecycleType.STOPPED)
        if not found.persistent:
            self._forget(found)

    def storagePoolRefresh(self, pool: StoragePool, flags: int) -> None:
        checkFlags("testStoragePoolRefresh", flags)
        found = self._active(pool.name)
        self._state.events.emit(EventFamily.STORAGE_POOL, StoragePoolEventID.REFRESH, found.reference)

    # Pools: asking

    def storagePoolGetInfo(self, pool: StoragePool) -> StoragePoolGetInfoRet:
        found = self._named(pool.name)
        definition = found.definition
        state = StoragePoolState.RUNNING if found.active else StoragePoolState.INACTIVE
        return StoragePoolGetInfoRet(
            state, definition.capacity, definition.allocation, definition.available
        )  # fmt: skip

    def storagePoolGetXMLDesc(self, pool: StoragePool, flags: int) -> str:
        checkFlags("testStoragePoolGetXMLDesc", flags)
        return self._named(pool.name).definition.toXML()

    def storagePoolGetAutostart(self, pool: StoragePool) -> int:
        return int(self._named(pool.name).autostart)

    def storagePoolSetAutostart(self, pool: StoragePool, autostart: int) -> None:
        found = self._named(pool.name)
        if not found.persistent:
            raise invalidArgument("pool has no config file")
        found.autostart = bool(autostart)

    def storagePoolIsActive(self, pool: StoragePool) -> int:
        return int(self._withUUID(pool.uuid).active)

    def storagePoolIsPersistent(self, pool: StoragePool) -> int:
        return int(self._withUUID(pool.uuid).persistent)

    # Volumes: listing and finding

    def storagePoolListAllVolumes(
        self, pool: StoragePool, need_results: int, flags: int
    ) -> StoragePoolListAllVolumesRet:
        checkFlags("testStoragePoolListAllVolumes", flags)
        found = self._withUUID(pool.uuid)
        if not found.active:
            raise invalidOperation("storage pool is not active")
        volumes = [found.volumeReference(volume) for volume in found.volumes.values()]
        return StoragePoolListAllVolumesRet(volumes if need_results else [], len(volumes))

    def storagePoolListVolumes(self, pool: StoragePool, maxnames: int) -> list[str]:
        return list(self._active(pool.name).volumes)[:maxnames]

    def storagePoolNumOfVolumes(self, pool: StoragePool) -> int:
        return len(self._active(pool.name).volumes)

    def storageVolLookupByName(self, pool: StoragePool, name: str) -> StorageVol:
        found, volume = self._volume(StorageVol(pool.name, name, ""))
        return found.volumeReference(volume)

    def storageVolLookupByKey(self, key: str) -> StorageVol:
        return self._search(key, "key")

    def storageVolLookupByPath(self, path: str) -> StorageVol:
        return self._search(path, "path")

    def _search(self, path: str, by: str) -> StorageVol:
        for pool in self._state.pools:
            for volume in pool.volumes.values():
                if pool.active and volume.path == path:
                    return pool.volumeReference(volume)
        raise _noVolume(f"{by} '{path}'")

    # Volumes: making and deleting

    def storageVolCreateXML(self, pool: StoragePool, xml: str, flags: int) -> StorageVol:
        checkFlags("testStorageVolCreateXML", flags)
        found = self._active(pool.name)
        return found.volumeReference(createVolume(self._state, found, xml))

    def storageVolDelete(self, vol: StorageVol, flags: int) -> None:
        checkFlags("testStorageVolDelete", flags)
        deleteVolume(self._state, *usableVolume(self._state, vol))

    # Volumes: asking

    def storageVolGetInfo(self, vol: StorageVol) -> StorageVolGetInfoRet:
        _, volume = self._volume(vol)
        return StorageVolGetInfoRet(volume.kind, volume.capacity, volume.allocation)

    def storageVolGetXMLDesc(self, vol: StorageVol, flags: int) -> str:
        checkFlags("testStorageVolGetXMLDesc", flags)
        return self._volume(vol)[1].toXML()

    def storageVolGetPath(self, vol: StorageVol) -> str:
        return self._volume(vol)[1].path


def _noPool(which: str) -> RemoteError:
    detail = f"no storage pool with matching {which}"
    return RemoteError.of(ErrorNumber.NO_STORAGE_POOL, detail, ErrorDomain.TEST)


def _noVolume(which: str) -> RemoteError:
    detail = f"no storage vol with matching {which}"
    return RemoteError.of(ErrorNumber.NO_STORAGE_VOL, detail, ErrorDomain.TEST)
