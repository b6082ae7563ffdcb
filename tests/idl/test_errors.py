"""Errors in C{.x} texts: the place, what was found there, what was expected."""

# One error a line.
# ruff: noqa: E501

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import IDLError
from virnet.idl.parser import parse

PROGRAM = "const P_PROGRAM = 1; const P_PROTOCOL_VERSION = 1; enum p_procedure "

# (text, message behind the file's name)
ERRORS = [
    # The grammar
    ("struct x {", "1:11: found the end of the file, expected a type or '}'"),
    ("struct x { int a }", "1:18: found '}', expected ';', '<' or '['"),
    ("struct { int a; };", "1:8: found '{', expected a name"),
    ("const A 5;", "1:9: found '5', expected '='"),
    ("const A = ;", "1:11: found ';', expected '(', '-', a name, a number or a text in quotes"),
    ("\n\n  hello", "3:3: found 'hello', expected 'const', 'enum', 'program', 'struct', 'typedef', 'union' or the end of the file"),
    ("const A = 1 $ 2;", "1:13: found '$', expected ')', '*', '+', ',', '-', ':', ';', '>', ']' or '}'"),
    ("const A = 1; /* open", "1:14: comment is not closed, expected '*/'"),
    ("union u switch (int a) { };", "1:26: found '}', expected 'case' or 'default'"),
    ("enum e { };", "1:10: found '}', expected a name"),
    ("program P { } = 1;", "1:13: found '}', expected 'version'"),
    ("struct x { opaque a; };", "1:20: found ';', expected '<' or '['"),
    # Names
    ("struct x { y a; };", "1:12: y is not defined, expected the name of a type"),
    ("struct x { y *a<5>; };", "1:16: found '<', expected ';'"),
    ("const Y = 1; struct x { Y a; };", "1:25: Y is a constant, not a type, expected the name of a type"),
    ("struct x { string a<MAX>; };", "1:21: MAX is not defined, expected a number or the name of a constant"),
    ("struct y { int a; }; struct x { string a<y>; };", "1:42: y is a type, not a constant, expected a number or the name of a constant"),
    ('const A = "a"; struct x { string a<A>; };', "1:36: A is a text, expected a number or the name of a constant"),
    ("#define A b.c\nstruct x { string a<A>; };", "2:21: A is #defined as 'b.c', expected a number or the name of a constant"),
    ("#define A A\nstruct x { string a<A>; };", "2:21: A is #defined as 'A', expected a number or the name of a constant"),
    ("const A = B; const B = A;", "1:24: A is defined by itself, expected a number or the name of a constant"),
    ("enum e { A = B, B };", "1:10: A is defined by itself, expected a number"),
    ("const A = 09;", "1:11: 09 is no octal number, expected digits 0 to 7"),
    # Twice
    ("const A = 1;\nconst A = 1;", "2:7: A is defined twice, expected a new name (the first is in line 1)"),
    ("enum e { A, A };", "1:13: A is defined twice, expected a new name (the first is in line 1)"),
    ("struct x { int a; };\nstruct x { int a; };", "2:8: x is defined twice, expected a new name (the first is in line 1)"),
    ("struct x { int a; int a; };", "1:23: x has two fields a, expected a new name"),
    ("union u switch (int k) { case 1: int a; case 1: int b; };", "1:41: u has two cases 1, expected another value"),
    ("union u switch (int k) { case 1: int a; default: void; default: void; };", "1:56: u has two defaults, expected one"),
    # Types that cannot be
    ("struct x { quadruple a; };", "1:12: quadruple is not supported, expected float or double: Python has no such numbers"),
    ("typedef void;", "1:1: void cannot be named, expected a type"),
    ("struct x { int a[-1]; };", "1:18: -1 is no length, expected a number from 0 to 4294967295"),
    ("struct x { int a<0x100000000>; };", "1:18: 4294967296 is no length, expected a number from 0 to 4294967295"),
    ("enum e { A = 0x100000000 };", "1:10: 4294967296 does not fit an enum, expected a number of 32 bits"),
    ("struct x { x a; };", "1:8: x contains itself, expected a pointer or an array of variable length somewhere in x -> x"),
    ("struct x { y a[3]; }; union y switch (int k) { default: x a; };", "1:8: x contains itself, expected a pointer or an array of variable length somewhere in x -> y -> x"),
    ("typedef a b; typedef b *a;", "1:11: b is only another name of itself, expected a type: b -> a -> b"),
    ("union u switch (string s<>) { case 1: int a; };", "1:24: u cannot be switched by this, expected an integer, an enum or bool"),
    ("union u switch (hyper s) { case 1: int a; };", "1:23: u cannot be switched by this, expected an integer, an enum or bool"),
    ("struct x { int a; }; union u switch (x s) { case 1: int a; };", "1:40: u cannot be switched by this, expected an integer, an enum or bool"),
    # Programs
    ("program P { version V { void A(void) = 1; void B(void) = 1; } = 1; } = 1;", "1:48: B has the number 1 of A, expected a new one"),
    ("program P { version V { void A_X(void) = 1; void A_x(void) = 2; } = 1; } = 1;", "1:50: A_x is there twice, expected a new name"),
    ("program P { version V { void A(void) = 1; } = 1; } = -1;", "1:54: -1 is out of range, expected a number from 0 to 4294967295"),
    ("program P { version V { x A(void) = 1; } = 1; } = 1;", "1:25: x is not defined, expected the name of a type"),
    ("enum p_procedure { P_PROC_A = 1 };", "1:20: procedures without a program, expected a constant P_PROGRAM"),
    ("const P_PROGRAM = 1; enum p_procedure { P_PROC_A = 1 };", "1:41: procedures without a program, expected a constant P_PROTOCOL_VERSION or P_PROGRAM_VERSION"),
    (PROGRAM + "{ P_PROC_A = 1, Q_PROC_B = 2 };", "1:85: found Q_PROC_B, expected a name that begins with P_PROC_"),
    (PROGRAM + "{ P_PROC_A = 1, P_PROC_B = 1 };", "1:85: P_PROC_B has the number 1 of P_PROC_A, expected a new one"),
    (PROGRAM + "{ /** @priority: urgent */ P_PROC_A = 1 };", "1:96: found @priority: urgent, expected low or high"),
    (PROGRAM + "{ /** @acl: everything */ P_PROC_A = 1 };", "1:95: found @acl: everything, expected OBJECT:PERMISSION or none"),
    (PROGRAM + '{ /** @acl: a:b"), evil() */ P_PROC_A = 1 };', '1:98: found @acl: a:b"), evil(), expected OBJECT:PERMISSION or none'),
    # The preprocessor
    ("\n#ifdef A\n", "2:1: condition is not closed, expected #endif"),
    ("#endif\n", "1:1: #endif without #if"),
    ("#if A > 3\n#endif\n", "1:1: cannot evaluate '#if A > 3', expected a name, a number or defined(NAME)"),
    ('\n#include "more.x"\n', "2:1: cannot find 'more.x' to include"),
]  # fmt: skip


