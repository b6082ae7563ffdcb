"""The probes of the poll loop: what a reactor watches, what wakes it, its sleep (C: C{virEventPoll}).

A traced reactor has some of its public methods replaced, on that one object and until the trace ends: those
of C{IReactorFDSet}, C{callLater}, C{doIteration}. Who does not trace pays nothing.

  - A handle is a descriptor that is watched for reading, writing or both; what was watched before the trace
    began is not known to it.
  - Events are bits as in libvirt: 1 readable, 2 writable.
  - A timeout is a delayed call. Twisted's fire once: dispatched or removed, it is purged right after.
  - Frequencies and timeouts are milliseconds; -1: sleep until something happens.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import directlyProvides, implementer, providedBy

from virnet.probes import (
    EVENT_POLL_ADD_HANDLE,
    EVENT_POLL_ADD_TIMEOUT,
    EVENT_POLL_DISPATCH_HANDLE,
    EVENT_POLL_DISPATCH_TIMEOUT,
    EVENT_POLL_PURGE_HANDLE,
    EVENT_POLL_PURGE_TIMEOUT,
    EVENT_POLL_REMOVE_HANDLE,
    EVENT_POLL_REMOVE_TIMEOUT,
    EVENT_POLL_RUN,
    EVENT_POLL_UPDATE_HANDLE,
    EVENT_POLL_UPDATE_TIMEOUT,
)

READABLE, WRITABLE = 1, 2
_MS = 1000


def traceLoop(reactor: Any) -> Callable[[], None]:
    """Make a reactor fire the probes C{event_poll_*}.

    @param reactor: a reactor that provides C{IReactorFDSet} and C{IReactorTime}.
    @return: call it to end the trace. What is watched then stays watched.
    """
    return _LoopTrace(reactor).stop


class _LoopTrace:
    """The replaced methods of one reactor.

    @ivar handles: what is watched, by the descriptor object that the application knows.
    """

    _replaced = (
        "addReader addWriter removeReader removeWriter removeAll getReaders getWriters callLater doIteration"
    ).split()

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.handles: dict[Any, _Handle] = {}
        self._numbers = count(1)
        self._timers = count(1)
        self._original = {name: getattr(reactor, name) for name in self._replaced if hasattr(reactor, name)}
        for name in self._original:
            setattr(reactor, name, getattr(self, name))

    def stop(self) -> None:
        """Give the reactor its own methods back, and what it watches without us."""
        for name in self._original:
            vars(self.reactor).pop(name, None)
        handles, self.handles = self.handles, {}
        for handle in handles.values():
            for bit, remove, add in (
                (READABLE, "removeReader", "addReader"),
                (WRITABLE, "removeWriter", "addWriter"),
            ):
                if handle.events & bit:
                    self._original[remove](handle)
                    self._original[add](handle.watched)

    # Handles

    def addReader(self, reader: Any) -> None:
        """Watch for reading."""
        self._watch(reader, READABLE, "addReader")

    def addWriter(self, writer: Any) -> None:
        """Watch for writing."""
        self._watch(writer, WRITABLE, "addWriter")

    def removeReader(self, reader: Any) -> None:
        """Watch for reading no more."""
        self._forget(reader, READABLE, "removeReader")

    def removeWriter(self, writer: Any) -> None:
        """Watch for writing no more."""
        self._forget(writer, WRITABLE, "removeWriter")

    def removeAll(self) -> list[Any]:
        """Watch nothing more.

        @return: what was watched.
        """
        removed = [_watchedBy(each) for each in self._original["removeAll"]()]
        for handle in list(self.handles.values()):
            self._update(handle, 0)
        return removed

    def getReaders(self) -> list[Any]:
        """What is watched for reading."""
        return [_watchedBy(each) for each in self._original["getReaders"]()]

    def getWriters(self) -> list[Any]:
        """What is watched for writing."""
        return [_watchedBy(each) for each in self._original["getWriters"]()]

    def _watch(self, watched: Any, bit: int, add: str) -> None:
        watched = _watchedBy(watched)
        handle = self.handles.get(watched)
        if handle is None:
            handle = self.handles[watched] = _Handle(watched, next(self._numbers))
        self._original[add](handle)
        self._update(handle, handle.events | bit)

    def _forget(self, watched: Any, bit: int, remove: str) -> None:
        watched = _watchedBy(watched)
        handle = self.handles.get(watched)
        self._original[remove](watched if handle is None else handle)
        if handle is not None:
            self._update(handle, handle.events & ~bit)

    def _update(self, handle: _Handle, events: int) -> None:
        before, handle.events = handle.events, events
        if events == before:
            return
        if not before:
            EVENT_POLL_ADD_HANDLE(handle.number, handle.fileno(), events, handle.watched, None, None)
        elif events:
            EVENT_POLL_UPDATE_HANDLE(handle.number, events)
        else:
            EVENT_POLL_REMOVE_HANDLE(handle.number)
            del self.handles[handle.watched]
            EVENT_POLL_PURGE_HANDLE(handle.number)

    # Timeouts

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> _Timeout:
        """Call something later."""
        timeout = _Timeout(next(self._timers), callable, self.reactor)
        timeout.call = self._original["callLater"](delay, timeout.fire, *args, **kw)
        EVENT_POLL_ADD_TIMEOUT(timeout.number, round(delay * _MS), callable, args, None)
        return timeout

    # The loop

    def doIteration(self, delay: float | None) -> None:
        """Wait for something to happen, and deal with it.

        @param delay: seconds; C{None}: as long as it takes.
        """
        EVENT_POLL_RUN(len(self.handles), -1 if delay is None else round(delay * _MS))
        self._original["doIteration"](delay)


class _Handle:
    """What the reactor watches in place of a descriptor, and passes everything on to it."""

    def __init__(self, watched: Any, number: int) -> None:
        self.watched = watched
        self.number = number
        self.events = 0
        directlyProvides(self, providedBy(watched))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.watched, name)

    def doRead(self) -> Any:
        """There is something to read."""
        EVENT_POLL_DISPATCH_HANDLE(self.number, READABLE)
        return self.watched.doRead()

    def doWrite(self) -> Any:
        """There is room to write."""
        EVENT_POLL_DISPATCH_HANDLE(self.number, WRITABLE)
        return self.watched.doWrite()


def _watchedBy(descriptor: Any) -> Any:
    return descriptor.watched if isinstance(descriptor, _Handle) else descriptor


@implementer(IDelayedCall)
class _Timeout:
    """A delayed call that says when it changes."""

    call: Any

    def __init__(self, number: int, function: Callable[..., Any], clock: IReactorTime) -> None:
        self.number = number
        self._function = function
        self._clock = clock

    def fire(self, *args: Any, **kw: Any) -> None:
        """The time has come."""
        EVENT_POLL_DISPATCH_TIMEOUT(self.number)
        try:
            self._function(*args, **kw)
        finally:
            EVENT_POLL_PURGE_TIMEOUT(self.number)

    def getTime(self) -> float:
        """When it is due, in seconds of the reactor's clock."""
        due: float = self.call.getTime()
        return due

    def active(self) -> bool:
        """Whether it is still due."""
        active: bool = self.call.active()
        return active

    def cancel(self) -> None:
        """Call nothing."""
        self.call.cancel()
        EVENT_POLL_REMOVE_TIMEOUT(self.number)
        EVENT_POLL_PURGE_TIMEOUT(self.number)

    def delay(self, secondsLater: float) -> None:
        """Call later than was said."""
        self.call.delay(secondsLater)
        self._changed()

    def reset(self, secondsFromNow: float) -> None:
        """Call at another time, counted from now."""
        self.call.reset(secondsFromNow)
        self._changed()

    def _changed(self) -> None:
        EVENT_POLL_UPDATE_TIMEOUT(self.number, round((self.getTime() - self._clock.seconds()) * _MS))
