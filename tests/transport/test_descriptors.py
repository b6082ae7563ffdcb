"""Descriptors between our client and our server, over real sockets; none is ever left over.

Every test counts the descriptors of the process before and after, so whatever goes wrong in it shows a leak.
"""

from __future__ import annotations

import os
import socket
from threading import Event
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint

from tests.contracts.ends import reactor, turns
from tests.peers import ERROR, OK, REPLY
from tests.transport.parcels import (
    GIVE,
    PARCELS,
    PING,
    TAKE,
    DescriptorCase,
    Parcels,
    call,
    contents,
    parcel,
    taking,
)
from tests.transport.raw import RawSocket
from virnet.client.callqueue import CallQueue
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, LocalProtocolError, RemoteError
from virnet.programs.base import blocking
from virnet.security.securitylayer import SecurityLayer
from virnet.server import NetServer


class BetweenOurs(DescriptorCase):
    """Our client and our server."""

    async def test_R087_the_method_sees_them_in_order_and_they_are_closed_afterwards(self) -> None:
        parcels = Parcels()
        await self.serve(parcels)
        remote: Any = (await self.client()).program(PARCELS)
        first, second = self.kept("one "), self.kept("two")
        self.assertEqual(await remote.take("got ", fds=[first, second]), "got one two")
        (fds,) = parcels.taken
        self.assertEqual(len(set(fds) - {first, second}), 2)
        for fd in fds:
            self.assertRaises(OSError, os.fstat, fd)
        self.assertEqual((self.copies(first), self.copies(second)), (0, 0))

    async def test_R087_they_are_open_until_the_reply(self) -> None:
        waiting: list[tuple[list[int], Deferred[str]]] = []

        class Slow(Parcels):
            def take(self, label: str, fds: list[int]) -> Any:
                waiting.append((fds, Deferred()))
                return waiting[-1][1]

        await self.serve(Slow())
        remote: Any = (await self.client()).program(PARCELS)
        fd = self.kept("x")
        answer = remote.take("", fds=[fd])
        while not waiting:
            await turns(1)
        ((fds, deferred),) = waiting
        kept = os.dup(fds[0])
        self.assertEqual(contents(fds[0]), "x")
        deferred.callback("done")
        self.assertEqual(await answer, "done")
        self.assertRaises(OSError, os.fstat, fds[0])
        self.assertEqual(contents(kept), "x")
        os.close(kept)

    async def test_the_client_sends_duplicates(self) -> None:
        await self.serve(Parcels())
        remote: Any = (await self.client()).program(PARCELS)
        fd = parcel("mine")
        answer = remote.take("", fds=[fd])
        os.close(fd)
        self.assertEqual(await answer, "mine")

    async def test_R088_the_application_gets_close_on_exec_descriptors_of_its_own(self) -> None:
        await self.serve(Parcels())
        remote: Any = (await self.client()).program(PARCELS)
        fds = await remote.give(3)
        self.assertEqual([contents(fd) for fd in fds], ["<0>", "<1>", "<2>"])
        self.assertEqual([os.get_inheritable(fd) for fd in fds], [False] * 3)
        await turns()
        self.assertEqual([self.copies(fd) for fd in fds], [0, 0, 0])
        for fd in fds:
            os.close(fd)

    async def test_with_a_result_besides(self) -> None:
        await self.serve(Parcels())
        remote: Any = (await self.client()).program(PARCELS)
        text, (fd,) = await remote.giveNamed("label")
        self.assertEqual((text, contents(fd)), ("LABEL", "label"))
        os.close(fd)

    async def test_none_at_all(self) -> None:
        await self.serve(Parcels())
        remote: Any = (await self.client()).program(PARCELS)
        self.assertEqual(await remote.take("nothing"), "nothing")
        self.assertEqual(await remote.take("nothing", fds=[]), "nothing")
        self.assertEqual(await remote.give(0), [])

    async def test_R092_32_pass_both_ways(self) -> None:
        await self.serve(Parcels())
        remote: Any = (await self.client()).program(PARCELS)
        fds = await remote.give(32)
        self.assertEqual([contents(fd) for fd in fds], [f"<{number}>" for number in range(32)])
        taken = await remote.take("", fds=fds)
        self.assertEqual(taken, "".join(f"<{number}>" for number in range(32)))
        for fd in fds:
            os.close(fd)

    async def test_R092_33_are_refused_before_anything_is_sent(self) -> None:
        await self.serve(Parcels())
        client = await self.client()
        remote: Any = client.program(PARCELS)
        fd = self.kept("x")
        error = self.assertRaises(LocalProtocolError, remote.take, "", fds=[fd] * 33)
        self.assertEqual(str(error), "Too many FDs to send 33, expected 32 maximum")
        self.assertEqual(self.copies(fd), 0)
        self.assertEqual(len(client.connection.calls), 0)
        # The server's method gave too many: its fault, and the connection stays.
        error = await self.assertFailure(remote.give(33), RemoteError)
        self.assertEqual(error.code, ErrorNumber.RPC)
        self.assertIn("Too many FDs to send 33, expected 32 maximum", error.message)
        await remote.ping()

    async def test_a_descriptor_that_is_not_open_is_refused_before_anything_is_sent(self) -> None:
        await self.serve(Parcels())
        client = await self.client()
        remote: Any = client.program(PARCELS)
        fd = self.kept("x")
        self.assertRaises(OSError, remote.take, "", fds=[fd, 1 << 20])
        self.assertEqual(self.copies(fd), 0)
        self.assertEqual(len(client.connection.calls), 0)
        await remote.ping()

    async def test_a_method_that_gives_no_descriptors_is_answered_for_with_an_error(self) -> None:
        given: list[Any] = []

        class Wrong(Parcels):
            def give(self, count: int) -> Any:
                return given[-1]

            async def giveNamed(self, label: str) -> Any:
                await turns(1)
                return label, given[-1]

        await self.serve(Wrong())
        remote: Any = (await self.client()).program(PARCELS)
        for make in (
            lambda: 7,
            lambda: None,
            lambda: [parcel("right"), 1 << 20, parcel("right")],
            lambda: [parcel("right"), -1],
            lambda: [parcel("right"), 1 << 70, parcel("right")],
            lambda: [parcel("right"), object(), parcel("right")],
        ):
            for name in ("give", "giveNamed"):
                given.append(make())
                args = {"give": 1, "giveNamed": "x"}
                error = await self.assertFailure(getattr(remote, name)(args[name]), RemoteError)
                self.assertIn("Unable to encode message payload", error.message)
        self.assertEqual(len(given), 12)
        await remote.ping()

    async def test_descriptors_may_be_given_one_by_one(self) -> None:
        class Lazy(Parcels):
            def give(self, count: int) -> Any:
                return (parcel(str(number)) for number in range(count))

        await self.serve(Lazy())
        remote: Any = (await self.client()).program(PARCELS)
        fds = await remote.give(3)
        self.assertEqual([contents(fd) for fd in fds], ["0", "1", "2"])
        for fd in fds:
            os.close(fd)

    async def test_a_thread_has_them_until_it_is_through(self) -> None:
        started, release = Event(), Event()
        seen: list[str] = []

        class Blocking(Parcels):
            @blocking
            def take(self, label: str, fds: list[int]) -> Any:
                started.set()
                assert release.wait(10)
                seen.extend(contents(fd) for fd in fds)
                return label

        server = await self.serve(Blocking(), minWorkers=1, maxWorkers=1, prioWorkers=0)
        self.addCleanup(release.set)
        remote: Any = (await self.client()).program(PARCELS)
        fd = self.kept("x")
        answers = [remote.take("", fds=[fd, fd]) for _ in range(3)]
        # One runs and two wait; the client closes its last one a little later.
        while not (
            started.is_set() and server.workers.statistics().jobQueueDepth == 2 and self.copies(fd) == 6
        ):
            await turns(1)
        stopped = server.stopService()
        for answer in answers:
            await self.assertFailure(answer, ConnectionLost)
        # The jobs that wait are dropped, what runs has its own still.
        self.assertEqual(self.copies(fd), 2)
        release.set()
        await stopped
        self.assertEqual((seen, self.copies(fd)), (["x", "x"], 0))

    async def test_R088_a_reply_to_a_cancelled_call_leaves_nothing(self) -> None:
        await self.serve(Parcels())
        remote: Any = (await self.client()).program(PARCELS)
        answers = [remote.give(2), remote.giveNamed("x")]
        for answer in answers:
            answer.cancel()
            await self.assertFailure(answer, CancelledError)
        await remote.ping()

    async def test_with_a_call_that_waits_for_its_connection(self) -> None:
        queue = CallQueue(reactor, 1)
        take, give = PARCELS.byName["take"], PARCELS.byName["give"]
        fd = parcel("kept")
        sent = queue.call(take, ("",), [fd], timeout=None, patient=True)
        unwanted = queue.call(give, (3,), timeout=None, patient=True)
        withdrawn = queue.call(take, ("",), [fd], timeout=None, patient=True)
        self.assertRaises(OSError, queue.call, take, ("",), [fd, fd, -1], timeout=None, patient=True)
        self.assertEqual(self.copies(fd), 2)
        os.close(fd)
        withdrawn.cancel()
        await self.assertFailure(withdrawn, CancelledError)
        await self.serve(Parcels())
        client = await self.client()
        queue.connected(client)
        self.assertEqual(await sent, "kept")
        # On its way by now: what it brings is nobody's.
        unwanted.cancel()
        await self.assertFailure(unwanted, CancelledError)
        remote: Any = client.program(PARCELS)
        await remote.ping()

    async def test_behind_a_call_that_ends_the_connection(self) -> None:
        class Ending(Parcels):
            def take(self, label: str, fds: list[int]) -> Any:
                (client,) = server.clients.values()
                client.closeAfterReply()
                return super().take(label, fds)

        server = await self.serve(Ending())
        peer = self.raw()
        first, second = self.kept("first"), self.kept("second")
        peer.send(taking(1, 1))
        peer.sendEach(first)
        peer.send(taking(2, 2))
        peer.sendEach(second, second)
        (reply,) = await peer.messages(1)
        self.assertIn(b"first", reply.payload)
        await peer.end()
        await self.lost(server)
        self.assertEqual((self.copies(first), self.copies(second)), (0, 0))

    async def test_a_procedure_that_gives_none_may_get_some(self) -> None:
        parcels = Parcels()
        await self.serve(parcels)
        client = await self.client()
        fd = self.kept("x")
        await client.call(PARCELS.byName["ping"], (), [fd])
        self.assertEqual(self.copies(fd), 0)
        self.assertEqual(parcels.taken, [])

    async def test_a_result_that_cannot_be_sent_takes_them_along(self) -> None:
        class Wrong(Parcels):
            def giveNamed(self, label: str) -> Any:
                return "x" * 1000, [parcel("x")]

        await self.serve(Wrong())
        remote: Any = (await self.client()).program(PARCELS)
        error = await self.assertFailure(remote.giveNamed("x"), RemoteError)
        self.assertIn("Unable to encode message payload", error.message)
        self.flushLoggedErrors()


