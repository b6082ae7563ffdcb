"""Use programs of a server: L{connect} opens a libvirt URI, L{ConnectionService} keeps such a connection,
L{NetClient} works over any endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from virnet.client.client import NetClient, NetClientFactory
from virnet.client.connection import Connection, connect
from virnet.client.events import Subscription

if TYPE_CHECKING:
    from virnet.client.service import ConnectionService as ConnectionService
else:

    def __getattr__(name: str) -> Any:
        # Not everybody needs it, and Automat takes a while to load.
        if name == "ConnectionService":
            from virnet.client.service import ConnectionService

            return ConnectionService
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Connection", "NetClient", "NetClientFactory", "Subscription", "connect"]
