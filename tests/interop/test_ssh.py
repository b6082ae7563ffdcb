"""Over ssh: our client to a real libvirtd and to our own server, and virsh to ours, through a real sshd."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tests.interop.sshd import (
    MEBIBYTE,
    SIZE,
    VOLUME,
    LibvirtdTalk,
    ReachEcho,
    Talk,
    ToLibvirtd,
    ToVirnet,
    children,
    reactor,
)
from tests.interop.support import (
    Virsh,
    requireTool,
)
from virnet.client import connect
from virnet.errors import URIError


class Libvirtd(LibvirtdTalk, ToLibvirtd):
    """Our client, ssh, a real libvirtd."""


class Virnet(Talk, ToVirnet):
    """Our client, ssh, our server."""


class Failing(ToVirnet):
    """What goes wrong, and what is told."""

    async def test_R136_a_key_that_is_not_welcome(self) -> None:
        error = await self.refused(self.uri(keyfile=self.server.stranger))
        self.assertIn("ended with exit status 255: ", error)
        self.assertIn("Permission denied (publickey)", error)

    async def test_R136_a_host_that_is_not_known(self) -> None:
        error = await self.refused(self.uri(command=self.server.unknowing))
        self.assertIn("Host key verification failed.", error)

    async def test_R134_unknown_hosts_are_taken_and_remembered_with_no_verify(self) -> None:
        ssh = self.server.wrapper("learning", self.server.directory / "learned")
        connection = await connect(reactor, self.uri(command=ssh, no_verify="1"))
        await connection.close()
        self.assertIn(f"[127.0.0.1]:{self.server.port} ", (self.server.directory / "learned").read_text())
        await self.leftNothing()

    async def test_R134_a_host_with_another_key_is_refused_and_with_no_verify_not_remembered(self) -> None:
        known = self.server.directory / "mistaken"
        mistaken = f"[127.0.0.1]:{self.server.port} {Path(f'{self.server.stranger}.pub').read_text()}"
        known.write_text(mistaken)
        ssh = self.server.wrapper("deceived", known)
        error = await self.refused(self.uri(command=ssh))
        self.assertIn("REMOTE HOST IDENTIFICATION HAS CHANGED", error)
        # OpenSSH then still lets a key in, though no password.
        connection = await connect(reactor, self.uri(command=ssh, no_verify="1"))
        await connection.close()
        self.assertEqual(known.read_text(), mistaken)
        await self.leftNothing()

    async def test_R136_nobody_listens_there(self) -> None:
        error = await self.refused(self.uri(socket="/nowhere/sock"))
        self.assertIn("nc: ", error)
        self.assertIn("No such file or directory", error)

    async def test_R136_no_such_netcat_there(self) -> None:
        error = await self.refused(self.uri(netcat="/no/such nc"))
        self.assertIn("/no/such nc", error)

    async def test_R138_a_netcat_with_a_blank_in_its_path(self) -> None:
        netcat = self.server.directory / "it's my nc"
        if not netcat.exists():
            netcat.symlink_to(shutil.which("nc") or "")
        connection = await connect(reactor, self.uri(netcat=str(netcat)))
        await connection.close()
        await self.leftNothing()

    async def test_a_socket_with_a_blank_in_its_path(self) -> None:
        link = self.server.directory / "my sock;exit"
        if not link.is_symlink():
            link.symlink_to(self.daemon.socketPath)
        connection = await connect(reactor, self.uri(socket=str(link)))
        await connection.close()
        await self.leftNothing()

    async def test_R139_a_host_that_looks_like_an_option(self) -> None:
        proof = self.server.directory / "proof"
        uri = f"test+ssh://-oProxyCommand=touch%20{proof}/default?command={self.server.ssh}&socket=/s"
        await self.refused(uri)
        self.assertFalse(proof.exists())

    async def test_no_ssh_there_at_all(self) -> None:
        error = await self.refused(self.uri(command="/bin/false"))
        self.assertIn("/bin/false ended with exit status 1", error)
        await self.assertFailure(
            Deferred.fromCoroutine(connect(reactor, self.uri(command="no-such-ssh"))), URIError
        )

    async def test_R137_giving_up_while_connecting(self) -> None:
        for seconds in (0, 0.02, 0.1):
            connecting: Deferred[Any] = Deferred.fromCoroutine(connect(reactor, self.uri()))
            await deferLater(reactor, seconds)
            connecting.cancel()
            await self.assertFailure(connecting, CancelledError)
            for _ in range(200):
                if children() == self.children:
                    break
                await deferLater(reactor, 0.01)
            await self.leftNothing()

    async def test_R137_ssh_is_killed(self) -> None:
        connection = await connect(reactor, self.uri())
        (pid,) = children() - self.children
        os.kill(pid, signal.SIGKILL)
        reason = await connection.whenClosed()
        self.assertIn("was ended by signal 9", str(reason))
        await self.leftNothing()


class Others(ToVirnet):
    """libvirt's client and programs at one end."""

    async def virsh(self, uri: str, *arguments: str) -> str:
        """What virsh prints."""
        requireTool(self, "virsh")
        status, output, errors = Virsh(uri, *arguments).finish()
        self.assertEqual(status, 0, errors)
        return output

    async def test_virsh_over_ssh_to_our_server(self) -> None:
        printed = await self.virsh(self.uri(), "list", "--all", "--name")
        self.assertEqual(printed.split(), ["test"])

    async def test_virsh_uploads_to_our_server(self) -> None:
        path = os.path.abspath(self.mktemp())
        with open(path, "wb") as file:
            file.write(os.urandom(MEBIBYTE) * 16)
        size = str(16 * MEBIBYTE)
        await self.virsh(self.uri(), "vol-create-as", "default-pool", "up", size, "--allocation", "0")
        await self.virsh(self.uri(), "vol-upload", "up", path, "--pool", "default-pool")
        await self.virsh(self.uri(), "vol-download", "up", f"{path}.back", "--pool", "default-pool")
        subprocess.run(["cmp", path, f"{path}.back"], check=True)

    async def test_an_external_program(self) -> None:
        program = self.server.directory / "tunnel"
        program.write_text(f"#!/bin/sh\nexec nc -U {self.daemon.socketPath}\n")
        program.chmod(0o755)
        connection = await connect(reactor, f"test+ext:///default?command={program}")
        async with connection:
            self.assertEqual(await connection.remote.connectGetURI(), "test:///default")
        await self.leftNothing()


