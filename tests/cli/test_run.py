"""How the command ends: what is checked before it connects, and what an error becomes."""

from __future__ import annotations

import io
import json
import os

from twisted.trial.unittest import SynchronousTestCase

from virnet.cli.arguments import UsageError, parseArguments
from virnet.cli.output import Output
from virnet.cli.run import DONE, FAILED, MISUSED, prepared, statusOf, wantsStyle
from virnet.errors import ConnectionLost, RemoteError, URIError, VirnetError


class MainCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.stdout = io.StringIO()
        self.stderr = io.StringIO()
        self.output = Output(self.stdout, self.stderr)

    def prepare(self, *words: str) -> bool:
        options = parseArguments(words, {})
        self.output.asJSON = getattr(options, "json", False)
        return prepared(options, self.output)

    def refused(self, why: str, *words: str) -> None:
        error = self.assertRaises(UsageError, self.prepare, *words)
        self.assertEqual(why, str(error))


class Preparing(MainCase):
    """
    What can be known to be wrong is known before anything is connected.
    """

    def test_what_makes_sense_is_to_be_run(self) -> None:
        self.assertIs(False, self.prepare("-c", "test:///default", "list"))
        self.assertIs(False, self.prepare("-c", "test:///default", "call", "connectGetURI"))

    def test_an_unknown_procedure(self) -> None:
        self.refused("there is no procedure 'frob'", "-c", "test:///x", "call", "frob")

    def test_no_procedure(self) -> None:
        self.refused("which procedure? see 'virnet call --help', or 'virnet call --list'", "call")

    def test_streams_and_descriptors(self) -> None:
        self.refused(
            "domainOpenConsole opens a stream, which 'call' cannot carry",
            "call",
            "domainOpenConsole",
            "test",
            "null",
        )
        self.refused(
            "domainFDAssociate passes file descriptors, which 'call' cannot carry",
            *("call", "domainFDAssociate", "test", "x"),
        )

    def test_arguments_given_twice(self) -> None:
        self.refused(
            "arguments are given in order or with --args, not both",
            *("call", "domainLookupByID", "1", "--args", '{"id": 1}'),
        )

    def test_a_file_that_cannot_be_read(self) -> None:
        error = self.assertRaises(VirnetError, self.prepare, "define", "/nonexistent.xml")
        self.assertEqual("cannot read /nonexistent.xml: No such file or directory", str(error))

    def test_no_server(self) -> None:
        self.patch(os, "geteuid", lambda: 1000)
        self.patch(os, "environ", {})
        self.refused("which server? give -c URI or set LIBVIRT_DEFAULT_URI; see 'virnet --help'", "list")

    def test_explaining_a_uri_needs_no_server(self) -> None:
        self.assertIs(True, self.prepare("uri", "explain", "test+unix:///default?socket=/s&x=1"))
        self.assertEqual(
            """\
URI:       test+unix:///default?socket=/s&x=1
             as it was given
Transport: unix
             the URI says so
Socket:    /s
             the parameter 'socket'
Starts:    -
             the socket is named
Opens:     test:///default?x=1
             the URI without what is for the client
Read-only: no
             unless -r is given
""",
            self.stdout.getvalue(),
        )

    def test_the_uri_to_explain_is_by_default_the_one_to_use(self) -> None:
        self.assertIs(True, self.prepare("-c", "qemu+tcp://h/system", "-r", "uri", "explain", "--json"))
        found = json.loads(self.stdout.getvalue())
        self.assertEqual(found["host"], {"value": "h", "why": "the URI"})
        self.assertEqual(found["readonly"]["value"], True)
        self.assertIs(False, self.prepare("-c", "qemu+tcp://h/system", "uri"))
        self.refused("unexpected argument 'expound'; see 'virnet uri --help'", "uri", "expound")

    def test_listing_procedures_needs_no_server(self) -> None:
        self.assertIs(True, self.prepare("call", "--list", "lookup_by_name"))
        lines = self.stdout.getvalue().splitlines()
        self.assertIn("REMOTE  domainLookupByName(name: string) -> domain", lines)
        self.assertTrue(all("LookupByName(" in line for line in lines), lines)
        self.assertIs(True, self.prepare("call", "--list", "--program", "lxc"))
        self.assertIn(
            "LXC  domainLxcOpenNamespace(dom: domain, flags: unsigned int) -> nothing", self.stdout.getvalue()
        )


class Colour(SynchronousTestCase):
    """
    Only where somebody looks, and wants it.
    """

    def wanted(self, isTerminal: bool, **environ: str) -> bool:
        self.patch(os, "environ", environ)
        return wantsStyle(isTerminal)

    def test_on_a_terminal(self) -> None:
        self.assertTrue(self.wanted(True, TERM="xterm"))

    def test_not_in_a_pipe(self) -> None:
        self.assertFalse(self.wanted(False, TERM="xterm"))

    def test_not_for_who_does_not_want_it(self) -> None:
        self.assertFalse(self.wanted(True, TERM="xterm", NO_COLOR="1"))
        self.assertTrue(self.wanted(True, TERM="xterm", NO_COLOR=""))

    def test_not_where_it_would_be_rubbish(self) -> None:
        self.assertFalse(self.wanted(True, TERM="dumb"))
        self.assertFalse(self.wanted(True))


class Ending(MainCase):
    """
    Every error is a line and a status.
    """

    def check(self, status: int, line: str, error: BaseException) -> None:
        self.assertEqual(status, statusOf(error, self.output))
        self.assertEqual(line, self.stderr.getvalue())
        self.assertEqual("", self.stdout.getvalue())

    def test_statuses(self) -> None:
        self.assertEqual((0, 1, 2), (DONE, FAILED, MISUSED))

    def test_wrong_usage(self) -> None:
        self.check(2, "virnet: no command\n", UsageError("no command"))

    def test_what_the_server_refuses(self) -> None:
        self.check(1, "virnet: XML error: a b\n", RemoteError(27, "XML error: a\nb\n"))

    def test_what_cannot_be_reached(self) -> None:
        self.check(1, "virnet: x: cannot connect\n", ConnectionLost("x: cannot connect"))

    def test_what_is_no_URI(self) -> None:
        self.check(1, "virnet: 'x' is not a URI\n", URIError("'x' is not a URI"))

    def test_what_the_system_refuses(self) -> None:
        self.check(1, "virnet: [Errno 28] No space left on device\n", OSError(28, "No space left on device"))

    def test_a_bug_is_a_line_too(self) -> None:
        self.check(1, "virnet: internal error: KeyError: 'x'; --debug shows where\n", KeyError("x"))
