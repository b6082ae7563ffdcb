"""What may be typed: the commands and what all of them have in common.

A mistake here is a L{UsageError}: one line that says what is wrong and where help is, exit status 2.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from urllib.parse import quote

from virnet._version import __version__
from virnet.cli.table import COMMANDS, GROUPS, Command, found
from virnet.errors import VirnetError
from virnet.transport.config import configFile, loadConfig
from virnet.transport.defaults import defaultSocketPath


class UsageError(VirnetError):
    """What was typed makes no sense."""


DESCRIPTION = """\
usage: virnet [-c URI] [-r] COMMAND ...

Manage virtual machines over libvirt's RPC protocol: libvirtd, its modular daemons, or virnet's own.
"""

COMMON = """\
  -c, --connect URI   the server to talk to
  -r, --readonly      open a connection that refuses changes
  --debug             log to standard error, with tracebacks
  --version           print virnet's version
  -h, --help          this; behind a command: what that takes
"""

EPILOG = """\
URI is one of libvirt's: test+unix:///default?socket=PATH, qemu:///system, qemu+tcp://HOST/system.
Without -c it is $VIRSH_DEFAULT_CONNECT_URI, else $LIBVIRT_DEFAULT_URI, else uri_default of
libvirt.conf, else virnet's own server (twistd -n virnet) on
%(socket)s

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""


def _near(word: str) -> str:
    """The command that may have been meant, if there is one."""
    # It takes longer to import than most commands need for all else.
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(COMMANDS), 1)), "")


class Parser(argparse.ArgumentParser):
    """Raises L{UsageError} where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"argument COMMAND: invalid choice: '(.*?)'", message)
        if unknown is not None:
            # The list of all that argparse goes on with is what --help is for.
            message = f"there is no command '{unknown[1]}'"
            near = _near(unknown[1])
            if near:
                message += f", perhaps {near}"
        raise UsageError(f"{message}; see '{self.prog} --help'")


class _CommandParser(Parser):
    """Of a command. Options may stand between its arguments, also where some of these may be left out, which
    argparse takes apart only when it is asked to.
    """

    _asked = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; it calls itself."""
        nested = any(action.nargs == argparse.PARSER for action in self._actions)
        if self._asked or nested:
            return super().parse_known_args(args, namespace)
        self._asked = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._asked = False


class _Main(Parser):
    """Its help has the commands by groups, which argparse cannot."""

    environ: Mapping[str, str] = {}

    def format_help(self) -> str:
        parts = [DESCRIPTION]
        for title, commands in GROUPS.items():
            lines = "".join(f"    {name:14}{each.summary}\n" for name, each in commands.items())
            parts.append(f"{title}:\n{lines}")
        parts.append(f"options:\n{COMMON}")
        parts.append(
            EPILOG % {"socket": defaultSocketPath(self.environ) or "$XDG_RUNTIME_DIR/virnet/virnet-sock"}
        )
        return "\n".join(parts)


DEFAULTS = ("VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI")
"""Variables that name the URI where none is given, virsh's own first."""


def defaultURI(environ: Mapping[str, str]) -> str | None:
    """The URI where none is given; C{None} where there is no default either."""
    for name in DEFAULTS:
        if environ.get(name):
            return environ[name]
    return loadConfig(configFile(environ, os.geteuid())).default or ownURI(environ)


def ownURI(environ: Mapping[str, str]) -> str | None:
    """The URI of virnet's own server; C{None} where it has no default socket."""
    path = defaultSocketPath(environ)
    return f"test+unix:///default?socket={quote(path)}" if path else None


def buildParser(environ: Mapping[str, str] = os.environ, only: Sequence[str] | None = None) -> Parser:
    """Make the parser.

    @param environ: where the defaults come from.
    @param only: words that were typed: commands not among them need not have their options.
    """
    parser = _Main(prog="virnet")
    parser.environ = environ
    parser.add_argument("--version", action="version", version=f"virnet {__version__}")
    _addCommon(parser, None, False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_CommandParser)
    for name, command in COMMANDS.items():
        if only is None or name in only:
            _add(commands, name, command)
        else:
            commands.add_parser(name, add_help=False)
    return parser


def _add(commands: Any, name: str, command: Command) -> None:
    parser: Parser = commands.add_parser(
        name,
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if command.options:
        found(command.options)(parser)
    if command.json:
        parser.add_argument("--json", action="store_true", help="print JSON")
    _addCommon(parser, argparse.SUPPRESS, argparse.SUPPRESS)


def _addCommon(parser: Parser, uri: str | None, flag: object) -> None:
    connect = parser.add_argument("-c", "--connect", metavar="URI", default=uri, help="the server to talk to")
    connect.completes = "nothing"  # type: ignore[attr-defined]
    parser.add_argument(
        "-r", "--readonly", action="store_true", default=flag, help="open a connection that refuses changes"
    )
    parser.add_argument(
        "--debug", action="store_true", default=flag, help="log to standard error, with tracebacks"
    )


_NUMBER = re.compile(r"-\d")


def parseArguments(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> argparse.Namespace:
    """Read a command line.

    @param argv: the words behind the command's own name.
    @return: C{command}, C{connect}, C{readonly}, C{debug} and what the command takes.
    @raise UsageError: it makes no sense.
    @raise SystemExit: it was C{--help} or C{--version}.
    """
    options, left = buildParser(environ, argv).parse_known_args(argv)
    if options.command is None:
        raise UsageError("no command; see 'virnet --help'")
    # Once an option stands between them argparse does not give the later arguments to JSON.
    if options.command == "call" and all(not word.startswith("-") or _NUMBER.match(word) for word in left):
        options.words += left
        left = []
    if left:
        raise UsageError(f"unexpected argument {left[0]!r}; see 'virnet {options.command} --help'")
    return options
