"""
Commands under the reactor.

A signal cancels the command, which may then put right what it has begun: give the terminal back, delete the
volume that it made. It gets a few seconds for that; a second signal ends it at once.
"""

from __future__ import annotations

import signal
import sys
from argparse import Namespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from virnet.cli.asking import ask
from virnet.cli.output import Output
from virnet.cli.run import DONE, SIGNALLED, statusOf
from virnet.cli.session import Session
from virnet.cli.table import COMMANDS, REACTOR, found
from virnet.client import connect
from virnet.errors import ConnectionLost

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

GRACE = 3.0
"""Seconds that a command which is told to end has for what it must put right."""


async def task(reactor: Any, options: Namespace, output: Output) -> None:
    """Do what was typed, on a connection of its own where it needs one."""
    command = COMMANDS[options.command]
    does = found(command.runs)
    if command.kind == REACTOR:
        await does(reactor, options, output)
        return
    try:
        connection = await connect(reactor, options.connect, readonly=options.readonly, credentials=ask)
    except ConnectionLost as e:
        raise ConnectionLost(f"{str(e).rstrip('.')}{options.hint}" if options.hint else str(e)) from e
    async with connection:
        await does(Session(reactor, options, connection, output))


def runTask(options: Namespace, output: Output) -> int:
    """Run L{task} under the process's reactor.

    @return: the exit status.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    observers = [textFileLogObserver(sys.stderr)] if options.debug else []
    globalLogBeginner.beginLoggingTo(observers, discardBuffer=True, redirectStandardIO=False)
    ended: list[int] = []
    running: Deferred[None] = Deferred()

    def stop() -> None:
        if reactor.running:
            reactor.stop()

    def signalled(number: int) -> None:
        if ended:
            stop()
        else:
            ended.append(SIGNALLED + number)
            reactor.callLater(GRACE, stop)
            running.cancel()

    def done(result: Failure | None) -> None:
        # What comes of being told to end is no error.
        if not ended:
            error = None if result is None else result.value
            ended.append(DONE if error is None else statusOf(error, output, options.debug))
        stop()

    def start() -> None:
        nonlocal running
        # After the reactor's own, which would let the process die of the signal.
        for number in SIGNALS:
            # What is ignored (by nohup, or by a shell for its background) stays so.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: reactor.callFromThread(signalled, number))
        running = Deferred.fromCoroutine(task(reactor, options, output))
        running.addBoth(done)

    reactor.callWhenRunning(start)
    reactor.run()
    return ended[0]
