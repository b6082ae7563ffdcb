"""How a client lets itself in (``wire.md`` 3.1, 9 and 10)."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.client.server import AUTH_LIST, LATER, NUMBER, OPEN, Opening, ScriptedServer
from tests.contracts.sasl import stepped
from tests.peers import MESSAGE, OK, REPLY, message
from tests.security.test_sasl import PASSWORD, keysOf
from tests.security.test_securitylayer import layer
from virnet.client import Connection, connect
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError, RemoteProtocolError
from virnet.programs.values import AuthSASLStartRet
from virnet.security import credentials, sasl, saslgssapi
from virnet.security.credentials import CredentialRequest
from virnet.security.sasl import SASLError, SASLSession
from virnet.security.saslplain import PlainServerSession
from virnet.security.saslscram import ScramServerSession
from virnet.testing import MemoryAddress, joined
from virnet.transport.process import CommandAddress

INIT, START, STEP, POLKIT = 67, 68, 69, 70
HOSTNAME = 59

UNIX = "test+unix:///default?socket=/s"
TCP = "test+tcp://host/default"


class SASLServer(ScriptedServer):
    """Wants SASL, and goes through it with a session of the test's.

    @ivar steps: what the client sent: nil and data.
    """

    def __init__(self, session: SASLSession | None, mechanisms: str) -> None:
        super().__init__()
        self.session = session
        self.steps: list[tuple[int, bytes]] = []
        self.mechanism = ""
        self.answers[AUTH_LIST] = lambda: [1]
        self.answers[INIT] = lambda: mechanisms
        self.answers[START] = self.start
        self.answers[STEP] = self.step

    def start(self, mechanism: str, nil: int, data: bytes) -> Any:
        """The first step."""
        self.mechanism = mechanism
        return self.step(nil, data)

    def step(self, nil: int, data: bytes) -> Any:
        """A step."""
        self.steps.append((nil, data))
        assert self.session is not None
        try:
            answer = stepped(self.session, None if nil else data)
        except SASLError:
            raise RemoteError.of(ErrorNumber.AUTH_FAILED, "authentication failed", ErrorDomain.RPC) from None
        return AuthSASLStartRet(int(self.session.complete), int(answer is None), answer or b"")


def scram(mechanism: str = "SCRAM-SHA-256") -> SASLSession:
    """The server's end, where everybody has the same password."""
    return ScramServerSession(mechanism, lambda name: keysOf(mechanism))


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects to a scripted server."""

    def __init__(self, clock: Clock, server: ScriptedServer, address: Any) -> None:
        """@param address: the server's, if it is not to be one in memory."""
        self._clock = clock
        self._server = server
        self._address = address

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect, in memory."""
        protocol = protocolFactory.buildProtocol(MemoryAddress("server"))
        transport, _ = joined(self._clock, protocol, self._server)
        if self._address is not None:
            transport.getPeer = lambda: self._address  # type: ignore[method-assign]
        return succeed(protocol)


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        # What the machine's user has must not count.
        self.patch(saslgssapi, "initiatorCredentials", lambda cache=None: None)
        self.patch(os, "environ", {"HOME": "/nonexistent"})
        self.patch(credentials, "SYSTEM_FILE", "/nonexistent")
        self.asked: list[CredentialRequest] = []
        self.address: Any = None
        self.server: ScriptedServer = SASLServer(scram(), "SCRAM-SHA-256")
        self.typed: dict[str, Any] = {"authname": "alice", "password": PASSWORD}

    def ask(self, request: CredentialRequest) -> Any:
        """A callback."""
        self.asked.append(request)
        return self.typed[request.kind]

    def open(self, uri: str = UNIX, **options: Any) -> Opening:
        """Open a connection."""
        options.setdefault("credentials", self.ask)
        self.opening = Opening(self.server, uri, **options)
        return self.opening

    def opened(self, uri: str = UNIX, **options: Any) -> Any:
        """Open a connection that comes about."""
        return self.successResultOf(self.open(uri, **options).opened)

    def tried(self) -> None:
        """Open a connection, whatever comes of it."""
        self.open().opened.addErrback(lambda failure: failure.trap(RemoteError))

    def overTCP(self, uri: str = TCP) -> Deferred[Connection]:
        """Open a connection to the host of a URI."""
        self.clock = Clock()
        endpoint = MemoryEndpoint(self.clock, self.server, self.address)
        opened = Deferred.fromCoroutine(connect(self.clock, uri, endpoint=endpoint, credentials=self.ask))
        self.clock.advance(0)
        return opened

    def refused(self, uri: str = UNIX, **options: Any) -> str:
        """Open a connection that does not; say why."""
        error = self.failureResultOf(self.open(uri, **options).opened, RemoteError).value
        self.assertEqual(error.code, ErrorNumber.AUTH_FAILED)
        self.assertNotIn(OPEN, [number for number, _ in self.server.calls])
        text: str = error.message
        return text.removeprefix("authentication failed: ")


class Types(_Case):
    """What the server wants, and what the URI says to that."""

    def listing(self, *types: int) -> None:
        """Have the server want this."""
        self.server.answers[AUTH_LIST] = lambda: list(types)

    def test_the_first_entry_counts(self) -> None:
        self.listing(0, 1)
        self.opened()
        self.setUp()
        self.listing(77, 0)
        self.assertEqual(self.refused(), "unsupported authentication type 77")

    def test_the_uri_may_choose_among_them(self) -> None:
        self.listing(0, 2, 1)
        self.server.answers[POLKIT] = lambda: 1
        self.opened(UNIX + "&auth=polkit")
        self.assertEqual(self.server.calls[1][0], POLKIT)
        self.setUp()
        self.listing(2, 1)
        self.opened(UNIX + "&auth=sasl")
        self.assertEqual(self.server.calls[1][0], INIT)

    def test_what_is_not_offered_is_refused(self) -> None:
        self.listing(0)
        for word in ("sasl", "polkit", "sasl.SCRAM-SHA-256"):
            self.assertEqual(
                self.refused(f"{UNIX}&auth={word}"), f"requested authentication type {word} rejected"
            )

    def test_words_that_nobody_knows(self) -> None:
        for word in ("none", "kerberos", "polkit.x"):
            self.assertEqual(self.refused(f"{UNIX}&auth={word}"), f"unknown authentication type {word}")

    def test_without_any_entry_there_is_nothing_to_do(self) -> None:
        self.listing()
        self.opened()

    def test_nobody_in_between_can_say_that_there_is_nothing_to_do(self) -> None:
        def unknown() -> list[int]:
            raise RemoteError.of(ErrorNumber.NO_SUPPORT, None, ErrorDomain.RPC)

        for answer in (list, unknown):
            self.server.answers[AUTH_LIST] = answer
            self.assertEqual(self.refused(UNIX + "&auth=sasl"), "requested authentication type sasl rejected")


class Polkit(_Case):
    """Type 2."""

    def setUp(self) -> None:
        super().setUp()
        self.server = ScriptedServer()
        self.server.answers[AUTH_LIST] = lambda: [2]

    def test_the_answer_does_not_matter(self) -> None:
        for answer in (0, 1):
            self.server.answers[POLKIT] = lambda answer=answer: answer
            self.opened()

    def test_without_an_agent_the_text_says_how_to_get_one(self) -> None:
        refusal = RemoteError.of(
            ErrorNumber.AUTH_UNAVAILABLE,
            "no polkit agent available to authenticate action 'org.libvirt.unix.manage'",
            ErrorDomain.POLKIT,
        )

        def refuse() -> int:
            raise refusal

        self.server.answers[POLKIT] = refuse
        error = self.failureResultOf(self.open().opened, RemoteError).value
        self.assertEqual((error.code, error.domain), (94, 60))
        self.assertTrue(error.message.startswith(refusal.message))
        self.assertIn("pkttyagent --process", error.message)

    def test_other_refusals_are_passed_on(self) -> None:
        def refuse() -> int:
            raise RemoteError.of(ErrorNumber.AUTH_CANCELLED, None, ErrorDomain.POLKIT)

        self.server.answers[POLKIT] = refuse
        self.assertEqual(self.failureResultOf(self.open().opened, RemoteError).value.code, 79)


class Exchanges(_Case):
    """A SASL exchange."""

    def test_the_calls_in_their_order(self) -> None:
        self.opened()
        self.assertEqual(
            [number for number, _ in self.server.calls[:6]], [AUTH_LIST, INIT, START, STEP, 60, OPEN]
        )

    def test_who_is_asked_what(self) -> None:
        self.opened()
        self.assertEqual(
            [(each.kind, each.secret, each.mechanism) for each in self.asked],
            [("authname", False, "SCRAM-SHA-256"), ("password", True, "SCRAM-SHA-256")],
        )

    def test_the_user_of_the_uri_is_not_asked_for(self) -> None:
        self.opened("test+unix://alice@/default?socket=/s")
        self.assertEqual([each.kind for each in self.asked], ["password"])
        session = self.server.session  # type: ignore[attr-defined]
        self.assertEqual(session.user, "alice")

    def test_R133_what_is_in_the_file_is_not_asked_for(self) -> None:
        path = Path(self.mktemp()).resolve()
        path.write_text("[auth-libvirt-localhost]\ncredentials=x\n[credentials-x]\nauthname=alice\n")
        self.opened(f"{UNIX}&authfile={path}")
        self.assertEqual([each.kind for each in self.asked], ["password"])

    def test_answers_that_come_later(self) -> None:
        later: Deferred[str] = Deferred()
        self.typed["password"] = later
        opening = self.open()
        self.assertNoResult(opening.opened)
        self.assertEqual(self.server.calls[-1][0], INIT)
        later.callback(PASSWORD)
        opening.flush()
        self.successResultOf(opening.opened)

    def test_the_strongest_mechanism_that_we_have_is_taken(self) -> None:
        for offered, taken in (
            ("PLAIN,SCRAM-SHA-1,SCRAM-SHA-512,SCRAM-SHA-256", "SCRAM-SHA-512"),
            ("CRAM-MD5,GSSAPI,SCRAM-SHA-1,PLAIN,DIGEST-MD5", "SCRAM-SHA-1"),
            ("EXTERNAL,SCRAM-SHA-256", "EXTERNAL"),
        ):
            self.server = server = SASLServer(scram(), offered)
            self.tried()
            self.assertEqual(server.mechanism, taken)

    def test_external_only_for_who_is_not_named(self) -> None:
        self.server = server = SASLServer(scram(), "EXTERNAL,SCRAM-SHA-256")
        self.opened("test+unix://alice@/default?socket=/s")
        self.assertEqual(server.mechanism, "SCRAM-SHA-256")

    def test_the_uri_may_name_the_mechanism(self) -> None:
        self.server = server = SASLServer(scram(), "SCRAM-SHA-512,SCRAM-SHA-256")
        self.opened(UNIX + "&auth=sasl.SCRAM-SHA-256")
        self.assertEqual(server.mechanism, "SCRAM-SHA-256")

    def test_a_name_is_taken_as_it_is_written(self) -> None:
        for name in ("scram-sha-256", "SCRAM-SHA-25", "GSSAPI"):
            self.assertEqual(
                self.refused(f"{UNIX}&auth=sasl.{name}"), f"SASL mechanism {name} not supported by server"
            )

    def test_no_password_is_logged_or_kept_in_errors(self) -> None:
        self.typed["password"] = "hunter2"
        with capturedLogs() as events:
            error = self.failureResultOf(self.open().opened, RemoteError)
        self.assertNotIn("hunter2", repr(events) + str(error.value) + repr(vars(error.value)))

    def test_R128_empty_data_is_sent_as_empty_data(self) -> None:
        self.server = server = SASLServer(scram(), "EXTERNAL")
        self.tried()
        self.assertEqual(server.steps, [(0, b"")])


class Refusals(_Case):
    """What ends the attempt."""

    def test_a_wrong_password(self) -> None:
        self.typed["password"] = "wrong"
        self.assertEqual(self.refused(), "authentication failed")

    def test_nobody_to_ask(self) -> None:
        self.assertEqual(self.refused(credentials=None), "No authentication callback available")

    def test_somebody_who_gives_up(self) -> None:
        self.typed["password"] = None
        self.assertEqual(self.refused(), "Failed to collect auth credentials")

    def test_no_mechanism_that_can_be_used(self) -> None:
        self.server = SASLServer(None, "DIGEST-MD5,GSSAPI")
        self.assertEqual(
            self.refused(),
            "DIGEST-MD5: not known here; GSSAPI: there is no Kerberos ticket, 'kinit' gets one",
        )
        self.server = SASLServer(None, "")
        self.assertEqual(self.refused(), "the server offers no SASL mechanism")

    def test_a_package_that_is_missing_is_named_with_what_installs_it(self) -> None:
        self.missing = {"scramp"}
        self.patch(sasl, "import_module", self.imported)
        self.assertIn("pip install 'virnet[sasl]'", self.refused())
        self.assertEqual(self.asked, [])

    def test_without_it_another_mechanism_is_taken(self) -> None:
        self.missing = {"scramp", "gssapi"}
        self.patch(saslgssapi, "initiatorCredentials", saslgssapi.gssapi)
        self.patch(sasl, "import_module", self.imported)
        self.server = server = SASLServer(PlainServerSession([]), "GSSAPI,SCRAM-SHA-256,PLAIN")
        self.tried()
        self.assertEqual(server.mechanism, "PLAIN")
        self.server = SASLServer(None, "GSSAPI")
        self.assertIn("pip install 'virnet[gssapi]'", self.refused())

    def imported(self, name: str) -> Any:
        """Import a module, unless it is to be missing."""
        if name in self.missing:
            raise ImportError(f"No module named {name!r}")
        return import_module(name)

    def test_no_password_over_plain_tcp(self) -> None:
        """
        Not even a proof of it, which would leave what follows without protection.
        """
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "EXTERNAL"):
            self.server = server = SASLServer(scram(), mechanism)
            for uri in (TCP, f"{TCP}?auth=sasl.{mechanism}"):
                error = self.failureResultOf(self.overTCP(uri), RemoteError).value
                self.assertIn(f"{mechanism}: it cannot protect the connection with 56 bits", str(error))
            self.assertEqual(server.steps, [])
        self.assertEqual(self.asked, [])

    def test_what_is_connected_to_counts_and_not_what_the_uri_calls_it(self) -> None:
        for uri in (UNIX, "test+tls://host/default"):
            self.address = IPv4Address("TCP", "192.0.2.1", 16509)
            error = self.failureResultOf(self.overTCP(uri), RemoteError).value
            self.assertIn("it cannot protect the connection", str(error))
        self.assertEqual(self.asked, [])

    def test_an_external_program_protects_nothing_and_ssh_does(self) -> None:
        """
        What it does with the bytes is not known (C: C{is_secure} stays off for C{ext}).
        """
        external, ssh = "test+ext:///default?command=/bin/true", "test+ssh://host/default"
        self.address = CommandAddress(("true",), 7)
        error = self.failureResultOf(self.overTCP(external), RemoteError).value
        self.assertIn("SCRAM-SHA-256: it cannot protect the connection with 56 bits", str(error))
        self.assertEqual(self.asked, [])
        self.successResultOf(self.overTCP(ssh))
        self.assertEqual([each.kind for each in self.asked], ["authname", "password"])

    def test_a_server_that_cannot_prove_that_it_knew_the_password(self) -> None:
        """
        It says that all is well, whatever we send.
        """
        for final in ((1, 1, b""), (1, 0, b""), (1, 0, b"v=AAAA"), (1, 0, b"e=other-error")):
            self.setUp()
            self.server.answers[STEP] = lambda nil, data, final=final: AuthSASLStartRet(*final)
            self.assertTrue(self.refused().startswith("SCRAM-SHA-256: "))

    def test_a_server_that_lets_us_in_before_we_have_proved_anything(self) -> None:
        for first in ((1, 1, b""), (1, 0, b"")):
            self.setUp()
            self.server.answers[START] = lambda *args, first=first: AuthSASLStartRet(*first)
            self.assertTrue(self.refused().startswith("SCRAM-SHA-256: "))

    def test_a_server_that_ends_early_with_a_right_challenge(self) -> None:
        start = self.server.answers[START]
        self.server.answers[START] = lambda *args: start(*args)._replace(complete=1)
        self.assertEqual(self.refused(), "SCRAM-SHA-256: the server ended the exchange too early")

    def test_a_server_without_an_end(self) -> None:
        self.server = server = SASLServer(scram(), "PLAIN")
        server.answers[START] = server.answers[STEP] = lambda *args: AuthSASLStartRet(0, 0, b"more")
        self.assertEqual(self.refused(), "PLAIN: the server asks for more than PLAIN has")

    def test_too_much_data(self) -> None:
        self.typed["password"] = "x" * 65536
        self.server = SASLServer(None, "PLAIN")
        self.assertEqual(self.refused(), "SASL negotiation data too long: 65543 bytes")


class Layered(SASLSession):
    """The client's end of a mechanism of the test's, with a layer."""

    def __init__(self, ssf: int) -> None:
        super().__init__("GSSAPI")
        self.ssf = ssf
        self.layer = layer()

    def step(self, data: bytes | None) -> bytes | None:
        self.complete = True
        return b"ticket"


class LayeredServer(ScriptedServer):
    """Protects what follows the exchange.

    @ivar behind: clear bytes that it sends behind its last reply, all the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = layer()
        self.secure = False
        self.behind = b""
        self.answers[AUTH_LIST] = lambda: [1]
        self.answers[INIT] = lambda: "GSSAPI"
        self.answers[START] = lambda *args: AuthSASLStartRet(1, 1, b"")

    def dataReceived(self, data: bytes) -> None:
        """Answer what came."""
        super().dataReceived(self.layer.decode(data) if self.secure else data)

    def _send(self, number: int, type: int, serial: int, status: int, payload: bytes) -> None:
        data = message(NUMBER, 1, number, type, serial, status, payload)
        self.transport.write(
            self.layer.encode(data) if self.secure else data + self.behind * (number == START)
        )
        self.secure = self.secure or number == START


