"""A real sshd, and test cases that talk through it to a real libvirtd or to our own server."""

from __future__ import annotations

import atexit
import getpass
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.contracts.echo import EchoContract
from tests.interop.support import (
    START_SECONDS,
    STOP_SECONDS,
    LibvirtDaemon,
    VirnetDaemon,
    freePort,
    requireTool,
)
from tests.openfiles import openAtRest, openDescriptors
from virnet.client import Connection, connect
from virnet.errors import ConnectionLost, RemoteError
from virnet.transport.endpoints import endpointFor
from virnet.transport.uri import parseURI

reactor: Any = _reactor

SECONDS = 120
MEBIBYTE = 1 << 20
SIZE = 64 * MEBIBYTE

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/hostkey
AuthorizedKeysFile {directory}/authorized
PidFile {directory}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel VERBOSE
SetEnv PATH={directory}/bin:/usr/bin:/bin
"""

VOLUME = """\
<volume><name>{name}</name><capacity unit='bytes'>{size}</capacity><allocation>0</allocation></volume>
"""


class SSHServer:
    """A real sshd with keys of its own, into which the user of the tests may log in.

    @ivar key: the private key that it takes.
    @ivar stranger: one that it does not take.
    @ivar known: a file of known hosts with it in.
    @ivar ssh: a program that is ssh, and knows no hosts but those in C{known}.
    @ivar unknowing: the same, but knows none.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-ssh-"))
        self.port = freePort()
        self.key = self._makeKey("key")
        self.stranger = self._makeKey("stranger")
        public = Path(f"{self._makeKey('hostkey')}.pub").read_text()
        shutil.copy(f"{self.key}.pub", self.directory / "authorized")
        self.known = self.directory / "known"
        self.known.write_text(f"[127.0.0.1]:{self.port} {public}")
        self.ssh = self.wrapper("ssh", self.known)
        self.unknowing = self.wrapper("unknowing", self.directory / "unknown")
        (self.directory / "bin").mkdir()
        config = self.directory / "config"
        config.write_text(CONFIG.format(port=self.port, directory=self.directory))
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while b"listening on" not in (self.directory / "log").read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd does not listen: {(self.directory / 'log').read_text()}")
            time.sleep(0.02)

    def _makeKey(self, name: str) -> str:
        path = str(self.directory / name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        return path

    def wrapper(self, name: str, known: Path) -> str:
        """A program that is ssh, and knows the hosts in C{known} alone."""
        path = self.directory / name
        options = f"-F /dev/null -o IdentitiesOnly=yes -o UserKnownHostsFile={known}"
        path.write_text(f'#!/bin/sh\nexec ssh {options} -o GlobalKnownHostsFile=/dev/null "$@"\n')
        path.chmod(0o755)
        return str(path)

    def uri(self, path: str, driver: str = "test", transport: str = "ssh", **params: str) -> str:
        """A URI that leads through it."""
        if transport == "ssh":
            params = {"command": self.ssh, "no_tty": "1", "keyfile": self.key, **params}
        else:
            params = {"known_hosts": str(self.known), "keyfile": self.key, "sshauth": "privkey", **params}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in params.items())
        return f"{driver}+{transport}://{getpass.getuser()}@127.0.0.1:{self.port}{path}?{query}"

    def stop(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(STOP_SECONDS)
        shutil.rmtree(self.directory, ignore_errors=True)


@cache
def _sshd() -> SSHServer:
    server = SSHServer()
    atexit.register(server.stop)
    return server


@cache
def _libvirtd() -> LibvirtDaemon:
    daemon = LibvirtDaemon()
    daemon.start()
    return daemon


@cache
def _virnet() -> VirnetDaemon:
    daemon = VirnetDaemon()
    daemon.start()
    return daemon


def children() -> set[int]:
    """The processes that this one has started, zombies included."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = entry.read_text().split(" (", 1)
        except OSError:
            continue
        if int(rest.rpartition(")")[2].split()[1]) == os.getpid():
            found.add(int(pid))
    return found


class Case(TestCase):
    timeout = SECONDS

    @property
    def server(self) -> SSHServer:
        """The sshd of all tests here."""
        return _sshd()

    async def setUp(self) -> None:  # type: ignore[override]
        requireTool(self, "sshd", "ssh", "ssh-keygen", "nc")
        self.prepare()
        await deferLater(reactor, 0)
        # What only garbage of other tests holds open would be closed at any time.
        self.children, self.descriptors = children(), openAtRest()

    def prepare(self) -> None:
        """Start what all tests here share."""
        assert self.server

    async def leftNothing(self) -> None:
        """No process and no descriptor is left of the connections that were made."""
        self.assertEqual(children(), self.children)
        self.assertEqual(openDescriptors(), self.descriptors)

    async def refused(self, uri: str) -> str:
        """The error of a connection that must fail."""
        try:
            connection = await connect(reactor, uri)
        except ConnectionLost as e:
            for _ in range(200):
                if children() == self.children:
                    break
                await deferLater(reactor, 0.01)
            await self.leftNothing()
            return str(e)
        await connection.close()
        raise self.failureException("not refused")


class ToVirnet(Case):
    """To our own server.

    @ivar transport: which of ours leads there.
    """

    transport = "ssh"

    @property
    def daemon(self) -> LibvirtDaemon | VirnetDaemon:
        """Whoever is behind it; the same for all tests."""
        return _virnet()

    def prepare(self) -> None:
        super().prepare()
        assert self.daemon

    def uri(self, **params: str) -> str:
        """Where to connect."""
        params = {"socket": self.daemon.socketPath, **params}
        return self.server.uri("/default", transport=self.transport, **params)


class ToLibvirtd(ToVirnet):
    """To a real libvirtd."""

    @property
    def daemon(self) -> LibvirtDaemon | VirnetDaemon:
        requireTool(self, "libvirtd")
        return _libvirtd()


if TYPE_CHECKING:
    _Mixin = ToVirnet
else:
    # Its tests are run where it is mixed in, and only there.
    _Mixin = object


class Talk(_Mixin):
    """Calls, events, volumes."""

    pool = "default-pool"

    async def test_calls_and_events(self) -> None:
        connection = await connect(reactor, self.uri())
        async with connection:
            self.assertEqual(await connection.remote.connectGetURI(), "test:///default")
            events: list[Any] = []
            await connection.domainEvents.subscribe(0, lambda *args: events.append(args))
            domain = await connection.remote.domainLookupByName("test")
            await connection.remote.domainSuspend(domain)
            await connection.remote.domainResume(domain)
            while len(events) < 2:
                await deferLater(reactor, 0.01)
        await self.leftNothing()

    async def test_R137_the_application_forgets_the_connection(self) -> None:
        connection = await connect(reactor, self.uri())
        connection.client.abandon()
        await connection.whenClosed()
        for _ in range(200):
            if children() == self.children:
                break
            await deferLater(reactor, 0.01)
        await self.leftNothing()

    async def test_a_volume_of_64_mebibytes(self) -> None:
        path = os.path.abspath(self.mktemp())
        block = hashlib.sha256(path.encode()).digest() * (MEBIBYTE // 32)
        with open(path, "wb") as file:
            for number in range(SIZE // MEBIBYTE):
                file.write(number.to_bytes(8) + block[8:])
        connection = await connect(reactor, self.volumesURI())
        async with connection:
            volume = await self.newVolume(connection)
            try:
                with open(path, "rb") as file:
                    stream = await connection.remote.storageVolUpload(volume, 0, SIZE, 0)
                    await stream.sendFrom(file)
                with open(f"{path}.back", "wb") as file:
                    stream = await connection.remote.storageVolDownload(volume, 0, SIZE, 0)
                    await stream.receiveInto(file)
            finally:
                await connection.remote.storageVolDelete(volume, 0)
        await self.leftNothing()
        subprocess.run(["cmp", path, f"{path}.back"], check=True)

    def volumesURI(self) -> str:
        """Where volumes can be kept."""
        return self.uri()

    async def newVolume(self, connection: Connection) -> Any:
        """A volume that holds what the tests send."""
        remote = connection.remote
        pool = await remote.storagePoolLookupByName("default-pool")
        return await remote.storageVolCreateXML(pool, VOLUME.format(name="ssh", size=SIZE), 0)


class LibvirtdTalk(Talk):
    """The same where pools have to be made first."""

    def volumesURI(self) -> str:
        return self.server.uri(
            "/system", driver="storage", transport=self.transport, socket=self.daemon.socketPath
        )

    async def newVolume(self, connection: Connection) -> Any:
        remote = connection.remote
        directory = self.daemon.directory / "volumes"
        directory.mkdir(exist_ok=True)
        xml = f"<pool type='dir'><name>ssh</name><target><path>{directory}</path></target></pool>"
        try:
            pool = await remote.storagePoolLookupByName("ssh")
        except RemoteError:
            pool = await remote.storagePoolCreateXML(xml, 0)
        return await remote.storageVolCreateXML(pool, VOLUME.format(name="ssh", size=SIZE), 0)


class ReachEcho(EchoContract, _Mixin):
    """The contract of ways to a server, through ssh to a UNIX socket on the host."""

    async def reach(self, died: bool = False) -> IStreamClientEndpoint:
        """Have a peer listen, and lead there."""
        directory = tempfile.mkdtemp(prefix="virnet-echo-")
        self.addCleanup(shutil.rmtree, directory, True)
        path = f"{directory}/sock"
        await self.listen(UNIXServerEndpoint(reactor, path), died)
        # Only with -N does netcat pass the end of what it reads on.
        netcat = self.server.directory / "nc-N"
        if not netcat.exists():
            netcat.write_text('#!/bin/sh\n[ "$1" = -q ] && [ $# = 1 ] && exit; exec nc -N "$@"\n')
            netcat.chmod(0o755)
        return endpointFor(reactor, parseURI(self.uri(socket=path, netcat=str(netcat))))
