"""What things of a text are called in Python."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from virnet.idl.names import capitalized, className, cName, isFlags, memberNames, nodeName, safe, unique
from virnet.programs.overrides import OVERRIDES, Overrides


class NameTests(SynchronousTestCase):
    """The rules for each kind of thing."""

    def test_mixedCase(self) -> None:
        for name, wanted in (
            ("domain_get_xml_desc", "DomainGetXMLDesc"), ("virNetMessageError", "VirNetMessageError"),
            ("node_device_lookup_scsi_host_by_wwn", "NodeDeviceLookupSCSIHostByWWN"), ("_x__y_", "XY"),
        ):  # fmt: skip
            self.assertEqual(capitalized(name, OVERRIDES), wanted)

    def test_classes(self) -> None:
        for name, wanted in (
            ("remote_nonnull_domain", "Domain"), ("remote_domain_get_info_ret", "DomainGetInfoRet"),
            ("remote_nonnull_interface", "HostInterface"), ("admin_nonnull_server", "AdminServer"),
            ("virNetMessageHeader", "NetMessageHeader"), ("none", "None_"),
        ):  # fmt: skip
            self.assertEqual(className(name, OVERRIDES), wanted)

    def test_functionsOfThePublicAPI(self) -> None:
        self.assertEqual(cName("domainGetXMLDesc"), "virDomainGetXMLDesc")
        self.assertEqual(cName("nwfilterBindingDelete"), "virNWFilterBindingDelete")

    def test_nodes(self) -> None:
        for name, prefix, wanted in (
            ("remote_nonnull_domain", "remote_", "NONNULL_DOMAIN"),
            ("virNetMessageUUID", "", "VIR_NET_MESSAGE_UUID"),
            ("UUIDString", "", "UUID_STRING"),
            ("x86Flags", "", "X86_FLAGS"),
            ("x_2", "x_", "X_2"),
        ):
            self.assertEqual(nodeName(name, prefix), wanted)

    def test_whatPythonWouldNotTake(self) -> None:
        names = ["from", "self", "mro", "_hidden", "__", "name"]
        self.assertEqual([safe(name) for name in names], ["from_", "self_", "mro_", "hidden_", "_", "name"])

    def test_unique(self) -> None:
        self.assertEqual(unique(["a", "b", "a", "a_", "c"], ["c"]), ["a", "b", "a_", "a__", "c_"])


class MemberTests(SynchronousTestCase):
    """Members of enums lose what they have in common."""

    def short(self, enum: str, *names: str, rules: Overrides = OVERRIDES) -> list[str]:
        return list(memberNames(enum, dict.fromkeys(names, 0), rules).values())

    def test_common(self) -> None:
        self.assertEqual(
            self.short("virDomainState", "VIR_DOMAIN_NOSTATE", "VIR_DOMAIN_RUNNING"), ["NOSTATE", "RUNNING"]
        )

    def test_oneWordStays(self) -> None:
        self.assertEqual(self.short("e", "A_B", "A_B_C"), ["B", "B_C"])
        self.assertEqual(self.short("e", "RED", "GREEN"), ["RED", "GREEN"])

    def test_noNameBeginsWithADigit(self) -> None:
        self.assertEqual(self.short("e", "KEY_SET_1", "KEY_SET_2"), ["SET_1", "SET_2"])
        self.assertEqual(self.short("key_set", "KEY_SET_1"), ["SET_1"])

    def test_single(self) -> None:
        """The enum's own name says what is common."""
        self.assertEqual(self.short("virNWFilterDefineFlags", "VIR_NWFILTER_DEFINE_VALIDATE"), ["VALIDATE"])
        self.assertEqual(self.short("virDomainBlockedReason", "VIR_DOMAIN_BLOCKED_UNKNOWN"), ["UNKNOWN"])
        self.assertEqual(self.short("color", "RED"), ["RED"])

    def test_given(self) -> None:
        """Where the rule would lose the difference between two members."""
        names = "VIR_ERR_NO_NETWORK", "VIR_WAR_NO_NETWORK"
        self.assertEqual(self.short("virErrorNumber", *names), ["NO_NETWORK", "WAR_NO_NETWORK"])
        rules = Overrides(memberPrefixes={"e": ("X_",)})
        self.assertEqual(self.short("e", "X_A", "Y_A", rules=rules), ["A", "Y_A"])

    def test_keywords(self) -> None:
        self.assertEqual(self.short("e", "E_None", "E_mro"), ["None_", "mro_"])

    def test_flags(self) -> None:
        for enum, values, wanted in (
            ("virXFlags", [1], True), ("virXFlags", [0, 1, 2], True), ("virXFlags", [1, 2, 3], False),
            ("virXFlags", [-1], False), ("virStats", [1, 2, 4, 8], True), ("virState", [0, 1, 2], False),
            ("virState", [0, 1, 2, 3, 4], False), ("virDomainModificationImpact", [0, 1, 2], True),
        ):  # fmt: skip
            members = {str(value): value for value in values}
            self.assertEqual(isFlags(enum, members, OVERRIDES), wanted, (enum, values))
