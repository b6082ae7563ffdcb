"""
The servers and clients under measurement, each a process of its own, started when first asked for and ended
by its process id however the bench ends.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench.rounds import Absent, Sample
from tests.bench.transfers import VirshWorker, makeVolume
from tests.interop.support import ROOT, Daemon, LibvirtDaemon, VirnetDaemon

SYSTEM_PYTHON = "/usr/bin/python3"
"""Where the distribution's package of the binding is to be found."""

STOP_SECONDS = 2.0

REQUESTS = 64
"""C{max_client_requests} of both servers: with the usual five, depth 32 would measure how long calls wait."""


def cpuSeconds(pid: int) -> float:
    """
    The processor time that a process has used, all its threads, ended ones included.
    """
    # What clock_getcpuclockid(3) returns for another process: Linux's CPUCLOCK_SCHED of the process.
    return time.clock_gettime((~pid << 3) | 2)


def stop(process: subprocess.Popen[str]) -> None:
    """
    End a process that reads our requests, and wait until it is gone.
    """
    if process.stdin is not None:
        process.stdin.close()
    for end in (process.terminate, process.kill):
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            end()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


class PeerDaemon(Daemon):
    """
    The server of one of the Twisted peers.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        """
        @param module: run with C{server SOCKET} and the arguments.
        """
        super().__init__()
        self._module = module
        self._arguments = arguments

    def start(self) -> None:
        """
        Start the process and wait until it listens.
        """
        self._prepare()
        self.socketPath = str(self.directory / "socket")
        argv = [sys.executable, "-m", self._module, "server", self.socketPath, *self._arguments]
        self._launch(argv, {"PYTHONPATH": str(ROOT)})


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
        """
        Wait for a line of its output.

        @raise RuntimeError: it has ended instead.
        """
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
        self._servers: dict[str, Daemon] = {}
        self._workers: dict[tuple[str, str], Worker | VirshWorker] = {}
        self._volumes: dict[str, tuple[str, str, Path]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def server(self, name: str) -> Daemon:
        """
        @param name: C{libvirtd}, C{virnet}, C{recorded}, C{amp} or C{pb}.
        @raise Absent: if its program is not installed.
        """
        if name not in self._servers:
            server = self._makeServer(name)
            self._stack.callback(server.stop)
            server.start()
            self._servers[name] = server
        return self._servers[name]

    def worker(self, name: str, serverName: str) -> Worker | VirshWorker:
        """
        @param name: C{raw}, C{libvirt-python}, C{virnet}, C{amp} or C{pb}; C{virsh} and C{transfers} for
            volumes.
        @raise Absent: if its program, or the server's, is not installed.
        """
        key = name, serverName
        if key not in self._workers:
            worker = self._startWorker(name, serverName)
            self._stack.callback(worker.stop)
            worker.read()
            self._workers[key] = worker
        return self._workers[key]

    def _startWorker(self, name: str, serverName: str) -> Worker | VirshWorker:
        if name == "virsh":
            return VirshWorker(*self._volume(serverName))
        if name == "transfers":
            uri, pool, source = self._volume(serverName)
            return Worker([sys.executable, "-m", "tests.bench.transfers", uri, pool, str(source)])
        return Worker(self._workerCommand(name, self.server(serverName)))

    def _volume(self, serverName: str) -> tuple[str, str, Path]:
        """
        A server's URI, its pool with the volume, and the file that is sent.

        @raise Absent: if it has no storage.
        """
        if serverName not in self._volumes:
            if shutil.which("virsh") is None:
                raise Absent("virsh is not installed")
            server = self.server(serverName)
            uri, pool, directory = server.uri, "default-pool", None
            if serverName == "libvirtd":
                if os.geteuid() != 0:
                    raise Absent("libvirt's storage driver wants root")
                uri, pool = f"storage+unix:///system?socket={server.socketPath}", "p"
                directory = server.directory / "pool"
            source = server.directory / "source"
            makeVolume(uri, pool, source, directory)
            self._volumes[serverName] = uri, pool, source
        return self._volumes[serverName]

    def _makeServer(self, name: str) -> Daemon:
        if name == "virnet":
            return VirnetDaemon(None, "--max-client-requests", str(REQUESTS))
        if name == "recorded":
            return PeerDaemon("tests.bench.recordedpeer", self.server("virnet").socketPath)
        if name != "libvirtd":
            return PeerDaemon(f"tests.bench.{name}peer")
        if shutil.which("libvirtd") is None:
            raise Absent("libvirtd is not installed")
        return LibvirtDaemon(settings=f"max_client_requests = {REQUESTS}\n")

    def _workerCommand(self, name: str, server: Daemon) -> list[str]:
        if name == "libvirt-python":
            found = subprocess.run([SYSTEM_PYTHON, "-c", "import libvirt"], capture_output=True, check=False)
            if found.returncode != 0:
                raise Absent(f"{SYSTEM_PYTHON} has no libvirt binding")
            return [SYSTEM_PYTHON, "-m", "tests.bench.bindingclient", server.uri]
        if name == "raw":
            return [sys.executable, "-m", "tests.bench.rawclient", server.socketPath]
        if name == "virnet":
            return [sys.executable, "-m", "tests.bench.ourclient", server.uri]
        return [sys.executable, "-m", f"tests.bench.{name}peer", "client", server.socketPath]
