"""The files in which the volumes of a hypervisor in memory are kept.

Rules:

  - A volume's file comes into being when it is first needed, sparse and as large as the volume's capacity.
  - A name is a client's word: it never leads out of the directory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from urllib.parse import quote

from virnet.errorcodes import ErrorDomain
from virnet.errors import RemoteError
from virnet.hypervisor.memory.storagexml import VolumeDefinition
from virnet.hypervisor.memory.xmlvalues import formatUUID

_SECTOR = 512


class VolumeFiles:
    """The files of a hypervisor's volumes.

    @ivar directory: where they are; C{None} until the first is needed.
    """

    def __init__(self, directory: str | None = None) -> None:
        """@param directory: where to keep them; without it a temporary one, gone when this is."""
        self.directory = directory
        self._temporary = directory is None

    def open(self, pool: bytes, volume: VolumeDefinition) -> int:
        """Open a volume's file for reading and writing.

        @param pool: the uuid of its pool.
        @return: the descriptor; the caller's.
        @raise RemoteError: the system refuses.
        """
        path = self._path(pool, volume)
        try:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            new = not os.path.exists(path)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if new:
                os.truncate(path, volume.capacity)
        except OSError as e:
            raise RemoteError.ofSystem(
                e.errno or 0, f"cannot open volume '{volume.name}': {e.strerror}", ErrorDomain.STORAGE
            ) from e
        return fd

    def remove(self, pool: bytes, volume: VolumeDefinition) -> None:
        """A volume was deleted."""
        if self.directory is not None:
            try:
                os.unlink(self._path(pool, volume))
            except FileNotFoundError:
                pass

    def measure(self, pool: bytes, volume: VolumeDefinition) -> tuple[int, int]:
        """What a volume's file takes on disk, and how long it is, in bytes."""
        found = os.stat(self._path(pool, volume))
        return found.st_blocks * _SECTOR, found.st_size

    def _path(self, pool: bytes, volume: VolumeDefinition) -> str:
        if self.directory is None:
            self.directory = tempfile.mkdtemp(prefix="virnet-volumes-")
            weakref.finalize(self, shutil.rmtree, self.directory, True)
        # A name is a client's word: quoted it is one component of a path, and never `..`.
        return os.path.join(self.directory, formatUUID(pool), "=" + quote(volume.name, safe=""))
