"""
What the C{virnet} command does: reads what was typed, runs it under the reactor, ends with a status.

  - 0: done. 1: it failed. 2: it was typed wrongly. 128 and a signal's number: interrupted; Ctrl-C is 130.
  - Whatever goes wrong is one line on standard error, never a traceback; C{--debug} logs, with tracebacks,
    instead.
  - A reader of our output that went away (C{| head}) ends the command quietly.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from io import TextIOWrapper
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from virnet.cli import commands
from virnet.cli.arguments import UsageError, defaultURI, parseArguments
from virnet.cli.call import call, listProcedures, prepare
from virnet.cli.events import KINDS, events
from virnet.cli.output import Output
from virnet.client import connect
from virnet.errors import ConnectionLost, VirnetError

DONE = 0
FAILED = 1
MISUSED = 2
SIGNALLED = 128

COMMANDS: dict[str, Callable[[commands.Session], Awaitable[None]]] = {
    "list": commands.listDomains,
    "info": commands.info,
    "uri": commands.uri,
    "hostname": commands.hostname,
    "version": commands.version,
    "start": commands.start,
    "shutdown": commands.shutdown,
    "destroy": commands.destroy,
    "define": commands.define,
    "dumpxml": commands.dumpxml,
    "events": events,
    "ping": commands.ping,
}
"""Commands that need an open connection; C{call} opens its own."""

Task = Callable[[Any], Awaitable[None]]
"""Takes the reactor."""


def run(argv: Sequence[str]) -> int:
    """Run the command.

    @param argv: the words behind the command's name.
    @return: the exit status.
    """
    stdout, stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    if isinstance(stdout, TextIOWrapper):
        # What a server sends may be no UTF-8; such bytes go out as they came in.
        utf8 = stdout.encoding.lower() in ("utf-8", "utf8")
        stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
    output = Output(stdout, stderr)
    try:
        try:
            options = parseArguments(argv, tuple(KINDS))
        except SystemExit as e:
            # argparse has printed the help or the version.
            stdout.flush()
            return int(e.code or DONE)
        output.asJSON = getattr(options, "json", False)
        task = prepareTask(options, output)
        return DONE if task is None else _runReactor(task, output, options.debug)
    except Exception as e:
        return statusOf(e, output)


def prepareTask(options: Namespace, output: Output) -> Task | None:
    """Check all that can be checked without a server.

    @return: what is to run under the reactor; C{None} when all is done already.
    @raise UsageError: it makes no sense.
    @raise VirnetError: it cannot be done.
    """
    if options.command == "call" and options.list:
        listProcedures(options, output)
        return None
    if options.command == "define":
        options.xml = commands.readFile(options.file)
    prepared = prepare(options) if options.command == "call" else None
    hint = ""
    if options.connect is None:
        options.connect = defaultURI(os.environ)
        if options.connect is None:
            raise UsageError("which server? give -c URI or set LIBVIRT_DEFAULT_URI; see 'virnet --help'")
        if not os.environ.get("LIBVIRT_DEFAULT_URI"):
            hint = "; is it running? 'twistd -n virnet' starts one, -c URI means another"
    if prepared is not None:
        return partial(call, options=options, prepared=prepared, output=output)
    return partial(_onConnection, options=options, output=output, hint=hint)


async def _onConnection(reactor: Any, options: Namespace, output: Output, hint: str) -> None:
    try:
        connection = await connect(reactor, options.connect, readonly=options.readonly)
    except ConnectionLost as e:
        raise ConnectionLost(f"{str(e).rstrip('.')}{hint}" if hint else str(e)) from e
    async with connection:
        await COMMANDS[options.command](commands.Session(reactor, options, connection, output))


def statusOf(error: BaseException, output: Output, debug: bool = False) -> int:
    """Report what ended the command.

    @return: the exit status.
    """
    match error:
        case BrokenPipeError():
            # Nobody reads any more, and what Python still has buffered must not fail once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return SIGNALLED + signal.SIGPIPE
        case UsageError():
            output.error(str(error))
            return MISUSED
        case VirnetError() | OSError():
            output.error(str(error))
        case _:
            output.error(f"internal error: {type(error).__name__}: {error}; --debug shows where")
    if debug:
        traceback.print_exception(error)
    return FAILED


def _runReactor(task: Task, output: Output, debug: bool) -> int:
    from twisted.internet import reactor as installed

    reactor: Any = installed
    observers = [textFileLogObserver(sys.stderr)] if debug else []
    globalLogBeginner.beginLoggingTo(observers, discardBuffer=True, redirectStandardIO=False)
    ended: list[int] = []

    def end(status: int) -> None:
        if not ended:
            ended.append(status)
            reactor.stop()

    def failed(failure: Failure) -> None:
        # Being told to end closes the connection, which is no error then.
        if not ended and failure.value is not None:
            end(statusOf(failure.value, output, debug))

    def start() -> None:
        # After the reactor's own, which would let the process die of the signal.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # What is ignored (by nohup, or by a shell for its background) stays so.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: reactor.callFromThread(end, SIGNALLED + number))
        running: Deferred[None] = Deferred.fromCoroutine(task(reactor))  # type: ignore[arg-type]
        running.addCallbacks(lambda _: end(DONE), failed)

    reactor.callWhenRunning(start)
    reactor.run()
    return ended[0]
