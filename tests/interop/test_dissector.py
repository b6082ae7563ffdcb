"""Wireshark's libvirt dissector reads what our client and our server say to each other.

The conversation goes over TCP on the loopback interface, is captured there by tshark, and dissected by the
plugin that libvirt itself ships. That it would notice is shown with a message that is wrong.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.support import VirnetDaemon, freePort, requireTool
from virnet.client import connect
from virnet.errors import RemoteError
from virnet.programs.constants import DomainEventID

SECONDS = 90

XML = "<domain type='test'><name>{}</name><memory>1024</memory><os><type>hvm</type></os></domain>"


class Capture(ProcessProtocol):
    """A running tshark."""

    def __init__(self) -> None:
        self.started: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self._errors = ""
        self._printed = ""
        self._fins = 0

    def errReceived(self, data: bytes) -> None:
        """It says when it has begun."""
        self._errors += data.decode()
        if "Capture started" in self._errors and not self.started.called:
            self.started.callback(None)

    def outReceived(self, data: bytes) -> None:
        """It prints a line for each packet: one with FIN from either side is the end of the connection."""
        *lines, self._printed = (self._printed + data.decode()).split("\n")
        self._fins += sum("[FIN" in line for line in lines)
        if self._fins >= 2 and not self.closed.called:
            self.closed.callback(None)

    def processEnded(self, reason: Failure) -> None:
        """It has written its file."""
        for each in (self.started, self.closed):
            if not each.called:
                each.errback(SkipTest(f"tshark cannot capture here: {self._errors}"))
        self.ended.callback(None)


class Dissected(TestCase):
    """One captured conversation a test."""

    timeout = SECONDS

    async def capture(self, converse: Any) -> list[dict[str, str]]:
        """Have a conversation with our daemon; return the fields of each message, by name."""
        requireTool(self, "tshark")
        known = subprocess.run(["tshark", "-G", "protocols"], capture_output=True, text=True, timeout=SECONDS)
        if "\tlibvirt\n" not in known.stdout:
            reason = "tshark has no dissector for libvirt (package libvirt-wireshark)"
            raise self.failureException(reason) if os.environ.get("CI") else SkipTest(reason)
        directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.port = freePort()
        daemon = VirnetDaemon(None, "--listen", f"tcp:{self.port}:interface=127.0.0.1")
        daemon.start()
        self.addCleanup(daemon.stop)
        path = str(directory / "capture")
        capture = Capture()
        arguments = ["tshark", "-i", "lo", "-f", f"tcp port {self.port}", "-w", path, "-P", "-l"]
        process = reactor.spawnProcess(
            capture, "tshark", arguments, env=dict(os.environ), path=str(directory)
        )

        def stop() -> None:
            if not capture.ended.called:
                process.signalProcess("TERM")

        self.addCleanup(stop)
        await capture.started
        await converse()
        await capture.closed
        process.signalProcess("INT")
        await capture.ended
        return self.dissect(path)

    def dissect(self, path: str) -> list[dict[str, str]]:
        """What the dissector makes of a capture."""
        done = subprocess.run(
            ["tshark", "-r", path, "-d", f"tcp.port=={self.port},libvirt", "-V"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        messages: list[dict[str, str]] = []
        inside = False
        for line in done.stdout.splitlines():
            if not line.startswith(" "):
                inside = line == "Libvirt"
                if inside:
                    messages.append({})
                elif line.startswith("[Malformed Packet"):
                    # It ran into the end of the message.
                    messages[-1]["malformed"] = line
            elif inside:
                name, _, value = line.strip().partition(": ")
                # What it cannot decode it calls unknown.
                messages[-1]["malformed" if name == "unknown" else name] = value
        return messages

    async def test_a_conversation_of_every_kind_of_message(self) -> None:
        async def converse() -> None:
            connection = await connect(reactor, f"test+tcp://127.0.0.1:{self.port}/default")
            remote = connection.remote
            heard: Deferred[None] = Deferred()

            def hear(*event: object) -> None:
                if not heard.called:
                    heard.callback(None)

            await connection.domainEvents.subscribe(DomainEventID.LIFECYCLE, hear)
            await gatherResults([remote.connectGetHostname() for _ in range(20)])
            domain = await remote.domainDefineXMLFlags(XML.format("dissected"), 0)
            await heard
            await remote.domainCreate(domain)
            await remote.connectListAllDomains(1, 3)
            await remote.domainGetSchedulerParameters(domain, 1)
            await remote.domainGetInfo(domain)
            await remote.connectGetAllDomainStats([domain], 0, 0)
            await remote.connectGetCapabilities()
            try:
                await remote.domainLookupByName("nosuch")
            except RemoteError:
                pass
            await remote.domainDestroy(domain)
            await remote.domainUndefine(domain)
            await connection.close()

        messages = await self.capture(converse)
        self.assertEqual([each for each in messages if "malformed" in each], [])
        calls = [each["serial"] for each in messages if each["type"] == "CALL (0)"]
        self.assertGreater(len(calls), 30)
        self.assertEqual(calls, [str(serial) for serial in range(len(calls))])
        replies = [each["serial"] for each in messages if each["type"] == "REPLY (1)"]
        self.assertEqual(sorted(replies, key=int), calls)
        refused = [each["procedure"] for each in messages if each["status"] == "ERROR (1)"]
        self.assertEqual(refused, ["DOMAIN_LOOKUP_BY_NAME (23)"])
        events = {(each["serial"], each["procedure"]) for each in messages if each["type"] == "MESSAGE (2)"}
        self.assertEqual(events, {("1", "DOMAIN_EVENT_CALLBACK_LIFECYCLE (318)")})
        self.assertEqual({each["program"] for each in messages}, {"REMOTE (0x20008086)"})

    async def test_it_would_notice_a_message_that_is_wrong(self) -> None:
        lookup = "00000024 20008086 00000001 00000017 00000000 00000000 00000000 00000009 78787878"
        list_ = "00000020 20008086 00000001 00000111 00000000 00000001 00000000 00000001"

        def converse() -> None:
            with socket.create_connection(("127.0.0.1", self.port)) as sock:
                for call in (lookup, list_):
                    sock.sendall(bytes.fromhex(call))
                    length = int.from_bytes(sock.recv(4, socket.MSG_WAITALL), "big")
                    reply = sock.recv(length - 4, socket.MSG_WAITALL)
                    self.assertIn(b"Unable to decode message payload", reply)

        messages = await self.capture(lambda: deferToThread(converse))
        self.assertEqual([each["type"] for each in messages], ["CALL (0)", "REPLY (1)"] * 2)
        self.assertEqual(["malformed" in each for each in messages], [True, False] * 2)
