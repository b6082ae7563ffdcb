"""Python source from what a C{.x} text says: value classes, enums, interfaces, tables.

Rules that live here:

  - The source depends on the text and the overrides alone: no paths, no dates, no order of sets.
  - Arguments become the parameters of a method, a return structure of one member becomes that member, every
    other structure a C{NamedTuple}. Arrays of libvirt's typed parameters become C{TypedParams}.
  - One line a type node and one a procedure; trailing defaults are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from virnet.idl.model import (
    PREDEFINED_TYPES,
    ArrayType,
    Basic,
    Bound,
    Definition,
    Enumeration,
    FixedArrayType,
    FixedOpaqueType,
    NamedType,
    OpaqueType,
    OptionalType,
    ProcedureDefinition,
    ProgramDefinition,
    Specification,
    StringType,
    Structure,
    Type,
    Typedef,
    UnionDefinition,
    named,
    parts,
)
from virnet.idl.names import (
    Rules,
    capitalized,
    className,
    cName,
    isFlags,
    memberNames,
    methodName,
    nodeName,
    safe,
    unique,
)
from virnet.idl.source import WIDTH, Imports, classLines, docstring, literal, tupled

_PYTHON = {"float": "float", "double": "float", "bool": "bool", "void": "None"}
_TYPED_PARAMETER = tuple(Basic(name) for name in ("int", "uint", "hyper", "uhyper", "double", "int"))


class Layout(NamedTuple):
    """Where the parts of the output are, seen from each other; empty for the same module."""

    values: str = ""
    interfaces: str = ""
    # Module names of imported files' parts, with {} for the file.
    importedValues: str = ""
    importedTables: str = ""


class Emitter:
    """Writes the parts of one C{.x} text.

    @ivar specification: what the text says.
    """

    def __init__(
        self, specification: Specification, rules: Rules, layout: Layout, name: str | None = None
    ) -> None:
        """@param name: of the program, where there is one and it is not to have its own."""
        self.specification = specification
        self._definitions = specification.definitions
        self._rules = rules
        self._layout = layout
        programs = specification.programs
        if name is not None and len(programs) == 1:
            programs = (programs[0]._replace(name=name),)
        self.programs = programs
        self._typePrefix = programs[0].typePrefix if programs else ""
        self._kept = self._chooseDefinitions()
        # Nodes that are referred to before they are there.
        self._early: set[str] = set()
        self._taken = set(_RESERVED)
        for program in self.programs:
            interface = interfaceName(program, rules)
            families = {family for family, _ in rules.families.get(program.number, ())}
            self._taken |= {
                program.name,
                f"{program.name}_PROCEDURES",
                interface,
                f"{interface}Events",
                *families,
            }
        constants = list(specification.constants)
        self._constants = dict(zip(constants, self._free(safe(name) for name in constants), strict=True))
        self._nodes = self._nameNodes()
        self._classes = self._nameClasses()

    # -- what is written

    def _imports(self, definition: Definition) -> bool:
        """Whether a type is taken from another generated module."""
        return bool(definition.origin) and bool(self._layout.importedTables)

    def _chooseDefinitions(self) -> list[Definition]:
        """The definitions that get a node, each behind those it is made of."""
        folded = {name for program in self.programs for p in program.procedures for name in p.folded}
        inTypes = {
            ref.name for d in self._definitions.values() for type in parts(d) for ref, _ in named(type)
        }
        roots = [
            d.name
            for d in self._definitions.values()
            if not d.origin and (d.name not in folded or d.name in inTypes)
        ]
        # What a procedure names is needed even where it comes from an imported file.
        for program in self.programs:
            for procedure in program.procedures:
                types = [type for _, type in procedure.args]
                types += [procedure.ret] if procedure.ret is not None else []
                roots += [reference.name for type in types for reference, _ in named(type)]
        procedures = {p.wireName for program in self.programs for p in program.procedures}
        order: list[Definition] = []
        open: set[str] = set()

        def visit(name: str) -> None:
            definition = self._definitions.get(name)
            if definition is None or name in open or self._imports(definition):
                return
            if isinstance(definition, Enumeration) and set(definition.members) <= procedures:
                return
            open.add(name)
            for type in parts(definition):
                for reference, _ in named(type):
                    visit(reference.name)
            order.append(definition)

        for name in roots:
            visit(name)
        return order

    def _nameNodes(self) -> dict[str, str]:
        names = [definition.name for definition in self._kept]
        return dict(zip(names, self._free(nodeName(name, self._typePrefix) for name in names), strict=True))

    def _free(self, wanted: Iterable[str]) -> list[str]:
        """Give each thing a name that no other has, in this order."""
        found = unique(wanted, self._taken)
        self._taken |= set(found)
        return found

    def _nameClasses(self) -> dict[str, str]:
        names = [d.name for d in self._kept if isinstance(d, (Structure, Enumeration))]
        return dict(zip(names, self._free(className(name, self._rules) for name in names), strict=True))

    def _resolved(self, type: Type) -> Type | Definition:
        while isinstance(type, NamedType):
            definition = self._definitions.get(type.name)
            if definition is None:
                return PREDEFINED_TYPES[type.name]
            if not isinstance(definition, Typedef):
                return definition
            type = definition.type
        return type

    def _isTypedParameter(self, type: Type) -> bool:
        """Whether a type is libvirt's C{typed_param}: a field name and a union of the seven types."""
        structure = self._resolved(type)
        if not isinstance(structure, Structure) or [name for name, _ in structure.fields] != [
            "field",
            "value",
        ]:
            return False
        union = self._resolved(structure.fields[1][1])
        if not isinstance(union, UnionDefinition) or list(union.arms) != [1, 2, 3, 4, 5, 6, 7]:
            return False
        kinds = [self._resolved(type) for _, type in union.arms.values()]
        return tuple(kinds[:6]) == _TYPED_PARAMETER and isinstance(kinds[6], StringType)

    def _typedParameters(self, type: Type) -> ArrayType | None:
        while isinstance(type, NamedType):
            definition = self._definitions.get(type.name)
            if not isinstance(definition, Typedef):
                return None
            type = definition.type
        return type if isinstance(type, ArrayType) and self._isTypedParameter(type.item) else None

    # -- types as Python

    def _python(self, type: Type, imports: Imports) -> str:
        """The annotation of a value of a type."""
        if self._typedParameters(type) is not None:
            return imports.use("virnet.programs.typedparams", "TypedParams")
        match type:
            case Basic(name=name):
                return _PYTHON.get(name, "int")
            case StringType():
                return "str"
            case OpaqueType() | FixedOpaqueType():
                return "bytes"
            case ArrayType(item=item) | FixedArrayType(item=item):
                resolved = self._resolved(item)
                if isinstance(resolved, Basic) and resolved.name in ("char", "uchar"):
                    return "bytes"
                return f"list[{self._python(item, imports)}]"
            case OptionalType(item=item):
                inner = self._python(item, imports)
                return inner if inner.endswith("| None") else f"{inner} | None"
        assert isinstance(type, NamedType)
        definition = self._definitions.get(type.name)
        match definition:
            case None:
                return self._python(PREDEFINED_TYPES[type.name], imports)
            case Typedef():
                return self._python(definition.type, imports)
            case Enumeration():
                return "int"
            case UnionDefinition():
                return f"tuple[int, {imports.use('typing', 'Any')}]"
        if self._isTypedParameter(type):
            return f"tuple[str, tuple[int, {imports.use('typing', 'Any')}]]"
        name = self._classes.get(definition.name) or className(definition.name, self._rules)
        module = self._layout.importedValues.format(definition.origin) if self._imports(definition) else ""
        return imports.use(module or self._layout.values, name) if module or self._layout.values else name

    # -- values

    def values(self, imports: Imports) -> list[str]:
        """The value classes and enums."""
        lines: list[str] = []
        for definition in self._kept:
            if isinstance(definition, Enumeration):
                lines += ["", "", *self.enumeration(definition, imports)]
            elif isinstance(definition, Structure) and not self._isTypedParameter(
                NamedType(definition.name, definition.place)
            ):
                lines += ["", "", *self._valueClass(definition, imports)]
        return lines

    def _valueClass(self, structure: Structure, imports: Imports) -> Iterator[str]:
        yield f"class {self._classes[structure.name]}({imports.use('typing', 'NamedTuple')}):"
        yield f'    """C{{{structure.name}}}"""'
        if structure.fields:
            yield ""
        names = unique(safe(name) for name, _ in structure.fields)
        for name, (_, type) in zip(names, structure.fields, strict=True):
            # A field that a tuple has a method for hides it, which only the type checker minds.
            note = "  # type: ignore[assignment]" if name in ("count", "index") else ""
            yield f"    {name}: {self._python(type, imports)}{note}"

    def enumeration(self, definition: Enumeration, imports: Imports) -> Iterator[str]:
        """One enum class."""
        base = "IntFlag" if isFlags(definition.name, definition.members, self._rules) else "IntEnum"
        yield f"class {self._classes[definition.name]}({imports.use('enum', base)}):"
        yield f'    """C: C{{{definition.name}}}"""'
        yield ""
        for cname, name in memberNames(definition.name, definition.members, self._rules).items():
            yield f"    {name} = {definition.members[cname]}  # {cname}"

    # -- interfaces

    def interfaces(self, imports: Imports, typing: Imports) -> list[str]:
        """@param typing: imports that only the type checker needs."""
        lines: list[str] = []
        for program in self.programs:
            calls = [p for p in program.procedures if not self._isEvent(program, p)]
            events = [p for p in program.procedures if self._isEvent(program, p)]
            name = interfaceName(program, self._rules)
            base = imports.use("zope.interface", "Interface")
            families = self._families(program, calls)
            for family, members in families.items():
                lines += [
                    "",
                    "",
                    f"class {family}({base}):",
                    f'    """Part of the program {program.name}."""',
                ]
                for procedure in members:
                    lines += ["", *self._method(program, procedure, typing)]
            bases = ", ".join(families) if families else base
            lines += ["", "", *classLines(name, bases)]
            number = f"{program.number:#010x} version {program.version}"
            lines += [f'    """The calls of program {program.name}, {number}."""']
            for procedure in [] if families else calls:
                lines += ["", *self._method(program, procedure, typing)]
            if events:
                lines += ["", "", f"class {name}Events({base}):"]
                lines += [f'    """The events of program {program.name}. They are sent, never called."""']
                for procedure in events:
                    lines += ["", *self._method(program, procedure, typing)]
        return lines

    def _isEvent(self, program: ProgramDefinition, procedure: ProcedureDefinition) -> bool:
        return procedure.event or (program.number, procedure.number) in self._rules.events

    def _families(
        self, program: ProgramDefinition, procedures: Iterable[ProcedureDefinition]
    ) -> dict[str, list[ProcedureDefinition]]:
        rows = self._rules.families.get(program.number, ())
        families: dict[str, list[ProcedureDefinition]] = {}
        for procedure in procedures:
            for family, words in rows:
                if any(word in procedure.name for word in words):
                    families.setdefault(family, []).append(procedure)
                    break
            else:
                if rows:
                    families.setdefault(interfaceName(program, self._rules) + "Other", []).append(procedure)
        return dict(sorted(families.items()))

    def _method(
        self, program: ProgramDefinition, procedure: ProcedureDefinition, typing: Imports
    ) -> Iterator[str]:
        name = methodName(program, procedure, self._rules)
        names = unique(safe(field) for field, _ in procedure.args)
        types = [self._python(type, typing) for _, type in procedure.args]
        parameters = [f"{field}: {type}" for field, type in zip(names, types, strict=True)]
        if self._isEvent(program, procedure):
            result = "None"
        else:
            if parameters[-1:] == ["flags: int"]:
                # libvirt's API reserves flags everywhere; nearly every caller means none.
                parameters[-1] += " = 0"
            if self._descriptors(program, procedure) == "call":
                parameters.append(f"fds: {typing.use('collections.abc', 'Sequence')}[int] = ()")
            ret = self._result(program, procedure, typing)
            result = f"{typing.use('twisted.internet.defer', 'Deferred')}[{ret}]"
        line = f"    def {name}({', '.join(parameters)}) -> {result}:"
        if len(line) <= WIDTH:
            yield line
        elif len(inside := "        " + ", ".join(parameters)) <= WIDTH:
            yield from (f"    def {name}(", inside, f"    ) -> {result}:")
        else:
            yield f"    def {name}("
            yield from (f"        {parameter}," for parameter in parameters)
            yield f"    ) -> {result}:"
        yield from docstring(self._said(program, procedure, name))

    def _descriptors(self, program: ProgramDefinition, procedure: ProcedureDefinition) -> str | None:
        return self._rules.descriptors.get((program.number, procedure.number))

    def _result(self, program: ProgramDefinition, procedure: ProcedureDefinition, typing: Imports) -> str:
        """What a call yields: its return value, and what comes beside it."""
        ret = None if procedure.ret is None else self._python(procedure.ret, typing)
        beside = None
        if self._rules.streams.get((program.number, procedure.number), procedure.stream):
            # Each side has a stream class of its own.
            beside = typing.use("typing", "Any")
        elif self._descriptors(program, procedure) == "reply":
            beside = "list[int]"
        if ret is not None and beside is not None:
            return f"tuple[{ret}, {beside}]"
        return ret or beside or "None"

    def _said(self, program: ProgramDefinition, procedure: ProcedureDefinition, method: str) -> list[str]:
        key = program.number, procedure.number
        event = self._isEvent(program, procedure)
        said = []
        if program.number in self._rules.cNames and not event:
            said.append(f"C: C{{{cName(method)}}}")
        said.append(f"C{{{procedure.wireName}}}, {procedure.number}")
        if not event:
            said.append(f"{procedure.priority} priority")
        stream = self._rules.streams.get(key, procedure.stream)
        if stream:
            ways = {"read": "to the client", "write": "to the server", "duplex": "both ways"}
            said.append(
                f"opens a stream {ways[stream]}{', which may have holes' if procedure.sparse else ''}"
            )
        fds = self._descriptors(program, procedure)
        if fds:
            said.append(f"descriptors come with the {fds}")
        if procedure.acl:
            said.append("needs " + ", ".join(procedure.acl))
        if procedure.aclFilter:
            said.append("shows what grants " + ", ".join(procedure.aclFilter))
        return said

    # -- tables

    def tables(self, imports: Imports) -> list[str]:
        """The constants, type nodes, procedures and programs."""
        constants = self.specification.constants.items()
        lines = [f"{self._constants[name]} = {literal(value)}" for name, value in constants]
        lines += [""] if lines else []
        done: set[str] = set()
        written: dict[str, str] = {}
        for definition in self._kept:
            written[self._nodes[definition.name]] = self._definitionNode(definition, done, imports)
            done.add(definition.name)
        for name, node in written.items():
            # The type checker cannot infer what is referred to before it is there.
            annotation = f": {self._schema('Node', imports)}" if name in self._early else ""
            lines.append(f"{name}{annotation} = {node}")
        many = len(self.programs) > 1
        for program in self.programs:
            variable = f"{program.name}_PROCEDURES" if many else "PROCEDURES"
            row = imports.use("virnet.programs.base", "Row")
            lines += [] if lines[-1:] == [""] else [""]
            lines += [f"{variable}: tuple[{row}, ...] = ("]
            lines += [f"    {self._row(program, procedure, imports)}," for procedure in program.procedures]
            lines += [")", "", *self._program(program, variable, imports)]
        return lines

    def _definitionNode(self, definition: Definition, done: set[str], imports: Imports) -> str:
        def node(type: Type) -> str:
            return self._node(type, imports, done)

        match definition:
            case Typedef():
                return node(definition.type)
            case Enumeration():
                members = ", ".join(f'"{name}": {value}' for name, value in definition.members.items())
                return f'{self._schema("Enum", imports)}("{definition.name}", {{{members}}})'
            case Structure():
                fields = tupled(f'("{name}", {node(type)})' for name, type in definition.fields)
                factory = ""
                if not self._isTypedParameter(NamedType(definition.name, definition.place)):
                    name = self._classes[definition.name]
                    factory = ", " + (imports.use(self._layout.values, name) if self._layout.values else name)
                return f'{self._schema("Struct", imports)}("{definition.name}", {fields}{factory})'
        assert isinstance(definition, UnionDefinition)
        arms = ", ".join(
            f'{value}: ("{name}", {node(type)})' for value, (name, type) in definition.arms.items()
        )
        default = (
            f', ("{definition.default[0]}", {node(definition.default[1])})' if definition.default else ""
        )
        switch = node(definition.switch)
        return f'{self._schema("Union", imports)}("{definition.name}", {switch}, {{{arms}}}{default})'

    def _schema(self, name: str, imports: Imports) -> str:
        return imports.use("virnet.xdr.schema", name)

    def _node(self, type: Type, imports: Imports, done: set[str] | None = None) -> str:
        """The expression of a type's node.

        @param done: types that have their node by now; C{None} for all.
        """
        match type:
            case Basic(name=name):
                return self._schema(_BASIC_NODES[name], imports)
            case StringType(max=bound):
                return f"{self._schema('String', imports)}({self._bound(bound, imports)})"
            case OpaqueType(max=bound):
                return f"{self._schema('Opaque', imports)}({self._bound(bound, imports)})"
            case FixedOpaqueType(size=bound):
                return f"{self._schema('FixedOpaque', imports)}({self._bound(bound, imports)})"
            case ArrayType(item=item, max=bound) if self._isTypedParameter(item):
                function = imports.use("virnet.programs.typedparams", "typedParams")
                return (
                    f"{function}({self._node(item, imports, done)}, {self._bound(bound, imports) or 'None'})"
                )
            case ArrayType(item=item, max=bound):
                limits = ", ".join(
                    filter(None, [self._node(item, imports, done), self._bound(bound, imports)])
                )
                return f"{self._schema('Array', imports)}({limits})"
            case FixedArrayType(item=item, size=bound):
                inner = self._node(item, imports, done)
                return f"{self._schema('FixedArray', imports)}({inner}, {self._bound(bound, imports)})"
            case OptionalType(item=item):
                return f"{self._schema('Optional', imports)}({self._node(item, imports, done)})"
        assert isinstance(type, NamedType)
        definition = self._definitions.get(type.name)
        if definition is None:
            return self._node(PREDEFINED_TYPES[type.name], imports, done)
        if self._imports(definition):
            module = self._layout.importedTables.format(definition.origin)
            return imports.use(module, nodeName(definition.name, definition.origin + "_"))
        name = self._nodes[type.name]
        if done is not None and type.name not in done:
            self._early.add(name)
            return f"{self._schema('Ref', imports)}(lambda: {name})"
        return name

    def _bound(self, bound: Bound, imports: Imports) -> str:
        if bound.value is None:
            return ""
        return self._constants.get(bound.name, str(bound.value))

    def _row(self, program: ProgramDefinition, procedure: ProcedureDefinition, imports: Imports) -> str:
        key = program.number, procedure.number
        names = unique(safe(field) for field, _ in procedure.args)
        types = [self._node(type, imports) for _, type in procedure.args]
        args = tupled(f'("{name}", {type})' for name, type in zip(names, types, strict=True))
        ret = "None" if procedure.ret is None else self._node(procedure.ret, imports)
        stream = self._rules.streams.get(key, procedure.stream)
        fds = self._descriptors(program, procedure)
        priority = "HIGH" if procedure.priority == "high" else "LOW"
        rest = [
            (args, "()"),
            (ret, "None"),
            (priority, "LOW"),
            (f'"{stream}"' if stream else "None", "None"),
            (tupled(f'"{permission}"' for permission in procedure.acl), "()"),
            (tupled(f'"{permission}"' for permission in procedure.aclFilter), "()"),
            (str(procedure.sparse), "False"),
            (f'"{fds}"' if fds else "None", "None"),
        ]
        while rest and rest[-1][0] == rest[-1][1]:
            rest.pop()
        if len(rest) > 2:
            imports.use("virnet.programs.base", priority)
        said = [str(procedure.number), f'"{methodName(program, procedure, self._rules)}"']
        return f"({', '.join(said + [value for value, _ in rest])})"

    def _program(self, program: ProgramDefinition, variable: str, imports: Imports) -> Iterator[str]:
        interface = interfaceName(program, self._rules)
        events = f"{interface}Events" if any(self._isEvent(program, p) for p in program.procedures) else None
        if self._layout.interfaces:
            for name in filter(None, [interface, events]):
                imports.use(self._layout.interfaces, name)
        base = imports.use("virnet.programs.base", "Program")
        yield f"{program.name}: {base}[{interface}, {events or 'None'}] = {base}("
        yield f"    {program.number:#010x}, {program.version}, {interface}, events={events},"
        yield f'    procedures={variable}, name="{program.name}",'
        yield ")"


_BASIC_NODES = {
    "int": "INT", "uint": "UINT", "hyper": "HYPER", "uhyper": "UHYPER", "char": "CHAR", "uchar": "UCHAR",
    "short": "SHORT", "ushort": "USHORT", "float": "FLOAT", "double": "DOUBLE", "bool": "BOOL",
    "void": "VOID",
}  # fmt: skip


_RESERVED = {
    *("Any", "Array", "Deferred", "Enum", "FixedArray", "FixedOpaque", "HIGH", "IntEnum", "IntFlag"),
    *(
        "Interface",
        "LOW",
        "Mapped",
        "NamedTuple",
        "Node",
        "Opaque",
        "Optional",
        "PROCEDURES",
        "Program",
        "Ref",
    ),
    *("Row", "String", "Struct", "TYPE_CHECKING", "TypedParams", "Union", "annotations", "typedParams"),
    *_BASIC_NODES.values(),
}
"""What generated modules import or name themselves; nothing from a text is called so there."""


def interfaceName(program: ProgramDefinition, rules: Rules) -> str:
    """The interface of a program's calls: C{REMOTE} -> C{IRemote}."""
    return "I" + capitalized(program.name.lower(), rules)
