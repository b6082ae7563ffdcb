"""
Turns the study down, and hears of it: C{python thermostat_client.py SOCKET}.
"""

from __future__ import annotations

import sys
from typing import Any

from thermostat import THERMOSTAT
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import react

from virnet.client import NetClient
from virnet.errors import RemoteError


def changed(room: str, celsius: float) -> None:
    print(f"event: the {room} is to have {celsius} °C")


async def main(reactor: Any, path: str) -> None:
    client = await NetClient.overEndpoint(UNIXClientEndpoint(reactor, path))
    client.subscribe(THERMOSTAT.eventsByName["targetChanged"], changed)
    thermostat = client.program(THERMOSTAT)
    print("the study is to have", await thermostat.target("study"), "°C")
    await thermostat.setTarget("study", 17.5)
    print("and now", await thermostat.target("study"), "°C")
    try:
        await thermostat.target("attic")
    except RemoteError as error:
        print(error)
    await client.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
