"""What is in volumes, written and read through streams.

Rules:

  - A stream keeps its file also when the volume is deleted meanwhile.
  - After an upload the volume takes what its file takes, and is at least as large as that.
"""

from __future__ import annotations

import os

from virnet.errorcodes import ErrorDomain
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import checkFlags
from virnet.hypervisor.memory.state import MemoryPool, MemoryState
from virnet.hypervisor.memory.storage import usableVolume
from virnet.hypervisor.memory.storagexml import VolumeDefinition
from virnet.programs import IStorageVol, partialImplementer
from virnet.programs.constants import StorageVolDownloadFlags, StorageVolUploadFlags
from virnet.programs.values import StorageVol
from virnet.server import FileSink, FileSource


def measure(state: MemoryState, pool: MemoryPool, volume: VolumeDefinition) -> None:
    """See what a volume takes now that somebody has written to it."""
    if pool.volumes.get(volume.name) is not volume:
        return
    try:
        allocation, size = state.files.measure(pool.uuid, volume)
    except OSError:
        # Somebody took the file away behind our back: nothing is known about it any more.
        return
    pool.definition.allocation += allocation - volume.allocation
    volume.allocation = allocation
    volume.capacity = max(volume.capacity, size)


@partialImplementer(IStorageVol)
class VolumeData:
    """Provides uploads and downloads."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def storageVolDownload(self, vol: StorageVol, offset: int, length: int, flags: int) -> FileSource:
        checkFlags("storageVolDownload", flags, StorageVolDownloadFlags.SPARSE_STREAM)
        pool, volume = usableVolume(self._state, vol)
        fd = self._openAt(pool, volume, offset)
        return FileSource(fd, length or None, bool(flags))

    def storageVolUpload(self, vol: StorageVol, offset: int, length: int, flags: int) -> FileSink:
        checkFlags("storageVolUpload", flags, StorageVolUploadFlags.SPARSE_STREAM)
        pool, volume = usableVolume(self._state, vol)
        fd = self._openAt(pool, volume, offset)
        return FileSink(fd, length or None, whenOver=lambda: measure(self._state, pool, volume))

    def _openAt(self, pool: MemoryPool, volume: VolumeDefinition, offset: int) -> int:
        fd = self._state.files.open(pool.uuid, volume)
        try:
            os.lseek(fd, offset, os.SEEK_SET)
        except (OSError, OverflowError) as e:
            os.close(fd)
            number = getattr(e, "errno", None) or 22
            text = f"Unable to seek volume '{volume.name}' to {offset}: {os.strerror(number)}"
            raise RemoteError.ofSystem(number, text, ErrorDomain.STORAGE) from e
        return fd
