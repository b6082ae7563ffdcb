"""What may be typed, and what is said when it makes no sense."""

from __future__ import annotations

import io
import os
from argparse import ArgumentParser, Namespace, _SubParsersAction
from contextlib import redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from virnet._version import __version__
from virnet.cli.arguments import UsageError, buildParser, defaultURI, parseArguments
from virnet.cli.table import COMMANDS, HIDDEN, found


def parse(*words: str) -> Namespace:
    return parseArguments(words, {})


class Options(SynchronousTestCase):
    """
    What is understood.
    """

    def test_common_options_stand_before_or_behind_the_command(self) -> None:
        for words in (("-c", "test:///x", "-r", "list"), ("list", "-r", "--connect", "test:///x")):
            options = parse(*words)
            self.assertEqual(
                ("list", "test:///x", True), (options.command, options.connect, options.readonly)
            )

    def test_what_is_not_said(self) -> None:
        options = parse("list")
        self.assertEqual((None, False, False), (options.connect, options.readonly, options.debug))
        self.assertEqual((False, False), (options.all, options.json))

    def test_every_command_is_there(self) -> None:
        """
        Its code, its options and what is called before it are where the table says.
        """
        for name, command in COMMANDS.items():
            for each in (command.runs, command.options, command.prepare):
                if each:
                    self.assertTrue(callable(found(each)), (name, each))
            self.assertEqual(name, parse(name, *self.needed(self.parser(name))).command)

    def parser(self, name: str) -> ArgumentParser:
        (commands,) = (each for each in buildParser({})._actions if isinstance(each, _SubParsersAction))
        parser: ArgumentParser = commands.choices[name]
        return parser

    def needed(self, parser: ArgumentParser) -> list[str]:
        """
        Words for the arguments that a command cannot do without.
        """
        words: list[str] = []
        for each in parser._actions:
            if isinstance(each, _SubParsersAction):
                action, inner = next(iter(each.choices.items()))
                words += [action, *self.needed(inner)]
            elif each.required and each.option_strings:
                words += [each.option_strings[0], "x"]
            elif not each.option_strings and each.nargs not in ("?", "*"):
                words.append(next(iter(each.choices)) if each.choices else "x")
        return words

    def test_options_stand_between_arguments(self) -> None:
        """
        Also where some of these may be left out.
        """
        for words in (
            ("v", "--pool", "p", "file"),
            ("--pool", "p", "v", "file"),
            ("v", "file", "--pool", "p"),
        ):
            options = parse("vol-upload", *words)
            self.assertEqual(("v", "file", "p"), (options.volume, options.source, options.pool))
        self.assertIsNone(parse("vol-upload", "v", "--from", "http://x/y").source)

    def test_events(self) -> None:
        options = parse(
            "events", "-e", "reboot", "-e", "lifecycle", "-n", "3", "-t", "0.5", "-d", "web1", "--json"
        )
        self.assertEqual(["reboot", "lifecycle"], options.event)
        self.assertEqual(
            (3, 0.5, "web1", False), (options.count, options.timeout, options.domain, options.follow)
        )
        self.assertEqual(
            (1, None, None), (parse("events").count, parse("events").event, parse("events").timeout)
        )

    def test_call(self) -> None:
        options = parse("call", "domainGetInfo", "test")
        self.assertEqual(("domainGetInfo", ["test"]), (options.procedure, options.words))
        self.assertEqual(
            (None, None, False, False), (options.args, options.program, options.bare, options.list)
        )

    def test_options_of_call_stand_anywhere(self) -> None:
        for words in (
            ("--program", "qemu", "x", "1", "-2"),
            ("x", "--program", "QEMU", "1", "-2"),
            ("x", "1", "--program", "Qemu", "-2"),
            ("x", "1", "-2", "--program", "qemu"),
        ):
            options = parse("call", *words)
            self.assertEqual(("QEMU", "x", ["1", "-2"]), (options.program, options.procedure, options.words))


class Mistakes(SynchronousTestCase):
    """
    Each is one line that says where help is.
    """

    def check(self, why: str, *words: str) -> None:
        error = self.assertRaises(UsageError, parse, *words)
        self.assertEqual(why, str(error))

    def test_commands(self) -> None:
        self.check("no command; see 'virnet --help'")
        self.check("there is no command 'frob'; see 'virnet --help'", "frob")
        self.check("there is no command 'strat', perhaps start; see 'virnet --help'", "strat", "test")
        self.check("unexpected argument '--frob'; see 'virnet list --help'", "list", "--frob")
        self.check("unexpected argument 'x'; see 'virnet list --help'", "list", "x")
        self.check(
            "the following arguments are required: DOMAIN; see 'virnet info --help'",
            "info",
        )

    def test_values(self) -> None:
        self.check(
            "argument -n/--count: '0' is not a number of 1 or more; see 'virnet ping --help'",
            "ping",
            "-n",
            "0",
        )
        self.check(
            "argument -t/--timeout: 'inf' is not a number of seconds; see 'virnet events --help'",
            *("events", "-t", "inf"),
        )
        self.check(
            "argument -e/--event: 'frob' is no event; see 'virnet events --help'", "events", "-e", "frob"
        )
        self.check(
            "argument -n/--count: not allowed with argument -f/--follow; see 'virnet events --help'",
            *("events", "-f", "-n", "2"),
        )

    def test_call(self) -> None:
        self.check("unexpected argument '--frob'; see 'virnet call --help'", "call", "x", "--frob")
        self.check(
            "argument -p/--program: 'frob' is not one of remote, qemu, lxc, admin, lock; "
            "see 'virnet call --help'",
            *("call", "--program", "frob", "x"),
        )


