"""Downloads: what is written where, and what a failure leaves."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.client.transfer.test_upload import MIB, UploadCase
from tests.openfiles import openAtRest, openDescriptors
from virnet.client.stream import Hole
from virnet.client.transfer import Progress, TransferError, Transferred, download
from virnet.errors import ConnectionLost


class DownloadCase(UploadCase):
    """
    A volume with something in it, and a place for it.
    """

    old = os.urandom(2 * MIB + 777)

    def setUp(self) -> None:
        super().setUp()
        self.target = self.directory / "target"

    def downloading(self, target: Any, **options: Any) -> Deferred[Transferred]:
        running = Deferred.fromCoroutine(
            download(self.server.reactor, self.remote, self.vol, target, **options)
        )
        self.turn()
        return running

    def downloaded(self, target: Any, **options: Any) -> Transferred:
        """Download what has to succeed."""
        result = self.successResultOf(self.downloading(target, **options))
        self.assertEqual(self.before, len(openDescriptors()))
        return result

    def files(self) -> set[str]:
        return {each.name for each in self.directory.iterdir()} - {"state"}


class Targets(DownloadCase):
    def test_a_path(self) -> None:
        for target in (self.target, str(self.target)):
            result = self.downloaded(target, checksum="sha256")
            self.assertTrue(self.target.read_bytes() == self.old)
            self.assertEqual(f"sha256:{hashlib.sha256(self.old).hexdigest()}", result.checksum)
            self.assertEqual({"target"}, self.files())

    def test_an_open_file_from_its_position_on(self) -> None:
        with self.target.open("wb") as file:
            self.before += 1
            file.write(b"before")
            self.downloaded(file)
        self.assertTrue(self.target.read_bytes() == b"before" + self.old)

    def test_something_with_write(self) -> None:
        target = io.BytesIO()
        self.downloaded(target, checksum="md5")
        self.assertTrue(target.getvalue() == self.old)

    def test_a_compressing_file(self) -> None:
        with gzip.open(self.target, "wb") as file:
            self.before = len(openAtRest())
            self.downloaded(file)
        self.assertTrue(gzip.decompress(self.target.read_bytes()) == self.old)

    def test_a_device(self) -> None:
        self.assertEqual(len(self.old), self.downloaded("/dev/null").size)

    def test_a_range(self) -> None:
        told: list[Progress] = []
        self.downloaded(self.target, offset=100, length=5000, progress=told.append)
        self.assertTrue(self.target.read_bytes() == self.old[100:5100])
        self.assertEqual(5000, told[-1].total)

    def test_progress(self) -> None:
        told: list[Progress] = []
        self.downloaded(self.target, progress=told.append)
        self.assertEqual((len(self.old), len(self.old)), (told[-1].done, told[-1].total))

    def test_holes(self) -> None:
        self.vol = self.volume("sparse", capacity=64 * MIB)
        self.upload(self.vol, [Hole(32 * MIB), b"x" * MIB, Hole(31 * MIB)], flags=1)
        result = self.downloaded(self.target, sparse=True, checksum="sha1")
        self.assertEqual((MIB, 63 * MIB), result[:2])
        self.assertLess(self.target.stat().st_blocks * 512, 2 * MIB)
        data = self.target.read_bytes()
        self.assertTrue(data == bytes(32 * MIB) + b"x" * MIB + bytes(31 * MIB))
        self.assertEqual(f"sha1:{hashlib.sha1(data).hexdigest()}", result.checksum)
        target = io.BytesIO()
        self.downloaded(target, sparse=True)
        self.assertTrue(target.getvalue() == data)


class Failures(DownloadCase):
    """
    A file has its name only when it is complete.
    """

    def fails(self, target: Any, kind: type[Exception] = TransferError, **options: Any) -> str:
        why = str(self.failureResultOf(self.downloading(target, **options), kind).value)
        self.assertEqual(self.before, len(openDescriptors()))
        return why

    def test_what_was_there_stays_until_then(self) -> None:
        self.target.write_bytes(b"precious")

        def look(progress: Progress) -> None:
            self.assertEqual(b"precious", self.target.read_bytes())
            self.assertEqual({"target", "target.part"}, self.files())

        self.downloaded(self.target, progress=look)
        self.assertEqual(len(self.old), self.target.stat().st_size)

    def test_it_is_a_file_of_our_own_until_then(self) -> None:
        """Where others may write as well: nothing is written through a link, or into a file of theirs."""
        other = self.directory / "other"
        other.write_bytes(b"precious")
        for plant in (os.symlink, os.link):
            plant(other, f"{self.target}.part")
            self.downloaded(self.target)
            self.assertEqual(b"precious", other.read_bytes())
            self.assertTrue(self.target.read_bytes() == self.old)
            self.assertFalse(self.target.is_symlink())

    def test_another_checksum(self) -> None:
        self.target.write_bytes(b"precious")
        self.assertIn("volume 'v' has sha256", self.fails(self.target, checksum="sha256:" + "0" * 64))
        self.assertEqual(b"precious", self.target.read_bytes())
        self.assertEqual({"target"}, self.files())

    def test_a_lost_connection(self) -> None:
        def lose(progress: Progress) -> None:
            self.pair.serverClient.close()

        self.fails(self.target, ConnectionLost, progress=lose)
        self.assertEqual(set(), self.files())

    def test_given_up(self) -> None:
        transport: Any = self.pair.client.transport

        def pause(progress: Progress) -> None:
            transport.pauseProducing()

        running = self.downloading(self.target, progress=pause)
        self.assertNoResult(running)
        running.cancel()
        transport.resumeProducing()
        self.turn()
        self.failureResultOf(running)
        self.assertEqual(set(), self.files())

    def test_nowhere_to_write(self) -> None:
        self.assertEqual(
            "cannot write /nonexistent/x.part: No such file or directory",
            self.fails(Path("/nonexistent/x")),
        )
        self.assertEqual(f"cannot write {self.directory}: Is a directory", self.fails(self.directory))

    def test_a_full_disk(self) -> None:
        self.assertEqual("cannot write /dev/full: No space left on device", self.fails("/dev/full"))
