"""SASL at a server: the procedures, what becomes of failures, what follows success (``wire.md`` 9)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.interop.support import requireModule
from tests.peers import CALL, MESSAGE, OK, Message, ServerSession, callNamed, message, served, split
from tests.security.test_securitylayer import layer
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import sessionsOf
from virnet.probes import subscribe
from virnet.programs import REMOTE
from virnet.security.sasl import SASLError, SASLSession
from virnet.security.saslcontext import SASLContext
from virnet.security.saslexternal import ExternalClientSession
from virnet.security.saslplain import PlainClientSession
from virnet.security.saslscram import ScramClientSession
from virnet.security.scramfile import CredentialFileError, ScramFile
from virnet.security.securitylayer import SecurityLayer
from virnet.server import NetServer, ServerProgram
from virnet.server.sasl import SASLAuthentication

FAILED = (45, 7, "authentication failed: authentication failed")
AUTHENTICATION_REQUIRED = (39, 7, "authentication required")
PING = message(0x6B656570, 1, 1, MESSAGE, 0, OK)

_context: SASLContext | None = None


def context(testcase: SynchronousTestCase) -> SASLContext:
    """A context with two users; made once, because keys take their time."""
    global _context
    if _context is None:
        path = Path(testcase.mktemp()).resolve()
        ScramFile(path).setPassword("alice", "secret", 4096)
        _context = SASLContext(scramFile=path, checkers=[users()], mechanisms=ALL)
    return _context


ALL = ("EXTERNAL", "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN")


CALLS = st.sampled_from(("authSASLInit", "authSASLStep", *ALL, "GSSAPI", ""))
DATA = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.sampled_from(
        (b"n,,n=alice,r=abc", b"c=biws,r=abc,p=AAAA", b"\0bob\0wrong", b"\0alice\0secret", b"n,,n=bob,r=x")
    ),
)


def users() -> InMemoryUsernamePasswordDatabaseDontUse:
    """Who may use PLAIN."""
    checker = InMemoryUsernamePasswordDatabaseDontUse()
    checker.addUser(b"bob", b"secret")
    return checker


def hypervisor() -> ServerProgram:
    """A whole hypervisor."""
    return ServerProgram(REMOTE, sessionsOf(MemoryHypervisor()))


class _Case(SynchronousTestCase):
    serial = 0

    def setUp(self) -> None:
        self.connect(context(self))

    def connect(
        self, context: Any, *programs: ServerProgram, transport: str = "unix", **options: Any
    ) -> None:
        """Connect a client that has to authenticate."""
        self.session = ServerSession(
            *(programs or (hypervisor(),)), auth=SASLAuthentication(context), **options
        )
        self.session.client.updateIdentity(transport=transport)

    def call(self, name: str, *args: Any) -> Any:
        """What the client gets back: a value, or the first fields of an error."""
        (reply,) = self.session.send(self.request(name, *args))
        return self.read(name, reply)

    def request(self, name: str, *args: Any) -> bytes:
        """A call."""
        self.serial += 1
        return callNamed(REMOTE, name, self.serial, *args)

    def read(self, name: str, reply: Message) -> Any:
        """What a reply says."""
        if reply.status == OK:
            return REMOTE.byName[name].decodeRet(reply.payload)
        return reply.error[:3]

    def authenticate(self, session: SASLSession) -> Any:
        """Go through an exchange as libvirt's client does.

        @return: the last answer.
        """
        self.assertIn(session.mechanism, self.call("authSASLInit").split(","))
        data = session.step(None)
        answer = self.call("authSASLStart", session.mechanism, int(data is None), data or b"")
        while len(answer) == 3 and answer[0] in (0, 1) and not (answer[0] and session.complete):
            data = session.step(None if answer[1] else answer[2])
            if answer[0] and session.complete:
                break
            answer = self.call("authSASLStep", int(data is None), data or b"")
        return answer


class Exchanges(_Case):
    """What works."""

    def test_every_mechanism_lets_its_users_in(self) -> None:
        for session, user in (
            (ScramClientSession("SCRAM-SHA-512", "alice", "secret"), "alice"),
            (ScramClientSession("SCRAM-SHA-256", "alice", "secret"), "alice"),
            (ScramClientSession("SCRAM-SHA-1", "alice", "secret"), "alice"),
            (PlainClientSession("bob", "secret"), "bob"),
        ):
            self.connect(context(self))
            self.assertEqual(self.call("connectOpen", "test:///default", 0), AUTHENTICATION_REQUIRED)
            self.assertEqual(self.authenticate(session)[0], 1)
            self.assertEqual(self.session.client.identity.saslUser, user)
            self.assertIsNone(self.call("connectOpen", "test:///default", 0))

    def test_external_is_who_the_system_says(self) -> None:
        self.session.client.updateIdentity(uid=1234, userName="carol")
        self.authenticate(ExternalClientSession())
        self.assertEqual(self.session.client.identity.saslUser, "carol")

    def test_the_strongest_is_offered_first(self) -> None:
        self.assertEqual(self.call("authSASLInit"), "SCRAM-SHA-512,SCRAM-SHA-256,SCRAM-SHA-1,PLAIN")

    def test_R128_no_data_is_told_from_empty_data(self) -> None:
        self.call("authSASLInit")
        self.assertEqual(self.call("authSASLStart", "SCRAM-SHA-256", 1, b""), (0, 1, b""))
        self.connect(context(self))
        self.call("authSASLInit")
        self.assertEqual(self.call("authSASLStart", "SCRAM-SHA-256", 0, b""), FAILED)

    def test_R127_bytes_above_0x7f_travel(self) -> None:
        path = Path(self.mktemp())
        ScramFile(path).setPassword("jörg", "gehüpft", 4096)
        self.connect(SASLContext(scramFile=path))
        self.authenticate(ScramClientSession("SCRAM-SHA-256", "jörg", "gehüpft"))
        self.assertEqual(self.session.client.identity.saslUser, "jörg")

    def test_R127_each_byte_is_a_sign_extended_word(self) -> None:
        """
        C: C{char sasl_data<>}, for which C{rpcgen} makes an array of words.
        """
        words = b"\0\0\0\0\0\0\0\x7f\xff\xff\xff\x80\xff\xff\xff\xff"
        procedure = REMOTE.byName["authSASLStep"]
        data = b"\0\x7f\x80\xff"
        self.assertEqual(procedure.encodeArgs((0, data)), b"\0\0\0\0" + b"\0\0\0\x04" + words)
        self.assertEqual(procedure.encodeRet((1, 0, data)), b"\0\0\0\x01\0\0\0\0\0\0\0\x04" + words)
        self.assertEqual(
            procedure.decodeArgs(procedure.encodeArgs((0, bytes(range(256))))), (0, bytes(range(256)))
        )

    def test_R123_over_tls_as_well(self) -> None:
        self.session.client.updateIdentity(transport="tls")
        self.assertEqual(self.authenticate(ScramClientSession("SCRAM-SHA-256", "alice", "secret"))[0], 1)

    def test_a_server_without_a_hypervisor(self) -> None:
        self.connect(context(self), served(ECHO, Echo()))
        self.assertEqual(self.authenticate(PlainClientSession("bob", "secret"))[0], 1)

    def test_afterwards_nothing_more_is_asked_for(self) -> None:
        self.authenticate(PlainClientSession("bob", "secret"))
        self.assertEqual(self.call("authList"), [0])
        self.assertEqual(self.call("authSASLInit"), FAILED)
        self.assertEqual(self.call("authSASLStart", "PLAIN", 1, b""), FAILED)
        self.assertEqual(self.call("authSASLStep", 1, b""), FAILED)
        self.assertIsNone(self.call("connectOpen", "test:///default", 0))


class Failures(_Case):
    """What does not (9.6): one answer for everything."""

    def test_call_orders(self) -> None:
        orders: list[list[tuple[Any, ...]]] = [
            [("authSASLStart", "PLAIN", 1, b"")],
            [("authSASLStep", 1, b"")],
            [("authSASLInit",), ("authSASLStep", 1, b"")],
            [("authSASLInit",), ("authSASLStart", "PLAIN", 1, b""), ("authSASLStart", "PLAIN", 1, b"")],
            [("authSASLInit",), ("authSASLStart", "PLAIN", 1, b""), ("authSASLInit",)],
        ]
        for calls in orders:
            self.connect(context(self))
            *before, (last, *args) = calls
            for name, *arguments in before:
                self.assertNotEqual(self.call(name, *arguments), FAILED)
            self.assertEqual(self.call(last, *args), FAILED)
            self.assertFalse(self.session.closed)

    def test_a_second_init_leaves_the_exchange_usable(self) -> None:
        self.call("authSASLInit")
        self.assertEqual(self.call("authSASLInit"), FAILED)
        self.assertEqual(self.call("authSASLStart", "PLAIN", 0, b"\0bob\0secret"), (1, 1, b""))

    def test_mechanisms_that_were_not_offered(self) -> None:
        for name in (
            "GSSAPI",
            "plain",
            "",
            "SCRAM-SHA-1,PLAIN",
            "SCRAM-SHA-256-PLUS",
            "\udcff",
            "x" * 100000,
        ):
            self.connect(context(self))
            self.call("authSASLInit")
            self.assertEqual(self.call("authSASLStart", name, 1, b""), FAILED)

    def test_R130_a_failed_start_ends_the_exchange_and_another_may_begin(self) -> None:
        for _ in range(20):
            self.call("authSASLInit")
            self.assertEqual(self.call("authSASLStart", "PLAIN", 0, b"\0bob\0wrong"), FAILED)
            self.assertEqual(self.call("authSASLStep", 0, b"\0bob\0secret"), FAILED)
        self.assertEqual(self.session.server.anonymousClients, 1)
        self.assertEqual(self.authenticate(PlainClientSession("bob", "secret"))[0], 1)
        self.assertEqual(self.session.server.anonymousClients, 0)

    def test_a_wrong_password(self) -> None:
        for user, password in (("alice", "wrong"), ("mallory", "secret")):
            self.assertEqual(self.authenticate(ScramClientSession("SCRAM-SHA-256", user, password)), FAILED)
        self.assertIsNone(self.session.client.identity.saslUser)
        self.assertEqual(self.call("connectOpen", "test:///default", 0), AUTHENTICATION_REQUIRED)

    def test_a_replayed_exchange(self) -> None:
        heard: list[bytes] = []
        first = ScramClientSession("SCRAM-SHA-256", "alice", "secret")
        step = first.step
        first.step = lambda data: heard.append(step(data) or b"") or heard[-1]  # type: ignore
        self.authenticate(first)
        self.connect(context(self))
        self.call("authSASLInit")
        self.assertEqual(self.call("authSASLStart", "SCRAM-SHA-256", 0, heard[0])[0], 0)
        self.assertEqual(self.call("authSASLStep", 0, heard[1]), FAILED)

    def test_data_that_makes_no_sense(self) -> None:
        for mechanism in ("SCRAM-SHA-256", "PLAIN"):
            for data in (b"\xff" * 100, b"\0", b"x" * 65536, b"n,,n=a,r=", b"\xc3\x28"):
                self.call("authSASLInit")
                self.assertEqual(self.call("authSASLStart", mechanism, 0, data), FAILED)

    def test_more_data_than_a_step_has(self) -> None:
        self.call("authSASLInit")
        procedure = REMOTE.byName["authSASLStart"]
        payload = b"\0\0\0\x05PLAIN\0\0\0" + b"\0\0\0\0" + b"\0\x01\0\x01" + bytes(4 * 65537)
        call = message(procedure.program.number, 1, procedure.number, CALL, 99, OK, payload)
        (reply,) = self.session.send(call)
        self.assertEqual(reply.error[:3], (39, 7, "Unable to decode message payload"))
        self.assertEqual(self.call("authSASLStart", "PLAIN", 0, b"\0bob\0secret")[0], 1)

    def test_a_mechanism_with_a_bug_is_no_way_in(self) -> None:
        class Broken(SASLSession):
            def step(self, data: bytes | None) -> bytes | None:
                raise ZeroDivisionError("a secret")

        self.connect(Scripted(lambda: Broken("X")))
        self.call("authSASLInit")
        self.assertEqual(self.call("authSASLStart", "X", 1, b""), FAILED)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertNotEqual(self.call("authSASLInit"), FAILED)

    def test_a_checker_with_a_bug_is_no_way_in(self) -> None:
        class Broken(InMemoryUsernamePasswordDatabaseDontUse):
            def requestAvatarId(self, credentials: Any) -> Any:
                raise ZeroDivisionError

        self.connect(SASLContext(checkers=[Broken()]))
        self.assertEqual(self.authenticate(PlainClientSession("bob", "secret")), FAILED)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_credential_file_that_is_gone_lets_nobody_in(self) -> None:
        path = Path(self.mktemp())
        ScramFile(path).setPassword("alice", "secret", 4096)
        self.connect(SASLContext(scramFile=path))
        os.unlink(path)
        self.assertEqual(self.authenticate(ScramClientSession("SCRAM-SHA-256", "alice", "secret")), FAILED)

    def test_a_password_changed_while_the_server_runs(self) -> None:
        path = Path(self.mktemp())
        ScramFile(path).setPassword("alice", "secret", 4096)
        self.connect(SASLContext(scramFile=path))
        ScramFile(path).setPassword("alice", "other", 4096)
        self.assertEqual(self.authenticate(ScramClientSession("SCRAM-SHA-256", "alice", "secret")), FAILED)
        self.assertEqual(self.authenticate(ScramClientSession("SCRAM-SHA-256", "alice", "other"))[0], 1)

    def test_the_log_says_why_and_has_no_password(self) -> None:
        with capturedLogs() as events:
            self.authenticate(PlainClientSession("bob", "hunter2"))
            self.authenticate(ScramClientSession("SCRAM-SHA-256", "alice", "hunter2"))
            self.authenticate(PlainClientSession("bob", "secret"))
        text = repr(events)
        self.assertIn("no such user, or wrong password", text)
        self.assertIn("no such user, or wrong password: 'alice'", text)
        self.assertNotIn("hunter2", text)
        self.assertNotIn("secret", text)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(CALLS, DATA), max_size=8))
    def test_no_order_of_calls_lets_anybody_in_or_shuts_anybody_out(
        self, calls: list[tuple[str, bytes | None]]
    ) -> None:
        self.connect(context(self))
        for name, data in calls:
            nil = (int(data is None), data or b"")
            if name == "authSASLInit":
                self.call(name)
            elif name == "authSASLStep":
                self.call(name, *nil)
            else:
                self.call("authSASLStart", name, *nil)
            self.assertFalse(self.session.client.authenticated)
        self.call("authSASLStep", 1, b"")
        self.assertEqual(self.authenticate(PlainClientSession("bob", "secret"))[0], 1)


class SlowCheckers(_Case):
    """Answers that come later."""

    def setUp(self) -> None:
        self.answers: list[Deferred[bytes]] = []
        answers = self.answers

        class Slow(InMemoryUsernamePasswordDatabaseDontUse):
            def requestAvatarId(self, credentials: Any) -> Any:
                answers.append(Deferred())
                return answers[-1]

        self.connect(SASLContext(checkers=[Slow()]))
        self.call("authSASLInit")
        self.assertEqual(self.session.send(self.request("authSASLStart", "PLAIN", 0, b"\0bob\0x")), [])

    def test_in_the_end(self) -> None:
        self.answers[0].callback(b"bob")
        (reply,) = self.session.flush()
        self.assertEqual(self.read("authSASLStart", reply), (1, 1, b""))
        self.assertTrue(self.session.client.authenticated)

    def test_no_step_passes_another(self) -> None:
        """
        What comes in between ends the exchange; the late answer lets nobody in.
        """
        self.assertEqual(self.call("authSASLStep", 0, b"\0bob\0x"), FAILED)
        self.answers[0].callback(b"bob")
        (reply,) = self.session.flush()
        self.assertEqual(self.read("authSASLStart", reply), FAILED)
        self.assertFalse(self.session.client.authenticated)

    def test_a_client_that_has_gone(self) -> None:
        self.session.lose()
        self.answers[0].callback(b"bob")
        self.assertFalse(self.session.client.authenticated)


class AllowLists(_Case):
    """Who has proved who they are may still not enter."""

    def allowing(self, *patterns: str) -> None:
        """Have a list."""
        self.connect(SASLContext(checkers=[users()], allowedUsers=patterns))

    def test_R126_a_match_is_let_in_and_no_match_is_not(self) -> None:
        for patterns, allowed in (
            (("bob",), True),
            (("alice", "b*"), True),
            (("b?b",), True),
            (("alice",), False),
            (("bobby", "bo"), False),
            (("b[o]b",), False),
            ((), False),
        ):
            self.allowing(*patterns)
            answer = self.authenticate(PlainClientSession("bob", "secret"))
            self.assertEqual(answer, (1, 1, b"") if allowed else FAILED, patterns)
            self.assertEqual(self.session.client.authenticated, allowed)
            self.assertEqual(self.session.client.identity.saslUser, "bob" if allowed else None)

    def test_who_was_refused_may_try_as_somebody_else(self) -> None:
        checker = users()
        checker.addUser(b"alice", b"secret")
        self.connect(SASLContext(checkers=[checker], allowedUsers=["alice"]))
        self.assertEqual(self.authenticate(PlainClientSession("bob", "secret")), FAILED)
        self.assertEqual(self.authenticate(PlainClientSession("alice", "secret"))[0], 1)

    def test_probes_tell_allow_deny_and_fail_apart(self) -> None:
        seen: list[tuple[Any, ...]] = []
        self.addCleanup(
            subscribe(
                "rpc_server_client_auth_*", lambda probe, values: seen.append((probe.name, *values[1:]))
            )
        )
        self.allowing("alice")
        self.authenticate(PlainClientSession("bob", "wrong"))
        self.authenticate(PlainClientSession("bob", "secret"))
        self.allowing("bob")
        self.authenticate(PlainClientSession("bob", "secret"))
        self.assertEqual(
            seen,
            [
                ("rpc_server_client_auth_fail", 1),
                ("rpc_server_client_auth_deny", 1, "bob"),
                ("rpc_server_client_auth_allow", 1, "bob"),
            ],
        )


class Strength(_Case):
    """What a connection goes over decides what is offered (9.4)."""

    def test_nothing_that_cannot_protect_is_offered_over_tcp(self) -> None:
        for transport in ("tcp", "other"):
            self.connect(context(self), transport=transport)
            self.assertEqual(self.call("authSASLInit"), FAILED)
            self.assertEqual(self.call("authSASLStart", "PLAIN", 0, b"\0bob\0secret"), FAILED)

    def test_a_layer_that_is_too_weak_is_refused(self) -> None:
        for minSSF, ssf, allowed in ((56, 55, False), (56, 56, True), (112, 111, False), (0, 0, True)):
            self.connect(Scripted(lambda ssf=ssf: Instant(ssf), minSSF=minSSF), transport="tcp")
            self.call("authSASLInit")
            self.assertEqual(self.call("authSASLStart", "X", 1, b""), (1, 1, b"") if allowed else FAILED)
            self.assertEqual(self.session.client.authenticated, allowed)


class Contexts(SynchronousTestCase):
    """How a context is made."""

    def test_nothing_to_check_against(self) -> None:
        self.assertRaises(ValueError, SASLContext)
        self.assertRaises(ValueError, SASLContext, mechanisms=["PLAIN"])
        self.assertRaises(ValueError, SASLContext, mechanisms=["SCRAM-SHA-256"], checkers=[users()])
        self.assertRaises(ValueError, SASLContext, mechanisms=["DIGEST-MD5"], checkers=[users()])

    def test_a_file_that_is_not_there(self) -> None:
        self.assertRaises(CredentialFileError, SASLContext, scramFile="/nonexistent")

    def test_a_keytab_without_keys(self) -> None:
        requireModule(self, "gssapi")
        error = self.assertRaises(SASLError, SASLContext, keytab="/nonexistent")
        self.assertIn("no keys for GSSAPI in /nonexistent", str(error))

    def test_external_only_when_asked_for(self) -> None:
        self.assertEqual(SASLContext(checkers=[users()]).mechanisms, ("PLAIN",))
        self.assertEqual(SASLContext(mechanisms=["EXTERNAL"]).mechanisms, ("EXTERNAL",))


class Instant(SASLSession):
    """Lets everybody in at once, with a layer."""

    def __init__(self, ssf: int = 256) -> None:
        super().__init__("X")
        self.ssf = ssf
        self.user = "alice"
        self.layer = layer() if ssf else None

    def step(self, data: bytes | None) -> bytes | None:
        self.complete = True
        return data


class Scripted(SASLContext):
    """Has one mechanism, of the test's making."""

    def __init__(self, make: Any = Instant, minSSF: int = 56) -> None:
        super().__init__(mechanisms=["EXTERNAL"], minSSF=minSSF)
        self._make = make

    def offered(self, identity: Any) -> list[str]:
        return ["X"]

    def session(self, mechanism: str, identity: Any) -> SASLSession:
        made: SASLSession = self._make()
        return made


