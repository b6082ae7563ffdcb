"""Keepalive with real peers: PINGs that went out and were answered are counted, not taken for granted.

What happens when one end is stopped is in C{test_streams}.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.interop.binding import LOOP, daemons, printed, requireBinding
from tests.interop.support import LibvirtDaemon, VirnetDaemon, requireTool
from tests.interop.support import Virsh as VirshProcess
from virnet.client import connect
from virnet.probes import Probe, subscribe
from virnet.wire.keepalive import PING, PONG


class Libvirtd(TestCase):
    """Our client and a libvirtd that asks each second, and gives up at the second PING without an answer."""

    timeout = 60

    def setUp(self) -> None:
        requireTool(self, "libvirtd")
        self.daemon = LibvirtDaemon(settings="keepalive_interval = 1\nkeepalive_count = 1")
        self.daemon.start()
        self.addCleanup(self.daemon.stop)
        self.seen: Counter[tuple[str, int]] = Counter()
        self.waiting: list[tuple[tuple[str, int], int, Deferred[None]]] = []
        for name in ("send", "received"):
            self.addCleanup(subscribe(f"rpc_keepalive_{name}", self._heard))

    def _heard(self, probe: Probe, values: tuple[Any, ...]) -> None:
        self.seen[probe.name.removeprefix("rpc_keepalive_"), values[-1]] += 1
        for entry in list(self.waiting):
            what, count, deferred = entry
            if self.seen[what] >= count:
                self.waiting.remove(entry)
                deferred.callback(None)

    async def until(self, what: tuple[str, int], count: int) -> None:
        """Wait until so many were sent or received."""
        deferred: Deferred[None] = Deferred()
        self.waiting.append((what, count, deferred))
        await deferred

    async def test_R097_we_answer_its_PINGs(self) -> None:
        # Far more often than we ask.
        async with await connect(reactor, self.daemon.uri, keepalive=(1000, 1)) as connection:
            await self.until(("send", PONG), 4)
            self.assertEqual((self.seen["received", PING], self.seen["send", PING]), (4, 0))
            self.assertEqual(await connection.remote.connectNumOfDomains(), 1)

    async def test_R100_it_answers_ours(self) -> None:
        async with await connect(reactor, self.daemon.uri, keepalive=(0.3, 1)) as connection:
            await self.until(("received", PONG), 6)
            self.assertGreaterEqual(self.seen["send", PING], 6)
            self.assertEqual(await connection.remote.connectNumOfDomains(), 1)

    async def test_R096_who_does_not_ask_for_it_is_not_pinged(self) -> None:
        async with await connect(reactor, self.daemon.uri, keepalive=None) as silent:
            # Another's PINGs tell the time.
            async with await connect(reactor, self.daemon.uri, keepalive=(1000, 1)):
                await self.until(("received", PING), 3)
            self.assertEqual(self.seen["received", PING], 3)
            self.assertEqual(await silent.remote.connectNumOfDomains(), 1)


class Virsh(SynchronousTestCase):
    """virsh and our daemon, which asks each second and gives up at the second PING without an answer."""

    def setUp(self) -> None:
        requireTool(self, "virsh")
        options = ("--keepalive-interval", "1", "--keepalive-count", "1", "--trace", "rpc_keepalive_*")
        self.daemon = VirnetDaemon(None, *options)
        self.daemon.start()
        self.addCleanup(self.daemon.stop)

    def watched(self, *options: str) -> tuple[int, int, int, int]:
        """Have a virsh wait some seconds for an event that does not come.

        @return: PINGs sent and PONGs received, PINGs received and PONGs sent by the daemon.
        """
        command = ["event", "--event", "lifecycle", "--domain", "test", "--timeout", "4"]
        status, output, errors = VirshProcess(self.daemon.uri, *options, *command).finish()
        # That nothing happened in time is a failure to virsh.
        self.assertEqual((status, errors), (1, ""))
        self.assertIn("event loop timed out", output)
        log = self.daemon.log
        pings, pongs, itsPings, ourPongs = (
            len(re.findall(rf"rpc_keepalive_{what} .* proc={name}\b", log))
            for what, name in (("send", "ping"), ("received", "pong"), ("received", "ping"), ("send", "pong"))
        )
        return pings, pongs, itsPings, ourPongs

    def test_R097_it_answers_each_of_our_PINGs(self) -> None:
        pings, pongs, itsPings, ourPongs = self.watched("-k", "0")
        self.assertGreaterEqual(pings, 3)
        self.assertIn(pings - pongs, (0, 1))
        # -k 0: it asks nothing itself.
        self.assertEqual((itsPings, ourPongs), (0, 0))

    def test_R097_both_ask(self) -> None:
        pings, pongs, itsPings, ourPongs = self.watched("-k", "1", "-K", "1")
        # Who asks a moment earlier has given a sign of life by that.
        self.assertGreaterEqual(pings + itsPings, 3)
        self.assertGreaterEqual(itsPings, 1)
        self.assertIn(pings - pongs, (0, 1))
        self.assertEqual(itsPings, ourPongs)


class LibvirtPython(SynchronousTestCase):
    """What an application of libvirt's sees is the same of our daemon and of libvirtd."""

    def test_what_can_be_set(self) -> None:
        ours, theirs = (printed(self, LOOP + _SETTINGS, each.uri) for each in daemons(self))
        self.assertEqual(ours, theirs)
        refused = '[1, 7, "internal error: keepalive interval already set"'
        self.assertEqual([line[: len(refused)] for line in ours.splitlines()[-2:]], ["0", refused])

    def test_R101_a_call_that_waits_for_a_daemon_that_is_stopped(self) -> None:
        requireBinding(self)
        stopped = VirnetDaemon()
        stopped.start()
        self.addCleanup(stopped.stop)
        said = printed(self, LOOP + _STOPPED.format(pid=stopped.pid), stopped.uri)
        error, seconds, later, reasons = map(json.loads, said.splitlines())
        self.assertEqual(error[:3], [1, 7, "internal error: connection closed due to keepalive timeout"])
        self.assertTrue(2.5 <= seconds <= 10, seconds)
        self.assertEqual(later[0], 1)
        self.assertIn("client socket is closed", later[2])
        # VIR_CONNECT_CLOSE_REASON_KEEPALIVE
        self.assertEqual(reasons, [2])


_SETTINGS = """
for order in ([5, 6, 5], [0, -1, 5], [5, 0, 5]):
    c = libvirt.open(uri)
    for interval in order[:-1]:
        say(c.setKeepAlive(interval, 3))
    try:
        say(c.setKeepAlive(order[-1], 3))
    except libvirt.libvirtError:
        say(refused(c.setKeepAlive, order[-1], 3))
"""

_STOPPED = """
import os, signal
reasons = []
c = libvirt.open(uri)
c.registerCloseCallback(lambda conn, reason, opaque: reasons.append(reason), None)
c.setKeepAlive(1, 2)
os.kill({pid}, signal.SIGSTOP)
before = time.monotonic()
try:
    say(refused(c.getHostname))
    say(time.monotonic() - before)
    say(refused(c.getHostname))
    until(lambda: reasons)
    say(reasons)
finally:
    os.kill({pid}, signal.SIGCONT)
"""
