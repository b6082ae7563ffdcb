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

    def serve(self, *options: str, rules: str = RULES) -> None:
        """Start our daemon with the rules; everybody may connect."""
        path = self.directory / "rules"
        path.write_text(rules)
        self.path = self.directory / "all"
        self.daemon = VirnetDaemon(
            self.directory / "d",
            "--access-rules",
            str(path),
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
    The same user, the same rules, the same calls: libvirtd with its access driver, and our daemon.
    """

    #: What libvirtd asks polkit about; everybody may, unless a rule says otherwise.
    ACTIONS = (
        "unix.manage",
        "api.connect.getattr",
        "api.connect.read",
        "api.connect.search-storage-pools",
        "api.storage-pool.getattr",
        "api.storage-pool.read",
        "api.storage-pool.write",
        "api.storage-pool.start",
        "api.storage-pool.stop",
        "api.storage-pool.search-storage-vols",
    )

    POLKIT = """\
    polkit.addRule(function(action, subject) {
        if (subject.user == "root") return polkit.Result.YES;
        if (subject.user == "news" && action.id == "org.libvirt.api.connect.getattr") return polkit.Result.NO;
        if (action.id.indexOf("org.libvirt.api.storage-pool.") == 0) {
            var word = action.id.split(".")[4];
            var may = (word == "getattr" || word == "read") && action.lookup("pool_name") == "p1";
            return may ? polkit.Result.YES : polkit.Result.NO;
        }
    });
    """

    OURS = """\
    permit uid:0 *
    deny   uid:9 connect:getattr
    permit any   connect:{getattr,read,search_storage_pools}
    permit any   storage_pool:{getattr,read} name=p1
    """

    POOL = "<pool type='dir'><name>{name}</name><target><path>{directory}</path></target></pool>"

    CALLS = (
        "[each.name() for each in connection.listAllStoragePools()]",
        "connection.listStoragePools()",
        "connection.numOfStoragePools()",
        "connection.storagePoolLookupByName('p1').isActive()",
        "connection.storagePoolLookupByName('p1').destroy()",
        "connection.storagePoolLookupByName('p1').numOfVolumes()",
        "connection.storagePoolLookupByName('p2').name()",
        "connection.storagePoolLookupByName('p3').name()",
    )

    NOT_THERE = (49, "Storage pool not found: no storage pool with matching name 'p3'")

    def outcomes(self, uri: str) -> tuple[list[Any], Any]:
        """What becomes of the calls of one user, and of another one's connection."""
        for name in ("p1", "p2"):
            (self.directory / name).mkdir(exist_ok=True)
            xml = self.POOL.format(name=name, directory=self.directory / name)
            self.assertEqual(
                self.does(0, f"connection.storagePoolCreateXML({xml!r}).name()", uri=uri), [name]
            )
        return self.does(5, *self.CALLS, uri=uri), self.does(9, *self.CALLS, uri=uri)

    def theirs(self) -> tuple[list[Any], Any]:
        """With libvirtd."""
        bus = PolkitBus(self.POLKIT, {f"org.libvirt.{each}": "yes" for each in self.ACTIONS})
        bus.start()
        self.addCleanup(bus.stop)
        settings = POLKIT_CONFIG + 'access_drivers = [ "polkit" ]\n'
        daemon = LibvirtDaemon(bus.directory / "d", settings=settings)
        with OnABus(bus.address):
            daemon.start()
        self.addCleanup(daemon.stop)
        return self.outcomes(f"storage:///system?socket={daemon.socketPath}")

    def ours(self) -> tuple[list[Any], Any]:
        """With our daemon."""
        self.serve(rules=self.OURS)
        return self.outcomes(f"test+unix:///default?socket={self.path}")

    def test_the_same_is_seen_done_and_refused(self) -> None:
        reason = usable()
        if reason is not None:
            raise SkipTest(reason)
        for (calls, connection), denier in ((self.theirs(), "storage"), (self.ours(), "virnet")):
            denied = [88, 55, f"access denied: '{denier}' denied access"]
            *found, missing = calls
            self.assertEqual(found, [["p1"], ["p1"], 1, 1, denied, denied, denied])
            self.assertEqual((missing[0], missing[2]), self.NOT_THERE)
            self.assertEqual(connection, denied)
