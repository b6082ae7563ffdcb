"""The hypervisor in memory: libvirt's C{test:///default} without libvirt.

Rules:

  - What it holds is shared by all connections to it and ends with it; it begins with
    what C{test:///default} begins with.
  - It answers to C{test:///default} and to an empty name; other names are refused as libvirt refuses them.
  - Time, random numbers and the host's name come from outside, so that tests can say what happens.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet.interfaces import IProtocol
from zope.interface import implementer

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import invalidArgument
from virnet.hypervisor.memory.devices import Devices, EchoGuest, NamedDescriptors
from virnet.hypervisor.memory.domain import Domains
from virnet.hypervisor.memory.interface import Interfaces
from virnet.hypervisor.memory.network import Networks
from virnet.hypervisor.memory.node import Node
from virnet.hypervisor.memory.snapshot import Snapshots
from virnet.hypervisor.memory.state import MemoryState
from virnet.hypervisor.memory.stats import DomainStats
from virnet.hypervisor.memory.storage import Storage
from virnet.hypervisor.memory.tuning import Tuning
from virnet.hypervisor.memory.volumeclone import VolumeClones
from virnet.hypervisor.memory.volumedata import VolumeData
from virnet.hypervisor.memory.volumefiles import VolumeFiles
from virnet.hypervisor.memory.xmlvalues import RandomBytes
from virnet.hypervisor.session import IHypervisor
from virnet.programs.values import Domain

URI = "test:///default"

DOMAIN_XML = """\
<domain type='test'>
  <name>test</name>
  <uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
  <memory>8388608</memory>
  <currentMemory>2097152</currentMemory>
  <vcpu>2</vcpu>
  <os>
    <type>hvm</type>
  </os>
  <devices>
    <disk type='file'>
      <source file='/guest/diskimage1'/>
      <target dev='vda' bus='virtio'/>
      <address type='pci' bus='1' slot='0'/>
    </disk>
    <interface type='network'>
      <mac address='aa:bb:cc:dd:ee:ff'/>
      <source network='default'/>
      <address type='pci' bus='0' slot='1'/>
    </interface>
    <memballoon model='virtio'>
      <address type='pci' bus='0' slot='2'/>
    </memballoon>
  </devices>
</domain>
"""
NETWORK_XML = """\
<network>
  <name>default</name>
  <uuid>dd8fe884-6c02-601e-7551-cca97df1c5df</uuid>
  <bridge name='virbr0'/>
  <forward/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.122.2' end='192.168.122.254'/>
    </dhcp>
  </ip>
</network>
"""
POOL_XML = """\
<pool type='dir'>
  <name>default-pool</name>
  <uuid>dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566</uuid>
  <target>
    <path>/default-pool</path>
  </target>
</pool>
"""
INTERFACE_XML = """\
<interface type='ethernet' name='eth1'>
  <start mode='onboot'/>
  <mac address='aa:bb:cc:dd:ee:ff'/>
  <mtu size='1492'/>
  <protocol family='ipv4'>
    <ip address='192.168.0.5' prefix='24'/>
    <route gateway='192.168.0.1'/>
  </protocol>
</interface>
"""


@implementer(IHypervisor)
class MemoryHypervisor:
    """A simulated hypervisor.

    @ivar state: all it holds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        randomBytes: RandomBytes = os.urandom,
        hostname: Callable[[], str] = socket.gethostname,
        stateDirectory: str | None = None,
        console: Callable[[Domain], IProtocol] = EchoGuest,
        reactor: Any = None,
    ) -> None:
        """@param clock: seconds since the epoch.
        @param randomBytes: gives as many bytes as asked for; uuids and MAC addresses are made of them.
        @param hostname: the host's name.
        @param stateDirectory: where the contents of volumes are kept; without it in a temporary directory
            that goes with the hypervisor. What an earlier one left there is not found again.
        @param console: makes what answers on a domain's console or channel.
        @param reactor: volumes are copied in its threads; without it everything waits for a copy.
        """
        self.state = state = MemoryState(clock, randomBytes, hostname, VolumeFiles(stateDirectory))
        self._families = (
            Domains(state),
            Tuning(state),
            Snapshots(state),
            DomainStats(state),
            Networks(state),
            Storage(state),
            Interfaces(state),
            VolumeData(state),
            VolumeClones(state, reactor),
            Devices(state, console),
            state.events,
        )
        self._begin()

    def _begin(self) -> None:
        """Have what C{test:///default} has: one of each, all of them running."""
        domains, _, _, _, networks, storage, interfaces, *_ = self._families
        domains.domainCreate(domains.domainDefineXML(DOMAIN_XML))
        # The one difference between a domain that was started and the one libvirt starts with.
        for domain in self.state.domains:
            domain.reason = 0
        networks.networkCreate(networks.networkDefineXML(NETWORK_XML))
        storage.storagePoolCreate(storage.storagePoolDefineXML(POOL_XML, 0), 0)
        interfaces.interfaceCreate(interfaces.interfaceDefineXML(INTERFACE_XML, 0), 0)

    def open(self, name: str, readonly: bool, client: Any) -> tuple[object, ...]:
        """Begin a connection; parameters as L{IHypervisor} says."""
        node = Node(self.state, canonicalURI(name))
        return (node, NamedDescriptors(self.state, client), *self._families)


def canonicalURI(name: str) -> str:
    """The URI of the hypervisor in memory.

    @param name: the URI a client asks for; empty if it leaves the choice to the server.
    @raise RemoteError: it is the URI of something else.
    """
    if not name:
        return URI
    try:
        parts = urlsplit(name)
    except ValueError:
        raise _unparsable(name) from None
    if name != name.strip() or " " in name or "%" in name and unquote(name) == name:
        raise _unparsable(name)
    if not parts.scheme:
        raise _noDriver(f"URI '{name}' does not include a driver name")
    if not name.startswith("test:") or parts.netloc:
        raise _noDriver(name)
    path = unquote(parts.path)
    if path in ("", "/"):
        raise invalidArgument(f"testOpen: supply a path or use {URI}")
    if path != "/default":
        raise invalidArgument(f"testOpen: only {URI} is here, not {name}")
    query = f"?{parts.query}" if parts.query else ""
    return URI + query + (f"#{parts.fragment}" if parts.fragment else "")


def _unparsable(name: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.INTERNAL_ERROR, f"Unable to parse URI {name}", ErrorDomain.URI)


def _noDriver(detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.NO_CONNECT, detail, ErrorDomain.NONE)
