"""
Streams and keepalive between our ends and real peers: our client on a libvirtd with a pool of storage, virsh
on our server, and both with a peer that is stopped in the middle.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.support import LibvirtDaemon, VirnetDaemon, Virsh, requireTool
from virnet.client import Connection, connect
from virnet.client.stream import Hole
from virnet.errors import ConnectionLost, KeepAliveTimeout, RemoteError
from virnet.limits import STREAM_CHUNK
from virnet.programs.values import StorageVol

SPARSE = 1
MIB = 1 << 20


def virsh(uri: str, *arguments: str) -> str:
    """
    Run virsh to its end.

    @return: what it printed.
    @raise RuntimeError: it failed.
    """
    status, output, errors = Virsh(uri, *arguments).finish()
    if status:
        raise RuntimeError(errors)
    return output


def space(path: str | Path) -> int:
    """
    Bytes that a file takes on the disk.
    """
    return os.stat(path).st_blocks * 512


class _Storage(TestCase):
    """
    Tests with a daemon that all of a class share, and a pool of it called C{p}.
    """

    timeout = 100
    daemon: ClassVar[LibvirtDaemon | VirnetDaemon | None] = None
    uri: ClassVar[str] = ""
    pool: ClassVar[str] = "p"

    def run_(self, body: Callable[[Connection], Coroutine[Any, Any, None]], **options: Any) -> Deferred[None]:
        """
        Run something with a connection of our client.
        """

        async def session() -> None:
            async with await connect(reactor, self.uri, **options) as connection:
                await body(connection)

        return Deferred.fromCoroutine(session())

    def temporary(self, size: int = 0) -> str:
        """
        A file of random bytes.
        """
        handle, name = tempfile.mkstemp(dir="/var/tmp")
        self.addCleanup(os.unlink, name)
        os.write(handle, os.urandom(size))
        os.close(handle)
        return name

    def sparse(self, size: int) -> tuple[str, bytes]:
        """
        A file of holes with 64 mebibytes of data in eight places, and what is in each.
        """
        name, data = self.temporary(), os.urandom(8 * MIB)
        with open(name, "r+b") as file:
            for n in range(8):
                os.pwrite(file.fileno(), data, (n << 30) + 12 * MIB)
            file.truncate(size)
        return name, data

    def assertSparse(self, path: str | Path, size: int, data: bytes) -> None:
        """
        It is what L{sparse} has made, in no more blocks.
        """
        self.assertEqual(os.stat(path).st_size, size)
        self.assertTrue(64 * MIB <= space(path) <= 65 * MIB, space(path))
        with open(path, "rb") as file:
            for n in range(8):
                self.assertTrue(os.pread(file.fileno(), len(data), (n << 30) + 12 * MIB) == data)
            self.assertEqual(os.pread(file.fileno(), 1, 12 * MIB - 1), b"\0")

    async def bothWays(self, connection: Connection, source: str, vol: StorageVol) -> tuple[str, float]:
        """
        Upload a file and download it again, with holes.

        @return: what was downloaded, and the seconds it took.
        """
        copy, size = self.temporary(), os.stat(source).st_size
        start = time.monotonic()
        with open(source, "rb") as file:
            stream = await connection.remote.storageVolUpload(vol, 0, size, SPARSE)
            self.assertEqual(await stream.sendFrom(file), size)
        with open(copy, "wb") as file:
            stream = await connection.remote.storageVolDownload(vol, 0, 0, SPARSE)
            self.assertEqual(await stream.receiveInto(file), size)
        return copy, time.monotonic() - start

    def assertAboutAsFast(self, taken: float, dense: float) -> None:
        """
        Ten gibibytes took no longer than 64 mebibytes without holes do, as far as a busy machine can tell.
        """
        self.assertTrue(taken < 5 * dense + 2, (taken, dense))

    def volume(self, capacity: int) -> tuple[StorageVol, Path]:
        """
        A new volume that takes no space, and its file.
        """
        name = f"v{time.monotonic_ns()}"
        virsh(self.uri, "vol-create-as", self.pool, name, str(capacity), "--allocation", "0")
        self.addCleanup(virsh, self.uri, "vol-delete", name, "--pool", self.pool)
        path = virsh(self.uri, "vol-path", name, "--pool", self.pool).strip()
        return StorageVol(self.pool, name, path), Path(path)


class OurClient(_Storage):
    """
    Our client on libvirtd's volumes.
    """

    def setUp(self) -> None:
        requireTool(self, "libvirtd", "virsh")
        if os.geteuid() != 0:
            raise SkipTest("libvirt's storage driver wants root")
        if OurClient.daemon is None:
            daemon = OurClient.daemon = LibvirtDaemon()
            daemon.start()
            OurClient.uri = f"storage+unix:///system?socket={daemon.socketPath}"
            directory = daemon.directory / "pool"
            directory.mkdir()
            virsh(self.uri, "pool-create-as", "p", "dir", "--target", str(directory))

    def test_upload_and_download(self) -> Deferred[None]:
        """
        What was uploaded is in the volume's file when C{sendFrom} returns, and comes back.
        """
        size = 5 * MIB + 12345
        source, copy = self.temporary(size), self.temporary()
        vol, path = self.volume(size)

        async def body(connection: Connection) -> None:
            told: list[int] = []
            with open(source, "rb") as file:
                stream = await connection.remote.storageVolUpload(vol, 0, 0)
                self.assertEqual(await stream.sendFrom(file, told.append), size)
            self.assertEqual(told[-1], size)
            self.assertTrue(path.read_bytes() == Path(source).read_bytes())
            with open(copy, "wb") as file:
                stream = await connection.remote.storageVolDownload(vol, 0, 0)
                self.assertEqual(await stream.receiveInto(file), size)
            self.assertTrue(Path(copy).read_bytes() == Path(source).read_bytes())

        return self.run_(body)

    def test_chunks(self) -> Deferred[None]:
        """
        libvirtd takes packets of other sizes than virsh sends.
        """
        vol, path = self.volume(10 * MIB)
        data = os.urandom(3 * MIB)

        async def body(connection: Connection) -> None:
            for chunk in (1000, STREAM_CHUNK + 1, 2 * MIB):
                stream = await connection.remote.storageVolUpload(vol, 0, 0)
                stream.chunk = chunk
                await stream.sendFrom([data])
                self.assertTrue(path.read_bytes()[: len(data)] == data)

        return self.run_(body)

    def test_ten_gibibytes_with_64_mebibytes_of_data(self) -> Deferred[None]:
        """
        Sparse both ways: it takes about the time of the data and stays sparse on the disk.
        """
        size = 10 << 30
        source, data = self.sparse(size)
        vol, path = self.volume(size)
        plain = self.temporary(64 * MIB)
        other, _ = self.volume(64 * MIB)

        async def body(connection: Connection) -> None:
            _, dense = await self.bothWays(connection, plain, other)
            copy, taken = await self.bothWays(connection, source, vol)
            self.assertSparse(path, size, data)
            self.assertSparse(copy, size, data)
            self.assertAboutAsFast(taken, dense)

        return self.run_(body)

    def test_holes_one_by_one(self) -> Deferred[None]:
        """
        R084: sixty holes and blocks in turn; downloaded they are the same.
        """
        vol, path = self.volume(60 * 128 * 1024)
        items: list[bytes | Hole] = []
        for n in range(60):
            items += [Hole(65536), bytes([n + 1]) * 65536]

        async def body(connection: Connection) -> None:
            stream = await connection.remote.storageVolUpload(vol, 0, 0, SPARSE)
            await stream.sendFrom(items)
            self.assertTrue(space(path) <= 61 * 65536, space(path))
            stream = await connection.remote.storageVolDownload(vol, 0, 0, SPARSE)
            received = [item async for item in stream]
            await stream.finish()
            self.assertEqual([item for item in received if isinstance(item, Hole)], [Hole(65536)] * 60)
            data = b"".join(item for item in received if not isinstance(item, Hole))
            self.assertTrue(data == b"".join(item for item in items if not isinstance(item, Hole)))

        return self.run_(body)

    def test_R079_upload_beyond_the_length(self) -> Deferred[None]:
        """
        libvirtd's error, with C{errno} 28; the connection goes on.
        """
        vol, _ = self.volume(MIB)

        async def body(connection: Connection) -> None:
            stream = await connection.remote.storageVolUpload(vol, 0, 1000)
            with self.assertRaises(RemoteError) as raised:
                await stream.sendFrom(bytes(STREAM_CHUNK) for _ in range(1000))
            error = raised.exception
            self.assertEqual(
                (error.code, error.domain, error.message, error.int1),
                (38, 38, "cannot write to stream: No space left on device", 28),
            )
            self.assertTrue(await connection.remote.connectGetLibVersion())

        return self.run_(body)

    def test_R080_abort_and_early_finish(self) -> Deferred[None]:
        """
        Given up in the middle, both ways, again and again on one connection.
        """
        vol, path = self.volume(32 * MIB)
        with path.open("r+b") as file:
            file.write(os.urandom(32 * MIB))

        async def body(connection: Connection) -> None:
            remote = connection.remote
            for _ in range(10):
                stream = await remote.storageVolDownload(vol, 0, 0)
                await stream.receive()
                await stream.abort()
                stream = await remote.storageVolDownload(vol, 0, 0)
                await stream.receive()
                await stream.finish()
                stream = await remote.storageVolUpload(vol, 0, 0)
                await stream.send(bytes(STREAM_CHUNK))
                await stream.abort()
                self.assertTrue(await remote.connectGetLibVersion())

        return self.run_(body)

    def test_R082_a_reader_that_stops_loses_nothing(self) -> Deferred[None]:
        """
        A download that nobody reads for a while stalls the connection, in little memory, and then goes on.
        """
        vol, path = self.volume(64 * MIB)
        data = os.urandom(64 * MIB)
        path.write_bytes(data)

        async def body(connection: Connection) -> None:
            stream = await connection.remote.storageVolDownload(vol, 0, 0)
            received = [await stream.receive()]
            while not connection.client.readingHeld:
                await turn()
            called = connection.remote.connectGetLibVersion()
            for _ in range(100):
                await turn()
            self.assertFalse(called.called)
            self.assertTrue(stream._size < 4 * MIB, stream._size)
            received += [item async for item in stream]
            await stream.finish()
            self.assertTrue(b"".join(received) == data)
            self.assertTrue(await called)

        return self.run_(body)

    def test_R085_streams_and_calls_side_by_side(self) -> Deferred[None]:
        """
        R029: an upload, a download and calls on one connection, whose server takes five requests at a time.
        """
        up, upPath = self.volume(16 * MIB)
        down, downPath = self.volume(16 * MIB)
        data = os.urandom(16 * MIB)
        downPath.write_bytes(data)
        copy = self.temporary()

        async def body(connection: Connection) -> None:
            remote = connection.remote
            upload = await remote.storageVolUpload(up, 0, 0)
            download = await remote.storageVolDownload(down, 0, 0)
            with open(copy, "wb") as file:
                sending = Deferred.fromCoroutine(
                    upload.sendFrom(data[n : n + 100_000] for n in range(0, len(data), 100_000))
                )
                receiving = Deferred.fromCoroutine(download.receiveInto(file))
                for _ in range(50):
                    self.assertTrue(await remote.connectGetLibVersion())
                self.assertEqual((await sending, await receiving), (len(data), len(data)))
            self.assertTrue(upPath.read_bytes() == data)
            self.assertTrue(Path(copy).read_bytes() == data)

        return self.run_(body)

    def test_a_libvirtd_that_stops_is_given_up_in_its_time(self) -> Deferred[None]:
        """
        R101: interval times count and one.
        """
        daemon = LibvirtDaemon()
        daemon.start()
        self.addCleanup(daemon.stop)

        async def body() -> None:
            connection = await connect(reactor, daemon.uri, keepalive=(0.5, 2))
            os.kill(daemon.pid, signal.SIGSTOP)
            start = time.monotonic()
            try:
                with self.assertRaises(KeepAliveTimeout):
                    await connection.remote.connectGetLibVersion()
                # One and a half; without the one more interval it would be one.
                self.assertTrue(1.25 <= time.monotonic() - start <= 3.0, time.monotonic() - start)
                self.assertIsInstance(await connection.whenClosed(), ConnectionLost)
            finally:
                os.kill(daemon.pid, signal.SIGCONT)

        return Deferred.fromCoroutine(body())


def turn() -> Deferred[None]:
    """
    Wait for the reactor's next turn.
    """
    deferred: Deferred[None] = Deferred()
    reactor.callLater(0, deferred.callback, None)
    return deferred


class OurServer(_Storage):
    """
    Real virsh on our server's volumes.
    """

    pool = "default-pool"

    def setUp(self) -> None:
        requireTool(self, "virsh")
        if OurServer.daemon is None:
            daemon = OurServer.daemon = VirnetDaemon()
            daemon.start()
            OurServer.uri = daemon.uri

    def test_upload_and_download(self) -> None:
        """
        It comes back as it was.
        """
        size = 5 * MIB + 12345
        source, copy = self.temporary(size), self.temporary()
        vol, _ = self.volume(size)
        virsh(self.uri, "vol-upload", vol.name, source, "--pool", self.pool)
        virsh(self.uri, "vol-download", vol.name, copy, "--pool", self.pool)
        self.assertTrue(Path(copy).read_bytes() == Path(source).read_bytes())

    def test_R084_sparse_both_ways(self) -> None:
        """
        Ten gibibytes with 64 mebibytes of data take about the time of the data and stay sparse.
        """
        size = 10 << 30
        source, data = self.sparse(size)
        taken = {}
        for file, capacity in ((self.temporary(64 * MIB), 64 * MIB), (source, size)):
            vol, _ = self.volume(capacity)
            copy = self.temporary()
            start = time.monotonic()
            virsh(self.uri, "vol-upload", vol.name, file, "--pool", self.pool, "--sparse")
            virsh(self.uri, "vol-download", vol.name, copy, "--pool", self.pool, "--sparse")
            taken[file] = time.monotonic() - start
        self.assertSparse(copy, size, data)
        self.assertAllocated(vol)
        dense, sparse = taken.values()
        self.assertAboutAsFast(sparse, dense)

    def assertAllocated(self, vol: StorageVol) -> None:
        """
        The daemon's file takes the space of the data.
        """
        document = virsh(self.uri, "vol-dumpxml", vol.name, "--pool", self.pool)
        allocation = int(document.partition("<allocation unit='bytes'>")[2].partition("<")[0])
        self.assertTrue(64 * MIB <= allocation <= 65 * MIB, allocation)

    def test_R084_our_client_sparse_both_ways(self) -> Deferred[None]:
        """
        The same by our client.
        """
        size = 10 << 30
        source, data = self.sparse(size)
        vol, _ = self.volume(size)
        plain = self.temporary(64 * MIB)
        other, _ = self.volume(64 * MIB)

        async def body(connection: Connection) -> None:
            _, dense = await self.bothWays(connection, plain, other)
            copy, taken = await self.bothWays(connection, source, vol)
            self.assertSparse(copy, size, data)
            self.assertAllocated(vol)
            self.assertAboutAsFast(taken, dense)

        return self.run_(body)

    def test_R079_upload_beyond_the_length(self) -> None:
        """
        virsh says what it says of libvirtd.
        """
        source = self.temporary(3 * MIB)
        vol, _ = self.volume(4 * MIB)
        command = ["vol-upload", vol.name, source, "--pool", self.pool, "--length", str(MIB)]
        status, _, errors = Virsh(self.uri, *command).finish()
        self.assertEqual(status, 1)
        self.assertIn("No space left on device", errors)

    def pinging(self) -> VirnetDaemon:
        """
        A daemon that asks each second whether its clients live.
        """
        daemon = VirnetDaemon(None, "--keepalive-interval", "1", "--keepalive-count", "1")
        daemon.start()
        self.addCleanup(daemon.stop)
        return daemon

    def test_R097_virsh_survives_our_pings(self) -> None:
        """
        With and without pings of its own.
        """
        daemon = self.pinging()
        for interval in ("0", "1"):
            command = ["event", "--event", "lifecycle", "--domain", "test", "--timeout", "4"]
            status, output, errors = Virsh(daemon.uri, "-k", interval, "-K", "1", *command).finish()
            # That nothing happened in time is a failure to virsh.
            self.assertEqual((status, errors), (1, ""))
            self.assertIn("event loop timed out", output)

    def test_R101_virsh_detects_our_death_in_its_own_time(self) -> None:
        """
        Interval 1, count 2: three seconds after our last sign of life.
        """
        daemon = self.pinging()
        shell = Virsh(daemon.uri, "-q", "-k", "1", "-K", "2")
        self.assertIn("test", shell.ask("domname test"))
        os.kill(daemon.pid, signal.SIGSTOP)
        start = time.monotonic()
        try:
            _, _, errors = shell.finish(typed="domname test\n")
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        self.assertIn("due to keepalive timeout", errors)
        self.assertTrue(2 <= time.monotonic() - start <= 8)
