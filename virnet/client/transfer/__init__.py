"""
Volumes from files and URLs, and into files: with progress, checksums and holes.

  - L{upload<virnet.client.transfer.uploading.upload>} fills a volume from a file, anything with C{read}, an
    iterable, or a URL; L{download<virnet.client.transfer.downloading.download>} copies one into a file.
  - Memory is bounded: whoever is faster waits for the other, an HTTP server included.
  - What is not complete does not look complete: see the rules of the two modules.
"""

from virnet.client.transfer.checksum import Checksum
from virnet.client.transfer.downloading import download
from virnet.client.transfer.errors import TransferError
from virnet.client.transfer.options import HTTPOptions
from virnet.client.transfer.progress import Progress, Transferred
from virnet.client.transfer.uploading import upload

__all__ = ["Checksum", "HTTPOptions", "Progress", "TransferError", "Transferred", "download", "upload"]
