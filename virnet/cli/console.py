"""
C{console}: a guest's console or serial port at the user's terminal.

  - At a terminal every key goes to the guest but the escape key, which ends it, as the end of the stream
    does.
  - Where standard input is no terminal it is sent as it is, no key escapes; the command ends when the guest
    has been silent for a while behind its end.
  - Who is slower holds the other back: the guest waits for the screen, and the keys for the guest.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from virnet.cli.session import Session, lookup
from virnet.cli.terminal import OTHER_SCREEN, Terminal
from virnet.client.stream import ClientStream
from virnet.client.transfer import TransferError
from virnet.client.transfer.sources import Source, fileSource
from virnet.client.transfer.targets import PipeTarget
from virnet.errors import RemoteError
from virnet.programs.constants import DomainConsoleFlags

CLOSED = "the console was closed by the server"


def keyByte(text: str) -> bytes:
    """The byte of a key: C{^]} is Ctrl and C{]}."""
    return text.encode() if len(text) == 1 else bytes([ord(text[1].upper()) ^ 0x40])


async def console(session: Session) -> None:
    """C{console}"""
    options = session.options
    flags = DomainConsoleFlags.FORCE * options.force | DomainConsoleFlags.SAFE * options.safe
    domain = await lookup(session.connection, options.domain)
    opened: Any = await session.connection.remote.domainOpenConsole(domain, options.device, int(flags))
    keys = sys.stdin.fileno()
    source = fileSource(session.reactor, os.dup(keys), "standard input", False)
    talk = _Talk(session, opened, source, PipeTarget(session.reactor, sys.stdout.fileno()))
    try:
        await source.open()
        if os.isatty(keys):
            session.output.note(f"Connected to domain '{domain.name}', escape key is {options.escape}")
            screen = sys.stdout.fileno() if sys.stdout.isatty() else None
            with Terminal(keys, screen, raw=True) as terminal:
                talk.terminal = terminal
                why = await talk.run(keyByte(options.escape), None)
            session.output.note("")
            if why:
                session.output.note(why)
        else:
            await talk.run(None, options.idle)
    finally:
        source.close()


class _Talk:
    """A guest and a user, until one has enough."""

    terminal: Terminal | None = None

    def __init__(self, session: Session, stream: ClientStream, source: Source, screen: PipeTarget) -> None:
        self._reactor = session.reactor
        self._stream = stream
        self._source = source
        self._screen = screen
        self._ended: Deferred[str | None] = Deferred()
        self._idle: float | None = None
        self._timer: Any = None

    async def run(self, escape: bytes | None, idle: float | None) -> str | None:
        """Talk.

        @param escape: the key that ends it.
        @param idle: seconds of silence that end it, once nobody says anything more.
        @return: why it ended, if the user does not know.
        """
        self._idle = idle
        both = [Deferred.fromCoroutine(each) for each in (self._listen(), self._speak(escape))]
        for each in both:
            each.addErrback(self._failed)
        try:
            why = await self._ended
            try:
                await self._stream.finish()
            except RemoteError:
                # libvirtd ends the stream of a guest that is gone with an error: that is known already.
                if why != CLOSED:
                    raise
            return why
        except Exception:
            self._stream.abort().addErrback(lambda _: None)
            raise
        finally:
            self._stopTimer()
            for each in both:
                each.cancel()

    def _end(self, why: str | None = None) -> None:
        if not self._ended.called:
            self._ended.callback(why)

    def _failed(self, failure: Any) -> None:
        if not self._ended.called and not failure.check(CancelledError):
            self._ended.errback(failure)

    async def _listen(self) -> None:
        async for data in self._stream:
            assert isinstance(data, bytes)
            if self.terminal is not None and OTHER_SCREEN in data:
                self.terminal.otherScreen = True
            await self._screen.write(data)
            if self._timer is not None:
                self._timer.reset(self._idle)
        self._end(CLOSED)

    async def _speak(self, escape: bytes | None) -> None:
        while True:
            try:
                data = await self._source.read()
            except TransferError:
                # The window was closed.
                data = b""
            assert isinstance(data, bytes)
            typed, found, _ = data.partition(escape) if escape is not None else (data, b"", b"")
            if typed:
                await self._stream.send(typed)
            if found:
                self._end("")
                return
            if not data:
                break
        if self._idle is None:
            self._end()
        else:
            self._timer = self._reactor.callLater(self._idle, self._end)

    def _stopTimer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
