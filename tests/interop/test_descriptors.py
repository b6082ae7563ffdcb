"""Descriptors between processes: libvirt-python on our daemon, and our client on a real libvirtd.

What either daemon has open is counted in C{/proc} before and after. virsh that passes descriptors is in
C{test_volumes}.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.interop.binding import SECONDS, printed, requireBinding
from tests.interop.support import Daemon, LibvirtDaemon, VirnetDaemon, requireTool
from virnet.client import connect
from virnet.errorcodes import ErrorNumber
from virnet.errors import LocalProtocolError, RemoteError
from virnet.programs.values import Domain

TEST = Domain("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
DOMAIN_XML = "<domain type='test'><name>{}</name><memory>1024</memory><os><type>hvm</type></os></domain>"


def openFiles(daemon: Daemon) -> Counter[str]:
    """What a daemon has open, and how often."""
    found: Counter[str] = Counter()
    for name in os.listdir(f"/proc/{daemon.pid}/fd"):
        try:
            found[os.readlink(f"/proc/{daemon.pid}/fd/{name}")] += 1
        except FileNotFoundError:
            pass  # It was closed meanwhile.
    return found


class LibvirtPython(SynchronousTestCase):
    """The binding gives descriptors to our daemon and gets some."""

    def run_(self, script: str) -> str:
        """Run a script that has a connection C{c} and the running domain C{test}."""
        requireBinding(self)
        daemon = VirnetDaemon()
        daemon.start()
        self.addCleanup(daemon.stop)
        # It has all that it needs for itself once it has served somebody.
        printed(self, _OPENING, daemon.uri)
        before = self._atRest(daemon)
        said = printed(self, _OPENING + script, daemon.uri)
        self.assertEqual(self._atRest(daemon), before, openFiles(daemon))
        return said

    def _atRest(self, daemon: Daemon) -> int:
        """How much it has open when of its sockets only those two are left on which it listens."""
        deadline = time.monotonic() + SECONDS
        while sum(name.startswith("socket:") for name in openFiles(daemon).elements()) > 2:
            self.assertTrue(time.monotonic() < deadline, f"left: {openFiles(daemon)}")
        return openFiles(daemon).total()

    def test_R087_graphics_that_it_brings(self) -> None:
        """249: the guest speaks on the socket."""
        said = self.run_("""
for _ in range(20):
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    test.openGraphics(0, theirs.fileno(), 0)
    theirs.close()
    say(ours.recv(100).decode())
test.destroy()
say(ours.recv(1).decode())
""")
        self.assertEqual(said, '"RFB 003.008\\n"\n' * 20 + '""\n')

    def test_R088_graphics_that_it_gets(self) -> None:
        """343: the guest gives the socket."""
        said = self.run_("""
for _ in range(20):
    with socket.socket(fileno=test.openGraphicsFD(0, 0)) as ours:
        ours.settimeout(20)
        say([ours.recv(100).decode(), ours.get_inheritable()])
test.destroy()
""")
        self.assertEqual(said, '["RFB 003.008\\n", false]\n' * 20)

    def test_R087_files_that_a_domain_starts_with(self) -> None:
        """309 and 310: the daemon has them as long as the domain runs; 32 at the most."""
        said = self.run_("""
import os, select
def ended(reading):
    return bool(select.select([reading], [], [], 0)[0]) and os.read(reading, 1) == b""
for count in (1, 2, 32):
    reading, writing = os.pipe()
    dom = c.createXMLWithFiles(XML % "new", [writing] * count, 0)
    os.close(writing)
    say(ended(reading))
    dom.destroy()
    say(ended(reading))
    os.close(reading)
    reading, writing = os.pipe()
    test.destroy()
    test.createWithFiles([writing] * count, 0)
    os.close(writing)
    say(ended(reading))
    test.destroy()
    say(ended(reading))
    os.close(reading)
    test.create()
reading, writing = os.pipe()
say(refused(c.createXMLWithFiles, XML % "new", [writing] * 33, 0)[2])
say(c.numOfDomains())
""")
        self.assertEqual(
            said.splitlines(),
            ["false", "true"] * 6 + ['"Too many FDs to send 33, expected 32 maximum"', "1"],
        )

    def test_named_ones(self) -> None:
        """443: until others have the name, and no longer than the connection."""
        said = self.run_("""
