"""SASL between our ends and real ones: virsh on our daemon, our client on a libvirtd with Cyrus SASL.

SCRAM and PLAIN over UNIX sockets and TLS, Kerberos over plain TCP with everything encrypted behind it.
The realm is the tests' own (L{tests.interop.kerberos}), and so are Cyrus SASL's configuration and its
database of users.
"""

from __future__ import annotations

import getpass
import json
import os
import pty
import socket
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from tests.contracts.sasl import Exchange, SASLContract, stepped
from tests.interop.kerberos import REALM, TOOLS, Realm
from tests.interop.support import (
    ROOT,
    LibvirtDaemon,
    VirnetDaemon,
    Virsh,
    freePort,
    requireModule,
    requireTool,
)
from tests.pki import write
from tests.tls import authority, clientOf, serverOf
from virnet.client import Connection, connect
from virnet.client.stream import ClientStream
from virnet.errors import RemoteError, RemoteProtocolError
from virnet.limits import SASL_PACKET_MAX
from virnet.programs.constants import DomainEventID
from virnet.security.sasl import SASLError, SecurityProperties
from virnet.security.saslgssapi import GSSAPIClientSession, GSSAPIServerSession, acceptorCredentials
from virnet.security.scramfile import ScramFile

SECONDS = 60.0

#: The system's own, which has libvirt-python.
PYTHON = "/usr/bin/python3"

SCRAMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1")

PASSWORD = "sécret, =1"

REFUSED = "authentication failed: authentication failed"


@cache
def realm() -> Realm:
    """The realm of all tests here; it ends with the process."""
    import atexit

    made = Realm()
    made.start()
    atexit.register(made.stop)
    for user in ("alice", "mallory"):
        made.addUser(user, "secret")
    # Cyrus SASL wants the key of the host's full name, whatever clients call it.
    for host in {"localhost", "127.0.0.1", socket.gethostname(), socket.getfqdn()}:
        made.addService(f"libvirt/{host}")
    made.addService("other/localhost")
    return made


class _Case:
    """What the environment of the processes has; put back after each test."""

    addCleanup: Any

    def environment(self, **variables: str) -> None:
        """Set variables for the processes that the test starts."""
        for name, value in variables.items():
            old = os.environ.get(name)
            os.environ[name] = value
            self.addCleanup(self._restore, name, old)

    def _restore(self, name: str, old: str | None) -> None:
        if old is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = old

    def login(self, user: str = "alice") -> None:
        """Have a ticket."""
        self.environment(**realm().environment)
        realm().login(user, "secret")

    def logout(self) -> None:
        """Have none."""
        self.environment(**realm().environment)
        realm().logout()

    def password(self, user: str, password: str = PASSWORD) -> None:
        """Have a file with a name and a password."""
        path = directory() / f"auth-{user}.conf"
        path.write_text(
            f"[credentials-test]\nauthname={user}\npassword={password}\n"
            "[auth-libvirt-default]\ncredentials=test\n"
        )
        self.environment(LIBVIRT_AUTH_FILE=str(path))


@cache
def directory() -> Path:
    """Where the files are."""
    made = realm().directory
    write(made / "pki", [authority()], server=serverOf(), client=clientOf())
    return made


class Ours:
    """Our daemon: SASL over everything.

    @ivar tcpPort: plain TCP, with Kerberos.
    @ivar tlsPort: TLS.
    """

    def __init__(self) -> None:
        passwords = directory() / "passwords"
        file = ScramFile(passwords)
        for user in ("alice", "mallory", "jörg"):
            file.setPassword(user, PASSWORD)
        clear = directory() / "clear"
        clear.write_text("bob:secret\n")
        self.tcpPort, self.tlsPort = freePort(), freePort()
        self.daemon = VirnetDaemon(
            None,
            *("--auth-unix", "sasl", "--auth-unix-ro", "sasl", "--auth-tcp", "sasl", "--auth-tls", "sasl"),
            *("--sasl-passwords", str(passwords), "--sasl-keytab", realm().keytab),
            *("--auth", f"file:{clear}"),
            *(f"--sasl-allowed={each}" for each in ("alice", "jörg", "bob", f"alice@{REALM}")),
            *("--listen", f"tcp:{self.tcpPort}:interface=127.0.0.1"),
            *("--listen", f"libvirt-tls:{self.tlsPort}:interface=127.0.0.1:pkipath={directory() / 'pki'}"),
        )
        saved = {name: os.environ.get(name) for name in realm().environment}
        os.environ.update(realm().environment)
        try:
            self.daemon.start()
        finally:
            for name, value in saved.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def unix(self, **parameters: str) -> str:
        """The URI over its UNIX socket."""
        return "&".join([self.daemon.uri, *(f"{name}={value}" for name, value in parameters.items())])

    def tcp(self, host: str = "localhost", **parameters: str) -> str:
        """The URI over TCP."""
        return f"test+tcp://{host}:{self.tcpPort}/default?" + "&".join(
            f"{name}={value}" for name, value in parameters.items()
        )

    def tls(self, **parameters: str) -> str:
        """The URI over TLS."""
        more = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"test+tls://localhost:{self.tlsPort}/default?pkipath={directory() / 'pki'}&{more}"


