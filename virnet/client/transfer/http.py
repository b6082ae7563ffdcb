"""
Data from a URL, by treq.

  - Redirects are followed to a limit, never from C{https} to C{http}; headers and passwords of the caller's
    stay with the origin (scheme, host and port) that they were meant for.
  - A response that is cut or stalls goes on with a Range request, if that is safe: the server has given a
    strong validator (RFC 9110 section 8.8: a strong ETag, or a Last-Modified older than its Date), which goes
    along as C{If-Range}; or a checksum is expected, which finds out. What comes must begin where the other
    ended, and say the same length and validator.
  - A response without any length that ends with its connection may have been cut: it is refused unless its
    length or checksum are expected.
  - Data is taken as the server has it: no content encoding.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from treq.client import HTTPClient
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IResponse
from zope.interface import implementer

from virnet.client.transfer.body import Body, Cut, reasonOf
from virnet.client.transfer.errors import TransferError
from virnet.client.transfer.options import HTTPOptions
from virnet.client.transfer.sources import Source, withHoles
from virnet.transport.files import Hole

_ENCODED = b"x-virnet-encoded"
"""Where a content encoding is kept from those who would decode it."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RANGE = re.compile(rb"bytes (\d+)-(\d+)/(\d+|\*)")
_DELAY_MOST = 30.0


@implementer(IAgent)
class _Plain:
    """An agent that wants data as it is: treq itself would accept gzip, whose lengths and ranges are
    others.
    """

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Any:
        headers = Headers() if headers is None else headers.copy()
        headers.setRawHeaders(b"accept-encoding", [b"identity"])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(self._answered)

    def _answered(self, response: IResponse) -> IResponse:
        encodings = response.headers.getRawHeaders(b"content-encoding")
        if encodings:
            response.headers.setRawHeaders(_ENCODED, encodings)
            response.headers.removeHeader(b"content-encoding")
        return response


class _Remembered(NamedTuple):
    """What tells that a later response is about the same data."""

    etag: bytes | None
    modified: bytes | None
    validator: bytes | None


