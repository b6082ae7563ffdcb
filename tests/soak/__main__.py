"""Start the server, set the clients on it, kill some now and then, and look at what is left."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater, react

from tests.soak.program import SOAK
from virnet.client import NetClient

reactor: Any = installed

PROCESSES = 4
#: Memory of the server after a third of the time and at the end may differ by so much.
GROWTH = 24 << 20
#: Seconds within which everything of clients that are gone must be gone too.
SETTLING = 15


class Failed(Exception):
    """Something was left behind."""


async def status(path: str) -> dict[str, int]:
    """Ask the server what it holds."""
    client = await NetClient.overEndpoint(UNIXClientEndpoint(reactor, path))
    try:
        answer: dict[str, int] = json.loads(await client.program(SOAK).status())
        return answer
    finally:
        await client.close()


def start(module: str, *args: object) -> subprocess.Popen[str]:
    """Start a module of this package as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.soak.{module}", *map(str, args)],
        stdout=subprocess.PIPE if module == "server" else None,
        text=True,
    )


async def settled(path: str, wanted: dict[str, int]) -> dict[str, int]:
    """Wait until the server holds no more than wanted; raise L{Failed} when it does not come to that."""
    end = time.monotonic() + SETTLING
    while True:
        now = await status(path)
        left = {name: now[name] for name, most in wanted.items() if now[name] > most}
        if not left:
            return now
        if time.monotonic() > end:
            raise Failed(f"left behind: {left}, expected at most {wanted}")
        await deferLater(reactor, 0.5, lambda: None)


async def soak(seconds: float, clients: int, seed: int) -> None:
    """Do it all.

    @raise Failed: something was left behind.
    """
    pick = random.Random(seed)
    directory = tempfile.mkdtemp(prefix="virnet-soak-")
    path = os.path.join(directory, "sock")
    server = start("server", path)
    processes: list[subprocess.Popen[str]] = []
    try:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        before = await status(path)
        each = max(1, clients // PROCESSES)
        killed = 0
        end = time.monotonic() + seconds
        middle: dict[str, int] | None = None
        most = 0
        while (now := time.monotonic()) < end:
            processes = [process for process in processes if process.poll() is None]
            while len(processes) < PROCESSES:
                processes.append(start("clients", path, each, pick.randrange(1 << 30)))
            await deferLater(reactor, min(3, max(0.1, end - now)), lambda: None)
            held = await status(path)
            most = max(most, held["clients"])
            if middle is None and now > end - seconds * 2 / 3:
                middle = held
            if pick.random() < 0.3:
                processes[pick.randrange(len(processes))].kill()
                killed += 1
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
        none = {"clients": 0, "streams": 0, "in progress": 0, "clients in memory": 0, "streams in memory": 0}
        # Workers stay for the next job; they are bounded by the server's settings.
        after = await settled(path, {**none, "descriptors": before["descriptors"], "threads": 40})
        if middle is not None and after["resident"] > middle["resident"] + GROWTH:
            raise Failed(f"memory grew from {middle['resident'] >> 20} to {after['resident'] >> 20} MiB")
        virsh = shutil.which("virsh")
        if virsh is not None:
            uri = f"test+unix:///default?socket={path}"
            listed = subprocess.run([virsh, "-c", uri, "list"], capture_output=True, text=True, timeout=20)
            if listed.returncode or " test " not in listed.stdout:
                raise Failed(f"virsh does not work any more: {listed.stderr or listed.stdout}")
        elif os.environ.get("CI") == "true":
            raise Failed("virsh is not installed")
        if server.poll() is not None:
            raise Failed(f"the server ended with status {server.returncode}")
        print(
            f"soaked for {seconds:.0f} s: up to {most} clients at once, {killed} processes of them killed;"
            f" memory {(middle or after)['resident'] >> 20} -> {after['resident'] >> 20} MiB, nothing left"
        )
    finally:
        for process in [*processes, server]:
            if process.poll() is None:
                process.kill()
            process.wait()
        if server.stdout is not None:
            server.stdout.close()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long (default 300)")
    parser.add_argument("--clients", type=int, default=240, help="at the same time (default 240)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is random")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)

    async def run(_: object) -> None:
        try:
            await soak(options.seconds, options.clients, options.seed)
        except Failed as e:
            print(f"failed: {e}", file=sys.stderr)
            raise SystemExit(1) from None

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