ours = cache(Ours)

CYRUS = """\
mech_list: SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 PLAIN DIGEST-MD5 GSSAPI
sasldb_path: {directory}/sasldb
"""


@cache
def theirTLSPort() -> int:
    """Where that libvirtd listens with TLS."""
    return freePort()


@cache
def theirs() -> LibvirtDaemon:
    """A libvirtd that wants SASL over everything."""
    configuration = directory() / "cyrus"
    configuration.mkdir()
    (configuration / "libvirt.conf").write_text(CYRUS.format(directory=configuration))
    for user in ("alice", "mallory"):
        subprocess.run(
            ["saslpasswd2", "-p", "-c", "-f", str(configuration / "sasldb"), "-a", "libvirt", user],
            input=PASSWORD,
            text=True,
            check=True,
            timeout=SECONDS,
        )
    lists = '", "'.join(("alice", f"alice@{REALM}", f"alice@{socket.gethostname()}"))
    pki = directory() / "pki"
    daemon = LibvirtDaemon(
        tcpPort=0,
        settings='auth_unix_rw = "sasl"\nauth_unix_ro = "sasl"\nauth_tcp = "sasl"\n'
        f'listen_tls = 1\ntls_port = "{theirTLSPort()}"\nauth_tls = "sasl"\nca_file = "{pki}/cacert.pem"\n'
        f'cert_file = "{pki}/servercert.pem"\nkey_file = "{pki}/serverkey.pem"\n'
        f'sasl_allowed_username_list = [ "{lists}" ]\n',
    )
    variables = {**realm().environment, "SASL_CONF_PATH": str(configuration)}
    saved = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        daemon.start()
    finally:
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return daemon


