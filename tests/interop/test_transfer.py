"""
Volumes from URLs on real servers: a real libvirtd's storage driver and our own daemon, an HTTP server of
Twisted's on loopback, and the command as people run it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import trustme
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.server import Site

from tests.client.transfer import origin as behaviours
from tests.client.transfer.origin import Behaviour, Origin
from tests.interop.support import LibvirtDaemon, VirnetDaemon, requireTool
from tests.interop.test_cli import environment
from virnet.client import Connection, connect
from virnet.client.stream import Hole
from virnet.client.transfer import HTTPOptions, Progress, TransferError, Transferred, download, upload
from virnet.errors import ConnectionLost
from virnet.limits import UPLOAD_HEAD
from virnet.programs.values import StorageVol

reactor: Any = installed
MIB = 1 << 20
SECONDS = 100


class _Transfers(TestCase):
    """
    What holds on every server.
    """

    timeout = SECONDS
    uri: ClassVar[str] = ""
    pool: ClassVar[str] = ""
    data: ClassVar[bytes] = os.urandom(5 * MIB + 4321)

    def ensureServer(self) -> None:
        """Have the server."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.ensureServer()
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.directory)

    def origin(self, *script: Behaviour, data: bytes | None = None) -> tuple[Origin, str]:
        """Serve something on loopback."""
        origin = Origin(self.data if data is None else data, *script)
        port = reactor.listenTCP(0, Site(origin), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return origin, f"http://127.0.0.1:{port.getHost().port}/image"

    def onVolume(
        self, capacity: int, body: Callable[[Connection, StorageVol], Awaitable[None]]
    ) -> Deferred[None]:
        """Do something to a new volume."""

        async def run() -> None:
            async with await connect(reactor, self.uri) as connection:
                remote = connection.remote
                pool = await remote.storagePoolLookupByName(self.pool)
                xml = (
                    f"<volume><name>v{time.monotonic_ns()}</name><capacity>{capacity}</capacity>"
                    "<allocation>0</allocation></volume>"
                )
                vol = await remote.storageVolCreateXML(pool, xml, 0)
                try:
                    await body(connection, vol)
                finally:
                    async with await connect(reactor, self.uri) as other:
                        await other.remote.storageVolDelete(vol, 0)

        return Deferred.fromCoroutine(run())

    async def content(self, connection: Connection, vol: StorageVol) -> bytes:
        target = self.directory / "content"
        await download(reactor, connection.remote, vol, target)
        return target.read_bytes()

    async def refused(self, call: Awaitable[Transferred]) -> str:
        try:
            await call
        except TransferError as e:
            return str(e)
        raise self.failureException("it was not refused")

    def test_a_url(self) -> Deferred[None]:
        digest = f"sha256:{hashlib.sha256(self.data).hexdigest()}"
        origin, url = self.origin()

        async def body(connection: Connection, vol: StorageVol) -> None:
            for _ in range(3):
                told: list[Progress] = []
                result = await upload(
                    reactor, connection.remote, vol, url, checksum=digest, progress=told.append
                )
                self.assertEqual((len(self.data), digest), (result.size, result.checksum))
                self.assertEqual((len(self.data), len(self.data)), (told[-1].done, told[-1].total))
                self.assertTrue(await self.content(connection, vol) == self.data)

        return self.onVolume(len(self.data), body)

    def test_a_cut_a_stall_and_a_redirect(self) -> Deferred[None]:
        origin, url = self.origin(
            behaviours.leadsTo("/there"), behaviours.cutAfter(2 * MIB), behaviours.stallAfter(MIB)
        )

        async def body(connection: Connection, vol: StorageVol) -> None:
            result = await upload(reactor, connection.remote, vol, url, http=HTTPOptions(stall=0.5))
            self.assertEqual(2, result.resumed)
            self.assertTrue(await self.content(connection, vol) == self.data)

        return self.onVolume(len(self.data), body)

    def test_what_is_refused_is_no_image(self) -> Deferred[None]:
        """
        Not the new one, and not the old one either.
        """

        async def body(connection: Connection, vol: StorageVol) -> None:
            remote = connection.remote
            for script, words in (
                ([behaviours.cutAfter(2 * MIB), behaviours.ignoresRange], "begins anew"),
                ([behaviours.says(length=9 * MIB), behaviours.answers(416)], "has changed"),
                ([behaviours.serve], "has sha256"),
            ):
                await upload(reactor, remote, vol, self.data)
                _, url = self.origin(*script, data=self.data[::-1])
                wrong = "sha256:" + "0" * 64
                self.assertIn(words, await self.refused(upload(reactor, remote, vol, url, checksum=wrong)))
                self.assertTrue((await self.content(connection, vol))[:UPLOAD_HEAD] == bytes(UPLOAD_HEAD))

        return self.onVolume(len(self.data), body)

    def test_a_lost_connection_leaves_no_image(self) -> Deferred[None]:
        _, url = self.origin(behaviours.stallAfter(3 * MIB))

        async def body(connection: Connection, vol: StorageVol) -> None:
            await upload(reactor, connection.remote, vol, self.data)
            async with await connect(reactor, self.uri) as other:

                def cut(progress: Progress) -> None:
                    if progress.done >= 2 * MIB:
                        other.client.abandon()

                try:
                    await upload(reactor, other.remote, vol, url, progress=cut)
                except ConnectionLost:
                    pass
                else:
                    raise self.failureException("it did not notice")
            self.assertTrue((await self.content(connection, vol))[:UPLOAD_HEAD] == bytes(UPLOAD_HEAD))

        return self.onVolume(len(self.data), body)

    def test_holes_of_a_new_volume(self) -> Deferred[None]:
        data = self.data[:UPLOAD_HEAD] + bytes(16 * MIB) + self.data[:MIB]
        _, url = self.origin(data=data)

        async def body(connection: Connection, vol: StorageVol) -> None:
            result = await upload(reactor, connection.remote, vol, url, sparse=True)
            self.assertEqual(len(data), result.size)
            self.assertGreater(result.holes, 15 * MIB)
            self.assertTrue(await self.content(connection, vol) == data)
            target = self.directory / "sparse"
            result = await download(reactor, connection.remote, vol, target, sparse=True, checksum="sha256")
            self.assertGreater(result.holes, 15 * MIB)
            self.assertEqual(f"sha256:{hashlib.sha256(data).hexdigest()}", result.checksum)
            self.assertLess(target.stat().st_blocks * 512, 3 * MIB)

        return self.onVolume(len(data), body)

    def test_the_web_server_waits(self) -> Deferred[None]:
        """
        Memory is bounded: of 64 MiB only what is under way was sent when nothing is taken any more.
        """
        data = bytes(range(256)) * (64 * MIB // 256)
        origin, url = self.origin(behaviours.patient(reactor), data=data)

        async def body(connection: Connection, vol: StorageVol) -> None:
            held: Deferred[None] = Deferred()
            remote = connection.remote

            class Slow:
                """Takes a mebibyte and then waits."""

                async def storageVolUpload(self, *args: Any) -> Any:
                    stream: Any = await remote.storageVolUpload(*args)
                    send, sent = stream.send, 0

                    async def slow(data: bytes) -> None:
                        nonlocal sent
                        sent += len(data)
                        if sent > MIB:
                            await held
                        await send(data)

                    stream.send = slow
                    return stream

            slow: Any = Slow()
            running = Deferred.fromCoroutine(upload(reactor, slow, vol, url))
            written = -1
            while written != origin.written:
                written = origin.written
                await _pause(0.3)
            # Sockets of loopback hold some; what waits here is half a mebibyte.
            self.assertLess(written, 16 * MIB)
            held.callback(None)
            self.assertEqual(len(data), (await running).size)
            self.assertTrue(await self.content(connection, vol) == data)

        return self.onVolume(len(data), body)

    def test_the_command_killed(self) -> Deferred[None]:
        """
        SIGKILL: nobody cleans up, and it is no image all the same.
        """
        _, url = self.origin(behaviours.stallAfter(4 * MIB), data=self.data[::-1])

        async def body(connection: Connection, vol: StorageVol) -> None:
            await upload(reactor, connection.remote, vol, self.data)
            process = subprocess.Popen(
                [sys.executable, "-m", "virnet.cli", "-c", self.uri, "vol-upload", vol.name]
                + ["--pool", self.pool, "--from", url],
                env=environment(),
                stdin=subprocess.DEVNULL,
            )
            try:
                changed = self.data[2 * MIB : 3 * MIB]
                while changed == self.data[2 * MIB : 3 * MIB]:
                    self.assertIsNone(process.poll())
                    await _pause(0.1)
                    changed = (await self.content(connection, vol))[2 * MIB : 3 * MIB]
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
            self.assertTrue((await self.content(connection, vol))[:UPLOAD_HEAD] == bytes(UPLOAD_HEAD))

        return self.onVolume(len(self.data), body)


def _pause(seconds: float) -> Deferred[None]:
    waited: Deferred[None] = Deferred()
    reactor.callLater(seconds, waited.callback, None)
    return waited


class OnLibvirtd(_Transfers):
    """
    On a real libvirtd's directory pool.
    """

    daemon: ClassVar[LibvirtDaemon | None] = None

    def ensureServer(self) -> None:
        requireTool(self, "libvirtd", "virsh")
        if os.geteuid() != 0:
            raise SkipTest("libvirt's storage driver wants root")
        cls = type(self)
        if cls.daemon is None:
            daemon = cls.daemon = LibvirtDaemon()
            daemon.start()
            cls.uri = f"storage+unix:///system?socket={daemon.socketPath}"
            cls.pool = "p"
            directory = daemon.directory / "pool"
            directory.mkdir()
            subprocess.run(
                ["virsh", "-q", "-c", cls.uri, "pool-create-as", "p", "dir", "--target", str(directory)],
                check=True,
                timeout=SECONDS,
            )

    def test_old_data_shows_through_holes(self) -> Deferred[None]:
        """
        Why holes are for new volumes only: libvirtd seeks over them, whatever is there.
        """

        async def body(connection: Connection, vol: StorageVol) -> None:
            remote = connection.remote
            await upload(reactor, remote, vol, self.data)
            await upload(reactor, remote, vol, [b"x" * UPLOAD_HEAD, Hole(MIB), b"y" * MIB], sparse=True)
            found = await self.content(connection, vol)
            self.assertTrue(
                found[UPLOAD_HEAD : UPLOAD_HEAD + MIB] == self.data[UPLOAD_HEAD : UPLOAD_HEAD + MIB]
            )

        return self.onVolume(len(self.data), body)

    def test_a_stream_that_is_aborted_leaves_what_has_arrived(self) -> Deferred[None]:
        """
        What we do not do: without the head kept back it would look like an image.
        """

        async def body(connection: Connection, vol: StorageVol) -> None:
            stream: Any = await connection.remote.storageVolUpload(vol, 0, 0, 0)
            await stream.send(self.data[: 2 * MIB])
            # The answer says that what was sent before has been taken; a thread may still be writing it.
            await stream.abort()
            while (await self.content(connection, vol))[:MIB] != self.data[:MIB]:
                pass

        return self.onVolume(len(self.data), body)

    def test_a_volume_that_was_made_for_it_is_deleted(self) -> Deferred[None]:
        _, url = self.origin()

        async def body(connection: Connection, vol: StorageVol) -> None:
            remote = connection.remote
            pool = await remote.storagePoolLookupByName(self.pool)
            xml = "<volume><name>made</name><capacity>1000</capacity></volume>"
            made = await remote.storageVolCreateXML(pool, xml, 0)
            await self.refused(upload(reactor, remote, made, url, size=77, onFailure="delete"))
            self.assertNotIn("made", await remote.storagePoolListVolumes(pool, 100))

        return self.onVolume(1000, body)

    def test_wiping(self) -> Deferred[None]:
        _, url = self.origin()

        async def body(connection: Connection, vol: StorageVol) -> None:
            await upload(reactor, connection.remote, vol, self.data)
            wrong = "sha256:" + "0" * 64
            await self.refused(upload(reactor, connection.remote, vol, url, checksum=wrong, onFailure="wipe"))
            # It may be longer than before: libvirtd writes whole blocks.
            found = await self.content(connection, vol)
            self.assertGreaterEqual(len(found), len(self.data))
            self.assertEqual(b"", found.strip(b"\0"))

        return self.onVolume(len(self.data), body)


class OnVirnet(_Transfers):
    """
    On our own daemon.
    """

    daemon: ClassVar[VirnetDaemon | None] = None
    pool = "default-pool"

    def ensureServer(self) -> None:
        cls = type(self)
        if cls.daemon is None:
            daemon = cls.daemon = VirnetDaemon()
            daemon.start()
            cls.uri = daemon.uri

    def test_https(self) -> Deferred[None]:
        """
        Certificates are checked by what the system trusts, or what SSL_CERT_FILE names.
        """
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        pem = self.directory / "server.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
        trusted = self.directory / "ca.pem"
        authority.cert_pem.write_to_path(str(trusted))
        options = PrivateCertificate.loadPEM(pem.read_bytes()).options()
        port = reactor.listenSSL(
            0, Site(Origin(self.data, behaviours.cutAfter(MIB))), options, interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        url = f"https://localhost:{port.getHost().port}/image"

        async def body(connection: Connection, vol: StorageVol) -> None:
            words = ("vol-upload", vol.name, "--pool", self.pool, "--from", url, "--json")
            status, _, errors = await self.ran(*words)
            self.assertEqual((1, f"virnet: {url}: certificate verify failed\n"), (status, errors))
            status, output, errors = await self.ran(*words, SSL_CERT_FILE=str(trusted))
            self.assertEqual((0, ""), (status, errors))
            self.assertEqual((len(self.data), 1), (json.loads(output)["data"], json.loads(output)["resumed"]))
            self.assertTrue(await self.content(connection, vol) == self.data)

        return self.onVolume(len(self.data), body)

    async def ran(self, *words: str, **variables: str) -> tuple[int, str, str]:
        """Run the command, which this process serves."""
        arguments = ["-m", "virnet.cli", "-c", self.uri, *words]
        output, errors, status = await getProcessOutputAndValue(
            sys.executable, arguments, environment(**variables), reactor=reactor
        )
        return status, output.decode(), errors.decode()


# Its tests are those of the two above.
del _Transfers
