"""Use programs of a server: L{connect} opens a libvirt URI, L{NetClient} works over any endpoint."""

from virnet.client.client import NetClient, NetClientFactory
from virnet.client.connection import Connection, connect
from virnet.client.events import Subscription
from virnet.client.service import ConnectionService, Gap

__all__ = [
    "Connection",
    "ConnectionService",
    "Gap",
    "NetClient",
    "NetClientFactory",
    "Subscription",
    "connect",
]