class Failing(DescriptorCase):
    """R094: a call that fails: its descriptors are closed when the error reply is sent."""

    async def _fails(self, provider: object, wanted: str) -> None:
        await self.serve(provider)
        remote: Any = (await self.client()).program(PARCELS)
        fd = self.kept("x")
        error = await self.assertFailure(remote.take("", fds=[fd, fd]), RemoteError)
        self.assertIn(wanted, error.message)
        self.assertEqual(self.copies(fd), 0)
        await remote.ping()
        self.flushLoggedErrors()

    async def test_R094_by_an_error_of_the_method(self) -> None:
        class Refusing(Parcels):
            def take(self, label: str, fds: list[int]) -> Any:
                raise RemoteError.of(ErrorNumber.OPERATION_FAILED, "not today", ErrorDomain.RPC)

        await self._fails(Refusing(), "not today")

    async def test_R094_by_an_exception(self) -> None:
        class Broken(Parcels):
            def take(self, label: str, fds: list[int]) -> Any:
                raise ValueError("oops")

        await self._fails(Broken(), "oops")

    async def test_R094_later(self) -> None:
        class Late(Parcels):
            async def take(self, label: str, fds: list[int]) -> Any:
                await turns(3)
                raise ValueError("too late")

        await self._fails(Late(), "too late")

    async def test_R094_by_a_method_that_closes_what_is_not_its_own(self) -> None:
        class Rude(Parcels):
            def take(self, label: str, fds: list[int]) -> Any:
                os.close(fds[0])
                raise ValueError("rude")

        await self._fails(Rude(), "rude")

    async def test_R094_by_what_is_no_ordinary_exception(self) -> None:
        class Stopping(Parcels):
            def take(self, label: str, fds: list[int]) -> Any:
                raise SystemExit("no")

        await self.serve(Stopping())
        remote: Any = (await self.client()).program(PARCELS)
        fd = self.kept("x")
        await self.assertFailure(remote.take("", fds=[fd, fd]), ConnectionLost)
        self.assertEqual(self.copies(fd), 0)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)

    async def test_R094_by_nobody_who_takes_it(self) -> None:
        await self._fails(object.__new__(type("Nothing", (), {"ping": lambda self: None})), "virTake")

    async def test_R094_by_arguments_that_do_not_decode(self) -> None:
        await self.serve(Parcels())
        peer = self.raw()
        fd = self.kept("x")
        peer.send(call(TAKE, 1, b"\xff\xff\xff\xff", 1))
        peer.sendEach(fd)
        (reply,) = await peer.messages(1)
        self.assertEqual((reply.type, reply.status), (REPLY, ERROR))
        self.assertEqual(self.copies(fd), 0)

    async def test_R094_by_a_number_that_nobody_knows(self) -> None:
        parcels = Parcels()
        await self.serve(parcels)
        peer = self.raw()
        wrong, right = self.kept("wrong"), self.kept("right")
        peer.send(call(99, 1, b"", 1))
        peer.sendEach(wrong)
        peer.send(taking(2, 1))
        peer.sendEach(right)
        replies = await peer.messages(2)
        self.assertEqual([reply.status for reply in replies], [ERROR, OK])
        self.assertIn(b"right", replies[1].payload)
        self.assertEqual((self.copies(wrong), self.copies(right)), (0, 0))


