"""Which procedure a word means, and what the words behind it are."""

from __future__ import annotations

import re
from importlib.resources import files

from twisted.trial.unittest import SynchronousTestCase

from virnet.cli.arguments import UsageError
from virnet.cli.procedures import (
    Named,
    argumentsFromObject,
    argumentsOf,
    cName,
    findProcedure,
    programNamed,
    signature,
    typeName,
)
from virnet.cli.values import PROGRAMS
from virnet.errors import XDRError
from virnet.programs import ADMIN, LXC, QEMU, REMOTE
from virnet.programs.base import Procedure
from virnet.programs.typedparams import TypedParams, UInt
from virnet.programs.values import Domain

UUID = bytes.fromhex("6695eb01f6a4830479aa97f2502e193f")
UUID_TEXT = "6695eb01-f6a4-8304-79aa-97f2502e193f"

#: One constant of a program's C{.x} text: its name on the wire, and its number.
CONSTANT = re.compile(r"^\s*(?P<name>(?P<program>[A-Z_]+?)_PROC_\w+) = (?P<number>\d+)", re.MULTILINE)


class Finding(SynchronousTestCase):
    """
    A procedure can be named in several ways.
    """

    def test_as_in_the_API(self) -> None:
        wanted = REMOTE.byName["domainLookupByName"]
        for word in ("domainLookupByName", "virDomainLookupByName", "domainlookupbyname"):
            self.assertIs(wanted, findProcedure(word))

    def test_as_on_the_wire(self) -> None:
        wanted = REMOTE.byName["domainLookupByName"]
        for word in ("domain_lookup_by_name", "DOMAIN_LOOKUP_BY_NAME", "REMOTE_PROC_DOMAIN_LOOKUP_BY_NAME"):
            self.assertIs(wanted, findProcedure(word))

    def test_every_procedure_has_its_method_name_and_C_name(self) -> None:
        for program in PROGRAMS:
            for procedure in programNamed(program).procedures.values():
                self.assertIs(procedure, findProcedure(procedure.name, [program]))
                self.assertIs(procedure, findProcedure(cName(procedure), [program]))

    def test_every_procedure_has_its_constant(self) -> None:
        seen = 0
        for source in ("remote", "qemu", "lxc", "admin"):
            program = programNamed(source)
            text = files("virnet.programs").joinpath("x", f"{source}.x").read_text()
            for found in CONSTANT.finditer(text):
                number = int(found["number"])
                if number in program.procedures:
                    self.assertIs(program.procedures[number], findProcedure(found["name"]), found["name"])
                    seen += 1
        self.assertEqual(sum(len(each.procedures) for each in (REMOTE, QEMU, LXC, ADMIN)), seen)

    def test_programs_other_than_the_main_one(self) -> None:
        self.assertIs(QEMU.byName["domainQemuMonitorCommand"], findProcedure("virDomainQemuMonitorCommand"))
        self.assertIs(QEMU.byName["domainQemuMonitorCommand"], findProcedure("domain_monitor_command"))
        self.assertIs(LXC.byName["domainLxcOpenNamespace"], findProcedure("lxc_domain_open_namespace"))
        self.assertIs(ADMIN.byName["admServerListClients"], findProcedure("virAdmServerListClients"))
        self.assertIs(ADMIN.byName["admServerListClients"], findProcedure("server_list_clients"))

    def test_the_API_name_wins(self) -> None:
        self.assertIs(REMOTE.byName["connectOpen"], findProcedure("connectOpen"))

    def test_an_ambiguous_name_names_the_candidates(self) -> None:
        error = self.assertRaises(UsageError, findProcedure, "connect_open")
        self.assertEqual(
            "'connect_open' is ambiguous: REMOTE connectOpen, ADMIN admConnectOpen; choose with --program",
            str(error),
        )
        self.assertIs(ADMIN.byName["admConnectOpen"], findProcedure("connect_open", ["ADMIN"]))

    def test_an_unknown_name(self) -> None:
        error = self.assertRaises(UsageError, findProcedure, "frobnicate")
        self.assertEqual("there is no procedure 'frobnicate'", str(error))

    def test_a_name_with_a_slip(self) -> None:
        error = self.assertRaises(UsageError, findProcedure, "domainLokupByName")
        self.assertIn("; did you mean domainLookupByName", str(error))

    def test_an_event_is_no_procedure(self) -> None:
        self.assertRaises(UsageError, findProcedure, "domainEventLifecycle", ["REMOTE"])


