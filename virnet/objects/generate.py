"""The command C{python -m virnet.objects.generate}: writes C{virnet/objects/_methods.py} from the interfaces.

Rules that live here:

  - A procedure is a method of its first argument's object: C{domainGetXMLDesc(dom, flags)} is
    C{Domain.getXMLDesc(flags)}. Node devices go by their names on the wire, and are objects all the same.
    What has no object for its first argument is a method of the connection, which is called L{Host} here.
  - The name loses the object's own, or C{connect}, and begins with a small letter; where it does not begin
    with the object's name it stays whole.
  - Objects stand for the values of the wire, as arguments and as results. C{need_results} is always wanted,
    and the list comes back alone. What C says with 0 and 1 for yes and no is a C{bool}.
  - C{None} may be left out where nothing but flags follows.
  - L{ALIASES} adds a few names that people would look for, L{NAMES} has those that no rule gives; L{EXCLUDED}
    leaves out what the connection does itself; L{FLAGS} says which enum an argument is of where its name does
    not.

The output depends on the interfaces alone.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent
OUTPUT = PACKAGE / "objects" / "_methods.py"
PROGRAMS = ("remote", "qemu", "lxc")

WIDTH = 110


KINDS = {
    # Value class to prefix; the object's class has the value's name.
    "Domain": "domain",
    "DomainSnapshot": "domainSnapshot",
    "DomainCheckpoint": "domainCheckpoint",
    "Network": "network",
    "NetworkPort": "networkPort",
    "StoragePool": "storagePool",
    "StorageVol": "storageVol",
    "HostInterface": "interface",
    "NodeDevice": "nodeDevice",
    "Secret": "secret",
    "NWFilter": "nwfilter",
    "NWFilterBinding": "nwfilterBinding",
}
HOST = "Host"

ALIASES: dict[str, dict[str, str]] = {
    HOST: {
        "capabilities": "getCapabilities",
        "domain": "domainLookupByName",
        "domains": "listAllDomains",
        "hostname": "getHostname",
        "interface": "interfaceLookupByName",
        "interfaces": "listAllInterfaces",
        "network": "networkLookupByName",
        "networks": "listAllNetworks",
        "nodeDevice": "nodeDeviceLookupByName",
        "nodeDevices": "listAllNodeDevices",
        "nwfilter": "nwfilterLookupByName",
        "nwfilterBindings": "listAllNWFilterBindings",
        "nwfilters": "listAllNWFilters",
        "pool": "storagePoolLookupByName",
        "pools": "listAllStoragePools",
        "secret": "secretLookupByUUID",
        "secrets": "listAllSecrets",
    },
    "Domain": {
        "checkpoints": "listAllCheckpoints",
        "console": "openConsole",
        "createSnapshot": "snapshotCreateXML",
        "info": "getInfo",
        "snapshot": "snapshotLookupByName",
        "snapshots": "listAllSnapshots",
        "start": "create",
        "xml": "getXMLDesc",
    },
    "DomainSnapshot": {
        "children": "listAllChildren",
        "parent": "getParent",
        "revert": "revertToSnapshot",
        "xml": "getXMLDesc",
    },
    "DomainCheckpoint": {"children": "listAllChildren", "parent": "getParent", "xml": "getXMLDesc"},
    "Network": {"leases": "getDHCPLeases", "ports": "listAllPorts", "start": "create", "xml": "getXMLDesc"},
    "NetworkPort": {"xml": "getXMLDesc"},
    "StoragePool": {
        "createVolume": "storageVolCreateXML",
        "info": "getInfo",
        "start": "create",
        "volume": "storageVolLookupByName",
        "volumes": "listAllVolumes",
        "xml": "getXMLDesc",
    },
    "StorageVol": {"info": "getInfo", "path": "getPath", "xml": "getXMLDesc"},
    "HostInterface": {"start": "create", "xml": "getXMLDesc"},
    "NodeDevice": {"start": "create", "xml": "getXMLDesc"},
    "Secret": {"xml": "getXMLDesc"},
    "NWFilter": {"xml": "getXMLDesc"},
    "NWFilterBinding": {"xml": "getXMLDesc"},
}

EXCLUDED = {
    "IAuth": "connecting does it",
    "IEventRegistration": "subscriptions do it",
    "connectOpen": "connecting does it",
    "connectClose": "closing does it",
    "connectRegisterCloseCallback": "its event is about the server's own connection",
    "connectUnregisterCloseCallback": "the same",
    "connectDomainQemuMonitorEventRegister": "its events have no subscriptions",
    "connectDomainQemuMonitorEventDeregister": "the same",
}

NAMES = {
    # What has another name than the rules give.
    "storageVolUpload": "openUpload",  # StorageVol.upload does all of it
    "storageVolDownload": "openDownload",  # the same
}

FLAGS = {
    # Method of the interface to the enum of its flags, where neither its name nor that without
    # Flags, Get or Desc gives it.
    "connectListAllNodeDevices": "ConnectListAllNodeDeviceFlags",
    "domainAttachDeviceFlags": "DomainDeviceModifyFlags",
    "domainCreateWithFlags": "DomainCreateFlags",
    "domainCreateWithFiles": "DomainCreateFlags",
    "domainCreateXML": "DomainCreateFlags",
    "domainCreateXMLWithFiles": "DomainCreateFlags",
    "domainCoreDumpWithFormat": "DomainCoreDumpFlags",
    "domainDefineXMLFlags": "DomainDefineFlags",
    "domainDetachDeviceAlias": "DomainDeviceModifyFlags",
    "domainDetachDeviceFlags": "DomainDeviceModifyFlags",
    "domainGetVcpusFlags": "DomainVcpuFlags",
    "domainListAllCheckpoints": "DomainCheckpointListFlags",
    "domainListAllSnapshots": "DomainSnapshotListFlags",
    "domainCheckpointListAllChildren": "DomainCheckpointListFlags",
    "domainSnapshotListAllChildren": "DomainSnapshotListFlags",
    "domainManagedSave": "DomainSaveRestoreFlags",
    "domainMemoryPeek": "DomainMemoryFlags",
    "domainOpenChannel": "DomainChannelFlags",
    "domainOpenConsole": "DomainConsoleFlags",
    "domainOpenGraphicsFD": "DomainOpenGraphicsFlags",
    "domainReboot": "DomainRebootFlagValues",
    "domainRestoreFlags": "DomainSaveRestoreFlags",
    "domainRevertToSnapshot": "DomainSnapshotRevertFlags",
    "domainSaveFlags": "DomainSaveRestoreFlags",
    "domainSetMemoryFlags": "DomainMemoryModFlags",
    "domainSetVcpusFlags": "DomainVcpuFlags",
    "domainShutdownFlags": "DomainShutdownFlagValues",
    "domainSnapshotCreateXML": "DomainSnapshotCreateFlags",
    "domainCheckpointCreateXML": "DomainCheckpointCreateFlags",
    "domainStartDirtyRateCalc": "DomainDirtyRateCalcFlags",
    "domainUpdateDeviceFlags": "DomainDeviceModifyFlags",
    "networkCreateXMLFlags": "NetworkCreateFlags",
    "networkDefineXMLFlags": "NetworkDefineFlags",
    "networkPortCreateXML": "NetworkPortCreateFlags",
    "nwfilterBindingCreateXML": "NWFilterBindingCreateFlags",
    "nwfilterDefineXMLFlags": "NWFilterDefineFlags",
    "storagePoolGetXMLDesc": "StorageXMLFlags",
    "storageVolCreateXML": "StorageVolCreateFlags",
    "storageVolCreateXMLFrom": "StorageVolCreateFlags",
    "storageVolGetInfoFlags": "StorageVolInfoFlags",
}

_BOOLEAN = re.compile(r"(is|has)[A-Z]|getAutostart")


class Parameter(NamedTuple):
    """One of a method.

    @ivar default: as source; C{None} for none.
    """

    name: str
    type: str
    default: str | None


class Method(NamedTuple):
    """One of an interface."""

    program: str
    name: str
    parameters: tuple[Parameter, ...]
    result: str
    said: str


def methods() -> Iterator[Method]:
    """Every procedure that becomes a method, by program, in the order of the interfaces."""
    for program in PROGRAMS:
        text = (PACKAGE / "programs" / "_interfaces" / f"{program}.py").read_text()
        for interface in ast.parse(text).body:
            if not isinstance(interface, ast.ClassDef) or interface.name.endswith("Events"):
                continue
            if interface.name in EXCLUDED:
                continue
            for function in interface.body:
                if isinstance(function, ast.FunctionDef) and function.name not in EXCLUDED:
                    yield _method(program, function)


def _method(program: str, function: ast.FunctionDef) -> Method:
    arguments = function.args.args
    defaults = [None] * (len(arguments) - len(function.args.defaults)) + [
        ast.unparse(each) for each in function.args.defaults
    ]
    parameters = [
        Parameter(argument.arg, _source(argument.annotation), default)
        for argument, default in zip(arguments, defaults, strict=True)
    ]
    result = _source(function.returns).removeprefix("Deferred[")[:-1]
    return Method(program, function.name, tuple(parameters), result, ast.get_docstring(function) or "")


def _source(node: ast.expr | None) -> str:
    assert node is not None
    return ast.unparse(node)


def enums() -> set[str]:
    """The names of the classes in C{virnet.programs.constants}."""
    tree = ast.parse((PACKAGE / "programs" / "constants.py").read_text())
    return {each.name for each in tree.body if isinstance(each, ast.ClassDef)}


def lists() -> dict[str, str]:
    """The value classes that are a list and a count, with the type of the list."""
    tree = ast.parse((PACKAGE / "programs" / "values.py").read_text())
    found = {}
    for each in tree.body:
        if isinstance(each, ast.ClassDef):
            fields = [line for line in each.body if isinstance(line, ast.AnnAssign)]
            if len(fields) == 2 and ast.unparse(fields[1].target) == "ret":
                found[each.name] = ast.unparse(fields[0].annotation)
    return found


class Writer:
    """Writes one method after the other.

    @ivar values: the value classes that are used and are not objects here.
    @ivar enums: the enums that are used.
    @ivar others: other names from elsewhere that are used.
    """

    def __init__(self) -> None:
        self.values: set[str] = set()
        self.enums: set[str] = set()
        self.others: set[str] = set()
        self._enums = enums()
        self._lists = lists()

    def receiver(self, method: Method) -> str:
        """The class whose method it becomes."""
        first = method.parameters[0] if method.parameters else None
        if first is not None and first.type in KINDS:
            return first.type
        if method.name.startswith("nodeDevice") and first is not None and first.name == "name":
            return HOST if "Lookup" in method.name else "NodeDevice"
        return HOST

    def name(self, method: Method, receiver: str) -> str:
        """What it is called there."""
        if method.name in NAMES:
            return NAMES[method.name]
        prefixes = ["connect"] if receiver == HOST else [KINDS[receiver]]
        if receiver == "DomainSnapshot":
            prefixes.append("domain")
        for prefix in prefixes:
            rest = method.name.removeprefix(prefix)
            if rest != method.name and rest[:1].isupper():
                return _small(rest)
        return method.name

    def write(self, method: Method) -> list[str]:
        """The lines of a method."""
        receiver = self.receiver(method)
        name = self.name(method, receiver)
        parameters = ["self"]
        arguments: list[str] = []
        rest = list(method.parameters)
        if receiver != HOST:
            arguments.append("self.value.name" if rest[0].type == "str" else "self.value")
            rest.pop(0)
        optional = True
        said: list[str] = []
        for parameter in reversed(rest):
            default = parameter.default
            if default is None and optional and parameter.type.endswith("| None"):
                default = "None"
            optional = default is not None
            if parameter.name == "need_results":
                continue
            type = self._argument(method, parameter)
            said.insert(0, f"{parameter.name}: {type}" + ("" if default is None else f" = {default}"))
        parameters += said
        for parameter in rest:
            arguments.append(_passed(parameter))
        if method.parameters and method.parameters[-1].name == "fds":
            arguments[-1] = "fds=fds"
        result, template = self._result(method, name)
        lines = _signature(name, parameters, result)
        lines += _docstring(method.said)
        lines += _returned(f"self.{method.program}.{method.name}", arguments, template)
        return lines

    def _argument(self, method: Method, parameter: Parameter) -> str:
        if parameter.name == "flags":
            enum = self._flags(method.name)
            if enum is not None:
                self.enums.add(enum)
                return f"{enum} | int"
        return self._type(parameter.type)

    def _flags(self, name: str) -> str | None:
        said = name[0].upper() + name[1:]
        if said.startswith("Nwfilter"):
            said = said.replace("Nwfilter", "NWFilter")
        for base in (said, said.removesuffix("Flags"), said.replace("Get", "").replace("Desc", "")):
            for suffix in ("Flags", "FlagsValues"):
                if base + suffix in self._enums:
                    return base + suffix
        found = FLAGS.get(name)
        assert found is None or found in self._enums, found
        return found

    def _type(self, type: str) -> str:
        for word in re.findall(r"\w+", type):
            if word in ("TypedParams", "Sequence", "Stream"):
                self.others.add(word)
            elif word[0].isupper() and word not in KINDS and word != "None":
                self.values.add(word)
        return type

    def _result(self, method: Method, name: str) -> tuple[str, str]:
        """What a method yields, and how that is made of the call."""
        result = re.sub(r"\bAny\b", "Stream", method.result)
        if result in self._lists and any(each.name == "need_results" for each in method.parameters):
            return self._type(self._lists[result]), "self._list({})"
        if result in KINDS:
            return result, "self._object({})"
        if result == "int" and _BOOLEAN.match(name):
            return "bool", "{}.addCallback(bool)"
        return self._type(result), "{}"


def _small(name: str) -> str:
    """C{GetXMLDesc} -> C{getXMLDesc}, C{FSTrim} -> C{fsTrim}."""
    capitals = re.match(r"[A-Z]+", name)
    assert capitals is not None
    count = capitals.end()
    if 1 < count < len(name):
        count -= 1
    return name[:count].lower() + name[count:]


def _passed(parameter: Parameter) -> str:
    """The expression for an argument: objects are values on the wire."""
    name = parameter.name
    if name == "need_results":
        return "1"
    if parameter.type in KINDS:
        return f"{name}.value"
    if parameter.type.removesuffix(" | None") in KINDS:
        return f"None if {name} is None else {name}.value"
    if parameter.type.removeprefix("list[").removesuffix("]") in KINDS:
        return f"[each.value for each in {name}]"
    return name


def _signature(name: str, parameters: list[str], result: str) -> list[str]:
    line = f"    def {name}({', '.join(parameters)}) -> Deferred[{result}]:"
    if len(line) <= WIDTH:
        return [line]
    inside = "        " + ", ".join(parameters)
    if len(inside) <= WIDTH:
        return [f"    def {name}(", inside, f"    ) -> Deferred[{result}]:"]
    return [
        f"    def {name}(",
        *(f"        {parameter}," for parameter in parameters),
        f"    ) -> Deferred[{result}]:",
    ]


def _docstring(said: str) -> list[str]:
    """A docstring of one line, or of at least two, as ruff leaves it."""
    words = said.split()
    line = f'        """{" ".join(words)}"""'
    if len(line) <= WIDTH:
        return [line]
    lines = ['        """' + words.pop(0)]
    for index, word in enumerate(words):
        last = index == len(words) - 1 and len(lines) == 1
        if last or len(f"{lines[-1]} {word}") > WIDTH:
            lines.append("        " + word)
        else:
            lines[-1] += " " + word
    return [*lines, '        """']


