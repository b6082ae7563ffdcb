"""The grammar of the C{.x} language, for lark's LALR parser.

RFC 4506 section 6.3, RFC 5531 section 12.2 (program blocks), and what rpcgen takes besides: C{char} and
C{short}, C{unsigned} and C{long} alone, C{struct NAME} as a reference, anonymous bodies, a list of
arguments, C{string} without a bound in procedures, sums and products of constants, comments of both
kinds.
"""

from __future__ import annotations

GRAMMAR = r"""
start: _definition*

_definition: constant | typedef | enum | struct | union | program

constant: "const" NAME "=" (expression | TEXT) ";"
typedef: "typedef" declaration ";"
enum: "enum" NAME enum_body ";"
struct: "struct" NAME struct_body ";"
union: "union" NAME union_body ";"

enum_body: "{" member ("," member)* ","? "}"
member: NAME ["=" expression]
struct_body: "{" (declaration ";")* "}"
union_body: "switch" "(" declaration ")" "{" (case | default)+ "}"
case: label+ declaration ";"
label: "case" expression ":"
default: "default" ":" declaration ";"

declaration: type NAME -> plain
    | type "*" NAME -> pointer
    | type NAME "[" expression "]" -> fixed
    | type NAME "<" [expression] ">" -> variable
    | "opaque" NAME "[" expression "]" -> fixed_opaque
    | "opaque" NAME "<" [expression] ">" -> opaque
    | "string" NAME "<" [expression] ">" -> string
    | "string" NAME -> bare_string
    | "void" -> void

type: base -> base
    | "quadruple" -> quadruple
    | NAME -> named
    | "enum" NAME -> named
    | "struct" NAME -> named
    | "union" NAME -> named
    | "enum" enum_body -> anonymous_enum
    | "struct" struct_body -> anonymous_struct
    | "union" union_body -> anonymous_union

base: "unsigned" -> uint
    | "unsigned" "int" -> uint
    | "unsigned" "long" -> uint
    | "unsigned" "hyper" -> uhyper
    | "unsigned" "char" -> uchar
    | "unsigned" "short" -> ushort
    | "int" -> int
    | "long" -> int
    | "hyper" -> hyper
    | "char" -> char
    | "short" -> short
    | "float" -> float
    | "double" -> double
    | "bool" -> bool

program: "program" NAME "{" version+ "}" "=" expression ";"
version: "version" NAME "{" procedure+ "}" "=" expression ";"
procedure: result NAME "(" result ("," result)* ")" "=" expression ";"
result: type -> result_type
    | type "*" -> result_pointer
    | "string" -> result_string
    | "void" -> result_void

?expression: product
    | expression "+" product -> add
    | expression "-" product -> subtract
?product: atom
    | product "*" atom -> multiply
?atom: NUMBER -> number
    | NAME -> reference
    | "-" atom -> negate
    | "(" expression ")"

NAME: /[A-Za-z_][A-Za-z0-9_]*/
TEXT: /"[^"\n]*"/
NUMBER: /0[xX][0-9a-fA-F]+|[0-9]+/
COMMENT: /\/\*(.|\n)*?\*\/|\/\/[^\n]*/
SPACE: /[ \t\r\f\v\n]+/
%ignore COMMENT
%ignore SPACE
"""

EXPRESSION_START = "expression"
FILE_START = "start"

SPOKEN = {
    "NAME": "a name", "NUMBER": "a number", "TEXT": "a text in quotes", "$END": "the end of the file",
    "LBRACE": "'{'", "RBRACE": "'}'", "LPAR": "'('", "RPAR": "')'", "LSQB": "'['", "RSQB": "']'",
    "LESSTHAN": "'<'", "MORETHAN": "'>'", "SEMICOLON": "';'", "COLON": "':'", "COMMA": "','", "EQUAL": "'='",
    "STAR": "'*'", "PLUS": "'+'", "MINUS": "'-'",
}  # fmt: skip
"""What lark's terminals are called in an error message; the others are keywords in capitals."""

TYPE_WORDS = frozenset(
    "UNSIGNED INT LONG HYPER CHAR SHORT FLOAT DOUBLE BOOL QUADRUPLE ENUM STRUCT UNION".split()
    + ["OPAQUE", "STRING", "VOID", "NAME"]
)
"""Terminals that begin a type; where all are possible an error message says "a type"."""
