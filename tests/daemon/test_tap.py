"""The options of C{twistd virnet}."""

from __future__ import annotations

import io
import sys

from twisted.application.service import IServiceMaker, ServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from virnet._version import __version__
from virnet.daemon.service import CannotStart, Daemon
from virnet.daemon.tap import Options, makeService


class OptionsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stderr = io.StringIO()
        self.patch(sys, "__stderr__", self.stderr)

    def parse(self, *words: str) -> Options:
        options = Options()
        options.parseOptions(list(words))
        return options


class Understood(OptionsCase):
    def test_nothing(self) -> None:
        options = self.parse()
        self.assertEqual(([], []), (options["listen"], options["listen-readonly"]))
        numbers = tuple(options[f"{each}-workers"] for each in ("min", "max", "prio"))
        self.assertEqual((5, 20, 5), numbers)

    def test_endpoints(self) -> None:
        options = self.parse("--listen", "tcp:1", "--listen=unix:/x", "--listen-readonly", "tcp:2")
        self.assertEqual((["tcp:1", "unix:/x"], ["tcp:2"]), (options["listen"], options["listen-readonly"]))

    def test_workers(self) -> None:
        options = self.parse("--min-workers", "0", "--max-workers=3")
        self.assertEqual((0, 3), (options["min-workers"], options["max-workers"]))

    def test_nobody_has_to_authenticate_unless_somebody_says_so(self) -> None:
        options = self.parse()
        self.assertEqual(
            ["none"] * 4, [options[f"auth-{each}"] for each in ("unix", "unix-ro", "tcp", "tls")]
        )

    def test_limits_of_strangers(self) -> None:
        options = self.parse("--max-anonymous-clients=3", "--authentication-timeout=10")
        self.assertEqual((3, 10), (options["max-anonymous-clients"], options["authentication-timeout"]))
        options = self.parse()
        self.assertEqual((20, 120), (options["max-anonymous-clients"], options["authentication-timeout"]))

    def test_help_is_complete(self) -> None:
        text = str(self.parse())
        for word in (
            *(
                "--listen=",
                "--listen-readonly=",
                "--min-workers=",
                "--max-workers=",
                "--prio-workers=",
                "--auth-unix=",
                "--auth-unix-ro=",
                "--auth-tcp=",
                "--auth-tls=",
                "--max-anonymous-clients=",
                "--access-rules=",
                "--tcp-min-ssf=",
                "--authentication-timeout=",
                "--version",
                "--help",
            ),
            *("unix:/run/x", "tcp:16509", "systemd:", "virsh", "SIGTERM", "virnet-sock", "mode=660"),
        ):
            self.assertIn(word, text)

    def test_version(self) -> None:
        stdout = io.StringIO()
        self.patch(sys, "stdout", stdout)
        self.assertRaises(SystemExit, self.parse, "--version")
        self.assertEqual(f"virnet {__version__}\n", stdout.getvalue())


class NotUnderstood(OptionsCase):
    """
    One line on standard error and status 2.
    """

    def check(self, why: str, *words: str) -> None:
        error = self.assertRaises(CannotStart, self.parse, *words)
        self.assertEqual(2, error.code)
        self.assertEqual(f"virnet: {why}; see 'twistd virnet --help'\n", self.stderr.getvalue())

    def test_an_unknown_option(self) -> None:
        self.check("option --frob not recognized", "--frob")

    def test_an_argument(self) -> None:
        self.check("unexpected argument 'frob'", "frob")

    def test_an_option_without_its_value(self) -> None:
        self.check("option --listen requires argument", "--listen")

    def test_a_number_that_is_none(self) -> None:
        self.check(
            "Parameter type enforcement failed: 'x' is not a number of 0 or more", "--min-workers", "x"
        )

    def test_authentication_that_there_is_not(self) -> None:
        self.check("--auth-tcp kerberos: there are none, polkit, sasl", "--auth-tcp", "kerberos")

    def test_polkit_for_another_machine(self) -> None:
        why = "polkit judges processes of this machine alone"
        self.check(f"--auth-tls polkit: {why}", "--auth-tls=polkit")

    def test_who_may_enter_where_nobody_is_asked(self) -> None:
        """It would let everybody in."""
        kinds = "--auth-unix, --auth-unix-ro, --auth-tcp, --auth-tls"
        for option, value in (
            ("sasl-passwords", "/tmp/users"),
            ("sasl-keytab", "/tmp/keys"),
            ("sasl-mechanism", "EXTERNAL"),
            ("sasl-allowed", "alice"),
            ("auth", "memory:alice:secret"),
        ):
            self.stderr.truncate(0)
            self.stderr.seek(0)
            why = f"--{option} without sasl for any endpoint: say so with {kinds}"
            self.check(why, f"--{option}={value}", "--auth-unix=polkit")
            self.parse(f"--{option}={value}", "--auth-tls=sasl")

    def test_no_workers(self) -> None:
        self.check("--max-workers takes 1 or more", "--min-workers", "0", "--max-workers", "0")

    def test_more_at_least_than_at_most(self) -> None:
        self.check("--min-workers 6 is more than --max-workers 3", "--min-workers=6", "--max-workers=3")


class Service(OptionsCase):
    def test_is_made_by_the_plugin(self) -> None:
        (plugin,) = (each for each in getPlugins(IServiceMaker) if each.tapname == "virnet")
        assert isinstance(plugin, ServiceMaker)
        self.assertEqual("virnet.daemon.tap", plugin.module)
        self.assertIs(Options, plugin.options)

    def test_an_endpoint_that_is_none(self) -> None:
        error = self.assertRaises(CannotStart, makeService, self.parse("--listen", "frob"))
        self.assertEqual(1, error.code)
        self.assertIn("'frob' is no server endpoint", self.stderr.getvalue())

    def test_rules_that_make_no_sense(self) -> None:
        error = self.assertRaises(CannotStart, makeService, self.parse("--access-rules", "/nonexistent"))
        self.assertEqual(1, error.code)
        self.assertEqual(
            "virnet: cannot read /nonexistent: No such file or directory\n", self.stderr.getvalue()
        )

    def test_is_a_daemon(self) -> None:
        from twisted.internet import reactor

        def callWhenRunning(*arguments: object) -> None:
            pass

        # The signals of the process that runs the tests are not this test's to change.
        self.patch(reactor, "callWhenRunning", callWhenRunning)
        service = makeService(self.parse("--listen", "tcp:0", "--listen-readonly", "tcp:0"))
        self.assertIsInstance(service, Daemon)
        assert isinstance(service, Daemon)
        self.assertEqual([False, True], [each.readonly for each in service.services])
