"""
The bench runs: every case once, for a moment, so that it cannot rot. How fast anything is, is not judged.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.bench.codecs import shapes
from tests.interop.support import ROOT

TIMEOUT_SECONDS = 110


def _endGroup(leader: subprocess.Popen[str]) -> bool:
    """
    End a process and all that it started.

    @return: whether there was any but the leader itself.
    """
    ended = leader.poll() is not None
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    leader.wait()
    return ended


def _run(module: str, *arguments: str) -> str:
    """
    Run a bench; it must succeed and leave no process behind.

    @return: what it printed.
    """
    bench = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A process group of its own: what it leaves behind is still in it.
        start_new_session=True,
    )
    try:
        output, errors = bench.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        left = _endGroup(bench)
    assert bench.returncode == 0, errors
    assert not left, "processes left behind"
    return output


class BenchTests(SynchronousTestCase):
    """
    C{python -m tests.bench --quick}.
    """

    def test_everyCaseRunsAndNothingIsLeftBehind(self) -> None:
        """
        Every case has a row for each of its peers; what is not installed is named, and missing nothing in CI.
        """
        result = json.loads(_run("tests.bench", "--quick", "--json"))
        for row in result["rows"]:
            self.assertGreater(row["ourRate"], 0, row)
            self.assertGreater(row["peerRate"], 0, row)
            self.assertEqual(len(row["ratios"]), 1, row)
        self.assertEqual({"AMP", "PB", "xdrlib3"} - {row["peer"] for row in result["rows"]}, set())
        if os.environ.get("CI") == "true":
            self.assertEqual(result["skipped"], {})
        elif result["skipped"]:
            self.skipTest(f"the cases with peers that are here passed, but {result['skipped']}")


class TransportTests(SynchronousTestCase):
    """
    C{python -m tests.bench.transport --quick}.
    """

    def test_everyCaseRunsOnBothKindsOfSocket(self) -> None:
        """
        Both have a row for each case.
        """
        output = _run("tests.bench.transport", "--quick")
        for kind in ("UNIX", "TCP"):
            self.assertIn(f"-- {kind}\n", output)
        self.assertEqual(output.count(" twisted "), 10, output)


class ManyTests(SynchronousTestCase):
    """
    C{python -m tests.bench.many}
    """

    def test_itMeasuresEveryServerThereIs(self) -> None:
        """
        Each has its memory, its cost of a call and its crowd of clients.
        """
        output = _run("tests.bench.many", "--connections", "20", "--seconds", "0.2", "--calls", "20")
        for name in ["virnet", *(["libvirtd"] if shutil.which("libvirtd") else [])]:
            for words in ("memory of each of 1 idle", "cpu of a call beside 1 idle", "20 clients at once"):
                self.assertRegex(output, f"(?m)^{words} +{name} ")


class ShapeTests(SynchronousTestCase):
    """
    Both sides of a codec case do the same work.
    """

    def test_bothSidesEncodeTheSameBytes(self) -> None:
        """
        Our encoder and the peer's make the same bytes of the same value.
        """
        for shape in shapes():
            self.assertEqual(shape.encode(shape.value), shape.peerEncode(shape.peerValue), shape.name)

    def test_bothSidesDecodeWhatTheyEncoded(self) -> None:
        """
        What either side decodes, it encodes to the same bytes again.
        """
        for shape in shapes():
            data = shape.peerEncode(shape.peerValue)
            decoded = shape.decode(data)
            self.assertEqual(shape.encode(decoded), data, shape.name)
            self.assertEqual(shape.peerDecode(data), shape.peerValue, shape.name)
