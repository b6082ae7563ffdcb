"""An HTTP server that misbehaves as it is told, Twisted's own code behind it, in memory or on a socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from virnet.testing import joined

Behaviour = Callable[["Origin", Any], Any]


class Origin(Resource):
    """Serves one file; behaviours are for one request each, in order, and the last for all further ones.

    @ivar ranges: the C{Range} header of every request that came.
    @ivar seen: all headers of every request.
    @ivar written: bytes of bodies that were written.
    """

    isLeaf = True

    def __init__(self, data: bytes, *behaviours: Behaviour) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.data = data
        self.headers: dict[str, str] = {"ETag": '"one"'}
        self.behaviours = list(behaviours)
        self.ranges: list[str | None] = []
        self.seen: list[dict[str, str]] = []
        self.written = 0

    def render_GET(self, request: Any) -> Any:
        """Answer."""
        self.ranges.append(request.getHeader("range"))
        self.seen.append(
            {
                name.decode().lower(): values[0].decode()
                for name, values in request.requestHeaders.getAllRawHeaders()
            }
        )
        behaviour = self.behaviours.pop(0) if self.behaviours else serve
        return behaviour(self, request)

    def begin(self, request: Any) -> bytes:
        """Send the headers of what was asked for; return the body."""
        for name, value in self.headers.items():
            request.setHeader(name, value)
        asked = request.getHeader("range")
        condition = request.getHeader("if-range")
        validators = (None, self.headers.get("ETag"), self.headers.get("Last-Modified"))
        data = self.data
        if asked is not None and condition in validators:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                request.setResponseCode(416)
                return b""
            request.setResponseCode(206)
            request.setHeader("content-range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            data = data[start:]
        request.setHeader("content-length", str(len(data)))
        return data

    def write(self, request: Any, data: bytes) -> None:
        """Send a part of a body."""
        self.written += len(data)
        request.write(data)


def serve(origin: Origin, request: Any) -> Any:
    """Do everything right."""
    origin.write(request, origin.begin(request))
    request.finish()
    return NOT_DONE_YET


def cutAfter(count: int) -> Behaviour:
    """Close the connection after so many bytes."""

    def behave(origin: Origin, request: Any) -> Any:
        data = origin.begin(request)
        origin.write(request, data[:count])
        request.channel.loseConnection()
        return NOT_DONE_YET

    return behave


def stallAfter(count: int) -> Behaviour:
    """Send nothing more after so many bytes."""

    def behave(origin: Origin, request: Any) -> Any:
        origin.write(request, origin.begin(request)[:count])
        return NOT_DONE_YET

    return behave


def silent(origin: Origin, request: Any) -> Any:
    """Do not answer."""
    return NOT_DONE_YET


def changes(data: bytes, behaviour: Behaviour, **headers: str) -> Behaviour:
    """Have other data from this request on."""

    def behave(origin: Origin, request: Any) -> Any:
        origin.data = data
        origin.headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        return behaviour(origin, request)

    return behave


def ignoresRange(origin: Origin, request: Any) -> Any:
    """Send all of it whatever is asked for."""
    request.requestHeaders.removeHeader("range")
    return serve(origin, request)


def says(length: int | None = None, range: str | None = None, encoding: str | None = None) -> Behaviour:
    """Send other headers than are right."""

    def behave(origin: Origin, request: Any) -> Any:
        data = origin.begin(request)
        if length is not None:
            request.setHeader("content-length", str(length))
        if range is not None:
            request.setHeader("content-range", range)
        if encoding is not None:
            request.setHeader("content-encoding", encoding)
        origin.write(request, data)
        request.channel.loseConnection()
        return NOT_DONE_YET

    return behave


def withoutLength(origin: Origin, request: Any) -> Any:
    """Send it in chunks, which have an end but no length before it."""
    data = origin.begin(request)
    request.responseHeaders.removeHeader("content-length")
    for start in range(0, len(data), 50000):
        origin.write(request, data[start : start + 50000])
    request.finish()
    return NOT_DONE_YET


def untilClosed(origin: Origin, request: Any) -> Any:
    """Send it without saying how long it is or when it is over, as HTTP/1.0 does."""
    request.clientproto = b"HTTP/1.0"
    data = origin.begin(request)
    request.responseHeaders.removeHeader("content-length")
    origin.write(request, data)
    request.finish()
    return NOT_DONE_YET


def answers(code: int) -> Behaviour:
    """Refuse."""

    def behave(origin: Origin, request: Any) -> bytes:
        request.setResponseCode(code)
        return b"sorry"

    return behave


def leadsTo(url: str, code: int = 302) -> Behaviour:
    """Redirect."""

    def behave(origin: Origin, request: Any) -> bytes:
        request.setResponseCode(code)
        request.setHeader("location", url)
        return b"there"

    return behave


@implementer(IPushProducer)
class _Patient:
    """Writes a body only while it may."""

    def __init__(self, origin: Origin, request: Any, data: bytes, clock: Any) -> None:
        self.origin, self.request, self.clock = origin, request, clock
        self.data = memoryview(data)
        self.paused = False
        self.scheduled = False

    def resumeProducing(self) -> None:
        self.paused = False
        if not self.scheduled:
            self.scheduled = True
            self.clock.callLater(0, self.step)

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.paused = True

    def step(self) -> None:
        self.scheduled = False
        if self.paused:
            return
        piece, self.data = self.data[:65536], self.data[65536:]
        if piece:
            self.origin.write(self.request, bytes(piece))
            if not self.paused:
                self.resumeProducing()
        else:
            self.request.unregisterProducer()
            self.request.finish()


def patient(clock: Any) -> Behaviour:
    """Send no faster than the client takes it."""

    def behave(origin: Origin, request: Any) -> Any:
        producer = _Patient(origin, request, origin.begin(request), clock)
        request.notifyFinish().addErrback(lambda _: producer.stopProducing())
        request.registerProducer(producer, True)
        producer.resumeProducing()
        return NOT_DONE_YET

    return behave


class _Site(Site):
    """Never started, so it has no log, whose clock would tick."""

    def log(self, request: Any) -> None:
        """Nowhere."""


@implementer(IAgentEndpointFactory)
class Hosts:
    """The servers there are, by host and port, in memory.

    @ivar down: how many connections are refused.
    @ivar open: the servers' ends of all connections made.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.sites: dict[str, Site] = {}
        self.down = 0
        self.open: list[Any] = []

    def add(self, netloc: str, origin: Origin) -> None:
        """Have a server."""
        self.sites[netloc] = _Site(origin, reactor=self.clock)

    def endpointForURI(self, uri: Any) -> Any:
        """For the agent."""
        return _Endpoint(self, urlsplit(uri.toBytes().decode()).netloc)

    def agent(self) -> Agent:
        """What sends requests to them."""
        agent: Agent = Agent.usingEndpointFactory(self.clock, self, HTTPConnectionPool(self.clock, False))
        return agent


class _Endpoint:
    def __init__(self, hosts: Hosts, netloc: str) -> None:
        self.hosts, self.netloc = hosts, netloc

    def connect(self, factory: Any) -> Deferred[Any]:
        site = self.hosts.sites.get(self.netloc)
        if site is None or self.hosts.down:
            self.hosts.down = max(0, self.hosts.down - 1)
            return fail(ConnectionRefusedError())
        client = factory.buildProtocol(None)
        server = site.buildProtocol(None)
        _, transport = joined(self.hosts.clock, client, server)
        self.hosts.open.append(transport)
        return succeed(client)
