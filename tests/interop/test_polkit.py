"""
Who polkit lets in: the same clients against our daemon and against libvirtd, with a real polkitd.

The clients are processes of ordinary users. What polkit thinks of them is in L{RULES}; who is not named there
needs the password of an administrator, which an agent asks for if there is one: C{polkitagent.py} here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop import support
from tests.interop.polkit import PolkitBus, polkitd
from tests.interop.support import Daemon, LibvirtDaemon, VirnetDaemon, requireTool
from tests.test_docs import DOCS, Session, matches, steps

#: Users that every Debian has.
SOMEBODY, DENIED, ALLOWED = 65534, 5, 9

RULES = """\
polkit.addRule(function(action, subject) {
    if (action.id == "org.libvirt.unix.manage") {
        if (subject.user == "games") return polkit.Result.NO;
        if (subject.user == "news") return polkit.Result.YES;
    }
});
"""

#: Debian's interpreter, which has the bindings.
OPEN = """\
import json, libvirt, sys
libvirt.registerErrorHandler(lambda *ignored: None, None)
try:
    connection = (libvirt.openReadOnly if sys.argv[2] == "r" else libvirt.open)(sys.argv[1])
    print(json.dumps([each.name() for each in connection.listAllDomains()]))
except libvirt.libvirtError as e:
    print(json.dumps([e.get_error_code(), e.get_error_domain(), e.get_error_message()]))
"""

LET_IN = ["test"]
NO_AGENT = [
    94,
    60,
    "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
]
DENIED_BY_POLICY = [45, 60, "authentication failed: access denied by policy"]
CANCELLED = [79, 60, "authentication cancelled: user cancelled authentication process"]
NO_POLKIT = [
    89,
    47,
    "error from service: GDBus.Error:org.freedesktop.DBus.Error.ServiceUnknown: The name"
    " org.freedesktop.PolicyKit1 was not provided by any .service files",
]
NO_BUS = [
    1,
    47,
    "internal error: Unable to get system bus connection: Could not connect: No such file or directory",
]


#: What sudo does, as far as the manual needs it.
SUDO = """\
#!/bin/sh
[ "$1" = -u ] || exec "$@"
user=$2
shift 2
cd /
exec setpriv --reuid="$user" --regid=nogroup --clear-groups "$@"
"""


class OnABus:
    """
    Puts what it starts on a bus: for as long as the C{with} lasts.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._before: str | None = None

    def __enter__(self) -> None:
        self._before = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = self._address

    def __exit__(self, *ignored: object) -> None:
        del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
        if self._before is not None:
            os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = self._before


class Ours(VirnetDaemon):
    """Our daemon, open to everyone whom polkit lets in."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "--auth-unix", "polkit", "--auth-unix-ro", "polkit")

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.options += ("--listen", f"unix:{self.directory}/all:mode=777")
        self.options += ("--listen-readonly", f"unix:{self.directory}/all-ro:mode=777")
        super().start()
        self.socketPath, self.readonlyPath = f"{self.directory}/all", f"{self.directory}/all-ro"


POLKIT_CONFIG = """\
auth_unix_ro = "polkit"
auth_unix_rw = "polkit"
"""


class Theirs(LibvirtDaemon):
    """libvirtd, the same."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, settings=POLKIT_CONFIG)


