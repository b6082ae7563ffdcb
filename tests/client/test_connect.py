"""Opening a URI: the calls before the application's first, and every way in which that can fail."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.client.server import AUTH_LIST, CLOSE, FEATURE, LATER, OPEN, Opening, ScriptedServer, unknown
from virnet.client import connect
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, RemoteError, RemoteProtocolError, URIError
from virnet.transport import config

GET_URI = 110


def raising(error: Exception) -> Any:
    """An answer that is an error."""

    def answer(*args: Any) -> Any:
        raise error

    return answer


class _Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = ScriptedServer()

    def open(self, *uri: str, **options: Any) -> Opening:
        """Start to open."""
        self.opening = Opening(self.server, *uri, **options)
        return self.opening

    def assertGivesUp(self, text: str, kind: type[Exception] = RemoteError) -> Exception:
        """Opening fails with this text, and the connection is closed."""
        error: Exception = self.failureResultOf(self.opening.opened, kind).value
        self.assertEqual(str(error), text)
        self.opening.flush()
        self.assertIsNot(self.server.lost, None)
        return error


class Sequence(_Case):
    """AUTH_LIST, CONNECT_OPEN, the features; one after the other."""

    def test_the_calls_in_their_order_with_their_serials(self) -> None:
        connection = self.successResultOf(self.open().opened)
        self.assertEqual(
            self.server.calls,
            [
                (AUTH_LIST, ()),
                (FEATURE, (10,)),
                (OPEN, ("test:///default", 0)),
                (FEATURE, (9,)),
                (FEATURE, (14,)),
                (FEATURE, (15,)),
            ],
        )
        self.assertEqual(self.server.serials, [0, 1, 2, 3, 4, 5])
        self.assertEqual(connection.features, {9, 10, 14, 15})

    def test_nothing_is_sent_ahead_of_an_answer(self) -> None:
        for number in (AUTH_LIST, OPEN, FEATURE):
            self.setUp()
            self.server.answers[number] = lambda *args: LATER
            opening = self.open()
            self.assertNoResult(opening.opened)
            self.assertEqual(self.server.calls[-1][0], number)
            self.assertEqual(len(self.server.unanswered), 1)

    def test_the_socket_of_the_uri_is_connected_to(self) -> None:
        self.assertEqual(self.open("test+unix:///default?socket=/run/other").path, "/run/other")

    def test_the_name_is_the_uri_without_what_is_for_the_client(self) -> None:
        for uri, name in (
            ("test+unix:///default?socket=/s&a=b%20c&d=%26", "test:///default?a=b%20c&d=%26"),
            ("remote+unix:///?socket=/s", ""),
            ("qemu+unix:///system?socket=/s&name=test:///x", "test:///x"),
        ):
            self.setUp()
            self.open(uri)
            self.assertEqual(self.server.calls[2], (OPEN, (name, 0)))

    def test_without_a_uri_the_server_chooses_and_says_what(self) -> None:
        self.withoutDefaults()
        self.server.answers[GET_URI] = lambda: "test:///chosen"
        connection = self.successResultOf(self.open("").opened)
        self.assertEqual(self.opening.path, "/var/run/libvirt/libvirt-sock")
        self.assertEqual(
            self.server.calls[2:],
            [(OPEN, ("", 0)), (GET_URI, ()), (FEATURE, (9,)), (FEATURE, (14,)), (FEATURE, (15,))],
        )
        self.assertEqual((connection.uri.text, connection.uri.name), ("test:///chosen", "test:///chosen"))

    def test_without_a_uri_the_default_is_taken(self) -> None:
        self.withoutDefaults()
        os.environ["LIBVIRT_DEFAULT_URI"] = "test+unix:///mine?socket=/s"
        self.open("")
        self.assertEqual(self.opening.path, "/s")
        self.assertEqual(
            self.server.calls[2:],
            [(OPEN, ("test:///mine", 0)), (FEATURE, (9,)), (FEATURE, (14,)), (FEATURE, (15,))],
        )

    def withoutDefaults(self) -> None:
        """No default, and no configuration of whoever runs the tests."""
        self.patch(os, "environ", {"HOME": "/nowhere"})
        self.patch(os, "geteuid", lambda: 0)
        self.patch(config, "SYSTEM_CONFIG", "/nowhere/libvirt.conf")

    def test_read_only_is_a_flag_of_open(self) -> None:
        self.open(readonly=True)
        self.assertEqual(self.server.calls[2], (OPEN, ("test:///default", 1)))

    def test_an_old_server_without_auth_list_needs_no_authentication(self) -> None:
        self.server.answers[AUTH_LIST] = raising(unknown(66))
        self.successResultOf(self.open().opened)

    def test_an_empty_list_is_no_authentication(self) -> None:
        self.server.answers[AUTH_LIST] = list
        self.successResultOf(self.open().opened)

    def test_the_first_entry_counts(self) -> None:
        self.server.answers[AUTH_LIST] = lambda: [0, 77]
        self.successResultOf(self.open().opened)

    def test_features_refused_or_denied_are_off(self) -> None:
        for answer in (lambda feature: 0, raising(unknown(60)), raising(RemoteError.of(1, "no"))):
            self.setUp()
            self.server.answers[FEATURE] = answer
            connection = self.successResultOf(self.open().opened)
            self.assertEqual(connection.features, frozenset())

    def test_one_of_them_alone(self) -> None:
        self.server.answers[FEATURE] = lambda feature: int(feature == 15)
        self.assertEqual(self.successResultOf(self.open().opened).features, {15})


class Refusals(_Case):
    """A server that does not let us in."""

    def test_an_authentication_type_nobody_knows(self) -> None:
        self.server.answers[AUTH_LIST] = lambda: [77, 0]
        self.open()
        error = self.assertGivesUp("authentication failed: unsupported authentication type 77")
        assert isinstance(error, RemoteError)
        self.assertEqual(error.code, ErrorNumber.AUTH_FAILED)
        self.assertEqual(self.server.taken(), [(AUTH_LIST, ())])

    def test_auth_list_failing_otherwise(self) -> None:
        self.server.answers[AUTH_LIST] = raising(RemoteError.of(1, "no list", ErrorDomain.RPC))
        self.open()
        self.assertGivesUp("internal error: no list")

    def test_a_list_longer_than_the_protocol_allows(self) -> None:
        procedures = self.server.answers
        procedures[AUTH_LIST] = lambda: LATER
        self.open()
        (call,) = self.server.unanswered
        self.server._send(AUTH_LIST, 1, call.serial, 0, b"\0\0\0\x15" + bytes(4 * 21))
        self.opening.flush()
        self.assertGivesUp("Unable to decode message payload")

    def test_open_failing(self) -> None:
        self.server.answers[OPEN] = raising(RemoteError.of(ErrorNumber.NO_CONNECT, "URI", ErrorDomain.NONE))
        self.open()
        self.assertGivesUp("no connection driver available for URI")

    def test_a_server_that_hangs_up(self) -> None:
        for number in (AUTH_LIST, OPEN, FEATURE):
            self.setUp()
            self.server.answers[number] = lambda *args: LATER
            opening = self.open()
            self.server.transport.loseConnection()
            opening.flush()
            self.assertGivesUp("the connection to server was closed by the server", ConnectionLost)

    def test_something_that_is_no_libvirt_server(self) -> None:
        self.server.answers[AUTH_LIST] = lambda: LATER
        opening = self.open()
        self.server.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        opening.flush()
        self.assertGivesUp(
            "server broke the protocol: packet 1213486156 bytes received too large, want 33554432",
            RemoteProtocolError,
        )

    def test_giving_up_oneself_closes_the_connection(self) -> None:
        self.server.answers[OPEN] = lambda *args: LATER
        opening = self.open()
        opening.opened.cancel()
        self.failureResultOf(opening.opened, CancelledError)
        opening.flush()
        self.assertIsNot(self.server.lost, None)


class Unreachable(SynchronousTestCase):
    """No connection at all: one clear line."""

    def opened(self, uri: str) -> Deferred[Any]:
        self.reactor = MemoryReactorClock()
        return Deferred.fromCoroutine(connect(self.reactor, uri))

    def test_refused(self) -> None:
        uri = "test+unix:///default?socket=/nothing/here"
        opened = self.opened(uri)
        factory = self.reactor.unixClients[0][1]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError(111, "Connection refused")))
        error = str(self.failureResultOf(opened, ConnectionLost).value)
        self.assertEqual(error, f"{uri}: Failed to connect socket to '/nothing/here': Connection refused")

    def test_no_such_socket(self) -> None:
        opened = self.opened("test+unix:///default?socket=/nothing/here")
        factory = self.reactor.unixClients[0][1]
        factory.clientConnectionFailed(None, Failure(ConnectError(2, "No such file or directory")))
        self.assertIn("No such file", str(self.failureResultOf(opened, ConnectionLost).value))

    def test_a_wrong_uri(self) -> None:
        for uri in ("default", "test+foo:///default", "test+unix://host/default"):
            error = str(self.failureResultOf(self.opened(uri), URIError).value)
            self.assertIn(uri, error)
            self.assertEqual(len(error.splitlines()), 1)
            self.assertEqual(self.reactor.unixClients, [])

    def test_a_path_too_long_for_a_unix_socket(self) -> None:
        fits, tooLong = "/" + "x" * 106, "/" + "x" * 107
        self.opened(f"test+unix:///default?socket={fits}")
        self.assertEqual(self.reactor.unixClients[0][0], fits)
        error = self.failureResultOf(self.opened(f"test+unix:///default?socket={tooLong}"), URIError).value
        self.assertIn(f"Path {tooLong} too long for unix socket", str(error))
        # It is counted in bytes.
        error = self.failureResultOf(self.opened(f"test+unix:///d?socket=/{'é' * 54}"), URIError).value
        self.assertIn("too long", str(error))

    def test_a_program_that_is_not_there(self) -> None:
        error = self.failureResultOf(self.opened("qemu+ext:///system?command=/no/such"), URIError).value
        self.assertIn("Cannot find '/no/such'", str(error))


class Closing(_Case):
    """The end of an open connection."""

    def test_close_says_so_and_waits_for_the_end(self) -> None:
        connection = self.successResultOf(self.open().opened)
        self.server.taken()
        closed = Deferred.fromCoroutine(connection.close())
        self.assertNoResult(closed)
        self.opening.flush()
        self.assertEqual(self.server.calls, [(CLOSE, ())])
        self.successResultOf(closed)
        self.assertIsNot(self.server.lost, None)

    def test_closing_what_is_gone_has_no_effect(self) -> None:
        connection = self.successResultOf(self.open().opened)
        self.server.transport.loseConnection()
        self.opening.flush()
        self.successResultOf(Deferred.fromCoroutine(connection.close()))
        self.successResultOf(Deferred.fromCoroutine(connection.close()))

    def test_a_server_that_refuses_to_close_is_left_anyway(self) -> None:
        self.server.answers[CLOSE] = raising(RemoteError.of(1, "stay a while"))
        connection = self.successResultOf(self.open().opened)
        closed = Deferred.fromCoroutine(connection.close())
        self.opening.flush()
        self.successResultOf(closed)
        self.assertIsNot(self.server.lost, None)

    def test_async_with(self) -> None:
        async def use() -> str:
            async with self.successResultOf(self.open().opened) as connection:
                return str(connection.uri.name)

        used = Deferred.fromCoroutine(use())
        self.opening.flush()
        self.assertEqual(self.successResultOf(used), "test:///default")
        self.assertEqual(self.server.calls[-1], (CLOSE, ()))

    def test_the_end_can_be_waited_for(self) -> None:
        connection = self.successResultOf(self.open().opened)
        ended = connection.whenClosed()
        self.assertNoResult(ended)
        self.server.transport.loseConnection()
        self.opening.flush()
        self.assertIsInstance(self.successResultOf(ended), ConnectionLost)
