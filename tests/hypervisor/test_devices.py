"""
What guests in memory show and take: consoles, channels, the screen, graphics, and descriptors.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import tempfile
import zlib
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.hypervisor.wired import TEST, TRANSIENT_XML, WiredTestCase
from tests.openfiles import openAtRest, openDescriptors
from virnet.client import Connection, connect
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, RemoteError
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.memory.devices import GREETING, EchoGuest, picture
from virnet.hypervisor.session import sessionsOf
from virnet.limits import STREAM_BUFFER
from virnet.programs import REMOTE
from virnet.programs.constants import DomainConsoleFlags
from virnet.programs.values import Domain
from virnet.server import NetServer, ServerProgram, ServerService

FORCE, SAFE = DomainConsoleFlags.FORCE, DomainConsoleFlags.SAFE
HELLO = b"\r\ntest echo guest\r\n"
BUSY = "operation failed: Active console session exists for this domain"
STOPPED = "Requested operation is not valid: domain is not running"


class _Case(WiredTestCase):
    def setUp(self) -> None:
        self.serve(MemoryHypervisor(console=self.console))

    def console(self, domain: Domain) -> IProtocol:
        guest: IProtocol = EchoGuest(domain)
        return guest

    def open(self, remote: Any = None, name: str | None = None, flags: int = 0) -> Any:
        """Open a console that is free, or taken."""
        return self.answer((remote or self.remote).domainOpenConsole(TEST, name, flags))

    def heard(self, stream: Any) -> bytes:
        """What came on a stream until it said that it ends, or for now."""
        data = b""
        while stream._items or stream._eof:
            item = self.answer(stream.receive())
            if not item:
                break
            data += item
        return data

    def assertEnded(self, stream: Any) -> None:
        """The guest has hung up, and the stream can be finished."""
        self.assertEqual(self.answer(stream.receive()), b"")
        self.answer(stream.finish())

    @property
    def held(self) -> int:
        """What waits for the end of the domains."""
        return sum(len(each.whenStopped) for each in self.hypervisor.state.domains)


class Consoles(_Case):
    """
    Consoles and channels with the guest that echoes.
    """

    def test_it_greets_and_echoes(self) -> None:
        stream = self.open()
        self.answer(stream.send(b"one\rtwo"))
        self.answer(stream.send(b"\x1b[A\x00\xff"))
        self.assertEqual(self.heard(stream), HELLO + b"one\r\ntwo\x1b[A\x00\xff")
        self.answer(stream.finish())

    def test_channels_and_consoles_of_any_name_are_different_ones(self) -> None:
        streams = [
            self.open(),
            self.open(name="console1"),
            self.open(name="channel x"),
            self.open(name="('channel', 'x')"),
            self.answer(self.remote.domainOpenChannel(TEST, "x", 0)),
            self.answer(self.remote.domainOpenChannel(TEST, None, 0)),
            self.answer(self.remote.domainOpenChannel(TEST, "console0", 0)),
        ]
        for number, stream in enumerate(streams):
            self.answer(stream.send(str(number).encode()))
        self.assertEqual(
            [self.heard(each) for each in streams], [HELLO + str(n).encode() for n in range(len(streams))]
        )
        for called in (
            self.remote.domainOpenConsole(TEST, "console0", 0),
            self.remote.domainOpenConsole(TEST, "", 0),
            self.remote.domainOpenChannel(TEST, "", 0),
        ):
            self.assertEqual(self.refused(called).message, BUSY)

    def test_of_one_domain_are_not_of_another(self) -> None:
        other = self.answer(self.remote.domainCreateXML(TRANSIENT_XML, 0))
        streams = [self.open(), self.answer(self.remote.domainOpenConsole(other, None, 0))]
        self.assertEqual([self.heard(each) for each in streams], [HELLO, b"\r\ntransient echo guest\r\n"])

    def test_one_client_at_a_time(self) -> None:
        first, other = self.open(), self.another()
        for flags in (0, SAFE):
            for remote in (self.remote, other):
                error = self.refused(remote.domainOpenConsole(TEST, None, flags))
                self.assertEqual(
                    (error.code, error.domain, error.message),
                    (ErrorNumber.OPERATION_FAILED, ErrorDomain.DOMAIN, BUSY),
                )
        self.answer(first.send(b"still mine"))
        self.assertEqual(self.heard(first), HELLO + b"still mine")

    def test_it_is_free_when_the_client_is_done(self) -> None:
        def lose() -> None:
            pair.client.abort(ConnectionLost("the test ends it"))
            self.turn()

        for end in ("finish", "abort", "lose"):
            pair = self.connect()
            stream = self.open(pair.client.program(REMOTE), flags=SAFE)
            if end == "lose":
                lose()
            else:
                self.answer(getattr(stream, end)())
            self.assertEqual(self.held, 0)
        self.open()

    def test_who_insists_takes_it(self) -> None:
        first = self.open()
        second = self.open(self.another(), flags=FORCE)
        self.answer(first.send(b"nobody hears this"))
        self.answer(second.send(b"mine"))
        self.assertEqual(self.heard(second), HELLO + b"mine")
        self.assertEqual(self.heard(first), HELLO)
        self.assertEnded(first)
        # What became of the first does not make the second's free.
        self.assertEqual(self.refused(self.remote.domainOpenConsole(TEST, None, 0)).message, BUSY)
        self.open(flags=FORCE | SAFE)
        self.heard(second)
        self.assertEnded(second)
        self.assertEqual(self.held, 1)

    def test_who_insists_on_a_free_one_has_it(self) -> None:
        self.assertEqual(self.heard(self.open(flags=FORCE)), HELLO)
        stream = self.answer(self.remote.domainOpenChannel(TEST, "x", FORCE))
        self.assertEqual(self.heard(stream), HELLO)

    def test_R068_a_domain_that_is_destroyed_hangs_up(self) -> None:
        """
        The end of the data, then the client finishes, then the connection is as good as before.
        """
        stream = self.open()
        self.answer(self.another().domainDestroy(TEST))
        self.assertEqual(self.heard(stream), HELLO)
        self.answer(stream.send(b"late"))
        self.assertEnded(stream)
        self.assertEqual(self.answer(self.remote.connectNumOfDomains()), 0)
        self.assertEqual(self.pair.serverClient.connection.inProgress, 0)
        self.answer(self.remote.domainCreate(TEST))
        self.assertEqual(self.heard(self.open()), HELLO)

    def test_R068_all_of_them_however_it_stops(self) -> None:
        for how in ("domainDestroy", "domainShutdown"):
            streams = [self.open(), self.open(name="other")]
            streams.append(self.answer(self.remote.domainOpenChannel(TEST, "x", 0)))
            self.answer(getattr(self.remote, how)(TEST))
            for stream in streams:
                self.heard(stream)
                self.assertEnded(stream)
            self.answer(self.remote.domainCreate(TEST))
        dom = self.answer(self.remote.domainCreateXML(TRANSIENT_XML, 0))
        stream = self.answer(self.remote.domainOpenConsole(dom, None, 0))
        self.answer(self.remote.domainDestroy(dom))
        self.heard(stream)
        self.assertEnded(stream)

    def test_a_paused_one_keeps_it(self) -> None:
        stream = self.open()
        self.answer(self.remote.domainSuspend(TEST))
        self.answer(stream.send(b"x"))
        self.assertEqual(self.heard(stream), HELLO + b"x")
        self.open(name="other")

    def test_only_of_a_running_domain(self) -> None:
        self.answer(self.remote.domainDestroy(TEST))
        nobody = Domain("nobody", bytes(16), -1)
        for call, args in (
            (self.remote.domainOpenConsole, (None, 0)),
            (self.remote.domainOpenChannel, (None, 0)),
            (self.remote.domainScreenshot, (0, 0)),
        ):
            self.assertEqual(self.refused(call(TEST, *args)).message, STOPPED)
            self.assertEqual(self.refused(call(nobody, *args)).code, ErrorNumber.NO_DOMAIN)

    def test_flags_that_mean_nothing(self) -> None:
        for called, name in (
            (self.remote.domainOpenConsole(TEST, None, 4 | FORCE), "domainOpenConsole"),
            (self.remote.domainOpenChannel(TEST, None, 4), "domainOpenChannel"),
            (self.remote.domainScreenshot(TEST, 0, 4), "domainScreenshot"),
        ):
            error = self.refused(called)
            self.assertEqual(error.code, ErrorNumber.INVALID_ARG)
            self.assertEqual(error.message, f"unsupported flags (0x4) in function {name}")

    def test_a_read_only_connection_has_none(self) -> None:
        remote = self.another(readonly=True)
        for called in (remote.domainOpenConsole(TEST, None, 0), remote.domainOpenChannel(TEST, None, 0)):
            self.assertEqual(self.refused(called).code, ErrorNumber.OPERATION_DENIED)

    def test_a_client_that_only_talks_is_held_back(self) -> None:
        """
        What it does not read fills no memory: the guest gets no more of what it says.
        """
        stream = self.open()
        transport: Any = self.pair.client.transport
        transport.pauseProducing()
        for _ in range(64):
            stream.send(b"x" * (STREAM_BUFFER // 8))
        self.turn()
        (server,) = self.pair.serverClient._streams.values()
        self.assertTrue(0 < server._waiting <= 2 * STREAM_BUFFER, server._waiting)
        transport.resumeProducing()
        self.turn()
        received = 0
        while received < len(HELLO) + 8 * STREAM_BUFFER:
            received += len(self.answer(stream.receive()))
        self.answer(stream.finish())

    def test_many_one_after_the_other_leave_nothing(self) -> None:
        for _ in range(50):
            self.answer(self.open().finish())
            self.answer(self.answer(self.remote.domainScreenshot(TEST, 0, 0))[1].finish())
        self.assertEqual(self.held, 0)


class Reverser(LineReceiver):
    """A guest of a user's: says each line backwards, hangs up at C{exit}."""

    def __init__(self, log: list[Any], domain: Domain) -> None:
        self.log = log
        self.domain = domain

    def connectionMade(self) -> None:
        self.log.append(f"made {self.domain.name}")

    def lineReceived(self, line: bytes) -> None:
        if line == b"exit":
            transport: Any = self.transport
            transport.loseConnection()
        elif line == b"crash":
            raise ValueError("the guest is broken")
        else:
            self.sendLine(line[::-1])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.log.append(type(reason.value).__name__)


