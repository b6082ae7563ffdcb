"""
Which module of virnet may import which, read from the source with C{ast}.

An import counts wherever it stands: at the top, in a function, under C{TYPE_CHECKING}. A type that a lower room
needs from a higher one is a sign that it lives in the wrong room.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PACKAGE = Path(__file__).resolve().parent.parent / "virnet"

FACTS = {"errorcodes", "errors", "limits"}
PROTOCOL = FACTS | {"xdr", "wire", "programs"}
SHELL = PROTOCOL | {"transport", "security"}
BOTH_ROLES = SHELL | {"client", "server", "netconf"}

#: What each room (a package or a module directly under virnet) may import of virnet, besides itself.
MAY_IMPORT: dict[str, set[str]] = {
    "_version": set(),
    "errorcodes": set(),
    "limits": set(),
    "errors": {"errorcodes"},
    "xdr": FACTS,
    "idl": FACTS | {"xdr"},
    "programs": FACTS | {"xdr"},
    "wire": FACTS | {"xdr"},
    "netconf": FACTS,
    "security": PROTOCOL,
    "transport": PROTOCOL | {"security"},
    "client": SHELL,
    "server": SHELL,
    "hypervisor": BOTH_ROLES,
    "daemon": BOTH_ROLES | {"hypervisor", "_version"},
    "cli": SHELL | {"client", "netconf", "_version"},
    "testing": BOTH_ROLES | {"hypervisor"},
    "__init__": SHELL | {"client", "server", "_version"},
}

#: The one place that compiles IDL at run time: (file, function).
COMPILES_IDL = ("programs/base.py", "fromIDL")

#: Rooms that decide from bytes and times handed to them, and what would let them reach for more.
PURE_ROOMS = {"xdr", "wire", "idl"}
IMPURE = {"twisted", "zope", "time", "os", "socket", "ssl", "logging", "asyncio", "random"}

MOST_LINES = 600
GENERATED = re.compile("generated", re.IGNORECASE)


def roomOf(path: str) -> str:
    """
    @param path: a module's path below C{virnet/}, like C{xdr/codec.py} or C{testing.py}.
    """
    return path.split("/")[0].removesuffix(".py")


def imports(path: str, tree: ast.AST, function: str = "") -> Iterator[tuple[int, str, str]]:
    """
    Every import in a module.

    @return: the line, the absolute name of the module imported, and the innermost function the import is in.
        C{from virnet import x} gives C{virnet.x}.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, function
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                package = ["virnet", *path.split("/")[:-1]]
                parents = package[: len(package) - node.level + 1]
                source = ".".join([*parents, *filter(None, [node.module])])
            if source == "virnet":
                for alias in node.names:
                    yield node.lineno, f"virnet.{alias.name}", function
            else:
                yield node.lineno, source, function
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(path, node, node.name)
        else:
            yield from imports(path, node, function)


def wrongImports(path: str, source: str) -> Iterator[str]:
    """
    @param path: the module's path below C{virnet/}.
    @return: one line for each import against the layers, naming file and line.
    """
    room = roomOf(path)
    allowed = MAY_IMPORT.get(room)
    if allowed is None:
        yield f"virnet/{path}: the room {room!r} is not in MAY_IMPORT"
        return
    for line, name, function in imports(path, ast.parse(source)):
        where = f"virnet/{path}:{line}: "
        top, *rest = name.split(".")
        if top != "virnet":
            if room in PURE_ROOMS and top in IMPURE:
                yield f"{where}{room} does no I/O and imports no {top}"
            continue
        target = rest[0] if rest else "__init__"
        if target in allowed or target == room:
            continue
        if target == "idl" and (path, function) == COMPILES_IDL:
            continue
        if target not in MAY_IMPORT:
            yield f"{where}{name} is no room of virnet: import a name from the module that defines it"
        else:
            yield f"{where}{room} may not import {target}"


def wrongShape(path: str, source: str) -> Iterator[str]:
    """
    @return: one line for each of: no docstring, too long without saying why.
    """
    lines = source.splitlines()
    if GENERATED.search("\n".join(lines[:12])) or not lines:
        return
    docstring = ast.get_docstring(ast.parse(source))
    if docstring is None:
        yield f"virnet/{path}:1: no docstring says which rules live here"
    elif len(lines) > MOST_LINES and f"{MOST_LINES} lines" not in docstring:
        yield (
            f"virnet/{path}:{MOST_LINES}: {len(lines)} lines; split it, "
            f"or say in its docstring why it is over {MOST_LINES} lines"
        )


