"""The same URIs for libvirt's client and for ours: which command is run with which environment, which socket
is looked for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.support import requireTool
from virnet.transport.config import Caller, configFile, loadConfig, resolveURI
from virnet.transport.sockets import chooseSocket
from virnet.transport.ssh import Command, externalCommand, sshCommand
from virnet.transport.uri import parseURI

NOBODY = 65534

RECORDER = f"""\
#!{shutil.which("python3", path="/usr/bin:/bin") or sys.executable} -SE
import json, os, sys
with open({{path!r}}, "w") as file:
    json.dump({{{{"argv": sys.argv[1:], "environment": dict(os.environ), "directory": os.getcwd()}}}}, file)
"""

CONFIG = """\
uri_aliases = [ "hail=qemu+ssh://root@Hail/system?command={program}", ]
uri_default = "hail"
remote_proxy = "netcat"
"""

#: URIs, with C{COMMAND} for the parameter that names the recorder.
URIS = (
    "qemu+ssh://host/system?COMMAND",
    "qemu+ssh:///system?COMMAND",
    "qemu+ssh://host/session?COMMAND",
    "test+ssh://host/default?COMMAND",
    "remote+ssh://host/?COMMAND",
    "qemu+ssh://Host?COMMAND",
    "qemu+ssh://us%40er@host:2222/sys%20tem?COMMAND#frag%20x",
    "qemu+ssh://[::1]:22/system?COMMAND",
    "qemu+ssh://host:0/system?COMMAND",
    "qemu+ssh://-oProxyCommand=x/system?COMMAND",
    "qemu+ssh://u@host/system?COMMAND&keyfile=/k%20k&no_tty=1&no_verify=1",
    "qemu+ssh://host/system?COMMAND&no_tty=0&no_verify=-1",
    "qemu+ssh://host/system?COMMAND&name=foo:///bar%20b",
    "qemu+ssh://host/system?COMMAND&name=a&name=b",
    "qemu+ssh://host/system?x=a/b%2F:+~,@-_.*()%C3%A9&COMMAND&y=it%27s&z&&w=1=2;v",
    "qemu+ssh://host/system?COMMAND&socket=/a",
    "qemu+ssh://host/system?COMMAND&socket=/a&proxy=auto",
    "qemu+ssh://host/system?COMMAND&socket=/a&proxy=native",
    "qemu+ssh://host/system?COMMAND&proxy=netcat",
    "qemu+ssh://host/session?COMMAND&proxy=netcat",
    "qemu+ssh://host/session?COMMAND&proxy=auto",
    "qemu+ssh://host/system?COMMAND&proxy=native",
    "qemu+ssh://host/system?COMMAND&netcat=/opt/my%20nc",
    "qemu+ssh://host/system?COMMAND&netcat=/opt/it%27s%22%24%28x%29",
    "qemu+ssh://host/system?COMMAND&netcat=nc&proxy=auto",
    "qemu+ssh://host/system?COMMAND&netcat=",
    "qemu+ssh://host/system?COMMAND&mode=legacy",
    "qemu+ssh://host/system?COMMAND&mode=auto",
    "qemu+ext:///system?COMMAND",
    "hail",
    "",
)


class _Case(SynchronousTestCase):
    """In a directory in which nobody may write, too."""

    def setUp(self) -> None:
        requireTool(self, "virsh", "setpriv")
        if os.geteuid() != 0:
            self.skipTest("it takes root to be both root and nobody")
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-uris-"))
        self.addCleanup(shutil.rmtree, self.directory, True)
        self.directory.chmod(0o777)
        self.record = self.directory / "record"
        self.program = self.directory / "program"
        self.program.write_text(RECORDER.format(path=str(self.record)))
        self.program.chmod(0o755)
        self.environ = {
            "HOME": str(self.directory),
            "PATH": "/usr/bin:/bin",
            "XDG_RUNTIME_DIR": f"{self.directory}/run",
            "LC_ALL": "C.UTF-8",
            "USER": "me",
            "SSH_ASKPASS": "/bin/ask",
            "SSH_AUTH_SOCK": "/a",
            "DISPLAY": ":7",
            "FOO": "bar",
        }

    def virsh(self, uri: str, euid: int, readonly: bool = False) -> str:
        """Have virsh try to connect; the last line that it prints."""
        self.record.unlink(missing_ok=True)
        become = ["setpriv", f"--reuid={euid}", f"--regid={euid}", "--clear-groups"]
        done = subprocess.run(
            [*become, "virsh", *(["-r"] if readonly else []), "-c", uri, "uri"],
            env=self.environ,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]

    def caller(self, euid: int) -> Caller:
        """The same for us."""
        return Caller(self.environ, euid, loadConfig(configFile(self.environ, euid)))

    def configure(self, text: str) -> None:
        """Write the configuration of whoever is not root."""
        path = self.directory / ".config/libvirt"
        path.mkdir(parents=True, exist_ok=True)
        (path / "libvirt.conf").write_text(text)


class Commands(_Case):
    """What is run."""

    def ours(self, uri: str, euid: int, readonly: bool) -> Command:
        """The command that we would run."""
        caller = self.caller(euid)
        parsed = parseURI(resolveURI(uri, caller)[0])
        if parsed.transport == "ext":
            return externalCommand(parsed, caller)
        return sshCommand(parsed, readonly, caller)

    def check(self, uris: tuple[str, ...], euid: int, readonly: bool = False) -> None:
        """Run libvirt's, and compare."""
        for uri in uris:
            uri = uri.replace("COMMAND", f"command={self.program}")
            printed = self.virsh(uri, euid, readonly)
            self.assertTrue(self.record.exists(), f"{uri}: {printed}")
            theirs = json.loads(self.record.read_text())
            command = self.ours(uri, euid, readonly)
            self.assertEqual(list(command.argv[1:]), theirs["argv"], uri)
            self.assertEqual(command.environment, theirs["environment"], uri)

    def test_as_root(self) -> None:
        self.check(URIS[:-2], 0)

    def test_as_root_read_only(self) -> None:
        self.check(URIS[:4], 0, True)

    def test_as_somebody_with_a_configuration(self) -> None:
        self.configure(CONFIG.format(program=self.program))
        self.check(URIS, NOBODY)

    def test_as_somebody_without(self) -> None:
        self.check(URIS[:-2], NOBODY)
        self.check(URIS[:4], NOBODY, True)


