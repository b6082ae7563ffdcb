"""
Certificates of every kind, judged by real libvirtd and virsh and by us, in the same roles.

Each variant is a server's certificate and a client's in turn. Three questions are asked of it:

  - Does its owner start with it? libvirtd against our server's context, virsh against our client's: the same
    verdict, in the same words.
  - A server shows it: does virsh take it from libvirtd and from our server, does our client take it from
    libvirtd?
  - A client shows it: does libvirtd take it from virsh and from our client, does our server take it from
    virsh?

The verdict is libvirt's, or it is in L{BETTER} with the reason. The table of variants has libvirt's verdicts,
so that a test in which everybody refuses everything, for whatever else may be broken, fails.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from twisted.internet import reactor
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.support import ROOT, LibvirtDaemon, VirnetDaemon, freePort, requireTool
from tests.pki import ANY, CLIENT, EMAIL, HOUR, SERVER, Issued, issue, revoke, write
from virnet.client import connect
from virnet.errors import VirnetError
from virnet.security.certificates import Role
from virnet.security.tlscontext import TLSContext

SECONDS = 100

HOST = "127.0.0.1"

#: What virsh says when the server does not want it.
CONFIRMATION = "Unable to read TLS confirmation"

SIGN = "digital_signature"
ENCIPHER = "key_encipherment"


class Shown(NamedTuple):
    """
    What somebody has, and what the other end thinks of the world.

    @ivar chain: further certificates that are shown.
    @ivar trusted: the CA file of both.
    @ivar revoked: what is on the list of the other end.
    @ivar oldList: that list is out of date.
    """

    leaf: Issued
    chain: Sequence[Issued] = ()
    trusted: Sequence[Issued] = ()
    revoked: Sequence[Issued] = ()
    oldList: bool = False


class Variant(NamedTuple):
    """
    A kind of certificate, and libvirt's verdict.

    @ivar own: who starts with it: C{both}, C{server}, C{client} or C{neither}.
    @ivar peer: in which role it is accepted by the other end.
    @ivar host: what clients call the server.
    @ivar roles: in which roles it makes sense.
    """

    make: Callable[[Role], Shown]
    own: str = "both"
    peer: str = "both"
    host: str = HOST
    roles: tuple[Role, ...] = ("server", "client")

    def starts(self, role: Role) -> bool:
        return self.own in (role, "both")

    def accepted(self, role: Role) -> bool:
        return self.peer in (role, "both")


AUTHORITY = issue(name="CA", ca=True, usages=["key_cert_sign", "crl_sign"])
RSA_AUTHORITY = issue(name="RSA CA", ca=True, key="rsa")
STRANGER = issue(name="another CA", ca=True)
BETWEEN = issue(AUTHORITY, name="between", ca=True)
TRUSTED_BETWEEN = issue(AUTHORITY, name="trusted between", ca=True)
TRUSTED = [AUTHORITY, RSA_AUTHORITY, TRUSTED_BETWEEN]
REVOKED_BETWEEN = issue(AUTHORITY, name="revoked between", ca=True)
NO_AUTHORITY = issue(AUTHORITY, name="no authority")
NO_SIGNER = issue(AUTHORITY, name="no signer", ca=True, usages=[SIGN], usagesCritical=False)
LATE_BETWEEN = issue(AUTHORITY, name="late", ca=True, end=-HOUR)
NARROW = issue(
    AUTHORITY,
    name="narrow",
    ca=True,
    extensions=[(x509.NameConstraints([x509.DNSName("permitted.test")], None), True)],
)
STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")

PURPOSE = {"server": SERVER, "client": CLIENT}
OTHER_PURPOSE = {"server": CLIENT, "client": SERVER}


def leaf(role: Role, issuer: Issued | None = AUTHORITY, **keywords: Any) -> Issued:
    hosts = [HOST, "localhost"] if role == "server" else None
    return issue(issuer, **{"name": role, "hosts": hosts, "key": "rsa", **keywords})


def plain(issuer: Issued | None = AUTHORITY, **keywords: Any) -> Callable[[Role], Shown]:
    """
    Only the certificate is special.
    """
    return lambda role: Shown(leaf(role, issuer, **keywords))


def purposes(*named: str | x509.ObjectIdentifier, critical: bool = True) -> Callable[[Role], Shown]:
    """
    @param named: C{right} for the purpose of the role, C{wrong} for that of the other one.
    """

    def make(role: Role) -> Shown:
        words: dict[Any, Any] = {"right": PURPOSE[role], "wrong": OTHER_PURPOSE[role]}
        return Shown(
            leaf(role, purposes=[words.get(each, each) for each in named], purposesCritical=critical)
        )

    return make


def usages(*allowed: str, critical: bool = True, key: str = "rsa") -> Callable[[Role], Shown]:
    return plain(usages=allowed, usagesCritical=critical, key=key)


def signedOver(hashName: str) -> Callable[[Role], Shown]:
    """
    Signed over a hash that cryptography does not sign over any more.
    """

    def make(role: Role) -> Shown:
        made = leaf(role)
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            (directory / "ca.pem").write_bytes(RSA_AUTHORITY.pem)
            (directory / "ca.key").write_bytes(RSA_AUTHORITY.keyPEM)
            (directory / "leaf.key").write_bytes(made.keyPEM)
            (directory / "extensions").write_text(f"subjectAltName=IP:{HOST}\n")
            for command in (
                f"openssl req -new -key leaf.key -subj /CN={role} -out request",
                f"openssl x509 -req -in request -CA ca.pem -CAkey ca.key -{hashName} -days 1 -set_serial 77 "
                "-extfile extensions -out leaf.pem",
            ):
                subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
            certificate = x509.load_pem_x509_certificate((directory / "leaf.pem").read_bytes())
        return Shown(Issued(certificate, made.key), trusted=[RSA_AUTHORITY])

    return make


def revoked(old: bool = False) -> Callable[[Role], Shown]:
    def make(role: Role) -> Shown:
        made = leaf(role)
        return Shown(made, revoked=[made], oldList=old)

    return make


def anotherRevoked(old: bool = False) -> Callable[[Role], Shown]:
    return lambda role: Shown(leaf(role), revoked=[leaf(role)], oldList=old)


def below(
    between: Issued, trusted: Sequence[Issued] = (AUTHORITY,), shown: bool = True, **keywords: Any
) -> Any:
    """
    Signed by an intermediate.
    """
    return lambda role: Shown(leaf(role, between, **keywords), [between] if shown else [], trusted)


def trusting(authority: Issued) -> Callable[[Role], Shown]:
    return lambda role: Shown(leaf(role, authority), trusted=[authority])


SERVER_ONLY: tuple[Role, ...] = ("server",)

VARIANTS: dict[str, Variant] = {
    "RSA": Variant(plain()),
    "elliptic curve": Variant(plain(key="ec")),
    "Ed25519": Variant(plain(key="ed25519")),
    "RSA of 1024 bits": Variant(plain(key="rsa1024")),
    "expired": Variant(plain(end=-HOUR), "neither", "neither"),
    "not yet active": Variant(plain(start=HOUR), "neither", "neither"),
    "is an authority": Variant(plain(ca=True), "neither", "neither"),
    "says it is no authority": Variant(plain(ca=False)),
    "signed by itself": Variant(plain(None), "neither", "neither"),
    "of another authority": Variant(plain(STRANGER), "neither", "neither"),
    "forged": Variant(plain(signedBy=STRANGER.key), "neither", "neither"),
    "signed over SHA-1": Variant(signedOver("sha1"), "neither", "neither"),
    "signed over MD5": Variant(signedOver("md5"), "neither", "neither"),
    "all usages": Variant(usages(SIGN, ENCIPHER)),
    "no usage that counts, critical": Variant(usages("key_agreement"), "neither", "neither"),
    # GnuTLS does not use it for anything, whatever libvirt thinks.
    "no usage that counts": Variant(usages("key_agreement", critical=False), "both", "neither"),
    "signs only, critical": Variant(usages(SIGN), "neither", "neither"),
    "signs only": Variant(usages(SIGN, critical=False)),
    "enciphers only, critical": Variant(usages(ENCIPHER), "neither", "neither"),
    # GnuTLS's client keeps it to itself, its server does without signatures in TLS 1.2.
    "enciphers only": Variant(usages(ENCIPHER, critical=False), "both", "server"),
    "curve signs only, critical": Variant(usages(SIGN, key="ec"), "neither", "neither"),
    "curve signs only": Variant(usages(SIGN, critical=False, key="ec")),
    "right purpose, critical": Variant(purposes("right")),
    "right purpose": Variant(purposes("right", critical=False)),
    "wrong purpose, critical": Variant(purposes("wrong"), "neither", "neither"),
    "wrong purpose": Variant(purposes("wrong", critical=False)),
    "both purposes, critical": Variant(purposes("wrong", "right")),
    "any purpose, critical": Variant(purposes(ANY), "neither", "neither"),
    "any purpose": Variant(purposes(ANY, critical=False)),
    "wrong and any purpose, critical": Variant(purposes("wrong", ANY), "neither", "neither"),
    "other purpose, critical": Variant(purposes(EMAIL)),
    "wrong and other purpose, critical": Variant(purposes("wrong", EMAIL)),
    "unknown extension, critical": Variant(plain(extensions=[(STRANGE, True)]), "neither", "neither"),
    "unknown extension": Variant(plain(extensions=[(STRANGE, False)])),
    "revoked": Variant(revoked(), "both", "neither"),
    "revoked by an old list": Variant(revoked(old=True), "both", "neither", roles=SERVER_ONLY),
    "another revoked": Variant(anotherRevoked()),
    "another revoked by an old list": Variant(anotherRevoked(old=True), roles=SERVER_ONLY),
    "intermediate is shown": Variant(below(BETWEEN), "neither"),
    "intermediate is not shown": Variant(below(BETWEEN, shown=False), "neither", "neither"),
    "intermediate is in the CA file": Variant(below(TRUSTED_BETWEEN, TRUSTED, shown=False)),
    "intermediate alone is in the CA file": Variant(below(BETWEEN, [BETWEEN], shown=False)),
    "intermediate is no authority": Variant(below(NO_AUTHORITY), "neither", "neither"),
    "intermediate may not sign": Variant(below(NO_SIGNER), "neither", "neither"),
    "intermediate has expired": Variant(below(LATE_BETWEEN), "neither", "neither"),
    "intermediate is for other names": Variant(
        below(NARROW, hosts=[HOST, "other.test"]), "neither", "neither"
    ),
    "intermediate is revoked": Variant(
        lambda role: Shown(leaf(role, REVOKED_BETWEEN), [REVOKED_BETWEEN], revoked=[REVOKED_BETWEEN]),
        "neither",
        "neither",
    ),
    "intermediate in the CA file is revoked": Variant(
        lambda role: Shown(leaf(role, REVOKED_BETWEEN), [], [AUTHORITY, REVOKED_BETWEEN], [REVOKED_BETWEEN]),
        roles=SERVER_ONLY,
    ),
    "authority without basic constraints": Variant(trusting(issue(name="bare CA")), "neither"),
    "authority has expired": Variant(
        trusting(issue(name="old CA", ca=True, end=-HOUR)), "neither", "neither"
    ),
    "authority may not sign": Variant(
        trusting(issue(name="mute CA", ca=True, usages=[SIGN], usagesCritical=False)), "neither", "neither"
    ),
    "address as alternative name": Variant(plain(hosts=[HOST]), roles=SERVER_ONLY),
    "address as a name": Variant(plain(hosts=[x509.DNSName(HOST)]), peer="neither", roles=SERVER_ONLY),
    "another address": Variant(plain(hosts=["127.0.0.2"]), peer="neither", roles=SERVER_ONLY),
    "address as common name": Variant(plain(hosts=None, name=HOST), peer="neither", roles=SERVER_ONLY),
    "wildcard for an address": Variant(
        plain(hosts=[x509.DNSName("*.0.0.1")]), peer="neither", roles=SERVER_ONLY
    ),
    "wildcard for everything": Variant(
        plain(hosts=[x509.DNSName("*")]), peer="neither", host="localhost", roles=SERVER_ONLY
    ),
    "alternative name": Variant(plain(hosts=["localhost"]), host="localhost", roles=SERVER_ONLY),
    "common name": Variant(plain(hosts=None, name="localhost"), host="localhost", roles=SERVER_ONLY),
    "common name that is no alternative name": Variant(
        plain(hosts=["other.test"], name="localhost"), peer="neither", host="localhost", roles=SERVER_ONLY
    ),
    "common name beside an address": Variant(
        plain(hosts=[HOST], name="localhost"), peer="neither", host="localhost", roles=SERVER_ONLY
    ),
    "common name beside a mail address": Variant(
        plain(hosts=[x509.RFC822Name("a@b.test")], name="localhost"), host="localhost", roles=SERVER_ONLY
    ),
}

SHORT_KEY = "OpenSSL takes no key of less than 2048 bits"
CURVE = "a curve cannot encipher, and libvirt after 9.0 does not ask it to"
ANY_PURPOSE = "any purpose is this one as well"
NOT_A_CLIENTS = "OpenSSL gives a server no certificate that is not made for clients, critical or not"
NO_SIGNATURES = "without signatures only key exchanges are left in which nothing is secret for ever"
REVOKED_BUT_TRUSTED = "what an authority has revoked does not count, wherever it is found"
BARE_AUTHORITY = "what does not say that it is an authority is none, even if nobody checks it at the start"

#: Who is asked, in which role the certificate is shown: where the verdict is another, and why it is better.
BETTER: dict[tuple[str, Role], dict[str, str]] = {
    ("our server as its owner", "server"): {
        "RSA of 1024 bits": SHORT_KEY,
        "curve signs only, critical": CURVE,
        "any purpose, critical": ANY_PURPOSE,
        "wrong and any purpose, critical": ANY_PURPOSE,
    },
    ("our client as its owner", "client"): {
        "RSA of 1024 bits": SHORT_KEY,
        "curve signs only, critical": CURVE,
        "any purpose, critical": ANY_PURPOSE,
        "wrong and any purpose, critical": ANY_PURPOSE,
    },
    ("our client", "server"): {
        "enciphers only": NO_SIGNATURES,
        "curve signs only, critical": CURVE,
        "any purpose, critical": ANY_PURPOSE,
        "wrong and any purpose, critical": ANY_PURPOSE,
        "intermediate in the CA file is revoked": REVOKED_BUT_TRUSTED,
        "authority without basic constraints": BARE_AUTHORITY,
    },
    ("virsh at our server", "server"): {
        "RSA of 1024 bits": SHORT_KEY,
        "enciphers only": NO_SIGNATURES,
        # Our server shows the intermediates of its CA file; virsh would rather not have known.
        "intermediate in the CA file is revoked": REVOKED_BUT_TRUSTED,
    },
    ("libvirtd of our client", "client"): {
        "RSA of 1024 bits": SHORT_KEY,
    },
    ("our server", "client"): {
        "RSA of 1024 bits": SHORT_KEY,
        "curve signs only, critical": CURVE,
        "wrong purpose": NOT_A_CLIENTS,
        "any purpose": NOT_A_CLIENTS,
        "other purpose, critical": NOT_A_CLIENTS,
        "wrong and other purpose, critical": NOT_A_CLIENTS,
    },
}


class TLSLibvirtDaemon(LibvirtDaemon):
    """
    A libvirtd that listens with TLS, and is waited for there.
    """

    def __init__(self, files: Path, *, sanity: bool = True, verify: bool = True) -> None:
        self.port = freePort()
        settings = [
            "listen_tls = 1",
            f'tls_port = "{self.port}"',
            'auth_tls = "none"',
            f'ca_file = "{files}/cacert.pem"',
            f'crl_file = "{files}/cacrl.pem"',
            f'cert_file = "{files}/servercert.pem"',
            f'key_file = "{files}/serverkey.pem"',
            f"tls_no_sanity_certificate = {int(not sanity)}",
            f"tls_no_verify_certificate = {int(not verify)}",
            "listen_tcp = 0",
        ]
        super().__init__(tcpPort=freePort(), settings="\n".join(settings))

    def _listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


class VirshVerdict(NamedTuple):
    accepted: bool
    error: str


def askVirsh(port: int, pkipath: Path, host: str = HOST, **flags: int) -> VirshVerdict:
    """
    Have virsh connect to a server with TLS.
    """
    words = "".join(f"&{name}={value}" for name, value in flags.items())
    uri = f"test+tls://{host}:{port}/default?pkipath={pkipath}{words}"
    done = subprocess.run(
        ["virsh", "-q", "-c", uri, "list", "--name"],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return VirshVerdict(done.returncode == 0, lines[-1].removeprefix("error: ") if lines else "")


async def askUs(port: int, pkipath: Path, host: str = HOST, **flags: int) -> bool:
    """
    Connect with our client.
    """
    words = "".join(f"&{name}={value}" for name, value in flags.items())
    uri = f"test+tls://{host}:{port}/default?pkipath={pkipath}{words}"
    try:
        async with await connect(reactor, uri):
            return True
    except VirnetError:
        return False


class CertificatesCase(TestCase):
    """
    With every variant as files.
    """

    timeout = SECONDS

    def setUp(self) -> None:
        requireTool(self, "libvirtd", "virsh", "openssl")
        # libvirt's paths in messages are as they were given, and those of sockets are short.
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.differences: list[str] = []

    def compare(self, who: str, role: Role, name: str, libvirts: bool, ours: bool) -> None:
        known = name in BETTER.get((who, role), {})
        if (ours != libvirts) != known:
            verdicts = {True: "accepts", False: "refuses"}
            self.differences.append(
                f"{role} {name}: libvirt {verdicts[libvirts]}, {who} {verdicts[ours]}"
                + (", which BETTER says is no longer so" if known else "")
            )

    def expect(self, who: str, role: Role, name: str, expected: bool, found: bool) -> None:
        if expected != found:
            self.differences.append(f"{role} {name}: {who} {'accepts' if found else 'refuses'} it")

    def variants(self, role: Role) -> list[tuple[str, Variant, Shown]]:
        found = []
        for name, variant in VARIANTS.items():
            if role in variant.roles:
                shown = variant.make(role)
                found.append((name, variant, shown._replace(trusted=shown.trusted or [AUTHORITY])))
        return found

    def owner(self, role: Role, shown: Shown, name: str = "owner") -> Path:
        """
        Write what has the certificate.
        """
        pair = {role: shown.leaf}
        directory = write(
            self.directory / name, shown.trusted, server=pair.get("server"), client=pair.get("client")
        )
        with (directory / f"{role}cert.pem").open("ab") as file:
            file.writelines(each.pem for each in shown.chain)
        return directory

    def judge(self, shown: Shown) -> Path:
        """
        Write what judges it and shows nothing.
        """
        directory = self.directory / "judge"
        shutil.rmtree(directory, ignore_errors=True)
        times = {"start": -3 * HOUR, "end": -HOUR} if shown.oldList else {}
        revocations = revoke(AUTHORITY, *shown.revoked, **times) if shown.revoked else None
        return write(directory, shown.trusted, revocations=revocations)

    def finish(self) -> None:
        """
        Fail if there was a difference.
        """
        if self.differences:
            self.fail("\n".join(self.differences))


class ServersTests(CertificatesCase):
    """
    A server has the certificate.
    """

    def ourVerdict(self, directory: Path) -> str:
        try:
            TLSContext.forServer(pkipath=str(directory))
        except VirnetError as e:
            return str(e)
        return ""

    def startOurs(self, variants: list[tuple[str, Variant, Shown]]) -> dict[str, int]:
        """
        Start one daemon of ours with all the certificates.

        @return: the port of each that can be started with.
        """
        able = []
        for number, (name, _, shown) in enumerate(variants):
            files = self.owner("server", shown, str(number))
            try:
                TLSContext.forServer(pkipath=str(files), sanity=False)
            except VirnetError:
                continue
            able.append((name, files))
        # All at the same time, so that none is there twice.
        reserved = [socket.create_server((HOST, 0)) for _ in able]
        ports = {name: each.getsockname()[1] for (name, _), each in zip(able, reserved, strict=True)}
        for each in reserved:
            each.close()
        options = [
            f"libvirt-tls:{ports[name]}:interface={HOST}:pkipath={files}:sanity=no:verify=no"
            for name, files in able
        ]
        ours = VirnetDaemon(None, *(word for option in options for word in ("--listen", option)))
        ours.start()
        self.addCleanup(ours.stop)
        return ports

    async def test_a_server_has_it(self) -> None:
        variants = self.variants("server")
        ports = self.startOurs(variants)
        for name, variant, shown in variants:
            directory = self.owner("server", shown)
            daemon = TLSLibvirtDaemon(directory, verify=False)
            reason = ""
            try:
                daemon.start()
            except RuntimeError as e:
                reason = str(e)
                daemon = TLSLibvirtDaemon(directory, sanity=False, verify=False)
                daemon.start()
            self.expect("libvirtd as its owner", "server", name, variant.starts("server"), not reason)
            verdict = self.ourVerdict(directory)
            self.compare("our server as its owner", "server", name, not reason, not verdict)
            if reason and verdict and verdict not in reason:
                self.differences.append(f"server {name}: {verdict!r} is not in {reason!r}")
            judge = self.judge(shown)
            try:
                libvirts = askVirsh(daemon.port, judge, variant.host, no_sanity=1).accepted
                self.expect("virsh", "server", name, variant.accepted("server"), libvirts)
                client = await askUs(daemon.port, judge, variant.host, no_sanity=1)
                self.compare("our client", "server", name, libvirts, client)
            finally:
                daemon.stop()
            virsh = name in ports and askVirsh(ports[name], judge, variant.host, no_sanity=1).accepted
            self.compare("virsh at our server", "server", name, libvirts, virsh)
        self.finish()


class ClientsTests(CertificatesCase):
    """
    A client has the certificate.
    """

    def ourVerdict(self, directory: Path) -> str:
        try:
            TLSContext.forClient(pkipath=str(directory))
        except VirnetError as e:
            return str(e)
        return ""

    async def test_a_client_has_it(self) -> None:
        # One list and one CA file for all: neither can be changed while a daemon runs. What it trusts besides
        # is a matter of servers' certificates.
        variants = [each for each in self.variants("client") if all(ca in TRUSTED for ca in each[2].trusted)]
        server = leaf("server")
        revocations = revoke(AUTHORITY, *(each for _, _, shown in variants for each in shown.revoked))
        judge = write(self.directory / "judge", TRUSTED, server=server, revocations=revocations)
        libvirts = TLSLibvirtDaemon(judge)
        libvirts.start()
        self.addCleanup(libvirts.stop)
        port = freePort()
        ours = VirnetDaemon(None, "--listen", f"libvirt-tls:{port}:interface={HOST}:pkipath={judge}")
        ours.start()
        self.addCleanup(ours.stop)
        for name, variant, shown in variants:
            directory = self.owner("client", shown)
            started = askVirsh(libvirts.port, directory, no_verify=1)
            reason = "" if started.error.startswith(CONFIRMATION) else started.error
            self.expect("virsh as its owner", "client", name, variant.starts("client"), not reason)
            verdict = self.ourVerdict(directory)
            self.compare("our client as its owner", "client", name, not reason, not verdict)
            if reason and verdict and verdict != reason:
                self.differences.append(f"client {name}: {verdict!r} is not {reason!r}")
            accepted = askVirsh(libvirts.port, directory, no_verify=1, no_sanity=1).accepted
            self.expect("libvirtd", "client", name, variant.accepted("client"), accepted)
            client = await askUs(libvirts.port, directory, no_verify=1, no_sanity=1)
            self.compare("libvirtd of our client", "client", name, accepted, client)
            virsh = askVirsh(port, directory, no_verify=1, no_sanity=1).accepted
            self.compare("our server", "client", name, accepted, virsh)
        self.finish()


class WildcardTests(CertificatesCase):
    """
    A server is for all hosts of a domain. No machine knows such hosts, so clients are given a table of hosts.
    """

    def test_a_host_of_the_domain_and_others(self) -> None:
        requireTool(self, "unshare")
        if os.geteuid() != 0:
            raise SkipTest("only root can give a process another table of hosts")
        verdicts = {"a.virnet.test": True, "virnet.test": False, "b.a.virnet.test": False}
        table = self.directory / "hosts"
        table.write_text("".join(f"{HOST} {host}\n" for host in verdicts))
        files = self.owner("server", Shown(leaf("server", hosts=["*.virnet.test"]), trusted=[AUTHORITY]))
        with TLSLibvirtDaemon(files, verify=False) as libvirts:
            assert isinstance(libvirts, TLSLibvirtDaemon)
            port = freePort()
            listen = f"libvirt-tls:{port}:interface={HOST}:pkipath={files}:verify=no"
            with VirnetDaemon(None, "--listen", listen):
                for host, good in verdicts.items():
                    for server in (libvirts.port, port):
                        uri = f"test+tls://{host}:{server}/default?pkipath={files}"
                        for client in (["virsh"], [sys.executable, "-m", "virnet.cli"]):
                            self.assertIs(
                                self.lists(table, [*client, "-c", uri, "list"]), good, (host, client)
                            )

    def lists(self, table: Path, command: Sequence[str]) -> bool:
        """
        Run a client with a table of hosts.
        """
        script = f'mount --bind {table} /etc/hosts && exec "$@"'
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", *command],
            env={**os.environ, "LC_ALL": "C", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.assertEqual("test" in done.stdout, done.returncode == 0)
        if done.returncode != 0:
            self.assertIn("Failed to verify peer's certificate", done.stderr)
        return done.returncode == 0
