"""
TLS between our ends and real ones: virsh and libvirt-python on our daemon, our client on a real libvirtd.

Each direction does calls, events and large volumes over TLS 1.2 and 1.3, and each says what it has to say
when a certificate is not good. What there is besides in certificates is in C{test_certificates}.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from tests.interop.support import (
    WITH_US,
    LibvirtDaemon,
    Listener,
    VirnetDaemon,
    Virsh,
    freePort,
    requireTool,
)
from tests.pki import HOUR, SERVER, Issued, revoke, write
from tests.tls import authority, clientOf, serverOf
from virnet.client import Connection, connect
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.programs.constants import DomainEventID, DomainEventType
from virnet.programs.values import Domain, StorageVol

MIB = 1 << 20
LARGE = 256 * MIB
SECONDS = 90.0

VERSIONS = {f"TLSv1.{minor}": f"NORMAL:-VERS-ALL:+VERS-TLS1.{minor}" for minor in (2, 3)}

REFUSED = "server verification (of our certificate or IP address) failed"
SILENT = "Unable to read TLS confirmation: Input/output error"
BAD_PEER = "authentication failed: Failed to verify peer's certificate"


@cache
def files() -> Path:
    """Where the certificates are: a directory for each name."""
    directory = Path(tempfile.mkdtemp(prefix="virnet-"))
    atexit.register(shutil.rmtree, directory, True)
    revokedClient, revokedServer = clientOf(name="revoked"), serverOf(name="revoked server")
    crl = revoke(authority(), revokedClient, revokedServer)
    other = authority("Other")
    servers = {
        "server": serverOf(),
        "expired-server": serverOf(end=-HOUR),
        "unknown-server": serverOf(other),
        "revoked-server": revokedServer,
        "elsewhere": serverOf(hosts=["elsewhere.example"]),
    }
    for name, server in servers.items():
        write(directory / name, [authority()], server=server, revocations=crl)
    clients: dict[str, Issued | None] = {
        "client": clientOf(),
        "mallory": clientOf(name="mallory"),
        "anonymous": None,
        "expired": clientOf(end=-HOUR),
        "early": clientOf(start=HOUR),
        "unknown": clientOf(other),
        "revoked": revokedClient,
        "as-server": clientOf(purposes=[SERVER]),
    }
    for name, client in clients.items():
        write(directory / name, [authority()], client=client, revocations=crl)
    return directory


class Ours:
    """Our daemon, which listens with every certificate there is.

    @ivar ports: by the name of the certificate; C{listed} admits only C{CN=client1}.
    """

    def __init__(self) -> None:
        names = ("server", "expired-server", "unknown-server", "revoked-server", "elsewhere", "listed")
        self.ports = {name: freePort() for name in names}
        options: list[str] = []
        for name, port in self.ports.items():
            directory = files() / ("server" if name == "listed" else name)
            more = ":allowed=CN=client1" if name == "listed" else ":sanity=no"
            options += ["--listen", f"libvirt-tls:{port}:interface=127.0.0.1:pkipath={directory}{more}"]
        self.daemon = VirnetDaemon(None, *options)
        self.daemon.start()

    def uri(self, client: str = "client", server: str = "server", **parameters: str) -> str:
        """A URI of one of its sockets."""
        return uriOf("test", "/default", self.ports[server], client, parameters)


class Theirs:
    """A real libvirtd that admits only C{CN=client1} and C{CN=revoked}, by the certificate of a name."""

    def __init__(self, server: str = "server") -> None:
        self.port = freePort()
        directory = files() / server
        settings = f"""
