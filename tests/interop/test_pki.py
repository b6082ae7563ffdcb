"""
What C{virnet pki} makes, used by real libvirtd and virsh.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.support import ROOT, VirnetDaemon, freePort, requireTool
from tests.interop.test_certificates import (
    HOST,
    SECONDS,
    TLSLibvirtDaemon,
    VirshVerdict,
    askUs,
    askVirsh,
)
from virnet.security.pki import KeyKind, Places, makeAuthority, makePeer


class MadeTests(TestCase):
    """
    What C{virnet pki} makes is good for libvirt, without a warning.
    """

    timeout = SECONDS

    def setUp(self) -> None:
        requireTool(self, "libvirtd", "virsh")
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-"))
        self.addCleanup(shutil.rmtree, self.directory)

    async def good(self, key: KeyKind) -> None:
        server, client = Places(f"{self.directory}/server"), Places(f"{self.directory}/client")
        makeAuthority(server, "Our CA", days=100, key=key)
        makePeer("server", server, HOST, [HOST, "localhost"], days=50, key=key)
        makePeer("client", client, "alice", days=50, key=key, authority=server)
        files, pkipath = self.directory / "server", self.directory / "client"
        with TLSLibvirtDaemon(files) as daemon:
            assert isinstance(daemon, TLSLibvirtDaemon)
            for host in (HOST, "localhost"):
                self.assertEqual(VirshVerdict(True, ""), askVirsh(daemon.port, pkipath, host))
                self.assertTrue(await askUs(daemon.port, pkipath, host))
            self.assertFalse(askVirsh(daemon.port, pkipath, "ip6-localhost").accepted)
            log = daemon.log
        self.assertEqual([], [line for line in log.splitlines() if re.search("[Cc]ertificate", line)])
        port = freePort()
        with VirnetDaemon(None, "--listen", f"libvirt-tls:{port}:interface={HOST}:pkipath={files}"):
            self.assertEqual(VirshVerdict(True, ""), askVirsh(port, pkipath))
            self.assertTrue(await askUs(port, pkipath))

    def test_elliptic_curves(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.good("ec"))

    def test_RSA(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.good("rsa"))

    def test_the_files_are_where_libvirt_looks_for_them(self) -> None:
        """
        Made by the command as root without a directory: libvirtd needs no settings and virsh no C{pkipath}.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root has the system's places")
        requireTool(self, "unshare")
        port = freePort()
        (self.directory / "run").mkdir()
        config = self.directory / "libvirtd.conf"
        config.write_text(
            f'listen_tls = 1\ntls_port = "{port}"\nlisten_addr = "{HOST}"\nauth_unix_rw = "none"\n'
            f'unix_sock_dir = "{self.directory}/run"\nlog_outputs = "2:stderr"\n'
        )
        script = f"""
            set -e
            mkdir -p /etc/pki /run/libvirt
            mount -t tmpfs none /etc/pki
            mount -t tmpfs none /run/libvirt
            virnet() {{ {shlex.quote(sys.executable)} -m virnet.cli "$@"; }}
            virnet pki init
            virnet pki server --host {HOST}
            virnet pki client --name alice
            virnet pki check --host {HOST}
            ls -l /etc/pki/libvirt/private
            libvirtd --listen -f {config} -p {self.directory}/pid 2>{self.directory}/log &
            trap 'kill $!' EXIT
            for try in $(seq 100); do
                virsh -q -c test+tls://{HOST}:{port}/default list --name && exit
                sleep 0.1
            done
            cat {self.directory}/log
            exit 1
        """
        done = subprocess.run(
            ["unshare", "-m", "bash", "-c", script],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        self.assertIn("\ntest\n", done.stdout)
        self.assertNotIn("problem", done.stdout)
        self.assertIn("-rw------- ", done.stdout)