class _Case(SynchronousTestCase):
    """
    A bus with polkitd, and a daemon on it.
    """

    daemonType: type[Ours] | type[Theirs]
    bus: PolkitBus
    daemon: Daemon

    @classmethod
    def startAll(cls) -> None:
        """Start what all tests of a class share."""
        cls.bus = PolkitBus(RULES)
        cls.bus.start()
        with OnABus(cls.bus.address):
            cls.daemon = cls.daemonType(cls.bus.directory / "daemon")
            cls.daemon.start()

    def setUp(self) -> None:
        requireTool(self, "dbus-daemon", "pkcheck", "virsh", "setpriv", "unshare", "libvirtd")
        reason = usable()
        if reason is not None and os.environ.get("CI"):
            self.fail(f"{reason}, and in CI nothing may be missing")
        if reason is not None:
            raise SkipTest(reason)
        if "bus" not in vars(type(self)):
            self.startAll()

    def run_(self, *command: str, user: int, agent: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a client as a user, perhaps with somebody who is asked for a password."""
        if agent is None:
            before = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        else:
            before = [sys.executable, "-m", "tests.interop.polkitagent", agent, str(user)]
        environment = {**os.environ, **self.bus.environment, "HOME": "/nonexistent", "LC_ALL": "C"}
        return subprocess.run(
            [*before, *command],
            env=environment,
            cwd=support.ROOT if agent is not None else "/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def connects(
        self, user: int, readonly: bool = False, agent: str | None = None, daemon: Any = None
    ) -> Any:
        """What libvirt's Python bindings get: the names of the domains, or the error."""
        daemon = daemon or self.daemon
        path = daemon.readonlyPath if readonly else daemon.socketPath
        uri = f"test+unix:///default?socket={path}"
        done = self.run_(
            "/usr/bin/python3", "-c", OPEN, uri, "r" if readonly else "w", user=user, agent=agent
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)


def usable() -> str | None:
    """Why there can be no polkitd here, if there cannot."""
    if os.geteuid() != 0:
        return "only root can start a polkitd with rules of its own"
    if polkitd() is None:
        return "polkitd is not installed"
    if shutil.which("dbus-daemon") is None or shutil.which("pkcheck") is None:
        return "dbus-daemon or pkcheck is not installed"
    return None


class _Judged:
    """
    What must hold for both daemons.
    """

    run_: Any
    connects: Any
    daemon: Any
    bus: PolkitBus
    assertEqual: Any
    assertIn: Any
    assertTrue: Any

    def test_everybody_may_look(self) -> None:
        for user in (SOMEBODY, DENIED, ALLOWED):
            self.assertEqual(self.connects(user, readonly=True), LET_IN)

    def test_whom_a_rule_allows_may_manage(self) -> None:
        self.assertEqual(self.connects(ALLOWED), LET_IN)

    def test_whom_a_rule_denies_may_not(self) -> None:
        self.assertEqual(self.connects(DENIED), DENIED_BY_POLICY)

    def test_a_password_is_needed_and_nobody_is_there_to_ask_for_it(self) -> None:
        self.assertEqual(self.connects(SOMEBODY), NO_AGENT)

    def test_a_password_is_given(self) -> None:
        self.assertEqual(self.connects(SOMEBODY, agent="accept"), LET_IN)
        # For this process alone.
        self.assertEqual(self.connects(SOMEBODY), NO_AGENT)

    def test_the_dialog_is_closed(self) -> None:
        self.assertEqual(self.connects(SOMEBODY, agent="cancel"), CANCELLED)

    def test_R132_root_is_let_in(self) -> None:
        self.assertEqual(self.connects(0), LET_IN)

    def test_our_client(self) -> None:
        for user, outcome in ((ALLOWED, LET_IN), (DENIED, DENIED_BY_POLICY), (0, LET_IN)):
            self.assertEqual(self.weConnect(user, self.daemon.socketPath), outcome)
        self.assertEqual(self.weConnect(DENIED, self.daemon.readonlyPath), LET_IN)
        code, domain, message = self.weConnect(SOMEBODY, self.daemon.socketPath)
        self.assertEqual([code, domain], NO_AGENT[:2])
        self.assertTrue(message.startswith(NO_AGENT[2]), message)

    def weConnect(self, user: int, path: str) -> Any:
        """What our client gets."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.interop.ourclientas",
                str(user),
                f"test+unix:///default?socket={path}",
            ],
            cwd=support.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_virsh(self) -> None:
        uri = f"test+unix:///default?socket={self.daemon.socketPath}"
        done = self.run_("virsh", "-c", uri, "list", "--name", user=ALLOWED)
        self.assertEqual((done.returncode, done.stdout.split()), (0, ["test"]), done.stderr)
        done = self.run_("virsh", "-c", uri, "list", "--name", user=DENIED)
        self.assertEqual(done.returncode, 1)
        self.assertIn("error: authentication failed: access denied by policy", done.stderr)
        done = self.run_("virsh", "-c", uri, "list", "--name", user=SOMEBODY)
        self.assertEqual(done.returncode, 1)
        self.assertIn(NO_AGENT[2], done.stderr)


class OurDaemon(_Judged, _Case):
    """
    Ours.
    """

    daemonType = Ours


class Guide(_Case):
    """
    The page of the manual, followed to the letter; but with rules where this polkitd has them.
    """

    daemonType = Ours

    def test_let_polkit_decide_who_comes_in(self) -> None:
        directory = self.bus.directory / "guide"
        directory.mkdir()
        page = (DOCS / "howto" / "polkit.rst").read_text()
        page = page.replace("/tmp/virnet-polkit", str(directory / "made"))
        page = page.replace("/etc/polkit-1/rules.d", str(self.bus.directory / "rules"))
        sudo = directory / "sudo"
        sudo.write_text(SUDO)
        sudo.chmod(0o755)
        session = Session(directory)
        session.environment |= {**self.bus.environment, "HOME": "/nonexistent"}
        session.environment["PATH"] = f"{directory}:{session.environment['PATH']}"
        try:
            for step in steps(page):
                deadline = time.monotonic() + 10.0
                # polkitd learns of a new rule a moment later.
                while not matches(step.output, printed := session.follow(step)):
                    if time.monotonic() > deadline or step.keepsRunning:
                        self.fail(f"$ {step.command}\nprinted\n" + "\n".join(printed))
        finally:
            self.assertEqual([], session.end())


class Libvirtd(_Judged, _Case):
    """
    libvirtd 9.0.0.
    """

    daemonType = Theirs


class _WithoutPolkit:
    """
    What must hold for both when polkit cannot be asked.
    """

    daemonType: Any
    bus: PolkitBus
    connects: Any
    assertEqual: Any
    addCleanup: Any

    def test_there_is_no_bus(self) -> None:
        with OnABus("unix:path=/nonexistent"):
            daemon = self.daemonType(self.bus.directory / "alone")
            daemon.start()
        self.addCleanup(daemon.stop)
        self.assertEqual(self.connects(SOMEBODY, daemon=daemon), NO_BUS)
        self.assertEqual(self.connects(SOMEBODY, readonly=True, daemon=daemon), NO_BUS)
        # Nobody is asked about root.
        self.assertEqual(self.connects(0, daemon=daemon), LET_IN)

    def test_polkit_has_gone(self) -> None:
        bus = PolkitBus(RULES)
        bus.start()
        self.addCleanup(bus.stop)
        with OnABus(bus.address):
            daemon = self.daemonType(bus.directory / "daemon")
            daemon.start()
        self.addCleanup(daemon.stop)
        bus.stopPolkit()
        self.assertEqual(self.connects(SOMEBODY, daemon=daemon), NO_POLKIT)
        self.assertEqual(self.connects(0, daemon=daemon), LET_IN)


class OurDaemonAlone(_WithoutPolkit, _Case):
    """
    Ours.
    """

    daemonType = Ours


class LibvirtdAlone(_WithoutPolkit, _Case):
    """
    libvirtd 9.0.0.
    """

    daemonType = Theirs
