"""The options of the commands for domains and for the server; nothing is loaded that only running one
needs.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentParser

from virnet.cli.values import PROGRAMS, depths, escapeKey, offer, positive, programName, seconds

EVENTS = (
    "lifecycle reboot rtc-change watchdog io-error graphics io-error-reason control-error block-job "
    "disk-change tray-change pmwakeup pmsuspend balloon-change pmsuspend-disk device-removed "
    "block-job-2 tunable agent-lifecycle device-added migration-iteration job-completed "
    "device-removal-failed metadata-change block-threshold memory-failure memory-device-size-change "
    "nic-mac-change network-lifecycle network-metadata-change pool-lifecycle pool-refresh "
    "nodedev-lifecycle nodedev-update secret-lifecycle secret-value-changed"
).split()
"""The words for events (L{virnet.cli.events.KINDS})."""

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

CONSOLE_EPILOG = """\
What is typed goes to the guest key by key, Ctrl-C included; the escape key ends it. Where standard
input is no terminal it is sent as it is, no key escapes, and the command ends when the guest has
been silent for --idle seconds after its end.
"""

TOP_EPILOG = """\
Keys: q quits, c n m sort by CPU, name, memory, space asks at once.
"""


def domain(parser: ArgumentParser) -> None:
    """A domain is all it takes."""
    offer(
        parser.add_argument(
            "domain", metavar="DOMAIN", help="name, UUID or, while it runs, id of the domain"
        ),
        "domain",
    )


def listing(parser: ArgumentParser) -> None:
    """C{list}"""
    parser.add_argument("--all", action="store_true", help="those that do not run as well")


def start(parser: ArgumentParser) -> None:
    """C{start}"""
    domain(parser)
    parser.add_argument("--paused", action="store_true", help="with its CPUs stopped")


def dumpxml(parser: ArgumentParser) -> None:
    """C{dumpxml}"""
    domain(parser)
    parser.add_argument("--inactive", action="store_true", help="what it will be when it starts next")


def define(parser: ArgumentParser) -> None:
    """C{define}"""
    offer(parser.add_argument("file", metavar="FILE", help="the XML; - is standard input"), "file")


def console(parser: ArgumentParser) -> None:
    """C{console}"""
    domain(parser)
    parser.epilog = CONSOLE_EPILOG
    parser.add_argument("--device", metavar="NAME", help="which console or serial port (default the first)")
    parser.add_argument("--force", action="store_true", help="take it from whoever uses it now")
    parser.add_argument("--safe", action="store_true", help="only if the hypervisor keeps others out")
    parser.add_argument(
        "-e", "--escape", type=escapeKey, default="^]", metavar="KEY", help="the escape key (default ^])"
    )
    parser.add_argument("--idle", type=seconds, default=1.0, metavar="S", help="see below (default 1)")


def top(parser: ArgumentParser) -> None:
    """C{top}"""
    parser.epilog = TOP_EPILOG
    parser.add_argument(
        "-d", "--delay", type=seconds, default=2.0, metavar="S", help="ask every S seconds (2)"
    )
    parser.add_argument("--once", action="store_true", help="print one table; rates need two looks, S apart")
    parser.add_argument("--all", action="store_true", help="domains that do not run as well")
    parser.add_argument("-s", "--sort", choices=("cpu", "name", "memory"), default="cpu", help="default cpu")


def events(parser: ArgumentParser) -> None:
    """C{events}"""

    def event(word: str) -> str:
        if word not in EVENTS:
            raise argparse.ArgumentTypeError(f"{word!r} is no event")
        return word

    parser.epilog = EVENTS_EPILOG % {"events": _lines(EVENTS)}
    offer(
        parser.add_argument(
            "-e",
            "--event",
            type=event,
            action="append",
            metavar="EVENT",
            help="events of this kind (default all)",
        ),
        "event",
    )
    offer(
        parser.add_argument("-d", "--domain", metavar="DOMAIN", help="only events of this domain"), "domain"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("-f", "--follow", action="store_true", help="until interrupted or --timeout")
    length.add_argument("-n", "--count", type=positive, default=1, metavar="N", help="until N events came")
    parser.add_argument("-t", "--timeout", type=seconds, metavar="S", help="S seconds at most")


def _lines(words: list[str]) -> str:
    lines, line = [], " "
    for word in words:
        if len(line) + len(word) > 98:
            lines.append(line)
            line = " "
        line += f" {word}"
    return "\n".join([*lines, line])


def call(parser: ArgumentParser) -> None:
    """C{call}"""
    parser.epilog = CALL_EPILOG
    # Both optional for argparse, as --list needs neither; what is missing is seen where it is used.
    offer(parser.add_argument("procedure", metavar="PROCEDURE", nargs="?", help="what to call"), "procedure")
    offer(parser.add_argument("words", metavar="JSON", nargs="*", help="its arguments, in order"), "nothing")
    parser.add_argument("--args", metavar="JSON", help="its arguments as one object by parameter names")
    _program(parser)
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


def ping(parser: ArgumentParser) -> None:
    """C{ping}"""
    parser.add_argument(
        "-n", "--count", type=positive, default=10, metavar="N", help="how many calls (default 10)"
    )
    parser.add_argument(
        "-i", "--interval", type=seconds, default=0.0, metavar="S", help="S seconds between them (0)"
    )


def bench(parser: ArgumentParser) -> None:
    """C{bench}"""
    parser.epilog = (
        "Only procedures that change nothing should be measured; each is called thousands of times.\n"
    )
    offer(
        parser.add_argument(
            "procedure", metavar="PROCEDURE", nargs="?", default="connectGetLibVersion", help="what to call"
        ),
        "procedure",
    )
    offer(
        parser.add_argument("words", metavar="JSON", nargs="*", help="its arguments, as for call"), "nothing"
    )
    _program(parser)
    parser.add_argument(
        "--depth",
        type=depths,
        default=[1, 4, 16],
        metavar="N[,N…]",
        help="calls under way at a time (default 1,4,16)",
    )
    parser.add_argument(
        "-t", "--time", type=seconds, default=1.0, metavar="S", help="seconds for each depth (1)"
    )


def _program(parser: ArgumentParser) -> None:
    action = parser.add_argument(
        "-p",
        "--program",
        type=programName,
        metavar="PROGRAM",
        help=f"look only in this one: {', '.join(PROGRAMS).lower()}",
    )
    offer(action, "nothing")


def completion(parser: ArgumentParser) -> None:
    """C{completion}"""
    parser.epilog = (
        "bash:  source <(virnet completion bash)     in ~/.bashrc\n"
        "zsh:   source <(virnet completion zsh)      in ~/.zshrc, behind compinit\n"
    )
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh"), help="bash or zsh")


def complete(parser: ArgumentParser) -> None:
    """What the shells' scripts call."""
    parser.add_argument("what", choices=("domain", "pool", "volume", "procedure"))
    parser.add_argument("--pool")
    parser.add_argument("--timeout", type=seconds, default=2.0)
