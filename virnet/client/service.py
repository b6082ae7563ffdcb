"""A connection that lasts: opened again whenever it is lost.

  - Between two attempts it waits, longer each time, with jitter; an attempt that takes too long is given up.
  - A new connection first gets the subscriptions back (L{virnet.client.lasting}), then the calls that waited
    (L{virnet.client.callqueue}).
  - A call that was in flight fails with the connection, once, and its C{mayHaveRun} says whether it is safe
    to make it again. Nothing is repeated behind the caller's back.
  - C{stopService} refuses new calls, fails those that wait, closes the connection as the protocol wants it,
    which fails those in flight, and cuts a server off that takes longer than L{STOP_GRACE} seconds for it.

The life cycle is that of Twisted's C{ClientService}, and so are C{whenConnected} and the retry policy; what
is different is that a connection counts when it was opened, not when there is a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from random import random
from typing import Any, Protocol, TypeGuard, TypeVar

from automat import TypeMachineBuilder
from twisted.application.internet import backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from virnet.client.callqueue import CallQueue
from virnet.client.connection import Connection, connect
from virnet.client.host import ClientHost
from virnet.client.lasting import LastingRegistries, LastingRegistry
from virnet.client.program import provide
from virnet.errors import ConnectionLost
from virnet.limits import CALLS_IN_FLIGHT, OPEN_SECONDS, RECONNECT_DELAY_MAX, STOP_GRACE
from virnet.programs import REMOTE
from virnet.programs.base import Procedure, Program
from virnet.transport.config import meantURI

__all__ = ["ConnectionService"]

I = TypeVar("I")  # noqa: E741 - an interface, as zope names them


class ConnectionService(Service, ClientHost):
    """A hypervisor connection that is opened again whenever it is lost.

    It is used like a L{Connection}: C{service.domains()}, C{service.remote}, C{service.program(QEMU)}, the
    C{…Events} registries; the objects that it gives out stay good. C{startService}, or a parent that runs,
    lets it connect; C{async with} does that and stops it at the end. Before, what is called waits.

    @ivar uri: what is opened.
    @ivar connection: the one there is at the moment, or C{None}.
    @ivar remote: calls the procedures of the main program; a provider of C{IRemote}.
    @ivar domainEvents: subscriptions to events of domains; they outlast connections.
    @ivar networkEvents: the same for networks.
    @ivar storagePoolEvents: the same for storage pools.
    @ivar nodeDeviceEvents: the same for node devices.
    @ivar secretEvents: the same for secrets.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        uri: str,
        *,
        waitForConnection: bool = True,
        callsInFlight: int = CALLS_IN_FLIGHT,
        callTimeout: float | None = None,
        openTimeout: float = OPEN_SECONDS,
        retryPolicy: Callable[[int], float] | None = None,
        jitter: Callable[[], float] = random,
        **options: Any,
    ) -> None:
        """@param uri: as L{connect} takes it.
        @param waitForConnection: whether calls and subscriptions wait while there is no connection; otherwise
            they fail with L{ConnectionLost} at once.
        @param callsInFlight: calls that may be unanswered; further ones wait.
        @param callTimeout: seconds until a call fails with L{CallTimedOut<virnet.errors.CallTimedOut>};
            C{None}: never. They count from the call on, waiting included.
        @param openTimeout: seconds until one attempt to connect and open is given up.
        @param retryPolicy: seconds to wait before an attempt, by how many failed before it, from 1; unless it
            is given they grow by half each time, from about 1.5 to L{RECONNECT_DELAY_MAX}.
        @param jitter: seconds that are added to each such wait, so that the clients of a host that comes back
            do not all come at once; not with a C{retryPolicy} of your own.
        @param options: L{connect}'s: C{readonly}, C{keepalive}, C{endpoint} and whatever else it takes.
        @raise URIError: the URI cannot be used.
        """
        meantURI(uri)
        self.uri = uri
        self.connection: Connection | None = None
        self.reactor = reactor
        self._connect: Callable[[], Coroutine[Any, Any, Connection]] = partial(
            connect, reactor, uri, **options
        )
        self._patient = waitForConnection
        self._callTimeout = callTimeout
        self._openTimeout = openTimeout
        self._retryPolicy = retryPolicy or backoffPolicy(maxDelay=RECONNECT_DELAY_MAX, jitter=jitter)
        self._calls = CallQueue(reactor, callsInFlight)
        self._registries = LastingRegistries()
        self._lastHeard: float | None = None
        self._failures = 0
        self._waiters: list[_Waiter] = []
        self._stopping: list[Deferred[None]] = []
        self._attempt: Deferred[Any]
        self._retry: IDelayedCall
        self._closed: list[Deferred[Exception]] = []
        self._machine: _LifeCycle = _makeMachine(self)
        self.remote = self.program(REMOTE)
        self.domainEvents = self._registry("domainEvents")
        self.networkEvents = self._registry("networkEvents")
        self.storagePoolEvents = self._registry("storagePoolEvents")
        self.nodeDeviceEvents = self._registry("nodeDeviceEvents")
        self.secretEvents = self._registry("secretEvents")

    def _registry(self, name: str) -> LastingRegistry:
        return LastingRegistry(self._registries, name, self._whenUsable)

    # Service

    def startService(self) -> None:
        """Begin to connect."""
        Service.startService(self)
        self._calls.accept()
        self._machine.start()

    def stopService(self) -> Deferred[None]:
        """Close the connection in order and stay without.

        @return: fires when it is closed.
        """
        Service.stopService(self)
        stopped: Deferred[None] = Deferred()
        self._stopping.append(stopped)
        waiters, self._waiters = self._waiters, []
        self._calls.refuse(_STOPPED)
        for waiter in waiters:
            waiter.tell(Failure(ConnectionLost(_STOPPED)))
        closed, self._closed = self._closed, []
        for each in closed:
            if not each.called:
                each.callback(ConnectionLost(_STOPPED))
        self._machine.stop()
        return stopped

    async def __aenter__(self) -> ConnectionService:
        self.startService()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stopService()

    def __repr__(self) -> str:
        state = "connected" if self._isUsable(self.connection) else "not connected"
        return f"<{type(self).__name__} {self.uri}, {state if self.running else 'not running'}>"

    def whenConnected(self, failAfterFailures: int | None = None) -> Deferred[Connection]:
        """Wait for a connection.

        @param failAfterFailures: attempts after whose failure this fails, too, at least 1; C{None}: however
            many.
        @return: fires with the connection, at once if there is one. It is this one alone: what is called on
            it ends with it. Fails with the error of the last attempt, or with L{ConnectionLost} when the
            service is stopped.
        """
        if self._isUsable(self.connection):
            return succeed(self.connection)
        waiter = _Waiter(failAfterFailures)
        self._waiters.append(waiter)
        return waiter.deferred

    @staticmethod
    def _isUsable(connection: Connection | None) -> TypeGuard[Connection]:
        # Between its end and the moment this service is told of it there are others who are told.
        return connection is not None and not connection.client.ending

    def whenClosed(self) -> Deferred[Exception]:
        """Wait until the service is stopped.

        @return: fires (never fails) with a L{ConnectionLost} that says so.
        """
        deferred: Deferred[Exception] = Deferred(self._forgetWaiter)
        self._closed.append(deferred)
        return deferred

    def _forgetWaiter(self, waiter: Deferred[Exception]) -> None:
        if waiter in self._closed:
            self._closed.remove(waiter)

    def _whenUsable(self) -> Deferred[Connection]:
        if self._calls.refusal is not None:
            return fail(ConnectionLost(self._calls.refusal))
        if not self._patient and not self._isUsable(self.connection):
            return fail(ConnectionLost("not connected at the moment"))
        return self.whenConnected()

    # Calls

    def program(self, program: Program[I], *, timeout: float | None = None, wait: bool | None = None) -> I:
        """Get an object that calls the procedures of a program, over whichever connection there is.

        @param timeout: seconds for each call; C{None}: the service's own.
        @param wait: whether calls wait while there is no connection; C{None}: as the service has it.
        @return: a provider of the program's interface. Its methods return Deferreds, which may be cancelled:
            a call that waits is not sent any more, one in flight is forgotten.
        """
        return provide(program, partial(self.call, timeout=timeout, wait=wait))

    def call(
        self,
        procedure: Procedure,
        args: tuple[Any, ...],
        fds: Sequence[int] = (),
        *,
        timeout: float | None = None,
        wait: bool | None = None,
    ) -> Deferred[Any]:
        """Call a procedure; see L{NetClient.call<virnet.client.client.NetClient.call>} and L{program}."""
        return self._calls.call(
            procedure,
            args,
            fds,
            timeout=self._callTimeout if timeout is None else timeout,
            patient=self._patient if wait is None else wait,
        )

    @property
    def callsWaiting(self) -> int:
        """Calls that were not sent yet."""
        return len(self._calls)

    @property
    def callsInFlight(self) -> int:
        """Calls that were sent and not answered, those that nobody waits for any more included."""
        return self._calls.inFlight

    # What the life cycle does

    def attempt(self) -> None:
        """Try to connect, open and subscribe once, and say how it went."""
        trying = Deferred.fromCoroutine(self._openOnce())
        trying.addTimeout(self._openTimeout, self.reactor, self._tookTooLong)
        self._attempt = trying
        trying.addCallbacks(self._machine.opened, self._machine.failed)

    async def _openOnce(self) -> Connection:
        connection = await self._connect()
        try:
            if self._lastHeard is not None:
                await self._registries.reattach(connection, self._lastHeard, self.reactor.seconds)
        except BaseException:
            connection.client.abandon()
            raise
        return connection

    def _tookTooLong(self, _: object, seconds: float) -> Failure:
        return Failure(ConnectionLost(f"{self.uri}: not open after {seconds:g} seconds"))

    def giveUp(self) -> None:
        """Stop an attempt."""
        self._attempt.cancel()

    def isOpen(self, connection: Connection) -> None:
        """There is a connection."""
        self._log.info("{uri}: connected", uri=self.uri)
        self.connection = connection
        self._failures = 0
        connection.whenClosed().addCallback(self._isLost, connection)
        waiters, self._waiters = self._waiters, []
        self._calls.connected(connection.client)
        for waiter in waiters:
            waiter.tell(connection)

    def _isLost(self, reason: Exception, connection: Connection) -> None:
        heard = connection.client.lastHeard
        self._lastHeard = self.reactor.seconds() if heard is None else heard
        self._failures = 1
        self.connection = None
        self._calls.disconnected()
        self._log.info("{uri}: {reason}", uri=self.uri, reason=reason)
        self._machine.lost()

    def hasFailed(self, failure: Failure) -> None:
        """An attempt failed: tell those who have seen enough."""
        self._failures += 1
        error = failure.value
        self._log.info("{uri}: attempt {count}: {error}", uri=self.uri, count=self._failures, error=error)
        enough = [waiter for waiter in self._waiters if waiter.isEnough()]
        self._waiters = [
            waiter for waiter in self._waiters if waiter not in enough and not waiter.deferred.called
        ]
        for waiter in enough:
            waiter.tell(failure)

    def tryLater(self) -> None:
        """Try again after a while."""
        delay = self._retryPolicy(self._failures)
        self._retry = self.reactor.callLater(delay, self._machine.retry)

    def stopWaiting(self) -> None:
        """Do not try again."""
        self._retry.cancel()

    def close(self) -> None:
        """Close the connection in order; cut it off when that takes too long."""
        connection = self.connection
        if connection is not None:
            closing = Deferred.fromCoroutine(connection.close()).addTimeout(STOP_GRACE, self.reactor)
            closing.addErrback(lambda _: connection.client.abandon())

    def isStopped(self) -> None:
        """There is no connection any more."""
        stopping, self._stopping = self._stopping, []
        for deferred in stopping:
            deferred.callback(None)


