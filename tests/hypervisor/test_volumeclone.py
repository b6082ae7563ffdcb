"""
Volumes made from others: what is in the copy, and what nobody may do to it meanwhile.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.hypervisor.wired import POOL, WiredTestCase, volumeXML
from tests.openfiles import openAtRest, openDescriptors
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost
from virnet.hypervisor.memory import MemoryHypervisor, volumeclone
from virnet.programs.values import StoragePool, StorageVol

MIB = 1 << 20
OTHER_POOL_XML = "<pool type='dir'><name>other</name><target><path>/other</path></target></pool>"


class HeldPool:
    """
    A pool of threads that work when told to.
    """

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[bool, object], None], Callable[[], object]]] = []

    def callInThreadWithCallback(
        self, done: Callable[[bool, object], None], call: Callable[..., object], *arguments: object
    ) -> None:
        self.jobs.append((done, partial(call, *arguments)))

    def work(self) -> None:
        while self.jobs:
            self.workOnce()

    def workOnce(self) -> None:
        done, job = self.jobs.pop(0)
        try:
            result = job()
        except OSError:
            done(False, Failure())
        else:
            done(True, result)


@implementer(IReactorThreads)
class HeldReactor(Clock):
    """
    With such a pool.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool = HeldPool()

    def getThreadPool(self) -> Any:
        return self.pool

    def callInThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        raise NotImplementedError

    def suggestThreadPoolSize(self, size: int) -> None:
        raise NotImplementedError

    def callFromThread(self, callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        callable(*args, **kwargs)


class CloneCase(WiredTestCase):
    def setUp(self) -> None:
        # On a disk: a file system in memory may know no holes.
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.serve(MemoryHypervisor(stateDirectory=str(self.directory), reactor=self.reactor()))
        self.before = len(openAtRest())

    def reactor(self) -> Any:
        return None

    def file(self, vol: StorageVol) -> Path:
        (found,) = self.directory.glob(f"*/={vol.name}")
        return found

    def filled(self, name: str, content: bytes, offset: int = 0) -> StorageVol:
        vol = self.volume(name, 4 * MIB)
        self.upload(vol, content, offset)
        return vol

    def clone(self, vol: StorageVol, xml: str | None = None, pool: StoragePool = POOL) -> StorageVol:
        made: StorageVol = self.answer(
            self.remote.storageVolCreateXMLFrom(pool, xml or volumeXML("copy", 4 * MIB), vol, 0)
        )
        return made


class CopiesTests(CloneCase):
    """
    What is in the copy.
    """

    def test_contents_and_holes(self) -> None:
        first = self.filled("first", b"data" * 1000, MIB)
        copy = self.clone(first)
        self.assertEqual(self.file(first).read_bytes(), self.file(copy).read_bytes())
        self.assertEqual(os.stat(self.file(first)).st_blocks, os.stat(self.file(copy)).st_blocks)
        info = self.answer(self.remote.storageVolGetInfo(copy))
        self.assertEqual(4 * MIB, info.capacity)
        self.assertEqual(os.stat(self.file(copy)).st_blocks * 512, info.allocation)
        self.assertEqual(self.before, len(openDescriptors()))

    def test_they_are_two(self) -> None:
        first = self.filled("first", b"old")
        copy = self.clone(first)
        self.upload(first, b"new")
        self.answer(self.remote.storageVolDelete(first, 0))
        self.assertEqual(b"old", self.file(copy).read_bytes()[:3])

    def test_of_a_volume_that_nobody_has_written_to(self) -> None:
        copy = self.clone(self.volume("first", 10))
        self.assertEqual([], list(self.directory.glob("*/*")))
        self.assertEqual(bytes(4 * MIB), self.download(copy))

    def test_it_is_at_least_as_large(self) -> None:
        first = self.filled("first", b"x", 4 * MIB - 1)
        small = self.clone(first, volumeXML("small", 10))
        self.assertEqual(4 * MIB, self.answer(self.remote.storageVolGetInfo(small)).capacity)
        self.assertEqual(self.file(first).read_bytes(), self.file(small).read_bytes())
        large = self.clone(first, volumeXML("large", 8 * MIB))
        self.assertEqual(8 * MIB, self.file(large).stat().st_size)

    def test_from_another_pool(self) -> None:
        first = self.filled("first", b"data")
        pool: StoragePool = self.answer(self.remote.storagePoolCreateXML(OTHER_POOL_XML, 0))
        copy = self.clone(first, pool=pool)
        self.assertEqual("/other/copy", copy.key)
        self.assertEqual(b"data", self.file(copy).read_bytes()[:4])

    def test_what_was_in_another_volume_of_that_name_is_not_seen(self) -> None:
        self.answer(self.remote.storageVolDelete(self.filled("copy", b"secret"), 0))
        copy = self.clone(self.filled("first", b"x"))
        self.assertNotIn(b"secret", self.file(copy).read_bytes())

    def test_the_pool_has_less_left(self) -> None:
        first = self.filled("first", b"data" * 1000)
        before = self.answer(self.remote.storagePoolGetInfo(POOL)).available
        copy = self.clone(first)
        taken = self.answer(self.remote.storageVolGetInfo(copy)).allocation
        self.assertTrue(taken)
        self.assertEqual(before - taken, self.answer(self.remote.storagePoolGetInfo(POOL)).available)

    def test_refused(self) -> None:
        first = self.filled("first", b"data")
        copy = self.clone(first)
        error = self.refused(self.remote.storageVolCreateXMLFrom(POOL, volumeXML("copy", 1), first, 0))
        self.assertEqual("operation failed: storage vol already exists", str(error))
        self.assertEqual(b"data", self.file(copy).read_bytes()[:4])
        nothing = StorageVol("default-pool", "nothing", "")
        error = self.refused(self.remote.storageVolCreateXMLFrom(POOL, volumeXML("x", 1), nothing, 0))
        self.assertEqual(ErrorNumber.NO_STORAGE_VOL, error.code)
        self.assertEqual(self.before, len(openDescriptors()))

    def test_what_cannot_be_copied_is_not_there(self) -> None:
        first = self.filled("first", b"data")
        before = self.answer(self.remote.storagePoolGetInfo(POOL))

        def full(source: int, target: int, position: int) -> None:
            raise OSError(errno.ENOSPC, "full")

        self.patch(volumeclone, "_copy", full)
        error = self.refused(self.remote.storageVolCreateXMLFrom(POOL, volumeXML("copy", 1), first, 0))
        self.assertEqual(ErrorNumber.SYSTEM_ERROR, error.code)
        self.assertEqual("cannot copy into volume 'copy': No space left on device", str(error))
        self.assertEqual(["first"], self.answer(self.remote.storagePoolListVolumes(POOL, 10)))
        self.assertEqual(before, self.answer(self.remote.storagePoolGetInfo(POOL)))
        self.assertEqual(self.before, len(openDescriptors()))


class MeanwhileTests(CloneCase):
    """
    While a thread copies.
    """

    def reactor(self) -> Any:
        self.held = HeldReactor()
        return self.held

    def begin(self) -> Any:
        self.first = self.filled("first", b"data")
        self.copying = self._begun(
            self.remote.storageVolCreateXMLFrom(POOL, volumeXML("copy", MIB), self.first, 0)
        )
        self.assertNoResult(self.copying)
        return StorageVol("default-pool", "copy", "/default-pool/copy")

    def test_other_calls_go_on(self) -> None:
        copy = self.begin()
        self.assertEqual(["copy", "first"], sorted(self.answer(self.remote.storagePoolListVolumes(POOL, 10))))
        self.held.pool.work()
        self.turn()
        self.assertEqual(copy, self.successResultOf(self.copying))
        self.assertEqual(b"data", self.download(copy)[:4])

    def test_nobody_may_use_it(self) -> None:
        copy = self.begin()
        for call in (
            self.remote.storageVolDownload(copy, 0, 0, 0),
            self.remote.storageVolUpload(copy, 0, 0, 0),
            self.remote.storageVolDelete(copy, 0),
            self.remote.storageVolCreateXMLFrom(POOL, volumeXML("third", 1), copy, 0),
        ):
            error = self.refused(call)
            self.assertEqual((ErrorNumber.OPERATION_INVALID, ErrorDomain.STORAGE), (error.code, error.domain))
            self.assertEqual(
                "Requested operation is not valid: volume 'copy' is still being allocated.", str(error)
            )
        error = self.refused(self.remote.storageVolCreateXML(POOL, volumeXML("copy", 1), 0))
        self.assertEqual("operation failed: storage vol already exists", str(error))
        self.held.pool.work()
        self.turn()
        self.answer(self.remote.storageVolDelete(copy, 0))

    def test_the_other_volume_may_go(self) -> None:
        copy = self.begin()
        self.answer(self.remote.storageVolDelete(self.first, 0))
        self.held.pool.work()
        self.turn()
        self.assertEqual(b"data", self.download(copy)[:4])
        self.assertEqual(self.before, len(openDescriptors()))

    def test_the_pool_may_go(self) -> None:
        self.begin()
        self.answer(self.remote.storagePoolDestroy(POOL))
        self.answer(self.remote.storagePoolUndefine(POOL))
        self.held.pool.work()
        self.turn()
        self.successResultOf(self.copying)
        self.assertEqual([], list(self.directory.glob("*/*")))
        self.assertEqual(self.before, len(openDescriptors()))

    def test_the_client_may_go(self) -> None:
        copy = self.begin()
        self.pair.client.abort(ConnectionLost("the test ends it"))
        self.turn()
        self.held.pool.work()
        self.remote = self.another()
        self.assertEqual(self.before, len(openDescriptors()))
        self.failureResultOf(self.copying)
        # It is completed all the same, as in libvirt.
        self.assertEqual(b"data", self.download(copy)[:4])

    def test_piece_by_piece(self) -> None:
        self.patch(volumeclone, "_PIECE", 4096)
        first = self.filled("first", b"data" * 4096)
        copying = self.remote.storageVolCreateXMLFrom(POOL, volumeXML("copy", MIB), first, 0)
        copying = self._begun(copying)
        pieces = 0
        while self.held.pool.jobs:
            self.held.pool.workOnce()
            pieces += 1
        self.turn()
        self.assertEqual(5, pieces)
        copy = self.successResultOf(copying)
        self.assertEqual(self.file(first).read_bytes(), self.file(copy).read_bytes())
