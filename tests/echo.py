"""A small program of the tests' own: what is about the RPC layer is shown with it, not with libvirt's."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Interface

from virnet.programs.base import Priority, Procedure, Program
from virnet.xdr import INT, Array, Opaque, Optional, String

TEXT = String(4194304)
NUMBERS = Array(INT, 16)


class IEcho(Interface):
    """Calls of every shape that matters to the layer below."""

    def ping() -> Deferred[None]:
        """Neither takes nor returns anything."""

    def echo(text: str) -> Deferred[str]:
        """Return what was given."""

    def add(first: int, second: int) -> Deferred[int]:
        """Return the sum."""

    def count(numbers: list[int]) -> Deferred[int]:
        """Return how many numbers were given; takes 16 at the most."""

    def find(name: str | None, flags: int) -> Deferred[str | None]:
        """Has an optional parameter, an optional result and flags."""

    def blob(data: bytes) -> Deferred[bytes]:
        """Return what was given; without limit but that of a message."""


class IEchoEvents(Interface):
    """What an echo server says unasked."""

    def said(text: str) -> None:
        """Somebody said something."""

    def ended(code: int, text: str) -> None:
        """It is over."""


ECHO: Program[IEcho, IEchoEvents] = Program(
    0x2ECA0001,
    1,
    IEcho,
    events=IEchoEvents,
    procedures=[
        (1, "ping"),
        (2, "echo", (("text", TEXT),), TEXT, Priority.HIGH),
        (3, "add", (("first", INT), ("second", INT)), INT),
        (4, "count", (("numbers", NUMBERS),), INT),
        (5, "find", (("name", Optional(TEXT)), ("flags", INT)), Optional(TEXT)),
        (6, "blob", (("data", Opaque(None)),), Opaque(None)),
        (100, "said", (("text", TEXT),)),
        (101, "ended", (("code", INT), ("text", TEXT))),
    ],
    name="ECHO",
)


class ITwin(Interface):
    """The interface of a second program."""

    def echo(text: str) -> Deferred[str]:
        """Return what was given."""


TWIN: Program[ITwin, Any] = Program(
    0x2ECA0002, 1, ITwin, procedures=[(2, "echo", (("text", TEXT),), TEXT)], name="TWIN"
)


class Echo:
    """Provides L{IEcho} with plain values, all but C{find}."""

    def ping(self) -> None:
        """Do nothing."""

    def echo(self, text: str) -> str:
        """Return it."""
        return text

    def add(self, first: int, second: int) -> int:
        """Add."""
        return first + second

    def count(self, numbers: list[int]) -> int:
        """Count."""
        return len(numbers)

    def blob(self, data: bytes) -> bytes:
        """Return it."""
        return data


class IFiles(Interface):
    """A program whose call brings descriptors."""

    def sizes(number: int, fds: list[int]) -> Deferred[int]:
        """Return the size of all files given, together."""


FILES: Program[IFiles, Any] = Program(
    0x2ECA0003,
    1,
    IFiles,
    procedures=[Procedure(1, "sizes", (("number", INT),), INT, fds="call")],
    name="FILES",
)


class Files:
    """Provides L{IFiles}."""

    def sizes(self, number: int, fds: list[int]) -> int:
        """Return the size."""
        assert number == len(fds)
        return sum(os.fstat(fd).st_size for fd in fds)