class HTTPSource(Source):
    """What a URL has."""

    def __init__(self, reactor: Any, url: str, sparse: bool, options: HTTPOptions, expected: bool) -> None:
        """@param sparse: find holes.
        @param expected: its length or checksum is checked anyway.

        @raise TransferError: it is no URL for us.
        """
        parts = urlsplit(url)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            raise TransferError(f"{_shown(url)}: only http and https can be fetched")
        self.name = _shown(url)
        self._auth = None
        if parts.username is not None:
            self._auth = (unquote(parts.username), unquote(parts.password or ""))
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        self._reactor = reactor
        self._sparse = sparse
        self._options = options
        self._expected = expected
        agent = options.agent
        if agent is None:
            agent = Agent(reactor, connectTimeout=options.stall, pool=HTTPConnectionPool(reactor, False))
        self._client = HTTPClient(_Plain(agent))
        self._body: Body | None = None
        self._known: _Remembered | None = None
        self._position = 0
        self._tried = 0

    async def open(self) -> None:
        try:
            response = await self._get({})
        except Cut as e:
            raise TransferError(f"{self.name}: {e}") from e
        if response.code != 200:
            self._refuse(response)
        self.size = None if response.length is UNKNOWN_LENGTH else response.length
        self._known = _remembered(response.headers)
        self._deliver(response)

    async def read(self) -> bytes | Hole:
        while True:
            try:
                data = await self._next()
            except Cut as e:
                await self._resume(e)
                continue
            self._tried = 0
            self._position += len(data)
            if self.size is not None and self._position > self.size:
                raise TransferError(f"{self.name} gives more than the {self.size} bytes that it announced")
            return withHoles(data) if self._sparse else data

    async def _next(self) -> bytes:
        assert self._body is not None
        data = await self._body.read()
        if not data:
            if self.size is not None and self._position < self.size:
                raise Cut(f"it ended after {self._position} of {self.size} bytes")
            if self._body.unsure and not self._expected:
                raise TransferError(
                    f"{self.name} does not say how long it is: whether all of it came could only be told "
                    "by an expected size or checksum"
                )
        return data

    async def _resume(self, cut: Cut) -> None:
        """Ask for the rest.

        @raise TransferError: it cannot be had.
        @raise Cut: it was cut again, before it began.
        """
        self.close()
        if not self._position:
            raise TransferError(f"{self.name}: {cut}") from cut
        where = f"{self.name} was cut after {self._position} bytes ({cut})"
        known = self._known
        assert known is not None
        if known.validator is None and not self._expected:
            raise TransferError(
                f"{where}, and has nothing to tell that the rest would belong to it: no ETag, "
                "no Last-Modified, no expected checksum"
            ) from cut
        while True:
            if self._tried >= self._options.retries:
                raise TransferError(f"{where}, and going on failed {self._tried} times") from cut
            self._tried += 1
            if self._tried > 1:
                delay = self._options.delay * 2 ** (self._tried - 2)
                await deferLater(self._reactor, min(delay, _DELAY_MOST))
            headers = {"Range": f"bytes={self._position}-"}
            if known.validator is not None:
                headers["If-Range"] = known.validator.decode("latin-1")
            try:
                response = await self._get(headers)
            except Cut as e:
                cut = e
                continue
            if response.code >= 500:
                cut = Cut(f"the server answers {response.code}")
                self._discard(response)
                continue
            break
        try:
            self._checkRest(response, where, known)
        except TransferError:
            self._discard(response)
            raise
        self.resumed += 1
        self._deliver(response)

    def _checkRest(self, response: Any, where: str, known: _Remembered) -> None:
        if response.code == 200:
            raise TransferError(
                f"{where}, and the server begins anew: it has changed, or cannot send a part of it"
            )
        if response.code == 416:
            raise TransferError(f"{where}, and the server has no more of it: it has changed")
        if response.code != 206:
            raise TransferError(f"{where}, and the server answers {_answer(response)}")
        found = _RANGE.fullmatch(_header(response.headers, b"content-range") or b"")
        if found is None or int(found[1]) != self._position:
            raise TransferError(f"{where}, and the server sends another part than was asked for")
        total = None if found[3] == b"*" else int(found[3])
        if self.size is not None and total not in (None, self.size):
            raise TransferError(f"{where}, and has {total} bytes now, not {self.size}")
        if self.size is None:
            self.size = total
        now = _remembered(response.headers)
        changed = (known.etag and now.etag and known.etag != now.etag) or (
            known.modified and now.modified and known.modified != now.modified
        )
        if changed:
            raise TransferError(f"{where}, and has changed meanwhile")

    async def _get(self, headers: dict[str, str]) -> Any:
        """Request it, through redirects.

        @raise Cut: no answer.
        """
        url, auth, own = self._url, self._auth, dict(self._options.headers)
        for _ in range(self._options.redirects + 1):
            response = await self._request(url, auth, {**own, **headers})
            location = _header(response.headers, b"location")
            if response.code not in REDIRECTS or location is None:
                return response
            self._discard(response)
            following = urljoin(url, location.decode("utf-8", "replace"))
            old, new = urlsplit(url), urlsplit(following)
            if new.scheme not in ("http", "https") or not new.hostname:
                raise TransferError(f"{self.name} leads to {_shown(following)}, which cannot be fetched")
            if old.scheme == "https" and new.scheme == "http":
                raise TransferError(f"{self.name} leads from https to http, where anybody may change it")
            if _origin(old) != _origin(new):
                auth, own = None, {}
            url = urlunsplit(new._replace(netloc=new.netloc.rpartition("@")[2], fragment=""))
        raise TransferError(f"{self.name} leads on and on: more than {self._options.redirects} redirects")

    async def _request(self, url: str, auth: tuple[str, str] | None, headers: dict[str, str]) -> Any:
        sent = Headers({name: [value] for name, value in headers.items()})
        if not sent.hasHeader("User-Agent"):
            sent.setRawHeaders("User-Agent", ["virnet"])
        try:
            asked = self._client.get(
                url, headers=sent, auth=auth, allow_redirects=False, unbuffered=True, reactor=self._reactor
            )
            asked.addTimeout(self._options.stall, self._reactor, self._silent)
            return await asked
        except (Cut, TransferError):
            raise
        except Exception as e:
            raise Cut(reasonOf(Failure(e))) from e

    def _silent(self, result: object, seconds: float) -> Any:
        raise Cut(f"no answer within {seconds:g} s")

    def _refuse(self, response: Any) -> None:
        self._discard(response)
        raise TransferError(f"{self.name}: the server answers {_answer(response)}")

    def _deliver(self, response: IResponse) -> None:
        encoding = b",".join(response.headers.getRawHeaders(_ENCODED) or [b"identity"])
        if encoding.lower() != b"identity":
            self._discard(response)
            raise TransferError(f"{self.name} comes as {encoding.decode('latin-1')}, which was not asked for")
        self._body = Body(self._reactor, self._options.stall)
        response.deliverBody(self._body)

    def _discard(self, response: IResponse) -> None:
        body = Body(self._reactor, 0)
        response.deliverBody(body)
        body.stop()

    def close(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.stop()


def _header(headers: Headers, name: bytes) -> bytes | None:
    values = headers.getRawHeaders(name)
    return values[0] if values else None


def _remembered(headers: Headers) -> _Remembered:
    etag, modified, date = (_header(headers, name) for name in (b"etag", b"last-modified", b"date"))
    if etag is not None and not etag.startswith(b"W/"):
        return _Remembered(etag, modified, etag)
    return _Remembered(etag, modified, modified if _isStrong(modified, date) else None)


def _isStrong(modified: bytes | None, date: bytes | None) -> bool:
    """Whether a time of modification tells two states apart: RFC 9110 section 8.8.2.2."""
    if modified is None or date is None:
        return False
    try:
        then, now = (parsedate_to_datetime(each.decode("latin-1")) for each in (modified, date))
        return (now - then).total_seconds() >= 1
    except (TypeError, ValueError):
        return False


def _answer(response: Any) -> str:
    phrase = response.phrase.decode("latin-1") if isinstance(response.phrase, bytes) else response.phrase
    return f"{response.code} {phrase}".strip()


def _origin(parts: Any) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _shown(url: str) -> str:
    """A URL without what may be a secret in it: password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
