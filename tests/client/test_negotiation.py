"""What a client of one age does with a server of another, and with one that gives more than was asked for."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.client.server import FEATURE, Opening, ScriptedServer
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.programs import REMOTE
from virnet.programs.typedparams import TypedParams, UInt
from virnet.programs.values import Domain, DomainGetMemoryParametersRet
from virnet.server import NetServer, ServerProgram
from virnet.testing import connectedPair

REGISTER = 167
DOMAIN = Domain("web1", bytes(16), 1)


class OldServer(SynchronousTestCase):
    """R164: only what was negotiated is used."""

    def test_R164_without_features_nothing_new_is_sent(self) -> None:
        server = ScriptedServer()
        server.answers[FEATURE] = lambda feature: 0
        server.answers[REGISTER] = lambda event: None
        opening = Opening(server)
        connection = self.successResultOf(opening.opened)
        self.assertEqual(connection.features, frozenset())
        server.taken()
        opening.reactor.advance(1000)
        opening.flush()
        self.assertEqual(server.taken(), [], "a server that does not know keepalive was sent something")
        subscribed = Deferred.fromCoroutine(connection.domainEvents.subscribe(0, lambda *_: None))
        opening.flush()
        self.successResultOf(subscribed)
        self.assertEqual(server.taken(), [(REGISTER, (0,))])


class MoreThanAskedFor(SynchronousTestCase):
    """R157: a reply with more parameters than asked for is refused."""

    def ask(self, nparams: int, answer: DomainGetMemoryParametersRet) -> Any:
        class Provider:
            def domainGetMemoryParameters(self, dom: Domain, nparams: int, flags: int) -> Any:
                return answer

        pair = connectedPair(NetServer(Clock(), [ServerProgram(REMOTE, lambda client: Provider())]))
        asked = pair.client.program(REMOTE).domainGetMemoryParameters(DOMAIN, nparams)
        pair.flush()
        return asked

    def test_R157_one_more_is_refused(self) -> None:
        answer = DomainGetMemoryParametersRet(TypedParams({"a": UInt(1), "b": UInt(2)}), 0)
        error = self.failureResultOf(self.ask(1, answer), RemoteError).value
        self.assertEqual(error.code, ErrorNumber.RPC)
        self.assertIn("2, 1 were asked for", error.message)

    def test_R157_as_many_or_fewer_are_not(self) -> None:
        answer = DomainGetMemoryParametersRet(TypedParams({"a": UInt(1), "b": UInt(2)}), 0)
        for nparams in (2, 3):
            self.assertEqual(self.successResultOf(self.ask(nparams, answer)), answer)

    def test_R157_who_asks_how_many_there_are_is_told(self) -> None:
        answer = DomainGetMemoryParametersRet(TypedParams({}), 6)
        self.assertEqual(self.successResultOf(self.ask(0, answer)), answer)
