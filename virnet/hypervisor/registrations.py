"""The events a connection asked for, in the three generations of asking (``wire.md`` section 13).

Rules:

  - An event goes out once for each registration that wants it, as that one's kind of message.
  - The same (event, object) cannot be registered twice on a connection, in whatever style; one for all
    objects and ones for single objects stand beside each other.
  - The older styles have no id: they deregister what is registered for all objects, in whatever style it is.
  - callbackIDs count from 0 in each connection; none is used again.
  - What the hypervisor says after a deregistration is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from zope.interface import Interface, implementer

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.programs import REMOTE, IEventRegistration
from virnet.programs.constants import (
    DomainEventID,
    NetworkEventID,
    NodeDeviceEventID,
    SecretEventID,
    StoragePoolEventID,
)
from virnet.programs.values import Domain, Network, NodeDevice, Secret, StoragePool

Subject = Domain | Network | StoragePool | NodeDevice | Secret
Cancel = Callable[[], object]


class EventFamily(Enum):
    """What events are about; the value is how errors call it."""

    DOMAIN = "domain"
    NETWORK = "network"
    STORAGE_POOL = "storage pool"
    NODE_DEVICE = "node device"
    SECRET = "secret"


class IEventSource(Interface):
    """What a hypervisor provides so that its events can be registered for."""

    def subscribe(
        family: EventFamily, eventID: int, subject: Subject | None, deliver: Callable[..., object]
    ) -> Cancel | Deferred[Cancel]:
        """Ask for events.

        @param eventID: of the family's enum, like L{DomainEventID}.
        @param subject: the only object whose events are wanted; C{None} for those of all.
        @param deliver: called for each event with the fields of its message, without the callbackID.
        @return: ends the subscription when called.
        @raise RemoteError: the hypervisor has no such events.
        """


class _Message(NamedTuple):
    """How an event is sent.

    @ivar callback: the event method that carries a callbackID.
    @ivar legacy: the one that does not; C{None} if there never was one.
    """

    callback: str
    legacy: str | None = None


def _both(name: str) -> _Message:
    return _Message(f"domainEventCallback{name}", f"domainEvent{name}")


MESSAGES: dict[EventFamily, dict[int, _Message]] = {
    EventFamily.DOMAIN: {
        DomainEventID.LIFECYCLE: _both("Lifecycle"),
        DomainEventID.REBOOT: _both("Reboot"),
        DomainEventID.RTC_CHANGE: _both("RTCChange"),
        DomainEventID.WATCHDOG: _both("Watchdog"),
        DomainEventID.IO_ERROR: _both("IOError"),
        DomainEventID.GRAPHICS: _both("Graphics"),
        DomainEventID.IO_ERROR_REASON: _both("IOErrorReason"),
        DomainEventID.CONTROL_ERROR: _both("ControlError"),
        DomainEventID.BLOCK_JOB: _both("BlockJob"),
        DomainEventID.DISK_CHANGE: _both("DiskChange"),
        DomainEventID.TRAY_CHANGE: _both("TrayChange"),
        DomainEventID.PMWAKEUP: _both("PMWakeup"),
        DomainEventID.PMSUSPEND: _both("PMSuspend"),
        DomainEventID.BALLOON_CHANGE: _both("BalloonChange"),
        DomainEventID.PMSUSPEND_DISK: _both("PMSuspendDisk"),
        DomainEventID.DEVICE_REMOVED: _both("DeviceRemoved"),
        DomainEventID.BLOCK_JOB_2: _Message("domainEventBlockJob2"),
        DomainEventID.TUNABLE: _Message("domainEventCallbackTunable"),
        DomainEventID.AGENT_LIFECYCLE: _Message("domainEventCallbackAgentLifecycle"),
        DomainEventID.DEVICE_ADDED: _Message("domainEventCallbackDeviceAdded"),
        DomainEventID.MIGRATION_ITERATION: _Message("domainEventCallbackMigrationIteration"),
        DomainEventID.JOB_COMPLETED: _Message("domainEventCallbackJobCompleted"),
        DomainEventID.DEVICE_REMOVAL_FAILED: _Message("domainEventCallbackDeviceRemovalFailed"),
        DomainEventID.METADATA_CHANGE: _Message("domainEventCallbackMetadataChange"),
        DomainEventID.BLOCK_THRESHOLD: _Message("domainEventBlockThreshold"),
        DomainEventID.MEMORY_FAILURE: _Message("domainEventMemoryFailure"),
        DomainEventID.MEMORY_DEVICE_SIZE_CHANGE: _Message("domainEventMemoryDeviceSizeChange"),
        DomainEventID.NIC_MAC_CHANGE: _Message("domainEventNICMACChange"),
        DomainEventID.VCPU_REMOVED: _Message("domainEventVcpuRemoved"),
        DomainEventID.CHANNEL_LIFECYCLE: _Message("domainEventCallbackChannelLifecycle"),
    },
    EventFamily.NETWORK: {
        NetworkEventID.LIFECYCLE: _Message("networkEventLifecycle"),
        NetworkEventID.METADATA_CHANGE: _Message("networkEventCallbackMetadataChange"),
    },
    EventFamily.STORAGE_POOL: {
        StoragePoolEventID.LIFECYCLE: _Message("storagePoolEventLifecycle"),
        StoragePoolEventID.REFRESH: _Message("storagePoolEventRefresh"),
    },
    EventFamily.NODE_DEVICE: {
        NodeDeviceEventID.LIFECYCLE: _Message("nodeDeviceEventLifecycle"),
        NodeDeviceEventID.UPDATE: _Message("nodeDeviceEventUpdate"),
    },
    EventFamily.SECRET: {
        SecretEventID.LIFECYCLE: _Message("secretEventLifecycle"),
        SecretEventID.VALUE_CHANGED: _Message("secretEventValueChanged"),
    },
}
"""Every event that can be registered for."""


class _Registration:
    """One registration.

    @ivar key: what it wants: family, event, and the object by uuid or name, C{None} for all.
    @ivar cancel: ends the hypervisor's side of it, once that began.
    @ivar ended: nothing may be sent any more.
    """

    def __init__(self, key: tuple[EventFamily, int, bytes | str | None]) -> None:
        self.key = key
        self.cancel: Cancel | None = None
        self.ended = False

    def end(self) -> None:
        self.ended = True
        cancel, self.cancel = self.cancel, None
        if cancel is not None:
            cancel()

    def started(self, cancel: Cancel) -> None:
        self.cancel = cancel
        if self.ended:
            self.end()


@implementer(IEventRegistration)
class Registrations:
    """All registrations of one connection; provides the procedures that make and end them."""

    def __init__(self, events: Any, source: Any) -> None:
        """@param events: provider of C{IRemoteEvents} that sends to the client.
        @param source: provider of L{IEventSource}.
        """
        self._events = events
        self._source = source
        self._byID: dict[int, _Registration] = {}
        self._following = 0

    def close(self) -> None:
        """End all registrations."""
        registrations, self._byID = self._byID, {}
        for registration in registrations.values():
            registration.end()

    # The oldest style: lifecycle of all domains

    def connectDomainEventRegister(self) -> Deferred[int]:
        registered = self._register(EventFamily.DOMAIN, DomainEventID.LIFECYCLE, None, legacy=True)
        return registered.addCallback(_zero)

    def connectDomainEventDeregister(self) -> Deferred[int]:
        self._deregisterEvent(DomainEventID.LIFECYCLE)
        return succeed(0)

    # The second: each event of all domains

    def connectDomainEventRegisterAny(self, eventID: int) -> Deferred[None]:
        return self._register(EventFamily.DOMAIN, eventID, None, legacy=True).addCallback(_none)

    def connectDomainEventDeregisterAny(self, eventID: int) -> Deferred[None]:
        return self._deregisterEvent(eventID)

    # With an id

    def connectDomainEventCallbackRegisterAny(self, eventID: int, dom: Domain | None) -> Deferred[int]:
        return self._register(EventFamily.DOMAIN, eventID, dom)

    def connectDomainEventCallbackDeregisterAny(self, callbackID: int) -> Deferred[None]:
        return self._deregister(EventFamily.DOMAIN, callbackID)

    def connectNetworkEventRegisterAny(self, eventID: int, net: Network | None) -> Deferred[int]:
        return self._register(EventFamily.NETWORK, eventID, net)

    def connectNetworkEventDeregisterAny(self, callbackID: int) -> Deferred[None]:
        return self._deregister(EventFamily.NETWORK, callbackID)

    def connectStoragePoolEventRegisterAny(self, eventID: int, pool: StoragePool | None) -> Deferred[int]:
        return self._register(EventFamily.STORAGE_POOL, eventID, pool)

    def connectStoragePoolEventDeregisterAny(self, callbackID: int) -> Deferred[None]:
        return self._deregister(EventFamily.STORAGE_POOL, callbackID)

    def connectNodeDeviceEventRegisterAny(self, eventID: int, dev: NodeDevice | None) -> Deferred[int]:
        return self._register(EventFamily.NODE_DEVICE, eventID, dev)

    def connectNodeDeviceEventDeregisterAny(self, callbackID: int) -> Deferred[None]:
        return self._deregister(EventFamily.NODE_DEVICE, callbackID)

    def connectSecretEventRegisterAny(self, eventID: int, secret: Secret | None) -> Deferred[int]:
        return self._register(EventFamily.SECRET, eventID, secret)

    def connectSecretEventDeregisterAny(self, callbackID: int) -> Deferred[None]:
        return self._deregister(EventFamily.SECRET, callbackID)

    def _register(
        self, family: EventFamily, eventID: int, subject: Subject | None, legacy: bool = False
    ) -> Deferred[int]:
        message = MESSAGES[family].get(eventID)
        if message is None or (legacy and message.legacy is None):
            raise _unsupported(family, eventID)
        key = (family, eventID, getattr(subject, "uuid", getattr(subject, "name", None)))
        if any(registration.key == key for registration in self._byID.values()):
            raise RemoteError.of(ErrorNumber.INVALID_ARG, "event callback already tracked", ErrorDomain.NONE)
        registration = _Registration(key)
        callbackID, self._following = self._following, self._following + 1
        self._byID[callbackID] = registration
        send = self._sender(message, None if legacy else callbackID)

        def deliver(*fields: Any) -> None:
            if not registration.ended:
                send(fields)

        def started(cancel: Cancel) -> int:
            registration.started(cancel)
            return callbackID

        def refused(failure: Any) -> Any:
            self._byID.pop(callbackID, None)
            return failure

        subscribed: Deferred[Cancel] = maybeDeferred(
            self._source.subscribe, family, eventID, subject, deliver
        )
        return subscribed.addCallbacks(started, refused)

    def _sender(self, message: _Message, callbackID: int | None) -> Callable[[tuple[Any, ...]], None]:
        """Find out how to make an event's message of its fields."""
        if callbackID is None:
            assert message.legacy is not None
            legacy = getattr(self._events, message.legacy)
            return lambda fields: legacy(*fields)
        send = partial(getattr(self._events, message.callback), callbackID)
        parameters = REMOTE.eventsByName[message.callback].parameters
        if parameters == ("callbackID", "msg"):
            return send
        if parameters == ("callbackID", "reason", "msg"):
            # The reason of a power management event; the legacy message never had one.
            return lambda fields: send(0, fields)
        return lambda fields: send(*fields)

    def _deregisterEvent(self, eventID: int) -> Deferred[None]:
        message = MESSAGES[EventFamily.DOMAIN].get(eventID)
        if message is None or message.legacy is None:
            raise _unsupported(EventFamily.DOMAIN, eventID)
        key = (EventFamily.DOMAIN, eventID, None)
        for callbackID, registration in self._byID.items():
            if registration.key == key:
                del self._byID[callbackID]
                registration.end()
                return succeed(None)
        raise _internal(f"domain event {eventID} not registered")

    def _deregister(self, family: EventFamily, callbackID: int) -> Deferred[None]:
        registration = self._byID.get(callbackID)
        if registration is None or registration.key[0] is not family:
            raise _internal(f"{family.value} event callback {callbackID} not registered")
        del self._byID[callbackID]
        registration.end()
        return succeed(None)


def _zero(ignored: object) -> int:
    """What the oldest style returns: whether a callback was registered before, which it never says."""
    return 0


def _none(ignored: object) -> None:
    return None


def _internal(detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.INTERNAL_ERROR, detail, ErrorDomain.RPC)


def _unsupported(family: EventFamily, eventID: int) -> RemoteError:
    of = "" if family is EventFamily.DOMAIN else f"{family.value} "
    return _internal(f"unsupported {of}event ID {eventID}")
