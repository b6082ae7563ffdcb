"""What a guest shows and takes: consoles, channels, its screen, its graphics, and descriptors given to it.

libvirt's test driver has none of this. Rules:

  - Only a running domain has any of it, and all of it ends when the domain stops.
  - A console is used by one client at a time; who insists (C{FORCE}) takes it from the other.
  - Descriptors that come with a call are kept as duplicates: until the domain stops, or until the client
    goes where they were given a name.
"""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import checkFlags, invalidArgument
from virnet.hypervisor.memory.domain import Domains, domainOf, requireActive
from virnet.hypervisor.memory.state import MemoryDomain, MemoryState
from virnet.programs import IDomain, partialImplementer
from virnet.programs.constants import (
    DomainChannelFlags,
    DomainConsoleFlags,
    DomainFDAssociateFlags,
    DomainOpenGraphicsFlags,
)
from virnet.programs.values import Domain
from virnet.server import ProtocolEnd, ServerStream, StreamEnd
from virnet.transport.sender import closeAll

#: What a VNC server says first (RFC 6143 section 7.1.1).
GREETING = b"RFB 003.008\n"
_SCREEN = (160, 120)


class EchoGuest(Protocol):
    """A guest that answers with what it is told, each line with a line feed."""

    def __init__(self, domain: Domain) -> None:
        """@param domain: whose console it is."""
        self._domain = domain

    def connectionMade(self) -> None:
        """Say who answers."""
        self._write(f"\r\n{self._domain.name} echo guest\r\n".encode())

    def dataReceived(self, data: bytes) -> None:
        """Echo."""
        self._write(data.replace(b"\r", b"\r\n"))

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class _Screen(StreamEnd):
    """Sends some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def streamOpened(self, stream: ServerStream) -> None:
        super().streamOpened(stream)
        stream.write(self._data)
        stream.writeEOF()


class _Console(ProtocolEnd):
    """A console that somebody uses."""

    def __init__(self, protocol: IProtocol, whenOver: Callable[[], object]) -> None:
        super().__init__(protocol)
        self._whenOver = whenOver

    def finishReceived(self) -> None:
        super().finishReceived()
        self._whenOver()

    def streamLost(self, reason: Exception) -> None:
        super().streamLost(reason)
        self._whenOver()


@partialImplementer(IDomain)
class Devices:
    """Provides what is done with a domain's devices through streams and descriptors."""

    def __init__(self, state: MemoryState, console: Callable[[Domain], IProtocol] = EchoGuest) -> None:
        """@param console: makes what answers on a console or channel."""
        self._state = state
        self._console = console
        self._domains = Domains(state)
        self._used: dict[tuple[bytes, str], _Console] = {}

    def _running(self, dom: Domain) -> MemoryDomain:
        domain = domainOf(self._state, dom)
        requireActive(domain)
        return domain

    # Streams

    def domainOpenConsole(self, dom: Domain, dev_name: str | None, flags: int) -> _Console:
        checkFlags("domainOpenConsole", flags, DomainConsoleFlags.FORCE | DomainConsoleFlags.SAFE)
        return self._open(dom, dev_name or "console0", bool(flags & DomainConsoleFlags.FORCE))

    def domainOpenChannel(self, dom: Domain, name: str | None, flags: int) -> _Console:
        checkFlags("domainOpenChannel", flags, DomainChannelFlags.FORCE)
        return self._open(dom, f"channel {name or ''}", bool(flags & DomainChannelFlags.FORCE))

    def _open(self, dom: Domain, device: str, force: bool) -> _Console:
        domain = self._running(dom)
        key = (domain.uuid, device)
        using = self._used.get(key)
        if using is not None:
            if not force:
                raise RemoteError.of(
                    ErrorNumber.OPERATION_FAILED,
                    "Active console session exists for this domain",
                    ErrorDomain.DOMAIN,
                )
            using.loseConnection()
        console = _Console(self._console(domain.reference), lambda: self._closed(key, console))
        self._used[key] = console
        domain.whenStopped.append(partial(self._hangUp, key, console))
        return console

    def _closed(self, key: tuple[bytes, str], console: _Console) -> None:
        if self._used.get(key) is console:
            del self._used[key]

    def _hangUp(self, key: tuple[bytes, str], console: _Console) -> None:
        if self._used.get(key) is console:
            del self._used[key]
            console.loseConnection()

    def domainScreenshot(self, dom: Domain, screen: int, flags: int) -> tuple[str, _Screen]:
        checkFlags("domainScreenshot", flags)
        domain = self._running(dom)
        if screen:
            raise invalidArgument("the domain has one screen, number 0")
        return "image/png", _Screen(picture(domain.uuid))

    # Descriptors

    def domainCreateXMLWithFiles(self, xml_desc: str, flags: int, fds: Sequence[int]) -> Domain:
        reference = self._domains.domainCreateXML(xml_desc, flags)
        self._keep(domainOf(self._state, reference), fds)
        return reference

    def domainCreateWithFiles(self, dom: Domain, flags: int, fds: Sequence[int]) -> Domain:
        reference = self._domains.domainCreateWithFlags(dom, flags)
        self._keep(domainOf(self._state, reference), fds)
        return reference

    def domainOpenGraphics(self, dom: Domain, idx: int, flags: int, fds: Sequence[int]) -> None:
        checkFlags("domainOpenGraphics", flags, DomainOpenGraphicsFlags.SKIPAUTH)
        domain = self._graphics(dom, idx)
        if len(fds) != 1:
            raise invalidArgument(f"graphics take 1 file descriptor, {len(fds)} came with the call")
        try:
            os.write(fds[0], GREETING)
        except OSError as e:
            text = f"cannot greet on the file descriptor of the graphics: {e.strerror}"
            raise RemoteError.ofSystem(e.errno or 0, text, ErrorDomain.DOMAIN) from e
        self._keep(domain, fds)

    def domainOpenGraphicsFD(self, dom: Domain, idx: int, flags: int) -> list[int]:
        checkFlags("domainOpenGraphicsFD", flags, DomainOpenGraphicsFlags.SKIPAUTH)
        domain = self._graphics(dom, idx)
        ours, theirs = socket.socketpair()
        ours.sendall(GREETING)
        domain.whenStopped.append(ours.close)
        return [theirs.detach()]

    def _graphics(self, dom: Domain, idx: int) -> MemoryDomain:
        domain = self._running(dom)
        if idx:
            raise invalidArgument(f"No graphics backend with index {idx}")
        return domain

    def domainFDAssociate(self, dom: Domain, name: str, flags: int, fds: Sequence[int]) -> None:
        checkFlags(
            "domainFDAssociate", flags, DomainFDAssociateFlags.RESTORE | DomainFDAssociateFlags.WRITABLE
        )
        if not name or not fds:
            raise invalidArgument("a name and at least one file descriptor are needed")
        self._keep(domainOf(self._state, dom), fds)

    def _keep(self, domain: MemoryDomain, fds: Sequence[int]) -> None:
        kept = [os.dup(fd) for fd in fds]
        if kept:
            domain.whenStopped.append(lambda: closeAll(kept))


def picture(uuid: bytes) -> bytes:
    """Make a PNG of one colour, which depends on the domain (RFC 2083)."""
    width, height = _SCREEN
    rows = (b"\0" + uuid[:3] * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
