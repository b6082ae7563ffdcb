"""
Certificates made, and what is found wrong with any.

That real libvirt works with them is in C{tests/interop/test_certificates.py}.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from tests.pki import ANY, CLIENT, DAY, EMAIL, HOUR, SERVER, Issued, issue, keyOf, revoke, write
from virnet.errors import RemoteError
from virnet.security.certificates import (
    Role,
    checkHost,
    checkKey,
    checkOwn,
    dnOf,
    judgePeer,
    loadAuthorities,
    loadCertificate,
)
from virnet.security.pki import KeyKind, PKIError, Places, defaultPlaces, makeAuthority, makePeer
from virnet.security.pkicheck import Finding, inspect
from virnet.security.tlsfiles import directoryFiles

ROLES: tuple[Role, Role] = ("server", "client")
KINDS: tuple[KeyKind, KeyKind] = ("ec", "rsa")


class MadeTests(SynchronousTestCase):
    """
    What is made, where, and for whom to read.
    """

    def setUp(self) -> None:
        self.places = Places(os.path.abspath(self.mktemp()))

    def modeOf(self, path: str) -> int:
        return stat.S_IMODE(os.stat(path).st_mode)

    def test_they_stand_every_check(self) -> None:
        for kind in KINDS:
            authority = makeAuthority(self.places, "CA", days=90, key=kind, replace=True)
            for role in ROLES:
                hosts = ["a.test", "127.0.0.1"] if role == "server" else []
                made = makePeer(role, self.places, "me", hosts, days=60, key=kind, replace=True)
                files = self.places.files(role)
                self.assertEqual([authority], loadAuthorities(files.authorities))
                self.assertEqual(made, loadCertificate(files.certificate, role))
                checkOwn(role, made, files.certificate, [authority], files.authorities)
                checkKey(made, files.certificate, files.key)
                der = made.public_bytes(Encoding.DER)
                self.assertEqual("CN=me", judgePeer(role, [der], [authority]))
                levels = {each.level for each in inspect(files, role)}
                self.assertEqual({"ok"}, levels)

    def test_one_is_not_good_for_the_other_role(self) -> None:
        makeAuthority(self.places, "CA", days=1)
        for role, other in zip(ROLES, ("client", "server"), strict=True):
            purposes = makePeer(role, self.places, "me", days=1).extensions.get_extension_for_class(
                x509.ExtendedKeyUsage
            )
            self.assertEqual([SERVER if role == "server" else CLIENT], list(purposes.value), other)

    def test_hosts(self) -> None:
        makeAuthority(self.places, "CA", days=1)
        made = makePeer("server", self.places, "a.test", ["a.test", "::1", "10.0.0.1", "bücher.test"], days=1)
        for host in ("a.test", "::1", "10.0.0.1", "xn--bcher-kva.test"):
            checkHost(made, host)
        self.assertRaises(RemoteError, checkHost, made, "b.test")

    def test_what_is_no_host(self) -> None:
        makeAuthority(self.places, "CA", days=1)
        for host in ("", "a b", "http://a", "a.test/24", "a..b", "-", "x" * 64, "a\n"):
            with self.assertRaises(PKIError, msg=repr(host)) as raised:
                makePeer("server", self.places, "a", [host], days=1)
            self.assertIn("neither the name of a host nor an IP address", str(raised.exception))
        self.assertFalse(os.path.exists(self.places.files("server").key))

    def test_names(self) -> None:
        for name in ("", "x" * 65, "a\0b", "a\nb"):
            self.assertRaises(PKIError, makeAuthority, self.places, name, days=1)
        made = makeAuthority(self.places, "Zoë's", days=1)
        self.assertEqual("CN=Zoë's", dnOf(made))

    def test_keys_are_for_their_owner(self) -> None:
        before = os.umask(0)
        try:
            makeAuthority(self.places, "CA", days=1)
            for role in ROLES:
                makePeer(role, self.places, "me", days=1)
        finally:
            os.umask(before)
        self.assertEqual(0o600, self.modeOf(self.places.authorityKey))
        self.assertEqual(0o644, self.modeOf(self.places.authority))
        for role in ROLES:
            self.assertEqual(0o600, self.modeOf(self.places.files(role).key))
            self.assertEqual(0o644, self.modeOf(self.places.files(role).certificate))

    def test_nothing_is_overwritten_unless_told_to(self) -> None:
        old = makeAuthority(self.places, "CA", days=1)
        makePeer("client", self.places, "me", days=1)
        files = self.places.files("client")
        before = Path(files.certificate).read_bytes()
        with self.assertRaises(PKIError) as raised:
            makeAuthority(self.places, "CA", days=1)
        self.assertEqual(
            f"{self.places.authority} and {self.places.authorityKey} would be overwritten; --force does that",
            str(raised.exception),
        )
        os.unlink(files.key)
        self.assertRaises(PKIError, makePeer, "client", self.places, "me", days=1)
        self.assertEqual(before, Path(files.certificate).read_bytes())
        self.assertFalse(os.path.exists(files.key))
        self.assertNotEqual(old, makeAuthority(self.places, "CA", days=1, replace=True))
        makePeer("client", self.places, "me", days=1, replace=True)
        self.assertNotEqual(before, Path(files.certificate).read_bytes())

    def test_nothing_is_left_beside_them(self) -> None:
        makeAuthority(self.places, "CA", days=1)
        makePeer("server", self.places, "me", days=1)
        assert self.places.directory is not None
        self.assertEqual(
            ["cacert.pem", "cakey.pem", "servercert.pem", "serverkey.pem"],
            sorted(os.listdir(self.places.directory)),
        )

    def test_for_another_machine(self) -> None:
        authority = makeAuthority(self.places, "CA", days=1)
        there = Places(os.path.abspath(self.mktemp()))
        makePeer("client", there, "alice", days=1, authority=self.places)
        assert there.directory is not None
        self.assertEqual(
            ["cacert.pem", "clientcert.pem", "clientkey.pem"], sorted(os.listdir(there.directory))
        )
        self.assertEqual([authority], loadAuthorities(there.authority))
        makePeer("server", there, "a.test", ["a.test"], days=1, authority=self.places)

    def test_another_authority_that_is_there_already_stays(self) -> None:
        makeAuthority(self.places, "CA", days=1)
        there = Places(os.path.abspath(self.mktemp()))
        makeAuthority(there, "other", days=1)
        self.assertRaises(PKIError, makePeer, "client", there, "alice", days=1, authority=self.places)

    def test_one_of_several_authorities_of_a_file(self) -> None:
        authority = makeAuthority(self.places, "CA", days=1)
        there = Places(os.path.abspath(self.mktemp()))
        makeAuthority(there, "other", days=1)
        with open(there.authority, "ab") as file:
            file.write(authority.public_bytes(Encoding.PEM))
        makePeer("client", there, "alice", days=1, authority=self.places)
        self.assertEqual(2, len(loadAuthorities(there.authority)))

    def test_nothing_outlives_its_authority(self) -> None:
        authority = makeAuthority(self.places, "CA", days=3)
        made = makePeer("client", self.places, "me", days=365)
        self.assertEqual(authority.not_valid_after_utc, made.not_valid_after_utc)

    def test_how_long(self) -> None:
        makeAuthority(self.places, "CA", days=10**9)
        made = makePeer("client", self.places, "me", days=7)
        left = made.not_valid_after_utc - datetime.now(UTC)
        self.assertTrue(timedelta(days=6, hours=23) < left <= timedelta(days=7))
        self.assertTrue(made.not_valid_before_utc < datetime.now(UTC) - timedelta(minutes=55))

    def test_an_authority_that_cannot_sign(self) -> None:
        with self.assertRaises(PKIError) as raised:
            makePeer("client", self.places, "me", days=1)
        self.assertIn("make one with 'virnet pki init'", str(raised.exception))
        makeAuthority(self.places, "CA", days=1)
        stranger = issue(name="stranger")
        for path, content in (
            (self.places.authorityKey, stranger.keyPEM),
            (self.places.authorityKey, b"junk"),
            (self.places.authority, stranger.pem),
            (self.places.authority, issue(name="CA", ca=True, end=-HOUR).pem),
            (self.places.authority, b"junk"),
        ):
            Path(path).write_bytes(content)
            with self.assertRaises(PKIError) as raised:
                makePeer("client", self.places, "me", days=1)
            self.assertIn("this authority cannot sign: ", str(raised.exception))

    def test_an_authority_made_elsewhere(self) -> None:
        for kind in ("ec", "rsa", "ed25519"):
            authority = issue(name="CA", ca=True, key=kind)
            assert self.places.directory is not None
            write(Path(self.places.directory), [authority])
            Path(self.places.authorityKey).write_bytes(authority.keyPEM)
            made = makePeer("client", self.places, "me", days=1, replace=True)
            judgePeer("client", [made.public_bytes(Encoding.DER)], [authority.certificate])

    def test_places(self) -> None:
        system = Places(None)
        self.assertEqual("/etc/pki/CA/cacert.pem", system.authority)
        self.assertEqual("/etc/pki/CA/private/cakey.pem", system.authorityKey)
        self.assertEqual("/etc/pki/libvirt/private/serverkey.pem", system.files("server").key)
        self.assertEqual("/d/cakey.pem", Places("/d").authorityKey)
        self.assertEqual("/d/clientcert.pem", Places("/d").files("client").certificate)

    def test_default_places(self) -> None:
        self.patch(os, "geteuid", lambda: 0)
        self.assertEqual(Places(None), defaultPlaces())
        self.patch(os, "geteuid", lambda: 1000)
        self.patch(os, "environ", {**os.environ, "HOME": "/home/me"})
        self.assertEqual(Places("/home/me/.pki/libvirt"), defaultPlaces())


class CheckTests(SynchronousTestCase):
    """
    What is wrong, in plain words.
    """

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.authority = issue(name="CA", ca=True, end=300 * DAY)
        self.other = issue(name="other CA", ca=True)

    def good(self, role: Role = "server") -> Issued:
        return issue(self.authority, hosts=["a.test", "10.0.0.1"], end=200 * DAY)

    def look(
        self,
        role: Role = "server",
        *,
        authorities: Sequence[Issued] | None = None,
        leaf: Issued | None = None,
        revocations: x509.CertificateRevocationList | None = None,
        host: str | None = None,
    ) -> list[Finding]:
        pair = leaf or self.good()
        write(self.directory, authorities or [self.authority], revocations=revocations, **{role: pair})
        os.chmod(self.directory / f"{role}key.pem", 0o600)
        return self.inspect(role, host)

    def inspect(self, role: Role = "server", host: str | None = None) -> list[Finding]:
        return inspect(directoryFiles(str(self.directory), role), role, host=host)

    def wrong(self, findings: list[Finding]) -> list[tuple[str, str, str]]:
        """
        Level, file and text of what is not in order.
        """
        return [
            (each.level, os.path.basename(each.path), each.text) for each in findings if each.level != "ok"
        ]

    def test_all_in_order(self) -> None:
        for role in ROLES:
            findings = self.look(role)
            self.assertEqual(["ok", "ok", "ok"], [each.level for each in findings])
            self.assertEqual(
                [
                    f"CN=CA, until {self.authority.certificate.not_valid_after_utc:%Y-%m-%d}",
                    f"CN=peer, until {datetime.now(UTC) + 200 * DAY:%Y-%m-%d}",
                    f"the private key of {self.directory}/{role}cert.pem",
                ],
                [each.text for each in findings],
            )

    def test_nothing_there(self) -> None:
        self.assertEqual(
            [
                ("problem", "cacert.pem", "it does not exist"),
                ("problem", "servercert.pem", "it does not exist"),
                ("problem", "serverkey.pem", "it does not exist"),
            ],
            self.wrong(self.inspect()),
        )
        self.assertEqual(
            ["virnet pki init", "virnet pki server", "virnet pki server"],
            [each.advice for each in self.inspect()],
        )

    def test_advice_names_the_directory(self) -> None:
        files = directoryFiles(str(self.directory), "client")
        findings = inspect(files, "client", directory="/my files")
        self.assertEqual("virnet pki init --directory '/my files'", findings[0].advice)

    def test_damaged(self) -> None:
        self.look()
        for name in ("cacert.pem", "servercert.pem"):
            (self.directory / name).write_bytes(b"junk")
        text = "it is damaged, or not what its name says: no PEM can be read from it"
        self.assertEqual(
            [("problem", "cacert.pem", text), ("problem", "servercert.pem", text)], self.wrong(self.inspect())
        )

    def test_times(self) -> None:
        today = datetime.now(UTC)
        stale = issue(self.authority, end=-2 * DAY, start=-3 * DAY, hosts=["a.test"])
        self.assertEqual(
            ("problem", "servercert.pem", f"CN=peer has expired on {today - 2 * DAY:%Y-%m-%d}"),
            self.wrong(self.look(leaf=stale))[0],
        )
        early = issue(self.authority, start=DAY, end=90 * DAY, hosts=["a.test"])
        level, name, text = self.wrong(self.look(leaf=early))[0]
        self.assertEqual(("problem", "servercert.pem"), (level, name))
        self.assertTrue(text.startswith(f"CN=peer is not valid before {today + DAY:%Y-%m-%d}"), text)
        soon = issue(self.authority, end=5 * DAY, hosts=["a.test"])
        self.assertEqual(
            [("warning", "servercert.pem", f"CN=peer expires on {today + 5 * DAY:%Y-%m-%d}")],
            self.wrong(self.look(leaf=soon)),
        )
        authority = issue(name="CA", ca=True, end=-HOUR)
        wrong = self.wrong(
            self.look(leaf=issue(authority, hosts=["a"], end=90 * DAY), authorities=[authority])
        )
        self.assertEqual(("problem", "cacert.pem"), wrong[0][:2])

    def test_several_faults_of_one_certificate(self) -> None:
        leaf = issue(
            self.other,
            ca=True,
            usages=["key_agreement"],
            purposes=[CLIENT],
            purposesCritical=True,
            hosts=["a.test"],
            end=90 * DAY,
            key="rsa1024",
        )
        self.assertEqual(
            [
                ("warning", "its key of 1024 bits is weak"),
                (
                    "problem",
                    "it is the certificate of an authority (basic constraints CA:TRUE), not of a server",
                ),
                ("problem", "it may not sign (key usage digitalSignature), which TLS needs"),
                ("problem", "libvirt asks that it may encipher keys (key usage keyEncipherment)"),
                ("problem", "it is not made for a server (extended key usage serverAuth)"),
                (
                    "problem",
                    f"no authority of {self.directory}/cacert.pem vouches for it: "
                    "The certificate hasn't got a known issuer.",
                ),
            ],
            [(level, text) for level, _, text in self.wrong(self.look(leaf=leaf))],
        )

    def test_purposes_that_are_not_critical(self) -> None:
        for purpose in (CLIENT, ANY):
            leaf = issue(self.authority, purposes=[purpose], hosts=["a"], end=90 * DAY)
            wrong = self.wrong(self.look(leaf=leaf))
            self.assertEqual(["warning"], [level for level, _, _ in wrong])
            self.assertIn("that is not critical, so it is only logged", wrong[0][2])
        leaf = issue(self.authority, purposes=[EMAIL], purposesCritical=True, hosts=["a"], end=90 * DAY)
        self.assertEqual([], self.wrong(self.look(leaf=leaf)))

    def test_what_libvirt_refuses_is_a_problem_though_virnet_takes_it(self) -> None:
        for leaf in (
            issue(self.authority, usages=["digital_signature"], hosts=["a"], end=90 * DAY),
            issue(self.authority, purposes=[ANY], purposesCritical=True, hosts=["a"], end=90 * DAY),
        ):
            checkOwn("server", leaf.certificate, "c", [self.authority.certificate], "a")
            self.assertEqual(["problem"], [level for level, _, _ in self.wrong(self.look(leaf=leaf))])

    def test_authorities(self) -> None:
        silent = issue(name="silent", end=90 * DAY)
        texts = [text for _, _, text in self.wrong(self.look(authorities=[self.authority, silent]))]
        self.assertEqual(
            ["it does not say that it is the certificate of an authority (basic constraints CA:TRUE)"], texts
        )
        weak = issue(name="weak", ca=True, usages=["digital_signature"], usagesCritical=False, end=90 * DAY)
        texts = [text for _, _, text in self.wrong(self.look(authorities=[self.authority, weak]))]
        self.assertEqual(
            ["it may not sign certificates (key usage keyCertSign): nothing it has signed counts"], texts
        )

    def test_hosts(self) -> None:
        self.assertEqual([], self.wrong(self.look(host="a.test")))
        self.assertEqual([], self.wrong(self.look(host="10.0.0.1")))
        finding = [each for each in self.look(host="b.test") if each.level != "ok"][0]
        self.assertEqual(
            "it is for a.test, 10.0.0.1, not for b.test: clients that connect to b.test will refuse it",
            finding.text,
        )
        self.assertEqual(
            "virnet pki server --force --host a.test --host 10.0.0.1 --host b.test", finding.advice
        )
        leaf = issue(self.authority, name="a.test", end=90 * DAY)
        self.assertEqual(
            [("warning", "it names no hosts (subjectAltName), only a common name, which is no address's")],
            [(level, text) for level, _, text in self.wrong(self.look(leaf=leaf, host="a.test"))],
        )

    def test_a_client_needs_no_hosts(self) -> None:
        leaf = issue(self.authority, end=90 * DAY)
        self.assertEqual([], self.wrong(self.look("client", leaf=leaf, host="b.test")))

    def test_keys(self) -> None:
        self.look()
        path = self.directory / "serverkey.pem"
        path.chmod(0o644)
        self.assertEqual(
            [("problem", "serverkey.pem", "everybody on this machine may read the private key")],
            self.wrong(self.inspect()),
        )
        path.chmod(0o640)
        self.assertEqual([], self.wrong(self.inspect()))
        path.chmod(0o660)
        self.assertEqual(
            [("warning", "serverkey.pem", "its group may change the private key")], self.wrong(self.inspect())
        )
        path.chmod(0o600)
        path.write_bytes(issue(name="stranger").keyPEM)
        self.assertEqual(
            [
                (
                    "problem",
                    "serverkey.pem",
                    f"this private key is not the one of {self.directory}/servercert.pem",
                )
            ],
            self.wrong(self.inspect()),
        )
        path.write_bytes(b"junk")
        self.assertEqual(
            [("problem", "serverkey.pem", "no private key without a password can be read from it")],
            self.wrong(self.inspect()),
        )

    def test_revocations(self) -> None:
        leaf = self.good()
        self.assertEqual([], self.wrong(self.look(leaf=leaf, revocations=revoke(self.authority))))
        wrong = self.wrong(self.look(leaf=leaf, revocations=revoke(self.authority, leaf)))
        self.assertEqual(["problem"], [level for level, _, _ in wrong])
        self.assertIn("The certificate has been revoked.", wrong[0][2])
        stale = revoke(self.authority, start=-3 * DAY, end=-DAY)
        self.assertEqual(
            [("warning", "cacrl.pem")], [each[:2] for each in self.wrong(self.look(revocations=stale))]
        )
        foreign = revoke(self.other)
        self.assertEqual(
            [("warning", "cacrl.pem")], [each[:2] for each in self.wrong(self.look(revocations=foreign))]
        )

    def test_what_cannot_be_used_is_never_in_order(self) -> None:
        """
        Whatever the certificate, where L{checkOwn} refuses it there is a problem.
        """
        strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        usable = 0
        for role in ROLES:
            for keywords in (
                {},
                {"end": -HOUR},
                {"start": HOUR},
                {"ca": True},
                {"ca": False},
                {"usages": ["key_agreement"]},
                {"usages": ["key_agreement"], "usagesCritical": False},
                {"usages": ["digital_signature"], "key": "rsa"},
                {"purposes": [CLIENT], "purposesCritical": True},
                {"purposes": [SERVER], "purposesCritical": True},
                {"signedBy": keyOf("CN=stranger", "ec")},
                {"extensions": [(strange, True)]},
                {"key": "ed25519"},
            ):
                leaf = issue(self.authority, **{"end": 90 * DAY, "hosts": ["a"], **keywords})  # type: ignore[arg-type]
                problems = [each for each in self.look(role, leaf=leaf) if each.level == "problem"]
                try:
                    checkOwn(role, leaf.certificate, "c", [self.authority.certificate], "a")
                except RemoteError as e:
                    self.assertTrue(problems, f"{keywords}: {e.message}")
                else:
                    usable += 1
        self.assertTrue(usable)
