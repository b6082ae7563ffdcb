"""What a policy is asked, and what clients get who may not do everything: with the hypervisor in memory."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface

from tests.echo import ECHO, Echo
from tests.peers import OK, ServerSession, callNamed, served
from virnet.client.events import EventRegistries
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.programs import LXC, QEMU, REMOTE
from virnet.programs.base import LOW, Program
from virnet.programs.constants import DomainEventID
from virnet.programs.typedparams import TypedParams
from virnet.programs.values import (
    Domain,
    DomainSnapshot,
    HostInterface,
    Network,
    NWFilterBinding,
    Secret,
    StoragePool,
    StorageVol,
)
from virnet.security.access import AccessObject, AllowAll, RuleFile
from virnet.security.identity import Identity
from virnet.server import NetServer, ServerProgram
from virnet.server.access import _namesInXML
from virnet.testing import ConnectedPair, connectedPair

DENIED = (88, 55, "access denied: 'virnet' denied access")
OPEN = "permit any connect:{getattr,read,write} connect:search_*\n"

DOMAIN_XML = (
    "<domain type='test'><name>{name}</name>{more}<memory>1024</memory><os><type>hvm</type></os></domain>"
)


class Recording(AllowAll):
    """Allows everything and remembers."""

    looksAtObjects = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, AccessObject]] = []

    def allows(self, identity: Identity, procedure: Any, object: AccessObject) -> bool:
        """Yes."""
        self.asked.append((procedure.name, object))
        return True


class _Case(SynchronousTestCase):
    """A hypervisor with three domains: test, web-1 and db-1. The last two do not run."""

    def setUp(self) -> None:
        self.hypervisor = MemoryHypervisor()
        self.clock = Clock()
        root = self.connect(AllowAll())
        self.domains: dict[str, Domain] = {}
        for name in ("web-1", "db-1"):
            self.domains[name] = self.answer(root.domainDefineXML(DOMAIN_XML.format(name=name, more="")))
        self.domains["test"] = self.answer(root.domainLookupByName("test"))
        self.root = root

    def connect(self, policy: Any, **identity: Any) -> Any:
        """One more client: what it may call."""
        if isinstance(policy, str):
            policy = RuleFile(OPEN + policy, (REMOTE, QEMU, LXC))
        server = NetServer(
            self.clock,
            [ServerProgram(REMOTE, sessionsOf(self.hypervisor)), ServerProgram(QEMU, lambda client: ())],
            access=policy,
        )
        self.pair: ConnectedPair = connectedPair(server)
        self.pair.serverClient.updateIdentity(**identity)
        remote = self.pair.client.program(REMOTE)
        self.answer(remote.connectOpen("test:///default", 0))
        return remote

    def begun(self, called: Awaitable[Any]) -> Deferred[Any]:
        deferred = called if isinstance(called, Deferred) else Deferred.fromCoroutine(_awaited(called))
        self.clock.advance(0)
        return deferred

    def answer(self, called: Awaitable[Any]) -> Any:
        """The result of a call that must succeed."""
        return self.successResultOf(self.begun(called))

    def error(self, called: Awaitable[Any]) -> tuple[int, int, str]:
        """The error of a call that must fail."""
        error = self.failureResultOf(self.begun(called), RemoteError).value
        return int(error.code), int(error.domain), error.message

    def denied(self, called: Awaitable[Any]) -> None:
        """The call must be refused."""
        self.assertEqual(self.error(called), DENIED)


async def _awaited(called: Awaitable[Any]) -> Any:
    return await called


class Asked(_Case):
    """What the policy hears of a call."""

    def setUp(self) -> None:
        super().setUp()
        self.policy = Recording()
        self.remote = self.connect(self.policy)
        self.policy.asked.clear()

    def assertAsked(self, called: Awaitable[Any], *objects: AccessObject) -> None:
        """These, about the call."""
        self.answer(called)
        self.assertEqual([object for _, object in self.policy.asked], list(objects))
        self.policy.asked.clear()

    def test_once_about_each_call_with_name_and_uuid(self) -> None:
        dom = self.domains["web-1"]
        start = AccessObject(("domain:start",), "domain", "web-1", dom.uuid)
        self.assertAsked(self.remote.domainCreate(dom), start)
        # The second time as well.
        stop = AccessObject(("domain:stop",), "domain", "web-1", dom.uuid)
        self.assertAsked(self.remote.domainDestroy(dom), stop)
        self.assertAsked(self.remote.domainCreate(dom), start)

    def test_flags_make_it_more(self) -> None:
        dom = self.domains["web-1"]
        for flags, permissions in ((0, ("domain:read",)), (1, ("domain:read", "domain:read_secure"))):
            self.assertAsked(
                self.remote.domainGetXMLDesc(dom, flags),
                AccessObject(permissions, "domain", "web-1", dom.uuid),
            )

    def test_about_what_was_found(self) -> None:
        dom = self.domains["web-1"]
        found = AccessObject(("domain:getattr",), "domain", "web-1", dom.uuid)
        self.assertAsked(self.remote.domainLookupByName("web-1"), found)
        self.assertAsked(self.remote.domainLookupByUUID(dom.uuid), found)

    def test_about_what_is_to_be_made(self) -> None:
        uuid = bytes(range(16))
        xml = DOMAIN_XML.format(name="new", more="<uuid>00010203-0405-0607-0809-0a0b0c0d0e0f</uuid>")
        self.assertAsked(
            self.remote.domainDefineXML(xml),
            AccessObject(("domain:write", "domain:save"), "domain", "new", uuid),
        )

    def test_about_each_object_of_a_list(self) -> None:
        self.answer(self.remote.connectListAllDomains(1, 0))
        names = [(object.permissions, object.name) for _, object in self.policy.asked]
        self.assertEqual(
            names,
            [
                (("connect:search_domains",), None),
                *((("domain:getattr",), name) for name in ("test", "web-1", "db-1")),
            ],
        )

    def test_about_the_connection(self) -> None:
        self.assertAsked(self.remote.connectGetHostname(), AccessObject(("connect:getattr",)))

    def test_a_volume(self) -> None:
        pool = self.answer(self.remote.storagePoolLookupByName("default-pool"))
        self.policy.asked.clear()
        xml = "<volume><name>v</name><capacity>1024</capacity></volume>"
        made = AccessObject(("storage_vol:create",), "storage_vol", "v", None, "default-pool")
        vol = self.answer(self.remote.storageVolCreateXML(pool, xml, 0))
        self.assertEqual(self.policy.asked, [("storageVolCreateXML", made)])
        self.policy.asked.clear()
        wanted = AccessObject(("storage_vol:read",), "storage_vol", "v", None, "default-pool")
        self.assertAsked(self.remote.storageVolGetInfo(vol), wanted)

    def test_what_needs_nothing_is_not_asked_about(self) -> None:
        self.assertAsked(self.remote.connectIsSecure())
        self.assertAsked(self.remote.connectClose())


class Denied(_Case):
    """What is refused, and how."""

    RULES = "permit sasl:alice domain:{getattr,read,start} name=web-*\npermit sasl:bob domain:*\n"

    def setUp(self) -> None:
        super().setUp()
        self.remote = self.connect(self.RULES, saslUser="alice")

    def test_what_is_permitted_works(self) -> None:
        dom = self.answer(self.remote.domainLookupByName("web-1"))
        self.answer(self.remote.domainCreate(dom))
        self.assertEqual(self.answer(self.remote.domainGetInfo(dom)).state, 1)

    def test_other_permissions(self) -> None:
        self.denied(self.remote.domainDestroy(self.domains["web-1"]))
        self.assertEqual(self.answer(self.root.domainGetInfo(self.domains["web-1"])).state, 5)

    def test_other_objects(self) -> None:
        self.denied(self.remote.domainCreate(self.domains["db-1"]))
        self.denied(self.remote.domainLookupByName("db-1"))
        self.denied(self.remote.domainLookupByUUID(self.domains["db-1"].uuid))
        self.denied(self.remote.domainLookupByID(1))

    def test_other_people(self) -> None:
        bob = self.connect(self.RULES, saslUser="bob")
        self.answer(bob.domainCreate(self.domains["db-1"]))
        mallory = self.connect(self.RULES, saslUser="mallory")
        self.denied(mallory.domainCreate(self.domains["web-1"]))
        self.denied(self.connect(self.RULES).domainLookupByName("web-1"))

    def test_what_does_not_exist_is_reported_as_ever(self) -> None:
        self.assertEqual(self.error(self.remote.domainLookupByName("nosuch"))[0], 42)
        gone = Domain("web-9", bytes(16), -1)
        self.assertEqual(self.error(self.remote.domainCreate(gone))[0], 42)

    def test_opening_may_be_refused_and_closing_not(self) -> None:
        server = NetServer(
            self.clock,
            [ServerProgram(REMOTE, sessionsOf(self.hypervisor))],
            access=RuleFile("permit uid:0 *", (REMOTE,)),
        )
        remote = connectedPair(server).client.program(REMOTE)
        self.denied(remote.connectOpen("test:///default", 0))
        self.assertEqual(self.answer(remote.connectSupportsFeature(10)), 1)
        self.answer(remote.connectClose())

    def test_it_is_logged_with_who_what_and_on_which_object(self) -> None:
        with capturedLogs() as logged:
            self.denied(self.remote.domainDestroy(self.domains["db-1"]))
        (event,) = (each for each in logged if each["log_namespace"] == "virnet.audit")
        self.assertEqual(event["audit"], "denied")
        self.assertEqual(event["identity"].saslUser, "alice")
        self.assertEqual((event["program"], event["procedure"]), ("REMOTE", "domainDestroy"))
        self.assertEqual((event["object"].kind, event["object"].name), ("domain", "db-1"))
        self.assertEqual(event["permissions"], "domain:stop")
        text = formatEvent(event)
        for word in ("sasl alice", "domainDestroy", "domain 'db-1'", "domain:stop"):
            self.assertIn(word, text)

    def test_what_is_permitted_is_not_logged(self) -> None:
        with capturedLogs() as logged:
            self.answer(self.remote.domainCreate(self.domains["web-1"]))
            self.answer(self.remote.connectListAllDomains(1, 0))
        self.assertEqual([each for each in logged if each["log_namespace"] == "virnet.audit"], [])


class Liars(_Case):
    """Clients that call one object by the name of another."""

    RULES = "permit any domain:* network:* storage_pool:* storage_vol:* interface:* name=web-*"

    def setUp(self) -> None:
        super().setUp()
        self.remote = self.connect(self.RULES)

    def test_a_domain(self) -> None:
        false = Domain("web-1", self.domains["db-1"].uuid, -1)
        self.denied(self.remote.domainCreate(false))
        self.denied(self.remote.domainUndefine(false))
        self.assertEqual(self.answer(self.root.domainGetInfo(self.domains["db-1"])).state, 5)

    def test_a_domain_of_a_snapshot(self) -> None:
        snap = self.answer(self.root.domainSnapshotCreateXML(self.domains["db-1"], "<domainsnapshot/>", 0))
        false = DomainSnapshot(snap.name, Domain("web-1", self.domains["db-1"].uuid, -1))
        self.denied(self.remote.domainSnapshotDelete(false, 0))

    def test_a_name_that_really_exists_too(self) -> None:
        self.denied(self.remote.domainCreate(Domain("db-1", self.domains["web-1"].uuid, -1)))

    def test_a_network_and_a_pool(self) -> None:
        net = self.answer(self.root.networkLookupByName("default"))
        self.denied(self.remote.networkDestroy(Network("web-1", net.uuid)))
        pool = self.answer(self.root.storagePoolLookupByName("default-pool"))
        self.denied(self.remote.storagePoolDestroy(StoragePool("web-1", pool.uuid)))

    def test_the_pool_of_a_volume(self) -> None:
        pool = self.answer(self.root.storagePoolLookupByName("default-pool"))
        xml = "<volume><name>{}</name><capacity>1024</capacity></volume>"
        other = self.answer(self.root.storageVolCreateXML(pool, xml.format("other"), 0))
        remote = self.connect("permit any storage_vol:* pool=web-*\npermit any storage_vol:* name=web-*")
        self.denied(remote.storageVolCreateXML(StoragePool("web-1", pool.uuid), xml.format("x"), 0))
        ours = self.answer(remote.storageVolCreateXML(pool, xml.format("web-1"), 0))
        self.answer(remote.storageVolGetInfo(ours))
        self.denied(remote.storageVolDelete(StorageVol(pool.name, "web-1", other.key), 0))

    def test_a_volume_that_is_copied_has_to_be_readable(self) -> None:
        pool = self.answer(self.root.storagePoolLookupByName("default-pool"))
        xml = "<volume><name>{}</name><capacity>1024</capacity></volume>"
        secret = self.answer(self.root.storageVolCreateXML(pool, xml.format("secret"), 0))
        rules = "permit any storage_vol:* name=web-*\n"
        remote = self.connect(rules)
        self.denied(remote.storageVolCreateXMLFrom(pool, xml.format("web-1"), secret, 0))
        false = StorageVol(secret.pool, "web-0", secret.key)
        self.assertEqual(
            self.error(remote.storageVolCreateXMLFrom(pool, xml.format("web-1"), false, 0))[0], 50
        )
        remote = self.connect(rules + "permit any storage_vol:data_read name=secret")
        self.answer(remote.storageVolCreateXMLFrom(pool, xml.format("web-1"), secret, 0))

    def test_the_name_that_a_domain_is_to_get(self) -> None:
        dom = self.domains["web-1"]
        self.denied(self.remote.domainRename(dom, "db-2", 0))
        self.answer(self.remote.domainRename(dom, "web-2", 0))

    def test_an_interface(self) -> None:
        self.denied(self.remote.interfaceDestroy(HostInterface("eth1", "aa:bb:cc:dd:ee:ff"), 0))
        remote = self.connect("permit any interface:* name=eth1")
        true = self.answer(remote.interfaceLookupByName("eth1"))
        self.answer(remote.interfaceIsActive(true))
        self.denied(remote.interfaceIsActive(HostInterface("eth1", "00:00:00:00:00:00")))

    def test_a_uuid_in_a_definition(self) -> None:
        uuid = self.domains["db-1"].uuid.hex()
        xml = DOMAIN_XML.format(name="web-1", more=f"<uuid>{uuid}</uuid>")
        self.denied(self.remote.domainDefineXML(xml))

    def test_two_names_in_a_definition(self) -> None:
        for more in ("<name>db-1</name>", "<uuid>x</uuid>"):
            self.denied(self.remote.domainDefineXML(DOMAIN_XML.format(name="web-1", more=more)))
        self.denied(self.remote.domainDefineXML("no XML at all"))
        self.denied(self.remote.domainDefineXML(DOMAIN_XML.format(name="db-1", more="")))
        self.answer(self.remote.domainDefineXML(DOMAIN_XML.format(name="web-2", more="")))

    def test_a_file_that_nobody_has_looked_into(self) -> None:
        class Restoring:
            def domainRestore(self, from_: str) -> None:
                pass

        for rules, status in (("permit any domain:* name=*", 1), ("permit any domain:*", OK)):
            server = NetServer(Clock(), [served(REMOTE, Restoring())], access=RuleFile(rules, [REMOTE]))
            (reply,) = ServerSession(server=server).send(callNamed(REMOTE, "domainRestore", 1, "/tmp/some"))
            self.assertEqual(reply.status, status)

    def test_what_is_said_beside_the_name_that_counts(self) -> None:
        """A node device by its parameter; a secret, and a filter's binding, by what it is for."""

        class Elsewhere:
            def nodeDeviceUpdate(self, name: str, xml_desc: str, flags: int) -> None:
                pass

            def nwfilterBindingCreateXML(self, xml: str, flags: int) -> NWFilterBinding:
                return NWFilterBinding("vnet0", "f")

            def secretLookupByUUID(self, uuid: bytes) -> Secret:
                raise RemoteError.of(ErrorNumber.NO_SECRET, "x", ErrorDomain.SECRET)

            def secretDefineXML(self, xml: str, flags: int) -> Secret:
                return Secret(bytes(16), 1, "db-1")

        uuid = "<uuid>00010203-0405-0607-0809-0a0b0c0d0e0f</uuid>"
        usage = "<name>web-1</name><usage type='volume'><volume>db-1</volume></usage>"
        calls = (
            callNamed(REMOTE, "nodeDeviceUpdate", 1, "db-1", "<device><name>web-1</name></device>", 0),
            callNamed(
                REMOTE,
                "nwfilterBindingCreateXML",
                2,
                "<filterbinding><name>web-1</name><portdev name='vnet0'/></filterbinding>",
                0,
            ),
            callNamed(REMOTE, "secretDefineXML", 3, f"<secret>{usage}</secret>", 0),
            callNamed(REMOTE, "secretDefineXML", 4, f"<secret>{uuid}{usage}</secret>", 0),
        )
        kinds = "node_device:* nwfilter_binding:* secret:*"
        for rules, status in ((f"permit any {kinds} name=web-*", 1), (f"permit any {kinds}", OK)):
            policy = RuleFile(f"{rules}\npermit any domain:* name=x", [REMOTE])
            server = NetServer(Clock(), [served(REMOTE, Elsewhere())], access=policy)
            replies = ServerSession(server=server).send(b"".join(calls))
            self.assertEqual([reply.status for reply in replies], [status] * 4, rules)
        call = callNamed(REMOTE, "nodeDeviceUpdate", 1, "web-1", "<device><name>db-1</name></device>", 0)
        policy = RuleFile(f"permit any {kinds} name=web-*", [REMOTE])
        server = NetServer(Clock(), [served(REMOTE, Elsewhere())], access=policy)
        (reply,) = ServerSession(server=server).send(call)
        self.assertEqual(reply.status, OK)

    def test_a_uuid_of_which_nobody_can_say_whose_it_is(self) -> None:
        class Defining:
            def __init__(self, error: RemoteError | None) -> None:
                if error is not None:
                    self.domainLookupByUUID = self.fail
                self.error = error

            def fail(self, uuid: bytes) -> Domain:
                assert self.error is not None
                raise self.error

            def domainDefineXML(self, xml: str) -> Domain:
                return Domain("web-1", bytes(16), -1)

        xml = DOMAIN_XML.format(name="web-1", more="<uuid>00010203-0405-0607-0809-0a0b0c0d0e0f</uuid>")
        for code, status in ((None, 1), (ErrorNumber.OPERATION_FAILED, 1), (ErrorNumber.NO_DOMAIN, OK)):
            error = None if code is None else RemoteError.of(code, "x", ErrorDomain.TEST)
            policy = RuleFile("permit any domain:* name=web-*", [REMOTE])
            server = NetServer(Clock(), [served(REMOTE, Defining(error))], access=policy)
            (reply,) = ServerSession(server=server).send(callNamed(REMOTE, "domainDefineXML", 1, xml))
            self.assertEqual(reply.status, status, code)

    def test_what_the_tables_take_for_looking(self) -> None:
        """libvirt's table lets domain:read set the parameters of the scheduler."""

        class Scheduling:
            def domainSetSchedulerParameters(self, dom: Domain, params: object) -> None:
                pass

        call = callNamed(REMOTE, "domainSetSchedulerParameters", 1, self.domains["web-1"], TypedParams())
        for rules, status in (
            ("permit any domain:read", 1),
            ("permit any domain:{read,write}", 1),
            ("permit any domain:{read,write,save}", OK),
        ):
            server = NetServer(Clock(), [served(REMOTE, Scheduling())], access=RuleFile(rules, [REMOTE]))
            (reply,) = ServerSession(server=server).send(call)
            self.assertEqual(reply.status, status, rules)

    def test_an_implementation_that_cannot_say_what_is_where(self) -> None:
        class Creating:
            def domainCreate(self, dom: Domain) -> None:
                pass

        for rules, status in (("permit any domain:* name=*", 1), ("permit any domain:*", OK)):
            server = NetServer(Clock(), [served(REMOTE, Creating())], access=RuleFile(rules, [REMOTE]))
            call = callNamed(REMOTE, "domainCreate", 1, self.domains["web-1"])
            (reply,) = ServerSession(server=server).send(call)
            self.assertEqual(reply.status, status)


