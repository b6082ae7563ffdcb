"""Pools, volumes and networks in tables: C{pool-list}, C{vol-list}, C{net-list}."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from twisted.internet.defer import gatherResults

from virnet.cli.session import Session, ifSupported, ifThere, lookupPool, yesNo
from virnet.cli.sizes import bytesText
from virnet.errorcodes import ErrorNumber
from virnet.programs.constants import (
    ConnectListAllNetworksFlags,
    ConnectListAllStoragePoolsFlags,
    StoragePoolState,
    StorageVolType,
)
from virnet.programs.values import StoragePool, StorageVol

POOL_STATES = {
    StoragePoolState.INACTIVE: "inactive",
    StoragePoolState.BUILDING: "building",
    StoragePoolState.RUNNING: "running",
    StoragePoolState.DEGRADED: "degraded",
    StoragePoolState.INACCESSIBLE: "inaccessible",
}


async def pools(session: Session) -> None:
    """C{pool-list}"""
    remote = session.connection.remote
    flags = 0 if session.options.all else ConnectListAllStoragePoolsFlags.ACTIVE
    found, _ = await remote.connectListAllStoragePools(1, flags)
    rows: list[dict[str, Any]] = []
    for pool in sorted(found, key=lambda each: each.name):
        info = await ifThere(remote.storagePoolGetInfo(pool), ErrorNumber.NO_STORAGE_POOL)
        if info is None:
            continue
        autostart = await ifSupported(remote.storagePoolGetAutostart(pool))
        rows.append(
            {
                "name": pool.name,
                "uuid": str(UUID(bytes=pool.uuid)),
                "state": POOL_STATES.get(StoragePoolState(info.state), "unknown")
                if info.state in POOL_STATES
                else f"state {info.state}",
                "autostart": None if autostart is None else bool(autostart),
                "capacity": info.capacity,
                "allocation": info.allocation,
                "available": info.available,
            }
        )
    if session.output.asJSON:
        session.output.data(rows)
        return
    session.output.table(
        ("Name", "State", "Autostart", "Capacity", "Allocation", "Available"),
        [
            (
                each["name"],
                each["state"],
                yesNo(each["autostart"]),
                *(bytesText(each[key]) for key in ("capacity", "allocation", "available")),
            )
            for each in rows
        ],
        right=(3, 4, 5),
    )


async def volumes(session: Session) -> None:
    """C{vol-list}"""
    remote = session.connection.remote
    if session.options.pool is None:
        found, _ = await remote.connectListAllStoragePools(1, ConnectListAllStoragePoolsFlags.ACTIVE)
    else:
        found = [await lookupPool(session.connection, session.options.pool)]
    rows: list[dict[str, Any]] = []
    for pool in sorted(found, key=lambda each: each.name):
        rows += await _volumesOf(session, pool)
    if session.output.asJSON:
        session.output.data(rows)
        return
    several = session.options.pool is None
    session.output.table(
        (*(("Pool",) if several else ()), "Name", "Type", "Capacity", "Allocation", "Path"),
        [
            (
                *((each["pool"],) if several else ()),
                each["name"],
                each["type"],
                bytesText(each["capacity"]),
                bytesText(each["allocation"]),
                each["path"],
            )
            for each in rows
        ],
        right=(2 + several, 3 + several),
    )


async def _volumesOf(session: Session, pool: StoragePool) -> list[dict[str, Any]]:
    remote = session.connection.remote
    found, _ = await remote.storagePoolListAllVolumes(pool, 1, 0)
    found.sort(key=lambda each: each.name)

    async def row(vol: StorageVol) -> dict[str, Any] | None:
        info = await ifThere(remote.storageVolGetInfo(vol), ErrorNumber.NO_STORAGE_VOL)
        if info is None:
            return None
        path = await remote.storageVolGetPath(vol)
        kind = StorageVolType(info.type).name.lower() if info.type in list(StorageVolType) else str(info.type)
        return {
            "pool": vol.pool,
            "name": vol.name,
            "path": path,
            "type": kind,
            "capacity": info.capacity,
            "allocation": info.allocation,
        }

    from twisted.internet.defer import Deferred

    rows = await gatherResults([Deferred.fromCoroutine(row(vol)) for vol in found], consumeErrors=True)
    return [each for each in rows if each is not None]


async def networks(session: Session) -> None:
    """C{net-list}"""
    remote = session.connection.remote
    flags = 0 if session.options.all else ConnectListAllNetworksFlags.ACTIVE
    found, _ = await remote.connectListAllNetworks(1, flags)
    rows: list[dict[str, Any]] = []
    for network in sorted(found, key=lambda each: each.name):
        active = await ifThere(remote.networkIsActive(network), ErrorNumber.NO_NETWORK)
        if active is None:
            continue
        autostart = await ifSupported(remote.networkGetAutostart(network))
        persistent = await ifSupported(remote.networkIsPersistent(network))
        rows.append(
            {
                "name": network.name,
                "uuid": str(UUID(bytes=network.uuid)),
                "state": "active" if active else "inactive",
                "autostart": None if autostart is None else bool(autostart),
                "persistent": None if persistent is None else bool(persistent),
                "bridge": (await _bridge(session, network)) if active else None,
            }
        )
    if session.output.asJSON:
        session.output.data(rows)
        return
    session.output.table(
        ("Name", "State", "Autostart", "Persistent", "Bridge"),
        [
            (
                each["name"],
                each["state"],
                yesNo(each["autostart"]),
                yesNo(each["persistent"]),
                each["bridge"] or "-",
            )
            for each in rows
        ],
    )


async def _bridge(session: Session, network: Any) -> str | None:
    """The bridge of a network, which need not have one (C{INTERNAL_ERROR} then)."""
    return await ifThere(
        ifSupported(session.connection.remote.networkGetBridgeName(network)), ErrorNumber.INTERNAL_ERROR
    )
