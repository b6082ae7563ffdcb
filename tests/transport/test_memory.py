"""What the pieces of streams cost: page faults of a process of its own, whose memory is as it starts."""

from __future__ import annotations

import platform
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.support import ROOT

SCRIPT = """
import resource
from virnet.limits import STREAM_BUFFER, STREAM_CHUNK
from virnet.transport.memory import keepStreamMemory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        pieces = [bytes([n]) * (STREAM_CHUNK + n) for n in range(STREAM_BUFFER // STREAM_CHUNK)]
        b"".join(pieces)
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
keepStreamMemory()
faults()
print(faults())
"""
"""A buffer full of pieces, joined, and all of it given back: twenty times, not the first time."""

PAGES = 20 * 2 * 512
"""What they take, were every page touched anew."""


class StreamMemory(SynchronousTestCase):
    """L{keepStreamMemory<virnet.transport.memory.keepStreamMemory>}."""

    def faults(self, **environment: str) -> int:
        done = subprocess.run(
            [sys.executable, "-B", "-c", SCRIPT],
            env={"PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.stderr, "")
        return int(done.stdout)

    def test_pieces_that_come_again_find_their_pages(self) -> None:
        self.assertTrue((faults := self.faults()) < PAGES // 100, faults)

    def test_what_the_environment_says_stands(self) -> None:
        if platform.libc_ver()[0] == "glibc":
            faults = self.faults(MALLOC_TRIM_THRESHOLD_="131072")
            self.assertTrue(faults > PAGES // 4, faults)
