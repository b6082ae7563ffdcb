"""Sending the events of a program to one client, by methods of their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from virnet.programs.base import Program

if TYPE_CHECKING:
    from virnet.server.client import ServerClient


class EventSender:
    """Provides a program's event interface: a method sends the event of its name."""

    def __init__(self, client: ServerClient, program: Program[Any]) -> None:
        self._client = client
        self._procedures = program.eventsByName

    def __getattr__(self, name: str) -> Callable[..., None]:
        procedure = self._procedures.get(name)
        if procedure is None:
            raise AttributeError(f"the program has no event {name!r}")

        def send(*values: Any) -> None:
            self._client.sendEvent(procedure, values)

        setattr(self, name, send)
        return send
