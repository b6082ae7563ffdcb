"""What this process has open: tests compare it before and after."""

from __future__ import annotations

import gc
import os


def openDescriptors() -> dict[int, str]:
    """The descriptors of this process and what they are open on."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the one by which the directory was read
    return found


def openAtRest() -> dict[int, str]:
    """The same, before something is tried: what earlier tests have left is closed when it is collected, which
    must not happen meanwhile.
    """
    gc.collect()
    return openDescriptors()
