"""What an exchange of any SASL mechanism does, whoever is at the other end.

A subclass says how to begin one. Neither end may ever be brought to anything but success or L{SASLError}:
what is fed to it comes from strangers.
"""

from __future__ import annotations

import inspect
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from virnet.security.sasl import SASLError, SASLSession

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as _Mixin
else:
    _Mixin = object

STEPS_MAX = 10
"""More than any mechanism needs."""


def stepped(session: SASLSession, data: bytes | None) -> bytes | None:
    """A step that ends at once."""
    answer = session.step(data)
    if inspect.isawaitable(answer):
        outcome: list[Any] = []
        Deferred.fromCoroutine(answer).addBoth(outcome.append)  # type: ignore[arg-type]
        (answer,) = outcome
        if not isinstance(answer, (bytes, type(None))):
            answer.raiseException()
    assert answer is None or isinstance(answer, bytes)
    return answer


class Exchange:
    """An exchange under way.

    @ivar sent: what went over, in order, the client's and the server's by turns.
    """

    def __init__(self, client: SASLSession, server: SASLSession) -> None:
        self.client = client
        self.server = server
        self.sent: list[bytes | None] = []

    def run(self) -> Exchange:
        """Go on until both ends are satisfied, as libvirt does it."""
        answer: bytes | None = None
        for _ in range(STEPS_MAX):
            request = stepped(self.client, answer) if not self.client.complete or not self.sent else None
            if self.server.complete and self.client.complete:
                return self
            self.sent.append(request)
            answer = stepped(self.server, request)
            self.sent.append(answer)
            if self.server.complete and self.client.complete:
                return self
        raise AssertionError("it has no end")


class SASLContract(_Mixin):
    """The tests."""

    user = "alice"
    """Who comes out."""

    def begin(self) -> Exchange:
        """Begin an exchange that will succeed."""
        raise NotImplementedError

    def test_both_ends_are_satisfied(self) -> None:
        done = self.begin().run()
        self.assertEqual(done.server.user, self.user)
        self.assertEqual(done.client.ssf, done.server.ssf)
        self.assertEqual(done.client.mechanism, done.server.mechanism)

    def test_the_same_layer_at_both_ends(self) -> None:
        done = self.begin().run()
        client, server = done.client.layer, done.server.layer
        if done.client.ssf == 0:
            self.assertEqual((client, server), (None, None))
            return
        assert client is not None and server is not None
        for size in (0, 1, 65536, 300000):
            data = Random(size).randbytes(size)
            for sender, receiver in ((client, server), (server, client)):
                sent = sender.encode(data)
                self.assertEqual(receiver.decode(sent), data)
                if size > 1 and done.client.ssf > 1:
                    self.assertNotIn(data[:100], sent)

    def test_R128_no_data_is_not_empty_data(self) -> None:
        """
        A first step without data asks for some; the exchange then goes on with it.
        """
        whole = self.begin()
        first = stepped(whole.client, None)
        asked = stepped(whole.server, None)
        self.assertFalse(whole.server.complete)
        self.assertIn(asked, (None, b""))
        answer = stepped(whole.server, first)
        if not whole.server.complete:
            self.assertIsNotNone(answer)

    def test_nobody_is_known_before_the_end(self) -> None:
        whole = self.begin()
        stepped(whole.client, None)
        self.assertIsNone(whole.server.user)

    def test_truncated_steps_are_refused(self) -> None:
        for index, message in self._messagesOf("client"):
            for size in range(0, len(message), max(1, len(message) // 12)):
                self._feedServer(index, message[:size])

    def test_garbled_steps_are_refused(self) -> None:
        random = Random(4422)
        for index, message in self._messagesOf("client"):
            for garbled in (
                b"\xff\xfe" + message,
                message + b"\0\0\0",
                bytes(len(message)),
                random.randbytes(max(1, len(message))),
                b"=" * 60000,
                b",,," + message,
            ):
                self._feedServer(index, garbled)

    def test_a_client_is_not_fooled_by_garbled_answers(self) -> None:
        random = Random(5802)
        for index, message in self._messagesOf("server"):
            for garbled in (message[:-1], message + b"x", random.randbytes(40), b"e=other-error", b"", None):
                self._feedClient(index, garbled)

    def test_a_replay_of_what_was_heard_is_refused(self) -> None:
        """
        Somebody who has listened to a whole exchange does not get in with it.
        """
        heard = [each for each in self.begin().run().sent[::2] if each is not None]
        again = self.begin().server
        if not self.secret:
            return
        try:
            for request in heard:
                stepped(again, request)
        except SASLError:
            pass
        self.assertFalse(again.complete)
        self.assertIsNone(again.user)

    secret = True
    """Whether listening does not help: not so for a mechanism that needs another protection."""

    def test_a_server_that_goes_on_is_not_followed(self) -> None:
        done = self.begin().run()
        self.assertRaises(SASLError, stepped, done.client, b"more")

    def _messagesOf(self, end: str) -> list[tuple[int, bytes]]:
        """What one end sends in an exchange: how far it is then, and what."""
        sent = self.begin().run().sent
        start = 0 if end == "client" else 1
        return [(index, each) for index, each in enumerate(sent) if index % 2 == start and each]

    def _until(self, index: int) -> tuple[Exchange, bytes | None]:
        """Begin an exchange, and stop before one message is delivered."""
        whole = self.begin()
        message: bytes | None = None
        for position in range(index + 1):
            message = stepped(whole.server if position % 2 else whole.client, message)
        return whole, message

    def _feedServer(self, index: int, data: bytes) -> None:
        whole, right = self._until(index)
        if data == right:
            return
        try:
            stepped(whole.server, data)
        except SASLError:
            pass
        self.assertFalse(whole.server.complete, f"{data!r} was taken for {right!r}")
        self.assertIsNone(whole.server.user)

    def _feedClient(self, index: int, data: bytes | None) -> None:
        whole, right = self._until(index)
        if data == right or whole.client.complete:
            return
        before = whole.client.complete
        try:
            stepped(whole.client, data)
        except SASLError:
            pass
        self.assertEqual(whole.client.complete, before, f"{data!r} was taken for {right!r}")
