"""Every fact about libvirt's programs against the generated tables.

Numbers, names, types, limits, priorities, streams and permissions.
"""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.programs.digest import facts, rendered, renderedFields
from virnet import programs
from virnet.programs import Priority, Procedure, Program, constants
from virnet.xdr.schema import Enum, Node, Struct, Union

PROGRAMS = ("remote", "qemu", "lxc", "admin", "keepalive", "lock")

# What the .x language cannot say, and the facts therefore do not say either.
DUPLEX = {("remote", 201), ("remote", 296)}
DESCRIPTORS = {
    ("remote", 249): "call", ("remote", 309): "call", ("remote", 310): "call", ("remote", 443): "call",
    ("remote", 343): "reply", ("qemu", 7): "call", ("lxc", 1): "reply",
}  # fmt: skip


def program(name: str) -> Program[Any, Any]:
    found: Program[Any, Any] = getattr(programs, name.upper())
    return found


def described(name: str, procedure: Procedure) -> list[Any]:
    """A procedure as the facts describe it, but for its name."""
    fields = [[field.rstrip("_"), rendered(node)] for field, node in procedure.args]
    stream = procedure.stream
    if (name, procedure.number) in DUPLEX and stream == "duplex":
        stream = "read"
    return [
        "event" if procedure.event else "call", procedure.number, fields,
        None if procedure.ret is None else rendered(procedure.ret),
        procedure.priority.name.lower(), stream, procedure.sparse,
        list(procedure.acl), list(procedure.aclFilter),
    ]  # fmt: skip


def compared(name: str, procedures: dict[int, Procedure]) -> list[str]:
    """What is different between the facts and procedures."""
    wrong = []
    left = dict(procedures)
    for fact in facts(name):
        if fact[0] not in ("call", "event"):
            continue
        procedure = left.pop(fact[1], None)
        wanted = [fact[0], fact[1], *fact[3:]]
        if procedure is None:
            wrong.append(f"{fact[1]} {fact[2]} is missing")
        elif described(name, procedure) != wanted:
            wrong.append(f"{fact[2]}: {described(name, procedure)} is not {wanted}")
    return wrong + [f"{procedure} is no fact" for procedure in left.values()]


