"""
TLS sessions: what is in each record, who is let in, how it ends.
"""

from __future__ import annotations

import gc
import ssl
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress, IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.pki import DAY, HOUR, issue, revoke, write
from tests.tls import (
    HOST,
    RecordPeer,
    authority,
    clientContext,
    clientOf,
    serverContext,
    serverOf,
    settle,
)
from virnet import probes
from virnet.errorcodes import ErrorNumber
from virnet.errors import RemoteError
from virnet.limits import TLS_HANDSHAKE_SECONDS, TLS_LINGER_SECONDS
from virnet.security.tlscontext import Engine, TLSContext
from virnet.testing import joined
from virnet.transport.tls import TLSFactory, TLSSession

SILENT = "Unable to read TLS confirmation: Input/output error: "
REFUSED = "server verification (of our certificate or IP address) failed"
BAD_PEER = "authentication failed: Failed to verify peer's certificate: "


@implementer(IHandshakeListener)
class Recorder(Protocol):
    """The protocol over a session.

    @ivar received: each C{dataReceived}.
    @ivar secured: the handshake is through.
    """

    transport: TLSSession

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.secured = False
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def handshakeCompleted(self) -> None:
        self.secured = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert self.lost is None
        self.lost = reason


class _One(Factory):
    def __init__(self, protocol: Recorder) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> Recorder:
        return self._protocol


class SessionTestCase(SynchronousTestCase):
    """Sessions in memory."""

    def setUp(self) -> None:
        self.clock = Clock()

    def link(self, context: TLSContext, host: str | None = None) -> tuple[Recorder, Protocol]:
        """Make a protocol over a session, and what has to be connected for it."""
        recorder = Recorder()
        link = TLSFactory(_One(recorder), context, self.clock, host).buildProtocol(None)
        assert link is not None
        return recorder, link

    def join(self, client: Protocol, server: Protocol, **options: Any) -> None:
        """Connect two, and let them shake hands."""
        joined(self.clock, client, server, **options)
        settle(self.clock)

    def pair(
        self, client: TLSContext | None = None, server: TLSContext | None = None, host: str = HOST
    ) -> tuple[Recorder, Recorder]:
        """Connect two sessions of ours: a client's and a server's."""
        ours, ourLink = self.link(client or clientContext(), host)
        theirs, theirLink = self.link(server or serverContext())
        self.join(ourLink, theirLink)
        return ours, theirs

    def serverAndPeer(
        self, peer: RecordPeer | None = None, context: TLSContext | None = None
    ) -> tuple[Recorder, RecordPeer]:
        """Connect a server's session and a peer that shows the records."""
        recorder, link = self.link(context or serverContext())
        peer = peer or RecordPeer.client()
        self.join(peer, link)
        return recorder, peer

    def clientAndPeer(
        self, peer: RecordPeer | None = None, context: TLSContext | None = None
    ) -> tuple[Recorder, RecordPeer]:
        """Connect a client's session and a peer that shows the records."""
        recorder, link = self.link(context or clientContext(), HOST)
        peer = peer or RecordPeer.server()
        self.join(link, peer)
        return recorder, peer

    def refusal(self, recorder: Recorder) -> RemoteError:
        """The error with which a session was lost."""
        assert recorder.lost is not None
        error = recorder.lost.value
        assert isinstance(error, RemoteError), error
        return error


VERSIONS = ("TLSv1_2", "TLSv1_3")


