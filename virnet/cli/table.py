"""
The commands: name, what each is for, where its options and its code are.

Only names stand here, so that C{virnet --help} and a mistake cost no more than reading a command line: the
module of a command is imported when it runs, and its options are made when it is the command.

  - C{options} names a function that adds options and arguments to a parser.
  - C{runs} names what does the work. C{KIND} says what that is: of C{CONNECTION} a coroutine that takes a
    L{Session<virnet.cli.session.Session>} with an open connection; of C{REACTOR} a coroutine that takes the
    reactor, the options and the output; of C{PLAIN} a function that takes the options and the output.
  - C{prepare} names what is called with the options and the output before anything is connected: to refuse
    what makes no sense, and to read files.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

CONNECTION = "connection"
REACTOR = "reactor"
PLAIN = "plain"

_CLI = "virnet.cli."


class Command(NamedTuple):
    """A command.

    @ivar summary: what it does, in a few words.
    @ivar runs: C{"module:function"}, below C{virnet.cli}; so are C{options} and C{prepare}, which may be
        empty.
    @ivar json: it has C{--json}.
    """

    summary: str
    runs: str
    options: str = ""
    json: bool = False
    kind: str = CONNECTION
    prepare: str = ""


def found(name: str) -> Callable[..., Any]:
    """Import what a name of the table means."""
    module, function = name.split(":")
    made: Callable[..., Any] = getattr(import_module(_CLI + module), function)
    return made


_DOMAIN = "options:domain"

GROUPS: dict[str, dict[str, Command]] = {
    "domains": {
        "list": Command("list domains, those that run", "domains:listDomains", "options:listing", True),
        "info": Command("show a domain's state and size", "domains:info", _DOMAIN, True),
        "start": Command("start a domain that is defined", "life:start", "options:start"),
        "shutdown": Command("ask a domain's guest to shut down", "life:shutdown", _DOMAIN),
        "reboot": Command("ask a domain's guest to boot again", "life:reboot", _DOMAIN),
        "destroy": Command("stop a domain at once, as if by pulling the plug", "life:destroy", _DOMAIN),
        "suspend": Command("stop a domain's CPUs, and keep it in memory", "life:suspend", _DOMAIN),
        "resume": Command("let a suspended domain go on", "life:resume", _DOMAIN),
        "define": Command(
            "define a domain from XML, or change its definition",
            "definitions:define",
            "options:define",
            prepare="definitions:readXML",
        ),
        "undefine": Command("forget a domain's definition", "definitions:undefine", _DOMAIN),
        "edit": Command("change a domain's definition in $VISUAL or $EDITOR", "definitions:edit", _DOMAIN),
        "dumpxml": Command("print a domain's XML", "definitions:dumpxml", "options:dumpxml"),
        "console": Command("talk to a domain's console", "console:console", "options:console"),
        "top": Command("watch what domains use", "top:top", "options:top", True),
    },
    "storage and networks": {
        "pool-list": Command(
            "list storage pools, active ones", "listings:pools", "storageoptions:pools", True
        ),
        "vol-list": Command("list the volumes of a pool", "listings:volumes", "storageoptions:volumes", True),
        "vol-upload": Command(
            "fill a volume from a file or a URL",
            "volumes:uploadCommand",
            "storageoptions:upload",
            True,
            prepare="volumes:checkUpload",
        ),
        "vol-download": Command(
            "copy a volume into a file",
            "volumes:downloadCommand",
            "storageoptions:download",
            True,
            prepare="volumes:checkDownload",
        ),
        "net-list": Command(
            "list networks, active ones", "listings:networks", "storageoptions:networks", True
        ),
    },
    "the server": {
        "hostname": Command("print the host's name", "host:hostname", json=True),
        "version": Command(
            "print versions of virnet, the server and its hypervisor", "host:version", json=True
        ),
        "uri": Command(
            "print the URI that the server gives itself, or explain one",
            "host:uri",
            "urioptions:uri",
            json=True,
            prepare="explain:prepare",
        ),
        "events": Command(
            "wait for events and print them",
            "events:events",
            "options:events",
            True,
        ),
        "call": Command(
            "call any procedure of any program",
            "call:call",
            "options:call",
            kind=REACTOR,
            prepare="call:check",
        ),
        "ping": Command("measure how long calls take", "measure:ping", "options:ping", True),
        "bench": Command(
            "measure how many calls a second the server answers",
            "measure:bench",
            "options:bench",
            True,
            kind=REACTOR,
            prepare="measure:checkBench",
        ),
    },
    "security": {
        "pki": Command(
            "make certificates for TLS, and check those that are there",
            "pki:pki",
            "pkioptions:pki",
            kind=PLAIN,
        ),
        "sasl": Command(
            "change who may log in to a server with a password",
            "sasl:sasl",
            "sasloptions:sasl",
            kind=PLAIN,
        ),
    },
    "this command": {
        "ssh-helper": Command(
            "lead from ssh to a server of this host",
            "sshhelper:helper",
            "urioptions:helper",
            kind=REACTOR,
        ),
        "completion": Command(
            "print what makes a shell complete this command",
            "completion:completion",
            "options:completion",
            kind=PLAIN,
        ),
    },
}
"""Commands by what they are about, in the order of the help."""

HIDDEN: dict[str, Command] = {
    "__complete": Command("print names, for the shell", "names:complete", "options:complete", kind=REACTOR),
}
"""Commands for scripts of ours."""

COMMANDS: dict[str, Command] = {
    name: each for group in GROUPS.values() for name, each in group.items()
} | HIDDEN
