"""
Real peers as processes of their own: a libvirtd, our daemon, virsh.

Each daemon has a directory of its own with its sockets, its log and its configuration, is started when asked
for and ended by its process id: when it is told to stop, or with the process that started it. trial does not
call C{tearDownClass}; a daemon that a whole class of tests shares is simply left to that.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

ROOT = Path(__file__).resolve().parents[2]

#: Put before a command: it ends with the process that starts it, even if that is killed.
WITH_US = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []

START_SECONDS = 60.0
STOP_SECONDS = 10.0

LIBVIRTD_CONFIG = """\
unix_sock_dir = "{directory}"
unix_sock_rw_perms = "0777"
auth_unix_ro = "none"
auth_unix_rw = "none"
auth_tcp = "none"
listen_tls = 0
listen_tcp = {listen}
listen_addr = "127.0.0.1"
tcp_port = "{port}"
log_outputs = "2:stderr"
"""


def requireTool(testcase: SynchronousTestCase | TestCase, *names: str) -> None:
    """
    Skip a test where a program that it needs is not installed; in CI, where all are, fail it.

    @param names: programs in C{PATH}.
    """
    for name in names:
        if shutil.which(name) is None:
            reason = f"{name} is not installed"
            if os.environ.get("CI"):
                raise testcase.failureException(f"{reason}, and in CI nothing may be missing")
            raise SkipTest(reason)


def requireModule(testcase: SynchronousTestCase | TestCase, name: str) -> None:
    """
    The same for a module of Python that not everybody has.
    """
    if find_spec(name) is None:
        reason = f"the module {name} is not installed"
        if os.environ.get("CI"):
            raise testcase.failureException(f"{reason}, and in CI nothing may be missing")
        raise SkipTest(reason)


def freePort() -> int:
    """
    A TCP port of 127.0.0.1 that nobody uses now.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class Daemon:
    """
    A server process with a UNIX socket.

    @ivar directory: where all its files are; given, or made when it starts and removed when it stops.
    @ivar socketPath: where it listens, once it was started.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self._given = directory is not None
        self.directory = Path(directory) if directory is not None else Path()
        self.socketPath = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The URI for virsh and libvirt-python, or our client."""
        return f"test+unix:///default?socket={self.socketPath}"

    @property
    def pid(self) -> int:
        """Its process id while it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All that it printed."""
        return (self.directory / "log").read_text(errors="replace")

    def _launch(self, arguments: list[str], environment: dict[str, str]) -> None:
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*WITH_US, *arguments],
                cwd=self.directory,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        atexit.register(self.stop)
        deadline = time.monotonic() + START_SECONDS
        while not self._listening():
            if self._process.poll() is not None or time.monotonic() > deadline:
                printed = self.log
                self.stop()
                raise RuntimeError(f"{shlex.join(arguments)} does not listen; it printed:\n{printed}")
            time.sleep(0.02)

    def _listening(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.socketPath) == 0

    def _prepare(self) -> None:
        if self._process is not None:
            raise RuntimeError("it runs already")
        if not self._given:
            # Not in trial's own directory: the path of a UNIX socket has 107 bytes.
            self.directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.directory.mkdir(exist_ok=True)

    def stop(self) -> None:
        """
        End the process and wait until it is gone; without effect if it does not run.
        """
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if not self._given:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it listens."""
        raise NotImplementedError


class LibvirtDaemon(Daemon):
    """
    A real libvirtd without authentication, beside which others may run.

    @ivar readonlyPath: its read-only socket.
    @ivar tcpPort: where it listens on 127.0.0.1; C{None} if it does not.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        tcpPort: int | None = None,
        settings: str = "",
    ) -> None:
        """@param tcpPort: also listen on this port of 127.0.0.1, without encryption; 0 takes a free one.
        @param settings: lines of its configuration, which count before those that are always there.
        """
        super().__init__(directory)
        self.tcpPort = tcpPort
        self.settings = settings
        self.readonlyPath = ""

    @property
    def tcpURI(self) -> str:
        """The URI over TCP."""
        return f"test+tcp://127.0.0.1:{self.tcpPort}/default"

    def start(self) -> None:
        """
        Start it and wait until it listens.

        @raise RuntimeError: it does not; the text has what it printed.
        """
        self._prepare()
        if self.tcpPort == 0:
            self.tcpPort = freePort()
        self.socketPath = str(self.directory / "libvirt-sock")
        self.readonlyPath = self.socketPath + "-ro"
        config = self.directory / "libvirtd.conf"
        listen = int(self.tcpPort is not None)
        # Of a key that is there twice libvirtd takes the first.
        config.write_text(
            f"{self.settings}\n"
            + LIBVIRTD_CONFIG.format(directory=self.directory, listen=listen, port=self.tcpPort or 16509)
        )
        arguments = ["libvirtd", "-f", str(config), "-p", str(self.directory / "pid")]
        if listen:
            arguments.append("--listen")
        if os.geteuid() == 0:
            # What it keeps in /run/libvirt is for one libvirtd of the machine: give it one of its own.
            own = "mkdir -p /run/libvirt && mount -t tmpfs none /run/libvirt"
            arguments = ["unshare", "-m", "sh", "-c", f"{own} && exec {shlex.join(arguments)}"]
        home = str(self.directory)
        self._launch(arguments, {"XDG_RUNTIME_DIR": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home})