class VirshOnUs(_Case, SynchronousTestCase):
    """Real virsh on our daemon."""

    def setUp(self) -> None:
        requireTool(self, "virsh", *TOOLS)
        requireModule(self, "gssapi")
        self.logout()

    def virsh(self, uri: str, *arguments: str) -> str:
        """Run virsh, which must succeed."""
        status, output, errors = Virsh(uri, *arguments).finish(SECONDS)
        self.assertEqual((status, errors), (0, ""))
        return output

    def refused(self, uri: str) -> str:
        """Run virsh, which must not succeed; say why."""
        status, _, errors = Virsh(uri, "list").finish(SECONDS)
        self.assertEqual(status, 1)
        return errors.strip().splitlines()[-1].removeprefix("error: ")

    def test_scram_over_unix(self) -> None:
        self.password("alice")
        for mechanism in SCRAMS:
            self.assertIn("test   running", self.virsh(ours().unix(auth=f"sasl.{mechanism}"), "list"))

    def test_scram_over_tls(self) -> None:
        self.password("alice")
        for mechanism in SCRAMS:
            self.assertIn("test   running", self.virsh(ours().tls(auth=f"sasl.{mechanism}"), "list"))

    def test_R123_a_whole_conversation_over_tls(self) -> None:
        self.password("alice")
        virsh = Virsh(ours().tls(auth="sasl.SCRAM-SHA-256"))
        for _ in range(20):
            self.assertTrue(virsh.ask("hostname"))
        status, _, errors = virsh.finish(SECONDS, "quit\n")
        self.assertEqual((status, errors), (0, ""))

    def test_R127_names_and_passwords_beyond_ascii(self) -> None:
        self.password("jörg")
        self.assertIn("test   running", self.virsh(ours().unix(auth="sasl.SCRAM-SHA-256"), "list"))

    def test_plain_over_unix_and_tls(self) -> None:
        self.password("bob", "secret")
        for uri in (ours().unix(auth="sasl.PLAIN"), ours().tls(auth="sasl.PLAIN")):
            self.assertIn("test   running", self.virsh(uri, "list"))

    def test_its_favourite_mechanism(self) -> None:
        self.login()
        self.password("alice")
        self.assertIn("test   running", self.virsh(ours().unix(), "list"))

    def test_a_wrong_password(self) -> None:
        for user, password, mechanism in (
            ("alice", "wrong", "SCRAM-SHA-256"),
            ("nobody", PASSWORD, "SCRAM-SHA-256"),
            ("bob", "wrong", "PLAIN"),
            ("nobody", "secret", "PLAIN"),
        ):
            self.password(user, password)
            self.assertEqual(self.refused(ours().unix(auth=f"sasl.{mechanism}")), REFUSED)

    def test_R126_who_is_not_on_the_list(self) -> None:
        self.password("mallory")
        self.assertEqual(self.refused(ours().unix(auth="sasl.SCRAM-SHA-256")), REFUSED)
        self.login("mallory")
        self.assertEqual(self.refused(ours().tcp()), REFUSED)

    def test_a_mechanism_that_we_do_not_have(self) -> None:
        self.password("alice")
        self.assertEqual(
            self.refused(ours().unix(auth="sasl.DIGEST-MD5")),
            "authentication failed: SASL mechanism DIGEST-MD5 not supported by server",
        )

    def test_no_passwords_over_plain_tcp(self) -> None:
        self.password("alice")
        for mechanism in (*SCRAMS, "PLAIN"):
            self.assertEqual(
                self.refused(ours().tcp(auth=f"sasl.{mechanism}")),
                f"authentication failed: SASL mechanism {mechanism} not supported by server",
            )

    def test_kerberos_over_tcp(self) -> None:
        self.login()
        for host in ("localhost", "127.0.0.1"):
            self.assertIn("test   running", self.virsh(ours().tcp(host), "list"))

    def test_kerberos_over_unix_and_tls(self) -> None:
        """
        There it protects nothing: something else does.
        """
        self.login()
        for uri in (ours().unix(auth="sasl.GSSAPI"), ours().tls(auth="sasl.GSSAPI")):
            self.assertIn("test   running", self.virsh(uri, "list"))

    def test_kerberos_without_a_ticket(self) -> None:
        self.assertIn("Failed to start SASL negotiation", self.refused(ours().tcp()))

    def test_large_volumes_through_the_layer(self) -> None:
        """
        Messages of 256 KiB in packets of 64.
        """
        self.login()
        data = Random(4752).randbytes(8 << 20)
        original, copy = directory() / "original", directory() / "copy"
        original.write_bytes(data)
        pool = ("--pool", "default-pool")
        self.virsh(ours().tcp(), "vol-create-as", "default-pool", "secured", "8M", "--allocation", "0")
        self.virsh(ours().tcp(), "vol-upload", "secured", str(original), *pool)
        self.virsh(ours().tcp(), "vol-download", "secured", str(copy), *pool)
        self.assertEqual(copy.read_bytes(), data)
        self.virsh(ours().tcp(), "vol-delete", "secured", *pool)

    def test_a_whole_conversation_through_the_layer(self) -> None:
        self.login()
        virsh = Virsh(ours().tcp())
        for _ in range(20):
            self.assertTrue(virsh.ask("hostname"))
        status, _, errors = virsh.finish(SECONDS, "quit\n")
        self.assertEqual((status, errors), (0, ""))


BINDING = """
import json, sys, libvirt

libvirt.registerErrorHandler(lambda *_: None, None)
uri, user, password = sys.argv[1:]
asked = []
known = {libvirt.VIR_CRED_AUTHNAME: user, libvirt.VIR_CRED_PASSPHRASE: password}

def answer(credentials, _):
    for credential in credentials:
        asked.append(credential[0])
        credential[4] = known[credential[0]]
    return 0

try:
    connection = libvirt.openAuth(uri, [list(known), answer, None], 0)
except libvirt.libvirtError as e:
    print(json.dumps([e.get_error_code(), e.get_error_domain(), e.get_error_message(), asked]))
else:
    print(json.dumps([connection.lookupByName("test").ID(), connection.isSecure(), asked]))
"""


