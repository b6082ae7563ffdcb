"""
Commands under the reactor.

A signal ends the command at once; what it has changed at the terminal it puts right by a trigger of the
reactor's shutdown, as its coroutine is not heard any more then.
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

    def end(status: int) -> None:
        if not ended:
            ended.append(status)
            reactor.stop()

    def failed(failure: Failure) -> None:
        # Being told to end closes the connection, which is no error then.
        if not ended and failure.value is not None:
            end(statusOf(failure.value, output, options.debug))

    def start() -> None:
        # After the reactor's own, which would let the process die of the signal.
        for number in SIGNALS:
            # What is ignored (by nohup, or by a shell for its background) stays so.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: reactor.callFromThread(end, SIGNALLED + number))
        running: Deferred[None] = Deferred.fromCoroutine(task(reactor, options, output))
        running.addCallbacks(lambda _: end(DONE), failed)

    reactor.callWhenRunning(start)
    reactor.run()
    return ended[0]
