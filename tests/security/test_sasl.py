"""SASL mechanisms, the client's end against the server's. GSSAPI is in L{tests.interop.test_sasl}."""

from __future__ import annotations

import base64
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.cred.checkers import ANONYMOUS, InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.sasl import Exchange, SASLContract, stepped
from virnet.limits import SCRAM_ITERATIONS_MAX
from virnet.security.identity import Identity
from virnet.security.sasl import SASLError, SASLSession, propertiesFor, requireExtra
from virnet.security.saslcontext import SASLContext
from virnet.security.saslexternal import ExternalClientSession, ExternalServerSession, externalName
from virnet.security.saslplain import PlainClientSession, PlainServerSession
from virnet.security.saslscram import ScramClientSession, ScramKeys, ScramServerSession, makeKeys, prepare
from virnet.security.scramfile import ScramFile

PASSWORD = "pässwörd, = and more"
_KEYS: dict[str, ScramKeys] = {}


def keysOf(mechanism: str, password: str = PASSWORD) -> ScramKeys:
    """The keys of a password; made once."""
    made = _KEYS.get(mechanism + password)
    if made is None:
        made = _KEYS[mechanism + password] = makeKeys(mechanism, password, 4096)
    return made


class _Scram(SASLContract):
    mechanism = ""

    def begin(self, user: str = "alice", password: str = PASSWORD) -> Exchange:
        return Exchange(
            ScramClientSession(self.mechanism, user, password),
            ScramServerSession(self.mechanism, lambda name: keysOf(self.mechanism)),
        )

    def test_a_wrong_password_is_refused(self) -> None:
        error = self.assertRaises(SASLError, self.begin(password="wrong").run)
        self.assertIn("no such user, or wrong password: 'alice'", str(error))

    def test_names_are_escaped(self) -> None:
        for user in ("a,b=c", "jörg", "fred@example.org", "=2C"):
            self.assertEqual(self.begin(user).run().server.user, user)

    def test_a_server_without_the_keys_is_found_out(self) -> None:
        """
        Mutual authentication: it lets everybody in, but cannot sign for that.
        """
        for final in (b"v=" + base64.b64encode(bytes(32)), b"e=other-error", b"v=", b"", None):
            whole = self.begin()
            challenge = stepped(whole.server, stepped(whole.client, None))
            stepped(whole.client, challenge)
            self.assertRaises(SASLError, stepped, whole.client, final)
            self.assertFalse(whole.client.complete)

    def test_a_nonce_that_is_not_ours_is_refused(self) -> None:
        client = self.begin().client
        stepped(client, None)
        salt = base64.b64encode(bytes(16)).decode()
        self.assertRaises(SASLError, stepped, client, f"r=elsewhere,s={salt},i=4096".encode())

    def test_the_work_a_server_may_ask_for_is_bounded(self) -> None:
        whole = self.begin()
        challenge = stepped(whole.server, stepped(whole.client, None))
        assert challenge is not None
        more = challenge.replace(b"i=4096", b"i=%d" % (SCRAM_ITERATIONS_MAX + 1))
        error = self.assertRaises(SASLError, stepped, whole.client, more)
        self.assertIn("iterations", str(error))

    def test_few_iterations_are_refused(self) -> None:
        """
        A server in between must not make the proof cheap to guess from.
        """
        whole = self.begin()
        challenge = stepped(whole.server, stepped(whole.client, None))
        assert challenge is not None
        self.assertRaises(SASLError, stepped, whole.client, challenge.replace(b"i=4096", b"i=1"))

    def test_errors_have_no_password_in_them(self) -> None:
        whole = self.begin()
        stepped(whole.client, None)
        error = self.assertRaises(SASLError, stepped, whole.client, b"r=x,s=!!!,i=4096")
        self.assertNotIn(PASSWORD, repr(error) + str(error) + repr(whole.client) + repr(vars(error)))


class Scram1(_Scram, SynchronousTestCase):
    """SCRAM-SHA-1."""

    mechanism = "SCRAM-SHA-1"


