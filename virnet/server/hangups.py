"""Noticing that a client is gone while nothing is read from it.

A connection that is not read tells nobody when the peer hangs up, and a client whose slots are all held by
methods that never end would stay for ever. (libvirtd's C{poll(2)} is told of a hang-up even then.) So the
server looks after those every L{HANG_UP_INTERVAL<virnet.limits.HANG_UP_INTERVAL>} seconds. What such a client
has sent and was not read yet is lost with it, as in libvirtd.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from virnet.errors import ConnectionLost
from virnet.limits import HANG_UP_INTERVAL

if TYPE_CHECKING:
    from virnet.server.client import ServerClient


class HangUps:
    """Looks after the clients of one server that are not read because of the server's own side."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._clients: set[ServerClient] = set()
        self._timer: IDelayedCall | None = None

    def watch(self, client: ServerClient) -> None:
        """Look after a client as long as it is not read."""
        self._clients.add(client)
        if self._timer is None:
            self._timer = self._clock.callLater(HANG_UP_INTERVAL, self._look)

    def stop(self) -> None:
        """There are no clients any more."""
        self._clients.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        watched, self._clients = self._clients, set()
        poll = select.poll()
        byDescriptor: dict[int, ServerClient] = {}
        for client in watched:
            if client.readingPaused and not client.ending:
                self.watch(client)
                handle = getattr(client.transport, "getHandle", lambda: None)()
                # To one that does not read its answers something is being sent: that tells.
                if handle is not None and client.readingHeld:
                    byDescriptor[handle.fileno()] = client
                    # A hang-up and an error are told unasked.
                    poll.register(handle, select.POLLRDHUP)
        for fd, _ in poll.poll(0):
            byDescriptor[fd].abort(ConnectionLost("the client has hung up"))
