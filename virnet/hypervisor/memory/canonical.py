"""In which order libvirt writes elements and attributes.

Documents come in any order and go out in libvirt's. What libvirt does not know, and drops, is kept here: it
follows what is known, in the order it came. Only what these tables list ever moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element

DOMAIN_CHILDREN = (
    "name uuid genid title description metadata maxMemory memory currentMemory blkiotune memtune"
    " memoryBacking vcpu vcpus iothreads iothreadids defaultiothread cputune numatune resource sysinfo"
    " bootloader bootloader_args os idmap features cpu clock on_poweroff on_reboot on_crash on_lockfailure pm"
    " perf devices seclabel keywrap launchSecurity"
).split()

DEVICES = (
    "emulator disk controller lease filesystem interface smartcard serial parallel console channel input tpm"
    " graphics sound audio video hostdev redirdev redirfilter hub watchdog memballoon rng nvram panic shmem"
    " memory iommu vsock crypto"
).split()

OS_CHILDREN = (
    "type firmware init initarg initenv initdir inituser initgroup loader nvram kernel initrd cmdline dtb"
    " acpi boot bootmenu bios smbios"
).split()

FEATURES = (
    "acpi apic pae hap viridian privnet hyperv kvm xen pvspinlock gic smm ioapic hpt htm nested-hv msrs"
    " ccf-assist pmu vmcoreinfo capabilities vmport cfpc sbbc ibs tcg async-teardown"
).split()

CPU_CHILDREN = "model vendor microcode topology cache maxphysaddr feature numa".split()

_SOURCE = (
    "protocol name tls file dev dir network portgroup bridge pool volume mode type path host service channel"
    " startupPolicy index"
).split()
_CHARACTER = ("source protocol log target model alias address".split(), {"source": _SOURCE})

#: Per element: the order of what is in it, and the orders of attributes of itself (under its own name) and of
#: what is in it.
ORDERS: dict[str, tuple[list[str], dict[str, list[str]]]] = {
    "disk": (
        "auth driver source backingStore backenddomain geometry blockio mirror target iotune readonly"
        " shareable transient serial wwn vendor product encryption boot alias address".split(),
        {
            "disk": "type device model rawio sgio snapshot".split(),
            "driver": "name type cache error_policy rerror_policy io ioeventfd event_idx copy_on_read discard"
            " iothread detect_zeroes queues queue_size".split(),
            "source": _SOURCE,
            "target": "dev bus tray removable rotation_rate".split(),
        },
    ),
    "controller": (
        "model target driver alias address".split(),
        {"controller": "type index model ports vectors".split()},
    ),
    "filesystem": (
        "driver binary source target readonly space_hard_limit space_soft_limit alias address".split(),
        {"filesystem": "type accessmode model multidevs fmode dmode".split()},
    ),
    "interface": (
        "mac source vlan virtualport bandwidth port ip route script downscript backenddomain target guest"
        " model driver backend teaming filterref tune link mtu coalesce boot rom alias address".split(),
        {"interface": "type managed trustGuestRxFilters".split(), "source": _SOURCE},
    ),
    "serial": _CHARACTER,
    "parallel": _CHARACTER,
    "console": _CHARACTER,
    "channel": _CHARACTER,
    "graphics": (
        "listen gl image jpeg zlib playback streaming mouse clipboard filetransfer channel audio".split(),
        {
            "graphics": "type port tlsPort autoport websocket powerControl socket listen keymap passwd"
            " passwdValidTo connected sharePolicy defaultMode display xauth fullscreen multiUser"
            " replaceUser".split(),
            "listen": "type address network socket".split(),
        },
    ),
    "video": (
        "driver model alias address".split(),
        {"model": "type ram vram vram64 vgamem heads primary blob".split()},
    ),
    "hostdev": (
        "driver source teaming boot rom alias address".split(),
        {"hostdev": "mode type managed sgio rawio model display ramfb".split()},
    ),
    "rng": ("rate backend driver alias address".split(), {"backend": "model type".split()}),
    "input": ("driver alias source address".split(), {"input": "type bus model".split()}),
    "watchdog": ("alias address".split(), {"watchdog": "model action".split()}),
    "redirdev": ("source protocol boot alias address".split(), {"redirdev": "bus type".split()}),
    "tpm": ("backend alias address".split(), {"backend": "type version persistent_state".split()}),
    "lease": ("lockspace key target".split(), {}),
    "shmem": ("model size server msi alias address".split(), {}),
    "vsock": ("cid driver alias address".split(), {}),
}

#: Attributes of C{address} by its C{type}; numbers written in hexadecimal with that many digits.
ADDRESSES: dict[str, dict[str, int]] = {
    "pci": {"domain": 4, "bus": 2, "slot": 2, "function": 1},
    "drive": dict.fromkeys("controller bus target unit".split(), 0),
    "virtio-serial": dict.fromkeys("controller bus port".split(), 0),
    "ccid": dict.fromkeys("controller slot".split(), 0),
    "usb": dict.fromkeys("bus port".split(), 0),
    "spapr-vio": {"reg": 8},
    "isa": dict.fromkeys("iobase irq".split(), 0),
}


def orderChildren(node: Element, names: Iterable[str]) -> None:
    """Sort what is in an element; equal names keep their order, unknown ones follow."""
    rank = {name: position for position, name in enumerate(names)}
    node[:] = sorted(node, key=lambda below: rank.get(below.tag, len(rank)))


def orderAttributes(node: Element, names: Iterable[str]) -> None:
    """Sort an element's attributes; unknown ones follow."""
    rank = {name: position for position, name in enumerate(names)}
    items = sorted(node.items(), key=lambda item: rank.get(item[0], len(rank)))
    node.attrib.clear()
    node.attrib.update(items)


