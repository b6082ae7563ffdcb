"""Threads under a test's control: they wait for events, and what they hand back is taken one at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from zope.interface import implementer

PATIENCE = 10.0
"""Seconds after which a test that waits for a thread gives up."""


@implementer(IReactorFromThreads)
class ThreadedClock(Clock):
    """A clock that threads can hand calls to; they are made when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.Queue()

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Called in any thread."""
        assert not kwargs
        self._calls.put((callable, args))

    def takeOne(self) -> None:
        """Make the next call, waiting for a thread to hand it in."""
        call, args = self._calls.get(timeout=PATIENCE)
        call(*args)

    def takeUntil(self, deferred: Deferred[Any]) -> None:
        """Make calls until a Deferred has fired."""
        while not deferred.called:
            self.takeOne()

    @property
    def handedIn(self) -> int:
        """Calls that were not made yet."""
        return self._calls.qsize()


class Job:
    """A blocking function: runs until it is let go.

    @ivar thread: where it runs, once it has started.
    """

    def __init__(self, result: object = None) -> None:
        self.result = result
        self.thread: threading.Thread | None = None
        self._started = threading.Event()
        self._end = threading.Event()

    def __call__(self) -> object:
        """Block; then return the result, or raise it."""
        self.thread = threading.current_thread()
        self._started.set()
        if not self._end.wait(PATIENCE):
            raise AssertionError("nobody let the job go")
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    @property
    def started(self) -> bool:
        """Whether a thread has taken it."""
        return self._started.is_set()

    def waitForStart(self) -> None:
        """Wait until a thread has taken it."""
        if not self._started.wait(PATIENCE):
            raise AssertionError("no thread has taken the job")

    def letGo(self) -> None:
        """Let it end."""
        self._end.set()
