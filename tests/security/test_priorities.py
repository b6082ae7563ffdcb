"""
What a priority string comes to.
"""

from __future__ import annotations

import ssl
from ssl import TLSVersion

from twisted.trial.unittest import SynchronousTestCase

from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.security.priorities import DEFAULT, parsePriority


def suites(text: str) -> set[str]:
    """The cipher suites of TLS 1.2 that a string permits."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    parsePriority(text).applyTo(context)
    return {each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"}


class Priorities(SynchronousTestCase):
    """
    Words of GnuTLS, and strings of OpenSSL.
    """

    def versions(self, text: str, lowest: TLSVersion, highest: TLSVersion) -> None:
        priority = parsePriority(text)
        self.assertEqual((priority.minimum, priority.maximum), (lowest, highest), text)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        priority.applyTo(context)
        self.assertEqual((context.minimum_version, context.maximum_version), (lowest, highest), text)

    def test_R122_the_default_is_modern(self) -> None:
        self.versions(DEFAULT, TLSVersion.TLSv1_2, TLSVersion.TLSv1_3)
        self.assertTrue(suites(DEFAULT))
        for name in suites(DEFAULT):
            self.assertRegex(name, "^(ECDHE|DHE)-")
            self.assertRegex(name, "GCM|CHACHA20|SHA256|SHA384")

    def test_R122_types_of_certificates_may_be_named(self) -> None:
        self.assertEqual(suites("NORMAL:+CTYPE-X.509:-CTYPE-OPENPGP"), suites(DEFAULT))

    def test_versions(self) -> None:
        self.versions("NORMAL:-VERS-TLS1.3", TLSVersion.TLSv1_2, TLSVersion.TLSv1_2)
        self.versions("NORMAL:-VERS-TLS1.2", TLSVersion.TLSv1_3, TLSVersion.TLSv1_3)
        self.versions("NORMAL:-VERS-TLS1.0:-VERS-TLS1.1", TLSVersion.TLSv1_2, TLSVersion.TLSv1_3)
        self.versions("NORMAL:-VERS-ALL:+VERS-TLS1.3", TLSVersion.TLSv1_3, TLSVersion.TLSv1_3)
        self.versions("SECURE128:-VERS-TLS-ALL:+VERS-TLS1.2", TLSVersion.TLSv1_2, TLSVersion.TLSv1_2)
        self.versions("-VERS-TLS1.3", TLSVersion.TLSv1_2, TLSVersion.TLSv1_2)
        self.versions("NORMAL:-VERS-SSL3.0:-VERS-DTLS-ALL", TLSVersion.TLSv1_2, TLSVersion.TLSv1_3)

    def test_old_versions_have_to_be_asked_for(self) -> None:
        self.versions("NORMAL:+VERS-TLS1.0:+VERS-TLS1.1", TLSVersion.TLSv1, TLSVersion.TLSv1_3)
        self.flushWarnings()

    def test_strength(self) -> None:
        for name in suites("SECURE256"):
            self.assertRegex(name, "AES256|CHACHA20")
        self.assertIn("ECDHE-RSA-AES128-GCM-SHA256", suites("SECURE128"))
        self.assertEqual(suites("PERFORMANCE"), suites("NORMAL"))
        self.assertGreater(suites("LEGACY"), suites("NORMAL"))

    def test_single_ciphers_and_key_exchanges(self) -> None:
        self.assertNotIn("ECDHE-RSA-AES128-GCM-SHA256", suites("NORMAL:-AES-128-GCM"))
        self.assertIn("ECDHE-RSA-AES256-GCM-SHA384", suites("NORMAL:-AES-128-GCM"))
        self.assertFalse([each for each in suites("NORMAL:!DHE-RSA") if each.startswith("DHE")])
        self.assertIn("AES256-GCM-SHA384", suites("NORMAL:+RSA"))

    def test_strings_of_openssl(self) -> None:
        self.assertEqual(
            suites("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"),
            {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
        )
        self.versions("ECDHE+AESGCM:!aNULL", TLSVersion.TLSv1_2, TLSVersion.TLSv1_3)

    def test_what_cannot_be_done_is_refused(self) -> None:
        for text, why in (
            ("NO-SUCH-THING", ""),
            ("NORMAL:+NO-SUCH-THING", "'+NO-SUCH-THING' is not known"),
            ("NORMAL:%NO_SUCH_THING", "'%NO_SUCH_THING' is not known"),
            ("NORMAL:AES-128-GCM", "'AES-128-GCM' is not known"),
            ("NORMAL:-VERS-ALL", "no version of TLS is left"),
            ("NORMAL:+VERS-SSL3.0", "there is no version SSL3.0"),
            ("NORMAL:-VERS-TLS1.2:+VERS-TLS1.1", "versions of TLS with a gap between them are not possible"),
            ("NORMAL:+GROUP-SECP256R1", "'+GROUP-SECP256R1' is not known"),
            ("NONE", ""),
        ):
            error = self.assertRaises(RemoteError, parsePriority, text)
            expected = f"Failed to set TLS session priority to {text}: The request is invalid."
            self.assertEqual(error.message, f"{expected} ({why})" if why else expected)
            self.assertIs(error.code, ErrorNumber.SYSTEM_ERROR)