class ErrorTests(SynchronousTestCase):
    """One wrong text, one clear line."""

    maxDiff = None

    def test_messages(self) -> None:
        for text, message in ERRORS:
            error = self.assertRaises(IDLError, parse, text, "hello.x")
            self.assertEqual(str(error), f"hello.x:{message}", text)

    def test_placesAreThoseOfTheFile(self) -> None:
        """Lines that are taken out still count."""
        text = "%#include <x.h>\n#ifdef NO\nconst A = 1;\n#endif\n/* a\n   b */\nconst B = ;"
        error = self.assertRaises(IDLError, parse, text)
        self.assertEqual((error.filename, error.line, error.column), ("<idl>", 7, 11))

    def test_errorsInIncludedFilesNameThem(self) -> None:
        error = self.assertRaises(
            IDLError, parse, '#include "more.x"', "hello.x", {"more.x": "const A = ;"}.get
        )
        self.assertTrue(str(error).startswith("more.x:1:11: "), error)

    def test_endlessNesting(self) -> None:
        for text in (
            "const A = " + "(" * 100000 + "1",
            "const A = " + "-" * 100000 + "1;",
            "struct x { " * 5000,
        ):
            self.assertRaises(IDLError, parse, text)

    def test_anyText(self) -> None:
        """Whatever is cut or changed: a specification or an error of ours."""
        text = (
            "const A = 0x1F; /** @acl: a:b */ typedef string t<A>; enum e { X = 1, Y }; "
            "union u switch (e k) { case X: t a; default: void; }; "
            "program P { version V { u P_A(t, int) = 1; } = 1; } = 7;\n#if 1\n%x\n#endif\n"
        )
        for cut in range(len(text)):
            for broken in (
                text[:cut],
                text[cut:],
                text[:cut] + "}" + text[cut:],
                text[:cut] + text[cut + 1 :],
            ):
                try:
                    parse(broken)
                except IDLError as error:
                    self.assertTrue(error.line >= 1 and error.column >= 1, (str(error), broken))
