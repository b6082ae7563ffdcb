"""The file of SCRAM credentials."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from virnet.security.sasl import SASLError
from virnet.security.saslscram import MECHANISMS, makeKeys
from virnet.security.scramfile import CredentialFileError, ScramFile

ITERATIONS = 4096


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.file = ScramFile(self.path)

    def set(self, user: str, password: str = "secret") -> bool:
        """Give a user a password."""
        return self.file.setPassword(user, password, ITERATIONS)


class Changing(_Case):
    """Users come, change and go."""

    def test_a_new_file_is_for_its_owner_alone(self) -> None:
        mask = os.umask(0)
        try:
            self.assertTrue(self.set("alice"))
        finally:
            os.umask(mask)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_no_password_is_in_it(self) -> None:
        self.set("alice", "correct horse")
        self.assertNotIn("correct horse", self.path.read_text())
        self.assertNotIn("horse", repr(self.file))

    def test_users_are_listed_in_order(self) -> None:
        for user in ("bob", "alice", "carol von und zu", "jörg"):
            self.assertTrue(self.set(user))
        self.file.refresh()
        self.assertEqual(self.file.users(), ["alice", "bob", "carol von und zu", "jörg"])

    def test_a_changed_password_has_other_keys(self) -> None:
        self.set("alice")
        self.set("bob")
        before = {user: self.read().keys("SCRAM-SHA-256", user) for user in ("alice", "bob")}
        self.assertFalse(self.set("alice", "other"))
        after = {user: self.read().keys("SCRAM-SHA-256", user) for user in ("alice", "bob")}
        self.assertNotEqual(before["alice"], after["alice"])
        self.assertEqual(before["bob"], after["bob"])

    def test_the_keys_are_those_of_the_password(self) -> None:
        self.set("alice", "pässword")
        file = self.read()
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            found = file.keys(mechanism, "alice")
            self.assertEqual(found, makeKeys(mechanism, "pässword", ITERATIONS, found.salt))

    def test_a_deleted_user_is_gone(self) -> None:
        self.set("alice")
        self.set("bob")
        self.file.delete("alice")
        self.assertEqual(self.read().users(), ["bob"])
        error = self.assertRaises(CredentialFileError, self.file.delete, "alice")
        self.assertIn("no user 'alice'", str(error))

    def test_nothing_is_left_beside_it_but_the_lock(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        ScramFile(directory / "users").setPassword("alice", "secret", ITERATIONS)
        self.assertEqual(sorted(each.name for each in directory.iterdir()), ["users", "users.lock"])

    def test_mode_and_links_stay(self) -> None:
        self.set("alice")
        self.path.chmod(0o640)
        link = Path(self.mktemp())
        link.symlink_to(self.path.resolve())
        ScramFile(link).setPassword("bob", "secret", ITERATIONS)
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640)
        self.assertEqual(self.read().users(), ["alice", "bob"])

    def test_names_and_passwords_that_are_not_allowed(self) -> None:
        for user, password in (("", "x"), ("a\tb", "x"), ("a\nb", "x"), ("alice", ""), ("alice", "x\0")):
            self.assertRaises(SASLError, self.set, user, password)
        self.assertFalse(self.path.exists())

    def test_a_file_that_is_something_else_is_not_overwritten(self) -> None:
        for content in ("", "alice:secret\n", "virnet-scram-2 AA==\n"):
            self.path.write_text(content)
            self.assertRaises(CredentialFileError, self.set, "alice")
            self.assertEqual(self.path.read_text(), content)

    def test_a_directory_that_cannot_be_written(self) -> None:
        self.assertRaises(CredentialFileError, ScramFile("/proc/nowhere/x").setPassword, "a", "b", ITERATIONS)
        self.assertRaises(CredentialFileError, ScramFile("/proc/nowhere/x").delete, "a")

    def read(self) -> ScramFile:
        """The file as somebody else reads it."""
        file = ScramFile(self.path)
        file.refresh()
        return file


class Reading(_Case):
    """What a server sees."""

    def test_a_replaced_file_is_read_again(self) -> None:
        self.set("alice")
        server = ScramFile(self.path)
        server.refresh()
        self.set("bob")
        server.refresh()
        self.assertEqual(server.users(), ["alice", "bob"])

    def test_a_stranger_is_shown_the_same_salt_each_time(self) -> None:
        self.set("alice")
        self.file.refresh()
        known = self.file.keys("SCRAM-SHA-256", "alice")
        first, again = (self.file.keys("SCRAM-SHA-256", "mallory") for _ in range(2))
        self.assertEqual(first.salt, again.salt)
        self.assertEqual(len(first.salt), len(known.salt))
        self.assertNotEqual(first.storedKey, again.storedKey)
        self.assertNotEqual(first.salt, self.file.keys("SCRAM-SHA-256", "mallorY").salt)
        self.assertNotEqual(first.salt, self.file.keys("SCRAM-SHA-1", "mallory").salt)

    def test_a_stranger_is_not_known_by_the_number_of_iterations(self) -> None:
        self.file.setPassword("alice", "secret", 5000)
        self.file.refresh()
        for mechanism in MECHANISMS:
            self.assertEqual(self.file.keys(mechanism, "mallory").iterations, 5000)
        self.file.setPassword("bob", "secret", 6000)
        self.file.refresh()
        strangers = [f"mallory{i}" for i in range(64)]
        shown = [self.file.keys("SCRAM-SHA-256", each).iterations for each in strangers]
        self.assertEqual(set(shown), {5000, 6000})
        again = ScramFile(self.path)
        again.refresh()
        self.assertEqual(shown, [again.keys("SCRAM-SHA-256", each).iterations for each in strangers])

    def test_lines_that_make_no_sense_are_named_without_what_is_in_them(self) -> None:
        self.set("alice")
        good = self.path.read_text()
        keys = good.splitlines()[1].split("\t")[1]
        for line in (
            "bob\tx",
            "bob\tSCRAM-SHA-1$x",
            "bob\tMD5$1:AA==$AA==:AA==",
            f"bob\t{keys[:-9]}",
            "b\t$:$:",
        ):
            self.path.write_text(f"{good}{line}\n")
            error = self.assertRaises(CredentialFileError, ScramFile(self.path).refresh)
            self.assertEqual(str(error), f"{self.path}:3: not a line of SCRAM credentials")
            self.assertIsNone(error.__cause__)

    def test_a_missing_file(self) -> None:
        error = self.assertRaises(CredentialFileError, self.file.refresh)
        self.assertEqual(str(error), f"{self.path}: No such file or directory")

    def test_a_file_of_other_bytes(self) -> None:
        self.path.write_bytes(b"\xff\xfe\0")
        self.assertRaises(CredentialFileError, self.file.refresh)
