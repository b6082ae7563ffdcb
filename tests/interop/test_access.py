"""
Access rules against real clients: users of this machine and users of SASL, with virsh and libvirt-python.

What a refusal looks like is libvirtd's affair: it is asked too, with its own access driver.
"""

from __future__ import annotations

import grp
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop.polkit import PolkitBus
from tests.interop.support import LibvirtDaemon, VirnetDaemon, requireTool
from tests.interop.test_polkit import POLKIT_CONFIG, OnABus, usable

ALICE, BOB = 5, 9

RULES = """\
permit any       connect:{getattr,read} connect:search_*
permit uid:0     *
permit uid:5     domain:{getattr,read,start,stop} name=web-*
permit uid:9     domain:getattr
permit sasl:carol domain:{getattr,read}
permit sasl:carol domain:{start,stop} name=test
permit sasl:dave domain:getattr name=web-*
"""

#: Does what its argument says and prints the outcome of each step.
CLIENT = """\
import json, libvirt, sys
libvirt.registerErrorHandler(lambda *ignored: None, None)
def tried(step):
    try:
        return eval(step)
    except libvirt.libvirtError as e:
        return [e.get_error_code(), e.get_error_domain(), e.get_error_message()]
try:
    wanted = [libvirt.VIR_CRED_AUTHNAME, libvirt.VIR_CRED_PASSPHRASE]
    connection = libvirt.openAuth(sys.argv[1], [wanted, lambda *ignored: -1, None], 0)
    print(json.dumps([tried(step) for step in sys.argv[2:]]))
except libvirt.libvirtError as e:
    print(json.dumps([e.get_error_code(), e.get_error_domain(), e.get_error_message()]))
"""