class TableTests(SynchronousTestCase):
    """The tables say what the facts say."""

    def test_numbersAndVersions(self) -> None:
        for name in PROGRAMS:
            [fact] = [fact for fact in facts(name) if fact[0] == "program"]
            self.assertEqual([program(name).number, program(name).version], fact[1:], name)

    def test_procedures(self) -> None:
        for name in PROGRAMS:
            every = {**program(name).procedures, **program(name).events}
            self.assertEqual(compared(name, every), [])

    def test_remoteHas456Procedures(self) -> None:
        remote = program("remote")
        self.assertEqual((len(remote.procedures), len(remote.events)), (401, 55))

    def test_methodNamesAreTheProcedures(self) -> None:
        """Without case and underscores, a method is called as its procedure."""
        extra = {"qemu": "qemu", "lxc": "lxc"}
        for name in PROGRAMS:
            every = {**program(name).procedures, **program(name).events}
            for fact in facts(name):
                if fact[0] in ("call", "event"):
                    method = every[fact[1]].name.lower().replace(extra.get(name, "\0"), "")
                    self.assertEqual(method.removeprefix("adm"), fact[2].replace("_", ""))

    def test_types(self) -> None:
        """Every structure, union and enum that is not the arguments of one procedure alone."""
        for name in (*PROGRAMS, "net"):
            module = import_module(f"virnet.programs._tables.{name}")
            found: dict[str, Node] = {
                node.name: node for node in vars(module).values() if isinstance(node, (Struct, Union, Enum))
            }
            for fact in facts(name):
                node = found.get(fact[1])
                match fact[0]:
                    case "struct":
                        assert isinstance(node, Struct), fact[1]
                        self.assertEqual(renderedFields(node.fields), fact[2], fact[1])
                    case "union":
                        assert isinstance(node, Union), fact[1]
                        arms = {str(value): [arm, rendered(type)] for value, (arm, type) in node.arms.items()}
                        self.assertEqual([rendered(node.switch), arms], fact[2:], fact[1])
                        self.assertIs(node.default, None)
                    case "enum":
                        assert isinstance(node, Enum), fact[1]
                        self.assertEqual(dict(node.members), fact[2], fact[1])
                    case "typedef":
                        short = fact[1].removeprefix(f"{name}_")
                        variables = {variable.replace("_", "").lower(): variable for variable in vars(module)}
                        variable = variables[
                            short.replace("_", "").lower().removeprefix("virlockspaceprotocol")
                        ]
                        self.assertEqual(rendered(vars(module)[variable]), fact[2], fact[1])

    def test_typesHaveNoOthers(self) -> None:
        """Nothing is in the tables that is no fact."""
        for name in (*PROGRAMS, "net"):
            module = import_module(f"virnet.programs._tables.{name}")
            known = {
                fact[1] for fact in facts(name) + facts("remote") if fact[0] in ("struct", "union", "enum")
            }
            found = {node.name for node in vars(module).values() if isinstance(node, (Struct, Union, Enum))}
            self.assertEqual(found - known, set())

    def test_constants(self) -> None:
        for name in (*PROGRAMS, "net"):
            module = import_module(f"virnet.programs._tables.{name}")
            for fact in facts(name):
                # The others are libvirt's headers', which the tables have as numbers.
                if fact[0] == "const" and not fact[1].startswith(("VIR_UUID", "VIR_TYPED", "VIR_SECURITY")):
                    self.assertEqual(getattr(module, fact[1]), fact[2], fact[1])

    def test_structuresWithSeveralMembersHaveTheirFactories(self) -> None:
        """A value decodes to the class with the structure's fields."""
        module = import_module("virnet.programs._tables.remote")
        for node in vars(module).values():
            if isinstance(node, Struct) and node.name != "remote_typed_param":
                factory: Any = node.factory
                self.assertEqual(factory._fields, tuple(name for name, _ in node.fields), node.name)
                self.assertIn(node.name, factory.__doc__)

    def test_descriptors(self) -> None:
        for name in PROGRAMS:
            for number, procedure in program(name).procedures.items():
                self.assertEqual(procedure.fds, DESCRIPTORS.get((name, number)), procedure.name)

    def test_consolesAndChannelsGoBothWays(self) -> None:
        remote = program("remote").byName
        self.assertEqual(remote["domainOpenConsole"].stream, "duplex")
        self.assertEqual(remote["domainOpenChannel"].stream, "duplex")
        self.assertEqual(remote["domainMigratePrepareTunnel3Params"].stream, "write")

    def test_everyDifferenceIsFound(self) -> None:
        """The comparison itself: one wrong thing in a procedure is one line."""
        right = {**program("remote").procedures, **program("remote").events}
        original = right[57]
        self.assertEqual(original.name, "domainGetSchedulerParameters")
        changes: list[tuple[str, Any]] = [
            ("args", original.args[:1]),
            ("args", (original.args[0], ("count", original.args[1][1]))),
            ("args", (original.args[0], ("nparams", original.args[0][1]))),
            ("ret", right[289].ret),
            ("ret", None),
            ("priority", Priority.HIGH),
            ("stream", "read"),
            ("sparse", True),
            ("acl", ()),
            ("aclFilter", ("domain:read",)),
            ("event", True),
        ]
        for attribute, value in changes:
            wrong = copy.copy(original)
            setattr(wrong, attribute, value)
            self.assertEqual(len(compared("remote", {**right, 57: wrong})), 1, attribute)
        self.assertEqual(len(compared("remote", {n: p for n, p in right.items() if n != 57})), 1)
        self.assertEqual(len(compared("remote", {**right, 1000: original})), 1)


class ConstantTests(SynchronousTestCase):
    """The public enums and macros."""

    def test_enums(self) -> None:
        from virnet import errorcodes

        for enum, members in facts("constants"):
            if enum == "macros":
                continue
            name = enum.removeprefix("vir")
            found = getattr(errorcodes if name.startswith("Error") else constants, name)
            # Aliases are members too.
            values = [int(member) for member in found.__members__.values()]
            self.assertEqual(values, list(members.values()), enum)
            for member, wanted in zip(found.__members__, members, strict=True):
                self.assertTrue(wanted.endswith(member.rstrip("_")), (member, wanted))
            self.assertIn(enum, found.__doc__)

    def test_macros(self) -> None:
        [macros] = [values for name, values in facts("constants") if name == "macros"]
        for name, value in macros.items():
            self.assertEqual(getattr(constants, name.removeprefix("VIR_")), value, name)

    def test_namesOfMembers(self) -> None:
        self.assertEqual(constants.DomainState.RUNNING, 1)
        self.assertEqual(constants.DomainEventID.LIFECYCLE, 0)
        self.assertEqual(
            constants.DomainModificationImpact.LIVE | constants.DomainModificationImpact.CONFIG, 3
        )
        self.assertEqual(constants.TypedParameterFlags.STRING_OKAY, 4)
        self.assertEqual(constants.StreamRecvFlagsValues.STOP_AT_HOLE, 1)

    def test_bitSetsAreFlags(self) -> None:
        from enum import IntFlag

        self.assertTrue(issubclass(constants.DomainXMLFlags, IntFlag))
        self.assertTrue(issubclass(constants.DomainStatsTypes, IntFlag))
        self.assertFalse(issubclass(constants.DomainState, IntFlag))
        self.assertFalse(issubclass(constants.DomainEventID, IntFlag))
