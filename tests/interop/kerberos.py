"""A Kerberos realm of a test's own: its database, its configuration, a key distribution centre that answers.

Everything is in one directory and on one port of 127.0.0.1. Who takes part is told so by the environment.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.interop.support import START_SECONDS, STOP_SECONDS, WITH_US, freePort

REALM = "VIRNET.TEST"

#: Programs of the packages krb5-kdc, krb5-admin-server and krb5-user.
TOOLS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")

CLIENT_CONFIG = """\
[libdefaults]
default_realm = {realm}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
ignore_acceptor_hostname = true
udp_preference_limit = 1
[realms]
{realm} = {{
  kdc = 127.0.0.1:{port}
}}
"""

SERVER_CONFIG = """\
[realms]
{realm} = {{
  database_name = {directory}/principal
  key_stash_file = {directory}/stash
  acl_file = {directory}/acl
  kdc_listen = 127.0.0.1:{port}
  kdc_tcp_listen = 127.0.0.1:{port}
}}
[logging]
kdc = FILE:{directory}/log
"""


class Realm:
    """A realm with users and services.

    @ivar directory: where its files are.
    @ivar keytab: the keys of the services.
    """

    def __init__(self) -> None:
        """Nothing is there yet; see L{start}."""
        self.directory = Path()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def keytab(self) -> str:
        """The keys of the services."""
        return str(self.directory / "keytab")

    @property
    def cache(self) -> str:
        """Where the ticket of the last C{kinit} is."""
        return f"FILE:{self.directory}/ticket"

    @property
    def environment(self) -> dict[str, str]:
        """What tells a process of the realm."""
        return {
            "KRB5_CONFIG": str(self.directory / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf"),
            "KRB5_KTNAME": self.keytab,
            "KRB5CCNAME": self.cache,
            "KRB5RCACHEDIR": str(self.directory),
        }

    def start(self) -> None:
        """
        Make the realm and answer for it.

        @raise RuntimeError: the centre does not answer.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-krb5-"))
        port = freePort()
        words = {"realm": REALM, "port": port, "directory": self.directory}
        (self.directory / "krb5.conf").write_text(CLIENT_CONFIG.format(**words))
        (self.directory / "kdc.conf").write_text(SERVER_CONFIG.format(**words))
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
        self._process = subprocess.Popen(
            [*WITH_US, "krb5kdc", "-n"],
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self.directory / "log").read_text() if (self.directory / "log").exists() else ""
                self.stop()
                raise RuntimeError(f"krb5kdc does not listen: {log}")
            time.sleep(0.02)

    def addUser(self, name: str, password: str) -> None:
        """Add a user."""
        self._run("kadmin.local", "addprinc", "-pw", password, name)

    def addService(self, name: str) -> None:
        """Add a service, like C{libvirt/localhost}, and put its key into the keytab."""
        self._run("kadmin.local", "addprinc", "-randkey", name)
        self._run("kadmin.local", "ktadd", "-k", self.keytab, name)

    def login(self, user: str, password: str) -> None:
        """Get a ticket."""
        self._run("kinit", user, typed=password + "\n")

    def logout(self) -> None:
        """Forget the ticket."""
        (self.directory / "ticket").unlink(missing_ok=True)

    def _run(self, *command: str, typed: str = "") -> None:
        done = subprocess.run(
            command, env=self._environ(), input=typed, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")

    def _environ(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def stop(self) -> None:
        """
        End it, and remove all its files.
        """
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