class BindingOnUs(_Case, SynchronousTestCase):
    """libvirt-python on our daemon, and on a libvirtd: both must look the same."""

    def setUp(self) -> None:
        requireTool(self, "libvirtd", "saslpasswd2", PYTHON, *TOOLS)
        requireModule(self, "gssapi")
        if subprocess.run([PYTHON, "-c", "import libvirt"], capture_output=True).returncode:
            if os.environ.get("CI"):
                self.fail("libvirt-python is not installed, and in CI nothing may be missing")
            raise SkipTest("libvirt-python is not installed")
        self.logout()
        self.environment(LIBVIRT_AUTH_FILE=os.devnull)

    def ask(self, uri: str, user: str, password: str = PASSWORD) -> Any:
        """What the binding says."""
        command = [PYTHON, "-c", BINDING, uri, user, password]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def test_passwords_from_a_callback(self) -> None:
        for mechanism in SCRAMS:
            uris = (ours().unix(auth=f"sasl.{mechanism}"), f"{theirs().uri}&auth=sasl.{mechanism}")
            for user, password in (
                ("alice", PASSWORD),
                ("alice", "wrong"),
                ("nobody", "x"),
                ("mallory", PASSWORD),
            ):
                us, them = (self.ask(uri, user, password) for uri in uris)
                self.assertEqual(us, them, (mechanism, user))

    def test_kerberos(self) -> None:
        self.login()
        us, them = (self.ask(uri, "", "") for uri in (ours().tcp(), theirs().tcpURI))
        self.assertEqual(us, them)
        self.assertEqual(us, [1, 1, []])


class _Client(_Case, TestCase):
    timeout = 2 * SECONDS

    def setUp(self) -> None:
        requireTool(self, "libvirtd", "saslpasswd2", *TOOLS)
        requireModule(self, "gssapi")
        self.logout()
        self.environment(LIBVIRT_AUTH_FILE=os.devnull)

    async def open(self, uri: str, **options: Any) -> Connection:
        """Open a connection that is closed with the test."""
        connection = await connect(reactor, uri, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(connection.close()))
        return connection

    async def refused(self, uri: str, **options: Any) -> str:
        """Open a connection that does not come about; say why."""
        try:
            await self.open(uri, **options)
        except RemoteError as e:
            self.assertEqual(e.code, 45)
            return e.message
        raise self.failureException(f"{uri} lets us in")

    async def talk(self, connection: Connection) -> None:
        """Have calls, events and streams on a connection."""
        remote = connection.remote
        names = await gatherResults([remote.connectGetHostname() for _ in range(20)])
        self.assertEqual(len(set(names)), 1)
        seen: Deferred[None] = Deferred()

        def changed(*values: Any) -> None:
            if not seen.called:
                seen.callback(None)

        domain = await remote.domainLookupByName("test")
        subscription = await connection.domainEvents.subscribe(DomainEventID.LIFECYCLE, changed, domain)
        await remote.domainSuspend(domain)
        await seen
        await remote.domainResume(domain)
        await subscription.cancel()


