"""Where the daemon listens: endpoint strings, the rules for UNIX sockets, and the command that connects."""

from __future__ import annotations

import grp
import os
import shlex
import shutil
import socket
import tempfile
from pathlib import Path

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.pki import write
from tests.tls import authority, clientOf, serverOf
from virnet.daemon.listening import (
    Listener,
    ListenError,
    clear,
    default,
    fromString,
    locked,
    makeDirectory,
    virshCommand,
)
from virnet.limits import UNIX_PATH_MAX
from virnet.transport.defaults import defaultSocketPath
from virnet.transport.uri import parseURI


class SocketCase(SynchronousTestCase):
    """
    Tests with a directory whose path is short enough for sockets.
    """

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = str(self.directory / "s")

    def refused(self, why: str, path: str) -> None:
        error = self.assertRaises(ListenError, clear, path)
        self.assertEqual(why, str(error))


class EndpointStrings(SynchronousTestCase):
    """
    Twisted's, with rules of our own for C{unix:}.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()

    def listen(self, text: str) -> Listener:
        listener = fromString(self.reactor, text)
        self.successResultOf(listener.endpoint.listen(Factory()))
        return listener

    def refused(self, why: str, text: str) -> None:
        error = self.assertRaises(ListenError, fromString, self.reactor, text)
        self.assertEqual(f"{text!r} is no server endpoint like unix:/run/x or tcp:16509: {why}", str(error))

    def test_unix(self) -> None:
        listener = self.listen("unix:/run/x")
        self.assertEqual("/run/x", listener.path)
        self.assertFalse(listener.readonly)
        ((address, _, backlog, mode, wantPID),) = self.reactor.unixServers
        self.assertEqual(("/run/x", 50, 0o600, 0), (address, backlog, mode, wantPID))

    def test_unix_with_arguments(self) -> None:
        for text in (
            "unix:/run/x:mode=660:backlog=7:lockfile=1",
            "unix:address=/run/x:lockfile=1:backlog=7:mode=660",
        ):
            self.listen(text)
            address, _, backlog, mode, wantPID = self.reactor.unixServers.pop()
            self.assertEqual(("/run/x", 7, 0o660, 1), (address, backlog, mode, wantPID))

    def test_a_path_may_have_colons(self) -> None:
        self.assertEqual("/run/a:b\\c", self.listen(r"unix:/run/a\:b\\c").path)

    def test_a_relative_path_becomes_absolute(self) -> None:
        """
        A daemon changes its directory, and has to find the socket again when it stops.
        """
        self.assertEqual(os.path.abspath("x"), self.listen("unix:x").path)

    def test_tcp(self) -> None:
        listener = self.listen("tcp:16509:interface=127.0.0.1")
        self.assertIsNone(listener.path)
        port, _, _, interface = self.reactor.tcpServers[0]
        self.assertEqual((16509, "127.0.0.1"), (port, interface))

    def test_readonly(self) -> None:
        self.assertTrue(fromString(self.reactor, "tcp:0", readonly=True).readonly)

    def test_the_longest_path(self) -> None:
        longest = "/" + "x" * (UNIX_PATH_MAX - 1)
        self.assertEqual(longest, fromString(self.reactor, f"unix:{longest}").path)
        error = self.assertRaises(ListenError, fromString, self.reactor, f"unix:{longest}x")
        self.assertEqual(
            f"{longest}x is too long for a UNIX socket: 108 bytes, the system allows 107", str(error)
        )

    def test_a_group_by_name_and_by_number(self) -> None:
        group = grp.getgrgid(0)
        self.assertEqual(0, fromString(self.reactor, f"unix:/run/x:mode=660:group={group.gr_name}").group)
        self.assertEqual(4711, fromString(self.reactor, "unix:/run/x:group=4711").group)
        self.assertIsNone(fromString(self.reactor, "unix:/run/x").group)

    def test_until_it_is_the_groups_no_group_has_a_part_in_it(self) -> None:
        listener = self.listen("unix:/run/x:mode=660:group=4711")
        self.assertEqual((0o600, 0o660), (self.reactor.unixServers[0][3], listener.mode))

    def test_mistakes(self) -> None:
        self.refused("Unknown endpoint type: 'frob'", "frob")
        self.refused("Unknown endpoint type: '/run/x'", "/run/x")
        self.refused("'x' is not a number", "tcp:x")
        # From Python 3.13 on one that is nearly right would be suggested.
        self.refused("there is no parameter 'frob'", "tcp:1:frob=127.0.0.1")
        self.refused("there is no parameter 'frob'", "libvirt-tls:1:frob=127.0.0.1")
        self.refused("there is no path", "unix:")
        self.refused("'frob=1' is not one of mode=, group=, backlog=, lockfile=", "unix:/run/x:frob=1")
        self.refused("'660' is not one of mode=, group=, backlog=, lockfile=", "unix:/run/x:660")
        self.refused("there is no group 'frob'", "unix:/run/x:group=frob")
        self.refused("'rw' is not a mode like 660", "unix:/run/x:mode=rw")
        self.refused("systemd passed no such socket", "systemd:domain=INET:index=7")

    def test_any_string_is_understood_or_refused(self) -> None:
        for text in ("", ":", "unix", "unix::", "tcp", "\\", "unix:\\", "tcp:1:2:3:4:5", "unix:a\0b"):
            try:
                fromString(self.reactor, text)
            except ListenError as e:
                self.assertNotIn("\n", str(e))


class Default(SynchronousTestCase):
    """
    Without any endpoint.
    """

    def test_below_the_users_runtime_directory(self) -> None:
        self.patch(os, "geteuid", lambda: 1000)
        reactor = MemoryReactorClock()
        listener = default(reactor, {"XDG_RUNTIME_DIR": "/run/user/1000"})
        self.assertEqual("/run/user/1000/virnet/virnet-sock", listener.path)
        self.assertEqual("/run/user/1000/virnet", listener.directory)
        self.successResultOf(listener.endpoint.listen(Factory()))
        address, _, _, mode, wantPID = reactor.unixServers[0]
        self.assertEqual((listener.path, 0o600, 0), (address, mode, wantPID))

    def test_root_has_a_place_of_its_own(self) -> None:
        self.patch(os, "geteuid", lambda: 0)
        self.assertEqual("/run/virnet/virnet-sock", defaultSocketPath({"XDG_RUNTIME_DIR": "/run/user/1000"}))

    def test_without_runtime_directory(self) -> None:
        self.patch(os, "geteuid", lambda: 1000)
        error = self.assertRaises(ListenError, default, MemoryReactorClock(), {})
        self.assertEqual(
            "XDG_RUNTIME_DIR is not set, so there is no default socket: say where with --listen", str(error)
        )

    def test_a_path_that_is_too_long(self) -> None:
        self.patch(os, "geteuid", lambda: 1000)
        error = self.assertRaises(
            ListenError, default, MemoryReactorClock(), {"XDG_RUNTIME_DIR": "/" + "x" * 100}
        )
        self.assertIn("is too long for a UNIX socket", str(error))


class Directory(SocketCase):
    """
    The default socket's directory is for its owner alone.
    """

    def setUp(self) -> None:
        super().setUp()
        self.path = str(self.directory / "virnet")

    def refused(self, why: str, path: str) -> None:
        error = self.assertRaises(ListenError, makeDirectory, path)
        self.assertEqual(why, str(error))

    def test_is_made(self) -> None:
        makeDirectory(self.path)
        self.assertEqual(0o40700, os.stat(self.path).st_mode)

    def test_may_be_there(self) -> None:
        makeDirectory(self.path)
        makeDirectory(self.path)

    def test_others_must_not_get_in(self) -> None:
        os.mkdir(self.path)
        for mode in (0o755, 0o710, 0o701):
            os.chmod(self.path, mode)
            self.refused(
                f"the directory {self.path} lets others in (mode 0{mode:o}): chmod 700 {self.path}", self.path
            )

    def test_nobody_else_must_own_it(self) -> None:
        makeDirectory(self.path)
        owner = os.stat(self.path).st_uid
        self.patch(os, "geteuid", lambda: owner + 1)
        self.refused(f"the directory {self.path} belongs to uid {owner}, not to uid {owner + 1}", self.path)

    def test_it_must_not_be_something_else(self) -> None:
        os.symlink("/tmp", self.path)
        self.refused(f"{self.path} is not a directory", self.path)

    def test_the_directory_above_has_to_be_there(self) -> None:
        path = f"{self.path}/deeper"
        self.refused(f"cannot make the directory {path}: No such file or directory", path)

    def test_one_holds_its_lock(self) -> None:
        import fcntl

        makeDirectory(self.path)
        descriptor = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        with locked(self.path):
            self.assertRaises(BlockingIOError, fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Clearing(SocketCase):
    """
    What a dead server left is replaced, nothing else.
    """

    def test_nothing_there(self) -> None:
        clear(self.path)

    def test_left_by_a_dead_server(self) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
            dead.listen()
        clear(self.path)
        self.assertFalse(os.path.lexists(self.path))

    def test_a_living_server(self) -> None:
        with socket.socket(socket.AF_UNIX) as living:
            living.bind(self.path)
            living.listen()
            self.refused(f"cannot listen on {self.path}: a server is running there", self.path)
        self.assertTrue(os.path.lexists(self.path))

    def test_a_living_server_that_accepts_nobody(self) -> None:
        with socket.socket(socket.AF_UNIX) as living:
            living.bind(self.path)
            living.listen(0)
            waiting = []
            for _ in range(3):
                client = socket.socket(socket.AF_UNIX)
                self.addCleanup(client.close)
                client.setblocking(False)
                client.connect_ex(self.path)
                waiting.append(client)
            self.refused(f"cannot listen on {self.path}: a server is running there", self.path)

    def test_a_file(self) -> None:
        Path(self.path).write_text("precious")
        self.refused(f"cannot listen on {self.path}: it exists and is not a socket", self.path)

    def test_a_link_is_not_followed(self) -> None:
        os.symlink("/run/elsewhere", self.path)
        self.refused(f"cannot listen on {self.path}: it exists and is not a socket", self.path)

    def test_a_socket_of_another_kind(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(self.path)
            self.refused(
                f"cannot listen on {self.path}: it exists, and trying it fails: "
                "Protocol wrong type for socket",
                self.path,
            )


class Commands(SynchronousTestCase):
    """
    The command that connects can be pasted into a shell.
    """

    def check(
        self, command: str | None, address: IAddress, text: str = "tcp:0", readonly: bool = False
    ) -> None:
        listener = Listener(text, None, readonly)  # type: ignore[arg-type]
        self.assertEqual(command, virshCommand(listener, address))

    def test_unix(self) -> None:
        self.check("virsh -c 'test+unix:///default?socket=/run/x'", UNIXAddress("/run/x"))

    def test_readonly(self) -> None:
        self.check("virsh -r -c 'test+unix:///default?socket=/run/x'", UNIXAddress("/run/x"), readonly=True)

    def test_a_path_with_any_characters_survives_shell_and_URI(self) -> None:
        path = "/run/a b'&?#%"
        command = virshCommand(Listener("", None), UNIXAddress(path))  # type: ignore[arg-type]
        assert command is not None
        self.assertEqual(path, parseURI(shlex.split(command)[2]).params["socket"])

    def test_tcp(self) -> None:
        self.check("virsh -c test+tcp://127.0.0.1:16509/default", IPv4Address("TCP", "127.0.0.1", 16509))
        self.check("virsh -c test+tcp://10.0.0.7:16509/default", IPv4Address("TCP", "10.0.0.7", 16509))
        self.check("virsh -c 'test+tcp://[fe80::1]:16509/default'", IPv6Address("TCP", "fe80::1", 16509))

    def test_tls(self) -> None:
        directory = Path(self.mktemp()).absolute()
        for hosts, client, command in (
            (["127.0.0.1"], None, "virsh -c test+tls://127.0.0.1:16514/default"),
            (["a.example"], clientOf(), f"virsh -c 'test+tls://a.example:16514/default?pkipath={directory}'"),
        ):
            write(directory, [authority()], server=serverOf(hosts=hosts), client=client)
            listener = fromString(MemoryReactorClock(), f"libvirt-tls:16514:pkipath={directory}")
            self.assertEqual(command, virshCommand(listener, IPv4Address("TCP", "0.0.0.0", 16514)))

    def test_certificates_that_cannot_be_used(self) -> None:
        error = self.assertRaises(
            ListenError, fromString, MemoryReactorClock(), "libvirt-tls:16514:pkipath=/nowhere"
        )
        self.assertEqual(
            str(error),
            "cannot listen on libvirt-tls:16514:pkipath=/nowhere: Cannot read CA certificate"
            " '/nowhere/cacert.pem': No such file or directory",
        )

    def test_all_addresses_include_this_machines_own(self) -> None:
        self.check("virsh -c test+tcp://127.0.0.1:16509/default", IPv4Address("TCP", "0.0.0.0", 16509))
        self.check("virsh -c 'test+tcp://[::1]:16509/default'", IPv6Address("TCP", "::", 16509))

    def test_what_libvirt_cannot_reach(self) -> None:
        self.check(None, IPv4Address("TCP", "127.0.0.1", 443), text="ssl:443")
