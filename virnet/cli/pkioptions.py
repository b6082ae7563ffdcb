"""
The options of C{pki}; nothing is loaded that only running it needs.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentParser

from virnet.cli.values import positive

AUTHORITY_DAYS = 3650
PEER_DAYS = 365

EPILOG = """\
On one machine:

  virnet pki init                                an authority
  virnet pki server --host NAME --host ADDRESS   a server's certificate
  virnet pki client --name NAME                  a client's
  virnet pki check --host NAME                   is all of it in order?

Files are where libvirt looks for them: /etc/pki for root, ~/.pki/libvirt for everybody else; with
--directory all are in one, which is the URI's pkipath. For other machines, whose files shall not be
mixed with yours, --authority says where the authority is, and --directory where its files go:

  virnet pki client --authority ~/.pki/libvirt --directory for-alice --name alice
"""

CHECK_EPILOG = """\
Without ROLE those are checked of which there is a file. Exit status: 0 when everything is in order,
1 when there is a problem; a warning is none.
"""


def pki(parser: ArgumentParser) -> None:
    """C{pki}"""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, summary: str, epilog: str = "") -> ArgumentParser:
        action = actions.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        action.add_argument(
            "--directory", metavar="DIR", help="where the files are (default libvirt's places)"
        )
        return action

    def making(action: ArgumentParser, days: int) -> None:
        action.add_argument("--key", choices=("ec", "rsa"), default="ec", help="P-256 (default), or RSA")
        action.add_argument(
            "--days", type=positive, default=days, metavar="N", help=f"how long it is valid (default {days})"
        )
        action.add_argument("--force", action="store_true", help="overwrite what is there")

    init = add("init", "make an authority")
    init.add_argument("--name", default="virnet CA", help="what it is called (default virnet CA)")
    making(init, AUTHORITY_DAYS)
    for role in ("server", "client"):
        peer = add(role, f"make a {role}'s certificate")
        peer.add_argument("--authority", metavar="DIR", help="where the authority is, if elsewhere")
        if role == "server":
            peer.add_argument(
                "--host",
                action="append",
                metavar="NAME",
                help="a name or address that clients use; as often as needed (default this machine's name)",
            )
        else:
            peer.add_argument("--name", help="who the client is (default your user name)")
        making(peer, PEER_DAYS)
    check = add("check", "say what is wrong with the files that are there", CHECK_EPILOG)
    check.add_argument(
        "role", nargs="?", choices=("server", "client"), metavar="ROLE", help="server or client"
    )
    check.add_argument("--host", metavar="NAME", help="is the server's certificate good for this name?")