def takeNamespaces(root: Element) -> None:
    """Move the declarations of prefixes from the root to the metadata that uses them.

    Of the elements in C{metadata} only those with a namespace stay, and of each namespace the first.
    """
    declared = {key: root.attrib.pop(key) for key in list(root.attrib) if key.startswith("xmlns:")}
    metadata = root.find("metadata")
    if metadata is None:
        return
    names = {name for node in metadata.iter() for name in (node.tag, *node.keys())}
    used = {name.partition(":")[0] for name in names if ":" in name}
    for key, uri in declared.items():
        if key.removeprefix("xmlns:") in used:
            metadata.attrib.setdefault(key, uri)
    kept: dict[str, Element] = {}
    for node in metadata:
        prefix, colon, _ = node.tag.partition(":")
        key = f"xmlns:{prefix}" if colon else "xmlns"
        namespace = node.get(key, metadata.get(key))
        if namespace and namespace not in kept:
            kept[namespace] = node
            node.tail = None
    metadata[:] = list(kept.values())
    metadata.text = None


def tidy(node: Element) -> None:
    """Drop the blanks that only lay a document out; C{metadata} is not touched."""
    node.tail = None
    if node.tag == "metadata":
        return
    if len(node) or (node.tag not in _TEXTS and not (node.text or "").strip()):
        node.text = None
    for below in node:
        tidy(below)


#: Elements whose text counts even if it is blank.
_TEXTS = frozenset({"name", "title", "description", "emulator"})


def orderDevice(node: Element) -> None:
    """Bring one device into libvirt's order, and its addresses into libvirt's notation."""
    children, attributes = ORDERS.get(node.tag, ([], {}))
    orderChildren(node, children)
    orderAttributes(node, attributes.get(node.tag, ()))
    for below in node:
        orderAttributes(below, attributes.get(below.tag, ()))
    for address in node.iter("address"):
        _formatAddress(address)


def _formatAddress(node: Element) -> None:
    kind = node.get("type")
    # The address of a host's PCI device says no type.
    fields = ADDRESSES.get(kind or ("pci" if "slot" in node.attrib else ""), {})
    for name, digits in fields.items():
        value = node.get(name)
        if value is not None and digits:
            try:
                node.set(name, f"0x{int(value, 0):0{digits}x}")
            except ValueError:
                pass  # not a number: kept as it is
        elif value is None and kind == "pci" and name in ("domain", "function"):
            node.set(name, "0x" + "0" * digits)
    orderAttributes(node, ["type", *fields, "multifunction"])
