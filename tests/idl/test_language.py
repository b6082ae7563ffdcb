"""The C{.x} language: what is accepted, and what it means."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from virnet.idl.model import (
    ArrayType,
    Basic,
    Bound,
    Enumeration,
    FixedArrayType,
    FixedOpaqueType,
    NamedType,
    OpaqueType,
    OptionalType,
    Specification,
    StringType,
    Structure,
    Type,
    Typedef,
    UnionDefinition,
)
from virnet.idl.parser import parse


def fieldTypes(text: str) -> list[Type]:
    """The types of the fields of the text's structure C{s}."""
    structure = parse(text).definitions["s"]
    assert isinstance(structure, Structure)
    return [type for _, type in structure.fields]


def union(text: str) -> UnionDefinition:
    """The text's union C{u}."""
    definition = parse(text).definitions["u"]
    assert isinstance(definition, UnionDefinition)
    return definition


class TypeTests(SynchronousTestCase):
    """RFC 4506 section 6, and rpcgen's additions."""

    def test_basicTypes(self) -> None:
        for written, name in (
            ("int", "int"), ("unsigned int", "uint"), ("unsigned", "uint"), ("hyper", "hyper"),
            ("unsigned hyper", "uhyper"), ("float", "float"), ("double", "double"), ("bool", "bool"),
            ("char", "char"), ("unsigned char", "uchar"), ("short", "short"), ("unsigned short", "ushort"),
            ("long", "int"), ("unsigned long", "uint"),
        ):  # fmt: skip
            self.assertEqual(fieldTypes(f"struct s {{ {written} x; }};"), [Basic(name)], written)

    def test_fieldsWithParts(self) -> None:
        text = """
            struct s {
                string a<10>; string b<>; opaque c<10>; opaque d<>; opaque e[16];
                int f<10>; int g<>; int h[3]; int *i; unsigned int *j; s *k; struct s l<>;
            };
        """
        integer = Basic("int")
        types = fieldTypes(text)
        self.assertEqual(
            types[:10],
            [
                StringType(Bound(10)), StringType(Bound(None)), OpaqueType(Bound(10)),
                OpaqueType(Bound(None)),
                FixedOpaqueType(Bound(16)), ArrayType(integer, Bound(10)), ArrayType(integer, Bound(None)),
                FixedArrayType(integer, Bound(3)), OptionalType(integer), OptionalType(Basic("uint")),
            ],
        )  # fmt: skip
        assert isinstance(types[10], OptionalType) and isinstance(types[11], ArrayType)
        for type in (types[10].item, types[11].item):
            assert isinstance(type, NamedType)
            self.assertEqual(type.name, "s")

    def test_nothing(self) -> None:
        """C{void} among fields takes no room; a string without a bound has none."""
        self.assertEqual(fieldTypes("struct s { void; string a; };"), [StringType(Bound(None))])

    def test_typedef(self) -> None:
        definitions = parse("typedef string name<20>; typedef name *maybe; typedef opaque id[8];").definitions
        name, maybe, identity = definitions.values()
        assert isinstance(name, Typedef) and isinstance(maybe, Typedef) and isinstance(identity, Typedef)
        self.assertEqual(name.type, StringType(Bound(20)))
        assert isinstance(maybe.type, OptionalType)
        self.assertEqual(identity.type, FixedOpaqueType(Bound(8)))

    def test_typedefOfAStructureToItself(self) -> None:
        """rpcgen's input has C's idiom, which says nothing."""
        self.assertEqual(list(parse("struct x { int a; }; typedef struct x x;").definitions), ["x"])

    def test_anonymousTypes(self) -> None:
        """A body in place of a type is named after where it stands."""
        text = "struct s { enum { A, B } a; struct { int x; } b; union switch (int k) { case 1: void; } c; };"
        definitions = parse(text).definitions
        self.assertEqual(sorted(definitions), ["s", "s_a", "s_b", "s_c"])
        self.assertEqual(sorted(parse("typedef enum { ON, OFF } power;").definitions), ["power"])

    def test_enumeration(self) -> None:
        color = parse("enum color { RED, GREEN = 5, BLUE, DARK = -1, ALIAS = GREEN, };").definitions["color"]
        assert isinstance(color, Enumeration)
        wanted = {"RED": 0, "GREEN": 5, "BLUE": 6, "DARK": -1, "ALIAS": 5}
        self.assertEqual(dict(color.members), wanted)

    def test_wordsOfTheLanguageAsNames(self) -> None:
        """Where only a name can stand, program, version and string are names."""
        structure = parse("struct s { int program; int version; int string; int case; };").definitions["s"]
        assert isinstance(structure, Structure)
        self.assertEqual([name for name, _ in structure.fields], ["program", "version", "string", "case"])

    def test_typesMayBeUsedBeforeTheyAreDefined(self) -> None:
        parse("struct s { later x; }; struct later { int y; };")

    def test_typesOfCHeaders(self) -> None:
        text = "struct s { u_int a; uint64_t b; int32_t c; bool_t d; netobj e; u_char f; };"
        names = [type.name for type in fieldTypes(text) if isinstance(type, NamedType)]
        self.assertEqual(names, ["u_int", "uint64_t", "int32_t", "bool_t", "netobj", "u_char"])


