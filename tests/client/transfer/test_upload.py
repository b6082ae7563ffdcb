"""Uploads from files and what is like one: what is sent in which order, and what a failure leaves."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.hypervisor.wired import WiredTestCase
from tests.openfiles import openAtRest, openDescriptors
from virnet.client.stream import Hole
from virnet.client.transfer import Progress, TransferError, Transferred, upload
from virnet.errors import ConnectionLost
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.limits import UPLOAD_HEAD

MIB = 1 << 20


class UploadCase(WiredTestCase):
    """
    A volume with something in it.
    """

    old = b"old!" * (MIB // 2)

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.serve(MemoryHypervisor(stateDirectory=str(self.directory / "state")))
        self.vol = self.volume(capacity=len(self.old))
        self.upload(self.vol, self.old)
        self.before = len(openAtRest())

    def began(self, source: Any, **options: Any) -> Deferred[Transferred]:
        running = Deferred.fromCoroutine(
            upload(self.server.reactor, self.remote, self.vol, source, **options)
        )
        self.turn()
        return running

    def uploaded(self, source: Any, **options: Any) -> Transferred:
        """Upload what has to succeed."""
        result = self.successResultOf(self.began(source, **options))
        self.assertEqual(self.before, len(openDescriptors()))
        return result

    def refusal(self, source: Any, **options: Any) -> str:
        """Upload what has to fail."""
        why = str(self.failureResultOf(self.began(source, **options), TransferError).value)
        self.assertEqual(self.before, len(openDescriptors()))
        return why

    def file(self, data: bytes) -> Path:
        path = self.directory / "source"
        path.write_bytes(data)
        return path

    def assertHolds(self, data: bytes) -> None:
        self.assertTrue(self.download(self.vol) == data + self.old[len(data) :])


class Sources(UploadCase):
    """
    Everything that has bytes.
    """

    data = os.urandom(MIB + 12345)

    def test_a_path(self) -> None:
        path = self.file(self.data)
        for source in (path, str(path)):
            result = self.uploaded(source, checksum="sha256", size=len(self.data))
            self.assertEqual(len(self.data), result.data)
            self.assertEqual(f"sha256:{hashlib.sha256(self.data).hexdigest()}", result.checksum)
            self.assertHolds(self.data)
            self.upload(self.vol, self.old)

    def test_an_open_file_from_its_position_on(self) -> None:
        with open(self.file(self.data), "rb") as file:
            file.read(100)
            self.before = len(openAtRest())
            self.uploaded(file, size=len(self.data) - 100)
            self.assertHolds(self.data[100:])

    def test_something_with_read(self) -> None:
        self.uploaded(io.BytesIO(self.data))
        self.assertHolds(self.data)

    def test_a_compressed_file_as_it_reads(self) -> None:
        """Its descriptor has something else."""
        path = self.directory / "source.gz"
        path.write_bytes(gzip.compress(self.data))
        with gzip.open(path, "rb") as file:
            file.read(100)
            self.before = len(openAtRest())
            self.uploaded(file, size=len(self.data) - 100)
        self.assertHolds(self.data[100:])

    def test_bytes(self) -> None:
        self.uploaded(self.data)
        self.assertHolds(self.data)

    def test_an_iterable(self) -> None:
        """
        An empty piece is not the end.
        """
        self.uploaded([self.data[:1000], b"", bytearray(self.data[1000:])])
        self.assertHolds(self.data)

    def test_an_asynchronous_iterable(self) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(self.data), 100000):
                yield self.data[start : start + 100000]

        self.uploaded(pieces())
        self.assertHolds(self.data)

    def test_what_is_not_there(self) -> None:
        self.assertEqual(
            "cannot read /nonexistent/x: No such file or directory", self.refusal("/nonexistent/x")
        )
        self.assertHolds(b"")

    def test_what_cannot_be_read(self) -> None:
        self.assertIn("cannot read /", self.refusal("/"))

    def test_sizes_around_the_head(self) -> None:
        for size in (0, 1, UPLOAD_HEAD - 1, UPLOAD_HEAD, UPLOAD_HEAD + 1, 3 * UPLOAD_HEAD):
            self.upload(self.vol, self.old)
            self.assertEqual(size, self.uploaded(self.data[:size]).size)
            self.assertHolds(self.data[:size])

    def test_at_an_offset(self) -> None:
        self.uploaded(self.data[:5000], offset=77)
        self.assertHolds(self.old[:77] + self.data[:5000])


class Holes(UploadCase):
    """
    Holes are sent as such only when that is wanted, and count as zeros.
    """

    def test_of_a_file(self) -> None:
        path = self.directory / "sparse"
        with path.open("wb") as file:
            file.truncate(16 * MIB)
            os.pwrite(file.fileno(), b"begin", 0)
            os.pwrite(file.fileno(), b"end", 16 * MIB - 3)
        told: list[Progress] = []
        self.vol = self.volume("new", capacity=16 * MIB)
        result = self.uploaded(path, sparse=True, checksum="sha1", progress=told.append)
        self.assertGreater(result.holes, 15 * MIB)
        self.assertEqual(16 * MIB, result.size)
        self.assertEqual(f"sha1:{hashlib.sha1(path.read_bytes()).hexdigest()}", result.checksum)
        self.assertEqual((16 * MIB, 16 * MIB), (told[-1].done, told[-1].total))
        self.assertTrue(self.download(self.vol) == path.read_bytes())

    def test_given(self) -> None:
        self.uploaded([Hole(MIB), b"data"], sparse=True)
        self.assertHolds(bytes(MIB) + b"data")

    def test_a_beginning_of_zeros_is_data(self) -> None:
        """
        Under a hole libvirtd leaves what was there, and that would be the old header.
        """
        told: list[Progress] = []
        self.uploaded([Hole(UPLOAD_HEAD + 4096), b"data"], sparse=True, progress=told.append)
        self.assertHolds(bytes(UPLOAD_HEAD + 4096) + b"data")

    def test_not_wanted(self) -> None:
        self.assertEqual((MIB, 0), self.uploaded(bytes(MIB))[:2])
        self.assertHolds(bytes(MIB))

    def test_not_agreed_on(self) -> None:
        running = self.began([b"x" * UPLOAD_HEAD, Hole(5)])
        self.assertIn("holes were not agreed on", str(self.failureResultOf(running).value))


class Failures(UploadCase):
    """
    What is not complete does not look complete: the beginning is zeros.
    """

    data = os.urandom(MIB)

    def assertNoImage(self) -> None:
        found = self.download(self.vol)
        self.assertTrue(found[:UPLOAD_HEAD] == bytes(UPLOAD_HEAD))
        self.assertEqual(len(self.old), len(found))

    def interrupted(self) -> Deferred[Transferred]:
        """An upload that waits for more of its source."""
        self.more: Deferred[None] = Deferred()

        async def pieces() -> AsyncIterator[bytes]:
            yield self.data[: MIB // 2]
            await self.more
            yield self.data[MIB // 2 :]

        running = self.began(pieces())
        self.assertNoResult(running)
        # The server waits that long for more to write with it.
        self.server.reactor.advance(0.01)
        return running

    def test_before_it_is_complete_it_is_none(self) -> None:
        running = self.interrupted()
        self.assertNoImage()
        self.more.callback(None)
        self.turn()
        self.successResultOf(running)
        self.assertHolds(self.data)

    def test_given_up(self) -> None:
        running = self.interrupted()
        running.cancel()
        self.turn()
        self.failureResultOf(running)
        self.assertNoImage()

    def test_a_source_that_fails(self) -> None:
        running = self.interrupted()
        self.more.errback(OSError("broken"))
        self.turn()
        self.assertEqual("broken", str(self.failureResultOf(running, OSError).value))
        self.assertNoImage()

    def test_a_lost_connection(self) -> None:
        """
        As when the process is killed: nobody is left to clean up.
        """
        running = self.interrupted()
        other = self.another()
        self.pair.serverClient.close()
        self.turn()
        self.more.callback(None)
        self.failureResultOf(running, ConnectionLost)
        self.remote = other
        self.assertNoImage()

    def test_too_short(self) -> None:
        self.assertEqual(
            f"the source has {MIB} bytes, not {2 * MIB}", self.refusal([self.data], size=2 * MIB)
        )
        self.assertNoImage()

    def test_too_long(self) -> None:
        self.assertEqual("the source has more than 500000 bytes", self.refusal([self.data], size=500000))

    def test_a_file_of_another_size_is_refused_before_anything_is_sent(self) -> None:
        path = self.file(self.data)
        self.assertEqual(f"{path} has {MIB} bytes, not 5", self.refusal(path, size=5))
        self.assertHolds(b"")

    def test_a_small_one_is_checked_before_anything_is_sent(self) -> None:
        self.assertIn("the source has sha256", self.refusal(b"small", checksum="sha256:" + "0" * 64))
        self.assertIn("has 5 bytes, not 6", self.refusal(b"small", size=6))
        self.assertHolds(b"")

    def test_a_file_that_shrinks_meanwhile(self) -> None:
        path = self.file(self.data)

        def shrink(progress: Progress) -> None:
            os.truncate(path, 600000)

        why = self.refusal(path, progress=shrink)
        self.assertEqual(f"{path} has 600000 bytes, not {MIB}", why)
        self.assertNoImage()

    def test_what_tells_the_progress_fails(self) -> None:
        def broken(progress: Progress) -> None:
            raise ValueError("broken")

        self.failureResultOf(self.began(self.data, progress=broken), ValueError)

    def test_it_is_deleted_where_that_is_wanted(self) -> None:
        self.refusal([self.data], size=5, onFailure="delete")
        self.vol = self.volume(capacity=len(self.old))

    def test_it_cannot_be_deleted_over_a_lost_connection(self) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield self.data
            self.pair.serverClient.close()
            self.pair.clock.callLater(0, waiting.callback, None)
            await waiting
            yield self.data

        waiting: Deferred[None] = Deferred()
        running = self.began(pieces(), onFailure="delete")
        self.turn()
        why = str(self.failureResultOf(running, TransferError).value)
        self.assertIn("and volume 'v' could not be deleted", why)


class Checksums(SynchronousTestCase):
    """
    What may be asked for.
    """

    def refusal(self, text: str) -> str:
        from virnet.client.transfer import Checksum

        return str(self.assertRaises(TransferError, Checksum, text))

    def test_unknown(self) -> None:
        self.assertEqual("there is no checksum 'sha257'", self.refusal("sha257"))
        self.assertEqual("there is no checksum ''", self.refusal(":00"))

    def test_without_a_length_of_its_own(self) -> None:
        self.assertEqual("there is no checksum 'shake_128'", self.refusal("shake_128"))

    def test_a_digest_of_another(self) -> None:
        self.assertEqual("'00' is no sha256: it has 64 hexadecimal digits", self.refusal("sha256:00"))
        self.assertEqual("'xy' is no md5: it has 32 hexadecimal digits", self.refusal("md5:xy"))

    def test_in_any_case(self) -> None:
        from virnet.client.transfer import Checksum

        checksum = Checksum(f"SHA256:{hashlib.sha256(b'a').hexdigest().upper()}")
        checksum.update(b"a")
        checksum.check("it")
