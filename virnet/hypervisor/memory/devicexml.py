"""What libvirt adds to the devices of a domain, and which devices it refuses.

Rules:

  - Each kind of device has one function here: it fills in defaults and raises what libvirt raises.
  - Drives get the controllers they need (L{virnet.hypervisor.memory.diskxml} has the disks themselves).
  - A C{console} of an HVM guest and its first C{serial} are one device; the one that is missing is made.
  - Interfaces get a MAC address and a C{testnetN} target; graphics bring a video card.
  - Devices and elements unknown here are kept as they are.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from xml.etree.ElementTree import Element

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.canonical import DEVICES, orderAttributes, orderChildren, orderDevice
from virnet.hypervisor.memory.diskxml import CONTROLLERS_MAX, DRIVES, completeDisks
from virnet.hypervisor.memory.xmldocument import internalError, unsupported, xmlError
from virnet.hypervisor.memory.xmloutput import child, element
from virnet.hypervisor.memory.xmlvalues import COUNT_MAX, RandomBytes, choice, decimal, generateMAC, parseMAC

_INTERFACES = (
    "user ethernet vhostuser server client mcast network bridge internal direct hostdev udp vdpa null vds"
).split()
_NEEDS_SOURCE = {"network", "bridge", "internal", "direct"}
_GRAPHICS = "sdl vnc rdp desktop spice egl-headless dbus".split()
_CONTROLLERS = "ide fdc scsi sata virtio-serial ccid usb pci xenbus isa".split()
_SCSI_MODELS = (
    "auto buslogic lsilogic lsisas1068 vmpvscsi ibmvscsi virtio-scsi lsisas1078 virtio-transitional"
    " virtio-non-transitional ncr53c90 dc390 am53c974"
).split()
_CHARACTERS = (
    "null vc pty dev file pipe stdio udp tcp unix spicevmc spiceport nmdm qemu-vdagent dbus"
).split()
_CHANNEL_TARGETS = "guestfwd virtio xen".split()
_SOUNDS = "sb16 es1370 pcspk ac97 ich6 ich9 usb ich7".split()
_BALLOONS = "virtio xen none virtio-transitional virtio-non-transitional".split()
#: Video model -> its memory in KiB; C{None} where libvirt writes none.
_VIDEOS: dict[str, str | None] = {
    "vga": "16384",
    "cirrus": "16384",
    "vmvga": "16384",
    "xen": "4096",
    "vbox": None,
    "qxl": "65536",
    "parallels": None,
    "virtio": None,
    "gop": None,
    "none": None,
    "bochs": "16384",
    "ramfb": None,
}


def completeDevices(devices: Element, osType: str, randomBytes: RandomBytes) -> None:
    """Make of a C{devices} element what libvirt would write for it.

    @param osType: C{hvm} and so on.
    @param randomBytes: where MAC addresses come from that the document does not give.
    """
    for node in devices:
        complete = _COMPLETE.get(node.tag)
        if complete is not None:
            complete(node)
        if node.tag == "interface":
            _completeMAC(node, randomBytes)
    devices[:] = completeDisks(devices.findall("disk")) + [node for node in devices if node.tag != "disk"]
    _numberControllers(devices.findall("controller"))
    if len(devices.findall("memballoon")) > 1:
        raise internalError("only a single memory balloon device is supported")
    _completeConsoles(devices, osType)
    _completeVideos(devices, osType)
    orderChildren(devices, DEVICES)
    for controller in _implicitControllers(devices):
        devices.append(controller)
    orderChildren(devices, DEVICES)
    for node in devices:
        orderDevice(node)
    nameInterfaces(devices.findall("interface"))
    devices.text = ""


def nameInterfaces(interfaces: Iterable[Element]) -> None:
    """Give every interface without a target the first free C{testnetN} (as the test driver does)."""
    interfaces = list(interfaces)
    taken = {target.get("dev") for node in interfaces for target in node.findall("target")}
    free = (name for number in itertools.count() if (name := f"testnet{number}") not in taken)
    for node in interfaces:
        target = node.find("target")
        if target is not None and target.get("dev"):
            continue
        name = next(free)
        if target is None:
            child(node, "target", dev=name)
        else:
            target.set("dev", name)
        orderDevice(node)


def _numberControllers(controllers: list[Element]) -> None:
    taken: dict[str, set[str]] = {}
    for node in controllers:
        if (index := node.get("index")) is not None:
            kind = node.get("type", "ide")
            if index in taken.setdefault(kind, set()):
                raise xmlError(f"Multiple '{kind}' controllers with index '{index}'", ErrorDomain.DOMAIN)
            taken[kind].add(index)
    free: dict[str, Iterator[int]] = {}
    for node in controllers:
        if node.get("index") is None:
            kind = node.get("type", "ide")
            for number in free.setdefault(kind, itertools.count()):
                if str(number) not in taken.get(kind, ()):
                    node.set("index", str(number))
                    break


def _completeController(node: Element) -> None:
    node.set("type", choice(node, "type", _CONTROLLERS, "ide"))
    model = node.get("model")
    if node.get("type") == "scsi" and model is not None and model not in _SCSI_MODELS:
        raise unsupported(f"Unknown model type '{model}'")
    if (index := node.get("index")) is not None and decimal(index, COUNT_MAX) is None:
        raise xmlError(
            f"Invalid value for attribute 'index' in element 'controller': '{index}'. Expected non-negative"
            " integer value"
        )


def _implicitControllers(devices: Element) -> list[Element]:
    highest: dict[str, int] = {}
    for disk in devices.findall("disk"):
        target, address = disk.find("target"), disk.find("address")
        if target is not None and address is not None and target.get("bus") in DRIVES:
            number = decimal(address.get("controller"), CONTROLLERS_MAX) or 0
            bus = target.attrib["bus"]
            highest[bus] = max(number, highest.get(bus, 0))
    for node in devices:
        if node.tag in ("channel", "console") and (target := node.find("target")) is not None:
            if target.get("type") == "virtio":
                highest.setdefault("virtio-serial", 0)
        elif node.tag == "smartcard":
            highest.setdefault("ccid", 0)
    existing = {(node.get("type"), node.get("index")) for node in devices.findall("controller")}
    return [
        element("controller", None, type=kind, index=str(index))
        for kind in ("scsi", "fdc", "ide", "sata", "virtio-serial", "ccid")
        if kind in highest
        for index in range(highest[kind] + 1)
        if (kind, str(index)) not in existing
    ]


def _completeInterface(node: Element) -> None:
    kind = choice(node, "type", _INTERFACES, "user")
    node.set("type", kind)
    source = node.find("source")
    if kind in _NEEDS_SOURCE and source is None:
        raise xmlError(f"interface type='{kind}' requires a 'source' element", ErrorDomain.DOMAIN)
    if source is not None:
        # Which bridge a network has is for the network to say.
        if kind == "network":
            source.attrib.pop("bridge", None)
        if kind == "direct":
            source.attrib.setdefault("mode", "vepa")
    target = node.find("target")
    if target is not None and target.get("dev", "").startswith("vnet"):
        node.remove(target)


def _completeMAC(node: Element, randomBytes: RandomBytes) -> None:
    mac = node.find("mac")
    if mac is None:
        child(node, "mac", address=generateMAC(randomBytes))
    else:
        mac.set("address", parseMAC(mac.get("address", "")))


def _completeGraphics(node: Element) -> None:
    kind = choice(node, "type", _GRAPHICS)
    if kind not in ("vnc", "spice", "rdp"):
        return
    port = node.get("port")
    if port is not None and decimal(port.removeprefix("-"), COUNT_MAX) is None:
        raise internalError(f"cannot parse {kind} port {port}")
    listens = node.findall("listen")
    if not listens:
        if (socket := node.get("socket")) is not None:
            listens = [child(node, "listen", type="socket", socket=socket)]
        elif kind == "spice" and node.attrib.keys().isdisjoint(("port", "tlsPort", "autoport", "listen")):
            listens = [child(node, "listen", type="none")]
        else:
            listens = [child(node, "listen", type="address", address=node.get("listen"))]
    first = listens[0].get("type")
    if first in ("none", "socket"):
        return
    if first == "address" and listens[0].get("address"):
        node.set("listen", listens[0].attrib["address"])
    _completePort(node, kind, port)


def _completePort(node: Element, kind: str, port: str | None) -> None:
    if kind == "spice":
        if node.get("autoport") == "yes":
            node.attrib.pop("port", None)
            node.attrib.pop("tlsPort", None)
        else:
            node.set("autoport", "no")
    elif node.get("autoport") == "yes" or (port in (None, "-1", "0") and node.get("autoport") is None):
        node.set("port", "0" if kind == "rdp" else "-1")
        node.set("autoport", "yes")
    else:
        node.set("autoport", "no")


def _completeVideos(devices: Element, osType: str) -> None:
    videos = devices.findall("video")
    if not videos and devices.find("graphics") is not None:
        videos = [child(devices, "video")]
    for number, video in enumerate(videos):
        model = video.find("model")
        if model is None:
            model = child(video, "model")
        default = "xen" if osType in ("xen", "linux") else "cirrus"
        kind = model.get("type", default)
        if kind not in _VIDEOS:
            raise unsupported(f"unknown video model '{kind}'")
        model.set("type", kind)
        if kind == "none":
            continue
        memory = _VIDEOS[kind]
        if memory is not None:
            model.attrib.setdefault("vram", memory)
            vram = decimal(model.get("vram"), COUNT_MAX)
            if kind == "qxl":
                model.attrib.setdefault("ram", memory)
            elif vram:
                model.set("vram", str(1 << (vram - 1).bit_length()))
        model.attrib.setdefault("heads", "1")
        if number == 0:
            model.set("primary", "yes")


def _completeCharacter(node: Element) -> None:
    kind = node.get("type", "pty")
    if kind not in _CHARACTERS:
        raise unsupported(f"unknown type presented to host for character device: {kind}")
    node.set("type", kind)
    source = node.find("source")
    if kind in ("file", "dev", "pipe") and (source is None or not source.get("path")):
        raise internalError("Missing source path attribute for char device")
    if kind == "tcp" and (source is None or not source.get("host")):
        raise internalError("Missing source host attribute for char device")
    if kind == "tcp" and node.find("protocol") is None:
        child(node, "protocol", type="raw")
    named = "path" if kind == "unix" else None if kind in ("pty", "null", "vc", "stdio") else "*"
    if source is not None and named != "*" and not source.get(named or ""):
        node.remove(source)


def _completeChannel(node: Element) -> None:
    _completeCharacter(node)
    target = node.find("target")
    kind = target.get("type") if target is not None else None
    if kind is None:
        raise xmlError("target type must be specified for channel device", ErrorDomain.DOMAIN)
    if kind not in _CHANNEL_TARGETS:
        raise unsupported(f"unknown target type '{kind}' specified for character device")


def _completeConsoles(devices: Element, osType: str) -> None:
    serials, consoles = devices.findall("serial"), devices.findall("console")
    for tag in ("serial", "parallel"):
        _numberPorts(devices.findall(tag), None)
    if osType == "hvm":
        first = consoles[0].find("target") if consoles else None
        isSerial = bool(consoles) and (first is None or first.get("type", "serial") == "serial")
        if isSerial and not serials:
            serial = copy.deepcopy(consoles[0])
            serial.tag = "serial"
            _setTarget(serial, None, 0)
            devices.append(serial)
            serials = [serial]
        if serials and (isSerial or not consoles or not _hasSerialTarget(consoles)):
            console = copy.deepcopy(serials[0])
            console.tag = "console"
            target = serials[0].find("target")
            port = target.get("port", "0") if target is not None else "0"
            _setTarget(console, "serial", int(port))
            consoles = [console, *consoles[1 if isSerial else 0 :]]
            devices[:] = [node for node in devices if node.tag != "console"] + consoles
    _numberPorts(consoles, "serial")


def _hasSerialTarget(consoles: list[Element]) -> bool:
    targets = [console.find("target") for console in consoles]
    return any(target is not None and target.get("type") == "serial" for target in targets)


def _setTarget(node: Element, kind: str | None, port: int) -> None:
    for target in node.findall("target"):
        node.remove(target)
    child(node, "target", type=kind, port=str(port))


def _numberPorts(nodes: list[Element], kind: str | None) -> None:
    """Give every character device of one sort a target with a port.

    @param kind: the C{type} of the target if it has none; C{None} leaves it out.
    """
    following = 0
    for node in nodes:
        target = node.find("target")
        if target is None:
            target = child(node, "target")
        if kind is not None:
            target.attrib.setdefault("type", kind)
        port = decimal(target.get("port"), COUNT_MAX)
        if port is None:
            port = following if target.get("type") != "virtio" else 0
            target.set("port", str(port))
        following = max(following, port + 1)
        orderAttributes(target, ("type", "port"))


def _completeInput(node: Element) -> None:
    kind, bus = node.get("type"), node.get("bus")
    if kind is None:
        raise internalError("missing input device type")
    if kind not in ("mouse", "tablet", "keyboard", "passthrough", "evdev"):
        raise unsupported(f"unknown input device type '{kind}'")
    if bus is not None and bus not in ("ps2", "usb", "xen", "parallels", "none", "virtio"):
        raise unsupported(f"unknown input bus type '{bus}'")
    if bus is None:
        node.set("bus", "ps2" if kind in ("mouse", "keyboard") else "usb" if kind == "tablet" else "virtio")


def _completeRNG(node: Element) -> None:
    if node.get("model") is None:
        raise xmlError("missing RNG device model", ErrorDomain.DOMAIN)
    if len(node.findall("backend")) != 1:
        raise xmlError("only one RNG backend is supported", ErrorDomain.DOMAIN)


def _completeWatchdog(node: Element) -> None:
    if node.get("model") is None:
        raise internalError("watchdog must contain model name")
    node.attrib.setdefault("action", "reset")


def _completeFilesystem(node: Element) -> None:
    node.attrib.setdefault("type", "mount")
    if node.find("source") is None and node.get("type") != "ram":
        raise RemoteError.of(ErrorNumber.NO_SOURCE, None, ErrorDomain.DOMAIN)
    node.attrib.setdefault("accessmode", "passthrough")


def _completeHostdev(node: Element) -> None:
    if node.get("mode", "subsystem") == "subsystem":
        if node.get("type") is None:
            raise xmlError("missing source address type", ErrorDomain.DOMAIN)
        node.attrib.setdefault("managed", "no")
    for name in ("vendor", "product"):
        for found in node.iter(name):
            try:
                found.set("id", f"0x{int(found.get('id', ''), 0):04x}")
            except ValueError:
                raise internalError(f"cannot parse {name} id {found.get('id')}") from None


def _completeRedirdev(node: Element) -> None:
    if node.get("type") is None:
        raise internalError("missing type in redirdev")
    node.attrib.setdefault("bus", "usb")
    if not len(node):
        node.text = ""


def _completeHub(node: Element) -> None:
    if node.get("type") is None:
        raise internalError("missing hub device type")


def _completeTPM(node: Element) -> None:
    if node.find("backend") is None:
        raise xmlError("missing TPM device backend", ErrorDomain.DOMAIN)


def _completeShmem(node: Element) -> None:
    if node.find("model") is None:
        child(node, "model", type="ivshmem")


def _completeVsock(node: Element) -> None:
    if node.find("cid") is None:
        child(node, "cid", auto="yes")


def _completeSmartcard(node: Element) -> None:
    if node.find("address") is None:
        child(node, "address", type="ccid", controller="0", slot="0")


def _completeSound(node: Element) -> None:
    choice(node, "model", _SOUNDS)


def _completeBalloon(node: Element) -> None:
    choice(node, "model", _BALLOONS)


_COMPLETE: dict[str, Callable[[Element], None]] = {
    "controller": _completeController,
    "interface": _completeInterface,
    "graphics": _completeGraphics,
    "serial": _completeCharacter,
    "parallel": _completeCharacter,
    "console": _completeCharacter,
    "channel": _completeChannel,
    "input": _completeInput,
    "rng": _completeRNG,
    "watchdog": _completeWatchdog,
    "filesystem": _completeFilesystem,
    "hostdev": _completeHostdev,
    "redirdev": _completeRedirdev,
    "hub": _completeHub,
    "tpm": _completeTPM,
    "shmem": _completeShmem,
    "vsock": _completeVsock,
    "smartcard": _completeSmartcard,
    "sound": _completeSound,
    "memballoon": _completeBalloon,
}
