"""Objects of a host in memory: what they are, and what their methods give."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import SynchronousTestCase

from virnet.client.stream import ClientStream
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.objects import (
    Domain,
    DomainCheckpoint,
    DomainSnapshot,
    HostInterface,
    Network,
    NetworkPort,
    NodeDevice,
    NWFilter,
    NWFilterBinding,
    Secret,
    StoragePool,
    StorageVol,
)
from virnet.programs import values
from virnet.programs.constants import ConnectListAllDomainsFlags, DomainState
from virnet.testing import MemoryHost

VOLUME = "<volume><name>disk</name><capacity>1048576</capacity></volume>"


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.host = MemoryHost()
        self.addCleanup(self.host.close)
        self.connection = self.host.connect()
        self.run_ = self.host.run
        self.domain: Domain = self.run_(self.connection.domain("test"))
        self.host.recorder.calls.clear()

    def assertCalled(self, *names: str) -> None:
        """These procedures were called since the last time, in this order."""
        self.assertEqual(self.host.recorder.names, list(names))
        self.host.recorder.calls.clear()


class Listing(_Case):
    """Objects of a connection."""

    def test_domains(self) -> None:
        (found,) = self.run_(self.connection.domains())
        self.assertEqual((found.name, type(found)), ("test", Domain))
        inactive = ConnectListAllDomainsFlags.INACTIVE
        self.assertEqual(self.run_(self.connection.domains(inactive)), [])
        self.assertCalled("connectListAllDomains", "connectListAllDomains")

    def test_everything_else(self) -> None:
        connection = self.connection
        (network,) = self.run_(connection.networks())
        (pool,) = self.run_(connection.pools())
        (interface,) = self.run_(connection.interfaces())
        self.assertEqual((network.name, type(network)), ("default", Network))
        self.assertEqual((pool.name, type(pool)), ("default-pool", StoragePool))
        self.assertEqual((interface.name, type(interface)), ("eth1", HostInterface))
        self.assertEqual(self.run_(connection.network("default")), network)
        self.assertEqual(self.run_(connection.pool("default-pool")), pool)
        self.assertEqual(self.run_(connection.interface("eth1")), interface)

    def test_what_is_not_there_is_libvirts_error(self) -> None:
        error = self.assertRaises(RemoteError, self.run_, self.connection.domain("none"))
        self.assertEqual(error.code, ErrorNumber.NO_DOMAIN)

    def test_many_at_once(self) -> None:
        connection = self.connection
        asked: Any = gatherResults([connection.domains(), connection.networks(), connection.hostname()])
        domains, networks, _ = self.run_(asked)
        self.assertEqual((domains, networks[0].name), ([self.domain], "default"))

    def test_a_connection_that_lasts_has_them_too(self) -> None:
        service = self.host.service()
        domain = self.run_(service.domain("test"))
        self.assertEqual(domain, self.domain)
        self.host.disconnect()
        self.assertEqual(self.run_(domain.state()), DomainState.RUNNING)


class Domains(_Case):
    """What a domain can do."""

    def test_its_life(self) -> None:
        domain = self.domain
        self.run_(domain.destroy())
        self.assertEqual(self.run_(domain.state()), DomainState.SHUTOFF)
        self.run_(domain.start())
        self.assertIs(self.run_(domain.isActive()), True)
        self.run_(domain.suspend())
        self.assertIs(self.run_(domain.state()), DomainState.PAUSED)
        self.assertCalled(
            "domainDestroy",
            "domainGetState",
            "domainCreate",
            "domainIsActive",
            "domainSuspend",
            "domainGetState",
        )

    def test_what_it_is(self) -> None:
        domain = self.domain
        self.assertEqual((domain.name, domain.id), ("test", 1))
        self.assertEqual(domain.uuid, UUID(bytes=domain.value.uuid))
        self.assertEqual(repr(domain), "<Domain 'test'>")
        self.assertIn("<name>test</name>", self.run_(domain.xml()))
        self.assertEqual(self.run_(domain.info()).nrVirtCpu, 2)
        self.assertIs(self.run_(domain.getAutostart()), False)

    def test_two_of_the_same_are_equal_whatever_happened_since(self) -> None:
        self.run_(self.domain.destroy())
        again = self.run_(self.host.connect().domain("test"))
        self.assertNotEqual(again.value, self.domain.value)
        self.assertEqual(again, self.domain)
        self.assertEqual(len({again, self.domain}), 1)

    def test_two_of_different_kinds_are_not(self) -> None:
        value = self.domain.value
        network = Network(self.connection, values.Network(value.name, value.uuid))
        self.assertNotEqual(network, self.domain)
        self.assertNotEqual(self.domain, value)

    def test_a_state_that_a_newer_server_has(self) -> None:
        self.host.recorder.answers["domainGetState"] = (77, 0)
        self.assertEqual(self.run_(self.domain.state()), 77)

    def test_defining_gives_an_object(self) -> None:
        xml = self.run_(self.domain.xml()).replace("<name>test<", "<name>two<")
        xml = xml.replace(str(self.domain.uuid), str(UUID(int=5)))
        two = self.run_(self.connection.domainDefineXML(xml))
        self.assertEqual((two.name, two.uuid), ("two", UUID(int=5)))
        self.assertEqual(set(self.run_(self.connection.domains())), {two, self.domain})

    def test_snapshots(self) -> None:
        snapshot = self.run_(self.domain.createSnapshot("<domainsnapshot><name>s</name></domainsnapshot>"))
        self.assertEqual((snapshot.name, snapshot.domain), ("s", self.domain))
        self.assertEqual(self.run_(self.domain.snapshots()), [snapshot])
        self.assertEqual(self.run_(self.domain.snapshot("s")), snapshot)
        self.assertEqual(self.run_(snapshot.children()), [])
        self.assertIs(self.run_(snapshot.isCurrent()), True)
        self.run_(snapshot.revert())
        self.run_(snapshot.delete())
        other = values.DomainSnapshot("s", self.domain.value._replace(uuid=bytes(16)))
        self.assertNotEqual(snapshot, DomainSnapshot(self.connection, other))
        self.assertEqual(len({snapshot}), 1)

    def test_a_console(self) -> None:
        console: Any = self.run_(self.domain.console())
        self.assertIsInstance(console, ClientStream)
        self.run_(console.send(b"hello"))
        heard = b""
        while b"hello" not in heard:
            heard += self.run_(console.receive())
        self.run_(console.finish())

    def test_stats_of_some(self) -> None:
        (record,) = self.run_(self.connection.getAllDomainStats([self.domain], 0))
        self.assertEqual(self.connection.objectOf(record.dom), self.domain)


class Storage(_Case):
    """Pools and volumes."""

    def setUp(self) -> None:
        super().setUp()
        self.pool: StoragePool = self.run_(self.connection.pool("default-pool"))
        self.volume: StorageVol = self.run_(self.pool.createVolume(VOLUME))

    def test_a_volume_of_a_pool(self) -> None:
        self.assertEqual((self.volume.name, self.volume.key), ("disk", "/default-pool/disk"))
        self.assertEqual(self.run_(self.pool.volumes()), [self.volume])
        self.assertEqual(self.run_(self.pool.volume("disk")), self.volume)
        self.assertEqual(self.run_(self.volume.storagePoolLookupByVolume()), self.pool)
        self.assertEqual(self.run_(self.volume.path()), "/default-pool/disk")
        self.assertEqual(self.run_(self.volume.info()).capacity, 1048576)
        self.assertEqual(
            len({self.volume, self.run_(self.connection.storageVolLookupByKey(self.volume.key))}), 1
        )


class Others(SynchronousTestCase):
    """What the hypervisor in memory has none of."""

    def test_a_node_device_goes_by_its_name(self) -> None:
        host = MemoryHost()
        self.addCleanup(host.close)
        connection = host.connect()
        host.recorder.answers.update(
            nodeDeviceLookupByName=values.NodeDevice("pci_0"),
            nodeDeviceGetXMLDesc=lambda name, flags: f"<device>{name}</device>",
        )
        device = host.run(connection.nodeDevice("pci_0"))
        self.assertEqual(type(device), NodeDevice)
        self.assertEqual(host.run(device.xml()), "<device>pci_0</device>")
        self.assertEqual(repr(device), "<NodeDevice 'pci_0'>")

    def test_an_argument_that_is_an_object(self) -> None:
        host = MemoryHost()
        self.addCleanup(host.close)
        pool = host.run(host.connect().pool("default-pool"))
        first = host.run(pool.createVolume(VOLUME))
        host.run(pool.storageVolCreateXMLFrom(VOLUME.replace("disk", "copy"), first))
        self.assertEqual(sorted(each.name for each in host.run(pool.volumes())), ["copy", "disk"])

    def test_what_things_are_called(self) -> None:
        host: Any = None
        uuid = UUID(int=9)
        network = values.Network("net", uuid.bytes)
        domain = values.Domain("dom", uuid.bytes, -1)
        self.assertEqual(Network(host, network).uuid, uuid)
        port = NetworkPort(host, values.NetworkPort(network, uuid.bytes))
        self.assertEqual((port.uuid, port.network.name), (uuid, "net"))
        self.assertEqual(StoragePool(host, values.StoragePool("pool", uuid.bytes)).uuid, uuid)
        self.assertEqual(Secret(host, values.Secret(uuid.bytes, 1, "x")).uuid, uuid)
        nwfilter = NWFilter(host, values.NWFilter("filter", uuid.bytes))
        self.assertEqual((nwfilter.name, nwfilter.uuid), ("filter", uuid))
        checkpoint = DomainCheckpoint(host, values.DomainCheckpoint("c", domain))
        self.assertEqual((checkpoint.name, checkpoint.domain.name), ("c", "dom"))
        self.assertEqual(
            checkpoint, DomainCheckpoint(host, values.DomainCheckpoint("c", domain._replace(id=3)))
        )

    def test_what_has_no_uuid_is_the_same_by_what_names_it(self) -> None:
        host: Any = None
        one = NWFilterBinding(host, values.NWFilterBinding("vnet0", "a"))
        self.assertEqual(one, NWFilterBinding(host, values.NWFilterBinding("vnet0", "b")))
        self.assertEqual(
            HostInterface(host, values.HostInterface("eth0", "aa")),
            HostInterface(host, values.HostInterface("eth0", "bb")),
        )