listen_tls = 1
tls_port = "{self.port}"
auth_tls = "none"
ca_file = "{directory}/cacert.pem"
crl_file = "{directory}/cacrl.pem"
cert_file = "{directory}/servercert.pem"
key_file = "{directory}/serverkey.pem"
tls_no_sanity_certificate = 1
tls_allowed_dn_list = ["CN=client1", "CN=revoked"]
"""
        self.daemon = LibvirtDaemon(tcpPort=0, settings=settings)
        self.daemon.start()

    def uri(self, client: str = "client", driver: str = "test", path: str = "/default", **more: str) -> str:
        """A URI of its TLS socket."""
        return uriOf(driver, path, self.port, client, more)


def uriOf(driver: str, path: str, port: int, client: str, parameters: dict[str, str]) -> str:
    """A URI with the certificates of a client."""
    given = {"pkipath": str(files() / client), **parameters}
    host = given.pop("host", "localhost")
    query = "&".join(f"{name}={value}" for name, value in given.items())
    return f"{driver}+tls://{host}:{port}{path}?{query}"


ours = cache(Ours)
theirs = cache(Theirs)


def logged(daemon: VirnetDaemon, text: str, times: int = 1) -> None:
    """Wait until a daemon has said something so often."""
    deadline = time.monotonic() + SECONDS
    while daemon.log.count(text) < times:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{text!r} is not in the log:\n{daemon.log}")
        time.sleep(0.02)


def digest(path: Path) -> str:
    """What is in a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary(testcase: SynchronousTestCase | TestCase, size: int = 0) -> Path:
    """A file, with random bytes."""
    handle, name = tempfile.mkstemp(dir="/var/tmp")
    path = Path(name)
    testcase.addCleanup(path.unlink)
    with open(handle, "wb") as file:
        block = os.urandom(MIB)
        for number in range(size // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])
    return path


class VirshOnUs(SynchronousTestCase):
    """
    Real clients on our daemon.
    """

    def setUp(self) -> None:
        requireTool(self, "virsh")

    def virsh(self, uri: str, *arguments: str) -> str:
        """Run virsh, which must succeed."""
        status, output, errors = Virsh(uri, *arguments).finish(SECONDS)
        self.assertEqual((status, errors), (0, ""))
        return output

    def test_R118_calls(self) -> None:
        for priority in VERSIONS.values():
            uri = ours().uri(tls_priority=priority)
            self.assertIn("test   running", self.virsh(uri, "list", "--all"))
            self.assertIn("<name>test</name>", self.virsh(uri, "dumpxml", "test"))

    def test_events(self) -> None:
        for priority in VERSIONS.values():
            uri = ours().uri(tls_priority=priority)
            listener = Listener(uri, "event --domain test --event lifecycle --loop --timeout 60", files())
            try:
                deadline = time.monotonic() + SECONDS
                # It may not listen yet.
                while listener.output.count("Suspended") < 2 and time.monotonic() < deadline:
                    self.virsh(uri, "suspend", "test")
                    self.virsh(uri, "resume", "test")
            finally:
                status, output = listener.interrupt()
            self.assertIn("event 'lifecycle' for domain 'test': Suspended Paused", output)
            self.assertIn("event 'lifecycle' for domain 'test': Resumed Unpaused", output)

    def test_R118b_an_event_and_a_reply_of_one_turn(self) -> None:
        """
        A client without keepalive would wait for ever for what it has decrypted already and does not look at.
        """
        python = "/usr/bin/python3"
        script = """
import libvirt, sys, threading, time
libvirt.virEventRegisterDefaultImpl()
threading.Thread(target=lambda: [libvirt.virEventRunDefaultImpl() for _ in iter(int, 1)], daemon=True).start()
connection = libvirt.open(sys.argv[1])
domain = connection.lookupByName("test")
events = []
connection.domainEventRegisterAny(
    None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda c, d, event, detail, o: events.append(event), None
)
longest = 0
for _ in range(25):
    for method in (domain.suspend, domain.resume):
        began = time.monotonic()
        method()
        longest = max(longest, time.monotonic() - began)
deadline = time.monotonic() + 10
while len(events) < 50 and time.monotonic() < deadline:
    time.sleep(0.01)
print(len(events), longest < 3)
"""
        if subprocess.run([python, "-c", "import libvirt"], stderr=subprocess.DEVNULL).returncode:
            requireTool(self, "libvirt-python")
        for priority in VERSIONS.values():
            done = subprocess.run(
                [*WITH_US, python, "-c", script, ours().uri(tls_priority=priority)],
                stdout=subprocess.PIPE,
                text=True,
                timeout=SECONDS,
            )
            self.assertEqual(done.stdout, "50 True\n")

    def test_R116_a_large_volume_both_ways(self) -> None:
        source, copy = temporary(self, LARGE), temporary(self)
        for priority in VERSIONS.values():
            uri = ours().uri(tls_priority=priority)
            self.virsh(uri, "vol-create-as", "default-pool", "large", str(LARGE), "--allocation", "0")
            try:
                for command, file in (("vol-upload", source), ("vol-download", copy)):
                    self.virsh(uri, command, "large", str(file), "--pool", "default-pool")
            finally:
                self.virsh(uri, "vol-delete", "large", "--pool", "default-pool")
            self.assertEqual(digest(copy), digest(source))

    def test_certificates_are_reloaded_and_nobody_is_dropped(self) -> None:
        directory = files() / "reloaded"
        write(directory, [authority()], server=serverOf(), client=clientOf())
        port = freePort()
        daemon = VirnetDaemon(None, "--listen", f"libvirt-tls:{port}:interface=127.0.0.1:pkipath={directory}")
        uri = uriOf("test", "/default", port, "client", {})
        with daemon:
            logged(daemon, f"virsh -c 'test+tls://127.0.0.1:{port}/default?pkipath={directory}'")
            connected = Virsh(uri, "-q")
            connected.ask("domid test")
            for number, (hosts, error) in enumerate(((["elsewhere.example"], BAD_PEER), (["localhost"], ""))):
                write(directory, [authority()], server=serverOf(hosts=hosts))
                os.kill(daemon.pid, signal.SIGHUP)
                logged(daemon, "certificates reloaded", number + 1)
                self.assertIn(error, Virsh(uri, "domid", "test").finish()[2])
            (directory / "servercert.pem").write_text("broken")
            os.kill(daemon.pid, signal.SIGHUP)
            logged(daemon, f"Unable to import server certificate {directory}/servercert.pem")
            self.assertEqual(Virsh(uri, "domid", "test").finish()[0], 0)
            status, output, _ = connected.finish(typed="domname 1\n")
            self.assertEqual((status, "\ntest\n" in output), (0, True))


class Refusals(TestCase):
    """
    Who is not let in, and what each side says.
    """

    timeout = 100

    def setUp(self) -> None:
        requireTool(self, "virsh", "libvirtd")

    def virsh(self, uri: str) -> str:
        """What virsh says when it cannot connect."""
        status, _, errors = Virsh(uri, "domid", "test").finish(SECONDS)
        self.assertEqual(status, 1, uri)
        # Warnings of the library stand before it.
        return errors.strip().rpartition("\n")[2].removeprefix("error: ")

    async def us(self, uri: str) -> tuple[int, str]:
        """Code and text with which our client cannot connect."""
        try:
            connection = await connect(reactor, uri)
        except RemoteError as e:
            return e.code, e.message
        await connection.close()
        raise self.failureException(f"connected to {uri}")

    async def test_clients_that_no_server_admits(self) -> None:
        """
        From a server one learns only that it does not like the certificate. Ours says goodbye, so that virsh
        finds its better words. What OpenSSL refuses is an alert.
        """
        for priority in VERSIONS.values():
            for client in ("expired", "early", "revoked", "anonymous"):
                more = {"no_sanity": "1", "tls_priority": priority}
                self.assertEqual(self.virsh(ours().uri(client, **more)), REFUSED, client)
                self.assertEqual(self.virsh(theirs().uri(client, **more)), SILENT, client)
                for uri in (ours().uri(client, **more), theirs().uri(client, **more)):
                    code, text = await self.us(uri)
                    self.assertEqual(code, ErrorNumber.SYSTEM_ERROR)
                    text, none, path = text.partition("; no certificate was sent: there is no ")
                    self.assertEqual(text, f"{SILENT}: {REFUSED}")
                    self.assertEqual(path.endswith("/anonymous/clientcert.pem"), client == "anonymous")
                    self.assertEqual(bool(none), client == "anonymous")

    async def test_clients_of_an_unknown_authority(self) -> None:
        more = {"no_sanity": "1", "tls_priority": VERSIONS["TLSv1.3"]}
        self.assertEqual(self.virsh(ours().uri("unknown", **more)), SILENT)
        self.assertEqual(self.virsh(theirs().uri("unknown", **more)), SILENT)
        code, text = await self.us(ours().uri("unknown", **more))
        self.assertEqual(text, f"Unable to read TLS confirmation: tlsv1 alert unknown ca: {REFUSED}")
        code, text = await self.us(theirs().uri("unknown", **more))
        self.assertEqual(text, f"{SILENT}: {REFUSED}")
        # It is still sending when it is refused, and would be killed by that if nobody took it.
        for _ in range(20):
            self.assertEqual(self.virsh(ours().uri("unknown", **more)), SILENT)
        more["tls_priority"] = VERSIONS["TLSv1.2"]
        self.assertEqual(
            self.virsh(ours().uri("unknown", **more)),
            "authentication failed: TLS handshake failed A TLS fatal alert has been received.",
        )

    async def test_R120_clients_that_are_not_on_the_list(self) -> None:
        self.assertEqual(self.virsh(ours().uri("mallory", "listed")), REFUSED)
        self.assertEqual(self.virsh(theirs().uri("mallory")), SILENT)
        for uri in (ours().uri("mallory", "listed"), theirs().uri("mallory")):
            self.assertEqual(await self.us(uri), (ErrorNumber.SYSTEM_ERROR, f"{SILENT}: {REFUSED}"))
        text = "Client's Distinguished Name is not on the list of allowed clients (tls_allowed_dn_list): "
        self.assertIn(f"{text}CN=mallory", ours().daemon.log)
        await (await connect(reactor, ours().uri("client", "listed"))).close()

    async def test_a_server_is_stricter_than_libvirtd_with_purposes(self) -> None:
        """
        See C{docs/wire/differences.rst}.
        """
        self.assertEqual(Virsh(theirs().uri("as-server"), "domid", "test").finish()[0], 0)
        self.assertEqual(self.virsh(ours().uri("as-server")), SILENT)

    async def test_servers_that_no_client_believes(self) -> None:
        """
        virsh says that it does not believe the server and no more; ours says why.
        """
        for server, reason in (
            ("expired-server", "The server certificate [session] has expired"),
            ("unknown-server", "Certificate failed validation: The certificate hasn't got a known issuer."),
            ("revoked-server", "Certificate failed validation: The certificate has been revoked."),
            ("elsewhere", "Certificate [session] owner does not match the hostname localhost"),
        ):
            uri = ours().uri(server=server)
            self.assertEqual(self.virsh(uri), BAD_PEER, server)
            self.assertEqual(await self.us(uri), (ErrorNumber.AUTH_FAILED, f"{BAD_PEER}: {reason}"))
            unverified = f"{uri}&no_verify=1"
            self.assertEqual(Virsh(unverified, "domid", "test").finish()[0], 0)
            await (await connect(reactor, unverified)).close()

    async def test_R121_a_libvirtd_by_another_name(self) -> None:
        await (await connect(reactor, theirs().uri(host="127.0.0.1"))).close()
        elsewhere = Theirs("elsewhere")
        self.addCleanup(elsewhere.daemon.stop)
        reason = "Certificate [session] owner does not match the hostname localhost"
        self.assertEqual(await self.us(elsewhere.uri()), (ErrorNumber.AUTH_FAILED, f"{BAD_PEER}: {reason}"))
        self.assertEqual(self.virsh(elsewhere.uri()), BAD_PEER)

    async def test_own_certificates_are_judged_first(self) -> None:
        """
        The texts are the same.
        """
        for client in ("expired", "early", "unknown"):
            uri = ours().uri(client)
            text = self.virsh(uri)
            self.assertIn(str(files() / client / "clientcert.pem"), text)
            self.assertEqual(await self.us(uri), (ErrorNumber.SYSTEM_ERROR, text))
        missing = uriOf("test", "/default", ours().ports["server"], "nowhere", {})
        text = self.virsh(missing)
        self.assertIn("Cannot read CA certificate", text)
        self.assertEqual(await self.us(missing), (ErrorNumber.SYSTEM_ERROR, text))


class OurClient(TestCase):
    """
    Our client on a real libvirtd.
    """

    timeout = 100

    def setUp(self) -> None:
        requireTool(self, "libvirtd")

    async def opened(self, uri: str) -> Connection:
        """A connection that is closed with the test."""
        connection = await connect(reactor, uri)
        self.addCleanup(lambda: Deferred.fromCoroutine(connection.close()))
        return connection

    async def test_calls(self) -> None:
        for version, priority in VERSIONS.items():
            connection = await self.opened(theirs().uri(tls_priority=priority))
            transport: Any = connection.client.transport
            self.assertEqual(transport.version, version)
            self.assertEqual((await connection.remote.domainLookupByName("test")).id, 1)
            self.assertEqual(await connection.remote.connectGetURI(), "test:///default")
            calls = [connection.remote.domainLookupByName("test") for _ in range(100)]
            self.assertEqual({(await each).name for each in calls}, {"test"})

    async def test_events(self) -> None:
        for priority in VERSIONS.values():
            connection = await self.opened(theirs().uri(tls_priority=priority))
            domain = await connection.remote.domainLookupByName("test")
            heard: list[int] = []
            enough: Deferred[None] = Deferred()

            def hear(
                domain: Domain,
                event: int,
                detail: int,
                heard: list[int] = heard,
                enough: Deferred[None] = enough,
            ) -> None:
                heard.append(event)
                if len(heard) == 2:
                    enough.callback(None)

            await connection.domainEvents.subscribe(DomainEventID.LIFECYCLE, hear)
            await connection.remote.domainSuspend(domain)
            await connection.remote.domainResume(domain)
            await enough
            self.assertEqual(heard, [DomainEventType.SUSPENDED, DomainEventType.RESUMED])

    async def test_a_large_volume_both_ways(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("libvirt's storage driver wants root")
        requireTool(self, "virsh")
        source, copy = temporary(self, LARGE), temporary(self)
        pool = theirs().daemon.directory / "pool"
        pool.mkdir()
        system = {"driver": "storage", "path": "/system"}
        for arguments in (
            ["pool-create-as", "p", "dir", "--target", str(pool)],
            ["vol-create-as", "p", "large", str(LARGE), "--allocation", "0"],
        ):
            self.assertEqual(Virsh(theirs().uri(**system), *arguments).finish()[0], 0)
        for priority in VERSIONS.values():
            connection = await self.opened(theirs().uri(**system, tls_priority=priority))
            vol = StorageVol("p", "large", str(pool / "large"))
            with source.open("rb") as file:
                stream = await connection.remote.storageVolUpload(vol, 0, 0)
                self.assertEqual(await stream.sendFrom(file), LARGE)
            with copy.open("wb") as file:
                stream = await connection.remote.storageVolDownload(vol, 0, 0)
                self.assertEqual(await stream.receiveInto(file), LARGE)
            self.assertEqual(digest(copy), digest(source))
