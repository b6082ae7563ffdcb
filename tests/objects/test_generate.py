"""The generated methods are those of the interfaces, all of them, and current."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from virnet import objects
from virnet.objects import _methods, generate
from virnet.objects.base import KINDS, HostBase
from virnet.programs import LXC, QEMU, REMOTE, IAuth, IEventRegistration
from virnet.programs.base import Program

INTERFACES = {"IAuth": IAuth, "IEventRegistration": IEventRegistration}

CLASSES = [getattr(objects, name) for name in ("Host", *generate.KINDS)]


def generated(cls: type) -> dict[str, Any]:
    """The methods that the generator gave a class."""
    base = getattr(_methods, f"{cls.__name__}Methods")
    return {name: method for name, method in vars(base).items() if not name.startswith("_")}


class Output(SynchronousTestCase):
    """What is committed."""

    def test_it_is_what_the_command_writes(self) -> None:
        self.assertEqual(generate.OUTPUT.read_text(), generate.generated())

    def test_the_command_says_so(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "virnet.objects.generate", "--check"],
            cwd=generate.PACKAGE.parent,
            capture_output=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (0, b""))

    def test_it_does_not_depend_on_where_it_is_run(self) -> None:
        program = "import sys; from virnet.objects import generate; sys.stdout.write(generate.generated())"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd="/",
            env={"PYTHONPATH": str(generate.PACKAGE.parent), "PYTHONHASHSEED": "7"},
            capture_output=True,
            check=True,
        )
        self.assertEqual(done.stdout.decode(), generate.generated())

    def test_every_method_names_its_c_function(self) -> None:
        for cls in CLASSES:
            for name, method in generated(cls).items():
                self.assertRegex(method.__doc__, r"^C: C\{vir\w+\};", f"{cls.__name__}.{name}")

    def test_what_is_added_by_hand_names_it_too(self) -> None:
        for cls in CLASSES:
            for name, method in vars(cls).items():
                if callable(method) and not name.startswith("_"):
                    self.assertRegex(method.__doc__, r"C: C\{vir\w+\}", f"{cls.__name__}.{name}")

    def test_aliases_are_the_same_methods(self) -> None:
        for cls in CLASSES:
            for alias, name in generate.ALIASES.get(cls.__name__, {}).items():
                self.assertIs(getattr(cls, alias), getattr(cls, name))

    def test_the_tables_name_what_there_is(self) -> None:
        known = {*REMOTE.byName, *QEMU.byName, *LXC.byName, *INTERFACES}
        for table in (generate.EXCLUDED, generate.FLAGS, generate.NAMES):
            self.assertEqual(set(table) - known, set())

    def test_no_entry_says_what_the_rules_give_anyway(self) -> None:
        flags, generate.FLAGS = generate.FLAGS, {}
        self.addCleanup(setattr, generate, "FLAGS", flags)
        writer = generate.Writer()
        self.assertEqual([name for name, enum in flags.items() if writer._flags(name) == enum], [])

    def test_names_begin_with_a_small_letter_as_python_people_write_them(self) -> None:
        for name, expected in (
            ("GetXMLDesc", "getXMLDesc"),
            ("FSTrim", "fsTrim"),
            ("PMWakeup", "pmWakeup"),
            ("IsActive", "isActive"),
            ("OS", "os"),
        ):
            self.assertEqual(generate._small(name), expected)


class Recording(HostBase):
    """A host whose programs record what is called."""

    def __init__(self) -> None:
        self.called: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.remote = self.program(REMOTE)

    def program(self, program: Program[Any, Any]) -> Any:
        class Provider:
            def __getattr__(provider, name: str) -> Any:
                procedure = program.byName[name]

                def method(*args: Any, **keywords: Any) -> Deferred[Any]:
                    wanted = len(procedure.parameters)
                    assert len(args) == wanted, (name, args)
                    self.called.append((name, args, keywords))
                    return Deferred()

                return method

        return Provider()


class Everything(SynchronousTestCase):
    """Each procedure can be reached, and each method reaches its own."""

    def test_every_procedure_is_a_method_of_something_once(self) -> None:
        host = Recording()
        for cls in CLASSES:
            if cls is objects.Host:
                made: Any = type("Recorded", (Recording, objects.Host), {})()
                host_ = made
            else:
                host_ = host
                (value,) = [each for each, kind in KINDS.items() if kind is cls]
                made = cls(host, value(*["x"] * len(value._fields)))  # type: ignore[attr-defined]
            aliases = generate.ALIASES.get(cls.__name__, {})
            for name, method in generated(cls).items():
                if name in aliases:
                    continue
                count = method.__code__.co_argcount - 1
                names = method.__code__.co_varnames[1 : count + 1]
                arguments: list[Any] = [[] if each in ("doms", "fds") else _Any() for each in names]
                getattr(made, name)(*arguments)
                said = re.findall(r"C\{vir(\w+)\}", method.__doc__)[0]
                called = host_.called[-1][0]
                self.assertEqual(said.lower(), called.lower())
            if host_ is not host:
                host.called += host_.called
        families = (INTERFACES[name] for name in generate.EXCLUDED if name in INTERFACES)
        excluded = {*generate.EXCLUDED, *(name for family in families for name in family)}
        procedures = {*REMOTE.byName, *QEMU.byName, *LXC.byName}
        self.assertEqual(procedures - {name for name, _, _ in host.called}, procedures & excluded)
        counted = [name for name, _, _ in host.called]
        self.assertEqual(len(counted), len(set(counted)))


class _Any:
    """Any argument: an object has a value."""

    value = "value"