LIST = "[each.name() for each in connection.listAllDomains()]"
NAMES = "connection.listDefinedDomains()"
DENIED = [88, 55, "access denied: 'virnet' denied access"]
XML = "<domain type='test'><name>{}</name><memory>1024</memory><os><type>hvm</type></os></domain>"


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        requireTool(self, "virsh", "setpriv")
        if os.geteuid() != 0:
            if os.environ.get("CI"):
                self.fail("only root can be several users, and in CI nothing may be missing")
            raise SkipTest("only root can be several users")
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-access-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.directory.chmod(0o755)

    def serve(self, *options: str) -> None:
        """Start our daemon with the rules; everybody may connect."""
        rules = self.directory / "rules"
        rules.write_text(RULES)
        self.path = self.directory / "all"
        self.daemon = VirnetDaemon(
            self.directory / "d",
            "--access-rules",
            str(rules),
            "--listen",
            f"unix:{self.path}:mode=666",
            *options,
        )
        self.daemon.start()
        self.addCleanup(self.daemon.stop)

    def run_(self, user: int, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a client as a user."""
        return subprocess.run(
            ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command],
            env={**os.environ, "HOME": "/nonexistent", "LC_ALL": "C", **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def does(self, user: int, *steps: str, uri: str | None = None, **environment: str) -> Any:
        """What becomes of steps with libvirt-python."""
        uri = uri or f"test+unix:///default?socket={self.path}"
        done = self.run_(user, "/usr/bin/python3", "-c", CLIENT, uri, *steps, **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)


class Users(_Case):
    """
    Users of this machine, on one UNIX socket.
    """

    def setUp(self) -> None:
        super().setUp()
        self.serve()
        made = self.does(
            0, *(f"connection.defineXML({XML.format(name)!r}).name()" for name in ("web-1", "db-1"))
        )
        self.assertEqual(made, ["web-1", "db-1"])

    def test_each_sees_what_it_may_see(self) -> None:
        self.assertEqual(self.does(0, LIST, NAMES), [["test", "web-1", "db-1"], ["web-1", "db-1"]])
        self.assertEqual(self.does(ALICE, LIST, NAMES), [["web-1"], ["web-1"]])
        self.assertEqual(self.does(BOB, LIST, NAMES), [["test", "web-1", "db-1"], ["web-1", "db-1"]])
        self.assertEqual(self.does(7, LIST, NAMES, "connection.numOfDomains()"), [[], [], 0])

    def test_each_does_what_it_may_do(self) -> None:
        start = "connection.lookupByName('web-1').create()"
        stop = "connection.lookupByName('web-1').destroy()"
        self.assertEqual(self.does(ALICE, start, stop), [0, 0])
        self.assertEqual(self.does(BOB, start, stop), [DENIED, DENIED])
        self.assertEqual(self.does(ALICE, "connection.lookupByName('db-1')"), [DENIED])
        self.assertEqual(self.does(ALICE, "connection.lookupByName('web-1').undefine()"), [DENIED])
        self.assertEqual(self.does(ALICE, "connection.networkLookupByName('default')"), [DENIED])

    def test_virsh(self) -> None:
        uri = f"test+unix:///default?socket={self.path}"
        done = self.run_(ALICE, "virsh", "-c", uri, "list --all --name; start web-1; start db-1")
        self.assertEqual(done.stdout.split("\n\n")[0].split(), ["web-1"])
        self.assertIn("Domain 'web-1' started", done.stdout)
        # It has tried it as an id and as a uuid too, and tells of neither.
        self.assertEqual(done.stderr.strip(), "error: failed to get domain 'db-1'")
        done = self.run_(BOB, "virsh", "-c", uri, "destroy web-1")
        self.assertIn("error: access denied: 'virnet' denied access", done.stderr)

    def test_it_is_in_the_log(self) -> None:
        self.does(ALICE, "connection.lookupByName('web-1').undefine()")
        line = next(each for each in self.daemon.log.splitlines() if "access denied" in each)
        for word in ("virnet.audit", "uid 5", "domainUndefine", "domain 'web-1'", "domain:delete"):
            self.assertIn(word, line)


class SASLUsers(_Case):
    """
    Users that Twisted's own C{--auth} knows, with PLAIN over a UNIX socket.
    """

    def setUp(self) -> None:
        super().setUp()
        passwords = self.directory / "passwords"
        passwords.write_text("carol:pw1\ndave:pw2\n")
        self.serve("--auth-unix", "sasl", "--auth", f"file:{passwords}")

    def credentials(self, name: str, password: str) -> str:
        """An C{auth.conf} of libvirt's."""
        path = self.directory / f"{name}.conf"
        path.write_text(
            f"[credentials-x]\nusername={name}\nauthname={name}\npassword={password}\n"
            "[auth-libvirt-localhost]\ncredentials=x\n"
        )
        path.chmod(0o644)
        return str(path)

    def test_rules_are_about_who_has_authenticated(self) -> None:
        stop = "connection.lookupByName('test').destroy()"
        carol = self.credentials("carol", "pw1")
        dave = self.credentials("dave", "pw2")
        self.assertEqual(self.does(7, LIST, stop, LIBVIRT_AUTH_FILE=dave), [[], DENIED])
        self.assertEqual(self.does(7, LIST, stop, LIBVIRT_AUTH_FILE=carol), [["test"], 0])

    def test_who_has_not_is_not_let_in(self) -> None:
        wrong = self.credentials("carol", "wrong")
        failed = [45, 7, "authentication failed: authentication failed"]
        self.assertEqual(self.does(7, LIST, LIBVIRT_AUTH_FILE=wrong), failed)


class Sockets(_Case):
    """
    Whom the file system lets in.
    """

    def test_a_group(self) -> None:
        path = self.directory / "group"
        daemon = VirnetDaemon(self.directory / "d", "--listen", f"unix:{path}:mode=660:group=games")
        daemon.start()
        self.addCleanup(daemon.stop)
        # It answers when all of it is there.
        self.assertEqual(self.does(0, LIST, uri=daemon.uri), [["test"]])
        found = path.stat()
        games = grp.getgrnam("games").gr_gid
        self.assertEqual((found.st_uid, found.st_gid, found.st_mode & 0o777), (0, games, 0o660))
        uri = f"test+unix:///default?socket={path}"
        for group, inside in ((games, True), (7, False)):
            done = subprocess.run(
                ["setpriv", "--reuid=9", f"--regid={group}", "--clear-groups", "virsh", "-c", uri, "list"],
                env={**os.environ, "HOME": "/nonexistent", "LC_ALL": "C"},
                cwd="/",
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual("Permission denied" not in done.stderr and done.returncode == 0, inside, done)
        daemon.stop()
        self.assertFalse(path.exists())


class Libvirtd(_Case):
    """
    What a refusal is with libvirtd and its access driver.
    """

    def test_code_and_domain_are_ours_too(self) -> None:
        reason = usable()
        if reason is not None:
            raise SkipTest(reason)
        actions = dict.fromkeys(("org.libvirt.unix.manage", "org.libvirt.api.connect.getattr"), "yes")
        bus = PolkitBus(
            'polkit.addRule(function(action, subject) { if (action.id == "org.libvirt.api.connect.getattr" &&'
            ' subject.user == "games") return polkit.Result.NO; });',
            actions,
        )
        bus.start()
        self.addCleanup(bus.stop)
        settings = POLKIT_CONFIG + 'access_drivers = [ "polkit" ]\n'
        daemon = LibvirtDaemon(bus.directory / "d", settings=settings)
        with OnABus(bus.address):
            daemon.start()
        self.addCleanup(daemon.stop)
        uri = f"storage:///system?socket={daemon.socketPath}"
        self.assertEqual(self.does(9, "connection.isAlive()", uri=uri), [1])
        refused = self.does(5, uri=uri)
        self.assertEqual(refused, [88, 55, "access denied: 'storage' denied access"])
        self.assertEqual(refused[:2], DENIED[:2])
