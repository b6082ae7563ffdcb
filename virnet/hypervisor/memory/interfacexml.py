"""A host interface's definition.

Rules:

  - An interface has a type and a name; those below a bridge or a bond have them too.
  - Elements libvirt does not know are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element

from virnet.errorcodes import ErrorDomain
from virnet.hypervisor.memory.canonical import orderAttributes, orderChildren, tidy
from virnet.hypervisor.memory.xmldocument import INTERFACE, parseDocument, xmlError
from virnet.hypervisor.memory.xmloutput import toText
from virnet.hypervisor.memory.xmlvalues import choice

TYPES = ("ethernet", "bridge", "bond", "vlan")
START_MODES = frozenset({"onboot", "none", "hotplug"})


@dataclass
class InterfaceDefinition:
    """What defines one interface.

    @ivar mac: empty for none.
    """

    name: str
    mac: str
    root: Element

    def toXML(self) -> str:
        """The document as text."""
        return toText(self.root)


def parseInterface(text: str) -> InterfaceDefinition:
    """Read an interface document.

    @raise RemoteError: what libvirt answers to such a document.
    """
    root = parseDocument(text, INTERFACE)
    tidy(root)
    choice(root, "type", TYPES)
    for node in root.iter("interface"):
        _complete(node)
    mac = root.find("mac")
    return InterfaceDefinition(
        root.attrib["name"], mac.get("address", "") if mac is not None else "", root
    )  # fmt: skip


def _complete(node: Element) -> None:
    if not node.get("name"):
        raise xmlError("interface has no name", ErrorDomain.INTERFACE)
    start = node.find("start")
    if start is not None and start.get("mode") not in START_MODES:
        raise xmlError(f"unknown interface startmode {start.get('mode')}", ErrorDomain.INTERFACE)
    for protocol in node.findall("protocol"):
        if protocol.get("family") not in ("ipv4", "ipv6"):
            family = protocol.get("family", "")
            raise xmlError(f"unsupported protocol family '{family}'", ErrorDomain.INTERFACE)
        orderChildren(protocol, ("dhcp", "autoconf", "ip", "route"))
    orderAttributes(node, ("type", "name"))
    orderChildren(node, "start link mtu protocol bond bridge vlan mac".split())
    if "type" in node.attrib and not len(node):
        node.text = ""
