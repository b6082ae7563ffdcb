"""Several file descriptors at a time: all of them, or none."""

from __future__ import annotations

import os
from collections.abc import Iterable


def closeAll(fds: Iterable[int]) -> None:
    """Close descriptors. One that is closed already, or is none, is not worth losing the others for."""
    for fd in fds:
        try:
            os.close(fd)
        except (OSError, OverflowError, TypeError):
            pass


def duplicateAll(fds: Iterable[int]) -> list[int]:
    """Make descriptors of one's own for the same files.

    @raise OSError: one is not open, or there is no room for more; then there are none.
    """
    copies: list[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(fd))
    except BaseException:
        closeAll(copies)
        raise
    return copies
