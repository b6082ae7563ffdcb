"""Where virnet's server listens, and its client looks, when neither is told.

Root: C{/run/virnet/virnet-sock}. Everybody else: C{virnet/virnet-sock} below C{$XDG_RUNTIME_DIR}, and no
default where that is not set. Root's own C{XDG_RUNTIME_DIR} does not count: C{sudo} may keep another user's,
and what is in it goes when root logs out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

ROOT_DIRECTORY = "/run/virnet"
DIRECTORY = "virnet"
SOCKET = "virnet-sock"


def defaultSocketPath(environ: Mapping[str, str]) -> str | None:
    """The default path of the UNIX socket; C{None} where there is none."""
    if os.geteuid() == 0:
        return f"{ROOT_DIRECTORY}/{SOCKET}"
    runtime = environ.get("XDG_RUNTIME_DIR")
    return f"{runtime}/{DIRECTORY}/{SOCKET}" if runtime else None