class Records(SessionTestCase):
    """What libvirt's ends rely on, because they do not look at what is already decrypted."""

    def test_R119_the_confirmation_is_alone_in_its_record(self) -> None:
        for version in VERSIONS:
            recorder, peer = self.serverAndPeer(RecordPeer.client(version=version))
            recorder.transport.write(b"at once")
            settle(self.clock)
            self.assertEqual(peer.take(), [b"\1", b"at once"])

    def test_R119_what_was_written_before_waits_for_it(self) -> None:
        recorder, link = self.link(serverContext())
        recorder.connectionMade = lambda: recorder.transport.write(b"early")  # type: ignore[method-assign]
        peer = RecordPeer.client()
        self.join(peer, link)
        self.assertEqual(peer.take(), [b"\1", b"early"])

    def test_R118_no_session_ticket_is_sent(self) -> None:
        _, peer = self.serverAndPeer(RecordPeer.client(version="TLSv1_3"))
        self.assertEqual(peer.tls.version(), "TLSv1.3")
        session = peer.tls.session
        self.assertFalse(session is not None and session.has_ticket)

    def test_R116_each_write_ends_with_its_record_and_shares_none(self) -> None:
        for version in VERSIONS:
            recorder, peer = self.serverAndPeer(RecordPeer.client(version=version))
            peer.take()
            large = bytes(range(256)) * 2500
            for data in (b"a" * 28, b"b" * 28, large, b"c"):
                recorder.transport.write(data)
            settle(self.clock)
            records = peer.take()
            self.assertEqual(records[:2], [b"a" * 28, b"b" * 28])
            self.assertEqual(records[-1], b"c")
            self.assertEqual(b"".join(records[2:-1]), large)
            self.assertEqual({len(each) for each in records[2:-2]}, {16384})

    def test_R116_messages_that_are_held_leave_together_each_in_its_own(self) -> None:
        recorder, peer = self.serverAndPeer()
        peer.take()
        sender = recorder.transport
        sender.hold()
        sender.send(b"event")
        sender.send(b"reply")
        sender.flush()
        settle(self.clock)
        self.assertEqual(peer.take(), [b"event", b"reply"])

    def test_R116_messages_that_waited_are_not_joined(self) -> None:
        recorder, link = self.link(serverContext())
        peer = RecordPeer.client()
        self.join(peer, link, window=5000)
        peer.take()
        peer.transport.pauseProducing()
        messages = [bytes([number]) * 20000 for number in range(20)]
        for each in messages:
            recorder.transport.write(each)
        settle(self.clock)
        self.assertGreater(recorder.transport.queued, 100000)
        peer.transport.resumeProducing()
        for _ in range(200):
            self.clock.advance(0)
        self.assertEqual(
            [len(each) for each in peer.records],
            [length for _ in messages for length in (16384, 20000 - 16384)],
        )
        self.assertEqual(b"".join(peer.records), b"".join(messages))
        self.assertEqual(recorder.transport.queued, 0)

    def test_R117_all_that_came_in_one_record_is_read_at_once(self) -> None:
        recorder, peer = self.serverAndPeer()
        peer.write(b"one message" + b"and another")
        settle(self.clock)
        self.assertEqual(recorder.received, [b"one messageand another"])

    def test_R117_and_all_records_that_came_together(self) -> None:
        recorder, peer = self.serverAndPeer()
        for each in (b"one", b"two", b"three"):
            peer.write(each)
        settle(self.clock)
        self.assertEqual(b"".join(recorder.received), b"onetwothree")

    def test_R117_what_a_client_gets_in_the_record_of_the_confirmation_is_read_too(self) -> None:
        recorder, peer = self.clientAndPeer()
        peer.write(b"\1event")
        settle(self.clock)
        self.assertEqual(recorder.received, [b"event"])

    def test_a_request_that_is_sent_before_the_confirmation_was_read_is_taken(self) -> None:
        peer = RecordPeer.client()
        peer.first = b"call"
        recorder, _ = self.serverAndPeer(peer)
        self.assertEqual(recorder.received, [b"call"])
        self.assertEqual(peer.take(), [b"\1"])

    def test_records_in_pieces(self) -> None:
        for version in VERSIONS:
            recorder, link = self.link(serverContext())
            peer = RecordPeer.client(version=version)
            self.join(peer, link, readSize=1)
            peer.write(b"question")
            recorder.transport.write(b"answer")
            settle(self.clock)
            self.assertEqual(recorder.received, [b"question"])
            self.assertEqual(peer.take(), [b"\1", b"answer"])

    def test_what_comes_while_paused_is_given_when_reading_goes_on(self) -> None:
        recorder, link = self.link(clientContext(), HOST)
        recorder.handshakeCompleted = (  # type: ignore[method-assign]
            lambda: recorder.transport.pauseProducing()
        )
        peer = RecordPeer.server()
        self.join(link, peer)
        peer.write(b"\1")
        peer.write(b"event")
        settle(self.clock)
        self.assertEqual(recorder.received, [])
        recorder.transport.resumeProducing()
        self.assertEqual(recorder.received, [])
        settle(self.clock)
        self.assertEqual(recorder.received, [b"event"])


