"""Probes: libvirt's trace points, from Python and as log lines."""

from __future__ import annotations

import gc
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.echo import ECHO, Echo
from tests.streaming import PROGRAM, Provider, RecordingEnd, streamingProgram
from virnet import probes
from virnet.daemon.probes import describe, trace
from virnet.probes import PROBES, Probe, subscribe
from virnet.server import NetServer, ServerProgram
from virnet.testing import ConnectedPair, connectedPair
from virnet.wire.message import EVENT_SERIAL, MESSAGE, OK, REPLY

Fired = list[tuple[str, tuple[Any, ...]]]


class _Case(SynchronousTestCase):
    def watch(self, pattern: str) -> Fired:
        """Record every probe that matches while the test runs."""
        fired: Fired = []
        # What earlier tests have left tells when it goes.
        gc.collect()
        self.addCleanup(subscribe(pattern, lambda probe, values: fired.append((probe.name, values))))
        return fired

    def pair(self) -> ConnectedPair:
        server = NetServer(Clock(), [ServerProgram(ECHO, lambda client: Echo())], keepaliveInterval=1)
        return connectedPair(server)


class R161(_Case):
    """Every probe fires once when its code path runs, with correct values."""

    def test_R161_messages_at_both_ends(self) -> None:
        pair = self.pair()
        fired = self.watch("rpc_*_msg_*")
        pair.client.program(ECHO).echo("hello")  # 28 bytes of header, a length, five bytes and padding
        pair.flush()
        size = 28 + 12
        call = (size, ECHO.number, ECHO.version, 2, 0, 0, 0)
        reply = (size, ECHO.number, ECHO.version, 2, REPLY, OK, 0)
        self.assertEqual(
            fired,
            [
                ("rpc_client_msg_tx_queue", (pair.client, *call)),
                ("rpc_server_client_msg_rx", (pair.serverClient, *call)),
                ("rpc_server_client_msg_tx_queue", (pair.serverClient, *reply)),
                ("rpc_client_msg_rx", (pair.client, *reply)),
            ],
        )

    def test_R161_an_event_is_a_message_of_the_server(self) -> None:
        pair = self.pair()
        fired = self.watch("rpc_server_client_msg_tx_queue")
        pair.serverClient.events(ECHO).said("x")
        ((_, values),) = fired
        self.assertEqual(values[5:], (MESSAGE, OK, EVENT_SERIAL))

    def test_R161_clients_and_sockets_come_and_go(self) -> None:
        fired = self.watch("rpc_*")
        pair = self.pair()
        self.assertEqual(
            sorted(name for name, _ in fired),
            ["rpc_client_new", "rpc_server_client_new", "rpc_socket_new", "rpc_socket_new"],
        )
        fired.clear()
        pair.client.close()
        pair.flush()
        self.assertEqual(
            sorted(name for name, _ in fired),
            ["rpc_client_dispose", "rpc_server_client_dispose", "rpc_socket_dispose", "rpc_socket_dispose"],
        )

    def test_R161_who_a_client_is_and_what_it_goes_over(self) -> None:
        fired = self.watch("rpc_*")
        pair = self.pair()
        client, server = pair.client, pair.serverClient
        self.assertCountEqual(
            fired,
            [
                ("rpc_socket_new", (client.transport, -1, -1, 0, "client", "server")),
                ("rpc_client_new", (client, client.transport)),
                ("rpc_socket_new", (server.transport, -1, -1, 0, "server", "client")),
                ("rpc_server_client_new", (server, server.transport)),
            ],
        )
        transports = client.transport, server.transport
        fired.clear()
        client.close()
        pair.flush()
        self.assertCountEqual(
            fired,
            [
                ("rpc_client_dispose", (client,)),
                ("rpc_server_client_dispose", (server,)),
                *(("rpc_socket_dispose", (each,)) for each in transports),
            ],
        )

    def test_R161_nothing_is_told_where_nobody_listens(self) -> None:
        def told(probe: Probe, *values: object) -> None:
            self.fail(f"{probe} was called")

        self.patch(Probe, "__call__", told)
        pair = self.pair()
        pair.serverClient.useKeepAlive()
        pair.client.program(ECHO).echo("hello")
        pair.flush()
        pair.clock.advance(1)
        pair.flush()
        pair.client.close()
        pair.flush()

    def test_R161_keepalive(self) -> None:
        pair = self.pair()
        fired = self.watch("rpc_keepalive_*")
        client = pair.serverClient
        client.useKeepAlive()
        self.assertEqual(
            fired, [("rpc_keepalive_new", (client, client)), ("rpc_keepalive_start", (client, client, 1, 5))]
        )
        fired.clear()
        pair.clock.advance(1)
        pair.flush()
        ping, pong = (0x6B656570, 1, 1), (0x6B656570, 1, 2)
        self.assertEqual(
            fired,
            [
                ("rpc_keepalive_send", (client, client, *ping)),
                ("rpc_keepalive_received", (pair.client, pair.client, *ping)),
                ("rpc_keepalive_send", (pair.client, pair.client, *pong)),
                ("rpc_keepalive_received", (client, client, *pong)),
            ],
        )
        fired.clear()
        client.stopKeepAlive()
        self.assertEqual(
            fired, [("rpc_keepalive_stop", (client, client)), ("rpc_keepalive_dispose", (client,))]
        )

    def test_R161_a_silent_peer(self) -> None:
        pair = self.pair()
        pair.serverClient.startKeepAlive(1, 0)
        fired = self.watch("rpc_keepalive_timeout")
        pair.clock.advance(1)
        self.assertEqual(fired, [("rpc_keepalive_timeout", (pair.serverClient, pair.serverClient, 0, 1.0))])

    def test_R161_objects(self) -> None:
        fired = self.watch("object_*")
        pair = self.pair()
        client = pair.serverClient
        self.assertCountEqual(
            fired,
            [("object_new", (pair.client, "NetClient")), ("object_new", (client, "ServerClient"))],
        )
        fired.clear()
        client.useKeepAlive()
        ((name, (watch, kind)),) = fired
        self.assertEqual((name, kind), ("object_new", "KeepAlive"))
        fired.clear()
        pair.client.close()
        pair.flush()
        self.assertCountEqual(
            fired,
            [("object_dispose", (each,)) for each in (watch, pair.client, client)],
        )

    def test_R161_a_server_is_an_object_while_it_runs(self) -> None:
        server = NetServer(Clock(), [], minWorkers=0, prioWorkers=0)
        fired = self.watch("object_*")
        server.startService()
        self.assertEqual(fired, [("object_new", (server, "NetServer"))])
        self.successResultOf(server.stopService())
        self.assertEqual(fired[1:], [("object_dispose", (server,))])

    def test_R161_an_open_stream_is_an_object_at_both_ends(self) -> None:
        pair = connectedPair(NetServer(Clock(), [streamingProgram(Provider(RecordingEnd))]))
        fired = self.watch("object_*")
        opening = pair.client.program(PROGRAM).download(0)
        pair.flush()
        stream = self.successResultOf(opening)
        self.assertEqual(
            [(name, kind) for name, (_, kind) in fired],
            [("object_new", "ClientStream"), ("object_new", "ServerStream")],
        )
        fired.clear()
        stream.abort()
        pair.flush()
        self.assertEqual([name for name, _ in fired], ["object_dispose"] * 2)


