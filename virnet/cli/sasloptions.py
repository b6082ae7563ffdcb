"""
The options of C{sasl}; nothing is loaded that only running it needs.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentParser

from virnet.cli.values import positive
from virnet.limits import SCRAM_ITERATIONS

EPILOG = """\
FILE holds salted keys and no passwords; it is made if there is none, with mode 0600. A server that
uses it (twistd virnet --sasl-passwords FILE) sees each change at once. A password is asked for on
the terminal, or is the first line of standard input:

  virnet sasl passwd users alice
  pwgen 20 1 | tee alice.txt | virnet sasl passwd users alice
"""


def sasl(parser: ArgumentParser) -> None:
    """C{sasl}"""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, summary: str, user: bool) -> ArgumentParser:
        action = actions.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        action.add_argument("file", metavar="FILE", help="the file of credentials")
        if user:
            action.add_argument("user", metavar="USER", help="the user's name")
        return action

    add("passwd", "give a user a password, or another one", True).add_argument(
        "--iterations",
        metavar="N",
        type=positive,
        default=SCRAM_ITERATIONS,
        help=f"how often to hash it, 4096 or more (default {SCRAM_ITERATIONS})",
    )
    add("list", "print the names of the users", False)
    add("delete", "remove a user", True)
