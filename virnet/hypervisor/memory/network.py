"""Virtual networks: finding, listing, defining, starting and stopping them.

Rules:

  - Every change is told as a lifecycle event; as in the test driver, so is stopping what is stopped.
  - A definition never replaces that of another network; a transient network is gone when it stops.
"""

from __future__ import annotations

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import checkFlags, internalError, invalidOperation
from virnet.hypervisor.memory.networkxml import parseNetwork
from virnet.hypervisor.memory.state import MemoryNetwork, MemoryState
from virnet.hypervisor.memory.xmlvalues import formatUUID
from virnet.hypervisor.registrations import EventFamily
from virnet.programs import INetwork, partialImplementer
from virnet.programs.constants import (
    ConnectListAllNetworksFlags,
    NetworkDefineFlags,
    NetworkEventID,
    NetworkEventLifecycleType,
)
from virnet.programs.values import ConnectListAllNetworksRet, Network


def _matches(network: MemoryNetwork, flags: int) -> bool:
    f = ConnectListAllNetworksFlags
    groups = (
        ((f.ACTIVE, network.active), (f.INACTIVE, not network.active)),
        ((f.PERSISTENT, network.persistent), (f.TRANSIENT, not network.persistent)),
        ((f.AUTOSTART, network.autostart), (f.NO_AUTOSTART, not network.autostart)),
    )
    for group in groups:
        asked = [fits for flag, fits in group if flags & flag]
        if asked and not any(asked):
            return False
    return True


@partialImplementer(INetwork)
class Networks:
    """Provides virtual networks."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def _named(self, name: str) -> MemoryNetwork:
        found = self._state.networks.byName(name)
        if found is None:
            raise _notFound(f"name '{name}'")
        return found

    def _withUUID(self, uuid: bytes) -> MemoryNetwork:
        found = self._state.networks.byUUID(uuid)
        if found is None:
            raise _notFound(f"uuid '{formatUUID(uuid)}'")
        return found

    def _tell(self, network: MemoryNetwork, event: NetworkEventLifecycleType) -> None:
        self._state.events.emit(
            EventFamily.NETWORK, NetworkEventID.LIFECYCLE, network.reference, int(event), 0
        )  # fmt: skip

    # Listing and finding

    def connectListAllNetworks(self, need_results: int, flags: int) -> ConnectListAllNetworksRet:
        checkFlags("testConnectListAllNetworks", flags, sum(ConnectListAllNetworksFlags))
        found = [network.reference for network in self._state.networks if _matches(network, flags)]
        return ConnectListAllNetworksRet(found if need_results else [], len(found))

    def connectListNetworks(self, maxnames: int) -> list[str]:
        return [network.name for network in self._state.networks if network.active][:maxnames]

    def connectNumOfNetworks(self) -> int:
        return sum(network.active for network in self._state.networks)

    def connectListDefinedNetworks(self, maxnames: int) -> list[str]:
        return [network.name for network in self._state.networks if not network.active][:maxnames]

    def connectNumOfDefinedNetworks(self) -> int:
        return sum(not network.active for network in self._state.networks)

    def networkLookupByName(self, name: str) -> Network:
        return self._named(name).reference

    def networkLookupByUUID(self, uuid: bytes) -> Network:
        return self._withUUID(uuid).reference

    # Defining

    def networkDefineXML(self, xml: str) -> Network:
        return self.networkDefineXMLFlags(xml, 0)

    def networkDefineXMLFlags(self, xml: str, flags: int) -> Network:
        checkFlags("testNetworkDefineXMLFlags", flags, NetworkDefineFlags.VALIDATE)
        network = self._define(xml, True)
        network.persistent = True
        self._tell(network, NetworkEventLifecycleType.DEFINED)
        return network.reference

    def networkCreateXML(self, xml: str) -> Network:
        return self.networkCreateXMLFlags(xml, 0)

    def networkCreateXMLFlags(self, xml: str, flags: int) -> Network:
        checkFlags("testNetworkCreateXMLFlags", flags)
        network = self._define(xml, False)
        network.active = True
        self._tell(network, NetworkEventLifecycleType.STARTED)
        return network.reference

    def _define(self, xml: str, persistent: bool) -> MemoryNetwork:
        definition = parseNetwork(xml, self._state.randomBytes)
        network = self._state.networks.same(definition)
        if network is None:
            network = MemoryNetwork(definition, persistent)
            self._state.networks.add(network)
        elif network.active and not persistent:
            raise invalidOperation(
                f"network is already active as '{network.name}'", ErrorDomain.NETWORK
            )  # fmt: skip
        network.definition = definition
        return network

    def networkUndefine(self, net: Network) -> None:
        network = self._named(net.name)
        if network.active:
            raise invalidOperation(f"Network '{network.name}' is still running")
        self._state.networks.remove(network)
        self._tell(network, NetworkEventLifecycleType.UNDEFINED)

    # Running

    def networkCreate(self, net: Network) -> None:
        network = self._named(net.name)
        if network.active:
            raise invalidOperation(f"Network '{network.name}' is already running")
        network.active = True
        self._tell(network, NetworkEventLifecycleType.STARTED)

    def networkDestroy(self, net: Network) -> None:
        network = self._named(net.name)
        network.active = False
        self._tell(network, NetworkEventLifecycleType.STOPPED)
        if not network.persistent:
            self._state.networks.remove(network)

    # Asking

    def networkGetXMLDesc(self, net: Network, flags: int) -> str:
        checkFlags("testNetworkGetXMLDesc", flags)
        return self._named(net.name).definition.toXML()

    def networkGetBridgeName(self, net: Network) -> str:
        network = self._named(net.name)
        if network.definition.bridge is None:
            raise internalError(f"network '{network.name}' does not have a bridge name.")
        return network.definition.bridge

    def networkGetAutostart(self, net: Network) -> int:
        return int(self._named(net.name).autostart)

    def networkSetAutostart(self, net: Network, autostart: int) -> None:
        self._named(net.name).autostart = bool(autostart)

    def networkIsActive(self, net: Network) -> int:
        return int(self._withUUID(net.uuid).active)

    def networkIsPersistent(self, net: Network) -> int:
        return int(self._withUUID(net.uuid).persistent)


def _notFound(which: str) -> RemoteError:
    return RemoteError.of(
        ErrorNumber.NO_NETWORK, f"no network with matching {which}", ErrorDomain.TEST
    )  # fmt: skip