def modules() -> Iterator[tuple[str, str]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file.relative_to(PACKAGE).as_posix(), file.read_text()


class LayersTests(SynchronousTestCase):
    """
    virnet as it is.
    """

    def test_imports_go_one_way(self) -> None:
        found = [wrong for path, source in modules() for wrong in wrongImports(path, source)]
        self.assertEqual([], found, "\n" + "\n".join(found))

    def test_modules_say_their_rules_and_stay_short(self) -> None:
        found = [wrong for path, source in modules() for wrong in wrongShape(path, source)]
        self.assertEqual([], found, "\n" + "\n".join(found))

    def test_the_table_has_no_cycle(self) -> None:
        """
        A table with a cycle would allow what it is there to refuse.
        """
        placed: set[str] = set()
        while len(placed) < len(MAY_IMPORT):
            ready = {room for room, below in MAY_IMPORT.items() if below <= placed} - placed
            self.assertTrue(ready, f"a cycle among {sorted(set(MAY_IMPORT) - placed)}")
            placed |= ready


class RulesTests(SynchronousTestCase):
    """
    The rules, on sources that break them.
    """

    def check(self, path: str, source: str, *wrong: str) -> None:
        self.assertEqual(list(wrong), list(wrongImports(path, source)))

    def test_upward(self) -> None:
        self.check(
            "wire/calls.py",
            "import re\nfrom virnet.transport.uri import parse\n",
            "virnet/wire/calls.py:2: wire may not import transport",
        )

    def test_the_roles_do_not_know_each_other(self) -> None:
        self.check(
            "client/client.py",
            "from virnet.server import NetServer\n",
            "virnet/client/client.py:1: client may not import server",
        )
        self.check(
            "server/server.py",
            "import virnet.client.client\n",
            "virnet/server/server.py:1: server may not import client",
        )

    def test_security_stands_below_its_users(self) -> None:
        for user in ("transport", "client", "server"):
            self.check(
                "security/access.py",
                f"from virnet.{user} import x\n",
                f"virnet/security/access.py:1: security may not import {user}",
            )

    def test_relative_imports_count(self) -> None:
        self.check(
            "xdr/codec.py",
            "from ..wire import message\nfrom .. import wire\nfrom . import schema\nfrom .schema import INT\n",
            "virnet/xdr/codec.py:1: xdr may not import wire",
            "virnet/xdr/codec.py:2: xdr may not import wire",
        )
        self.check(
            "hypervisor/memory/domain.py",
            "from ...daemon import tap\nfrom ..session import RemoteSession\n",
            "virnet/hypervisor/memory/domain.py:1: hypervisor may not import daemon",
        )

    def test_imports_for_types_and_in_functions_count(self) -> None:
        self.check(
            "wire/calls.py",
            "if TYPE_CHECKING:\n    import virnet.client\ndef f():\n    from virnet import server\n",
            "virnet/wire/calls.py:2: wire may not import client",
            "virnet/wire/calls.py:4: wire may not import server",
        )

    def test_the_package_itself_is_for_its_users(self) -> None:
        self.check(
            "daemon/tap.py",
            "from virnet import connect\nimport virnet\n",
            "virnet/daemon/tap.py:1: virnet.connect is no room of virnet: "
            "import a name from the module that defines it",
            "virnet/daemon/tap.py:2: daemon may not import __init__",
        )

    def test_pure_rooms_do_no_io(self) -> None:
        for module in sorted(IMPURE):
            self.check(
                "wire/message.py",
                f"import {module}.sub\n",
                f"virnet/wire/message.py:1: wire does no I/O and imports no {module}",
            )
        self.check("transport/protocol.py", "import os\nfrom twisted.internet import protocol\n")

    def test_idl_is_for_Program_fromIDL_alone(self) -> None:
        source = "class Program:\n    def fromIDL(self):\n        from virnet.idl.parser import parse\n"
        self.check("programs/base.py", source)
        self.check(
            "programs/typedparams.py",
            source,
            "virnet/programs/typedparams.py:3: programs may not import idl",
        )
        self.check(
            "programs/base.py",
            "from virnet.idl.parser import parse\n",
            "virnet/programs/base.py:1: programs may not import idl",
        )

    def test_a_new_room_needs_a_place(self) -> None:
        self.check("utils/x.py", "", "virnet/utils/x.py: the room 'utils' is not in MAY_IMPORT")

    def test_shape(self) -> None:
        long = "x = 1\n" * MOST_LINES
        self.assertEqual(
            ["virnet/a.py:1: no docstring says which rules live here"], list(wrongShape("a.py", "x = 1\n"))
        )
        self.assertEqual(
            ["virnet/a.py:600: 601 lines; split it, or say in its docstring why it is over 600 lines"],
            list(wrongShape("a.py", '"""Rules."""\n' + long)),
        )
        self.assertEqual([], list(wrongShape("a.py", '"""Over 600 lines: 456 rows."""\n' + long)))
        self.assertEqual([], list(wrongShape("a.py", "# Generated by virnet.idl.\n" + long)))
        self.assertEqual([], list(wrongShape("__init__.py", "")))
