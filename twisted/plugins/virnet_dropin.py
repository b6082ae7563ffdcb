"""
What Twisted's plugin system finds of virnet: C{twistd virnet}.

This file goes into Twisted's own C{twisted.plugins} package, so neither directory above it may have an
C{__init__.py}. It imports nothing of virnet: every C{twistd} on the machine reads it, for any plugin.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

virnet = ServiceMaker(
    "virnet",
    "virnet.daemon.tap",
    "A libvirt daemon: serves hypervisors to virsh and every other libvirt client.",
    "virnet",
)