class OurClientOnLibvirtd(_Client):
    """Our client on a libvirtd with Cyrus SASL."""

    def unix(self, mechanism: str = "") -> str:
        """The URI over its UNIX socket."""
        return theirs().uri + (f"&auth=sasl.{mechanism}" if mechanism else "")

    def tcp(self, mechanism: str = "") -> str:
        """The URI over TCP."""
        uri = theirs().tcpURI.replace("127.0.0.1", "localhost")
        return uri + (f"?auth=sasl.{mechanism}" if mechanism else "")

    def tls(self, mechanism: str) -> str:
        """The URI over TLS."""
        theirs()
        return (
            f"test+tls://localhost:{theirTLSPort()}/default?pkipath={directory() / 'pki'}"
            f"&auth=sasl.{mechanism}"
        )

    async def test_every_mechanism_with_a_password(self) -> None:
        self.password("alice")
        for mechanism in (*SCRAMS, "PLAIN"):
            await self.talk(await self.open(self.unix(mechanism)))

    async def test_R123_every_mechanism_with_a_password_over_tls(self) -> None:
        self.password("alice")
        for mechanism in (*SCRAMS, "PLAIN"):
            await self.talk(await self.open(self.tls(mechanism)))
        self.password("alice", "wrong")
        self.assertEqual(await self.refused(self.tls("SCRAM-SHA-256")), REFUSED)

    async def test_a_password_from_a_callback(self) -> None:
        asked: list[str] = []

        def ask(request: Any) -> str:
            asked.append(request.kind)
            return PASSWORD

        await self.open(self.unix().replace("unix://", "unix://alice@"), credentials=ask)
        self.assertEqual(asked, ["password"])

    async def test_a_wrong_password(self) -> None:
        for user, password in (("alice", "wrong"), ("nobody", PASSWORD)):
            self.password(user, password)
            for mechanism in (*SCRAMS, "PLAIN"):
                self.assertEqual(await self.refused(self.unix(mechanism)), REFUSED)

    async def test_who_is_not_on_the_list(self) -> None:
        self.password("mallory")
        self.assertEqual(await self.refused(self.unix("SCRAM-SHA-256")), REFUSED)
        self.login("mallory")
        self.assertEqual(await self.refused(self.tcp()), REFUSED)

    async def test_mechanisms_that_are_not_offered(self) -> None:
        for uri, name in ((self.unix, "SCRAM-SHA-224"), (self.tcp, "SCRAM-SHA-256"), (self.tcp, "PLAIN")):
            self.assertEqual(
                await self.refused(uri(name)),
                f"authentication failed: SASL mechanism {name} not supported by server",
            )

    async def test_kerberos_over_tcp(self) -> None:
        self.login()
        for mechanism in ("", "GSSAPI"):
            await self.talk(await self.open(self.tcp(mechanism)))

    async def test_kerberos_over_unix(self) -> None:
        self.login()
        await self.talk(await self.open(self.unix("GSSAPI")))

    async def test_without_a_ticket(self) -> None:
        self.assertIn("there is no Kerberos ticket", await self.refused(self.tcp()))
        self.password("alice")
        await self.open(self.unix())

    async def test_R124_answers_that_come_together(self) -> None:
        self.login()
        remote = (await self.open(self.tcp())).remote
        answers = await gatherResults([remote.connectGetCapabilities() for _ in range(50)])
        self.assertEqual(len(set(answers)), 1)

    async def test_large_messages(self) -> None:
        """
        A document of a megabyte, there in many packets, and back.
        """
        self.login()
        remote = (await self.open(self.tcp())).remote
        description = "é" * 500000
        domain = await remote.domainDefineXMLFlags(
            f"<domain type='test'><name>large</name><description>{description}</description>"
            "<memory>1024</memory><os><type>hvm</type></os></domain>",
            0,
        )
        self.assertIn(description, await remote.domainGetXMLDesc(domain, 0))
        await remote.domainUndefine(domain)


class OurClientOnUs(_Client):
    """Both ends are ours, over real sockets."""

    async def test_scram_over_everything_that_is_safe(self) -> None:
        self.password("alice")
        for uri in (ours().unix(), ours().tls()):
            await self.talk(await self.open(uri))

    async def test_kerberos_over_everything(self) -> None:
        self.login()
        for uri in (ours().unix(), ours().tls(), ours().tcp()):
            await self.talk(await self.open(uri))

    async def test_a_volume_through_the_layer(self) -> None:
        self.login()
        connection = await self.open(ours().tcp())
        remote = connection.remote
        pool = await remote.storagePoolLookupByName("default-pool")
        size = 8 << 20
        volume = await remote.storageVolCreateXML(
            pool, f"<volume><name>layered</name><capacity>{size}</capacity></volume>", 0
        )
        data = Random(1).randbytes(size)
        upload: ClientStream = await remote.storageVolUpload(volume, 0, size, 0)
        await upload.sendFrom([data])
        download: ClientStream = await remote.storageVolDownload(volume, 0, size, 0)
        self.assertEqual(b"".join([bytes(each) async for each in download]), data)
        await download.finish()
        await remote.storageVolDelete(volume, 0)

    async def test_external(self) -> None:
        """
        The user of a process, or the name in a certificate.
        """
        port = freePort()
        daemon = VirnetDaemon(
            None,
            *("--auth-unix", "sasl", "--auth-tls", "sasl", "--sasl-mechanism", "EXTERNAL"),
            *("--listen", f"libvirt-tls:{port}:interface=127.0.0.1:pkipath={directory() / 'pki'}"),
        )
        with daemon:
            await self.talk(await self.open(daemon.uri))
            tls = f"test+tls://localhost:{port}/default?pkipath={directory() / 'pki'}"
            await self.talk(await self.open(tls))
            self.assertIn(f"authenticated as {getpass.getuser()}", daemon.log)
            self.assertIn("authenticated as CN=client1", daemon.log)

    async def test_a_wrong_password_everywhere(self) -> None:
        self.password("alice", "wrong")
        for uri in (ours().unix(), ours().tls()):
            self.assertEqual(await self.refused(uri), REFUSED)