class Unmakable(Protocol):
    """A guest that breaks at every turn."""

    def makeConnection(self, transport: Any) -> None:
        raise ValueError("not made")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        raise ValueError("not lost")


class OddEnd(Protocol):
    """A guest that breaks at the end."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        raise ValueError("not lost")


class Protocols(_Case):
    """
    Any protocol of Twisted's as a guest.
    """

    def setUp(self) -> None:
        self.log: list[Any] = []
        self.make: Callable[[Domain], Any] = lambda domain: Reverser(self.log, domain)
        super().setUp()

    def console(self, domain: Domain) -> IProtocol:
        made: IProtocol = self.make(domain)
        return made

    def test_a_conversation(self) -> None:
        stream = self.open()
        self.assertEqual(self.log, ["made test"])
        for piece in (b"ab", b"c\r", b"\nde\r\n"):
            self.answer(stream.send(piece))
        self.assertEqual(self.heard(stream), b"cba\r\ned\r\n")
        self.answer(stream.finish())
        self.assertEqual(self.log, ["made test", "ConnectionDone"])

    def test_each_time_a_new_one(self) -> None:
        for _ in range(3):
            self.answer(self.open().abort())
        self.assertEqual(self.log, ["made test", "ConnectionLost"] * 3)

    def test_a_guest_that_hangs_up(self) -> None:
        stream = self.open()
        self.answer(stream.send(b"abc\r\nexit\r\nnot heard\r\n"))
        self.assertEqual(self.heard(stream), b"cba\r\n")
        self.assertEnded(stream)
        self.assertEqual(self.log, ["made test", "ConnectionDone"])
        self.open()

    def test_a_guest_that_hung_up_and_then_is_destroyed(self) -> None:
        stream = self.open()
        self.answer(stream.send(b"exit\r\n"))
        self.answer(self.remote.domainDestroy(TEST))
        self.assertEnded(stream)
        self.assertEqual(self.log, ["made test", "ConnectionDone"])

    def test_a_guest_that_breaks(self) -> None:
        stream = self.open()
        self.answer(stream.send(b"crash\r\n"))
        error = self.refused(stream.finish())
        self.assertEqual(error.code, ErrorNumber.INTERNAL_ERROR)
        self.assertIn("the guest is broken", error.message)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.log, ["made test", "RemoteError"])
        self.open()

    def test_a_guest_that_breaks_at_once_does_not_keep_the_console(self) -> None:
        self.make = lambda domain: Unmakable()
        for _ in range(2):
            self.assertIn("not made", self.refused(self.open().finish()).message)
        self.assertTrue(self.flushLoggedErrors(ValueError))
        self.assertEqual(self.held, 0)

    def test_nor_does_one_that_breaks_at_the_end(self) -> None:
        self.make = lambda domain: OddEnd()
        self.assertIn("not lost", self.refused(self.open().finish()).message)
        self.answer(self.open().abort())
        self.assertTrue(self.flushLoggedErrors(ValueError))
        self.assertEqual(self.held, 0)

    def test_a_guest_that_cannot_be_made_takes_nothing_from_anybody(self) -> None:
        first = self.open()

        def make(domain: Domain) -> Any:
            raise RemoteError.of(ErrorNumber.OPERATION_FAILED, "no guest", ErrorDomain.DOMAIN)

        self.make = make
        for flags, message in ((0, BUSY), (FORCE, "operation failed: no guest")):
            error = self.refused(self.another().domainOpenConsole(TEST, None, flags))
            self.assertEqual(error.message, message)
        self.answer(first.send(b"mine\r\n"))
        self.assertEqual(self.heard(first), b"enim\r\n")

    def test_a_guest_that_pauses_holds_its_client_back(self) -> None:
        class Slow(Protocol):
            def dataReceived(guest, data: bytes) -> None:
                self.log.append(data)
                assert guest.transport is not None
                guest.transport.pauseProducing()  # type: ignore[attr-defined]

        slow = Slow()
        self.make = lambda domain: slow
        stream = self.open()
        for word in (b"one", b"two", b"three"):
            self.answer(stream.send(word))
        self.assertEqual(self.log, [b"one"])
        slow.transport.resumeProducing()  # type: ignore[union-attr]
        self.assertEqual(self.log, [b"one", b"two"])
        # The client is not held back for ever by a guest that is no more.
        self.answer(self.remote.domainDestroy(TEST))
        self.assertEqual(self.log, [b"one", b"two"])
        self.assertEnded(stream)
        self.assertEqual(self.pair.serverClient.connection.inProgress, 0)

    def test_there_are_no_holes_on_a_console_whatever_its_flags_say(self) -> None:
        """Bit 1 is C{FORCE} here, and not about holes."""
        stream = self.open(flags=FORCE)
        (opened,) = self.pair.serverClient._streams.values()
        self.assertEqual((stream.sparse, opened.sparse), (False, False))

    def test_a_guest_whose_producer_never_ends_ends_with_its_domain(self) -> None:
        calls: list[str] = []

        class Endless:
            def resumeProducing(self) -> None:
                calls.append("resume")

            def pauseProducing(self) -> None:
                calls.append("pause")

            def stopProducing(self) -> None:
                calls.append("stop")

        class Feeding(Protocol):
            def connectionMade(self) -> None:
                self.transport.registerProducer(Endless(), True)  # type: ignore[union-attr]

        self.make = lambda domain: Feeding()
        stream = self.open()
        self.answer(self.remote.domainDestroy(TEST))
        self.assertEqual(calls, ["stop"])
        self.assertEnded(stream)


class Screens(_Case):
    """
    Screenshots.
    """

    def test_a_picture(self) -> None:
        mime, stream = self.answer(self.remote.domainScreenshot(TEST, 0, 0))
        data = self.answer(stream.receive())
        self.assertEnded(stream)
        self.assertEqual((mime, data), ("image/png", picture(TEST.uuid)))

    def test_of_a_screen_that_is_not_there(self) -> None:
        error = self.refused(self.remote.domainScreenshot(TEST, 1, 0))
        self.assertEqual(error.code, ErrorNumber.INVALID_ARG)
        self.assertIn("one screen", error.message)

    def test_it_is_a_PNG(self) -> None:
        """
        RFC 2083: a signature, chunks with their checksums, and rows of pixels with a filter each.
        """
        data = picture(bytes(range(16)))
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        chunks, rest = [], data[8:]
        while rest:
            (length,) = struct.unpack(">I", rest[:4])
            kind, body, checksum = rest[4:8], rest[8 : 8 + length], rest[8 + length : 12 + length]
            self.assertEqual(checksum, struct.pack(">I", zlib.crc32(kind + body)))
            chunks.append((kind, body))
            rest = rest[12 + length :]
        self.assertEqual([kind for kind, _ in chunks], [b"IHDR", b"IDAT", b"IEND"])
        self.assertEqual(chunks[0][1], struct.pack(">IIBBBBB", 160, 120, 8, 2, 0, 0, 0))
        self.assertEqual(zlib.decompress(chunks[1][1]), (b"\0" + b"\0\1\2" * 160) * 120)

    def test_each_domain_has_another(self) -> None:
        self.assertNotEqual(picture(bytes(16)), picture(b"\1" * 16))


class WithoutSockets(_Case):
    """
    A transport that carries no descriptors.
    """

    def test_graphics_cannot_come_and_nothing_stays_open(self) -> None:
        before = len(openAtRest())
        for _ in range(3):
            error = self.refused(self.remote.domainOpenGraphicsFD(TEST, 0, 0))
            self.assertEqual(error.code, ErrorNumber.RPC)
            self.assertIn("file descriptors", error.message)
        self.answer(self.remote.domainDestroy(TEST))
        self.assertEqual(len(openDescriptors()), before)


class Descriptors(TestCase):
    """
    Descriptors over a real UNIX socket; C{/proc/self/fd} says which are open, at both ends together.
    """

    timeout = 20

    def setUp(self) -> Any:
        # Not in trial's own directory: the path of a UNIX socket has 107 bytes.
        directory = tempfile.mkdtemp(prefix="virnet-")
        self.addCleanup(shutil.rmtree, directory)
        self.path = f"{directory}/s"
        self.hypervisor = MemoryHypervisor()
        self.server = NetServer(reactor, [ServerProgram(REMOTE, sessionsOf(self.hypervisor))])
        ServerService(self.server, f"unix:{self.path}:lockfile=0")
        self.server.startService()
        self.addCleanup(self.server.stopService)

        async def begin() -> None:
            self.connection = await self.connect()
            self.remote: Any = self.connection.remote
            self.before = len(openAtRest())

        return Deferred.fromCoroutine(begin())

    async def connect(self) -> Connection:
        connection = await connect(reactor, f"test+unix:///default?socket={self.path}")
        self.addCleanup(lambda: Deferred.fromCoroutine(connection.close()))
        return connection

    def file(self) -> int:
        """A descriptor that is not counted."""
        fd = os.open("/dev/null", os.O_RDONLY)
        self.addCleanup(os.close, fd)
        self.before += 1
        return fd

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two joined sockets that are not counted."""
        made = socket.socketpair()
        for each in made:
            each.settimeout(10)
            self.addCleanup(each.close)
        self.before += 2
        return made

    def assertHeld(self, count: int) -> None:
        self.assertEqual(len(openDescriptors()) - self.before, count)

    async def refused(self, called: Deferred[Any]) -> RemoteError:
        try:
            result = await called
        except RemoteError as e:
            return e
        raise self.failureException(f"not refused, but answered with {result!r}")

    async def test_R088_the_graphics_come(self) -> None:
        (fd,) = await self.remote.domainOpenGraphicsFD(TEST, 0, 0)
        self.assertFalse(os.get_inheritable(fd))
        with socket.socket(fileno=fd) as graphics:
            graphics.settimeout(10)
            self.assertEqual(graphics.recv(100), GREETING)
            self.assertTrue(GREETING.startswith(b"RFB "))
            self.assertHeld(2)
            await self.remote.domainDestroy(TEST)
            self.assertEqual(graphics.recv(100), b"")
        self.assertHeld(0)

    async def test_R088_nobody_has_to_want_them(self) -> None:
        for _ in range(10):
            for fd in await self.remote.domainOpenGraphicsFD(TEST, 0, 0):
                os.close(fd)
        self.assertHeld(1)
        await self.remote.domainDestroy(TEST)
        self.assertHeld(0)

    async def test_graphics_that_were_brought_are_greeted_on(self) -> None:
        ours, theirs = self.pair()
        await self.remote.domainOpenGraphics(TEST, 0, 0, fds=[theirs.fileno()])
        self.assertEqual(ours.recv(100), GREETING)
        theirs.close()
        self.before -= 1
        self.assertHeld(1)
        await self.remote.domainDestroy(TEST)
        self.assertEqual(ours.recv(100), b"")
        self.assertHeld(0)

    async def test_the_newest_viewer_has_the_screen(self) -> None:
        pairs = [self.pair() for _ in range(3)]
        for ours, theirs in pairs:
            await self.remote.domainOpenGraphics(TEST, 0, 0, fds=[theirs.fileno()])
            theirs.close()
            self.before -= 1
            self.assertEqual(ours.recv(100), GREETING)
        self.assertHeld(1)
        self.assertEqual([ours.recv(100) for ours, _ in pairs[:2]], [b"", b""])
        pairs[2][0].setblocking(False)
        self.assertRaises(BlockingIOError, pairs[2][0].recv, 100)

    async def test_graphics_want_one_descriptor(self) -> None:
        fd = self.file()
        for fds in ([], [fd, fd]):
            error = await self.refused(self.remote.domainOpenGraphics(TEST, 0, 0, fds=fds))
            self.assertEqual(error.code, ErrorNumber.INVALID_ARG)
            self.assertIn(f"graphics take 1 file descriptor, {len(fds)} came", error.message)
        self.assertHeld(0)

    async def test_graphics_want_a_socket_that_takes_the_greeting(self) -> None:
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        self.before += 2
        closed, other = self.pair()
        other.close()
        self.before -= 1
        full, _ = self.pair()
        full.setblocking(False)
        for size in (1 << 16, 1):
            try:
                while True:
                    full.send(bytes(size))
            except BlockingIOError:
                pass
        # Whoever writes to it now would wait for ever.
        full.setblocking(True)
        for fd, number in (
            (closed.fileno(), errno.EPIPE),
            (full.fileno(), errno.EAGAIN),
        ):
            error = await self.refused(self.remote.domainOpenGraphics(TEST, 0, 0, fds=[fd]))
            self.assertEqual((error.code, error.int1), (ErrorNumber.SYSTEM_ERROR, number))
            self.assertIn("cannot greet on the file descriptor", error.message)
            self.assertHeld(0)
        for fd in (self.file(), reading, writing):
            error = await self.refused(self.remote.domainOpenGraphics(TEST, 0, 0, fds=[fd]))
            self.assertEqual(error.code, ErrorNumber.INVALID_ARG)
            self.assertIn("graphics take a socket", error.message)
            self.assertHeld(0)
        self.assertEqual(await self.remote.connectNumOfDomains(), 1)

    async def test_graphics_that_are_not_there(self) -> None:
        _, theirs = self.pair()
        fds = [theirs.fileno()]
        remote = self.remote
        for called, code in (
            (remote.domainOpenGraphics(TEST, 1, 0, fds=fds), ErrorNumber.INVALID_ARG),
            (remote.domainOpenGraphicsFD(TEST, 1, 0), ErrorNumber.INVALID_ARG),
            (remote.domainOpenGraphics(TEST, 0, 2, fds=fds), ErrorNumber.INVALID_ARG),
            (remote.domainOpenGraphicsFD(TEST, 0, 2), ErrorNumber.INVALID_ARG),
            (remote.domainOpenGraphicsFD(Domain("x", bytes(16), 1), 0, 0), ErrorNumber.NO_DOMAIN),
        ):
            self.assertEqual((await self.refused(called)).code, code)
        await remote.domainDestroy(TEST)
        for called in (
            remote.domainOpenGraphics(TEST, 0, 0, fds=fds),
            remote.domainOpenGraphicsFD(TEST, 0, 0),
        ):
            self.assertEqual((await self.refused(called)).message, STOPPED)
        self.assertHeld(0)

    async def test_R087_files_are_kept_as_long_as_the_domain_runs(self) -> None:
        fd = self.file()
        dom = await self.remote.domainCreateXMLWithFiles(TRANSIENT_XML, 0, fds=[fd] * 3)
        self.assertHeld(3)
        await self.remote.domainDestroy(dom)
        self.assertHeld(0)
        await self.remote.domainDestroy(TEST)
        for _ in range(3):
            started = await self.remote.domainCreateWithFiles(TEST, 0, fds=[fd, fd])
            self.assertEqual(started.uuid, TEST.uuid)
            self.assertHeld(2)
            await self.remote.domainDestroy(TEST)
            self.assertHeld(0)
        await self.remote.domainCreateWithFiles(TEST, 0)
        self.assertHeld(0)

    async def test_files_of_a_domain_that_does_not_start(self) -> None:
        fds = [self.file()] * 32
        for call, what, flags in (
            (self.remote.domainCreateXMLWithFiles, "<domain/>", 0),
            (self.remote.domainCreateXMLWithFiles, TRANSIENT_XML, 1 << 30),
            (self.remote.domainCreateWithFiles, TEST, 0),
            (self.remote.domainCreateWithFiles, Domain("x", bytes(16), -1), 0),
        ):
            await self.refused(call(what, flags, fds=fds))
            self.assertHeld(0)

    async def test_when_there_are_no_more_descriptors_the_domain_does_not_start(self) -> None:
        fd, real, calls = self.file(), os.dup, []

        def dup(fd: int) -> int:
            calls.append(fd)
            if len(calls) == 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(fd)

        called = self.remote.domainCreateXMLWithFiles(TRANSIENT_XML, 0, fds=[fd] * 3)
        self.patch(os, "dup", dup)
        error = await self.refused(called)
        self.assertEqual((error.code, error.int1), (ErrorNumber.SYSTEM_ERROR, errno.EMFILE))
        self.assertHeld(0)
        self.assertEqual(await self.remote.connectNumOfDomains(), 1)

    async def test_named_ones_are_kept_until_others_have_the_name_or_the_domain_stops(self) -> None:
        fd = self.file()
        await self.remote.domainFDAssociate(TEST, "disk", 0, fds=[fd, fd])
        await self.remote.domainFDAssociate(TEST, "other", 3, fds=[fd])
        self.assertHeld(3)
        await self.remote.domainFDAssociate(TEST, "disk", 0, fds=[fd])
        self.assertHeld(2)
        await self.remote.domainDestroy(TEST)
        self.assertHeld(0)
        # Those a domain will start with.
        await self.remote.domainFDAssociate(TEST, "disk", 0, fds=[fd])
        await self.remote.domainCreate(TEST)
        self.assertHeld(1)

    async def test_named_ones_are_their_client_s_and_go_with_it(self) -> None:
        fd = self.file()
        await self.remote.domainFDAssociate(TEST, "disk", 0, fds=[fd])
        other = await self.connect()
        remote: Any = other.remote
        await remote.domainFDAssociate(TEST, "disk", 0, fds=[fd, fd])
        dom = await remote.domainCreateXMLWithFiles(TRANSIENT_XML, 0, fds=[fd] * 4)
        await remote.domainFDAssociate(dom, "disk", 0, fds=[fd])
        # The two ends of the connection, and what it brought.
        self.assertHeld(2 + 1 + 2 + 4 + 1)
        gone: Deferred[None] = Deferred()
        max(self.server.clients.values(), key=lambda each: each.id).onDisconnect(lambda: gone.callback(None))
        await other.close()
        await gone
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn
        self.assertHeld(1 + 4)
        await self.remote.domainDestroy(dom)
        self.assertHeld(1)

    async def test_named_ones_want_a_name_and_a_descriptor(self) -> None:
        fd = self.file()
        for name, fds in (("", [fd]), ("disk", [])):
            error = await self.refused(self.remote.domainFDAssociate(TEST, name, 0, fds=fds))
            self.assertEqual(error.code, ErrorNumber.INVALID_ARG)
            self.assertIn("a name and at least one file descriptor are needed", error.message)
        error = await self.refused(self.remote.domainFDAssociate(TEST, "disk", 4, fds=[fd]))
        self.assertIn("unsupported flags (0x4) in function domainFDAssociate", error.message)
        nobody = Domain("x", bytes(16), -1)
        error = await self.refused(self.remote.domainFDAssociate(nobody, "disk", 0, fds=[fd]))
        self.assertEqual(error.code, ErrorNumber.NO_DOMAIN)
        self.assertHeld(0)
