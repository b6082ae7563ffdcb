"""The worker of C{docs/howto/buildbot-worker.rst} under Buildbot's own services, on a host in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from virnet.client import ConnectionService
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.objects import Domain
from virnet.programs.constants import DomainState
from virnet.testing import MemoryHost

EXAMPLES = str(Path(__file__).resolve().parent.parent / "docs" / "examples")


class Workers(SynchronousTestCase):
    """Start, stop, and what goes wrong."""

    if find_spec("buildbot") is None:
        skip = "Buildbot is not installed"

    def setUp(self) -> None:
        sys.path.insert(0, EXAMPLES)
        self.addCleanup(sys.path.remove, EXAMPLES)
        import latent_worker

        self.host = host = MemoryHost()
        self.addCleanup(host.close)
        self.domain: Domain = host.run(host.connect().domain("test"))

        class Worker(latent_worker.VirnetWorker):
            def connect(self, uri: str) -> ConnectionService:
                return host.service(uri)

        self.worker: Any = Worker.__new__(Worker)
        self.worker.name = "test"
        self.worker.guest = latent_worker.Guest(host.service(), "test")

    def state(self) -> Any:
        """What the domain is doing."""
        return self.host.run(self.domain.state())

    def test_a_build_starts_it(self) -> None:
        self.host.run(self.domain.destroy())
        self.assertIs(self.host.run(self.worker.start_instance(None)), True)
        self.assertIs(self.state(), DomainState.RUNNING)

    def test_each_build_begins_from_the_snapshot(self) -> None:
        self.host.run(self.domain.destroy())
        self.host.run(self.domain.createSnapshot("<domainsnapshot><name>clean</name></domainsnapshot>"))
        self.host.run(self.domain.start())
        self.host.recorder.calls.clear()
        self.host.run(self.worker.start_instance(None))
        names = self.host.recorder.names
        self.assertEqual(
            [name for name in names if name in ("domainDestroy", "domainRevertToSnapshot", "domainCreate")],
            ["domainDestroy", "domainRevertToSnapshot", "domainCreate"],
        )

    def test_it_shuts_down_afterwards(self) -> None:
        self.host.run(self.worker.stop_instance())
        self.assertIs(self.state(), DomainState.SHUTOFF)
        self.assertNotIn("domainDestroy", self.host.recorder.names)

    def test_a_guest_that_does_not_shut_down_is_cut_off(self) -> None:
        self.host.recorder.answers["domainShutdown"] = None
        self.host.run(self.worker.stop_instance())
        self.assertIs(self.state(), DomainState.SHUTOFF)
        self.assertEqual(self.host.clock.seconds(), 60)

    def test_in_a_hurry_it_is_cut_off_at_once(self) -> None:
        self.host.run(self.worker.stop_instance(fast=True))
        self.assertNotIn("domainShutdown", self.host.recorder.names)
        self.assertIs(self.state(), DomainState.SHUTOFF)

    def test_a_refusal_is_what_buildbot_knows(self) -> None:
        from buildbot.interfaces import LatentWorkerFailedToSubstantiate

        self.host.run(self.domain.destroy())
        self.host.recorder.answers["domainCreate"] = RemoteError.of(ErrorNumber.INTERNAL_ERROR, "no memory")
        error = self.assertRaises(
            LatentWorkerFailedToSubstantiate, self.host.run, self.worker.start_instance(None)
        )
        self.assertIn("no memory", str(error))

    def test_a_host_that_is_down_is_waited_for(self) -> None:
        self.host.endpoint.refusing = True
        self.host.disconnect()
        starting: Deferred[bool] = self.worker.start_instance(None)
        self.host.clock.advance(60)
        self.assertNoResult(starting)
        self.host.endpoint.refusing = False
        self.host.run(starting)
        self.assertIs(self.state_of_new_connection(), DomainState.RUNNING)

    def state_of_new_connection(self) -> Any:
        """The same, asked anew."""
        return self.host.run(self.host.run(self.host.connect().domain("test")).state())


class UnderAMaster(SynchronousTestCase):
    """The worker as Buildbot configures, starts and stops it, with Buildbot's own fake master. In a process
    of its own: Buildbot's tests make errors of everybody's warnings.
    """

    if find_spec("buildbot") is None:
        skip = "Buildbot is not installed"

    def test_its_connection_lives_as_long_as_the_worker(self) -> None:
        directory = tempfile.mkdtemp(prefix="virnet-")
        self.addCleanup(shutil.rmtree, directory)
        Path(directory, "test_worker.py").write_text(UNDER_A_MASTER)
        done = subprocess.run(
            [sys.executable, "-m", "twisted.trial", "test_worker"],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": f"{EXAMPLES}:{EXAMPLES}/../.."},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertIn("PASSED (successes=1)", done.stdout)


UNDER_A_MASTER = """
import warnings
from buildbot.test.fake import fakemaster
from buildbot.test.reactor import TestReactorMixin
from latent_worker import VirnetWorker
from twisted.trial import unittest
from virnet.client import ConnectionService
from virnet.testing import MemoryHost

warnings.simplefilter("ignore")

class Tests(TestReactorMixin, unittest.TestCase):
    timeout = 30

    async def test_worker(self):
        host = MemoryHost()

        class Worker(VirnetWorker):
            def connect(self, uri):
                service = ConnectionService(host.clock, uri, endpoint=host.endpoint)
                service.setServiceParent(self)
                return service

        self.setup_test_reactor()
        master = await fakemaster.make_master(self, wantData=True)
        worker = Worker("test", "password", uri="test:///default")
        await worker.setServiceParent(master)
        await master.startService()
        connection = worker.guest.host
        host.run(connection.whenConnected())
        assert host.run(worker.start_instance(None)) is True
        stopping = master.stopService()
        host.flush()
        await stopping
        assert connection.connection is None
"""
