"""
Volumes sent and received: our client as a worker, C{python -m tests.bench.transfers URI POOL FILE}, and
virsh, kept running, as another. One call is the whole volume of C{MEBIBYTES}, through a file on the disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.bench.reactorworker import Calls, run
from tests.bench.rounds import Absent, Sample
from virnet.client import connect as openURI
from virnet.programs.values import StorageVol

MEBIBYTES = 32
VOLUME = "bench"
TRANSFERS = ("upload", "download")


def makeVolume(uri: str, pool: str, source: Path, directory: Path | None) -> None:
    """
    Make the volume and the file that is sent.

    @param directory: where the pool is to be made; C{None}: it is there.
    @raise Absent: if the server has no storage.
    """
    commands = [["vol-create-as", pool, VOLUME, f"{MEBIBYTES}M", "--allocation", "0"]]
    if directory is not None:
        directory.mkdir()
        commands.insert(0, ["pool-create-as", pool, "dir", "--target", str(directory)])
    for command in commands:
        done = subprocess.run(["virsh", "-c", uri, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Absent(f"no storage: {done.stderr.strip()}")
    source.write_bytes(os.urandom(MEBIBYTES << 20))


class VirshWorker:
    """
    A virsh that goes on running: neither its start nor its opening of the connection is measured.
    """

    def __init__(self, uri: str, pool: str, source: Path) -> None:
        self._commands = {
            "upload": f"vol-upload {VOLUME} {source} --pool {pool}",
            "download": f"vol-download {VOLUME} {source}.virsh --pool {pool}",
        }
        self._process = subprocess.Popen(
            ["virsh", "-q", "-c", uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self.pid = self._process.pid

    def read(self) -> None:
        """
        Wait until it has done everything.

        @raise RuntimeError: it says that something went wrong.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        # Its echo ends no line; this does.
        self._process.stdin.write("pwd\n")
        for line in self._process.stdout:
            if "error:" in line:
                raise RuntimeError(line)
            if line.strip() == os.getcwd():
                return
        raise RuntimeError("virsh ended")

    def measure(self, call: str, depth: int, seconds: float, watched: tuple[int, ...]) -> Sample:
        """
        One after the other, whatever the depth is.

        @param watched: the process ids whose processor time is to be counted.
        """
        from tests.bench.processes import cpuSeconds

        assert self._process.stdin is not None
        before = sum(map(cpuSeconds, watched))
        start = time.perf_counter()
        count = 0
        while count == 0 or time.perf_counter() - start < seconds:
            self._process.stdin.write(self._commands[call] + "\n")
            self.read()
            count += 1
        elapsed = time.perf_counter() - start
        return Sample(rate=count / elapsed, cpu=(sum(map(cpuSeconds, watched)) - before) / count)

    def stop(self) -> None:
        """
        End it and wait until it is gone.
        """
        self._process.communicate("quit\n")


async def connect(reactor: Any, uri: str, pool: str, source: str) -> Calls:
    """
    The transfers as a user of virnet makes them.
    """
    remote = (await openURI(reactor, uri)).remote
    vol = StorageVol(pool, VOLUME, "")

    async def upload() -> None:
        with open(source, "rb") as file:
            stream = await remote.storageVolUpload(vol, 0, 0)
            assert await stream.sendFrom(file) == MEBIBYTES << 20

    async def download() -> None:
        with open(source + ".virnet", "wb") as file:
            stream = await remote.storageVolDownload(vol, 0, 0)
            assert await stream.receiveInto(file) == MEBIBYTES << 20

    return {
        "upload": lambda: Deferred.fromCoroutine(upload()),
        "download": lambda: Deferred.fromCoroutine(download()),
    }


if __name__ == "__main__":
    run(lambda reactor: connect(reactor, *sys.argv[1:]))
