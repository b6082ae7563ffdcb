"""
What is in the volumes in memory: uploads and downloads, and the files behind them.
"""

from __future__ import annotations

import errno
import gc
import os
import shutil
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.hypervisor.wired import POOL, WiredTestCase, volumeXML
from tests.openfiles import openAtRest, openDescriptors
from virnet.client import Connection
from virnet.client.stream import Hole
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, LocalProtocolError, RemoteError
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.memory.volumefiles import VolumeFiles
from virnet.limits import STREAM_CHUNK
from virnet.programs import REMOTE
from virnet.programs.constants import StorageVolType
from virnet.programs.values import StoragePool, StorageVol
from virnet.transport.uri import parseURI

SPARSE = 1
MIB = 1 << 20
GIB = 1 << 30


class _Case(WiredTestCase):
    def setUp(self) -> None:
        # On a disk: a file system in memory may know no holes.
        self.parent = Path(tempfile.mkdtemp(prefix="virnet-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.parent, ignore_errors=True)
        self.directory = self.parent / "state"
        self.serve(MemoryHypervisor(stateDirectory=str(self.directory)))
        self.before = len(openAtRest())

    def files(self) -> list[Path]:
        """The files of all volumes."""
        return sorted(each for each in self.parent.rglob("*") if not each.is_dir())

    def info(self, vol: StorageVol) -> tuple[int, int]:
        """Capacity and allocation."""
        found = self.answer(self.remote.storageVolGetInfo(vol))
        return found.capacity, found.allocation

    def free(self) -> int:
        """What the pool has left."""
        found = self.answer(self.remote.storagePoolGetInfo(POOL))
        self.assertEqual(found.allocation + found.available, found.capacity)
        available: int = found.available
        return available

    def assertNothingOpen(self) -> None:
        self.assertEqual(len(openDescriptors()), self.before)


class Contents(_Case):
    """
    What is uploaded is what is downloaded.
    """

    def test_a_new_volume_reads_as_zeros_and_takes_no_space(self) -> None:
        vol = self.volume(capacity=3 * STREAM_CHUNK + 1)
        self.assertTrue(self.download(vol) == bytes(3 * STREAM_CHUNK + 1))
        self.assertEqual([each.stat().st_blocks for each in self.files()], [0])
        self.assertNothingOpen()

    def test_what_was_uploaded_stands_before_what_was_there(self) -> None:
        vol = self.volume(capacity=MIB)
        data = os.urandom(STREAM_CHUNK + 1000)
        self.upload(vol, data)
        self.assertTrue(self.download(vol) == data + bytes(MIB - len(data)))
        self.upload(vol, b"12345", offset=3, length=5)
        self.assertTrue(self.download(vol, 0, 20) == data[:3] + b"12345" + data[8:20])
        self.assertNothingOpen()

    def test_volumes_do_not_share_what_is_in_them(self) -> None:
        one, other = self.volume("one", 10), self.volume("other", 10)
        self.upload(one, b"1" * 10)
        self.upload(other, b"2" * 10)
        self.assertEqual((self.download(one), self.download(other)), (b"1" * 10, b"2" * 10))

    def test_a_range(self) -> None:
        vol = self.volume(capacity=10)
        self.upload(vol, b"0123456789")
        self.assertEqual(self.download(vol, 3, 4), b"3456")
        self.assertEqual(self.download(vol, 3), b"3456789")
        self.assertEqual(self.download(vol, 8, 100), b"89")
        self.assertEqual(self.download(vol, 8, 2**64 - 1), b"89")

    def test_there_is_nothing_beyond_the_end(self) -> None:
        vol = self.volume(capacity=10)
        for offset in (10, 11, GIB):
            self.assertEqual(self.download(vol, offset), b"")
        self.assertNothingOpen()

    def test_holes_both_ways(self) -> None:
        vol = self.volume(capacity=4 * MIB)
        block = os.urandom(MIB)
        self.upload(vol, [Hole(MIB), block, Hole(2 * MIB)], flags=SPARSE)
        stream = self.answer(self.remote.storageVolDownload(vol, 0, 0, SPARSE))
        received = []
        while item := self.answer(stream.receive()):
            received.append(item)
        self.answer(stream.finish())
        self.assertEqual((received[0], received[-1]), (Hole(MIB), Hole(2 * MIB)))
        self.assertTrue(b"".join(received[1:-1]) == block)
        self.assertTrue(self.download(vol) == bytes(MIB) + block + bytes(2 * MIB))
        self.assertNothingOpen()

    def test_a_hole_takes_away_what_was_there(self) -> None:
        vol = self.volume(capacity=3 * MIB)
        self.upload(vol, b"x" * 3 * MIB)
        self.upload(vol, [b"y", Hole(2 * MIB), b"z"], flags=SPARSE)
        self.assertTrue(self.download(vol) == b"y" + bytes(2 * MIB) + b"z" + b"x" * (MIB - 2))

    def test_holes_are_only_for_who_agreed_to_them(self) -> None:
        stream = self.answer(self.remote.storageVolUpload(self.volume(), 0, 0, 0))
        self.assertRaises(LocalProtocolError, stream.sendHole, 5)
        self.answer(stream.abort())

    def test_ten_gibibytes_with_64_mebibytes_of_data(self) -> None:
        """
        As many bytes travel as there are data, and as many blocks are taken.
        """
        vol = self.volume(capacity=10 * GIB)
        block = os.urandom(8 * MIB)
        self.upload(vol, [Hole(GIB), block] * 8 + [Hole(2 * GIB - 64 * MIB)], flags=SPARSE)
        (file,) = self.files()
        self.assertEqual(file.stat().st_size, 10 * GIB)
        space = file.stat().st_blocks * 512
        self.assertTrue(64 * MIB <= space <= 65 * MIB, space)
        self.assertEqual(self.info(vol), (10 * GIB, space))
        with (self.parent / "copy").open("wb") as copy:
            stream = self.answer(self.remote.storageVolDownload(vol, 0, 0, SPARSE))
            self.assertEqual(self.answer(stream.receiveInto(copy)), 10 * GIB)
            status = os.fstat(copy.fileno())
        self.assertEqual(status.st_size, 10 * GIB)
        self.assertTrue(64 * MIB <= status.st_blocks * 512 <= 65 * MIB, status.st_blocks)
        with (self.parent / "copy").open("rb") as copy:
            for n in range(8):
                at = (n + 1) * GIB + n * 8 * MIB
                self.assertTrue(os.pread(copy.fileno(), 8 * MIB, at) == block)
        self.assertNothingOpen()


class Sizes(_Case):
    """
    What an upload makes of a volume.
    """

    def test_allocation_is_what_the_file_takes(self) -> None:
        free = self.free()
        vol = self.volume(capacity=8 * MIB)
        self.assertEqual((self.info(vol), self.free()), ((8 * MIB, 0), free))
        self.upload(vol, os.urandom(MIB), offset=2 * MIB)
        (file,) = self.files()
        space = file.stat().st_blocks * 512
        self.assertTrue(MIB <= space < 2 * MIB, space)
        self.assertEqual((self.info(vol), self.free()), ((8 * MIB, space), free - space))
        self.answer(self.remote.storageVolDelete(vol, 0))
        self.assertEqual(self.free(), free)

    def test_it_shrinks_to_that(self) -> None:
        free = self.free()
        vol = self.volume(capacity=8 * MIB, allocation=8 * MIB)
        self.assertEqual(self.free(), free - 8 * MIB)
        self.upload(vol, b"x")
        _, allocation = self.info(vol)
        self.assertTrue(0 < allocation <= 65536, allocation)
        self.assertEqual(self.free(), free - allocation)

    def test_capacity_grows_but_does_not_shrink(self) -> None:
        vol = self.volume(capacity=10)
        self.upload(vol, b"x" * 25)
        self.assertEqual(self.info(vol)[0], 25)
        self.upload(vol, b"x" * 5, offset=100)
        self.assertEqual(self.info(vol)[0], 105)
        self.upload(vol, b"x")
        self.assertEqual(self.info(vol)[0], 105)

    def test_the_document_says_the_same(self) -> None:
        vol = self.volume(capacity=10)
        self.upload(vol, b"x" * 5000)
        capacity, allocation = self.info(vol)
        document = self.answer(self.remote.storageVolGetXMLDesc(vol, 0))
        self.assertIn(f"<capacity unit='bytes'>{capacity}</capacity>", document)
        self.assertIn(f"<allocation unit='bytes'>{allocation}</allocation>", document)
        self.assertEqual(capacity, 5000)

    def test_a_pool_that_is_more_than_full_has_nothing_left(self) -> None:
        definition = next(iter(self.hypervisor.state.pools)).definition
        definition.capacity = 1000
        self.upload(self.volume(), b"x" * 5000)
        found = self.answer(self.remote.storagePoolGetInfo(POOL))
        self.assertTrue(found.allocation > found.capacity)
        self.assertEqual(found.available, 0)
        error = self.refused(self.remote.storageVolCreateXML(POOL, volumeXML("w", 1, 1), 0))
        self.assertIn("Not enough free space in pool", error.message)

    def test_an_aborted_and_a_lost_upload_count_too(self) -> None:
        vol = self.volume(capacity=MIB)
        stream = self.answer(self.remote.storageVolUpload(vol, 0, 0, 0))
        self.answer(stream.send(b"x" * 5000))
        self.answer(stream.abort())
        self.assertTrue(5000 <= self.info(vol)[1] <= 65536)
        pair = self.connect()
        stream = self.answer(pair.client.program(REMOTE).storageVolUpload(vol, 200_000, 0, 0))
        self.answer(stream.send(b"x" * 500_000))
        self.turn()
        pair.client.abort(ConnectionLost("the test ends it"))
        self.turn()
        self.assertTrue(self.info(vol)[1] >= 500_000)
        self.assertNothingOpen()

    def test_R079_what_does_not_fit_the_length(self) -> None:
        vol = self.volume(capacity=100)
        stream = self.answer(self.remote.storageVolUpload(vol, 10, 5, 0))
        self.answer(stream.send(b"abc"))
        self.answer(stream.send(b"defg"))
        error = self.refused(stream.finish())
        self.assertEqual(
            (error.code, error.domain, error.message),
            (
                ErrorNumber.SYSTEM_ERROR,
                ErrorDomain.STREAMS,
                "cannot write to stream: No space left on device",
            ),
        )
        self.assertEqual(error.int1, errno.ENOSPC)
        self.assertEqual(self.download(vol), bytes(10) + b"abcde" + bytes(85))
        self.assertTrue(self.info(vol)[1] > 0)
        self.assertNothingOpen()

    def test_R079_a_hole_does_not_fit_either(self) -> None:
        stream = self.answer(self.remote.storageVolUpload(self.volume(), 0, 5, SPARSE))
        self.answer(stream.sendHole(6))
        self.assertEqual(self.refused(stream.finish()).int1, errno.ENOSPC)
        self.assertNothingOpen()

    def test_holes_no_file_can_have(self) -> None:
        vol = self.volume()
        for holes in ([2**63 - 1], [2**62, 2**62], [2**60] * 4):
            stream = self.answer(self.remote.storageVolUpload(vol, 0, 0, SPARSE))
            error = self.refused(stream.sendFrom([Hole(each) for each in holes]))
            self.assertEqual((error.code, error.domain), (ErrorNumber.SYSTEM_ERROR, ErrorDomain.STREAMS))
            self.assertIn(error.int1, (errno.EFBIG, errno.EINVAL, errno.EOVERFLOW))
            self.assertEqual(self.info(vol)[0], 1 << 20)
            self.assertNothingOpen()


class Refusals(_Case):
    """
    Streams that do not come about.
    """

    def both(self, vol: StorageVol, offset: int = 0, length: int = 0, flags: int = 0) -> RemoteError:
        """What is said to an upload and to a download, which must be the same."""
        errors = [
            self.refused(call(vol, offset, length, flags))
            for call in (self.remote.storageVolUpload, self.remote.storageVolDownload)
        ]
        one, other = [(each.code, each.domain, each.message.replace("Upload", "Download")) for each in errors]
        self.assertEqual(one, other)
        self.assertNothingOpen()
        return errors[1]

    def test_flags_that_mean_nothing(self) -> None:
        error = self.both(self.volume(), flags=6)
        self.assertEqual(error.code, ErrorNumber.INVALID_ARG)
        self.assertEqual(error.message, "unsupported flags (0x6) in function storageVolDownload")

    def test_a_volume_that_is_not_there(self) -> None:
        error = self.both(StorageVol("default-pool", "nothing", "/default-pool/nothing"))
        self.assertEqual(error.code, ErrorNumber.NO_STORAGE_VOL)
        self.assertIn("no storage vol with matching name 'nothing'", error.message)
        self.assertEqual(self.files(), [])

    def test_a_pool_that_is_not_there(self) -> None:
        error = self.both(StorageVol("nowhere", "v", ""))
        self.assertEqual(error.code, ErrorNumber.NO_STORAGE_POOL)

    def test_a_pool_that_is_not_active(self) -> None:
        vol = self.volume()
        self.answer(self.remote.storagePoolDestroy(POOL))
        error = self.both(vol)
        self.assertEqual(error.code, ErrorNumber.OPERATION_INVALID)
        self.assertIn("storage pool 'default-pool' is not active", error.message)

    def test_offsets_no_file_has(self) -> None:
        for offset in (2**63, 2**64 - 1):
            error = self.both(self.volume(f"v{offset}"), offset)
            self.assertEqual(
                (error.code, error.domain, error.int1),
                (ErrorNumber.SYSTEM_ERROR, ErrorDomain.STORAGE, errno.EINVAL),
            )
            self.assertEqual(
                error.message, f"Unable to seek volume 'v{offset}' to {offset}: Invalid argument"
            )

    def test_a_capacity_no_file_has(self) -> None:
        """
        Such a volume can be defined. It has no file, and a second attempt does not find half of one.
        """
        vol = self.volume(capacity=2**63 - 1)
        for _ in range(2):
            error = self.both(vol)
            self.assertEqual((error.code, error.int1), (ErrorNumber.SYSTEM_ERROR, errno.EFBIG))
            self.assertEqual(error.message, "cannot open volume 'v': File too large")
        self.assertEqual(self.files(), [])
        self.answer(self.remote.storageVolDelete(vol, 0))

    def test_a_directory_that_cannot_be(self) -> None:
        self.parent.joinpath("state").write_text("a file")
        error = self.both(self.volume())
        self.assertEqual((error.code, error.int1), (ErrorNumber.SYSTEM_ERROR, errno.ENOTDIR))
        self.assertEqual(error.message, "cannot open volume 'v': Not a directory")

    def test_a_read_only_connection_reads_and_writes_nothing(self) -> None:
        vol = self.volume()
        remote = self.another(readonly=True)
        for call in (remote.storageVolUpload, remote.storageVolDownload):
            self.assertEqual(self.refused(call(vol, 0, 0, 0)).code, ErrorNumber.OPERATION_DENIED)
        self.assertEqual(self.files(), [])


class Deleted(_Case):
    """
    Volumes and pools that go while somebody reads or writes them.
    """

    def test_a_download_goes_on(self) -> None:
        vol = self.volume(capacity=20 * MIB)
        data = os.urandom(20 * MIB)
        self.upload(vol, data)
        stream = self.answer(self.remote.storageVolDownload(vol, 0, 0, 0))
        received = [self.answer(stream.receive())]
        self.answer(self.another().storageVolDelete(vol, 0))
        self.assertEqual(self.files(), [])
        while item := self.answer(stream.receive()):
            received.append(item)
        self.assertTrue(b"".join(received) == data)
        self.answer(stream.finish())
        self.assertNothingOpen()

    def test_an_upload_goes_on_and_changes_nothing_any_more(self) -> None:
        free = self.free()
        vol = self.volume(capacity=MIB)
        stream = self.answer(self.remote.storageVolUpload(vol, 0, 0, 0))
        self.answer(stream.send(b"x" * MIB))
        self.answer(self.remote.storageVolDelete(vol, 0))
        self.answer(stream.send(b"x" * MIB))
        self.answer(stream.finish())
        self.assertEqual((self.files(), self.free()), ([], free))
        self.assertNothingOpen()

    def test_nor_does_it_reach_a_new_volume_of_the_same_name(self) -> None:
        vol = self.volume(capacity=10)
        stream = self.answer(self.remote.storageVolUpload(vol, 0, 0, 0))
        self.answer(self.remote.storageVolDelete(vol, 0))
        again = self.volume(capacity=10)
        self.upload(again, b"new")
        before = self.info(again), self.free()
        self.answer(stream.send(b"x" * MIB))
        self.answer(stream.finish())
        self.assertEqual(self.download(again), b"new" + bytes(7))
        self.assertEqual((self.info(again), self.free()), before)

    def test_a_new_volume_has_nothing_of_the_one_before(self) -> None:
        for _ in range(2):
            vol = self.volume(capacity=6)
            self.assertEqual(self.download(vol), bytes(6))
            self.upload(vol, b"secret")
            self.answer(self.remote.storageVolDelete(vol, 0))

    def test_nor_one_in_a_pool_that_is_defined_anew(self) -> None:
        xml = self.answer(self.remote.storagePoolGetXMLDesc(POOL, 0))
        self.upload(self.volume(capacity=6), b"secret")
        self.answer(self.remote.storagePoolDestroy(POOL))
        self.assertEqual(len(self.files()), 1)
        self.answer(self.remote.storagePoolUndefine(POOL))
        self.assertEqual(self.files(), [])
        self.answer(self.remote.storagePoolDefineXML(xml, 0))
        self.answer(self.remote.storagePoolCreate(POOL, 0))
        self.assertEqual(self.download(self.volume(capacity=6)), bytes(6))

    def test_nor_what_an_earlier_hypervisor_left(self) -> None:
        self.upload(self.volume(capacity=6), b"secret")
        self.serve(MemoryHypervisor(stateDirectory=str(self.directory)))
        self.assertEqual(self.download(self.volume(capacity=6)), bytes(6))

    def test_a_transient_pool_takes_its_volumes_with_it(self) -> None:
        xml = "<pool type='dir'><name>t</name><target><path>/t</path></target></pool>"
        pool = self.answer(self.remote.storagePoolCreateXML(xml, 0))
        vol = self.answer(self.remote.storageVolCreateXML(pool, volumeXML("v", 6), 0))
        stream = self.answer(self.remote.storageVolUpload(vol, 0, 0, 0))
        self.assertEqual(len(self.files()), 1)
        self.answer(self.remote.storagePoolDestroy(StoragePool("t", pool.uuid)))
        self.assertEqual(self.files(), [])
        self.answer(stream.send(b"x"))
        self.answer(stream.finish())
        self.assertNothingOpen()

    def test_a_file_that_somebody_takes_away(self) -> None:
        vol = self.volume(capacity=6)
        stream = self.answer(self.remote.storageVolUpload(vol, 0, 0, 0))
        shutil.rmtree(self.directory)
        self.answer(stream.send(b"x"))
        self.answer(stream.finish())
        self.assertEqual(self.info(vol), (6, 0))
        self.answer(self.remote.storageVolDelete(vol, 0))
        self.assertNothingOpen()

    def test_a_file_that_cannot_be_removed_stays_a_volume(self) -> None:
        vol = self.volume(capacity=6, allocation=6)
        free = self.free()
        self.upload(vol, b"secret")
        (file,) = self.files()
        file.unlink()
        file.mkdir()
        error = self.refused(self.remote.storageVolDelete(vol, 0))
        self.assertEqual(error.message, "cannot remove volume 'v': Is a directory")
        file.rmdir()
        self.answer(self.remote.storageVolDelete(vol, 0))
        self.assertEqual(self.free(), free + 6)


class Names(_Case):
    """
    A volume's name is a client's word.
    """

    NAMES = (
        "..", ".", "../../escaped", "/etc/escaped", "a/b", "a//b", "./a", "~", "$HOME", "%2e%2e", "%00", "=",
        "+", "-rf", "new\nline", "Ä" * 60, "日本語" * 30, "x" * 255, "x" * 256, "y" * 5000, "a b\tc", "*",
        "name\\x",
    )  # fmt: skip

    def test_none_leads_out_of_the_directory(self) -> None:
        for name in self.NAMES:
            self.upload(self.volume(name, 10), name[:5].encode())
        files = self.files()
        self.assertEqual(len(files), len(self.NAMES))
        (pool,) = self.directory.iterdir()
        self.assertEqual(list(self.parent.iterdir()), [self.directory])
        self.assertEqual({each.parent for each in files}, {pool})

    def test_each_is_another_file_and_goes_with_its_volume(self) -> None:
        volumes = [self.volume(name, 10) for name in self.NAMES]
        for number, vol in enumerate(volumes):
            self.upload(vol, str(number).encode())
        for number, vol in enumerate(volumes):
            self.assertEqual(self.download(vol).rstrip(b"\0"), str(number).encode())
        for vol in volumes:
            self.answer(self.remote.storageVolDelete(vol, 0))
        self.assertEqual(self.files(), [])

    def test_a_name_with_NUL(self) -> None:
        """
        No document can have it, no lookup finds it; and the files would not mind.
        """
        error = self.refused(self.remote.storageVolCreateXML(POOL, volumeXML("a\0b", 1), 0))
        self.assertEqual(error.code, ErrorNumber.XML_DETAIL)
        error = self.refused(self.remote.storageVolUpload(StorageVol("default-pool", "a\0b", ""), 0, 0, 0))
        self.assertEqual(error.code, ErrorNumber.NO_STORAGE_VOL)
        files, pool = VolumeFiles(str(self.directory)), bytes(16)
        definition = self.hypervisor.state.pools.byName("default-pool")
        assert definition is not None
        self.volume("v")
        volume = definition.volumes["v"]
        volume.name = "a\0/../b"
        os.close(files.open(pool, volume))
        self.assertEqual(files.measure(pool, volume), (0, volume.capacity))
        self.assertEqual([each.name for each in self.files()], ["=a%00%2F..%2Fb"])

    def test_nobody_else_can_look_into_the_files(self) -> None:
        self.upload(self.volume(), b"secret")
        (file,) = self.files()
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(file.parent.stat().st_mode & 0o777, 0o700)

    def test_volumes_of_every_kind_of_pool(self) -> None:
        xml = "<pool type='rbd'><name>r</name><source><host name='h'/><name>n</name></source></pool>"
        pool = self.answer(self.remote.storagePoolCreateXML(xml, 0))
        vol = self.answer(self.remote.storageVolCreateXML(pool, volumeXML("v", 6), 0))
        self.assertEqual(self.answer(self.remote.storageVolGetInfo(vol)).type, StorageVolType.NETWORK)
        self.upload(vol, b"in rbd")
        self.assertEqual(self.download(vol), b"in rbd")


class Directories(_Case):
    """
    Where the files are.
    """

    def test_one_that_was_given_is_made_when_it_is_needed_and_stays(self) -> None:
        vol = self.volume()
        self.assertFalse(self.directory.exists())
        self.upload(vol, b"x")
        self.assertEqual(self.hypervisor.state.files.directory, str(self.directory))
        files = VolumeFiles(str(self.directory))
        del files
        gc.collect()
        self.assertEqual(len(self.files()), 1)

    def test_a_temporary_one_goes_with_its_hypervisor(self) -> None:
        self.patch(tempfile, "tempdir", str(self.parent))
        files = VolumeFiles()
        self.assertEqual(list(self.parent.iterdir()), [])
        self.assertIs(files.directory, None)
        pool = self.hypervisor.state.pools.byName("default-pool")
        assert pool is not None
        self.volume()
        volume = pool.volumes["v"]
        files.remove(pool.uuid, volume)
        self.assertEqual(list(self.parent.iterdir()), [])
        fd = files.open(pool.uuid, volume)
        self.addCleanup(os.close, fd)
        (made,) = self.parent.iterdir()
        self.assertEqual(files.directory, str(made))
        self.assertEqual(made.stat().st_mode & 0o777, 0o700)
        del files
        gc.collect()
        self.assertEqual(list(self.parent.iterdir()), [])

    def test_a_temporary_one_that_cannot_be(self) -> None:
        self.patch(tempfile, "tempdir", str(self.parent / "missing"))
        self.serve(MemoryHypervisor())
        error = self.refused(self.remote.storageVolDownload(self.volume(), 0, 0, 0))
        self.assertEqual(error.message, "cannot open volume 'v': No such file or directory")


def turnOf(clock: Clock) -> Deferred[None]:
    """Let everything happen that is due."""
    turn: Deferred[None] = Deferred()
    clock.callLater(0, turn.callback, None)
    return turn


class Held(_Case):
    """
    Who is held back, and what it costs.
    """

    def test_R074_clients_that_go_leave_nothing_open(self) -> None:
        vol = self.volume(capacity=64 * MIB)
        for call in ("storageVolUpload", "storageVolDownload"):
            for _ in range(5):
                pair = self.connect()
                stream = self.answer(getattr(pair.client.program(REMOTE), call)(vol, 0, 0, 0))
                if call == "storageVolUpload":
                    self.answer(stream.send(b"x" * 1000))
                pair.client.abort(ConnectionLost("the test ends it"))
                self.turn()
        self.assertNothingOpen()

    def test_closing_a_connection_with_a_download_that_nobody_reads_any_more(self) -> None:
        """
        It holds the connection, and must not hold up its end.
        """
        vol = self.volume(capacity=64 * MIB)
        pair = self.connect()
        connection = Connection(pair.client, parseURI("test:///default"), frozenset())
        streams = []

        async def leave() -> None:
            async with connection:
                streams.append(await connection.remote.storageVolDownload(vol, 0, 0))
                async for _ in streams[0]:
                    await turnOf(self.server.reactor)
                    break
                raise ZeroDivisionError

        self.failureResultOf(self._begun(leave()), ZeroDivisionError)
        self.assertFalse(pair.client.readingHeld)
        self.failureResultOf(streams[0].finish(), ConnectionLost)
        self.assertEqual(self.server.clients.keys(), {self.pair.serverClient.id})
        self.assertNothingOpen()

    def test_R080_finished_and_aborted_early(self) -> None:
        vol = self.volume(capacity=64 * MIB)
        for end in ("finish", "abort"):
            stream = self.answer(self.remote.storageVolDownload(vol, 0, 0, 0))
            self.answer(stream.receive())
            self.answer(getattr(stream, end)())
            self.assertNothingOpen()
        self.assertEqual(self.pair.serverClient.connection.inProgress, 0)

    def test_data_on_a_download(self) -> None:
        stream = self.answer(self.remote.storageVolDownload(self.volume(), 0, 0, 0))
        self.answer(stream.send(b"x"))
        self.assertEqual(self.refused(stream.finish()).message, "stream had unexpected termination")
        self.assertNothingOpen()