class Subscriptions(_Case):
    """Who listens to what."""

    def test_a_pattern_that_matches_nothing_is_a_mistake(self) -> None:
        with self.assertRaisesRegex(ValueError, "no probe matches 'rpc_nonsense'"):
            subscribe("rpc_nonsense", lambda probe, values: None)

    def test_one_that_is_like_a_name_is_answered_with_that(self) -> None:
        with self.assertRaisesRegex(
            ValueError, r"no probe matches 'rpc_sockt_new'; like it are rpc_socket_new"
        ):
            subscribe(["*", "rpc_sockt_new"], lambda probe, values: None)
        self.assertEqual([each for each in PROBES.values() if each.listeners], [])
        with self.assertRaisesRegex(
            ValueError, r"no probe matches '%%'; there are event_poll_add_handle, .*"
        ):
            subscribe("%%", lambda probe, values: None)

    def test_one_that_matches_twice_fires_once(self) -> None:
        fired: list[str] = []
        patterns = ["rpc_client_*", "rpc_*_new", "rpc_socket_dispose"]
        unsubscribe = subscribe(patterns, lambda probe, values: fired.append(probe.name))
        pair = self.pair()
        self.assertEqual(fired.count("rpc_client_new"), 1)
        self.assertEqual(fired.count("rpc_socket_new"), 2)
        unsubscribe()
        fired.clear()
        pair.client.close()
        pair.flush()
        self.assertEqual(fired, [])

    def test_it_ends(self) -> None:
        unsubscribe: Callable[[], None] = subscribe("*", lambda probe, values: self.fail("called"))
        unsubscribe()
        unsubscribe()
        self.pair()
        self.assertEqual([each for each in PROBES.values() if each.listeners], [])

    def test_the_docs_list_them_with_their_fields(self) -> None:
        page = (Path(__file__).parents[2] / "docs/howto/tracing.rst").read_text()
        rows = re.findall(r"^   \* - ``(.*)``\n     - (.*)$", page, re.MULTILINE)
        self.assertEqual(rows, [(each.name, ", ".join(each.fields)) for each in PROBES.values()])

    def test_every_probe_is_known_by_its_name(self) -> None:
        named = [each for each in vars(probes).values() if isinstance(each, Probe)]
        self.assertEqual({each.name for each in named}, set(PROBES))


