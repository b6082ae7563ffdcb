"""
C{twistd virnet}: its options, and the service that they describe.

  - What was typed wrongly ends the process with one line on standard error and status 2.
  - SIGTERM and SIGINT stop the service and end the process with status 0, as libvirtd does. Twisted would let
    the process die of the signal, after the same clean stop.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import AuthOptionMixin
from twisted.python import usage

from virnet._version import __version__
from virnet.daemon.authentication import (
    KINDS,
    TYPES,
    AuthenticationError,
    Authentications,
    SASLSettings,
    checked,
)
from virnet.daemon.listening import ListenError, default, fromString
from virnet.daemon.probes import trace
from virnet.daemon.service import CannotStart, Daemon
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.limits import (
    AUTHENTICATION_TIMEOUT,
    KEEPALIVE_INTERVAL,
    MAX_ANONYMOUS_CLIENTS,
    MAX_CLIENT_REQUESTS,
    MAX_CLIENTS,
    MAX_EVENT_BACKLOG,
    MAX_QUEUED_CLIENTS,
    MAX_WORKERS,
    MIN_WORKERS,
    PRIO_WORKERS,
    SASL_MIN_SSF,
    SASL_MIN_SSF_CONFIGURED,
    SERVER_KEEPALIVE_COUNT,
)
from virnet.probes import matching
from virnet.programs import LXC, QEMU, REMOTE
from virnet.security.access import RuleError, RuleFile
from virnet.security.saslcontext import MECHANISMS
from virnet.server import ServerProgram
from virnet.transport.defaults import defaultSocketPath
from virnet.transport.looptrace import traceLoop

USAGE = 2


LONG_DESCRIPTION = """\
A libvirt daemon: virsh and every other libvirt client manage the in-memory hypervisor it holds, with the
one domain 'test' that libvirt's own test:///default has. For each socket it prints the virsh command that
connects there. ENDPOINT is any Twisted server endpoint: unix:/run/x (mode 0600, or say
unix:/run/x:mode=660), tcp:16509, tcp:0:interface=127.0.0.1 (any free port), systemd:domain=UNIX:index=0,
or libvirt-tls:16514 with pkipath=, allowed= and more; SIGHUP has it read certificates and rules again.
Unless --auth-... says otherwise who can connect can manage. Without an endpoint it listens on {path}, in a
directory of mode 0700. SIGTERM and SIGINT remove the sockets and end it with status 0.
"""


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text!r} is not a number of 0 or more")
    return int(text)


# Option, the server's name for it, what it says in --help. The defaults are libvirtd's.
LIMITS = (
    ("min-workers", "minWorkers", MIN_WORKERS, "Threads for blocking implementations, always there."),
    ("max-workers", "maxWorkers", MAX_WORKERS, "Threads for blocking implementations, at the most."),
    ("prio-workers", "prioWorkers", PRIO_WORKERS, "Further threads for high-priority procedures alone."),
    ("max-clients", "maxClients", MAX_CLIENTS, "Connections at the same time; further ones wait."),
    (
        "max-anonymous-clients",
        "maxAnonymousClients",
        MAX_ANONYMOUS_CLIENTS,
        "Connections that have not authenticated yet, if they have to; 0 for any number.",
    ),
    (
        "authentication-timeout",
        "authenticationTimeout",
        AUTHENTICATION_TIMEOUT,
        "Seconds in which clients have to authenticate, if they have to; 0 for ever.",
    ),
    ("max-queued-clients", "maxQueuedClients", MAX_QUEUED_CLIENTS, "Connections that may wait, a socket."),
    ("max-client-requests", "maxClientRequests", MAX_CLIENT_REQUESTS, "Calls in progress for one client."),
    ("keepalive-interval", "keepaliveInterval", KEEPALIVE_INTERVAL, "Seconds of silence before a ping."),
    ("keepalive-count", "keepaliveCount", SERVER_KEEPALIVE_COUNT, "Pings that may stay unanswered."),
    ("max-event-backlog", "maxEventBacklog", MAX_EVENT_BACKLOG, "Bytes of events waiting for one client."),
)


def _encoded(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


SASL_OPTIONS = ("sasl-passwords", "sasl-keytab", "sasl-mechanism", "sasl-allowed")


class Options(usage.Options, AuthOptionMixin):
    """What can be typed behind C{twistd virnet}."""

    synopsis = "[options]"
    supportedInterfaces = (IUsernamePassword,)

    optParameters = [
        *([option, None, value, said, _count] for option, _, value, said in LIMITS),
        ["state-directory", None, None, "Where to keep what is in volumes; else it goes with the daemon."],
        ["access-rules", None, None, "A file of rules: who may do what. Without one, who got in may do all."],
        ["auth-unix", None, "none", f"How clients of UNIX sockets authenticate: {', '.join(TYPES)}."],
        ["auth-unix-ro", None, "none", f"The same for read-only UNIX sockets: {', '.join(TYPES)}."],
        ["auth-tcp", None, "none", "The same for TCP: none, sasl."],
        ["auth-tls", None, "none", "The same for TLS: none, sasl."],
        ["sasl-passwords", None, None, "For SASL: a file made by 'virnet sasl passwd'."],
        ["sasl-keytab", None, None, "For SASL: the keys of libvirt/HOST, for Kerberos."],
        [
            "tcp-min-ssf",
            None,
            None,
            "For SASL over TCP: bits of a key, 112 or more; else 56 will do.",
            _count,
        ],
    ]

    compData = usage.Completions(multiUse={"listen", "listen-readonly", "trace"})

    @property
    def longdesc(self) -> str:
        path = defaultSocketPath(os.environ) or "$XDG_RUNTIME_DIR/virnet/virnet-sock"
        return LONG_DESCRIPTION.format(path=path)

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["listen-readonly"] = []
        self["trace"] = []
        self["sasl-mechanism"] = []
        self["sasl-allowed"] = None

    def opt_listen(self, endpoint: str) -> None:
        """Listen on this endpoint. May be given several times."""
        self["listen"].append(endpoint)

    def opt_listen_readonly(self, endpoint: str) -> None:
        """Listen on this endpoint too, and refuse its clients every change. May be given several times."""
        self["listen-readonly"].append(endpoint)

    def opt_trace(self, pattern: str) -> None:
        """Log every probe whose name matches, like 'rpc_server_client_msg_*'. May be given several times."""
        try:
            matching(pattern)
        except ValueError as e:
            raise usage.UsageError(f"--trace: {e}") from e
        self["trace"].append(pattern)

    def opt_sasl_mechanism(self, name: str) -> None:
        """For SASL: offer this one, and others only if they are named too. May be given several times."""
        if name not in MECHANISMS:
            raise usage.UsageError(f"--sasl-mechanism {name}: there are {', '.join(MECHANISMS)}")
        self["sasl-mechanism"].append(name)

    def opt_sasl_allowed(self, pattern: str) -> None:
        """For SASL: let in users that match, like '*@REALM', and no others. May be given several times."""
        self["sasl-allowed"] = [*(self["sasl-allowed"] or ()), pattern]

    def opt_version(self) -> None:
        """Print virnet's version and exit."""
        print(f"virnet {__version__}")
        sys.exit(0)

    def addChecker(self, checker: Any) -> None:
        """Take a checker of C{--auth}.

        That of C{memory:} is given words by Twisted's command line, and compares bytes.
        """
        if isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
            checker.users = {_encoded(name): _encoded(password) for name, password in checker.users.items()}
        super().addChecker(checker)

    def parseArgs(self, *words: str) -> None:
        """@raise UsageError: there are words that are no options."""
        if words:
            raise usage.UsageError(f"unexpected argument {words[0]!r}")

    def postOptions(self) -> None:
        """@raise UsageError: the numbers make no sense."""
        for option in ("max-workers", "max-clients", "max-client-requests"):
            if self[option] < 1:
                raise usage.UsageError(f"--{option} takes 1 or more")
        ssf, least = self["tcp-min-ssf"], SASL_MIN_SSF_CONFIGURED
        if ssf is not None and ssf < least:
            raise usage.UsageError(f"--tcp-min-ssf: minimum SSF levels lower than {least} are not supported")
        for kind in KINDS:
            try:
                checked(kind, self[f"auth-{kind}"])
            except AuthenticationError as e:
                raise usage.UsageError(str(e)) from e
        if "sasl" not in (self[f"auth-{kind}"] for kind in KINDS):
            # Who has said who may enter believes that others may not.
            useless = [each for each in SASL_OPTIONS if self[each]]
            useless += ["auth"] if self.get("credCheckers") else []
            if useless:
                kinds = ", ".join(f"--auth-{kind}" for kind in KINDS)
                raise usage.UsageError(f"--{useless[0]} without sasl for any endpoint: say so with {kinds}")
        least, most = self["min-workers"], self["max-workers"]
        if least > most:
            raise usage.UsageError(f"--min-workers {least} is more than --max-workers {most}")

    def parseOptions(self, options: Any = None) -> None:
        """@raise CannotStart: they make no sense."""
        try:
            super().parseOptions(options)
        except usage.UsageError as e:
            raise CannotStart(f"{e}; see 'twistd virnet --help'", USAGE) from e