class _Clear(SecurityLayer):
    """Changes nothing."""

    def __init__(self) -> None:
        super().__init__(bytes, bytes, 1, 1)

    def encode(self, data: bytes) -> bytes:
        return data

    def decode(self, data: bytes) -> bytes:
        return data


class Protected(DescriptorCase):
    """Behind an authentication that protects the bytes: descriptors have nothing that would."""

    async def test_the_client_refuses_and_sends_nothing(self) -> None:
        await self.serve(Parcels())
        client = await self.client()
        client.startSecurityLayer(_Clear())
        remote: Any = client.program(PARCELS)
        fd = self.kept("x")
        error = self.assertRaises(LocalProtocolError, remote.take, "", fds=[fd])
        self.assertEqual(str(error), "Sending file descriptors is not supported on this socket")
        self.assertEqual((self.copies(fd), len(client.connection.calls)), (0, 0))
        await remote.ping()

    async def _protected(self) -> tuple[NetServer, RawSocket]:
        server = await self.serve(Parcels())
        peer = self.raw()
        peer.send(call(PING, 0))
        await peer.messages(1)
        (client,) = server.clients.values()
        client.startSecurityLayer(_Clear())
        peer.forget()
        return server, peer

    async def test_the_server_answers_with_the_error_and_goes_on(self) -> None:
        _, peer = await self._protected()
        peer.send(call(GIVE, 1, PARCELS.procedures[GIVE].encodeArgs((3,))))
        peer.send(call(PING, 2))
        replies = await peer.messages(2)
        self.assertEqual([reply.status for reply in replies], [ERROR, OK])
        self.assertIn(b"Sending file descriptors is not supported on this socket", replies[0].payload)

    async def test_those_that_come_all_the_same_are_closed(self) -> None:
        server, peer = await self._protected()
        fd = self.kept("x")
        peer.send(call(PING, 1), [fd])
        await peer.messages(1)
        self.assertEqual(self.copies(fd), 0)
        peer.send(taking(2, 1))
        await peer.end()
        await self.lost(server)