class Definitions(SynchronousTestCase):
    """The name and the uuid in a definition."""

    def test_what_is_plain(self) -> None:
        uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
        xml = f"<?xml version='1.0'?><domain><!-- x --><name>a</name><uuid>{uuid}</uuid></domain>"
        self.assertEqual(_namesInXML(xml, "domain"), ("a", bytes(range(16))))
        self.assertEqual(_namesInXML("<network><name>a&amp;b</name></network>", "network"), ("a&b", None))
        self.assertEqual(_namesInXML("<domain><name>we<!-- -->b</name></domain>", "domain"), ("web", None))

    def test_what_has_its_name_in_an_attribute(self) -> None:
        uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
        filter = f"<filter name='a'><uuid>{uuid}</uuid></filter>"
        self.assertEqual(_namesInXML(filter, "nwfilter"), ("a", bytes(range(16))))
        self.assertEqual(_namesInXML("<interface name='eth0'/>", "interface"), ("eth0", None))
        self.assertEqual(
            _namesInXML("<interface name='a'><name>b</name></interface>", "interface"), (None, None)
        )
        self.assertEqual(_namesInXML("<domain name='a'/>", "domain"), (None, None))

    def test_what_is_absent(self) -> None:
        self.assertEqual(_namesInXML("<domain/>", "domain"), (None, None))
        self.assertEqual(_namesInXML("<domain><os><name>a</name></os></domain>", "domain"), (None, None))

    def test_what_is_doubtful(self) -> None:
        for xml in (
            "",
            "<domain>",
            "<domain><name>a</name><name>b</name></domain>",
            "<domain><name>a</name><name/></domain>",
            "<domain><name>a<b/>c</name></domain>",
            "<domain><name> a</name></domain>",
            "<domain><name>a</name><uuid>1</uuid></domain>",
            "<!DOCTYPE domain [<!ENTITY a 'b'>]><domain><name>&a;</name></domain>",
            "<domain><name>\udcff</name></domain>",
            None,
        ):
            self.assertEqual(_namesInXML(xml, "domain"), (None, None), xml)


