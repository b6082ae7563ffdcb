"""The files in which the volumes of a hypervisor in memory are kept.

Rules:

  - A volume's file comes into being when it is first needed, sparse and as large as the volume's capacity.
  - A name is a client's word, of any length: it never leads out of the directory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from hashlib import sha256
from urllib.parse import quote

from virnet.errorcodes import ErrorDomain
from virnet.errors import RemoteError
from virnet.hypervisor.memory.storagexml import VolumeDefinition
from virnet.hypervisor.memory.xmlvalues import formatUUID

_SECTOR = 512
_FILE_NAME_MAX = 255


class VolumeFiles:
    """The files of a hypervisor's volumes.

    @ivar directory: where they are; C{None} until the first is needed.
    """

    def __init__(self, directory: str | None = None) -> None:
        """@param directory: where to keep them; without it a temporary one, gone when this is."""
        self.directory = directory

    def open(self, pool: bytes, volume: VolumeDefinition) -> int:
        """Open a volume's file for reading and writing.

        @param pool: the uuid of its pool.
        @return: the descriptor; the caller's.
        @raise RemoteError: the system refuses.
        """
        try:
            path = self._path(pool, volume)
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            try:
                return os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return _make(path, volume.capacity)
        except OSError as e:
            raise _error("open", volume, e) from e

    def exists(self, pool: bytes, volume: VolumeDefinition) -> bool:
        """Whether anything was ever in a volume."""
        return self.directory is not None and os.path.exists(self._path(pool, volume))

    def remove(self, pool: bytes, volume: VolumeDefinition) -> None:
        """Forget what is in a volume.

        @raise RemoteError: the system refuses.
        """
        if self.directory is None:
            return
        try:
            os.unlink(self._path(pool, volume))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as e:
            raise _error("remove", volume, e) from e

    def measure(self, pool: bytes, volume: VolumeDefinition) -> tuple[int, int]:
        """What a volume's file takes on disk, and how long it is, in bytes.

        @raise OSError: it has none.
        """
        found = os.stat(self._path(pool, volume))
        return found.st_blocks * _SECTOR, found.st_size

    def _path(self, pool: bytes, volume: VolumeDefinition) -> str:
        if self.directory is None:
            self.directory = tempfile.mkdtemp(prefix="virnet-volumes-")
            weakref.finalize(self, shutil.rmtree, self.directory, True)
        # Quoted a name is one component of a path, and with something before it never `..`.
        name = "=" + quote(volume.name, safe="")
        if len(name) > _FILE_NAME_MAX:
            name = "+" + sha256(name.encode()).hexdigest()
        return os.path.join(self.directory, formatUUID(pool), name)


def _make(path: str, size: int) -> int:
    """Make a file that is one hole, and open it.

    @raise OSError: the system refuses; there is no file then.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(fd, size)
    except OSError:
        os.close(fd)
        os.unlink(path)
        raise
    return fd


def _error(doing: str, volume: VolumeDefinition, e: OSError) -> RemoteError:
    return RemoteError.ofSystem(
        e.errno or 0, f"cannot {doing} volume '{volume.name}': {e.strerror}", ErrorDomain.STORAGE
    )
