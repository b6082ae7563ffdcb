"""
The host, its networks, storage and interfaces in memory, and the names the hypervisor answers to.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.hypervisor.sessions import Connection, memory, opened
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.hypervisor import canonicalURI
from virnet.programs.values import HostInterface, Network, StoragePool, StorageVol

NETWORK = Network("default", bytes.fromhex("dd8fe8846c02601e7551cca97df1c5df"))
POOL = StoragePool("default-pool", bytes.fromhex("dfe224cb28fb8dd0c4b264eb3f0f4566"))
ETH1 = HostInterface("eth1", "aa:bb:cc:dd:ee:ff")
GIB = 2**30


class HostTestCase(SynchronousTestCase):
    """
    One connection to a new hypervisor.
    """

    def setUp(self) -> None:
        self.call = opened()

    def assertRefused(self, code: int, domain: int, message: str, call: Any, *args: Any) -> None:
        error = self.assertRaises(RemoteError, call, *args)
        self.assertEqual((error.code, error.domain, error.message), (code, domain, message))

    def assertInvalid(self, detail: str, call: Any, *args: Any) -> None:
        message = f"Requested operation is not valid: {detail}"
        self.assertRefused(ErrorNumber.OPERATION_INVALID, ErrorDomain.TEST, message, call, *args)


class Names(HostTestCase):
    """
    What the hypervisor can be called.
    """

    def test_its_own_name_in_any_form(self) -> None:
        for name, uri in (
            ("", "test:///default"),
            ("test:///default", "test:///default"),
            ("test:/default", "test:///default"),
            ("test:///de%66ault", "test:///default"),
            ("test:///default?x=y", "test:///default?x=y"),
            ("test:///default#part", "test:///default#part"),
        ):
            self.assertEqual(canonicalURI(name), uri)

    def test_names_of_others(self) -> None:
        none = "no connection driver available for "
        path = "invalid argument: testOpen: supply a path or use test:///default"
        for name, code, domain, message in (
            ("foo:///bar", ErrorNumber.NO_CONNECT, ErrorDomain.NONE, none + "foo:///bar"),
            ("qemu:///system", ErrorNumber.NO_CONNECT, ErrorDomain.NONE, none + "qemu:///system"),
            ("TEST:///default", ErrorNumber.NO_CONNECT, ErrorDomain.NONE, none + "TEST:///default"),
            ("test+unix:///default", ErrorNumber.NO_CONNECT, ErrorDomain.NONE, none + "test+unix:///default"),
            (
                "garbage",
                ErrorNumber.NO_CONNECT,
                ErrorDomain.NONE,
                none + "URI 'garbage' does not include a driver name",
            ),
            (
                "///",
                ErrorNumber.NO_CONNECT,
                ErrorDomain.NONE,
                none + "URI '///' does not include a driver name",
            ),
            ("test://", ErrorNumber.INVALID_ARG, ErrorDomain.TEST, path),
            ("test:///", ErrorNumber.INVALID_ARG, ErrorDomain.TEST, path),
            (
                "test:///etc/passwd",
                ErrorNumber.INVALID_ARG,
                ErrorDomain.TEST,
                "invalid argument: testOpen: only test:///default is here, not test:///etc/passwd",
            ),
            ("%", ErrorNumber.INTERNAL_ERROR, ErrorDomain.URI, "internal error: Unable to parse URI %"),
            (
                " test:///default",
                ErrorNumber.INTERNAL_ERROR,
                ErrorDomain.URI,
                "internal error: Unable to parse URI  test:///default",
            ),
            (
                "test://[/x",
                ErrorNumber.INTERNAL_ERROR,
                ErrorDomain.URI,
                "internal error: Unable to parse URI test://[/x",
            ),
        ):
            self.assertRefused(code, domain, message, canonicalURI, name)


class Node(HostTestCase):
    """
    The host and the connection.
    """

    def test_what_a_connection_says(self) -> None:
        call = self.call
        self.assertEqual(call.connectGetType(), "TEST")
        self.assertEqual((call.connectGetVersion(), call.connectGetLibVersion()), (2, 9000000))
        self.assertEqual(
            (call.connectGetHostname(), call.connectGetURI()), ("host.example", "test:///default")
        )
        self.assertEqual((call.connectGetMaxVcpus(None), call.connectGetMaxVcpus("x")), (32, 32))

    def test_what_the_host_is(self) -> None:
        info = self.call.nodeGetInfo()
        self.assertEqual(info.model, b"i686".ljust(32, b"\0"))
        self.assertEqual(tuple(info[1:]), (3145728, 16, 1400, 2, 2, 2, 2))
        self.assertEqual(self.call.nodeGetCPUMap(1, 1, 0), (b"\x15", 3, 8))
        self.assertEqual(self.call.nodeGetCPUMap(0, 0, 0), (b"", 0, 8))
        self.assertEqual(self.call.nodeGetCellsFreeMemory(0, 5), [2097152, 4194304])
        self.assertEqual(self.call.nodeGetCellsFreeMemory(1, 1), [4194304])

    def test_capabilities_are_a_document(self) -> None:
        text = self.call.connectGetCapabilities()
        self.assertTrue(text.startswith("<capabilities>\n\n  <host>\n    <cpu>\n      <arch>i686</arch>\n"))
        self.assertIn("\n  </host>\n\n  <guest>\n    <os_type>hvm</os_type>\n", text)
        self.assertIn("      <doi></doi>\n", text)
        self.assertTrue(text.endswith("\n  </guest>\n\n</capabilities>\n"))


class Networks(HostTestCase):
    """
    Virtual networks.
    """

    XML = "<network><name>lab</name><uuid>" + "07" * 16 + "</uuid></network>"

    def test_a_life(self) -> None:
        call = self.call
        lab = call.networkDefineXML(self.XML)
        self.assertEqual((call.networkIsActive(lab), call.networkIsPersistent(lab)), (0, 1))
        self.assertEqual(call.connectListDefinedNetworks(9), ["lab"])
        call.networkCreate(lab)
        self.assertEqual(call.connectListNetworks(9), ["default", "lab"])
        self.assertInvalid("Network 'lab' is already running", call.networkCreate, lab)
        self.assertInvalid("Network 'lab' is still running", call.networkUndefine, lab)
        call.networkDestroy(lab)
        call.networkUndefine(lab)
        message = "Network not found: no network with matching name 'lab'"
        for method in (call.networkUndefine, call.networkGetBridgeName, call.networkDestroy):
            self.assertRefused(ErrorNumber.NO_NETWORK, ErrorDomain.TEST, message, method, lab)

    def test_a_transient_one_is_gone_when_it_stops(self) -> None:
        lab = self.call.networkCreateXML(self.XML)
        self.assertEqual((self.call.networkIsActive(lab), self.call.networkIsPersistent(lab)), (1, 0))
        message = "Requested operation is not valid: network is already active as 'lab'"
        self.assertRefused(
            ErrorNumber.OPERATION_INVALID, ErrorDomain.NETWORK, message, self.call.networkCreateXML, self.XML
        )
        self.call.networkDestroy(lab)
        self.assertEqual(self.call.connectNumOfNetworks(), 1)

    def test_a_bridge_may_have_no_name(self) -> None:
        lab = self.call.networkDefineXML(self.XML)
        self.assertEqual(self.call.networkGetBridgeName(NETWORK), "virbr0")
        message = "internal error: network 'lab' does not have a bridge name."
        self.assertRefused(
            ErrorNumber.INTERNAL_ERROR, ErrorDomain.TEST, message, self.call.networkGetBridgeName, lab
        )

    def test_lists_go_by_flags(self) -> None:
        self.call.networkDefineXML(self.XML)
        self.call.networkSetAutostart(NETWORK, 1)
        for flags, names in ((0, 2), (1, 1), (2, 1), (3, 2), (8, 0), (16, 1), (32, 1), (1 | 16, 0)):
            self.assertEqual(self.call.connectListAllNetworks(0, flags), ([], names), flags)

    def test_by_uuid(self) -> None:
        self.assertEqual(self.call.networkLookupByUUID(NETWORK.uuid), NETWORK)
        message = "Network not found: no network with matching uuid '00000000-0000-0000-0000-000000000000'"
        self.assertRefused(
            ErrorNumber.NO_NETWORK, ErrorDomain.TEST, message, self.call.networkLookupByUUID, bytes(16)
        )


class Storage(HostTestCase):
    """
    Pools and volumes.
    """

    XML = (
        "<pool type='dir'><name>p</name><uuid>" + "07" * 16 + "</uuid><target><path>/p</path></target></pool>"
    )

    def volume(
        self, name: str, rest: str = "<capacity unit='G'>1</capacity>", pool: StoragePool = POOL
    ) -> StorageVol:
        xml = f"<volume><name>{name}</name>{rest}</volume>"
        made: StorageVol = self.call.storageVolCreateXML(pool, xml, 0)
        return made

    def test_the_life_of_a_pool(self) -> None:
        call = self.call
        pool = call.storagePoolDefineXML(self.XML, 0)
        self.assertEqual(call.storagePoolGetInfo(pool)[0], 0)
        call.storagePoolBuild(pool, 0)
        call.storagePoolCreate(pool, 0)
        self.assertEqual(call.storagePoolGetInfo(pool)[0], 2)
        for method, args in (
            (call.storagePoolCreate, (pool, 0)),
            (call.storagePoolUndefine, (pool,)),
            (call.storagePoolBuild, (pool, 0)),
            (call.storagePoolDelete, (pool, 0)),
        ):
            self.assertInvalid("storage pool 'p' is active", method, *args)
        call.storagePoolDestroy(pool)
        for method, args in (
            (call.storagePoolDestroy, (pool,)),
            (call.storagePoolRefresh, (pool, 0)),
            (call.storagePoolNumOfVolumes, (pool,)),
        ):
            self.assertInvalid("storage pool 'p' is not active", method, *args)
        self.assertInvalid("storage pool is not active", call.storagePoolListAllVolumes, pool, 1, 0)
        call.storagePoolDelete(pool, 0)
        call.storagePoolUndefine(pool)
        message = "Storage pool not found: no storage pool with matching name 'p'"
        self.assertRefused(
            ErrorNumber.NO_STORAGE_POOL, ErrorDomain.TEST, message, call.storagePoolCreate, pool, 0
        )

    def test_a_transient_pool(self) -> None:
        pool = self.call.storagePoolCreateXML(self.XML, 0)
        self.assertEqual(self.call.storagePoolIsPersistent(pool), 0)
        message = "invalid argument: pool has no config file"
        self.assertRefused(
            ErrorNumber.INVALID_ARG, ErrorDomain.TEST, message, self.call.storagePoolSetAutostart, pool, 1
        )
        self.call.storagePoolDestroy(pool)
        self.assertEqual(self.call.connectNumOfStoragePools(), 1)

    def test_no_two_pools_share_a_source(self) -> None:
        message = "operation failed: Storage source conflict with pool: 'default-pool'"
        self.assertRefused(
            ErrorNumber.OPERATION_FAILED,
            ErrorDomain.STORAGE,
            message,
            self.call.storagePoolDefineXML,
            self.XML.replace("/p<", "/default-pool<"),
            0,
        )

    def test_lists_go_by_flags(self) -> None:
        self.call.storagePoolDefineXML(self.XML, 0)
        self.call.storagePoolDefineXML("<pool type='logical'><name>vg</name></pool>", 0)
        for flags, count in ((0, 3), (1, 2), (2, 1), (64, 2), (512, 1), (64 | 512, 3), (1 | 64, 1), (128, 0)):
            self.assertEqual(self.call.connectListAllStoragePools(0, flags), ([], count), flags)

    def test_volumes_take_from_their_pool(self) -> None:
        one = self.volume("one")
        two = self.volume("two", "<capacity unit='G'>5</capacity><allocation unit='G'>2</allocation>")
        self.assertEqual(one, ("default-pool", "one", "/default-pool/one"))
        self.assertEqual(self.call.storageVolGetInfo(two), (0, 5 * GIB, 2 * GIB))
        self.assertEqual(self.call.storagePoolGetInfo(POOL), (2, 100 * GIB, 3 * GIB, 97 * GIB))
        self.assertEqual(self.call.storagePoolListVolumes(POOL, 9), ["one", "two"])
        self.assertEqual(self.call.storagePoolListAllVolumes(POOL, 1, 0), ([one, two], 2))
        self.call.storageVolDelete(one, 0)
        self.assertEqual(self.call.storagePoolGetInfo(POOL).available, 98 * GIB)
        message = "Storage volume not found: no storage vol with matching name 'one'"
        self.assertRefused(
            ErrorNumber.NO_STORAGE_VOL, ErrorDomain.TEST, message, self.call.storageVolDelete, one, 0
        )

    def test_a_pool_that_is_defined_again_keeps_its_volumes(self) -> None:
        self.volume("one")
        self.call.storagePoolDefineXML(self.call.storagePoolGetXMLDesc(POOL, 0), 0)
        self.assertEqual(self.call.storagePoolNumOfVolumes(POOL), 1)
        self.assertEqual(self.call.storagePoolGetInfo(POOL).available, 99 * GIB)

    def test_what_does_not_fit(self) -> None:
        self.volume("all", "<capacity unit='G'>100</capacity>")
        self.volume("none", "<capacity unit='G'>1</capacity><allocation>0</allocation>")
        message = "internal error: Not enough free space in pool for volume 'more'"
        self.assertRefused(
            ErrorNumber.INTERNAL_ERROR,
            ErrorDomain.TEST,
            message,
            self.volume,
            "more",
            "<capacity>1</capacity>",
        )

    def test_finding_a_volume(self) -> None:
        one = self.volume("one")
        self.assertEqual(self.call.storageVolLookupByName(POOL, "one"), one)
        self.assertEqual(self.call.storageVolLookupByKey("/default-pool/one"), one)
        self.assertEqual(self.call.storageVolLookupByPath("/default-pool/one"), one)
        self.assertEqual(self.call.storagePoolLookupByVolume(one), POOL)
        self.assertEqual(self.call.storageVolGetPath(one), "/default-pool/one")
        self.call.storagePoolDestroy(POOL)
        message = "Storage volume not found: no storage vol with matching key '/default-pool/one'"
        self.assertRefused(
            ErrorNumber.NO_STORAGE_VOL,
            ErrorDomain.TEST,
            message,
            self.call.storageVolLookupByKey,
            "/default-pool/one",
        )

    def test_a_volume_from_another(self) -> None:
        one = self.volume("one")
        xml = "<volume><name>two</name><capacity>5</capacity></volume>"
        self.assertEqual(self.call.storageVolCreateXMLFrom(POOL, xml, one, 0).name, "two")
        self.assertRefused(
            ErrorNumber.OPERATION_FAILED,
            ErrorDomain.TEST,
            "operation failed: storage vol already exists",
            self.call.storageVolCreateXMLFrom,
            POOL,
            xml,
            one,
            0,
        )


class Interfaces(HostTestCase):
    """
    Interfaces of the host.
    """

    def names(self, flags: int) -> list[str]:
        return [each.name for each in self.call.connectListAllInterfaces(1, flags)[0]]

    def test_a_life(self) -> None:
        call = self.call
        eth2 = call.interfaceDefineXML("<interface type='ethernet' name='eth2'/>", 0)
        self.assertEqual(tuple(eth2), ("eth2", ""))
        self.assertEqual(
            (self.names(0), self.names(1), self.names(2)), (["eth1", "eth2"], ["eth2"], ["eth1"])
        )
        call.interfaceCreate(eth2, 0)
        error = self.assertRaises(RemoteError, call.interfaceCreate, eth2, 0)
        self.assertEqual((error.message, error.str2), ("Requested operation is not valid", None))
        call.interfaceDestroy(eth2, 0)
        call.interfaceUndefine(eth2)
        message = "Interface not found: no interface with matching name 'eth2'"
        self.assertRefused(ErrorNumber.NO_INTERFACE, ErrorDomain.TEST, message, call.interfaceIsActive, eth2)

    def test_by_address(self) -> None:
        self.assertEqual(self.call.interfaceLookupByMACString("AA:BB:CC:DD:EE:FF"), ETH1)
        xml = "<interface type='ethernet' name='twin'><mac address='aa:bb:cc:dd:ee:ff'/></interface>"
        self.call.interfaceDefineXML(xml, 0)
        self.assertRefused(
            ErrorNumber.MULTIPLE_INTERFACES,
            ErrorDomain.TEST,
            "multiple matching interfaces found",
            self.call.interfaceLookupByMACString,
            "aa:bb:cc:dd:ee:ff",
        )

    def test_changes_can_be_undone(self) -> None:
        call = self.call
        self.assertInvalid("no transaction running, nothing to rollback.", call.interfaceChangeRollback, 0)
        self.assertInvalid("no transaction running, nothing to be committed.", call.interfaceChangeCommit, 0)
        call.interfaceChangeBegin(0)
        self.assertInvalid("there is another transaction running.", call.interfaceChangeBegin, 0)
        call.interfaceDestroy(ETH1, 0)
        call.interfaceDefineXML("<interface type='ethernet' name='eth2'/>", 0)
        call.interfaceChangeRollback(0)
        self.assertEqual((self.names(0), self.names(2)), (["eth1"], ["eth1"]))
        call.interfaceChangeBegin(0)
        call.interfaceDestroy(ETH1, 0)
        call.interfaceChangeCommit(0)
        self.assertEqual(self.names(2), [])


class Sharing(HostTestCase):
    """
    What one connection does, another sees.
    """

    def test_all_of_it(self) -> None:
        hypervisor = memory()
        one: Connection = opened(hypervisor)
        other: Connection = opened(hypervisor)
        one.networkDestroy(NETWORK)
        one.storagePoolDestroy(POOL)
        one.interfaceDestroy(ETH1, 0)
        self.assertEqual(
            [other.networkIsActive(NETWORK), other.storagePoolIsActive(POOL), other.interfaceIsActive(ETH1)],
            [0, 0, 0],
        )
