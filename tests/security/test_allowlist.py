"""Lists of names that may enter (``wire.md`` 8.5 and 9.6)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from virnet.security.allowlist import AllowList


class Patterns(SynchronousTestCase):
    """What matches."""

    def test_each(self) -> None:
        for pattern, name, allowed in (
            ("fred", "fred", True),
            ("fred", "Fred", False),
            ("fred", "freddy", False),
            ("fre*", "freddy", True),
            ("*@EXAMPLE.ORG", "fred@EXAMPLE.ORG", True),
            ("*@EXAMPLE.ORG", "fred@EXAMPLE.ORG.EVIL", False),
            ("fr?d", "frXd", True),
            ("fr?d", "frd", False),
            ("fre[d]", "fred", False),
            ("fre[d]", "fre[d]", True),
            ("C=GB,*", "C=GB,CN=two\nlines", True),
            ("a.b", "axb", False),
            ("*", "", True),
            ("", "", True),
            ("", "x", False),
        ):
            self.assertEqual(AllowList([pattern]).allows(name), allowed, f"{pattern} {name}")

    def test_one_of_several_is_enough(self) -> None:
        allowed = AllowList(["alice", "b*"])
        self.assertTrue(allowed.allows("alice"))
        self.assertTrue(allowed.allows("bob"))
        self.assertFalse(allowed.allows("carol"))

    def test_an_empty_list_lets_nobody_in(self) -> None:
        self.assertFalse(AllowList([]).allows("alice"))
