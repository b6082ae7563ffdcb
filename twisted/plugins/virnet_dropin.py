"""
What Twisted's plugin system finds of virnet: C{twistd virnet}, and the endpoint strings C{libvirt-…:}.

This file goes into Twisted's own C{twisted.plugins} package, so neither directory above it may have an
C{__init__.py}. It imports nothing of virnet: every C{twistd} on the machine reads it, for any plugin.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker
from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from twisted.python.reflect import namedModule
from zope.interface import implementer

virnet = ServiceMaker(
    "virnet",
    "virnet.daemon.tap",
    "A libvirt daemon: serves hypervisors to virsh and every other libvirt client.",
    "virnet",
)


@implementer(IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor)
class _Endpoints:
    def __init__(self, prefix: str, module: str) -> None:
        self.prefix, self._module = prefix, module

    def __getattr__(self, name: str) -> object:
        if not name.startswith("parseStream"):
            raise AttributeError(name)
        return getattr(namedModule(self._module), name)


tls = _Endpoints("libvirt-tls", "virnet.transport.tlsendpoints")
