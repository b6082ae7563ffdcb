"""
Takes the screenshots in the guides: C{python docs/screenshots.py}, with tmux and virnet[cli] installed. With
a directory behind it they go there.

A server in a temporary directory, a terminal in tmux, keys typed there, and what then stands on the screen,
with its colours, as a picture (SVG) beside the page that shows it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

HOWTO = Path(__file__).resolve().parent / "howto"
CHECKOUT = HOWTO.parent.parent
COLUMNS = 86

# As rich's own, without the font that it would have readers fetch from elsewhere.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Tmux:
    """
    A terminal in a tmux server of its own.
    """

    def __init__(self, directory: str, rows: int, pictures: Path) -> None:
        self._pictures = pictures
        self._tmux = ("tmux", "-S", f"{directory}/tmux-{rows}", "-f", "/dev/null")
        environment = {
            "HOME": directory,
            "PATH": os.pathsep.join((f"{directory}/bin", os.environ["PATH"])),
            "LANG": "C.UTF-8",
            "LIBVIRT_DEFAULT_URI": os.environ["LIBVIRT_DEFAULT_URI"],
            "PYTHONPATH": str(CHECKOUT),
        }
        subprocess.run(
            [*self._tmux, "new-session", "-d", "-x", str(COLUMNS), "-y", str(rows), "sh"],
            env={**environment, "TERM": "xterm-256color"},
            check=True,
        )
        self.run("set-option", "-g", "status", "off")

    def run(self, *words: str) -> str:
        """Have tmux do something."""
        return subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True).stdout

    @property
    def screen(self) -> str:
        """What stands there."""
        return self.run("capture-pane", "-p")

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names or as text."""
        self.run("send-keys", *keys)

    def until(self, *texts: str) -> None:
        """Wait until all of these are on the screen."""
        waitFor(lambda: all(text in self.screen for text in texts), lambda: f"{texts}: {self.screen}")

    def close(self) -> None:
        """End it, and what runs in it."""
        self.run("kill-server")

    def save(self, name: str, title: str) -> None:
        """Keep what is on the screen."""
        screen = self.run("capture-pane", "-e", "-p").rstrip("\n")
        console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
        console.print(Text.from_ansi(screen))
        svg = console.export_svg(title=title, code_format=FORMAT, unique_id=f"screen-{name}")
        (self._pictures / f"{name}.svg").write_text(
            "".join(f"{line.rstrip()}\n" for line in svg.splitlines())
        )


def waitFor(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until something is so, 15 seconds at the most."""
    for _ in range(300):
        if condition():
            return
        time.sleep(0.05)
    sys.exit(f"it never comes to {what()}")


def take(directory: str, pictures: Path) -> None:
    """Take them all."""
    screen = Tmux(directory, 15, pictures)
    try:
        screen.type("PS1='$ '; clear", "Enter")
        screen.until("$\n")
        screen.type("virnet console test", "Enter")
        screen.until("echo guest")
        screen.type("hello, guest", "Enter")
        screen.until("hello, guest")
        screen.type("C-]")
        screen.until("\n$")
        screen.type("echo back in the shell", "Enter")
        screen.until("\nback in the shell")
        screen.save("console", "virnet console test")

        screen.type("clear; virnet top -d 0.5", "Enter")
        screen.until("q quit", "100.0")
        screen.save("top", "virnet top")
        screen.type("q")
        waitFor(lambda: "q quit" not in screen.screen, lambda: "the end of top")

        command = "vol-upload disk --pool default-pool --create 8M --size 2M fifo"
        screen.type(f"clear; virnet {command}", "Enter")
        with open(f"{directory}/fifo", "wb", buffering=0) as fifo:
            fifo.write(b"x" * 1000000)
            # A picture is only made when something has come.
            waitFor(lambda: bool(fifo.write(b"x")) and "47 %" in screen.screen, lambda: screen.screen)
            screen.save("vol-upload", f"virnet {command}")
    finally:
        screen.close()


def main() -> None:
    """Start a server, and look at it."""
    pictures = Path(*sys.argv[1:2]).resolve() if sys.argv[1:] else HOWTO
    with tempfile.TemporaryDirectory() as directory:
        os.mkfifo(f"{directory}/fifo")
        os.mkdir(f"{directory}/bin")
        virnet = Path(directory, "bin", "virnet")
        virnet.write_text(f'#!/bin/sh\nexec {sys.executable} -m virnet.cli "$@"\n')
        virnet.chmod(0o755)
        os.environ["LIBVIRT_DEFAULT_URI"] = f"test+unix:///default?socket={directory}/host.sock"
        os.chdir(directory)
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "twisted", "--log-format=text", "virnet"),
                *("--listen", f"unix:{directory}/host.sock"),
            ],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            waitFor(lambda: os.path.exists(f"{directory}/host.sock"), lambda: "a server")
            take(directory, pictures)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
