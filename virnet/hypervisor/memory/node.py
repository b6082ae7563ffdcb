"""The connection and the host: what they are, and what they can.

Rules:

  - The host is the one of libvirt's C{test:///default}: 16 CPUs in two cells.
  - A connection tells the URI it was opened with.
"""

from __future__ import annotations

import re

from virnet.hypervisor.memory.checks import checkFlags, checkPositive, invalidArgument
from virnet.hypervisor.memory.state import MemoryState
from virnet.hypervisor.memory.xmloutput import child, element, toText
from virnet.programs import IConnect, INode, partialImplementer
from virnet.programs.values import NodeGetCPUMapRet, NodeGetInfoRet, NodeGetSecurityModelRet

#: The version of libvirt whose test driver this does as (C: C{LIBVIR_VERSION_NUMBER}).
LIB_VERSION = 9_000_000
#: The version of the hypervisor (C: of the test driver, 0.0.2).
HYPERVISOR_VERSION = 2
ARCHITECTURE = "i686"
#: Of the host, and those of them that its map shows.
CPUS, MAPPED_CPUS = 16, 8
#: The most vCPUs of a domain.
MAX_VCPUS = 32
#: Bytes of a model name with its zeros (C: C{virNodeInfo.model}).
_MODEL_SIZE = 32
#: Memory of each cell and the size of its small pages, in KiB.
_CELLS = ((2097152, 4), (4194304, 8))
_PAGES = (4, 8, 2048, 1048576)
_SECURITY_MODEL = "testSecurity"
_SYSINFO = {"vendor": "LENOVO", "version": "G4ETA1WW (2.61 )", "date": "05/07/2014", "release": "2.61"}


@partialImplementer(IConnect, INode)
class Node:
    """Provides what a connection and its host are."""

    def __init__(self, state: MemoryState, uri: str) -> None:
        """@param uri: what the connection was opened with."""
        self._state = state
        self._uri = uri

    def connectGetType(self) -> str:
        return "TEST"

    def connectGetVersion(self) -> int:
        return HYPERVISOR_VERSION

    def connectGetLibVersion(self) -> int:
        return LIB_VERSION

    def connectGetHostname(self) -> str:
        return self._state.hostname()

    def connectGetURI(self) -> str:
        return self._uri

    def connectGetMaxVcpus(self, type: str | None) -> int:
        return MAX_VCPUS

    def connectGetCapabilities(self) -> str:
        return _CAPABILITIES

    def connectGetSysinfo(self, flags: int) -> str:
        checkFlags("testConnectGetSysinfo", flags)
        root = element("sysinfo", type="smbios")
        bios = child(root, "bios")
        for name, value in _SYSINFO.items():
            child(bios, "entry", value, name=name)
        return toText(root)

    def nodeGetInfo(self) -> NodeGetInfoRet:
        model = ARCHITECTURE.encode().ljust(_MODEL_SIZE, b"\0")
        return NodeGetInfoRet(model, 3145728, CPUS, 1400, len(_CELLS), 2, 2, 2)

    def nodeGetSecurityModel(self) -> NodeGetSecurityModelRet:
        return NodeGetSecurityModelRet(_SECURITY_MODEL.encode() + b"\0", b"\0")

    def nodeGetCPUMap(self, need_map: int, need_online: int, flags: int) -> NodeGetCPUMapRet:
        checkFlags("testNodeGetCPUMap", flags)
        # CPUs 0, 2 and 4, as the test driver says whatever else it says.
        return NodeGetCPUMapRet(b"\x15" if need_map else b"", 3 if need_online else 0, MAPPED_CPUS)

    def nodeGetFreeMemory(self) -> int:
        return 3145728

    def nodeGetCellsFreeMemory(self, startCell: int, maxcells: int) -> list[int]:
        checkPositive("virNodeGetCellsFreeMemory", "maxCells", maxcells)
        if not 0 <= startCell < len(_CELLS):
            raise invalidArgument("Range exceeds available cells")
        return [memory for memory, _ in _CELLS[startCell : startCell + maxcells]]


def _capabilities() -> str:
    host = element("host")
    cpu = child(host, "cpu")
    child(cpu, "arch", ARCHITECTURE)
    features = child(cpu, "features")
    child(features, "pae")
    child(features, "nonpae")
    for size in _PAGES:
        child(cpu, "pages", unit="KiB", size=str(size))
    child(host, "power_management")
    child(host, "iommu", support="no")
    cells = child(child(host, "topology"), "cells", num=str(len(_CELLS)))
    for number, (memory, page) in enumerate(_CELLS):
        cell = child(cells, "cell", id=str(number))
        child(cell, "memory", str(memory), unit="KiB")
        for size in (page, *_PAGES[2:]):
            count = memory // size if size == page else 0
            child(cell, "pages", str(count), unit="KiB", size=str(size))
        cores = CPUS // len(_CELLS)
        cpus = child(cell, "cpus", num=str(cores))
        for core in range(cores):
            id = str(number * cores + core)
            child(cpus, "cpu", id=id, socket_id=str(number), die_id="0", core_id=str(core), siblings=id)
    secmodel = child(host, "secmodel")
    child(secmodel, "model", _SECURITY_MODEL)
    child(secmodel, "doi", "")
    parts = [host]
    for osType in ("hvm", "xen"):
        guest = element("guest")
        child(guest, "os_type", osType)
        arch = child(guest, "arch", name=ARCHITECTURE)
        child(arch, "wordsize", "32")
        child(arch, "emulator", "/usr/bin/test-hv")
        child(arch, "domain", type="test")
        features = child(guest, "features")
        child(features, "pae")
        child(features, "nonpae")
        parts.append(guest)
    body = "\n".join("".join(f"  {line}\n" for line in toText(part).splitlines()) for part in parts)
    # An element without content is two tags here, in one line.
    body = re.sub(r"<doi>\s+</doi>", "<doi></doi>", body)
    return f"<capabilities>\n\n{body}\n</capabilities>\n"


_CAPABILITIES = _capabilities()
