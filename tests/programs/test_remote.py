"""libvirt's programs in use: shapes of wire.md's appendix A, and the cases about generated code."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from virnet import programs
from virnet.errors import XDRError
from virnet.programs import ADMIN, KEEPALIVE, LOCK, LXC, QEMU, REMOTE, IDomain, IRemote, IRemoteEvents
from virnet.programs.typedparams import TypedParams, TypedParamType
from virnet.programs.values import (
    Domain,
    DomainGetBlockJobInfoRet,
    DomainGetInfoRet,
    DomainSnapshot,
    DomainStatsRecord,
    HostInterface,
)

FAMILIES: tuple[Any, ...] = IRemote.__bases__
DOMAIN = Domain("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)


class ShapeTests(SynchronousTestCase):
    """Bytes of real libvirt (wire.md 1.5) as the tables read and write them."""

    def test_connectOpen(self) -> None:
        data = REMOTE.byName["connectOpen"].encodeArgs(("test:///default", 0))
        self.assertEqual(data.hex(), "000000010000000f746573743a2f2f2f64656661756c740000000000")

    def test_listAllDomains(self) -> None:
        procedure = REMOTE.procedures[273]
        self.assertEqual(procedure.encodeArgs((1, 3)).hex(), "0000000100000003")
        reply = bytes.fromhex("0000000100000004746573746695eb01f6a4830479aa97f2502e193f0000000100000001")
        value = procedure.decodeRet(reply)
        self.assertEqual((value.domains, value.ret), ([DOMAIN], 1))
        self.assertIsInstance(value.domains[0], Domain)
        self.assertEqual(procedure.encodeRet(value), reply)

    def test_lifecycleEvent(self) -> None:
        event = REMOTE.events[318]
        body = bytes.fromhex(
            "0000000000000004746573746695eb01f6a4830479aa97f2502e193f000000010000000300000000"
        )
        callbackID, message = event.decodeArgs(body)
        self.assertEqual((callbackID, message.dom, message.event, message.detail), (0, DOMAIN, 3, 0))
        self.assertEqual(event.encodeArgs((0, message)), body)

    def test_domainGetInfo(self) -> None:
        """The state is a char and the number of processors a short, each in a word of its own."""
        value = DomainGetInfoRet(1, 8388608, 2097152, 2, 123456789)
        data = REMOTE.byName["domainGetInfo"].encodeRet(value)
        self.assertEqual(len(data), 4 + 8 + 8 + 4 + 8)
        self.assertEqual(REMOTE.byName["domainGetInfo"].decodeRet(data), value)

    def test_saslDataIsAnArrayOfChars(self) -> None:
        data = REMOTE.byName["authSASLStart"].encodeArgs(("PLAIN", 0, b"\0fr\xc3"))
        self.assertEqual(data.hex()[-40:], "00000004000000000000006600000072ffffffc3")

    def test_authTypesAboveTheLimit(self) -> None:
        authList = REMOTE.byName["authList"]
        self.assertEqual(authList.decodeRet(authList.encodeRet([0] * 20)), [0] * 20)
        self.assertRaises(XDRError, authList.decodeRet, b"\0\0\0\x15" + bytes(84))

    def test_typedParametersOfAReply(self) -> None:
        """The example of wire.md section 14."""
        data = bytes.fromhex(
            "00000002 00000006 77656967 68740000 00000002 00000000"
            "0000000d 64657669 63655f77 65696768 74000000 00000007 00000000 00000000"
        )
        procedure = REMOTE.byName["domainGetBlkioParameters"]
        value = procedure.decodeRet(data)
        self.assertEqual(value.params["weight"], 0)
        self.assertIs(value.params.typeOf("weight"), TypedParamType.UINT)
        self.assertEqual(value.params["device_weight"], "")
        self.assertEqual(value.nparams, 0)
        self.assertEqual(procedure.encodeRet(value), data)

    def test_domainStats(self) -> None:
        procedure = REMOTE.byName["connectGetAllDomainStats"]
        records = [DomainStatsRecord(DOMAIN, TypedParams({"state.state": 1}))]
        self.assertEqual(procedure.decodeRet(procedure.encodeRet(records)), records)

    def test_memoryParametersAboveTheLimit(self) -> None:
        """17 where 16 is the limit."""
        procedure = REMOTE.byName["domainSetMemoryParameters"]
        fine = procedure.encodeArgs((DOMAIN, TypedParams((str(n), n) for n in range(16)), 0))
        self.assertEqual(len(procedure.decodeArgs(fine)[1]), 16)
        error = self.assertRaises(
            XDRError, procedure.encodeArgs, (DOMAIN, TypedParams((str(n), n) for n in range(17)), 0)
        )
        self.assertEqual(error.path, "args.params")

    def test_longStrings(self) -> None:
        lookup = REMOTE.byName["domainLookupByName"]
        lookup.encodeArgs(("x" * 4194304,))
        error = self.assertRaises(XDRError, lookup.encodeArgs, ("x" * 4194305,))
        self.assertEqual(error.path, "args.name")

    def test_hostInterface(self) -> None:
        """libvirt's interface object, not zope's."""
        procedure = REMOTE.byName["interfaceLookupByName"]
        value = HostInterface("eth1", "aa:bb:cc:dd:ee:ff")
        self.assertEqual(procedure.decodeRet(procedure.encodeRet(value)), value)


class CaseTests(SynchronousTestCase):
    """Regression cases about generated code."""

    def test_R025_closeHasNeitherArgumentsNorReturnValue(self) -> None:
        close = REMOTE.procedures[2]
        self.assertEqual((close.name, close.args, close.ret), ("connectClose", (), None))
        self.assertEqual((close.encodeArgs(()), close.decodeRet(b"")), (b"", None))

    def test_R026_unsignedLongsTravelAsUnsignedHyper(self) -> None:
        """Nothing is cut off: what does not fit is an error."""
        for name in ("connectGetVersion", "connectGetLibVersion", "domainGetMaxMemory"):
            procedure = REMOTE.byName[name]
            self.assertEqual(procedure.encodeRet(2**64 - 1), b"\xff" * 8, name)
            self.assertEqual(procedure.decodeRet(b"\xff" * 8), 2**64 - 1, name)
            self.assertRaises(XDRError, procedure.encodeRet, 2**64)
            self.assertRaises(XDRError, procedure.encodeRet, -1)
        speed = REMOTE.byName["domainMigrateGetMaxSpeed"]
        self.assertEqual(speed.decodeRet(speed.encodeRet(2**32)), 2**32)

    def test_R027_objectsDerivedFromObjectsKeepTheirFields(self) -> None:
        parent = REMOTE.byName["domainSnapshotGetParent"]
        snapshot = DomainSnapshot("before", DOMAIN)
        self.assertEqual(parent.decodeRet(parent.encodeRet(snapshot)), snapshot)
        self.assertEqual(parent.decodeArgs(parent.encodeArgs((snapshot, 0))), (snapshot, 0))
        job = REMOTE.byName["domainGetBlockJobInfo"]
        info = DomainGetBlockJobInfoRet(1, 2, 2**40, 2**50, 2**60)
        self.assertEqual(job.decodeRet(job.encodeRet(info)), info)

    def test_R028_qemuHasItsOwnNumber(self) -> None:
        self.assertEqual((QEMU.number, QEMU.version), (0x20008087, 1))
        self.assertEqual(QEMU.procedures[1].name, "domainQemuMonitorCommand")

    def test_R043_withoutAnnotationThePriorityIsLow(self) -> None:
        self.assertEqual(REMOTE.events[107].priority, programs.Priority.LOW)
        self.assertEqual(LOCK.procedures[1].priority, programs.Priority.LOW)


class PackageTests(SynchronousTestCase):
    """What C{virnet.programs} has to offer."""

    def test_programs(self) -> None:
        numbers = [program.number for program in (REMOTE, QEMU, LXC, ADMIN, KEEPALIVE, LOCK)]
        wanted = [0x20008086, 0x20008087, 0x00068000, 0x06900690, 0x6B656570, 0x0EA7BEEF]
        self.assertEqual(numbers, wanted)

    def test_keepaliveHasOnlyMessages(self) -> None:
        self.assertEqual(KEEPALIVE.procedures, {})
        self.assertEqual(list(KEEPALIVE.eventsByName), ["ping", "pong"])

    def test_families(self) -> None:
        """The main interface is the sum of its families, each procedure in one of them."""
        self.assertTrue(IRemote.extends(IDomain))
        self.assertIs(REMOTE.interface, IRemote)
        self.assertIs(REMOTE.eventInterface, IRemoteEvents)
        self.assertFalse(IRemoteEvents.extends(IRemote))
        names = [name for family in FAMILIES for name in family]
        self.assertEqual(sorted(names), sorted(REMOTE.byName))

    def test_publicNames(self) -> None:
        """Methods are called as in libvirt's API reference, without vir."""
        for name in (
            "domainGetXMLDesc", "domainLookupByUUID", "domainLookupByID", "connectGetURI", "domainGetOSType",
            "domainFSTrim", "networkGetDHCPLeases", "domainGetFSInfo", "connectDomainXMLFromNative",
            "nodeDeviceLookupSCSIHostByWWN", "domainPMWakeup", "nwfilterLookupByName",
            "connectListAllNWFilters", "domainSetBlockIoTune", "domainAddIOThread", "nodeGetSEVInfo",
            "domainInjectNMI", "domainAuthorizedSSHKeysGet", "domainFDAssociate", "domainOpenGraphicsFD",
            "interfaceLookupByMACString", "nodeGetCPUStats", "connectGetMaxVcpus", "domainGetVcpus",
        ):  # fmt: skip
            self.assertIn(name, REMOTE.byName)
        self.assertIn("domainEventBlockJob2", REMOTE.eventsByName)
        self.assertIn("admServerGetThreadPoolParameters", ADMIN.byName)

    def test_methodsSayWhatTheyAre(self) -> None:
        said = IDomain["domainOpenConsole"].__doc__
        self.assertEqual(
            " ".join(said.split()),
            "C: C{virDomainOpenConsole}; C{REMOTE_PROC_DOMAIN_OPEN_CONSOLE}, 201; low priority; "
            "opens a stream both ways; needs domain:open_device.",
        )
        self.assertIn("C{virNWFilterLookupByName}", IRemote["nwfilterLookupByName"].__doc__)
        self.assertIn("descriptors come with the reply", IRemote["domainOpenGraphicsFD"].__doc__)
        self.assertIn("which may have holes", IRemote["storageVolUpload"].__doc__)

    def test_unknownNames(self) -> None:
        for name in ("remote", "Remote", "INothing", "I", "Interface", "IInterface", "nothing"):
            error = self.assertRaises(AttributeError, getattr, programs, name)
            self.assertEqual(str(error), f"module 'virnet.programs' has no attribute {name!r}")

    def test_programsAreBuiltWhenLookedUp(self) -> None:
        """Importing the package builds none, and needs neither Twisted nor lark."""
        code = (
            "import sys, virnet.programs\n"
            "assert not [m for m in sys.modules if m.startswith('virnet.programs._')]\n"
            "from virnet.programs import KEEPALIVE, REMOTE\n"
            "assert 'virnet.programs._tables.qemu' not in sys.modules\n"
            "assert not [m for m in ('twisted', 'lark', 'virnet.idl') if m in sys.modules]\n"
        )
        # trial may have put the checkout on the path without telling the environment.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
