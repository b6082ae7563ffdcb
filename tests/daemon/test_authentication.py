"""Which endpoints of the daemon want which authentication."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from virnet.daemon.authentication import KINDS, AuthenticationError, Authentications, checked, kindOf
from virnet.daemon.listening import Listener
from virnet.server.polkit import PolkitAuthentication


def listener(text: str, readonly: bool = False) -> Listener:
    """A place to listen, of which only the words matter."""
    endpoint: Any = None
    return Listener(text, endpoint, readonly)


class Kinds(SynchronousTestCase):
    """What an endpoint is."""

    def test_each(self) -> None:
        for text, kind in (
            ("unix:/run/x", "unix"),
            ("unix:/run/x:mode=660", "unix"),
            ("systemd:domain=UNIX:index=0", "unix"),
            ("tcp:16509", "tcp"),
            ("tcp6:16509", "tcp"),
            ("systemd:domain=INET:index=0", "tcp"),
            ("libvirt-tls:16514", "tls"),
            ("ssl:16514", "tls"),
            ("haproxy:tcp:16509", "tcp"),
        ):
            self.assertEqual(kindOf(listener(text)), kind, text)

    def test_only_UNIX_sockets_have_a_kind_of_their_own_for_looking(self) -> None:
        self.assertEqual(kindOf(listener("unix:/run/x", True)), "unix-ro")
        self.assertEqual(kindOf(listener("tcp:16509", True)), "tcp")


class Wanted(SynchronousTestCase):
    """What is made for them."""

    def authentications(self, **wanted: str) -> Authentications:
        """With something said of some kinds."""
        settings = dict.fromkeys(KINDS, "none") | {
            kind.replace("_", "-"): each for kind, each in wanted.items()
        }
        return Authentications(MemoryReactorClock(), settings)

    def test_nothing(self) -> None:
        made = self.authentications()
        self.assertIsNone(made.forListener(listener("unix:/run/x")))
        self.assertIsNone(made.forListener(listener("tcp:1")))

    def test_each_is_about_an_endpoint(self) -> None:
        made = self.authentications(tls="sasl")
        made.requireUse([listener("unix:/run/x"), listener("libvirt-tls:1")])
        error = self.assertRaises(
            AuthenticationError, made.requireUse, [listener("unix:/x"), listener("tcp:1")]
        )
        self.assertEqual(
            str(error),
            "--auth-tls sasl: it listens on no such endpoint; what there is takes --auth-unix, --auth-tcp",
        )

    def test_polkit_once_for_all_that_want_it(self) -> None:
        directory = self.mktemp()
        os.mkdir(directory)
        with open(f"{directory}/pkcheck", "w") as program:
            os.fchmod(program.fileno(), 0o755)
        self.patch(os, "environ", {**os.environ, "PATH": directory})
        made = self.authentications(unix="polkit", unix_ro="polkit")
        first = made.forListener(listener("unix:/run/x"))
        self.assertIsInstance(first, PolkitAuthentication)
        self.assertIs(made.forListener(listener("unix:/run/y", True)), first)
        self.assertIsNone(made.forListener(listener("tcp:1")))

    def test_polkit_that_is_not_there(self) -> None:
        self.patch(os, "environ", {**os.environ, "PATH": "/nonexistent"})
        made = self.authentications(unix="polkit")
        error = self.assertRaises(AuthenticationError, made.forListener, listener("unix:/run/x"))
        self.assertEqual(str(error), "pkcheck is not installed: it comes with polkit, and asks it")

    def test_words_that_are_none(self) -> None:
        self.assertRaises(AuthenticationError, checked, "unix", "kerberos")
        self.assertRaises(AuthenticationError, checked, "tcp", "polkit")
