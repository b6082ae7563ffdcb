"""What our senders do beyond the contract of transports: at once, together, with word of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IConsumer, ITransport
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.contracts.ends import MUCH, End, HalfCloseableEnd, Puller, Pusher, pattern, reactor, turns
from tests.transport.parcels import DescriptorCase, narrow, parcel
from tests.transport.raw import RawListener, RawSocket
from virnet.errors import LocalProtocolError
from virnet.limits import SEND_BUFFER
from virnet.testing import StrictTransport, joined
from virnet.transport import reading
from virnet.transport.sender import BufferedSender
from virnet.transport.writethrough import WriteThrough, senderFor


class SenderCase(DescriptorCase):
    """An end of ours on a UNIX socket, and a raw peer that reads when it is told to."""

    async def pair(self, end: End | None = None) -> tuple[End, RawSocket]:
        """Connect one to the other."""
        end = end or End(senderFor)
        listener = RawListener(self.path)
        await UNIXClientEndpoint(reactor, self.path).connect(Factory.forProtocol(lambda: end))
        peer = listener.accept()
        listener.close()
        os.unlink(self.path)
        self.addCleanup(peer.close)
        self.addCleanup(self.abort, end)
        return end, peer

    async def abort(self, end: End) -> None:
        """End the connection if the test did not."""
        end.out.abortConnection()
        await end.isLost()

    def fill(self, end: End) -> int:
        """Send more than the socket takes.

        @return: how many bytes.
        """
        end.out.write(bytes(MUCH))
        return MUCH

    async def bytesOf(self, peer: RawSocket, count: int) -> bytes:
        """Have the peer read so many bytes, from the first on."""
        await peer.until(lambda: sum(len(piece.data) for piece in peer.pieces) >= count)
        return b"".join(piece.data for piece in peer.pieces)


class AtOnce(SenderCase):
    """While nothing waits."""

    async def test_what_fits_has_left_when_send_returns(self) -> None:
        end, peer = await self.pair()
        sent: list[bytes] = []
        end.out.send(b"message", (), lambda: sent.append(peer.takeAll()[0].data))
        self.assertEqual(sent, [b"message"])
        end.out.write(b"written")
        self.assertEqual([piece.data for piece in peer.takeAll()], [b"written"])
        end.out.writeSequence([b"in ", b"pieces"])
        self.assertEqual([piece.data for piece in peer.takeAll()], [b"in pieces"])
        self.assertEqual(end.out.queued, 0)

    async def test_so_it_is_again_after_a_full_socket(self) -> None:
        end, peer = await self.pair()
        size = self.fill(end)
        await self.bytesOf(peer, size)
        await turns()
        self.assertEqual(end.out.queued, 0)
        end.out.write(b"at once")
        self.assertEqual([piece.data for piece in peer.takeAll()], [b"at once"])

    async def test_so_it_is_with_a_push_producer(self) -> None:
        end, peer = await self.pair()
        end.out.registerProducer(Pusher(end, b""), True)
        end.out.write(b"at once")
        self.assertEqual([piece.data for piece in peer.takeAll()], [b"at once"])

    async def test_a_bytearray_is_refused_whatever_the_socket_has_room_for(self) -> None:
        end, peer = await self.pair()
        for _ in range(2):
            self.assertRaises(TypeError, end.out.write, bytearray(b"x"))
            self.fill(end)

    async def heard(
        self, handle: Callable[[End], object], meanwhile: Callable[[RawSocket], object]
    ) -> list[bytes]:
        """What is read, and when the reactor gets its turn.

        @param handle: done while C{first} is handled.
        @param meanwhile: what the peer does while it is waited for.
        """
        end, peer = await self.pair()
        heard: list[bytes] = []

        def received(data: bytes) -> None:
            heard.append(data)
            if data == b"first":
                self.patch(reading, "_letOthersRun", lambda: meanwhile(peer))
                handle(end)
                reactor.callLater(0, heard.append, b"a turn of the reactor")

        end.onData = received
        peer.send(b"hello")
        await end.has(5)
        peer.send(b"first")
        await end.has(14)
        await turns()
        return heard

    async def test_who_gets_an_answer_is_waited_for(self) -> None:
        heard = await self.heard(
            lambda end: end.out.send(b"reply"), lambda peer: peer.send(b"next") if peer.takeAll() else None
        )
        self.assertEqual(heard, [b"hello", b"first", b"next", b"a turn of the reactor"])

    async def test_the_rest_of_a_message_is_waited_for(self) -> None:
        heard = await self.heard(lambda end: end.out.expect(), lambda peer: peer.send(b"rest"))
        self.assertEqual(heard, [b"hello", b"first", b"rest", b"a turn of the reactor"])

    async def test_word_comes_in_order_and_when_the_kernel_has_it_all(self) -> None:
        end, peer = await self.pair()
        heard: list[int] = []
        for number, size in enumerate((10, 300000, 10, 0, 300000, 10)):
            end.out.send(bytes(size), (), lambda number=number: heard.append(number))
        self.assertEqual(heard, [0])
        have = 0
        while len(heard) < 6:
            have += len((await peer.receive()).data)
            await turns(1)
        self.assertEqual(heard, [0, 1, 2, 3, 4, 5])
        self.assertLess(have, 600030)
        self.assertEqual(len(await self.bytesOf(peer, 600030)), 600030)

    async def test_what_is_sent_from_there_comes_behind_what_was_sent_before(self) -> None:
        end, peer = await self.pair()
        size = self.fill(end)
        end.out.send(b"first", (), lambda: end.out.write(b"third"))
        end.out.write(b"second")
        data = await self.bytesOf(peer, size + 16)
        self.assertEqual(data[size:], b"firstsecondthird")

    async def test_no_word_comes_of_what_was_dropped(self) -> None:
        heard: list[str] = []
        for how in ("abortConnection", "loseConnection"):
            end, peer = await self.pair()
            self.fill(end)
            end.out.send(b"x", (), lambda: heard.append("sent"))
            getattr(end.out, how)()
            peer.close()
            await end.isLost()
            end.out.send(b"x", (), lambda: heard.append("sent"))
        self.assertEqual(heard, [])

    async def test_word_that_makes_somebody_abort(self) -> None:
        end, peer = await self.pair()
        heard: list[str] = []
        size = self.fill(end)
        end.out.send(b"x", (), lambda: end.out.abortConnection())
        end.out.send(b"x", (), lambda: heard.append("sent"))
        await self.bytesOf(peer, size)
        await end.isLost()
        self.assertEqual(heard, [])


class Together(SenderCase):
    """Between C{hold} and C{flush}."""

    async def test_text_is_refused_and_loses_nothing(self) -> None:
        end, peer = await self.pair()
        end.out.hold()
        end.out.write(b"one ")
        self.assertRaises(TypeError, end.out.write, "text")
        end.out.write(b"two")
        end.out.flush()
        self.assertEqual(await self.bytesOf(peer, 7), b"one two")

    async def test_messages_leave_together_and_in_order(self) -> None:
        end, peer = await self.pair()
        heard: list[str] = []
        end.out.hold()
        end.out.send(b"one ", (), lambda: heard.append("one"))
        end.out.write(b"two ")
        end.out.send(b"three", (), lambda: heard.append("three"))
        self.assertEqual((heard, peer.takeAll()), ([], []))
        end.out.flush()
        self.assertEqual(heard, ["one", "three"])
        self.assertEqual([piece.data for piece in peer.takeAll()], [b"one two three"])
        end.out.write(b"at once")
        self.assertEqual([piece.data for piece in peer.takeAll()], [b"at once"])

    async def test_word_of_them_may_send_more(self) -> None:
        end, peer = await self.pair()
        end.out.hold()
        end.out.send(b"one ", (), lambda: end.out.write(b"four"))
        end.out.write(b"two ")
        end.out.write(b"three ")
        end.out.flush()
        self.assertEqual(b"".join(piece.data for piece in peer.takeAll()), b"one two three four")

    async def test_large_ones_are_not_copied_together(self) -> None:
        end, peer = await self.pair()
        data = pattern(3 * SEND_BUFFER)
        end.out.hold()
        for start in range(0, len(data), SEND_BUFFER - 1):
            end.out.write(data[start : start + SEND_BUFFER - 1])
            end.out.write(b"")
        end.out.flush()
        self.assertTrue(await self.bytesOf(peer, len(data)) == data)

    async def test_behind_what_waits(self) -> None:
        end, peer = await self.pair()
        size = self.fill(end)
        end.out.hold()
        end.out.write(b"one ")
        end.out.write(b"two")
        end.out.flush()
        data = await self.bytesOf(peer, size + 7)
        self.assertEqual(data[size:], b"one two")

    async def test_while_the_socket_drains(self) -> None:
        end, peer = await self.pair()
        size = self.fill(end)
        end.out.hold()
        end.out.write(b"one")
        await self.bytesOf(peer, size)
        await turns()
        end.out.flush()
        data = await self.bytesOf(peer, size + 3)
        self.assertEqual(data[size:], b"one")

    async def test_closing_in_between(self) -> None:
        end, peer = await self.pair()
        end.out.hold()
        end.out.write(b"last words")
        end.out.loseConnection()
        end.out.write(b"too late")
        end.out.flush()
        await peer.end()
        self.assertEqual(b"".join(piece.data for piece in peer.pieces), b"last words")
        await end.isLost()

    async def test_aborting_in_between(self) -> None:
        end, peer = await self.pair()
        end.out.hold()
        end.out.write(b"never sent")
        end.out.abortConnection()
        end.out.flush()
        await peer.end()
        self.assertEqual(b"".join(piece.data for piece in peer.pieces), b"")

    async def test_not_more_than_so_much_is_held(self) -> None:
        end, peer = await self.pair()
        producer = Pusher(end, pattern(MUCH))
        end.out.registerProducer(producer, True)
        end.out.hold()
        producer.push()
        self.assertTrue(producer.paused)
        self.assertLess(producer.written, MUCH)
        end.out.flush()
        self.assertTrue(await self.bytesOf(peer, MUCH) == pattern(MUCH))

    async def test_descriptors_keep_their_places(self) -> None:
        end, peer = await self.pair()
        end.out.hold()
        end.out.write(b"one ")
        end.out.send(b"two ", [parcel("a"), parcel("b")])
        end.out.write(b"three")
        end.out.flush()
        data = await self.bytesOf(peer, 15)
        self.assertEqual(data, b"one two \0\0three")
        self.assertEqual([len(piece.fds) for piece in peer.pieces if piece.fds], [1, 1])
        self.assertEqual([os.pread(fd, 1, 0) for fd in peer.fds], [b"a", b"b"])


class Producers(SenderCase):
    """When they are held back, and how long a connection waits for them."""

    async def test_the_limit(self) -> None:
        end, peer = await self.pair()
        narrow(end)
        size = 0
        while not end.out.queued:
            end.out.write(bytes(1000))
            size += 1000
        first, second = Pusher(end, b""), Pusher(end, b"")
        end.out.registerProducer(first, True)
        more = SEND_BUFFER - end.out.queued
        end.out.write(bytes(more))
        self.assertEqual((end.out.queued, first.calls), (SEND_BUFFER, []))
        end.out.write(b"x")
        end.out.write(b"x")
        self.assertEqual(first.calls, ["pause"])
        # Who comes now is told at once.
        end.out.unregisterProducer()
        end.out.registerProducer(second, True)
        self.assertEqual(second.calls, ["pause"])
        await self.bytesOf(peer, size + more + 2)
        await turns()
        self.assertEqual((first.calls, second.calls), (["pause"], ["pause", "resume"]))

    async def test_loseConnection_waits_for_a_push_producer_that_is_not_paused(self) -> None:
        end, peer = await self.pair()
        producer = Pusher(end, b"all of this")
        end.out.registerProducer(producer, True)
        end.out.loseConnection()
        await turns(20)
        self.assertIs(end.lost, None)
        producer.push()
        await peer.end()
        self.assertEqual(peer.pieces[0].data, b"all of this")
        await end.isLost()

    async def test_loseWriteConnection_waits_for_a_producer(self) -> None:
        for kind in (Pusher, Puller):
            end, peer = await self.pair(HalfCloseableEnd(senderFor))
            producer = kind(end, pattern(MUCH))
            end.out.registerProducer(producer, kind is Pusher)
            end.out.loseWriteConnection()
            end.out.loseWriteConnection()
            if isinstance(producer, Pusher):
                producer.push()
            await peer.end()
            self.assertTrue(b"".join(piece.data for piece in peer.pieces) == pattern(MUCH))
            self.assertIs(end.lost, None)
            end.out.loseConnection()
            await end.isLost()

    async def test_nobody_else_may_write_after_loseConnection(self) -> None:
        end, peer = await self.pair()
        size = self.fill(end)
        end.out.loseConnection()
        fd = self.kept("x")
        end.out.send(b"too late", [os.dup(fd)])
        self.assertEqual(self.copies(fd), 0)
        await peer.end()
        self.assertEqual(sum(len(piece.data) for piece in peer.pieces), size)

    async def test_writing_at_once_resumes_after_a_pull_producer(self) -> None:
        end, peer = await self.pair()
        end.out.registerProducer(Puller(end, b"pulled"), False)
        await self.bytesOf(peer, 6)
        await turns()
        end.out.write(b" queued")
        await self.bytesOf(peer, 13)
        await turns()
        peer.forget()
        end.out.write(b"at once")
        self.assertEqual([piece.data for piece in peer.takeAll()], [b"at once"])


class Descriptors(SenderCase):
    """Whose they are, and when they are closed."""

    async def test_they_are_closed_when_they_were_sent(self) -> None:
        end, peer = await self.pair()
        fd = self.kept("x")
        heard: list[int] = []
        end.out.send(b"message", [os.dup(fd), os.dup(fd)], lambda: heard.append(self.copies(fd)))
        self.assertEqual(end.out.queued, len(b"message") + 2)
        await peer.until(lambda: len(peer.fds) == 2)
        await turns()
        # Ours are closed; what is left is the peer's.
        self.assertEqual((self.copies(fd), end.out.queued), (2, 0))
        self.assertEqual(len(heard), 1)

    async def test_they_are_closed_when_they_are_dropped(self) -> None:
        fd = self.kept("x")
        for turned in range(4):
            end, peer = await self.pair()
            narrow(end)
            for _ in range(3):
                end.out.send(b"message", [os.dup(fd) for _ in range(20)])
            await turns(turned)
            end.out.abortConnection()
            self.assertEqual(self.copies(fd), 0)
            await end.isLost()
            end.out.send(b"message", [os.dup(fd)])
            self.assertEqual(self.copies(fd), 0)

    async def test_on_tcp_they_stay_the_callers(self) -> None:
        ends = [End(senderFor), End()]
        factories = [Factory.forProtocol(lambda end=end: end) for end in ends]  # type: ignore[misc]
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factories[1])
        await TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(factories[0])
        await ends[1].until(lambda: ends[1].out is not None)
        await port.stopListening()
        fd = self.kept("x")
        error = self.assertRaises(LocalProtocolError, ends[0].out.send, b"message", [fd])
        self.assertEqual(str(error), "Sending file descriptors is not supported on this socket")
        self.assertEqual(os.pread(fd, 1, 0), b"x")
        ends[0].out.write(b"only this")
        self.assertEqual(await ends[1].has(9), b"only this")
        await self.abort(ends[0])
        await ends[1].isLost()


class Choosing(SenderCase):
    """Which sender a transport gets."""

    async def test_a_socket_of_twisteds(self) -> None:
        end, _ = await self.pair()
        self.assertIs(type(end.out), WriteThrough)
        verifyObject(ITransport, end.out)
        verifyObject(IConsumer, end.out)
        self.assertIs(end.out.getHandle().family, socket.AF_UNIX)
        self.assertTrue(end.out.carriesDescriptors)

    async def test_a_socket_that_has_started_TLS_is_not_bypassed(self) -> None:
        def secured(transport: Any) -> Any:
            transport.startTLS(CertificateOptions())
            return senderFor(transport)

        end, peer = await self.pair(End(secured))
        self.assertIs(type(end.out), BufferedSender)
        end.out.write(b"secret")
        # Its handshake, and nothing in clear.
        data = (await peer.receive()).data
        self.assertEqual(data[:1], b"\x16")
        self.assertNotIn(b"secret", data)

    async def test_a_wrapper_of_a_socket_is_not_bypassed(self) -> None:
        class Upper(ProtocolWrapper):
            def write(self, data: bytes) -> None:
                super().write(data.upper())  # type: ignore[no-untyped-call]

        class Uppers(WrappingFactory):
            protocol = Upper
            noisy = False

        end = End(senderFor)
        listener = RawListener(self.path)
        wrapped = Uppers(Factory.forProtocol(lambda: end))
        await UNIXClientEndpoint(reactor, self.path).connect(wrapped)
        peer = listener.accept()
        listener.close()
        self.addCleanup(peer.close)
        self.assertIs(type(end.out), BufferedSender)
        end.out.write(b"loud")
        self.assertEqual(await self.bytesOf(peer, 4), b"LOUD")
        fd = self.kept("x")
        self.assertRaises(LocalProtocolError, end.out.send, b"message", [fd])
        self.assertFalse(end.out.carriesDescriptors)
        await self.abort(end)


class Buffered(SynchronousTestCase):
    """The sender for everything else, on the strict transport."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.end, self.peer = End(senderFor), End()
        self.transport: StrictTransport
        self.transport, _ = joined(self.clock, self.end, self.peer)
        self.assertIs(type(self.end.out), BufferedSender)

    def test_word_comes_when_the_transport_takes_more(self) -> None:
        heard: list[int] = []
        self.peer.out.pauseProducing()
        for number in range(6):
            self.end.out.send(bytes(30000), (), lambda number=number: heard.append(number))
        self.clock.advance(0)
        self.assertEqual(heard, [0, 1])
        self.assertEqual(self.end.out.queued, 120000)
        self.peer.out.resumeProducing()
        self.clock.advance(0)
        self.assertEqual((heard, self.end.out.queued), ([0, 1, 2, 3, 4, 5], 0))
        self.assertEqual(len(self.peer.received), 180000)

    def test_messages_are_written_one_by_one(self) -> None:
        # TLS: a message is a run of records of its own.
        written: list[bytes] = []
        self.patch(self.transport, "write", written.append)
        self.end.out.hold()
        self.end.out.write(b"one")
        self.end.out.write(b"two")
        self.end.out.flush()
        self.assertEqual(written, [b"one", b"two"])

    def test_word_of_a_message_may_send_the_next(self) -> None:
        heard: list[str] = []

        def sent() -> None:
            heard.append("sent")
            self.end.out.send(b"second", (), lambda: heard.append("again"))

        self.end.out.send(b"first ", (), sent)
        self.clock.advance(0)
        self.assertEqual((heard, self.peer.received), (["sent", "again"], b"first second"))

    def test_only_bytes(self) -> None:
        self.assertRaises(TypeError, self.end.out.write, "text")
        self.peer.out.pauseProducing()
        self.end.out.write(bytes(MUCH))
        self.assertRaises(TypeError, self.end.out.write, "text")

    def test_reading_is_the_transports(self) -> None:
        self.end.out.pauseProducing()
        self.assertTrue(self.transport.paused)
        self.end.out.resumeProducing()
        self.assertFalse(self.transport.paused)
        self.assertEqual(str(self.end.out.getPeer()), "server")

    def test_descriptors_stay_the_callers(self) -> None:
        self.assertRaises(LocalProtocolError, self.end.out.send, b"message", [0])
        self.clock.advance(0)
        self.assertEqual(self.peer.received, b"")
