"""
Where the C{virnet} command begins.

Nothing but this is loaded before somebody is there to take Ctrl-C: loading Twisted takes long enough for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    @param argv: the words behind the command's name; by default the process's own.
    @return: the exit status.
    """
    try:
        from virnet.cli.run import run

        if argv is None:
            # Under the name of libvirt's helper it is that: clients elsewhere run it by this name.
            helper = os.path.basename(sys.argv[0]) == "virt-ssh-helper"
            argv = ["ssh-helper", *sys.argv[1:]] if helper else sys.argv[1:]
        return run(argv)
    except KeyboardInterrupt:
        return INTERRUPTED
