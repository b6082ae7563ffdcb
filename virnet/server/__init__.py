"""Serve programs: L{NetServer} holds services that listen, programs that are served and clients."""

from virnet.server.client import IServerClient, ServerClient
from virnet.server.program import ServerProgram
from virnet.server.server import NetServer
from virnet.server.service import ServerService

__all__ = ["IServerClient", "NetServer", "ServerClient", "ServerProgram", "ServerService"]
