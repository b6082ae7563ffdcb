"""What a guest shows and takes: consoles, channels, its screen, its graphics, and descriptors given to it.

libvirt's test driver has none of this. Rules:

  - Only a running domain has any of it, and all of it ends when the domain stops.
  - A console is used by one client at a time; who insists (C{FORCE}) takes it from the other.
  - The screen is looked at through one socket at a time: the newest, the one before is closed.
  - Descriptors that come with a call are kept as duplicates until the domain stops. Those that were given a
    name are the client's: they also go when it goes, or gives others the name.
"""

from __future__ import annotations

import os
import socket
import stat
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
from virnet.server import IServerClient, ProtocolEnd, ServerStream, StreamEnd
from virnet.transport.descriptors import closeAll, duplicateAll

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
        self._write(f"\r\n{self._domain.name} echo guest\r\n".encode(errors="surrogateescape"))

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

    def __init__(self, protocol: IProtocol, domain: MemoryDomain, key: tuple[str, str]) -> None:
        """@param key: by which the domain ends it."""
        super().__init__(protocol)
        self._domain = domain
        self._key = key

    def finishReceived(self) -> None:
        self._free()
        super().finishReceived()

    def streamLost(self, reason: Exception) -> None:
        self._free()
        super().streamLost(reason)

    def _free(self) -> None:
        # It may be somebody else's by now.
        if self._domain.whenStopped.get(self._key) == self.hangUp:
            del self._domain.whenStopped[self._key]


@partialImplementer(IDomain)
class Devices:
    """Provides what is done with a domain's devices through streams and descriptors."""

    def __init__(self, state: MemoryState, console: Callable[[Domain], IProtocol] = EchoGuest) -> None:
        """@param console: makes what answers on a console or channel."""
        self._state = state
        self._console = console
        self._domains = Domains(state)

    def _running(self, dom: Domain) -> MemoryDomain:
        domain = domainOf(self._state, dom)
        requireActive(domain)
        return domain

    # Streams

    def domainOpenConsole(self, dom: Domain, dev_name: str | None, flags: int) -> _Console:
        checkFlags("domainOpenConsole", flags, DomainConsoleFlags.FORCE | DomainConsoleFlags.SAFE)
        return self._open(dom, "console", dev_name or "console0", bool(flags & DomainConsoleFlags.FORCE))

    def domainOpenChannel(self, dom: Domain, name: str | None, flags: int) -> _Console:
        checkFlags("domainOpenChannel", flags, DomainChannelFlags.FORCE)
        return self._open(dom, "channel", name or "", bool(flags & DomainChannelFlags.FORCE))

    def _open(self, dom: Domain, kind: str, name: str, force: bool) -> _Console:
        domain = self._running(dom)
        key = (kind, name)
        hangUp = domain.whenStopped.get(key)
        if hangUp is not None and not force:
            raise RemoteError.of(
                ErrorNumber.OPERATION_FAILED,
                "Active console session exists for this domain",
                ErrorDomain.DOMAIN,
            )
        console = _Console(self._console(domain.reference), domain, key)
        if hangUp is not None:
            hangUp()
        domain.whenStopped[key] = console.hangUp
        return console

    def domainScreenshot(self, dom: Domain, screen: int, flags: int) -> tuple[str, _Screen]:
        checkFlags("domainScreenshot", flags)
        domain = self._running(dom)
        if screen:
            raise invalidArgument("the domain has one screen, number 0")
        return "image/png", _Screen(picture(domain.uuid))

    # Descriptors

    def domainCreateXMLWithFiles(self, xml_desc: str, flags: int, fds: Sequence[int]) -> Domain:
        return self._start(fds, self._domains.domainCreateXML, xml_desc, flags)

    def domainCreateWithFiles(self, dom: Domain, flags: int, fds: Sequence[int]) -> Domain:
        return self._start(fds, self._domains.domainCreateWithFlags, dom, flags)

    def _start(self, fds: Sequence[int], call: Callable[..., Domain], *args: object) -> Domain:
        kept = _duplicates(fds)
        try:
            reference = call(*args)
        except BaseException:
            closeAll(kept)
            raise
        domainOf(self._state, reference).whenStopped["files"] = partial(closeAll, kept)
        return reference

    def domainOpenGraphics(self, dom: Domain, idx: int, flags: int, fds: Sequence[int]) -> None:
        checkFlags("domainOpenGraphics", flags, DomainOpenGraphicsFlags.SKIPAUTH)
        domain = self._graphics(dom, idx)
        if len(fds) != 1:
            raise invalidArgument(f"graphics take 1 file descriptor, {len(fds)} came with the call")
        if not stat.S_ISSOCK(os.fstat(fds[0]).st_mode):
            raise invalidArgument("graphics take a socket")
        (fd,) = _duplicates(fds)
        viewer = socket.socket(fileno=fd)
        try:
            # It is the client's: it may be full, and must not hold us up.
            viewer.send(GREETING, socket.MSG_DONTWAIT)
        except OSError as e:
            viewer.close()
            text = f"cannot greet on the file descriptor of the graphics: {e.strerror}"
            raise RemoteError.ofSystem(e.errno or 0, text, ErrorDomain.DOMAIN) from e
        self._show(domain, viewer)

    def domainOpenGraphicsFD(self, dom: Domain, idx: int, flags: int) -> list[int]:
        checkFlags("domainOpenGraphicsFD", flags, DomainOpenGraphicsFlags.SKIPAUTH)
        domain = self._graphics(dom, idx)
        ours, theirs = socket.socketpair()
        ours.sendall(GREETING)
        self._show(domain, ours)
        return [theirs.detach()]

    def _graphics(self, dom: Domain, idx: int) -> MemoryDomain:
        domain = self._running(dom)
        if idx:
            raise invalidArgument(f"No graphics backend with index {idx}")
        return domain

    def _show(self, domain: MemoryDomain, viewer: socket.socket) -> None:
        domain.whenStopped.pop("graphics", bool)()
        domain.whenStopped["graphics"] = viewer.close


@partialImplementer(IDomain)
class NamedDescriptors:
    """Provides descriptors under names, to one client."""

    def __init__(self, state: MemoryState, client: IServerClient) -> None:
        """@param client: whose they are."""
        self._state = state
        self._client = client
        self._kept: dict[tuple[MemoryDomain, str], list[int]] = {}
        self._watching = False

    def domainFDAssociate(self, dom: Domain, name: str, flags: int, fds: Sequence[int]) -> None:
        checkFlags(
            "domainFDAssociate", flags, DomainFDAssociateFlags.RESTORE | DomainFDAssociateFlags.WRITABLE
        )
        if not name or not fds:
            raise invalidArgument("a name and at least one file descriptor are needed")
        domain = domainOf(self._state, dom)
        kept = _duplicates(fds)
        if not self._watching:
            self._watching = True
            self._client.onDisconnect(self._close)
        self._release(domain, name)
        self._kept[domain, name] = kept
        domain.whenStopped[self, name] = partial(self._release, domain, name)

    def _release(self, domain: MemoryDomain, name: str) -> None:
        closeAll(self._kept.pop((domain, name), ()))
        domain.whenStopped.pop((self, name), None)

    def _close(self) -> None:
        for domain, name in list(self._kept):
            self._release(domain, name)


def _duplicates(fds: Sequence[int]) -> list[int]:
    try:
        return duplicateAll(fds)
    except OSError as e:
        text = f"cannot keep a file descriptor: {e.strerror}"
        raise RemoteError.ofSystem(e.errno or 0, text, ErrorDomain.DOMAIN) from e


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
