"""
The options of C{uri} and C{ssh-helper}; nothing is loaded that only running them needs.
"""

from __future__ import annotations

from argparse import ArgumentParser

EXPLAIN_EPILOG = """\
'virnet uri' asks the server. 'virnet uri explain [URI]' asks nobody: it says what opening the URI,
by default the one that other commands would use, comes to: the socket or the command line, what the
server is told to open, and where each of these comes from.
"""

HELPER_EPILOG = """\
Run by ssh, not by people. virsh and virnet look for virt-ssh-helper on the host; where only virnet
is, let that name lead to this one:

  ln -s "$(command -v virnet)" /usr/local/bin/virt-ssh-helper

"""


def uri(parser: ArgumentParser) -> None:
    """C{uri}"""
    parser.epilog = EXPLAIN_EPILOG
    parser.add_argument("action", nargs="?", metavar="explain", help="say what opening a URI would do")
    parser.add_argument("uri", nargs="?", metavar="URI", help="which (default the one of -c)")


def helper(parser: ArgumentParser) -> None:
    """C{ssh-helper}"""
    parser.epilog = HELPER_EPILOG
    parser.add_argument("uri", metavar="URI", help="what shall be opened; its socket is looked for here")
    parser.add_argument("--socket", metavar="PATH", help="lead to this socket, whatever the URI is")
