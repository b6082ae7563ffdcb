"""What libvirt adds to the disks of a domain.

Rules:

  - A disk without C{bus} gets the one its name says; a CD-ROM is read-only.
  - Disks of one bus, as it was written down, stand together and in the order of their names.
  - On IDE, SCSI, SATA and floppy buses the name decides on which controller, bus and unit a disk is.
  - No two disks have the same name.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.xmldocument import unsupported, xmlError
from virnet.hypervisor.memory.xmloutput import child
from virnet.hypervisor.memory.xmlvalues import choice

#: Prefix of a disk's name -> its bus.
BUSES = {"fd": "fdc", "hd": "ide", "sd": "scsi", "vd": "virtio", "xvd": "xen", "ubd": "uml"}
_NAME = re.compile(r"(fd|hd|vd|sd|xvd|ubd)([a-z]{1,6})\d*\Z")
_BUS_NAMES = "ide fdc scsi virtio xen usb uml sata sd none".split()
#: Bus -> (units on a bus, buses on a controller); the index of a disk counts through them.
DRIVES = {"scsi": (7, 1), "ide": (2, 2), "fdc": (2, 1), "sata": (6, 1)}
#: Controllers beyond that are not made up, however far into the alphabet a disk's name is.
CONTROLLERS_MAX = 1024

#: Type of a disk -> the attribute of its source that says where it is.
_SOURCES = {"file": "file", "block": "dev", "dir": "dir", "network": "protocol", "volume": "pool"}
_TYPES = [*_SOURCES, "nvme", "vhostuser", "vhostvdpa"]


def completeDisks(disks: list[Element]) -> list[Element]:
    """Fill in the defaults of a domain's disks.

    @return: the disks in libvirt's order.
    """
    groups: dict[str, list[Element]] = {}
    for disk in disks:
        groups.setdefault(_complete(disk), []).append(disk)
    ordered = [disk for group in groups.values() for disk in sorted(group, key=_index)]
    sources: dict[str, str] = {}
    for disk in ordered:
        name = _target(disk).attrib["dev"]
        source = disk.find("source")
        place = next(iter(source.attrib.values()), "") if source is not None else ""
        if name in sources:
            detail = f"target '{name}' duplicated for disk sources '{sources[name]}' and '{place}'"
            raise xmlError(detail, ErrorDomain.DOMAIN)
        sources[name] = place
        if disk.find("address") is None:
            _address(disk)
    return ordered


def _target(disk: Element) -> Element:
    target = disk.find("target")
    if target is None:
        raise RemoteError.of(ErrorNumber.NO_TARGET, None, ErrorDomain.DOMAIN)
    return target


def _index(disk: Element) -> int:
    """Position of a disk's name in the alphabet of its bus, from 0; -1 for a name without one."""
    match = _NAME.match(_target(disk).get("dev", ""))
    if match is None:
        return -1
    index = 0
    for letter in match.group(2):
        index = index * 26 + ord(letter) - ord("a") + 1
    return index - 1


def _complete(disk: Element) -> str:
    """Fill in what does not depend on other disks.

    @return: the bus as it was written down; empty for none.
    """
    kind = choice(disk, "type", _TYPES, "file")
    device = choice(disk, "device", ("disk", "cdrom", "floppy", "lun"), "disk")
    disk.set("type", kind)
    disk.set("device", device)
    target, source = disk.find("target"), disk.find("source")
    place = source.get(_SOURCES.get(kind, "")) if source is not None else None
    name = target.get("dev") if target is not None else None
    if target is None or not name:
        raise RemoteError.of(ErrorNumber.NO_TARGET, place, ErrorDomain.DOMAIN)
    bus = choice(target, "bus", _BUS_NAMES, "")
    if place is None and device in ("disk", "lun") and kind in _SOURCES:
        raise RemoteError.of(ErrorNumber.NO_SOURCE, name, ErrorDomain.DOMAIN)
    if not bus:
        match = _NAME.match(name)
        target.set("bus", "fdc" if device == "floppy" else BUSES[match.group(1)] if match else "ide")
    if device == "cdrom" and disk.find("readonly") is None:
        child(disk, "readonly")
    return bus


def _address(disk: Element) -> None:
    target, index = _target(disk), _index(disk)
    if index < 0:
        detail = f"Unknown disk name '{target.get('dev')}' and no address specified"
        raise xmlError(detail, ErrorDomain.DOMAIN)
    if target.attrib["bus"] not in DRIVES:
        return
    units, buses = DRIVES[target.attrib["bus"]]
    controller, rest = divmod(index, units * buses)
    if controller >= CONTROLLERS_MAX:
        raise unsupported(f"disk '{target.get('dev')}' would need controller {controller}")
    bus, unit = divmod(rest, units)
    numbers = {"controller": str(controller), "bus": str(bus), "target": "0", "unit": str(unit)}
    child(disk, "address", type="drive", **numbers)
