"""The kinds of objects. Most of their methods are procedures and generated; here is what is not.

What an object is called like, C{virnet.objects.Domain}, is also the name of its value on the wire, in
L{virnet.programs.values}; C{object.value} is that.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, overload
from uuid import UUID

from twisted.internet.defer import Deferred

from virnet.limits import EVENTS_WAITING
from virnet.objects import _methods
from virnet.objects.events import Events, eventsOf
from virnet.programs import values

if TYPE_CHECKING:
    from virnet.programs.constants import (
        DomainEventID,
        DomainState,
        NetworkEventID,
        NodeDeviceEventID,
        SecretEventID,
        StoragePoolEventID,
    )


class Host(_methods.HostMethods):
    """A hypervisor connection, as far as it has objects (C: C{virConnect})."""

    @overload
    def events(self, *kinds: DomainEventID, limit: int = EVENTS_WAITING) -> Events[Domain]: ...
    @overload
    def events(
        self, kind: NetworkEventID, /, *kinds: NetworkEventID, limit: int = EVENTS_WAITING
    ) -> Events[Network]: ...
    @overload
    def events(
        self, kind: StoragePoolEventID, /, *kinds: StoragePoolEventID, limit: int = EVENTS_WAITING
    ) -> Events[StoragePool]: ...
    @overload
    def events(
        self, kind: NodeDeviceEventID, /, *kinds: NodeDeviceEventID, limit: int = EVENTS_WAITING
    ) -> Events[NodeDevice]: ...
    @overload
    def events(
        self, kind: SecretEventID, /, *kinds: SecretEventID, limit: int = EVENTS_WAITING
    ) -> Events[Secret]: ...
    @overload
    def events(self, *kinds: IntEnum, limit: int = EVENTS_WAITING) -> Events[Any]: ...
    def events(self, *kinds: IntEnum, limit: int = EVENTS_WAITING) -> Events[Any]:
        """Iterate over events of everything there is (C: C{virConnectDomainEventRegisterAny} and its like).

        @param kinds: which, like C{DomainEventID.LIFECYCLE, NetworkEventID.LIFECYCLE}; unless any are given,
            life cycles of domains.
        @param limit: how many may wait for the loop.
        """
        if not kinds:
            from virnet.programs.constants import DomainEventID

            kinds = (DomainEventID.LIFECYCLE,)
        return eventsOf(self, kinds, None, limit)


class Domain(_methods.DomainMethods, value=values.Domain):
    """A virtual machine (C: C{virDomain})."""

    @property
    def name(self) -> str:
        """Its name when this was got."""
        return self.value.name

    @property
    def uuid(self) -> UUID:
        """What stays the same of it."""
        return UUID(bytes=self.value.uuid)

    @property
    def id(self) -> int:
        """Its number while it runs, -1 while not; as it was when this was got."""
        return self.value.id

    def state(self, flags: int = 0) -> Deferred[DomainState | int]:
        """C: C{virDomainGetState}; its state without the reason for it. A number where a newer server has one
        more.
        """
        return self.getState(flags).addCallback(_stateOf)

    def events(self, *kinds: DomainEventID, limit: int = EVENTS_WAITING) -> Events[Domain]:
        """Iterate over its events (C: C{virConnectDomainEventRegisterAny}).

        @param kinds: of C{DomainEventID}; unless any are given, its life cycle.
        @param limit: how many may wait for the loop.
        """
        if not kinds:
            from virnet.programs.constants import DomainEventID

            kinds = (DomainEventID.LIFECYCLE,)
        return eventsOf(self.host, kinds, self, limit)


def _stateOf(answer: values.DomainGetStateRet) -> DomainState | int:
    from virnet.programs.constants import DomainState

    try:
        return DomainState(answer.state)
    except ValueError:
        return answer.state


class DomainSnapshot(_methods.DomainSnapshotMethods, value=values.DomainSnapshot):
    """A snapshot of a domain (C: C{virDomainSnapshot})."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.value.name

    @property
    def domain(self) -> Domain:
        """What it is a snapshot of."""
        return Domain(self.host, self.value.dom)

    @property
    def identity(self) -> Any:
        """Its name, and the domain's uuid."""
        return self.value.name, self.value.dom.uuid


class DomainCheckpoint(_methods.DomainCheckpointMethods, value=values.DomainCheckpoint):
    """A checkpoint of a domain (C: C{virDomainCheckpoint})."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.value.name

    @property
    def domain(self) -> Domain:
        """What it is a checkpoint of."""
        return Domain(self.host, self.value.dom)

    @property
    def identity(self) -> Any:
        """Its name, and the domain's uuid."""
        return self.value.name, self.value.dom.uuid


