"""What a client of one age does with a server of another, and with one that gives more than was asked for."""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.client.server import FEATURE, LATER, NUMBER, Opening, ScriptedServer
from tests.peers import OK, REPLY, message
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError, XDRError
from virnet.programs import REMOTE
from virnet.programs.typedparams import TypedParams, UInt
from virnet.programs.values import Domain, DomainGetMemoryParametersRet, Network, NetworkPort
from virnet.server import NetServer, ServerProgram
from virnet.testing import connectedPair

REGISTER = 167
DOMAIN = Domain("web1", bytes(16), 1)
ARGUMENTS: dict[str, Any] = {
    "dom": DOMAIN,
    "path": "vda",
    "disk": "vda",
    "device": "vnet0",
    "port": NetworkPort(Network("default", bytes(16)), bytes(16)),
    "params": TypedParams(),
}


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


class StringParameters(SynchronousTestCase):
    """R164: parameters that are strings are asked for where the server knows of them."""

    QUERIES = (
        "domainGetMemoryParameters", "domainGetBlkioParameters", "domainGetSchedulerParametersFlags",
        "domainBlockStatsFlags", "domainGetBlockIoTune", "domainGetNumaParameters",
        "domainGetInterfaceParameters", "domainGetCPUStats", "nodeGetMemoryParameters", "nodeGetSEVInfo",
        "domainGetLaunchSecurityInfo", "networkPortGetParameters",
    )  # fmt: skip
    """Those to which libvirt's client adds the flag."""

    OTHERS = (
        "domainGetSchedulerParameters", "domainGetJobStats", "domainGetPerfEvents", "domainGetGuestVcpus",
        "domainGetGuestInfo", "domainSetMemoryParameters", "connectListAllDomains",
    )  # fmt: skip

    def sent(self, name: str, feature: int, flags: int) -> int | None:
        """What flags a server gets.

        @param feature: what it says of the feature.
        @param flags: what the caller says.
        """
        procedure = REMOTE.byName[name]
        server = ScriptedServer()
        server.answers[FEATURE] = lambda asked: feature if asked == 9 else 0
        opening = Opening(server)
        connection = self.successResultOf(opening.opened)
        args = [ARGUMENTS.get(parameter, 0) for parameter in procedure.parameters]
        if "flags" in procedure.parameters:
            args[procedure.parameters.index("flags")] = flags
        server.taken()
        connection.client.call(procedure, tuple(args)).addErrback(lambda _: None)
        opening.flush()
        ((number, got),) = server.taken()
        self.assertEqual(number, procedure.number)
        self.assertEqual(len(got), len(args))
        return got[procedure.parameters.index("flags")] if "flags" in procedure.parameters else None

    def test_R164_the_flag_is_added(self) -> None:
        for name in self.QUERIES:
            self.assertEqual((name, self.sent(name, 1, 2)), (name, 6))

    def test_R164_and_does_no_harm_twice(self) -> None:
        self.assertEqual(self.sent("domainGetMemoryParameters", 1, 4), 4)

    def test_R164_arguments_that_do_not_fit_are_refused_as_ever(self) -> None:
        connection = self.successResultOf(Opening(ScriptedServer()).opened)
        procedure = REMOTE.byName["domainGetMemoryParameters"]
        for args in ((DOMAIN, 1), (DOMAIN, 1, None), (DOMAIN, 1, "4")):
            self.assertRaises(XDRError, connection.client.call, procedure, args)

    def test_R164_a_server_without_the_feature_does_not_get_it(self) -> None:
        for name in self.QUERIES:
            self.assertEqual((name, self.sent(name, 0, 2)), (name, 2))

    def test_R164_nor_does_any_other_procedure(self) -> None:
        for name in self.OTHERS:
            self.assertIn(self.sent(name, 1, 0), (0, None), name)


class UnknownType(SynchronousTestCase):
    """A parameter of a type that nobody knows; the text is what libvirt 9.0's client says."""

    def test_the_reply_cannot_be_decoded(self) -> None:
        server = ScriptedServer()
        number = REMOTE.byName["domainGetMemoryParameters"].number
        server.answers[number] = lambda *_: LATER
        opening = Opening(server)
        connection = self.successResultOf(opening.opened)
        asked = connection.remote.domainGetMemoryParameters(DOMAIN, 1, 0)
        opening.flush()
        (call,) = server.unanswered
        # One parameter, "abcd", of type 9.
        payload = struct.pack(">II4sIII", 1, 4, b"abcd", 9, 0, 0)
        server.transport.write(message(NUMBER, 1, number, REPLY, call.serial, OK, payload))
        opening.flush()
        error = self.failureResultOf(asked, RemoteError).value
        self.assertEqual((error.code, error.message), (39, "Unable to decode message payload"))


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
