"""
The threads in which blocking methods run.

  - Jobs start in the order in which they came. A normal worker takes the oldest job, a priority worker the
    oldest of high priority and nothing else.
  - C{minWorkers} normal workers and all priority workers are started at once. A job starts another normal one
    when those that are idle do not outnumber the jobs that wait, up to C{maxWorkers}. None ends before the
    pool does, unless the numbers are lowered.
  - What a job raises is its own result; its worker goes on. What it refers to is let go with it.
  - Results come back in the reactor's thread.
  - A pool that was not started runs jobs in the caller's thread: a server in memory has no threads.
  - Stopping lets running jobs end. Those that wait are dropped: the clients they would answer are gone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import CoroutineType
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.programs.base import Priority


class PoolStatistics(NamedTuple):
    """A pool at one moment; the names are those of libvirt's admin interface.

    @ivar nWorkers: normal workers there are.
    @ivar freeWorkers: those of them that have nothing to do.
    @ivar prioWorkers: priority workers there are.
    @ivar jobQueueDepth: jobs that wait.
    """

    minWorkers: int
    maxWorkers: int
    nWorkers: int
    freeWorkers: int
    prioWorkers: int
    jobQueueDepth: int


class _Job:
    __slots__ = ("args", "function", "number", "result")

    def __init__(self, number: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.number = number
        self.function = function
        self.args = args
        self.result: Deferred[Any] = Deferred()


class _Workers:
    """The workers of one kind.

    @ivar most: how many there may be; those above it end when they have nothing in hand.
    @ivar free: how many of the C{count} have no job, those that have only just been started included.
    @ivar wake: notified when there is a job for one of them.
    @ivar take: takes the next job for them, or C{None}.
    """

    def __init__(self, most: int, lock: threading.Lock, take: Callable[[], _Job | None]) -> None:
        self.most = most
        self.count = 0
        self.free = 0
        self.wake = threading.Condition(lock)
        self.take = take


class WorkerPool:
    """Runs blocking functions (C: C{virThreadPool})."""

    log = Logger()

    def __init__(
        self, reactor: IReactorFromThreads, minWorkers: int, maxWorkers: int, prioWorkers: int
    ) -> None:
        """@raise ValueError: the numbers make no sense."""
        if maxWorkers < 1:
            raise ValueError("'max_workers' must be greater than 0")
        if min(minWorkers, prioWorkers) < 0:
            raise ValueError("numbers of workers must not be negative")
        if minWorkers > maxWorkers:
            raise ValueError("'min_workers' must not be larger than 'max_workers'")
        self._reactor = reactor
        self._minWorkers = minWorkers
        self._lock = threading.Lock()
        self._normal = _Workers(maxWorkers, self._lock, self._takeOldest)
        self._priority = _Workers(prioWorkers, self._lock, self._takeHigh)
        self._low: deque[_Job] = deque()
        self._high: deque[_Job] = deque()
        self._lastJob = 0
        self._threads: set[threading.Thread] = set()
        self._running = False
        self._stopped: Deferred[None] | None = None

    # In the reactor's thread

    def start(self) -> None:
        """Start the workers that are there at once."""
        assert self._stopped is None, "the pool is still stopping"
        with self._lock:
            self._running = True
            self._grow(self._normal, self._minWorkers)
            self._grow(self._priority, self._priority.most)

    def run(self, priority: Priority, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Have a function called in a thread.

        @raise RuntimeError: there is no worker, and the system has no thread for one.

        @return: fires with what it returns, or fails with what it raises. A function that returns a Deferred
            or a coroutine, neither of which belongs to a thread, fails with C{TypeError}. When the pool stops
            before the function was called it fails with L{RemoteError}.
        """
        if self._stopped is not None:
            return _settle(Deferred(), Failure(_stopping()))
        with self._lock:
            self._lastJob += 1
            job = _Job(self._lastJob, function, args)
            if self._running:
                normal = self._normal
                if normal.free <= len(self._low) + len(self._high) and normal.count < normal.most:
                    try:
                        self._grow(normal, normal.count + 1)
                    except RuntimeError as e:
                        if normal.count == 0:
                            raise
                        self.log.warn("no further worker: {error}", error=e)
                normal.wake.notify()
                if priority is Priority.HIGH:
                    self._high.append(job)
                    self._priority.wake.notify()
                else:
                    self._low.append(job)
                return job.result
        return _settle(job.result, _call(job))

    def setParameters(
        self, minWorkers: int | None = None, maxWorkers: int | None = None, prioWorkers: int | None = None
    ) -> None:
        """Change the numbers of workers; C{None} leaves one as it is.

        What jobs are waiting for is started at once. Workers that are too many end when their job has.

        @raise ValueError: the numbers make no sense; then nothing changes.
        """
        with self._lock:
            least = self._minWorkers if minWorkers is None else minWorkers
            most = self._normal.most if maxWorkers is None else maxWorkers
            prio = self._priority.most if prioWorkers is None else prioWorkers
            if most == 0:
                raise ValueError("maxWorkers must not be switched from zero to non-zero and vice versa")
            if min(least, most, prio) < 0:
                raise ValueError("numbers of workers must not be negative")
            if least > most:
                raise ValueError("minWorkers cannot be larger than maxWorkers")
            self._minWorkers, self._normal.most, self._priority.most = least, most, prio
            if self._running:
                needed = self._normal.count - self._normal.free + len(self._low) + len(self._high)
                self._grow(self._normal, max(least, min(most, needed)))
                self._grow(self._priority, prio)
                self._normal.wake.notify_all()
                self._priority.wake.notify_all()

    def statistics(self) -> PoolStatistics:
        """Say how things stand."""
        with self._lock:
            return PoolStatistics(
                self._minWorkers,
                self._normal.most,
                self._normal.count,
                self._normal.free,
                self._priority.count,
                len(self._low) + len(self._high),
            )

    def stop(self) -> Deferred[None]:
        """Start no more jobs, drop those that wait, and let those that run end.

        @return: fires when no thread is left.
        """
        with self._lock:
            self._running = False
            dropped = sorted((*self._low, *self._high), key=lambda job: job.number)
            self._low.clear()
            self._high.clear()
            self._normal.wake.notify_all()
            self._priority.wake.notify_all()
        stopped: Deferred[None] = Deferred()
        if self._threads:
            self._stopped = stopped
        else:
            stopped.callback(None)
        for job in dropped:
            _settle(job.result, Failure(_stopping()))
        return stopped

    def _grow(self, workers: _Workers, count: int) -> None:
        while workers.count < count:
            # A method that never returns must not keep the process from ending; a pool that is stopped waits.
            thread = threading.Thread(target=self._work, args=(workers,), name="virnet worker", daemon=True)
            thread.start()
            self._threads.add(thread)
            workers.count += 1
            workers.free += 1

    def _ended(self, thread: threading.Thread) -> None:
        thread.join()
        self._threads.discard(thread)
        if self._stopped is not None and not self._threads:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)

    # In a worker

    def _work(self, workers: _Workers) -> None:
        while (job := self._next(workers)) is not None:
            result = _call(job)
            with self._lock:
                workers.free += 1
            self._reactor.callFromThread(_settle, job.result, result)
            # An idle worker must not keep a client alive.
            del job, result
        self._reactor.callFromThread(self._ended, threading.current_thread())

    def _next(self, workers: _Workers) -> _Job | None:
        """Wait for a job; C{None} when the worker shall end."""
        with self._lock:
            while self._running and workers.count <= workers.most:
                job = workers.take()
                if job is not None:
                    workers.free -= 1
                    return job
                workers.wake.wait()
            workers.free -= 1
            workers.count -= 1
            return None

    def _takeOldest(self) -> _Job | None:
        low, high = self._low, self._high
        if low and (not high or low[0].number < high[0].number):
            return low.popleft()
        return high.popleft() if high else None

    def _takeHigh(self) -> _Job | None:
        return self._high.popleft() if self._high else None


def _stopping() -> RemoteError:
    return RemoteError.of(ErrorNumber.OPERATION_FAILED, "the server is stopping", ErrorDomain.RPC)


def _call(job: _Job) -> Any:
    """Run a job; what it raises, C{SystemExit} included, is its result."""
    try:
        return job.function(*job.args)
    except BaseException:
        return Failure()


def _settle(deferred: Deferred[Any], result: Any) -> Deferred[Any]:
    if isinstance(result, (Deferred, CoroutineType)):
        if isinstance(result, CoroutineType):
            result.close()
        result = Failure(TypeError(f"a blocking method returned a {type(result).__name__}"))
    deferred.callback(result)
    return deferred