class Network(_methods.NetworkMethods, value=values.Network):
    """A virtual network (C: C{virNetwork})."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.value.name

    @property
    def uuid(self) -> UUID:
        """What stays the same of it."""
        return UUID(bytes=self.value.uuid)

    def events(self, *kinds: NetworkEventID, limit: int = EVENTS_WAITING) -> Events[Network]:
        """Iterate over its events (C: C{virConnectNetworkEventRegisterAny}).

        @param kinds: of C{NetworkEventID}; unless any are given, its life cycle.
        @param limit: how many may wait for the loop.
        """
        if not kinds:
            from virnet.programs.constants import NetworkEventID

            kinds = (NetworkEventID.LIFECYCLE,)
        return eventsOf(self.host, kinds, self, limit)


class NetworkPort(_methods.NetworkPortMethods, value=values.NetworkPort):
    """A port of a virtual network (C: C{virNetworkPort})."""

    @property
    def uuid(self) -> UUID:
        """What stays the same of it."""
        return UUID(bytes=self.value.uuid)

    @property
    def network(self) -> Network:
        """What it is a port of."""
        return Network(self.host, self.value.net)


class StoragePool(_methods.StoragePoolMethods, value=values.StoragePool):
    """A pool of volumes (C: C{virStoragePool})."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.value.name

    @property
    def uuid(self) -> UUID:
        """What stays the same of it."""
        return UUID(bytes=self.value.uuid)

    def events(self, *kinds: StoragePoolEventID, limit: int = EVENTS_WAITING) -> Events[StoragePool]:
        """Iterate over its events (C: C{virConnectStoragePoolEventRegisterAny}).

        @param kinds: of C{StoragePoolEventID}; unless any are given, its life cycle.
        @param limit: how many may wait for the loop.
        """
        if not kinds:
            from virnet.programs.constants import StoragePoolEventID

            kinds = (StoragePoolEventID.LIFECYCLE,)
        return eventsOf(self.host, kinds, self, limit)


class StorageVol(_methods.StorageVolMethods, value=values.StorageVol):
    """A volume (C: C{virStorageVol})."""

    @property
    def name(self) -> str:
        """Its name in its pool."""
        return self.value.name

    @property
    def key(self) -> str:
        """What names it on its host."""
        return self.value.key

    @property
    def identity(self) -> Any:
        """Its key."""
        return self.value.key

    def upload(
        self,
        source: Any,
        *,
        offset: int = 0,
        size: int | None = None,
        sparse: bool = False,
        checksum: str | None = None,
        progress: Callable[[Any], object] | None = None,
        **options: Any,
    ) -> Deferred[Any]:
        """Fill it (C: C{virStorageVolUpload}), see L{virnet.client.transfer.uploading.upload}.

        @param source: a path, a file, anything with C{read}, bytes or an iterable of them, or a URL.
        @param offset: where in the volume to begin, in bytes.
        @param size: bytes the source must have.
        @param sparse: send holes as holes; for new volumes only.
        @param checksum: C{NAME} or C{NAME:HEX}.
        @param progress: called with a L{virnet.client.transfer.progress.Progress} for every piece.
        @return: what it came to, a L{virnet.client.transfer.progress.Transferred}.
        """
        return self.host.uploadVolume(
            self.value,
            source,
            offset=offset,
            size=size,
            sparse=sparse,
            checksum=checksum,
            progress=progress,
            **options,
        )

    def download(
        self,
        target: Any,
        *,
        offset: int = 0,
        length: int = 0,
        sparse: bool = False,
        checksum: str | None = None,
        progress: Callable[[Any], object] | None = None,
    ) -> Deferred[Any]:
        """Copy it (C: C{virStorageVolDownload}), see L{virnet.client.transfer.downloading.download}.

        @param target: a path, a file, or anything with C{write}.
        @param offset: where in the volume to begin, in bytes.
        @param length: bytes at the most; 0 for all.
        @param sparse: have holes sent, and make them holes of the file.
        @param checksum: C{NAME} or C{NAME:HEX}.
        @param progress: called with a L{virnet.client.transfer.progress.Progress} for every piece.
        @return: what it came to, a L{virnet.client.transfer.progress.Transferred}.
        """
        return self.host.downloadVolume(
            self.value,
            target,
            offset=offset,
            length=length,
            sparse=sparse,
            checksum=checksum,
            progress=progress,
        )


class HostInterface(_methods.HostInterfaceMethods, value=values.HostInterface):
    """A network interface of the host (C: C{virInterface})."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.value.name

    @property
    def identity(self) -> Any:
        """Its name."""
        return self.value.name


class NodeDevice(_methods.NodeDeviceMethods, value=values.NodeDevice):
    """A device of the host (C: C{virNodeDevice})."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.value.name

    def events(self, *kinds: NodeDeviceEventID, limit: int = EVENTS_WAITING) -> Events[NodeDevice]:
        """Iterate over its events (C: C{virConnectNodeDeviceEventRegisterAny}).

        @param kinds: of C{NodeDeviceEventID}; unless any are given, its life cycle.
        @param limit: how many may wait for the loop.
        """
        if not kinds:
            from virnet.programs.constants import NodeDeviceEventID

            kinds = (NodeDeviceEventID.LIFECYCLE,)
        return eventsOf(self.host, kinds, self, limit)


class Secret(_methods.SecretMethods, value=values.Secret):
    """A secret (C: C{virSecret})."""

    @property
    def uuid(self) -> UUID:
        """What stays the same of it."""
        return UUID(bytes=self.value.uuid)

    def events(self, *kinds: SecretEventID, limit: int = EVENTS_WAITING) -> Events[Secret]:
        """Iterate over its events (C: C{virConnectSecretEventRegisterAny}).

        @param kinds: of C{SecretEventID}; unless any are given, its life cycle.
        @param limit: how many may wait for the loop.
        """
        if not kinds:
            from virnet.programs.constants import SecretEventID

            kinds = (SecretEventID.LIFECYCLE,)
        return eventsOf(self.host, kinds, self, limit)


class NWFilter(_methods.NWFilterMethods, value=values.NWFilter):
    """A filter of network traffic (C: C{virNWFilter})."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.value.name

    @property
    def uuid(self) -> UUID:
        """What stays the same of it."""
        return UUID(bytes=self.value.uuid)


class NWFilterBinding(_methods.NWFilterBindingMethods, value=values.NWFilterBinding):
    """A filter at a port (C: C{virNWFilterBinding})."""

    @property
    def identity(self) -> Any:
        """The port."""
        return self.value.portdev
