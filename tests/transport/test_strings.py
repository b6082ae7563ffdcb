"""Endpoint strings for clients."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.endpoints import (
    HostnameEndpoint,
    UNIXClientEndpoint,
    clientFromString,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.contracts.echo import Only
from tests.contracts.ends import End, reactor
from virnet.errors import URIError
from virnet.transport.process import CommandEndpoint

reactor_: Any = MemoryReactorClock()


def made(text: str) -> Any:
    """The endpoint."""
    return clientFromString(reactor_, text)


class URIs(SynchronousTestCase):
    """C{libvirt:}"""

    def test_wherever_a_uri_leads(self) -> None:
        for uri, kind in (
            ("test+unix:///default?socket=/s", UNIXClientEndpoint),
            ("test+unix:///default?socket=/s&x=y=z", UNIXClientEndpoint),
            ("qemu+tcp://host:1/system", HostnameEndpoint),
            ("qemu+ext:///system?command=/bin/true", CommandEndpoint),
            ("test:///default", UNIXClientEndpoint),
        ):
            self.assertIsInstance(made(f"libvirt:{quoteStringArgument(uri)}"), kind, uri)
            self.assertIsInstance(made(f"libvirt:uri={quoteStringArgument(uri)}"), kind, uri)

    def test_no_uri_is_the_default_one(self) -> None:
        self.patch(os, "environ", {**os.environ, "LIBVIRT_DEFAULT_URI": "qemu+tcp://host/system"})
        self.assertIsInstance(made("libvirt:"), HostnameEndpoint)

    def test_read_only(self) -> None:
        endpoint = made("libvirt:nosuch\\:///system:readonly=yes")
        self.assertEqual(endpoint._path, "/var/run/libvirt/libvirt-sock-ro")
        self.assertRaises(ValueError, made, "libvirt:nosuch\\:///system:readonly=maybe")

    def test_a_uri_that_is_not_escaped(self) -> None:
        error = str(self.assertRaises(ValueError, made, "libvirt:test:///default"))
        self.assertIn("colons are escaped", error)

    def test_a_wrong_uri(self) -> None:
        self.assertRaises(URIError, made, "libvirt:nonsense")


class SSH(SynchronousTestCase):
    """C{libvirt-ssh:}"""

    def argv(self, text: str) -> list[str]:
        """What is run."""
        return list(made(f"libvirt-ssh:{text}").command.argv)

    def test_a_socket_on_a_host(self) -> None:
        argv = self.argv(
            "host:user=me@home:port=2222:socket=/run/x\\:y:keyfile=/k:no_tty=1:command=/bin/true"
        )
        options = "/bin/true -p 2222 -l me@home -i /k -T -e none -o BatchMode=yes -- host"
        self.assertEqual(argv[:-1], options.split())
        self.assertIn("-U /run/x:y'", argv[-1])

    def test_a_host_with_colons(self) -> None:
        self.assertIn("fe80::1", self.argv("fe80\\:\\:1:socket=/s"))

    def test_a_name_for_the_helper(self) -> None:
        argv = self.argv("host:name=qemu\\:///session:proxy=native")
        self.assertEqual(argv[-1], "sh -c 'virt-ssh-helper 'qemu:///session''")

    def test_what_ssh_does_not_have(self) -> None:
        for text in ("host:pkipath=/x", "host:socks=/x", "host:port=x", "host:no_tty=yes"):
            self.assertRaises(URIError, made, f"libvirt-ssh:{text}")

    def test_a_host_and_a_port_are_nothing_else(self) -> None:
        """Whoever chooses the host does not choose the program that is run here, nor anything else."""
        for text in (
            "host=host/?command=/bin/true",
            "host=host/?command=/bin/true&x:socket=/s",
            "host=host?socket=/t&x:socket=/s",
            "host#x",
            "root@host",
            "host/x",
            "host:port=22/?command=/bin/true&x",
            "host:port=22#x",
            "host[",
        ):
            self.assertRaises(URIError, made, f"libvirt-ssh:{text}")


class Programs(TestCase):
    """C{libvirt-exec:}"""

    def test_the_command_is_read_as_by_a_shell(self) -> None:
        self.assertEqual(
            made("libvirt-exec:cat '/a b' \"c\\:d\" e").command.argv, ("cat", "/a b", "c:d", "e")
        )

    def test_no_command(self) -> None:
        self.assertRaises(ValueError, made, "libvirt-exec:")
        self.assertRaises(ValueError, made, "libvirt-exec:'")

    async def test_it_is_talked_to(self) -> None:
        end = End()
        await clientFromString(reactor, "libvirt-exec:sh -c 'cat; cat'").connect(Only(end))
        end.out.write(b"hello")
        self.assertEqual(await end.has(5), b"hello")
        end.out.loseConnection()
        await end.isLost()


class Servers(SynchronousTestCase):
    """Nobody can listen there."""

    def test_they_are_refused(self) -> None:
        for prefix in ("libvirt", "libvirt-ssh", "libvirt-exec"):
            error = str(self.assertRaises(ValueError, serverFromString, reactor_, f"{prefix}:x"))
            self.assertIn(f"{prefix}: leads to a server, nobody can listen there", error)