import os, select
def ended(reading):
    return bool(select.select([reading], [], [], 0)[0]) and os.read(reading, 1) == b""
pipes = [os.pipe() for _ in range(3)]
for number, (reading, writing) in enumerate(pipes):
    test.FDAssociate("disk", [writing] * (number + 1), 0)
    os.close(writing)
say([ended(reading) for reading, _ in pipes])
c.close()
""")
        self.assertEqual(said, "[true, true, false]\n")


_OPENING = """
import socket
c = libvirt.open(uri)
test = c.lookupByName("test")
"""


class Libvirtd(TestCase):
    """Our client gives descriptors to a real libvirtd, which closes each as it has no use for it."""

    timeout = SECONDS

    def setUp(self) -> None:
        requireTool(self, "libvirtd")
        self.daemon = LibvirtDaemon(tcpPort=0)
        self.daemon.start()
        self.addCleanup(self.daemon.stop)

    async def answers(self, calls: list[Deferred[Any]]) -> list[Any]:
        """Wait for all; an error is an answer."""
        return await gatherResults([call.addErrback(lambda failure: failure.value) for call in calls])

    async def test_R087_with_calls_of_all_kinds_in_between(self) -> None:
        connection = await connect(reactor, self.daemon.uri)
        self.addCleanup(lambda: Deferred.fromCoroutine(connection.close()))
        remote: Any = connection.remote
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        counts = [0, 1, 2, 31, 32] * 6
        calls = []
        for number, count in enumerate(counts):
            fds = [writing] * count
            calls.append(remote.domainCreateXMLWithFiles(DOMAIN_XML.format(number), 0, fds=fds))
            calls.append(remote.connectGetHostname())
            calls.append(remote.domainCreateWithFiles(TEST, 0, fds=fds))
        os.close(writing)
        answers = await self.answers(calls)
        self.assertEqual([dom.name for dom in answers[::3]], [str(number) for number in range(len(counts))])
        self.assertEqual(set(answers[1::3]), {await remote.connectGetHostname()})
        for error in answers[2::3]:
            self.assertIsInstance(error, RemoteError)
            self.assertIn("already running", error.message)
        # Nobody has the other end: ours is closed, and so is each of theirs.
        self.assertEqual(os.read(reading, 1), b"")
        self.assertEqual(openFiles(self.daemon).get(f"pipe:[{os.stat(reading).st_ino}]", 0), 0)

    async def test_R094_calls_that_it_refuses(self) -> None:
        connection = await connect(reactor, self.daemon.uri)
        self.addCleanup(lambda: Deferred.fromCoroutine(connection.close()))
        remote: Any = connection.remote
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for called, code in (
                (remote.domainOpenGraphics(TEST, 0, 0, fds=[theirs.fileno()]), ErrorNumber.NO_SUPPORT),
                (
                    remote.domainFDAssociate(TEST, "disk", 0, fds=[theirs.fileno()] * 3),
                    ErrorNumber.NO_SUPPORT,
                ),
                (remote.domainOpenGraphicsFD(TEST, 0, 0), ErrorNumber.NO_SUPPORT),
            ):
                (error,) = await self.answers([called])
                self.assertIsInstance(error, RemoteError)
                self.assertEqual(error.code, code)
            self.assertEqual(await remote.connectNumOfDomains(), 1)
            theirs.close()
            ours.settimeout(20)
            self.assertEqual(ours.recv(1), b"")

    async def test_R093_not_over_TCP(self) -> None:
        connection = await connect(reactor, self.daemon.tcpURI)
        self.addCleanup(lambda: Deferred.fromCoroutine(connection.close()))
        remote: Any = connection.remote
        with self.assertRaises(LocalProtocolError):
            remote.domainCreateXMLWithFiles(DOMAIN_XML.format("x"), 0, fds=[0])
        self.assertEqual((await remote.domainCreateXMLWithFiles(DOMAIN_XML.format("x"), 0)).name, "x")