class OnTCP(DescriptorCase):
    """R093: where no descriptors can go."""

    async def test_R093_the_client_refuses_and_sends_nothing(self) -> None:
        await self.serve(Parcels(), TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
        client = await self.client(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port))
        remote: Any = client.program(PARCELS)
        fd = self.kept("x")
        error = self.assertRaises(LocalProtocolError, remote.take, "", fds=[fd])
        self.assertEqual(str(error), "Sending file descriptors is not supported on this socket")
        self.assertEqual((self.copies(fd), len(client.connection.calls)), (0, 0))
        await remote.ping()
        self.assertEqual(await remote.take("none"), "none")

    async def test_R093_the_server_answers_with_the_error_and_goes_on(self) -> None:
        await self.serve(Parcels(), TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
        client = await self.client(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port))
        remote: Any = client.program(PARCELS)
        for _ in range(10):
            error = await self.assertFailure(remote.give(3), RemoteError)
            self.assertIn("Sending file descriptors is not supported on this socket", error.message)
        await remote.ping()

    async def test_R093_a_call_that_announces_some_ends_the_connection(self) -> None:
        server = await self.serve(Parcels(), TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
        peer = RawSocket(socket.create_connection(("127.0.0.1", self.port)))
        self.addCleanup(peer.close)
        peer.send(taking(1, 0))
        (reply,) = await peer.messages(1)
        self.assertEqual((reply.type, reply.status), (REPLY, OK))
        peer.send(taking(2, 1) + b"\0")
        await peer.end()
        await self.lost(server)