class Helper(ToVirnet):
    """With a program of the host's that finds the socket."""

    def install(self, text: str) -> None:
        """Have C{virt-ssh-helper} be something else than libvirt's."""
        path = self.server.directory / "bin" / "virt-ssh-helper"
        path.write_text(text)
        path.chmod(0o755)
        self.addCleanup(path.unlink)

    def installOurs(self) -> None:
        """Have it be ours, to our server."""
        self.install(
            f"#!/bin/sh\nPYTHONPATH={Path(__file__).resolve().parents[2]} exec {sys.executable} -m virnet.cli"
            f' ssh-helper --socket {self.daemon.socketPath} "$@"\n'
        )

    def uri(self, **params: str) -> str:
        return self.server.uri("/default", transport=self.transport, **params)

    async def test_R136_libvirts_own_is_run_and_heard(self) -> None:
        requireTool(self, "virt-ssh-helper")
        error = await self.refused(self.uri(proxy="native", name="nosuch:///system"))
        self.assertIn("Failed to connect socket to '/var/run/libvirt/", error)

    async def test_it_gets_the_name_as_one_word(self) -> None:
        self.install("#!/bin/sh\nprintf '[%s]' \"$@\" >&2\nexit 1\n")
        error = await self.refused(self.uri(name="a:///it's $(b) c"))
        self.assertIn("[a:///it's $(b) c]", error)

    async def test_ours_leads_to_our_server(self) -> None:
        self.installOurs()
        for proxy in ("native", "auto"):
            connection = await connect(reactor, self.uri(proxy=proxy), readonly=True)
            async with connection:
                self.assertEqual(await connection.remote.connectGetURI(), "test:///default")
            await self.leftNothing()

    async def test_ours_carries_much(self) -> None:
        self.installOurs()
        connection = await connect(reactor, self.uri(proxy="native"))
        async with connection:
            remote = connection.remote
            pool = await remote.storagePoolLookupByName("default-pool")
            xml = VOLUME.format(name="helped", size=SIZE)
            volume = await remote.storageVolCreateXML(pool, xml, 0)
            data = os.urandom(MEBIBYTE)
            stream = await remote.storageVolUpload(volume, 0, SIZE, 0)
            await stream.sendFrom([data] * 64)
            received: list[bytes] = []
            stream = await remote.storageVolDownload(volume, 0, SIZE, 0)
            async for piece in stream:
                assert isinstance(piece, bytes)
                received.append(piece)
            await stream.finish()
            await remote.storageVolDelete(volume, 0)
        self.assertTrue(b"".join(received) == data * 64)
        await self.leftNothing()

    async def test_virsh_by_ours(self) -> None:
        requireTool(self, "virsh")
        self.installOurs()
        status, output, errors = Virsh(self.uri(), "list", "--all", "--name").finish()
        self.assertEqual((status, output.split()), (0, ["test"]), errors)


class R141_SSH(ReachEcho, ToVirnet):
    """The contract of ways to a server, over ssh."""
