"""Serve programs: L{NetServer} holds services that listen, programs that are served and clients."""

from virnet.server.authentication import IAuthenticator, IClientAuthentication
from virnet.server.client import ServerClient
from virnet.server.files import FileSink, FileSource
from virnet.server.interfaces import IServerClient
from virnet.server.program import ServerProgram
from virnet.server.server import NetServer
from virnet.server.service import ServerService
from virnet.server.stream import IStreamEnd, ProtocolEnd, ServerStream, StreamEnd

__all__ = [
    "FileSink",
    "FileSource",
    "IAuthenticator",
    "IClientAuthentication",
    "IServerClient",
    "IStreamEnd",
    "NetServer",
    "ProtocolEnd",
    "ServerClient",
    "ServerProgram",
    "ServerService",
    "ServerStream",
    "StreamEnd",
]