class Lists(_Case):
    """A client gets to see what it may see."""

    RULES = (
        "permit any domain:{getattr,read} name=web-*\n"
        "permit any storage_pool:search_storage_vols storage_pool:getattr\n"
        "permit any storage_vol:getattr name=web-*\n"
    )

    def setUp(self) -> None:
        super().setUp()
        self.remote = self.connect(self.RULES)

    def test_of_objects(self) -> None:
        found, count = self.answer(self.remote.connectListAllDomains(1, 0))
        self.assertEqual(([each.name for each in found], count), (["web-1"], 1))

    def test_their_number_alone(self) -> None:
        self.assertEqual(tuple(self.answer(self.remote.connectListAllDomains(0, 0))), ([], 1))

    def test_of_names(self) -> None:
        self.assertEqual(self.answer(self.remote.connectListDefinedDomains(10)), ["web-1"])
        self.assertEqual(self.answer(self.remote.connectListDefinedDomains(0)), [])
        # The first of two is not the one to be seen.
        self.assertEqual(self.answer(self.remote.connectListDefinedDomains(1)), ["web-1"])
        self.assertEqual(self.answer(self.remote.connectListNetworks(10)), [])

    def test_of_ids(self) -> None:
        self.assertEqual(self.answer(self.remote.connectListDomains(10)), [])
        self.answer(self.root.domainCreate(self.domains["web-1"]))
        dom = self.answer(self.root.domainLookupByName("web-1"))
        self.assertEqual(self.answer(self.remote.connectListDomains(10)), [dom.id])

    def test_a_number_that_makes_no_sense_is_refused_as_ever(self) -> None:
        self.assertEqual(
            self.error(self.remote.connectListDefinedDomains(-1))[2], "maxnames must be non-negative"
        )

    def test_numbers(self) -> None:
        self.assertEqual(self.answer(self.remote.connectNumOfDefinedDomains()), 1)
        self.assertEqual(self.answer(self.remote.connectNumOfDomains()), 0)
        self.assertEqual(self.answer(self.remote.connectNumOfNetworks()), 0)
        self.assertEqual(self.answer(self.remote.connectNumOfInterfaces()), 0)

    def test_of_volumes(self) -> None:
        pool = self.answer(self.root.storagePoolLookupByName("default-pool"))
        xml = "<volume><name>{}</name><capacity>1024</capacity></volume>"
        for name in ("db-1", "web-1"):
            self.answer(self.root.storageVolCreateXML(pool, xml.format(name), 0))
        self.assertEqual(self.answer(self.remote.storagePoolListVolumes(pool, 10)), ["web-1"])
        self.assertEqual(self.answer(self.remote.storagePoolNumOfVolumes(pool)), 1)
        found, count = self.answer(self.remote.storagePoolListAllVolumes(pool, 1, 0))
        self.assertEqual(([each.name for each in found], count), (["web-1"], 1))

    def test_rules_without_conditions(self) -> None:
        remote = self.connect("deny any domain:getattr\npermit any network:getattr")
        self.assertEqual(self.answer(remote.connectListAllDomains(1, 0)), ([], 0))
        self.assertEqual(self.answer(remote.connectListDefinedDomains(10)), [])
        self.assertEqual(self.answer(remote.connectNumOfDefinedDomains()), 0)
        self.assertEqual(self.answer(remote.connectListNetworks(10)), ["default"])

    def test_who_may_not_search_is_refused(self) -> None:
        remote = self.connect("")
        self.answer(remote.connectListAllDomains(1, 0))
        server = NetServer(
            self.clock,
            [ServerProgram(REMOTE, sessionsOf(self.hypervisor))],
            access=RuleFile("permit any connect:getattr domain:*", (REMOTE,)),
        )
        remote = connectedPair(server).client.program(REMOTE)
        self.answer(remote.connectOpen("test:///default", 0))
        self.denied(remote.connectListAllDomains(1, 0))
        self.denied(remote.connectNumOfDomains())