class Scram256(_Scram, SynchronousTestCase):
    """SCRAM-SHA-256."""

    mechanism = "SCRAM-SHA-256"

    def test_the_example_of_RFC_7677(self) -> None:
        salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
        keys = makeKeys("SCRAM-SHA-256", "pencil", 4096, salt)
        server = ScramServerSession("SCRAM-SHA-256", lambda name: keys)
        nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        server._scram.s_nonce = type(server._scram.s_nonce)(nonce)
        self.assertEqual(
            stepped(server, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
            f"r=rOprNGfwEbeRWgbNEkqO{nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode(),
        )
        self.assertEqual(
            stepped(
                server,
                f"c=biws,r=rOprNGfwEbeRWgbNEkqO{nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode(),
            ),
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        )
        self.assertEqual(server.user, "user")


class Scram512(_Scram, SynchronousTestCase):
    """SCRAM-SHA-512."""

    mechanism = "SCRAM-SHA-512"


class ScramSteps(SynchronousTestCase):
    """Odd messages to a server."""

    def refused(self, *messages: bytes) -> None:
        server = ScramServerSession("SCRAM-SHA-256", lambda name: keysOf("SCRAM-SHA-256"))
        for message in messages[:-1]:
            stepped(server, message)
        self.assertRaises(SASLError, stepped, server, messages[-1])

    def test_first_messages(self) -> None:
        for message in (
            b"",
            b"n,,",
            b"n,,n=alice",
            b"n,,r=abc",
            b"n,,n=,r=abc",
            b"n,a=root,n=alice,r=abc",
            b"p=tls-unique,,n=alice,r=abc",
            b"x,,n=alice,r=abc",
            b"n,,n=al=ice,r=abc",
            b"n,,m=ext,n=alice,r=abc",
            b"n,,n=\xc3\x28,r=abc",
            b"n,,n=al\x00ice,r=abc",
            b"n,,n=alice,r=a\nb",
        ):
            self.refused(message)

    def test_long_ones_are_not_prepared(self) -> None:
        """It would take a second, and a stranger can have it done again and again."""

        def asked(name: str) -> bool:
            server = ScramServerSession("SCRAM-SHA-256", names.append)  # type: ignore[arg-type]
            names.clear()
            self.assertRaises((SASLError, TypeError), server.step, f"n,,n={name},r=abc".encode())
            return bool(names)

        names: list[str] = []
        for name in ("a" * 900, "\u0301" * 400):
            self.assertTrue(asked(name))
        for name in ("a" * 1020, "\ufdfa" * 100, "\u0301\u0323" * 30000):
            self.assertFalse(asked(name))

    def test_last_messages(self) -> None:
        first = b"n,,n=alice,r=abc"
        for message in (
            b"",
            b"c=biws",
            b"c=biws,r=abc,p=",
            b"c=!!!,r=abc,p=AAAA",
            b"c=biws,r=abcdef,p=AAAA",
            b"c=eSws,r=abc,p=AAAA",
            b"\xff\xff",
        ):
            self.refused(first, message)

    def test_nothing_of_an_unknown_user_shows(self) -> None:
        """
        The keys of a stranger fit no password, and everything looks alike until the end.
        """
        asked: list[str] = []

        def keys(name: str) -> ScramKeys:
            asked.append(name)
            return keysOf("SCRAM-SHA-256", "of nobody")

        server = ScramServerSession("SCRAM-SHA-256", keys)
        whole = Exchange(ScramClientSession("SCRAM-SHA-256", "mallory", PASSWORD), server)
        self.assertRaises(SASLError, whole.run)
        self.assertEqual(asked, ["mallory"])
        self.assertEqual(len(whole.sent), 3, "refused before the last step")

    def test_names_and_passwords_are_prepared(self) -> None:
        self.assertEqual(prepare("a\u00adb\u00a0c\u2168"), "ab cIX")
        for text in ("", "\u00ad", "a\tb", "\u0627\u0031"):
            self.assertRaises(SASLError, prepare, text)


class Plain(SASLContract, SynchronousTestCase):
    """PLAIN."""

    secret = False

    def begin(self, user: str = "alice", password: str = PASSWORD) -> Exchange:
        users = InMemoryUsernamePasswordDatabaseDontUse()
        users.addUser(b"alice", PASSWORD.encode())
        return Exchange(PlainClientSession(user, password), PlainServerSession([users]))

    def test_the_response(self) -> None:
        self.assertEqual(
            stepped(PlainClientSession("tim", "tanstaaftanstaaf"), None), b"\0tim\0tanstaaftanstaaf"
        )

    def test_a_wrong_password_is_refused(self) -> None:
        self.assertRaises(SASLError, self.begin(password="wrong").run)

    def test_an_unknown_user_is_refused(self) -> None:
        self.assertRaises(SASLError, self.begin("mallory").run)

    def test_nobody_acts_for_somebody_else(self) -> None:
        server = self.begin().server
        self.assertRaises(SASLError, stepped, server, b"root\0alice\0" + PASSWORD.encode())
        server = self.begin().server
        stepped(server, b"alice\0alice\0" + PASSWORD.encode())
        self.assertEqual(server.user, "alice")

    def test_zeros_make_no_further_fields(self) -> None:
        self.assertRaises(SASLError, PlainClientSession, "alice\0x", "y")
        for response in (
            b"\0alice",
            b"\0alice\0" + PASSWORD.encode() + b"\0",
            b"\0\0\0\0",
            b"\0\0x",
            b"\0a\0",
        ):
            self.assertRaises(SASLError, stepped, self.begin().server, response)

    def test_checkers_are_asked_one_after_the_other(self) -> None:
        first, second = (InMemoryUsernamePasswordDatabaseDontUse() for _ in range(2))
        first.addUser(b"alice", b"one")
        second.addUser(b"alice", b"two")
        for password in ("one", "two"):
            server = PlainServerSession([first, second])
            Exchange(PlainClientSession("alice", password), server).run()
            self.assertEqual(server.user, "alice")

    def test_a_guest_is_nobody(self) -> None:
        class Guests(InMemoryUsernamePasswordDatabaseDontUse):
            def requestAvatarId(self, credentials: Any) -> Any:
                return ANONYMOUS

        self.assertRaises(SASLError, stepped, PlainServerSession([Guests()]), b"\0alice\0x")

    def test_a_checker_may_take_its_time(self) -> None:
        later: Deferred[bytes] = Deferred()

        class Slow(InMemoryUsernamePasswordDatabaseDontUse):
            def requestAvatarId(self, credentials: Any) -> Any:
                return later

        server = PlainServerSession([Slow()])
        step: Deferred[Any] = Deferred.fromCoroutine(server.step(b"\0alice\0x"))
        self.assertNoResult(step)
        self.assertFalse(server.complete)
        later.callback(b"Alice")
        self.assertIsNone(self.successResultOf(step))
        self.assertEqual(server.user, "Alice")


class External(SASLContract, SynchronousTestCase):
    """EXTERNAL."""

    secret = False
    user = "C=GB,CN=alice"

    def begin(self) -> Exchange:
        return Exchange(ExternalClientSession(), ExternalServerSession(self.user))

    def test_truncated_steps_are_refused(self) -> None:
        """
        There is nothing in them.
        """

    def test_a_name_must_be_the_right_one(self) -> None:
        server = ExternalServerSession("alice")
        self.assertEqual(stepped(server, b"alice"), None)
        self.assertEqual(server.user, "alice")
        self.assertRaises(SASLError, stepped, ExternalServerSession("alice"), b"root")

    def test_what_an_identity_is_called(self) -> None:
        self.assertIsNone(externalName(Identity("tcp", address="127.0.0.1:1")))
        self.assertEqual(externalName(Identity("unix", uid=0, userName="root")), "root")
        self.assertEqual(externalName(Identity("unix", uid=12345)), "12345")
        self.assertEqual(externalName(Identity("tls", x509dname="CN=x")), "CN=x")


class Properties(SynchronousTestCase):
    """What a transport demands (``wire.md`` 9.4)."""

    def test_each(self) -> None:
        for transport, minSSF, maxSSF, plaintext in (
            ("unix", 0, 0, True),
            ("tls", 0, 0, True),
            ("tcp", 56, 100000, False),
            ("other", 56, 100000, False),
        ):
            self.assertEqual(propertiesFor(transport)[:3], (minSSF, maxSSF, plaintext))
        self.assertEqual(propertiesFor("tcp", 112).minSSF, 112)
        self.assertEqual(propertiesFor("unix", 112).minSSF, 0)


class Extras(SynchronousTestCase):
    """Packages that only some users need."""

    def test_the_text_says_what_to_install(self) -> None:
        error = self.assertRaises(ImportError, requireExtra, "no_such_module_here", "sasl", "SCRAM")
        self.assertIn("SCRAM needs the package 'no_such_module_here'", str(error))
        self.assertIn("pip install 'virnet[sasl]'", str(error))

    def test_steps_are_the_mechanisms(self) -> None:
        self.assertRaises(NotImplementedError, SASLSession("X").step, None)


class Threads(SynchronousTestCase):
    """A client takes steps that hash in threads; several may at the same time."""

    def test_R115_exchanges_of_one_context_in_several_threads(self) -> None:
        path = Path(self.mktemp())
        file = ScramFile(path)
        for number in range(4):
            file.setPassword(f"user{number}", f"{PASSWORD}{number}", 4096)
        context = SASLContext(scramFile=path)
        users: list[str | None] = []

        def work(number: int) -> None:
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                client = ScramClientSession(mechanism, f"user{number}", f"{PASSWORD}{number}")
                server = context.session(mechanism, Identity("unix"))
                users.append(Exchange(client, server).run().server.user)

        threads = [Thread(target=work, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertCountEqual(users, [f"user{number}" for number in range(4)] * 2)
