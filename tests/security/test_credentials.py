"""Where a client's name and password come from (``wire.md`` 9.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from virnet.errors import RemoteError
from virnet.security.credentials import CredentialRequest, Credentials, authFilePath, readAuthFile

AUTH_CONF = """\
# For the tests.
[credentials-test]
authname=fred
password=123456
[credentials-prod]
authname=bar
username=ignored
password= letmein,=

[auth-libvirt-localhost]
credentials=test

[auth-libvirt-prod.example.org]
credentials=prod
[credentials-name]
username=only
[auth-libvirt-name]
credentials=name
[auth-libvirt-broken]
credentials=nowhere
"""


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_text(AUTH_CONF)
        self.asked: list[CredentialRequest] = []

    def ask(self, request: CredentialRequest) -> str:
        """A callback."""
        self.asked.append(request)
        return f"{request.kind} typed"

    def credentials(self, host: str = "", user: str | None = None, **environ: str) -> Credentials:
        """Credentials of a URI."""
        return Credentials(host, user, str(self.path), self.ask, {"HOME": "/nonexistent", **environ})

    def both(self, credentials: Credentials) -> tuple[str, str]:
        """The name and the password."""

        async def get() -> tuple[str, str]:
            return await credentials.user("PLAIN"), await credentials.password("PLAIN")

        return self.successResultOf(Deferred.fromCoroutine(get()))


class Sources(_Case):
    """Which place counts."""

    def test_the_file_by_the_host_of_the_uri(self) -> None:
        self.assertEqual(self.both(self.credentials()), ("fred", "123456"))
        self.assertEqual(self.both(self.credentials("prod.example.org")), ("bar", " letmein,="))
        self.assertEqual(self.asked, [])

    def test_a_host_that_the_file_does_not_have_has_the_default(self) -> None:
        self.assertEqual(self.both(self.credentials("other")), ("authname typed", "password typed"))
        self.path.write_text(AUTH_CONF + "[auth-libvirt-default]\ncredentials=test\n")
        self.assertEqual(self.both(self.credentials("other")), ("fred", "123456"))

    def test_R133_only_what_is_missing_is_asked_for(self) -> None:
        self.assertEqual(self.both(self.credentials("name")), ("only", "password typed"))
        (request,) = self.asked
        self.assertEqual(
            request,
            CredentialRequest("password", "Enter only's password for name: ", True, "name", "PLAIN", "only"),
        )

    def test_the_user_of_the_uri_comes_first(self) -> None:
        self.assertEqual(self.both(self.credentials("", "fred", VIRNET_USERNAME="x")), ("fred", "123456"))

    def test_a_password_of_the_file_is_not_used_for_another_user(self) -> None:
        self.assertEqual(self.both(self.credentials("", "alice")), ("alice", "password typed"))

    def test_the_environment_says_who_and_never_with_what(self) -> None:
        known = self.credentials("other", VIRNET_USERNAME="eve", VIRNET_PASSWORD="no")
        self.assertTrue(known.knowsUser)
        self.assertEqual(self.both(known), ("eve", "password typed"))

    def test_asked_once(self) -> None:
        known = self.credentials("other")
        self.assertFalse(known.knowsUser)
        self.both(known)
        self.both(known)
        self.assertEqual(
            [(each.kind, each.secret) for each in self.asked], [("authname", False), ("password", True)]
        )

    def test_answers_may_take_their_time(self) -> None:
        async def coroutine(request: CredentialRequest) -> str:
            return await succeed("later")

        for callback in (lambda request: succeed("later"), coroutine):
            known = Credentials("h", None, None, callback, {"LIBVIRT_AUTH_FILE": str(self.path)})
            self.assertEqual(self.both(known), ("later", "later"))


class Refusals(_Case):
    """When nothing comes of it."""

    def refused(self, callback: Any, text: str) -> None:
        known = Credentials("h", None, None, callback, {"HOME": "/nonexistent"})
        error = self.failureResultOf(Deferred.fromCoroutine(known.user("PLAIN")), RemoteError).value
        self.assertEqual((error.code, str(error)), (45, f"authentication failed: {text}"))

    def test_nobody_to_ask(self) -> None:
        self.refused(None, "No authentication callback available")

    def test_somebody_who_gives_up(self) -> None:
        self.refused(lambda request: None, "Failed to collect auth credentials")
        self.refused(lambda request: succeed(None), "Failed to collect auth credentials")

    def test_credentials_that_the_file_does_not_have(self) -> None:
        error = self.assertRaises(RemoteError, self.credentials, "broken")
        self.assertIn(
            "there is no group 'credentials-nowhere', which the one of broken refers to", str(error)
        )

    def test_lines_that_make_no_sense_are_named_without_what_is_in_them(self) -> None:
        for text in ("password=secret", "[x]\nsecret", "[x\nsecret=1"):
            self.path.write_text(text)
            error = self.assertRaises(RemoteError, readAuthFile, str(self.path))
            self.assertIn(f"{self.path}:", str(error))
            self.assertNotIn("secret", str(error))

    def test_a_file_that_was_named_must_be_there(self) -> None:
        for environ, named in (({"LIBVIRT_AUTH_FILE": "/nonexistent"}, None), ({}, "/nonexistent")):
            error = self.assertRaises(RemoteError, Credentials, "", None, named, None, environ)
            self.assertEqual(str(error), "authentication failed: /nonexistent: No such file or directory")

    def test_nothing_shows_what_is_known(self) -> None:
        known = self.credentials()
        self.assertNotIn("123456", repr(known) + str(known))


class WhichFile(_Case):
    """Where auth.conf is looked for."""

    def test_the_first_that_is_there(self) -> None:
        home = Path(self.mktemp())
        mine = home / ".config" / "libvirt" / "auth.conf"
        mine.parent.mkdir(parents=True)
        mine.touch()
        other = Path(self.mktemp())
        (other / "libvirt").mkdir(parents=True)
        (other / "libvirt" / "auth.conf").touch()
        environ = {"HOME": str(home)}
        self.assertEqual(authFilePath(None, environ), str(mine))
        environ["XDG_CONFIG_HOME"] = str(other)
        self.assertEqual(authFilePath(None, environ), str(other / "libvirt" / "auth.conf"))
        self.assertEqual(authFilePath("/named", environ), "/named")
        environ["LIBVIRT_AUTH_FILE"] = "/first"
        self.assertEqual(authFilePath("/named", environ), "/first")

    def test_comments_and_blank_lines(self) -> None:
        self.path.write_text("; one\n  # two\n\n  [a]  \n key =v\n")
        self.assertEqual(readAuthFile(str(self.path)), {"a": {"key": "v"}})
