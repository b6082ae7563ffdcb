"""A virtual network's definition.

Rules:

  - A network that isolates, routes or translates has a bridge, with or without a name; one that forwards by
    NAT, routing or openly needs an address.
  - Addresses must be of their family, ranges within their network.
  - Elements libvirt does not know are kept.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.canonical import orderAttributes, orderChildren, takeNamespaces, tidy
from virnet.hypervisor.memory.xmldocument import NETWORK, parseDocument, xmlError
from virnet.hypervisor.memory.xmloutput import child, element, replace, toText
from virnet.hypervisor.memory.xmlvalues import RandomBytes, decimal, formatUUID, parseMAC, parseUUID

CHILDREN = (
    "name uuid metadata forward bridge mtu mac domain dns vlan bandwidth port ip route virtualport portgroup"
).split()
FORWARD_MODES = frozenset("none nat route open bridge private vepa passthrough hostdev".split())
#: Forward modes of networks that libvirt makes a bridge for; C{none} is not written down.
_OWN_BRIDGE = frozenset({None, "nat", "route", "open"})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass
class NetworkDefinition:
    """What defines one network.

    @ivar uuid: 16 bytes.
    @ivar bridge: the name of its bridge; C{None} for none.
    @ivar root: the whole document.
    """

    name: str
    uuid: bytes
    bridge: str | None
    root: Element

    def toXML(self) -> str:
        """The document as text."""
        return toText(self.root)


def parseNetwork(text: str, randomBytes: RandomBytes) -> NetworkDefinition:
    """Read a network document.

    @raise RemoteError: what libvirt answers to such a document.
    """
    root = parseDocument(text, NETWORK)
    takeNamespaces(root)
    tidy(root)
    root.attrib.pop("connections", None)
    first = {node.tag: node for node in reversed(root)}
    root[:] = [node for node in root if node.tag not in _SINGLE or first[node.tag] is node]
    name = root.findtext("name")
    if not name:
        raise RemoteError.of(ErrorNumber.NO_NAME, None, ErrorDomain.NETWORK)
    if "/" in name:
        raise RemoteError.of(ErrorNumber.XML_DETAIL, "invalid char in name: /", ErrorDomain.XML)
    uuid = parseUUID(root.findtext("uuid"), ErrorDomain.NETWORK, randomBytes)
    replace(root, element("uuid", formatUUID(uuid)))
    for title in root.findall("title"):
        root.remove(title)
    mode = _completeForward(root)
    for mac in root.findall("mac"):
        _completeMAC(mac, name)
    for dns in root.findall("dns"):
        orderChildren(dns, ("forwarder", "txt", "srv", "host"))
    addresses = [_completeAddress(ip, name) for ip in root.findall("ip")]
    for route in root.findall("route"):
        _checkRoute(route, addresses, name)
    if mode in ("nat", "route", "open") and not addresses:
        raise xmlError(
            f"{mode} forwarding requested, but no IP address provided for network '{name}'",
            ErrorDomain.NETWORK,
        )
    bridge = _completeBridge(root, mode)
    orderChildren(root, CHILDREN)
    return NetworkDefinition(name, uuid, bridge, root)


_SINGLE = frozenset("name uuid title metadata forward bridge mtu mac domain dns".split())


def _unsupported(detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.CONFIG_UNSUPPORTED, detail, ErrorDomain.NETWORK)


def _completeForward(root: Element) -> str | None:
    forward = root.find("forward")
    if forward is None:
        return None
    mode = forward.get("mode", "nat")
    if mode not in FORWARD_MODES:
        raise _unsupported(f"unknown forwarding type '{mode}'")
    if mode == "none":
        root.remove(forward)
        return None
    forward.set("mode", mode)
    orderAttributes(forward, ("dev", "mode", "managed"))
    return mode


def _completeBridge(root: Element, mode: str | None) -> str | None:
    bridge = root.find("bridge")
    if mode in _OWN_BRIDGE:
        if bridge is None:
            bridge = child(root, "bridge")
        bridge.set("stp", "off" if bridge.get("stp") == "off" else "on")
        bridge.attrib.setdefault("delay", "0")
    if bridge is None:
        return None
    orderAttributes(bridge, ("name", "zone", "stp", "delay", "macTableManager"))
    return bridge.get("name")


def _completeMAC(mac: Element, name: str) -> None:
    address = mac.get("address", "")
    try:
        mac.set("address", parseMAC(address))
    except RemoteError:
        detail = f"Invalid bridge mac address '{address}' in network '{name}'"
        raise xmlError(detail, ErrorDomain.NETWORK) from None


def _completeAddress(ip: Element, name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    text, family, netmask = ip.get("address"), ip.get("family", "ipv4"), ip.get("netmask")
    if text is None:
        raise xmlError(f"Missing required address attribute in network '{name}'", ErrorDomain.NETWORK)
    address = _address(text)
    if address is None:
        raise xmlError(f"Invalid address '{text}' in network '{name}'", ErrorDomain.NETWORK)
    if address.version == 6 and family != "ipv6":
        raise _unsupported(f"no family specified for non-IPv4 address '{text}' in network '{name}'")
    if netmask is not None and (mask := _address(netmask)) is None:
        raise xmlError(f"Invalid netmask '{netmask}' in network '{name}'", ErrorDomain.NETWORK)
    prefix = ip.get("prefix")
    if netmask is not None and prefix is not None:
        raise _unsupported(f"Network '{name}' IP address cannot have both a prefix and a netmask")
    if prefix is not None and decimal(prefix, address.max_prefixlen) is None:
        raise xmlError(f"Invalid prefix '{prefix}' in network '{name}'", ErrorDomain.NETWORK)
    length = prefix or (str(mask) if netmask is not None else "64" if address.version == 6 else "24")
    try:
        network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    except ValueError:
        detail = f"Invalid netmask '{netmask}' for address '{text}' in network '{name}'"
        raise xmlError(detail, ErrorDomain.NETWORK) from None
    for dhcp_range in ip.iterfind("dhcp/range"):
        _checkRange(dhcp_range, text, network)
    orderAttributes(ip, ("family", "address", "netmask", "prefix"))
    orderChildren(ip, ("tftp", "dhcp"))
    if not len(ip):
        ip.text = ""
    return network


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _checkRange(node: Element, text: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
    start, end = _address(node.get("start", "")), _address(node.get("end", ""))
    if start is None or end is None or start.version != end.version:
        raise xmlError("Invalid DHCP range", ErrorDomain.NETWORK)
    words = f"range {start} - {end} is"
    if int(start) > int(end):
        raise _internal(f"{words} reversed ")
    if start not in network or end not in network:
        raise _internal(f"{words} not entirely within network {text}/{network.prefixlen}")


def _internal(detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.INTERNAL_ERROR, detail, ErrorDomain.NONE)


def _checkRoute(
    route: Element, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network], name: str
) -> None:
    gateway = _address(route.get("gateway", ""))
    if gateway is None or not any(gateway in network for network in networks):
        where = route.get("gateway", "")
        raise _unsupported(f"unreachable static route gateway '{where}' specified for network '{name}'")
    orderAttributes(route, ("family", "address", "netmask", "prefix", "gateway", "metric"))
