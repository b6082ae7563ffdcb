"""
Certificates judged: ours, a peer's, and whose they are.

What real libvirt makes of such certificates is in C{tests/interop/test_certificates.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import OpenSSL.crypto
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cryptography.x509.name import _ASN1Type as Kind
from cryptography.x509.oid import NameOID
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.pki import ANY, CLIENT, DAY, EMAIL, HOUR, SERVER, Issued, issue, revoke
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.limits import AUTHORITIES_MAX, CREDENTIAL_FILE_MAX
from virnet.security.certificates import (
    Role,
    checkHost,
    checkKey,
    checkOwn,
    dnOf,
    judgePeer,
    loadAuthorities,
    loadCertificate,
    loadRevocations,
    matchesDN,
)

#: An authority, and a certificate of it signed over SHA-1, which no library does any more.
SHA1 = b"""\
-----BEGIN CERTIFICATE-----
MIIBcTCCARegAwIBAgIUaN7PWhwjwf30TH1C6TMFMUBWsvQwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCQ0EwIBcNMjYxMTIyMTgxNjM2WhgPMjEyNjEwMjkxODE2MzZa
MA0xCzAJBgNVBAMMAkNBMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQjS34GhA
nJYfYV3Ix7IZbaUFU2tpuoUF56KV3Q9nOBVJqFd+y8Ti/UDvKhkodlv8Fcg3EXYL
FH7bhxEspRmQmKNTMFEwHQYDVR0OBBYEFBOcqaVdi3FXa5NOv0WSNLLa5dJaMB8G
A1UdIwQYMBaAFBOcqaVdi3FXa5NOv0WSNLLa5dJaMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDSAAwRQIhANWmTcsNDeSai1nJqOoVPDRn5HbbgPY+eR9QmLYO
QjkuAiAr83mktA1CJgv6UxO77rlz74Rv2MrgU5kPb6cCgUBtQQ==
-----END CERTIFICATE-----
-----BEGIN CERTIFICATE-----
MIIBAjCBqwIBAjAJBgcqhkjOPQQBMA0xCzAJBgNVBAMMAkNBMCAXDTI2MTEyMjE4
MTYzNloYDzIxMjYxMDI5MTgxNjM2WjAPMQ0wCwYDVQQDDAR3ZWFrMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEQjS34GhAnJYfYV3Ix7IZbaUFU2tpuoUF56KV3Q9n
OBVJqFd+y8Ti/UDvKhkodlv8Fcg3EXYLFH7bhxEspRmQmDAJBgcqhkjOPQQBA0cA
MEQCIEd7FzeKbJ29JvzinfXArqnSTRnfm62Hn8beYRVSUZ5gAiBpnuFW15L0Fhy+
MEzuazOMo9A7/ww1lvdtOn2bWLkRdA==
-----END CERTIFICATE-----
"""

SIGN = "digital_signature"
ENCIPHER = "key_encipherment"
AGREE = "key_agreement"


class CertificateTests(SynchronousTestCase):
    """
    With an authority, another one, and the warnings of the log.
    """

    def setUp(self) -> None:
        self.authority = issue(name="CA", ca=True)
        self.other = issue(name="other CA", ca=True)
        self.warnings: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event.get("log_namespace") == "virnet.security.certificates":
                self.warnings.append(event.get("text") or event["detail"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def assertOwnFails(self, text: str, role: Role, own: Issued | None, *authorities: Issued) -> None:
        trusted = [each.certificate for each in authorities or (self.authority,)]
        with self.assertRaises(RemoteError) as raised:
            checkOwn(role, own and own.certificate, "cert.pem", trusted, "ca.pem")
        self.assertEqual(text, raised.exception.message)
        self.assertEqual(ErrorNumber.SYSTEM_ERROR, raised.exception.code)
        self.assertEqual(ErrorDomain.RPC, raised.exception.domain)

    def assertOwnPasses(self, role: Role, own: Issued | None, *authorities: Issued) -> None:
        trusted = [each.certificate for each in authorities or (self.authority,)]
        checkOwn(role, own and own.certificate, "cert.pem", trusted, "ca.pem")

    def judge(self, role: Role, *chain: Issued, host: str | None = None) -> str:
        return judgePeer(role, [each.der for each in chain], [self.authority.certificate], host=host)

    def assertPeerFails(
        self, text: str, role: Role, *chain: Issued, revocations: x509.CertificateRevocationList | None = None
    ) -> None:
        with self.assertRaises(RemoteError) as raised:
            judgePeer(
                role,
                [each.der for each in chain],
                [self.authority.certificate],
                [] if revocations is None else [revocations],
            )
        self.assertEqual(text, raised.exception.message)


class OwnTests(CertificateTests):
    """
    Our own credentials, before they are used.
    """

    def test_R104_an_authority_has_to_say_that_it_is_one(self) -> None:
        silent = issue(name="silent")
        self.assertOwnFails(
            "The certificate ca.pem is missing basic constraints for a CA", "server", None, silent
        )
        denying = issue(name="denying", ca=False)
        self.assertOwnFails(
            "The certificate ca.pem basic constraints do not show a CA", "server", None, denying
        )

    def test_every_authority_of_the_file_is_judged(self) -> None:
        silent = issue(name="silent")
        self.assertOwnFails(
            "The certificate ca.pem is missing basic constraints for a CA",
            "client",
            issue(self.authority),
            self.authority,
            silent,
        )

    def test_R105_expired(self) -> None:
        stale = issue(self.authority, end=-HOUR)
        self.assertOwnFails("The server certificate cert.pem has expired", "server", stale)
        self.assertOwnFails("The client certificate cert.pem has expired", "client", stale)
        authority = issue(name="CA", ca=True, end=-HOUR)
        self.assertOwnFails("The CA certificate ca.pem has expired", "client", None, authority)

    def test_R105_not_yet_active(self) -> None:
        early = issue(self.authority, start=HOUR)
        self.assertOwnFails("The server certificate cert.pem is not yet active", "server", early)
        self.assertOwnFails("The client certificate cert.pem is not yet active", "client", early)
        authority = issue(name="CA", ca=True, start=HOUR)
        self.assertOwnFails("The CA certificate ca.pem is not yet active", "client", None, authority)

    def test_the_clock_can_be_given(self) -> None:
        stale = issue(self.authority, end=-HOUR)
        trusted = [self.authority.certificate]
        checkOwn("client", stale.certificate, "c", trusted, "a", now=datetime.now(UTC) - 2 * HOUR)

    def test_a_certificate_for_use_is_no_authority(self) -> None:
        text = "The certificate cert.pem basic constraints show a CA, but we need one for a {}"
        leaf = issue(self.authority, ca=True)
        self.assertOwnFails(text.format("server"), "server", leaf)
        self.assertOwnFails(text.format("client"), "client", leaf)
        self.assertOwnPasses("client", issue(self.authority, ca=False))

    def test_R106_authority_that_may_not_sign_certificates(self) -> None:
        authority = issue(name="CA", ca=True, usages=[SIGN])
        text = "Certificate ca.pem usage does not permit certificate signing"
        self.assertOwnFails(text, "client", None, authority)
        authority = issue(name="CA", ca=True, usages=[SIGN], usagesCritical=False)
        self.assertOwnPasses("client", None, authority)
        self.assertEqual([text], self.warnings)

    def test_R106_usage_without_signatures(self) -> None:
        text = "Certificate cert.pem usage does not permit digital signature"
        self.assertOwnFails(text, "client", issue(self.authority, usages=[ENCIPHER], key="rsa"))
        self.assertOwnPasses(
            "client", issue(self.authority, usages=[ENCIPHER], usagesCritical=False, key="rsa")
        )
        self.assertEqual([text], self.warnings)

    def test_R106_usage_without_encipherment(self) -> None:
        text = "Certificate cert.pem usage does not permit key encipherment"
        self.assertOwnFails(text, "server", issue(self.authority, usages=[SIGN], key="rsa"))
        self.assertOwnPasses("server", issue(self.authority, usages=[SIGN], usagesCritical=False, key="rsa"))
        self.assertEqual([text], self.warnings)

    def test_an_elliptic_curve_need_not_encipher(self) -> None:
        for kind in ("ec", "ed25519"):
            self.assertOwnPasses("server", issue(self.authority, usages=[SIGN], key=kind))
        self.assertEqual([], self.warnings)

    def test_R106_purpose_of_the_other_role(self) -> None:
        other: list[tuple[Role, x509.ObjectIdentifier]] = [("client", SERVER), ("server", CLIENT)]
        for role, purpose in other:
            text = f"Certificate cert.pem purpose does not allow use for with a TLS {role}"
            leaf = issue(self.authority, purposes=[purpose], purposesCritical=True)
            self.assertOwnFails(text, role, leaf)
            self.assertOwnPasses(role, issue(self.authority, purposes=[purpose]))
            self.assertEqual(text, self.warnings[-1])

    def test_R107_no_usage_and_no_purpose_permit_everything(self) -> None:
        leaf = issue(self.authority)
        self.assertOwnPasses("client", leaf)
        self.assertOwnPasses("server", leaf)
        self.assertEqual([], self.warnings)

    def test_R108_one_of_several_purposes_is_enough(self) -> None:
        leaf = issue(self.authority, purposes=[EMAIL, SERVER, CLIENT], purposesCritical=True)
        self.assertOwnPasses("client", leaf)
        self.assertOwnPasses("server", leaf)
        self.assertEqual([], self.warnings)

    def test_any_purpose_permits_both_roles(self) -> None:
        for purposes in ([ANY], [SERVER, ANY], [CLIENT, ANY]):
            leaf = issue(self.authority, purposes=purposes, purposesCritical=True)
            self.assertOwnPasses("client", leaf)
            self.assertOwnPasses("server", leaf)

    def test_a_purpose_of_no_role_permits_both(self) -> None:
        leaf = issue(self.authority, purposes=[EMAIL], purposesCritical=True)
        self.assertOwnPasses("client", leaf)
        self.assertOwnPasses("server", leaf)

    def test_R109_not_signed_by_the_authority(self) -> None:
        text = "Our own certificate cert.pem failed validation against ca.pem: "
        unknown = text + "The certificate hasn't got a known issuer."
        self.assertOwnFails(unknown, "server", issue(self.other))
        self.assertOwnFails(unknown, "client", issue())
        forged = issue(self.authority, signedBy=self.other.key)
        self.assertOwnFails(text + "The certificate is not trusted.", "client", forged)

    def test_an_authority_that_may_not_sign_vouches_for_nobody(self) -> None:
        authority = issue(name="CA", ca=True, usages=[SIGN], usagesCritical=False)
        self.assertOwnFails(
            "Our own certificate cert.pem failed validation against ca.pem: The certificate is not trusted.",
            "client",
            issue(authority),
            authority,
        )

    def test_intermediates_belong_into_the_ca_file(self) -> None:
        between = issue(self.authority, name="between", ca=True)
        leaf = issue(between)
        self.assertOwnPasses("server", leaf, self.authority, between)
        self.assertOwnFails(
            "Our own certificate cert.pem failed validation against ca.pem: "
            "The certificate hasn't got a known issuer.",
            "server",
            leaf,
        )

    def test_forgeable_signature(self) -> None:
        authority, leaf = x509.load_pem_x509_certificates(SHA1)
        with self.assertRaises(RemoteError) as raised:
            checkOwn("client", leaf, "c.pem", [authority], "a.pem", now=datetime(2030, 1, 1, tzinfo=UTC))
        self.assertEqual(
            "Our own certificate c.pem failed validation against a.pem: "
            "The certificate uses an insecure algorithm",
            raised.exception.message,
        )

    def test_what_is_not_there_is_not_judged(self) -> None:
        checkOwn("client", None, "cert.pem", [], "ca.pem")
        checkOwn("client", issue(self.other).certificate, "cert.pem", [], "ca.pem")


class PeerTests(CertificateTests):
    """
    R110: what a peer has shown in a handshake is judged like our own.
    """

    def test_R110_good_ones(self) -> None:
        self.assertEqual("CN=peer", self.judge("client", issue(self.authority, purposes=[CLIENT])))
        self.assertEqual("CN=peer", self.judge("server", issue(self.authority, purposes=[SERVER])))

    def test_R110_times(self) -> None:
        stale, early = issue(self.authority, end=-HOUR), issue(self.authority, start=HOUR)
        self.assertPeerFails("The client certificate [session] has expired", "client", stale)
        self.assertPeerFails("The server certificate [session] is not yet active", "server", early)
        between = issue(self.authority, name="between", ca=True, end=-HOUR)
        self.assertPeerFails("The CA certificate [session] has expired", "server", issue(between), between)

    def test_R110_kind_usage_and_purpose(self) -> None:
        self.assertPeerFails(
            "The certificate [session] basic constraints show a CA, but we need one for a client",
            "client",
            issue(self.authority, ca=True),
        )
        self.assertPeerFails(
            "Certificate [session] usage does not permit digital signature",
            "client",
            issue(self.authority, usages=[ENCIPHER]),
        )
        self.assertPeerFails(
            "Certificate [session] usage does not permit key encipherment",
            "client",
            issue(self.authority, usages=[SIGN], key="rsa"),
        )
        self.assertPeerFails(
            "Certificate [session] purpose does not allow use for with a TLS server",
            "server",
            issue(self.authority, purposes=[CLIENT], purposesCritical=True),
        )

    def test_R106_R110_what_is_not_critical_is_a_warning(self) -> None:
        leaf = issue(self.authority, usages=[AGREE], usagesCritical=False, purposes=[SERVER], key="rsa")
        self.assertEqual("CN=peer", self.judge("client", leaf))
        self.assertEqual(
            [
                "Certificate [session] usage does not permit digital signature",
                "Certificate [session] usage does not permit key encipherment",
                "Certificate [session] purpose does not allow use for with a TLS client",
            ],
            self.warnings,
        )

    def test_R109_R110_issuer(self) -> None:
        unknown = "Certificate failed validation: The certificate hasn't got a known issuer."
        self.assertPeerFails(unknown, "client", issue(self.other))
        self.assertPeerFails(unknown, "client", issue(self.other), self.other)
        self.assertPeerFails(unknown, "client", issue())
        forged = issue(self.authority, signedBy=self.other.key)
        self.assertPeerFails(
            "Certificate failed validation: The certificate is not trusted.", "client", forged
        )

    def test_no_authorities_vouch_for_nobody(self) -> None:
        with self.assertRaises(RemoteError):
            judgePeer("client", [issue(self.authority).der], [])

    def test_an_intermediate_may_come_from_the_peer(self) -> None:
        between = issue(self.authority, name="between", ca=True)
        leaf = issue(between)
        self.assertEqual("CN=peer", self.judge("client", leaf, between))
        self.assertEqual("CN=peer", self.judge("client", leaf, self.authority, between))

    def test_an_intermediate_is_trusted_in_its_own_right(self) -> None:
        between = issue(self.authority, name="between", ca=True)
        self.assertEqual("CN=peer", judgePeer("client", [issue(between).der], [between.certificate]))

    def test_an_intermediate_that_is_no_authority(self) -> None:
        for between in (
            issue(self.authority, name="between"),
            issue(self.authority, name="between", ca=False),
            issue(self.authority, name="between", ca=True, usages=[SIGN], usagesCritical=False),
        ):
            self.assertPeerFails(
                "Certificate failed validation: The certificate is not trusted.",
                "client",
                issue(between),
                between,
            )

    def test_revoked(self) -> None:
        text = "Certificate failed validation: The certificate has been revoked."
        leaf, spared = issue(self.authority), issue(self.authority)
        self.assertPeerFails(text, "client", leaf, revocations=revoke(self.authority, spared, leaf))
        trusted = [self.authority.certificate]
        judgePeer("client", [spared.der], trusted, [revoke(self.authority, leaf)])

    def test_a_list_counts_whatever_its_age(self) -> None:
        text = "Certificate failed validation: The certificate has been revoked."
        leaf = issue(self.authority)
        old = revoke(self.authority, leaf, start=-3 * DAY, end=-DAY)
        self.assertPeerFails(text, "client", leaf, revocations=old)
        early = revoke(self.authority, leaf, start=HOUR)
        self.assertPeerFails(text, "client", leaf, revocations=early)
        self.assertEqual(
            "CN=peer", judgePeer("client", [issue(self.authority).der], [self.authority.certificate], [old])
        )

    def test_a_list_of_another_authority_does_not_count(self) -> None:
        leaf = issue(self.authority)
        foreign = revoke(self.other, leaf)
        judgePeer("client", [leaf.der], [self.authority.certificate], [foreign])

    def test_revoked_intermediate(self) -> None:
        text = "Certificate failed validation: The certificate has been revoked."
        between = issue(self.authority, name="between", ca=True)
        leaf = issue(between)
        revocations = revoke(self.authority, between)
        self.assertPeerFails(text, "client", leaf, between, revocations=revocations)
        # Even where the CA file has it, unlike in GnuTLS.
        trusted = [self.authority.certificate, between.certificate]
        self.assertRaises(RemoteError, judgePeer, "client", [leaf.der], trusted, [revocations])

    def test_forgeable_signature(self) -> None:
        authority, leaf = x509.load_pem_x509_certificates(SHA1)
        then = datetime(2030, 1, 1, tzinfo=UTC)
        chain = [leaf.public_bytes(Encoding.DER)]
        with self.assertRaises(RemoteError) as raised:
            judgePeer("client", chain, [authority], now=then)
        self.assertEqual(
            "Certificate failed validation: The certificate uses an insecure algorithm",
            raised.exception.message,
        )
        # How a certificate was signed does not matter if it is trusted itself.
        self.assertEqual("CN=weak", judgePeer("client", chain, [leaf], now=then))

    def test_unknown_critical_extension(self) -> None:
        strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        self.judge("client", issue(self.authority, extensions=[(strange, False)]))
        self.assertPeerFails(
            "Certificate failed validation: The certificate is not trusted.",
            "client",
            issue(self.authority, extensions=[(strange, True)]),
        )

    def test_no_certificate(self) -> None:
        self.assertPeerFails("Unable to verify TLS peer: No certificate was found.", "client")

    def test_garbage(self) -> None:
        trusted = [self.authority.certificate]
        good = issue(self.authority).der
        for chain in ([b""], [b"\x30"], [b"\x30\x84" + b"\xff" * 4], [good[:-1]], [good, b"junk"]):
            with self.assertRaises(RemoteError) as raised:
                judgePeer("client", chain, trusted)
            self.assertIn("Unable to load certificate", raised.exception.message)

    def test_every_cut_and_flip_of_a_certificate_is_refused_in_order(self) -> None:
        """
        Whatever the bytes, the answer is a verdict.
        """
        trusted = [self.authority.certificate]
        leaf = issue(self.authority, hosts=["a.test"], usages=[SIGN], purposes=[CLIENT])
        for index in range(0, len(leaf.der), 3):
            changed = bytearray(leaf.der)
            changed[index] ^= 0x15
            self.assertRaises(RemoteError, judgePeer, "client", [bytes(changed)], trusted)
            self.assertRaises(RemoteError, judgePeer, "client", [leaf.der[:index]], trusted)

    def test_a_refusal_leaves_nothing_behind_in_the_library(self) -> None:
        """
        OpenSSL keeps errors until somebody asks, and whoever asks next, for another connection, gets them.
        """
        forged = issue(self.authority, signedBy=self.other.key)
        with self.assertRaises(OpenSSL.crypto.Error) as before:
            OpenSSL.crypto.load_certificate(OpenSSL.crypto.FILETYPE_ASN1, b"")
        self.assertRaises(RemoteError, self.judge, "client", forged)
        with self.assertRaises(OpenSSL.crypto.Error) as after:
            OpenSSL.crypto.load_certificate(OpenSSL.crypto.FILETYPE_ASN1, b"")
        self.assertEqual(before.exception.args, after.exception.args)


class WantedTests(CertificateTests):
    """
    Is a good certificate that of somebody who is wanted?
    """

    def test_R120_list_of_allowed_names(self) -> None:
        chain = [issue(self.authority, name="alice").der]
        trusted = [self.authority.certificate]
        self.assertEqual("CN=alice", judgePeer("client", chain, trusted, patterns=["CN=bob", "CN=a*"]))
        for patterns in (["CN=bob"], []):
            with self.assertRaises(RemoteError) as raised:
                judgePeer("client", chain, trusted, patterns=patterns)
            self.assertEqual(
                "Client's Distinguished Name is not on the list of allowed clients (tls_allowed_dn_list):"
                " CN=alice",
                raised.exception.message,
            )

    def test_R121_the_host_is_judged_with_the_rest(self) -> None:
        leaf = issue(self.authority, name="a.test", hosts=["b.test"])
        self.assertEqual("CN=a.test", self.judge("server", leaf, host="b.test"))
        with self.assertRaises(RemoteError) as raised:
            self.judge("server", leaf, host="a.test")
        self.assertEqual(ErrorNumber.RPC, raised.exception.code)
        self.assertEqual(
            "Certificate [session] owner does not match the hostname a.test", raised.exception.message
        )


class HostTests(SynchronousTestCase):
    """
    Is a server the one that was asked for? Every line is what GnuTLS says as well, unless it says otherwise.
    """

    def matches(
        self, host: str, name: str | x509.Name = "x", hosts: list[str | x509.GeneralName] | None = None
    ) -> bool:
        try:
            checkHost(issue(name=name, hosts=hosts).certificate, host)
        except RemoteError:
            return False
        return True

    def test_names(self) -> None:
        self.assertTrue(self.matches("a.test", hosts=["b.test", "a.test"]))
        self.assertTrue(self.matches("A.Test", hosts=["a.tesT"]))
        self.assertTrue(self.matches("localhost", hosts=["localhost"]))
        self.assertFalse(self.matches("a.test", hosts=["b.test"]))
        self.assertFalse(self.matches("a.test", hosts=["a.test.test"]))
        self.assertFalse(self.matches("b.a.test", hosts=["a.test"]))

    def test_addresses(self) -> None:
        self.assertTrue(self.matches("127.0.0.1", hosts=["127.0.0.1"]))
        self.assertTrue(self.matches("::1", hosts=["::1"]))
        self.assertTrue(self.matches("0:0:0:0:0:0:0:1", hosts=["::1"]))
        self.assertFalse(self.matches("127.0.0.2", hosts=["127.0.0.1"]))

    def test_an_address_as_a_name_does_not_count_and_does_no_harm(self) -> None:
        name = x509.DNSName("127.0.0.1")
        self.assertFalse(self.matches("127.0.0.1", hosts=[name]))
        self.assertTrue(self.matches("127.0.0.1", hosts=[name, "127.0.0.1"]))

    def test_wildcards(self) -> None:
        self.assertTrue(self.matches("a.b.test", hosts=["*.b.test"]))
        self.assertFalse(self.matches("b.test", hosts=["*.b.test"]))
        self.assertFalse(self.matches("a.a.b.test", hosts=["*.b.test"]))
        self.assertFalse(self.matches("a", hosts=[x509.DNSName("*")]))
        self.assertFalse(self.matches("a.b.test", hosts=["a.*.test"]))

    def test_a_wildcard_for_a_whole_top_level_does_not_count(self) -> None:
        self.assertFalse(self.matches("a.test", hosts=["*.test"]))

    def test_common_name_where_there_is_nothing_else(self) -> None:
        self.assertTrue(self.matches("a.test", name="a.test"))
        self.assertTrue(self.matches("A.TEST", name="a.test"))
        self.assertTrue(self.matches("b.a.test", name="*.a.test"))
        self.assertTrue(self.matches("a.test", name="a.test", hosts=[x509.RFC822Name("a@b.test")]))
        self.assertFalse(self.matches("a.test", name="b.test"))

    def test_R121_common_name_beside_alternatives_does_not_count(self) -> None:
        for alternative in (
            x509.DNSName("b.test"),
            x509.UniformResourceIdentifier("http://a.test"),
            "127.0.0.1",
        ):
            self.assertFalse(self.matches("a.test", name="a.test", hosts=[alternative]))

    def test_common_name_is_never_an_address(self) -> None:
        self.assertFalse(self.matches("127.0.0.1", name="127.0.0.1"))
        self.assertFalse(self.matches("::1", name="::1"))

    def test_one_common_name_or_none(self) -> None:
        pair = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in ("a.test", "b.test")])
        self.assertFalse(self.matches("a.test", name=pair))
        self.assertFalse(self.matches("b.test", name=pair))
        nothing = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "a.test")])
        self.assertFalse(self.matches("a.test", name=nothing))

    def test_what_is_no_host(self) -> None:
        for host in ("", ".", "a b", "*", "*.b.test", "a\0.test", "[::1]"):
            self.assertFalse(self.matches(host, hosts=["*.b.test", "::1"]), host)

    def test_international_names(self) -> None:
        self.assertTrue(self.matches("bücher.test", hosts=["xn--bcher-kva.test"]))
        self.assertTrue(self.matches("xn--bcher-kva.test", hosts=["xn--bcher-kva.test"]))


class NameTests(SynchronousTestCase):
    """
    Distinguished names as GnuTLS prints them, and lists of them.
    """

    def dn(self, *parts: tuple[x509.ObjectIdentifier, str] | tuple[x509.ObjectIdentifier, str, Kind]) -> str:
        name = x509.Name([x509.NameAttribute(*part) for part in parts])
        return dnOf(issue(name=name).certificate)

    def test_order_is_the_certificates(self) -> None:
        self.assertEqual(
            "C=GB,ST=London,L=London,O=Red Hat,CN=client1",
            self.dn(
                (NameOID.COUNTRY_NAME, "GB"),
                (NameOID.STATE_OR_PROVINCE_NAME, "London"),
                (NameOID.LOCALITY_NAME, "London"),
                (NameOID.ORGANIZATION_NAME, "Red Hat"),
                (NameOID.COMMON_NAME, "client1"),
            ),
        )

    def test_attributes_of_one_part(self) -> None:
        part = x509.RelativeDistinguishedName(
            [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.USER_ID, "u")]
        )
        self.assertEqual("CN=a+UID=u", dnOf(issue(name=x509.Name([part])).certificate))

    def test_escapes(self) -> None:
        for text, escaped in (
            ('a,b+c"d\\e<f>g;h=i#j*k', 'a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h=i#j*k'),
            (" a  b ", "\\ a  b\\ "),
            ("#a", "\\#a"),
            (" ", "\\ "),
            ("Zoë", "Zoë"),
        ):
            self.assertEqual(f"CN={escaped}", self.dn((NameOID.COMMON_NAME, text)))

    def test_names_of_attributes(self) -> None:
        self.assertEqual(
            "DC=org,DC=ex\\,,EMAIL=a@b,serialNumber=1",
            self.dn(
                (NameOID.DOMAIN_COMPONENT, "org"),
                (NameOID.DOMAIN_COMPONENT, "ex,"),
                (NameOID.EMAIL_ADDRESS, "a@b"),
                (NameOID.SERIAL_NUMBER, "1"),
            ),
        )

    def test_what_is_no_text_is_shown_in_hexadecimal(self) -> None:
        self.assertEqual("CN=#0c03610062", self.dn((NameOID.COMMON_NAME, "a\0b")))
        self.assertEqual("1.2.3.4=#0c026869", self.dn((x509.ObjectIdentifier("1.2.3.4"), "hi")))
        self.assertEqual("CN=#1a035a6f65", self.dn((NameOID.COMMON_NAME, "Zoe", Kind.VisibleString)))
        long = self.dn((x509.ObjectIdentifier("1.2.3.4"), "x" * 300))
        self.assertEqual("1.2.3.4=#0c82012c" + "78" * 300, long)

    def test_R120_patterns(self) -> None:
        name = "C=GB,O=Red Hat,CN=client1"
        for pattern in (name, "*", "C=GB,*,CN=client?", "C=GB*", "*CN=client1", "?=GB,O=Red*client1"):
            self.assertTrue(matchesDN([pattern], name), pattern)
        for pattern in (
            "",
            "C=GB",
            "CN=client1",
            "c=gb*",
            "*CN=client1?",
            "*CN=client[0-9]",
            "*CN=client[1]",
        ):
            self.assertFalse(matchesDN([pattern], name), pattern)
        self.assertTrue(matchesDN(["CN=client[0-9]"], "CN=client[0-9]"))
        self.assertTrue(matchesDN(["CN=a]*"], "CN=a]b"))
        self.assertTrue(matchesDN(["no", "*"], name))
        self.assertFalse(matchesDN(["*,O=ACME"], r"O=Other,CN=x\,O=ACME"))
        self.assertTrue(matchesDN([r"*,CN=x\,O=ACME"], r"O=Other,CN=x\,O=ACME"))

    def test_R120_an_empty_list_matches_nobody(self) -> None:
        self.assertFalse(matchesDN([], "CN=a"))

    def test_a_pattern_of_many_stars_takes_no_time(self) -> None:
        self.assertFalse(matchesDN(["*a" * 50 + "b"], "a" * 5000))


class FileTests(CertificateTests):
    """
    What is read, and what of it is refused.
    """

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def file(self, *parts: bytes) -> Path:
        path = self.directory / "file.pem"
        path.write_bytes(b"".join(parts))
        return path

    def assertFails(self, text: str, load: Callable[..., object], *arguments: object) -> RemoteError:
        with self.assertRaises(RemoteError) as raised:
            load(*arguments)
        error: RemoteError = raised.exception
        self.assertEqual(text, error.message)
        self.assertEqual(ErrorNumber.SYSTEM_ERROR, error.code)
        return error

    def test_authorities(self) -> None:
        path = self.file(b"Ours:\n", self.authority.pem, b"and theirs\n", self.other.pem)
        self.assertEqual([self.authority.certificate, self.other.certificate], loadAuthorities(path))

    def test_the_first_certificate_is_ours(self) -> None:
        leaf = issue(self.authority)
        path = self.file(leaf.keyPEM, leaf.pem, self.authority.pem)
        self.assertEqual(leaf.certificate, loadCertificate(path, "server"))

    def test_missing(self) -> None:
        path = self.directory / "absent.pem"
        error = self.assertFails(
            f"Cannot read CA certificate '{path}': No such file or directory", loadAuthorities, path
        )
        self.assertEqual(2, error.int1)
        self.assertFails(
            f"Cannot read certificate '{path}': No such file or directory", loadCertificate, path, "server"
        )
        leaf = issue(self.authority)
        self.assertFails(
            f"Cannot read private key '{path}': No such file or directory",
            checkKey,
            leaf.certificate,
            "cert.pem",
            path,
        )

    def test_a_missing_revocation_list_is_none(self) -> None:
        self.assertEqual([], loadRevocations(self.directory / "absent.pem"))
        self.assertFails(
            f"Cannot read CA revocation list '{self.directory}': Is a directory",
            loadRevocations,
            self.directory,
        )

    def test_not_a_certificate(self) -> None:
        leaf = issue(self.authority)
        for content in (b"", b"junk", leaf.keyPEM, leaf.pem[:200], leaf.pem.replace(b"M", b"A", 1)):
            path = self.file(content)
            self.assertFails(f"Unable to import CA certificate list {path}", loadAuthorities, path)
            self.assertFails(f"Unable to import server certificate {path}", loadCertificate, path, "server")
            self.assertFails(f"Unable to import client certificate {path}", loadCertificate, path, "client")

    def test_at_most_so_many_authorities(self) -> None:
        self.assertEqual(
            AUTHORITIES_MAX, len(loadAuthorities(self.file(self.authority.pem * AUTHORITIES_MAX)))
        )
        path = self.file(self.authority.pem * (AUTHORITIES_MAX + 1))
        self.assertFails(f"Unable to import CA certificate list {path}", loadAuthorities, path)

    def test_at_most_so_many_bytes(self) -> None:
        pem = self.authority.pem
        padding = b"#" * (CREDENTIAL_FILE_MAX - len(pem) - 1) + b"\n"
        self.assertEqual(1, len(loadAuthorities(self.file(padding, pem))))
        path = self.file(b"#", padding, pem)
        self.assertFails(
            f"Cannot read CA certificate '{path}': it has more than {CREDENTIAL_FILE_MAX} bytes",
            loadAuthorities,
            path,
        )

    def test_an_endless_file_is_not_read_to_its_end(self) -> None:
        self.assertRaises(RemoteError, loadAuthorities, "/dev/zero")

    def test_revocation_lists(self) -> None:
        leaf = issue(self.authority)
        lists = [revoke(self.authority, leaf), revoke(self.other)]
        path = self.file(*(each.public_bytes(Encoding.PEM) for each in lists))
        self.assertEqual(lists, loadRevocations(path))

    def test_not_a_revocation_list(self) -> None:
        block = revoke(self.authority).public_bytes(Encoding.PEM)
        for content in (b"", self.authority.pem, block.replace(b"M", b"A", 1)):
            path = self.file(content)
            with self.assertRaises(RemoteError) as raised:
                loadRevocations(path)
            self.assertIn(
                f"Unable to set x509 certificate revocation list: {path}: ", raised.exception.message
            )

    def test_key_of_the_certificate(self) -> None:
        for kind in ("ec", "rsa", "ed25519"):
            leaf = issue(self.authority, key=kind)
            checkKey(leaf.certificate, "cert.pem", self.file(leaf.keyPEM))

    def test_R103_key_of_another_certificate(self) -> None:
        leaf, stranger = issue(self.authority), issue(self.authority, name="stranger")
        path = self.file(stranger.keyPEM)
        self.assertFails(
            f"Unable to set x509 key and certificate: {path}, cert.pem:"
            " The certificate and the given key do not match.",
            checkKey,
            leaf.certificate,
            "cert.pem",
            path,
        )

    def test_not_a_key(self) -> None:
        leaf = issue(self.authority)
        locked = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        for content in (b"", b"junk", leaf.pem, leaf.keyPEM[:100], locked):
            path = self.file(content)
            with self.assertRaises(RemoteError) as raised:
                checkKey(leaf.certificate, "cert.pem", path)
            self.assertIn(
                f"Unable to set x509 key and certificate: {path}, cert.pem: ", raised.exception.message
            )