class Words(SynchronousTestCase):
    """
    Arguments in order.
    """

    def arguments(self, name: str, *words: str) -> list[object]:
        return argumentsOf(findProcedure(name), list(words))

    def refused(self, why: str, name: str, *words: str) -> None:
        error = self.assertRaises(UsageError, self.arguments, name, *words)
        self.assertEqual(why, str(error))

    def test_JSON(self) -> None:
        self.assertEqual([1, 3], self.arguments("connectListAllDomains", "1", "3"))
        self.assertEqual(
            [Domain("test", UUID, 1), TypedParams({"weight": UInt(5)})],
            self.arguments(
                "domainSetSchedulerParameters",
                f'{{"name": "test", "uuid": "{UUID_TEXT}", "id": 1}}',
                '{"weight": {"type": "uint", "value": 5}}',
            ),
        )

    def test_flags_may_be_left_out(self) -> None:
        self.assertEqual([1, 0], self.arguments("connectListAllDomains", "1"))

    def test_strings_need_no_quotes(self) -> None:
        for word in ("web 1", '"web 1"'):
            self.assertEqual(["web 1"], self.arguments("domainLookupByName", word))
        self.assertEqual(["<domain/>"], self.arguments("domainDefineXML", "<domain/>"))
        self.assertEqual(["5"], self.arguments("domainLookupByName", "5"))
        self.assertEqual(["null"], self.arguments("domainLookupByName", "null"))
        self.assertEqual(["{"], self.arguments("domainLookupByName", "{"))

    def test_optional_strings(self) -> None:
        self.assertEqual([None, 0], self.arguments("connectOpen", "null"))
        self.assertEqual(["null", 0], self.arguments("connectOpen", '"null"'))
        self.assertEqual(["test:///default", 0], self.arguments("connectOpen", "test:///default"))

    def test_uuids_need_no_quotes(self) -> None:
        for word in (UUID_TEXT, f'"{UUID_TEXT}"', UUID.hex()):
            self.assertEqual([UUID], self.arguments("domainLookupByUUID", word))

    def test_objects_by_name(self) -> None:
        lookup = REMOTE.byName["domainLookupByName"]
        for word in ("web1", '"web1"'):
            self.assertEqual([Named(lookup, "web1")], self.arguments("domainGetInfo", word))
        self.assertEqual(
            [Named(REMOTE.byName["storageVolLookupByPath"], "/a"), 0],
            self.arguments("storageVolDelete", "/a"),
        )
        self.assertEqual(
            [Named(ADMIN.byName["admConnectLookupServer"], "libvirtd"), 0],
            self.arguments("admServerGetThreadpoolParameters", "libvirtd"),
        )

    def test_optional_objects_by_name(self) -> None:
        name = "connectDomainEventCallbackRegisterAny"
        self.assertEqual([0, None], self.arguments(name, "0", "null"))
        self.assertEqual([0, Named(REMOTE.byName["domainLookupByName"], "x")], self.arguments(name, "0", "x"))

    def test_wrong_numbers(self) -> None:
        self.refused("domainGetInfo(dom: domain) takes 1 argument, not 0", "domainGetInfo")
        self.refused("domainGetInfo(dom: domain) takes 1 argument, not 2", "domainGetInfo", "a", "b")
        self.refused("connectGetHostname() takes 0 arguments, not 1", "connectGetHostname", "1")
        self.refused(
            "connectListAllDomains(need_results: int, flags: unsigned int) takes 1 or 2 arguments, not 3",
            "connectListAllDomains",
            *"123",
        )

    def test_wrong_JSON(self) -> None:
        self.refused(
            "domainGetInfo: dom: not JSON: Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1)",
            "domainGetInfo",
            "{",
        )
        self.refused(
            "domainSetMemory: memory: not JSON: Expecting value: line 1 column 1 (char 0)",
            "domainSetMemory",
            "test",
            "much",
        )

    def test_wrong_types(self) -> None:
        self.refused(
            "domainSetMemory: memory: expected a whole number, not 1.5", "domainSetMemory", "test", "1.5"
        )
        self.refused('domainLookupByUUID: uuid: expected a UUID, not "x"', "domainLookupByUUID", "x")
        self.refused("domainGetInfo: dom.uuid: is missing", "domainGetInfo", '{"name": "x"}')