class Layers(_Case):
    """What follows an exchange is protected."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.layered = LayeredServer()
        self.ssf = 256
        self.patch(saslgssapi, "initiatorCredentials", lambda cache=None: "a ticket")
        self.patch(saslgssapi, "GSSAPIClientSession", lambda *args: Layered(self.ssf))

    def test_R129_everything_behind_the_last_reply(self) -> None:
        connection = self.successResultOf(self.overTCP())
        self.assertEqual(connection.features, {9, 10, 14, 15})
        self.assertEqual(self.server.calls[-1], (60, (15,)))

    def test_R128_no_data_is_sent_as_no_data(self) -> None:
        self.patch(Layered, "step", lambda session, data: setattr(session, "complete", True))
        self.successResultOf(self.overTCP())
        self.assertIn((START, ("GSSAPI", 1, b"")), self.server.calls)

    def test_a_layer_that_is_too_weak(self) -> None:
        self.ssf = 55
        error = self.failureResultOf(self.overTCP(), RemoteError).value
        self.assertEqual(str(error), "authentication failed: negotiation SSF 55 was not strong enough")

    def test_R129_clear_bytes_behind_the_last_reply_end_the_connection(self) -> None:
        for behind in (b"x", b"\0\0\0\x1c" + bytes(20), message(NUMBER, 1, 7, MESSAGE, 1, OK)[:20]):
            self.setUp()
            self.layered.behind = behind
            error = self.failureResultOf(self.overTCP(), RemoteProtocolError).value
            self.assertIn("received data in clear behind the authentication", str(error))

    def test_R124_several_replies_in_one_packet(self) -> None:
        connection = self.successResultOf(self.overTCP())
        self.server.answers[HOSTNAME] = lambda: LATER
        calls = [connection.remote.connectGetHostname() for _ in range(3)]
        self.clock.advance(0)
        one = b"".join(
            message(NUMBER, 1, HOSTNAME, REPLY, call.serial, OK, b"\0\0\0\1h\0\0\0")
            for call in self.server.unanswered
        )
        self.server.transport.write(self.layered.layer.encode(one))
        self.clock.advance(0)
        self.assertEqual([self.successResultOf(call) for call in calls], ["h"] * 3)

    def test_a_packet_that_does_not_verify_ends_the_connection(self) -> None:
        connection = self.successResultOf(self.overTCP())
        call = connection.remote.connectGetLibVersion()
        self.server.transport.write(b"\0\0\0\2xx")
        self.clock.advance(0)
        error = self.failureResultOf(call, RemoteProtocolError).value
        self.assertIn("failed to decode SASL packet: no mark", str(error))
