"""From the text of a C{.x} file to what it says.

Rules that live here:

  - libvirt's files list procedures as C{enum NAME_procedure { NAME_PROC_A = 1, … }}; the number and the
    version are the constants C{NAME_PROGRAM} and C{NAME_PROTOCOL_VERSION} (or C{NAME_PROGRAM_VERSION});
    arguments, return value and event message are the structures called C{name_a_args}, C{name_a_ret},
    C{name_a_msg}, in any spelling of case and underscores.
  - Annotations stand in the C{/** … */} comment directly before a procedure: C{@priority: low|high} (low
    where absent), C{@acl: OBJECT:PERMISSION…} (C{none} for none; may be repeated), C{@aclfilter:},
    C{@readstream: N}, C{@writestream: N} (C's parameter number, ignored), C{@sparseflag: NAME}. Others,
    like C{@generate:}, are ignored.
  - rpcgen's C{program} blocks: every version is a program of its own. A structure as the only argument is
    taken apart into parameters, as on the wire both are the same.
  - C{long} is four bytes, as in rpcgen. C{quadruple} is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lark import Token, Tree

from virnet.errors import IDLError
from virnet.idl.model import (
    PREDEFINED_CONSTANTS,
    PREDEFINED_TYPES,
    VOID,
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
    Place,
    ProcedureDefinition,
    ProgramDefinition,
    Specification,
    StringType,
    Structure,
    Type,
    Typedef,
    UnionDefinition,
    checkFinite,
    named,
    parts,
)
from virnet.idl.names import safe
from virnet.idl.preprocess import Source, preprocess
from virnet.idl.procedures import Procedures, annotationsBefore, commonPrefix, squeezed
from virnet.idl.syntax import expressionTree, fileTree

IncludeFile = Callable[[str], str | None]
"""Gives the text of a file named in an include line; C{None} where there is none."""


def parse(text: str, filename: str = "<idl>", include: IncludeFile | None = None) -> Specification:
    """Read a C{.x} text.

    @param filename: for error messages.
    @raise IDLError: with the place, what was found there and what was expected.
    """
    builder = _Builder(include or (lambda name: None))
    try:
        builder.read(text, filename, "")
        return builder.finish()
    except RecursionError:
        raise IDLError("nested too deeply, expected something a person could read", filename, 1, 1) from None


class _Constant(NamedTuple):
    """A C{const} or a member of an enum.

    @ivar expression: C{None} for a member without a value, which is one more than C{previous}.
    @ivar own: whether it is a C{const} of the text itself.
    """

    place: Place
    expression: Any
    previous: str | None
    source: Source
    own: bool


class _Builder:
    """Collects the definitions of a text and of those it includes, then resolves their names."""

    def __init__(self, include: IncludeFile) -> None:
        self._include = include
        self._seen: set[str] = set()
        self._trees: list[tuple[Any, Source, str]] = []
        self._constants: dict[str, _Constant] = {}
        self._macros: dict[str, tuple[str, Source, Place]] = {}
        self._values: dict[str, int | str] = {}
        self._definitions: dict[str, Definition] = {}
        # Unions and what they are switched by.
        self._switches: list[tuple[str, Place, Type]] = []
        # While definitions are made: of which file, and inside which type.
        self._source = Source("", "", [], [])
        self._origin = ""

    def read(self, text: str, filename: str, origin: str) -> None:
        """@param origin: what an imported file is called; empty for the text itself and what it includes."""
        source = preprocess(text, filename)
        for include in source.includes:
            if include.name in self._seen:
                continue
            self._seen.add(include.name)
            inner = self._include(include.name)
            if inner is not None:
                stem = include.name.rpartition("/")[2].removesuffix(".x")
                self.read(inner, include.name, stem if include.imported else origin)
            elif not include.imported:
                raise IDLError(f"cannot find {include.name!r} to include", filename, include.line, 1)
        for macro in source.macros:
            self._macros.setdefault(macro.name, (macro.value, source, Place(filename, macro.line, 1)))
        tree = fileTree(source)
        self._trees.append((tree, source, origin))
        for node in tree.iter_subtrees_topdown():
            if node.data == "constant":
                self._enter(node.children[0], node.children[1], None, source, own=not origin)
            elif node.data == "enum_body":
                previous = None
                for member in node.children:
                    name, expression = member.children
                    self._enter(name, expression, previous, source, own=False)
                    previous = str(name)

    def _enter(self, name: Any, expression: Any, previous: str | None, source: Source, own: bool) -> None:
        place = _place(name, source)
        if name in self._constants:
            first = self._constants[name].place
            raise place.error(
                f"{name} is defined twice, expected a new name (the first is in line {first.line})"
            )
        self._constants[str(name)] = _Constant(place, expression, previous, source, own)

    def finish(self) -> Specification:
        for tree, source, origin in self._trees:
            self._source, self._origin = source, origin
            for written in tree.children:
                self._define(written)
        for name in self._constants:
            self._constant(name)
        for definition in self._definitions.values():
            for type in parts(definition):
                self._checkNames(type)
        checkFinite(self._definitions)
        for name, place, switch in self._switches:
            if not self._switchable(switch):
                raise place.error(f"{name} cannot be switched by this, expected an integer, an enum or bool")
        programs: list[ProgramDefinition] = []
        for tree, source, origin in self._trees:
            if not origin:
                self._source = source
                for written in tree.children:
                    programs += self._programs(written)
        own = {name: self._values[name] for name, constant in self._constants.items() if constant.own}
        return Specification(own, self._definitions, tuple(programs))

    # -- constants

    def _constant(self, name: str) -> int | str:
        if name not in self._values:
            constant = self._constants[name]
            self._values[name] = _CYCLE
            if isinstance(constant.expression, Token):
                self._values[name] = constant.expression[1:-1]
            elif constant.expression is not None:
                self._values[name] = self._evaluate(constant.expression, constant.source)
            else:
                self._values[name] = self._member(constant.previous) + 1 if constant.previous else 0
        return self._values[name]

    def _member(self, name: str) -> int:
        value = self._constant(name)
        if isinstance(value, int):
            return value
        raise self._constants[name].place.error(f"{name} is defined by itself, expected a number")

    def _evaluate(self, expression: Any, source: Source) -> int:
        children = expression.children
        match expression.data:
            case "number":
                text = children[0]
                if text[:1] == "0" and text.isdigit():
                    if not set(text) <= set("01234567"):
                        raise _place(text, source).error(f"{text} is no octal number, expected digits 0 to 7")
                    return int(text, 8)
                return int(text, 0)
            case "reference":
                return self._reference(str(children[0]), _place(children[0], source))
            case "negate":
                return -self._evaluate(children[0], source)
        left, right = (self._evaluate(child, source) for child in children)
        if expression.data == "add":
            return left + right
        return left - right if expression.data == "subtract" else left * right

    def _reference(self, name: str, place: Place) -> int:
        what = "not defined"
        if name in self._constants:
            value = self._constant(name)
            if isinstance(value, int):
                return value
            what = "defined by itself" if value is _CYCLE else "a text"
        elif name in self._macros:
            number = self._macro(name)
            if number is not None:
                return number
            what = f"#defined as {self._macros[name][0]!r}"
        elif name in PREDEFINED_CONSTANTS:
            return PREDEFINED_CONSTANTS[name]
        elif name in self._definitions:
            what = "a type, not a constant"
        raise place.error(f"{name} is {what}, expected a number or the name of a constant")

    def _macro(self, name: str) -> int | None:
        """@return: the value of a C{#define}; C{None} where it is no number as far as this file says."""
        value, source, place = self._macros[name]
        if name not in self._values:
            # A macro that names itself finds nothing.
            self._macros[name] = ("", source, place)
            expression = expressionTree(value)
            try:
                if expression is None:
                    return None
                self._values[name] = self._evaluate(expression, Source(value, source.filename, [], []))
            except IDLError:
                return None
            finally:
                self._macros[name] = (value, source, place)
        number: Any = self._values[name]
        return int(number)

    def _bound(self, expression: Any) -> Bound:
        if expression is None:
            return Bound(None)
        value = self._evaluate(expression, self._source)
        if not 0 <= value < 2**32:
            place = Place(self._source.filename, expression.meta.line, expression.meta.column)
            raise place.error(f"{value} is no length, expected a number from 0 to {2**32 - 1}")
        name = str(expression.children[0]) if expression.data == "reference" else ""
        return Bound(value, name if name in self._constants else "")

    # -- types

    def _define(self, definition: Any) -> None:
        match definition.data:
            case "typedef":
                name, place, type = self._declaration(definition.children[0], "")
                if type == VOID:
                    raise _at(definition, self._source).error("void cannot be named, expected a type")
                self._keep(Typedef(name, place, self._origin, type))
            case "enum" | "struct" | "union":
                name, body = definition.children
                self._body(str(name), _place(name, self._source), body)

    def _keep(self, definition: Definition) -> None:
        name = definition.name
        if name in self._definitions:
            first = self._definitions[name]
            if isinstance(definition, Typedef) and definition.type == NamedType(name, definition.place):
                return  # typedef struct x x; says nothing new
            raise definition.place.error(
                f"{name} is defined twice, expected a new name (the first is in line {first.place.line})"
            )
        self._definitions[name] = definition

    def _body(self, name: str, place: Place, body: Any) -> None:
        if body.data == "enum_body":
            members = {
                str(member.children[0]): self._member(str(member.children[0])) for member in body.children
            }
            for member in body.children:
                value = members[member.children[0]]
                # C takes 1 << 31 as well, which then travels as a negative number.
                if not -(2**31) <= value < 2**32:
                    raise _place(member.children[0], self._source).error(
                        f"{value} does not fit an enum, expected a number of 32 bits"
                    )
            self._keep(Enumeration(name, place, self._origin, members))
        elif body.data == "struct_body":
            self._keep(Structure(name, place, self._origin, self._fields(body.children, name)))
        else:
            self._union(name, place, body)

    def _fields(self, declarations: Iterable[Any], owner: str) -> tuple[tuple[str, Type], ...]:
        fields: dict[str, Type] = {}
        for declaration in declarations:
            field, place, type = self._declaration(declaration, owner)
            if type == VOID:
                continue
            if field in fields:
                raise place.error(f"{owner} has two fields {field}, expected a new name")
            fields[field] = type
        return tuple(fields.items())

    def _union(self, name: str, place: Place, body: Any) -> None:
        switchName, switchPlace, switch = self._declaration(body.children[0], name)
        self._switches.append((name, switchPlace, switch))
        arms: dict[int, tuple[str, Type]] = {}
        default: tuple[str, Type] | None = None
        for arm in body.children[1:]:
            field, _, type = self._declaration(arm.children[-1], name)
            if arm.data == "default":
                if default is not None:
                    raise _at(arm, self._source).error(f"{name} has two defaults, expected one")
                default = (field, type)
                continue
            for label in arm.children[:-1]:
                value = self._evaluate(label.children[0], self._source)
                if value in arms:
                    raise _at(label, self._source).error(
                        f"{name} has two cases {value}, expected another value"
                    )
                arms[value] = (field, type)
        self._keep(UnionDefinition(name, place, self._origin, switchName, switch, arms, default))

    def _switchable(self, type: Type) -> bool:
        if isinstance(type, NamedType):
            definition = self._definitions.get(type.name)
            if isinstance(definition, Typedef):
                return self._switchable(definition.type)
            if definition is None:
                return self._switchable(PREDEFINED_TYPES[type.name])
            return isinstance(definition, Enumeration)
        return isinstance(type, Basic) and type.name in (
            "int",
            "uint",
            "char",
            "uchar",
            "short",
            "ushort",
            "bool",
        )

    def _declaration(self, declaration: Any, owner: str) -> tuple[str, Place, Type]:
        """@return: the name that is declared, where, and its type; L{VOID} without a name."""
        kind, children = declaration.data, declaration.children
        if kind == "void":
            return "", _at(declaration, self._source), VOID
        at = 1 if isinstance(children[0], Tree) else 0
        name, bound = str(children[at]), children[at + 1] if len(children) > at + 1 else None
        place = _place(children[at], self._source)
        type: Type
        match kind:
            case "string":
                type = StringType(self._bound(bound))
            case "bare_string":
                type = StringType(Bound(None))
            case "opaque":
                type = OpaqueType(self._bound(bound))
            case "fixed_opaque":
                type = FixedOpaqueType(self._bound(bound))
            case _:
                item = self._type(children[0], f"{owner}_{name}".lstrip("_"))
                if kind == "pointer":
                    type = OptionalType(item)
                elif kind == "fixed":
                    type = FixedArrayType(item, self._bound(bound))
                else:
                    type = ArrayType(item, self._bound(bound)) if kind == "variable" else item
        return name, place, type

    def _type(self, tree: Any, anonymous: str) -> Type:
        """@param anonymous: the name of a type that is defined in its use."""
        place = _at(tree, self._source)
        match tree.data:
            case "base":
                return Basic(tree.children[0].data)
            case "named":
                return NamedType(str(tree.children[0]), _place(tree.children[0], self._source))
            case "quadruple":
                raise place.error(
                    "quadruple is not supported, expected float or double: Python has no such numbers"
                )
        self._body(anonymous, place, tree.children[0])
        return NamedType(anonymous, place)

    def _checkNames(self, type: Type) -> None:
        for reference, _ in named(type):
            name = reference.name
            if name not in self._definitions and name not in PREDEFINED_TYPES:
                what = "a constant, not a type" if name in self._constants else "not defined"
                raise reference.place.error(f"{name} is {what}, expected the name of a type")

    # -- programs

    def _programs(self, definition: Any) -> Iterable[ProgramDefinition]:
        if definition.data == "program":
            yield from self._rpcgenPrograms(definition)
        elif definition.data == "enum":
            name, body = definition.children
            if name.lower().endswith("procedure") and all(
                "_PROC_" in member.children[0] for member in body.children
            ):
                yield self._libvirtProgram(str(name), body)

    def _libvirtProgram(self, enumName: str, body: Any) -> ProgramDefinition:
        first = body.children[0].children[0]
        name, _, _ = first.partition("_PROC_")
        prefix = f"{name}_PROC_"
        typePrefix = enumName[: -len("procedure")]
        place = _place(first, self._source)
        number = self._programConstant(place, f"{name}_PROGRAM")
        version = self._programConstant(place, f"{name}_PROTOCOL_VERSION", f"{name}_PROGRAM_VERSION")
        structures = {
            squeezed(definition.name): definition
            for definition in self._definitions.values()
            if isinstance(definition, Structure)
        }
        procedures = Procedures()
        for member in body.children:
            token = member.children[0]
            if not token.startswith(prefix):
                raise _place(token, self._source).error(
                    f"found {token}, expected a name that begins with {prefix}"
                )
            wanted = token[len(prefix) :].lower()
            arguments, result, message = (
                structures.get(squeezed(typePrefix + wanted + part)) for part in ("args", "ret", "msg")
            )
            event = message is not None and arguments is None and result is None
            given = message if event else arguments
            ret: Type | None = None
            folded = [given.name] if given else []
            if result is not None and result.fields:
                ret = result.fields[0][1] if len(result.fields) == 1 else NamedType(result.name, result.place)
                folded += [result.name] if len(result.fields) == 1 else []
            procedures.add(
                self._procedure(token, wanted, given.fields if given else (), ret, tuple(folded), event,
                                self._member(str(token)))
            )  # fmt: skip
        return ProgramDefinition(safe(name), typePrefix, number, version, procedures.inOrder())

    def _programConstant(self, place: Place, *names: str) -> int:
        for name in names:
            if name in self._constants or name in self._macros:
                return self._reference(name, place)
        raise place.error(f"procedures without a program, expected a constant {' or '.join(names)}")

    def _rpcgenPrograms(self, definition: Any) -> Iterable[ProgramDefinition]:
        name, *versions, expression = definition.children
        number = self._word(expression)
        for version in versions:
            versionName, *rows, versionExpression = version.children
            names = [row.children[1] for row in rows]
            common = commonPrefix([str(token) for token in names])
            procedures = Procedures()
            for token, row in zip(names, rows, strict=True):
                result, _, *arguments, value = row.children
                wanted = token[len(common) :].lower()
                args, folded = self._parameters(arguments, str(token))
                ret = self._result(result, f"{token}_ret")
                if isinstance(ret, NamedType):
                    # Predefined types have no definition.
                    structure = self._definitions.get(ret.name)
                    if isinstance(structure, Structure) and len(structure.fields) == 1:
                        ret, folded = structure.fields[0][1], (*folded, structure.name)
                procedures.add(
                    self._procedure(token, wanted, args, None if ret == VOID else ret, folded, False,
                                    self._word(value))
                )  # fmt: skip
            called = str(name) if len(versions) == 1 else f"{name}_{versionName}"
            yield ProgramDefinition(
                safe(called), "", number, self._word(versionExpression), procedures.inOrder()
            )

    def _word(self, expression: Any) -> int:
        value = self._evaluate(expression, self._source)
        if not 0 <= value < 2**32:
            place = Place(self._source.filename, expression.meta.line, expression.meta.column)
            raise place.error(f"{value} is out of range, expected a number from 0 to {2**32 - 1}")
        return value

    def _parameters(
        self, arguments: list[Any], owner: str
    ) -> tuple[tuple[tuple[str, Type], ...], tuple[str, ...]]:
        types = [self._result(argument, f"{owner}_arg") for argument in arguments]
        if types == [VOID]:
            return (), ()
        if len(types) == 1 and isinstance(types[0], NamedType):
            definition = self._definitions.get(types[0].name)
            if isinstance(definition, Structure):
                return definition.fields, (definition.name,)
        if len(types) == 1:
            return (("arg", types[0]),), ()
        return tuple((f"arg{number}", type) for number, type in enumerate(types, 1)), ()

    def _result(self, tree: Any, anonymous: str) -> Type:
        match tree.data:
            case "result_void":
                return VOID
            case "result_string":
                return StringType(Bound(None))
        type = self._type(tree.children[0], anonymous)
        self._checkNames(type)
        return OptionalType(type) if tree.data == "result_pointer" else type

    def _procedure(
        self, token: Token, name: str, args: tuple[tuple[str, Type], ...], ret: Type | None,
        folded: tuple[str, ...], event: bool, number: int,
    ) -> ProcedureDefinition:  # fmt: skip
        place = _place(token, self._source)
        priority, stream, sparse = "low", None, False
        acl: list[str] = []
        aclFilter: list[str] = []
        for key, value in annotationsBefore(self._source.text, token.start_pos or 0):
            match key:
                case "priority":
                    if value not in ("low", "high"):
                        raise place.error(f"found @priority: {value}, expected low or high")
                    priority = value
                case "readstream" | "writestream":
                    stream = key.removesuffix("stream")
                case "sparseflag":
                    sparse = True
                case "acl" | "aclfilter":
                    if value == "none":
                        continue
                    # It is written into Python source, so nothing else than such words may pass.
                    words = value.translate(_PUNCTUATION).replace("_", "")
                    if ":" not in value or not (words.isascii() and words.isalnum()):
                        raise place.error(f"found @{key}: {value}, expected OBJECT:PERMISSION or none")
                    (acl if key == "acl" else aclFilter).append(value)
        return ProcedureDefinition(
            number, name, str(token), place, args, ret, folded, event,
            priority, stream, tuple(acl), tuple(aclFilter), sparse,
        )  # fmt: skip


_CYCLE: Any = object()
_PUNCTUATION = str.maketrans("", "", ":!|-.")


def _place(token: Any, source: Source) -> Place:
    return Place(source.filename, token.line or 0, token.column or 0)


def _at(tree: Any, source: Source) -> Place:
    meta = tree.meta
    return Place(source.filename, getattr(meta, "line", 0), getattr(meta, "column", 0))
