"""
A session without a server: calls go through the codecs as they would on the wire, events are recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred

from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import RemoteSession
from virnet.programs import REMOTE

NOW = 1_700_000_000.5
NOT_OPEN = "internal error: hypervisor connection not open"


class RecordingEvents:
    """
    Provides the events of REMOTE; what is sent must have the shape of its message.
    """

    def __init__(self, sent: list[tuple[Any, ...]]) -> None:
        self._sent = sent

    def __getattr__(self, name: str) -> Callable[..., None]:
        procedure = REMOTE.eventsByName.get(name)
        if procedure is None:
            raise AttributeError(name)

        def send(*values: Any) -> None:
            self._sent.append((name, *procedure.decodeArgs(procedure.encodeArgs(values))))

        return send


class RecordingClient:
    """
    The connection as a session sees it.

    @ivar sent: the events: name of the method, and its arguments.
    @ivar closing: whether the connection ends with the next reply.
    """

    def __init__(self, readonly: bool = False) -> None:
        self.readonly = readonly
        self.sent: list[tuple[Any, ...]] = []
        self.closing = False
        self._onDisconnect: list[Callable[[], object]] = []

    def events(self, program: Any) -> RecordingEvents:
        assert program is REMOTE
        return RecordingEvents(self.sent)

    def closeAfterReply(self) -> None:
        self.closing = True

    def useKeepAlive(self) -> None:
        pass

    def onDisconnect(self, call: Callable[[], object]) -> None:
        self._onDisconnect.append(call)

    def disconnect(self) -> None:
        """
        Have the connection go away.
        """
        for call in self._onDisconnect:
            call()


class Connection:
    """
    A session and its connection; attributes are the procedures of REMOTE.

    Each call encodes and decodes its arguments and its result.
    """

    def __init__(self, hypervisor: Any, readonly: bool = False) -> None:
        self.client = RecordingClient(readonly)
        self.session = RemoteSession(self.client, hypervisor)

    @property
    def sent(self) -> list[tuple[Any, ...]]:
        """
        The events since this was looked at last.
        """
        sent = list(self.client.sent)
        self.client.sent.clear()
        return sent

    def __getattr__(self, name: str) -> Callable[..., Any]:
        procedure = REMOTE.byName.get(name)
        if procedure is None:
            raise AttributeError(name)

        def call(*args: Any) -> Any:
            taken = procedure.decodeArgs(procedure.encodeArgs(args))
            result = self.session.methodFor(procedure)(*taken)
            if isinstance(result, Coroutine):
                result = Deferred.fromCoroutine(result)
            if isinstance(result, Deferred):
                result = _resultOf(result)
            return procedure.decodeRet(procedure.encodeRet(result))

        return call


def _resultOf(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    if not results:
        raise AssertionError("no result yet")
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


def countingBytes() -> Callable[[int], bytes]:
    """
    Bytes that are not random at all: 00 00 00 01, 00 00 00 02 and so on.
    """
    numbers = count(1)
    return lambda length: next(numbers).to_bytes(length, "big")


def memory() -> MemoryHypervisor:
    """
    A hypervisor in memory with a fixed time, known uuids and a known host.
    """
    return MemoryHypervisor(clock=lambda: NOW, randomBytes=countingBytes(), hostname=lambda: "host.example")


def opened(hypervisor: Any = None, flags: int = 0, readonly: bool = False) -> Connection:
    """
    An open connection.

    @param hypervisor: a new one in memory unless given.
    """
    connection = Connection(hypervisor or memory(), readonly)
    connection.connectOpen("test:///default", flags)
    return connection
