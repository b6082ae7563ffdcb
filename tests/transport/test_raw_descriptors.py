"""Descriptors between our ends and raw peers: what our ends send, what they take, and what they leave for.

Every test counts the descriptors of the process before and after, so whatever goes wrong in it shows a leak.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from tests.contracts.ends import turns
from tests.openfiles import openDescriptors
from tests.peers import CALL_WITH_FDS, ERROR, OK, REPLY, Message, message
from tests.transport.parcels import (
    GIVE,
    PARCELS,
    PING,
    TAKE,
    DescriptorCase,
    Parcels,
    call,
    contents,
    narrow,
    parcel,
    replying,
    taking,
)
from tests.transport.raw import RawSocket
from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import ConnectionLost, ProtocolError, RemoteError
from virnet.server import ServerClient
from virnet.wire.message import encodeError


class ReceivedByServer(DescriptorCase):
    """Raw clients of our server."""

    async def test_R091_merged_with_the_bytes_of_the_message_in_one_read(self) -> None:
        reads: list[int] = []
        dataReceived = ServerClient.dataReceived

        def recording(self: ServerClient, data: bytes) -> None:
            reads.append(len(data))
            dataReceived(self, data)

        self.patch(ServerClient, "dataReceived", recording)
        await self.serve(Parcels())
        peer = self.raw()
        data = taking(1, 2)
        peer.send(call(PING, 0) + data)
        peer.sendEach(self.kept("one"), self.kept("two"))
        peer.send(call(PING, 2))
        replies = await peer.messages(3)
        self.assertEqual([reply.serial for reply in replies], [0, 1, 2])
        self.assertIn(b"onetwo", replies[1].payload)
        # That is how the kernel has it: bytes and a descriptor that follows them in one read.
        self.assertEqual(reads[0], 28 + len(data) + 1)

    async def test_R089_the_second_one_comes_late(self) -> None:
        parcels = Parcels()
        await self.serve(parcels)
        peer, other = self.raw(), self.raw()
        peer.send(taking(1, 2))
        await turns()
        peer.sendEach(self.kept("one"))
        await turns()
        other.send(call(PING, 7))
        await other.messages(1)
        self.assertEqual(parcels.taken, [])
        peer.sendEach(self.kept("two"))
        (reply,) = await peer.messages(1)
        self.assertIn(b"onetwo", reply.payload)
        self.assertEqual(len(parcels.taken), 1)

    async def test_any_byte_will_do(self) -> None:
        await self.serve(Parcels())
        peer = self.raw()
        peer.send(taking(1, 1))
        peer.send(b"\xff", [self.kept("x")])
        (reply,) = await peer.messages(1)
        self.assertIn(b"x", reply.payload)

    async def test_none_announced(self) -> None:
        await self.serve(Parcels())
        peer = self.raw()
        peer.send(taking(1, 0))
        (reply,) = await peer.messages(1)
        self.assertEqual((reply.type, reply.status), (REPLY, OK))

    async def _ends(self, send: Callable[[RawSocket, int], None]) -> None:
        """A raw client does something for which it is cut off, and its descriptors with it."""
        server = await self.serve(Parcels())
        peer, other = self.raw(), self.raw()
        # Once the second is answered both were accepted.
        other.send(call(PING, 1))
        await other.messages(1)
        fd = self.kept("x")
        send(peer, fd)
        await peer.end()
        await self.lost(server, but=1)
        self.assertEqual(self.copies(fd), 0)
        other.send(call(PING, 2))
        await other.messages(2)

    async def test_R092_33_announced(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            peer.send(taking(1, 33))
            peer.sendEach(*[fd] * 33)

        await self._ends(send)

    async def test_a_byte_without_a_descriptor(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            peer.send(taking(1, 2))
            peer.sendEach(fd)
            peer.send(b"\0")

        await self._ends(send)

    async def test_no_number(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            peer.send(message(PARCELS.number, 1, TAKE, CALL_WITH_FDS, 1, OK))
            peer.sendEach(fd)

        await self._ends(send)

    async def test_descriptors_that_no_message_announces(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            # Each on a byte of a message that does not want it.
            for byte in call(PING, 1) * 3:
                peer.send(bytes([byte]), [fd])

        await self._ends(send)

    async def test_a_heap_of_them_at_once(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            peer.send(call(PING, 1), [fd] * 253)

        with capturedLogs() as events:
            await self._ends(send)
        self.assertEqual(len([each for each in events if "error" in each]), 1)

    async def test_64_may_wait_for_their_bytes_and_65_may_not(self) -> None:
        server = await self.serve(Parcels())
        peer, fd = self.raw(), self.kept("x")
        while not server.clients:
            await turns(1)
        (client,) = server.clients.values()
        for _ in range(64):
            client.fileDescriptorReceived(os.dup(fd))
        await turns()
        self.assertEqual((self.copies(fd), len(server.clients)), (64, 1))
        client.fileDescriptorReceived(os.dup(fd))
        await peer.end()
        await self.lost(server)
        self.assertEqual(self.copies(fd), 0)

    async def test_one_on_the_bytes_of_the_message_itself(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            peer.send(taking(1, 1), [fd])
            peer.send(b"\0")

        await self._ends(send)

    async def test_one_on_a_message_that_wants_none(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            # Nor is it kept for the next that does.
            peer.send(call(PING, 1), [fd])
            peer.send(taking(2, 1) + b"\0")

        await self._ends(send)

    async def test_two_on_one_byte(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            peer.send(taking(1, 2))
            peer.send(b"\0", [fd, fd])

        await self._ends(send)

    async def test_two_on_the_second_byte(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            peer.send(taking(1, 4))
            peer.sendEach(fd)
            peer.send(b"\0", [fd, fd])

        await self._ends(send)

    async def test_one_more_than_announced(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            peer.send(taking(1, 1))
            peer.sendEach(fd, fd)

        await self._ends(send)

    async def test_more_than_this_process_may_open(self) -> None:
        def send(peer: RawSocket, fd: int) -> None:
            peer.send(taking(1, 3))
            peer.sendEach(fd, fd, fd)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            # Two below the limit can still be had.
            fillers = [os.open("/dev/zero", os.O_RDONLY)]
            while max(openDescriptors()) + 1 - len(openDescriptors()) > 1:
                fillers.append(os.open("/dev/zero", os.O_RDONLY))
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(openDescriptors()) + 2, hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fillers:
                self.addCleanup(os.close, filler)

        await self._ends(send)


class ReceivedByClient(DescriptorCase):
    """Raw servers of our client."""

    async def test_R091_merged_with_the_bytes_of_the_reply_in_one_read(self) -> None:
        client, server = await self.clientOfRaw()
        remote: Any = client.program(PARCELS)
        answers = [remote.give(2), remote.ping()]
        give, ping = await server.messages(2)
        server.send(replying(give, 2))
        server.sendEach(self.kept("one"), self.kept("two"))
        server.send(replying(ping, None))
        fds = await answers[0]
        self.assertEqual([contents(fd) for fd in fds], ["one", "two"])
        for fd in fds:
            os.close(fd)
        await answers[1]

    async def test_R089_the_second_one_comes_late(self) -> None:
        client, server = await self.clientOfRaw()
        answer = client.program(PARCELS).give(2)
        (give,) = await server.messages(1)
        server.send(replying(give, 2))
        server.sendEach(self.kept("one"))
        await turns()
        self.assertFalse(answer.called)
        server.sendEach(self.kept("two"))
        fds = await answer
        self.assertEqual([contents(fd) for fd in fds], ["one", "two"])
        for fd in fds:
            os.close(fd)

    async def test_R088_what_nobody_asked_for_is_closed(self) -> None:
        client, server = await self.clientOfRaw()
        answer = client.program(PARCELS).ping()
        (ping,) = await server.messages(1)
        fd = self.kept("x")
        server.send(replying(ping, 2))
        server.sendEach(fd, fd)
        await answer
        self.assertEqual(self.copies(fd), 0)

    async def test_an_ordinary_reply_where_descriptors_may_come(self) -> None:
        client, server = await self.clientOfRaw()
        answer = client.program(PARCELS).give(2)
        (give,) = await server.messages(1)
        server.send(replying(give, None))
        self.assertEqual(await answer, [])

    async def test_errors_with_descriptors(self) -> None:
        client, server = await self.clientOfRaw()
        answer = client.program(PARCELS).give(2)
        (give,) = await server.messages(1)
        fd = self.kept("x")
        error = RemoteError.of(ErrorNumber.OPERATION_FAILED, "sorry", ErrorDomain.RPC)
        server.send(replying(give, 1, encodeError(error), ERROR))
        server.sendEach(fd)
        await self.assertFailure(answer, RemoteError)
        self.assertEqual(self.copies(fd), 0)

    async def test_a_result_that_does_not_decode(self) -> None:
        client, server = await self.clientOfRaw()
        answer = client.program(PARCELS).giveNamed("x")
        (give,) = await server.messages(1)
        fd = self.kept("x")
        server.send(replying(give, 1, b"\xff\xff\xff\xff"))
        server.sendEach(fd)
        await self.assertFailure(answer, RemoteError)
        self.assertEqual(self.copies(fd), 0)

    async def _ends(self, send: Callable[[RawSocket, Message, int], None]) -> None:
        """A raw server does something for which it is left, and its descriptors with it."""
        client, server = await self.clientOfRaw()
        answer = client.program(PARCELS).give(2)
        (give,) = await server.messages(1)
        fd = self.kept("x")
        send(server, give, fd)
        await self.assertFailure(answer, ProtocolError, ConnectionLost)
        await client.whenClosed()
        await server.end()
        self.assertEqual(self.copies(fd), 0)

    async def test_R092_33_announced(self) -> None:
        def send(server: RawSocket, to: Message, fd: int) -> None:
            server.send(replying(to, 33))
            server.sendEach(*[fd] * 33)

        await self._ends(send)

    async def test_a_byte_without_a_descriptor(self) -> None:
        def send(server: RawSocket, to: Message, fd: int) -> None:
            server.send(replying(to, 2))
            server.sendEach(fd)
            server.send(b"\0")

        await self._ends(send)

    async def test_descriptors_that_no_message_announces(self) -> None:
        def send(server: RawSocket, to: Message, fd: int) -> None:
            server.send(replying(to, None)[:20], [fd] * 70)

        await self._ends(send)

    async def test_one_on_the_bytes_of_the_reply_itself(self) -> None:
        def send(server: RawSocket, to: Message, fd: int) -> None:
            server.send(replying(to, 1), [fd])
            server.send(b"\0")

        await self._ends(send)

    async def test_two_on_one_byte(self) -> None:
        def send(server: RawSocket, to: Message, fd: int) -> None:
            server.send(replying(to, 2))
            server.send(b"\0", [fd, fd])

        await self._ends(send)

    async def test_a_reply_to_nothing(self) -> None:
        def send(server: RawSocket, to: Message, fd: int) -> None:
            server.send(replying(to._replace(serial=77), 1))
            server.sendEach(fd)

        await self._ends(send)

    async def test_the_server_goes_away_in_the_middle(self) -> None:
        def send(server: RawSocket, to: Message, fd: int) -> None:
            server.send(replying(to, 2))
            server.sendEach(fd)
            server.sock.shutdown(socket.SHUT_WR)

        await self._ends(send)


class Sending(DescriptorCase):
    """What a raw peer sees of what our ends send."""

    def _judge(self, peer: RawSocket, size: int, count: int, skip: int = 0) -> None:
        """One message, then each descriptor with a byte of its own, in order.

        @param size: of the message.
        @param skip: bytes in front of it.
        """
        data = b"".join(piece.data for piece in peer.pieces)
        self.assertEqual(len(data), skip + size + count)
        self.assertEqual(data[skip + size :], bytes(count))
        # The kernel may put bytes in front of a descriptor's into one read, but never bytes behind them.
        position = 0
        places = []
        for piece in peer.pieces:
            position += len(piece.data)
            self.assertIn(len(piece.fds), (0, 1))
            places += [position] * len(piece.fds)
        self.assertEqual(places, [skip + size + 1 + number for number in range(count)])
        self.assertEqual([contents(fd) for fd in peer.fds], [f"<{number}>" for number in range(count)])

    async def test_each_descriptor_has_a_byte_of_its_own(self) -> None:
        client, peer = await self.clientOfRaw()
        remote: Any = client.program(PARCELS)
        fds = [self.kept(f"<{number}>") for number in range(5)]
        remote.take("label", fds=fds).addErrback(lambda _: None)
        await peer.until(lambda: len(peer.fds) == 5)
        self._judge(peer, 28 + 4 + 12, 5)
        self.assertEqual(len(peer.pieces), 5 + (not peer.pieces[0].fds))

    async def test_R090_a_full_socket_interrupts_between_any_two(self) -> None:
        interrupted = set()
        for room in range(0, 28000, 500):
            client, peer = await self.clientOfRaw()
            narrow(client, room)
            remote: Any = client.program(PARCELS)
            fds = [parcel(f"<{number}>") for number in range(8)]
            skip = 0
            while skip < 5 * 28:
                client.call(PARCELS.byName["ping"], ()).addErrback(lambda _: None)
                skip += 28
            remote.take("label", fds=fds).addErrback(lambda _: None)
            for fd in fds:
                os.close(fd)
            await turns(30)
            peer.takeAll()
            interrupted.add(len(peer.fds))
            while len(peer.fds) < 8:
                await peer.receive()
            self._judge(peer, 28 + 4 + 12, 8, skip)
            peer.close()
            await client.whenClosed()
            os.unlink(self.path)
        # In front of the first, behind the last, and between any two.
        self.assertEqual(interrupted, set(range(9)))

    async def test_R090_messages_behind_them_wait(self) -> None:
        client, peer = await self.clientOfRaw()
        narrow(client)
        remote: Any = client.program(PARCELS)
        fd = self.kept("<0>")
        for _ in range(3):
            remote.take("", fds=[fd] * 10).addErrback(lambda _: None)
            remote.ping().addErrback(lambda _: None)
        await peer.until(lambda: len(peer.fds) == 30)
        await peer.until(lambda: sum(len(piece.data) for piece in peer.pieces) == 3 * (36 + 10 + 28))
        data = b"".join(piece.data for piece in peer.pieces)
        self.assertEqual([data[74 * n + 36 : 74 * n + 46] for n in range(3)], [bytes(10)] * 3)
        self.assertEqual(self.copies(fd), 30)

    async def test_R090_the_servers_reply_too(self) -> None:
        server = await self.serve(Parcels())
        peer = self.raw()
        await turns()
        (client,) = server.clients.values()
        narrow(client)
        peer.send(call(GIVE, 1, PARCELS.procedures[GIVE].encodeArgs((32,))))
        await turns(30)
        peer.takeAll()
        self.assertLess(len(peer.fds), 32)
        await peer.until(lambda: len(peer.fds) == 32)
        self._judge(peer, 28 + 4, 32)
        peer.send(call(PING, 2))
        await peer.until(lambda: len(peer.pieces[-1].data) == 28)

    async def test_R095_a_relay_keeps_a_byte_for_each(self) -> None:
        client, behind = await self.clientOfRaw()
        os.unlink(self.path)

        class Relay(Parcels):
            def take(self, label: str, fds: list[int]) -> Any:
                return client.program(PARCELS).take(label, fds=fds)

            def give(self, count: int) -> Any:
                return client.program(PARCELS).give(count)

        await self.serve(Relay())
        peer = self.raw()
        fds = [self.kept(f"<{number}>") for number in range(4)]
        peer.send(taking(1, 4))
        peer.sendEach(*fds)
        await behind.until(lambda: len(behind.fds) == 4)
        self._judge(behind, 28 + 4 + 4, 4)
        behind.send(
            replying(Message(0, 0, 0, TAKE, 0, 0, 0, b""), None, PARCELS.procedures[TAKE].encodeRet(""))
        )
        await peer.messages(1)
        # And back.
        behind.forget()
        peer.forget()
        for fd in fds:
            os.lseek(fd, 0, os.SEEK_SET)
        peer.send(call(GIVE, 2, PARCELS.procedures[GIVE].encodeArgs((4,))))
        (asked,) = await behind.messages(1)
        behind.send(replying(asked, 4))
        behind.sendEach(*fds)
        await peer.until(lambda: len(peer.fds) == 4)
        self._judge(peer, 28 + 4, 4)


class Lost(DescriptorCase):
    """A connection that ends while descriptors are on their way."""

    async def test_while_one_is_still_to_come(self) -> None:
        server = await self.serve(Parcels())
        peer = self.raw()
        fd = self.kept("x")
        peer.send(taking(1, 2))
        peer.sendEach(fd)
        while self.copies(fd) == 0:
            await turns(1)
        peer.close()
        await self.lost(server)
        self.assertEqual(self.copies(fd), 0)

    async def test_while_messages_wait_for_a_free_slot(self) -> None:
        waiting: list[Deferred[str]] = []

        class Slow(Parcels):
            def take(self, label: str, fds: list[int]) -> Any:
                waiting.append(Deferred())
                return waiting[-1]

        server = await self.serve(Slow(), maxClientRequests=2)
        peer = self.raw()
        fd = self.kept("x")
        for serial in range(6):
            peer.send(taking(serial, 2))
            peer.sendEach(fd, fd)
        await turns(20)
        self.assertEqual(len(waiting), 2)
        peer.close()
        # The client reads nothing while its slots are taken, so it learns of the end afterwards.
        for deferred in waiting:
            deferred.callback("nobody hears it")
        await self.lost(server)
        self.assertEqual(self.copies(fd), 0)

    async def test_while_a_method_works_for_one_that_is_gone(self) -> None:
        results: list[Deferred[Any]] = []

        class Slow(Parcels):
            def give(self, count: int) -> Any:
                results.append(Deferred())
                return results[-1]

        server = await self.serve(Slow())
        peer = self.raw()
        peer.send(call(GIVE, 1, PARCELS.procedures[GIVE].encodeArgs((3,))))
        while not results:
            await turns(1)
        peer.sock.close()
        await self.lost(server)
        fd = self.kept("x")
        results[0].callback([os.dup(fd), os.dup(fd)])
        self.assertEqual(self.copies(fd), 0)

    async def test_while_the_servers_wait_to_be_sent(self) -> None:
        server = await self.serve(Parcels())
        peer = self.raw()
        await turns()
        (client,) = server.clients.values()
        narrow(client)
        for serial in range(3):
            peer.send(call(GIVE, serial, PARCELS.procedures[GIVE].encodeArgs((32,))))
        while not client.sender.queued:
            await turns(1)
        peer.close()
        await self.lost(server)

    async def test_while_the_clients_wait_to_be_sent(self) -> None:
        for how in ("abandon", "close"):
            client, peer = await self.clientOfRaw()
            narrow(client)
            fd = self.kept("x")
            remote: Any = client.program(PARCELS)
            answers = [remote.take("", fds=[fd] * 32) for _ in range(3)]
            self.assertGreater(self.copies(fd), 32)
            if how == "abandon":
                client.abandon()
            else:
                client.close()
                peer.close()
            for answer in answers:
                await self.assertFailure(answer, ConnectionLost)
            self.assertEqual(self.copies(fd), 0)
            os.unlink(self.path)

    async def test_calls_on_a_connection_that_is_gone(self) -> None:
        client, peer = await self.clientOfRaw()
        remote: Any = client.program(PARCELS)
        peer.close()
        await client.whenClosed()
        fd = self.kept("x")
        self.assertRaises(ConnectionLost, remote.take, "", fds=[fd])
        self.assertEqual(self.copies(fd), 0)
