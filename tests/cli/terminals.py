"""Programs at a terminal of their own, and somebody who types and reads there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Any

from tests.interop.support import WITH_US

#: Seconds after which a program hangs.
PATIENCE = 60.0


def _atTerminal(isControlling: bool) -> None:
    """What a shell with job control does for a program. Tests that were started in the background, or with
    nohup, would hand down that signals are ignored.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if isControlling:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Typist:
    """Somebody at a terminal with one program.

    @ivar output: all it has shown so far.
    """

    def __init__(
        self, *command: str, environment: dict[str, str], rows: int = 24, columns: int = 100, **streams: Any
    ) -> None:
        """@param streams: C{stdin}, C{stdout} or C{stderr} that are not the terminal."""
        self._master, self._slave = pty.openpty()
        self.resize(rows, columns)
        self.before = self.mode()
        terminal = dict.fromkeys(("stdin", "stdout", "stderr"), self._slave)
        self._process = subprocess.Popen(
            [*WITH_US, *command],
            env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: _atTerminal("stdin" not in streams),
            **(terminal | streams),
        )
        self.output = ""
        self._seen = 0

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._process.pid

    def mode(self) -> list[Any]:
        """The terminal's settings."""
        return termios.tcgetattr(self._slave)

    def resize(self, rows: int, columns: int) -> None:
        """Make the window another size, which the program is told (SIGWINCH)."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        columns, rows = os.get_terminal_size(self._slave)
        return rows, columns

    @property
    def raw(self) -> bool:
        """Whether every key goes to the program at once."""
        lflag: int = self.mode()[3]
        return not lflag & (termios.ICANON | termios.ECHO)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def expect(self, text: str) -> str:
        """Wait until it has shown something, behind what was waited for before.

        @return: what it showed before that.
        @raise RuntimeError: it did not, or has ended.
        """
        deadline = time.monotonic() + PATIENCE
        while (at := self.output.find(text, self._seen)) < 0:
            # Asked before reading: what it showed at its end is still read.
            ended = self._process.poll() is not None
            if not self._read(min(deadline, time.monotonic() + 0.05)) and (
                ended or time.monotonic() >= deadline
            ):
                raise RuntimeError(f"it did not show {text!r}; it showed:\n{self.output!r}")
        before = self.output[self._seen : at]
        self._seen = at + len(text)
        return before

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def read(self) -> None:
        """Read what it shows within a moment."""
        self._read(time.monotonic() + 0.02, patient=True)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so, and read meanwhile.

        @raise RuntimeError: it does not come to that.
        """
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"it never comes to that; it showed:\n{self.output!r}")
            self.read()

    def finish(self) -> int:
        """Wait for its end; return the exit status."""
        deadline = time.monotonic() + PATIENCE
        # Our own end of the terminal stays open, to look at it: its silence is told by the program's end.
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"it did not end; it showed:\n{self.output!r}")
            self._read(min(deadline, time.monotonic() + 0.05), patient=True)
        while self._read(time.monotonic()):
            pass
        return self._process.returncode

    @property
    def rest(self) -> str:
        """What it showed behind the last thing waited for."""
        return self.output[self._seen :]

    def _read(self, deadline: float, patient: bool = False) -> bool:
        readable, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            return patient
        data = os.read(self._master, 65536)
        self.output += data.decode(errors="replace")
        return bool(data)

    def close(self) -> None:
        """End it, whatever it does."""
        if self._master >= 0:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            os.close(self._master)
            os.close(self._slave)
            self._master = -1
