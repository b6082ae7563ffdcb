"""
What the C{virnet} command does: reads what was typed, does it, ends with a status.

  - 0: done. 1: it failed. 2: it was typed wrongly. 128 and a signal's number: interrupted; Ctrl-C is 130.
  - Whatever goes wrong is one line on standard error, never a traceback; C{--debug} logs, with tracebacks,
    instead.
  - A reader of our output that went away (C{| head}) ends the command quietly.
  - Nothing is loaded that the command typed does not need.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from io import TextIOWrapper

from virnet.cli.arguments import UsageError, defaultURI, ownURI, parseArguments
from virnet.cli.output import Output
from virnet.cli.table import COMMANDS, PLAIN, found
from virnet.errors import VirnetError

DONE = 0
FAILED = 1
MISUSED = 2
SIGNALLED = 128


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
    output = Output(stdout, stderr, style=wantsStyle(stdout.isatty()))
    try:
        try:
            options = parseArguments(argv)
        except SystemExit as e:
            # argparse has printed the help or the version.
            stdout.flush()
            return int(e.code or DONE)
        output.asJSON = getattr(options, "json", False)
        if prepared(options, output):
            return DONE
        from virnet.cli.loop import runTask

        return runTask(options, output)
    except Exception as e:
        return statusOf(e, output)


def prepared(options: Namespace, output: Output) -> bool:
    """Check all that can be checked without a server.

    @return: everything is done already.
    @raise UsageError: it makes no sense.
    @raise VirnetError: it cannot be done.
    """
    command = COMMANDS[options.command]
    if command.prepare and found(command.prepare)(options, output):
        return True
    if command.kind == PLAIN:
        found(command.runs)(options, output)
        return True
    options.hint = ""
    if options.connect is None:
        options.connect = defaultURI(os.environ)
        if options.connect is None:
            raise UsageError("which server? give -c URI or set LIBVIRT_DEFAULT_URI; see 'virnet --help'")
        if options.connect == ownURI(os.environ):
            options.hint = "; is it running? 'twistd -n virnet' starts one, -c URI means another"
    return False


def wantsStyle(isTerminal: bool) -> bool:
    """Whether to print in colour: on a terminal that knows it, unless the user does not want it (no-
    color.org).
    """
    return isTerminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


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
