"""Who authenticates a client, and what the client may do before and afterwards (``wire.md`` 3.5, 4.6)."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase

from tests.authenticating import KnockAuthentication
from tests.echo import ECHO, Echo
from tests.peers import OK, ServerSession, callNamed, served
from tests.server.sockets import SocketTestCase
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.probes import subscribe
from virnet.programs import REMOTE
from virnet.security.identity import Identity, processStart
from virnet.server import ServerClient, ServerProgram

AUTHENTICATION_FAILED = (45, 7, "authentication failed: authentication failed")
AUTHENTICATION_REQUIRED = (39, 7, "authentication required")
NO_ERROR_SET = (1, 7, "Library function returned error but did not set virError")
SASL = (
    ("authSASLInit", ()),
    ("authSASLStart", ("PLAIN", 1, b"")),
    ("authSASLStep", (1, b"")),
)


class _Case(SynchronousTestCase):
    def connect(self, auth: KnockAuthentication | None, *programs: ServerProgram) -> None:
        self.auth = auth
        self.session = ServerSession(*programs, auth=auth)

    def call(self, name: str, *args: Any, serial: int = 1) -> Any:
        """What the client gets back: a value, or the first fields of an error."""
        (reply,) = self.session.send(callNamed(REMOTE, name, serial, *args))
        if reply.status == OK:
            return REMOTE.byName[name].decodeRet(reply.payload)
        return reply.error[:3]


def hypervisor() -> ServerProgram:
    """A whole hypervisor."""
    return ServerProgram(REMOTE, sessionsOf(MemoryHypervisor()))


class WithoutAuthentication(_Case):
    """A service that wants none."""

    def setUp(self) -> None:
        self.connect(None, hypervisor())

    def test_the_list_says_none(self) -> None:
        self.assertEqual(self.call("authList"), [0])

    def test_exchanges_are_refused(self) -> None:
        for name, args in SASL:
            self.assertEqual(self.call(name, *args), AUTHENTICATION_FAILED)

    def test_polkit_answers_what_libvirtd_answers(self) -> None:
        self.assertEqual(self.call("authPolkit"), NO_ERROR_SET)

    def test_a_server_of_other_programs_has_no_such_procedures(self) -> None:
        self.connect(None, served(ECHO, Echo()))
        (reply,) = self.session.send(callNamed(REMOTE, "authList", 1))
        self.assertEqual(reply.error[:3], (39, 7, f"Cannot find program {0x20008086} version 1"))


class WithAuthentication(_Case):
    """A service whose clients have to knock."""

    def setUp(self) -> None:
        self.connect(KnockAuthentication(), hypervisor())

    def test_the_list_says_how(self) -> None:
        self.assertEqual(self.call("authList"), [2])

    def test_all_but_authentication_is_refused(self) -> None:
        for procedure in REMOTE.procedures.values():
            if not procedure.name.startswith("auth"):
                # Arguments are not even looked at.
                (reply,) = self.session.send(
                    callNamed(REMOTE, "authList", 1).replace(
                        b"\0\0\0\x42", procedure.number.to_bytes(4, "big")
                    )
                )
                self.assertEqual(reply.error[:3], AUTHENTICATION_REQUIRED, procedure.name)

    def test_what_was_refused_works_afterwards(self) -> None:
        self.assertEqual(self.call("connectClose"), AUTHENTICATION_REQUIRED)
        self.assertEqual(self.call("authPolkit"), 1)
        self.assertTrue(self.session.client.authenticated)
        self.assertIsNone(self.call("connectOpen", "test:///default", 0))

    def test_afterwards_the_list_says_none_and_exchanges_are_refused(self) -> None:
        self.assertEqual(self.call("authList"), [2])
        self.assertEqual(self.call("authPolkit"), 1)
        self.assertEqual(self.call("authList"), [0])
        self.assertEqual(self.call("authPolkit"), NO_ERROR_SET)
        for name, args in SASL:
            self.assertEqual(self.call(name, *args), AUTHENTICATION_FAILED)

    def test_R130_a_failed_exchange_leaves_the_client_where_it_was(self) -> None:
        for _ in range(50):
            self.assertEqual(self.call("authSASLStart", "PLAIN", 1, b""), AUTHENTICATION_FAILED)
            self.assertEqual(self.session.server.anonymousClients, 1)
        self.assertEqual(self.call("authPolkit"), 1)
        self.assertEqual(self.session.server.anonymousClients, 0)

    def test_it_works_with_servers_of_any_program(self) -> None:
        self.connect(KnockAuthentication(), served(ECHO, Echo()))
        (reply,) = self.session.send(callNamed(ECHO, "ping", 1))
        self.assertEqual(reply.error[:3], AUTHENTICATION_REQUIRED)
        self.assertEqual(self.call("authList"), [2])
        self.assertEqual(self.call("authPolkit"), 1)
        (reply,) = self.session.send(callNamed(ECHO, "ping", 1))
        self.assertEqual(reply.status, OK)
        (reply,) = self.session.send(callNamed(REMOTE, "connectOpen", 1, "", 0))
        self.assertEqual(reply.error[:3], (39, 7, "unknown procedure: 1"))

    def test_an_answer_that_comes_when_the_client_is_gone_is_dropped(self) -> None:
        answer: Deferred[None] = Deferred()
        self.connect(KnockAuthentication(answer), hypervisor())
        self.assertEqual(self.session.send(callNamed(REMOTE, "authPolkit", 1)), [])
        self.session.lose()
        answer.callback(None)
        self.assertEqual((self.session.server.anonymousClients, self.session.server.clients), (0, {}))

    def test_the_authenticator_is_stopped_once_when_the_connection_goes(self) -> None:
        for knocks in (False, True):
            self.connect(KnockAuthentication(), hypervisor())
            assert self.auth is not None
            (authenticator,) = self.auth.made
            if knocks:
                self.call("authPolkit")
            self.assertEqual(authenticator.stopped, 0)
            self.session.lose()
            self.assertEqual(authenticator.stopped, 1)


class Probes(_Case):
    """What is told to who watches."""

    def setUp(self) -> None:
        self.seen: list[Any] = []
        self.addCleanup(
            subscribe(
                "rpc_server_client_auth_*", lambda probe, values: self.seen.append((probe.name, *values))
            )
        )
        self.connect(KnockAuthentication(), hypervisor())
        assert self.auth is not None
        (self.authenticator,) = self.auth.made

    def test_R161_allow(self) -> None:
        self.call("authPolkit")
        client = self.session.client
        self.assertEqual(self.seen, [("rpc_server_client_auth_allow", client, 2, "who knocks")])

    def test_R161_deny_is_for_who_is_known_and_not_wanted(self) -> None:
        self.authenticator.deny("fred", "not on the list")
        self.assertEqual(self.seen, [("rpc_server_client_auth_deny", self.session.client, 2, "fred")])
        self.assertFalse(self.session.client.authenticated)

    def test_R161_fail_is_for_all_else(self) -> None:
        self.authenticator.fail("wrong password")
        self.assertEqual(self.seen, [("rpc_server_client_auth_fail", self.session.client, 2)])
        self.assertFalse(self.session.client.authenticated)


class Identities(_Case):
    """Who a connection belongs to."""

    def test_in_memory_nothing_is_known(self) -> None:
        self.connect(None, hypervisor())
        self.assertEqual(self.session.client.identity, Identity())

    def test_what_was_proved_is_added(self) -> None:
        self.connect(None, hypervisor())
        client: ServerClient = self.session.client
        before = client.identity
        client.updateIdentity(saslUser="fred")
        client.updateIdentity(x509dname="CN=fred")
        self.assertEqual(client.identity, Identity(saslUser="fred", x509dname="CN=fred"))
        self.assertEqual(before, Identity())


class IdentitiesOverSockets(SocketTestCase):
    """What the kernel tells."""

    @inlineCallbacks
    def test_a_UNIX_peer(self) -> Any:
        self.serve(ServerProgram(ECHO, lambda client: Echo()))
        peer = yield self.connect()
        peer.transport.write(callNamed(ECHO, "ping", 1))
        yield peer.messages(1)
        (client,) = self.server.clients.values()
        identity = client.identity
        self.assertEqual(identity.transport, "unix")
        self.assertEqual((identity.pid, identity.uid, identity.gid), (os.getpid(), os.getuid(), os.getgid()))
        self.assertEqual(identity.processStart, processStart(os.getpid()))
        self.assertEqual(identity.groups, frozenset(os.getgroups()))
        self.assertIsNone(identity.address)
