"""
How a transfer is shown while it goes on.

  - On a terminal a bar: what has passed, the rate, the time left, and how much of it was holes. With rich
    where that is installed; else a line of our own, which needs no more than carriage return.
  - Elsewhere a line every few seconds, and nothing at all for a transfer that is quicker than that.
  - Everything goes to standard error: standard output may be the data itself.
"""

from __future__ import annotations

import shutil
import sys
from typing import Any, TextIO

from virnet.cli.sizes import bytesText, secondsText
from virnet.client.transfer import Progress

_TURN = 0.1
"""Seconds between two pictures on a terminal."""

_LINES = 5.0
"""Seconds between two lines elsewhere."""


class Silent:
    """Shows nothing; what the others have in common."""

    def __init__(self, name: str, stream: TextIO) -> None:
        """@param name: of what is transferred."""
        self.name = name
        self.stream = stream
        self._next = self.every

    every = float("inf")
    """Seconds between two pictures."""

    def __call__(self, progress: Progress) -> None:
        """Take notice of a piece."""
        if progress.seconds >= self._next:
            self._next = progress.seconds + self.every
            self.show(progress)

    def show(self, progress: Progress) -> None:
        """Make a picture."""

    def close(self) -> None:
        """The transfer is over, well or not."""


def words(progress: Progress) -> str:
    """A moment in words."""
    parts = [bytesText(progress.done)]
    if progress.total:
        parts[0] += f" of {bytesText(progress.total)} ({100 * progress.done // progress.total} %)"
    if progress.holes:
        parts.append(f"{bytesText(progress.holes)} holes")
    parts.append(f"{bytesText(progress.rate)}/s")
    if progress.remaining is not None:
        parts.append(f"{secondsText(progress.remaining)} left")
    return ", ".join(parts)


class Lines(Silent):
    """For logs and pipes."""

    every = _LINES

    def show(self, progress: Progress) -> None:
        print(f"{self.name}: {words(progress)}", file=self.stream, flush=True)


class Line(Silent):
    """For a terminal without rich: one line that changes."""

    every = _TURN
    _width = 0

    def show(self, progress: Progress) -> None:
        columns = shutil.get_terminal_size().columns - 1
        text = words(progress)
        if progress.total:
            room = columns - len(self.name) - len(text) - 6
            done = room * progress.done // progress.total
            if room >= 10:
                text = f"[{'#' * done}{'.' * (room - done)}] {text}"
        text = f"{self.name}: {text}"[:columns]
        self.stream.write(f"\r{text:{self._width}}")
        self.stream.flush()
        self._width = len(text)

    def close(self) -> None:
        if self._width:
            self.stream.write(f"\r{'':{self._width}}\r")
            self.stream.flush()


class Bar(Silent):
    """For a terminal, by rich. What it shows is ours; rich draws it."""

    every = _TURN

    def __init__(self, name: str, stream: TextIO) -> None:
        super().__init__(name, stream)
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        plain: dict[str, Any] = {"markup": False}
        self._bars = Bars(
            TextColumn("{task.description}", **plain),
            BarColumn(None),
            TextColumn("{task.fields[words]}", **plain),
            console=Console(file=stream),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self._bars.start()
        self._task = self._bars.add_task(name, total=None, words="")

    def show(self, progress: Progress) -> None:
        self._bars.update(
            self._task, total=progress.total, completed=progress.done, words=words(progress), refresh=True
        )

    def close(self) -> None:
        self._bars.stop()


def barFor(name: str, quiet: bool, stream: TextIO | None = None) -> Silent:
    """Choose what shows a transfer."""
    stream = sys.stderr if stream is None else stream
    if quiet:
        return Silent(name, stream)
    if not stream.isatty():
        return Lines(name, stream)
    try:
        return Bar(name, stream)
    except ImportError:
        return Line(name, stream)
