"""Leading from ssh to a server of this host; the copying is shown over a real sshd."""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from virnet.cli import main, run, sshhelper
from virnet.cli.arguments import parseArguments
from virnet.cli.sshhelper import way
from virnet.errors import URIError
from virnet.transport import sockets


class Ways(SynchronousTestCase):
    """Which socket it leads to."""

    def setUp(self) -> None:
        self.system = self.mktemp()
        os.mkdir(self.system)
        self.patch(sockets, "SYSTEM_DIRECTORY", self.system)
        self.patch(os, "geteuid", lambda: 0)
        self.own = f"{self.mktemp()}"
        self.patch(sshhelper, "defaultSocketPath", lambda environ: self.own)

    def path(self, *words: str) -> str:
        """The path that is connected to."""
        reactor: Any = MemoryReactorClock()
        endpoint = way(reactor, parseArguments(("ssh-helper", *words), {}))
        assert isinstance(endpoint, UNIXClientEndpoint)
        endpoint.connect(None)
        path: str = reactor.unixClients[0][0]
        return path

    def test_the_one_that_libvirt_would_take(self) -> None:
        self.assertEqual(self.path("qemu:///system"), f"{self.system}/libvirt-sock")
        self.assertEqual(self.path("-r", "qemu:///system"), f"{self.system}/libvirt-sock-ro")
        self.assertEqual(self.path(""), f"{self.system}/libvirt-sock")

    def test_our_own_where_libvirt_has_none(self) -> None:
        with open(self.own, "w"):
            pass
        self.assertEqual(self.path("test:///default"), self.own)
        with open(f"{self.system}/libvirt-sock", "w"):
            pass
        self.assertEqual(self.path("test:///default"), f"{self.system}/libvirt-sock")

    def test_the_one_that_is_named(self) -> None:
        self.assertEqual(self.path("--socket", "/s", "qemu+ssh://h/system"), "/s")

    def test_no_other_host(self) -> None:
        error = str(self.assertRaises(URIError, self.path, "qemu+tcp://h/system"))
        self.assertIn("unexpected URI transport 'qemu+tcp://h/system'", error)


class Names(SynchronousTestCase):
    """What the command is called."""

    def test_under_libvirts_name_it_is_the_helper(self) -> None:
        ran: list[Any] = []

        def record(argv: Any) -> int:
            ran.append(list(argv))
            return 0

        self.patch(run, "run", record)
        for argv in (["/x/virt-ssh-helper", "-r", "qemu:///system"], ["/x/virnet", "list"]):
            self.patch(sys, "argv", argv)
            self.assertEqual(main.main(), 0)
        self.assertEqual(ran, [["ssh-helper", "-r", "qemu:///system"], ["list"]])
