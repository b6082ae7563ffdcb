"""Accepting only while there is a descriptor for the connection.

When there is no other, Twisted's ports accept with a descriptor kept in reserve, and close the connection
at once. libvirt leaves it where it is and accepts no more for 5 seconds (C{virNetServerServiceAccept}); so
does a port that has an L{AcceptPause}.

What the reactor calls when somebody wants to connect is the port's C{doRead} (C{IReadDescriptor}); in front
of that it is tried whether a descriptor is free. One connection is accepted at a time, since one was found.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from virnet.limits import ACCEPT_PAUSE

_log = Logger()


class AcceptPause:
    """Stops a port when there are no descriptors, and starts it again.

    @ivar over: whether it accepts.
    """

    def __init__(self, port: Any, clock: IReactorTime, resume: Callable[[], object]) -> None:
        """@param port: a listening port that a reactor reads and that can be paused.
        @param resume: called when it may accept again.
        """
        self._port = port
        self._clock = clock
        self._resume = resume
        self._accept = port.doRead
        self._timer: IDelayedCall | None = None
        port.doRead = self._acceptOne

    @property
    def over(self) -> bool:
        """Whether there is no pause."""
        return self._timer is None

    def _acceptOne(self) -> Any:
        try:
            os.close(os.dup(self._port.fileno()))
        except OSError as e:
            _log.error(
                "{port} accepts nobody for {seconds} seconds: {error}",
                port=self._port,
                seconds=ACCEPT_PAUSE,
                error=e,
            )
            self._port.pauseProducing()
            self._timer = self._clock.callLater(ACCEPT_PAUSE, self._end)
            return None
        self._port.numberAccepts = 1
        return self._accept()

    def _end(self) -> None:
        self._timer = None
        self._resume()

    def stop(self) -> None:
        """The port listens no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