@implementer(ILogObserver)
class _Observer:
    def __init__(self, events: list[dict[str, Any]]) -> None:
        self._events = events

    def __call__(self, event: dict[str, Any]) -> None:
        self._events.append(event)


class Lines(_Case):
    """What people read."""

    def test_numbers_have_names(self) -> None:
        said = describe(PROBES["rpc_server_client_msg_rx"], ("me", 28, 0x20008086, 1, 23, 0, 1, 7))
        self.assertEqual(
            said,
            "client=me len=28 prog=REMOTE vers=1 proc=domainLookupByName type=CALL status=ERROR serial=7",
        )

    def test_R161_types_of_authentication_have_names(self) -> None:
        said = describe(PROBES["rpc_server_client_auth_allow"], ("me", 2, "pid:1,uid:2"))
        self.assertEqual(said, "client=me authtype=polkit identity=pid:1,uid:2")
        said = describe(PROBES["rpc_server_client_auth_fail"], ("me", 1))
        self.assertEqual(said, "client=me authtype=sasl")

    def test_connections_of_one_peer_can_be_told_apart(self) -> None:
        class Peer:
            peer = "UNIX pid 1 uid 2"

        one, other = Peer(), Peer()
        said = [describe(PROBES["rpc_server_client_dispose"], (each,)) for each in (one, other)]
        self.assertEqual(said[0], f"client='Peer@{id(one):#x} UNIX pid 1 uid 2'")
        self.assertNotEqual(*said)

    def test_values_are_words_of_a_shell(self) -> None:
        def called() -> None:
            """Is called back."""

        values = (3, 5, 1, called, None, "two words")
        said = describe(PROBES["event_poll_add_handle"], values)
        name = f"{type(self).__name__}.test_values_are_words_of_a_shell.<locals>.called"
        self.assertEqual(said, f"watch=3 fd=5 events=1 cb={name}@{id(called):#x} opaque=None ff='two words'")
        said = describe(PROBES["rpc_tls_context_session_deny"], (None, None, "CN=a,O=b\n\x1b[1m"))
        self.assertEqual(shlex.split(said)[2], r"dname='CN=a,O=b\n\x1b[1m'")

    def test_numbers_without_names_stay(self) -> None:
        said = describe(PROBES["rpc_client_msg_rx"], ("me", 28, 5, 1, 23, 9, 77, 7))
        self.assertEqual(said, "client=me len=28 prog=5 vers=1 proc=23 type=9 status=77 serial=7")

    def test_a_trace_is_structured_events(self) -> None:
        events: list[dict[str, Any]] = []
        self.addCleanup(
            trace("rpc_client_msg_*", "*_msg_rx", log=Logger(namespace="test", observer=_Observer(events)))
        )
        pair = self.pair()
        pair.client.program(ECHO).ping()
        pair.flush()
        self.assertEqual(
            [each["probe"] for each in events],
            ["rpc_client_msg_tx_queue", "rpc_server_client_msg_rx", "rpc_client_msg_rx"],
        )
        self.assertEqual(
            [(each["proc"], each["type"], each["status"]) for each in events],
            [(1, 0, 0), (1, 0, 0), (1, 1, 0)],
        )
