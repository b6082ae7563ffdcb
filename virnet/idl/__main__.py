"""The command C{python -m virnet.idl}."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from virnet.errors import IDLError
from virnet.idl.modules import PROGRAMS, oneModule, ownModules
from virnet.idl.names import Rules

try:
    from virnet.idl.parser import IncludeFile, parse
except ModuleNotFoundError as error:
    if error.name != "lark":
        raise
    sys.exit("python -m virnet.idl: lark is not installed; it comes with: pip install 'virnet[idl]'")

PACKAGE = Path(__file__).resolve().parent.parent
TEXTS = PACKAGE / "programs" / "x"
# Read as a file, like the texts: the package it is in cannot be imported before its generated modules exist.
OVERRIDES = PACKAGE / "programs" / "overrides.py"

DESCRIPTION = """\
Make Python modules from the .x language (RFC 4506 and rpcgen's additions, with the annotations of
libvirt's files).

Every FILE.x becomes one module FILE.py: a NamedTuple for each structure, an interface for the calls and
one for the events of each program, the table of procedures, and the program itself, ready for
NetClient.program(…) and ServerProgram(…, …).

Without a FILE it makes virnet's own programs again, from the texts in virnet/programs/x, in their places.
"""

EPILOG = """\
The output depends on nothing but the texts, so it can be committed and compared:

  python -m virnet.idl                      virnet's own programs, after a change of a text or of overrides.py
  python -m virnet.idl --check              whether they are current: names each stale file, exit status 1
  python -m virnet.idl hello.x              writes hello.py here
  python -m virnet.idl -o gen remote_protocol.x qemu_protocol.x
                                            of a newer libvirt; what a file %#includes is looked for beside it

An error in a text is told as FILE:LINE:COLUMN: what was found, what was expected; exit status 1.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    @return: its exit status: 0, or 1 for an error in a text, a file that cannot be read, a stale output.
    """
    parser = argparse.ArgumentParser(
        prog="python -m virnet.idl", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("files", nargs="*", metavar="FILE.x", help="texts to make modules from")
    parser.add_argument(
        "-o", "--output", metavar="DIR", default=".", help="where FILE.py goes (default: here)"
    )
    parser.add_argument("--name", metavar="NAME", help="call the program of the one FILE so, like REMOTE")
    parser.add_argument("--check", action="store_true", help="write nothing; say which output is not current")
    options = parser.parse_args(arguments)
    if options.name is not None and (len(options.files) != 1 or not options.name.isidentifier()):
        parser.error("--name takes a Python name and needs exactly one FILE")
    try:
        output = _forFiles(options.files, Path(options.output), options.name) if options.files else _own()
        stale = [path for path, text in sorted(output.items()) if _differs(path, text)]
        if options.check:
            for path in stale:
                print(f"{path} is not current; run python -m virnet.idl")
            return 1 if stale else 0
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(output[path], encoding="utf-8", newline="\n")
            print(f"wrote {path}")
    except IDLError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, UnicodeDecodeError) as error:
        print(f"python -m virnet.idl: {error}", file=sys.stderr)
        return 1
    return 0


def _rules() -> Rules:
    rules: Rules = runpy.run_path(str(OVERRIDES))["OVERRIDES"]
    return rules


def _forFiles(files: Sequence[str], directory: Path, name: str | None) -> dict[Path, str]:
    output: dict[Path, str] = {}
    for file in files:
        path = Path(file)
        specification = parse(_text(path), file, _beside(path))
        target = directory / f"{path.stem}.py"
        if target in output:
            raise OSError(f"two files would be written to {target}")
        output[target] = oneModule(specification, path.name, _rules(), name)
    return output


def _own() -> dict[Path, str]:
    specifications = {}
    for name in (*PROGRAMS, "constants", "errors"):
        path = TEXTS / f"{name}.x"
        specifications[name] = parse(_text(path), path.name, _beside(path))
    return {PACKAGE / inside: text for inside, text in ownModules(specifications, _rules()).items()}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _beside(path: Path) -> IncludeFile:
    def include(name: str) -> str | None:
        file = path.parent / name
        return _text(file) if file.is_file() else None

    return include


def _differs(path: Path, text: str) -> bool:
    return not path.is_file() or path.read_bytes() != text.encode()


if __name__ == "__main__":
    sys.exit(main())