class UnionTests(SynchronousTestCase):
    """Arms, labels, defaults."""

    def test_arms(self) -> None:
        found = union(
            "union u switch (int kind) { case 1: int a; case 2: case 3: string b<5>; case 4: void; };"
        )
        self.assertEqual((found.switchName, found.switch, found.default), ("kind", Basic("int"), None))
        arms = {1: ("a", Basic("int")), 2: ("b", StringType(Bound(5))), 3: ("b", StringType(Bound(5)))}
        self.assertEqual(dict(found.arms), {**arms, 4: ("", Basic("void"))})

    def test_defaults(self) -> None:
        self.assertEqual(
            union("union u switch (int k) { case 1: int a; default: void; };").default, ("", Basic("void"))
        )
        self.assertEqual(
            union("union u switch (int k) { case 1: int a; default: hyper b; };").default,
            ("b", Basic("hyper")),
        )

    def test_switches(self) -> None:
        text = "enum color { RED = 7 }; typedef color paint; union u switch (paint p) { case RED: int a; };"
        self.assertEqual(list(union(text).arms), [7])
        self.assertEqual(
            list(union("union u switch (bool ok) { case TRUE: int a; case FALSE: void; };").arms), [1, 0]
        )
        self.assertEqual(list(union("union u switch (u_int k) { case 0x10: int a; };").arms), [16])

    def test_nested(self) -> None:
        text = "union u switch (int k) { case 1: union switch (int l) { case 2: int a; } inner; };"
        [(name, type)] = union(text).arms.values()
        assert isinstance(type, NamedType)
        self.assertEqual((name, type.name), ("inner", "u_inner"))


class ConstantTests(SynchronousTestCase):
    """Numbers, and how they are named."""

    def value(self, text: str, name: str = "A") -> int | str:
        return parse(text).constants[name]

    def test_numbers(self) -> None:
        for written, value in (
            ("10", 10), ("0x10", 16), ("0XfF", 255), ("010", 8), ("0", 0), ("-5", -5), ("-0x5", -5),
            ("0x20008086", 0x20008086),
        ):  # fmt: skip
            self.assertEqual(self.value(f"const A = {written};"), value, written)

    def test_names(self) -> None:
        self.assertEqual(self.value("const A = B; const B = 5;"), 5)
        self.assertEqual(self.value("const A = RED; enum color { RED = 3 };"), 3)

    def test_sumsAndProducts(self) -> None:
        self.assertEqual(self.value("const A = B + 1; const B = 5;"), 6)
        self.assertEqual(self.value("const A = (B - 1) * -2 + 3; const B = 5;"), -5)

    def test_texts(self) -> None:
        """rpcgen takes them too."""
        self.assertEqual(self.value('const A = "d4a0";'), "d4a0")

    def test_boundsKeepTheirConstants(self) -> None:
        [first, second] = fieldTypes("const MAX = 5; struct s { int a<MAX>; int b<MAX + 1>; };")
        self.assertEqual(first, ArrayType(Basic("int"), Bound(5, "MAX")))
        self.assertEqual(second, ArrayType(Basic("int"), Bound(6)))

    def test_constantsOfLibvirtsHeaders(self) -> None:
        """Its files name them without defining them."""
        [uuid] = fieldTypes("struct s { opaque uuid[VIR_UUID_BUFLEN]; };")
        self.assertEqual(uuid, FixedOpaqueType(Bound(16)))


