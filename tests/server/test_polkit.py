"""What polkit is asked about a client, and what becomes of its answers (``wire.md`` section 10)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import OK, Message, ServerSession, callNamed, served
from virnet.probes import subscribe
from virnet.programs import REMOTE
from virnet.security.identity import Identity
from virnet.security.polkit import refusal
from virnet.server import NetServer, ServerClient
from virnet.server.polkit import PolkitAuthentication

SOMEBODY = Identity(transport="unix", pid=4711, processStart=99, uid=1000, gid=1000, userName="fred")
NO_AGENT = (
    "authentication unavailable: no polkit agent available to authenticate action 'org.libvirt.unix.manage'"
)
ACTION = "org.libvirt.unix.manage"


class Polkit:
    """polkit as the test wants it.

    @ivar asked: actions and identities.
    @ivar answers: what fires when it has made up its mind.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, Identity]] = []
        self.answers: list[Deferred[None]] = []

    def check(self, action: str, identity: Identity) -> Deferred[None]:
        """Be asked."""
        self.asked.append((action, identity))
        answer: Deferred[None] = Deferred()
        self.answers.append(answer)
        return answer


class Known(PolkitAuthentication):
    """Clients that the kernel would know."""

    def __init__(self, polkit: Polkit, identity: Identity) -> None:
        super().__init__(polkit.check)
        self.identity = identity

    def authenticatorFor(self, client: ServerClient) -> Any:
        """Tell the client who it is, first."""
        client.updateIdentity(
            **{name: getattr(self.identity, name) for name in ("pid", "processStart", "uid")}
        )
        return super().authenticatorFor(client)


class Case(SynchronousTestCase):
    """A client of a service with polkit."""

    def setUp(self) -> None:
        self.connect(SOMEBODY)
        self.probed: list[Any] = []
        self.addCleanup(
            subscribe(
                "rpc_server_client_auth_*",
                lambda probe, values: self.probed.append((probe.name[23:], *values[1:])),
            )
        )

    def connect(self, identity: Identity) -> None:
        """Connect somebody."""
        self.polkit = Polkit()
        self.session = ServerSession(served(ECHO, Echo()), auth=Known(self.polkit, identity))

    def call(self, name: str) -> list[Message]:
        """Make a call of authentication."""
        return self.session.send(callNamed(REMOTE, name, 1))

    def assertIn_(self, inside: bool) -> None:
        """Whether the client is in."""
        self.assertEqual(self.session.client.authenticated, inside)
        self.assertEqual(self.session.server.anonymousClients, 0 if inside else 1)
        (reply,) = self.session.send(callNamed(ECHO, "ping", 2))
        self.assertEqual(reply.status == OK, inside)


class Root(Case):
    """Who may do everything anyway."""

    def setUp(self) -> None:
        super().setUp()
        self.connect(Identity(transport="unix", pid=1, processStart=1, uid=0, gid=0))

    def test_R132_is_let_in_by_the_list_and_counted_once(self) -> None:
        self.assertIn_(False)
        for _ in range(3):
            (reply,) = self.call("authList")
            self.assertEqual(REMOTE.byName["authList"].decodeRet(reply.payload), [0])
        self.assertIn_(True)
        self.assertEqual(self.polkit.asked, [])
        self.assertEqual(self.probed, [("allow", 2, "pid:1,uid:0")])

    def test_stays_outside_without_the_list(self) -> None:
        (reply,) = self.session.send(callNamed(REMOTE, "authSASLInit", 1))
        self.assertEqual(reply.error[:2], (45, 7))
        self.assertIn_(False)


class Others(Case):
    """Who has to be judged."""

    def test_are_told_to_ask(self) -> None:
        (reply,) = self.call("authList")
        self.assertEqual(REMOTE.byName["authList"].decodeRet(reply.payload), [2])
        self.assertIn_(False)

    def test_a_yes(self) -> None:
        self.assertEqual(self.call("authPolkit"), [])
        self.assertIn_(False)
        ((action, identity),) = self.polkit.asked
        self.assertEqual(
            (action, identity.pid, identity.processStart, identity.uid), (ACTION, 4711, 99, 1000)
        )
        self.polkit.answers[0].callback(None)
        (reply,) = self.session.flush()
        self.assertEqual(REMOTE.byName["authPolkit"].decodeRet(reply.payload), 1)
        self.assertIn_(True)
        self.assertEqual(self.probed, [("allow", 2, "pid:4711,uid:1000")])

    def test_a_no_can_be_followed_by_a_yes(self) -> None:
        for status, error, probe in (
            (1, (45, 60, "authentication failed: access denied by policy"), ("deny", 2, "pid:4711,uid:1000")),
            (
                3,
                (79, 60, "authentication cancelled: user cancelled authentication process"),
                ("deny", 2, "pid:4711,uid:1000"),
            ),
            (
                2,
                (
                    94,
                    60,
                    NO_AGENT,
                ),
                ("fail", 2),
            ),
        ):
            self.call("authPolkit")
            self.polkit.answers.pop().errback(refusal(ACTION, status, ""))
            (reply,) = self.session.flush()
            self.assertEqual(reply.error[:3], error)
            self.assertEqual(self.probed.pop(), probe)
            self.assertIn_(False)
        self.call("authPolkit")
        self.polkit.answers.pop().callback(None)
        self.session.flush()
        self.assertIn_(True)

    def test_one_question_at_a_time(self) -> None:
        replies = self.session.send(*(callNamed(REMOTE, "authPolkit", serial) for serial in range(1, 5)))
        self.assertEqual([each.error[0] for each in replies], [45, 45, 45])
        self.assertEqual(len(self.polkit.asked), 1)
        self.polkit.answers[0].callback(None)
        (reply,) = self.session.flush()
        self.assertEqual(reply.serial, 1)
        self.assertIn_(True)

    def test_a_client_that_goes_takes_its_question_back(self) -> None:
        self.call("authPolkit")
        (answer,) = self.polkit.answers
        taken: list[Failure] = []
        answer.addErrback(taken.append)
        self.session.lose()
        self.assertTrue(answer.called)
        self.flushLoggedErrors(CancelledError)

    def test_a_process_that_cannot_be_told_from_a_later_one(self) -> None:
        for identity in (
            Identity(transport="unix", pid=4711, processStart=None, uid=1000),
            Identity(transport="tcp", address="192.0.2.1:1"),
        ):
            self.connect(identity)
            (reply,) = self.call("authPolkit")
            self.assertEqual(reply.error[:3], (45, 7, "authentication failed: authentication failed"))
            self.assertEqual(self.polkit.asked, [])
            self.assertEqual(self.probed.pop(), ("fail", 2))
            self.assertIn_(False)

    def test_a_readonly_socket_asks_for_less(self) -> None:
        server: NetServer = self.session.server
        client = server.buildClient(True, Known(self.polkit, SOMEBODY))
        client.authenticator = client._authentication.authenticatorFor(client)  # type: ignore[union-attr]
        client.authenticator.authPolkit()
        self.assertEqual([action for action, _ in self.polkit.asked], ["org.libvirt.unix.monitor"])
