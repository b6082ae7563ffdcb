"""
Names of certificates as GnuTLS itself prints and matches them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.name import _ASN1Type as Kind
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.pki import Issued, issue
from virnet.errors import RemoteError
from virnet.security.certificates import checkHost, dnOf

#: With every character that is special somewhere.
ALPHABET = st.one_of(st.sampled_from(' ,+"\\<>;=#\0\n/'), st.characters(exclude_categories=["Cs"]))

ATTRIBUTES = [
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.USER_ID,
    NameOID.TITLE,
    NameOID.POSTAL_ADDRESS,
    x509.ObjectIdentifier("1.2.3.4"),
]

PARTS = st.lists(
    st.lists(st.tuples(st.sampled_from(ATTRIBUTES), st.text(ALPHABET, min_size=1)), min_size=1, max_size=2),
    min_size=1,
    max_size=4,
)


def named(parts: Sequence[Sequence[tuple[x509.ObjectIdentifier, str]]]) -> Issued:
    """
    @param parts: of a name; attributes and values of each.
    """
    return issue(
        name=x509.Name(
            [
                x509.RelativeDistinguishedName([x509.NameAttribute(*each, _validate=False) for each in part])
                for part in parts
            ]
        )
    )


class _Datum(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_uint)]


class GnuTLSTests(SynchronousTestCase):
    """
    Names as GnuTLS itself prints and matches them.
    """

    def setUp(self) -> None:
        try:
            self.library = ctypes.CDLL("libgnutls.so.30")
        except OSError as e:
            if os.environ.get("CI"):
                raise self.failureException(f"{e}, and in CI nothing may be missing") from e
            raise SkipTest(str(e)) from e

    def certificate(self, issued: Issued) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self.library.gnutls_x509_crt_init(ctypes.byref(handle))
        self.addCleanup(self.library.gnutls_x509_crt_deinit, handle)
        data = _Datum(issued.der, len(issued.der))
        self.assertEqual(0, self.library.gnutls_x509_crt_import(handle, ctypes.byref(data), 0))
        return handle

    def dn(self, issued: Issued) -> str:
        size = ctypes.c_size_t(16384)
        text = ctypes.create_string_buffer(size.value)
        self.assertEqual(
            0, self.library.gnutls_x509_crt_get_dn(self.certificate(issued), text, ctypes.byref(size))
        )
        return text.value.decode()

    @given(PARTS)
    @settings(deadline=None, max_examples=300)
    def test_distinguished_names(self, parts: list[list[tuple[x509.ObjectIdentifier, str]]]) -> None:
        issued = named([list(dict.fromkeys(part)) for part in parts])
        self.assertEqual(self.dn(issued), dnOf(issued.certificate))

    def test_every_attribute_as_every_kind_of_string(self) -> None:
        # Of a UniversalString GnuTLS prints the four bytes of each character.
        kinds = [
            Kind.UTF8String,
            Kind.PrintableString,
            Kind.T61String,
            Kind.BMPString,
            Kind.IA5String,
            Kind.NumericString,
            Kind.VisibleString,
        ]
        for attribute in vars(NameOID).values():
            if isinstance(attribute, x509.ObjectIdentifier) and attribute != NameOID.X500_UNIQUE_IDENTIFIER:
                for kind in kinds:
                    name = x509.Name([x509.NameAttribute(attribute, "GB", kind)])
                    issued = issue(name=name)
                    self.assertEqual(self.dn(issued), dnOf(issued.certificate), (attribute, kind))

    def test_hosts(self) -> None:
        names: list[str | x509.GeneralName] = [
            *"a.test *.test *.a.test a.*.test b*.a.test *b.a.test 127.0.0.1 ::1 localhost".split(),
            "xn--bcher-kva.test",
            x509.DNSName("*"),
            x509.DNSName("127.0.0.1"),
            x509.DNSName("::1"),
            x509.RFC822Name("a@a.test"),
            x509.UniformResourceIdentifier("http://a.test"),
            x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.test")])),
        ]
        hosts = (
            "a.test A.TEST b.a.test bb.a.test c.b.a.test test localhost 127.0.0.1 127.0.0.2 ::1 0::1 a.test. "
            "xn--bcher-kva.test bücher.test a_b"
        ).split()
        lists: list[list[str | x509.GeneralName] | None] = [None, [], *([name] for name in names)]
        different = set()
        for alternatives in lists:
            for common in ("a.test", "*.a.test", "127.0.0.1", "localhost"):
                issued = issue(name=common, hosts=alternatives)
                handle = self.certificate(issued)
                for host in hosts:
                    theirs = bool(self.library.gnutls_x509_crt_check_hostname(handle, host.encode()))
                    try:
                        checkHost(issued.certificate, host)
                        ours = True
                    except RemoteError:
                        ours = False
                    if ours != theirs:
                        shown = common if alternatives is None else str(alternatives)
                        different.add((shown, host, ours))
        self.assertEqual(
            {
                # A part of a label does not stand for hosts with us.
                ("['*b.a.test']", "b.a.test", False),
                ("['*b.a.test']", "bb.a.test", False),
            },
            different,
        )
