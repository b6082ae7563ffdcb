"""What goes wrong with the data itself; what the libvirt server refuses stays a L{RemoteError}."""

from __future__ import annotations

from virnet.errors import VirnetError


class TransferError(VirnetError):
    """The source cannot be read, or is not what it should be; or the target cannot be written."""
