"""How to fetch, apart from what fetches: that takes a while to load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from virnet.limits import HTTP_REDIRECTS, HTTP_RETRIES, HTTP_STALL


class HTTPOptions(NamedTuple):
    """How to fetch.

    @ivar agent: sends the requests; C{None} for Twisted's own, which checks certificates as browsers do.
    @ivar headers: to send along, to the first origin only.
    @ivar redirects: how many are followed.
    @ivar stall: seconds of silence that are a cut.
    @ivar retries: how often in a row it is tried to go on without getting a byte.
    @ivar delay: seconds before the second of these; then twice as many each time.
    """

    agent: Any = None
    headers: Mapping[str, str] = {}
    redirects: int = HTTP_REDIRECTS
    stall: float = HTTP_STALL
    retries: int = HTTP_RETRIES
    delay: float = 1.0
