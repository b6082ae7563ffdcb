"""virnet: libvirt's RPC layer for Twisted."""

from virnet._version import __version__

__all__ = ["__version__"]
