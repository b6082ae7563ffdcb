"""Our server for one connection, started by whoever connects: by virsh, and by our client."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.contracts.ends import reactor
from tests.interop.sshd import children
from tests.interop.support import Virsh, requireTool
from tests.openfiles import openAtRest, openDescriptors
from virnet.client import connect

ROOT = Path(__file__).resolve().parents[2]

#: What stands around the server: one socket for both, or pipes.
SHAPES = {"socket": "exec {server}", "pipes": "cat | {server} | cat"}


class Stdio(TestCase):
    """C{libvirt-stdio:}"""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-stdio-"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        await deferLater(reactor, 0)
        # What only garbage of other tests holds open would be closed at any time.
        self.children, self.descriptors = children(), openAtRest()

    def uri(self, shape: str) -> str:
        """Where a server is started."""
        program = self.directory / shape
        server = f"{sys.executable} -m twisted virnet --listen libvirt-stdio:"
        program.write_text(
            f"#!/bin/sh\ncd {self.directory}\nexport PYTHONPATH={ROOT}\n"
            + SHAPES[shape].format(server=f"{server} 2>{shape}.log")
            + "\n"
        )
        program.chmod(0o755)
        return f"test+ext:///default?command={program}"

    async def test_for_virsh(self) -> None:
        requireTool(self, "virsh")
        for shape in SHAPES:
            status, output, errors = Virsh(self.uri(shape), "list", "--all", "--name").finish()
            self.assertEqual((status, output.split()), (0, ["test"]), errors)

    async def test_for_our_client(self) -> None:
        data = os.urandom(1 << 20)
        xml = "<volume><name>v</name><capacity unit='MiB'>16</capacity><allocation>0</allocation></volume>"
        for shape in SHAPES:
            connection = await connect(reactor, self.uri(shape))
            async with connection:
                remote = connection.remote
                pool = await remote.storagePoolLookupByName("default-pool")
                volume = await remote.storageVolCreateXML(pool, xml, 0)
                stream = await remote.storageVolUpload(volume, 0, 0, 0)
                await stream.sendFrom([data] * 16)
                stream = await remote.storageVolDownload(volume, 0, 0, 0)
                received = [bytes(piece) for piece in [each async for each in stream] if piece]
                await stream.finish()
            self.assertTrue(b"".join(received) == data * 16)
            self.assertEqual((children(), openDescriptors()), (self.children, self.descriptors))

    async def test_the_process_ends_with_its_connection_and_prints_to_standard_error(self) -> None:
        connection = await connect(reactor, self.uri("socket"))
        connection.client.abandon()
        await connection.whenClosed()
        while children() != self.children:
            await deferLater(reactor, 0.01)
        self.assertIn("listening on", (self.directory / "socket.log").read_text())

    async def test_it_takes_nothing_and_leads_nowhere(self) -> None:
        self.assertRaises(ValueError, serverFromString, reactor, "libvirt-stdio:x")
        self.assertRaises(ValueError, clientFromString, reactor, "libvirt-stdio:")