class Handshakes(SessionTestCase):
    """Who is let in, and what each side says when not."""

    def test_R122_both_ends_agree(self) -> None:
        client, server = self.pair()
        self.assertTrue(client.secured and server.secured)
        self.assertEqual(server.transport.peerName, "CN=client1")
        self.assertEqual(client.transport.peerName, "CN=server")
        self.assertEqual(client.transport.version, "TLSv1.3")
        self.assertGreaterEqual(client.transport.keyBits, 128)
        self.assertTrue(ISSLTransport.providedBy(client.transport))
        certificate = client.transport.getPeerCertificate()
        assert certificate is not None
        self.assertEqual(certificate.get_subject().CN, "server")
        client.transport.write(b"hello")
        settle(self.clock)
        self.assertEqual(server.received, [b"hello"])

    def test_R111_a_server_that_refuses_leaves_a_hint_at_the_certificate(self) -> None:
        for certificate in (
            clientOf(start=-2 * DAY, end=-HOUR),
            clientOf(usages=["digital_signature", "key_cert_sign"], ca=True),
        ):
            client, server = self.pair(clientContext(certificate, sanity=False))
            self.assertEqual(self.refusal(client).message, SILENT + REFUSED)
            self.assertIs(self.refusal(client).code, ErrorNumber.SYSTEM_ERROR)
            self.assertIn("Failed to verify peer's certificate", self.refusal(server).message)
            self.assertFalse(client.secured or server.secured)

    def test_R111_what_openssl_refuses_comes_as_an_alert(self) -> None:
        """See L{virnet.security.tlscontext}: this much of a server's judgement is not ours."""
        other = authority("Other")
        for priority, code, text in (
            (
                "NORMAL",
                ErrorNumber.SYSTEM_ERROR,
                f"Unable to read TLS confirmation: tlsv1 alert unknown ca: {REFUSED}",
            ),
            (
                "-VERS-TLS1.3",
                ErrorNumber.AUTH_FAILED,
                "authentication failed: TLS handshake failed: tlsv1 alert unknown ca",
            ),
        ):
            client, server = self.pair(clientContext(clientOf(other), sanity=False, priority=priority))
            self.assertEqual((self.refusal(client).code, self.refusal(client).message), (code, text))
            self.assertIn("certificate verify failed", self.refusal(server).message)

    def test_R110_the_servers_certificate_is_judged_as_at_the_start(self) -> None:
        for different, reason in (
            ({"end": -HOUR}, "The server certificate [session] has expired"),
            ({"start": HOUR}, "The server certificate [session] is not yet active"),
            (
                {"ca": True},
                "The certificate [session] basic constraints show a CA, but we need one for a server",
            ),
            (
                {"usages": ["key_encipherment"]},
                "Certificate [session] usage does not permit digital signature",
            ),
        ):
            client, server = self.pair(server=serverContext(serverOf(**different), sanity=False))
            self.assertEqual(self.refusal(client).message, BAD_PEER + reason)
            self.assertIs(self.refusal(client).code, ErrorNumber.AUTH_FAILED)
            assert server.lost is not None
            self.flushWarnings()

    def test_R110_the_clients_certificate_is_judged_too(self) -> None:
        revoked = clientOf(name="revoked")
        server = serverContext(crl=revoke(authority(), revoked))
        for certificate, reason in (
            (clientOf(end=-HOUR), "The client certificate [session] has expired"),
            (clientOf(start=HOUR), "The client certificate [session] is not yet active"),
            (revoked, "Certificate failed validation: The certificate has been revoked."),
        ):
            _, refusing = self.pair(clientContext(certificate, sanity=False), server)
            self.assertEqual(self.refusal(refusing).message, BAD_PEER + reason)
        _, refusing = self.pair(clientContext(anonymous=True), server)
        self.assertEqual(
            self.refusal(refusing).message, BAD_PEER + "Unable to verify TLS peer: No certificate was found."
        )

    def test_R110_a_server_of_an_unknown_authority(self) -> None:
        client, _ = self.pair(clientContext(authorities=[authority("Other")], sanity=False))
        self.assertEqual(
            self.refusal(client).message,
            f"{BAD_PEER}Certificate failed validation: The certificate hasn't got a known issuer.",
        )

    def test_R106_what_is_not_critical_is_let_pass(self) -> None:
        signs: dict[str, Any] = {"usages": ["digital_signature"], "key": "rsa"}
        for critical in (False, True):
            client, server = self.pair(
                clientContext(clientOf(**signs, usagesCritical=critical), sanity=False),
                serverContext(serverOf(**signs, usagesCritical=critical), sanity=False),
            )
            self.assertIs(client.secured and server.secured, not critical)
        text = "Certificate [session] usage does not permit key encipherment"
        self.assertEqual(self.refusal(client).message, BAD_PEER + text)

    def test_R107_certificates_that_say_nothing_are_for_both_roles(self) -> None:
        plain = issue(authority(), name="plain", hosts=[HOST])
        client, server = self.pair(clientContext(plain), serverContext(plain))
        self.assertTrue(client.secured and server.secured)

    def test_R121_the_host_has_to_be_among_the_alternative_names(self) -> None:
        named = serverContext(serverOf(name="server.example", hosts=[HOST]))
        client, _ = self.pair(server=named, host="server.example")
        text = "Certificate [session] owner does not match the hostname server.example"
        self.assertEqual(self.refusal(client).message, BAD_PEER + text)
        client, _ = self.pair(server=named)
        self.assertTrue(client.secured)

    def test_an_address_is_matched_with_addresses(self) -> None:
        for host, good in (("127.0.0.1", True), ("127.0.0.2", False)):
            client, _ = self.pair(host=host)
            self.assertIs(client.secured, good)

    def test_no_verify_lets_any_server_pass(self) -> None:
        client, server = self.pair(
            clientContext(authorities=[authority("Other")], sanity=False, verify=False), host="elsewhere"
        )
        self.assertTrue(client.secured and server.secured)
        self.assertIs(client.transport.peerName, None)

    def test_R120_the_list_of_names(self) -> None:
        for patterns, admitted in (
            (["CN=client1"], True),
            (["CN=other", "CN=cl*t?"], True),
            (["CN=client[0-9]"], False),
            (["client1"], False),
            ([], False),
        ):
            client, server = self.pair(server=serverContext(allowedDNs=patterns))
            self.assertIs(server.secured, admitted, patterns)
            self.assertIs(client.secured, admitted, patterns)

    def test_R120_a_server_that_does_not_verify_has_no_list(self) -> None:
        for certificate in (clientOf(), clientOf(authority("Other"))):
            client, server = self.pair(
                clientContext(certificate, sanity=False), serverContext(allowedDNs=[], verify=False)
            )
            self.assertTrue(client.secured and server.secured)
        client, server = self.pair(clientContext(anonymous=True), serverContext(verify=False))
        self.assertTrue(client.secured and server.secured)

    def test_any_other_byte_is_no_confirmation(self) -> None:
        for byte in (b"\0", b"1"):
            client, peer = self.clientAndPeer()
            peer.write(byte)
            settle(self.clock)
            self.assertIs(self.refusal(client).code, ErrorNumber.RPC)
            self.assertEqual(self.refusal(client).message, REFUSED)

    def test_R111_silence_and_the_end_instead_of_a_confirmation(self) -> None:
        for end in ("close", "abort"):
            client, peer = self.clientAndPeer()
            if end == "close":
                peer.close()
            else:
                assert peer.transport is not None
                peer.transport.loseConnection()
            settle(self.clock)
            self.assertEqual(self.refusal(client).message, SILENT + REFUSED)

    def test_versions_that_do_not_meet(self) -> None:
        client, server = self.pair(
            clientContext(priority="-VERS-TLS1.2"), serverContext(priority="-VERS-TLS1.3")
        )
        self.assertIs(self.refusal(client).code, ErrorNumber.AUTH_FAILED)
        self.assertIn("TLS handshake failed: ", self.refusal(client).message)
        self.assertIn("TLS handshake failed: ", self.refusal(server).message)

    def test_versions_before_tls_1_2_have_to_be_asked_for(self) -> None:
        also = "NORMAL:+VERS-TLS1.0:+VERS-TLS1.1"
        for word, version in (("TLS1.0", "TLSv1"), ("TLS1.1", "TLSv1.1")):
            old = f"NORMAL:-VERS-ALL:+VERS-{word}"
            for ours, theirs in (("NORMAL", old), (old, "NORMAL")):
                client, server = self.pair(clientContext(priority=ours), serverContext(priority=theirs))
                self.assertFalse(client.secured or server.secured)
            client, server = self.pair(clientContext(priority=old), serverContext(priority=also))
            self.assertEqual(client.transport.version, version)
        self.flushWarnings()

    def test_nothing_is_resumed(self) -> None:
        context = serverContext()
        first = RecordPeer.client(version="TLSv1_2")
        self.serverAndPeer(first, context)
        second = RecordPeer.client(version="TLSv1_2")
        second.tls = first.tls.context.wrap_bio(second._in, second._out, session=first.tls.session)
        self.serverAndPeer(second, context)
        self.assertEqual(second.take(), [b"\1"])
        self.assertFalse(second.tls.session_reused)

    def test_not_even_when_two_come_at_the_same_time(self) -> None:
        context = serverContext()
        engines = context.engine(), context.engine()
        one = RecordPeer.client(version="TLSv1_2")
        two = RecordPeer.client(version="TLSv1_2")
        self.patch(context, "engine", lambda: engines[0])
        self.serverAndPeer(one, context)
        two.tls = one.tls.context.wrap_bio(two._in, two._out, session=one.tls.session)
        self.patch(context, "engine", lambda: engines[1])
        recorder, _ = self.serverAndPeer(two, context)
        self.assertTrue(two.tls.session_reused)
        self.assertEqual(two.take(), [])
        self.assertIn("the session was resumed", self.refusal(recorder).message)


