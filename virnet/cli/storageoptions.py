"""The options of the commands for pools, volumes and networks."""

from __future__ import annotations

from argparse import ArgumentParser

from virnet.cli.values import number, offer, seconds, size
from virnet.limits import HTTP_REDIRECTS, HTTP_RETRIES, HTTP_STALL

UPLOAD_EPILOG = """\
SOURCE is a file, - for standard input, or with --from a URL (http or https). The beginning is sent
last, when everything else has arrived and its length and checksum are right: whatever goes wrong,
even when this command or the host is killed, the volume begins with zeros and does not look like
an image. A transfer over HTTP that is cut goes on where it was, if the server lets it.

SIZE is in bytes, or with a unit: 512M, 20G.

examples:
  virnet vol-upload /images/web1.img web1.img
  virnet vol-upload debian --pool default --create 20G --checksum sha256:0f5ef4... \\
      --from https://mirror.example/debian.raw
"""

DOWNLOAD_EPILOG = """\
FILE gets its name when all of it is there: until then it is FILE.part. - is standard output.
"""


def volumes(parser: ArgumentParser) -> None:
    """C{vol-list}"""
    offer(
        parser.add_argument("pool", metavar="POOL", nargs="?", help="the pool (default: all active)"), "pool"
    )


def pools(parser: ArgumentParser) -> None:
    """C{pool-list}"""
    parser.add_argument("--all", action="store_true", help="those that are not active as well")


networks = pools


def upload(parser: ArgumentParser) -> None:
    """C{vol-upload}"""
    parser.epilog = UPLOAD_EPILOG
    _volume(parser)
    offer(parser.add_argument("source", metavar="SOURCE", nargs="?", help="what to send"), "file")
    parser.add_argument("--from", dest="url", metavar="URL", help="send what is there")
    parser.add_argument(
        "--create", type=size, metavar="SIZE", help="make the volume; it is deleted on failure"
    )
    parser.add_argument("--format", default="raw", help="of a volume that is made (default raw)")
    parser.add_argument("--on-failure", choices=("keep", "wipe", "delete"), help="what becomes of the volume")
    parser.add_argument("--size", type=size, metavar="SIZE", help="refuse a source of any other size")
    _transfer(parser)
    parser.add_argument(
        "--redirects",
        type=number,
        default=HTTP_REDIRECTS,
        metavar="N",
        help=f"follow so many ({HTTP_REDIRECTS})",
    )
    parser.add_argument(
        "--stall",
        type=seconds,
        default=HTTP_STALL,
        metavar="S",
        help=f"silence that is a cut ({HTTP_STALL:g})",
    )
    parser.add_argument(
        "--retries",
        type=number,
        default=HTTP_RETRIES,
        metavar="N",
        help=f"cuts without progress ({HTTP_RETRIES})",
    )


def download(parser: ArgumentParser) -> None:
    """C{vol-download}"""
    parser.epilog = DOWNLOAD_EPILOG
    _volume(parser)
    offer(parser.add_argument("file", metavar="FILE", help="where to put it"), "file")
    parser.add_argument("--length", type=size, default=0, metavar="SIZE", help="bytes at the most")
    _transfer(parser)


def _volume(parser: ArgumentParser) -> None:
    offer(parser.add_argument("volume", metavar="VOLUME", help="its name in POOL, or its path"), "volume")
    offer(parser.add_argument("-p", "--pool", metavar="POOL", help="the pool it is in"), "pool")


def _transfer(parser: ArgumentParser) -> None:
    parser.add_argument("--offset", type=size, default=0, metavar="SIZE", help="begin there in the volume")
    parser.add_argument("--sparse", action="store_true", help="holes travel as holes")
    parser.add_argument(
        "--checksum", metavar="NAME[:HEX]", help="sha256 prints it, sha256:… refuses data with another"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
