"""Starting the daemon of a session."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import TestCase

from tests.contracts.echo import Only
from tests.contracts.ends import End, reactor
from tests.openfiles import openDescriptors
from virnet.transport import autostart
from virnet.transport.autostart import SessionEndpoint

DAEMON = """\
#!{python} -SE
import json, os, signal, socket, sys, time
with open({record!r}, "a") as file:
    json.dump({{
        "argv": sys.argv[1:],
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "files": [os.readlink(f"/proc/self/fd/{{n}}") for n in range(3)],
        "pid": os.getpid(),
        "leader": os.getsid(0) != {session},
    }}, file)
    file.write("\\n")
time.sleep({delay})
if {listens}:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind({path!r})
    listener.listen(50)
    signal.alarm(20)
    while True:
        listener.accept()[0].close()
"""

HOLDER = """\
import fcntl, sys
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


class Starting(TestCase):
    """From a socket that is not there to a connection."""

    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]
        self.root = Path(tempfile.mkdtemp(prefix="virnet-start-"))
        self.addCleanup(shutil.rmtree, self.root, True)
        self.directory = self.root / "libvirt"
        self.record = self.root / "record"
        self.daemon = self.root / "libvirtd"
        self.socket = self.directory / "libvirt-sock"
        self.addCleanup(self.stop)
        # Threads are there from the first use on.
        pool = reactor.getThreadPool()
        await deferLater(reactor, 0)
        pool.adjustPoolsize(1)
        self.descriptors = openDescriptors()

    def install(self, delay: float = 0.1, listens: bool = True) -> None:
        """Put the daemon where it is expected."""
        self.daemon.write_text(
            DAEMON.format(
                python=sys.executable,
                record=str(self.record),
                path=str(self.socket),
                delay=delay,
                listens=listens,
                session=os.getsid(0),
            )
        )
        self.daemon.chmod(0o755)

    def started(self) -> list[dict[str, Any]]:
        """What each daemon that was started has recorded."""
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def stop(self) -> None:
        """End those that run."""
        for each in self.started() if self.record.exists() else ():
            try:
                os.kill(each["pid"], signal.SIGKILL)
            except ProcessLookupError:
                pass

    def endpoint(self, path: str | None = None) -> SessionEndpoint:
        """The endpoint under test."""
        environ = {"PATH": "/usr/bin:/bin", "HOME": "/h", "XDG_RUNTIME_DIR": str(self.root), "FOO": "bar"}
        inner = UNIXClientEndpoint(reactor, path or str(self.socket))
        return SessionEndpoint(reactor, inner, str(self.directory), str(self.daemon), environ)

    async def connect(self) -> None:
        """Connect and be disconnected."""
        end = End()
        await self.endpoint().connect(Only(end))
        await end.isLost()

    async def test_it_is_started_as_libvirt_starts_it(self) -> None:
        self.install()
        await self.connect()
        (found,) = self.started()
        self.assertEqual(found["argv"], ["--timeout=120"])
        self.assertEqual(
            {name: value for name, value in found["environment"].items() if name not in ("PWD", "OLDPWD")},
            {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "HOME": "/h", "XDG_RUNTIME_DIR": str(self.root)},
        )
        self.assertEqual(found["directory"], "/")
        self.assertEqual(found["files"], ["/dev/null"] * 3)
        self.assertTrue(found["leader"], "it is in our session, and Ctrl-C reaches it")
        self.assertEqual(os.stat(self.directory).st_mode & 0o777, 0o700)
        self.assertEqual(openDescriptors(), self.descriptors)

    async def test_not_where_somebody_listens(self) -> None:
        self.install()
        await self.connect()
        await self.connect()
        self.assertEqual(len(self.started()), 1)

    async def test_once_for_many_who_connect_at_the_same_time(self) -> None:
        self.install(delay=0.3)
        ends = [End() for _ in range(10)]
        await gatherResults([self.endpoint().connect(Only(end)) for end in ends])
        for end in ends:
            await end.isLost()
        self.assertEqual(len(self.started()), 1)
        self.assertEqual(openDescriptors(), self.descriptors)

    async def test_a_socket_that_was_left_over(self) -> None:
        self.install()
        self.directory.mkdir()
        self.socket.write_text("")
        text = self.daemon.read_text()
        self.daemon.write_text(text.replace("if True:", f"if os.unlink({str(self.socket)!r}) is None:"))
        await self.connect()

    async def test_nothing_stops_meanwhile(self) -> None:
        self.install(delay=0.5)
        times: list[float] = []
        ticks = LoopingCall(lambda: times.append(reactor.seconds()))
        ticks.start(0.01)
        await self.connect()
        ticks.stop()
        self.assertLess(max(b - a for a, b in zip(times, times[1:], strict=False)), 0.3)

    async def test_clients_of_libvirt_are_waited_for(self) -> None:
        """Who has the lock is starting it right now."""
        self.install()
        self.directory.mkdir()
        with open(self.directory / "libvirtd.lock", "w") as lock:
            holder = subprocess.Popen(
                [sys.executable, "-c", HOLDER, str(lock.fileno())],
                pass_fds=[lock.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdout.readline()
        running = Deferred.fromCoroutine(self.connect())
        await deferLater(reactor, 0.3)
        self.assertFalse(running.called or self.record.exists())
        holder.stdin.close()
        await running
        holder.wait()
        holder.stdout.close()

    async def test_no_such_daemon(self) -> None:
        began = reactor.seconds()
        error = await self.assertFailure(self.endpoint().connect(Only(End())), FileNotFoundError)
        self.assertIn(str(self.daemon), str(error))
        self.assertLess(reactor.seconds() - began, 2)
        self.assertEqual(openDescriptors(), self.descriptors)

    async def test_it_does_not_listen(self) -> None:
        self.patch(autostart, "PATIENCE", 0.5)
        self.install(listens=False)
        await self.assertFailure(self.endpoint().connect(Only(End())), ConnectError)
        self.assertEqual(openDescriptors(), self.descriptors)

    async def test_other_errors_start_nothing(self) -> None:
        self.install()
        await self.assertFailure(self.endpoint("/proc/self/stat/x").connect(Only(End())), ConnectError)
        self.assertFalse(self.record.exists())
