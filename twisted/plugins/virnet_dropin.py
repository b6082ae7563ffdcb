"""
What Twisted's plugin system finds of virnet: C{twistd virnet}, and the endpoint strings C{libvirt-…:}.

This file goes into Twisted's own C{twisted.plugins} package, so neither directory above it may have an
C{__init__.py}. It imports nothing of virnet: every C{twistd} on the machine reads it, for any plugin.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker
from twisted.internet.interfaces import IStreamClientEndpointStringParserWithReactor as IClientParser
from twisted.internet.interfaces import IStreamServerEndpointStringParser as IServerParser
from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from zope.interface import implementer

_SUMMARY = "A libvirt daemon: serves hypervisors to virsh and every other libvirt client."
virnet = ServiceMaker("virnet", "virnet.daemon.tap", _SUMMARY, "virnet")


@implementer(IPlugin, IServerParser, IClientParser)
class _Endpoints:
    def __init__(self, prefix: str, parser: str) -> None:
        self.prefix, self._parser = prefix, f"virnet.transport.{parser}"

    def __getattr__(self, name: str) -> object:
        if not name.startswith("parseStream"):
            raise AttributeError(name)
        return getattr(namedAny(self._parser), name)


tls = _Endpoints("libvirt-tls", "tlsendpoints")
uri = _Endpoints("libvirt", "strings.uri")
ssh = _Endpoints("libvirt-ssh", "strings.ssh")
program = _Endpoints("libvirt-exec", "strings.program")
stdio = _Endpoints("libvirt-stdio", "stdio")
