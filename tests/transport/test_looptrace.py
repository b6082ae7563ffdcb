"""The probes of the poll loop, on a real reactor that this test runs itself."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReadWriteDescriptor
from twisted.internet.selectreactor import SelectReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from virnet.probes import subscribe
from virnet.transport.looptrace import traceLoop

READABLE, WRITABLE = 1, 2


@implementer(IReadWriteDescriptor)
class _Descriptor:
    """One end of a socket pair, watched by a reactor; it says what it was told."""

    def __init__(self) -> None:
        self.socket, self.peer = socket.socketpair()
        self.told: list[str] = []
        self.readResult: Failure | None = None

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "descriptor"

    def doRead(self) -> Failure | None:
        self.told.append(f"read {len(self.socket.recv(100))}")
        return self.readResult

    def doWrite(self) -> None:
        self.told.append("write")

    def connectionLost(self, reason: Failure) -> None:
        self.told.append(f"lost {reason.type.__name__ if reason.type else reason}")

    def close(self) -> None:
        self.socket.close()
        self.peer.close()


class R161PollLoop(SynchronousTestCase):
    """Every probe fires once when its code path runs, with correct values."""

    def setUp(self) -> None:
        # A reactor of our own: what else the test run's one does is not seen.
        self.reactor: Any = SelectReactor()
        for internal in self.reactor.getReaders():
            self.reactor.removeReader(internal)
            self.addCleanup(internal.connectionLost, Failure(ConnectionDone()))
        self.fired: list[tuple[str, tuple[Any, ...]]] = []
        self.addCleanup(subscribe("event_poll_*", lambda probe, values: self.fire(probe.name, values)))
        self.stop: Callable[[], None] = traceLoop(self.reactor)
        self.descriptor = _Descriptor()
        self.addCleanup(self.descriptor.close)

    def fire(self, name: str, values: tuple[Any, ...]) -> None:
        self.fired.append((name.removeprefix("event_poll_"), values))

    def taken(self) -> list[tuple[str, tuple[Any, ...]]]:
        taken, self.fired = self.fired, []
        return taken

    def test_R161_a_handle_comes_changes_and_goes(self) -> None:
        descriptor, fd = self.descriptor, self.descriptor.fileno()
        self.reactor.addReader(descriptor)
        self.reactor.addReader(descriptor)
        self.assertEqual(self.taken(), [("add_handle", (1, fd, READABLE, descriptor, None, None))])
        self.reactor.addWriter(descriptor)
        self.assertEqual(self.taken(), [("update_handle", (1, READABLE | WRITABLE))])
        self.reactor.removeReader(descriptor)
        self.assertEqual(self.taken(), [("update_handle", (1, WRITABLE))])
        self.reactor.removeWriter(descriptor)
        self.reactor.removeWriter(descriptor)
        self.assertEqual(self.taken(), [("remove_handle", (1,)), ("purge_handle", (1,))])

    def test_R161_what_is_ready_is_dispatched(self) -> None:
        self.reactor.addReader(self.descriptor)
        self.descriptor.peer.send(b"abc")
        self.taken()
        self.reactor.doIteration(None)
        self.assertEqual(self.taken(), [("run", (1, -1)), ("dispatch_handle", (1, READABLE))])
        self.reactor.addWriter(self.descriptor)
        self.taken()
        self.reactor.doIteration(1.5)
        self.assertEqual(self.taken(), [("run", (1, 1500)), ("dispatch_handle", (1, WRITABLE))])
        self.assertEqual(self.descriptor.told, ["read 3", "write"])

    def test_R161_a_handle_whose_reading_fails_goes(self) -> None:
        self.reactor.addReader(self.descriptor)
        self.descriptor.readResult = Failure(ConnectionDone())
        self.descriptor.peer.send(b"abc")
        self.taken()
        self.reactor.doIteration(None)
        self.assertEqual(
            [name for name, _ in self.taken()], ["run", "dispatch_handle", "remove_handle", "purge_handle"]
        )
        self.assertEqual(self.descriptor.told, ["read 3", "lost ConnectionDone"])
        self.assertEqual(self.reactor.getReaders(), [])

    def test_R161_removing_everything(self) -> None:
        self.reactor.addReader(self.descriptor)
        self.reactor.addWriter(self.descriptor)
        self.taken()
        self.assertEqual(self.reactor.removeAll(), [self.descriptor])
        # A reactor may go by its own removeReader and removeWriter, or not.
        self.assertEqual(self.taken()[-2:], [("remove_handle", (1,)), ("purge_handle", (1,))])

    def test_the_reactor_says_what_it_watches_as_ever(self) -> None:
        self.reactor.addReader(self.descriptor)
        self.reactor.addWriter(self.descriptor)
        self.assertEqual(self.reactor.getReaders(), [self.descriptor])
        self.assertEqual(self.reactor.getWriters(), [self.descriptor])

    def test_R161_a_timeout_that_fires(self) -> None:
        calls: list[tuple[Any, ...]] = []
        call = calls.append
        timeout = self.reactor.callLater(0.25, call, ("x",))
        verifyObject(IDelayedCall, timeout)
        self.assertEqual(self.taken(), [("add_timeout", (1, 250, call, (("x",),), None))])
        timeout.reset(0)
        self.assertEqual([name for name, _ in self.taken()], ["update_timeout"])
        self.reactor.runUntilCurrent()
        self.assertEqual(self.taken(), [("dispatch_timeout", (1,)), ("purge_timeout", (1,))])
        self.assertEqual(calls, [("x",)])
        self.assertFalse(timeout.active())

    def test_R161_a_timeout_that_is_removed(self) -> None:
        timeout = self.reactor.callLater(10, self.fail)
        due = timeout.getTime()
        timeout.delay(5)
        self.assertEqual(timeout.getTime(), due + 5)
        (_, (name, (number, frequency))) = self.taken()
        self.assertEqual((name, number), ("update_timeout", 1))
        self.assertAlmostEqual(frequency, 15000, delta=5000)
        timeout.cancel()
        self.assertEqual(self.taken(), [("remove_timeout", (1,)), ("purge_timeout", (1,))])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_it_ends_and_what_is_watched_stays_watched(self) -> None:
        self.reactor.addReader(self.descriptor)
        self.reactor.addWriter(self.descriptor)
        self.taken()
        self.stop()
        self.assertEqual(self.reactor.getReaders(), [self.descriptor])
        self.descriptor.peer.send(b"abc")
        self.reactor.doIteration(None)
        self.reactor.callLater(0, self.descriptor.told.append, "later")
        self.reactor.runUntilCurrent()
        self.assertEqual(sorted(self.descriptor.told), ["later", "read 3", "write"])
        self.assertEqual(self.taken(), [])