class Events(_Case):
    """A client hears of what it may see."""

    def heard(self, rules: Any) -> list[str]:
        """The domains of which a client hears that they start."""
        remote = self.connect(rules)
        names: list[str] = []
        client = self.pair.client
        subscribing = Deferred.fromCoroutine(
            EventRegistries(client, True).domain.subscribe(
                DomainEventID.LIFECYCLE, lambda dom, *rest: names.append(dom.name)
            )
        )
        self.clock.advance(0)
        self.successResultOf(subscribing)
        del remote
        for name in ("web-1", "db-1"):
            self.answer(self.root.domainCreate(self.domains[name]))
            self.answer(self.root.domainDestroy(self.domains[name]))
        self.clock.advance(0)
        return names

    def test_all(self) -> None:
        self.assertEqual(self.heard(AllowAll()), ["web-1", "web-1", "db-1", "db-1"])

    def test_some(self) -> None:
        self.assertEqual(self.heard("permit any domain:getattr name=web-*"), ["web-1", "web-1"])

    def test_none(self) -> None:
        self.assertEqual(self.heard("permit any domain:start"), [])

    def test_a_policy_that_fails_keeps_them_from_its_client_alone(self) -> None:
        class Failing(AllowAll):
            def allows(self, identity: Identity, procedure: Any, object: AccessObject) -> bool:
                if "Event" in procedure.name and object.name == "db-1":
                    raise KeyError("no such rule")
                return True

        # What happens is not undone by it, and those that subscribed later hear of it.
        self.assertEqual(self.heard(Failing()), ["web-1", "web-1"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        self.assertEqual(self.heard(AllowAll()), ["web-1", "web-1", "db-1", "db-1"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)


class WhatIsPermitted(_Case):
    """It works as it does without a policy."""

    def test_streams(self) -> None:
        pool = self.answer(self.root.storagePoolLookupByName("default-pool"))
        xml = "<volume><name>v</name><capacity>1024</capacity></volume>"
        vol = self.answer(self.root.storageVolCreateXML(pool, xml, 0))
        remote = self.connect("permit any storage_vol:{data_read,data_write} name=v")
        stream = self.answer(remote.storageVolUpload(vol, 0, 0, 0))
        self.answer(stream.sendFrom([b"hello"]))
        received: list[bytes] = []

        class Target:
            write = received.append

        stream = self.answer(remote.storageVolDownload(vol, 0, 5, 0))
        self.answer(stream.receiveInto(Target()))
        self.assertEqual(b"".join(received), b"hello")
        reader = self.connect("permit any storage_vol:data_read name=v")
        self.denied(reader.storageVolUpload(vol, 0, 0, 0))

    def test_an_implementation_that_takes_its_time(self) -> None:
        answers: list[Deferred[Any]] = []

        class Slow:
            def domainLookupByUUID(self, uuid: bytes) -> Any:
                return self.later()

            async def domainGetOSType(self, dom: Domain) -> Any:
                return await self.later()

            def later(self) -> Deferred[Any]:
                answers.append(Deferred())
                return answers[-1]

        server = NetServer(
            Clock(), [served(REMOTE, Slow())], access=RuleFile("permit any domain:* name=w*", [REMOTE])
        )
        session = ServerSession(server=server)
        dom = self.domains["web-1"]
        call = callNamed(REMOTE, "domainGetOSType", 1, dom)
        self.assertEqual(session.send(call), [])
        answers.pop().callback(dom)
        self.assertEqual(session.flush(), [])
        answers.pop().callback("hvm")
        (reply,) = session.flush()
        self.assertEqual(REMOTE.byName["domainGetOSType"].decodeRet(reply.payload), "hvm")
        # The client may go while the implementation is asked.
        session.send(call)
        session.lose()
        answers.pop().callback(dom)
        answers.pop().callback("hvm")

    def test_an_error_of_the_implementation(self) -> None:
        remote = self.connect("permit any domain:*")
        error = self.error(remote.domainDestroy(self.domains["web-1"]))
        self.assertEqual(error, self.error(self.root.domainDestroy(self.domains["web-1"])))
        self.assertEqual(self.error(remote.domainGetVcpus(self.domains["web-1"], 1, 1))[0], 55)


class OwnLookups(SynchronousTestCase):
    """Names prove nothing: what looks something up in a program of one's own may do more than that."""

    def test_it_is_not_called_before_the_policy_was_asked(self) -> None:
        class ILookup(Interface):
            def doLookupAndRemove() -> Any:
                """Do it."""

        called: list[None] = []

        class Provider:
            def doLookupAndRemove(self) -> None:
                called.append(None)

        for acl in ((), ("domain:delete",)):
            rows = [(1, "doLookupAndRemove", (), None, LOW, None, acl)]
            program: Program[Any, Any] = Program(0x20001234, 1, ILookup, None, rows, "OWN")
            server = NetServer(Clock(), [served(program, Provider())], access=RuleFile("", [program]))
            (reply,) = ServerSession(server=server).send(callNamed(program, "doLookupAndRemove", 1))
            self.assertEqual((reply.error[:3], called), (DENIED, []))


class OwnPrograms(SynchronousTestCase):
    """A program whose tables have no permissions: its procedures are what is permitted."""

    def test_each_procedure_stands_for_itself(self) -> None:
        for rules, status in (("permit any ECHO:ping", OK), ("permit uid:1 ECHO:*", 1)):
            server = NetServer(Clock(), [served(ECHO, Echo())], access=RuleFile(rules, [ECHO]))
            session = ServerSession(server=server)
            (reply,) = session.send(callNamed(ECHO, "ping", 1))
            self.assertEqual(reply.status, status)
            if status:
                self.assertEqual(reply.error[:3], DENIED)
