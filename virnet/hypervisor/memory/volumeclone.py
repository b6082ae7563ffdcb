"""A volume made from another: its contents are copied.

Rules:

  - The new volume is at least as large as the other one, and takes the same space: holes stay holes.
  - It is there at once, but as long as its contents are being copied nobody may read, change or delete it.
    What cannot be copied wholly is not there any more afterwards.
  - The copy is what the other volume holds meanwhile, also when that is deleted before it is complete.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from virnet.errorcodes import ErrorDomain
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import checkFlags
from virnet.hypervisor.memory.state import MemoryPool, MemoryState
from virnet.hypervisor.memory.storage import activePool, createVolume, deleteVolume, usableVolume
from virnet.hypervisor.memory.storagexml import VolumeDefinition
from virnet.hypervisor.memory.volumedata import measure
from virnet.limits import FILE_CHUNK
from virnet.programs import IStorageVol, partialImplementer
from virnet.programs.values import StoragePool, StorageVol
from virnet.transport.files import ThreadedFile


@partialImplementer(IStorageVol)
class VolumeClones:
    """Provides volumes made from others."""

    def __init__(self, state: MemoryState, reactor: Any = None) -> None:
        """@param reactor: copies are made in its threads; without it they hold up everything."""
        self._state = state
        self._reactor = reactor or Clock()

    def storageVolCreateXMLFrom(
        self, pool: StoragePool, xml: str, clonevol: StorageVol, flags: int
    ) -> Deferred[StorageVol]:
        checkFlags("testStorageVolCreateXMLFrom", flags)
        state = self._state
        into = activePool(state, pool.name)
        origin, original = usableVolume(state, clonevol)
        volume = createVolume(state, into, xml, atLeast=original.capacity)
        reference = into.volumeReference(volume)
        if not state.files.exists(origin.uuid, original):
            return succeed(reference)
        source = state.files.open(origin.uuid, original)
        try:
            target = state.files.open(into.uuid, volume)
        except RemoteError:
            os.close(source)
            deleteVolume(state, into, volume)
            raise
        volume.building = True
        file = ThreadedFile(self._reactor, target, lambda: os.close(source))
        copying = file.run(_copy, source, target)

        def over(outcome: Any) -> StorageVol:
            volume.building = False
            file.close()
            if isinstance(outcome, Failure):
                self._forget(into, volume)
                raise _error(volume, outcome.value)
            measure(state, into, volume)
            return reference

        return copying.addBoth(over)

    def _forget(self, pool: MemoryPool, volume: VolumeDefinition) -> None:
        if pool.volumes.get(volume.name) is volume:
            deleteVolume(self._state, pool, volume)


def _copy(source: int, target: int) -> None:
    """Copy what a file holds, and leave its holes out.

    @raise OSError: the system refuses.
    """
    end = os.fstat(source).st_size
    position = 0
    while position < end:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:
                # Nothing but a hole to the end.
                return
            raise
        position = min(os.lseek(source, start, os.SEEK_HOLE), end)
        os.lseek(target, start, os.SEEK_SET)
        while start < position:
            sent = os.sendfile(target, source, start, min(position - start, FILE_CHUNK))
            if not sent:
                # It has become shorter.
                return
            start += sent


def _error(volume: VolumeDefinition, e: BaseException | None) -> RemoteError:
    number = getattr(e, "errno", None) or errno.EIO
    text = f"cannot copy into volume '{volume.name}': {os.strerror(number)}"
    return RemoteError.ofSystem(number, text, ErrorDomain.STORAGE)