class Objects(SynchronousTestCase):
    """
    Arguments by name.
    """

    def arguments(self, name: str, text: str) -> list[object]:
        return argumentsFromObject(findProcedure(name), text)

    def refused(self, why: str, name: str, text: str) -> None:
        error = self.assertRaises(UsageError, self.arguments, name, text)
        self.assertEqual(why, str(error))

    def test_in_any_order(self) -> None:
        self.assertEqual([1, 3], self.arguments("connectListAllDomains", '{"flags": 3, "need_results": 1}'))

    def test_what_may_be_left_out(self) -> None:
        self.assertEqual([1, 0], self.arguments("connectListAllDomains", '{"need_results": 1}'))
        self.assertEqual([None, 0], self.arguments("connectOpen", "{}"))

    def test_objects_by_name(self) -> None:
        named = Named(REMOTE.byName["domainLookupByName"], "web1")
        self.assertEqual([named, 1], self.arguments("domainSetAutostart", '{"autostart": 1, "dom": "web1"}'))

    def test_refusals(self) -> None:
        self.refused("domainGetInfo: --args: expected an object by parameter names", "domainGetInfo", "[]")
        self.refused("domainGetInfo: dom: is missing", "domainGetInfo", "{}")
        self.refused(
            "domainLookupByName: there is no 'nam' here, only name", "domainLookupByName", '{"nam": "x"}'
        )
        self.refused("domainSetAutostart: autostart: is missing", "domainSetAutostart", '{"dom": "x"}')


class Signatures(SynchronousTestCase):
    def test_types_in_words(self) -> None:
        said = {
            "domainSetSchedulerParameters": "(dom: domain, params: typed_param[])",
            "connectOpen": "(name: string or null, flags: unsigned int)",
            "domainLookupByUUID": "(uuid: uuid)",
            "domainPinVcpu": "(dom: domain, vcpu: unsigned int, cpumap: opaque)",
            "authList": "()",
        }
        for name, parameters in said.items():
            self.assertEqual(name + parameters, signature(REMOTE.byName[name]))
        self.assertEqual("nothing", typeName(REMOTE.byName["domainCreate"].ret))
        self.assertEqual("domain", typeName(REMOTE.byName["domainLookupByName"].ret))

    def test_every_signature_can_be_said(self) -> None:
        for program in PROGRAMS:
            for procedure in programNamed(program).procedures.values():
                self.assertNotIn("nothing", signature(procedure))


class EveryProcedure(SynchronousTestCase):
    """
    What C{call} checks fits what the codecs take.
    """

    def test_missing_arguments_are_always_seen(self) -> None:
        for program in PROGRAMS:
            for procedure in programNamed(program).procedures.values():
                needed = [name for name in procedure.parameters if name != "flags"]
                if needed:
                    self.assertRaises(UsageError, argumentsOf, procedure, [])

    def test_a_number_out_of_range_is_left_to_the_codec(self) -> None:
        procedure: Procedure = REMOTE.byName["domainLookupByID"]
        arguments = argumentsOf(procedure, [str(2**31)])
        error = self.assertRaises(XDRError, procedure.encodeArgs, tuple(arguments))
        self.assertTrue(str(error).startswith("args.id: "), str(error))
