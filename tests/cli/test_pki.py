"""
C{virnet pki}: what is typed, what is printed, how it ends.
"""

from __future__ import annotations

import getpass
import os
import socket
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.pki import DAY, issue, write
from virnet.cli.arguments import UsageError, parseArguments
from virnet.cli.output import Output
from virnet.cli.pki import pki
from virnet.errors import RemoteError, VirnetError
from virnet.security.certificates import checkHost, dnOf, loadCertificate
from virnet.security.pki import PKIError


class PKITests(SynchronousTestCase):
    """
    In a directory of its own.
    """

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())

    def typed(self, *words: str) -> tuple[str, str]:
        """
        @return: what C{virnet pki} printed, and noted.
        """
        stdout, stderr = StringIO(), StringIO()
        pki(parseArguments(["pki", *words, "--directory", self.directory]), Output(stdout, stderr))
        return stdout.getvalue(), stderr.getvalue()

    def test_from_nothing_to_all_in_order(self) -> None:
        printed, noted = self.typed("init", "--name", "Our CA")
        self.assertIn("authority: CN=Our CA, until ", printed)
        self.assertIn(f"\n  {self.directory}/cacert.pem\n  {self.directory}/cakey.pem\n", printed)
        self.assertIn(f"keep {self.directory}/cakey.pem to yourself", noted)
        printed, _ = self.typed("server", "--host", "a.test", "--host", "127.0.0.1")
        self.assertIn("server: CN=a.test, until ", printed)
        self.assertIn("hosts: a.test, 127.0.0.1\n", printed)
        printed, _ = self.typed("client", "--name", "alice", "--key", "rsa", "--days", "40")
        self.assertIn("client: CN=alice, until ", printed)
        printed, _ = self.typed("check")
        self.assertEqual(["ok"] * 5, [line.split()[0] for line in printed.splitlines()])
        self.typed("check", "--host", "a.test")

    def test_defaults(self) -> None:
        self.typed("init")
        self.typed("server")
        self.typed("client")
        server = loadCertificate(f"{self.directory}/servercert.pem", "server")
        checkHost(server, socket.gethostname())
        client = loadCertificate(f"{self.directory}/clientcert.pem", "client")
        self.assertEqual(f"CN={getpass.getuser()}", dnOf(client))

    def test_for_another_machine(self) -> None:
        self.typed("init")
        authority, self.directory = self.directory, os.path.abspath(self.mktemp())
        self.typed("client", "--authority", authority, "--name", "alice")
        self.typed("check", "client")
        self.assertFalse(os.path.exists(f"{self.directory}/cakey.pem"))

    def test_nothing_is_overwritten_without_force(self) -> None:
        self.typed("init")
        self.assertRaises(PKIError, self.typed, "init")
        self.typed("init", "--force")

    def test_problems_are_told_with_what_to_do_and_counted(self) -> None:
        authority = issue(name="CA", ca=True, end=90 * DAY)
        leaf = issue(authority, hosts=["a.test"], end=-DAY, start=-2 * DAY)
        write(Path(self.directory), [authority], server=leaf)
        os.chmod(f"{self.directory}/serverkey.pem", 0o644)
        options = parseArguments(["pki", "check", "--directory", self.directory])
        stdout = StringIO()
        with self.assertRaises(VirnetError) as raised:
            pki(options, Output(stdout, StringIO()))
        self.assertEqual("3 problems", str(raised.exception))
        lines = stdout.getvalue().splitlines()
        self.assertIn(f"problem  {self.directory}/servercert.pem: CN=peer has expired on ", lines[1])
        self.assertEqual(f"         -> virnet pki server --directory {self.directory} --force", lines[2])
        self.assertIn(f"         -> chmod 600 {self.directory}/serverkey.pem", lines)

    def test_a_warning_is_no_problem(self) -> None:
        authority = issue(name="CA", ca=True, end=90 * DAY)
        write(Path(self.directory), [authority], client=issue(authority, end=3 * DAY))
        os.chmod(f"{self.directory}/clientkey.pem", 0o600)
        printed, _ = self.typed("check")
        self.assertIn("warning  ", printed)

    def test_only_what_was_asked_for_is_checked(self) -> None:
        self.typed("init")
        self.typed("client")
        self.typed("check")
        self.assertRaises(VirnetError, self.typed, "check", "server")
        self.assertRaises(VirnetError, self.typed, "check", "--host", "a.test")

    def test_nothing_to_check(self) -> None:
        with self.assertRaises(PKIError) as raised:
            self.typed("check")
        self.assertIn("'virnet pki server' and 'virnet pki client' make them", str(raised.exception))

    def test_a_host_that_the_server_is_not(self) -> None:
        self.typed("init")
        self.typed("server", "--host", "a.test")
        self.assertRaises(VirnetError, self.typed, "check", "--host", "b.test")
        with self.assertRaises(RemoteError):
            checkHost(loadCertificate(f"{self.directory}/servercert.pem", "server"), "b.test")

    def test_what_makes_no_sense(self) -> None:
        for words in ([], ["mint"], ["init", "--key", "dsa"], ["init", "--days", "0"], ["check", "both"]):
            self.assertRaises(UsageError, parseArguments, ["pki", *words])
