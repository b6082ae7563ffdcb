"""
The user's terminal, taken over for a while and given back as it was.

  - What was changed is put back on every way out: C{with}, and at the end of the process, whatever ends it
    short of SIGKILL. Keys that were pressed for what is gone do not reach the shell.
  - What a guest may have left switched on is switched off: colours, an invisible cursor, the other screen,
    mouse reports, a scroll region.
  - Nothing of it is needed where there is no terminal.
"""

from __future__ import annotations

import atexit
import os
import signal
import termios
from types import TracebackType
from typing import Any

SANE = b"\x1b[0m\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b7\x1b[r\x1b8"
"""Colours off, cursor on, no mouse reports, no bracketed paste, ordinary keys, the whole screen scrolls
(xterm).
"""

OTHER_SCREEN = b"\x1b[?1049h"
FIRST_SCREEN = b"\x1b[?1049l"
HIDE_CURSOR = b"\x1b[?25l"


class Terminal:
    """A terminal in another mode than it was.

    @ivar otherScreen: somebody has switched to the other screen.
    """

    def __init__(self, keys: int, screen: int | None, raw: bool) -> None:
        """@param keys: the descriptor keys are read from.
        @param screen: the descriptor of its screen; C{None}: it is not to be touched.
        @param raw: every key goes through, Ctrl-C included; else each at once, but signals stay.
        """
        self._keys = keys
        self._screen = screen
        self._raw = raw
        self._saved: list[Any] | None = None
        self._handler: Any = None
        self.otherScreen = False

    def __enter__(self) -> Terminal:
        self._saved = termios.tcgetattr(self._keys)
        atexit.register(self.restore)
        self._apply()
        # Whoever stops us and lets us go on has had the terminal in between.
        self._handler = signal.signal(signal.SIGCONT, lambda number, frame: self._apply())
        return self

    def _apply(self) -> None:
        if self._saved is None:
            return
        mode: list[Any] = [each.copy() if isinstance(each, list) else each for each in self._saved]
        iflag, oflag, cflag, lflag = range(4)
        mode[lflag] &= ~(termios.ICANON | termios.ECHO)
        if self._raw:
            mode[iflag] &= ~(
                termios.BRKINT | termios.ICRNL | termios.INLCR | termios.INPCK | termios.ISTRIP | termios.IXON
            )
            mode[oflag] &= ~termios.OPOST
            mode[lflag] &= ~(termios.IEXTEN | termios.ISIG)
        mode[6][termios.VMIN] = 1
        mode[6][termios.VTIME] = 0
        termios.tcsetattr(self._keys, termios.TCSANOW, mode)

    def restore(self) -> None:
        """Give it back; without effect the second time."""
        saved, self._saved = self._saved, None
        if saved is None:
            return
        atexit.unregister(self.restore)
        signal.signal(signal.SIGCONT, self._handler or signal.SIG_DFL)
        try:
            if self._screen is not None:
                os.write(self._screen, SANE + (FIRST_SCREEN if self.otherScreen else b""))
            termios.tcsetattr(self._keys, termios.TCSANOW, saved)
            termios.tcflush(self._keys, termios.TCIFLUSH)
        except (OSError, termios.error):
            # It is gone: a window that was closed.
            pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()