class VirnetDaemon(Daemon):
    """
    Our daemon with its hypervisor in memory.

    @ivar readonlyPath: its read-only socket.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, *options: str) -> None:
        """@param options: further options of C{twistd virnet}."""
        super().__init__(directory)
        self.options = options
        self.readonlyPath = ""

    def start(self) -> None:
        """
        Start it and wait until it listens.

        @raise RuntimeError: it does not; the text has what it printed.
        """
        self._prepare()
        self.socketPath = str(self.directory / "virnet-sock")
        self.readonlyPath = self.socketPath + "-ro"
        arguments = [sys.executable, "-m", "twisted", "--log-format=text", "virnet"]
        arguments += ["--listen-readonly", f"unix:{self.readonlyPath}", "--listen", f"unix:{self.socketPath}"]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._launch([*arguments, *self.options], {"PYTHONPATH": path})


class Virsh:
    """
    A running virsh.
    """

    def __init__(self, uri: str, *arguments: str, directory: str | os.PathLike[str] | None = None) -> None:
        """@param arguments: behind C{-c URI}.
        @param directory: where it runs, and finds files without a path.
        """
        self._process = subprocess.Popen(
            [*WITH_US, "virsh", "-c", uri, *arguments],
            cwd=directory,
            # Messages as they are, and times in UTC, whatever the machine's settings are.
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str) -> str:
        """
        Have an interactive virsh execute a command.

        @return: the first line of its answer.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        while True:
            line = self._process.stdout.readline()
            # It greets and prompts even where nobody sees it.
            answer = line.rpartition("virsh # ")[2].strip()
            if not line or answer:
                return answer

    def finish(self, timeout: float = 60.0, typed: str | None = None) -> tuple[int, str, str]:
        """
        Wait for its end.

        @param typed: the last that an interactive virsh gets to read.
        @return: exit status, and what it printed on standard output and on standard error.
        """
        try:
            output, errors = self._process.communicate(typed, timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, errors = self._process.communicate()
            raise RuntimeError(f"virsh did not end; it printed:\n{output}{errors}") from None
        return self._process.returncode, output, errors


class Listener:
    """
    A running C{virsh event}: all that it says can be seen at once.
    """

    def __init__(self, uri: str, command: str, directory: Path) -> None:
        """@param directory: where its output is kept."""
        self.command = command
        # virsh would keep what it says to itself until there is much of it: its output is no terminal.
        arguments = [*WITH_US, "stdbuf", "-oL", "virsh", "-c", uri, *shlex.split(command)]
        handle, name = tempfile.mkstemp(dir=directory)
        self._output = Path(name)
        self._process = subprocess.Popen(
            arguments,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
        )
        os.close(handle)

    @property
    def output(self) -> str:
        """All that it said so far."""
        return self._output.read_text()

    def interrupt(self) -> tuple[int, str]:
        """
        End it as Ctrl-C does.

        @return: exit status, and all that it said.
        """
        self._process.send_signal(signal.SIGINT)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return status, self.output
