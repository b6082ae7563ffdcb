"""Twisted's Deferreds in asyncio programs.

A program reads like this::

    async def main():
        async with await virnet.connect(aio.reactor(), "qemu+unix:///system") as connection:
            domain = await connection.domain("web")
            await asyncio.wait_for(domain.start(), 30)

    aio.run(main())

Rules that live here:

  - L{run} is C{asyncio.run} with Twisted's reactor on the same loop, and tasks that may await Deferreds, and
    coroutines that do, as well as what asyncio awaits.
  - A task that is cancelled cancels the Deferred that it waits for, and gets asyncio's C{CancelledError}.
  - A program that runs its loop itself has L{running} for the reactor and L{future} for each Deferred.
  - There is one reactor in a process: it runs once, on one loop, and must not be installed before.

This is for asyncio with Twisted in it. The other way round, C{Deferred.fromFuture}, is Twisted's own.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator
from contextlib import asynccontextmanager
from types import coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")

__all__ = ["future", "reactor", "run", "running"]


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine that awaits Deferreds and asyncio's futures alike, as C{asyncio.run} does.

    @param debug: asyncio's debug mode.
    @raise RuntimeError: there is a reactor already, or a loop is running.
    """

    async def whole() -> T:
        asyncio.get_running_loop().set_task_factory(_task)
        async with running():
            return await _driven(main)

    with asyncio.Runner(debug=debug) as runner:
        return runner.run(whole())


@asynccontextmanager
async def running() -> AsyncIterator[Any]:
    """Have Twisted's reactor run on the loop that runs; it is what C{async with} gives.

    At the end the reactor is shut down, which closes what is open.

    @raise RuntimeError: there is a reactor already.
    """
    if "twisted.internet.reactor" in sys.modules:
        raise RuntimeError(
            "there is a reactor already: this must come before anything imports twisted.internet.reactor"
        )
    loop = asyncio.get_running_loop()
    installed = _installed(loop)
    isMain = threading.current_thread() is threading.main_thread()
    # Without its signal handlers, because Ctrl-C is asyncio's here; but of children it has to learn.
    installed.startRunning(installSignalHandlers=False)
    if isMain:
        from twisted.internet.process import reapAllProcesses

        loop.add_signal_handler(signal.SIGCHLD, reapAllProcesses)
    try:
        yield installed
    finally:
        over = loop.create_future()
        installed.addSystemEventTrigger("after", "shutdown", over.set_result, None)
        installed.fireSystemEvent("shutdown")
        await over
        if isMain:
            loop.remove_signal_handler(signal.SIGCHLD)


def _installed(loop: asyncio.AbstractEventLoop) -> Any:
    # Not before there is a loop: both look for the reactor.
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor
    from twisted.internet.main import installReactor
    from twisted.internet.posixbase import PosixReactorBase

    class Reactor(AsyncioSelectorReactor):
        """Shuts down without stopping the loop, which is the program's."""

        def crash(self) -> None:
            PosixReactorBase.crash(self)

    made = Reactor(loop)
    installReactor(made)
    return made


def reactor() -> Any:
    """The reactor; to be asked for when it runs."""
    from twisted.internet import reactor as installed

    return installed


def future(awaitable: Awaitable[T]) -> asyncio.Future[T]:
    """Make something that asyncio awaits, on any of its tasks, of a Deferred or a coroutine that awaits some.

    Cancelling it cancels the Deferred.
    """
    deferred: Deferred[Any]
    if isinstance(awaitable, Deferred):
        deferred = awaitable
    else:
        deferred = Deferred.fromCoroutine(_awaiting(awaitable))
    return deferred.asFuture(asyncio.get_running_loop())


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _task(loop: asyncio.AbstractEventLoop, made: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(_asCoroutine(made), loop=loop, **options)


async def _asCoroutine(made: Any) -> Any:
    return await _driven(made)


@coroutine
def _driven(made: Coroutine[Any, Any, T]) -> Generator[Any, None, T]:
    """Run a coroutine in a task: what it waits for goes on to the task, Deferreds as futures."""
    error: BaseException | None = None
    while True:
        try:
            waited = made.send(None) if error is None else made.throw(error)
        except StopIteration as e:
            value: T = e.value
            return value
        error = None
        try:
            if isinstance(waited, Deferred):
                yield from _result(waited)
            else:
                yield waited
        except BaseException as e:
            error = e


def _result(deferred: Deferred[Any]) -> Generator[Any, None, None]:
    """Wait until a Deferred has a result, which stays in it for who awaits it."""
    ready = asyncio.get_running_loop().create_future()

    def tell(result: Any) -> Any:
        if not ready.done():
            ready.set_result(None)
        return result

    deferred.addBoth(tell)
    try:
        yield from ready
    except BaseException:
        deferred.addErrback(lambda _: None)
        deferred.cancel()
        raise
