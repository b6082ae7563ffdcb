"""
A client that does not read for a while in the middle of a gibibyte, in processes of their own: what it costs
both, that nothing is lost, and that the connection lasts.
"""

from __future__ import annotations

import os
import sys
import zlib
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.interop.support import ROOT, VirnetDaemon
from virnet.client import Connection, connect
from virnet.programs.values import StoragePool

MIB = 1 << 20
GIB = 1 << 30
#: The volume begins a new number so often; between them are zeros.
STEP = 1 << 16
#: Bytes that either side may need more: its buffer of two mebibytes, and what is under way.
FEW = 8 * MIB
POOL = StoragePool("default-pool", bytes.fromhex("dfe224cb28fb8dd0c4b264eb3f0f4566"))
VOLUME_XML = f"<volume><name>big</name><capacity>{GIB}</capacity><allocation>0</allocation></volume>"
#: Longer than both sides' keepalive waits for a peer that is dead, here.
STOP = 4.0


def resident(pid: int, field: str = "VmRSS") -> int:
    """
    Bytes of memory that a process has.

    @param field: C{VmHWM} for the most it had since L{forget}.
    """
    with open(f"/proc/{pid}/status") as file:
        (line,) = [each for each in file if each.startswith(field)]
    return int(line.split()[1]) * 1024


def forget(pid: int) -> None:
    """
    Forget what a process had at the most.
    """
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


async def read(reactor: Any, uri: str) -> None:
    """
    Download the volume, and do not read in the middle; print what came and what memory it took.
    """
    async with await connect(reactor, uri, keepalive=(1, 1)) as connection:
        vol = await connection.remote.storageVolLookupByName(POOL, "big")
        called: Deferred[Any] | None = None
        forget(os.getpid())
        before = resident(os.getpid())
        stream = await connection.remote.storageVolDownload(vol, 0, 0, 0)
        total = checksum = 0
        async for piece in stream:
            assert isinstance(piece, bytes)
            total += len(piece)
            checksum = zlib.crc32(piece, checksum)
            if called is None and total > GIB // 2:
                while not connection.client.readingHeld:
                    await deferLater(reactor, 0)
                called = connection.remote.connectGetLibVersion()
                await deferLater(reactor, STOP)
                assert connection.client.readingHeld and not called.called, "it has read on"
        await stream.finish()
        assert called is not None and await called
        print(total, checksum, resident(os.getpid(), "VmHWM") - before)


class SlowReader(TestCase):
    """
    R082, at its real size.
    """

    timeout = 120

    def setUp(self) -> None:
        self.daemon = VirnetDaemon(None, "--keepalive-interval", "1", "--keepalive-count", "1")
        self.daemon.start()
        self.addCleanup(self.daemon.stop)

    async def fill(self, connection: Connection) -> int:
        """
        Upload numbers and holes.

        @return: the checksum of it all.
        """
        checksum, hole = 0, bytes(STEP - 8)
        vol = await connection.remote.storageVolCreateXML(POOL, VOLUME_XML, 0)
        stream = await connection.remote.storageVolUpload(vol, 0, 0, 1)
        for number in range(GIB // STEP):
            data = number.to_bytes(8, "big")
            await stream.send(data)
            await stream.sendHole(len(hole))
            checksum = zlib.crc32(hole, zlib.crc32(data, checksum))
        await stream.finish()
        return checksum

    async def test_R082_a_gibibyte_with_a_stop_in_the_middle(self) -> None:
        """
        Memory of neither process grows by more than a few mebibytes, and neither gives the other up.
        """
        async with await connect(reactor, self.daemon.uri) as connection:
            checksum = await self.fill(connection)
        forget(self.daemon.pid)
        before = resident(self.daemon.pid)
        output, errors, status = await getProcessOutputAndValue(
            sys.executable,
            ["-m", "tests.interop.test_slow_reader", self.daemon.uri],
            {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
        self.assertEqual((status, errors), (0, b""))
        total, found, needed = map(int, output.split())
        self.assertEqual((total, found), (GIB, checksum))
        self.assertTrue(needed < FEW, needed)
        needed = resident(self.daemon.pid, "VmHWM") - before
        self.assertTrue(needed < FEW, needed)


if __name__ == "__main__":
    react(read, sys.argv[1:])
