"""Definitions of storage pools and of the volumes in them.

Rules:

  - Each type of pool says in L{POOL_TYPES} what its source must have, which formats it knows, and where its
    target is.
  - Sizes of pools are the hypervisor's, not the document's; a volume's allocation is its capacity unless it
    says otherwise.
  - A volume's key and path are those of its pool and name.
  - Elements libvirt does not know are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree.ElementTree import Element

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.canonical import orderChildren, tidy
from virnet.hypervisor.memory.xmldocument import POOL, VOLUME, parseDocument, xmlError
from virnet.hypervisor.memory.xmloutput import child, element, find, replace, toText
from virnet.hypervisor.memory.xmlvalues import RandomBytes, choice, decimal, formatUUID, parseUUID, scaled
from virnet.programs.constants import StorageVolType

#: Bytes every pool of the test driver has.
POOL_CAPACITY = 100 * 2**30

_FILE_FORMATS = (
    "none raw dir bochs cloop dmg iso vpc vdi fat vhd ploop cow qcow qcow2 qed vmdk luks".split()
)  # fmt: skip
_DISK_FORMATS = "none linux fat16 fat32 linux-swap linux-lvm linux-raid extended".split()


class PoolType(NamedTuple):
    """What a type of pool needs and gives.

    @ivar needs: parts of the source that must be there: C{host}, C{device}, C{name}.
    @ivar format: the format of the source if it says none; C{None} where there are no formats.
    @ivar target: where its target is if the document does not say; C{None} where it must; empty where there
        is no target. C{{}} stands for the source's name.
    @ivar volumes: what kind its volumes are.
    @ivar formats: the formats of volumes; empty where they have none.
    @ivar source: the parts of the source it has.
    """

    needs: str = ""
    format: str | None = None
    target: str | None = None
    volumes: StorageVolType = StorageVolType.FILE
    formats: tuple[str, ...] | list[str] = ()
    source: str = "host device dir adapter name initiator auth vendor product format"


_BLOCK, _NETWORK = StorageVolType.BLOCK, StorageVolType.NETWORK
POOL_TYPES = {
    "dir": PoolType(formats=_FILE_FORMATS, source=""),
    "fs": PoolType("device", "auto", formats=_FILE_FORMATS),
    "netfs": PoolType("host", "auto", formats=_FILE_FORMATS),
    "logical": PoolType("", "lvm2", "/dev/{}", _BLOCK),
    "disk": PoolType("device", "dos", "/dev", _BLOCK, _DISK_FORMATS),
    "iscsi": PoolType("host", None, "/dev/disk/by-path", _BLOCK),
    "iscsi-direct": PoolType("host", None, "", _NETWORK),
    "scsi": PoolType("", None, "/dev/disk/by-path", _BLOCK),
    "mpath": PoolType("", None, "/dev/mapper", _BLOCK),
    "rbd": PoolType("host name", None, "", _NETWORK),
    "sheepdog": PoolType("host name", None, "", _NETWORK),
    "gluster": PoolType("host name", None, "", _NETWORK, _FILE_FORMATS),
    "zfs": PoolType("name", None, "/dev/zvol/{}", _BLOCK),
    "vstorage": PoolType("name", None, None, StorageVolType.FILE, _FILE_FORMATS),
}
_MISSING = {
    "host": "missing storage pool source host name",
    "device": "missing storage pool source device name",
    "name": "missing mandatory 'name' field for pool type '{}'",
}
VOLUME_TYPES = ("file", "block", "dir", "network", "netdir", "ploop")


def _error(detail: str) -> RemoteError:
    return xmlError(detail, ErrorDomain.STORAGE)


@dataclass
class PoolDefinition:
    """What defines one pool.

    @ivar kind: its type.
    @ivar uuid: 16 bytes.
    @ivar path: where its target is; empty for none.
    @ivar capacity: in bytes, as are C{allocation} and C{available}.
    @ivar root: the whole document.
    """

    kind: str
    name: str
    uuid: bytes
    path: str
    root: Element
    capacity: int = POOL_CAPACITY
    allocation: int = 0

    @property
    def available(self) -> int:
        """What is left of the capacity; nothing when uploads took more than there is."""
        return max(0, self.capacity - self.allocation)

    def source(self) -> str:
        """What must not be the same in two pools (C: C{virStoragePoolObjSourceFindDuplicate})."""
        parts = [self.kind, self.path if self.kind in ("dir", "fs", "netfs") else ""]
        for node in find(self.root, "source"):
            if node.tag != "format":
                parts += [node.text or "", *node.attrib.values()]
        return "\0".join(parts)

    def toXML(self) -> str:
        """The document as text."""
        for tag in ("capacity", "allocation", "available"):
            find(self.root, tag).text = str(getattr(self, tag))
        return toText(self.root)


def parsePool(text: str, randomBytes: RandomBytes) -> PoolDefinition:
    """Read a pool document.

    @raise RemoteError: what libvirt answers to such a document.
    """
    root = parseDocument(text, POOL)
    tidy(root)
    kind = choice(root, "type", POOL_TYPES)
    source = root.find("source")
    if source is None:
        source = child(root, "source")
    name = root.findtext("name") or source.findtext("name")
    if not name:
        raise _error("missing pool source name element")
    if "/" in name:
        raise _error(f"name {name} cannot contain '/'")
    try:
        uuid = parseUUID(root.findtext("uuid"), ErrorDomain.STORAGE, randomBytes)
    except RemoteError:
        raise _error("malformed uuid element") from None
    replace(root, element("name", name))
    replace(root, element("uuid", formatUUID(uuid)))
    for tag in ("capacity", "allocation", "available"):
        replace(root, element(tag, "0", unit="bytes"))
    _completeSource(source, kind, name)
    path = _completeTarget(root, kind, source.findtext("name", ""))
    orderChildren(root, "name uuid capacity allocation available features source target".split())
    return PoolDefinition(kind, name, uuid, path, root)


def _completeSource(source: Element, kind: str, name: str) -> None:
    rules = POOL_TYPES[kind]
    known = PoolType().source.split()
    source[:] = [node for node in source if node.tag not in known or node.tag in rules.source.split()]
    if kind == "logical" and source.find("name") is None:
        child(source, "name", name)
    for part in rules.needs.split():
        if source.find(part) is None:
            raise _error(_MISSING[part].format(kind))
    if rules.format is not None and source.find("format") is None:
        child(source, "format", type=rules.format)
    orderChildren(source, known)
    source.text = "" if not len(source) else None


def _completeTarget(root: Element, kind: str, sourceName: str) -> str:
    rules = POOL_TYPES[kind]
    target = root.find("target")
    if rules.target == "":
        if target is not None:
            root.remove(target)
        return ""
    if target is None:
        target = child(root, "target")
    if rules.target is not None and "{}" in rules.target:
        path = rules.target.format(sourceName)
    else:
        path = target.findtext("path") or rules.target or ""
    if not path:
        raise _error("missing storage pool target path")
    path = _cleanPath(path)
    replace(target, element("path", path))
    _completePermissions(target)
    orderChildren(target, ("path", "permissions"))
    return path


def _cleanPath(path: str) -> str:
    cleaned = re.sub("/+", "/", path)
    return cleaned.rstrip("/") or "/"


def _completePermissions(target: Element) -> None:
    permissions = target.find("permissions")
    if permissions is None:
        return
    mode = permissions.find("mode")
    if mode is not None:
        if not re.fullmatch("[0-7]{1,6}", mode.text or ""):
            raise _error("malformed octal mode")
        mode.text = f"{int(mode.text or '0', 8):04o}"
    orderChildren(permissions, ("mode", "owner", "group", "label"))


@dataclass
class VolumeDefinition:
    """What defines one volume.

    @ivar capacity: bytes it can hold.
    @ivar allocation: bytes it takes of its pool.
    @ivar kind: what it is.
    @ivar path: where it is, and its key.
    @ivar building: it is being filled, and not to be used yet.
    """

    name: str
    capacity: int
    allocation: int
    kind: StorageVolType
    path: str
    root: Element
    building: bool = False

    def toXML(self) -> str:
        """The document as text."""
        for tag in ("capacity", "allocation"):
            find(self.root, tag).text = str(getattr(self, tag))
        return toText(self.root)


def parseVolume(text: str, pool: PoolDefinition) -> VolumeDefinition:
    """Read the document of a volume that is to be in a pool.

    @raise RemoteError: what libvirt answers to such a document.
    """
    root = parseDocument(text, VOLUME)
    tidy(root)
    rules = POOL_TYPES[pool.kind]
    name = root.findtext("name")
    if not name:
        raise _error("missing volume name element")
    kind = root.get("type")
    if kind is not None and kind not in VOLUME_TYPES:
        raise _unsupported(f"unknown volume type '{kind}'")
    root.set("type", kind or VOLUME_TYPES[rules.volumes])
    capacity = _size(root, "capacity")
    if capacity is None:
        raise _error("missing capacity element")
    allocation = _size(root, "allocation")
    if allocation is None:
        allocation = capacity
    path = f"{pool.path}/{name}" if pool.path else f"{pool.name}/{name}"
    replace(root, element("key", path))
    replace(root, element("capacity", str(capacity), unit="bytes"))
    replace(root, element("allocation", str(allocation), unit="bytes"))
    target = root.find("target")
    if target is None:
        target = child(root, "target")
    replace(target, element("path", path))
    for nocow in target.findall("nocow"):
        target.remove(nocow)
    _completeFormat(target, rules)
    _completePermissions(target)
    orderChildren(target, "path format permissions timestamps encryption compat clusterSize features".split())
    _completeBacking(root, rules)
    orderChildren(root, "name key source capacity allocation physical target backingStore".split())
    return VolumeDefinition(name, capacity, allocation, StorageVolType(rules.volumes), path, root)


def _unsupported(detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.CONFIG_UNSUPPORTED, detail, ErrorDomain.STORAGE)


def _size(root: Element, tag: str) -> int | None:
    found = root.find(tag)
    if found is None:
        return None
    number = decimal(found.text, 2**64 - 1)
    if number is None:
        raise _error("malformed capacity element")
    return scaled(number, found.get("unit"), 1)


def _completeFormat(target: Element, rules: PoolType) -> None:
    format = target.find("format")
    if not rules.formats:
        return
    if format is None:
        child(target, "format", type="raw" if "raw" in rules.formats else "none")
    elif format.get("type") not in rules.formats:
        raise _unsupported(f"unknown volume format type {format.get('type')}")


def _completeBacking(root: Element, rules: PoolType) -> None:
    backing = root.find("backingStore")
    if backing is None:
        return
    if not backing.findtext("path"):
        root.remove(backing)
        return
    _completeFormat(backing, rules)
    orderChildren(backing, ("path", "format", "permissions"))
