"""
Where the C{virnet} command begins.

Nothing but this is loaded before somebody is there to take Ctrl-C: loading Twisted takes long enough for it.
"""

from __future__ import annotations

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

        return run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return INTERRUPTED