class CommentTests(SynchronousTestCase):
    """Comments, lines for C and lines for its preprocessor say nothing."""

    def test_comments(self) -> None:
        text = "/* one */ const A = 1; // two\n/* three\n * lines **/ const B /* inside */ = 2; ///"
        self.assertEqual(parse(text).constants, {"A": 1, "B": 2})

    def test_linesForC(self) -> None:
        text = "%#include <stdio.h>\n%/* open\n%int main(void) {\nconst A = 1;\n  % indented }\n"
        self.assertEqual(parse(text).constants, {"A": 1})

    def test_marksOfThePreprocessor(self) -> None:
        text = '# 1 "/tmp/hello.x"\n# 1 "<built-in>" 1\n#pragma once\n#ident "x"\nconst A = 1;\n'
        self.assertEqual(parse(text).constants, {"A": 1})

    def test_signsInsideComments(self) -> None:
        self.assertEqual(parse("/*\n#if nonsense (\n% \n*/ const A = 1;").constants, {"A": 1})

    def test_windowsLines(self) -> None:
        self.assertEqual(
            parse("%#include <x.h>\r\nconst A = 1;\r\n#define B 2\r\nconst C = B;\r\n").constants["C"], 2
        )


class PreprocessorTests(SynchronousTestCase):
    """The directives rpcgen's inputs have."""

    def constants(self, text: str) -> list[str]:
        return list(parse(text).constants)

    def test_conditions(self) -> None:
        text = "#ifdef {}\nconst A = 1;\n#else\nconst B = 1;\n#endif\n"
        self.assertEqual(self.constants(text.format("RPC_HDR")), ["A"])
        self.assertEqual(self.constants(text.format("RPC_SVC")), ["B"])
        self.assertEqual(self.constants("#define X\n" + text.format("X")), ["A"])
        self.assertEqual(self.constants("#define X\n#undef X\n" + text.format("X")), ["B"])
        self.assertEqual(self.constants(text.replace("#ifdef", "#ifndef").format("X")), ["A"])

    def test_if(self) -> None:
        text = (
            "#if {}\nconst A = 1;\n#elif {}\nconst B = 1;\n"
            "#elif 1\nconst C = 1;\n#else\nconst D = 1;\n#endif\n"
        )
        for first, second, wanted in (
            ("RPC_HDR", "1", "A"), ("1", "0", "A"), ("0", "1", "B"), ("X", "RPC_HDR", "B"), ("0", "0", "C"),
            ("defined(RPC_HDR)", "0", "A"), ("defined X", "defined(X)", "C"), ("!defined(X)", "0", "A"),
            ("!RPC_HDR", "!0", "B"),
        ):  # fmt: skip
            self.assertEqual(self.constants(text.format(first, second)), [wanted], first)

    def test_conditionsInsideOthers(self) -> None:
        text = (
            '#if 0\n#if 1\nconst A = 1;\n#else\nconst B = 1;\n#endif\n#define Y\n#include "no.x"\n'
            '%#include "no.h"\n%#define Z 1\n#undef RPC_HDR\n'
            "#else\n#ifdef RPC_HDR\nconst C = 1;\n#endif\n#endif\n"
        )
        self.assertEqual(self.constants(text), ["C"])

    def test_definedNumbers(self) -> None:
        """Also those only C is meant to see."""
        text = (
            "%#define MAX 1024\n#define\tMORE (MAX + 1) /* C */\nstruct s { string a<MAX>; string b<MORE>; };"
        )
        self.assertEqual(fieldTypes(text), [StringType(Bound(1024)), StringType(Bound(1025))])

    def test_definedCodeIsIgnored(self) -> None:
        text = "#define f(x) \\\n  ((x) + 1)\n%#define name value.len\n%#define loop loop\nconst A = 1;"
        self.assertEqual(self.constants(text), ["A"])

    def test_include(self) -> None:
        """As if the text stood there."""
        files = {"more.x": "const B = 2; struct t { int x; };"}
        specification = parse(
            '#include "more.x"\n#include "more.x"\nconst A = B; struct s { t x; };', include=files.get
        )
        self.assertEqual(specification.constants, {"B": 2, "A": 2})
        self.assertEqual(specification.definitions["t"].origin, "")

    def test_import(self) -> None:
        """A header's C{.x} gives its types and constants only."""
        files = {
            "base.x": "const MAX = 2; struct t { int x; };"
            "program P { version V { void P_X(void) = 1; } = 1; } = 1;"
        }
        for line in ('%#include "base.h"', "%#include <rpcsvc/base.h>"):
            specification = parse(f"{line}\nstruct s {{ t x<MAX>; }};", include=files.get)
            self.assertEqual(specification.constants, {})
            self.assertEqual(specification.programs, ())
            self.assertEqual(specification.definitions["t"].origin, "base")
            self.assertEqual(specification.definitions["s"].origin, "")

    def test_headersThatAreNoTexts(self) -> None:
        self.assertEqual(self.constants('%#include "internal.h"\n#include <stdio.h>\nconst A = 1;'), ["A"])