def makeService(options: Options) -> IService:
    """Make the daemon.

    @raise CannotStart: an endpoint makes no sense.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    try:
        listeners = [fromString(reactor, each) for each in options["listen"]]
        listeners += [fromString(reactor, each, readonly=True) for each in options["listen-readonly"]]
        if not listeners:
            listeners = [default(reactor, os.environ)]
        wanted = {kind: options[f"auth-{kind}"] for kind in KINDS}
        sasl = SASLSettings(
            options["sasl-passwords"],
            options.get("credCheckers", ()),
            options["sasl-keytab"],
            options["sasl-mechanism"],
            options["sasl-allowed"],
            SASL_MIN_SSF if options["tcp-min-ssf"] is None else options["tcp-min-ssf"],
        )
        authentications = Authentications(reactor, wanted, sasl)
        authentications.requireUse(listeners)
        listeners = [each._replace(auth=authentications.forListener(each)) for each in listeners]
    except (ListenError, AuthenticationError) as e:
        raise CannotStart(str(e)) from e
    hypervisor = MemoryHypervisor(stateDirectory=options["state-directory"], reactor=reactor)
    programs = [
        ServerProgram(REMOTE, sessionsOf(hypervisor)),
        # A client of either is told that the hypervisor has no such thing, not that there is no such program.
        ServerProgram(QEMU, lambda client: ()),
        ServerProgram(LXC, lambda client: ()),
    ]
    limits = {keyword: options[option] for option, keyword, _, _ in LIMITS}
    rules = options["access-rules"]
    readRules = partial(RuleFile.fromPath, rules, (REMOTE, QEMU, LXC)) if rules is not None else None
    try:
        daemon = Daemon(reactor, programs, listeners, readRules, **limits)
    except RuleError as e:
        raise CannotStart(str(e)) from e
    except ValueError as e:
        raise CannotStart(str(e), USAGE) from e
    trace(*options["trace"])
    if any(probe.listeners for probe in matching("event_poll_*")):
        traceLoop(reactor)
    reactor.callWhenRunning(_heedSignals, reactor, daemon)
    return daemon


def _heedSignals(reactor: Any, daemon: Daemon) -> None:
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(daemon.reload))
    # Where one is ignored (a shell's background job ignores SIGINT) it stays so.
    numbers = [each for each in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(each) != signal.SIG_IGN]

    def stop(number: int, frame: object) -> None:
        # The next one kills: the way out of a stop that hangs.
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        reactor.callFromThread(reactor.stop)

    for each in numbers:
        signal.signal(each, stop)