def _returned(function: str, arguments: list[str], template: str) -> list[str]:
    """@param template: what is made of the call, with {} for it."""
    line = "        return " + template.format(f"{function}({', '.join(arguments)})")
    if len(line) <= WIDTH:
        return [line]
    start, end = f"        return {function}(", []
    if template != "{}":
        start, end = f"        answer = {function}(", [f"        return {template.format('answer')}"]
    inside = "            " + ", ".join(arguments)
    if len(inside) <= WIDTH:
        return [start, inside, "        )", *end]
    return [start, *(f"            {argument}," for argument in arguments), "        )", *end]


def generated() -> str:
    """The module."""
    writer = Writer()
    bodies: dict[str, dict[str, list[str]]] = {name: {} for name in (HOST, *KINDS)}
    for method in methods():
        receiver = writer.receiver(method)
        body = bodies[receiver]
        name = writer.name(method, receiver)
        assert name not in body, (receiver, name)
        body[name] = writer.write(method)
    lines = [
        '"""The methods of objects that are procedures.',
        "",
        "Generated by C{python -m virnet.objects.generate} from the interfaces of the programs; do not edit.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import TYPE_CHECKING",
        "",
        "from virnet.objects.base import HostBase, Object",
        "from virnet.programs import values",
        "",
        "if TYPE_CHECKING:",
        "    from collections.abc import Sequence",
        "",
        "    from twisted.internet.defer import Deferred",
        "",
        "    from virnet.objects.base import Stream",
        *_imported("virnet.objects.kinds", KINDS),
        *_imported("virnet.programs.constants", writer.enums),
        "    from virnet.programs.typedparams import TypedParams",
        *_imported("virnet.programs.values", writer.values),
    ]
    assert writer.others == {"Sequence", "Stream", "TypedParams"}, writer.others
    for receiver, body in bodies.items():
        base = "HostBase" if receiver == HOST else f"Object[values.{receiver}]"
        what = "the connection itself" if receiver == HOST else f"C{{{receiver}}} objects"
        lines += ["", "", f"class {receiver}Methods({base}):", f'    """The procedures of {what}."""']
        for text in body.values():
            lines += ["", *text]
        aliases = ALIASES.get(receiver, {})
        for alias, name in sorted(aliases.items()):
            assert name in body and alias not in body, (receiver, alias, name)
        lines += [""] if aliases else []
        lines += [f"    {alias} = {name}" for alias, name in sorted(aliases.items())]
    return "\n".join(lines) + "\n"


def _imported(module: str, names: Sequence[str] | set[str] | dict[str, str]) -> list[str]:
    found = sorted(names, key=lambda name: (0 if name.isupper() and len(name) > 1 else 1, name.lower()))
    line = f"    from {module} import {', '.join(found)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"    from {module} import (", *(f"        {name}," for name in found), "    )"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    @return: its exit status: 1 when the output is not current and it was only to be checked.
    """
    parser = argparse.ArgumentParser(
        prog="python -m virnet.objects.generate",
        description="Write virnet/objects/_methods.py from the interfaces in virnet/programs/_interfaces.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit status 1 if it is not current"
    )
    options = parser.parse_args(arguments)
    text = generated()
    if OUTPUT.is_file() and OUTPUT.read_bytes() == text.encode():
        return 0
    if options.check:
        print(f"{OUTPUT} is not current; run python -m virnet.objects.generate")
        return 1
    OUTPUT.write_text(text, encoding="utf-8", newline="\n")
    print(f"wrote {OUTPUT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