class ProgramTests(SynchronousTestCase):
    """rpcgen's program blocks."""

    def parse(self, procedures: str) -> Specification:
        return parse(
            "struct two { int a; hyper b; }; struct one { string only<>; }; enum e { E = 1 };"
            f"program PROG {{ version VERS {{ {procedures} }} = 2; }} = 0x31;"
        )

    def test_procedures(self) -> None:
        [program] = self.parse(
            "void P_NULL(void) = 0; two P_DO_IT(two) = 5; string P_SAY(string) = 3;"
        ).programs
        self.assertEqual((program.name, program.number, program.version), ("PROG", 0x31, 2))
        self.assertEqual([p.name for p in program.procedures], ["null", "say", "do_it"])
        self.assertEqual([p.number for p in program.procedures], [0, 3, 5])
        self.assertEqual([p.priority for p in program.procedures], ["low"] * 3)
        null, say, do = program.procedures
        self.assertEqual((null.args, null.ret), ((), None))
        self.assertEqual(say.args, (("arg", StringType(Bound(None))),))
        self.assertEqual(say.ret, StringType(Bound(None)))
        self.assertEqual(do.args, (("a", Basic("int")), ("b", Basic("hyper"))))
        assert isinstance(do.ret, NamedType)

    def test_structureOfOneMember(self) -> None:
        [program] = self.parse("one P_X(one) = 1; one P_Y(struct one) = 2;").programs
        for procedure in program.procedures:
            self.assertEqual(procedure.args, (("only", StringType(Bound(None))),))
            self.assertEqual(procedure.ret, StringType(Bound(None)))

    def test_severalArguments(self) -> None:
        [program] = self.parse("int P_X(int, two, unsigned) = 1; two *P_Y(int) = 2; e P_Z(e) = 3;").programs
        self.assertEqual([name for name, _ in program.procedures[0].args], ["arg1", "arg2", "arg3"])
        self.assertIsInstance(program.procedures[1].ret, OptionalType)

    def test_predefinedTypesInProcedures(self) -> None:
        [program] = self.parse("uint32_t P_X(uint32_t) = 1; int P_Y(int) = 2;").programs
        self.assertEqual([name for name, _ in program.procedures[0].args], ["arg"])

    def test_versions(self) -> None:
        """Each is a program of its own."""
        text = (
            "program P { version ONE { int P_X(int) = 1; } = 1; version TWO { int P_X(int) = 1; } = 2; } = 9;"
        )
        self.assertEqual([(p.name, p.version) for p in parse(text).programs], [("P_ONE", 1), ("P_TWO", 2)])

    def test_annotations(self) -> None:
        [program] = self.parse("/** @priority: high */ void P_X(void) = 1; void P_Y(void) = 2;").programs
        self.assertEqual([p.priority for p in program.procedures], ["high", "low"])


