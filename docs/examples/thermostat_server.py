"""
Serves a house's thermostat on a UNIX socket: C{python thermostat_server.py SOCKET}.
"""

from __future__ import annotations

import sys
from typing import Any

from thermostat import THERMOSTAT, IThermostat, IThermostatEvents
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.programs.base import partialImplementer
from virnet.server import IServerClient, NetServer, ServerProgram, ServerService


class House:
    """The state, and who is told when it changes: one for all connections."""

    def __init__(self) -> None:
        self.targets = {"kitchen": 19.0, "study": 21.0}
        self.panels: set[IThermostatEvents] = set()


@partialImplementer(IThermostat)
class Panel:
    """One connection's view of the house."""

    def __init__(self, house: House, client: IServerClient) -> None:
        self.house = house
        events = client.events(THERMOSTAT)
        house.panels.add(events)
        client.onDisconnect(lambda: house.panels.remove(events))

    def target(self, room: str) -> float:
        if room not in self.house.targets:
            raise RemoteError.of(ErrorNumber.INVALID_ARG, f"there is no room {room!r}")
        return self.house.targets[room]

    async def setTarget(self, room: str, celsius: float) -> None:
        # A method may return its result, a Deferred, or be a coroutine that awaits other services.
        self.target(room)
        self.house.targets[room] = celsius
        for panel in self.house.panels:
            panel.targetChanged(room, celsius)


async def main(reactor: Any, path: str) -> None:
    house = House()
    server = NetServer(reactor, [ServerProgram(THERMOSTAT, lambda client: Panel(house, client))])
    service = ServerService(server, f"unix:{path}:mode=600")
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    await service.whenListening()
    print(f"serving on {path}", flush=True)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    react(main, sys.argv[1:])
