"""PLAIN (RFC 4616): name and password as they are; only where something else protects the connection.

The server asks C{twisted.cred} checkers for C{IUsernamePassword}, one after the other. An authorization
identity must be empty or the name itself: nobody acts for somebody else here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import LoginFailed
from twisted.internet.defer import maybeDeferred

from virnet.security.sasl import SASLError, SASLSession, decodeText

MECHANISM = "PLAIN"


class PlainServerSession(SASLSession):
    """The server's end."""

    def __init__(self, checkers: Sequence[ICredentialsChecker]) -> None:
        """@param checkers: they take C{IUsernamePassword}."""
        super().__init__(MECHANISM)
        self._checkers = checkers
        self._asked = False

    async def step(self, data: bytes | None) -> bytes | None:
        if data is None and not self._asked:
            self._asked = True
            return b""
        fields = (data or b"").split(b"\0")
        if len(fields) != 3:
            raise SASLError(f"PLAIN has 3 fields, not {len(fields)}")
        authorization, name, password = fields
        user = decodeText(name, "the name")
        decodeText(password, "the password")
        if not name or not password:
            raise SASLError("no name, or no password")
        if authorization not in (b"", name):
            raise SASLError(f"{user!r} wants to act for somebody else")
        for checker in self._checkers:
            try:
                avatar: Any = await maybeDeferred(checker.requestAvatarId, UsernamePassword(name, password))
            except LoginFailed:
                continue
            if avatar != ANONYMOUS:
                self.user = (
                    decodeText(avatar, "the user's name") if isinstance(avatar, bytes) else str(avatar)
                )
                self.complete = True
                return None
        raise SASLError(f"no such user, or wrong password: {user!r}")


class PlainClientSession(SASLSession):
    """The client's end."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__(MECHANISM)
        self._response = b"\0".join((b"", user.encode(), password.encode()))
        if self._response.count(b"\0") != 2:
            raise SASLError("a name or password must not have a zero character in it")

    def step(self, data: bytes | None) -> bytes | None:
        if self.complete:
            raise SASLError("the server asks for more than PLAIN has")
        self.complete = True
        return self._response
