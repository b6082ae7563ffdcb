"""A program straight from a text, without files.

The work of L{Program.fromIDL<virnet.programs.base.Program.fromIDL>}.
"""

from __future__ import annotations

from typing import Any

from virnet.errors import IDLError
from virnet.idl.modules import oneModule
from virnet.idl.names import Rules
from virnet.idl.parser import IncludeFile, parse


def loadProgram(text: str, filename: str, name: str | None, include: IncludeFile | None, rules: Rules) -> Any:
    """Make the program that a text describes.

    It executes the module that the generator would have written, so that both are the same.

    @param name: of the program instead of its own; where the text has several, the one that is wanted.
    @raise IDLError: an error in the text, or it has not exactly one program to give.
    @raise ValueError: C{name} is no Python name.
    """
    if name is not None and not name.isidentifier():
        raise ValueError(f"a program cannot be called {name!r}, expected a Python name")
    specification = parse(text, filename, include)
    programs = specification.programs
    if len(programs) > 1 and name is not None:
        programs = tuple(program for program in programs if program.name == name)
    if len(programs) != 1:
        found = ", ".join(program.name for program in specification.programs) or "no program"
        raise IDLError(f"found {found}, expected one program", filename, 1, 1)
    called = name or programs[0].name
    source = oneModule(specification._replace(programs=programs), filename, rules, called)
    namespace: dict[str, Any] = {"__name__": f"virnet.programs.idl.{called}"}
    exec(compile(source, f"<generated from {filename}>", "exec", dont_inherit=True), namespace)
    return namespace[called]
