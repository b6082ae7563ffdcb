"""Values in XML documents as libvirt reads them: numbers, sizes, CPU sets, uuids, MAC addresses."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from xml.etree.ElementTree import Element

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.xmldocument import xmlError

#: Gives that many random bytes (C{os.urandom}; a fixed sequence in tests).
RandomBytes = Callable[[int], bytes]

_DECIMAL = re.compile(r"[0-9]+\Z")
_MAC = re.compile(r"[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2}){5}\Z")
_SUFFIX = re.compile(r"(?:b|bytes?|([kmgtpe])(|ib|b))\Z", re.IGNORECASE)
_POWERS = "kmgtpe"
#: The largest size in bytes (C: C{LLONG_MAX}).
SIZE_MAX = 2**63 - 1
#: The largest number of an attribute that counts something (C: C{UINT_MAX}).
COUNT_MAX = 2**32 - 1
#: CPU numbers of a host and of a guest end here (C: C{VIR_DOMAIN_CPUMASK_LEN}).
CPUS_MAX = 16384


def decimal(text: str | None, maximum: int) -> int | None:
    """A decimal number; C{None} where the text is no such number or beyond C{maximum}."""
    # 20 digits hold any 64 bit number, and int() of a long text is slow.
    if text is None or len(text) > 20 or not _DECIMAL.match(text):
        return None
    number = int(text)
    return number if number <= maximum else None


def scaled(number: int, unit: str | None, default: int) -> int:
    """Apply a unit to a number (C: C{virScaleInteger}).

    @param unit: C{b}, C{bytes}, or a letter of C{kMGTPE} with C{iB} or nothing (powers of 1024) or C{B} (of
        1000).
    @param default: bytes a unit without a name stands for.
    @return: bytes.
    """
    if not unit:
        factor = default
    else:
        match = _SUFFIX.match(unit)
        if match is None:
            raise RemoteError.of(ErrorNumber.INVALID_ARG, f"unknown suffix '{unit}'", ErrorDomain.NONE)
        letter, rest = match.group(1), match.group(2)
        base = 1000 if (rest or "").lower() == "b" else 1024
        factor = base ** (_POWERS.index(letter.lower()) + 1) if letter else 1
    if number * factor > SIZE_MAX:
        raise RemoteError.of(ErrorNumber.OVERFLOW, f"value too large: {number}{unit or ''}", ErrorDomain.NONE)
    return number * factor


def memorySize(node: Element, path: str) -> int:
    """A memory size; without C{unit} the number counts KiB.

    @param path: how errors name the element.
    @return: KiB, rounded up.
    """
    number = decimal(node.text, 2**64 - 1)
    if number is None:
        raise xmlError(f"Invalid value '{node.text or ''}' for element or attribute '{path}'")
    return -(-scaled(number, node.get("unit"), 1024) // 1024)


def choice(node: Element, attribute: str, allowed: Iterable[str], default: str | None = None) -> str:
    """An attribute that must be one of some words (C: C{virXMLPropEnum}).

    @param default: what its absence means; C{None} when it must be there.
    """
    value = node.get(attribute)
    if value is None:
        if default is None:
            raise xmlError(f"Missing required attribute '{attribute}' in element '{node.tag}'")
        return default
    if value not in allowed:
        raise xmlError(f"Invalid value for attribute '{attribute}' in element '{node.tag}': '{value}'.")
    return value


def cpuSet(text: str) -> int:
    """A set of CPUs like C{0-3,^2}.

    @return: the bit of each CPU in the set; what that costs goes by the length of the text alone.
    @raise RemoteError: the text is no set.
    """
    chosen = 0
    for part in text.split(","):
        part = part.strip()
        first, dash, last = part.lstrip("^").partition("-")
        low, high = decimal(first, CPUS_MAX), decimal(last if dash else first, CPUS_MAX)
        if low is None or high is None or high < low or (part.startswith("^") and dash):
            detail = f"Failed to parse bitmap '{text}'"
            raise RemoteError.of(ErrorNumber.INVALID_ARG, detail, ErrorDomain.NONE)
        bits = ((1 << (high - low + 1)) - 1) << low
        chosen = chosen & ~bits if part.startswith("^") else chosen | bits
    return chosen


def formatCPUs(cpus: int) -> str:
    """Write a set of CPUs as ranges."""
    runs, offset = [], 0
    while cpus:
        gap = (cpus & -cpus).bit_length() - 1
        cpus >>= gap
        length = (~cpus & (cpus + 1)).bit_length() - 1
        first = offset + gap
        runs.append(str(first) if length == 1 else f"{first}-{first + length - 1}")
        cpus >>= length
        offset = first + length
    return ",".join(runs)


def parseUUID(text: str | None, domain: ErrorDomain, randomBytes: RandomBytes) -> bytes:
    """A uuid element's 16 bytes; a random one where there is no text.

    Blanks and hyphens count nowhere (C: C{virUUIDParse}).
    """
    if not text:
        return uuid.UUID(bytes=randomBytes(16), version=4).bytes
    digits = text.strip().replace("-", "")
    if len(digits) != 32 or not re.match(r"[0-9A-Fa-f]{32}\Z", digits):
        raise RemoteError.of(ErrorNumber.INTERNAL_ERROR, "malformed uuid element", domain)
    return bytes.fromhex(digits)


def formatUUID(value: bytes) -> str:
    """A uuid as people read it."""
    return str(uuid.UUID(bytes=value))


def parseMAC(text: str) -> str:
    """A MAC address in lower case with two digits a byte.

    @raise RemoteError: it is none, or one of a group.
    """
    if not _MAC.match(text):
        raise xmlError(f"unable to parse mac address '{text}'", ErrorDomain.DOMAIN)
    octets = [int(part, 16) for part in text.split(":")]
    if octets[0] & 1:
        raise xmlError(f"expected unicast mac address, found multicast '{text}'", ErrorDomain.DOMAIN)
    return formatMAC(bytes(octets))


def formatMAC(octets: bytes) -> str:
    """Six bytes as a MAC address."""
    return ":".join(f"{octet:02x}" for octet in octets)


def generateMAC(randomBytes: RandomBytes) -> str:
    """A MAC address in the range of guests (C: C{virDomainNetGenerateMAC})."""
    return formatMAC(bytes((0x52, 0x54, 0x00)) + randomBytes(3))
