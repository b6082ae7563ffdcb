"""What may be typed: the commands, their options and arguments.

A mistake here is a L{UsageError}: one line that says what is wrong and where help is, exit status 2.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn
from urllib.parse import quote

from virnet._version import __version__
from virnet.errors import VirnetError
from virnet.transport.defaults import defaultSocketPath

PROGRAMS = ("REMOTE", "QEMU", "LXC", "ADMIN", "LOCK")
"""Programs with procedures to call; keepalive has none."""


class UsageError(VirnetError):
    """What was typed makes no sense."""


DESCRIPTION = (
    "Manage virtual machines over libvirt's RPC protocol: libvirtd, its modular daemons, or virnet's own."
)

EPILOG = """\
URI is one of libvirt's: test+unix:///default?socket=PATH, qemu:///system, qemu+tcp://HOST/system.
Without -c it is $LIBVIRT_DEFAULT_URI, else virnet's own server (twistd -n virnet) on
%(socket)s

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

CALL_EPILOG = """\
PROCEDURE is libvirt's name, like domainLookupByName or virDomainLookupByName, or the wire's,
like domain_lookup_by_name. Arguments are JSON, one a parameter; a last parameter 'flags' may be
left out. The result is printed as JSON, null where there is none.

  numbers, true, false     as in JSON; a float may be "NaN", "Infinity", "-Infinity"
  strings                  "text", or a bare word that does not begin with a quote
  uuids                    "6695eb01-f6a4-8304-79aa-97f2502e193f"
  other bytes              {"base64": "aGk="}
  structures               {"name": "web1", "uuid": "...", "id": 3}
                           for a domain, network, pool, interface, node device or filter also
                           its name, and for a volume its path: it is looked up
  optional values          null where there is none
  typed parameters         {"weight": {"type": "uint", "value": 5}}; types are int, uint, llong,
                           ullong, double, boolean, string; a plain value gets the type that fits
  unions                   {"case": 4, "value": ...}

examples:
  virnet call connectGetHostname
  virnet call domainGetInfo test
  virnet call domainLookupByID 1
  virnet call domainSetSchedulerParameters test '{"weight": {"type": "uint", "value": 60}}'
  virnet call --args '{"dom": "test", "autostart": 1}' domainSetAutostart
  virnet call --list snapshot
"""

EVENTS_EPILOG = """\
One line an event. Without --count and --follow the first event ends the command. When --timeout
ends it before all events that were asked for have come, the exit status is 1.

EVENT is a word of this list, and may be given several times; without it all that the server knows:
%(events)s
"""


