"""The host's interfaces: finding, listing, defining, starting and stopping them.

Changes can be tried out: from begin on they are undone by a rollback and kept by a commit.
"""

from __future__ import annotations

import copy

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import checkFlags, invalidOperation
from virnet.hypervisor.memory.interfacexml import parseInterface
from virnet.hypervisor.memory.state import MemoryInterface, MemoryState
from virnet.programs import IHostInterface, partialImplementer
from virnet.programs.constants import ConnectListAllInterfacesFlags, InterfaceDefineFlags
from virnet.programs.values import ConnectListAllInterfacesRet, HostInterface


@partialImplementer(IHostInterface)
class Interfaces:
    """Provides the host's interfaces."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def _named(self, name: str) -> MemoryInterface:
        found = self._state.interfaces.get(name)
        if found is None:
            raise _notFound(f"name '{name}'")
        return found

    def _all(self, active: bool) -> list[MemoryInterface]:
        return [each for each in self._state.interfaces.values() if each.active == active]

    # Listing and finding

    def connectListAllInterfaces(self, need_results: int, flags: int) -> ConnectListAllInterfacesRet:
        f = ConnectListAllInterfacesFlags
        checkFlags("testConnectListAllInterfaces", flags, f.ACTIVE | f.INACTIVE)
        wanted = {True, False} if not flags else {True} if flags == f.ACTIVE else {False}
        if flags == f.ACTIVE | f.INACTIVE:
            wanted = {True, False}
        found = [each.reference for each in self._state.interfaces.values() if each.active in wanted]
        return ConnectListAllInterfacesRet(found if need_results else [], len(found))

    def connectListInterfaces(self, maxnames: int) -> list[str]:
        return [each.reference.name for each in self._all(True)][:maxnames]

    def connectNumOfInterfaces(self) -> int:
        return len(self._all(True))

    def connectListDefinedInterfaces(self, maxnames: int) -> list[str]:
        return [each.reference.name for each in self._all(False)][:maxnames]

    def connectNumOfDefinedInterfaces(self) -> int:
        return len(self._all(False))

    def interfaceLookupByName(self, name: str) -> HostInterface:
        return self._named(name).reference

    def interfaceLookupByMACString(self, mac: str) -> HostInterface:
        found = [each for each in self._state.interfaces.values() if each.definition.mac == mac.lower()]
        if not found:
            raise _notFound(f"mac '{mac}'")
        if len(found) > 1:
            raise RemoteError.of(ErrorNumber.MULTIPLE_INTERFACES, None, ErrorDomain.TEST)
        return found[0].reference

    # Changing

    def interfaceDefineXML(self, xml: str, flags: int) -> HostInterface:
        checkFlags("testInterfaceDefineXML", flags, InterfaceDefineFlags.VALIDATE)
        definition = parseInterface(xml)
        known = self._state.interfaces.get(definition.name)
        if known is None:
            known = self._state.interfaces[definition.name] = MemoryInterface(definition)
        known.definition = definition
        return known.reference

    def interfaceUndefine(self, iface: HostInterface) -> None:
        del self._state.interfaces[self._named(iface.name).definition.name]

    def interfaceCreate(self, iface: HostInterface, flags: int) -> None:
        checkFlags("testInterfaceCreate", flags)
        self._setActive(iface, True)

    def interfaceDestroy(self, iface: HostInterface, flags: int) -> None:
        checkFlags("testInterfaceDestroy", flags)
        self._setActive(iface, False)

    def _setActive(self, iface: HostInterface, active: bool) -> None:
        found = self._named(iface.name)
        if found.active == active:
            raise invalidOperation(None)
        found.active = active

    def interfaceChangeBegin(self, flags: int) -> None:
        checkFlags("testInterfaceChangeBegin", flags)
        if self._state.interfacesBefore is not None:
            raise invalidOperation("there is another transaction running.")
        self._state.interfacesBefore = copy.deepcopy(self._state.interfaces)

    def interfaceChangeCommit(self, flags: int) -> None:
        checkFlags("testInterfaceChangeCommit", flags)
        if self._state.interfacesBefore is None:
            raise invalidOperation("no transaction running, nothing to be committed.")
        self._state.interfacesBefore = None

    def interfaceChangeRollback(self, flags: int) -> None:
        checkFlags("testInterfaceChangeRollback", flags)
        if self._state.interfacesBefore is None:
            raise invalidOperation("no transaction running, nothing to rollback.")
        self._state.interfaces, self._state.interfacesBefore = self._state.interfacesBefore, None

    # Asking

    def interfaceGetXMLDesc(self, iface: HostInterface, flags: int) -> str:
        checkFlags("testInterfaceGetXMLDesc", flags)
        return self._named(iface.name).definition.toXML()

    def interfaceIsActive(self, iface: HostInterface) -> int:
        return int(self._named(iface.name).active)


def _notFound(which: str) -> RemoteError:
    return RemoteError.of(
        ErrorNumber.NO_INTERFACE, f"no interface with matching {which}", ErrorDomain.TEST
    )  # fmt: skip