class OurCommand(_Case, SynchronousTestCase):
    """C{virnet} on a terminal."""

    def setUp(self) -> None:
        requireTool(self, *TOOLS)
        requireModule(self, "gssapi")
        self.logout()
        self.environment(LIBVIRT_AUTH_FILE=os.devnull, PYTHONPATH=str(ROOT))

    def typed(self, uri: str, *answers: str) -> tuple[int, str]:
        """Run it, and type an answer at each prompt.

        @return: the exit status, and all that the terminal showed.
        """
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "virnet.cli", "-c", uri, "hostname"])
        shown = b""
        left = list(answers)
        while True:
            try:
                piece = os.read(terminal, 1024)
            except OSError:
                # The other end is closed: it has ended.
                break
            shown += piece
            if left and shown.endswith(b": "):
                os.write(terminal, left.pop(0).encode())
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), shown.decode()

    def test_name_and_password_are_asked_for(self) -> None:
        status, shown = self.typed(ours().unix(auth="sasl.SCRAM-SHA-256"), "alice\n", f"{PASSWORD}\n")
        self.assertEqual(status, 0, shown)
        self.assertIn("Enter username for localhost: alice", shown)
        self.assertIn("Enter alice's password for localhost: ", shown)
        self.assertIn(socket.gethostname(), shown)
        self.assertNotIn(PASSWORD, shown)

    def test_a_wrong_password(self) -> None:
        status, shown = self.typed(ours().unix(auth="sasl.SCRAM-SHA-256"), "alice\n", "wrong\n")
        self.assertEqual(status, 1)
        self.assertIn(f"virnet: {REFUSED}", shown)

    def test_interrupted_while_it_asks(self) -> None:
        for answers in (("\x03",), ("alice\n", "\x03")):
            status, shown = self.typed(ours().unix(auth="sasl.SCRAM-SHA-256"), *answers)
            self.assertEqual(status, 130, shown)
            self.assertNotIn("Traceback", shown)


class _GSSAPI(_Case, SASLContract):
    """GSSAPI, both ends ours."""

    properties = SecurityProperties(56, 100000, False)
    user = f"alice@{REALM}"

    def setUp(self) -> None:
        requireTool(self, *TOOLS)
        requireModule(self, "gssapi")
        self.login()

    def begin(self, client: SecurityProperties | None = None, host: str = "localhost") -> Exchange:
        return Exchange(
            GSSAPIClientSession(client or self.properties, host),
            GSSAPIServerSession(self.properties, acceptorCredentials(realm().keytab)),
        )