class Ends(SessionTestCase):
    """How sessions end."""

    def test_closing_says_so_to_the_peer(self) -> None:
        recorder, peer = self.serverAndPeer()
        recorder.transport.write(b"last words")
        recorder.transport.loseConnection()
        settle(self.clock)
        self.assertEqual(peer.take(), [b"\1", b"last words"])
        self.assertTrue(peer.closed)
        assert recorder.lost is not None
        recorder.lost.trap(ConnectionDone)

    def test_the_peer_says_that_this_was_all(self) -> None:
        recorder, peer = self.serverAndPeer()
        peer.write(b"last words")
        peer.close()
        settle(self.clock)
        self.assertEqual(recorder.received, [b"last words"])
        assert recorder.lost is not None
        recorder.lost.trap(ConnectionDone)
        self.assertIsNot(peer.lost, None)

    def test_the_peer_just_goes(self) -> None:
        recorder, peer = self.serverAndPeer()
        assert peer.transport is not None
        peer.transport.loseConnection()
        settle(self.clock)
        assert recorder.lost is not None
        recorder.lost.trap(ConnectionDone)

    def test_aborting_sends_nothing_more(self) -> None:
        recorder, peer = self.serverAndPeer()
        recorder.transport.abortConnection()
        recorder.transport.write(b"nobody hears this")
        settle(self.clock)
        self.assertEqual(peer.take(), [b"\1"])
        self.assertFalse(peer.closed)
        assert recorder.lost is not None
        recorder.lost.trap(ConnectionAborted)

    def test_nothing_is_given_to_who_has_hung_up_in_the_meantime(self) -> None:
        for method in ("loseConnection", "abortConnection"):
            recorder, link = self.link(serverContext())

            def completed(recorder: Recorder = recorder, method: str = method) -> None:
                getattr(recorder.transport, method)()

            self.patch(recorder, "handshakeCompleted", completed)
            peer = RecordPeer.client()
            peer.first = b"call"
            self.join(peer, link)
            self.assertIsNot(recorder.lost, None)
            self.assertEqual(recorder.received, [])

    def test_closing_during_the_handshake_does_not_wait_for_it(self) -> None:
        recorder, link = self.link(serverContext())
        peer = Protocol()
        self.join(peer, link)
        recorder.transport.loseConnection()
        settle(self.clock)
        self.assertIsNot(recorder.lost, None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_is_refused_by_openssl_may_finish_its_sentence(self) -> None:
        for gives in (False, True):
            recorder, link = self.link(serverContext())
            peer = RecordPeer.client(clientOf(authority("Other")), "TLSv1_3")
            self.join(peer, link)
            self.assertIn("unknown ca", str(peer.error))
            self.assertEqual((recorder.lost, peer.lost), (None, None))
            peer.transport.write(b"still talking")
            settle(self.clock)
            if gives:
                peer.transport.loseConnection()
            else:
                self.clock.advance(TLS_LINGER_SECONDS)
            settle(self.clock)
            self.assertIn("certificate verify failed", self.refusal(recorder).message)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_but_not_longer_than_the_server(self) -> None:
        recorder, link = self.link(serverContext())
        self.join(RecordPeer.client(clientOf(authority("Other"))), link)
        recorder.transport.loseConnection()
        settle(self.clock)
        self.assertIsNot(recorder.lost, None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_garbage_instead_of_tls(self) -> None:
        for garbage in (b"GET / HTTP/1.0\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + bytes(70000)):
            recorder, link = self.link(serverContext())
            peer = Protocol()
            self.join(peer, link)
            assert peer.transport is not None
            peer.transport.write(garbage)
            settle(self.clock)
            self.assertIn("TLS handshake failed: ", self.refusal(recorder).message)
            self.assertEqual(recorder.received, [])

    def test_a_handshake_with_wrong_bytes_in_it(self) -> None:
        random = Random(8)
        context = serverContext()
        client = clientContext().engine()
        client.handshake()
        flight = client.output()
        for _ in range(200):
            hello = bytearray(flight)
            for _ in range(random.randint(1, 4)):
                hello[random.randrange(len(hello))] = random.randrange(256)
            recorder, link = self.link(context)
            peer = Protocol()
            self.join(peer, link)
            assert peer.transport is not None
            peer.transport.write(bytes(hello[: random.choice((len(hello), random.randrange(len(hello))))]))
            settle(self.clock)
            self.clock.advance(TLS_HANDSHAKE_SECONDS)
            settle(self.clock)
            self.assertIn("TLS handshake failed: ", self.refusal(recorder).message)
            self.assertFalse(recorder.secured)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_garbage_later(self) -> None:
        recorder, peer = self.serverAndPeer()
        assert peer.transport is not None
        peer.transport.write(b"\x17\x03\x03\0\x20" + bytes(32))
        settle(self.clock)
        self.assertIn("Cannot read from TLS session: ", self.refusal(recorder).message)
        self.assertIn("bad record mac", str(peer.error))

    def test_a_handshake_takes_so_long_at_the_most(self) -> None:
        for context in (serverContext(), clientContext()):
            recorder, link = self.link(context)
            self.join(Protocol(), link)
            self.clock.advance(TLS_HANDSHAKE_SECONDS - 0.1)
            self.assertIs(recorder.lost, None)
            self.clock.advance(0.1)
            settle(self.clock)
            self.assertIn(
                "TLS handshake failed: not through after 15 seconds", self.refusal(recorder).message
            )
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_is_not_read_has_all_the_time(self) -> None:
        recorder, link = self.link(serverContext())
        peer = RecordPeer.client()
        joined(self.clock, peer, link)
        recorder.transport.pauseProducing()
        self.clock.advance(10 * TLS_HANDSHAKE_SECONDS)
        recorder.transport.resumeProducing()
        settle(self.clock)
        self.assertTrue(recorder.secured)

    def test_R113_a_session_that_cannot_be_made_takes_nothing_else_along(self) -> None:
        context = serverContext()
        first, peer = self.serverAndPeer(context=context)

        def broken() -> Engine:
            raise OSError(24, "Too many open files")

        self.patch(context, "engine", broken)
        second, link = self.link(context)
        self.join(RecordPeer.client(), link)
        self.assertIn("Too many open files", self.refusal(second).message)
        peer.write(b"still here")
        settle(self.clock)
        self.assertEqual(first.received, [b"still here"])

    def test_certificates_are_changed_without_dropping_anybody(self) -> None:
        directory = write(Path(self.mktemp()).absolute(), [authority()], server=serverOf())
        context = TLSContext.forServer(pkipath=str(directory))
        old, peer = self.serverAndPeer(context=context)
        write(directory, [authority()], server=serverOf(name="renewed"))
        context.reload()
        new = RecordPeer.client()
        self.serverAndPeer(new, context)
        for each, name in ((peer, "CN=server"), (new, "CN=renewed")):
            certificate = each.tls.getpeercert(True)
            assert certificate is not None
            self.assertIn(name.removeprefix("CN=").encode(), certificate)
        peer.write(b"still here")
        settle(self.clock)
        self.assertEqual(old.received, [b"still here"])


class Objects(SessionTestCase):
    """What is left of sessions."""

    def test_R112_nothing_is_left_of_1000_sessions(self) -> None:
        server = serverContext()
        clients = [clientContext(priority=each) for each in ("-VERS-TLS1.3", "-VERS-TLS1.2")]
        kinds = (Engine, TLSSession, ssl.SSLContext, ssl.SSLObject)

        def count() -> int:
            gc.collect()
            return sum(isinstance(each, kinds) for each in gc.get_objects())

        def session(client: TLSContext) -> None:
            ours, theirs = self.pair(client, server)
            ours.transport.write(b"hello")
            settle(self.clock)
            self.assertEqual(theirs.received, [b"hello"])
            ours.transport.loseConnection()
            settle(self.clock)
            self.assertIsNot(theirs.lost, None)

        for client in clients:
            session(client)
        before = count()
        for number in range(1000):
            session(clients[number % 10 > 0])
        self.assertEqual(count(), before)
        # Nor in OpenSSL, which keeps the certificate with a session that might be resumed.
        for context in (*clients, server):
            _, inner = context._made
            self.assertLessEqual(inner.session_stats()["number"], 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Threads(SessionTestCase):
    """Contexts are used by everybody."""

    def test_R115_sessions_of_one_context_in_several_threads(self) -> None:
        client, server = clientContext(), serverContext()
        done: list[bool] = []

        def work() -> None:
            for _ in range(10):
                ours, theirs = client.engine(), server.engine()
                shaken = [False, False]
                while not all(shaken):
                    for number, (here, there) in enumerate(((ours, theirs), (theirs, ours))):
                        shaken[number] = shaken[number] or here.handshake()
                        there.feed(here.output())
                ours.write(b"hello")
                theirs.feed(ours.output())
                done.append(theirs.read() == (b"hello", False))

        threads = [Thread(target=work) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertEqual(done, [True] * 40)

    def test_R114_contexts_are_made_at_any_time_and_any_number_of_times(self) -> None:
        for _ in range(3):
            client, server = self.pair(clientContext(), serverContext())
            self.assertTrue(client.secured and server.secured)


class Probes(SessionTestCase):
    """What can be watched."""

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[tuple[str, dict[str, Any]]] = []

        def see(probe: probes.Probe, values: tuple[Any, ...]) -> None:
            self.seen.append(
                (probe.name.removeprefix("rpc_tls_"), dict(zip(probe.fields, values, strict=True)))
            )

        # What earlier tests have left tells when it goes.
        gc.collect()
        self.addCleanup(probes.subscribe("rpc_tls_*", see))

    def names(self, *of: object) -> list[str]:
        """The probes that fired for these sessions."""
        return [name for name, fields in self.seen if fields.get("sess") in of]

    def test_R161_a_session_that_comes_about(self) -> None:
        client, server = self.pair()
        client.transport.loseConnection()
        settle(self.clock)
        ours, theirs = client.transport, server.transport
        passed = ["session_new", "context_session_allow", "session_handshake_pass", "session_dispose"]
        self.assertEqual(self.names(ours), passed)
        self.assertEqual(self.names(theirs), passed)
        fields = dict(fields for fields in ((name, f) for name, f in self.seen if f.get("sess") is ours))
        self.assertEqual(fields["session_new"]["hostname"], HOST)
        self.assertEqual(fields["session_new"]["isServer"], False)
        self.assertEqual(fields["context_session_allow"]["dname"], "CN=server")

    def test_R161_contexts(self) -> None:
        context = serverContext(verify=False)
        ((name, fields),) = self.seen
        self.assertEqual(name, "context_new")
        self.assertIs(fields["ctxt"], context)
        self.assertEqual(fields["isServer"], True)
        self.assertEqual((fields["sanityCheckCert"], fields["requireValidCert"]), (True, False))
        self.assertTrue(fields["key"].endswith("/serverkey.pem"))
        key = fields["key"]
        del context, fields
        self.seen.clear()
        gc.collect()
        self.assertIn(("context_dispose", key), [(name, each["ctxt"].files.key) for name, each in self.seen])

    def test_R162_a_session_denied_by_the_list_carries_the_name(self) -> None:
        _, server = self.pair(server=serverContext(allowedDNs=["CN=other"]))
        (denied,) = [fields for name, fields in self.seen if name == "context_session_deny"]
        self.assertEqual(denied["dname"], "CN=client1")
        self.assertIs(denied["sess"], server.transport)

    def test_R162_what_is_wrong_otherwise_is_a_failure(self) -> None:
        for context in (
            clientContext(anonymous=True),
            clientContext(clientOf(end=-HOUR), sanity=False),
            clientContext(clientOf(name="other", end=-HOUR), sanity=False),
        ):
            _, server = self.pair(context, serverContext(allowedDNs=["CN=client1"]))
            self.assertIn("context_session_fail", self.names(server.transport))
        self.assertNotIn("context_session_deny", [name for name, _ in self.seen])

    def test_R161_a_handshake_that_fails(self) -> None:
        recorder, link = self.link(serverContext())
        peer = Protocol()
        self.join(peer, link)
        assert peer.transport is not None
        peer.transport.write(b"GET / HTTP/1.0\r\n\r\n")
        settle(self.clock)
        self.assertEqual(
            self.names(recorder.transport), ["session_new", "session_handshake_fail", "session_dispose"]
        )