class Parser(argparse.ArgumentParser):
    """Raises L{UsageError} where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"argument COMMAND: invalid choice: ('.*?')", message)
        if unknown is not None:
            # The list of all that argparse goes on with is what --help is for.
            message = f"there is no command {unknown[1]}"
        raise UsageError(f"{message}; see '{self.prog} --help'")


def defaultURI(environ: Mapping[str, str]) -> str | None:
    """The URI where none is given; C{None} where there is no default either."""
    given = environ.get("LIBVIRT_DEFAULT_URI")
    if given:
        return given
    path = defaultSocketPath(environ)
    return f"test+unix:///default?socket={quote(path)}" if path else None


def buildParser(events: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> Parser:
    """Make the parser.

    @param events: the words that C{events --event} takes.
    @param environ: where the defaults come from.
    """
    parser = Parser(
        prog="virnet",
        description=DESCRIPTION,
        epilog=EPILOG % {"socket": defaultSocketPath(environ) or "$XDG_RUNTIME_DIR/virnet/virnet-sock"},
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"virnet {__version__}")
    _addCommon(parser, None, False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)

    def add(name: str, summary: str, epilog: str | None = None, json: bool = False) -> Parser:
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _addCommon(command, argparse.SUPPRESS, argparse.SUPPRESS)
        if json:
            command.add_argument("--json", action="store_true", help="print JSON")
        return command

    listing = add("list", "list domains, those that run", json=True)
    listing.add_argument("--all", action="store_true", help="those that do not run as well")
    domain = "name, UUID or, while it runs, id of the domain"
    add("info", "show a domain's state and size", json=True).add_argument(
        "domain", metavar="DOMAIN", help=domain
    )
    add("uri", "print the URI that the server gives itself", json=True)
    add("hostname", "print the host's name", json=True)
    add("version", "print versions of virnet, the server and its hypervisor", json=True)
    for name, summary in (
        ("start", "start a domain that is defined"),
        ("shutdown", "ask a domain's guest to shut down"),
        ("destroy", "stop a domain at once, as if by pulling the plug"),
        ("dumpxml", "print a domain's XML"),
    ):
        add(name, summary).add_argument("domain", metavar="DOMAIN", help=domain)
    define = add("define", "define a domain from XML, or change its definition")
    define.add_argument("file", metavar="FILE", help="the XML; - is standard input")
    _addEvents(add("events", "wait for events and print them", _eventsEpilog(events), json=True), events)
    ping = add("ping", "measure how long calls take", json=True)
    ping.add_argument(
        "-n", "--count", type=_positive, default=10, metavar="N", help="how many calls (default 10)"
    )
    _addCall(add("call", "call any procedure of any program", CALL_EPILOG))
    return parser


def _addCommon(parser: Parser, uri: str | None, flag: object) -> None:
    parser.add_argument("-c", "--connect", metavar="URI", default=uri, help="the server to talk to")
    parser.add_argument(
        "-r", "--readonly", action="store_true", default=flag, help="open a connection that refuses changes"
    )
    parser.add_argument(
        "--debug", action="store_true", default=flag, help="log to standard error, with tracebacks"
    )


def _addEvents(parser: Parser, events: Sequence[str]) -> None:
    def event(word: str) -> str:
        if word not in events:
            raise argparse.ArgumentTypeError(f"{word!r} is no event")
        return word

    parser.add_argument(
        "-e",
        "--event",
        type=event,
        action="append",
        metavar="EVENT",
        help="events of this kind (default all)",
    )
    parser.add_argument("-d", "--domain", metavar="DOMAIN", help="only events of this domain")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("-f", "--follow", action="store_true", help="until interrupted or --timeout")
    length.add_argument("-n", "--count", type=_positive, default=1, metavar="N", help="until N events came")
    parser.add_argument("-t", "--timeout", type=_seconds, metavar="S", help="S seconds at most")


def _eventsEpilog(events: Sequence[str]) -> str:
    lines, line = [], " "
    for event in events:
        if len(line) + len(event) > 98:
            lines.append(line)
            line = " "
        line += f" {event}"
    return EVENTS_EPILOG % {"events": "\n".join([*lines, line])}


def _addCall(parser: Parser) -> None:
    # Both optional for argparse, as --list needs neither; what is missing is seen where it is used.
    parser.add_argument("procedure", metavar="PROCEDURE", nargs="?", help="what to call")
    parser.add_argument("words", metavar="JSON", nargs="*", help="its arguments, in order")
    parser.add_argument("--args", metavar="JSON", help="its arguments as one object by parameter names")
    parser.add_argument(
        "-p",
        "--program",
        type=_program,
        metavar="PROGRAM",
        help=f"look only in this one: {', '.join(PROGRAMS).lower()}",
    )
    parser.add_argument(
        "--bare",
        action="store_true",
        help="do not open the hypervisor connection first: just connect and call",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="call nothing, list procedures; with PROCEDURE those with it in them",
    )


_NUMBER = re.compile(r"-\d")


def parseArguments(
    argv: Sequence[str], events: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> argparse.Namespace:
    """Read a command line.

    @param argv: the words behind the command's own name.
    @return: C{command}, C{connect}, C{readonly}, C{debug} and what the command takes.
    @raise UsageError: it makes no sense.
    @raise SystemExit: it was C{--help} or C{--version}.
    """
    parser = buildParser(events, environ)
    options, left = parser.parse_known_args(argv)
    if options.command is None:
        raise UsageError("no command; see 'virnet --help'")
    # Once an option stands between them argparse does not give the later arguments to JSON.
    if options.command == "call" and all(not word.startswith("-") or _NUMBER.match(word) for word in left):
        options.words += left
        left = []
    if left:
        raise UsageError(f"unexpected argument {left[0]!r}; see 'virnet {options.command} --help'")
    return options


def _program(text: str) -> str:
    if text.upper() not in PROGRAMS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(PROGRAMS).lower()}")
    return text.upper()


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number