class LibvirtTests(SynchronousTestCase):
    """Files of the shape libvirt's have."""

    TEXT = """\
        %#include "internal.h"
        const THING_STRING_MAX = 100;
        typedef string thing_nonnull_string<THING_STRING_MAX>;
        typedef thing_nonnull_string *thing_string;
        struct thing_nonnull_item { thing_nonnull_string name; opaque uuid[VIR_UUID_BUFLEN]; };
        struct thing_item_get_size_args { thing_nonnull_item item; unsigned int flags; };
        struct thing_item_get_size_ret { unsigned hyper size; /* insert@1 */ };
        struct thing_item_get_info_args { thing_nonnull_item item; };
        struct thing_item_get_info_ret { int state; unsigned hyper size; };
        struct thing_item_event_gone_msg { int callbackID; thing_nonnull_item item; };
        const THING_PROGRAM = 0x20001234;
        const THING_PROTOCOL_VERSION = 1;
        enum thing_procedure {
            /* Each function must be preceded by a comment with annotations:
             *
             * - @priority: low|high
             * - @readstream: paramnumber
             */

            /**
             * @generate: both
             * @priority: high
             * @acl: item:read
             * @acl: item:save:!THING_CONFIG|THING_LIVE
             */
            THING_PROC_ITEM_GET_SIZE = 1,

            /**
             * @generate: none
             * @acl: none
             * @aclfilter: item:getattr
             * @future: something
             */
            THING_PROC_ITEM_GET_INFO = 2,

            /**
             * @writestream: 1
             * @sparseflag: THING_SPARSE
             */
            THING_PROC_ITEM_UPLOAD = 5,
            /** @readstream: 2 */
            THING_PROC_ITEM_DOWNLOAD = 4,

            THING_PROC_ITEM_EVENT_GONE = 3 /* trailing: @priority: high */
        };
        """

    def test_program(self) -> None:
        [program] = parse(self.TEXT).programs
        self.assertEqual((program.name, program.typePrefix), ("THING", "thing_"))
        self.assertEqual((program.number, program.version), (0x20001234, 1))
        self.assertEqual([p.number for p in program.procedures], [1, 2, 3, 4, 5])

    def test_procedures(self) -> None:
        [program] = parse(self.TEXT).programs
        size, info, gone, download, upload = program.procedures
        self.assertEqual([name for name, _ in size.args], ["item", "flags"])
        self.assertEqual(size.ret, Basic("uhyper"))
        self.assertEqual(size.folded, ("thing_item_get_size_args", "thing_item_get_size_ret"))
        assert isinstance(info.ret, NamedType)
        self.assertEqual(info.ret.name, "thing_item_get_info_ret")
        self.assertEqual((download.args, download.ret), ((), None))
        self.assertEqual([p.event for p in program.procedures], [False, False, True, False, False])
        self.assertEqual([name for name, _ in gone.args], ["callbackID", "item"])

    def test_annotations(self) -> None:
        [program] = parse(self.TEXT).programs
        size, info, gone, download, upload = program.procedures
        self.assertEqual([p.priority for p in program.procedures], ["high", "low", "low", "low", "low"])
        self.assertEqual(size.acl, ("item:read", "item:save:!THING_CONFIG|THING_LIVE"))
        self.assertEqual((info.acl, info.aclFilter), ((), ("item:getattr",)))
        self.assertEqual((upload.stream, upload.sparse), ("write", True))
        self.assertEqual((download.stream, download.sparse), ("read", False))
        self.assertEqual((size.stream, size.sparse), (None, False))

    def test_R043_withoutAnnotationThePriorityIsLow(self) -> None:
        """A comment that explains annotations is none, nor is one behind the procedure."""
        text = self.TEXT.replace("@priority: high\n", "\n")
        self.assertEqual({p.priority for p in parse(text).programs[0].procedures}, {"low"})

    def test_spellingOfStructures(self) -> None:
        """The lock daemon's are in mixed case, and its version has another name."""
        text = """
            struct virThingProtocolCreateItemArgs { int flags; };
            const VIR_THING_PROTOCOL_PROGRAM = 0xEA7BEEF;
            const VIR_THING_PROTOCOL_PROGRAM_VERSION = 3;
            enum virThingProtocolProcedure { VIR_THING_PROTOCOL_PROC_CREATE_ITEM = 8 };
        """
        [program] = parse(text).programs
        self.assertEqual((program.name, program.version), ("VIR_THING_PROTOCOL", 3))
        self.assertEqual(program.procedures[0].args, (("flags", Basic("int")),))

    def test_otherEnumsAreNoPrograms(self) -> None:
        self.assertEqual(
            parse("enum some_procedure { SOME_THING = 1 }; enum color { A_PROC_B = 1 };").programs, ()
        )

    def test_typesOfAnotherProgram(self) -> None:
        text = """
            %#include "thing_protocol.h"
            struct extra_item_poke_args { thing_nonnull_item item; };
            const EXTRA_PROGRAM = 0x20001235;
            const EXTRA_PROTOCOL_VERSION = 1;
            enum extra_procedure { EXTRA_PROC_ITEM_POKE = 1 };
        """
        text = "\n".join(line.strip() for line in text.splitlines())
        [program] = parse(text, include={"thing_protocol.x": self.TEXT}.get).programs
        self.assertEqual((program.name, len(program.procedures)), ("EXTRA", 1))


class RpcsvcTests(SynchronousTestCase):
    """The files rpcgen's makers install."""

    DIRECTORY = Path("/usr/include/rpcsvc")

    def test_allOfThem(self) -> None:
        files = sorted(self.DIRECTORY.glob("*.x"))
        if not files:
            if os.environ.get("CI") == "true":
                self.fail(f"no .x files in {self.DIRECTORY}: install rpcsvc-proto")
            raise SkipTest(f"no .x files in {self.DIRECTORY} (Debian: rpcsvc-proto)")
        from virnet.programs.base import Program

        def include(name: str) -> str | None:
            file = self.DIRECTORY / name
            return file.read_text(encoding="utf-8", errors="surrogateescape") if file.is_file() else None

        for file in files:
            text = include(file.name)
            assert text is not None
            specification = parse(text, str(file), include)
            self.assertTrue(specification.definitions, file.name)
            for program in specification.programs:
                # Every type has a codec, every name is one Python takes.
                made = Program.fromIDL(text, str(file), program.name, include)
                self.assertEqual(len(made.procedures), len(program.procedures))
                for procedure in made.procedures.values():
                    self.assertTrue(callable(procedure.encodeArgs) and callable(procedure.decodeRet))
