"""What C{twistd virnet} makes of its options for SASL."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import IServiceCollection
from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.sasl import stepped
from tests.interop.support import requireModule
from virnet.daemon.service import CannotStart
from virnet.daemon.tap import Options, makeService
from virnet.security.identity import Identity
from virnet.security.sasl import SASLError
from virnet.security.saslcontext import SASLContext
from virnet.security.saslplain import PlainClientSession
from virnet.security.scramfile import ScramFile
from virnet.server import ServerService
from virnet.server.sasl import SASLAuthentication


class SASLOptions(SynchronousTestCase):
    """Each option, and what goes with what."""

    def setUp(self) -> None:
        self.passwords = os.path.abspath(self.mktemp())
        ScramFile(self.passwords).setPassword("alice", "secret", 4096)

    def services(self, *words: str) -> list[Any]:
        """The services that listen."""
        options = Options()
        options.parseOptions(words)
        daemon = makeService(options)
        return [each for each in IServiceCollection(daemon) if isinstance(each, ServerService)]

    def sasl(self, *words: str) -> SASLContext:
        """What a UNIX socket has."""
        (service,) = self.services("--listen", "unix:/tmp/x", "--auth-unix", "sasl", *words)
        assert isinstance(service.auth, SASLAuthentication)
        return service.auth.context

    def mechanisms(self, *words: str) -> tuple[str, ...]:
        """Which mechanisms a UNIX socket has."""
        return self.sasl(*words).mechanisms

    def test_a_file_of_passwords(self) -> None:
        self.assertEqual(
            self.mechanisms("--sasl-passwords", self.passwords),
            ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1"),
        )

    def test_checkers_of_twisted(self) -> None:
        self.assertEqual(self.mechanisms("--auth", "memory:alice:secret"), ("PLAIN",))

    def test_the_checkers_know_their_users(self) -> None:
        """
        Twisted's command line makes words of names and passwords; what clients send is bytes.
        """
        clear = self.mktemp()
        with open(clear, "w") as file:
            file.write("jörg:sécret\n")
        for checker in ("memory:alice:x:jörg:sécret", f"file:{clear}"):
            context = self.sasl("--auth", checker)
            for password, user in (("sécret", "jörg"), ("secret", None)):
                session = context.session("PLAIN", Identity("unix"))
                try:
                    stepped(session, PlainClientSession("jörg", password).step(None))
                except SASLError:
                    pass
                self.assertEqual(session.user, user, checker)

    def test_how_strong_the_protection_of_plain_TCP_has_to_be(self) -> None:
        words = ("--auth", "memory:alice:secret")
        self.assertEqual(self.sasl(*words).minSSF, 56)
        self.assertEqual(self.sasl(*words, "--tcp-min-ssf", "112").minSSF, 112)
        self.refused(
            (("--tcp-min-ssf", "111"), "minimum SSF levels lower than 112 are not supported"),
            (("--tcp-min-ssf", "0"), "minimum SSF levels lower than 112 are not supported"),
            (("--tcp-min-ssf", "many"), "'many' is not a number"),
        )

    def test_some_mechanisms_alone(self) -> None:
        words = ("--sasl-passwords", self.passwords, "--auth", "memory:alice:secret")
        self.assertEqual(
            self.mechanisms(*words, "--sasl-mechanism", "PLAIN", "--sasl-mechanism", "SCRAM-SHA-256"),
            ("SCRAM-SHA-256", "PLAIN"),
        )
        self.assertEqual(self.mechanisms("--sasl-mechanism", "EXTERNAL"), ("EXTERNAL",))

    def test_sockets_share_what_they_have(self) -> None:
        one, two = self.services(
            *("--listen", "unix:/tmp/x", "--auth-unix", "sasl", "--sasl-passwords", self.passwords),
            *("--listen-readonly", "unix:/tmp/y", "--auth-unix-ro", "sasl"),
        )
        self.assertIs(one.auth, two.auth)

    def test_what_does_not_go(self) -> None:
        self.refused(
            (
                ("--auth-unix", "sasl"),
                "SASL: there is nothing to check passwords or tickets against; --sasl-passw",
            ),
            (("--auth-unix", "sasl", "--sasl-mechanism", "PLAIN"), "nothing to check passwords against"),
            (
                ("--auth-unix", "sasl", "--sasl-mechanism", "X"),
                "--sasl-mechanism X: there are GSSAPI, EXTERNAL, SCRAM",
            ),
            (("--auth-unix", "sasl", "--sasl-passwords", "/nonexistent"), "/nonexistent: No such file"),
            (
                ("--auth-tcp", "sasl", "--sasl-passwords", self.passwords),
                "only Kerberos can protect plain TCP",
            ),
            (("--auth-tls", "sasl", "--sasl-passwords", self.passwords), "it listens on no such endpoint"),
        )

    def test_a_keytab_without_keys(self) -> None:
        requireModule(self, "gssapi")
        self.refused(
            (("--auth-unix", "sasl", "--sasl-keytab", "/nonexistent"), "no keys for GSSAPI in /nonexistent")
        )

    def refused(self, *cases: tuple[tuple[str, ...], str]) -> None:
        """Options that do not go, and what is said of them."""
        for words, text in cases:
            endpoint = "tcp:0" if "--auth-tcp" in words else "unix:/tmp/x"
            error = self.assertRaises(CannotStart, self.services, "--listen", endpoint, *words)
            self.assertIn(text, str(error))