class Encrypted(_GSSAPI, SynchronousTestCase):
    """As over plain TCP."""

    def test_how_strong_it_is(self) -> None:
        self.assertEqual(self.begin().run().client.ssf, 256)

    def test_a_packet_is_taken_once_and_in_order(self) -> None:
        done = self.begin().run()
        client, server = done.client.layer, done.server.layer
        assert client is not None and server is not None
        one, two = client.encode(b"one"), client.encode(b"two")
        self.assertEqual(server.decode(one), b"one")
        self.assertRaises(RemoteProtocolError, server.decode, one)
        done = self.begin().run()
        client, server = done.client.layer, done.server.layer
        assert client is not None and server is not None
        one, two = client.encode(b"one"), client.encode(b"two")
        self.assertRaises(RemoteProtocolError, server.decode, two)

    def test_a_packet_that_was_changed_is_refused(self) -> None:
        for position in (4, 10, 20, -1):
            done = self.begin().run()
            client, server = done.client.layer, done.server.layer
            assert client is not None and server is not None
            packet = bytearray(client.encode(b"attack at dawn"))
            packet[position] ^= 1
            self.assertRaises(RemoteProtocolError, server.decode, bytes(packet))

    def test_a_packet_that_is_signed_but_not_encrypted_is_refused(self) -> None:
        done = self.begin().run()
        server: Any = done.server.layer
        context: Any = done.client
        signed = context._context.wrap(b"readable", False).message
        error = self.assertRaises(RemoteProtocolError, server.decode, len(signed).to_bytes(4, "big") + signed)
        self.assertIn("it is not encrypted", str(error))

    def test_packets_are_as_large_as_the_other_end_takes(self) -> None:
        done = self.begin().run()
        client = done.client.layer
        assert client is not None
        sent = client.encode(bytes(1 << 20))
        start = 0
        while start < len(sent):
            length = int.from_bytes(sent[start : start + 4], "big")
            self.assertLessEqual(length, SASL_PACKET_MAX)
            start += 4 + length

    def test_an_end_that_wants_less_is_refused(self) -> None:
        self.assertRaises(SASLError, self.begin(SecurityProperties(0, 0, True)).run)
        self.assertRaises(SASLError, self.begin(SecurityProperties(0, 1, True)).run)

    def test_a_ticket_for_another_service_is_refused(self) -> None:
        whole = self.begin()
        library = import_module("gssapi")
        context: Any = whole.client
        context._context = library.SecurityContext(
            name=library.Name("other@localhost", library.NameType.hostbased_service), usage="initiate"
        )
        error = self.assertRaises(SASLError, whole.run)
        self.assertIn("a ticket for other/localhost", str(error))

    def test_nobody_acts_for_somebody_else(self) -> None:
        for name, allowed in ((b"", True), (b"alice", True), (self.user.encode(), True), (b"root", False)):
            whole = self.begin()
            offer = stepped(whole.server, stepped(whole.client, None))
            answer = stepped(whole.client, offer)
            offer = stepped(whole.server, answer)
            context: Any = whole.client
            choice = context._context.wrap(b"\x04\x01\0\0" + name, False).message
            if allowed:
                stepped(whole.server, choice)
                self.assertEqual(whole.server.user, self.user)
            else:
                self.assertRaises(SASLError, stepped, whole.server, choice)

    def test_a_ticket_of_nobody_is_refused(self) -> None:
        """
        A realm may give tickets to who does not say who he is.
        """

        anonymity = import_module("gssapi").RequirementFlag.anonymity

        class Anonymous:
            def __init__(self, context: Any) -> None:
                self._context = context

            @property
            def actual_flags(self) -> Any:
                return {*self._context.actual_flags, anonymity}

            def __getattr__(self, name: str) -> Any:
                return getattr(self._context, name)

        whole = self.begin()
        server: Any = whole.server
        server._context = Anonymous(server._context)
        error = self.assertRaises(SASLError, stepped, whole.server, stepped(whole.client, None))
        self.assertEqual(str(error), "an anonymous ticket")

    def test_choices_that_make_no_sense_are_refused(self) -> None:
        for choice in (
            b"",
            b"\x04",
            b"\x01\0\0\0",
            b"\x02\x01\0\0",
            b"\x06\x01\0\0",
            b"\x04\0\0\0",
            b"\x04\0\0\x40",
        ):
            whole = self.begin()
            offer = stepped(whole.server, stepped(whole.client, None))
            stepped(whole.server, stepped(whole.client, offer))
            context: Any = whole.client
            wrapped = context._context.wrap(choice, False).message
            self.assertRaises(SASLError, stepped, whole.server, wrapped)
            self.assertFalse(whole.server.complete)

    def test_a_server_that_offers_nothing_strong_is_refused(self) -> None:
        for offer in (b"\x01\0\0\0", b"\x03\x01\0\0", b"\0\0\0\0", b"\x04"):
            whole = self.begin()
            stepped(whole.client, stepped(whole.server, stepped(whole.client, None)))
            context: Any = whole.server
            self.assertRaises(SASLError, stepped, whole.client, context._context.wrap(offer, False).message)

    def test_without_a_ticket(self) -> None:
        realm().logout()
        self.assertRaises(SASLError, stepped, self.begin().client, None)


class Signed(_GSSAPI, SynchronousTestCase):
    """Integrity alone."""

    properties = SecurityProperties(1, 1, False)

    def test_everything_can_be_read_and_nothing_changed(self) -> None:
        done = self.begin().run()
        client, server = done.client.layer, done.server.layer
        assert client is not None and server is not None
        packet = client.encode(b"readable")
        self.assertIn(b"readable", packet)
        self.assertRaises(RemoteProtocolError, server.decode, packet.replace(b"readable", b"changed!"))


class Bare(_GSSAPI, SynchronousTestCase):
    """As over UNIX sockets and TLS: it says who, and nothing more."""

    properties = SecurityProperties(0, 0, True)
