"""
virnet: libvirt's RPC layer for Twisted.

L{connect<virnet.client.connection.connect>} opens a libvirt URI. It is imported when it is first used, so
that C{virnet.xdr} and C{virnet.wire} can be had without Twisted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from virnet._version import __version__

if TYPE_CHECKING:
    from virnet.client import connect

__all__ = ["__version__", "connect"]


def __getattr__(name: str) -> Any:
    if name == "connect":
        from virnet.client import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
