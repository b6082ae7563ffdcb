"""The calls of a connection that comes and goes: which wait, which are on their way, how each ends.

Rules that live here:

  - At most C{limit} calls are in flight; further ones wait, first come first served. A call holds its place
    until its answer has come or the connection is gone, also when nobody waits for it any more: that is what
    the server counts.
  - Without a connection a call waits for the next one, or is refused at once where that is wanted. What waits
    was not sent, and a lost connection does not touch it.
  - A call in flight fails with its connection, once; it is never sent again by itself.
  - A call that is cancelled or out of time while it waits is never sent; one in flight is forgotten, and what
    its late answer brings is swallowed: a stream is aborted, descriptors are closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from virnet.client.client import NetClient, PendingCall
from virnet.errors import CallTimedOut, ConnectionLost, RemoteProtocolError
from virnet.programs.base import Procedure
from virnet.transport.descriptors import closeAll, duplicateAll


class _Call(PendingCall):
    """One call.

    @ivar fds: descriptors of the queue's own, while it waits.
    @ivar patient: it waits for a connection.
    @ivar sent: it was given to a connection.
    """

    __slots__ = ("args", "fds", "patient", "queue", "sent")

    def __init__(self, queue: CallQueue, procedure: Procedure, args: tuple[Any, ...], patient: bool) -> None:
        super().__init__(procedure)
        self.queue = queue
        self.args = args
        self.patient = patient
        self.fds: list[int] = []
        self.sent = False

    def answered(self, result: Any) -> None:
        self.queue.release()
        super().answered(result)

    def failed(self, error: Exception) -> None:
        self.queue.release()
        super().failed(error)


class CallQueue:
    """Sends calls over whichever connection there is.

    @ivar inFlight: calls that were sent and are not answered.
    @ivar refusal: why calls are refused for good; C{None} while they are not.
    """

    def __init__(self, clock: IReactorTime, limit: int) -> None:
        """@param limit: calls in flight, at least 1."""
        if limit < 1:
            raise ValueError(f"a limit of {limit} calls in flight lets none through")
        self.inFlight = 0
        self.refusal: str | None = None
        self._clock = clock
        self._limit = limit
        self._client: NetClient | None = None
        self._waiting: deque[_Call] = deque()

    def __len__(self) -> int:
        """How many calls wait to be sent."""
        return len(self._waiting)

    def call(
        self,
        procedure: Procedure,
        args: tuple[Any, ...],
        fds: Sequence[int] = (),
        *,
        timeout: float | None,
        patient: bool,
    ) -> Deferred[Any]:
        """Call a procedure, see L{NetClient.call}.

        @param timeout: seconds until the answer must have come, from now; C{None} for no limit.
        @param patient: wait for a connection when there is none.
        @return: as L{NetClient.call}. Fails with L{CallTimedOut} when it took too long.
        @raise ConnectionLost: there is no connection, and this call does not wait for one, or none will come.
        """
        if self.refusal is not None:
            raise ConnectionLost(self.refusal)
        call = _Call(self, procedure, args, patient)
        if self._client is None and not patient:
            raise ConnectionLost("not connected at the moment")
        if not self._sendAtOnce(call, fds):
            procedure.encodeArgs(args)  # A mistake is raised where it was made.
            call.deferred = Deferred(lambda _: self._withdraw(call))
            # The caller may close its own when this returns.
            call.fds = duplicateAll(fds)
            self._waiting.append(call)
        if timeout is not None:
            timer = self._clock.callLater(timeout, self._timedOut, call, timeout)
            call.deferred.addBoth(_stopTimer, timer)
        return call.deferred

    def _sendAtOnce(self, call: _Call, fds: Sequence[int]) -> bool:
        """Send a call if nothing is in its way."""
        if self._client is None or self.inFlight >= self._limit or self._waiting:
            return False
        call.deferred = Deferred()
        try:
            self._send(self._client, call, fds)
        except (ConnectionLost, RemoteProtocolError):
            # This connection has just ended, which C{disconnected} is about to say.
            if not call.patient:
                raise
            return False
        return True

    def _send(self, client: NetClient, call: _Call, fds: Sequence[int]) -> None:
        """@raise VirnetError: it was not sent."""
        self.inFlight += 1
        try:
            client.start(call, call.args, fds)
        except BaseException:
            self.inFlight -= 1
            raise
        call.sent = True

    def release(self) -> None:
        """A call is not in flight any more."""
        self.inFlight -= 1
        self._sendWaiting()

    def _sendWaiting(self) -> None:
        while self._waiting and self._client is not None and self.inFlight < self._limit:
            # Its answer may come before it was sent for good, and send the next one.
            call = self._waiting.popleft()
            fds, call.fds = call.fds, []
            try:
                self._send(self._client, call, fds)
            except (ConnectionLost, RemoteProtocolError):
                call.fds = fds
                self._waiting.appendleft(call)
                return
            except Exception:
                call.deferred.errback()
            closeAll(fds)

    def _withdraw(self, call: _Call) -> None:
        """A call does not wait any more."""
        if call in self._waiting:
            self._waiting.remove(call)
        closeAll(call.fds)
        call.fds = []

    def _timedOut(self, call: _Call, timeout: float) -> None:
        self._withdraw(call)
        error = CallTimedOut(f"{call.procedure.name} was not answered within {timeout:g} seconds")
        error.mayHaveRun = call.sent
        call.deferred.errback(error)

    # The connection

    def connected(self, client: NetClient) -> None:
        """There is a connection: send what waits."""
        self._client = client
        self._sendWaiting()

    def disconnected(self) -> None:
        """It is gone: calls that do not wait for the next one fail."""
        self._client = None
        for call in [each for each in self._waiting if not each.patient]:
            self._withdraw(call)
            call.deferred.errback(ConnectionLost("the connection was lost before the call was sent"))

    def refuse(self, why: str) -> None:
        """Fail what waits, and what comes, until C{accept}."""
        self.refusal = why
        for call in list(self._waiting):
            self._withdraw(call)
            call.deferred.errback(ConnectionLost(why))

    def accept(self) -> None:
        """Take calls."""
        self.refusal = None


def _stopTimer(result: Any, timer: IDelayedCall) -> Any:
    if timer.active():
        timer.cancel()
    return result
