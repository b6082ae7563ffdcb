"""
Tests of C{power.py}: C{python -m twisted.trial test_power}.
"""

from __future__ import annotations

from power import keepRunning, revive
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.testing import MemoryHost


class PowerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.host = MemoryHost()
        self.addCleanup(self.host.close)
        self.connection = self.host.connect()
        self.domain = self.host.run(self.connection.domain("test"))

    def test_a_domain_that_is_off_is_started(self) -> None:
        self.host.run(self.domain.destroy())
        self.assertTrue(self.host.run(revive(self.domain)))
        self.assertTrue(self.host.run(self.domain.isActive()))

    def test_one_that_runs_is_left_alone(self) -> None:
        self.host.run(revive(self.domain))
        self.assertNotIn("domainCreate", self.host.recorder.names)

    def test_one_that_does_not_start(self) -> None:
        self.host.run(self.domain.destroy())
        refusal = RemoteError.of(ErrorNumber.INTERNAL_ERROR, "no memory left")
        self.host.recorder.answers["domainCreate"] = refusal
        self.assertFalse(self.host.run(revive(self.domain)))

    def test_a_domain_that_stops_while_the_network_is_down(self) -> None:
        watching = self.host.service()
        Deferred.fromCoroutine(keepRunning(watching)).addErrback(lambda _: None)
        self.host.flush()
        self.host.disconnect()
        elsewhere = self.host.connect()
        domain = self.host.run(elsewhere.domain("test"))
        self.host.run(domain.destroy())
        self.host.clock.advance(10)  # the service has waited, connected and said that there was a gap
        self.assertTrue(self.host.run(domain.isActive()))
