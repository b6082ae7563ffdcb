"""
Snapshots of domains in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.hypervisor.sessions import NOW, memory, opened
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.programs.constants import DomainSnapshotListFlags as F
from virnet.programs.values import Domain, DomainSnapshot

TEST = Domain("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
HALT, CHILDREN, CHILDREN_ONLY = 8, 1, 4
REVERT_RUNNING, REVERT_PAUSED = 1, 2


class SnapshotTestCase(SynchronousTestCase):
    """
    A domain with the snapshots a - b - c and, below a, d.
    """

    def setUp(self) -> None:
        hypervisor = memory()
        self.call = opened(hypervisor)
        self.listener = opened(hypervisor)
        self.a, self.b, self.c = (self.make(name) for name in "abc")
        self.call.domainRevertToSnapshot(self.a, 0)
        self.d = self.make("d")
        self.listener.connectDomainEventRegister()

    def make(self, name: str, flags: int = 0) -> DomainSnapshot:
        xml = f"<domainsnapshot><name>{name}</name></domainsnapshot>"
        made: DomainSnapshot = self.call.domainSnapshotCreateXML(TEST, xml, flags)
        return made

    def names(self, flags: int = 0) -> str:
        return "".join(self.call.domainSnapshotListNames(TEST, 99, int(flags)))

    def told(self) -> list[tuple[int, int, int]]:
        return [(dom.id, event, detail) for _, dom, event, detail in self.listener.sent]

    def assertRefused(self, code: int, domain: int, message: str, call: Any, *args: Any) -> None:
        error = self.assertRaises(RemoteError, call, *args)
        self.assertEqual((error.code, error.domain, error.message), (code, domain, message))


class Making(SnapshotTestCase):
    """
    What a snapshot keeps.
    """

    def test_it_says_what_the_domain_was(self) -> None:
        xml = self.call.domainSnapshotGetXMLDesc(self.b, 0)
        self.assertEqual(
            xml[: xml.index("  <domain ")],
            "<domainsnapshot>\n"
            "  <name>b</name>\n"
            "  <state>running</state>\n"
            "  <parent>\n"
            "    <name>a</name>\n"
            "  </parent>\n"
            f"  <creationTime>{int(NOW)}</creationTime>\n"
            "  <memory snapshot='internal'/>\n"
            "  <disks>\n"
            "    <disk name='vda' snapshot='internal'/>\n"
            "  </disks>\n",
        )
        self.assertIn("  <domain type='test'>\n    <name>test</name>\n", xml)

    def test_without_a_name_it_is_named_after_the_time(self) -> None:
        made = self.call.domainSnapshotCreateXML(TEST, "<domainsnapshot/>", 0)
        self.assertEqual(made.name, str(int(NOW)))

    def test_it_becomes_current(self) -> None:
        self.assertEqual(self.call.domainSnapshotCurrent(TEST, 0).name, "d")
        self.assertEqual(self.call.domainSnapshotIsCurrent(self.d, 0), 1)
        self.assertEqual(self.call.domainSnapshotIsCurrent(self.a, 0), 0)

    def test_halting_stops_the_domain(self) -> None:
        self.make("e", HALT)
        self.assertEqual(self.call.domainGetState(TEST, 0), (5, 7))
        self.assertEqual(self.told(), [(-1, 5, 6)])

    def test_what_is_refused(self) -> None:
        create, xml = self.call.domainSnapshotCreateXML, "<domainsnapshot><name>{}</name>{}</domainsnapshot>"
        taken = "operation failed: domain moment a already exists"
        self.assertRefused(
            ErrorNumber.OPERATION_FAILED, ErrorDomain.DOMAIN, taken, create, TEST, xml.format("a", ""), 0
        )
        flags = "unsupported flags (0x10) in function testDomainSnapshotCreateXML"
        self.assertRefused(
            ErrorNumber.INVALID_ARG, ErrorDomain.TEST, flags, create, TEST, xml.format("e", ""), 16
        )
        snapshot, unsupported = ErrorDomain.DOMAIN_SNAPSHOT, ErrorNumber.CONFIG_UNSUPPORTED
        for rest, words in (
            ("<disks><disk name='vdz'/></disks>", "no disk named 'vdz'"),
            (
                "<disks><disk name='vda' snapshot='no'/></disks>",
                "disk 'vda' must use snapshot mode 'internal'",
            ),
        ):
            message = f"unsupported configuration: {words}"
            self.assertRefused(unsupported, snapshot, message, create, TEST, xml.format("e", rest), 0)
        self.assertEqual(self.names(), "abcd")


class Listing(SnapshotTestCase):
    """
    Snapshots as a list and as a tree.
    """

    def test_by_flags(self) -> None:
        for flags, names in (
            (0, "abcd"),
            (F.TOPOLOGICAL, "abcd"),
            (F.ROOTS, "a"),
            (F.LEAVES, "cd"),
            (F.NO_LEAVES, "ab"),
            (F.METADATA, "abcd"),
            (F.NO_METADATA, ""),
            (F.ACTIVE, "abcd"),
            (F.INACTIVE, ""),
            (F.INTERNAL, "abcd"),
            (F.EXTERNAL | F.INTERNAL, "abcd"),
            (F.EXTERNAL, ""),
            (F.DISK_ONLY, ""),
        ):
            self.assertEqual(self.names(flags), names, flags)
            self.assertEqual(self.call.domainSnapshotNum(TEST, int(flags)), len(names))
            found, count = self.call.domainListAllSnapshots(TEST, 1, int(flags))
            self.assertEqual(("".join(each.name for each in found), count), (names, len(names)))

    def test_children_and_descendants(self) -> None:
        for flags, names in ((0, ["b", "d"]), (F.DESCENDANTS, ["b", "c", "d"])):
            self.assertEqual(self.call.domainSnapshotListChildrenNames(self.a, 9, int(flags)), names)
            self.assertEqual(self.call.domainSnapshotNumChildren(self.a, int(flags)), len(names))
            found, count = self.call.domainSnapshotListAllChildren(self.a, 1, int(flags))
            self.assertEqual(([each.name for each in found], count), (names, len(names)))

    def test_parents(self) -> None:
        self.assertEqual(self.call.domainSnapshotGetParent(self.c, 0).name, "b")
        message = "Domain snapshot not found: snapshot 'a' does not have a parent"
        self.assertRefused(
            ErrorNumber.NO_DOMAIN_SNAPSHOT,
            ErrorDomain.TEST,
            message,
            self.call.domainSnapshotGetParent,
            self.a,
            0,
        )

    def test_what_is_not_there(self) -> None:
        message = "Domain snapshot not found: no domain snapshot with matching name 'x'"
        for call, args in (
            (self.call.domainSnapshotLookupByName, (TEST, "x", 0)),
            (self.call.domainSnapshotDelete, (DomainSnapshot("x", TEST), 0)),
            (self.call.domainRevertToSnapshot, (DomainSnapshot("x", TEST), 0)),
            (self.call.domainSnapshotHasMetadata, (DomainSnapshot("x", TEST), 0)),
        ):
            self.assertRefused(ErrorNumber.NO_DOMAIN_SNAPSHOT, ErrorDomain.TEST, message, call, *args)


class Deleting(SnapshotTestCase):
    """
    What becomes of those below.
    """

    def test_they_move_up(self) -> None:
        self.call.domainSnapshotDelete(self.b, 0)
        self.assertEqual(self.call.domainSnapshotGetParent(self.c, 0).name, "a")
        self.call.domainSnapshotDelete(self.a, 0)
        self.assertEqual(self.names(F.ROOTS), "cd")

    def test_they_go_too(self) -> None:
        self.call.domainSnapshotDelete(self.b, CHILDREN)
        self.assertEqual(self.names(), "ad")

    def test_only_they_go(self) -> None:
        self.call.domainSnapshotDelete(self.a, CHILDREN_ONLY)
        self.assertEqual(self.names(), "a")
        self.assertEqual(self.call.domainSnapshotCurrent(TEST, 0).name, "a")

    def test_the_one_above_the_current_one_becomes_current(self) -> None:
        self.call.domainSnapshotDelete(self.d, 0)
        self.assertEqual(self.call.domainSnapshotCurrent(TEST, 0).name, "a")
        self.call.domainSnapshotDelete(self.a, CHILDREN)
        self.assertEqual(self.call.domainHasCurrentSnapshot(TEST, 0), 0)

    def test_a_stopped_domain_with_snapshots_is_undefined_only_with_them(self) -> None:
        self.call.domainDestroy(TEST)
        message = "Requested operation is not valid: cannot delete inactive domain with 4 snapshots"
        self.assertRefused(
            ErrorNumber.OPERATION_INVALID, ErrorDomain.TEST, message, self.call.domainUndefine, TEST
        )
        self.call.domainUndefineFlags(TEST, 2)
        self.assertEqual(self.call.connectNumOfDefinedDomains(), 0)


class Reverting(SnapshotTestCase):
    """
    What a domain does after reverting, and what is told.
    """

    def setUp(self) -> None:
        super().setUp()
        self.call.domainSuspend(TEST)
        self.paused = self.make("p")
        self.call.domainDestroy(TEST)
        self.stopped = self.make("s")
        self.call.domainCreate(TEST)
        self.told()

    def test_to_each_state_from_a_running_domain(self) -> None:
        for snapshot, flags, state, events in (
            (self.a, 0, (1, 4), [(5, 6), (2, 3)]),
            (self.paused, 0, (3, 7), [(5, 6), (2, 3), (3, 5)]),
            (self.paused, REVERT_RUNNING, (1, 4), [(5, 6), (2, 3)]),
            (self.a, REVERT_PAUSED, (3, 7), [(5, 6), (2, 3), (3, 5)]),
            (self.stopped, 0, (5, 7), [(5, 6)]),
            (self.stopped, REVERT_RUNNING, (1, 4), [(2, 3)]),
        ):
            self.call.domainRevertToSnapshot(snapshot, flags)
            self.assertEqual(self.call.domainGetState(TEST, 0), state)
            self.assertEqual([each[1:] for each in self.told()], events)
            self.assertEqual(self.call.domainSnapshotCurrent(TEST, 0).name, snapshot.name)

    def test_the_definition_comes_back(self) -> None:
        self.call.domainSetMemory(TEST, 1024)
        self.call.domainRevertToSnapshot(self.a, 0)
        self.assertEqual(self.call.domainGetInfo(TEST).memory, 2097152)

    def test_the_name_stays(self) -> None:
        self.call.domainDestroy(TEST)
        self.call.domainRename(TEST, "renamed", 0)
        self.call.domainRevertToSnapshot(self.stopped, 0)
        found = self.call.domainLookupByUUID(TEST.uuid)
        self.assertEqual(found, Domain("renamed", TEST.uuid, -1))
        self.assertIn("<name>renamed</name>", self.call.domainGetXMLDesc(found, 0))
        self.assertEqual(self.call.domainLookupByName("renamed"), found)

    def test_both_flags_exclude_each_other(self) -> None:
        names = "'VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING' and 'VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED'"
        self.assertRefused(
            ErrorNumber.INVALID_ARG,
            ErrorDomain.DOMAIN_SNAPSHOT,
            f"Flags {names} are mutually exclusive",
            self.call.domainRevertToSnapshot,
            self.a,
            3,
        )

    def test_a_transient_domain_goes_on(self) -> None:
        self.call.domainUndefine(TEST)
        self.call.domainRevertToSnapshot(self.a, 0)
        self.assertEqual(self.call.domainGetState(TEST, 0), (1, 4))
        self.assertEqual(self.call.domainIsPersistent(TEST), 0)
        message = "transient domain needs to request run or pause to revert to inactive snapshot"
        self.assertRefused(
            ErrorNumber.OPERATION_INVALID,
            ErrorDomain.TEST,
            f"Requested operation is not valid: {message}",
            self.call.domainRevertToSnapshot,
            self.stopped,
            0,
        )
