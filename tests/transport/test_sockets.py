"""Which socket of this host a URI means; the cases are those traced from libvirt's client."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import URIError
from virnet.transport import sockets
from virnet.transport.config import Caller, ClientConfig
from virnet.transport.sockets import LocalSocket, chooseSocket
from virnet.transport.uri import parseURI


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.system = self.mktemp()
        self.runtime = self.mktemp()
        for directory in (self.system, f"{self.runtime}/libvirt"):
            os.makedirs(directory)
        self.patch(sockets, "SYSTEM_DIRECTORY", self.system)
        self.environ = {"XDG_RUNTIME_DIR": self.runtime}
        self.config = ClientConfig("f")

    def exist(self, *paths: str) -> None:
        """Have these sockets exist."""
        for path in paths:
            with open(path, "w"):
                pass

    def choose(self, uri: str, readonly: bool = False, euid: int = 0) -> LocalSocket:
        """What is chosen."""
        return chooseSocket(parseURI(uri), readonly, Caller(self.environ, euid, self.config))

    def path(self, uri: str, readonly: bool = False, euid: int = 0) -> str:
        """The path, with the directories in short."""
        path = self.choose(uri, readonly, euid).path
        return path.replace(f"{self.runtime}/libvirt", "SESSION").replace(self.system, "SYSTEM")


class System(_Case):
    """The system's daemons."""

    def test_the_directory_has_the_name_that_libvirts_client_uses(self) -> None:
        self.patch(sockets, "SYSTEM_DIRECTORY", "/var/run/libvirt")
        self.assertEqual(self.choose("nosuch:///system").path, "/var/run/libvirt/libvirt-sock")

    def test_the_drivers_own_daemon_where_there_is_one_else_the_one_for_all(self) -> None:
        for readonly, suffix in ((False, "-sock"), (True, "-sock-ro")):
            self.assertEqual(self.path("qemu:///system", readonly), f"SYSTEM/libvirt{suffix}")
            self.exist(f"{self.system}/libvirt{suffix}")
            self.assertEqual(self.path("qemu:///system", readonly), f"SYSTEM/libvirt{suffix}")
            self.exist(f"{self.system}/virtqemud{suffix}")
            self.assertEqual(self.path("qemu:///system", readonly), f"SYSTEM/virtqemud{suffix}")
            self.assertEqual(self.path("test+unix:///default", readonly), f"SYSTEM/libvirt{suffix}")

    def test_mode_is_taken_at_its_word(self) -> None:
        self.exist(f"{self.system}/virtqemud-sock")
        self.assertEqual(self.path("qemu:///system?mode=legacy"), "SYSTEM/libvirt-sock")
        self.assertEqual(self.path("xen:///system?mode=direct"), "SYSTEM/virtxend-sock")
        self.assertEqual(self.path("qemu:///system?mode=auto"), "SYSTEM/virtqemud-sock")

    def test_the_configurations_mode_counts_where_the_uri_has_none(self) -> None:
        self.config = ClientConfig("f", mode="direct")
        self.assertEqual(self.path("xen:///system"), "SYSTEM/virtxend-sock")
        self.assertEqual(self.path("xen:///system?mode=legacy"), "SYSTEM/libvirt-sock")
        self.assertEqual(self.path("xen:///system?mode=auto"), "SYSTEM/libvirt-sock")
        self.assertIn("needs a URI", str(self.assertRaises(URIError, self.path, "")))

    def test_remote_is_a_driver_like_any_other(self) -> None:
        self.assertEqual(self.path("remote:///"), "SYSTEM/libvirt-sock")
        self.exist(f"{self.system}/virtremoted-sock")
        self.assertEqual(self.path("remote:///system"), "SYSTEM/virtremoted-sock")

    def test_without_a_uri(self) -> None:
        self.exist(f"{self.system}/virtqemud-sock", f"{self.system}/virtd-sock")
        self.assertEqual(self.path(""), "SYSTEM/libvirt-sock")
        self.assertEqual(self.path("", True), "SYSTEM/libvirt-sock-ro")

    def test_nothing_is_started(self) -> None:
        for uri in ("qemu:///system", "qemu:///session", "test+unix:///default", ""):
            self.assertIs(self.choose(uri).daemon, None)


class Session(_Case):
    """A user's own daemons."""

    def path(self, uri: str, readonly: bool = False, euid: int = 7) -> str:
        return super().path(uri, readonly, euid)

    def test_what_means_the_session(self) -> None:
        for uri in ("qemu:///session", "test+unix:///default", "test+unix:///session", ""):
            self.assertEqual(self.path(uri), "SESSION/libvirt-sock", uri)
            self.assertEqual(self.path(uri, euid=0), "SYSTEM/libvirt-sock", uri)
        for uri in ("qemu:///system", "test:///default", "qemu:///session/", "qemu:///"):
            self.assertEqual(self.path(uri), "SYSTEM/libvirt-sock", uri)

    def test_it_has_no_sockets_for_read_only_connections(self) -> None:
        self.assertEqual(self.path("qemu:///session", True), "SESSION/libvirt-sock")

    def test_the_drivers_own_daemon(self) -> None:
        self.assertEqual(self.path("qemu:///session?mode=direct"), "SESSION/virtqemud-sock")
        self.exist(f"{self.runtime}/libvirt/virtqemud-sock")
        self.assertEqual(self.path("qemu:///session"), "SESSION/virtqemud-sock")

    def test_without_a_runtime_directory(self) -> None:
        for environ, wanted in (
            ({"HOME": "/h"}, "/h/.cache/libvirt/libvirt-sock"),
            ({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/c/libvirt/libvirt-sock"),
        ):
            self.environ = environ
            self.assertEqual(self.path("qemu:///session"), wanted)

    def test_its_daemon_is_started_unless_told_otherwise(self) -> None:
        def daemon(uri: str, **environ: str) -> str | None:
            self.environ.update(environ)
            return self.choose(uri, euid=7).daemon

        self.assertEqual(daemon("qemu:///session"), "/usr/sbin/libvirtd")
        self.assertEqual(daemon("qemu:///session?mode=direct"), "/usr/sbin/virtqemud")
        self.assertEqual(daemon(""), "/usr/sbin/libvirtd")
        self.assertIs(daemon("qemu:///session?socket=/s"), None)
        self.assertIs(daemon("qemu:///system"), None)
        self.assertEqual(daemon("", LIBVIRTD_PATH="/old"), "/old/libvirtd")
        self.assertEqual(daemon("", VIRTD_PATH="/new"), "/new/libvirtd")
        self.assertEqual(daemon("", LIBVIRT_AUTOSTART="1"), "/new/libvirtd")
        self.assertIs(daemon("", LIBVIRT_AUTOSTART="0"), None)


class Named(_Case):
    """The socket that the URI names."""

    def test_it_is_that_one(self) -> None:
        for path in ("/some/where", "relative", "@abstract"):
            for readonly in (False, True):
                self.assertEqual(self.path(f"test+unix:///default?socket={path}", readonly), path)

    def test_none_that_the_system_cannot_take(self) -> None:
        self.assertEqual(len(self.path(f"test+unix:///d?socket=/{'x' * 106}")), 107)
        for path in (f"/{'x' * 107}", f"/{'é' * 54}"):
            error = str(self.assertRaises(URIError, self.path, f"test+unix:///d?socket={path}"))
            self.assertIn(f"Path {path} too long for unix socket, the system allows 107 bytes", error)
        for path in ("", "a%00b"):
            self.assertRaises(URIError, self.path, f"test+unix:///d?socket={path}")
