"""
What is behind our hypervisor's streams and descriptors: real virsh, and our client, on our daemon.
"""

from __future__ import annotations

import atexit
import os
import pty
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.interop.support import WITH_US, VirnetDaemon, Virsh, requireTool
from tests.openfiles import openAtRest, openDescriptors
from virnet.client import Connection, connect
from virnet.client.stream import Hole
from virnet.errors import RemoteError
from virnet.programs.values import Domain, StoragePool, StorageVol

SPARSE = 1
MIB = 1 << 20
GIB = 1 << 30
SECONDS = 60.0
ESCAPE = "\x1d"
TEST = Domain("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
POOL = StoragePool("default-pool", bytes.fromhex("dfe224cb28fb8dd0c4b264eb3f0f4566"))
DOMAIN_XML = "<domain type='test'><name>{}</name><memory>1024</memory><os><type>hvm</type></os></domain>"


def space(path: str | Path) -> int:
    """Bytes that a file takes on the disk."""
    return os.stat(path).st_blocks * 512


class Terminal:
    """A virsh at a terminal of its own."""

    def __init__(self, uri: str, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [*WITH_US, "virsh", "-q", "-c", uri, *arguments],
            env={**os.environ, "LC_ALL": "C", "TERM": "dumb"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.output = ""
        self._seen = 0

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def expect(self, text: str) -> None:
        """Wait until it has printed something, behind what was waited for before.

        @raise RuntimeError: it did not, or has ended.
        """
        deadline = time.monotonic() + SECONDS
        while (at := self.output.find(text, self._seen)) < 0:
            if not self._read(deadline):
                raise RuntimeError(f"virsh did not say {text!r}; it said:\n{self.output}")
        self._seen = at + len(text)

    def finish(self) -> int:
        """Wait for its end; return the exit status."""
        deadline = time.monotonic() + SECONDS
        while self._read(deadline):
            pass
        try:
            return self._process.wait(max(0, deadline - time.monotonic()))
        finally:
            self.close()

    def _read(self, deadline: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self._master, 65536) if readable else b""
        except OSError:
            # EIO: nobody has the other end any more.
            data = b""
        self.output += data.decode(errors="replace")
        return bool(data)

    def close(self) -> None:
        """End it, whatever it does."""
        if self._master >= 0:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            os.close(self._master)
            self._master = -1


class _Case(TestCase):
    """
    Tests with a daemon that all of a class share.

    @cvar temporaries: where the daemon makes its temporary directory.
    """

    timeout = 100
    daemon: ClassVar[VirnetDaemon | None] = None
    uri: ClassVar[str] = ""
    temporaries: ClassVar[Path]

    def setUp(self) -> None:
        requireTool(self, "virsh")
        cls = type(self)
        if cls.daemon is None:
            cls.temporaries = Path(tempfile.mkdtemp(prefix="virnet-", dir="/var/tmp"))
            # Handlers run in reverse: the daemon's, which is registered later, before this.
            atexit.register(shutil.rmtree, cls.temporaries, True)
            cls.daemon = self.start(cls.temporaries)
            cls.uri = cls.daemon.uri

    def start(self, temporaries: Path) -> VirnetDaemon:
        """Start a daemon with a place for its temporary files."""
        daemon = VirnetDaemon()
        self.patch(os, "environ", {**os.environ, "TMPDIR": str(temporaries)})
        daemon.start()
        return daemon

    def path(self) -> Path:
        """Where a file can be made, on a disk."""
        handle, name = tempfile.mkstemp(dir="/var/tmp")
        os.close(handle)
        self.addCleanup(Path(name).unlink, missing_ok=True)
        return Path(name)

    def ran(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Run virsh to its end: exit status, output, errors."""
        return Virsh(self.uri, *arguments, **options).finish(SECONDS)

    def virsh(self, *arguments: str) -> str:
        """Run virsh, which must succeed."""
        status, output, errors = self.ran(*arguments)
        self.assertEqual((status, errors), (0, ""))
        return output.strip()

    def refusedBy(self, *arguments: str) -> str:
        """Run virsh, which must fail."""
        status, _, errors = self.ran(*arguments)
        self.assertEqual(status, 1)
        return errors

    def volume(self, capacity: int) -> tuple[StorageVol, Callable[[], Path]]:
        """A new volume without space, and what finds its file, which is there once it was used."""
        name = f"v{time.monotonic_ns()}"
        self.virsh("vol-create-as", POOL.name, name, str(capacity), "--allocation", "0")
        self.addCleanup(self.ran, "vol-delete", name, "--pool", POOL.name)
        vol = StorageVol(POOL.name, name, f"/default-pool/{name}")

        def file() -> Path:
            (found,) = self.temporaries.rglob(f"={name}")
            return found

        return vol, file

    def descriptors(self) -> int:
        """How many the daemon has open."""
        assert self.daemon is not None
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))

    def terminal(self, *arguments: str) -> Terminal:
        """Start a virsh at a terminal."""
        terminal = Terminal(self.uri, *arguments)
        self.addCleanup(terminal.close)
        return terminal


class VirshVolumes(_Case):
    """
    virsh uploads and downloads.
    """

    def upload(self, vol: StorageVol, file: Path, *options: str) -> None:
        self.virsh("vol-upload", vol.name, str(file), "--pool", POOL.name, *options)

    def download(self, vol: StorageVol, file: Path, *options: str) -> None:
        self.virsh("vol-download", vol.name, str(file), "--pool", POOL.name, *options)

    def test_a_range_of_a_volume(self) -> None:
        vol, file = self.volume(2 * MIB)
        data, source, copy = os.urandom(MIB), self.path(), self.path()
        source.write_bytes(data)
        self.upload(vol, source, "--offset", "1000", "--length", str(MIB))
        self.assertTrue(file().read_bytes() == bytes(1000) + data + bytes(MIB - 1000))
        self.download(vol, copy, "--offset", "1100", "--length", "5000")
        self.assertTrue(copy.read_bytes() == data[100:5100])
        self.download(vol, copy, "--offset", str(2 * MIB - 3))
        self.assertEqual(copy.read_bytes(), bytes(3))
        self.download(vol, copy, "--offset", str(3 * MIB))
        self.assertEqual(copy.read_bytes(), b"")
        self.download(vol, copy)
        self.assertTrue(copy.read_bytes() == file().read_bytes())

    def test_sparse_both_ways(self) -> None:
        size = 512 * MIB
        vol, file = self.volume(size)
        data, source, copy = os.urandom(MIB), self.path(), self.path()
        with source.open("r+b") as made:
            for n in range(4):
                os.pwrite(made.fileno(), data, n * 100 * MIB + MIB)
            made.truncate(size)
        self.upload(vol, source, "--sparse")
        self.download(vol, copy, "--sparse")
        for each in (file(), copy):
            self.assertEqual(each.stat().st_size, size)
            self.assertTrue(4 * MIB <= space(each) <= 5 * MIB, space(each))
            with each.open("rb") as found:
                for n in range(4):
                    self.assertTrue(os.pread(found.fileno(), MIB, n * 100 * MIB + MIB) == data)

    def test_what_virsh_says_of_it_afterwards(self) -> None:
        vol, file = self.volume(10 * MIB)
        self.assertIn("0.00 B", self.virsh("vol-info", vol.name, "--pool", POOL.name))
        source = self.path()
        source.write_bytes(os.urandom(3 * MIB))
        self.upload(vol, source)
        self.assertIn("3.00 MiB", self.virsh("vol-info", vol.name, "--pool", POOL.name))
        document = self.virsh("vol-dumpxml", vol.name, "--pool", POOL.name)
        self.assertIn(f"<allocation unit='bytes'>{space(file())}</allocation>", document)
        self.virsh("vol-delete", vol.name, "--pool", POOL.name)
        self.assertEqual(list(self.temporaries.rglob(f"={vol.name}")), [])

    def test_a_clone_has_the_contents(self) -> None:
        vol, _ = self.volume(64 * MIB)
        source, copy = self.path(), self.path()
        source.write_bytes(os.urandom(3 * MIB))
        self.upload(vol, source, "--offset", str(20 * MIB))
        clone = vol._replace(name=f"{vol.name}-clone")
        self.virsh("vol-clone", vol.name, clone.name, "--pool", POOL.name)
        self.addCleanup(self.ran, "vol-delete", clone.name, "--pool", POOL.name)
        self.assertIn("3.00 MiB", self.virsh("vol-info", clone.name, "--pool", POOL.name))
        self.download(clone, copy)
        self.assertTrue(copy.read_bytes() == bytes(20 * MIB) + source.read_bytes() + bytes(41 * MIB))

    def test_refused(self) -> None:
        vol, _ = self.volume(MIB)
        source = self.path()
        errors = self.refusedBy("vol-upload", "nothing", str(source), "--pool", POOL.name)
        self.assertIn("Storage volume not found: no storage vol with matching", errors)
        source.write_bytes(bytes(20))
        errors = self.refusedBy("vol-upload", vol.name, str(source), "--pool", POOL.name, "--length", "10")
        self.assertIn("No space left on device", errors)

    def test_R074_killed_in_the_middle(self) -> None:
        """
        Nothing of it stays open in the daemon, and another client is served.
        """
        vol, file = self.volume(GIB)
        before = self.descriptors()
        source = self.path()
        source.unlink()
        os.mkfifo(source)
        process = subprocess.Popen(
            [*WITH_US, "virsh", "-c", self.uri, "vol-upload", vol.name, str(source), "--pool", POOL.name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with source.open("wb") as feed:
                feed.write(bytes(4 * MIB))
                feed.flush()
                # What is in the pipe is not sent yet; the rest is.
                deadline = time.monotonic() + SECONDS
                while not list(self.temporaries.rglob(f"={vol.name}")) or file().stat().st_blocks == 0:
                    self.assertTrue(time.monotonic() < deadline)
                self.assertTrue(self.descriptors() > before)
                process.kill()
                process.wait()
        finally:
            process.kill()
            process.wait()
        self.virsh("vol-info", vol.name, "--pool", POOL.name)
        deadline = time.monotonic() + SECONDS
        while self.descriptors() > before:
            self.assertTrue(time.monotonic() < deadline, "descriptors are left")

    def test_a_daemon_that_ends_takes_its_files_with_it(self) -> None:
        directory = Path(tempfile.mkdtemp(dir="/var/tmp"))
        self.addCleanup(directory.rmdir)
        daemon = self.start(directory)
        self.addCleanup(daemon.stop)
        for command in (
            ["vol-create-as", POOL.name, "v", "10"],
            ["vol-download", "v", os.devnull, "--pool", POOL.name],
        ):
            self.assertEqual(Virsh(daemon.uri, *command).finish()[0], 0)
        self.assertEqual(len(list(directory.rglob("=v"))), 1)
        daemon.stop()
        self.assertEqual(list(directory.iterdir()), [])


class VirshDevices(_Case):
    """
    virsh at a console, taking screenshots, passing descriptors.
    """

    def test_a_console(self) -> None:
        terminal = self.terminal("console", "test")
        terminal.expect("test echo guest")
        terminal.type("hello\r")
        terminal.expect("hello\r\n")
        terminal.type(ESCAPE)
        self.assertEqual(terminal.finish(), 0)
        again = self.terminal("console", "test", "--safe")
        again.expect("test echo guest")
        again.type(ESCAPE)
        self.assertEqual(again.finish(), 0)

    def test_two_at_one_console(self) -> None:
        first = self.terminal("console", "test")
        first.expect("test echo guest")
        second = self.terminal("console", "test")
        second.expect("Active console session exists for this domain")
        self.assertEqual(second.finish(), 1)
        third = self.terminal("console", "test", "--force")
        third.expect("test echo guest")
        # The first has lost it, which is no failure to virsh.
        self.assertEqual(first.finish(), 0)
        third.type("mine\r")
        third.expect("mine\r\n")
        third.type(ESCAPE)
        self.assertEqual(third.finish(), 0)

    def test_R068_a_console_whose_domain_is_destroyed(self) -> None:
        """
        virsh leaves it, and the next command of the same session works.
        """
        document = self.path()
        document.write_text(DOMAIN_XML.format("short-lived"))
        self.virsh("create", str(document))
        terminal = self.terminal()
        terminal.expect("virsh # ")
        terminal.type("console short-lived\n")
        terminal.expect("short-lived echo guest")
        self.virsh("destroy", "short-lived")
        terminal.expect("virsh # ")
        terminal.type("list\n")
        terminal.expect("running")
        terminal.expect("virsh # ")
        terminal.type("domstate test\n")
        terminal.expect("running\r\n")
        terminal.type("quit\n")
        self.assertEqual(terminal.finish(), 0)
        self.assertNotIn("error", terminal.output)

    def test_create_with_a_console(self) -> None:
        document = self.path()
        document.write_text(DOMAIN_XML.format("created"))
        terminal = self.terminal("create", str(document), "--console")
        terminal.expect("created echo guest")
        terminal.type(ESCAPE)
        self.assertEqual(terminal.finish(), 0)
        self.virsh("destroy", "created")

    def test_a_screenshot(self) -> None:
        picture = self.path()
        said = self.virsh("screenshot", "test", str(picture))
        self.assertIn("with type of image/png", said)
        data = picture.read_bytes()
        self.assertTrue(data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82"))
        self.assertIn("one screen", self.refusedBy("screenshot", "test", str(picture), "--screen", "1"))

    def test_R087_create_passes_descriptors(self) -> None:
        """
        The daemon keeps them while the domain runs: a pipe has no end until it is destroyed.
        """
        document = self.path()
        document.write_text(DOMAIN_XML.format("with-files"))
        before = self.descriptors()
        reading, writing = os.pipe()
        try:
            ran = subprocess.run(
                [*WITH_US, "virsh", "-c", self.uri, "create", str(document)]
                + ["--pass-fds", f"{writing},{writing}"],
                pass_fds=[writing],
                capture_output=True,
                timeout=SECONDS,
            )
            self.assertEqual((ran.returncode, ran.stderr), (0, b""))
        finally:
            os.close(writing)
        with open(reading, "rb", buffering=0) as pipe:
            self.assertEqual(select.select([pipe], [], [], 0)[0], [])
            self.virsh("destroy", "with-files")
            self.assertEqual(pipe.read(1), b"")
        deadline = time.monotonic() + SECONDS
        while self.descriptors() > before:
            self.assertTrue(time.monotonic() < deadline, "descriptors are left")


class OurClient(_Case):
    """
    Our client on our daemon.
    """

    def run_(self, body: Callable[[Any], Coroutine[Any, Any, None]]) -> Deferred[None]:
        """Run something with what a connection calls."""

        async def session() -> None:
            connection: Connection
            async with await connect(reactor, self.uri) as connection:
                await body(connection.remote)

        return Deferred.fromCoroutine(session())

    def test_ten_gibibytes_with_64_mebibytes_of_data(self) -> Deferred[None]:
        """
        Only the data travels, and only the data takes space: at the daemon, and in the copy.
        """
        size, data = 10 * GIB, os.urandom(8 * MIB)
        vol, file = self.volume(size)
        source, copy = self.path(), self.path()
        with source.open("r+b") as made:
            for n in range(8):
                os.pwrite(made.fileno(), data, n * GIB + 12 * MIB)
            made.truncate(size)

        async def body(remote: Any) -> None:
            with source.open("rb") as opened:
                stream = await remote.storageVolUpload(vol, 0, size, SPARSE)
                self.assertEqual(await stream.sendFrom(opened), size)
            stream = await remote.storageVolDownload(vol, 0, 0, SPARSE)
            travelled = holes = 0
            async for item in stream:
                if isinstance(item, Hole):
                    holes += item.length
                else:
                    travelled += len(item)
            await stream.finish()
            self.assertEqual(travelled + holes, size)
            self.assertTrue(64 * MIB <= travelled <= 65 * MIB, travelled)
            with copy.open("wb") as opened:
                stream = await remote.storageVolDownload(vol, 0, 0, SPARSE)
                self.assertEqual(await stream.receiveInto(opened), size)
            for each in (file(), copy):
                self.assertEqual(each.stat().st_size, size)
                self.assertTrue(64 * MIB <= space(each) <= 65 * MIB, space(each))
                with each.open("rb") as found:
                    for n in range(8):
                        self.assertTrue(os.pread(found.fileno(), 8 * MIB, n * GIB + 12 * MIB) == data)

        return self.run_(body)

    def test_what_we_upload_virsh_downloads(self) -> Deferred[None]:
        vol, _ = self.volume(3 * MIB)
        data, copy = os.urandom(3 * MIB), self.path()

        async def body(remote: Any) -> None:
            stream = await remote.storageVolUpload(vol, 0, 0)
            self.assertEqual(await stream.sendFrom([data[:MIB], data[MIB:]]), len(data))
            self.virsh("vol-download", vol.name, str(copy), "--pool", POOL.name)
            self.assertTrue(copy.read_bytes() == data)
            self.assertEqual((await remote.storageVolGetInfo(vol)).capacity, 3 * MIB)

        return self.run_(body)

    def test_R088_the_graphics(self) -> Deferred[None]:
        """
        A socket of a guest's in another process.
        """

        async def body(remote: Any) -> None:
            before = len(openAtRest())
            for _ in range(3):
                (fd,) = await remote.domainOpenGraphicsFD(TEST, 0, 0)
                with socket.socket(fileno=fd) as graphics:
                    graphics.settimeout(SECONDS)
                    self.assertEqual(graphics.recv(100), b"RFB 003.008\n")
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    await remote.domainOpenGraphics(TEST, 0, 0, fds=[theirs.fileno()])
                ours.settimeout(SECONDS)
                self.assertEqual(ours.recv(100), b"RFB 003.008\n")

            self.assertEqual(len(openDescriptors()), before)

        return self.run_(body)

    def test_R068_our_console_and_theirs(self) -> Deferred[None]:
        """
        virsh destroys the guest at whose console we are.
        """
        document = self.path()
        document.write_text(DOMAIN_XML.format("ours"))
        self.virsh("create", str(document))

        async def body(remote: Any) -> None:
            dom = await remote.domainLookupByName("ours")
            stream = await remote.domainOpenConsole(dom, None, 0)
            heard = b""
            while b"echo guest\r\n" not in heard:
                heard += await stream.receive()
            self.virsh("destroy", "ours")
            self.assertEqual(await stream.receive(), b"")
            await stream.finish()
            with self.assertRaises(RemoteError):
                await remote.domainOpenConsole(dom, None, 0)
            self.assertEqual(await remote.connectNumOfDomains(), 1)

        return self.run_(body)
