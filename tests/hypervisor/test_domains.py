"""
Domains in memory: what they do, and what is told about it.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.hypervisor.sessions import NOW, Connection, memory, opened
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.tuning import cpuMap
from virnet.programs.constants import ConnectListAllDomainsFlags, DomainEventID
from virnet.programs.typedparams import Int, TypedParams
from virnet.programs.values import Domain, DomainStatsRecord

TEST = Domain("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
UUID = bytes(range(16))
RUNNING, PAUSED, SHUTOFF = 1, 3, 5


def xml(name: str = "web", rest: str = "", uuid: bytes | None = UUID) -> str:
    """
    A domain document.
    """
    said = f"<uuid>{uuid.hex()}</uuid>" if uuid else ""
    return (
        f"<domain type='test'><name>{name}</name>{said}<memory>4096</memory><vcpu>4</vcpu>"
        f"<os><type>hvm</type></os>{rest}</domain>"
    )


class DomainTestCase(SynchronousTestCase):
    """
    One connection that hears of everything, and one that does everything.
    """

    def setUp(self) -> None:
        self.hypervisor = memory()
        self.connection = opened(self.hypervisor)
        self.listener = opened(self.hypervisor)
        self.listener.connectDomainEventRegister()

    def told(self) -> list[tuple[str, int, int, int]]:
        """
        The events since this was asked last: name and id of the domain, event, detail.
        """
        return [(dom.name, dom.id, event, detail) for _, dom, event, detail in self.listener.sent]

    def state(self, dom: Domain) -> tuple[int, int]:
        return tuple(self.connection.domainGetState(dom, 0))

    def assertRefused(self, code: int, domain: int, message: str, call: Any, *args: Any) -> None:
        error = self.assertRaises(RemoteError, call, *args)
        self.assertEqual((error.code, error.domain, error.message), (code, domain, message))
        self.assertEqual(self.told(), [])


class Beginning(SynchronousTestCase):
    """
    What there is before anybody did anything.
    """

    def test_one_of_each_all_running(self) -> None:
        connection = opened()
        self.assertEqual(connection.connectListAllDomains(1, 0), ([TEST], 1))
        self.assertEqual(connection.domainGetState(TEST, 0), (RUNNING, 0))
        ((network,), _) = connection.connectListAllNetworks(1, 0)
        ((pool,), _) = connection.connectListAllStoragePools(1, 0)
        ((interface,), _) = connection.connectListAllInterfaces(1, 0)
        self.assertEqual((network.name, pool.name), ("default", "default-pool"))
        self.assertEqual(tuple(interface), ("eth1", "aa:bb:cc:dd:ee:ff"))
        self.assertEqual(connection.storagePoolGetInfo(pool), (2, 100 * 2**30, 0, 100 * 2**30))

    def test_the_same_every_time(self) -> None:
        one, other = opened(), opened()
        self.assertEqual(one.domainGetXMLDesc(TEST, 0), other.domainGetXMLDesc(TEST, 0))

    def test_time_comes_from_outside(self) -> None:
        connection = opened()
        self.assertEqual(connection.domainGetInfo(TEST), (RUNNING, 8388608, 2097152, 2, int(NOW * 1e9)))
        infos, _ = connection.domainGetVcpus(TEST, 2, 0)
        self.assertEqual([info.cpu_time for info in infos], [int(NOW * 1e5)] * 2)


class Finding(DomainTestCase):
    """
    Looking domains up, and listing them.
    """

    def test_by_name_id_and_uuid(self) -> None:
        self.assertEqual(self.connection.domainLookupByName("test"), TEST)
        self.assertEqual(self.connection.domainLookupByID(1), TEST)
        self.assertEqual(self.connection.domainLookupByUUID(TEST.uuid), TEST)

    def test_what_is_not_found_is_said_without_detail(self) -> None:
        for call, what in (
            (self.connection.domainLookupByName, "no"),
            (self.connection.domainLookupByID, 9),
            (self.connection.domainLookupByUUID, UUID),
        ):
            error = self.assertRaises(RemoteError, call, what)
            self.assertEqual(
                (error.code, error.domain, error.message, error.str1, error.str2),
                (ErrorNumber.NO_DOMAIN, ErrorDomain.TEST, "Domain not found", "Domain not found", None),
            )

    def test_a_domain_that_went_away(self) -> None:
        gone = Domain("web", UUID, -1)
        message = (
            "Domain not found: no domain with matching uuid '00010203-0405-0607-0809-0a0b0c0d0e0f' (web)"
        )
        for call in (
            self.connection.domainCreate,
            self.connection.domainGetInfo,
            self.connection.domainUndefine,
            self.connection.domainGetMaxMemory,
        ):
            self.assertRefused(ErrorNumber.NO_DOMAIN, ErrorDomain.TEST, message, call, gone)

    def test_a_stopped_domain_has_no_id(self) -> None:
        self.connection.domainDestroy(TEST)
        self.assertEqual(self.connection.domainLookupByName("test").id, -1)
        self.assertRaises(RemoteError, self.connection.domainLookupByID, 1)

    def test_lists_go_by_flags(self) -> None:
        web = self.connection.domainDefineXML(xml())
        job = self.connection.domainCreateXML(xml("job", uuid=None), 0)
        self.connection.domainSuspend(job)
        self.connection.domainSetAutostart(web, 1)
        f = ConnectListAllDomainsFlags
        for flags, names in (
            (0, ["test", "web", "job"]),
            (f.ACTIVE, ["test", "job"]),
            (f.INACTIVE, ["web"]),
            (f.ACTIVE | f.INACTIVE, ["test", "web", "job"]),
            (f.PERSISTENT, ["test", "web"]),
            (f.TRANSIENT, ["job"]),
            (f.RUNNING, ["test"]),
            (f.PAUSED | f.SHUTOFF, ["web", "job"]),
            (f.OTHER, []),
            (f.AUTOSTART, ["web"]),
            (f.NO_AUTOSTART | f.ACTIVE | f.PERSISTENT, ["test"]),
            (f.HAS_SNAPSHOT, []),
            (f.NO_MANAGEDSAVE, ["test", "web", "job"]),
        ):
            domains, count = self.connection.connectListAllDomains(1, int(flags))
            self.assertEqual([domain.name for domain in domains], names, flags)
            self.assertEqual(self.connection.connectListAllDomains(0, int(flags)), ([], count))
        self.assertEqual(self.connection.connectListDomains(9), [1, 2])
        self.assertEqual(self.connection.connectListDefinedDomains(9), ["web"])
        self.assertEqual(
            (self.connection.connectNumOfDomains(), self.connection.connectNumOfDefinedDomains()), (2, 1)
        )

    def test_unknown_flags_are_refused_in_the_name_of_the_driver(self) -> None:
        error = self.assertRaises(RemoteError, self.connection.connectListAllDomains, 1, 1 << 30)
        self.assertEqual(
            (error.code, error.domain, error.message, error.str1, error.str2, error.int1, error.int2),
            (
                ErrorNumber.INVALID_ARG,
                ErrorDomain.TEST,
                "unsupported flags (0x40000000) in function testConnectListAllDomains",
                "testConnectListAllDomains",
                "flags",
                0,
                0,
            ),
        )


class Living(DomainTestCase):
    """
    From being defined to being gone.
    """

    def test_the_life_of_a_persistent_domain(self) -> None:
        call = self.connection
        web = call.domainDefineXML(xml())
        self.assertEqual(self.state(web), (SHUTOFF, 0))
        call.domainCreate(web)
        self.assertEqual(self.state(web), (RUNNING, 1))
        call.domainSuspend(web)
        self.assertEqual(self.state(web), (PAUSED, 1))
        call.domainResume(web)
        self.assertEqual(self.state(web), (RUNNING, 5))
        call.domainReboot(web, 0)
        call.domainReset(web, 0)
        self.assertEqual(self.state(web), (RUNNING, 1))
        call.domainShutdown(web)
        self.assertEqual(self.state(web), (SHUTOFF, 1))
        call.domainCreateWithFlags(web, 0)
        call.domainDestroy(web)
        self.assertEqual(self.state(web), (SHUTOFF, 2))
        call.domainUndefine(web)
        self.assertRaises(RemoteError, call.domainLookupByName, "web")
        self.assertEqual(
            self.told(),
            [
                ("web", -1, 0, 0),
                ("web", 2, 2, 0),
                ("web", 2, 3, 0),
                ("web", 2, 4, 0),
                ("web", -1, 5, 0),
                ("web", 3, 2, 0),
                ("web", -1, 5, 1),
                ("web", -1, 1, 0),
            ],
        )

    def test_a_transient_domain_is_gone_when_it_stops(self) -> None:
        for stop in ("domainShutdown", "domainDestroy"):
            job = self.connection.domainCreateXML(xml("job"), 0)
            self.assertEqual(self.connection.domainIsPersistent(job), 0)
            getattr(self.connection, stop)(job)
            self.assertRaises(RemoteError, self.connection.domainLookupByName, "job")
        # Its last event says the id it had, as the test driver's does.
        self.assertEqual(
            self.told(),
            [("job", 2, 2, 0), ("job", 2, 5, 0), ("job", 3, 2, 0), ("job", 3, 5, 1)],
        )

    def test_an_undefined_domain_goes_on_until_it_stops(self) -> None:
        self.connection.domainUndefine(TEST)
        self.assertEqual(self.connection.domainIsPersistent(TEST), 0)
        self.assertEqual(self.state(TEST), (RUNNING, 0))
        self.connection.domainDestroy(TEST)
        self.assertEqual(self.connection.connectListAllDomains(1, 0), ([], 0))
        self.assertEqual(self.told(), [("test", 1, 1, 0), ("test", -1, 5, 1)])

    def test_what_becomes_of_a_domain_is_for_its_definition_to_say(self) -> None:
        for on, others in (("on_poweroff", "domainShutdown"), ("on_reboot", "domainReboot")):
            for action, expected in (
                ("destroy", (SHUTOFF, 1)),
                ("preserve", (SHUTOFF, 1)),
                ("restart", (RUNNING, 1)),
                ("rename-restart", (RUNNING, 1)),
            ):
                web = self.connection.domainDefineXML(xml("web", f"<{on}>{action}</{on}>"))
                self.connection.domainCreate(web)
                self.connection.domainSuspend(web)
                if others == "domainReboot":
                    self.connection.domainReboot(web, 0)
                else:
                    self.connection.domainShutdown(web)
                self.assertEqual(self.state(web), expected, (on, action))
                if expected[0] == RUNNING:
                    self.connection.domainDestroy(web)

    def test_what_cannot_be_done_in_a_state(self) -> None:
        call, internal, invalid = self.connection, ErrorNumber.INTERNAL_ERROR, ErrorNumber.OPERATION_INVALID
        test = ErrorDomain.TEST
        self.assertRefused(
            internal, test, "internal error: Domain 'test' is already running", call.domainCreate, TEST
        )
        self.assertRefused(
            internal, test, "internal error: domain 'test' not paused", call.domainResume, TEST
        )
        call.domainDestroy(TEST)
        self.told()
        for method in (call.domainSuspend, call.domainShutdown):
            self.assertRefused(internal, test, "internal error: domain 'test' not running", method, TEST)
        stopped = "Requested operation is not valid: domain is not running"
        for method, args in (
            (call.domainDestroy, (TEST,)),
            (call.domainReboot, (TEST, 0)),
            (call.domainReset, (TEST, 0)),
        ):
            self.assertRefused(invalid, ErrorDomain.DOMAIN, stopped, method, *args)

    def test_ids_are_not_used_again(self) -> None:
        web = self.connection.domainDefineXML(xml())
        ids = []
        for _ in range(3):
            self.connection.domainCreate(web)
            ids.append(self.connection.domainLookupByName("web").id)
            self.connection.domainDestroy(web)
        self.assertEqual(ids, [2, 3, 4])

    def test_renaming(self) -> None:
        web = self.connection.domainDefineXML(xml())
        self.told()
        self.assertEqual(self.connection.domainRename(web, "www", 0), 0)
        self.assertEqual(self.told(), [("web", -1, 1, 1), ("www", -1, 0, 2)])
        self.assertEqual(self.connection.domainLookupByName("www").uuid, web.uuid)
        self.assertIn("<name>www</name>", self.connection.domainGetXMLDesc(web, 0))
        invalid, words = ErrorNumber.OPERATION_INVALID, "Requested operation is not valid: "
        for name, domain, detail in (
            ("test", ErrorDomain.DOMAIN, "domain with name 'test' already exists"),
            ("www", ErrorDomain.DOMAIN, "Can't rename domain to itself"),
        ):
            self.assertRefused(invalid, domain, words + detail, self.connection.domainRename, web, name, 0)
        detail = "cannot rename active domain"
        self.assertRefused(
            invalid, ErrorDomain.TEST, words + detail, self.connection.domainRename, TEST, "x", 0
        )


class Redefining(DomainTestCase):
    """
    A second definition of the same domain.
    """

    def test_a_definition_of_a_stopped_domain_replaces_the_old_one(self) -> None:
        self.connection.domainDefineXML(xml())
        web = self.connection.domainDefineXML(xml().replace("4096", "8192"))
        self.assertEqual(self.connection.domainGetMaxMemory(web), 8192)
        self.assertEqual(self.told(), [("web", -1, 0, 0), ("web", -1, 0, 1)])

    def test_a_definition_of_a_running_domain_waits_for_the_next_start(self) -> None:
        web = self.connection.domainDefineXML(xml())
        self.connection.domainCreate(web)
        self.connection.domainDefineXML(xml().replace("4096", "8192"))
        self.assertIn("KiB'>4096<", self.connection.domainGetXMLDesc(web, 0))
        self.assertIn("KiB'>8192<", self.connection.domainGetXMLDesc(web, 2))
        self.connection.domainDestroy(web)
        self.assertIn("KiB'>8192<", self.connection.domainGetXMLDesc(web, 0))

    def test_a_transient_domain_becomes_persistent_when_it_is_defined(self) -> None:
        web = self.connection.domainCreateXML(xml(), 0)
        self.connection.domainDefineXML(xml())
        self.assertEqual(self.connection.domainIsPersistent(web), 1)
        self.connection.domainDestroy(web)
        self.assertEqual(self.state(web), (SHUTOFF, 2))

    def test_a_defined_domain_can_be_created_with_another_definition_once(self) -> None:
        self.connection.domainDefineXML(xml())
        web = self.connection.domainCreateXML(xml().replace("4096", "8192"), 0)
        self.assertEqual(self.connection.domainIsPersistent(web), 1)
        self.assertEqual(self.connection.domainGetMaxMemory(web), 8192)
        self.connection.domainDestroy(web)
        self.assertEqual(self.connection.domainGetMaxMemory(web), 4096)

    def test_an_active_domain_cannot_be_created(self) -> None:
        self.connection.domainCreateXML(xml(), 0)
        self.told()
        message = "Requested operation is not valid: domain 'web' is already active"
        self.assertRefused(
            ErrorNumber.OPERATION_INVALID,
            ErrorDomain.DOMAIN,
            message,
            self.connection.domainCreateXML,
            xml(),
            0,
        )

    def test_names_and_uuids_belong_together(self) -> None:
        known = "6695eb01-f6a4-8304-79aa-97f2502e193f"
        for document, words in (
            (xml("test"), f"domain 'test' already exists with uuid {known}"),
            (xml("other", uuid=TEST.uuid), f"domain 'test' is already defined with uuid {known}"),
        ):
            self.assertRefused(
                ErrorNumber.OPERATION_FAILED,
                ErrorDomain.DOMAIN,
                f"operation failed: {words}",
                self.connection.domainDefineXML,
                document,
            )


class Memory(DomainTestCase):
    """
    Memory, running and to come.
    """

    def sizes(self, dom: Domain, flags: int = 0) -> list[int]:
        words = self.connection.domainGetXMLDesc(dom, flags).split("KiB'>")
        return [int(word.partition("<")[0]) for word in words[1:3]]

    def test_a_running_domain_changes_at_once_and_only_itself(self) -> None:
        self.connection.domainSetMemory(TEST, 1024)
        self.assertEqual((self.sizes(TEST), self.sizes(TEST, 2)), ([8388608, 1024], [8388608, 2097152]))

    def test_the_next_start_can_be_changed_alone(self) -> None:
        self.connection.domainSetMemoryFlags(TEST, 4194304, 2 | 4)
        self.connection.domainSetMemoryFlags(TEST, 1024, 2)
        self.assertEqual((self.sizes(TEST), self.sizes(TEST, 2)), ([8388608, 2097152], [4194304, 1024]))
        self.connection.domainDestroy(TEST)
        self.assertEqual(self.sizes(TEST), [4194304, 1024])

    def test_less_at_most_is_less_now(self) -> None:
        web = self.connection.domainDefineXML(xml())
        self.connection.domainSetMaxMemory(web, 2048)
        self.assertEqual(self.sizes(web), [2048, 2048])

    def test_what_is_refused(self) -> None:
        web = self.connection.domainDefineXML(xml())
        job = self.connection.domainCreateXML(xml("job", uuid=None), 0)
        self.told()
        set, invalid = self.connection.domainSetMemoryFlags, ErrorNumber.OPERATION_INVALID
        not_valid = "Requested operation is not valid: "
        argument, test, domain = ErrorNumber.INVALID_ARG, ErrorDomain.TEST, ErrorDomain.DOMAIN
        maximum = "cannot resize the maximum memory on an active domain"
        higher = "invalid argument: cannot set memory higher than max memory"
        exclusive = "Flags 'VIR_DOMAIN_AFFECT_LIVE' and 'VIR_DOMAIN_AFFECT_CONFIG' are mutually exclusive"
        transient = "transient domains do not have any persistent config"
        self.assertRefused(argument, test, higher, set, TEST, 9999999, 0)
        self.assertRefused(invalid, test, not_valid + maximum, set, TEST, 1024, 4)
        self.assertRefused(argument, domain, exclusive, set, TEST, 1024, 3)
        self.assertRefused(invalid, domain, not_valid + "domain is not running", set, web, 1024, 1)
        self.assertRefused(invalid, domain, not_valid + transient, set, job, 1024, 2)
        zero = "memory in virDomainSetMemoryFlags must not be zero"
        self.assertRefused(argument, domain, zero, set, TEST, 0, 0)


class Processors(DomainTestCase):
    """
    vCPUs, and where they run.
    """

    def counts(self, dom: Domain) -> list[int]:
        return [self.connection.domainGetVcpusFlags(dom, flags) for flags in (1, 1 | 4, 2, 2 | 4)]

    def test_counts(self) -> None:
        self.assertEqual(self.counts(TEST), [2, 2, 2, 2])
        self.connection.domainSetVcpus(TEST, 1)
        self.assertEqual(self.counts(TEST), [1, 2, 2, 2])
        self.connection.domainSetVcpusFlags(TEST, 5, 2 | 4)
        self.assertEqual(self.counts(TEST), [1, 2, 2, 5])
        self.connection.domainSetVcpusFlags(TEST, 2, 1 | 2)
        self.assertEqual(self.counts(TEST), [2, 2, 2, 5])
        self.connection.domainSetVcpusFlags(TEST, 1, 2 | 4)
        self.assertEqual(self.counts(TEST), [2, 2, 1, 1])

    def test_what_is_refused(self) -> None:
        web = self.connection.domainDefineXML(xml())
        self.told()
        argument, test = ErrorNumber.INVALID_ARG, ErrorDomain.TEST
        words = "invalid argument: requested cpu amount exceeds maximum"
        set = self.connection.domainSetVcpus
        self.assertRefused(argument, test, f"{words} (3 > 2)", set, TEST, 3)
        self.assertRefused(argument, test, f"{words} supported amount (33 > 32)", set, TEST, 33)
        stopped = "Requested operation is not valid: domain is not running"
        self.assertRefused(ErrorNumber.OPERATION_INVALID, ErrorDomain.DOMAIN, stopped, set, web, 1)
        required = "Flag 'VIR_DOMAIN_AFFECT_CONFIG' is required by flag 'VIR_DOMAIN_VCPU_MAXIMUM'"
        flags = self.connection.domainSetVcpusFlags
        self.assertRefused(argument, ErrorDomain.DOMAIN, required, flags, TEST, 1, 1 | 4)
        guest = "unsupported flags (0x8) in function testDomainSetVcpusFlags"
        self.assertRefused(argument, test, guest, flags, TEST, 1, 8)
        listed = "Requested operation is not valid: cannot list vcpus for an inactive domain"
        self.assertRefused(
            ErrorNumber.OPERATION_INVALID, test, listed, self.connection.domainGetVcpus, web, 4, 1
        )

    def test_where_they_run(self) -> None:
        rest = "<cputune><vcpupin vcpu='1' cpuset='2'/></cputune>"
        web = self.connection.domainCreateXML(xml(rest=rest).replace("<vcpu>", "<vcpu cpuset='1,9'>"), 0)
        infos, maps = self.connection.domainGetVcpus(web, 8, 2)
        self.assertEqual([(info.number, info.state, info.cpu) for info in infos][:2], [(0, 1, 9), (1, 1, 2)])
        self.assertEqual(maps, b"\2\2" + b"\4\0" + b"\2\2" * 2 + bytes(8))
        self.assertEqual(self.connection.domainGetVcpuPinInfo(web, 2, 1, 0), (b"\2\4", 2))
        self.assertEqual(self.connection.domainGetVcpus(TEST, 1, 3).cpumaps, b"\xff\xff\0")

    def test_maps_beyond_the_protocol(self) -> None:
        get = self.connection.domainGetVcpus
        for maxinfo, maplen, words in (
            (-1, 1, "maxinfo must be non-negative"),
            (1, -1, "maplen must be non-negative"),
            (16385, 1, "maxinfo > REMOTE_VCPUINFO_MAX"),
            (16384, 600, "maxinfo * maplen > REMOTE_CPUMAPS_MAX"),
        ):
            self.assertRefused(
                ErrorNumber.INTERNAL_ERROR,
                ErrorDomain.RPC,
                f"internal error: {words}",
                get,
                TEST,
                maxinfo,
                maplen,
            )

    def test_bits_of_a_map(self) -> None:
        self.assertEqual(cpuMap(0x8103, 2), b"\x03\x81")
        self.assertEqual(cpuMap(1 << 3 | 1 << 99, 1), b"\x08")
        self.assertEqual(cpuMap(1, 0), b"")

    def test_as_many_as_the_protocol_takes(self) -> None:
        web = self.connection.domainCreateXML(xml().replace(">4<", ">4294967295<"), 0)
        infos, maps = self.connection.domainGetVcpus(web, 16384, 512)
        self.assertEqual((len(infos), len(maps)), (16384, 8388608))
        self.assertEqual(maps[:3] + maps[-512:-509], b"\xff\xff\0" * 2)


class Statistics(DomainTestCase):
    """
    All domains in one call.
    """

    def stats(self, doms: list[Domain], stats: int, flags: int = 0) -> list[tuple[str, TypedParams]]:
        records: list[DomainStatsRecord] = self.connection.connectGetAllDomainStats(doms, stats, flags)
        return [(dom.name, params) for dom, params in records]

    def test_the_state_is_all_there_is(self) -> None:
        web = self.connection.domainDefineXML(xml())
        running = TypedParams({"state.state": Int(RUNNING), "state.reason": Int(0)})
        stopped = TypedParams({"state.state": Int(SHUTOFF), "state.reason": Int(0)})
        self.assertEqual(self.stats([], 0), [("test", running), ("web", stopped)])
        self.assertEqual(self.stats([], 1), [("test", running), ("web", stopped)])
        self.assertEqual(self.stats([], 4), [("test", TypedParams()), ("web", TypedParams())])
        self.assertEqual(self.stats([web], 1), [("web", stopped)])
        self.assertEqual(self.stats([], 1, 1), [("test", running)])
        self.assertEqual(self.stats([Domain("gone", bytes(16), -1), web], 1, 2), [("web", stopped)])

    def test_who_insists_on_more_is_refused(self) -> None:
        message = "argument unsupported: Stats types bits 0x6 are not supported by this daemon"
        self.assertRefused(
            ErrorNumber.ARGUMENT_UNSUPPORTED,
            ErrorDomain.TEST,
            message,
            self.connection.connectGetAllDomainStats,
            [],
            7,
            1 << 31,
        )


class Rest(DomainTestCase):
    """
    Small questions.
    """

    def test_security(self) -> None:
        self.assertEqual(self.connection.domainGetSecurityLabel(TEST), (b"libvirt-test\0", 1))
        self.assertEqual(self.connection.nodeGetSecurityModel(), (b"testSecurity\0", b"\0"))
        self.connection.domainDestroy(TEST)
        self.assertEqual(self.connection.domainGetSecurityLabel(TEST), (b"", 0))

    def test_autostart(self) -> None:
        for value in (0, 1, 5):
            self.connection.domainSetAutostart(TEST, value)
            self.assertEqual(self.connection.domainGetAutostart(TEST), int(bool(value)))

    def test_no_event_is_sent_for_a_reboot(self) -> None:
        self.listener.connectDomainEventRegisterAny(DomainEventID.REBOOT)
        self.connection.domainReboot(TEST, 0)
        self.assertEqual(self.listener.sent, [])

    def test_two_connections_see_the_same(self) -> None:
        other: Connection = opened(self.hypervisor)
        self.connection.domainDefineXML(xml())
        self.assertEqual(other.connectListDefinedDomains(5), ["web"])
