"""A domain's definition: the numbers a hypervisor works with, and the document round them.

Rules:

  - What is decided upon (name, uuid, memory, vCPUs) is in fields of L{DomainDefinition}; all else stays a
    tree in libvirt's order with libvirt's defaults filled in, and is only read where a device is asked for.
  - The order of checks is libvirt's, so that a document with two faults gets the same answer.
  - Elements libvirt does not know are kept; those of which it takes the first only are reduced to that.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.canonical import (
    CPU_CHILDREN,
    DOMAIN_CHILDREN,
    FEATURES,
    OS_CHILDREN,
    orderAttributes,
    orderChildren,
    takeNamespaces,
    tidy,
)
from virnet.hypervisor.memory.devicexml import completeDevices
from virnet.hypervisor.memory.xmldocument import DOMAIN, internalError, parseDocument, unsupported, xmlError
from virnet.hypervisor.memory.xmloutput import child, element, find, replace, toText
from virnet.hypervisor.memory.xmlvalues import (
    COUNT_MAX,
    RandomBytes,
    choice,
    cpuSet,
    decimal,
    formatCPUs,
    formatUUID,
    memorySize,
    parseUUID,
)

VIRT_TYPES = frozenset(
    "none qemu kqemu kvm xen lxc uml openvz test vmware hyperv vbox phyp parallels bhyve vz hvf".split()
)
OS_TYPES = frozenset("hvm xen linux exe uml xenpvh".split())
ARCHITECTURES = frozenset(
    "alpha armv6l armv7l armv7b aarch64 cris i686 ia64 lm32 loongarch64 m68k microblaze microblazeel mips"
    " mipsel mips64 mips64el or32 parisc parisc64 ppc ppcle ppc64 ppc64le ppcemb riscv32 riscv64 s390 s390x"
    " sh4 sh4eb sparc sparc64 unicore32 x86_64 xtensa xtensaeb".split()
)
BOOT_DEVICES = ("fd", "cdrom", "hd", "network")
CLOCK_OFFSETS = frozenset({"utc", "localtime", "variable", "timezone", "absolute"})
TIMERS = frozenset("platform pit rtc hpet tsc kvmclock hypervclock armvtimer".split())
#: Element -> (its default, what else it may say).
ACTIONS = {
    "on_poweroff": ("destroy", frozenset({"restart", "rename-restart", "preserve"})),
    "on_reboot": ("restart", frozenset({"destroy", "rename-restart", "preserve"})),
    "on_crash": (
        "destroy",
        frozenset({"restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart"}),
    ),
}
#: Elements that say nothing when there is nothing in them.
_DROPPED_EMPTY = ("features", "cputune", "memtune", "memoryBacking", "blkiotune", "pm", "perf", "numatune")


@dataclass
class DomainDefinition:
    """What defines one domain.

    @ivar virtType: C{test}, C{kvm}...
    @ivar uuid: 16 bytes.
    @ivar memory: the most it can have, in KiB.
    @ivar currentMemory: what it has, in KiB.
    @ivar maxVcpus: the most vCPUs it can have.
    @ivar vcpus: how many of them are online.
    @ivar pinned: vCPU -> the host CPUs it is bound to, a bit each, where it is.
    @ivar root: everything else.
    """

    virtType: str
    name: str
    uuid: bytes
    memory: int
    currentMemory: int
    maxVcpus: int
    vcpus: int
    pinned: dict[int, int]
    root: Element

    @property
    def devices(self) -> Element:
        """The C{devices} element."""
        return find(self.root, "devices")

    @property
    def cpus(self) -> int | None:
        """The host CPUs, a bit each, that vCPUs may use unless they are bound; C{None} for all of them."""
        text = find(self.root, "vcpu").get("cpuset")
        return cpuSet(text) if text else None

    def action(self, tag: str) -> str:
        """What to do on C{on_poweroff}, C{on_reboot}, C{on_crash}."""
        return find(self.root, tag).text or ""

    def copy(self) -> DomainDefinition:
        """A definition that can be changed without changing this one."""
        return copy.deepcopy(self)

    def toElement(self, *, domainID: int = -1, secure: bool = False) -> Element:
        """The document as a tree of its own.

        @param domainID: the id of a running domain; -1 for none.
        @param secure: whether passwords are in it.
        """
        root = copy.deepcopy(self.root)
        if domainID >= 0:
            root.set("id", str(domainID))
            orderAttributes(root, ("type", "id"))
        find(root, "name").text = self.name
        find(root, "memory").text = str(self.memory)
        find(root, "currentMemory").text = str(self.currentMemory)
        vcpu = find(root, "vcpu")
        vcpu.text = str(self.maxVcpus)
        if self.vcpus != self.maxVcpus:
            vcpu.set("current", str(self.vcpus))
        if not secure:
            for graphics in find(root, "devices").iterfind("graphics"):
                graphics.attrib.pop("passwd", None)
                graphics.attrib.pop("passwdValidTo", None)
        return root

    def toXML(self, *, domainID: int = -1, secure: bool = False) -> str:
        """The document as text; parameters as for L{toElement}."""
        return toText(self.toElement(domainID=domainID, secure=secure))


def parseDomain(text: str, randomBytes: RandomBytes) -> DomainDefinition:
    """Read a domain document.

    @param randomBytes: where uuids and MAC addresses come from that the document does not give.
    @raise RemoteError: what libvirt answers to such a document.
    """
    root = parseDocument(text, DOMAIN)
    takeNamespaces(root)
    root.attrib.pop("id", None)
    tidy(root)
    _keepFirst(root)
    name = root.findtext("name")
    if not name:
        raise RemoteError.of(ErrorNumber.NO_NAME, None, ErrorDomain.DOMAIN)
    if "/" in name:
        raise xmlError(f"name {name} cannot contain '/'", ErrorDomain.DOMAIN)
    uuid = parseUUID(root.findtext("uuid"), ErrorDomain.DOMAIN, randomBytes)
    replace(root, element("uuid", formatUUID(uuid)))
    _completeGenid(root, randomBytes)
    if "\n" in root.findtext("title", ""):
        raise xmlError("Domain title can't contain newlines", ErrorDomain.DOMAIN)
    virtType = root.get("type")
    if virtType is None:
        raise internalError("missing domain type attribute")
    if virtType not in VIRT_TYPES:
        raise unsupported(f"invalid domain type {virtType}")
    osType = _completeOS(root, virtType)
    memory, currentMemory = _memory(root)
    maxVcpus, vcpus = _vcpus(root)
    _completeTuning(root)
    for tag, (default, others) in ACTIONS.items():
        _completeAction(root, tag, default, others)
    _completeCPU(root, maxVcpus)
    _completeFeatures(root)
    _completeClock(root)
    devices = root.find("devices")
    if devices is None:
        devices = child(root, "devices")
    completeDevices(devices, osType, randomBytes)
    _completeBoot(root, osType)
    if "\n" in name:
        raise RemoteError.of(ErrorNumber.XML_DETAIL, "invalid char in name: \n", ErrorDomain.XML)
    for tag in _DROPPED_EMPTY:
        found = root.find(tag)
        if found is not None and not len(found):
            root.remove(found)
    orderChildren(root, DOMAIN_CHILDREN)
    pinned = _pins(root)
    return DomainDefinition(virtType, name, uuid, memory, currentMemory, maxVcpus, vcpus, pinned, root)


def _keepFirst(root: Element) -> None:
    seen: set[str] = set()
    kept = []
    for node in root:
        if node.tag in ("seclabel",) or node.tag not in DOMAIN_CHILDREN or node.tag not in seen:
            kept.append(node)
        seen.add(node.tag)
    root[:] = kept
    for tag in ("title", "description"):
        if (found := root.find(tag)) is not None and not found.text:
            root.remove(found)


def _completeOS(root: Element, virtType: str) -> str:
    os = root.find("os")
    kind = os.find("type") if os is not None else None
    if os is None or kind is None or not kind.text:
        if root.findtext("bootloader") is None:
            raise xmlError("an os <type> must be specified", ErrorDomain.DOMAIN)
        os = os if os is not None else child(root, "os")
        kind = kind if kind is not None else child(os, "type")
        kind.text = "xen"
    osType = kind.text or ""
    if osType not in OS_TYPES:
        raise unsupported(f"unknown OS type '{osType}'")
    if kind.get("arch", "i686") not in ARCHITECTURES:
        raise unsupported(f"Unknown architecture {kind.get('arch')}")
    kind.attrib.setdefault("arch", "i686")
    orderAttributes(kind, ("arch", "machine"))
    # libvirt's older name, which it still writes for such domains
    if osType == "xen" and virtType == "xen":
        kind.text = "linux"
    bootloader = root.find("bootloader")
    if bootloader is not None and not bootloader.text:
        root.remove(bootloader)
    return osType


def _completeBoot(root: Element, osType: str) -> None:
    os = find(root, "os")
    boots = os.findall("boot")
    for boot in boots:
        choice(boot, "dev", BOOT_DEVICES)
    if root.find("bootloader") is not None or osType in ("exe", "xen", "linux", "uml"):
        os[:] = [node for node in os if node.tag not in ("boot", "bootmenu")]
    elif not boots and not any(node.find("boot") is not None for node in find(root, "devices")):
        child(os, "boot", dev="hd")
    orderChildren(os, OS_CHILDREN)


def _completeGenid(root: Element, randomBytes: RandomBytes) -> None:
    genid = root.find("genid")
    if genid is None:
        return
    try:
        genid.text = formatUUID(parseUUID(genid.text, ErrorDomain.DOMAIN, randomBytes))
    except RemoteError:
        raise internalError("malformed genid element") from None


def _memory(root: Element) -> tuple[int, int]:
    sizes = dict.fromkeys(("memory", "currentMemory", "maxMemory"), 0)
    for tag in sizes:
        found = root.find(tag)
        if found is not None:
            sizes[tag] = memorySize(found, f"./{tag}[1]")
    memory, current, most = sizes.values()
    if not memory:
        cells = root.findall("cpu/numa/cell")
        memory = sum(memorySize(_sized(cell), "./memory[1]") for cell in cells if cell.get("memory"))
    if not memory:
        detail = "Memory size must be specified via <memory> or in the <numa> configuration"
        raise xmlError(detail, ErrorDomain.DOMAIN)
    if most:
        if most < memory:
            detail = "maximum memory size must be equal or greater than the actual memory size"
            raise xmlError(detail, ErrorDomain.DOMAIN)
        slots = find(root, "maxMemory").get("slots")
        replace(root, element("maxMemory", str(most), slots=slots, unit="KiB"))
    current = min(current, memory) or memory
    replace(root, element("memory", str(memory), unit="KiB"))
    replace(root, element("currentMemory", str(current), unit="KiB"))
    return memory, current


def _sized(cell: Element) -> Element:
    return element("memory", cell.get("memory"), unit=cell.get("unit"))


def _vcpus(root: Element) -> tuple[int, int]:
    vcpu = root.find("vcpu")
    most = 1
    if vcpu is None:
        vcpu = child(root, "vcpu", "1")
    else:
        found = decimal(vcpu.text, COUNT_MAX)
        if found is None:
            raise xmlError("maximum vcpus count must be an integer", ErrorDomain.DOMAIN)
        most = found
    written = vcpu.attrib.pop("current", None)
    current = decimal(written, COUNT_MAX) if written is not None else most
    if current is None:
        detail = f"Invalid value for attribute 'current' in element 'vcpu': '{written}'."
        raise xmlError(detail + " Expected non-negative integer value")
    if not most:
        raise internalError("CPU IDs in <numa> exceed the <vcpu> count")
    if current > most:
        raise unsupported("maximum vCPU count must not be less than current vCPU count")
    vcpu.set("placement", choice(vcpu, "placement", ("static", "auto"), "static"))
    if (cpus := vcpu.get("cpuset")) is not None:
        vcpu.set("cpuset", formatCPUs(cpuSet(cpus)))
    elif vcpu.get("placement") == "auto" and root.find("numatune") is None:
        child(child(root, "numatune"), "memory", mode="strict", placement="auto")
    orderAttributes(vcpu, ("placement", "cpuset", "current"))
    return most, current


def _completeTuning(root: Element) -> None:
    for limit in root.findall("memtune/*"):
        if re.fullmatch("(hard|soft|swap_hard)_limit|min_guarantee", limit.tag):
            limit.text = str(memorySize(limit, f"./memtune/{limit.tag}[1]"))
            limit.set("unit", "KiB")
    for pin in root.findall("cputune/*"):
        if (cpus := pin.get("cpuset")) is not None:
            pin.set("cpuset", formatCPUs(cpuSet(cpus)))
    for memory in root.findall("numatune/memory"):
        memory.attrib.setdefault("mode", "strict")
        orderAttributes(memory, ("mode", "nodeset", "placement"))
    iothreads = root.find("iothreads")
    if iothreads is not None:
        count = decimal(iothreads.text, COUNT_MAX)
        if count is None:
            raise xmlError(f"invalid iothreads count '{iothreads.text or ''}'", ErrorDomain.DOMAIN)
        if not count:
            root.remove(iothreads)
    for seclabel in root.findall("seclabel"):
        if not seclabel.attrib and not len(seclabel):
            root.remove(seclabel)


def _pins(root: Element) -> dict[int, int]:
    pins = {}
    for pin in root.findall("cputune/vcpupin"):
        vcpu = decimal(pin.get("vcpu"), COUNT_MAX)
        if vcpu is not None and pin.get("cpuset"):
            pins[vcpu] = cpuSet(pin.attrib["cpuset"])
    return pins


def _completeAction(root: Element, tag: str, default: str, others: frozenset[str]) -> None:
    found = root.find(tag)
    if found is None:
        child(root, tag, default)
    elif found.text != default and found.text not in others:
        raise unsupported(f"unknown {tag} action: {found.text or ''}")


def _completeCPU(root: Element, maxVcpus: int) -> None:
    cpu = root.find("cpu")
    if cpu is None:
        return
    mode = cpu.get("mode")
    if mode not in (None, "custom", "host-model", "host-passthrough", "maximum"):
        detail = f"Invalid mode attribute '{mode}'"
        raise RemoteError.of(ErrorNumber.CONFIG_UNSUPPORTED, detail, ErrorDomain.CPU)
    if not cpu.attrib and not len(cpu):
        root.remove(cpu)
        return
    model = cpu.find("model")
    if model is not None:
        model.attrib.setdefault("fallback", "allow")
        if mode in (None, "custom"):
            cpu.set("mode", "custom")
            cpu.attrib.setdefault("match", "exact")
    for topology in cpu.iterfind("topology"):
        topology.attrib.setdefault("dies", "1")
        orderAttributes(topology, ("sockets", "dies", "cores", "threads"))
    for feature in cpu.iterfind("feature"):
        orderAttributes(feature, ("policy", "name"))
    for cell in cpu.iterfind("numa/cell"):
        if cell.get("memory") is not None:
            cell.set("memory", str(memorySize(_sized(cell), "./cpu/numa/cell/@memory")))
            cell.set("unit", "KiB")
        orderAttributes(cell, ("id", "cpus", "memory", "unit"))
    orderAttributes(cpu, ("mode", "match", "check", "migratable"))
    orderChildren(cpu, CPU_CHILDREN)


def _completeFeatures(root: Element) -> None:
    features = root.find("features")
    if features is None:
        return
    for feature in features:
        if feature.tag not in FEATURES:
            raise unsupported(f"unexpected feature '{feature.tag}'")
        if feature.tag == "pvspinlock":
            feature.attrib.setdefault("state", "on")
        elif feature.tag == "hyperv" and len(feature):
            feature.attrib.setdefault("mode", "custom")
    orderChildren(features, FEATURES)


def _completeClock(root: Element) -> None:
    clock = root.find("clock")
    if clock is None:
        clock = child(root, "clock")
    offset = clock.get("offset", "utc")
    if offset not in CLOCK_OFFSETS:
        raise unsupported(f"unknown clock offset '{offset}'")
    clock.set("offset", offset)
    if offset == "variable":
        clock.attrib.setdefault("adjustment", "0")
        clock.attrib.setdefault("basis", "utc")
    orderAttributes(clock, ("offset", "adjustment", "basis", "timezone", "start"))
    for timer in clock.iterfind("timer"):
        choice(timer, "name", TIMERS)
        orderAttributes(timer, ("name", "present", "tickpolicy", "track", "mode", "frequency"))
