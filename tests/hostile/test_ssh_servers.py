"""What a host that ssh reaches can do to the client within this process (C{libssh2}, C{libssh})."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from virnet.transport.conch import _Transport, sessionOf
from virnet.transport.config import Caller, ClientConfig
from virnet.transport.uri import parseURI


class Compression(SynchronousTestCase):
    """A megabyte of compressed zeros is a gigabyte of memory."""

    def test_none_is_offered(self) -> None:
        session = sessionOf(
            parseURI("test+libssh2://host/default"), False, Caller({}, 1000, ClientConfig(""))
        )
        factory: Any = Factory()
        ours: Any = _Transport(MemoryReactorClock(), session, factory)
        connection = StringTransport()
        ours.makeConnection(connection)
        self.assertIn(b"none", connection.value())
        self.assertNotIn(b"zlib", connection.value())