_STOPPED = "the connection service was stopped"


class _Waiter:
    """Somebody who waits for a connection."""

    def __init__(self, patience: int | None) -> None:
        self.deferred: Deferred[Connection] = Deferred()
        self._patience = patience

    def tell(self, result: Connection | Failure) -> None:
        """It is over, unless nobody waits any more."""
        if not self.deferred.called:
            self.deferred.callback(result)

    def isEnough(self) -> bool:
        """One more attempt failed: whether that was the last to wait for."""
        if self._patience is None:
            return False
        self._patience -= 1
        return self._patience <= 0


class _LifeCycle(Protocol):
    """What happens to a service."""

    def start(self) -> None:
        """A connection is wanted."""

    def stop(self) -> None:
        """None is wanted any more."""

    def opened(self, connection: Connection) -> None:
        """The attempt succeeded."""

    def failed(self, failure: Failure) -> None:
        """The attempt failed."""

    def retry(self) -> None:
        """It was waited long enough."""

    def lost(self) -> None:
        """The connection is gone."""


def _machine() -> Callable[[ConnectionService], _LifeCycle]:
    builder = TypeMachineBuilder(_LifeCycle, ConnectionService)
    stopped = builder.state("stopped")
    connecting = builder.state("connecting")
    waiting = builder.state("waiting")
    connected = builder.state("connected")
    closing = builder.state("closing")
    restarting = builder.state("restarting")

    for state in (connecting, waiting, connected, restarting):
        state.upon(_LifeCycle.start).loop().returns(None)
    closing.upon(_LifeCycle.start).to(restarting).returns(None)
    closing.upon(_LifeCycle.stop).loop().returns(None)
    restarting.upon(_LifeCycle.stop).to(closing).returns(None)

    @stopped.upon(_LifeCycle.start).to(connecting)
    @waiting.upon(_LifeCycle.retry).to(connecting)
    def attempt(machine: _LifeCycle, service: ConnectionService) -> None:
        service.attempt()

    @connecting.upon(_LifeCycle.opened).to(connected)
    def isOpen(machine: _LifeCycle, service: ConnectionService, connection: Connection) -> None:
        service.isOpen(connection)

    @connecting.upon(_LifeCycle.failed).to(waiting)
    def failedAttempt(machine: _LifeCycle, service: ConnectionService, failure: Failure) -> None:
        service.hasFailed(failure)
        service.tryLater()

    @connected.upon(_LifeCycle.lost).to(waiting)
    def tryLater(machine: _LifeCycle, service: ConnectionService) -> None:
        service.tryLater()

    @connecting.upon(_LifeCycle.stop).to(closing)
    def giveUp(machine: _LifeCycle, service: ConnectionService) -> None:
        service.giveUp()

    @connected.upon(_LifeCycle.stop).to(closing)
    def close(machine: _LifeCycle, service: ConnectionService) -> None:
        service.close()

    @waiting.upon(_LifeCycle.stop).to(stopped)
    def stopWaiting(machine: _LifeCycle, service: ConnectionService) -> None:
        service.stopWaiting()
        service.isStopped()

    @stopped.upon(_LifeCycle.stop).loop()
    @closing.upon(_LifeCycle.lost).to(stopped)
    def isStopped(machine: _LifeCycle, service: ConnectionService) -> None:
        service.isStopped()

    @closing.upon(_LifeCycle.failed).to(stopped)
    def hasGivenUp(machine: _LifeCycle, service: ConnectionService, failure: Failure) -> None:
        service.isStopped()

    @restarting.upon(_LifeCycle.lost).to(connecting)
    def restart(machine: _LifeCycle, service: ConnectionService) -> None:
        service.isStopped()
        service.attempt()

    @restarting.upon(_LifeCycle.failed).to(connecting)
    def restartAttempt(machine: _LifeCycle, service: ConnectionService, failure: Failure) -> None:
        service.isStopped()
        service.attempt()

    return builder.build()


_makeMachine = _machine()