class Help(SynchronousTestCase):
    """
    C{--help} explains itself.
    """

    def printed(self, *words: str) -> str:
        out = io.StringIO()
        with redirect_stdout(out):
            error = self.assertRaises(SystemExit, parse, *words)
        self.assertEqual(0, error.code)
        return out.getvalue()

    def test_names_every_command(self) -> None:
        text = self.printed("--help")
        for name in COMMANDS:
            if name not in HIDDEN:
                self.assertRegex(text, rf"\n    {name} +\w")
        self.assertIn("LIBVIRT_DEFAULT_URI", text)

    def test_names_every_event(self) -> None:
        self.assertIn("  lifecycle reboot rtc-change ", self.printed("events", "--help"))

    def test_explains_JSON(self) -> None:
        self.assertIn("base64", self.printed("call", "--help"))

    def test_fits_a_terminal(self) -> None:
        """
        Our own texts do; argparse wraps what it makes.
        """
        for name in ("--help", *COMMANDS):
            text = self.printed(*([name] if name == "--help" else [name, "--help"]))
            self.assertLess(max(len(line) for line in text.splitlines()), 101, name)

    def test_version(self) -> None:
        self.assertEqual(f"virnet {__version__}\n", self.printed("--version"))

    def test_the_examples_are_right(self) -> None:
        """
        Each example in the help of C{call} can be typed.
        """
        import shlex

        from virnet.cli.call import prepare
        from virnet.cli.options import CALL_EPILOG

        examples = [line for line in CALL_EPILOG.splitlines() if line.startswith("  virnet call")]
        self.assertGreater(len(examples), 4)
        for line in examples:
            options = parse(*shlex.split(line)[1:])
            if not options.list:
                prepare(options)

    def test_the_parser_is_named_after_the_command(self) -> None:
        self.assertEqual("virnet", buildParser({}).prog)


class DefaultServer(SynchronousTestCase):
    """
    Which server is meant when C{-c} names none.
    """

    def asUser(self, uid: int) -> None:
        self.patch(os, "geteuid", lambda: uid)

    def test_the_variables_count_first_and_virshs_own_before_all(self) -> None:
        environ = {"LIBVIRT_DEFAULT_URI": "x:///", "XDG_RUNTIME_DIR": "/r"}
        self.assertEqual("x:///", defaultURI(environ))
        self.assertEqual("y:///", defaultURI({**environ, "VIRSH_DEFAULT_CONNECT_URI": "y:///"}))

    def test_then_the_configuration(self) -> None:
        self.asUser(1000)
        directory = self.mktemp()
        os.makedirs(f"{directory}/libvirt")
        with open(f"{directory}/libvirt/libvirt.conf", "w") as file:
            file.write('uri_default = "z:///"\n')
        environ = {"XDG_CONFIG_HOME": directory, "XDG_RUNTIME_DIR": "/r"}
        self.assertEqual("z:///", defaultURI(environ))
        self.assertEqual("x:///", defaultURI({**environ, "LIBVIRT_DEFAULT_URI": "x:///"}))

    def test_then_our_own_server(self) -> None:
        self.asUser(1000)
        self.assertEqual(
            "test+unix:///default?socket=/run/user/1000/virnet/virnet-sock",
            defaultURI({"XDG_RUNTIME_DIR": "/run/user/1000", "LIBVIRT_DEFAULT_URI": ""}),
        )

    def test_whose_path_may_have_any_characters(self) -> None:
        self.asUser(1000)
        self.assertEqual(
            "test+unix:///default?socket=/a%20%26%3F/virnet/virnet-sock",
            defaultURI({"XDG_RUNTIME_DIR": "/a &?"}),
        )

    def test_root_has_a_place_of_its_own(self) -> None:
        self.asUser(0)
        wanted = "test+unix:///default?socket=/run/virnet/virnet-sock"
        self.assertEqual(wanted, defaultURI({}))
        self.assertEqual(wanted, defaultURI({"XDG_RUNTIME_DIR": "/run/user/1000"}))

    def test_there_may_be_none(self) -> None:
        self.asUser(1000)
        self.assertIsNone(defaultURI({}))
