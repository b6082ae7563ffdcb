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

from twisted.internet.task import Clock

from virnet.errorcodes import ErrorDomain
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import checkFlags
from virnet.hypervisor.memory.state import MemoryPool, MemoryState
from virnet.hypervisor.memory.storage import activePool, createVolume, deleteVolume, usableVolume
from virnet.hypervisor.memory.storagexml import VolumeDefinition
from virnet.hypervisor.memory.volumedata import measure
from virnet.programs import IStorageVol, partialImplementer
from virnet.programs.values import StoragePool, StorageVol
from virnet.transport.files import ThreadedFile

_PIECE = 67108864
"""Bytes that are copied in one turn of a thread: a daemon that is told to stop waits for no more."""


@partialImplementer(IStorageVol)
class VolumeClones:
    """Provides volumes made from others."""

    def __init__(self, state: MemoryState, reactor: Any = None) -> None:
        """@param reactor: copies are made in its threads; without it they hold up everything."""
        self._state = state
        self._reactor = reactor or Clock()

    async def storageVolCreateXMLFrom(
        self, pool: StoragePool, xml: str, clonevol: StorageVol, flags: int
    ) -> StorageVol:
        checkFlags("testStorageVolCreateXMLFrom", flags)
        state = self._state
        into = activePool(state, pool.name)
        origin, original = usableVolume(state, clonevol)
        volume = createVolume(state, into, xml, atLeast=original.capacity)
        if state.files.exists(origin.uuid, original):
            volume.building = True
            try:
                await self._fill(origin, original, into, volume)
            except BaseException:
                # Whatever it was that stopped it.
                if into.volumes.get(volume.name) is volume:
                    deleteVolume(state, into, volume)
                raise
            volume.building = False
            measure(state, into, volume)
        return into.volumeReference(volume)

    async def _fill(
        self, origin: MemoryPool, original: VolumeDefinition, into: MemoryPool, volume: VolumeDefinition
    ) -> None:
        source = self._state.files.open(origin.uuid, original)
        try:
            target = self._state.files.open(into.uuid, volume)
        except RemoteError:
            os.close(source)
            raise
        file = ThreadedFile(self._reactor, target, lambda: os.close(source))
        try:
            position: int | None = 0
            while position is not None:
                position = await file.run(_copy, source, target, position)
        except OSError as e:
            raise _error(volume, e) from e
        finally:
            file.close()


def _copy(source: int, target: int, position: int) -> int | None:
    """Copy the next piece of what a file holds, and leave its holes out.

    @param position: where to go on.
    @return: where the next piece begins; C{None} if there is none.
    @raise OSError: the system refuses.
    """
    try:
        start = os.lseek(source, position, os.SEEK_DATA)
    except OSError as e:
        if e.errno == errno.ENXIO:
            # Nothing but a hole to the end.
            return None
        raise
    end = min(os.lseek(source, start, os.SEEK_HOLE), start + _PIECE)
    os.lseek(target, start, os.SEEK_SET)
    while start < end:
        sent = os.sendfile(target, source, start, end - start)
        if not sent:
            # It has become shorter.
            return None
        start += sent
    return end


def _error(volume: VolumeDefinition, e: OSError) -> RemoteError:
    number = e.errno or errno.EIO
    text = f"cannot copy into volume '{volume.name}': {os.strerror(number)}"
    return RemoteError.ofSystem(number, text, ErrorDomain.STORAGE)