class Later:
    """Answers calls when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Deferred[str]] = []

    def echo(self, text: str) -> Deferred[str]:
        """Wait."""
        self.calls.append(Deferred())
        return self.calls[-1]


class Layers(_Case):
    """Everything behind the last reply is protected (9.5)."""

    def setUp(self) -> None:
        self.layer = layer()
        self.connect(Scripted(), transport="tcp")

    def secure(self) -> None:
        """Authenticate; from then on the connection is protected."""
        self.call("authSASLInit")
        self.assertEqual(self.call("authSASLStart", "X", 0, b"end"), (1, 0, b"end"))

    def exchange(self, data: bytes) -> list[Message]:
        """Send protected bytes, and read protected replies."""
        self.session.transport.write(data)
        self.session.clock.advance(0)
        return list(split(self.layer.decode(self.session.peer.bytes())))

    def test_R129_the_last_reply_is_in_clear_and_the_next_byte_is_not(self) -> None:
        self.secure()
        (reply,) = self.exchange(self.layer.encode(self.request("authList")))
        self.assertEqual(self.read("authList", reply), [0])

    def test_what_cannot_be_protected_ends_the_connection_and_leaks_nothing(self) -> None:
        def expired(data: bytes) -> bytes:
            raise RuntimeError("the context has expired")

        (client,) = self.session.server.clients.values()
        client.startSecurityLayer(SecurityLayer(expired, bytes, 65536, 65536))
        unprotected = SecurityLayer(bytes, bytes, 65536, 65536)
        self.session.transport.write(unprotected.encode(self.request("authList")))
        self.session.clock.advance(0)
        self.assertEqual(self.session.peer.bytes(), b"")
        self.assertTrue(self.session.closed)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_R129_clear_bytes_behind_it_end_the_connection(self) -> None:
        self.secure()
        self.session.send(self.request("authList"), self.request("authList"))
        self.assertTrue(self.session.closed)

    def test_R129_clear_bytes_that_came_with_the_last_step_end_the_connection(self) -> None:
        """
        Who can put bytes into the connection before it is protected is not the one who authenticated.
        """
        self.connect(Scripted(), transport="tcp")
        self.call("authSASLInit")
        opening = self.request("connectOpen", "test:///default", 0)
        start = self.request("authSASLStart", "X", 0, b"")
        self.session.transport.write(start + opening[:10])
        self.session.clock.advance(0)
        self.assertTrue(self.session.closed)

    def test_R129_whole_calls_that_came_with_the_last_step_are_not_executed(self) -> None:
        self.call("authSASLInit")
        self.session.transport.write(
            self.request("authSASLStart", "X", 0, b"") + self.request("connectOpen", "test:///default", 0)
        )
        self.session.clock.advance(0)
        received = self.session.peer.bytes()
        (clear,) = split(received[: int.from_bytes(received[:4], "big")])
        (refused,) = split(self.layer.decode(received[clear.length :]))
        self.assertEqual(refused.error[:3], AUTHENTICATION_REQUIRED)

    def test_R124_two_calls_in_one_packet(self) -> None:
        self.secure()
        both = self.request("authList") + self.request("authList")
        self.assertLessEqual(len(both), self.layer.blockSize)
        self.assertEqual(len(self.exchange(self.layer.encode(both))), 2)

    def test_a_call_in_many_packets_a_byte_at_a_time(self) -> None:
        self.secure()
        call = self.request("authSASLStart", "x" * 1000, 0, b"y" * 1000)
        replies = []
        for byte in self.layer.encode(call):
            replies += self.exchange(bytes([byte]))
        (reply,) = replies
        self.assertEqual(self.read("authSASLStart", reply), FAILED)

    def test_R125_calls_beyond_the_limit_wait_for_a_slot_and_are_then_handled_without_a_read(self) -> None:
        later = Later()
        self.connect(Scripted(), served(ECHO, later), transport="tcp")
        self.secure()
        limit = self.session.server.maxClientRequests
        calls = b"".join(callNamed(ECHO, "echo", 100 + number, "x") for number in range(limit + 2))
        self.exchange(self.layer.encode(calls))
        self.assertEqual(len(later.calls), limit)
        for number in range(limit + 2):
            later.calls[number].callback("done")
            (reply,) = self.exchange(b"")
            self.assertEqual(reply.serial, 100 + number)
            self.assertEqual(len(later.calls), min(limit + 2, limit + number + 1))

    def test_R142_what_waits_to_be_sent_is_counted_as_it_is_sent(self) -> None:
        self.connect(Scripted(), served(ECHO, Echo()), transport="tcp", window=2000)
        self.secure()
        self.session.transport.pauseProducing()
        for serial in range(5):
            self.session.transport.write(self.layer.encode(callNamed(ECHO, "echo", 10 + serial, "x" * 10000)))
        self.session.clock.advance(0)
        waiting = self.session.client.queuedBytes
        self.assertGreater(waiting, 0)
        self.session.transport.resumeProducing()
        replies = self.exchange(b"")
        self.assertEqual(len(replies), 5)
        self.assertEqual(self.session.client.queuedBytes, 0)

    def test_pings_are_protected_as_well(self) -> None:
        self.secure()
        (pong,) = self.exchange(self.layer.encode(PING))
        self.assertEqual((pong.program, pong.procedure), (0x6B656570, 2))

    def test_an_oversize_packet_ends_the_connection_by_its_length(self) -> None:
        self.secure()
        self.session.send(b"\0\0\0\x66")
        self.assertTrue(self.session.closed)

    def test_a_packet_that_does_not_verify_ends_the_connection(self) -> None:
        self.secure()
        self.session.send(b"\0\0\0\x02xx")
        self.assertTrue(self.session.closed)

    def test_a_message_too_large_is_refused_in_packets_too(self) -> None:
        self.secure()
        self.session.send(self.layer.encode(b"\x7f\xff\xff\xff"))
        self.assertTrue(self.session.closed)

    def test_without_a_layer_bytes_stay_as_they_are(self) -> None:
        self.connect(Scripted(lambda: Instant(0), minSSF=0), transport="tcp")
        self.secure()
        self.assertEqual(self.call("authList"), [0])


class Limits(_Case):
    """Clients that have not authenticated are few."""

    def test_R131_the_next_one_is_let_in_when_one_has_authenticated_or_left(self) -> None:
        server = NetServer(self.session.clock, [hypervisor()], maxAnonymousClients=3)
        sessions = []
        for _ in range(5):
            self.connect(context(self), server=server)
            sessions.append(self.session)
        self.assertEqual((server.anonymousClients, server.heldClients), (3, 2))
        self.session = sessions[0]
        self.authenticate(PlainClientSession("bob", "secret"))
        self.assertEqual((server.anonymousClients, server.heldClients), (3, 1))
        sessions[1].lose()
        self.assertEqual((server.anonymousClients, server.heldClients), (3, 0))
        for session in sessions:
            session.lose()
        self.assertEqual((server.anonymousClients, len(server.clients)), (0, 0))
