"""
C{top}: a table of what domains use, again and again.

On a terminal it has the screen for itself, and keys; elsewhere table follows table. C{--once} and C{--json}
look twice, C{--delay} apart, and print once.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from virnet.cli.output import shown, tableLines
from virnet.cli.session import Session
from virnet.cli.sizes import bytesText
from virnet.cli.terminal import HIDE_CURSOR, OTHER_SCREEN, Terminal
from virnet.cli.usage import Look, look, usage
from virnet.client.transfer import TransferError
from virnet.client.transfer.sources import PipeSource
from virnet.client.transfer.targets import PipeTarget

HEADINGS = ("Id", "Name", "State", "CPU %", "CPUs", "Memory", "Read/s", "Write/s", "Rx/s", "Tx/s")

ORDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "cpu": lambda row: (-(row["cpu"] or 0.0), row["name"]),
    "memory": lambda row: (-(row["memory"] or 0), row["name"]),
    "name": lambda row: row["name"],
}
KEYS = {b"c": "cpu", b"n": "name", b"m": "memory"}


class Watch:
    """Looks, and remembers the look before.

    @ivar order: by what the rows are ordered.
    @ivar rows: what is to be shown.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._before: dict[bytes, Look] = {}
        self._then = 0.0
        self.order: str = session.options.sort
        self.rows: list[dict[str, Any]] = []

    async def look(self) -> None:
        """Look once more."""
        found = await look(self._session.connection, self._session.options.all)
        now = time.monotonic()
        self.rows = [usage(each, self._before.get(each.domain.uuid), now - self._then) for each in found]
        self._before = {each.domain.uuid: each for each in found}
        self._then = now

    @property
    def ordered(self) -> list[dict[str, Any]]:
        """The rows in order."""
        return sorted(self.rows, key=ORDERS[self.order])

    def lines(self, style: bool) -> list[str]:
        """The table."""
        rows = [
            (
                "-" if row["id"] is None else row["id"],
                row["name"],
                row["state"],
                "-" if row["cpu"] is None else f"{row['cpu']:.1f}",
                "-" if row["cpus"] is None else row["cpus"],
                "-" if row["memory"] is None else bytesText(row["memory"] * 1024),
                *(
                    "-" if row[name] is None else bytesText(row[name])
                    for name in ("diskRead", "diskWrite", "netReceive", "netSend")
                ),
            )
            for row in self.ordered
        ]
        return tableLines(HEADINGS, rows, range(3, len(HEADINGS)), style)


async def top(session: Session) -> None:
    """C{top}"""
    options, output = session.options, session.output
    watch = Watch(session)
    await watch.look()
    if options.once or output.asJSON:
        if options.delay:
            await deferLater(session.reactor, options.delay)
            await watch.look()
        if output.asJSON:
            output.data(watch.ordered)
        else:
            output.document("\n".join(watch.lines(output.style)))
    elif sys.stdout.isatty() and sys.stdin.isatty():
        await _live(session, watch)
    else:
        while True:
            output.document("\n".join([*watch.lines(False), ""]))
            await deferLater(session.reactor, options.delay)
            await watch.look()


async def _live(session: Session, watch: Watch) -> None:
    keys = PipeSource(session.reactor, os.dup(sys.stdin.fileno()), "standard input", False)
    screen = PipeTarget(session.reactor, sys.stdout.fileno())
    pressed: Deferred[bytes] | None = None
    lost: list[Exception] = []

    def wake(key: bytes) -> None:
        nonlocal pressed
        waiting, pressed = pressed, None
        if waiting is not None:
            waiting.callback(key)

    async def listen() -> None:
        while True:
            try:
                typed = await keys.read()
            except TransferError:
                typed = b""
            assert isinstance(typed, bytes)
            for key in typed or b"q":
                wake(bytes([key]))
            if not typed:
                return

    def closed(reason: Exception) -> None:
        lost.append(reason)
        wake(b"")

    session.connection.whenClosed().addCallback(closed)
    listening: Deferred[None] | None = None
    try:
        with Terminal(sys.stdin.fileno(), sys.stdout.fileno(), raw=False) as terminal:
            terminal.otherScreen = True
            await screen.write(OTHER_SCREEN + HIDE_CURSOR)
            listening = Deferred.fromCoroutine(listen())
            while True:
                await screen.write(_picture(session, watch))
                pressed = Deferred()
                timer = session.reactor.callLater(session.options.delay, wake, b" ")
                key = await pressed
                if timer.active():
                    timer.cancel()
                if lost:
                    raise lost[0]
                if key == b"q":
                    return
                if key in KEYS:
                    watch.order = KEYS[key]
                elif key == b" ":
                    await watch.look()
    finally:
        if listening is not None:
            listening.addErrback(lambda failure: failure.trap(CancelledError))
            listening.cancel()
        keys.close()


def _picture(session: Session, watch: Watch) -> bytes:
    """Everything, from the upper left corner on, and nothing behind it."""
    columns, height = shutil.get_terminal_size()
    running = sum(row["state"] == "running" for row in watch.rows)
    domains = "1 domain" if len(watch.rows) == 1 else f"{len(watch.rows)} domains"
    counted = f"{domains}, {running} running"
    title = f"{session.connection.uri.text}  {time.strftime('%H:%M:%S')}  {counted}"
    keys = "q quit  c n m sort by CPU, name, memory  space refresh"
    # Cut without colours: an escape sequence has no width.
    plain = [line[:columns] for line in watch.lines(False)]
    lines = [shown(title)[:columns], "", *plain[: max(0, height - 4)]]
    lines += [""] * (height - 1 - len(lines)) + [keys[:columns]]
    if session.output.style:
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
        lines[-1] = f"\x1b[2m{lines[-1]}\x1b[0m"
    return ("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[K\x1b[J").encode(errors="surrogateescape")
