"""What bash and zsh offer: real shells at a terminal, with the script and a server."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.terminals import PATIENCE, Typist
from tests.cli.test_terminal import environment
from tests.interop.support import VirnetDaemon, requireTool
from virnet.cli.completion import script
from virnet.cli.table import COMMANDS, HIDDEN

DOMAIN = "<domain type='test'><name>{}</name><memory>1</memory><os><type>hvm</type></os></domain>"
VOLUME = "<volume><name>{}</name><capacity>1000</capacity><allocation>0</allocation></volume>"


class CompletionCase(SynchronousTestCase):
    """
    A shell that has a command C{virnet}, and a server with some domains and volumes.
    """

    daemon: ClassVar[VirnetDaemon | None] = None
    shell: ClassVar[tuple[str, ...]]

    def setUp(self) -> None:
        requireTool(self, self.shell[0])
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, self.directory)
        command = self.directory / "virnet"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m virnet.cli "$@"\n')
        command.chmod(0o755)
        (self.directory / "script").write_text(script(self.shell[0]))
        if CompletionCase.daemon is None:
            CompletionCase.daemon = VirnetDaemon()
            CompletionCase.daemon.start()
            for name in ("web-one", "web-two", "with space"):
                self.called("domainDefineXML", DOMAIN.format(name))
            for name in ("disk-a", "disk-b"):
                self.called("storageVolCreateXML", "default-pool", VOLUME.format(name))

    @property
    def variables(self) -> dict[str, str]:
        assert self.daemon is not None
        made = environment(self.daemon.uri)
        return {**made, "PATH": f"{self.directory}:{made['PATH']}", "HOME": str(self.directory), "PS1": "$ "}

    def called(self, *words: str) -> None:
        subprocess.run(
            [str(self.directory / "virnet"), "call", *words],
            env=self.variables,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )

    def offered(self, *words: str, **variables: str) -> list[str]:
        """
        What the script offers for the last word, asked directly.
        """
        done = subprocess.run(
            [
                *self.shell,
                "-c",
                f'compdef() {{ :; }}; source {self.directory}/script; _virnet_offer "$@"',
                "x",
                *words,
            ],
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self.assertEqual("", done.stderr)
        return done.stdout.splitlines()


class Bash(CompletionCase):
    shell = ("bash", "--norc")

    def test_commands(self) -> None:
        self.assertEqual(["vol-list", "vol-upload", "vol-download"], self.offered("vol-"))
        self.assertEqual([name for name in COMMANDS if name not in HIDDEN], self.offered(""))
        self.assertEqual(["list"], self.offered("-c", "test:///default", "lis"))

    def test_options(self) -> None:
        self.assertEqual(["--connect"], self.offered("list", "--con"))
        self.assertEqual(["--from", "--format"], self.offered("vol-upload", "--f"))
        self.assertEqual(["--readonly"], self.offered("--rea"))

    def test_choices(self) -> None:
        self.assertEqual(["keep", "wipe", "delete"], self.offered("vol-upload", "v", "--on-failure", ""))
        self.assertEqual(["zsh"], self.offered("completion", "z"))
        self.assertEqual(["pool-lifecycle", "pool-refresh"], self.offered("events", "-e", "pool-"))

    def test_actions_of_a_command_and_their_options(self) -> None:
        self.assertEqual(["server"], self.offered("pki", "s"))
        self.assertEqual(["--directory"], self.offered("pki", "check", "--di"))
        self.assertEqual(["rsa"], self.offered("pki", "init", "--key", "r"))

    def test_files(self) -> None:
        self.assertEqual(["files"], self.offered("define", ""))
        self.assertEqual(["files"], self.offered("vol-upload", "v", "--pool", "p", "x"))

    def test_nothing_where_nothing_is_known(self) -> None:
        self.assertEqual([], self.offered("ping", "--count", ""))
        self.assertEqual([], self.offered("info", "test", ""))
        self.assertEqual([], self.offered("frob", ""))

    def test_domains(self) -> None:
        self.assertEqual(["test", "web-one", "web-two", "with space"], self.offered("info", ""))
        self.assertEqual(["web-one", "web-two"], self.offered("console", "--force", "web"))
        self.assertEqual(["web-one"], self.offered("events", "-d", "web-o"))

    def test_of_the_server_in_the_line(self) -> None:
        assert self.daemon is not None
        variables = {"LIBVIRT_DEFAULT_URI": "test+unix:///default?socket=/nonexistent"}
        self.assertEqual([], self.offered("info", "", **variables))
        self.assertEqual(["test"], self.offered("-c", self.daemon.uri, "info", "te", **variables))

    def test_pools_and_volumes(self) -> None:
        self.assertEqual(["default-pool"], self.offered("vol-list", ""))
        self.assertEqual(["disk-a", "disk-b"], self.offered("vol-download", "--pool", "default-pool", ""))
        self.assertEqual(["disk-b"], self.offered("vol-upload", "-p", "default-pool", "disk-b"))
        self.assertEqual([], self.offered("vol-upload", "-p", "nosuch", ""))

    def test_procedures(self) -> None:
        self.assertIn("domainLookupByName", self.offered("call", "domainLookupBy"))
        self.assertEqual(["connectGetHostname"], self.offered("call", "connectGetHost"))

    def test_a_server_that_hangs_is_not_waited_for(self) -> None:
        import socket
        import time

        with socket.create_server(("127.0.0.1", 0)) as listener:
            uri = f"test+tcp://127.0.0.1:{listener.getsockname()[1]}/default"
            began = time.monotonic()
            self.assertEqual([], self.offered("-c", uri, "info", ""))
            self.assertLess(time.monotonic() - began, 10)

    def test_at_a_terminal(self) -> None:
        typist = Typist(*self.shell, "--noprofile", "-i", environment=self.variables)
        self.addCleanup(typist.close)
        typist.expect("$ ")
        typist.type(f"source {self.directory}/script\n")
        typist.expect("$ ")
        typist.type("virnet vol-up\t")
        typist.expect("virnet vol-upload ")
        typist.type("--pool def\t")
        typist.expect("default-pool ")
        typist.type("disk-\t\t")
        typist.expect("disk-a")
        typist.expect("disk-b")
        typist.type("a --chec\t")
        typist.expect("--checksum ")
        typist.type("\x15virnet info wi\t")
        typist.expect("with\\ space")
        typist.type(f"\x15virnet -c '{self.daemon and self.daemon.uri}' destroy te\t")
        typist.expect("destroy test ")
        typist.type("\x15exit\n")
        self.assertEqual(0, typist.finish())


class Zsh(CompletionCase):
    shell = ("zsh", "-f")

    def test_offers(self) -> None:
        self.assertEqual(["vol-list", "vol-upload", "vol-download"], self.offered("vol-"))

    def test_at_a_terminal(self) -> None:
        typist = Typist(*self.shell, "-i", environment={**self.variables, "PS1": "ready> "})
        self.addCleanup(typist.close)
        typist.expect("ready> ")
        typist.type(
            f"autoload -U compinit && compinit -u -D && source {self.directory}/script && print lo''aded\n"
        )
        typist.expect("loaded")
        typist.expect("ready> ")
        typist.type("virnet vol-up\t")
        typist.expect("load")
        typist.type("--pool def\t")
        typist.expect("ault-pool")
        typist.type("disk-\t\t")
        typist.expect("disk-a")
        typist.expect("disk-b")
        typist.type("\x15virnet info wi\t")
        typist.expect("th\\ space")
        typist.type("\x15exit\n")
        self.assertEqual(0, typist.finish())
