"""
What a thermostat can be asked and what it tells, for Python and for the wire.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Interface

from virnet.programs.base import Program
from virnet.xdr.schema import DOUBLE, String


class IThermostat(Interface):
    """What clients can call."""

    def target(room: str) -> Deferred[float]:
        """What a room is to be heated to, in °C."""

    def setTarget(room: str, celsius: float) -> Deferred[None]:
        """Heat a room to so many °C."""


class IThermostatEvents(Interface):
    """What clients are told."""

    def targetChanged(room: str, celsius: float) -> None:
        """Somebody set another target."""


ROOM = String(64)

THERMOSTAT: Program[IThermostat, IThermostatEvents] = Program(
    0x20F00D01,
    1,
    IThermostat,
    IThermostatEvents,
    name="THERMOSTAT",
    procedures=[
        # number, method, arguments, result
        (1, "target", (("room", ROOM),), DOUBLE),
        (2, "setTarget", (("room", ROOM), ("celsius", DOUBLE))),
        (3, "targetChanged", (("room", ROOM), ("celsius", DOUBLE))),
    ],
)