class Sockets(_Case):
    """What is looked for, where nothing is."""

    URIS = (
        "qemu:///system",
        "qemu:///session",
        "test+unix:///default",
        "remote:///system",
        "qemu:///system?mode=direct",
        "qemu:///session?mode=direct",
        "qemu:///system?mode=legacy",
        "remote:///?mode=direct",
        "qemu+unix:///system?socket=relative",
        "qemu+unix:///session?socket=@abstract",
        "",
    )

    def test_the_same_sockets(self) -> None:
        self.environ["LIBVIRT_AUTOSTART"] = "0"
        for euid in (0, NOBODY):
            for readonly in (False, True):
                for uri in self.URIS:
                    local = chooseSocket(parseURI(uri), readonly, self.caller(euid))
                    self.assertIs(local.daemon, None)
                    printed = self.virsh(uri, euid, readonly)
                    found = re.search("Failed to connect socket to '(.*?)'", printed)
                    self.assertTrue(found and found[1] == local.path, f"{uri}: {printed}, {local.path}")


SESSION = """\
import os, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from virnet.client import connect

async def main(uri):
    for _ in range(2):
        connection = await connect(reactor, uri)
        async with connection:
            print(await connection.remote.connectGetURI(), connection.uri.name)

def failed(failure):
    failure.printTraceback()

# Now that everything is loaded.
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
running = Deferred.fromCoroutine(main(sys.argv[1]))
running.addErrback(failed).addBoth(lambda _: reactor.callWhenRunning(reactor.stop))
if not running.called:
    reactor.run()
"""


class Session(_Case):
    """A session of somebody who is not root: a real libvirtd is started."""

    def test_it_is_started_and_found_again(self) -> None:
        requireTool(self, "libvirtd")
        runtime = self.directory / "run"
        runtime.mkdir()
        runtime.chmod(0o777)
        try:
            for uri, wanted in (
                ("test+unix:///default", "test:///default test:///default"),
                ("test+unix:///default?mode=legacy&x=y", "test:///default?x=y test:///default?x=y"),
            ):
                done = subprocess.run(
                    [sys.executable, "-c", SESSION, uri],
                    env={
                        **self.environ,
                        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                        "XDG_CONFIG_HOME": str(self.directory),
                        "XDG_CACHE_HOME": str(self.directory),
                    },
                    cwd="/",
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                self.assertEqual(done.stdout.splitlines(), [wanted, wanted], done.stderr)
        finally:
            for file in (runtime / "libvirt").glob("*.pid"):
                os.kill(int(file.read_text()), signal.SIGTERM)
