"""
The servers and clients under measurement, each a process of its own, started when first asked for and ended
by its process id however the bench ends.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.rounds import Absent, Sample

ROOT = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
"""Where the distribution's package of the binding is to be found."""

START_SECONDS = 30.0
STOP_SECONDS = 5.0

LIBVIRTD_CONFIG = """\
unix_sock_dir = "{directory}"
auth_unix_ro = "none"
auth_unix_rw = "none"
# Five by default: with that, depth 32 would measure how long requests wait unread.
max_client_requests = 64
"""


def cpuSeconds(pid: int) -> float:
    """
    The processor time that a process has used, all its threads, ended ones included.
    """
    # What clock_getcpuclockid(3) returns for another process: Linux's CPUCLOCK_SCHED of the process.
    return time.clock_gettime((~pid << 3) | 2)


def stop(process: subprocess.Popen[str]) -> None:
    """
    End a process we started and wait until it is gone.
    """
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


class Server:
    """
    A server process that listens on a UNIX socket.

    @ivar path: the socket.
    """

    def __init__(self, argv: list[str], path: Path, log: Path, environment: dict[str, str]) -> None:
        self.path = path
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                argv, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output, text=True
            )
        self.pid = self._process.pid

    def waitUntilListening(self) -> None:
        """
        @raise RuntimeError: with the server's output, if it does not listen in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(self.path))
                    return
                except OSError:
                    time.sleep(0.02)
        raise RuntimeError(f"{self._process.args!r} does not listen:\n{self._log.read_text()}")

    def stop(self) -> None:
        stop(self._process)


class Worker:
    """
    A client process: see L{tests.bench.worker}.
    """

    def __init__(self, argv: list[str]) -> None:
        self._process = subprocess.Popen(
            argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self._process.pid

    def read(self) -> object:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended; its error is above")
        return json.loads(line)

    def measure(self, call: str, depth: int, seconds: float, watched: tuple[int, ...]) -> Sample:
        """
        @param watched: the process ids whose processor time is to be counted.
        """
        assert self._process.stdin is not None
        before = sum(map(cpuSeconds, watched))
        self._process.stdin.write(json.dumps({"call": call, "depth": depth, "seconds": seconds}) + "\n")
        answer = self.read()
        used = sum(map(cpuSeconds, watched)) - before
        assert isinstance(answer, list)
        calls, elapsed = answer
        return Sample(rate=calls / elapsed, cpu=used / calls)

    def stop(self) -> None:
        stop(self._process)


class Processes:
    """
    All processes of one run of the bench, by name. A context manager: leaving it ends them.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._servers: dict[str, Server] = {}
        self._workers: dict[tuple[str, str], Worker] = {}

    def __enter__(self) -> Processes:
        self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vbench")))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def server(self, name: str) -> Server:
        """
        @param name: C{libvirtd}, C{virnet}, C{amp} or C{pb}.
        @raise Absent: if its program is not installed.
        """
        if name not in self._servers:
            server = self._servers[name] = self._startServer(name)
            self._stack.callback(server.stop)
            server.waitUntilListening()
        return self._servers[name]

    def worker(self, name: str, serverName: str) -> Worker:
        """
        @param name: C{raw}, C{libvirt-python}, C{virnet}, C{amp} or C{pb}.
        @raise Absent: if its program, or the server's, is not installed.
        """
        key = name, serverName
        if key not in self._workers:
            argv = self._workerCommand(name, str(self.server(serverName).path))
            worker = self._workers[key] = Worker(argv)
            self._stack.callback(worker.stop)
            worker.read()
        return self._workers[key]

    def _startServer(self, name: str) -> Server:
        directory = self._directory / name
        directory.mkdir()
        path = directory / "socket"
        environment: dict[str, str] = {}
        if name == "libvirtd":
            libvirtd = shutil.which("libvirtd", path=os.environ["PATH"] + ":/usr/sbin")
            if libvirtd is None:
                raise Absent("libvirtd is not installed")
            config = directory / "libvirtd.conf"
            config.write_text(LIBVIRTD_CONFIG.format(directory=directory))
            argv = [libvirtd, "--config", str(config), "--pid-file", str(directory / "pid")]
            # The test driver is built in; the modules of the others would probe this host.
            environment = {"LIBVIRT_DRIVER_DIR": str(directory / "none"), "XDG_RUNTIME_DIR": str(directory)}
            path = directory / "libvirt-sock"
        elif name == "virnet":
            argv = [sys.executable, "-m", "twisted", "virnet", "--listen", f"unix:{path}"]
        else:
            argv = [sys.executable, "-m", f"tests.bench.{name}peer", "server", str(path)]
        return Server(argv, path, directory / "log", environment)

    def _workerCommand(self, name: str, path: str) -> list[str]:
        uri = f"test+unix:///default?socket={path}"
        if name == "libvirt-python":
            found = subprocess.run([SYSTEM_PYTHON, "-c", "import libvirt"], capture_output=True, check=False)
            if found.returncode != 0:
                raise Absent(f"{SYSTEM_PYTHON} has no libvirt binding")
            return [SYSTEM_PYTHON, "-m", "tests.bench.bindingclient", uri]
        if name == "raw":
            return [sys.executable, "-m", "tests.bench.rawclient", path]
        if name == "virnet":
            return [sys.executable, "-m", "tests.bench.ourclient", uri]
        return [sys.executable, "-m", f"tests.bench.{name}peer", "client", path]
